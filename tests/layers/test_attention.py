"""AttentionWeights, DotProductAttention, SplitHeads, MergeHeads, PositionalEmbedding."""

import math

import numpy as np
import pytest

from graphnn.errors import DTypeError, OptionError, ShapeError
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.layers.attention import (
    AttentionWeights,
    DotProductAttention,
    MergeHeads,
    PositionalEmbedding,
    SplitHeads,
)
from graphnn.ops.random import seed_words
from peers import compare, graph_of, normal, random_arrays, run

MASKS = {"batch_key": ("batch", "n_k"), "query_key": ("n_q", "n_k"), "batch_query_key": ("batch", "n_q", "n_k")}
SIZES = [(1, 1), (1, 4), (3, 1), (3, 3), (2, 5), (16, 7)]  # n_q, n_k
BATCH, DEPTH = 4, 6


def data(n_q, n_k, heads=None, mask=None, depth=DEPTH, dtype="float64"):
    middle = () if heads is None else (heads,)
    arrays = {"q": (BATCH, *middle, n_q, depth), "k": (BATCH, *middle, n_k, depth), "v": (BATCH, *middle, n_k, 3)}
    arrays = {name: normal(*shape, dtype=dtype, seed=i) for i, (name, shape) in enumerate(arrays.items())}
    if mask is not None:
        sizes = {"batch": BATCH, "n_q": n_q, "n_k": n_k}
        allowed = np.random.default_rng(5).random([sizes[name] for name in MASKS[mask]]) < 0.7
        allowed[0] = False  # an example, or a query, that may attend to nothing
        arrays["mask"] = allowed
    return arrays


def graph_for(layer, arrays, mask=None):
    """The layer on q, k, v (and mask), with names for all sizes that vary."""
    names = {"q": "n_q", "k": "n_k", "v": "n_k"}
    inputs = []
    for name, x in arrays.items():
        shape = MASKS[mask] if name == "mask" else ("batch", *x.shape[1:-2], names[name], x.shape[-1])
        inputs.append(Input(shape, name, "bool" if name == "mask" else "float32"))
    return Graph(inputs, layer(*inputs))


def broadcast_mask(arrays, mask, heads):
    """The mask as torch wants it, (batch, heads, n_q, n_k), all of it."""
    n_q, n_k = arrays["q"].shape[-2], arrays["k"].shape[-2]
    allowed = arrays["mask"]
    allowed = {"batch_key": lambda: allowed[:, None, :], "query_key": lambda: allowed[None]}.get(
        mask, lambda: allowed
    )()
    allowed = np.broadcast_to(allowed, (BATCH, n_q, n_k))
    return allowed if heads is None else np.broadcast_to(allowed[:, None], (BATCH, heads, n_q, n_k))


@pytest.mark.peers
@pytest.mark.parametrize("heads", [None, 2])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", [None, *MASKS])
@pytest.mark.parametrize(("n_q", "n_k"), SIZES)
def test_attention_equals_torch(n_q, n_k, mask, causal, heads):
    """A28, A29, A30, B7: any lengths, all masks, with and without axes between batch and n; values and gradients."""
    import torch
    from torch.nn import functional

    arrays = data(n_q, n_k, heads, mask)
    allowed = np.tril(np.ones((n_q, n_k), bool)) if causal else np.ones((n_q, n_k), bool)
    if mask is not None:
        allowed = broadcast_mask(arrays, mask, heads) & allowed

    def twin(x, p):
        # what may attend to nothing is NaN in some versions of torch, so it gets other values there, and is cut out
        some = torch.tensor(allowed.any(-1, keepdims=True))
        y = functional.scaled_dot_product_attention(x["q"], x["k"], x["v"], torch.tensor(allowed) | ~some)
        return torch.where(some, y, 0.0)

    compare(graph_for(DotProductAttention(causal=causal, name="a"), arrays, mask), twin, arrays)


@pytest.mark.peers
def test_causal_is_torchs_is_causal():
    """Query and key 0 stand at the same time, also where there are more keys or more queries."""
    from torch.nn import functional

    for n_q, n_k in [(3, 3), (2, 5), (5, 2)]:
        arrays = data(n_q, n_k)
        twin = lambda x, p: functional.scaled_dot_product_attention(x["q"], x["k"], x["v"], is_causal=True)  # noqa: E731
        compare(graph_for(DotProductAttention(causal=True, name="a"), arrays), twin, arrays)


