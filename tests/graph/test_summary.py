"""The table of a graph."""

import json

from hypothesis import given

from graphnn import layers
from graphnn.graph.flatten import flatten
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.graph.summary import summarize, walk
from random_graphs import Block, graphs

TABLE = """\
graph net
--------------------------------------------------------------------------------
path             layer      output                      parameters  connected to
--------------------------------------------------------------------------------
x                Input      (batch, 4)                           0
tied             Linear     (batch, 4)                          20  x
norm             BatchNorm  (batch, 4)                           8  tied
block            Block      (batch, 4) (batch, 4)                0  norm
block/parts_0    ReLU       (batch, 4)                           0  x
block/parts_1    Linear     (batch, 4)                          16  parts_0
block/linear     Linear     (batch, 4)                          20  parts_1
block_2          Block      (batch, 4) (batch, 4)                0  block, x
block_2/parts_0  ReLU       (batch, 4)                           0  x
block_2/parts_1  Linear     (batch, 4)             = block/parts_1  parts_0
block_2/linear   Linear     (batch, 4)              = block/linear  parts_1
block_2/add      Add        (batch, 4)                           0  linear, skip
tied_2           Linear     (batch, 4)                      = tied  block_2
--------------------------------------------------------------------------------
64 parameters (256 B): 64 trainable, 0 frozen; 8 in states"""


def net():
    x = Input(("batch", 4), name="x")
    tied = layers.Linear(4, name="tied")
    block = Block()
    y = block(layers.BatchNorm(name="norm")(tied(x)))["y"]
    return Graph(x, tied(block(y, x)["y"]), name="net")


def test_table_reads_like_this():
    assert str(net().summary()) == TABLE


def test_frozen_parameters_are_counted_apart():
    summary = summarize(net(), is_frozen=lambda path: path.startswith("block"))
    assert (summary.trainable, summary.frozen, summary.states) == (28, 36, 8)
    assert summary.parameter_bytes == 4 * 64
    assert {row.path for row in summary.rows if row.frozen} == {"block/linear", "block/parts_1"}
    assert "36 frozen" in str(summary)
    assert summarize(net(), dtype="float64").parameter_bytes == 8 * 64


@given(graphs())
def test_each_parameter_is_counted_once(graph):
    seen, count = {}, 0
    for leaf in flatten(graph).leaves:
        if isinstance(leaf.layer, layers.Linear) and id(leaf.layer) not in seen:
            seen[id(leaf.layer)] = leaf.path
            count += 4 * 4 + 4 * leaf.layer.bias
    summary = graph.summary()
    assert summary.trainable == count
    assert sum(row.parameters for row in summary.rows) == count
    assert [row.path for row in summary.rows] == [n.name for n in graph.inputs] + [path for path, _, _ in walk(graph)]
    assert {row.shares for row in summary.rows if row.shares} <= set(seen.values())
    text = str(summary).splitlines()
    assert len(text) == len(summary.rows) + 6
    assert not [line for line in text if line != line.rstrip()]


@given(graphs())
def test_to_dict_is_json(graph):
    plain = graph.summary().to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert len(plain["nodes"]) == len(graph.summary().rows)
