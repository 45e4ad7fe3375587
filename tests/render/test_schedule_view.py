"""The schedule view: steps in forward order, rows by level."""

from hypothesis import given
from hypothesis import strategies as st

import drawn_graphs
from graphnn import modules
from graphnn.graph.flatten import flatten
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.render.layout import lay_out
from graphnn.render.schedule_view import LEVEL
from graphnn.render.views import build_scene


@given(st.integers(0, 10_000), st.integers(0, 3))
def test_a_row_is_below_all_rows_that_it_reads(seed, depth):
    scene = build_scene(drawn_graphs.random_graph(seed), "schedule", depth=depth)
    row = {key: index for index, keys in enumerate(scene.rows) for key in keys}
    sources = {}
    for edge in scene.edges:
        if edge.connections:
            sources.setdefault(edge.target, []).append(row[edge.source])
    assert set(row) == {box.key for box in scene.boxes}
    for key, index in row.items():
        if not key.startswith(LEVEL):
            assert index == max(sources.get(key, [-1])) + 1


def test_steps_are_the_forward_order():
    graph = drawn_graphs.nested()
    scene = build_scene(graph, "schedule", depth=9)
    text = {box.key: badge.text for box in scene.boxes for badge in box.badges if badge.kind == "order"}
    leaves = flatten(graph).leaves
    assert {leaf.path: text[leaf.path] for leaf in leaves} == {
        leaf.path: f"step {number}" for number, leaf in enumerate(leaves, start=1)
    }
    closed = build_scene(graph, "schedule", depth=0)
    text = {box.key: badge.text for box in closed.boxes for badge in box.badges if badge.kind == "order"}
    inside = [number for number, leaf in enumerate(leaves, start=1) if leaf.path.startswith("stack/")]
    assert text["stack"] == f"steps {inside[0]}–{inside[-1]}"  # noqa: RUF001


def test_boxes_of_a_level_stand_side_by_side():
    layout = lay_out(build_scene(drawn_graphs.nested(), "schedule"))
    middle = {p.box.key: round(p.place.y + p.place.height / 2) for p in layout.boxes}
    rows = build_scene(drawn_graphs.nested(), "schedule").rows
    heights = [{middle[key] for key in keys} for keys in rows]
    assert all(max(row) - min(row) <= 1 for row in heights)
    assert [min(row) for row in heights] == sorted(min(row) for row in heights)
    assert layout.groups == ()


def test_what_comes_first_stands_left_and_the_names_of_rows_further_left():
    x, skip = Input(("batch", "time", 4), name="x_main"), Input(("batch", "time", 4), name="x_skip", optional=True)
    module = modules.WavenetResidualModule(4, 4, 4, 2, separate_gates=True, name="m")
    layout = lay_out(build_scene(Graph([x, skip], module(x, skip)), "schedule"))
    left = {placed.box.key: placed.place.x for placed in layout.boxes}
    assert left["m/conv_filter"] < left["m/conv_gate"]
    assert left["m/tanh"] < left["m/sigm"]
    right_of_names = max(p.place.x + p.place.width for p in layout.boxes if p.box.key.startswith(LEVEL))
    assert right_of_names < min(x for key, x in left.items() if not key.startswith(LEVEL))
    assert max(p.place.x + p.place.width for p in layout.boxes) <= layout.width
