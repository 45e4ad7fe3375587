"""Graphs as text: what is written comes back, and what comes in is data."""

import contextlib
import copy
import json
import math
import random
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnn import layers
from graphnn.errors import FileFormatError, GraphError, GraphnnError, OptionError
from graphnn.files.graph_json import MAX_DEPTH, content_hash, from_json, to_json
from graphnn.files.graph_json_reader import MAX_NODES
from graphnn.graph.flatten import flatten
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input, Layer
from graphnn.graph.module import Module
from graphnn.initializers import HeNormal, Normal
from graphnn.ir.dimension import parse_size
from random_graphs import OWN_LAYERS, Block, graphs

ROOT = Path(__file__).parents[2]


def read(text):
    return from_json(text, OWN_LAYERS)


def small():
    x = Input(("batch", 4), name="x")
    return Graph(x, layers.ReLU(name="act")(layers.Linear(4, name="linear")(x)), name="small")


def edited(edit, graph=None):
    """The text of a graph with `edit` applied to its data."""
    data = json.loads(to_json(graph or small()))
    edit(data)
    return json.dumps(data)


def shape_of(graph):
    """What two graphs share when they are the same: all but layer objects."""
    flat = flatten(graph)
    leaves = [
        (leaf.path, leaf.layer.kind, leaf.inputs, leaf.owner, leaf.specs, leaf.output_names) for leaf in flat.leaves
    ]
    inputs = [(node.name, node.spec, node.optional) for node in graph.inputs]
    return inputs, leaves, flat.groups, flat.outputs, graph.output_names, graph.edges


# -- there and back ---------------------------------------------------------------------------------------------------


@given(graphs())
def test_a_graph_comes_back_as_it_was(graph):
    text = to_json(graph)
    again = read(text)
    assert to_json(again) == text
    assert shape_of(again) == shape_of(graph)
    assert str(again.summary()) == str(graph.summary())
    assert [node.name for node in again.backward_schedule()] == [node.name for node in graph.backward_schedule()]
    assert len({id(leaf.layer) for leaf in flatten(again).leaves}) == len(
        {id(leaf.layer) for leaf in flatten(graph).leaves}
    )
    assert content_hash(again) == content_hash(graph)


@given(graphs(), st.randoms(use_true_random=False))
def test_nodes_may_stand_in_any_order(graph, order):
    data = json.loads(to_json(graph))
    stack = [data]
    while stack:
        inner = stack.pop()
        order.shuffle(inner["nodes"])
        stack += [node["graph"] for node in inner["nodes"] if "graph" in node]
    again = read(json.dumps(data))
    assert sorted(e.target for e in again.edges) == sorted(e.target for e in graph.edges)
    assert set(again.edges) == set(graph.edges)
    mine, theirs = flatten(again).leaves, flatten(graph).leaves
    assert {leaf.path: leaf.inputs for leaf in mine} == {leaf.path: leaf.inputs for leaf in theirs}
    assert groups_of_sharing(mine) == groups_of_sharing(theirs)


def groups_of_sharing(leaves):
    table = {}
    for leaf in leaves:
        table.setdefault(id(leaf.layer), set()).add(leaf.path)
    return sorted(map(sorted, table.values()))


GOLDEN = """\
{"format": "graphnn.graph", "version": 1, "name": "net", "layer": "Graph", "hyperparameters": {},
 "inputs": [
  {"name": "x", "shape": ["batch", "2*time - 1", 8], "dtype": "float32", "optional": false}
 ],
 "nodes": [
  {"name": "tied", "layer": "Linear", "hyperparameters": {"n_out": 8, "act_fn": {"$layer": "LeakyReLU", \
"hyperparameters": {"alpha": 0.3}}, "bias": true, "init": {"$initializer": "Normal", "hyperparameters": \
{"mean": 0.0, "std": 0.5}}, "n_in": null}, "inputs": ["x"]},
  {"name": "pair", "layer": "Pair", "hyperparameters": {"sizes": [1, 2], "fn": {"$unsaved": "function"}}, \
"inputs": ["tied"], "graph": {
   "inputs": [
    {"name": "x", "shape": ["batch", "2*time - 1", 8], "dtype": "float32", "optional": false}
   ],
   "nodes": [
    {"name": "act", "layer": "Tanh", "hyperparameters": {}, "inputs": ["x"]}
   ],
   "outputs": ["act", "x"]}},
  {"name": "tied_2", "layer": "Linear", "shared_with": "tied", "inputs": ["pair:1"]},
  {"name": "pair_2", "layer": "Pair", "shared_with": "pair", "inputs": ["tied_2"]}
 ],
 "outputs": {"y": "pair_2", "z": "pair:1"}}
"""


