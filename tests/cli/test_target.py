"""Targets: files that are run, modules that are imported, and graph files, which are only read."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from graphnn.backends.choose import backend_for
from graphnn.cli import main
from graphnn.cli.target import load_graph, load_model, load_target, on_device
from graphnn.errors import FileFormatError, GraphError, ShapeError


@pytest.mark.parametrize("name", ["graph", "model", "build"])
@pytest.mark.parametrize("form", ["net.py:{}", "./net.py:{}", "net:{}"])
def test_a_name_is_a_graph_a_model_or_a_function(form, name, monkeypatch):
    monkeypatch.delitem(sys.modules, "net", raising=False)
    before = list(sys.path)
    assert [node.name for node in load_graph(form.format(name)).nodes] == ["dense", "tanh", "logits"]
    assert sys.path == before


def test_a_model_keeps_its_weights_unless_a_seed_is_given():
    assert load_model("net.py:model").seed == 7
    assert load_model("net.py:model", seed=3).seed == 3
    assert load_model("net.py:graph").seed == 0


def test_a_module_in_a_package(monkeypatch):
    Path("deep/er").mkdir(parents=True)
    Path("deep/__init__.py").touch()
    Path("deep/er/__init__.py").write_text("from deep.er.net import graph as again\n", encoding="utf-8")
    Path("deep/er/net.py").write_text(Path("net.py").read_text(encoding="utf-8"), encoding="utf-8")
    assert load_graph("deep.er.net:graph").name == "tiny"
    assert load_graph("deep.er:again").name == "tiny"
    for name in [name for name in sys.modules if name.partition(".")[0] == "deep"]:
        monkeypatch.delitem(sys.modules, name)


def test_a_file_may_import_what_lies_beside_it(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "beside_it.py").write_text("width = 5\n", encoding="utf-8")
    text = "import graphnn as gnn\nfrom beside_it import width\nfrom graphnn import layers\n"
    text += "x = gnn.Input(('batch', 2), name='x')\ngraph = gnn.Graph(x, layers.Linear(width)(x))\n"
    (tmp_path / "sub" / "net.py").write_text(text, encoding="utf-8")
    assert load_graph("sub/net.py").output_specs[0].shape[1] == 5
    del sys.modules["beside_it"]


def test_a_name_may_be_left_out_where_there_is_only_one():
    text = Path("net.py").read_text(encoding="utf-8").replace("other = ", "_ = ")
    Path("one.py").write_text(text.replace('_ = gnn.Graph(x, layers.ReLU(name="relu")(x), name="other")', ""))
    assert load_target("one.py").seed == 7  # the model of the graph
    with pytest.raises(GraphError, match="which one") as caught:
        load_target("net.py")
    assert "graph, model, other" in str(caught.value)


def test_a_file_of_functions_alone_needs_a_name():
    Path("functions.py").write_text("def build():\n    return None\n", encoding="utf-8")
    with pytest.raises(GraphError, match=r"there is no network[\s\S]*functions\.py:name with the name of a function"):
        load_target("functions.py")


@pytest.mark.parametrize("target", ["chatty.py:graph", "chatty:graph", "chatty.py:build"])
def test_what_the_users_code_prints_is_no_result(target, run):
    text = Path("net.py").read_text(encoding="utf-8").replace("def build():", "def build():\n    print('built')")
    Path("chatty.py").write_text(text + "print('loaded')\n", encoding="utf-8")
    code, out, err = run("summary", target, "--json")
    assert (code, json.loads(out)["name"]) == (0, "tiny")
    assert "loaded\n" in err


def test_a_graph_file_is_read_and_runs_nothing():
    Path("tiny.json").write_text(load_graph("net.py:graph").to_json(), encoding="utf-8")
    Path("with:colon.json").write_text(Path("tiny.json").read_text(encoding="utf-8"), encoding="utf-8")
    assert load_graph("tiny.json").name == load_graph("with:colon.json").name == "tiny"
    data = json.loads(Path("tiny.json").read_text(encoding="utf-8"))
    text = json.dumps(data).replace('"Tanh"', '"builtins.exit"')
    Path("bad.json").write_text(text, encoding="utf-8")
    with pytest.raises((GraphError, FileFormatError)):
        load_graph("bad.json")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nowhere.py:graph", "no such file"),
        ("nowhere.json", "no such file"),
        ("no_such_module:graph", "ModuleNotFoundError"),
        ("net.py:missing", "there is no such name\n  expected: a Graph or Model: graph, model, other\n  got: missing"),
        ("net.py:number", "got: 3"),
        ("net.py:broken", "NameError: name 'undefined_name' is not defined"),
        ("data.npz", "no text"),
    ],
)
def test_what_cannot_be_loaded_says_why(target, words):
    with pytest.raises(GraphError, match=target.replace(".", r"\.")) as caught:
        load_target(target)
    assert words in str(caught.value)


@pytest.mark.parametrize("line", ["1 / 0", "def f(:", "import no_such_module"])
def test_an_error_in_the_users_file_names_the_line(line):
    Path("bad.py").write_text(f"a = 1\n\n{line}\n", encoding="utf-8")
    with pytest.raises(GraphError, match="cannot be run") as caught:
        load_target("bad.py:graph")
    assert caught.value.declared_at == ("bad.py", 3)


def test_an_error_of_graphnn_in_the_users_file_stays_what_it_is():
    text = Path("net.py").read_text(encoding="utf-8") + "layers.Add()(x, hidden)\n"
    Path("bad.py").write_text(text, encoding="utf-8")
    with pytest.raises(ShapeError, match="equal shape"):
        load_target("bad.py:graph")


def test_a_model_moves_with_its_numbers_and_what_is_frozen():
    model = load_model("net.py:model")
    moved = on_device(model, "reference")
    assert (model.device, moved.device) == ("cpu", "reference")
    assert on_device(model, None) is model
    assert (moved.frozen_nodes(), moved.fixed_parameters()) == (model.frozen_nodes(), model.fixed_parameters())
    assert all(np.array_equal(array, moved.parameters[path]) for path, array in model.parameters.items())
    assert load_model("net.py:graph", device="reference").device == "reference"
    assert load_model("net.py:graph").device == "cpu"


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "net.py:graph", "--data", "data.npz", "-o", "out.npz"],
        ["check", "net.py:graph"],
        ["train", "net.py:graph", "--data", "data.npz", "--loss", "cross_entropy", "--quiet"],
        ["render", "net.py:graph", "-o", "net.svg", "--view", "values"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_commands_that_run_take_a_device(arguments, monkeypatch):
    used = []
    monkeypatch.setattr("graphnn.model.backend_for", lambda device: used.append(device) or backend_for(device))
    assert main([*arguments, "--device", "reference"]) == 0
    assert used[-1] == "reference"  # the model of the file comes before
