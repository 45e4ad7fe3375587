"""RNN, GRU, LSTM and their cells: against torch, and what lengths, first states and directions mean."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphnn.errors import DTypeError, GraphError, OptionError, ShapeError
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.initializers import initializer
from graphnn.layers.activation import ReLU
from graphnn.layers.recurrent import GRU, LSTM, RNN, ForgetBias, GRUCell, LSTMCell, RNNCell
from graphnn.ops.random import RandomStream
from peers import Arrays, compare, random_arrays, run

LAYERS = {"rnn": RNN, "gru": GRU, "lstm": LSTM}
CELLS = {"rnn": RNNCell, "gru": GRUCell, "lstm": LSTMCell}
STATES = {"rnn": ("h",), "gru": ("h",), "lstm": ("h", "c")}
KINDS = pytest.mark.parametrize("kind", LAYERS)


def data(batch=3, time=4, n_in=2, n_out=5, lengths=None, states=(), dtype="float64"):
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(batch, time, n_in)).astype(dtype)}
    if lengths is not None:
        arrays["lengths"] = np.array(lengths)
    return arrays | {f"{s}0": rng.normal(size=(batch, n_out)).astype(dtype) for s in states}


def graph_of(layer, arrays):
    """The layer on all the arrays, named, with names for batch and time."""
    sizes = {"x": ("batch", "time", arrays["x"].shape[-1]), "lengths": ("batch",)}
    dtypes = {"lengths": "int64"}
    tensors = {n: Input(sizes.get(n, ("batch", x.shape[-1])), n, dtypes.get(n, "float32")) for n, x in arrays.items()}
    return Graph(list(tensors.values()), layer(*tensors.values()))


# -- torch -------------------------------------------------------------------------------------------------------------


def twin(kind, layer, x, p: Arrays, path=""):
    """torch's layer of the same kind on our arrays; {"y", states} as our layer gives with return_state."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    inputs, lengths, names = x["x"], x.get("lengths"), STATES[kind]
    module = getattr(torch.nn, kind.upper())(inputs.shape[-1], layer.n_out, batch_first=True, dtype=torch.float64)
    n, w, u, b = layer.n_out, *(p[f"{path}{kind}/{name}"] for name in ("W", "U", "b"))
    hidden = torch.zeros_like(b)
    if kind == "gru":
        hidden = torch.cat([hidden[: 2 * n], p[f"{path}gru/b_hidden"]])
    arrays = {"weight_ih_l0": w.T, "weight_hh_l0": u.T, "bias_ih_l0": b, "bias_hh_l0": hidden}
    time = inputs.shape[1]
    if layer.reverse:
        inputs = flip(inputs, lengths)
    given = inputs if lengths is None else pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    first = tuple(x[f"{s}0"][None] for s in names if f"{s}0" in x)
    first = () if not first else (first if kind == "lstm" else first[0],)
    y, last = torch.func.functional_call(module, arrays, (given, *first))
    if lengths is not None:
        y = pad_packed_sequence(y, batch_first=True, total_length=time)[0]
    last = last if kind == "lstm" else (last,)
    return {"y": flip(y, lengths) if layer.reverse else y, **{s: h[0] for s, h in zip(names, last, strict=True)}}


def flip(x, lengths):
    """Each example's steps in reverse order; those behind its length stay where they are."""
    import torch

    if lengths is None:
        return x.flip(1)
    rows = [torch.cat([row[:n].flip(0), row[n:]]) for row, n in zip(x, lengths.tolist(), strict=True)]
    return torch.stack(rows)


