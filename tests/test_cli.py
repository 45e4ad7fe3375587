"""The `graphnn` command: results on stdout, errors on stderr, exit codes 0, 1 and 2."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from graphnn.cli import main

SOURCE = """
import graphnn as gnn
from graphnn import layers

x = gnn.Input(("batch", 4), name="x")
graph = gnn.Graph(x, layers.Linear(3, name="dense")(x), name="tiny")
model = gnn.Model(graph)
number = 3

def build():
    return graph
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(SOURCE)
    return path


@pytest.mark.parametrize("name", ["graph", "model", "build"])
def test_summary_prints_the_table(source, name, capsys):
    assert main(["summary", f"{source}:{name}"]) == 0
    out = capsys.readouterr().out
    assert "dense" in out
    assert "15 trainable" in out


def test_summary_as_json_counts_parameters(source, capsys):
    assert main(["summary", f"{source}:graph", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trainable"] == 15


def test_render_to_file_and_to_stdout_agree(source, tmp_path, capsys):
    assert main(["render", f"{source}:graph", "-o", str(tmp_path / "net.svg")]) == 0
    assert main(["render", f"{source}:graph", "-o", "-"]) == 0
    printed = capsys.readouterr().out
    assert printed.strip() == (tmp_path / "net.svg").read_text().strip()
    assert ElementTree.fromstring(printed).tag.endswith("svg")


def test_a_graph_file_is_a_target(source, tmp_path, capsys):
    names = {}
    exec(compile(SOURCE, str(source), "exec"), names)
    (tmp_path / "net.json").write_text(names["graph"].to_json())
    assert main(["summary", str(tmp_path / "net.json")]) == 0
    assert "dense" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "text"), [("number", "no graph"), ("missing", "graph, model")])
def test_errors_go_to_stderr_with_exit_code_1(source, name, text, capsys):
    assert main(["summary", f"{source}:{name}"]) == 1
    captured = capsys.readouterr()
    assert text in captured.err
    assert not captured.out


def test_a_missing_file_is_reported(capsys):
    assert main(["summary", "nowhere.json"]) == 1
    assert "no such file" in capsys.readouterr().err


def test_usage_errors_exit_with_2(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["paint"])
    assert "paint" in capsys.readouterr().err


def test_the_module_runs_as_a_command(source):
    done = subprocess.run(
        [sys.executable, "-m", "graphnn", "summary", f"{source}:graph"], capture_output=True, text=True, check=True
    )
    assert "dense" in done.stdout
