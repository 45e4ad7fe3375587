"""Graphs to draw: small ones with one feature each, and random nested ones."""

import random
from dataclasses import dataclass

from graphnn import layers
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input, Layer
from graphnn.graph.module import Module

SHAPE = ("batch", 4)
MARKUP = '"><script>alert(1)</script> ]]> & \x00 \ud800'


class Block(Module):
    """A module with parameters, a skip connection and two outputs."""

    def __init__(self, width=4, name=None):
        super().__init__(name=name)
        self.linear = layers.Linear(width)
        self.tanh = layers.Tanh()

    def forward(self, x, extra=None):
        y = self.tanh(self.linear(x))
        return {"sum": y + x, "gate": y * x if extra is None else y * extra}


class Stack(Module):
    """Modules in a module; the last one is the first one again."""

    def __init__(self, count, name=None):
        super().__init__(name=name)
        self.blocks = [Block() for _ in range(count)]

    def forward(self, x):
        for block in [*self.blocks, self.blocks[0]]:
            x = block(x)["sum"]
        return x


class HandOn(Module):
    """A module with nothing inside."""

    def forward(self, x):
        return x


def nested() -> Graph:
    """Modules in modules, shared ones, several outputs, an input that is used late, a doubled connection."""
    x, late = Input(SHAPE, name="x"), Input(SHAPE, name="late")
    stack = Stack(2, name="stack")
    y = stack(x)
    double = layers.Add(name="double")(y, y)
    last = Block(name="last")(HandOn(name="hand_on")(double), late)
    return Graph([x, late], {"out": last["sum"], "gate": last["gate"]}, name="nested")


@dataclass(frozen=True, eq=False)
class Hostile(Layer):
    """A user's layer whose kind and hyper-parameter are markup."""

    category = "no such family"
    note: str = MARKUP

    @property
    def kind(self) -> str:
        return MARKUP

    def lower(self, scope, x):
        return x


def hostile() -> Graph:
    """Names that would break a picture whose writer forgot to escape them."""
    x = Input(SHAPE, name="\"'&amp;&lt;")
    block = Block(name='quote" and & and $')
    y = layers.Linear(4, name="神経網 — été \U0001f512")(block(x)["sum"])
    y = Hostile(name="trailing;")(y)
    return Graph(x, {'" onload="alert(1)': y, "x y z": block(y)["gate"]}, name='the "net" & co &#60;')


def chain(length: int, mask: bool = False, skip: int = 0) -> Graph:
    """A flat chain; each node may read a mask, and each `skip`-th adds what came `skip` before."""
    x, masking = Input(SHAPE, name="x"), Input(SHAPE, name="mask")
    values = [x]
    for index in range(length):
        y = layers.Multiply()(values[-1], masking) if mask else layers.Tanh()(values[-1])
        values.append(layers.Add()(y, values[-skip]) if skip and index % skip == skip - 1 else y)
    return Graph([x, masking] if mask else x, values[-1], name="chain")


def random_graph(seed: int, levels: int = 3) -> Graph:
    """Graphs in graphs, some used twice; the same for the same seed."""
    return _random_level(random.Random(seed), levels)


def _random_level(chance: random.Random, levels: int) -> Graph:
    inputs = [Input(SHAPE, name=f"x{index}") for index in range(chance.randint(1, 3))]
    values, unused, inner = list(inputs), list(inputs), []
    for _ in range(chance.randint(1, 5)):
        kind = chance.choice(["tanh", "linear", "add", "multiply", "graph", "again"])
        if kind in ("graph", "again") and levels:
            inner = inner if kind == "again" and inner else [*inner, _random_level(chance, levels - 1)]
            layer = inner[-1]
            count = len(layer.inputs)
        else:
            layer = {"tanh": layers.Tanh, "linear": lambda: layers.Linear(4), "add": layers.Add}.get(
                kind, layers.Multiply
            )()
            count = 1 if kind in ("tanh", "linear") else chance.randint(2, 3)
        chosen = [chance.choice(values) for _ in range(count)]
        result = layer(*chosen)
        made = list(result) if isinstance(result, tuple) else [result]
        unused = [value for value in unused if all(value is not other for other in chosen)] + made
        values += made
    last = layers.Add()(*unused) if len(unused) > 1 else layers.Tanh()(unused[0])
    return Graph(inputs, (last, layers.Tanh()(last)) if chance.random() < 0.5 else last)
