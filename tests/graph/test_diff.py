"""diff: for every operation of surgery it names exactly the edit; equal graphs have none."""

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from graphnn import layers
from graphnn.errors import GraphError, OptionError
from graphnn.graph.diff import Change, NodeEntry, diff
from graphnn.graph.flatten import flatten
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.graph.node import Source
from graphnn.graph.summary import walk
from graphnn.graph.surgery import delete, insert, replace, rewire, subgraph
from random_graphs import OWN_LAYERS, Block, graphs

FLOAT = ("batch", 4)


def holders(graph, prefix=""):
    """(prefix of its nodes' paths, graph) of every graph at every depth."""
    yield prefix, graph
    for node in graph.nodes:
        if node.graph is not None:
            yield from holders(node.graph, f"{prefix}{node.name}/")


def readers(graph, prefix, source):
    """What reads a source, such as "add, input 1", and which outputs it is."""
    nodes = [
        (prefix + node.name, f"input {key}")
        for node in graph.nodes
        for key, given in ([(i.name, s) for i, s in node.inner_sources] or enumerate(node.inputs))
        if given == source
    ]
    names = graph.output_names or ("output",)
    return set(nodes), {prefix + n for n, s in zip(names, graph.outputs, strict=True) if s == source}


def gives_float(graph, node):
    return node.spec.dtype == "float32"


def is_plain(graph, node):
    """One float in, one of the same shape out."""
    return len(node.inputs) == 1 and node.inputs[0] is not None and node.specs == (graph.spec_of(node.inputs[0]),)


def is_linear(graph, node):
    return node.layer.kind == "Linear"


def edits(found):
    """All that a diff says, but what follows."""
    return {
        "added": {entry.path for entry in found.added},
        "removed": {entry.path for entry in found.removed},
        "rewired": {(change.path, change.what) for change in found.rewired},
        "changed": {(change.path, change.what) for change in found.changed},
        "inputs": {change.path for change in found.inputs},
        "outputs": {change.path for change in found.outputs},
    }


def expected(**some):
    return {key: some.get(key, set()) for key in edits(diff(SMALL, SMALL))}


def small():
    x = Input(FLOAT, name="x")
    a = layers.Linear(4, name="a")(x)
    return Graph(x, {"y": layers.Add(name="c")(layers.ReLU(name="b")(a), a)}, name="small")


SMALL = small()


@st.composite
def places(draw, fits):
    """(graph, prefix, the graph there, one of its nodes that fits): at any depth."""
    graph = draw(graphs(max_nodes=8))
    found = [(prefix, inner, node) for prefix, inner in holders(graph) for node in inner.nodes if fits(inner, node)]
    assume(found)
    return graph, *draw(st.sampled_from(found))


@given(graphs(max_nodes=8))
def test_equal_graphs_have_no_differences(graph):
    copies = (graph, graph.rebuild(graph.blueprint()), Graph.from_json(graph.to_json(), OWN_LAYERS))
    for copy in copies:
        found = diff(graph, copy)
        assert not found
        assert str(found) == f"{graph.name} -> {graph.name}: no differences"


@given(places(gives_float))
def test_insert_after_a_source(place):
    graph, prefix, inner, node = place
    found = diff(graph, insert(graph, layers.Tanh(), "extra", after=f"{prefix}{node.name}"))
    nodes, outputs = readers(inner, prefix, Source(node.name))
    assert edits(found) == expected(added={f"{prefix}extra"}, rewired=nodes, outputs=outputs)
    assert found.added[0].layer == "Tanh"
    assert not found.follows


@given(graphs(max_nodes=8), st.data())
def test_insert_on_one_edge(graph, data):
    floats = [e for e in graph.edges if graph.spec_of(Source(e.source, e.source_index)).dtype == "float32"]
    edge = data.draw(st.sampled_from(floats))
    found = edits(diff(graph, insert(graph, layers.Tanh(), "extra", edge=edge)))
    (rewired,) = found.pop("rewired")
    assert rewired[0] == edge.target
    assert found == {key: value for key, value in expected(added={"extra"}).items() if key != "rewired"}


