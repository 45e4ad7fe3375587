"""Drawn programs with loops in loops."""

from collections.abc import Callable
from math import prod

from hypothesis import strategies as st

from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Kind, Program
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ir.verify import verify
from graphnn.ops import exp, tanh, where
from graphnn.ops.op import Tensor
from graphnn.scan import scan
from graphnn.tiled import COMBINING
from tiled_programs import Axis, Draw, Tensors, tiled

MOST = 24  # of any axis; what would grow beyond is combined
KINDS = (Kind.INPUT, Kind.INPUT, Kind.PARAMETER, Kind.STATE)


def swapped(a: Tensor) -> Tensor:
    return a.transpose((*range(a.rank - 2), a.rank - 1, a.rank - 2))


def one_of(draw: Draw, tensors: Tensors, fits: Callable[[Tensor], bool], other: Tensor) -> Tensor:
    found = [tensor for tensor in tensors if fits(tensor)]
    return draw(st.sampled_from(found)) if found else other


def with_rows_of(draw: Draw, a: Tensor, tensors: Tensors) -> Tensor:
    return one_of(draw, tensors, lambda b: b.shape[:-1] == a.shape[:-1], a)


def broadcast(draw: Draw, a: Tensor, tensors: Tensors) -> Tensor:
    """With a row of what has rows as long, or with a column, which may be seen whole."""
    row = one_of(draw, tensors, lambda b: b.shape[-1] == a.shape[-1], a)
    for axis in range(row.rank - 1):
        row = row.slice(axis, 0, 1) if row.shape[axis] != 1 else row
    return a * row


def product(draw: Draw, a: Tensor, tensors: Tensors) -> Tensor:
    """Rows by rows: of two that are cut alike, each tile has a block of the diagonal."""
    return a @ swapped(one_of(draw, tensors, lambda b: (*b.shape[:-2], b.shape[-1]) == (*a.shape[:-2], a.shape[-1]), a))


def cut_inside(draw: Draw, a: Tensor, tensors: Tensors) -> Tensor:
    """Of tiles of rows the terms of a sum."""
    return swapped(a) @ with_rows_of(draw, a, tensors)


def softmax(draw: Draw, a: Tensor, tensors: Tensors) -> Tensor:
    e = exp(a - a.max(-1, keep=True))
    return e * (1.0 / e.sum(-1, keep=True).broadcast_to(e.shape))


DRAWN: dict[str, Callable[[Draw, Tensor, Tensors], Tensor]] = {
    "elementwise": lambda draw, a, tensors: tanh(a) * 0.75,
    "of one shape": lambda draw, a, tensors: a - one_of(draw, tensors, lambda b: b.shape == a.shape, a) * 0.5,
    "broadcast": broadcast,
    "product": product,
    "product and epilogue": lambda draw, a, tensors: tanh(product(draw, a, tensors)) + 0.25,
    "inner axis cut": cut_inside,
    "inner axis cut and epilogue": lambda draw, a, tensors: tanh(cut_inside(draw, a, tensors)),
    "sums of rows": lambda draw, a, tensors: a.sum(-1, keep=True),
    "sums of columns": lambda draw, a, tensors: a.sum(-2, keep=True),
    "largest of rows": lambda draw, a, tensors: a.max(-1, keep=True),
    "softmax": softmax,
    "transposed": lambda draw, a, tensors: swapped(a),
    "view": lambda draw, a, tensors: a.reshape((*a.shape[:-2], 1, prod(map(int, a.shape[-2:])))).reshape(a.shape),
    "choice": lambda draw, a, tensors: where(a > 0.0, a, with_rows_of(draw, a, tensors).max(-1, keep=True)),
}


def drawn_level(draw: Draw, tensors: Tensors, loops: int, index: Tensor | None = None) -> list[Tensor]:
    """What a body makes of its inputs, with so many loops in it; some of it may be an input, or stand twice."""
    made = list(tensors)
    if index is not None:
        made.append(made[0] * ((index.cast(made[0].dtype) + 1.0) * 0.25))
    before = draw(st.integers(0, 2)) if loops else draw(st.integers(1, 3))
    kinds = [*[drawn_op] * before, *([drawn_loop] if loops else []), *[drawn_op] * draw(st.integers(0, 1))]
    for kind in kinds:
        made += kind(draw, made, loops)
    fresh = st.sampled_from(made[len(tensors) :])
    return [draw(fresh), *draw(st.lists(fresh | st.sampled_from(made), max_size=2))]


