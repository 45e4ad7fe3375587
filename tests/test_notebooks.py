"""What a cell of a notebook shows, and the example notebook as it lies in the project."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import graphnn as gnn
from graphnn import layers
from graphnn.ir.text import to_text
from graphnn.render.plan_drawing import plan_svg
from graphnn.render.program_drawing import program_svg
from pages import ROOT

TEXT, SVG = "text/plain", "image/svg+xml"
BATCH = np.ones((4, 3), "float32"), np.zeros((4, 2), "float32")


@pytest.fixture(scope="module")
def trainer():
    x = gnn.Input(("batch", 3), name="x")
    model = gnn.Model(gnn.Graph(x, layers.Linear(2, name="out")(layers.Linear(5, act_fn="relu", name="first")(x))))
    model.freeze("first")
    trainer = gnn.Trainer(model, "squared_error", "sgd")
    trainer.fit(BATCH, epochs=2, progress=False)
    return trainer


SHOWN = {  # a value, its text, and its picture
    "graph": lambda t: (t.model.graph, str(t.model.graph.summary()), t.model.graph.to_svg()),
    "model": lambda t: (t.model, str(t.model.summary()), t.model.to_svg()),
    "history": lambda t: (t.history, repr(t.history), t.history.to_svg()),
    "program": lambda t: (program := gnn.programs_of(t, *BATCH)["step"], to_text(program), program_svg(program)),
    "plan": lambda t: (plan := gnn.plans_of(t, *BATCH)["step"], gnn.plan_text(plan), plan_svg(plan)),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_cell_shows_the_text_and_the_picture(name, trainer):
    value, text, svg = SHOWN[name](trainer)
    assert value._repr_mimebundle_(include=None, exclude=None) == {TEXT: text, SVG: svg}
    root = ET.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("width") == "100%"  # it shrinks with the cell ...
    assert root.get("viewBox")  # ... as a whole


def test_the_picture_of_a_model_marks_what_is_frozen(trainer):
    mark = 'data-entry="frozen"'  # in the legend, which explains what is there and no more
    assert mark in trainer.model._repr_mimebundle_()[SVG]
    assert mark not in trainer.model.graph._repr_mimebundle_()[SVG]


def test_tables_are_shown_as_text_alone(trainer):
    for value in (gnn.profile(trainer, *BATCH, runs=1), gnn.inspect_values(trainer.model, BATCH[0])):
        assert value._repr_mimebundle_() == {TEXT: str(value)}


def test_without_graphviz_the_text_stands_alone(trainer, monkeypatch):
    def fail(*args, **options):
        raise gnn.BackendError("there is no Graphviz")

    monkeypatch.setattr(gnn.Graph, "to_svg", fail)
    assert trainer.model.graph._repr_mimebundle_() == {TEXT: str(trainer.model.graph.summary())}


def test_a_display_needs_no_notebook_package():
    program = (
        "import sys; before = set(sys.modules); import graphnn as gnn; x = gnn.Input((2,), name='x'); "
        "gnn.Model(gnn.Graph(x, gnn.layers.Tanh()(x)))._repr_mimebundle_(); gnn.LiveCurve(); "
        "print(sorted({'IPython', 'tensorboardX'} & (set(sys.modules) - before)))"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.strip()) == (0, "[]"), result.stderr


def test_the_example_notebook_is_stripped():
    notebook = json.loads((ROOT / "examples" / "tour.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) > 5
    for cell in code:
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        compile("".join(cell["source"]), cell["id"], "exec")
