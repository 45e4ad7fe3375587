import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import drawn_graphs
from graphnn import layers
from graphnn.errors import OptionError
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.render.layout import TEXT_SIZE
from graphnn.render.overlay import Overlay
from graphnn.render.palette import BASE, CATEGORIES, SERIES, contrast
from graphnn.render.svg import to_svg
from graphnn.render.text import identifier, text_width
from graphnn.render.views import build_scene

SVG = "{http://www.w3.org/2000/svg}"
TESTS = Path(__file__).parents[1]


def FROZEN(path: str) -> bool:  # noqa: N802
    return path.startswith("last")


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.encode())


def marked(root: ElementTree.Element, css_class: str) -> list[ElementTree.Element]:
    return [element for element in root.iter() if css_class in element.get("class", "").split()]


def texts(element: ElementTree.Element) -> list[str]:
    return ["".join(text.itertext()) for text in element.iter(f"{SVG}text")]


@pytest.fixture(scope="module")
def nested() -> ElementTree.Element:
    return parse(to_svg(drawn_graphs.nested(), is_frozen=FROZEN))


@pytest.mark.parametrize("depth", [0, 1, 2, None])
@pytest.mark.parametrize("make", [drawn_graphs.nested, drawn_graphs.hostile])
def test_the_picture_holds_the_scene(make, depth):
    scene, root = build_scene(make(), depth=depth), parse(to_svg(make(), depth=depth))
    assert [node.get("data-key") for node in marked(root, "gnn-node")] == [
        re.sub("[\t\n\r]", " ", box.key) for box in scene.boxes
    ]
    drawn = [(e.get("data-source"), e.get("data-target"), e.get("data-count")) for e in marked(root, "gnn-connection")]
    assert drawn == [(e.source, re.sub("\t", " ", e.target), str(e.count)) for e in scene.edges]
    assert [g.get("id") for g in marked(root, "gnn-group")] == [f"group-{identifier(g.path)}" for g in scene.groups]


def test_each_node_says_kind_path_shape_and_parameters(nested):
    by_key = {node.get("data-key"): texts(node) for node in marked(nested, "gnn-node")}
    assert by_key["stack/blocks_1/linear"] == ["Linear", "stack/blocks_1/linear", "(batch, 4)", "20 parameters"]
    assert by_key["stack/blocks_0_2/linear"][-2:] == ["= stack/blocks_0/linear", "weights A"]
    assert by_key["last/linear"][-1] == "20 parameters · frozen"
    assert by_key["x"] == ["Input", "x", "(batch, 4)"]
    assert by_key["@output/gate"] == ["Output", "gate", "(batch, 4)"]


def test_every_node_edge_and_group_has_a_tooltip_first(nested):
    for css_class in ("gnn-node", "gnn-connection", "gnn-group"):
        for element in marked(nested, css_class):
            assert element[0].tag == f"{SVG}title"
            assert element[0].text


def test_a_tooltip_has_all_facts_but_not_thousands_of_them(nested):
    scene = build_scene(drawn_graphs.nested(), is_frozen=FROZEN)
    assert [node[0].text for node in marked(nested, "gnn-node")] == ["\n".join(box.tooltip) for box in scene.boxes]
    x = Input(("batch", 4), name="x")
    root = parse(to_svg(Graph(x, layers.Add(name="add")(*[x] * 1000))))
    (edge,) = [edge for edge in marked(root, "gnn-connection") if edge.get("data-target") == "add"]
    assert edge[0].text.endswith("\nand 976 more")
    assert texts(edge) == ["\N{MULTIPLICATION SIGN}1,000"]


def test_a_doubled_connection_is_labelled(nested):
    (double,) = [edge for edge in marked(nested, "gnn-connection") if texts(edge)]
    assert texts(double) == ["\N{MULTIPLICATION SIGN}2"]
    assert (double.get("data-target"), double.get("data-count")) == ("double", "2")