@pytest.mark.peers
def test_without_scale():
    from torch.nn import functional

    arrays = data(3, 4)
    twin = lambda x, p: functional.scaled_dot_product_attention(x["q"], x["k"], x["v"], scale=1.0)  # noqa: E731
    compare(graph_for(DotProductAttention(scale=False, name="a"), arrays), twin, arrays)


@pytest.mark.parametrize("n_heads", [1, 2, 3])
def test_heads_are_attention_on_the_parts(n_heads):
    arrays = data(3, 5)
    arrays["v"] = normal(BATCH, 5, 6)
    whole = run(graph_for(DotProductAttention(n_heads=n_heads, name="a"), arrays), arrays, {}).outputs["y"]
    parts = [{name: x[..., i::n_heads] for name, x in sorted_by_head(arrays, n_heads)} for i in range(n_heads)]
    single = [run(graph_for(DotProductAttention(name="a"), part), part, {}).outputs["y"] for part in parts]
    np.testing.assert_allclose(whole, np.concatenate(single, -1), rtol=0, atol=1e-14)


def sorted_by_head(arrays, n_heads):
    """Arrays whose features of head i are the i-th, (i + n_heads)-th... one."""
    for name, x in arrays.items():
        yield name, x.reshape(*x.shape[:-1], n_heads, -1).swapaxes(-1, -2).reshape(x.shape)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_without_a_key_give_zeros_and_no_gradient(dtype):
    """Not NaN: neither in the outputs nor in any gradient."""
    arrays = data(3, 4, mask="batch_query_key", dtype=dtype)
    arrays["mask"][1, 2] = False
    result = run(graph_for(DotProductAttention(name="a"), arrays, "batch_query_key"), arrays, {}, dtype=dtype)
    assert not result.outputs["y"][0].any()
    assert not result.outputs["y"][1, 2].any()
    assert not result.gradients["q"][0].any()
    assert not result.gradients["k"][0].any()
    assert not result.gradients["v"][0].any()
    assert all(np.isfinite(x).all() and x.dtype == dtype for x in (result.outputs["y"], *result.gradients.values()))


def test_weights_are_a_node_of_their_own():
    graph = graph_for(DotProductAttention(causal=True, name="a"), data(3, 5, heads=2))
    node = graph.node("a").graph.node("weights")
    assert (node.layer.kind, str(node.spec)) == ("AttentionWeights", "float32[batch, 2, n_q, n_k]")


def test_weights_sum_to_one_where_there_is_a_key():
    arrays = data(5, 4)
    del arrays["v"]
    arrays["mask"] = np.random.default_rng(0).random((BATCH, 4)) < 0.5
    graph = graph_for(AttentionWeights(mask_axes="batch_key", causal=True), arrays, "batch_key")
    weights = run(graph, arrays, {}).outputs["y"]
    allowed = arrays["mask"][:, None, :] & np.tril(np.ones((5, 4), bool))
    np.testing.assert_allclose(weights.sum(-1), allowed.any(-1), rtol=0, atol=1e-15)
    assert not weights[~allowed].any()


def test_dropout_acts_on_weights_while_training_only():
    """B5: of the weights behind the softmax each is 0 or divided by 1 - p; all of them are used in evaluation."""
    arrays = {**data(40, 50), "v": np.broadcast_to(np.eye(50), (BATCH, 50, 50)).copy()}  # so y is the weights
    graph = graph_for(DotProductAttention(dropout_p=0.25, name="a"), arrays)
    random = seed_words(7, 0)
    plain = run(graph, arrays, {}, training=False, random=random).outputs["y"]
    np.testing.assert_allclose(plain.sum(-1), 1.0)
    dropped = run(graph, arrays, {}, random=random).outputs["y"]
    kept = dropped != 0
    np.testing.assert_allclose(dropped[kept], plain[kept] / 0.75)
    assert abs(kept.mean() - 0.75) < 4 * math.sqrt(0.25 * 0.75 / kept.size)
    frozen = run(graph, arrays, {}, frozen=("a/dropout",), random=random).outputs["y"]
    np.testing.assert_array_equal(frozen, plain)
    again = run(graph, arrays, {}, random=seed_words(7, 1)).outputs["y"]
    assert ((again != 0) != kept).any()


