"""Random graphs for property tests: branches, shared layers, several outputs, integers, graphs in graphs, modules."""

from dataclasses import dataclass

from hypothesis import strategies as st

from graphnn import layers
from graphnn.graph.flatten import flatten
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input, Layer
from graphnn.graph.module import Module
from graphnn.ir.program import Kind
from graphnn.ir.tensor_spec import TensorSpec


@dataclass(frozen=True, eq=False)
class ToInteger(Layer):
    """Stops every gradient."""

    def lower(self, scope, x):
        return x.cast("int32")


@dataclass(frozen=True, eq=False)
class ToFloat(Layer):
    def lower(self, scope, x):
        return x.cast(scope.dtype)


OWN_LAYERS = {"ToInteger": ToInteger, "ToFloat": ToFloat}


class Block(Module):
    """Two outputs and an optional input."""

    def __init__(self, act_fn="tanh"):
        super().__init__()
        self.linear = layers.Linear(4, act_fn=act_fn)
        self.parts = [layers.ReLU(), layers.Linear(4, bias=False)]

    def forward(self, x, skip=None):
        for part in self.parts:
            x = part(x)
        return {"y": self.linear(x) if skip is None else self.linear(x) + skip, "inner": x}


def inner_graph():
    x = Input(("n", 4), name="x")
    skip = Input(("n", 4), name="skip", optional=True)
    return Graph([x, skip], (layers.Linear(4)(x) + skip, ToInteger()(x)), name="inner")


@st.composite
def graphs(draw, max_nodes=12):
    floats = [Input(("batch", 4), name=f"in_{index}") for index in range(draw(st.integers(1, 3)))]
    integers = [Input(("batch", 4), name="ids", dtype="int32")] if draw(st.booleans()) else []
    inputs = [*floats, *integers]
    shared, block, inner = layers.Linear(4, act_fn=layers.LeakyReLU(0.1)), Block(), inner_graph()
    for _ in range(draw(st.integers(1, max_nodes))):
        pick = draw(st.integers(0, 8))
        a, b = draw(st.sampled_from(floats)), draw(st.sampled_from(floats))
        if pick == 0 and integers:
            floats.append(ToFloat()(draw(st.sampled_from(integers))))
        elif pick == 1:
            integers.append(ToInteger()(a))
        elif pick == 2:
            floats.append(shared(a))
        elif pick == 3:
            floats.append(layers.Linear(4, name=draw(st.sampled_from([None, f"named_{len(floats)}"])))(a))
        elif pick == 4:
            floats.extend(block(a, draw(st.sampled_from([None, b]))).values())
        elif pick == 5:
            y, rounded = inner(a) if draw(st.booleans()) else inner(a, b)
            floats.append(y)
            integers.append(rounded)
        elif pick == 6:
            floats.append(a + b)
        elif pick == 7:
            floats.append(layers.Multiply()(a, b, a))
        else:
            floats.append(layers.ReLU()(a))
    ends = draw(st.lists(st.sampled_from(floats + integers), min_size=1, max_size=3))
    ends.append(
        layers.Add(name="all")(*(t if t.dtype == "float32" else ToFloat()(t) for t in inputs))
    )  # uses each input
    structure = draw(st.sampled_from(["tuple", "dict"]))
    return Graph(inputs, ends if structure == "tuple" else {f"out_{i}": end for i, end in enumerate(ends)}, name="net")


def leaves_that_a_gradient_visits(graph) -> list[str]:
    """By definition: a way of floats leads from a parameter or float input to the leaf, and on to a float output."""
    flat = flatten(graph)
    specs = {(node.name, 0): node.spec for node in graph.inputs}
    specs |= {(leaf.path, index): spec for leaf in flat.leaves for index, spec in enumerate(leaf.specs)}
    uses = {
        leaf.path: [(s.name, s.index) for s in leaf.inputs if not isinstance(s, TensorSpec)] for leaf in flat.leaves
    }
    starts = {(node.name, 0) for node in graph.inputs if node.spec.is_float}
    able = {leaf.path for leaf in flat.leaves if any(d.kind is Kind.PARAMETER for d in leaf.declarations)}
    wanted = {(s.name, s.index) for s in flat.outputs if not isinstance(s, TensorSpec)}
    reached: set[str] = set()
    for _ in flat.leaves:  # as often as anything could still change
        able |= {
            path for path, sources in uses.items()
            if any(specs[s].is_float and (s in starts or s[0] in able) for s in sources)
        }  # fmt: skip
        reached |= {
            path for path, index in specs if (path, index) in wanted and specs[path, index].is_float and path in uses
        }
        wanted |= {source for path in reached for source in uses[path]}
    return [leaf.path for leaf in flat.leaves if leaf.path in able & reached]
