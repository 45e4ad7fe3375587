"""Which groups are one loop nest, with which loops; the numbers are checked in tests/backends/cpu/test_loops.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Program
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops import log_softmax, matmul, maximum, mean, softmax, sqrt, tanh
from graphnn.ops.creation import Iota
from graphnn.ops.op import Tensor, emit
from graphnn.ops.random import RandomBits
from graphnn.passes.loop_nest import LoopNest, analyse


def body(function, *shapes: tuple[int, ...] | TensorSpec) -> Program:
    builder = ProgramBuilder()
    specs = [shape if isinstance(shape, TensorSpec) else TensorSpec(shape) for shape in shapes]
    results = function(*(Tensor(builder, builder.input(f"in_{n}", spec)) for n, spec in enumerate(specs)))
    return builder.build([tensor.value for tensor in (results if isinstance(results, list) else [results])])


def summary(nest: LoopNest | None):
    """(outer sizes, row sizes, sweeps, row reductions, folds, outer and row sizes of the epilogue)."""
    if nest is None:
        return None
    own = (nest.sizes[: nest.outer], nest.sizes[nest.outer :], nest.stages, len(nest.rows), len(nest.folds))
    return (*own, nest.epilogue and (nest.epilogue.sizes[: nest.epilogue.outer], nest.epilogue.sizes))


def sums(x):
    return [x.sum(0), x.sum(1), x.sum()]


WORDS = TensorSpec((4,), "uint32")
FLAT = ((), (24,), 1, 0, 0, None)
NESTS = [
    ("same shapes are one loop", lambda x, y: tanh(x * y) + 1.0, [(2, 3, 4), (2, 3, 4)], FLAT),
    ("a reshape costs nothing", lambda x, y: x.reshape((2, 3, 4)) + y, [(6, 4), (2, 3, 4)], FLAT),
    ("a bias makes rows", lambda x, b: maximum(x + b, b), [(2, 3, 4), (4,)], ((6,), (4,), 1, 0, 0, None)),
    ("a row is split by a reshape", lambda x, b: x.reshape((2, 3, 4)) + b, [(2, 12), (3, 1)],
     ((2, 3), (4,), 1, 0, 0, None)),
    ("a factor for each example", lambda x, a: x * a, [(2, 3, 4), (2, 1, 1)], ((2,), (12,), 1, 0, 0, None)),
    ("softmax", softmax, [(2, 3, 4)], ((6,), (4,), 3, 2, 0, None)),
    ("a norm over two axes", lambda x: x - mean(x, (1, 2), keep=True), [(2, 3, 4)], ((2,), (12,), 2, 1, 0, None)),
    ("column sums", lambda x: [tanh(x), x.sum((0, 1))], [(2, 3, 4)], ((6,), (4,), 1, 0, 1, None)),
    ("sums over all directions", sums, [(3, 4)], ((3,), (4,), 2, 1, 2, None)),
    ("a sum in the middle", lambda x: x.sum(1), [(2, 3, 4)], ((2, 3), (4,), 1, 0, 1, None)),
    ("all elements", lambda x: x * x / (x * x).sum(), [(3, 4)], ((), (12,), 2, 1, 0, None)),
    ("loss", lambda x: mean(log_softmax(x).sum(-1)), [(3, 4)], ((3,), (4,), 4, 3, 1, ((), ()))),
    ("statistics", lambda x, r: [x * 2.0, mean(x, 0) + r], [(3, 4), (4,)], ((3,), (4,), 1, 0, 1, ((), (4,)))),
    ("a mask from random words", lambda r, x: emit(RandomBits((3, 4), 1), [r])[0].cast("float32") + x, [WORDS, (3, 4)],
     ((), (12,), 1, 0, 0, None)),
    ("places along one axis", lambda x: emit(Iota((3, 4), 0, "float32"), (), x.builder)[0] + x, [(3, 4)],
     ((3,), (4,), 1, 0, 0, None)),
    ("numbers alone", lambda a, b: sqrt(a) * b, [(), (1, 1)], ((), (), 1, 0, 0, None)),
    ("nothing to add up", lambda x: x.sum(0), [(0, 3)], ((0,), (3,), 1, 0, 1, None)),
    ("no row at all", lambda x: [x + 1.0, x.sum(0)], [(0, 3)], ((0,), (3,), 1, 0, 1, None)),
    # what is not one nest
    ("a sum of rows used in each row", lambda x: x - mean(x, 0, keep=True), [(3, 4)], None),
    ("softmax along an outer axis", lambda x: softmax(x, 1), [(2, 3, 4)], None),
    ("two kinds of rows", lambda x: x - x.sum(2, keep=True) - x.sum((1, 2), keep=True), [(2, 3, 4)], None),
    ("a sum of sums of rows", lambda x: x.sum(0).sum(), [(3, 4)], None),
    ("one tensor along two axes", lambda x: x + x.reshape((4, 1)), [(4,)], None),
    ("axes regrouped across each other", lambda x: [x.reshape((4, 6)), x.reshape((3, 8)) * 2.0], [(24,)], None),
    ("parts that share nothing", lambda x, y: [x * 2.0, y * 2.0], [(3,), (3,)], None),
    ("a fold of what is repeated", lambda x, b: [x + b, b.sum(0)], [(2, 3, 4), (3, 1)], None),
    ("a product of matrices", lambda x, y: matmul(x, y) + 1.0, [(3, 3), (3, 3)], None),
    ("a transpose", lambda x: x + x.transpose((1, 0)), [(3, 3)], None),
    ("one row, where there are no rows", lambda x, b: [x + b, softmax(b)], [(0, 3), (1, 3)], None),
]  # fmt: skip


@pytest.mark.parametrize(("function", "shapes", "expected"), [case[1:] for case in NESTS], ids=[c[0] for c in NESTS])
def test_loops_of_a_group(function, shapes, expected):
    assert summary(analyse(body(function, *shapes))) == expected


@given(st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=4), st.data())
def test_unit_axes_and_joined_axes_never_matter(sizes, data):
    """Any reshape that joins axes or adds and drops unit axes leaves one loop."""
    joined, rest = [], list(sizes)
    while rest:
        count = data.draw(st.integers(1, len(rest)))
        product = 1
        for size in rest[:count]:
            product *= size
        joined += [1] * data.draw(st.integers(0, 1)) + [product]
        rest = rest[count:]
    nest = analyse(body(lambda x: tanh(x.reshape(tuple(joined))), tuple(sizes)))
    assert nest is not None
    assert len(nest.sizes) <= 1


OVER = [
    ("element by element", lambda x, y: x * 2.0 + y, [(3, 4), (3, 4)], {(0, 0), (0, 1)}),
    ("a softmax over its input", softmax, [(3, 4)], {(0, 0)}),
    ("not over a bias", lambda x, b: [x + b, b * 2.0], [(3, 4), (1, 4)], {(0, 0)}),
    ("numbers of rows", lambda x, a: [x * a, a + 1.0], [(3, 4), (3, 1)], {(0, 0), (1, 1)}),
    ("no fold over an input", lambda x, b: [x + b, x.sum(0)], [(3, 4), (4,)], {(0, 0)}),
    ("not over what the epilogue reads", lambda x, r: [x * 2.0, mean(x, 0) + r, r * 2.0], [(3, 4), (4,)], {(0, 0)}),
    ("a number that is read at first", lambda x, r: [x * 2.0 + r, mean(x) + r], [(3,), ()], {(0, 0), (1, 1)}),
]


@pytest.mark.parametrize(("function", "shapes", "expected"), [case[1:] for case in OVER], ids=[c[0] for c in OVER])
def test_outputs_that_may_lie_over_inputs(function, shapes, expected):
    """Pairs (output, input)."""
    program = body(function, *shapes)
    nest = analyse(program)
    outputs, inputs = enumerate(program.outputs), list(enumerate(program.inputs))
    assert {(o, i) for o, output in outputs for i, value in inputs if nest.may_overwrite(output, value)} == expected