class Pair(Module):
    def __init__(self, sizes, fn=None):
        super().__init__()
        self.act = layers.Tanh()

    def forward(self, x):
        return self.act(x), x


def test_the_text_is_this():
    x = Input(("batch", "2*time-1", 8), name="x")
    tied, pair = (
        layers.Linear(8, act_fn=layers.LeakyReLU(), init=Normal(std=0.5), name="tied"),
        Pair((1, 2), fn=lambda: 0),
    )
    inner = pair(tied(x))
    graph = Graph(x, {"y": pair(tied(inner[1]))[0], "z": inner[1]}, name="net")
    assert to_json(graph) == GOLDEN
    again = from_json(GOLDEN)
    assert to_json(again) == GOLDEN
    assert again.nodes[1].layer.hyperparameters == {"sizes": [1, 2], "fn": {"$unsaved": "function"}}
    assert again.nodes[1].layer is again.nodes[3].layer
    assert again.nodes[0].layer is again.nodes[2].layer
    assert again.nodes[0].layer.init == Normal(std=0.5)


def test_the_methods_of_graph_do_the_same():
    graph = small()
    assert Graph.from_json(graph.to_json()).to_json() == to_json(graph)


@dataclass(frozen=True, eq=False)
class Odd(Layer):
    """Holds every kind of value that a file can hold."""

    values: object = None
    number: float = 0.0
    sizes: tuple[int, ...] = ()
    table: dict = field(default_factory=dict)

    def lower(self, scope, x):
        return x


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64)
    | st.floats()
    | st.text(max_size=8)
    | st.just(Normal(0.0, 1.0))
    | st.sampled_from([parse_size("2*time - 1"), parse_size("(n + 3)//2*m")]),
    lambda inner: (
        st.tuples(inner, inner) | st.dictionaries(st.text(st.characters(exclude_characters="$")), inner, max_size=2)
    ),
    max_leaves=6,
)


@given(VALUES, st.floats(), st.lists(st.integers(-9, 9)).map(tuple))
def test_hyperparameters_come_back_equal(values, number, sizes):
    x = Input(("batch",), name="x")
    graph = Graph(x, Odd(values, number, sizes, {"a": sizes})(x))
    again = from_json(to_json(graph), {"Odd": Odd})
    assert to_json(again) == to_json(graph)
    layer = again.nodes[0].layer
    assert same(layer.values, values)
    assert same(layer.number, number)
    assert (layer.sizes, layer.table) == (sizes, {"a": sizes})


def same(a, b):
    """Equal, of one type, and NaN equals NaN."""
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


def test_numbers_of_numpy_are_numbers():
    x = Input(("batch",), name="x")
    graph = Graph(x, Odd((np.int64(3), np.float32(0.5), np.bool_(True)))(x))
    assert from_json(to_json(graph), {"Odd": Odd}).nodes[0].layer.values == (3, 0.5, True)


@pytest.mark.parametrize("name", ["größe", "日本", 'quo"te', "a&b", "e\u0301", "\U0001f600"])
def test_any_name_survives(name):
    x = Input(("batch",), name="x")
    graph = Graph(x, {name: layers.ReLU(name=name)(x)})
    text = to_json(graph)
    assert text.isascii()
    assert from_json(text.encode()).nodes[0].name == name


# -- what cannot be written -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [lambda: 0, np.zeros(3), {1: 2}, {"$layer": 1}, object(), Block(), 2**65, {1, 2}, "x" * 10_000]
)
def test_a_layer_that_holds_no_data_cannot_be_saved(value):
    x = Input(("batch",), name="x")
    with pytest.raises(GraphError, match="cannot be written to a file") as caught:
        to_json(Graph(x, Odd((value,), name="odd")(x)))
    assert caught.value.where == "odd, values[0]"
    assert "data" in caught.value.fix