@pytest.mark.peers
@KINDS
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("time", [1, 2, 7])
@pytest.mark.parametrize("extras", ["", "lengths", "states", "both"])
def test_layer_equals_torch(kind, reverse, time, extras):
    lengths = [time, 1, (time + 1) // 2] if extras in ("lengths", "both") else None
    arrays = data(time=time, lengths=lengths, states=STATES[kind] if extras in ("states", "both") else ())
    layer = LAYERS[kind](5, reverse=reverse, return_state=True, name=kind)
    compare(graph_of(layer, arrays), lambda x, p: twin(kind, layer, x, p), arrays)


@pytest.mark.peers
@KINDS
def test_the_last_output_alone_equals_torch(kind):
    arrays, layer = data(lengths=[4, 2, 3]), LAYERS[kind](5, return_sequences=False, name=kind)
    compare(graph_of(layer, arrays), lambda x, p: twin(kind, layer, x, p)["h"], arrays)


@pytest.mark.peers
@KINDS
def test_cell_equals_torch(kind):
    import torch

    rng, names = np.random.default_rng(0), STATES[kind]
    arrays = {"x": rng.normal(size=(3, 2)), **{s: rng.normal(size=(3, 5)) for s in names}}
    inputs = [Input(("batch", x.shape[1]), name) for name, x in arrays.items()]
    outputs = CELLS[kind](5, name=kind)(*inputs)
    graph = Graph(
        inputs, dict(zip(("out_h", "out_c"), outputs, strict=False)) if kind == "lstm" else {"out_h": outputs}
    )

    def cell(x, p):
        module = getattr(torch.nn, f"{kind.upper()}Cell")(2, 5, dtype=torch.float64)
        w, u, b = (p[f"{kind}/{name}"] for name in ("W", "U", "b"))
        hidden = torch.cat([torch.zeros_like(b[:10]), p["gru/b_hidden"]]) if kind == "gru" else torch.zeros_like(b)
        weights = {"weight_ih": w.T, "weight_hh": u.T, "bias_ih": b, "bias_hh": hidden}
        state = (x["h"], x["c"]) if kind == "lstm" else x["h"]
        out = torch.func.functional_call(module, weights, (x["x"], state))
        return dict(zip(("out_h", "out_c"), out if kind == "lstm" else (out,), strict=False))

    compare(graph, cell, arrays)


@pytest.mark.peers
def test_activations_may_be_chosen():
    import torch

    arrays, layer = data(), LSTM(5, ReLU(), "hard_sigmoid", name="lstm")

    def by_hand(x, p):
        h = c = torch.zeros(3, 5, dtype=torch.float64)
        steps = []
        for t in range(4):
            z = x["x"][:, t] @ p["lstm/W"] + p["lstm/b"] + h @ p["lstm/U"]
            i, f, g, o = z.split(5, dim=1)
            i, f, o = ((0.2 * gate + 0.5).clamp(0, 1) for gate in (i, f, o))
            c = f * c + i * g.relu()
            h = o * c.relu()
            steps.append(h)
        return torch.stack(steps, 1)

    compare(graph_of(layer, arrays), by_hand, arrays)


# -- without torch -----------------------------------------------------------------------------------------------------


@KINDS
def test_a_layer_is_its_cell_step_by_step(kind):
    arrays = data(time=3, states=STATES[kind])
    graph = graph_of(LAYERS[kind](5, return_state=True, name="n"), arrays)
    weights = random_arrays(graph, arrays)
    whole = run(graph, arrays, weights).outputs
    inputs = [Input(("batch", 2), "x"), *(Input(("batch", 5), f"{s}0") for s in STATES[kind])]
    cell = Graph(inputs, CELLS[kind](5, name="n")(*inputs))
    states = [arrays[f"{s}0"] for s in STATES[kind]]
    for t in range(3):
        given = {"x": arrays["x"][:, t], **{f"{s}0": a for s, a in zip(STATES[kind], states, strict=True)}}
        states = list(run(cell, given, weights).outputs.values())
        np.testing.assert_allclose(whole["y"][:, t], states[0], rtol=0, atol=1e-14)
    for name, state in zip(STATES[kind], states, strict=True):
        np.testing.assert_allclose(whole[name], state, rtol=0, atol=1e-14)


@KINDS
@settings(max_examples=10)
@given(st.data())
def test_what_lies_behind_the_length_is_not_seen(kind, data_of):
    """Junk behind the length changes neither outputs nor gradients, and gets the gradient 0."""
    time, reverse = data_of.draw(st.integers(1, 5)), data_of.draw(st.booleans())
    lengths = data_of.draw(st.lists(st.integers(0, time), min_size=3, max_size=3))
    arrays = data(time=time, lengths=lengths)
    graph = graph_of(LAYERS[kind](5, reverse=reverse, return_state=True, name="n"), arrays)
    weights = random_arrays(graph, arrays)
    padding = np.arange(time)[None, :, None] >= np.array(lengths)[:, None, None]
    clean = run(graph, {**arrays, "x": np.where(padding, 0.0, arrays["x"])}, weights)
    dirty = run(graph, {**arrays, "x": np.where(padding, 1e3, arrays["x"])}, weights)
    for ours, theirs in ((clean.outputs, dirty.outputs), (clean.gradients, dirty.gradients)):
        for name in ours:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=1e-12)
    assert not np.any(dirty.outputs["y"][np.broadcast_to(padding, dirty.outputs["y"].shape)])
    assert not np.any(dirty.gradients["x"][np.broadcast_to(padding, arrays["x"].shape)])


