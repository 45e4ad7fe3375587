import itertools
import os
import stat
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import drawn_graphs
from graphnn import layers, modules
from graphnn.errors import BackendError
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.render.engine import positions
from graphnn.render.layout import TEXT_SIZE, TITLE_SIZE, Layout, Rectangle, lay_out
from graphnn.render.text import text_width
from graphnn.render.views import build_scene

DRAWN = [drawn_graphs.nested, drawn_graphs.hostile, lambda: drawn_graphs.chain(60, mask=True, skip=7)]


def overlap(first: Rectangle, second: Rectangle) -> bool:
    return (
        first.x < second.x + second.width
        and second.x < first.x + first.width
        and first.y < second.y + second.height
        and second.y < first.y + first.height
    )


def within(inner: Rectangle, outer: Rectangle) -> bool:
    return (
        outer.x <= inner.x + 0.2
        and outer.y <= inner.y + 0.2
        and inner.x + inner.width <= outer.x + outer.width + 0.2
        and inner.y + inner.height <= outer.y + outer.height + 0.2
    )


def check_places(layout: Layout) -> None:
    page = Rectangle(0, 0, layout.width, layout.height)
    groups = {placed.group.path: placed.place for placed in layout.groups}
    for first, second in itertools.combinations(layout.boxes, 2):
        assert not overlap(first.place, second.place), (first.box.key, second.box.key)
    for placed in layout.boxes:
        assert within(placed.place, groups.get(placed.box.group, page))
        for path, place in groups.items():
            inside = f"{placed.box.group}/".startswith(f"{path}/")
            assert overlap(placed.place, place) == inside, (placed.box.key, path)
    for placed in layout.groups:
        assert within(placed.place, groups.get(placed.group.parent, page))
        assert text_width(placed.title, TEXT_SIZE, bold=True) + 9 <= placed.place.width


def check_edges(layout: Layout) -> None:
    places = {placed.box.key: placed.place for placed in layout.boxes}
    for placed in layout.edges:
        for (x, y), place in ((placed.curve[0], places[placed.edge.source]), (placed.tip, places[placed.edge.target])):
            assert within(Rectangle(x, y, 0, 0), Rectangle(place.x - 2, place.y - 2, place.width + 4, place.height + 4))
        assert len(placed.curve) % 3 == 1
        assert (placed.label is not None) == (placed.edge.count > 1)
        if placed.label:
            spot = Rectangle(placed.label[0] - 4, placed.label[1] - 4, 8, 8)
            assert not any(overlap(spot, place) for place in places.values())


@given(st.integers(0, 10_000), st.integers(0, 3))
def test_nothing_overlaps_and_all_lies_inside(seed, depth):
    layout = lay_out(build_scene(drawn_graphs.random_graph(seed), depth=depth))
    check_places(layout)
    check_edges(layout)


@pytest.mark.parametrize("make", DRAWN)
def test_special_graphs_are_laid_out_as_well(make):
    layout = lay_out(build_scene(make(), is_frozen=lambda path: True))
    check_places(layout)
    check_edges(layout)


def long_title() -> Graph:
    kind = type("ALayerWithAVeryLongNameOfItsClass", (layers.Linear,), {})
    x = Input(("batch", 4), name="x")
    return Graph(x, kind(4, name="linear")(x))


@pytest.mark.parametrize("make", [*DRAWN, long_title])
def test_text_fits_its_box(make):
    for placed in lay_out(build_scene(make(), is_frozen=lambda path: "linear" in path)).boxes:
        title, *rest = placed.lines
        width = placed.place.width
        lock = 18 if placed.box.frozen else 8  # from the right border; the title is centred
        assert text_width(title, TITLE_SIZE, bold=True) <= width - 2 * lock
        assert all(text_width(line, TEXT_SIZE) <= width - 2 * 8 for line in rest)
        assert len(placed.lines) * 15 <= placed.place.height


