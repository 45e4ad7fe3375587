import json
from pathlib import Path

import pytest

import drawn_graphs
from graphnn import Model, layers
from graphnn.graph.flatten import flatten
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.graph.summary import walk
from graphnn.modules import WavenetResidualModule
from graphnn.render.explorer import COMFORTABLE_BOXES, explorer_data
from graphnn.render.explorer_cards import shortened_position
from graphnn.render.options import Options, never

GRAPHS = {
    "nested": drawn_graphs.nested,
    "hostile": drawn_graphs.hostile,
    **{f"random {seed}": lambda seed=seed: drawn_graphs.random_graph(seed) for seed in range(8)},
}


def data_of(graph, view="forward", is_frozen=never, **options):
    return explorer_data(graph, view, Options(is_frozen=is_frozen, **options))


def is_module(node):
    return "layout" in node


def is_end(node):
    return node["kind"] in ("Input", "Output")


@pytest.mark.parametrize("make", GRAPHS.values(), ids=GRAPHS)
def test_every_node_of_every_graph_has_its_card(make):
    graph = make()
    data = data_of(graph)
    inner = [node for node in data["nodes"][1:] if not is_end(node)]
    assert sorted(node["path"] for node in inner) == sorted(path for path, _, _ in walk(graph))
    assert all(node["outputs"] and node["declared"] for node in inner)
    for place, node in enumerate(data["nodes"]):
        if is_module(node):
            children = data["nodes"][node["first"] : node["first"] + node["count"]]
            assert all(child["parent"] == place for child in children)


@pytest.mark.parametrize("make", GRAPHS.values(), ids=GRAPHS)
def test_the_connections_are_those_of_the_flat_graph(make):
    """A value followed from its layer through inputs and outputs of modules comes to the layers that read it."""
    graph = make()
    data = data_of(graph)
    nodes, after = data["nodes"], {}
    for node in filter(is_module, nodes):
        for source, output, target, position in data["layouts"][node["layout"]]["links"]:
            source, target = node["first"] + source, node["first"] + target
            if is_module(nodes[source]):
                source = nodes[source]["first"] + nodes[source]["count"] - len(nodes[source]["outputs"]) + output
            if is_module(nodes[target]):
                target = nodes[target]["first"] + position
            after.setdefault(source, []).append(target)
    found = []
    for place, node in enumerate(nodes):
        if not is_module(node) and (not is_end(node) or node["parent"] == 0):
            found += [(node["path"], reader) for reader in readers(nodes, after, place)]
    expected = [
        (source.name, leaf.path) for leaf in flatten(graph).leaves for source in leaf.inputs if hasattr(source, "name")
    ]
    assert sorted(found) == sorted(expected)


def readers(nodes, after, place):
    for target in after.get(place, ()):
        if not is_end(nodes[target]):
            yield nodes[target]["path"]
        else:
            yield from readers(nodes, after, target)


@pytest.mark.parametrize("make", GRAPHS.values(), ids=GRAPHS)
def test_boxes_of_a_layout_stand_apart_and_edges_end_at_them(make):
    for layout in data_of(make())["layouts"]:
        places = [box["place"] for box in layout["boxes"]]
        for index, (x, y, width, height) in enumerate(places):
            assert x >= -0.1
            assert y >= -0.1
            assert x + width <= layout["width"] + 0.1
            assert y + height <= layout["height"] + 0.1
            for left, top, other_width, other_height in places[:index]:
                assert x >= left + other_width or left >= x + width or y >= top + other_height or top >= y + height
        for edge in layout["edges"]:
            start, end = (places[index] for index in edge["ends"])
            assert distance(start, edge["curve"][:2]) < 2
            assert distance(end, edge["curve"][-2:]) < 2


def distance(place, point):
    x, y, width, height = place
    return max(x - point[0], point[0] - x - width, y - point[1], point[1] - y - height, 0)


def test_ends_meet_their_boxes_where_graphviz_rounds():
    (layout,) = data_of(drawn_graphs.chain(1700))["layouts"]
    assert layout["height"] > 1e5
    for edge in layout["edges"]:
        start, end = (layout["boxes"][index]["place"] for index in edge["ends"])
        assert edge["curve"][1] == start[1] + start[3]
        assert edge["curve"][-1] == end[1]


def test_modules_that_look_the_same_share_a_layout():
    x = Input(("batch", "time", 8), name="x")
    main, skip = x, None
    for index in range(12):
        outputs = WavenetResidualModule(8, 8, 2 ** (index % 4), 2, name=f"block_{index}")(main, skip)
        main, skip = outputs["y_main"], outputs["y_skip"]
    data = data_of(Graph(x, layers.Add()(main, skip), name="stack"))
    blocks = {node["layout"] for node in data["nodes"] if node["kind"] == "WavenetResidualModule"}
    assert len(blocks) == 2  # the first block reads no skip input
    assert len(data["layouts"]) == 3