def test_a_list_that_holds_itself_cannot_be_saved():
    x, endless = Input(("batch",), name="x"), []
    endless.append(endless)
    with pytest.raises(GraphError, match="cannot be written"):
        to_json(Graph(x, Odd(endless)(x)))


def test_two_classes_of_one_name_cannot_be_saved():
    @dataclass(frozen=True, eq=False)
    class ReLU(Layer):
        def lower(self, scope, x):
            return x

    x = Input(("batch",), name="x")
    with pytest.raises(GraphError, match="two layer classes are called ReLU") as caught:
        to_json(Graph(x, ReLU()(x)))
    assert "graphnn.layers.activation.ReLU and " in caught.value.got
    assert caught.value.fix == "rename your class"


def test_graphs_that_lie_too_deep_cannot_be_saved_nor_loaded():
    x = Input(("batch",), name="x")
    graph = Graph(x, layers.ReLU()(x))
    for _ in range(MAX_DEPTH - 1):
        graph = Graph(x, graph(x))
    text = to_json(graph)
    assert to_json(from_json(text)) == text
    with pytest.raises(GraphError, match="too deep"):
        to_json(Graph(x, graph(x)))
    inner = json.loads(text)
    deeper = {key: inner[key] for key in ("inputs", "nodes", "outputs")}
    node = {"name": "graph", "layer": "Graph", "hyperparameters": {}, "inputs": ["x"], "graph": deeper}
    with pytest.raises(FileFormatError, match="too deep"):
        from_json(json.dumps(inner | {"nodes": [node], "outputs": "graph"}))


# -- files from strangers ---------------------------------------------------------------------------------------------


def set_at(path, value):
    def edit(data):
        *way, last = path
        for key in way:
            data = data[key]
        data[last] = value

    return edit


def drop(*path):
    def edit(data):
        *way, last = path
        for key in way:
            data = data[key]
        del data[last]

    return edit


