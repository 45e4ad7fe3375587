"""Numbers on the page in a real browser: what a reader sees of them, switches and is led to."""

import pytest

import drawn_graphs
import graphnn as gnn
from browser import rgb, selector
from graphnn import layers
from graphnn.graph.flatten import flatten
from graphnn.render.overlay import HEAT_STEPS, Details, Overlay, Scale
from graphnn.render.palette import HEAT, WARNING

pytestmark = pytest.mark.browser

LEAVES = [leaf.path for leaf in flatten(drawn_graphs.nested()).leaves]
TIME = Overlay("time", "ms", {path: 1.5 + index for index, path in enumerate(LEAVES)}, notes=("5 runs",))
SIZE = Overlay("size", "KiB", {path: 100.0 - index for index, path in enumerate(LEAVES)}, combine="max")
BAD = LEAVES[4]  # deep inside
VALUES = Overlay(
    "largest value", "", {LEAVES[0]: 2.0}, flags={BAD: "first NaN", "double": "NaN"}, combine="max",
    details=Details("values", ("least", "mean", "bad"), {BAD: (("W", "-1", "0.25", "4 NaN"), ("b", "0", "0", ""))}),
)  # fmt: skip

NODES = "[...document.querySelectorAll('#world .node')]"
HEATS = f"Object.fromEntries({NODES}.filter(made => made.dataset.heat).map(m => [m.dataset.path, +m.dataset.heat]))"
AMOUNTS = (
    f"Object.fromEntries({NODES}.map(made => [made.dataset.path, made.querySelector('.amount')?.textContent ?? '']))"
)
LABELS = f"Object.fromEntries({NODES}.map(made => [made.dataset.path, made.ariaLabel]))"
SCALE = "[...document.querySelectorAll('#scale b, #scale span, #scale button')].map(made => made.textContent)"
CARD = "document.querySelector('#card').innerText"
STATUS = "document.querySelector('#status').textContent"
SELECTED = "nodes[state.selected].path"


def fill(path):
    return f"getComputedStyle(document.querySelector({selector(path)!r} + ' > .box')).fill"


def expected_heats(overlay, paths):
    values = {path: overlay.value(path) for path in paths if overlay.value(path) is not None}
    scale = Scale(min(values.values()), max(values.values()))
    return {path: scale.step(value) for path, value in values.items()}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_largest_number_has_the_last_colour_and_another_overlay_another_one(show, theme):
    page = show(drawn_graphs.nested(), {"prefers_color_scheme": theme}, depth=9, overlay=[TIME, SIZE])
    first, last, colours = LEAVES[0], LEAVES[-1], [rgb(getattr(colour, theme)) for colour in HEAT]
    assert page.run(HEATS) == expected_heats(TIME, LEAVES)
    assert (page.run(fill(last)), page.run(fill(first))) == (colours[-1], colours[0])
    amounts = page.run(AMOUNTS)
    assert all(amounts[path] == TIME.text(path) for path in LEAVES)
    assert page.run(SCALE) == ["time", "1.5 ms", TIME.text(last)]
    swatches = "[...document.querySelectorAll('#scale rect')].map(made => getComputedStyle(made).fill)"
    assert page.run(swatches) == colours
    page.press("n")
    assert page.run("document.querySelector('#overlay').value") == "1"
    assert page.run(HEATS) == expected_heats(SIZE, LEAVES)
    assert (page.run(fill(last)), page.run(fill(first))) == (colours[0], colours[-1])
    assert page.run(AMOUNTS)[last] == SIZE.text(last)
    assert page.run(STATUS) == "numbers: size"
    page.press("n")
    assert page.run(HEATS) == {}
    assert not any(page.run(AMOUNTS).values())
    assert page.run("document.querySelector('#scale').hidden")
    page.press("n")
    assert page.run(HEATS) == expected_heats(TIME, LEAVES)


