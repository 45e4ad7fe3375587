"""MultiHeadedAttentionModule: against torch, for all lengths, masks and sizes of heads."""

import json

import numpy as np
import pytest

from graphnn.errors import OptionError, ShapeError
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.model import Model
from graphnn.modules import MultiHeadedAttentionModule
from graphnn.ops.random import seed_words
from peers import compare, compare_training, descend, graph_of, normal, random_arrays, run

BATCH, D = 3, 6
MASKS = {"padding": ("batch", "n_k"), "pairs": ("n_q", "n_k"), "all": ("batch", "n_q", "n_k")}
PATHS = {f"m/{name}/{p}" for name in "QKVO" for p in ("W", "b")}


def data(n_q, n_k=None, mask=None, d_k=D, d_v=D):
    """q alone for self-attention, else q, k, v; every query may attend to something."""
    arrays = {"q": normal(BATCH, n_q, D)}
    if n_k is not None:
        arrays |= {"k": normal(BATCH, n_k, d_k, seed=1), "v": normal(BATCH, n_k, d_v, seed=2)}
    if mask is not None:
        sizes = {"batch": BATCH, "n_q": n_q, "n_k": n_k or n_q}
        arrays["mask"] = np.random.default_rng(3).random([sizes[name] for name in MASKS[mask]]) < 0.6
        arrays["mask"][..., 0] = True
    return arrays


def graph_for(arrays, mask=None, **options):
    names = {"q": "n_q", "k": "n_k", "v": "n_k"}
    inputs = {name: Input(("batch", names[name], x.shape[-1]), name) for name, x in arrays.items() if name != "mask"}
    if mask is not None:
        shape = tuple("n_q" if name == "n_k" and "k" not in arrays else name for name in MASKS[mask])
        inputs["mask"] = Input(shape, "mask", "bool")
    return Graph(list(inputs.values()), MultiHeadedAttentionModule(name="m", **options)(**inputs))


def twin(n_heads, causal=False, mask=None):
    """torch's multi-head attention with separate projections."""

    def outputs(x, p):
        import torch
        from torch.nn import functional

        q, k = x["q"], x.get("k", x["q"])
        v = x.get("v", k)
        shape = (len(q), q.shape[1], k.shape[1])
        allowed = torch.ones(shape, dtype=bool).tril() if causal else torch.ones(shape, dtype=bool)
        if mask is not None:
            given = x["mask"]
            allowed = allowed & {"padding": given[:, None], "pairs": given[None], "all": given}[mask]
        weights = [p[f"m/{name}/W"].T for name in "QKV"]
        y, _ = functional.multi_head_attention_forward(
            *(t.swapaxes(0, 1) for t in (q, k, v)), D, n_heads, None, torch.cat([p[f"m/{n}/b"] for n in "QKV"]),
            None, None, False, 0.0, p["m/O/W"].T, p["m/O/b"], need_weights=False,
            attn_mask=~allowed.repeat_interleave(n_heads, 0), use_separate_proj_weight=True,
            q_proj_weight=weights[0], k_proj_weight=weights[1], v_proj_weight=weights[2],
        )  # fmt: skip
        return y.swapaxes(0, 1)

    return outputs


@pytest.mark.peers
@pytest.mark.parametrize("n_heads", [1, 2, 6])
@pytest.mark.parametrize("n", range(1, 17, 3))
@pytest.mark.parametrize(("mask", "causal"), [(None, False), (None, True), ("padding", False), ("all", True)])
def test_self_attention_equals_torch(n, n_heads, mask, causal):
    """A28, A29, A30: lengths above 1 too, where Q and K have gradients other than 0."""
    if mask == "padding" and n == BATCH:
        n += 1  # the mask would have two meanings
    arrays = data(n, mask=mask)
    compare(graph_for(arrays, mask, n_heads=n_heads, causal=causal), twin(n_heads, causal, mask), arrays)