H = ("nodes", 0, "hyperparameters")
WRONG = [
    (set_at(["format"], "keras"), "format", "this is no graph file"),
    (drop("format"), "format", "this is no graph file"),
    (set_at(["version"], 2), "version", "unknown version"),
    (set_at(["version"], True), "version", "unknown version"),
    (set_at(["version"], "1"), "version", "unknown version"),
    (set_at(["extra"], 1), "the file", "unknown key 'extra'"),
    (drop("outputs"), "the file", "the key 'outputs' is missing"),
    (set_at(["name"], 3), "name", "3 cannot be a name"),
    (set_at(["name"], "a/b"), "name", "cannot be a name"),
    (set_at(["nodes"], {}), "nodes", "wrong type"),
    (set_at(["nodes", 0], []), "nodes[0]", "wrong type"),
    (set_at(["nodes", 0, "module"], "os"), "nodes[0]", "unknown key 'module'"),
    (drop("nodes", 0, "inputs"), "nodes[0]", "the key 'inputs' is missing"),
    (set_at(["nodes", 0, "name"], "dLd"), "nodes[0].name", "cannot be a name"),
    (set_at(["nodes", 0, "layer"], "os.system"), "linear, nodes[0].layer", "unknown layer"),
    (set_at(["nodes", 0, "layer"], "__class__"), "linear, nodes[0].layer", "unknown layer"),
    (set_at(["nodes", 0, "layer"], "Module"), "linear, nodes[0].layer", "cannot stand alone"),
    (set_at(["nodes", 0, "layer"], "Graph"), "linear, nodes[0].layer", "cannot stand alone"),
    (set_at(["nodes", 0, "layer"], "Layer"), "linear, nodes[0].layer", "unknown layer"),
    (set_at(["nodes", 0, "layer"], "Join"), "linear, nodes[0].layer", "cannot stand alone"),
    (set_at(["nodes", 0, "layer"], ["Linear"]), "nodes[0].layer", "wrong type"),
    (set_at([*H, "n_outs"], 1), "linear, nodes[0].hyperparameters", "unknown attribute of Linear"),
    (set_at([*H, "name"], "x"), "linear, nodes[0].hyperparameters", "unknown attribute of Linear"),
    (set_at([*H, "__class__"], 1), "linear, nodes[0].hyperparameters", "unknown attribute of Linear"),
    (drop(*H, "n_out"), "linear, nodes[0].hyperparameters", "Linear lacks 'n_out'"),
    (set_at([*H, "n_out"], "4"), "linear, nodes[0].hyperparameters.n_out", "wrong type of 'n_out'"),
    (set_at([*H, "n_out"], 4.5), "linear, nodes[0].hyperparameters.n_out", "wrong type of 'n_out'"),
    (set_at([*H, "bias"], 1), "linear, nodes[0].hyperparameters.bias", "wrong type of 'bias'"),
    (set_at([*H, "init"], ["os"]), "linear, nodes[0].hyperparameters.init", "wrong type of 'init'"),
    (set_at([*H, "init"], {"$call": "os.system"}), "linear, nodes[0].hyperparameters.init", "unknown kind of value"),
    (set_at([*H, "init"], {"$initializer": "os", "hyperparameters": {}}), "init", "unknown kind of value"),
    (set_at([*H, "init"], {"$initializer": "Normal", "hyperparameters": {"std": -1}}), "init", "deviation is negative"),
    (set_at([*H, "act_fn"], {"$layer": "ReLU"}), "act_fn", "unknown kind of value"),
    (set_at([*H, "act_fn"], {"$layer": "Add", "hyperparameters": {}}), "act_fn", "wrong type of 'act_fn'"),
    (set_at([*H, "act_fn"], {"$layer": "eval", "hyperparameters": {}}), "act_fn.$layer", "unknown layer"),
    (set_at([*H, "act_fn"], {"$float": "1e3"}), "act_fn", "unknown kind of value"),
    (set_at([*H, "n_out"], -4), "linear", "negative"),
    (set_at(["nodes", 0, "inputs"], ["x:0"]), "linear, nodes[0].inputs[0]", "not a source"),
    (set_at(["nodes", 0, "inputs"], ["x:a"]), "linear, nodes[0].inputs[0]", "not a source"),
    (set_at(["nodes", 0, "inputs"], [None]), "linear, nodes[0].inputs[0]", "not a source"),
    (set_at(["nodes", 0, "inputs"], [0]), "linear, nodes[0].inputs[0]", "not a source"),
    (set_at(["nodes", 0, "inputs"], []), "linear", "wrong number of inputs"),
    (set_at(["nodes", 0, "inputs"], ["act"]), "linear", "cycle"),
    (set_at(["nodes", 1, "inputs"], ["act"]), "act", "cycle"),
    (set_at(["nodes", 1, "inputs"], ["nothing"]), "act", "a source does not exist"),
    (set_at(["nodes", 1, "inputs"], ["linear:1"]), "act", "no such output"),
    (set_at(["nodes", 1, "inputs"], ["x"]), "linear", "no output depends on this node"),
    (set_at(["nodes", 1, "name"], "linear"), "linear, nodes[1]", "the name is given twice"),
    (set_at(["nodes", 1, "name"], "x"), "x", "the name is given twice"),
    (set_at(["inputs", 0, "shape"], "batch"), "inputs[0].shape", "wrong type"),
    (set_at(["inputs", 0, "shape", 1], "__import__('os')"), "inputs[0]", "not a size"),
    (set_at(["inputs", 0, "shape", 1], None), "inputs[0]", "not a size"),
    (set_at(["inputs", 0, "shape", 1], True), "inputs[0]", "not a size"),
    (set_at(["inputs", 0, "shape", 1], 4.0), "inputs[0]", "not a size"),
    (set_at(["inputs", 0, "shape", 1], -1), "inputs[0]", "negative"),
    (set_at(["inputs", 0, "dtype"], "O"), "inputs[0]", "unknown element type"),
    (set_at(["inputs", 0, "optional"], 0), "inputs[0].optional", "wrong type"),
    (set_at(["inputs"], []), "linear", "a source does not exist"),
    (set_at(["outputs"], []), "outputs", "at least one output"),
    (set_at(["outputs"], {}), "outputs", "at least one output"),
    (set_at(["outputs"], 3), "outputs", "not a source"),
    (set_at(["outputs"], {"a/b": "act"}), "outputs", "cannot be a name"),
    (set_at(["outputs"], "nothing"), "outputs", "a source does not exist"),
    (
        lambda data: data["nodes"][1].pop("hyperparameters") or data["nodes"][1].update(shared_with="x"),
        "act",
        "shared_with",
    ),
    (
        lambda d: d["nodes"][1].pop("hyperparameters") is None or d["nodes"][1].update(shared_with="act"),
        "act",
        "shared_with",
    ),
    (
        lambda d: d["nodes"][1].pop("hyperparameters") is None or d["nodes"][1].update(shared_with="linear"),
        "act",
        "ReLU",
    ),
]


