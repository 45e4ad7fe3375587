"""check_gradients: each node's gradient against finite differences, alone, so that the node at fault is named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphnn.autodiff import differentiate
from graphnn.errors import GradientError
from graphnn.graph.flatten import Leaf
from graphnn.graph.layer import flatten_structure
from graphnn.graph.lower import bind_names
from graphnn.graph.scope import RANDOM_INPUT, Context, Scope
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Kind, Program, Value
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.model import Model
from graphnn.ops.evaluate import evaluate
from graphnn.ops.op import Tensor, spec_of
from graphnn.ops.random import RandomStream, seed_words

DIRECTIONS = 3  # random directions per node
ROUNDING = 1e-10  # half a million times that of float64: a difference of this size has five right digits or more

# Step of central differences, and how far from the node's values they are taken. The first is right almost everywhere:
# in float64 truncation and rounding are both near 1e-10. Where it disagrees, that may come from strong curvature, or
# from a kink just there (ReLU at 0, ties in a pooling window): a wrong gradient is wrong in all of these ways.
WAYS = ((1e-6, 0.0), (1e-8, 0.0), (1e-6, 1e-3), (1e-6, 1e-2))


@dataclass(frozen=True)
class NodeCheck:
    """The largest relative error found at one node; `inputs` counts its differentiable inputs and parameters."""

    path: str
    layer: str
    inputs: int
    error: float


@dataclass(frozen=True)
class GradientReport:
    """One entry per leaf node, in forward order."""

    nodes: tuple[NodeCheck, ...]

    def __str__(self) -> str:
        width = max((len(node.path) for node in self.nodes), default=4)
        return "\n".join(f"{node.path.ljust(width)}  {node.layer:<20} {node.error:.1e}" for node in self.nodes)


def check_gradients(
    model: Model, *inputs: Any, tolerance: float = 1e-5, training: bool = False, seed: int = 0, **named: Any
) -> GradientReport:
    """Compare each node's own gradient with central differences along random directions, in float64.

    Every node is lowered alone and fed the values that it sees in the whole graph, so an error at one node shows at
    that node and nowhere else. The model and its arrays stay as they are.

    Args:
        model: its parameters, converted to float64, are used.
        inputs: as for `Model.forward`.
        tolerance: largest relative error allowed.
        training: mode of the layers.
        seed: of the directions.
        named: inputs by name.

    Returns:
        The error of every node.

    Raises:
        GradientError: names the nodes at fault, with both numbers.
    """
    twin = _float64_twin(model)
    run = twin.run(*inputs, training=training, retain=True, keep=False, **named)
    arrays, _ = twin.bind(inputs, named, training)
    values: dict[tuple[str, int], Any] = {(name, 0): array for name, array in arrays.items()}
    for path in (leaf.path for leaf in twin.flat.leaves):
        values |= {(path, index): array for index, array in _outputs_at(run.derived_variables, path)}
    checks, faults = [], []
    for leaf in twin.flat.leaves:
        check, fault = _check_leaf(twin, leaf, values, training, RandomStream(seed, leaf.path), tolerance)
        checks.append(check)
        faults += fault
    if faults:
        raise GradientError(
            "gradients disagree with finite differences", where=", ".join(dict.fromkeys(name for name, _ in faults)),
            expected=f"relative error below {tolerance:g}", got="; ".join(text for _, text in faults),
            fix="mend the gradient rule of this layer (its `backward`, or the `vjp` of an op that it uses)",
        )  # fmt: skip
    return GradientReport(tuple(checks))


def _float64_twin(model: Model) -> Model:
    twin = Model(model.graph, model.seed, "reference", "float64")
    for source, target in ((model.parameters, twin.parameters), (model.states, twin.states)):
        target.update({path: model.to_host(array).astype("float64") for path, array in source.items()})
    if frozen := sorted(model.frozen_nodes()):
        twin.freeze(*frozen)
    twin.step = model.step
    return twin


def _outputs_at(derived: Mapping[str, Any], path: str) -> list[tuple[int, Any]]:
    if path in derived:
        return [(0, derived[path])]
    found, index = [], 0
    while f"{path}:{index}" in derived:
        found.append((index, derived[f"{path}:{index}"]))
        index += 1
    return found


def _check_leaf(
    model: Model,
    leaf: Leaf,
    values: Mapping[tuple[str, int], Any],
    training: bool,
    stream: RandomStream,
    tolerance: float,
) -> tuple[NodeCheck, list[tuple[str, str]]]:
    arrays = [_value_of(source, values, model) for source in leaf.inputs]
    program = _alone(model, leaf, arrays, training)
    given = [*arrays, *(_called(model, value.name) for value in program.inputs[len(arrays) :])]
    free = (Kind.INPUT, Kind.PARAMETER)
    variables = [index for index, value in enumerate(program.inputs) if value.spec.is_float and value.kind in free]
    outputs = [value for value in program.outputs if value.spec.is_float]
    worst, faults = 0.0, []
    for _ in range(DIRECTIONS if variables and outputs else 0):
        error, analytic, numeric = _compare(program, outputs, variables, given, stream, tolerance)
        worst = max(worst, error)
        if error > tolerance:
            faults.append((leaf.path, f"{leaf.path}: {analytic:.8g} by its gradient, {numeric:.8g} by differences"))
    return NodeCheck(leaf.path, leaf.layer.kind, len(variables), worst), faults[:1]


def _value_of(source: Any, values: Mapping[tuple[str, int], Any], model: Model) -> Any:
    if isinstance(source, TensorSpec):  # zeros, for an optional input that is not given
        specs = {n.name: TensorSpec(tuple(values[n.name, 0].shape)) for n in model.graph.inputs}
        return np.zeros(
            source.bind(bind_names(model.graph, specs)).shape, "float64" if source.is_float else source.dtype
        )
    return values[source.name, source.index]


def _alone(model: Model, leaf: Leaf, arrays: Sequence[Any], training: bool) -> Program:
    context = Context(ProgramBuilder(), training, "float64", model.frozen_nodes().__contains__)
    specs = [spec_of(array) for array in arrays]
    tensors = [Tensor(context.builder, context.builder.input(f"in_{i}", spec)) for i, spec in enumerate(specs)]
    outputs, _ = flatten_structure(leaf.layer.lower(Scope(context, leaf.path, leaf.owner), *tensors))
    return context.builder.build([tensor.value for tensor in outputs])


def _called(model: Model, name: str) -> Any:
    if name == RANDOM_INPUT:
        return seed_words(model.seed, model.step)
    return model.parameters[name] if name in model.parameters else model.states[name]


def _compare(
    program: Program,
    outputs: Sequence[Value],
    variables: Sequence[int],
    given: Sequence[Any],
    stream: RandomStream,
    tolerance: float,
) -> tuple[float, float, float]:
    """(relative error, w . J v by the gradient, the same by differences) for random v and w: the best of `WAYS`."""
    weights = [stream.normal(tuple(map(int, v.spec.shape))) / max(1, v.spec.size) ** 0.5 for v in outputs]
    moves = {i: stream.normal(given[i].shape) for i in variables}
    shifts = {i: stream.normal(given[i].shape) * (1.0 + abs(given[i])) for i in variables}
    backward = differentiate(program, [program.inputs[i] for i in variables], outputs)
    best = (math.inf, math.nan, math.nan)
    for step, distance in WAYS:
        arrays = [x + distance * shifts[i] if i in shifts else x for i, x in enumerate(given)]
        found = _directional(program, backward, arrays, weights, moves, step)
        if not best[0] <= found[0]:  # NaN counts as worse than all
            best = found
        if best[0] <= tolerance:
            break
    return best


@np.errstate(all="ignore")  # what is not finite is reported by name
def _directional(
    program: Program,
    backward: Program,
    arrays: Sequence[Any],
    weights: Sequence[Any],
    moves: Mapping[int, Any],
    step: float,
) -> tuple[float, float, float]:
    result = evaluate(np, backward, [*arrays, *weights])
    outputs = [value for value in program.outputs if value.spec.is_float]
    gradients = [result[value] for value in backward.outputs[len(program.outputs) :]]
    analytic = [gradient * move for gradient, move in zip(gradients, moves.values(), strict=True)]
    ends = []
    for distance in (step, -step):
        moved = evaluate(np, program, [x + distance * moves[i] if i in moves else x for i, x in enumerate(arrays)])
        ends.append([moved[value] * weight for value, weight in zip(outputs, weights, strict=True)])
    numeric = [(high - low) / (2 * step) for high, low in zip(*ends, strict=True)]
    rounding = ROUNDING * _norm(ends[0]) / step  # of the differences; what is smaller than it cannot be told
    a, n = (sum(float(term.sum()) for term in terms) for terms in (analytic, numeric))
    error = abs(a - n) / max(_norm(analytic), _norm(numeric), rounding, np.finfo(float).tiny)
    return (math.inf if math.isnan(error) else error), a, n


def _norm(arrays: Sequence[Any]) -> float:
    return math.sqrt(sum(float(np.square(array).sum()) for array in arrays))
