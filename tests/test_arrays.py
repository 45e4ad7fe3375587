"""Arrays by path, and the check of a call's arrays."""

from types import SimpleNamespace

import numpy as np
import pytest

from graphnn import layers
from graphnn.arrays import ArrayStore, as_array, bind_inputs, check_array, check_expressions
from graphnn.errors import DimensionError, DTypeError, GraphError, ParameterError, ShapeError
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from ops.case import spec


def store():
    return ArrayStore(
        {"a/W": np.zeros((2, 3), "float32"), "a/b": np.zeros(3, "float32"), "n": np.array(1.0, "float32")}
    )


def test_a_store_is_an_ordered_mapping():
    arrays = store()
    assert list(arrays) == ["a/W", "a/b", "n"]
    assert len(arrays) == 3
    assert "a/b" in arrays
    assert arrays.get("nothing") is None
    assert "float32[2, 3]" in repr(arrays)


@pytest.mark.parametrize(
    "new", [np.ones((2, 3)), np.ones((2, 3), "float16"), [[1.0] * 3] * 2, np.ones((2, 3), "uint8")]
)
def test_assigning_copies_into_the_array(new):
    arrays = store()
    kept, version = arrays["a/W"], arrays.version
    arrays["a/W"] = new
    assert arrays["a/W"] is kept
    assert kept.dtype == "float32"
    np.testing.assert_array_equal(kept, np.ones((2, 3)))
    assert arrays.version > version


def test_nan_may_be_assigned():
    arrays = store()
    arrays["n"] = np.nan
    assert np.isnan(arrays["n"])


