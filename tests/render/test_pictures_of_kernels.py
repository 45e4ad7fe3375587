"""Plans of fused groups and tiles: the table and the memory picture say what is inside of them."""

from xml.etree import ElementTree

import numpy as np
import pytest

import graphnn as gnn
from graphnn import layers, losses
from graphnn.plans import plans_of
from graphnn.render.memory import memory_svg
from graphnn.render.plan_drawing import HEADER, plan_rows, plan_svg, plan_text


@pytest.fixture(scope="module")
def plan():
    x = gnn.Input(("batch", 6), name="x")
    graph = gnn.Graph(x, layers.Linear(3, name="logits")(layers.Linear(16, act_fn="relu", name="hidden")(x)))
    trainer = gnn.Trainer(gnn.Model(graph), losses.CrossEntropy(), "adam")
    return plans_of(trainer, np.ones((8, 6)), np.arange(8) % 3)["step"]


def column(rows, name):
    return [row.cells[HEADER.index(name)] for row in rows]


def test_the_table_has_the_steps_inside_of_loops_by_formula_and_name(plan):
    rows = plan_rows(plan)
    assert "relu(x @ W + b)" in column(rows, "op")
    assert "hidden: float32" in " ".join(column(rows, "writes"))
    assert {"forward", "backward", "update"} <= set(column(rows, "phase"))
    assert {row.step for row in rows} <= set(range(len(plan.steps)))
    assert len({row.cells for row in rows}) == len(rows)
    assert len(plan_text(plan).splitlines()) == len(rows) + 4


def test_the_pictures_are_xml_and_name_gradients_not_tiles(plan):
    for svg in (plan_svg(plan), memory_svg(plan)):
        found = ["".join(text.itertext()) for text in ElementTree.fromstring(svg.encode()).iter()]
        assert any("hidden/d_b" in text for text in found)
        assert not any("tiled" in text or "no node" in text for text in found)
