"""Numbers on the page of a graph: what it is told of each overlay, and the room that it keeps for them."""

import json
import re

import numpy as np
import pytest

import drawn_graphs
import graphnn as gnn
from graphnn import layers
from graphnn.errors import OptionError
from graphnn.graph.flatten import flatten
from graphnn.graph.summary import walk
from graphnn.render.explorer import explorer_data
from graphnn.render.explorer_layout import PADDING_X
from graphnn.render.explorer_numbers import WIDEST_LINE
from graphnn.render.html import to_html
from graphnn.render.options import Options
from graphnn.render.overlay import HEAT_STEPS, Details, Overlay
from graphnn.render.svg import to_svg
from graphnn.render.text import text_width

LEAVES = [leaf.path for leaf in flatten(drawn_graphs.nested()).leaves]
TIME = Overlay("time", "ms", {path: 1.5 * index for index, path in enumerate(LEAVES)}, notes=("one run",))
LARGEST = Overlay("largest", "", {path: float(-index) for index, path in enumerate(LEAVES)}, combine="max")


def data_of(graph, **options):
    return explorer_data(graph, "forward", Options(**options))


def by_path(data):
    return {node["path"]: place for place, node in enumerate(data["nodes"])}


def numbers(data, index=0):
    """What an overlay has, by path."""
    return {data["nodes"][place]["path"]: found for place, found in data["overlays"][index]["nodes"].items()}


@pytest.mark.parametrize("overlay", [TIME, LARGEST])
def test_every_node_and_module_has_the_number_that_the_picture_has(overlay):
    found = numbers(data_of(drawn_graphs.nested(), overlay=overlay))
    for path, _, _ in walk(drawn_graphs.nested()):
        if overlay.value(path) is None:
            assert path not in found
        else:
            assert found[path] == {"value": overlay.value(path), "text": overlay.text(path)}
    assert found["stack"]["value"] == (1.5 * sum(range(12)) if overlay is TIME else 0.0)


def test_an_overlay_brings_its_words():
    first, second = LEAVES[3], LEAVES[1]
    flags = {first: "NaN", "nowhere": "lost", second: "Inf"}
    texts = {first: "-1 … 0 … 1", "x": "an input"}
    table = Details("values", ("least", "bad"), {first: (("W", "-1", "1 NaN"),), "": (("all", "-2", ""),)})
    overlay = Overlay("largest", "V", {first: 1}, texts, flags, notes=("a note",), details=table)
    data = data_of(drawn_graphs.nested(), overlay=overlay)
    (drawn,), place = data["overlays"], by_path(data)
    assert (drawn["title"], drawn["notes"]) == ("largest", ["a note"])
    assert drawn["table"] == ["values", "least", "bad"]
    assert drawn["flagged"] == [place[first], place[second]]  # in their order; what is no node is left out
    rows = [["W", "-1", "1 NaN"]]
    assert numbers(data)[first] == {
        "value": 1.0, "number": "1 V", "text": texts[first], "flag": "NaN", "rows": rows
    }  # fmt: skip
    assert numbers(data)["x"] == {"text": "an input"}
    assert numbers(data)["stack"]["flag"] == overlay.flag("stack")
    assert numbers(data)[""] == {"rows": [["all", "-2", ""]]}


def test_numbers_that_json_has_not_are_plain_or_left_out():
    values = {"last/linear": np.float32(0.5), "last/tanh": float("nan"), "double": float("inf"), "late": 2}
    data = data_of(drawn_graphs.nested(), overlay=Overlay("mean", values=values))
    json.dumps(data, allow_nan=False)
    assert {path: found["value"] for path, found in numbers(data).items() if path not in ("last", "")} == {
        "last/linear": 0.5, "late": 2.0
    }  # fmt: skip


