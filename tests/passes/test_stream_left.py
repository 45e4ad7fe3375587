"""stream: what no loop can be made of stays as it is."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from graphnn import layers, losses
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.layers.attention import AttentionWeights
from graphnn.ops import (
    cumulative_sum,
    flip,
    gather,
    iota,
    softmax,
    sort,
    tanh,
)
from graphnn.ops.linalg import swap_last
from graphnn.ops.op import Tensor
from graphnn.ops.opaque import Opaque
from graphnn.passes.stream import LEAST, stream
from graphnn.passes.stream_regions import LONGEST
from graphnn.plans import parts_of
from graphnn.scan import scan
from streaming import (
    ITEM,
    SMALL,
    TINY,
    Attention,
    arrays_for,
    attention_step,
    check,
    gradients_of,
    largest,
    loops,
    nest,
    network,
    often,
    scores_changed,
    step_of,
)

# -- what stays --------------------------------------------------------------------------------------------------------


class Halved(gnn.NumericLayer):
    """A user's own function."""

    def output_spec(self, *specs: Any, **named: Any) -> TensorSpec:
        return specs[0]

    def forward(self, xp: Any, *inputs: Any, **named: Any) -> Any:
        return inputs[0] / 2.0

    def backward(self, xp: Any, inputs: Any, outputs: Any, cotangents: Any) -> Any:
        return cotangents[0] / 2.0


def row_after_row(scores: Tensor) -> Tensor:
    def turn(carries: Any, slices: Any, constants: Any) -> Any:
        total = tanh(carries[0] + slices[0])
        return [total], [total]

    _, (rows,) = scan(turn, [scores.sum(0) * 0.0], [scores])
    return rows


def key_after_key(scores: Tensor) -> Tensor:
    return swap_last(row_after_row(swap_last(scores)))


def looked_up(scores: Tensor) -> Tensor:
    return tanh(gather(tanh(scores), iota(scores.builder, (32,)), 1))


MIXED = {
    "a sum of all rows up to each": lambda s: cumulative_sum(s, 0),
    "rows in order": lambda s: sort(s, 0),
    "rows turned round": lambda s: flip(s, 0),
    "weights of the queries": lambda s: softmax(s, 0),
    "the softmax of what is turned": lambda s: softmax(swap_last(s), -1),
    "squares": lambda s: s @ s,
    "a scan over queries": row_after_row,
    "a scan over keys": key_after_key,
    "what may refuse": looked_up,
    "a function of the user": lambda s: Opaque(Halved())(s),
    "more than is made again": often(LONGEST + 6),
}
KEPT = {
    "keys added up": lambda s: cumulative_sum(s, 1),
    "keys in order": lambda s: sort(s, 1),
    "keys turned round": lambda s: flip(s, 1),
    "weights of the keys": lambda s: softmax(s, 1),
    "as much as is made again": often(LONGEST - 6),
    "nothing": lambda s: s,
}


@pytest.mark.parametrize("change", MIXED.values(), ids=MIXED)
def test_what_needs_all_rows_or_may_refuse_stays(change: Callable[[Tensor], Tensor]) -> None:
    program = gradients_of(scores_changed(change), SMALL, SMALL)
    assert not loops(check(program, arrays_for(program)))


@pytest.mark.parametrize("change", KEPT.values(), ids=KEPT)
def test_what_needs_one_row_does_not_stay(change: Callable[[Tensor], Tensor]) -> None:
    """The gradients of what is linear do not depend on it, so there are two loops of backward."""
    program = gradients_of(scores_changed(change), SMALL, SMALL)
    made = check(program, arrays_for(program))
    assert nest(made) in ([4, 4], [4, 4, 4])
    assert largest(made) < 32 * 32 * ITEM


@pytest.mark.parametrize(
    ("options", "workers", "l2_bytes"),
    [
        ({"size": 8}, 1, TINY),  # no more than twice as large as both operands
        ({"queries": 37}, 1, TINY),
        ({"queries": 15, "keys": 60}, 1, TINY),  # no two parts with 8 rows
        ({}, 1, 32 * 32 * ITEM // LEAST),  # as large as may stay
    ],
)
def test_a_program_without_anything_to_cut_is_the_very_same(
    options: dict[str, Any], workers: int, l2_bytes: int
) -> None:
    program, _ = attention_step(**options)
    assert stream(program, workers, l2_bytes) is program


@pytest.mark.parametrize(("queries", "keys", "size"), [(32, 32, 4), (16, 16, 2), (24, 12, 2)])
def test_four_times_both_operands_is_much_larger(queries: int, keys: int, size: int) -> None:
    """One more feature is too much."""
    assert loops(stream(attention_step(queries=queries, keys=keys, size=size)[0], 1, TINY))
    assert not loops(stream(attention_step(queries=queries, keys=keys, size=size + 1)[0], 1, TINY))


def weighing() -> tuple[gnn.Graph, np.ndarray]:
    """A graph that returns weights beside what they are for."""
    x = gnn.Input(("batch", 32, 2), name="x")
    q, k = layers.Linear(2, name="q")(x), layers.Linear(2, name="k")(x)
    w = AttentionWeights(name="w")(q, k)
    return gnn.Graph(x, {"w": w, "y": layers.MatMul(name="y")(w, k)}), np.random.default_rng(0).normal(size=(1, 32, 2))


def test_weights_that_are_returned_stay() -> None:
    graph, x = weighing()
    model = gnn.Model(graph, dtype="float64", device="reference")
    forward = parts_of(model, (x,), {}, training=False, keep=False)[0].compiled.program
    assert stream(forward, 1, TINY) is forward
    program, arrays = step_of(graph, {"x": x}, {"w": losses.SquaredError(), "y": losses.SquaredError()})
    assert nest(check(program, arrays)) == [4, 4]  # only their loss is returned


@pytest.mark.parametrize("options", [{}, {"heads": 2, "dropout": 0.3}])
def test_what_a_model_keeps_for_backward_stays(options: dict[str, Any]) -> None:
    graph, given = network(Attention(**options))
    model = gnn.Model(graph, dtype="float64", device="reference")
    forward, backward = parts_of(model, (), given)
    alone = parts_of(model, (), given, keep=False)[0]
    assert stream(forward.compiled.program, 1, TINY) is forward.compiled.program
    for part in (alone, backward):
        program = part.compiled.program
        rng = np.random.default_rng(0)
        known = [part.arrays.get(name) for name in part.compiled.inputs]
        arrays = [
            rng.normal(size=v.spec.shape).astype(v.spec.dtype) if array is None else np.array(array)
            for v, array in zip(program.inputs, known, strict=True)
        ]
        made = check(program, arrays)
        assert len(loops(made)) == 1
