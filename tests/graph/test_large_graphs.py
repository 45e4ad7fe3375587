"""100,000 nodes at the default recursion limit, in linear time."""

import subprocess
import sys
from pathlib import Path

from graphnn import layers
from graphnn.graph.flatten import flatten
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.graph.schedule import is_trained

ROOT = Path(__file__).parents[2]

# In a process of its own: the recursion limit is the default one, and the stack is not full of pytest's frames.
PROGRAM = """
import sys, time
from graphnn import layers
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input

assert sys.getrecursionlimit() == 1000

def chain(count):
    x = y = Input(("batch", 4), name="x")
    for index in range(count // 2):
        y = layers.Linear(4)(layers.ReLU()(y))
    return Graph(x, y)

def stages(count):
    graph = yield "declare", chain(count)
    order = yield "schedule", graph.schedule()
    back = yield "backward", graph.backward_schedule()
    text = yield "summary", str(graph.summary())
    file = yield "save", graph.to_json()
    copy = yield "load", Graph.from_json(file)
    assert order == graph.nodes and len(order) == count
    assert back == order[::-1]  # each node leads to a parameter, or to the input
    assert len(text.splitlines()) == count + 7 and text.count("= ") == 0
    assert f"{count * 10:,} parameters" in text
    assert copy.to_json() == file
    yield "end", None

def times(count):
    result, running, value, start = {}, stages(count), None, time.process_time()
    while True:
        name, value = running.send(value)
        result[name] = time.process_time() - start
        if name == "end":
            del result["end"]
            return result
        start = time.process_time()

times(1000)  # first use of everything
found = {count: times(count) for count in (1000, 10_000, 100_000)}
for count, seconds in found.items():
    print(f"{count:7,} nodes: " + ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items()))
for name, seconds in found[100_000].items():
    assert seconds < 20 * max(found[10_000][name], 0.2), f"{name} does not grow linearly"
"""


def test_a_chain_of_100_000_nodes_declares_orders_prints_saves_and_loads_in_linear_time():
    environment = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    print(result.stdout)
    assert result.returncode == 0, result.stdout + result.stderr


def test_graphs_may_lie_deeper_inside_each_other_than_python_recurses():
    x = Input(("batch", 4), name="x")
    graph = Graph(x, layers.Linear(4, name="linear")(x), name="g")
    for _ in range(1500):
        graph = Graph(x, graph(x), name="g")
    (leaf,) = flatten(graph).leaves
    assert leaf.path == "g/" * 1500 + "linear"
    assert is_trained(leaf)
    assert len(graph.backward_schedule()) == 1
    assert graph.summary().trainable == 20


def test_one_layer_with_10_000_inputs_and_one_output_with_10_000_readers():
    inputs = [Input((), name=f"x_{index}") for index in range(10_000)]
    wide = Graph(inputs, layers.Add()(*inputs))
    assert len(wide.edges) == 10_000
    x = Input(("batch",), name="x")
    graph = Graph(x, [layers.ReLU()(x) for _ in range(10_000)])
    assert graph.nodes[-1].name == "relu_10000"
    assert len(graph.backward_schedule()) == 10_000
