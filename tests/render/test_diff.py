"""The picture of a diff: every edit is there by colour, sign and word, in both themes."""

import math
import re
import time
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings

import drawn_graphs
from graphnn import layers, modules
from graphnn.errors import OptionError
from graphnn.graph.diff import diff
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.graph.surgery import delete, insert, replace, rewire
from graphnn.render.diff import MOST_BOXES, union_scene
from graphnn.render.diff_svg import BADGE, COLOURS, MARKS
from graphnn.render.palette import BASE, contrast
from random_graphs import graphs

SVG = "{http://www.w3.org/2000/svg}"
MINUS = "\N{MINUS SIGN}"


def chain(names, name="chain"):
    x = h = Input(("batch", 4), name="x")
    for node in names:
        h = layers.Tanh(name=node)(h)
    return Graph(x, h, name=name)


def parse(found):
    return ElementTree.fromstring(found.to_svg().encode())


def marks(root, css_class):
    key = "data-key" if css_class == "gnn-node" else "data-source"
    return {element.get(key): element.get("data-mark") for element in root.iter() if element.get("class") == css_class}


def words(element):
    return [text.text or "" for text in element.iter(f"{SVG}text")]


def edited():
    """One edit of each kind, one of them inside a module."""
    x = Input(("batch", 4), name="x")
    inner = chain(["one", "two"], name="inner")
    a = layers.Linear(4, name="a")(inner(x))
    before = Graph(x, {"y": layers.Add(name="c")(layers.ReLU(name="b")(a), a)}, name="net")
    after = insert(before, layers.Sigmoid(), "new", after="inner/one")
    after = replace(delete(after, "b"), "a", layers.Linear(4, bias=False))
    return diff(before, after)


def parts_of(separate_gates):
    x = Input(("batch", "time", 4), name="x")
    return Graph(x, modules.WavenetResidualModule(4, 4, 1, 2, separate_gates=separate_gates, name="block")(x))


def test_an_edited_module_that_is_open_says_so_in_its_title():
    root = parse(diff(parts_of(separate_gates=False), parts_of(separate_gates=True)))
    title = "~ block · WavenetResidualModule · changed separate_gates: False → True"
    assert title in words(root)


def test_signs_on_edges_leave_titles_readable():
    root = parse(diff(parts_of(separate_gates=False), parts_of(separate_gates=True)))
    plates = [e for e in root.iter(f"{SVG}rect") if e.get("class", "").startswith("gnn-back")]
    signs = [(float(e.get("cx")), float(e.get("cy"))) for e in root.iter(f"{SVG}circle")]
    assert plates
    assert len(signs) >= 4
    for plate in plates:
        x, y, width, height = (float(plate.get(key)) for key in ("x", "y", "width", "height"))
        for cx, cy in signs:
            beside, above = max(x - cx, 0, cx - x - width), max(y - cy, 0, cy - y - height)
            assert math.hypot(beside, above) >= BADGE - 1


@pytest.mark.parametrize(("theme", "kept", "other"), [("light", "light", "dark"), ("dark", "dark", "light")])
def test_a_picture_may_have_one_theme_alone(theme, kept, other):
    svg = edited().to_svg(theme)
    assert getattr(COLOURS["added"][0], kept) in svg
    assert getattr(COLOURS["added"][0], other) not in svg
    with pytest.raises(OptionError, match="auto, light, dark"):
        edited().to_svg("pink")


def test_each_edit_is_marked_by_sign_and_word():
    root = parse(edited())
    assert marks(root, "gnn-node") == {
        "x": "same", "inner/one": "same", "inner/new": "added", "inner/two": "changed", "a": "changed", "b": "removed",
        "c": "changed", "@output/y": "same",
    }  # fmt: skip
    texts = {e.get("data-key"): words(e) for e in root.iter() if e.get("class") == "gnn-node"}
    assert texts["inner/new"] == ["+ Sigmoid", "inner/new", "(batch, 4)", "added"]
    assert texts["b"] == [f"{MINUS} ReLU", "b", "(batch, 4)", "removed"]
    assert texts["a"][:1] + texts["a"][3:4] == ["~ Linear", "changed bias: True → False"]
    assert texts["c"][3:] == ["rewired input 0: b → a"]
    entries = [e.get("data-entry") for e in root.iter() if e.get("data-entry")]
    assert entries == ["added", "removed", "changed", "same"]


def test_edges_of_one_graph_only_carry_a_sign():
    root = parse(edited())
    drawn = [e for e in root.iter() if e.get("class") == "gnn-connection"]
    found = {(e.get("data-source"), e.get("data-target")): e.get("data-mark") for e in drawn}
    assert {ends for ends, mark in found.items() if mark == "added"} == {
        ("inner/one", "inner/new"), ("inner/new", "inner/two"),
    }  # fmt: skip
    assert {ends for ends, mark in found.items() if mark == "removed"} == {
        ("inner/one", "inner/two"), ("a", "b"), ("b", "c"),
    }  # fmt: skip
    signs = [e.text for e in root.iter(f"{SVG}text") if (e.get("class") or "").startswith("gnn-sign-")]
    assert sorted(signs) == ["+"] * 2 + [MINUS] * 3


