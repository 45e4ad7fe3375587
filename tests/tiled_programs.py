"""Programs with a Tiled in a Tiled, and how they are run in poisoned memory."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from graphnn.backends.cpu.executable import CpuExecutable, Interpreted
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Kind, Program
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ir.verify import verify
from graphnn.ops import tanh
from graphnn.ops.op import Tensor, emit
from graphnn.passes.fuse import fuse
from graphnn.plan.memory import make_plan
from graphnn.scan import scan
from graphnn.tiled import INDEX, Tiled
from guarded_runs import backend, results_of, wanted_of

WORKERS = (1, 2, 3, 5)
TOLERANCE = {"float32": 2e-5, "float64": 1e-12, "int64": 0.0}
Draw = Callable[[st.SearchStrategy[Any]], Any]
many = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
rewrites = pytest.mark.parametrize("rewrite", [fuse, lambda program: program], ids=["fused", "as written"])


# -- running in poisoned memory ----------------------------------------------------------------------------------------


def compiled(program: Program, workers: int) -> CpuExecutable:
    return backend(workers).compile(make_plan(program))


def is_native(made: CpuExecutable) -> bool:
    return not any(isinstance(segment, Interpreted) for segment in made.assembled.segments)


def arrays_for(program: Program, seed: int = 0) -> list[np.ndarray]:
    """Numbers from -1 to 1; indices are 0 or 1."""
    random = np.random.default_rng(seed)
    return [
        random.uniform(-1, 1, spec.shape).astype(spec.dtype) if spec.is_float else random.integers(0, 2, spec.shape)
        for spec in (value.spec for value in program.inputs)
    ]


def check(program: Program, workers: Sequence[int] = WORKERS, native: bool = True) -> None:
    """The reference's results; `native`: and no step is interpreted."""
    arrays = arrays_for(verify(program))
    wanted = wanted_of(program, arrays)
    assert all(np.isfinite(array).all() for array in wanted), "NaN would hide what is read of poisoned memory"
    for count in workers:
        assert not native or is_native(compiled(program, count))
        for found, expected in zip(results_of(compiled(program, count), program, arrays), wanted, strict=True):
            assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
            rtol = TOLERANCE[str(expected.dtype)]
            scale = max(1.0, float(np.abs(expected).max(initial=0)))
            np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * scale, err_msg=f"{count} workers")


# -- writing programs --------------------------------------------------------------------------------------------------

Tensors = Sequence[Tensor]
Axis = int | None
Rewrite = Callable[[Program], Program]


def program_of(function: Callable[..., Tensors], *texts: str, kinds: Sequence[Kind] = ()) -> Program:
    """Of inputs such as "float32 4 6"."""
    builder = ProgramBuilder()
    inputs = []
    for number, text in enumerate(texts):
        dtype, *shape = text.split()
        kind = kinds[number] if number < len(kinds) else Kind.INPUT
        spec = TensorSpec(tuple(map(int, shape)), dtype)
        inputs.append(Tensor(builder, builder.input(f"x{number}", spec, kind)))
    return builder.build([tensor.value for tensor in function(*inputs)])


def tiled(
    function: Callable[..., Tensors],
    tiles: int,
    cuts: Sequence[tuple[Tensor, Axis]],
    axes: Sequence[int | str] | Callable[[Tensors], Sequence[int | str]],
    with_index: bool = False,
) -> tuple[Tensor, ...]:
    """The loop whose body is `function` of the parts, and of the number of the tile; axes may follow from results."""
    inside = ProgramBuilder()
    parts = [Tensor(inside, inside.input("", part_of(x.spec, axis, tiles))) for x, axis in cuts]
    made = list(function(*parts, *([Tensor(inside, inside.input("", INDEX))] if with_index else [])))
    body = inside.build([tensor.value for tensor in made])
    joined = tuple(axes(made) if callable(axes) else axes)
    op = Tiled(body, tiles, tuple(axis for _, axis in cuts), joined, with_index)
    return emit(op, [x for x, _ in cuts])


