import random
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

import drawn_graphs
from graphnn import layers
from graphnn.errors import OptionError
from graphnn.graph.flatten import flatten
from graphnn.graph.graph import Graph, Source
from graphnn.graph.layer import Input
from graphnn.render.scene import OUTPUT, Scene
from graphnn.render.simplify import KEPT_BOXES, LEVELS, MOST_BOXES, OMISSION
from graphnn.render.views import AUTOMATIC_BOXES, MOST_LEVELS, build_scene


def leaf_connections(graph: Graph) -> Counter[tuple[str, str]]:
    """(path of a source, path of a target) of each connection between leaves, from the flattened graph."""
    flat = flatten(graph)
    names = graph.output_names or ("",)
    into_leaves = [(source, leaf.path) for leaf in flat.leaves for source in leaf.inputs]
    into_outputs = [(source, OUTPUT + name) for name, source in zip(names, flat.outputs, strict=True)]
    return Counter((source.name, target) for source, target in into_leaves + into_outputs if isinstance(source, Source))


def visible(key: str, depth: int) -> str:
    """The box that shows the node at a path when `depth` levels of modules are open."""
    return key if key.startswith(OUTPUT) else "/".join(key.split("/")[: depth + 1])


def drawn(scene: Scene) -> set[tuple[str, str]]:
    return {(edge.source, edge.target) for edge in scene.edges}


def boxes_of(scene: Scene):
    return {box.key: box for box in scene.boxes}


@given(st.integers(0, 10_000), st.integers(0, 3))
def test_edges_between_visible_boxes_are_those_of_the_graph(seed, depth):
    graph = drawn_graphs.random_graph(seed)
    scene = build_scene(graph, depth=depth)
    expected = {(visible(source, depth), visible(target, depth)) for source, target in leaf_connections(graph)}
    assert drawn(scene) == {pair for pair in expected if pair[0] != pair[1]}


@given(st.integers(0, 10_000))
def test_every_connection_is_counted_when_all_is_open(seed):
    graph = drawn_graphs.random_graph(seed)
    edges = build_scene(graph, depth=9).edges
    assert Counter({(edge.source, edge.target): edge.count for edge in edges}) == leaf_connections(graph)
    assert len(edges) == len({(edge.source, edge.target) for edge in edges})


@given(st.integers(0, 10_000), st.integers(0, 3))
def test_boxes_come_after_their_sources_and_lie_in_their_groups(seed, depth):
    scene = build_scene(drawn_graphs.random_graph(seed), depth=depth)
    order = {box.key: index for index, box in enumerate(scene.boxes)}
    assert all(order[edge.source] < order[edge.target] for edge in scene.edges)
    groups = {group.path for group in scene.groups}
    for box in scene.boxes:
        inside = "" if box.role in ("input", "output") else box.key.rpartition("/")[0]
        assert box.group == inside
        assert inside == "" or inside in groups
    for group in scene.groups:
        assert group.parent == group.path.rpartition("/")[0]
        assert group.path.count("/") < depth


def test_adding_a_value_to_itself_is_one_edge_for_two_connections():
    x = Input(("batch", 4), name="x")
    (edge,) = [e for e in build_scene(Graph(x, layers.Add(name="add")(x, x))).edges if e.target == "add"]
    assert edge.count == 2
    assert edge.connections == (
        "x → input 0 of add: float32[batch, 4]",
        "x → input 1 of add: float32[batch, 4]",
    )


def test_edges_pass_through_a_module_that_hands_its_input_on_only_as_a_box():
    scene = build_scene(drawn_graphs.nested())
    assert ("double", "hand_on") in drawn(scene)
    assert ("hand_on", "last/linear") in drawn(scene)
    assert boxes_of(scene)["hand_on"].role == "module"


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_later_uses_name_the_owner_and_count_nothing(depth):
    scene = build_scene(drawn_graphs.nested(), depth=depth)
    texts = [line for box in scene.boxes for line in box.lines]
    counted = [int(text.split()[0].replace(",", "")) for text in texts if "parameter" in text]
    assert sum(counted) == 60  # three different blocks, 4 * 4 + 4 each
    shared = {box.key: box.lines for box in scene.boxes if box.shared}
    assert list(shared) == [[], ["stack/blocks_0_2"], ["stack/blocks_0_2/linear"]][depth]
    for key, lines in shared.items():
        assert f"= {key.replace('blocks_0_2', 'blocks_0')}" in lines
    assert scene.subtitle == "17 layers · 60 parameters: 60 trainable, 0 frozen"


