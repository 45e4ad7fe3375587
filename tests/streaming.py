"""Training steps with attention, and what is looked at when the pass `stream` has gone through them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import graphnn as gnn
from graphnn import layers, losses, modules
from graphnn.autodiff import differentiate
from graphnn.graph.layer import Layer, SymbolicTensor
from graphnn.graph.scope import RANDOM_INPUT, Scope
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Instruction, Program
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ir.verify import verify
from graphnn.ops import (
    sin,
    tanh,
)
from graphnn.ops.evaluate import evaluate
from graphnn.ops.linalg import swap_last
from graphnn.ops.op import Tensor
from graphnn.ops.random import seed_words
from graphnn.passes.pipeline import run_passes
from graphnn.passes.stream import stream
from graphnn.tiled import Tiled

ITEM = 8  # bytes of a float64
TINY = 64  # bytes of a cache that no scores of these tests fit into


# -- programs ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attention:
    """Networks around scores (batch, heads, queries, keys)."""

    batch: int = 1
    queries: int = 32
    keys: int = 32
    heads: int = 1
    size: int = 2  # of a head
    scale: bool = True
    dropout: float = 0.0
    causal: bool = False
    mask: tuple[str | int, ...] = ()  # of "batch", "queries", "keys" and 1
    given: str = "apart"  # how queries, keys and values are made: one of GIVEN
    around: str = "alone"  # one of AROUND
    depth: int = 1
    shape: tuple[int, ...] = field(init=False)
    nbytes: int = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "shape", (self.batch, self.heads, self.queries, self.keys))
        object.__setattr__(self, "nbytes", int(np.prod(self.shape)) * ITEM)


GIVEN = ("apart", "keys are values", "one")
AROUND = ("alone", "module", "in a row", "of attention")


@dataclass(frozen=True, eq=False)
class Allowed(Layer):
    """A mask of any shape, made of numbers alone."""

    shape: tuple[int, ...]

    def lower(self, scope: Scope, *inputs: Tensor) -> Tensor:
        place = scope.iota(self.shape, len(self.shape) - 2, "float64") * 7.0
        return sin(place + scope.iota(self.shape, len(self.shape) - 1, "float64") * 3.0) < 0.5


def network(case: Attention, seed: int = 0) -> tuple[gnn.Graph, dict[str, np.ndarray]]:
    """A graph, and arrays for its inputs. No dense layer makes anything much larger than its input."""
    rng, width = np.random.default_rng(seed), case.heads * case.size
    own = case.given == "one"
    sizes = {"batch": case.batch, "queries": case.queries, "keys": case.queries if own else case.keys}
    inputs = {
        name: gnn.Input(("batch", sizes[axis], width), name=name) for name, axis in (("x", "queries"), ("z", "keys"))
    }
    arrays: dict[str, np.ndarray] = {"x": rng.normal(size=(case.batch, case.queries, width))}
    if own:
        del inputs["z"]
    else:
        arrays["z"] = rng.normal(size=(case.batch, case.keys, width))
    mask = []
    if case.mask:
        shape = tuple(sizes.get(str(axis), 1) for axis in case.mask)
        if case.mask[0] == "batch":
            arrays["mask"] = rng.random(shape) < 0.7
            inputs["mask"] = gnn.Input(("batch", *shape[1:]), dtype="bool", name="mask")
            mask = [inputs["mask"]]
        else:
            mask = [Allowed(shape)(inputs["x"])]
    y = inputs["x"]
    for number in range(case.depth):
        y = _attended(case, f"att{number or ''}", y, y if own else inputs["z"], mask)
    return gnn.Graph(list(inputs.values()), layers.Linear(width, name="o")(y)), arrays


def _attended(
    case: Attention, name: str, x: SymbolicTensor, z: SymbolicTensor, mask: Sequence[SymbolicTensor]
) -> SymbolicTensor:
    if case.around == "module":
        module = modules.MultiHeadedAttentionModule(case.heads, case.dropout, causal=case.causal, name=name)
        return module(x, z, z, *mask)
    width = case.heads * case.size
    q = layers.Linear(width, name=f"{name}_q")(x)
    k = q if case.given == "one" else layers.Linear(width, name=f"{name}_k")(z)
    v = k if case.given != "apart" else layers.Linear(width, name=f"{name}_v")(z)

    def attention(kind: str) -> Any:
        heads = case.heads if case.heads > 1 else None
        return layers.DotProductAttention(case.scale, case.dropout, case.causal, heads, name=f"{name}{kind}")

    y = attention("")(q, k, v, *mask)
    if case.around == "in a row":
        return attention("_next")(y, k, v, *mask)
    if case.around == "of attention":
        return attention("_outer")(y, k, attention("_keys")(k, k, v))
    return y


def step_of(
    graph: gnn.Graph, given: dict[str, np.ndarray], loss: Any = None, dtype: str = "float64"
) -> tuple[Program, list[np.ndarray]]:
    """The program of a training step, and the arrays that it is called with."""
    trainer = gnn.Trainer(gnn.Model(graph, dtype=dtype, device="reference"), loss or losses.SquaredError(), "sgd")
    compiled, arrays = trainer.prepare(given, targets_of(graph, given))
    return compiled.program, [np.array(arrays[name]) for name in compiled.inputs]


def targets_of(graph: gnn.Graph, given: dict[str, np.ndarray]) -> Any:
    rng, batch = np.random.default_rng(9), len(next(iter(given.values())))
    found = [rng.normal(size=spec.bind({"batch": batch}).shape) for spec in graph.output_specs]
    return dict(zip(graph.output_names, found, strict=True)) if graph.output_names else found[0]


def attention_step(**options: Any) -> tuple[Program, list[np.ndarray]]:
    return step_of(*network(Attention(**options)))


# -- what is looked at -------------------------------------------------------------------------------------------------


def levels(program: Program) -> Iterator[Program]:
    """The program, and those of loops in it."""
    yield program
    for instruction in program.instructions:
        if isinstance(instruction.op, Tiled):
            yield from levels(instruction.op.body)


def instructions(program: Program) -> list[Instruction]:
    """Of all levels, without loops themselves."""
    return [i for level in levels(program) for i in level.instructions if not isinstance(i.op, Tiled)]


def loops(program: Program) -> list[Tiled]:
    return [i.op for i in program.instructions if isinstance(i.op, Tiled)]


def nest(program: Program) -> list[Any]:
    """The numbers of parts, as a tree: [4] is one loop, [(2, [4])] one in one."""
    return [(op.tiles, inner) if (inner := nest(op.body)) else op.tiles for op in loops(program)]


def largest(program: Program) -> int:
    """Bytes of the largest value that an instruction of any level makes."""
    return max(value.spec.nbytes for level in levels(program) for i in level.instructions for value in i.outputs)


def count(program: Program, *names: str) -> int:
    return sum(i.op.name in names for i in instructions(program))


def same(program: Program, made: Program, arrays: Sequence[np.ndarray], tolerance: float = 1e-9) -> None:
    """Both give the same: errors in units of the largest magnitude of an array."""
    assert [value.spec for value in made.results] == [value.spec for value in program.results]
    assert made.inputs == program.inputs
    with np.errstate(all="ignore"):
        wanted, found = evaluate(np, program, arrays), evaluate(np, made, arrays)
    for old, new in zip(program.results, made.results, strict=True):
        scale = max(1.0, np.abs(wanted[old][np.isfinite(wanted[old])]).max(initial=0))
        np.testing.assert_allclose(found[new], wanted[old], rtol=0, atol=tolerance * scale)


def check(program: Program, arrays: Sequence[np.ndarray], workers: int = 1, l2_bytes: int = TINY) -> Program:
    """The program with loops, after a comparison."""
    made = verify(stream(program, workers, l2_bytes))
    same(program, made, arrays)
    return made


# -- programs by hand --------------------------------------------------------------------------------------------------

SMALL = (32, 2)  # and each product of two such with 32 rows and columns is large
Function = Callable[..., Sequence[Tensor]]


def gradients_of(function: Function, *shapes: tuple[int, ...]) -> Program:
    """The sum of squares of all that the function gives, its gradients by all that it is given; as passes leave it."""
    builder = ProgramBuilder()
    inputs = [Tensor(builder, builder.input(f"x{n}", TensorSpec(shape, "float64"))) for n, shape in enumerate(shapes)]
    total = sum(((y * y).sum() for y in function(*inputs)), start=inputs[0].sum() * 0.0)
    return run_passes(differentiate(builder.build([total.value]), builder.inputs, [total.value]))


def arrays_for(program: Program, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    words = seed_words(seed, 3)
    return [words if v.name == RANDOM_INPUT else 0.5 * rng.normal(size=v.spec.shape) for v in program.inputs]


def scores_changed(change: Callable[[Tensor], Tensor]) -> Function:
    return lambda x, z: [change(x @ swap_last(z)) @ z]


def often(number: int) -> Callable[[Tensor], Tensor]:
    def change(scores: Tensor) -> Tensor:
        for _ in range(number):
            scores = tanh(scores)
        return scores

    return change