def part_of(spec: TensorSpec, axis: Axis, tiles: int) -> TensorSpec:
    if axis is None:
        return spec
    return TensorSpec((*spec.shape[:axis], int(spec.shape[axis]) // tiles, *spec.shape[axis + 1 :]), spec.dtype)


# -- loops of both kinds in each other ---------------------------------------------------------------------------------

# "t": a Tiled, "s": a scan, the outermost first. Two of them may stand in tiles, or one in a scan.
CHAINS = {chain: True for chain in ("tt", "ts", "ttt", "tts", "tst", "tss", "st")}
CHAINS |= {chain: False for chain in ("stt", "sts", "tttt", "ttts", "ttst", "tstt", "tsss")}


def looped(chain: str, axis: int, x: Tensor, w: Tensor, number: Tensor) -> list[Tensor]:
    """Loops in each other, each of which hands on its parts as they are: what is made, as large as x, and its sum."""
    if not chain:
        y = tanh(x * w) + number.cast(x.dtype) * 0.01
        return [y, y.sum()]
    if chain[0] == "t":

        def tile(part: Tensor, w: Tensor, number: Tensor, index: Tensor) -> list[Tensor]:
            return looped(chain[1:], axis, part, w, number * 2 + index)

        place = min(axis, x.rank - 1)
        return list(tiled(tile, 2, [(x, place), (w, None), (number, None)], (place, "sum"), True))

    def turn(carries: Tensors, slices: Tensors, constants: Tensors) -> tuple[list[Tensor], list[Tensor]]:
        y, total = looped(chain[1:], axis, slices[0], *constants)
        return [carries[0] * 0.5 + total], [y]

    last, stacked = scan(turn, [x.fill(0.5, ())], [x], [w, number], reverse=len(chain) % 2 == 0)
    return [stacked[0], last[0]]


def loops_of(chain: str, axis: int) -> Program:
    shape = "4 16 4 8" if axis else "16 4 4 8"
    return program_of(partial(looped, chain, axis), f"float64 {shape}", "float64 8", "int64")


SUMMED: dict[str, Callable[[Tensor, Tensor, Tensor], Tensors]] = {  # of a part (rows, 6), all of it (30, 6), and (6)
    "product": lambda part, whole, w: [part.transpose((1, 0)) @ tanh(part)],
    "product and epilogue": lambda part, whole, w: [tanh(part.transpose((1, 0)) @ part) * 2.0],
    "product that is read": lambda part, whole, w: [(y := part.transpose((1, 0)) @ part), y * 0.5],
    "elementwise": lambda part, whole, w: [tanh(part) * w],
    "sums of columns": lambda part, whole, w: [part.sum(0), part.sum()],
    "largest of columns": lambda part, whole, w: [(part * w).max(0)],
    "an input": lambda part, whole, w: [part, w],
    "a view": lambda part, whole, w: [part.reshape((part.spec.size, 1))],
    "one result twice": lambda part, whole, w: [tanh(part) * w] * 2,
    "nothing of the part": lambda part, whole, w: [tanh(w)],
    "of what is seen whole": lambda part, whole, w: [tanh(whole).sum(0) * w],
    "a loop": lambda part, whole, w: scan(
        lambda carries, slices, _: ([carries[0] + slices[0]], [slices[0].sum()]), [w], [part]
    )[0],
}


def combined(
    function: Callable[..., Tensors], combine: str, around: int | str, tiles: int, x: Tensor, w: Tensor
) -> Tensors:
    """Each tile of the outer loop combines what inner tiles make; the results are joined, or combined again."""

    def outer(part: Tensor, whole: Tensor, w: Tensor) -> Tensors:
        made = tiled(function, tiles, [(part, 0), (whole, None), (w, None)], lambda made: [combine] * len(made))
        return [y.reshape((1, *y.shape)) for y in made] if around == 0 else made

    return tiled(outer, 3, [(x, 0), (x, None), (w, None)], lambda made: [around] * len(made))