def test_a_module_all_of_whose_parameters_are_frozen_is_marked():
    graph = drawn_graphs.nested()
    frozen = lambda path: path.startswith(("last", "stack/blocks_1"))  # noqa: E731
    top = boxes_of(build_scene(graph, depth=0, is_frozen=frozen))
    assert [key for key, box in top.items() if box.frozen] == ["last"]
    assert "20 parameters · frozen" in top["last"].lines
    assert "40 parameters · 20 frozen · some shared" in top["stack"].lines
    scene = build_scene(graph, is_frozen=frozen)
    assert [box.key for box in scene.boxes if box.frozen] == ["stack/blocks_1/linear", "last/linear"]
    assert [group.path for group in scene.groups if group.frozen] == ["stack/blocks_1", "last"]
    assert scene.subtitle.endswith("20 trainable, 40 frozen")


def test_a_later_use_of_frozen_parameters_is_frozen():
    scene = build_scene(drawn_graphs.nested(), is_frozen=lambda path: path == "stack/blocks_0/linear")
    assert [box.key for box in scene.boxes if box.frozen] == ["stack/blocks_0/linear", "stack/blocks_0_2/linear"]


def test_an_optional_input_that_is_not_given_is_said_to_be_zeros():
    x, skip = Input(("batch", 4), name="x"), Input(("batch", 4), name="skip", optional=True)
    inner = Graph([x, skip], layers.Add(name="add")(x, skip), name="inner")
    y = Input(("batch", 4), name="y")
    graph = Graph(y, inner(y))
    for depth, key in ((0, "inner"), (1, "inner/add")):
        scene = build_scene(graph, depth=depth)
        assert "1 input not given: zeros" in boxes_of(scene)[key].lines
        assert [edge.source for edge in scene.edges if edge.target == key] == ["y"]
    assert "optional: else zeros" in boxes_of(build_scene(inner))["skip"].lines


def test_hyper_parameters_and_specs_are_in_the_tooltip_and_file_names_are_not():
    x = Input(("batch", 3), name="x")
    graph = Graph(x, layers.Linear(2, act_fn=layers.LeakyReLU(alpha=0.25), name="linear")(x))
    tooltip = boxes_of(build_scene(graph))["linear"].tooltip
    assert {"n_out = 2", "act_fn = LeakyReLU(alpha=0.25)", "parameter W: float32[3, 2]"} <= set(tooltip)
    assert {"output: float32[batch, 2]", "input 0: float32[batch, 3]", "8 parameters · trainable"} <= set(tooltip)
    assert not any(__file__ in line or re.search(r"\.py|0x[0-9a-f]+", line) for line in tooltip)


def test_hyper_parameters_without_a_stable_text_get_one():
    class Odd(layers.Tanh):
        @property
        def hyperparameters(self):
            return {"a": object(), "b": {"y", "x", "z"}, "c": lambda: 0, "d": list(range(99)), "e": [[[[[]]]]]}

    x = Input(("batch", 3), name="x")
    tooltip = boxes_of(build_scene(Graph(x, Odd(name="odd")(x))))["odd"].tooltip
    assert "a = object" in tooltip
    assert "b = {'x', 'y', 'z'}" in tooltip
    assert "d = [0, 1, 2, 3, 4, 5, 6, 7, …]" in tooltip
    assert "e = [[[…]]]" in tooltip
    assert not any("0x" in line for line in tooltip)