def test_a_very_long_name_keeps_its_ends():
    x = Input(("batch", 4), name="x")
    name = "first_" + "very_" * 60 + "last"
    (box,) = [b for b in lay_out(build_scene(Graph(x, layers.Tanh(name=name)(x)))).boxes if b.box.key == name]
    assert box.place.width < 350
    assert box.lines[1].startswith("first_very_")
    assert box.lines[1].endswith("very_last")


@pytest.mark.parametrize(
    ("make", "depth"),
    [
        (lambda: drawn_graphs.chain(1900, skip=9), None),
        (lambda: drawn_graphs.chain(900, mask=True, skip=2), None),
        (lambda: drawn_graphs.chain(10_000), None),
    ],
    ids=["skips", "mask", "10,000"],
)
def test_large_graphs_are_laid_out_in_seconds(make, depth):
    graph = make()
    start = time.process_time()
    layout = lay_out(build_scene(graph, depth=depth))
    assert time.process_time() - start < 30  # under 1 when idle; without care Graphviz takes minutes
    assert layout.width < 3000  # a chain stays a column


@pytest.fixture
def no_pygraphviz(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygraphviz", None)


@pytest.fixture
def no_dot(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("no_pygraphviz", "no_dot")
@pytest.mark.parametrize("has_package", [True, False])
def test_a_missing_engine_is_one_error_with_remedies(monkeypatch, has_package):
    if not has_package:
        monkeypatch.setitem(sys.modules, "graphviz", None)
    with pytest.raises(BackendError, match=r"needs Graphviz(.|\n)*pip install pygraphviz(.|\n)*apt(.|\n)*summary"):
        drawn_graphs.nested().to_svg()


@pytest.mark.skipif(os.name == "nt", reason="makes an executable script")
def test_the_program_dot_takes_over_and_gives_the_same_picture(monkeypatch, tmp_path):
    expected = drawn_graphs.nested().to_svg()
    program = tmp_path / "dot"
    program.write_text(
        f"#!{sys.executable}\nimport sys, pygraphviz\n"
        "form = next(a for a in sys.argv if a.startswith('-T'))[2:]\n"
        "file = [a for a in sys.argv[1:] if not a.startswith('-')]\n"
        "text = open(file[0]).read() if file else sys.stdin.read()\n"
        "sys.stdout.buffer.write(pygraphviz.AGraph(string=text).draw(format=form, prog='dot'))\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    assert drawn_graphs.nested().to_svg() == expected
    program.write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    with pytest.raises(BackendError, match="failed to lay out"):
        drawn_graphs.nested().to_svg()


def test_the_engine_says_nothing_of_its_own(capfd):
    lay_out(build_scene(drawn_graphs.chain(1200)))
    captured = capfd.readouterr()
    assert captured.err == captured.out == ""
    positions("digraph { a [shape=unheard_of] }")  # the C library warns of it on the standard error stream
    assert capfd.readouterr().err == ""


def test_a_chain_stays_in_one_column_beside_many_long_connections():
    """The blocks of a WaveNet, closed, whose skip connections all go into one sum."""
    x = h = Input(("batch", "time", 4), name="x")
    skips = []
    for index in range(10):
        outputs = modules.WavenetResidualModule(4, 4, 2**index, 2, name=f"block_{index}")(h)
        h = outputs["y_main"]
        skips.append(outputs["y_skip"])
    graph = Graph(x, layers.Add(name="sum_of_skips")(*skips))
    for depth in (0, 1):
        layout = lay_out(build_scene(graph, depth=depth))
        middles = {placed.box.key: placed.place.x + placed.place.width / 2 for placed in layout.boxes}
        chain = [key for key in middles if depth == 0 or key == "x" or key.endswith(("multiply_gate", "conv_1x1"))]
        assert max(middles[key] for key in chain) - min(middles[key] for key in chain) <= 1
