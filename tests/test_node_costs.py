"""Operations, bytes and device on the nodes of a picture: counted by hand, as the profile has them, without a run."""

from xml.etree import ElementTree

import numpy as np
import pytest

import graphnn as gnn
from graphnn import layers
from graphnn.errors import OptionError
from graphnn.node_costs import bytes_by_path, flops_by_path, forward_program
from graphnn.render.options import COUNTED
from graphnn.render.text import TIMES

BATCH = 3
BOTH = {"flops", "memory"}


class Head(gnn.Module):
    def __init__(self, name=None):
        super().__init__(name=name)
        self.hidden, self.logits = layers.Linear(16, act_fn="relu"), layers.Linear(10)

    def forward(self, x):
        return self.logits(self.hidden(x))


def network():
    image = gnn.Input(("batch", 8, 8, 3), name="image")
    h = layers.Conv2D(16, kernel_shape=3, pad="same", name="conv")(image)
    return gnn.Graph(image, Head(name="head")(layers.Flatten(name="flat")(h)), name="net")


class Own(gnn.NumericLayer):
    def output_spec(self, spec):
        return spec

    def forward(self, xp, x):
        return x

    def backward(self, xp, inputs, outputs, cotangents):
        return cotangents


PLACES = BATCH * 8 * 8
FLOPS = {  # 2 for each multiplication, 1 for each bias; a relu compares and chooses
    "conv": PLACES * 16 * (2 * 27 + 1),
    "flat": 0,
    "head/hidden": BATCH * 16 * (2 * 1024 + 1 + 2),
    "head/logits": BATCH * 10 * (2 * 16 + 1),
}
PARAMETERS = {"conv": 27 * 16 + 16, "flat": 0, "head/hidden": 1024 * 16 + 16, "head/logits": 16 * 10 + 10}
OUTPUTS = {"conv": PLACES * 16, "flat": PLACES * 16, "head/hidden": BATCH * 16, "head/logits": BATCH * 10}


def with_sums(by_leaf):
    return {**by_leaf, "head": by_leaf["head/hidden"] + by_leaf["head/logits"], "": sum(by_leaf.values())}


def bound(graph, batch=BATCH, **options):
    model = gnn.Model(graph, device="reference", **options)
    arrays = {node.name: np.zeros(node.spec.bind({"batch": batch}).shape, node.spec.dtype) for node in graph.inputs}
    return model, arrays, model.bind((), arrays, True)[1]


def texts_of(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize(("dtype", "item"), [("float32", 4), ("float64", 8)])
def test_totals_are_those_counted_by_hand(dtype, item):
    model, _, signature = bound(network(), dtype=dtype)
    assert flops_by_path(model.graph, forward_program(model, signature)) == with_sums(FLOPS)
    found = bytes_by_path(model.graph, signature)
    assert {path: row.parameters for path, row in found.items()} == {
        path: item * count for path, count in with_sums(PARAMETERS).items()
    }
    outputs = {**with_sums(OUTPUTS), "head": OUTPUTS["head/logits"]}
    assert {path: row.outputs for path, row in found.items()} == {p: item * count for p, count in outputs.items()}
    assert found[""].parameters == sum(array.nbytes for array in model.parameters.values())


def test_they_are_the_operations_of_the_profile():
    model, arrays, signature = bound(network())
    rows = gnn.profile(model, runs=1, **arrays).rows
    counted = flops_by_path(model.graph, forward_program(model, signature))
    assert {row.path: row.flops for row in rows if row.phase == "forward"} == {p: counted[p] for p in FLOPS}


def test_the_picture_has_them_on_nodes_and_modules_and_in_all():
    graph, sizes = network(), {"batch": BATCH}
    texts = texts_of(graph.to_svg(show=BOTH, sizes=sizes))
    assert {"169 kFLOP forward", "98.4 kFLOP forward", "990 FLOP forward", "0 FLOP forward"} <= set(texts)
    assert {"1.75 KiB parameters · 12 KiB output", "12 KiB output", "680 B parameters · 120 B output"} <= set(texts)
    assert "forward: 268 kFLOP in all" in texts
    closed = texts_of(graph.to_svg(depth=0, show=BOTH, sizes=sizes))
    assert "99.4 kFLOP forward" in closed
    assert "64.7 KiB parameters · 120 B output" in closed
    assert texts == texts_of(graph.to_svg(show=BOTH, inputs=np.zeros((BATCH, 8, 8, 3))))
    assert not any("FLOP" in text for text in texts_of(graph.to_svg(show="memory", sizes=sizes)))
    assert not any("FLOP" in text or "KiB" in text for text in texts_of(graph.to_svg()))


@pytest.mark.parametrize("view", ["forward", "backward", "schedule"])
def test_a_model_also_says_its_device_in_every_view_of_nodes(view):
    model = gnn.Model(network(), device="reference")
    texts = texts_of(model.to_svg(view, show=COUNTED, sizes={"batch": BATCH}))
    assert texts.count("on reference") >= 4
    assert "169 kFLOP forward" in texts
    assert "on reference" in texts_of(model.to_svg(view, show="device"))  # for which no size is needed


def test_fixed_sizes_need_no_others_and_shared_weights_count_once():
    x = gnn.Input((2, 4), name="x")
    fc = layers.Linear(4, name="fc")
    graph = gnn.Graph(x, fc(fc(x)), name="twice")
    texts = texts_of(graph.to_svg(show=BOTH))
    assert texts.count("72 FLOP forward") == 2
    assert "80 B parameters · 32 B output" in texts
    assert "32 B output" in texts
    assert "80 B parameters · 64 B outputs of layers" in texts


def test_blocks_are_not_folded_as_each_has_its_own_numbers():
    x = gnn.Input((2, 4), name="x")
    h = x
    for index in range(4):
        h = layers.Linear(4, name=f"fc_{index}")(h)
    graph = gnn.Graph(x, h)
    assert f"{TIMES}4" in texts_of(graph.to_svg())
    assert texts_of(graph.to_svg(show="flops")).count("72 FLOP forward") == 4


def test_what_nobody_can_count_is_said():
    x = gnn.Input((2, 4), name="x")
    graph = gnn.Graph(x, Own(name="own")(layers.Linear(4, name="fc")(x)))
    texts = texts_of(graph.to_svg(show="flops"))
    unknown = "an unknown number of FLOP"
    assert {"72 FLOP forward", f"{unknown} forward", f"forward: {unknown} in all"} <= set(texts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"show": "flops"}, r"size of every named dimension(.|\n)*batch(.|\n)*sizes="),
        ({"show": {"memory"}, "sizes": {"time": 3}}, r"size of every named dimension(.|\n)*batch"),
        ({"show": "device"}, r"a graph is on no device(.|\n)*Model"),
        ({"show": {"time"}}, r'time is measured(.|\n)*view="profile"'),
        (
            {"show": {"dtype"}, "sizes": {"batch": 3}},
            r'sizes: no option of the view(.|\n)*values, or what show="flops"',
        ),
    ],
)
def test_what_is_missing_is_said(options, message):
    with pytest.raises(OptionError, match=message):
        network().to_svg(**options)
