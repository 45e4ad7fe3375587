"""check: the gradient of every node, and numbers that are finite."""

import json
from pathlib import Path

import pytest

from graphnn.cli import main

FAULTY = """
import graphnn as gnn
from graphnn import layers, ops


class Wrong(gnn.NumericLayer):
    def output_spec(self, x):
        return x

    def forward(self, xp, x):
        return 2 * x

    def backward(self, xp, inputs, outputs, cotangents):
        return 3 * cotangents[0]


class Root(gnn.Layer):
    def lower(self, scope, x):
        return ops.sqrt(x * x - 1e6)


class Whole(gnn.Layer):
    def lower(self, scope, x):
        return x.cast("int32")


x = gnn.Input(("batch", 4), name="x")
wrong = gnn.Graph(x, layers.Tanh(name="after")(Wrong(name="guilty")(x)), name="wrong")
root = gnn.Graph(x, Root(name="root")(x), name="root")
whole = gnn.Graph(x, Whole(name="whole")(layers.Linear(2, name="lost")(x)), name="whole")
"""


def test_a_sound_network_passes(capsys):
    assert main(["check", "net.py:graph", "--size", "batch=3"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("graph tiny with batch=3\n")
    assert "ok: 3 nodes, largest relative error" in out
    assert main(["check", "net.py:graph", "--json", "--training"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["ok"]
    assert [node["path"] for node in data["nodes"]] == ["dense", "tanh", "logits"]
    assert max(node["error"] for node in data["nodes"]) < 1e-6


def test_real_data_may_be_given(capsys):
    assert main(["check", "net.py:graph", "--data", "data.npz"]) == 0
    assert "ok: 3 nodes" in capsys.readouterr().out


@pytest.fixture
def faulty():
    Path("faulty.py").write_text(FAULTY, encoding="utf-8")


def test_a_wrong_gradient_is_named(faulty, capsys):
    assert main(["check", "faulty.py:wrong"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("graphnn: guilty: gradients disagree")
    assert main(["check", "faulty.py:wrong", "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert (data["ok"], data["error"]["where"]) == (False, "guilty")


def test_numbers_that_are_not_finite_are_named(faulty, capsys):
    assert main(["check", "faulty.py:root"]) == 1
    assert "root: an output is not finite" in capsys.readouterr().err


def test_parameters_that_no_gradient_reaches_are_noted(faulty, capsys):
    assert main(["check", "faulty.py:whole"]) == 0
    assert "note: no gradient reaches the parameters of lost" in capsys.readouterr().out


def test_infinities_are_named_and_not_warned_of(run):
    text = "import graphnn as gnn\nfrom graphnn import layers\nx = gnn.Input(('batch', 4), name='x')\n"
    text += "h = layers.Exponential(name='grow')(layers.ScalarMultiply(1e4, name='much')(x))\ngraph = gnn.Graph(x, h)\n"
    Path("large.py").write_text(text, encoding="utf-8")
    code, _, err = run("check", "large.py:graph")
    assert code == 1
    assert err.startswith("graphnn: grow: an output is not finite\n")