def test_the_card_of_a_layer():
    x = Input(("batch", 3), name="x")
    graph = Graph(x, layers.BatchNorm1D(name="norm")(layers.Linear(4, act_fn="relu", name="dense")(x)), name="net")
    nodes = {node["path"]: node for node in data_of(graph, is_frozen=lambda path: path == "dense")["nodes"]}
    dense, norm = nodes["dense"], nodes["norm"]
    assert dense["kind"] == "Linear"
    assert dense["outputs"] == [["", "(batch, 4)", "float32"]]
    assert dense["parameters"] == [["W", "(3, 4)", "12"], ["b", "(4,)", "4"]]
    assert ["n_out", "4"] in dense["hyperparameters"]
    assert dense["frozen"]
    assert "frozen" not in norm
    assert [row[0] for row in norm["states"]] == ["running_mean", "running_var"]
    assert dense["declared"].rpartition(":")[0] == "render/test_explorer.py"
    line = Path(__file__).read_text(encoding="utf-8").splitlines()[int(dense["declared"].rpartition(":")[2]) - 1]
    assert 'name="dense"' in line


def test_shared_layers_name_each_other():
    data = data_of(drawn_graphs.nested())
    nodes = data["nodes"]
    groups = {
        node["path"]: {nodes[other]["path"] for other in node["shared"]}
        for node in nodes
        if "shared" in node and not is_module(node)
    }
    pair = {"stack/blocks_0/linear", "stack/blocks_0_2/linear"}
    assert groups == {path: pair - {path} for path in pair}


@pytest.mark.parametrize("file", ["/home/someone/work/examples/net.py", "examples/net.py"])
def test_positions_do_not_tell_folders(file):
    assert shortened_position((file, 7)) == "examples/net.py:7"


def test_no_folder_of_this_machine_is_in_the_data():
    assert str(Path(__file__).parents[1]) not in json.dumps(data_of(drawn_graphs.nested()))


def test_steps_are_the_schedules():
    x, ids = Input(("batch", 4), name="x"), Input(("batch",), dtype="int64", name="ids")
    y = layers.Add(name="sum")(layers.Embedding(4, 9, name="table")(ids), layers.Tanh(name="tanh")(x))
    graph = Graph([x, ids], y, name="net")
    nodes = {node["path"]: node for node in data_of(graph)["nodes"]}
    for view, order in (("forward", graph.schedule()), ("backward", graph.backward_schedule())):
        found = sorted((node[view][0], path) for path, node in nodes.items() if view in node)
        assert [path for _, path in found] == [node.name for node in order]
    data = data_of(graph, is_frozen=lambda path: path == "table")
    (table,) = [node for node in data["nodes"] if node["path"] == "table"]
    assert "backward" not in table
    assert data["steps"] == {"forward": 3, "backward": 2}


def test_a_module_has_the_steps_from_the_first_to_the_last_inside():
    for node in (nodes := data_of(drawn_graphs.nested())["nodes"])[1:]:
        inside = [other for other in nodes[1:] if other["path"].startswith(f"{node['path']}/") and not is_module(other)]
        steps = [step for other in inside for step in other.get("forward", ())]
        if is_module(node) and steps:
            assert node["forward"] == [min(steps), max(steps)]


def test_how_much_is_open_at_first():
    assert data_of(drawn_graphs.nested())["depth"] == 2
    assert data_of(drawn_graphs.nested(), depth=1)["depth"] == 1
    assert data_of(drawn_graphs.nested(), depth=9)["depth"] == 2
    x = Input(drawn_graphs.SHAPE, name="x")
    large = drawn_graphs.Stack(COMFORTABLE_BOXES // 4, name="large")(x)
    assert data_of(Graph(x, large, name="net"))["depth"] == 1
    data = data_of(drawn_graphs.nested(), depth=1, expand="stack/blocks_1", collapse="last")
    assert [data["nodes"][place]["path"] for place in data["open"]] == ["stack", "stack/blocks_1"]


def test_frozen_nodes_of_a_model_are_known(tmp_path):
    x = Input(("batch", 3), name="x")
    model = Model(Graph(x, layers.Linear(2, name="dense")(x), name="net"), seed=0)
    model.render(tmp_path / "before.html")
    model.freeze("dense")
    model.render(tmp_path / "after.html")
    before, after = ((tmp_path / f"{name}.html").read_text(encoding="utf-8") for name in ("before", "after"))
    assert '"frozen":true' not in before
    assert '"frozen":true' in after