def test_modules_without_an_edit_are_closed():
    x = Input(("batch", 4), name="x")
    first, second = chain(["one"], name="first"), chain(["one"], name="second")
    before = Graph(x, second(first(x)), name="net")
    root = parse(diff(before, insert(before, layers.ReLU(), "new", after="second/one")))
    assert [e.get("id") for e in root.iter() if e.get("class") == "gnn-group"] == ["group-second"]
    assert "first" in marks(root, "gnn-node")


def test_ways_that_would_close_a_circle_are_drawn():
    found = diff(chain(["a", "b", "c"]), chain(["c", "a", "b"]))
    scene, _, edge_marks = union_scene(found)
    place = {box.key: index for index, box in enumerate(scene.boxes)}
    assert all(place[edge.source] < place[edge.target] for edge in scene.edges)
    assert any(mark.endswith("-reversed") for mark in edge_marks.values())
    root = parse(found)
    ends = {(e.get("data-source"), e.get("data-target")) for e in root.iter() if e.get("class") == "gnn-connection"}
    assert {("b", "c"), ("c", "a")} <= ends


@settings(max_examples=10)
@given(graphs(max_nodes=5), graphs(max_nodes=5))
def test_any_two_graphs_can_be_drawn_and_lie_within_the_picture(before, after):
    found = diff(before, after)
    text = found.to_svg()
    assert text == diff(before, after).to_svg()
    root = ElementTree.fromstring(text)
    assert set(marks(root, "gnn-node").values()) <= set(MARKS)
    width, height = map(float, root.get("viewBox").split()[2:])
    (drawing,) = [group for group in root.findall(f"{SVG}g") if group.get("class") is None]
    dx, dy = map(float, re.findall(r"[\d.]+", drawing.get("transform")))
    for rect in drawing.iter(f"{SVG}rect"):
        x, y, w, h = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
        assert -dx <= x <= x + w <= width - dx
        assert 0 <= y <= y + h <= height - dy


def test_hostile_names_and_shared_modules_are_drawn_as_text():
    hostile, nested = drawn_graphs.hostile(), drawn_graphs.nested()
    text = diff(nested, hostile).to_svg()
    assert "<script" not in text
    assert {box for box in marks(ElementTree.fromstring(text), "gnn-node").values()} >= {"added", "removed"}


def test_an_empty_diff_shows_the_graph():
    root = parse(diff(chain(["a"]), chain(["a"])))
    assert set(marks(root, "gnn-node").values()) == {"same"}
    assert "no differences" in words(root)


def test_of_a_large_graph_what_is_near_the_edit_is_drawn():
    names = [f"n{index}" for index in range(2000)]
    before = chain(names)
    found = diff(before, replace(before, "n1000", layers.ReLU()))
    started = time.perf_counter()
    root = parse(found)
    assert time.perf_counter() - started < 3
    drawn = marks(root, "gnn-node")
    assert list(drawn) == [f"n{index}" for index in range(998, 1003)]
    assert drawn["n1000"] == "changed"
    assert "1,997 boxes far from every edit not drawn" in words(root)
    everything = diff(before, chain([f"m{index}" for index in range(2000)]))
    assert MOST_BOXES < len(union_scene(everything)[0].boxes) < 700


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("mark", COLOURS)
def test_text_and_borders_can_be_seen(mark, theme):
    fill, border = (getattr(colour, theme) for colour in COLOURS[mark])
    for ink in ("ink", "faint"):
        assert contrast(getattr(BASE[ink], theme), fill) >= 4.5
    for paper in ("paper", "group-even", "group-odd"):
        assert contrast(border, getattr(BASE[paper], theme)) >= 3
    assert contrast(getattr(BASE["paper"], theme), border) >= 3  # the sign on an edge


def test_the_file_is_what_to_svg_gives(tmp_path):
    found = diff(chain(["a"]), rewire(chain(["a"]), "a", 0, "x"))
    found.render(tmp_path / "diff.svg")
    assert (tmp_path / "diff.svg").read_text(encoding="utf-8") == found.to_svg()


def test_a_tooltip_that_is_cut_says_so():
    x = Input(("batch", 4), name="x")
    many = layers.Add(name="sum")(*[x] * 40)
    found = diff(Graph(x, many, name="net"), Graph(x, layers.Tanh(name="last")(many), name="net"))
    edges = [e for e in parse(found).iter(f"{SVG}g") if e.get("class") == "gnn-connection"]
    (doubled,) = [e for e in edges if e.get("data-source") == "x"]
    lines = doubled.find(f"{SVG}title").text.splitlines()
    assert lines[0] == MARKS["same"][1]
    assert lines[-1] == f"and {41 - (len(lines) - 1)} more"