def test_the_control_lists_the_overlays_and_none(show):
    page = show(drawn_graphs.nested(), overlay=[TIME, SIZE])
    options = "[...document.querySelector('#overlay').options].map(made => made.text)"
    assert page.run(options) == ["none", "time", "size"]
    page.run("document.querySelector('#overlay').focus()")
    page.press("ArrowDown")
    page.wait_for("state.overlay === 1")
    assert page.run(SCALE)[0] == "size"
    page = show(drawn_graphs.nested())
    assert page.run("document.querySelector('#numbers').hidden && document.querySelector('#scale').hidden")
    page.press("n", "f")
    assert page.run(STATUS) == "no node has a flag"


@pytest.mark.parametrize("overlay", [TIME, SIZE])
def test_closed_modules_show_what_is_inside_and_the_scale_follows(show, overlay):
    page = show(drawn_graphs.nested(), depth=9, overlay=overlay)
    for path in ("stack/blocks_0", "stack"):
        page.run(f"jump(nodes.findIndex(node => node.path === '{path}'))")
        page.press("Enter")
        amounts = page.run(AMOUNTS)
        assert amounts[path] == overlay.text(path)
        drawn = [made for made in amounts if made not in page.run("[...state.open].map(place => nodes[place].path)")]
        assert page.run(HEATS) == expected_heats(overlay, drawn)
        most = max(filter(None, map(overlay.value, drawn)))
        assert page.run(SCALE)[-1] == overlay.write(most)
    page.press("Enter")
    assert "stack" not in page.run(HEATS)
    assert f" · {overlay.text('stack')}" in page.run(f"document.querySelector({selector('stack')!r}).textContent")


def test_names_for_screen_readers_have_the_numbers_and_the_flags(show):
    page = show(drawn_graphs.nested(), depth=9, overlay=[VALUES, TIME])
    labels = page.run(LABELS)
    assert labels[BAD].endswith(", flag first NaN")
    assert labels[LEAVES[0]].endswith(", largest value 2")
    assert labels["stack"].endswith(f", largest value 2, flag {VALUES.flag('stack')}")
    page.press("n")
    assert page.run(LABELS)[BAD].endswith(f", time {TIME.text(BAD)}")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_flag_is_red_has_words_and_is_reached_from_anywhere(show, theme):
    page = show(drawn_graphs.nested(), {"prefers_color_scheme": theme}, depth=0, overlay=VALUES)
    red = rgb(getattr(WARNING, theme))
    flags = f"Object.fromEntries({NODES}.filter(m => m.dataset.flag).map(m => [m.dataset.path, m.dataset.flag]))"
    assert page.run(flags) == {"stack": VALUES.flag("stack"), "double": "NaN"}
    words = f"document.querySelector({selector('double')!r} + ' .warning + text')"
    assert page.run(f"[{words}.textContent, getComputedStyle({words}).fill]") == ["! NaN", red]
    assert page.run(f"getComputedStyle(document.querySelector({selector('double')!r} + ' > .box')).stroke") == red
    assert page.run(SCALE)[-1] == f"! {BAD}: first NaN (and 1 more)"
    page.click("#scale .flag")
    assert page.run(SELECTED) == BAD
    assert page.run("document.activeElement.dataset.path") == BAD
    assert "! first NaN" in page.run(CARD)
    assert page.run(STATUS) == f"flag 1 of 2: {BAD}, first NaN"
    page.press("f")
    assert page.run(SELECTED) == "double"
    page.press("f")
    assert page.run(SELECTED) == BAD


