"""Which modules are open, where the picture points, its theme, further lines, shared weights."""

import re
from xml.etree import ElementTree

import pytest

import drawn_graphs
from graphnn import layers, modules
from graphnn.errors import OptionError
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.render.layout import lay_out
from graphnn.render.palette import BASE, HEAT, STRIPES, WARNING, contrast
from graphnn.render.svg import to_svg
from graphnn.render.views import build_scene


def groups(**options) -> list[str]:
    return [group.path for group in build_scene(drawn_graphs.nested(), **options).groups]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"depth": 0, "expand": "last"}, ["last"]),
        ({"depth": 0, "expand": "stack/blocks_1"}, ["stack", "stack/blocks_1"]),
        ({"depth": 1, "expand": ["stack/blocks_0*"]}, ["stack", "stack/blocks_0", "stack/blocks_0_2", "last"]),
        ({"collapse": "stack/*"}, ["stack", "last"]),
        ({"collapse": lambda path: path == "stack"}, ["last"]),
        ({"depth": 0, "expand": lambda path: path.endswith("_1")}, ["stack", "stack/blocks_1"]),
        ({"depth": 0, "expand": "last", "collapse": "last"}, []),
    ],
)
def test_globs_and_predicates_open_and_close_modules_on_top_of_depth(options, expected):
    assert groups(**options) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"expand": "nothing*"}, r"no module matches(.|\n)*stack"),
        ({"collapse": ["last", "nothing"]}, "no module matches"),
        ({"direction": "up"}, r"direction(.|\n)*down, right"),
        ({"theme": "pink"}, r"theme(.|\n)*auto, light, dark"),
        ({"show": {"weather"}}, r"show(.|\n)*dtype"),
        ({"colour": 1}, r"no such option(.|\n)*overlay"),
    ],
)
def test_bad_options_are_refused_with_those_that_there_are(options, message):
    with pytest.raises(OptionError, match=message):
        to_svg(drawn_graphs.nested(), **options)


def test_edges_point_right_or_down():
    graph = drawn_graphs.nested()
    for direction, axis in (("down", 1), ("right", 0)):
        layout = lay_out(build_scene(graph, direction=direction))
        places = {p.box.key: (p.place.x, p.place.y) for p in layout.boxes}
        for edge in layout.edges:
            assert places[edge.edge.source][axis] < places[edge.edge.target][axis]


def test_one_theme_has_the_colours_of_that_theme_alone():
    graph = drawn_graphs.nested()
    for theme, other in (("light", "dark"), ("dark", "light")):
        svg = to_svg(graph, theme=theme)
        assert "@media" not in svg
        assert "var(" not in svg
        assert getattr(BASE["paper"], theme) in svg
        assert getattr(BASE["paper"], other) not in svg
    assert "prefers-color-scheme" in to_svg(graph)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_marks_stand_out(theme):
    ink, paper = (getattr(BASE[name], theme) for name in ("ink", "paper"))
    assert all(contrast(ink, getattr(heat, theme)) >= 4.5 for heat in HEAT)
    assert contrast(getattr(WARNING, theme), paper) >= 4.5
    for stripe in STRIPES:
        assert contrast(getattr(stripe, theme), paper) >= 3
    steps = [contrast(getattr(heat, theme), paper) for heat in HEAT]
    assert steps == sorted(steps)  # more is further from the paper, also without colours


def test_further_lines_are_shown_when_asked_for():
    x = Input(("batch", 3), name="x")
    graph = Graph(x, layers.Tanh(name="end")(layers.Linear(2, act_fn=layers.LeakyReLU(alpha=0.25), name="linear")(x)))
    plain = next(box for box in build_scene(graph).boxes if box.key == "linear")
    full = next(
        box
        for box in build_scene(graph, show={"dtype", "hyperparameters", "inputs", "order"}).boxes
        if box.key == "linear"
    )
    added = set(full.lines) - set(plain.lines)
    assert {"float32", "from (batch, 3)", "n_out = 2"} <= added
    assert "act_fn = LeakyReLU(alpha=0.25)" in full.lines
    assert [badge.text for badge in full.badges] == ["step 1"]