def test_frozen_is_shown_by_dashes_a_lock_and_a_word(nested):
    frozen = [node for node in marked(nested, "gnn-node") if marked(node, "gnn-frozen")]
    assert [node.get("data-key") for node in frozen] == ["last/linear"]
    assert marked(frozen[0], "gnn-lock")
    assert any("frozen" in text for text in texts(frozen[0]))
    (group,) = [group for group in marked(nested, "gnn-group") if marked(group, "gnn-frozen")]
    assert group.get("id") == "group-last"
    assert any(text.startswith("last · Block · 20 parameters · frozen") for text in texts(nested))


def test_the_legend_has_what_is_drawn_and_nothing_else(nested):
    (legend,) = marked(nested, "gnn-legend")
    entries = [entry.get("data-entry") for entry in legend if entry.get("data-entry")]
    families = {node.get("data-category") for node in marked(nested, "gnn-node")}
    assert [entry for entry in entries if entry in CATEGORIES] == [name for name in CATEGORIES if name in families]
    assert entries[-4:] == ["frozen", "shared", "count", "stripe"]
    plain = parse(to_svg(drawn_graphs.chain(2)))
    (legend,) = marked(plain, "gnn-legend")
    assert [entry.get("data-entry") for entry in legend] == ["input", "output", "activation"]


def test_the_figure_is_accessible_and_scales(nested):
    assert nested.get("role") == "img"
    title, desc = nested[0], nested[1]
    assert nested.get("aria-labelledby").split() == [title.get("id"), desc.get("id")]
    assert title.text == "nested"
    assert "Inputs: x (batch, 4), late (batch, 4). Outputs: out (batch, 4), gate (batch, 4)." in desc.text
    width = nested.get("viewBox").split()[2]
    assert (nested.get("width"), nested.get("style")) == ("100%", f"max-width:{width}px")
    ids = [element.get("id") for element in nested.iter() if element.get("id")]
    assert len(ids) == len(set(ids))


def test_what_is_left_out_is_said_in_the_figure_and_to_screen_readers():
    root = parse(to_svg(drawn_graphs.nested(), depth=1))
    notice = "showing depth 1 of 2: deeper modules are closed"
    assert notice in texts(root)
    assert notice in root[1].text


OVERLAY = Overlay(
    "a title that is longer than the drawing is wide, so it is cut or goes on in a second line",
    "ms",
    {"stack": 1e9, "last/linear": 1.0, "tanh": 3.0},
    flags={"stack/blocks_0/linear": "not a number"},
)
OPTIONS = [
    {}, {"view": "backward", "kept": {"last/linear": ("output",)}}, {"view": "schedule"}, {"direction": "right"},
    {"overlay": OVERLAY}, {"overlay": OVERLAY, "depth": 0}, {"show": {"inputs", "dtype", "hyperparameters", "order"}},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: " ".join(options))
@pytest.mark.parametrize("make", [drawn_graphs.nested, drawn_graphs.hostile, lambda: drawn_graphs.chain(5)])
def test_all_rectangles_and_texts_lie_in_the_view_box(make, options):
    root = parse(to_svg(make(), is_frozen=lambda path: True, **options))
    _, _, width, height = map(float, root.get("viewBox").split())

    def check(element: ElementTree.Element, dx: float, dy: float) -> None:
        if move := re.fullmatch(r"translate\((\S+) (\S+)\)", element.get("transform", "")):
            dx, dy = dx + float(move[1]), dy + float(move[2])
        x, y = float(element.get("x", 0)) + dx, float(element.get("y", 0)) + dy
        if element.tag == f"{SVG}rect":
            assert 0 <= x <= x + float(element.get("width")) <= width
            assert 0 <= y <= y + float(element.get("height")) <= height
        if element.tag == f"{SVG}text":
            bold = bool(set(element.get("class", "").split()) & {"gnn-b", "gnn-t", "gnn-h"})
            length = text_width(element.text, TEXT_SIZE, bold)
            left = x - length / 2 if element.get("text-anchor") == "middle" else x
            assert 0 <= left <= left + length <= width, element.text
            assert 0 < y < height
        for child in element:
            check(child, dx, dy)

    check(root, 0, 0)