@pytest.mark.peers
@pytest.mark.parametrize(("n_q", "n_k"), [(1, 5), (5, 1), (2, 7), (16, 4)])
@pytest.mark.parametrize("mask", [None, *MASKS])
@pytest.mark.parametrize(("d_k", "d_v"), [(D, D), (4, 5)])
def test_attention_to_other_sequences_equals_torch(n_q, n_k, mask, d_k, d_v):
    """Lengths that differ, and keys and values of sizes of their own."""
    arrays = data(n_q, n_k, mask, d_k, d_v)
    compare(graph_for(arrays, mask, n_heads=2), twin(2, mask=mask), arrays)


@pytest.mark.peers
@pytest.mark.parametrize(("name", "options"), [("SGD", {"lr": 0.1, "momentum": 0.9}), ("Adam", {"lr": 0.05})])
def test_five_steps_equal_torch(name, options):
    """A1, A25, A26, B8: all projections are trained, and a second step is like the first."""
    arrays = data(4, 6, "padding")
    compare_training(graph_for(arrays, "padding", n_heads=3), twin(3, mask="padding"), arrays, name, options)


def test_all_projections_learn():
    """A26, A29: after a step of gradient descent each weight has moved."""
    arrays = data(5)
    graph = graph_for(arrays, n_heads=2)
    before = random_arrays(graph, arrays)
    losses, after = descend(graph, arrays, {"y": normal(BATCH, 5, D, seed=9)}, rate=0.3)
    assert set(before) == PATHS
    moved = {path for path in before if np.abs(after[path] - before[path]).max() > 1e-3}
    assert moved >= PATHS - {"m/K/b"}  # a bias of the keys adds the same to all scores of a query: no effect
    assert losses[-1] < 0.5 * losses[0]


def test_causal_attention_does_not_see_the_future():
    arrays = data(6)
    graph = graph_for(arrays, n_heads=2, causal=True)
    seed = np.zeros((BATCH, 6, D))
    seed[:, 2] = 1.0
    gradient = run(graph, arrays, random_arrays(graph, arrays), seeds={"y": seed}).gradients["q"]
    np.testing.assert_array_equal(np.abs(gradient).max((0, 2)) > 0, [True, True, True, False, False, False])


