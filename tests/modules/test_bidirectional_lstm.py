"""BidirectionalLSTM: against torch, in all merge modes, with and without lengths."""

import json

import numpy as np
import pytest

from graphnn.errors import OptionError, ShapeError
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.layers.activation import Sigmoid, Tanh
from graphnn.model import Model
from graphnn.modules import BidirectionalLSTM
from peers import compare, compare_training, descend, normal, random_arrays, run

MODES = ("sum", "multiply", "concat", "average")
N_IN, N_OUT = 3, 4


def graph_for(lengths=False, **options):
    """The module on (batch, time, n_in), or the other layout, and perhaps lengths."""
    shape = ("batch", N_IN, "time") if options.get("layout") == "batch_feature_time" else ("batch", "time", N_IN)
    inputs = [Input(shape, "x")]
    if lengths:
        inputs.append(Input(("batch",), "lengths", "int64"))
    return Graph(inputs, BidirectionalLSTM(N_OUT, name="b", **options)(*inputs))


def twin(mode, time):
    """torch's own bidirectional LSTM, on packed sequences where there are lengths."""

    def outputs(x, p):
        import torch
        from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

        module = torch.nn.LSTM(N_IN, N_OUT, batch_first=True, bidirectional=True, dtype=torch.float64)
        arrays = {}
        for cell, suffix in (("cell_fwd", ""), ("cell_bwd", "_reverse")):
            w, u, b = (p[f"b/{cell}/{name}"] for name in ("W", "U", "b"))
            zeros = torch.zeros_like(b)
            values = {"weight_ih": w.T, "weight_hh": u.T, "bias_ih": b, "bias_hh": zeros}
            arrays |= {f"{name}_l0{suffix}": value for name, value in values.items()}
        given = x["x"]
        if "lengths" in x:
            given = pack_padded_sequence(given, x["lengths"], batch_first=True, enforce_sorted=False)
        y, _ = torch.func.functional_call(module, arrays, (given,))
        if "lengths" in x:
            y, _ = pad_packed_sequence(y, batch_first=True, total_length=time)
        forward, backward = y.split(N_OUT, dim=-1)
        merged = {"sum": forward + backward, "multiply": forward * backward, "average": (forward + backward) / 2}
        return merged.get(mode, y)

    return outputs


@pytest.mark.peers
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("time", [1, 2, 5, 16])
@pytest.mark.parametrize("with_lengths", [False, True])
def test_module_equals_torch(mode, time, with_lengths):
    """A2: all four modes have the right gradients, that by multiplication too; packed sequences as in torch."""
    arrays = {"x": normal(3, time, N_IN)}
    if with_lengths:
        arrays["lengths"] = np.array([(time + 1) // 2, time, 1])
    compare(graph_for(with_lengths, merge_mode=mode), twin(mode, time), arrays)


@pytest.mark.peers
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "options"), [("SGD", {"lr": 0.5, "momentum": 0.9}), ("Adam", {"lr": 0.05})])
def test_five_steps_equal_torch(mode, name, options):
    """A1, A4, A5: nothing of one step is left over in the next."""
    arrays = {"x": normal(3, 5, N_IN), "lengths": np.array([5, 2, 3])}
    compare_training(graph_for(lengths=True, merge_mode=mode), twin(mode, 5), arrays, name, options)


@pytest.mark.parametrize("mode", MODES)
def test_time_may_come_last(mode):
    """The seed's layout: (batch, features, time) in and out; the parameters are the same."""
    x = normal(3, 5, N_IN)
    plain, last = graph_for(merge_mode=mode), graph_for(merge_mode=mode, layout="batch_feature_time")
    arrays = random_arrays(plain, {"x": x})
    wanted = run(plain, {"x": x}, arrays).outputs["y"]
    y = run(last, {"x": x.swapaxes(1, 2).copy()}, arrays).outputs["y"]
    np.testing.assert_array_equal(y, wanted.swapaxes(1, 2))


def test_first_half_of_concat_sees_the_past_and_second_half_the_future():
    x = normal(1, 6, N_IN)
    graph = graph_for()
    arrays = random_arrays(graph, {"x": x})
    before, after = (run(graph, {"x": x + bump}, arrays).outputs["y"][0] for bump in (0.0, np.eye(6)[None, :, 2:3]))
    changed = (before != after).reshape(6, 2, N_OUT).any(-1)
    np.testing.assert_array_equal(changed[:, 0], [False, False, True, True, True, True])
    np.testing.assert_array_equal(changed[:, 1], [True, True, True, False, False, False])