def test_hostile_names_stay_text():
    svg = to_svg(drawn_graphs.hostile())
    tags = {element.tag.removeprefix(SVG) for element in parse(svg).iter()}
    assert tags == {"svg", "title", "desc", "style", "rect", "g", "path", "text"}
    attributes = {name for element in parse(svg).iter() for name in element.attrib}
    assert not any(name.startswith("on") or "href" in name for name in attributes)
    assert "&lt;script&gt;alert(1)" in svg
    assert "\"'&amp;&lt;" in " ".join(texts(parse(svg)))
    assert len(re.findall(r"https?://", svg)) == 1  # the namespace of SVG


def test_unknown_views_are_refused():
    with pytest.raises(OptionError, match=r"no such view(.|\n)*forward"):
        to_svg(drawn_graphs.chain(1), view="upside down")


def test_readers_without_css_variables_get_the_light_theme(nested):
    style = next(nested.iter(f"{SVG}style")).text
    plain, _, rest = style.partition("@supports")
    assert "var(" not in plain
    themed, _, dark = rest.partition("@media (prefers-color-scheme:dark)")
    used = set(re.findall(r"var\((--gnn-[a-z-]+)\)", themed))
    assert used == set(re.findall(r"(--gnn-[a-z-]+):#", themed)) == set(re.findall(r"(--gnn-[a-z-]+):#", dark))
    classes = {name for element in nested.iter() for name in element.get("class", "").split()}
    painted = {name for name in classes if f".{name}" in plain}
    assert classes - painted == {"gnn-node", "gnn-connection", "gnn-legend", "gnn-s"} - painted


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_lines_stand_out(theme):
    colour = {name: getattr(value, theme) for name, value in BASE.items()}
    fills = [getattr(fill, theme) for fill, _ in CATEGORIES.values()]
    for ground in (*fills, colour["paper"], colour["group-even"], colour["group-odd"]):
        assert contrast(colour["ink"], ground) >= 4.5
        assert contrast(colour["faint"], ground) >= 4.5
    for ground in ("paper", "group-even", "group-odd"):
        borders = [getattr(border, theme) for _, border in CATEGORIES.values()]
        for line in (colour["line"], colour["frame"], *borders, *(getattr(series, theme) for series in SERIES)):
            assert contrast(line, colour[ground]) >= 3


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # the well-known near miss
    assert contrast("#123456", "#123456") == 1


PROGRAM = """
import sys, drawn_graphs
from graphnn.render.chart import line_chart
from graphnn.render.dot import to_graphviz
from graphnn.render.html import to_html
from graphnn.render.svg import to_svg
out = []
nets = drawn_graphs
for graph in (nets.nested(), nets.hostile(), nets.chain(90, mask=True), nets.random_graph(5)):
    frozen = lambda path: "blocks_1" in path
    out += [to_svg(graph, is_frozen=frozen), to_svg(graph, depth=0), to_html(graph), to_graphviz(graph).source]
    out += [to_svg(graph, view, is_frozen=frozen, fold=False) for view in ("forward", "backward", "schedule")]
    out += [to_svg(graph, direction="right", theme="dark", show=["order", "dtype"], collapse=lambda path: "1" in path)]
out.append(line_chart({"a": [(0, 1), (1, 0.5)], "b": [(0, 2), (1, 3)]}, "title", "x", "y"))
sys.stdout.buffer.write("".join(out).encode())
"""


def test_the_bytes_are_the_same_in_every_process():
    results = []
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}
        command = [sys.executable, "-W", "error", "-c", PROGRAM]
        results.append(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert len(results[0]) > 50_000
    assert results[0] == results[1]
    assert str(TESTS).encode() not in results[0]
