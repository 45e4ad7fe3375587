"""Files for the commands to work on, and ways to run them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SOURCE = """
import graphnn as gnn
from graphnn import layers

x = gnn.Input(("batch", 4), name="x")
hidden = layers.Tanh(name="tanh")(layers.Linear(8, name="dense")(x))
graph = gnn.Graph(x, layers.Linear(3, name="logits")(hidden), name="tiny")
other = gnn.Graph(x, layers.ReLU(name="relu")(x), name="other")
model = gnn.Model(graph, seed=7)
model.freeze("dense")
number = 3

def build():
    return graph

def broken():
    return undefined_name
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Each test has a folder of its own with net.py and data.npz, and works in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    Path("net.py").write_text(SOURCE, encoding="utf-8")
    x = np.random.default_rng(0).normal(size=(120, 4)).astype("float32")
    np.savez("data.npz", x=x, y=x[:, :3].argmax(axis=1))
    return tmp_path


def command(*arguments):
    return [sys.executable, "-W", "error", "-m", "graphnn", *arguments]


def environment():
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture
def run():
    """A command in a process of its own; returns (exit code, stdout, stderr)."""

    def start(*arguments):
        done = subprocess.run(command(*arguments), env=environment(), capture_output=True, check=False)
        return done.returncode, done.stdout, done.stderr.decode()

    return start


@pytest.fixture
def begin():
    """A command that goes on beside the test; it is ended at the latest with the test."""
    started = []

    def start(*arguments):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command(*arguments), env=environment(), text=True, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()
