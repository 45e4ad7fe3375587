import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnn.errors import OptionError
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.tensor_spec import INTEGERS
from graphnn.ops.indexing import (
    CumulativeSum,
    Gather,
    GatherAlong,
    OneHot,
    ScatterAdd,
    ScatterAddAlong,
    cumulative_sum,
    gather,
    gather_along,
    one_hot,
)
from graphnn.ops.op import Tensor
from ops.case import spec


class OtherModule:
    """NumPy as any other array module: what does not ask for NumPy itself takes the way of parallel devices."""

    def __getattr__(self, name):
        return getattr(np, name)


MODULES = [np, OtherModule()]
sizes = st.integers(0, 4)


@st.composite
def scatterings(draw):
    """(shape of x, axis, indices into it)."""
    shape = draw(st.lists(sizes, min_size=1, max_size=3))
    axis = draw(st.integers(0, len(shape) - 1))
    shape[axis] = max(shape[axis], 1)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    indices = rng.integers(0, shape[axis], draw(st.lists(sizes, max_size=2)), dtype="int32")
    return tuple(shape), axis, indices, rng


@given(scatterings())
def test_scatter_add_is_the_transpose_of_gather(point):
    shape, axis, indices, rng = point
    x = rng.integers(-99, 99, shape)
    y = Gather(axis).reference(np, x, indices)
    u = rng.integers(-99, 99, y.shape)
    for xp in MODULES:
        back = ScatterAdd(axis, shape[axis]).reference(xp, u, indices)
        assert back.shape == x.shape
        assert (y * u).sum() == (x * back).sum()


@given(scatterings())
def test_scatter_add_along_is_the_transpose_of_gather_along(point):
    shape, axis, _, rng = point
    x = rng.integers(-99, 99, shape)
    indices = rng.integers(0, shape[axis], (*shape[:axis], 3, *shape[axis + 1 :]))
    y = GatherAlong(axis).reference(np, x, indices)
    u = rng.integers(-99, 99, y.shape)
    for xp in MODULES:
        back = ScatterAddAlong(axis, shape[axis]).reference(xp, u, indices)
        assert back.shape == x.shape
        assert (y * u).sum() == (x * back).sum()


def test_numpy_adds_updates_in_their_order():
    rng = np.random.default_rng(0)
    updates, indices = rng.normal(size=(500, 3)).astype("float32"), rng.integers(0, 7, 500)
    expected = np.zeros((7, 3), "float32")
    for update, index in zip(updates, indices, strict=True):
        expected[index] += update
    np.testing.assert_array_equal(ScatterAdd(0, 7).reference(np, updates, indices), expected)


@pytest.mark.parametrize("xp", MODULES, ids=["numpy", "other"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_error_of_a_large_sum_stays_near_one_rounding(xp, dtype):
    rng = np.random.default_rng(0)
    updates, indices = rng.uniform(0, 1, (5000, 2)).astype(dtype), rng.integers(0, 3, 5000)
    exact = np.array([updates[indices == k].astype("longdouble").sum(axis=0) for k in range(3)])
    actual = ScatterAdd(0, 3).reference(xp, updates, indices)
    assert actual.dtype == dtype
    tolerance = {"float16": 1, "float32": 100, "float64": 100}[dtype]  # float16 is summed in float32
    assert np.abs(actual / exact - 1).max() < tolerance * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize(
    ("op", "x"),
    [
        (Gather(1), np.zeros((2, 4))),
        (ScatterAdd(0, 4), np.zeros(3)),
        (GatherAlong(0), np.zeros(4)),
        (ScatterAddAlong(0, 4), np.zeros(3)),
        (OneHot(4), None),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_index_out_of_range_is_an_error_that_names_it(op, x, dtype):
    worst = [4, np.iinfo(dtype).max] + ([-1, -4] if dtype.startswith("int") else [])
    for bad, behind in itertools.product(worst, [0, 99]):  # alone, and as the first of two
        indices = np.array([3, bad, behind], dtype)
        with pytest.raises(OptionError, match="`" + op.name + "`: an index is out of range") as caught:
            op.reference(np, *([] if x is None else [x]), indices)
        assert caught.value.expected == "0 <= index < 4"
        assert caught.value.got == str(bad)


def test_nothing_can_be_gathered_from_nothing():
    with pytest.raises(OptionError, match="index is out of range"):
        Gather(0).reference(np, np.zeros((0, 2)), np.array([0]))


def test_cumulative_sum_without_its_own_element_does_not_cancel():
    x = np.array([1.0, 1e20, 1.0])
    np.testing.assert_array_equal(CumulativeSum(0, exclusive=True).reference(np, x), [0.0, 1.0, 1e20])


def test_functions_take_axes_from_the_end_and_named_dimensions():
    builder = ProgramBuilder()
    x, i, ids = (
        Tensor(builder, builder.input(text, spec(text)))
        for text in ("float32[batch, time, 8]", "int64[batch, time, 2]", "int32[batch]")
    )
    assert str(gather(x, ids).spec) == "float32[batch, time, 8]"
    assert str(gather(x, ids, axis=-1).spec) == "float32[batch, time, batch]"
    assert str(gather_along(x, i).spec) == "float32[batch, time, 2]"
    assert str(one_hot(ids, 5, "float16").spec) == "float16[batch, 5]"
    assert cumulative_sum(x, axis=-2).spec == x.spec
    assert [instruction.op for instruction in builder.instructions] == [
        Gather(0),
        Gather(2),
        GatherAlong(2),
        OneHot(5, "float16"),
        CumulativeSum(1),
    ]


@pytest.mark.peers
def test_gradient_of_an_embedding_agrees_with_torch():
    import torch

    rng = np.random.default_rng(0)
    table, ids, dy = rng.normal(size=(9, 4)), rng.integers(0, 9, (3, 7)), rng.normal(size=(3, 7, 4))
    weight = torch.tensor(table, requires_grad=True)
    y = torch.nn.functional.embedding(torch.tensor(ids), weight)
    y.backward(torch.tensor(dy))
    np.testing.assert_array_equal(Gather(0).reference(np, table, ids), y.detach().numpy())
    np.testing.assert_allclose(ScatterAdd(0, 9).reference(np, dy, ids), weight.grad.numpy(), atol=1e-13)