def drawn_op(draw: Draw, tensors: Tensors, loops: int) -> list[Tensor]:
    a = draw(st.sampled_from(tensors[-2:]) | st.sampled_from(tensors))
    return [DRAWN[draw(st.sampled_from(sorted(DRAWN)))](draw, a, tensors)]


def drawn_loop(draw: Draw, tensors: Tensors, loops: int) -> list[Tensor]:
    if draw(st.integers(0, 4)) == 0:
        return drawn_scan(draw, tensors, loops)
    return list(drawn_tiles(draw, tensors, loops))


def drawn_tiles(draw: Draw, tensors: Tensors, loops: int) -> tuple[Tensor, ...]:
    """A loop over tiles around `loops - 1` others; the first of its inputs is cut if it can be."""
    given = [draw(st.sampled_from(tensors[-3:])), *draw(st.lists(st.sampled_from(tensors), max_size=3))]
    sizes = [size for size in given[0].shape if int(size) > 1]
    tiles = draw(st.sampled_from([n for n in (2, 3, 4) for size in sizes if int(size) % n == 0] or [1]))
    cuts: list[tuple[Tensor, Axis]] = []
    for number, x in enumerate(given):
        fits = [axis for axis, size in enumerate(x.shape) if int(size) % tiles == 0]
        whole = [None] if number or not fits else []
        cuts.append((x, draw(st.sampled_from([*fits, *whole]))))

    def axes(made: Tensors) -> list[int | str]:
        return [
            draw(st.sampled_from([*(n for n, size in enumerate(x.shape) if int(size) * tiles <= MOST), *COMBINING]))
            for x in made
        ]

    def body(*parts: Tensor) -> list[Tensor]:
        index = parts[-1] if with_index else None
        return drawn_level(draw, parts[: len(cuts)], loops - 1, index)

    with_index = draw(st.booleans())
    return tiled(body, tiles, cuts, axes, with_index)


def drawn_scan(draw: Draw, tensors: Tensors, loops: int) -> list[Tensor]:
    """Over the leading axis of one of them, around `loops - 1` others."""
    x, constant = draw(st.sampled_from(tensors)), draw(st.sampled_from(tensors))
    sequence = x.reshape((x.shape[0], 1, *x.shape[1:]))

    def body(carries: Tensors, slices: Tensors, constants: Tensors) -> tuple[list[Tensor], list[Tensor]]:
        now = slices[0] + carries[0] * 0.5
        made = drawn_level(draw, [now, constants[0]], loops - 1)[0]
        return [tanh(now)], [made.max(0, keep=True)]

    last, (stacked,) = scan(body, [x.slice(0, 0, 1)], [sequence], [constant], reverse=draw(st.booleans()))
    return [last[0], stacked.reshape((stacked.shape[0], *stacked.shape[2:]))]


@st.composite
def nested_programs(draw: Draw, loops: int) -> Program:
    """Loops over tiles, one or two in a row, each with `loops` loops in each other in it; results may be updates."""
    builder, dtype = ProgramBuilder(), draw(st.sampled_from(["float32", "float64"]))
    leading = draw(st.sampled_from([(), (2,), (4,)]))
    rows, columns = draw(st.permutations([4, 6, 12]))[:2]
    shapes = [(rows, columns), (rows, columns), (1, columns), (columns, rows)]
    inputs = [
        Tensor(builder, builder.input(f"x{n}", TensorSpec((*leading, *shape), dtype), draw(st.sampled_from(KINDS))))
        for n, shape in enumerate(shapes)
    ]
    made = [*inputs, *drawn_tiles(draw, inputs, loops + 1)]
    if draw(st.booleans()):
        made += drawn_op(draw, made, loops)
        made += drawn_tiles(draw, made, loops + 1)
    for old in inputs:
        new = [x for x in made if x.shape == old.shape]
        if old.value.kind is not Kind.INPUT and draw(st.booleans()):
            builder.update(old.value, draw(st.sampled_from(new)).value)
    results = draw(st.lists(st.sampled_from(made[len(inputs) :]), min_size=1, max_size=4))
    return verify(builder.build([made[-1].value, *(x.value for x in results)]))