@given(places(is_plain))
def test_delete(place):
    graph, prefix, inner, node = place
    nodes, outputs = readers(inner, prefix, Source(node.name))
    found = diff(graph, delete(graph, prefix + node.name))
    assert edits(found) == expected(removed={prefix + node.name}, rewired=nodes, outputs=outputs)
    assert found.removed[0].inside == (0 if node.graph is None else len(list(walk(node.graph))))


@given(places(is_plain))
def test_replace_by_another_layer(place):
    graph, prefix, _, node = place
    path = prefix + node.name
    found = diff(graph, replace(graph, path, layers.SoftPlus()))
    assert edits(found) == expected(changed={(path, "layer")})
    assert found.changed[0].after == "SoftPlus()"


@given(places(is_linear))
def test_replace_by_the_same_layer_with_other_options(place):
    """Where others shared its parameters, they are told to have their own now."""
    graph, prefix, _, node = place
    path = prefix + node.name
    options = node.layer.hyperparameters
    found = diff(graph, replace(graph, path, layers.Linear(**{**options, "bias": not options["bias"]})))
    sharing = {change.path for change in found.changed if change.what == "parameters"}
    leaves = flatten(graph).leaves
    owner = {leaf.path: leaf.owner for leaf in leaves}
    assert sharing <= {leaf.path for leaf in leaves if leaf.owner == owner[path]}
    rest = {(p, what) for p, what in edits(found)["changed"] if what != "parameters"}
    assert edits(found) | {"changed": rest} == expected(changed={(path, "bias")})
    assert {change.what for change in found.follows} == {"parameter b"}


@given(graphs(max_nodes=8), st.data())
def test_rewire(graph, data):
    """Nodes that no output needs any more are told as removed."""
    node = data.draw(st.sampled_from([n for n in graph.nodes if n.inputs and n.inputs[0] is not None]))
    old = node.inputs[0]
    others = [i.name for i in graph.inputs] + [
        n.name for n in graph.nodes[: graph.nodes.index(node)] if len(n.specs) == 1
    ]
    same = [name for name in others if name != old.name and graph.spec_of(type(old)(name)) == graph.spec_of(old)]
    assume(same)
    new = data.draw(st.sampled_from(same))
    changed = rewire(graph, node.name, 0, new)
    found = diff(graph, changed)
    what = node.inner_sources[0][0].name if node.inner_sources else "0"
    needed, stack = set(), [source.name for source in graph.outputs]
    while stack:
        name = stack.pop()
        if name not in needed and name in {n.name for n in graph.nodes}:
            needed.add(name)
            given = list(graph.node(name).inputs)
            stack += [new if (name, i) == (node.name, 0) else s.name for i, s in enumerate(given) if s is not None]
    dead = {n.name for n in graph.nodes} - needed
    assert edits(found) == expected(rewired={(node.name, f"input {what}")}, removed=dead)
    assert found.rewired == (Change(node.name, f"input {what}", str(old), new),)


@given(graphs(max_nodes=8), st.data())
def test_subgraph(graph, data):
    node = data.draw(st.sampled_from(graph.nodes))
    reached, stack = set(), [node.name]
    while stack:
        name = stack.pop()
        reached.add(name)
        if name not in {i.name for i in graph.inputs}:
            stack += [s.name for s in graph.node(name).inputs if s is not None]
    part = subgraph(graph, [i.name for i in graph.inputs if i.name in reached], {"part": node.name})
    found = edits(diff(graph, part))
    assert found == expected(
        removed={n.name for n in graph.nodes} - reached,
        inputs={i.name for i in graph.inputs} - reached,
        outputs={*graph.output_names, "part"},
    )


def key(change):
    return (change.path, change.what)


