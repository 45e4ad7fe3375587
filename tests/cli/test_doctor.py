"""doctor never fails; demo does all it promises, or says what is missing."""

import json
import re
import sys
from pathlib import Path

import pytest

import graphnn
from graphnn.backends.choose import native_engine
from graphnn.backends.cpu.cache import Cache
from graphnn.backends.cpu.machine import allowed_cores
from graphnn.cli import doctor, main
from graphnn.cli.target import load_graph
from graphnn.files.npz import load_arrays
from graphnn.model import Model


def test_doctor_tells_about_every_part(capsys):
    assert main(["doctor", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {title: list(rows) for title, rows in data.items()} == {
        "versions": ["graphnn", "python", "numpy", "llvmlite", "networkx", "graphviz", "pygraphviz", "scikit-learn"],
        "processor": ["model", "features", "cores", "threads"],
        "engines": ["cpu", "reference", "layout"],
        "engine cpu": ["target", "threads", "cache"],
        "gpu": ["cupy", "driver"],
        "folders": ["package", "python", "working", "temporary"],
    }
    assert all(text.startswith("works") for text in data["engines"].values())
    engine = native_engine()
    assert engine.cache
    assert data["engine cpu"]["target"].startswith(
        f"{engine.target.name}, {engine.target.registers} vector registers of"
    )
    assert data["engine cpu"]["threads"].startswith(f"{graphnn.num_threads()}, of {allowed_cores()} cores")
    told = re.escape(f"{engine.cache.status().folder}: ") + r"\d+ kernels, [\d.]+ [KMG]?i?B"  # others fill it meanwhile
    assert re.fullmatch(told, data["engine cpu"]["cache"])
    assert data["folders"]["working"] == str(Path.cwd())
    assert main(["doctor"]) == 0
    assert "  reference     works, on NumPy" in capsys.readouterr().out


def test_doctor_reports_broken_parts_instead_of_failing(monkeypatch, capsys):
    def fails(*arguments, **keywords):
        raise RuntimeError("first line\nsecond line")

    for name in ("positions", "Model", "version", "_cpu_info", "_quota", "native_engine"):
        monkeypatch.setattr(doctor, name, fails)
    assert main(["doctor", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["engines"] == dict.fromkeys(["cpu", "reference", "layout"], "failed: RuntimeError: first line")
    assert data["processor"]["cores"].startswith("failed: ")
    assert data["engine cpu"]["target"] == "failed: RuntimeError: first line"


def test_doctor_tells_why_there_is_no_cache(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setattr(native_engine(), "cache", Cache(tmp_path / "file"))
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["engine cpu"]["cache"].startswith("none (no folder: ")


@pytest.mark.parametrize(("text", "quota"), [("max 100000\n", ""), ("150000 100000\n", "1.5 cores")])
def test_the_quota_of_the_control_group(text, quota, tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text(text, encoding="ascii")
    monkeypatch.setattr(doctor, "CONTROL_GROUPS", tmp_path)
    monkeypatch.setattr(doctor, "_own_group", lambda: "")
    assert doctor._quota() == quota


def test_demo_leaves_files_for_the_other_commands(capsys):
    assert main(["demo", "--out", "out", "--epochs", "1"]) == 0
    out = capsys.readouterr().out
    assert "test accuracy" in out
    files = ["digits.json", "digits.svg", "history.csv", "history.svg", "test.npz", "train.npz", "weights.npz"]
    assert sorted(path.name for path in Path("out").iterdir()) == files
    model = Model(load_graph("out/digits.json"))
    model.load_weights("out/weights.npz")
    test = load_arrays("out/test.npz")
    assert len(test["y"]) + len(load_arrays("out/train.npz")["y"]) == 1797
    accuracy = (model.forward(test["image"]).argmax(axis=1) == test["y"]).mean()
    assert f"test accuracy {accuracy:.2%}" in out
    suggested = [line.split()[1:] for line in out.splitlines() if line.startswith("  graphnn ")]
    assert [main(arguments) for arguments in suggested] == [0, 0, 0]


def test_demo_without_an_epoch_draws_no_curve(capsys):
    assert main(["demo", "--out", "out", "--epochs", "0"]) == 0
    assert not Path("out/history.svg").exists()
    assert "test accuracy" in capsys.readouterr().out


def test_demo_without_scikit_learn_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert main(["demo", "--out", "out"]) == 1
    assert "pip install scikit-learn" in capsys.readouterr().err
    assert not Path("out").exists()
