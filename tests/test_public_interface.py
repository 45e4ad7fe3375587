"""The public interface as the project promises it: this code runs as written."""

import json
import sys

import numpy as np
import pytest

import graphnn as gnn
from graphnn import layers, losses, modules, optimizers


def residual():
    x = gnn.Input(("batch", "time", 32), name="x_main")
    skip = gnn.Input(("batch", "time", 32), name="x_skip", optional=True)
    h = layers.Conv1D(64, kernel_width=2, dilation=4, pad="causal", name="conv_dilation")(x)
    z = layers.Multiply(name="multiply_gate")(layers.Tanh(name="tanh")(h), layers.Sigmoid(name="sigm")(h))
    o = layers.Conv1D(32, kernel_width=1, name="conv_1x1")(z)
    outputs = {"y_main": layers.Add(name="add_residual")(x, o), "y_skip": layers.Add(name="add_skip")(skip, o)}
    return gnn.Graph([x, skip], outputs, name="residual")


class Block(gnn.Module):
    def __init__(self, ch):
        super().__init__()
        self.conv = layers.Conv1D(ch, kernel_width=3, pad="same")
        self.act = layers.ReLU()

    def forward(self, x):
        return self.act(self.conv(x)) + x


a, b = (np.random.default_rng(seed).standard_normal((2, 9, 32)) for seed in (0, 1))


def test_a_graph_is_read_drawn_and_saved(tmp_path):
    graph = residual()
    assert [node.name for node in graph.nodes] == [
        "conv_dilation", "tanh", "sigm", "multiply_gate", "conv_1x1", "add_residual", "add_skip",
    ]  # fmt: skip
    assert len(graph.edges) == 10
    assert graph.schedule() == graph.nodes
    assert graph.backward_schedule() == graph.nodes[::-1]
    assert "conv_1x1" in str(graph.summary())
    assert graph.to_networkx().number_of_edges() == 10
    assert "conv_1x1" in graph.to_graphviz().source
    assert graph.to_svg(view="forward", depth=None).startswith("<svg")
    for ending in ("svg", "html", "dot"):
        graph.render(tmp_path / f"residual.{ending}")
        assert (tmp_path / f"residual.{ending}").stat().st_size > 1000
    text = graph.to_json()
    assert gnn.Graph.from_json(text).to_json() == text


def test_a_graph_is_a_layer_that_shares_its_weights():
    graph = residual()
    other = gnn.Input(("batch", "time", 32), name="other")
    first = graph(other)
    second = graph(first["y_main"], first["y_skip"])
    stack = gnn.Model(gnn.Graph(other, second["y_skip"]))
    assert list(stack.parameters) == [f"residual/{path}" for path in gnn.Model(graph).parameters]
    block = gnn.Input(("batch", "time", 8), name="x")
    assert gnn.Graph(block, Block(8)(block)).nodes[0].graph.nodes[2].name == "add"


def test_a_model_runs_forward_and_backward_and_accumulates():
    model = gnn.Model(residual(), seed=0, device="cpu", dtype="float32")
    out = model.forward(x_main=a, x_skip=b, training=False, retain=())
    assert set(out) == {"y_main", "y_skip"}
    grads = model.backward(y_main=a, y_skip=b)
    assert set(grads) == {"x_main", "x_skip"}
    once = model.gradients["conv_dilation/W"].copy()
    run = model.run(x_main=a, x_skip=b)
    run.backward(y_main=a, y_skip=b)
    np.testing.assert_array_equal(model.gradients["conv_dilation/W"], 2 * once)
    np.testing.assert_array_equal(run.outputs["y_main"], out["y_main"])
    model.cleargrads()
    assert not model.gradients["conv_dilation/W"].any()
    model.forward(x_main=a, retain=["conv_dilation", "tanh"])
    model.backward(y_main=a)
    assert set(model.derived_variables) == {"conv_dilation", "tanh", "dLd/conv_dilation", "dLd/tanh"}
    with pytest.raises(gnn.ParameterError):
        model.parameters["conv_dilation/W"] = np.zeros((1, 2))


def test_a_model_is_frozen_saved_described_and_checked(tmp_path):
    model, twin = gnn.Model(residual(), seed=0), gnn.Model(residual(), seed=1)
    model.freeze("conv_*")
    assert "frozen" in str(model.summary())
    model.unfreeze()
    model.to_cpu().save_weights(tmp_path / "m.npz")
    twin.load_weights(tmp_path / "m")
    np.testing.assert_array_equal(twin.forward(a)["y_main"], model.forward(a)["y_main"])
    third = gnn.Model(residual(), seed=2)
    third.set_params(json.loads(json.dumps(model.summary().to_dict())))
    np.testing.assert_array_equal(third.forward(a)["y_main"], model.forward(a)["y_main"])
    assert json.dumps(model.hyperparameters)
    assert len(gnn.check_gradients(model, x_main=a, x_skip=b).nodes) == 7


def test_a_trainer_fits_evaluates_predicts_and_plots(tmp_path):
    x = gnn.Input(("batch", 6), name="x")
    model = gnn.Model(gnn.Graph(x, layers.Linear(3)(layers.Linear(16, act_fn="relu")(x))))
    trainer = gnn.Trainer(model, loss=losses.CrossEntropy(), optimizer=optimizers.Adam(1e-2), metrics=["accuracy"])
    given = np.random.default_rng(0).standard_normal((90, 6))
    labels = given[:, :3].argmax(1)
    first = trainer.train_step(given, labels)
    assert isinstance(first, float)
    history = trainer.fit(
        (given, labels), epochs=5, batch_size=64, validation=(given, labels), callbacks=[gnn.EarlyStopping()], seed=0
    )
    assert history["loss"][-1] < first
    assert trainer.evaluate((given, labels))["accuracy"] > 0.3
    assert trainer.predict(given).shape == (90, 3)
    history.plot(tmp_path / "loss.svg")
    assert (tmp_path / "loss.svg").read_text().startswith("<svg")


def test_a_gpu_that_is_not_there_is_a_typed_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not installed
    with pytest.raises(gnn.BackendError, match=r"needs CuPy[\s\S]*fix: pip install"):
        gnn.Model(residual(), device="cuda")
    with pytest.raises(gnn.BackendError, match="unknown device"):
        gnn.Model(residual(), device="tpu")


def test_modules_of_the_seed_are_there():
    assert {"WavenetResidualModule", "SkipConnectionIdentityModule", "SkipConnectionConvModule"} <= set(modules.__all__)
    assert {"BidirectionalLSTM", "MultiHeadedAttentionModule"} <= set(modules.__all__)
