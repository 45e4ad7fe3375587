"""Ops that move elements, for all shapes down to none: values, specs, and the gradient as the exact transpose."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnn.errors import OptionError, ShapeError
from graphnn.ir.dimension import Dimension
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.shape import BroadcastTo, Concatenate, Flip, Pad, Reshape, Slice, Transpose, concatenate, flip, pad
from ops.case import Case, normal
from ops.cases_shape import padded_case, sliced_case
from ops.helpers import call, check_transpose, check_value, program_of

SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)


@st.composite
def slices(draw):
    shape = draw(SHAPES)
    bounds = [tuple(sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n))))) for n in shape]
    steps = tuple(draw(st.integers(1, 3)) for _ in shape)
    return sliced_case(tuple(a for a, _ in bounds), tuple(b for _, b in bounds), steps, shape)


@st.composite
def pads(draw):
    shape = draw(SHAPES)
    low, high, interior = (tuple(draw(st.integers(0, 2)) for _ in shape) for _ in range(3))
    return padded_case(low, high, interior, shape)


@st.composite
def transposes(draw):
    shape = draw(SHAPES)
    order = tuple(draw(st.permutations(range(len(shape)))))
    letters = "".join("abc"[axis] for axis in order)
    return Case(Transpose(order), [normal(*shape)], lambda x: np.einsum(f"{'abc'[: len(shape)]}->{letters}", x))


@st.composite
def flips(draw):
    shape = draw(SHAPES)
    axes = tuple(axis for axis in range(len(shape)) if draw(st.booleans()))
    places = [range(n - 1, -1, -1) if axis in axes else range(n) for axis, n in enumerate(shape)]
    return Case(Flip(axes), [normal(*shape)], lambda x: x[np.ix_(*places)] if places else x)


@st.composite
def broadcasts(draw):
    shape = draw(SHAPES)
    kept = tuple(draw(st.sampled_from([1, n])) for n in shape[draw(st.integers(0, len(shape))) :])
    return Case(BroadcastTo(shape), [normal(*kept)], lambda x: x + np.zeros(shape))


@st.composite
def concatenations(draw):
    shape = draw(SHAPES.filter(bool))
    axis = draw(st.integers(0, len(shape) - 1))
    sizes = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    parts = [normal(*shape[:axis], n, *shape[axis + 1 :]) for n in sizes]

    def joined(*arrays):
        rows = [row for x in arrays for row in np.moveaxis(x, axis, 0)]
        rest = shape[:axis] + shape[axis + 1 :]
        return np.moveaxis(np.array(rows).reshape(len(rows), *rest), 0, axis)

    return Case(Concatenate(axis), parts, joined)


@st.composite
def reshapes(draw):
    shape = draw(SHAPES)
    count = int(np.prod(shape))
    after = draw(st.sampled_from([(count,), (1, count, 1), shape[::-1]]))
    return Case(Reshape(after), [normal(*shape)], lambda x: np.array(x.ravel().tolist()).reshape(after))


@pytest.mark.parametrize("cases", [slices, pads, transposes, flips, broadcasts, concatenations, reshapes])
@given(data=st.data())
def test_value_and_transpose_for_all_shapes(cases, data):
    case = data.draw(cases())
    arrays = case.make()
    check_value(case, arrays)
    check_transpose(program_of(case.op, arrays), arrays)


def test_functions_take_axes_from_the_end():
    x = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(call(lambda x: x.slice(-1, 1, 4, 2), x), x[..., 1:4:2])
    np.testing.assert_array_equal(call(lambda x: flip(x, -2), x), x[:, ::-1])
    np.testing.assert_array_equal(call(lambda x: concatenate([x, x]), x), np.concatenate([x, x], -1))
    np.testing.assert_array_equal(call(lambda x: pad(x, [(0, 0), (1, 0), (0, 2)], 5.0), x)[:, 0, :], 5.0)


@pytest.mark.parametrize("widths", [(-1, 0), (0, -1)])
def test_negative_padding_is_refused(widths):
    with pytest.raises(OptionError, match="negative"):
        Pad((widths[0],), (widths[1],), (0,)).infer(TensorSpec((3,)))


@pytest.mark.parametrize(("start", "stop"), [(0, 4), (-1, 2), (2, 1)])
def test_slice_outside_of_the_tensor_is_refused(start, stop):
    with pytest.raises(ShapeError, match="outside"):
        Slice((start,), (stop,), (1,)).infer(TensorSpec((3,)))


@pytest.mark.parametrize(("time", "gap"), [(1, 0), (4, 1), (5, 2)])
def test_named_sizes_bind_to_the_sizes_of_integers(time, gap):
    named = Dimension.named("time")
    for op in (Pad((1,), (2,), (gap,)), Concatenate(0), Flip((0,))):
        (spec,) = op.infer(TensorSpec((named,)))
        assert spec.bind({"time": time}) == op.infer(TensorSpec((time,)))[0]
    (spec,) = Slice((0,), (named,), (gap + 1,)).infer(TensorSpec((named,)))
    assert spec.bind({"time": time}) == Slice((0,), (time,), (gap + 1,)).infer(TensorSpec((time,)))[0]