def test_padding_is_not_seen():
    """Junk in masked keys changes nothing, and gets no gradient; a query without keys gives b of O."""
    arrays = data(4, 5)
    arrays["mask"] = np.arange(5) < np.array([[3], [5], [0]])
    graph = graph_for(arrays, "padding", n_heads=2)
    weights = random_arrays(graph, arrays)
    junk = {**arrays, **{n: np.where(arrays["mask"][..., None], arrays[n], 1e3) for n in ("k", "v")}}
    clean, dirty = run(graph, arrays, weights), run(graph, junk, weights)
    np.testing.assert_allclose(clean.outputs["y"], dirty.outputs["y"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(clean.outputs["y"][2], np.broadcast_to(weights["m/O/b"], (4, D)), rtol=0, atol=1e-15)
    for name in ("k", "v"):
        assert not dirty.gradients[name][~arrays["mask"]].any()
    assert all(np.isfinite(g).all() for g in dirty.gradients.values())


def test_dropout_acts_while_training_only():
    """B5: and anew in each step."""
    arrays = data(5)
    graph = graph_for(arrays, n_heads=2, dropout_p=0.5)
    weights = random_arrays(graph, arrays)
    plain = run(graph_for(arrays, n_heads=2), arrays, weights).outputs["y"]
    off, *on = (
        run(graph, arrays, weights, training=training, random=seed_words(0, step)).outputs["y"]
        for training, step in ((False, 0), (True, 0), (True, 1))
    )
    np.testing.assert_array_equal(off, plain)
    assert all((a != b).any() for a, b in ((on[0], plain), (on[1], plain), (on[0], on[1])))


def test_nodes_and_hyperparameters():
    """A25, A26, A27, A32: projections are components; nothing has to be run before one may ask."""
    module = MultiHeadedAttentionModule(3, dropout_p=0.1, causal=True)
    options = {"n_heads": 3, "dropout_p": 0.1, "init": "glorot_uniform", "causal": True}
    assert json.loads(json.dumps(module.hyperparameters)) == options
    assert list(module.components) == ["attention"]
    module(Input(("batch", "time", D)))
    assert list(module.components) == ["Q", "K", "V", "attention", "O"]
    graph = graph_for(data(4), n_heads=3)
    assert [node.name for node in graph.node("m").graph.nodes] == ["Q", "K", "V", "attention", "O"]
    weights = graph.node("m").graph.node("attention").graph.node("weights")
    assert str(weights.spec) == "float32[batch, 3, n_q, n_q]"


def test_attention_weights_can_be_retained():
    """The seed's derived variable `attention_weights`, and its gradient, by path."""
    arrays = data(4, 5, "padding")
    model = Model(graph_for(arrays, "padding", n_heads=2), device="reference", dtype="float64")
    y = model.forward(**arrays, retain="m/attention/weights")
    weights = model.derived_variables["m/attention/weights"]
    assert weights.shape == (BATCH, 2, 4, 5)
    np.testing.assert_allclose(weights.sum(-1), 1.0)
    assert not np.broadcast_to(~arrays["mask"][:, None, None], weights.shape)[weights > 0].any()
    model.backward(np.ones_like(y))
    assert model.derived_variables["dLd/m/attention/weights"].any()


def test_a_model_forgets_one_batch_before_the_next():
    """A25, B8: any batch size after any other, forward and backward, as often as one likes."""
    model = Model(graph_for(data(4), n_heads=2), device="reference", dtype="float64")
    x = normal(BATCH, 4, D)
    first = model.forward(x)
    for batch, n in [(1, 7), (5, 2)]:
        y = model.forward(normal(batch, n, D))
        assert model.backward(np.ones_like(y)).shape == (batch, n, D)
    np.testing.assert_array_equal(model.forward(x), first)


def test_one_module_for_two_sequences_shares_its_parameters():
    module = MultiHeadedAttentionModule(2, name="m")
    x, z = Input(("batch", "time", D), "x"), Input(("batch", "other", D), "z")
    graph = Graph([x, z], {"a": module(x), "b": module(z)})
    inputs = {"x": normal(2, 3, D), "z": normal(2, 5, D)}
    assert set(random_arrays(graph, inputs)) == PATHS


def test_shapes_are_known_at_declaration():
    q, k = Input(("batch", "2*time", 8)), Input(("batch", "other", 5))
    assert str(MultiHeadedAttentionModule()(q, k).spec) == "float32[batch, 2*time, 8]"


def test_float32_stays_float32():
    x = normal(2, 3, D, dtype="float32")
    graph = graph_of(MultiHeadedAttentionModule(2, causal=True), x)
    result = run(graph, {"x": x}, random_arrays(graph, {"x": x}, "float32"), dtype="float32")
    assert {a.dtype.name for a in (*result.outputs.values(), *result.gradients.values())} == {"float32"}


@pytest.mark.parametrize("shape", [("batch", "time", 7), ("batch", 8), ("batch", "time", "d"), ("batch", "time", 0)])
def test_queries_that_do_not_divide_into_heads_are_refused(shape):
    """A18: with a typed error, not an assert."""
    with pytest.raises(ShapeError, match="multiple of n_heads=2"):
        MultiHeadedAttentionModule(2)(Input(shape))


def test_options_out_of_range_are_refused_at_construction():
    with pytest.raises(OptionError, match="n_heads >= 1"):
        MultiHeadedAttentionModule(0)
    with pytest.raises(OptionError, match="out of range"):
        MultiHeadedAttentionModule(2, dropout_p=1.0)