@given(graphs(max_nodes=5), graphs(max_nodes=5))
def test_the_way_back_is_the_mirror_image(before, after):
    there, back = diff(before, after), diff(after, before)
    assert set(there.added) == set(back.removed)
    assert set(there.removed) == set(back.added)
    for name in ("rewired", "follows"):
        mirrored = {Change(c.path, c.what, c.after, c.before) for c in getattr(back, name)}
        assert set(getattr(there, name)) == mirrored
    assert bool(there) == bool(back)
    assert json.loads(json.dumps(there.to_dict())) == there.to_dict()


def test_the_text_lists_every_edit():
    found = diff(SMALL, insert(replace(SMALL, "a", layers.Linear(4, bias=False)), layers.Tanh(), "t", after="b"))
    assert str(found).splitlines() == [
        "small -> small: 1 added, 1 rewired, 1 re-parameterised, 1 follows",
        "  +  added    t  Tanh",
        "  ~  rewired  c  input 0: b -> t",
        "  ~  changed  a  bias: True -> False",
        "  =  follows  a  parameter b: float32[4] -> nothing",
    ]


def test_shapes_that_follow_are_told_apart_from_edits():
    x = Input(("batch", "time", 4), name="x")
    before = Graph(x, layers.Linear(2, name="end")(layers.ReLU(name="act")(layers.Linear(8, name="wide")(x))))
    found = diff(before, replace(before, "wide", layers.Linear(6)))
    assert edits(found) == expected(changed={("wide", "n_out")})
    assert [key(change) for change in found.follows] == [
        ("wide", "output"), ("wide", "parameter W"), ("wide", "parameter b"), ("act", "output"), ("end", "parameter W"),
    ]  # fmt: skip


def test_inputs_and_outputs():
    def make(shape, optional, names, order=1):
        x, z = Input(shape, name="x"), Input(shape, name="z", optional=optional)
        return Graph([x, z][::order], dict.fromkeys(names, layers.Add(name="add")(x, z)), name="net")

    before = make(("batch", 4), True, ["y", "old"])
    found = diff(before, make((5, 4), False, ["y", "old"], -1)).inputs
    assert [key(change) for change in found] == [("x", "spec"), ("z", "spec"), ("z", "optional"), ("", "order")]
    outputs = diff(before, make(("batch", 4), True, ["y", "new"])).outputs
    assert outputs == (Change("old", "removed", "add", "nothing"), Change("new", "added", "nothing", "add"))


def test_a_module_stands_for_what_is_inside():
    x = Input(FLOAT, name="x")
    before = Graph(x, layers.ReLU(name="end")(x))
    y = Block()(x)["y"]
    after = Graph(x, layers.ReLU(name="end")(y))
    (added,) = diff(before, after).added
    assert added == NodeEntry("block", "Block", 3)
    assert diff(before, after).rewired == (Change("end", "input 0", "x", "block"),)


def test_a_layer_that_becomes_a_module_and_back():
    nested = replace(SMALL, "b", SMALL)
    there, back = diff(SMALL, nested), diff(nested, SMALL)
    assert there.changed == (Change("b", "layer", "ReLU()", "Graph()"),)
    assert edits(there) == edits(back) == expected(changed={("b", "layer")})
    (gone,) = diff(nested, delete(nested, "b")).removed
    assert gone == NodeEntry("b", "Graph", 3)


def test_sharing_that_begins_and_ends():
    def make(shares):
        x = Input(FLOAT, name="x")
        a = layers.Linear(4, name="a")
        b = a if shares else layers.Linear(4, name="a_2")
        return Graph(x, b(a(x)))

    found = diff(make(True), make(False))
    assert found.changed == (Change("a_2", "parameters", "those of a", "its own"),)
    assert edits(found) == expected(changed={("a_2", "parameters")})


def test_what_is_no_graph_is_refused(tmp_path):
    with pytest.raises(GraphError, match="two graphs"):
        diff(SMALL, "small")
    with pytest.raises(OptionError, match="drawn as SVG"):
        diff(SMALL, SMALL).render(tmp_path / "diff.png")