def test_uses_of_the_same_weights_have_one_stripe_and_one_letter():
    scene = build_scene(drawn_graphs.nested())
    marked = {box.key: (box.stripe, [b.text for b in box.badges]) for box in scene.boxes if box.stripe is not None}
    assert marked == {
        "stack/blocks_0/linear": (0, ["weights A"]),
        "stack/blocks_0_2/linear": (0, ["weights A"]),
    }
    closed = build_scene(drawn_graphs.nested(), depth=1)
    assert {box.key for box in closed.boxes if box.stripe is not None} == {"stack/blocks_0", "stack/blocks_0_2"}
    assert not any(box.stripe is not None for box in build_scene(drawn_graphs.nested(), depth=0).boxes)
    root = ElementTree.fromstring(to_svg(drawn_graphs.nested()))
    stripes = [e for e in root.iter() if re.fullmatch("gnn-stripe-[0-9]", e.get("class", ""))]
    assert len(stripes) == 2 + 1  # and one in the legend


def test_the_two_directions_of_a_bilstm_can_be_told_apart():
    x = Input(("batch", "time", 3), name="x")
    scene = build_scene(Graph(x, modules.BidirectionalLSTM(4, name="both")(x)))
    marks = {box.key: [badge.kind for badge in box.badges] for box in scene.boxes if box.category == "recurrent"}
    assert marks == {"both/cell_fwd": [], "both/cell_bwd": ["reverse"]}


def test_what_is_declared_first_stands_on_the_left():
    left, right = Input(("batch", 4), name="left"), Input(("batch", 4), name="right")
    tower = drawn_graphs.chain(2)
    graph = Graph([left, right], layers.Add()(tower(left), tower(right)))
    places = {p.box.key: p.place.x for p in lay_out(build_scene(graph)).boxes}
    assert places["left"] < places["right"]


def test_a_closed_module_says_what_sets_it_apart():
    x = Input(("batch", "time", 4), name="x")
    y = x
    for dilation in (1, 2, 4):
        y = modules.WavenetResidualModule(4, 4, dilation, 2, name=f"block_{dilation}")(y)["y_main"]
    scene = build_scene(Graph(x, y), depth=0, fold=True)
    lines = {box.key: box.lines for box in scene.boxes if box.role == "module"}
    assert {key: line for key, found in lines.items() for line in found if "=" in line} == {
        f"block_{dilation}": f"dilation = {dilation}" for dilation in (1, 2, 4)
    }
    assert not any("=" in line for box in build_scene(drawn_graphs.nested(), depth=0).boxes for line in box.lines)


def test_settings_that_were_chosen_come_before_those_that_are_usual():
    x = Input(("batch", "time", 3), name="x")
    layer = layers.Conv1D(2, 2, bias=False, dilation=4, init="he_normal", name="conv")
    (_, box, _) = build_scene(Graph(x, layer(x)), show="hyperparameters").boxes
    assert box.lines[-4:] == ("out_ch = 2", "kernel_width = 2", "dilation = 4", "and 4 more settings")


def test_an_activation_inside_a_layer_is_said_where_it_was_chosen():
    x = Input(("batch", "time", 3), name="x")
    h = layers.Linear(3, act_fn="gelu", name="chosen")(layers.Linear(3, name="none")(x))
    boxes = build_scene(Graph(x, layers.LSTM(3, name="usual")(h))).boxes
    said = {box.key: [line for line in box.lines if line.startswith("act_fn")] for box in boxes if box.role == "layer"}
    assert said == {"none": [], "chosen": ["act_fn = 'gelu'"], "usual": []}


def test_open_modules_of_one_kind_say_what_sets_them_apart():
    x = h = Input(("batch", "time", 4), name="x")
    for index in range(3):
        h = modules.WavenetResidualModule(4, 4, 2**index, 2, name=f"block_{index}")(h)["y_main"]
    titles = [group.title for group in build_scene(Graph(x, h)).groups]
    assert [title.split(" · ")[2] for title in titles] == ["dilation = 1", "dilation = 2", "dilation = 4"]