def test_a_large_graph_stays_closed_by_itself_and_says_so():
    x = Input(("batch", 4), name="x")
    y = x
    for index in range(40):
        y = drawn_graphs.Stack(2, name=f"stack_{index}")(y)
    graph = Graph(x, y)
    scene = build_scene(graph)
    assert scene.notices == ("showing depth 1 of 2: deeper modules are closed",)
    assert len(scene.boxes) == 40 * 3 + 2 <= AUTOMATIC_BOXES < len(build_scene(graph, depth=2).boxes)
    assert build_scene(graph, depth=2).notices == ()


def test_deep_nesting_stays_within_bounds():
    graph = drawn_graphs.chain(1)
    for _ in range(MOST_LEVELS + 10):
        x = Input(("batch", 4), name="x")
        graph = Graph(x, graph(x), name="inner")
    scene = build_scene(graph, depth=1000)
    assert len(scene.groups) == MOST_LEVELS
    assert scene.notices[0].startswith(f"showing depth {MOST_LEVELS} of {MOST_LEVELS + 10}")


def test_what_is_not_drawn_is_counted():
    length = MOST_BOXES + 500
    scene = build_scene(drawn_graphs.chain(length))
    left_out = length + 2 - KEPT_BOXES
    assert len(scene.boxes) == KEPT_BOXES + 1
    assert scene.notices == (f"{left_out:,} nodes not drawn",)
    assert boxes_of(scene)[OMISSION].title == f"… {left_out:,} nodes not drawn …"
    # still one chain from the input to the output
    targets = dict(drawn(scene))
    key, seen = "x", 1
    while key in targets:
        key, seen = targets[key], seen + 1
    assert (key, seen) == (OUTPUT, KEPT_BOXES + 1)


def test_groups_without_a_drawn_box_are_left_out():
    chance = random.Random(0)
    x = Input(("batch", 4), name="x")
    y = x
    for index in range(MOST_BOXES // 4):
        y = drawn_graphs.Block(name=f"block_{index}")(y)[chance.choice(["sum", "gate"])]
    scene = build_scene(Graph(x, y), depth=1)
    assert OMISSION in boxes_of(scene)
    assert {group.path for group in scene.groups} == {box.group for box in scene.boxes} - {""}


def test_edges_that_pass_very_many_boxes_become_labels_that_say_where_they_come_from():
    graph = drawn_graphs.chain(300, mask=True, skip=9)  # without the mask, the edges of the skips are few enough
    scene = build_scene(graph)
    stands_for = {box.key: box.stands_for for box in scene.boxes}
    references = [box for box in scene.boxes if box.role == "reference"]
    assert references
    assert {box.title for box in references} == {"from mask"}
    drawn_edges = {(origin, e.target) for e in scene.edges for origin in stands_for[e.source] or (e.source,)}
    assert drawn_edges == set(leaf_connections(graph))
    assert sum(edge.count for edge in scene.edges) == leaf_connections(graph).total()
    order = [box.key for box in scene.boxes]
    spans = [order.index(edge.target) - order.index(edge.source) for edge in scene.edges]
    assert sum(spans) < LEVELS + 4 * len(scene.boxes)


def test_as_many_sources_become_labels_as_the_layout_needs():
    x, *masks = (Input(("batch", 4), name=name) for name in ("x", "long_mask", "also_long_mask", "short_mask"))
    y = x
    for index in range(120):
        y = layers.Multiply(name=f"node_{index}")(y, *(masks if index in (0, 8) else masks[:2]))
    references = [box for box in build_scene(Graph([x, *masks], y)).boxes if box.role == "reference"]
    assert {source for box in references for source in box.stands_for} == {"long_mask", "also_long_mask"}
    assert references[-1].title == "from 2 nodes"
    assert references[-1].lines == ("long_mask", "also_long_mask")


def test_unknown_views_and_depths_are_refused():
    graph = drawn_graphs.chain(1)
    with pytest.raises(OptionError, match=r"no such view(.|\n)*forward, backward, schedule\n(.|\n)*'sideways'"):
        build_scene(graph, view="sideways")
    for depth in (-1, True, 1.5, "2"):
        with pytest.raises(OptionError, match="not a depth"):
            build_scene(graph, depth=depth)