def test_heads_split_and_merge_again():
    x = normal(2, 5, 6)
    y = run(graph_of(SplitHeads(3), x), {"x": x}, {}).outputs["y"]
    np.testing.assert_array_equal(y[1, 2], x[1, :, 4:6])
    back = run(graph_of(lambda t: MergeHeads()(SplitHeads(3)(t)), x), {"x": x}, {})
    np.testing.assert_array_equal(back.outputs["y"], x)


# -- positions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("time", "depth"), [(1, 1), (5, 4), (7, 5), (2000, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sinusoidal_positions(time, depth, dtype):
    x = normal(2, time, depth, dtype=dtype)
    wanted = np.empty((time, depth))
    for t in range(time):
        for i in range(depth):
            wanted[t, i] = (math.cos if i % 2 else math.sin)(t / 10000 ** ((i - i % 2) / depth))
    result = run(graph_of(PositionalEmbedding(), x), {"x": x}, {}, dtype=dtype)
    np.testing.assert_allclose(result.outputs["y"], x + wanted, rtol=0, atol=4 * np.finfo(dtype).eps * 4)
    assert result.outputs["y"].dtype == dtype


def test_learned_positions():
    x = normal(2, 3, 4)
    graph = graph_of(PositionalEmbedding(max_length=5, name="p"), x)
    arrays = random_arrays(graph, {"x": x})
    result = run(graph, {"x": x}, arrays)
    np.testing.assert_array_equal(result.outputs["y"], x + arrays["p/P"][:3])
    np.testing.assert_allclose(result.gradients["p/P"][:3], result.gradients["x"].sum(0))
    assert not result.gradients["p/P"][3:].any()
    with pytest.raises(ShapeError, match="max_length=5"):
        run(graph, {"x": normal(2, 6, 4)}, arrays)


# -- misfits -----------------------------------------------------------------------------------------------------------

Q, K, V = ("batch", "n_q", 4), ("batch", "n_k", 4), ("batch", "n_k", 3)


@pytest.mark.parametrize(
    ("error", "message", "layer", "inputs"),
    [
        (ShapeError, "queries and keys do not fit", DotProductAttention(), [Q, ("batch", "n_k", 5), V]),
        (ShapeError, "matrices do not fit", DotProductAttention(), [Q, K, ("batch", "n_v", 3)]),
        (ShapeError, "does not divide into the heads", DotProductAttention(n_heads=3), [Q, K, V]),
        (ShapeError, "the mask does not fit", DotProductAttention(), [Q, K, V, ("n_k", "n_q")]),
        (ShapeError, "the mask does not fit", DotProductAttention(), [Q, K, V, ("batch", "n_k", "n_q")]),
        (ShapeError, "two meanings", DotProductAttention(), [(5, 5, 4), (5, "n_k", 4), (5, "n_k", 4), (5, "n_k")]),
        (OptionError, "unknown axes", AttentionWeights(mask_axes="keys"), [Q, K, ("n_q", "n_k")]),
        (ShapeError, "positions belong to sequences", PositionalEmbedding(), [("batch", 4)]),
        (ShapeError, "no heads to merge", MergeHeads(), [Q]),
    ],
)
def test_misfits_are_found_at_declaration(error, message, layer, inputs):
    is_mask = len(inputs) == 4 or isinstance(layer, AttentionWeights)
    tensors = [Input(shape, dtype="bool" if is_mask and shape is inputs[-1] else "float32") for shape in inputs]
    with pytest.raises(error, match=message):
        layer(*tensors)


def test_a_mask_of_numbers_is_refused():
    """Numbers could be meant as weights, or as what is added to the scores."""
    with pytest.raises(DTypeError, match="True or False"):
        DotProductAttention()(Input(Q), Input(K), Input(V), Input(("batch", "n_k")))


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_a_dropout_out_of_range_is_refused(p):
    with pytest.raises(OptionError, match="out of range"):
        DotProductAttention(dropout_p=p)