WRONG = {
    "unknown path": ("a/w", np.zeros((2, 3)), ParameterError),
    "shape": ("a/W", np.zeros((3, 2)), ParameterError),
    "shape that would broadcast": ("a/W", np.zeros(3), ParameterError),
    "a number for an array": ("a/W", 1.0, ParameterError),
    "complex numbers": ("a/b", np.zeros(3, "complex64"), ParameterError),
    "integers that do not fit": ("a/b", np.zeros(3, "int64"), ParameterError),
    "text": ("a/b", "abc", DTypeError),
    "nothing": ("a/b", None, DTypeError),
    "ragged": ("a/W", [[1.0, 2.0], [3.0]], DTypeError),
    "objects": ("a/b", np.array([None] * 3), ParameterError),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused_and_changes_nothing(name):
    path, new, error = WRONG[name]
    arrays = store()
    with pytest.raises(error):
        arrays[path] = new
    with pytest.raises(error):
        arrays.update({"n": 5.0, path: new})
    assert all(np.array_equal(array, store()[key]) for key, array in arrays.items())
    assert arrays.version == 0


def test_arrays_cannot_be_taken_out():
    arrays = store()
    for remove in (lambda: arrays.__delitem__("n"), lambda: arrays.pop("n"), arrays.popitem):
        with pytest.raises(ParameterError, match="cannot be deleted"):
            remove()
    assert len(arrays) == 3


class Foreign:
    """An array of another library, such as a tensor of torch on the CPU."""

    dtype, shape = "foreign.float32", (2,)

    def __array__(self, dtype=None, copy=None):
        return np.array([1.0, 2.0], dtype)


def test_arrays_of_other_libraries_are_taken_over():
    assert as_array(Foreign(), "x").tolist() == [1.0, 2.0]
    on_device = SimpleNamespace(__cuda_array_interface__={})
    assert as_array(on_device, "x") is on_device


SPEC = {
    "float64 for float": (np.zeros((2, 4)), "float32[n, 4]", None),
    "float16 for float": (np.zeros((2, 4), "float16"), "float32[n, 4]", None),
    "lists": ([[1.0, 2.0]], "float32[n, 2]", None),
    "empty": (np.zeros((0, 4)), "float32[n, 4]", None),
    "small integers for float": (np.zeros((2, 4), "int16"), "float32[n, 4]", None),
    "bools for float": (np.zeros((2, 4), "bool"), "float32[n, 4]", None),
    "int64 for int32 that fit": (np.array([2**31 - 1]), "int32[n]", None),
    "uint8 for int64": (np.array([3], "uint8"), "int64[n]", None),
    "big endian": (np.zeros((2, 4), ">f4"), "float32[n, 4]", None),
    "nan": (np.full((2, 4), np.nan), "float32[n, 4]", None),
    "int64 for float32, not exact": (np.zeros((2, 4), "int64"), "float32[n, 4]", DTypeError),
    "int64 for int32 that do not fit": (np.array([2**31]), "int32[n]", DTypeError),
    "negative for unsigned": (np.array([-1]), "uint8[n]", DTypeError),
    "float for integers": (np.zeros(3), "int64[n]", DTypeError),
    "integers for bool": (np.zeros(3, "int8"), "bool[n]", DTypeError),
    "complex": (np.zeros((2, 4), "complex64"), "float32[n, 4]", DTypeError),
    "text": (np.array(["a"]), "float32[n]", DTypeError),
    "a dict": ({"a": 1}, "float32[n]", DTypeError),
    "rank": (np.zeros(4), "float32[n, 4]", ShapeError),
    "size": (np.zeros((2, 5)), "float32[n, 4]", ShapeError),
}


@pytest.mark.parametrize("name", SPEC)
def test_check_array(name):
    array, text, error = SPEC[name]
    if error is None:
        assert check_array(array, spec(text), "float32", "x").shape == np.shape(array)
        return
    with pytest.raises(error) as caught:
        check_array(array, spec(text), "float32", "x")
    assert "x" in caught.value.where


def graph():
    a, b = Input(("n", "t", 3), name="a"), Input(("n", "2*t"), name="b")
    c = Input(("n",), name="c", optional=True)
    y = {"y": layers.ReLU(name="r")(a), "z": layers.ReLU()(b), "w": layers.ReLU()(c)}
    return Graph([a, b, c], y, name="g")


A, B, C = np.zeros((2, 4, 3)), np.zeros((2, 8)), np.zeros(2)


@pytest.mark.parametrize(
    ("positional", "named"),
    [((A, B), {}), ((A,), {"b": B}), ((), {"b": B, "a": A}), ((A, B, None), {}), ((A,), {"c": None, "b": B})],
)
def test_inputs_by_position_and_name_give_sizes(positional, named):
    arrays, sizes = bind_inputs(graph(), positional, named, "float32")
    check_expressions(graph(), arrays, sizes)
    assert sorted(arrays) == ["a", "b"]
    assert sizes == {"n": 2, "t": 4}


@pytest.mark.parametrize(
    ("positional", "named", "error", "where"),
    [
        ((), {}, GraphError, "g/a"),
        ((A,), {}, GraphError, "g/b"),
        ((A, B, C, C), {}, GraphError, "g"),
        ((A, B), {"d": C}, GraphError, "g"),
        ((A, B), {"a": A}, GraphError, "g"),
        ((A[:1], B), {}, ShapeError, "b"),
        ((A, B[:, :7]), {}, ShapeError, "b"),
        ((A, B, C[:1]), {}, ShapeError, "c"),
        ((A[..., :2], B), {}, ShapeError, "a"),
    ],
)
def test_calls_that_do_not_fit_are_refused(positional, named, error, where):
    def bind():
        arrays, sizes = bind_inputs(graph(), positional, named, "float32")
        check_expressions(graph(), arrays, sizes)

    with pytest.raises(error) as caught:
        bind()
    assert caught.value.where == where


def test_a_size_that_no_input_gives_is_named():
    a = Input(("2*t",), name="a")
    with pytest.raises(DimensionError, match="`t`"):
        check_expressions(Graph(a, layers.ReLU()(a)), {"a": np.zeros(4)}, {})
