"""The backward view lists the nodes that gradients visit, and no others; it shows where they stop."""

import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import drawn_graphs
import graphnn as gnn
from graphnn import layers
from graphnn.autodiff import differentiate
from graphnn.graph.flatten import flatten
from graphnn.graph.graph import Graph, Source
from graphnn.graph.layer import Input
from graphnn.graph.lower import lower
from graphnn.ir.program import Kind, Phase
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.render.backward import STOP
from graphnn.render.gradients import gradient_flow
from graphnn.render.options import never
from graphnn.render.svg import to_svg
from graphnn.render.views import build_scene


def tokens() -> Graph:
    """Integers into an embedding, a frozen layer, and an input that nothing trained stands behind."""
    ids, x = Input(("batch", "time"), name="ids", dtype="int64"), Input(("batch", "time", 4), name="x")
    e = layers.Embedding(4, 10, name="embedding")(ids)
    h = layers.Linear(4, name="frozen")(e)
    return Graph([ids, x], layers.Add(name="add")(layers.Tanh(name="tanh")(h), x), name="tokens")


def is_frozen(path: str) -> bool:
    return path in ("embedding", "frozen")


def on_the_way(graph: Graph, frozen) -> set[str]:
    """Leaf nodes between something trained or a floating-point input and an output, by networkx."""
    flat = flatten(graph)
    ways = networkx.DiGraph()
    for leaf in flat.leaves:
        ways.add_node(leaf.path)
        ways.add_edges_from((s.name, leaf.path) for s in leaf.inputs if isinstance(s, Source))
    starts = [n.name for n in graph.inputs if n.spec.is_float]
    starts += [leaf.path for leaf in flat.leaves if leaf.declarations and not frozen(leaf.owner)]
    after = set(starts).union(*(networkx.descendants(ways, start) for start in starts if start in ways))
    ends = [s.name for s in flat.outputs if isinstance(s, Source)]
    before = set(ends).union(*(networkx.ancestors(ways, end) for end in ends if end in ways))
    return after & before & {leaf.path for leaf in flat.leaves}


@given(st.integers(0, 10_000), st.booleans())
def test_the_visited_nodes_lie_between_what_is_trained_and_an_output(seed, freeze):
    graph = drawn_graphs.random_graph(seed)
    frozen = (lambda path: "linear" in path) if freeze else never
    flow = gradient_flow(graph, frozen)
    assert set(flow.order) == on_the_way(graph, frozen)
    scene = build_scene(graph, "backward", depth=9, is_frozen=frozen)
    numbered = [b for box in scene.boxes for b in box.badges if b.kind == "order"]
    assert [int(b.text) for b in numbered] == list(range(1, len(flow.order) + 1))


@given(st.integers(0, 10_000), st.integers(0, 3))
def test_gradients_flow_from_outputs_to_inputs_at_any_depth(seed, depth):
    scene = build_scene(drawn_graphs.random_graph(seed), "backward", depth=depth)
    order = {box.key: index for index, box in enumerate(scene.boxes)}
    assert all(order[edge.source] < order[edge.target] for edge in scene.edges)
    targets = {edge.target for edge in scene.edges}
    assert all(box.key in targets or box.role == "output" for box in scene.boxes)


@pytest.mark.parametrize("frozen", [never, is_frozen, lambda path: path == "embedding"])
def test_the_engine_computes_where_the_view_says(frozen):
    graph = tokens()
    specs = {"ids": TensorSpec((2, 3), "int64"), "x": TensorSpec((2, 3, 4))}
    lowered = lower(graph, specs, training=True, is_frozen=frozen)
    program = lowered.builder.build([tensor.value for tensor in lowered.outputs])
    fixed = {f"{leaf.path}/{name}" for leaf in flatten(graph).leaves if frozen(leaf.path) for name in ("W", "b")}
    wanted = [v for v in program.inputs if v.spec.is_float and (v.kind is not Kind.PARAMETER or v.name not in fixed)]
    both = differentiate(program, wrt=wanted)
    computed = {i.origin.path for i in both.instructions if i.origin.phase is Phase.BACKWARD}
    visited = set(gradient_flow(graph, frozen).order)
    assert computed <= visited
    assert visited - computed <= {"add"}  # the gradient of a sum is handed on, not computed


def test_gradients_stop_at_integers_and_at_what_is_all_frozen():
    scene = build_scene(tokens(), "backward")
    stops = {box.key: box for box in scene.boxes if box.role == "stop"}
    assert list(stops) == [STOP + "ids"]
    assert "int64 has none" in stops[STOP + "ids"].lines
    assert [(e.source, e.target) for e in scene.edges if e.is_cut] == [("embedding", STOP + "ids")]

    cut = build_scene(tokens(), "backward", is_frozen=is_frozen)
    assert [box.key for box in cut.boxes] == ["@output/", "add", "x", STOP + "tanh"]
    assert [(e.source, e.target) for e in cut.edges if e.is_cut] == [("add", STOP + "tanh")]

    half = build_scene(tokens(), "backward", is_frozen=lambda path: path == "frozen")
    (frozen,) = [box for box in half.boxes if box.key == "frozen"]
    assert frozen.frozen
    assert "parameters get no gradient" in frozen.lines
    assert "embedding" in {box.key for box in half.boxes}
    assert 'data-entry="cut"' in to_svg(tokens(), "backward")
    assert 'data-entry="cut"' not in to_svg(tokens())


def test_a_closed_module_has_the_numbers_of_all_inside():
    scene = build_scene(drawn_graphs.nested(), "backward", depth=0)
    (text,) = [b.text for box in scene.boxes if box.key == "stack" for b in box.badges if b.kind == "order"]
    last = len(gradient_flow(drawn_graphs.nested(), never).order)
    assert text.endswith(f"–{last}")  # noqa: RUF001


def test_a_model_marks_what_it_keeps_for_backward():
    x = Input(("batch", 4), name="x")
    y = layers.Tanh(name="tanh")(layers.Linear(4, name="linear")(x))
    model = gnn.Model(Graph(x, layers.ScalarAdd(1.0, name="shift")(y)))
    svg = model.to_svg("backward")
    kept = [part.split('"', 1)[0] for part in svg.split('data-key="')[1:] if 'data-badge="kept"' in part]
    # tanh' comes from its output, the gradient of W from x; sums need nothing
    assert kept == ["tanh", "x"]
    assert 'data-badge="kept"' not in model.graph.to_svg("backward")