def test_boxes_have_room_for_the_widest_text_and_equal_modules_share_a_layout():
    graph, long = (
        drawn_graphs.nested(),
        "a text that is far too long to stand in any box of this drawing, or of another",
    )
    plain, data = data_of(graph), data_of(graph, overlay=[TIME, Overlay("words", texts={LEAVES[0]: long})])
    assert len(data["layouts"]) == len(plain["layouts"])
    assert plain["room"] == 0
    assert 0.8 * WIDEST_LINE < data["room"] <= WIDEST_LINE
    shown = numbers(data, 1)[LEAVES[0]]
    assert shown["text"] == long
    assert text_width(shown["line"], 11, bold=True) <= data["room"]
    for before, after in zip(plain["layouts"], data["layouts"], strict=True):
        for old, new in zip(before["boxes"], after["boxes"], strict=True):
            has_room = new["role"] in ("input", "layer", "module")
            assert new["place"][3] > old["place"][3] if has_room else new["place"][2:] == old["place"][2:]
            assert not has_room or new["place"][2] >= data["room"] + 2 * PADDING_X


def test_a_page_takes_several_overlays_and_a_picture_shows_the_first():
    graph = drawn_graphs.nested()
    data = data_of(graph, overlay=[LARGEST, TIME])
    assert [overlay["title"] for overlay in data["overlays"]] == ["largest", "time"]
    assert data["heats"] == HEAT_STEPS
    assert to_svg(graph, overlay=(LARGEST, TIME)) == to_svg(graph, overlay=LARGEST)
    assert to_svg(graph, overlay=LARGEST) in to_html(graph, overlay=[LARGEST, TIME])
    assert data_of(graph)["overlays"] == data_of(graph, overlay=[])["overlays"] == []
    assert to_html(graph, overlay=[LARGEST, TIME]) == to_html(graph, overlay=[LARGEST, TIME])


@pytest.mark.parametrize("given", [{"conv": 1.0}, "time", [TIME, None]])
def test_what_is_no_overlay_is_refused(given):
    with pytest.raises(OptionError, match=r"no numbers to draw(.|\n)*an Overlay, or several"):
        data_of(drawn_graphs.nested(), overlay=given)


def test_words_of_an_overlay_are_no_markup():
    evil = drawn_graphs.MARKUP
    table = Details(evil, (evil,), {"last": ((evil, evil),)})
    overlay = Overlay(evil, evil, {"last": 1.0}, {"late": evil}, {"last": evil}, notes=(evil,), details=table)
    facts = {"last": (evil,)}
    page = to_html(drawn_graphs.nested(), overlay=overlay, facts=facts, kept=facts)
    (payload,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert not set(payload) & set("<>&\u2028\u2029\x00")
    assert "\\ud800" not in payload
    assert page.count("<script") == 2


def test_cards_tell_work_memory_device_and_what_is_kept(tmp_path):
    x = gnn.Input(("batch", 4), name="x")
    h = layers.Tanh(name="tanh")(layers.Linear(8, name="dense")(x))
    model = gnn.Model(gnn.Graph(x, h, name="net"), device="reference")
    model.render(tmp_path / "net.html", show={"flops", "memory", "device", "dtype"}, sizes={"batch": 2})
    cards = read(tmp_path / "net.html")["nodes"]
    assert cards[0]["facts"] == [
        "forward: 160 FLOP in all",
        "160 B parameters · 128 B outputs of layers",
        "on reference",
    ]
    dense, tanh, entry = (next(card for card in cards if card["path"] == path) for path in ("dense", "tanh", "x"))
    assert dense["facts"] == ["144 FLOP forward", "160 B parameters · 64 B output", "on reference"]
    assert (entry["kept"], tanh["kept"]) == (["input, float32"], ["output, float32"])
    assert "kept" not in dense
    model.graph.render(tmp_path / "graph.html")
    assert not any(card.keys() & {"facts", "kept"} for card in read(tmp_path / "graph.html")["nodes"])


def read(path):
    (payload,) = re.findall(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"))
    return json.loads(payload)


def test_large_graphs_are_flagged_in_time():
    """Whatever is flagged, a closed module finds the first flag inside it at once."""
    graph = drawn_graphs.chain(1600, skip=4)
    flags = {path: "NaN" for path, _, _ in walk(graph)}
    found = data_of(graph, overlay=Overlay("values", flags=flags))["overlays"][0]
    assert len(found["flagged"]) == len(flags) == len(found["nodes"])
