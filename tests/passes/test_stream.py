"""stream: the same numbers, large values in parts; nothing else is done twice; with the other passes, on a device."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphnn as gnn
from graphnn import layers, losses, modules
from graphnn.ir.program import Phase, Program
from graphnn.ir.verify import verify
from graphnn.passes.native import native_passes
from graphnn.passes.partition import partition, sharded_inputs
from graphnn.passes.pipeline import run_passes
from graphnn.passes.stream import FEWEST_ROWS, LEAST, stream
from graphnn.plans import parts_of
from graphnn.tiled import Tiled
from streaming import (
    AROUND,
    GIVEN,
    ITEM,
    TINY,
    Attention,
    attention_step,
    check,
    count,
    instructions,
    largest,
    loops,
    nest,
    network,
    same,
    step_of,
    targets_of,
)

# -- networks ----------------------------------------------------------------------------------------------------------

MASKS = (
    (), ("batch", "keys"), ("queries", "keys"), ("batch", "queries", "keys"), ("batch", 1, "keys"),
    ("batch", "queries", 1), (1, "queries", "keys"), (1, 1, "keys"), (1, "queries", 1), ("batch", 1, 1),
)  # fmt: skip


@st.composite
def attentions(draw: Callable[..., Any]) -> Attention:
    times = st.integers(1, 8).map(lambda n: 8 * n) | st.integers(8, 64) | st.sampled_from([11, 13, 37, 61])
    return Attention(
        batch=draw(st.integers(1, 4)),
        queries=draw(times),
        keys=draw(times),
        heads=draw(st.integers(1, 4)),
        size=draw(st.sampled_from([1, 1, 2, 2, 3, 4, 8])),
        scale=draw(st.booleans()),
        dropout=draw(st.sampled_from([0.0, 0.3])),
        causal=draw(st.booleans()),
        mask=draw(st.sampled_from(MASKS)),
        given=draw(st.sampled_from(GIVEN)),
        around=draw(st.sampled_from(AROUND)),
    )


@settings(max_examples=150)
@given(attentions(), st.sampled_from([1, 2, 3]), st.sampled_from([64, 256, 1024, 4096]))
def test_networks_give_the_same(case: Attention, workers: int, l2_bytes: int) -> None:
    program, arrays = step_of(*network(case))
    made = check(program, arrays, workers, l2_bytes)
    if loops(made) and case.around in ("alone", "module"):
        whole = replace(case, keys=case.queries) if case.given == "one" else case
        assert largest(made) < whole.nbytes
        assert count(made, "matmul") == count(program, "matmul") + 1
    same(program, run_passes(program, native_passes(workers, l2_bytes, lambda _: True)), arrays)


# (options, workers, cache; loops of forward and of backward)
CUT: dict[str, tuple[dict[str, Any], int, int, Any]] = {
    "rows": ({}, 1, TINY, 4),
    "examples, and rows in them": ({"batch": 3}, 1, TINY, (3, [4])),
    "heads, and rows in them": ({"heads": 4}, 2, TINY, (4, [4])),
    "heads that the workers cannot share": ({"heads": 3}, 2, TINY, 4),
    "rows that the workers can share": ({"queries": 48, "keys": 48}, 3, TINY, 6),
    "rows of all heads of all examples": ({"batch": 2, "heads": 2}, 1, TINY, 4),
    "a prime number of rows": ({"queries": 37, "heads": 2}, 1, TINY, 2),
    "heads that fit": ({"heads": 2}, 1, 32 * 32 * ITEM // LEAST, 2),
    "as few rows as fit": ({"queries": 128, "keys": 128}, 1, 128 * 128 * ITEM // 4, 8),
    "not more queries than eight times the parts": ({"queries": 24, "keys": 60}, 1, TINY, 24 // FEWEST_ROWS),
    "more keys than queries": ({"queries": 16, "keys": 96}, 1, TINY, 2),
    "shared keys and values": ({"given": "keys are values"}, 1, TINY, 4),
    "dropout": ({"dropout": 0.3}, 1, TINY, 4),
    "dropout of heads": ({"dropout": 0.3, "heads": 2}, 1, TINY, (2, [4])),
    "causal": ({"causal": True, "heads": 2}, 1, TINY, (2, [4])),
    "the past of one head": ({"causal": True}, 1, TINY, 4),
    "the past of all heads": ({"causal": True, "batch": 2, "heads": 2}, 1, TINY, 4),
    "a mask of keys": ({"mask": ("batch", "keys"), "batch": 2, "heads": 2}, 1, TINY, 4),
    "a mask of all": ({"mask": ("batch", "queries", "keys"), "heads": 2}, 1, TINY, (2, [4])),
    "a mask of queries": ({"mask": (1, "queries", 1)}, 1, TINY, 4),
    "all of it": (
        {"mask": ("batch", "queries", "keys"), "causal": True, "dropout": 0.3, "heads": 2},
        1, TINY, (2, [4]),
    ),
    "the module": ({"around": "module", "heads": 2, "batch": 2, "causal": True}, 2, TINY, 4),
}  # fmt: skip


@pytest.mark.parametrize(("options", "workers", "l2_bytes", "wanted"), CUT.values(), ids=CUT)
def test_scores_are_cut(options: dict[str, Any], workers: int, l2_bytes: int, wanted: Any) -> None:
    """Into a loop for each phase, outside of which they are never whole."""
    program, arrays = attention_step(**options)
    made = check(program, arrays, workers, l2_bytes)
    assert nest(made) == [wanted, wanted]
    parts = wanted if isinstance(wanted, int) else wanted[0] * wanted[1][0]
    nbytes = Attention(**options).nbytes
    assert largest(program) == nbytes
    assert largest(made) <= max(nbytes // parts, largest_beside(program, nbytes))


def largest_beside(program: Program, nbytes: int) -> int:
    """Bytes of the largest value that has not the size of scores."""
    sizes = {value.spec.nbytes for i in program.instructions for value in i.outputs if value.spec.size * ITEM != nbytes}
    return max(sizes)


def test_values_wider_than_queries_do_not_leave_their_gradient_whole() -> None:
    """q and k have 2 features, v has 6: one of two large products of backward is not much larger than its operands."""
    x = gnn.Input(("batch", 32, 6), name="x")
    q, k, v = (layers.Linear(size, name=name)(x) for name, size in (("q", 2), ("k", 2), ("v", 6)))
    graph = gnn.Graph(x, layers.DotProductAttention(name="att")(q, k, v))
    program, arrays = step_of(graph, {"x": np.random.default_rng(0).normal(size=(1, 32, 6))})
    made = check(program, arrays)
    assert not loops(made) or largest(made) < 32 * 32 * ITEM


# -- nothing else is computed twice ------------------------------------------------------------------------------------

MOVES = {"fill", "iota", "reshape", "transpose", "broadcast_to"}
AGAIN = {"matmul", "multiply", "subtract", "exp", "divide"}  # from q and k to the weights, but for what rows have alone
VARIANTS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "plain": ({}, AGAIN),
    "unscaled": ({"scale": False, "heads": 2}, AGAIN - {"multiply"}),
    "dropout": ({"dropout": 0.3, "heads": 2}, AGAIN | {"random_bits", "less_equal", "where", "multiply"}),
    "causal": ({"causal": True, "batch": 2, "heads": 2}, AGAIN | {"greater_equal", "where"}),
}


def arithmetic(program: Program, phase: Phase) -> Counter[str]:
    """How often each op stands in a phase; what counts positions, and where a part lies, is none."""
    found = [i for i in instructions(program) if i.origin.phase is phase and i.outputs[0].spec.dtype != "int64"]
    return Counter(i.op.name for i in found if i.op.name not in MOVES)


@pytest.mark.parametrize(("options", "again"), VARIANTS.values(), ids=VARIANTS)
def test_only_what_leads_to_the_weights_is_computed_again(options: dict[str, Any], again: set[str]) -> None:
    program, arrays = attention_step(**options)
    made = check(program, arrays)
    assert loops(made)
    assert arithmetic(made, Phase.FORWARD) == arithmetic(program, Phase.FORWARD)
    more = arithmetic(made, Phase.BACKWARD) - arithmetic(program, Phase.BACKWARD)
    assert set(more) == again
    assert more["matmul"] == more["exp"] == 1
    assert arithmetic(made, Phase.UPDATE) == arithmetic(program, Phase.UPDATE)


@pytest.mark.parametrize(("options", "again"), VARIANTS.values(), ids=VARIANTS)
def test_nothing_of_the_size_of_scores_goes_from_forward_to_backward(options: dict[str, Any], again: set[str]) -> None:
    program, _ = attention_step(**options)
    made = stream(program, 1, TINY)
    nbytes = Attention(**options).nbytes
    ends = [v for i in made.instructions if isinstance(i.op, Tiled) for v in (*i.inputs, *i.outputs)]
    assert len(loops(made)) == 2
    assert max(value.spec.nbytes for value in ends) <= largest_beside(program, nbytes)


@pytest.mark.parametrize(("options", "again"), VARIANTS.values(), ids=VARIANTS)
def test_copies_belong_to_their_nodes_and_to_the_phase_that_needs_them(
    options: dict[str, Any], again: set[str]
) -> None:
    program, _ = attention_step(**options)
    made = stream(program, 1, TINY)
    forward, backward = (instructions(op.body) for op in loops(made))
    assert {i.origin.phase for i in forward} == {Phase.FORWARD}
    assert {i.origin.phase for i in backward if i.origin.path} == {Phase.BACKWARD}
    known = {i.origin.path for i in program.instructions}
    assert {i.origin.path for i in (*forward, *backward)} - known <= {""}  # what says where a part lies
    weights = {i.origin.path for i in backward if i.op.name in AGAIN}
    assert {"att/weights", "att/output"} <= weights


def test_each_attention_of_a_chain_has_two_loops() -> None:
    program, arrays = attention_step(depth=3, heads=2, dropout=0.2)
    made = check(program, arrays)
    assert nest(made) == [(2, [4])] * 6
    assert largest(made) < Attention(heads=2).nbytes
    assert count(made, "matmul") == count(program, "matmul") + 3
    assert count(made, "random_bits") == 2 * count(program, "random_bits") == 6


def blocks(number: int) -> tuple[gnn.Graph, dict[str, np.ndarray]]:
    """Like a Transformer."""
    y = x = gnn.Input(("batch", 32, 8), name="x")
    for _ in range(number):
        y = layers.Add()(y, modules.MultiHeadedAttentionModule(2, 0.1)(layers.LayerNorm()(y)))
        y = layers.Add()(y, layers.Linear(8)(layers.Linear(16, act_fn="relu")(layers.LayerNorm()(y))))
    return gnn.Graph(x, y), {"x": np.random.default_rng(0).normal(size=(1, 32, 8))}


def calls(function: Callable[[], object]) -> int:
    """How many calls of Python functions it makes: a measure of its time that does not depend on the machine."""
    found, before = 0, sys.getprofile()

    def tell(frame: object, event: str, argument: object) -> None:
        nonlocal found
        found += event == "call"

    sys.setprofile(tell)
    try:
        function()
    finally:
        sys.setprofile(before)
    return found


def test_a_chain_of_layers_takes_time_by_its_length() -> None:
    """Four times the layers, about four times the time: the passes beside it are no slower."""
    short, long = (step_of(*blocks(number))[0] for number in (4, 16))
    assert len(loops(stream(long, 1, 1024))) == 4 * len(loops(stream(short, 1, 1024))) == 32
    assert calls(lambda: stream(long, 1, 1024)) < 5.5 * calls(lambda: stream(short, 1, 1024))


# -- with the other passes, and on a device ----------------------------------------------------------------------------

TRAINED = {
    "heads": {"heads": 4, "batch": 2},
    "dropout": {"dropout": 0.3, "heads": 2, "batch": 2},
    "one head of one example": {"dropout": 0.3, "causal": True},
    "a prime number of rows": {"queries": 37, "heads": 2, "mask": ("batch", "keys")},
    "all of it": {
        "mask": ("batch", "queries", "keys"), "causal": True, "dropout": 0.3, "heads": 3, "batch": 2, "depth": 2,
    },
    "the module": {"around": "module", "heads": 2, "dropout": 0.2, "keys": 40},
}  # fmt: skip


@pytest.mark.parametrize("options", TRAINED.values(), ids=TRAINED)
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_loops_in_the_loop_over_the_batch(options: dict[str, Any], workers: int) -> None:
    program, arrays = attention_step(**options)
    made = run_passes(program, native_passes(workers, 2 * TINY, lambda _: True))
    same(program, made, arrays)
    case = Attention(**options)
    if case.batch > 1 or case.heads % workers == 0 or case.queries % workers == 0:
        assert largest(made) < case.nbytes


def test_dropout_in_three_loops_draws_the_bits_of_the_whole() -> None:
    program, arrays = attention_step(batch=2, heads=2, dropout=0.3)
    made = verify(stream(partition(program, 2, sharded_inputs(program, 2)), 1, TINY))
    assert nest(made) == [(2, [(2, [4]), (2, [4])])]
    same(program, made, arrays)
    assert count(made, "random_bits") == 2


def test_a_streamed_program_is_streamed_no_further() -> None:
    for options in ({"heads": 2, "dropout": 0.3}, {"batch": 2, "heads": 2, "causal": True}):
        program, arrays = attention_step(**options)
        made = check(program, arrays)
        again = verify(stream(made, 1, TINY))
        assert nest(again) == nest(made)
        same(program, again, arrays)


def trained(options: dict[str, Any], device: str, dtype: str) -> tuple[list[np.ndarray], gnn.Trainer, tuple[Any, Any]]:
    """Losses and parameters of three steps."""
    graph, given = network(Attention(**options))
    trainer = gnn.Trainer(gnn.Model(graph, seed=0, dtype=dtype, device=device), losses.SquaredError(), "sgd")
    x = {name: array if array.dtype == bool else array.astype(dtype) for name, array in given.items()}
    y = targets_of(graph, given).astype(dtype)
    steps = [np.array(trainer.train_step(x, y)) for _ in range(3)]
    return [*steps, *map(np.array, trainer.model.parameters.values())], trainer, (x, y)


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All scores count as large; other kernels stay as they are."""
    before = gnn.num_threads()
    monkeypatch.setattr("graphnn.passes.stream.LEAST", 1e-4)
    yield
    gnn.set_num_threads(before)


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize("options", TRAINED.values(), ids=TRAINED)
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_training_is_that_of_the_reference(options: dict[str, Any], workers: int) -> None:
    gnn.set_num_threads(workers)
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-4)):
        found, trainer, batch = trained(options, "cpu", dtype)
        wanted, _, _ = trained(options, "reference", dtype)
        for actual, expected in zip(found, wanted, strict=True):
            np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)
        (part,) = parts_of(trainer, batch, {})
        assert any(isinstance(step.op, Tiled) for step in part.compiled.executable.plan.steps)


@pytest.mark.parametrize("options", [{"dropout": 0.3}, {"dropout": 0.3, "heads": 2, "batch": 2}])
def test_profiles_have_all_nodes(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward costs what it does without loops; what is made again is work of backward."""

    def rows(device: str, least: float) -> dict[tuple[str, str], int]:
        monkeypatch.setattr("graphnn.passes.stream.LEAST", least)
        _, trainer, batch = trained(options, device, "float32")
        return {(row.path, row.phase): row.flops for row in gnn.profile(trainer, *batch, runs=1).rows}

    made, whole, reference = rows("cpu", 1e-4), rows("cpu", 1e4), rows("reference", 1e4)
    assert {path for path, _ in made} - {""} == {path for path, _ in reference}  # "": what says where a part lies
    for node in ("att/weights", "att/dropout", "att/output"):
        assert whole[node, "forward"] <= made[node, "forward"] < 1.01 * whole[node, "forward"]  # and where parts lie
    product = 2 * np.prod(Attention(**options).shape) * 2
    assert made["att/weights", "backward"] >= whole["att/weights", "backward"] + product
    assert whole["att/output", "backward"] <= made["att/output", "backward"] < whole["att/output", "backward"] + product