@pytest.mark.parametrize(("edit", "where", "message"), WRONG)
def test_wrong_data_is_refused(edit, where, message):
    with pytest.raises(GraphnnError) as caught:
        from_json(edited(edit))
    text = str(caught.value)
    assert where in caught.value.where, text
    assert message in text, text
    assert "expected: " in text, text
    assert f"declared at {__file__}:" in text, text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "this is no JSON"),
        ("{", "this is no JSON"),
        ('{"format": "graphnn.graph", "format": "graphnn.graph"}', "a key stands twice"),
        ('{"format": NaN}', "not finite"),
        ('{"format": 1e999}', "not finite"),
        ('{"format": -Infinity}', "not finite"),
        ('{"format": ' + "9" * 5000 + "}", "integer is too long"),
        ('{"format": "' + "x" * 20_000 + '"}', "string is too long"),
        ("[" * 100_000, "nested too deep"),
        ('{"a":' * 100_000, "nested too deep"),
        ('"' + '\\"' * 100_000, "string is too long"),
        (b"\xff\xfe", "this is no text"),
        (b"PK\x03\x04", "this is no JSON"),
        (3, "not a text"),
        ("[]", "this is no graph file"),
        ("3", "this is no graph file"),
    ],
)
def test_text_that_is_no_graph_is_refused(text, message):
    with pytest.raises(FileFormatError, match=message):
        from_json(text)


def shared_bomb(levels, times=2):
    """Each level uses the one before several times: a few lines that stand for times**levels nodes."""
    spec = {"name": "x", "shape": ["n"], "dtype": "float32", "optional": False}
    relu = {"name": "relu", "layer": "ReLU", "hyperparameters": {}, "inputs": ["x"]}
    nodes = []
    for level in range(levels):
        uses = [
            {
                "name": f"u{use}",
                "layer": "B",
                "shared_with": f"level_{level - 1}",
                "inputs": [f"u{use - 1}" if use else "x"],
            }
            for use in range(times)
        ]
        inner = {"inputs": [spec], "nodes": uses if level else [relu], "outputs": f"u{times - 1}" if level else "relu"}
        source = f"level_{level - 1}" if level else "x"
        nodes.append(
            {"name": f"level_{level}", "layer": "B", "hyperparameters": {}, "inputs": [source], "graph": inner}
        )
    head = {"format": "graphnn.graph", "version": 1, "name": None, "layer": "Graph", "hyperparameters": {}}
    return head | {"inputs": [spec], "nodes": nodes, "outputs": f"level_{levels - 1}"}


def test_sharing_cannot_stand_for_billions_of_nodes():
    graph = from_json(json.dumps(shared_bomb(8)))
    assert len(flatten(graph).leaves) == 2**8 - 1
    with pytest.raises(FileFormatError, match="too large") as caught:
        from_json(json.dumps(shared_bomb(40)))
    assert f"{MAX_NODES:,}" in caught.value.expected
    with pytest.raises(FileFormatError, match="64 levels"):
        from_json(json.dumps(shared_bomb(100, times=1)))