def test_the_card_has_all_numbers_of_a_node_those_that_are_shown_first(show):
    page = show(drawn_graphs.nested(), depth=9, overlay=[TIME, VALUES], facts={BAD: ("12 FLOP forward",)},
                kept={BAD: ("output, float32",)})  # fmt: skip
    page.run(f"jump(nodes.findIndex(node => node.path === '{BAD}'))")
    card = page.run(CARD)
    assert card.index(TIME.text(BAD)) < card.index("Outputs") < card.index("! first NaN")
    for line in ("12 FLOP forward", "output, float32", "least\tmean\tbad", "W\t-1\t0.25\t4 NaN"):
        assert line in card
    page.press("n")
    assert page.run("document.activeElement.dataset.path") == BAD  # what has the focus keeps it
    card = page.run(CARD)
    assert card.index("! first NaN") < card.index("Outputs") < card.index(TIME.text(BAD))
    page.run("select(nodes.findIndex(node => node.path === 'stack'))")
    assert f"{BAD}\toutput, float32" in page.run(CARD)


def test_the_whole_has_notes_flags_and_the_largest_numbers(show):
    page = show(drawn_graphs.nested(), depth=0, overlay=[TIME, VALUES])
    assert "5 runs\non closed modules: sum of all inside" in page.run(CARD)
    largest = sorted((path for path in ("stack", "double", "last")), key=TIME.value, reverse=True)
    assert page.run("[...document.querySelectorAll('#card section:nth-of-type(2) .link')].map(m => m.textContent)") == (
        largest
    )
    page.press("n")
    assert f"{BAD}\tfirst NaN" in page.run(CARD)


def test_hostile_words_of_an_overlay_are_text(show):
    evil = "</script><img src=x onerror=\"document.title = 'hacked'\">"
    table = Details(evil, (evil, evil), {"last": ((evil, evil, evil),)})
    overlay = Overlay(
        evil, evil, {"last": 1.0}, {"late": evil}, {"last": evil, BAD: evil}, notes=(evil,), details=table
    )
    page = show(drawn_graphs.nested(), depth=0, overlay=overlay, facts={"last": (evil,)}, kept={"late": (evil,)})
    for _ in range(2):
        page.press("f")
    page.run("['last', 'late', ''].forEach(path => select(nodes.findIndex(node => node.path === path)))")
    page.press("n", "n")
    assert page.run("document.querySelectorAll('img').length") == 0
    assert page.run("document.querySelectorAll('script').length") == 2
    assert page.run("document.title") == "nested"
    assert page.run(f"document.querySelector({selector('last')!r}).dataset.flag") == evil


def test_steps_of_the_scale_are_those_of_the_picture(show):
    x = gnn.Input(("batch", 4), name="x")
    h, values = x, {}
    for index in range(40):
        h = layers.Tanh(name=f"tanh_{index}")(h)
        values[f"tanh_{index}"] = (-1) ** index * 1.7 ** (index / 3)
    overlay = Overlay("power", values=values)
    page = show(gnn.Graph(x, h, name="chain"), overlay=overlay)
    assert page.run(HEATS) == expected_heats(overlay, values)
    one = show(gnn.Graph(x, h, name="chain"), overlay=Overlay("one", values={"tanh_3": -2.0}))
    assert one.run(HEATS) == {"tanh_3": HEAT_STEPS - 1}


def test_numbers_are_printed_on_one_page(show):
    page = show(drawn_graphs.nested(), depth=0, overlay=VALUES)
    assert page.pdf().count(b"/Type /Page\n") == 1


def test_texts_stay_in_their_boxes(show):
    flags = {"last/add": "a flag with many words that nobody can place"}
    texts = {LEAVES[0]: "-0.00123 … 0.000456 … 123", "x": "a text with many words that nobody can place"}
    page = show(drawn_graphs.nested(), depth=9, overlay=Overlay("values", values=TIME.values, texts=texts, flags=flags))
    inside = f"""{NODES}.flatMap(made => [...made.querySelectorAll('.amount, .warning, .bar + .name')].filter(each => {{
      const [inner, outer] = [each, made.querySelector('.box, .bar')].map(item => item.getBoundingClientRect());
      return inner.left < outer.left || inner.right > outer.right;
    }}).map(each => each.textContent))"""
    assert page.run(inside) == []
