"""Tiled: what one op of a tile may be, and when its parts may be written in place. Its value is in the table of ops."""

import numpy as np
import pytest

from graphnn.errors import ShapeError
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops import tanh
from graphnn.ops.op import Tensor
from graphnn.tiled import Tiled


def body_of(function, *shapes, dtype="float64"):
    """The program of one tile."""
    builder = ProgramBuilder()
    inputs = [Tensor(builder, builder.input(f"x{i}", TensorSpec(shape, dtype))) for i, shape in enumerate(shapes)]
    return builder.build([tensor.value for tensor in function(*inputs)])


@pytest.mark.parametrize("tiles", [1, 2, 3, 6])
@pytest.mark.parametrize("axis", [0, 1])
def test_tiles_are_contiguous_parts_in_order(tiles, axis):
    x = np.random.default_rng(0).normal(size=(6, 12))
    shape = tuple(size // tiles if i == axis else size for i, size in enumerate(x.shape))
    op = Tiled(body_of(lambda x: [x.slice(axis, 0, 1), x], shape), tiles, (axis,), (axis, axis))
    first, same = op.reference(np, x)
    np.testing.assert_array_equal(same, x)
    np.testing.assert_array_equal(first, np.take(x, range(0, x.shape[axis], x.shape[axis] // tiles), axis))


@pytest.mark.parametrize("combine", ["sum", "max", "min"])
def test_parts_are_combined_in_order_and_nan_stays(combine):
    x = np.array([3.0, -1.0, 2.0, 5.0])
    op = Tiled(body_of(lambda x: [x.reshape(())], (1,)), 4, (0,), (combine,))
    assert op.reference(np, x)[0] == getattr(np, combine)(x)
    x[2] = np.nan
    assert np.isnan(op.reference(np, x)[0])


def test_float32_sums_are_those_of_tile_after_tile():
    x = np.random.default_rng(0).normal(size=40).astype("float32")
    op = Tiled(body_of(lambda x: [x.reshape(())], (1,), dtype="float32"), 40, (0,), ("sum",))
    total = np.float32(0)
    for number in x:
        total = total + number
    assert op.reference(np, x)[0] == total


@pytest.mark.parametrize(
    ("tiles", "input_axis", "output_axis", "shape"),
    [
        (0, 0, 0, (2, 3)),
        (3, 0, 0, (7, 3)),
        (2, 2, 0, (2, 3)),
        (2, -1, 0, (2, 3)),
        (2, 0, 2, (4, 3)),
        (2, 0, "mean", (4, 3)),
    ],
)
def test_wrong_axes_are_refused(tiles, input_axis, output_axis, shape):
    op = Tiled(body_of(lambda x: [x], (2, 3)), tiles, (input_axis,), (output_axis,))
    with pytest.raises(ShapeError):
        op.infer(TensorSpec(shape, "float64"))


IN_PLACE = {
    "elementwise": (lambda x, y: [x + y], (0, 0), 0, True),
    "after other readers": (lambda x, y: [x * 2.0 + x], (0, 0), 0, True),
    "read by another one too": (lambda x, y: [x + y, tanh(x)], (0, 0), (0, 0), False),
    "read by another one before": (lambda x, y: [x + tanh(x)], (0, 0), 0, True),
    "joined elsewhere": (lambda x, y: [x + y], (1, 0), 0, False),
    "seen whole": (lambda x, y: [x + y], (None, 0), 0, False),
    "a sum": (lambda x, y: [x + y], (0, 0), "sum", False),
    "a product": (lambda x, y: [x @ y], (0, 0), 0, False),
    "a view": (lambda x, y: [x.reshape((9,)).reshape((3, 3)) + y], (0, 0), 0, False),
    "an output": (lambda x, y: [x + y, x], (0, 0), (0, 0), False),
    "not read": (lambda x, y: [tanh(y)], (0, 0), 0, True),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_an_output_is_written_over_an_input_only_where_nobody_reads_it_later(name):
    function, input_axes, output_axes, allowed = IN_PLACE[name]
    axes = output_axes if isinstance(output_axes, tuple) else (output_axes,)
    op = Tiled(body_of(function, (3, 3), (3, 3)), 2, input_axes, axes)
    assert op.may_overwrite(0, 0) is allowed