@pytest.mark.parametrize("times", [1, 2])
def test_a_graph_that_could_not_be_read_is_not_written(times):
    x = Input(("n",), name="x")
    inner = Graph(x, layers.ReLU()(x))
    y = inner(x)
    for _ in range(70):
        z = x
        for _ in range(times):
            z = inner(z)
        inner = Graph(x, z)
        y = inner(y)
    with pytest.raises(GraphError, match="too large, or graphs lie too deep"):
        to_json(Graph(x, y))


def test_a_graph_cannot_lie_in_itself():
    data = shared_bomb(2)
    data["nodes"][1]["graph"]["nodes"][0]["shared_with"] = "level_1"
    with pytest.raises(FileFormatError, match="in themselves"):
        from_json(json.dumps(data))
    data["nodes"][1]["graph"]["nodes"][0]["shared_with"] = "level_1/u1"
    with pytest.raises(FileFormatError, match="`shared_with` is the path of another node"):
        from_json(json.dumps(data))


def test_descriptions_of_modules_are_data_of_limited_depth():
    value = deep = {}
    for _ in range(60):
        deep["a"] = deep = {}
    x = Input(("n", 4), name="x")
    with pytest.raises(FileFormatError, match="nested too deep"):
        from_json(edited(set_at(["nodes", 0, "hyperparameters"], value), Graph(x, Block()(x)["y"])))


def test_users_layers_are_read_only_when_given():
    x = Input(("batch",), name="x")
    text = to_json(Graph(x, Odd(3, name="odd")(x)))
    with pytest.raises(FileFormatError, match="unknown layer") as caught:
        from_json(text)
    assert "layers={" in caught.value.fix
    assert from_json(text, {"Odd": Odd}).nodes[0].layer.values == 3
    for wrong in ({"Odd": Odd()}, {"Odd": dict}, {"ReLU": Odd}):
        with pytest.raises(OptionError, match="`layers` maps names to Layer classes"):
            from_json(text, wrong)


def test_reading_imports_nothing_that_the_file_names():
    text = edited(set_at(["nodes", 0, "layer"], "antigravity.geohash"))
    program = f"""
import sys
from graphnn import layers
from graphnn.errors import FileFormatError
from graphnn.files.graph_json import from_json
before = set(sys.modules)
try:
    from_json({text!r})
except FileFormatError:
    print(sorted(set(sys.modules) - before))
"""
    command = [sys.executable, "-c", program]
    result = subprocess.run(
        command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


LITTER = [None, True, -1, 0, 2, 1e300, "", "x", "act", "ReLU", "2*time", [], ["x"], {}, {"a": 1}, {"$size": "n"}, "x:1"]


def test_whatever_stands_in_a_file_the_answer_is_a_graph_or_a_typed_error():
    rng = random.Random(0)
    x = Input(("batch", 4), name="x")
    conv = layers.Conv2D(3, (3, 3), pad="same", init=HeNormal())(layers.Reshape((0, 2, 2, 1))(x))
    base = json.loads(to_json(Graph(x, (Block()(x)["y"], conv))))
    read_well = 0
    for _ in range(1500):
        data = copy.deepcopy(base)
        for _ in range(rng.choice([1, 1, 2])):
            holder, key = rng.choice(list(places(data)))
            if rng.random() < 0.15:
                del holder[key]
            else:
                holder[key] = copy.deepcopy(rng.choice(LITTER))
        try:
            graph = from_json(json.dumps(data))
        except GraphnnError:
            continue
        read_well += 1
        assert to_json(from_json(to_json(graph))) == to_json(graph)
    assert 50 < read_well < 1000  # the changes are neither all harmless nor all fatal


def places(value):
    stack = [value]
    while stack:
        holder = stack.pop()
        for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
            yield holder, key
            if isinstance(holder[key], dict | list):
                stack.append(holder[key])


def test_text_with_random_damage_gives_a_graph_or_a_typed_error():
    rng = random.Random(0)
    text = to_json(small())
    for _ in range(1500):
        start = rng.randrange(len(text))
        damaged = text[:start] + rng.choice(["", '"', "}", "[", ",", "\\", "0", "é"]) + text[start + rng.randrange(4) :]
        with contextlib.suppress(GraphnnError):
            assert to_json(from_json(damaged))
