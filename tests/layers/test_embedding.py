"""Embedding."""

import numpy as np
import pytest

from graphnn.errors import DTypeError, OptionError, ShapeError
from graphnn.graph.layer import Input
from graphnn.layers import Embedding
from peers import compare, graph_of, normal, random_arrays, run

IDS = np.array([[0, 3, 3, 1], [3, 3, 3, 3]])  # with repetitions


@pytest.mark.peers
@pytest.mark.parametrize("pool", [None, "sum", "mean"])
@pytest.mark.parametrize("shape", [(2, 4), (2, 2, 2)])
def test_embedding_equals_torch(pool, shape):
    """B14: the gradient of a row that occurs several times is the sum."""
    from torch.nn import functional

    ids = IDS.reshape(shape)

    def twin(inputs, p):
        rows = functional.embedding(inputs["x"], p["e/W"])
        return rows if pool is None else getattr(rows, pool)(-2)

    compare(graph_of(Embedding(5, 6, pool, name="e"), ids), twin, {"x": ids})


def test_repeated_rows_get_the_sum_of_their_gradients():
    """B14, by counting: with a cotangent of ones each row gets its number of occurrences."""
    graph = graph_of(Embedding(2, 5, "sum", name="e"), IDS)
    outcome = run(graph, {"x": IDS}, random_arrays(graph, {"x": IDS}), seeds={"y": np.ones((2, 2))})
    np.testing.assert_array_equal(outcome.gradients["e/W"], np.bincount(IDS.ravel(), minlength=5)[:, None] * np.ones(2))


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
def test_every_integer_dtype_looks_up(dtype):
    ids = IDS.astype(dtype)
    graph = graph_of(Embedding(3, 4, name="e"), ids)
    table = normal(4, 3, dtype="float32")
    y = run(graph, {"x": ids}, {"e/W": table}, dtype="float32").outputs["y"]
    assert y.dtype == "float32"
    np.testing.assert_array_equal(y, table[IDS])


def test_an_id_outside_of_the_vocabulary_is_refused():
    graph = graph_of(Embedding(3, 3, name="e"), IDS)
    with pytest.raises(OptionError, match="index < 3"):
        run(graph, {"x": IDS}, {"e/W": normal(3, 3)})


@pytest.mark.parametrize(
    ("layer", "shape", "dtype", "error", "text"),
    [
        (Embedding(3, 4), (2, 3), "float32", DTypeError, "not integers"),
        (Embedding(3, 4, "max"), (2, 3), "int64", OptionError, '"sum" or "mean"'),
        (Embedding(3, 4, "sum"), (2,), "int64", ShapeError, "no axis to pool"),
        (Embedding(3, -1), (2, 3), "int64", ShapeError, "negative"),
    ],
)
def test_misfits_are_refused_at_declaration(layer, shape, dtype, error, text):
    with pytest.raises(error, match=text) as caught:
        layer(Input(shape, name="x", dtype=dtype))
    assert "embedding" in caught.value.where


def test_ids_of_any_length_share_the_table():
    ids = Input(("batch", "time"), dtype="int64")
    assert str(Embedding(3, 4)(ids).spec) == "float32[batch, time, 3]"
    assert str(Embedding(3, 4, "mean")(ids).spec) == "float32[batch, 3]"