@KINDS
def test_reverse_is_the_layer_on_the_reversed_sequence(kind):
    arrays = data()
    forward, backward = (graph_of(LAYERS[kind](5, reverse=reverse, name="n"), arrays) for reverse in (False, True))
    weights = random_arrays(forward, arrays)
    y = run(backward, arrays, weights).outputs["y"]
    flipped = run(forward, {"x": arrays["x"][:, ::-1]}, weights).outputs["y"]
    np.testing.assert_array_equal(y, flipped[:, ::-1])


@KINDS
@pytest.mark.parametrize("time", [0, 1])
def test_empty_and_one_step_sequences(kind, time):
    arrays = data(time=time, states=STATES[kind])
    graph = graph_of(LAYERS[kind](5, return_state=True, name="n"), arrays)
    result = run(graph, arrays, random_arrays(graph, arrays))
    assert result.outputs["y"].shape == (3, time, 5)
    if time == 0:
        np.testing.assert_array_equal(result.outputs["h"], arrays["h0"])
        assert not result.gradients["n/U"].any()


@KINDS
def test_no_state_leaks_from_one_run_to_the_next(kind):
    """A4, A5: the same input gives the same output again, also after another batch size."""
    arrays = data()
    graph = graph_of(LAYERS[kind](5, name="n"), arrays)
    weights = random_arrays(graph, arrays)
    first = run(graph, arrays, weights)
    run(graph, data(batch=7), weights)
    again = run(graph, arrays, weights)
    np.testing.assert_array_equal(first.outputs["y"], again.outputs["y"])
    assert all(np.array_equal(first.gradients[name], again.gradients[name]) for name in first.gradients)


@KINDS
def test_float32_stays_float32(kind):
    arrays = data(dtype="float32", lengths=[4, 2, 3], states=STATES[kind])
    graph = graph_of(LAYERS[kind](5, return_state=True, name="n"), arrays)
    result = run(graph, arrays, random_arrays(graph, arrays, "float32"), dtype="float32")
    assert {x.dtype.name for x in (*result.outputs.values(), *result.gradients.values())} == {"float32"}


def test_a_new_lstm_remembers():
    b = ForgetBias()(RandomStream(0, "b"), (8,), "float64")
    np.testing.assert_array_equal(b, [0, 0, 1, 1, 0, 0, 0, 0])
    assert initializer(ForgetBias(2.0).to_config()) == ForgetBias(2.0)
    graph = graph_of(LSTM(2, forget_bias=0.5, name="n"), data())
    assert {d.path: d.initializer for d in graph.nodes[0].declarations}["/b"] == ForgetBias(0.5)


X = ("batch", "time", 2)


@pytest.mark.parametrize(
    ("error", "message", "layer", "inputs"),
    [
        (ShapeError, "takes sequences", LSTM(3), [(("batch", 2), "float32")]),
        (ShapeError, "a state does not fit", LSTM(3), [(X, "float32"), *[(("batch", 4), "float32")] * 2]),
        (ShapeError, "one integer per example", GRU(3), [(X, "float32"), (("time",), "int64")]),
        (DTypeError, "one integer per example", GRU(3), [(X, "float32"), (("batch",), "bool")]),
        (GraphError, "the first h and c", LSTM(3), [(X, "float32"), (("batch", 3), "float32")]),
        (GraphError, "wrong inputs", RNN(3), [(X, "float32"), *[(("batch",), "int64")] * 2]),
        (ShapeError, "takes one step", RNNCell(3), [(X, "float32"), (("batch", 3), "float32")]),
        (
            ShapeError,
            "a state does not fit",
            LSTMCell(3),
            [(("batch", 2), "float32"), *[(("batch", 2), "float32")] * 2],
        ),
        (GraphError, "wrong number of inputs", LSTMCell(3), [(("batch", 2), "float32")]),
    ],
)
def test_misfits_are_found_at_declaration(error, message, layer, inputs):
    with pytest.raises(error, match=message):
        layer(*(Input(shape, dtype=dtype) for shape, dtype in inputs))


def test_an_unknown_activation_is_found_at_declaration():
    for layer in (LSTM(3, "tangens"), GRU(3, gate_fn="sigmoide")):
        with pytest.raises(OptionError, match="unknown activation"):
            layer(Input(X))
