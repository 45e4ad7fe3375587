import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from graphnn.errors import OptionError
from graphnn.ir.builder import ProgramBuilder
from graphnn.ops.op import Tensor
from graphnn.ops.sorting import Sort, TopK, argsort, sort, top_k
from ops.case import spec
from ops.helpers import evaluate

keys = arrays(
    "float32", array_shapes(max_dims=3, max_side=6, min_side=0), elements=st.sampled_from([-1.0, 0.0, -0.0, 2.0])
)


@given(keys, st.data(), st.booleans())
def test_sort_is_an_ordered_and_stable_permutation(x, data, descending):
    axis = data.draw(st.integers(0, x.ndim - 1))
    values, indices = Sort(axis, descending).reference(np, x)
    np.testing.assert_array_equal(values, np.take_along_axis(x, indices, axis))
    everything = np.arange(x.shape[axis]).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    np.testing.assert_array_equal(np.sort(indices, axis), np.broadcast_to(everything, x.shape))
    rises = np.diff(values, axis=axis) * (-1 if descending else 1)
    assert (rises >= 0).all()
    assert (np.diff(indices, axis=axis)[rises == 0] > 0).all()


@given(keys, st.data())
def test_top_k_is_the_head_of_the_descending_sort(x, data):
    axis = data.draw(st.integers(0, x.ndim - 1))
    k = data.draw(st.integers(0, x.shape[axis]))
    for head, whole in zip(TopK(k, axis).reference(np, x), Sort(axis, True).reference(np, x), strict=True):
        np.testing.assert_array_equal(head, np.take(whole, np.arange(k), axis))


def test_nan_counts_as_the_largest():
    x = np.array([1.0, np.nan, np.inf, np.nan, -np.inf])
    assert Sort(0).reference(np, x)[1].tolist() == [4, 0, 2, 1, 3]
    assert Sort(0, descending=True).reference(np, x)[1].tolist() == [1, 3, 2, 0, 4]
    assert TopK(3, 0).reference(np, x)[1].tolist() == [1, 3, 2]


@pytest.mark.parametrize("k", [0, -1, 4])
def test_k_must_fit(k):
    with pytest.raises(OptionError, match="k does not fit") as caught:
        TopK(k, 1).infer(spec("float32[batch, 3]"))
    assert caught.value.expected == "1 <= k <= 3"


def test_functions_return_values_and_indices():
    builder = ProgramBuilder()
    x = Tensor(builder, builder.input("x", spec("float32[2, 3]")))
    values, indices = top_k(x, 2)
    outputs = [sort(x, axis=0), argsort(x, descending=True), values, indices]
    array = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]], "float32")
    results = evaluate(builder.build([y.value for y in outputs]), [array])
    expected = [[[0, 1, 2], [3, 5, 4]], [[0, 2, 1], [1, 2, 0]], [[3, 2], [5, 4]], [[0, 2], [1, 2]]]
    for actual, wanted in zip(results, expected, strict=True):
        np.testing.assert_array_equal(actual, wanted)


@pytest.mark.peers
@pytest.mark.parametrize("descending", [False, True])
def test_order_agrees_with_torch(descending):
    import torch

    x = np.random.default_rng(0).integers(0, 5, (4, 50)).astype("float32")
    values, indices = torch.sort(torch.tensor(x), dim=1, descending=descending, stable=True)
    ours = Sort(1, descending).reference(np, x)
    np.testing.assert_array_equal(ours[0], values.numpy())
    np.testing.assert_array_equal(ours[1], indices.numpy())
