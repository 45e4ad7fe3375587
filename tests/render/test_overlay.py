"""Overlays: values, texts and flags on nodes, combined in closed modules, with a scale of colours."""

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

import drawn_graphs
from graphnn.errors import OptionError
from graphnn.graph.flatten import flatten
from graphnn.render.overlay import HEAT_STEPS, Overlay, Scale
from graphnn.render.palette import HEAT
from graphnn.render.svg import to_svg
from graphnn.render.views import build_scene

LEAVES = [leaf.path for leaf in flatten(drawn_graphs.nested()).leaves]


def overlay(**more) -> Overlay:
    return Overlay("time of a step", "ms", {path: float(index) for index, path in enumerate(LEAVES)}, **more)


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("combine", ["sum", "max"])
def test_a_closed_module_shows_what_is_inside_combined(depth, combine):
    given = overlay(combine=combine)
    scene = build_scene(drawn_graphs.nested(), depth=depth, overlay=given)
    for box in scene.boxes:
        inside = [v for path, v in given.values.items() if path == box.key or path.startswith(box.key + "/")]
        if not inside:
            assert box.heat is None
            continue
        value = {"sum": sum, "max": max}[combine](inside)
        assert f"{value:.3g} ms" in box.lines
    heats = {box.key: box.heat for box in scene.boxes if box.heat is not None}
    values = {key: given.value(key) for key in heats}
    assert heats[max(values, key=values.get)] == HEAT_STEPS - 1 == len(HEAT) - 1
    assert heats[min(values, key=values.get)] == 0
    assert sorted(heats, key=lambda key: (heats[key], key)) == sorted(heats, key=lambda key: (heats[key], key))
    assert all(heats[a] <= heats[b] for a in heats for b in heats if values[a] <= values[b])


def test_the_scale_is_in_the_legend_with_its_unit():
    svg = to_svg(drawn_graphs.nested(), depth=9, overlay=overlay())
    root = ElementTree.fromstring(svg)
    (scale,) = [g for g in root.iter() if g.get("class") == "gnn-scale"]
    words = [element.text for element in scale if element.text]
    assert words == ["time of a step", "0 ms", f"{len(LEAVES) - 1} ms"]
    assert len(scale) == 3 + HEAT_STEPS
    assert {g.get("data-heat") for g in root.iter() if g.get("data-heat")} >= {"0", str(HEAT_STEPS - 1)}
    assert "gnn-scale" not in to_svg(drawn_graphs.nested())


def test_flags_are_red_named_and_seen_from_outside():
    given = Overlay("values", flags={LEAVES[2]: "NaN"}, texts={LEAVES[0]: "mean 0.5"})
    graph = drawn_graphs.nested()
    leaf = next(box for box in build_scene(graph, depth=9, overlay=given).boxes if box.key == LEAVES[2])
    assert leaf.flag == "NaN"
    top, _, inner = LEAVES[2].partition("/")
    module = next(box for box in build_scene(graph, depth=0, overlay=given).boxes if box.key == top)
    assert module.flag == f"NaN in {inner}"
    svg = to_svg(graph, depth=9, overlay=given)
    assert "! NaN" in svg
    assert "gnn-warning" in svg
    assert 'data-entry="flag"' in svg
    assert "mean 0.5" in svg


def test_with_an_overlay_every_node_is_drawn():
    graph = drawn_graphs.chain(5)
    assert len(build_scene(graph, fold=True, overlay=Overlay("nothing")).boxes) == 7


def test_other_ways_to_combine_are_refused():
    with pytest.raises(OptionError, match="sum, max"):
        Overlay("time", combine="mean")


@pytest.mark.parametrize(
    ("number", "text"), [(0.1234, "0.123"), (99.94, "99.9"), (999.7, "1,000"), (-12345.6, "-12,346")]
)
def test_numbers_have_three_digits_or_are_whole(number, text):
    assert Overlay("time", "ms").write(number) == f"{text} ms"


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0, 1))
def test_the_scale_goes_from_the_first_to_the_last_step(a, b, share):
    scale = Scale(min(a, b), max(a, b))
    assert scale.step(scale.most) == HEAT_STEPS - 1
    assert 0 <= scale.step(scale.least + share * (scale.most - scale.least)) < HEAT_STEPS
    assert scale.step(scale.least) == (HEAT_STEPS - 1 if a == b else 0)


def test_numbers_that_are_not_finite_have_no_colour():
    given = Overlay("mean", values={"last/linear": float("nan"), "last/tanh": 1.0})
    heat = {box.key: box.heat for box in build_scene(drawn_graphs.nested(), overlay=given).boxes}
    assert heat["last/linear"] is None
    assert heat["last/tanh"] == HEAT_STEPS - 1