def test_no_state_leaks_between_forwards():
    """A4: the same X twice gives the same Y, and another batch size in between is no problem."""
    x = normal(3, 5, N_IN)
    graph = graph_for()
    arrays = random_arrays(graph, {"x": x})
    first = run(graph, {"x": x}, arrays)
    run(graph, {"x": normal(8, 2, N_IN)}, arrays)
    again = run(graph, {"x": x}, arrays)
    np.testing.assert_array_equal(again.outputs["y"], first.outputs["y"])
    assert all(np.array_equal(again.gradients[name], g) for name, g in first.gradients.items())


def test_a_model_forgets_one_batch_before_the_next():
    """A4, A5: the same by way of a Model, with backward passes in between."""
    model = Model(graph_for(), device="reference", dtype="float64")
    x = normal(3, 5, N_IN)
    first = model.forward(x)
    for batch, time in [(1, 7), (5, 2)]:
        y = model.forward(normal(batch, time, N_IN))
        assert model.backward(np.ones_like(y)).shape == (batch, time, N_IN)
    np.testing.assert_array_equal(model.forward(x), first)


@pytest.mark.parametrize("mode", MODES)
def test_100_training_steps(mode):
    """A1, A5: training goes on, and learns."""
    x = normal(4, 6, N_IN)
    graph = graph_for(merge_mode=mode)
    wanted = run(graph, {"x": x}, {n: 2 * a for n, a in random_arrays(graph, {"x": x}).items()}).outputs
    losses, _ = descend(graph, {"x": x}, wanted, rate=20.0 if mode == "multiply" else 2.0)
    assert losses[-1] < 0.3 * losses[0]


def test_float32_stays_float32():
    x = normal(3, 5, N_IN, dtype="float32")
    graph = graph_for(lengths=True, merge_mode="average")
    arrays = random_arrays(graph, {"x": x, "lengths": np.array([1, 2, 5])}, "float32")
    result = run(graph, {"x": x, "lengths": np.array([1, 2, 5])}, arrays, dtype="float32")
    assert {a.dtype.name for a in (*result.outputs.values(), *result.gradients.values())} == {"float32"}


@pytest.mark.parametrize(
    ("mode", "layout", "expected"),
    [
        ("concat", "batch_time_feature", "float32[batch, 2*time - 1, 8]"),
        ("sum", "batch_time_feature", "float32[batch, 2*time - 1, 4]"),
        ("concat", "batch_feature_time", "float32[batch, 8, 2*time - 1]"),
    ],
)
def test_shapes_are_known_at_declaration(mode, layout, expected):
    """A35: what the module takes and gives, before any array is there."""
    shape = ("batch", "2*time - 1", 3) if layout == "batch_time_feature" else ("batch", 3, "2*time - 1")
    y = BidirectionalLSTM(4, merge_mode=mode, layout=layout)(Input(shape))
    assert str(y.spec) == expected


def test_nodes_and_hyperparameters():
    """A32: gate_fn is there too, so that the module can be made again; the components have their names."""
    module = BidirectionalLSTM(4, gate_fn="hard_sigmoid", merge_mode="sum")
    assert list(module.components) == ["cell_fwd", "cell_bwd", "merge"]
    assert json.loads(json.dumps(module.hyperparameters)) == {
        "n_out": 4, "act_fn": None, "gate_fn": "hard_sigmoid", "merge_mode": "sum", "init": "glorot_uniform",
        "layout": "batch_time_feature",
    }  # fmt: skip
    assert [node.name for node in graph_for().node("b").graph.nodes] == ["cell_fwd", "cell_bwd", "merge"]


def test_defaults_are_tanh_and_sigmoid():
    x = normal(2, 3, N_IN)
    default, named = graph_for(), graph_for(act_fn=Tanh(), gate_fn=Sigmoid())
    arrays = random_arrays(default, {"x": x})
    np.testing.assert_array_equal(
        run(default, {"x": x}, arrays).outputs["y"], run(named, {"x": x}, arrays).outputs["y"]
    )


@pytest.mark.parametrize(
    "options", [{"merge_mode": "multiplty"}, {"merge_mode": None}, {"layout": "time_batch_feature"}]
)
def test_unknown_options_are_refused_at_construction(options):
    """A2, A3: with the known ones in the message."""
    with pytest.raises(OptionError, match=next(iter(options))) as error:
        BidirectionalLSTM(4, **options)
    assert "concat" in error.value.expected or "batch_feature_time" in error.value.expected


def test_misfits_are_found_at_declaration():
    with pytest.raises(ShapeError, match="takes sequences"):
        BidirectionalLSTM(4)(Input(("batch", 3)))
    with pytest.raises(ShapeError, match="one integer per example"):
        BidirectionalLSTM(4)(Input(("batch", "time", 3)), Input(("time",), dtype="int64"))
