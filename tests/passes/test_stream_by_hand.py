"""stream: programs made by hand, and drawn ones, around products that are larger than both operands."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphnn as gnn
from graphnn import layers
from graphnn.autodiff import differentiate
from graphnn.graph.scope import RANDOM_INPUT
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Kind, Origin, Phase, Program
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ir.text import to_text
from graphnn.ops import (
    concatenate,
    cumulative_sum,
    flip,
    random_keep_mask,
    sin,
    softmax,
    tanh,
    where,
)
from graphnn.ops.linalg import swap_last
from graphnn.ops.op import Tensor
from graphnn.passes.pipeline import run_passes
from graphnn.passes.stream import stream
from streaming import (
    ITEM,
    SMALL,
    TINY,
    Function,
    arrays_for,
    attention_step,
    check,
    gradients_of,
    largest,
    loops,
    nest,
    often,
    scores_changed,
    step_of,
)

# -- made by hand ------------------------------------------------------------------------------------------------------

WIDE = (32, 32)


def outer(x: Tensor, y: Tensor) -> list[Tensor]:
    return [tanh(x.reshape((32, 1)) @ y.reshape((1, 32))) @ y.reshape((32, 1))]


def by_rows_between(x: Tensor, z: Tensor) -> list[Tensor]:
    s = x @ swap_last(z)
    return [(s * tanh(s.sum(1, keep=True))) @ z]


def by_columns_between(x: Tensor, z: Tensor) -> list[Tensor]:
    s = x @ swap_last(z)
    return [(s * tanh(s.sum(0, keep=True))) @ z]


def attended_between(x: Tensor, z: Tensor) -> list[Tensor]:
    """The second use of the first scores waits for all of the second ones."""
    s = x @ swap_last(z)
    y = tanh(s @ z)
    return [(s * tanh((y @ swap_last(z)).sum(1, keep=True))) @ z]


def crossed(x: Tensor, z: Tensor) -> list[Tensor]:
    """Two large values, of each of which something waits for the other."""
    s, t = x @ swap_last(z), z @ swap_last(z)
    return [tanh(s @ t.sum(1, keep=True)), tanh(t @ s.sum(1, keep=True))]


def in_a_circle(x: Tensor, z: Tensor) -> list[Tensor]:
    s, t, u = x @ swap_last(z), z @ swap_last(z), x @ swap_last(x)
    given = [y.sum(1, keep=True) for y in (s, t, u)]
    return [tanh(s @ given[1]), tanh(t @ given[2]), tanh(u @ given[0])]


def scores_of_large(x: Tensor, z: Tensor) -> list[Tensor]:
    """Operands of the larger values are large themselves."""
    wide = x @ swap_last(z)
    return [tanh(wide @ swap_last(wide).slice(1, 0, 3)).sum(1)]


def of_the_same_size(x: Tensor, z: Tensor, beside: Tensor) -> list[Tensor]:
    s = x @ swap_last(z)
    return [tanh(s) @ z, (s.reshape((8, 128)) * tanh(beside)).sum(1)]


def two_of_one_size(x: Tensor, z: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    return [(tanh(x @ swap_last(z)) * softmax(a @ swap_last(b), 1)) @ z]


def two_that_share(x: Tensor, z: Tensor) -> list[Tensor]:
    """Rows of z are keys of one, and queries of the other."""
    return [(tanh(x @ swap_last(z)) * softmax(z @ swap_last(x), 1)) @ z]


def turned_and_not(x: Tensor, z: Tensor) -> list[Tensor]:
    s = x @ swap_last(z)
    return [(s * swap_last(s)) @ z]


def joined(x: Tensor, z: Tensor) -> list[Tensor]:
    s = x @ swap_last(z)
    return [concatenate([s, tanh(s)], 1).slice(1, 16, 48) @ z]


def added_to(x: Tensor, z: Tensor, mask: Tensor) -> list[Tensor]:
    return [softmax(x @ swap_last(z) + mask, 1) @ z]


def across_heads(x: Tensor, z: Tensor) -> list[Tensor]:
    return [softmax(x @ swap_last(z), 1) @ z]


def keys_of_all_heads(x: Tensor, z: Tensor) -> list[Tensor]:
    return [softmax(x @ swap_last(z), 3) @ z]


def weights_of_two_parts(x: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    """A weight that is a product, as of adapters, and its gradient by all examples."""
    return [tanh(x @ (a @ b))]


def few_examples(x: Tensor, w: Tensor, v: Tensor) -> list[Tensor]:
    """The gradient of a weight is much larger than the batch."""
    return [tanh(x @ w) @ v]


def nowhere_read(x: Tensor, z: Tensor) -> list[Tensor]:
    unread = x @ swap_last(z)
    return [x * float(unread.rank)]


HEADS = (1, 3, 32, 2)
BY_HAND: dict[str, tuple[Function, tuple[tuple[int, ...], ...], Any]] = {
    "an outer product": (outer, ((32,), (32,)), [4, 4]),
    "two uses, with a number of each row between": (by_rows_between, (SMALL, SMALL), [4, 4]),
    "two uses, with a sum of rows between": (by_columns_between, (SMALL, SMALL), []),
    "two uses, with all of another between": (attended_between, (SMALL, SMALL), None),
    "two that wait for each other": (crossed, (SMALL, SMALL), None),
    "three that wait for each other": (in_a_circle, (SMALL, SMALL), None),
    "larger ones made of large ones": (scores_of_large, ((64, 1), (16, 1)), None),
    "an unrelated value of the same size": (of_the_same_size, (SMALL, SMALL, (8, 128)), None),
    "two of the same size": (two_of_one_size, (SMALL,) * 4, [4, 4]),
    "two that share queries and keys": (two_that_share, (SMALL, SMALL), []),
    "one beside its transpose": (turned_and_not, (SMALL, SMALL), []),
    "one beside another of itself": (joined, (SMALL, SMALL), None),
    "an input of the same size": (added_to, (SMALL, SMALL, WIDE), []),  # its gradient is returned
    "an input for each row": (added_to, (SMALL, SMALL, (1, 32)), [4, 4]),
    "a softmax across heads": (across_heads, (HEADS, HEADS), None),
    "keys that all heads share": (keys_of_all_heads, (HEADS, (1, 1, 32, 2)), [(3, [4])] * 2),
    "queries that all heads share": (keys_of_all_heads, ((1, 1, 32, 2), HEADS), [(3, [4])] * 2),
    "keys without heads": (keys_of_all_heads, (HEADS, (32, 2)), [(3, [4])] * 2),
    "queries and keys with other axes": (keys_of_all_heads, ((2, 1, 32, 1), (1, 3, 32, 1)), None),
    "a product of weights": (weights_of_two_parts, ((4, 32), (32, 1), (1, 32)), None),
    "few examples": (few_examples, ((2, 32), (32, 32), (32, 1)), []),
    "what nobody reads": (nowhere_read, (SMALL, SMALL), []),
    "no queries": (scores_changed(tanh), ((0, 2), SMALL), []),
    "one query": (scores_changed(tanh), ((1, 1), (32, 1)), []),
}


@pytest.mark.parametrize(("function", "shapes", "wanted"), BY_HAND.values(), ids=BY_HAND)
@pytest.mark.parametrize("workers", [1, 2])
def test_programs_made_by_hand(
    function: Function, shapes: tuple[tuple[int, ...], ...], wanted: Any, workers: int
) -> None:
    """They give the same; `wanted` of one worker where it is not as good to leave all as it is."""
    program = gradients_of(function, *shapes)
    made = check(program, arrays_for(program), workers)
    if wanted is not None and workers == 1:
        assert nest(made) == wanted


@pytest.mark.parametrize("twice", [False, True])
def test_a_large_mask_is_read_part_by_part(twice: bool) -> None:
    builder = ProgramBuilder()
    x, z, mask = (
        Tensor(builder, builder.input(n, TensorSpec(s, "float64")))
        for n, s in zip("xzm", (SMALL, SMALL, WIDE), strict=True)
    )
    y = added_to(x, z, mask + mask if twice else mask)[0]
    program = run_passes(differentiate(builder.build([y.value]), [x.value, z.value]))
    made = check(program, arrays_for(program))
    assert nest(made) == [4, 4]
    assert twice or largest(made) < 32 * 32 * ITEM


@pytest.mark.parametrize("change", [lambda s: s, lambda s: tanh(s), lambda s: softmax(s, 1)])
@pytest.mark.parametrize("way", ["update", "result", "both ways"])
def test_what_an_update_or_the_caller_takes_stays(change: Callable[[Tensor], Tensor], way: str) -> None:
    builder = ProgramBuilder()
    x, z = (Tensor(builder, builder.input(name, TensorSpec(SMALL, "float64"))) for name in "xz")
    w = Tensor(builder, builder.input("w", TensorSpec(WIDE, "float64"), Kind.PARAMETER))
    s = x @ swap_last(z)
    y = softmax(s, 1) @ z
    if way != "result":
        builder.update(w.value, change(s).value)
    program = run_passes(builder.build([y.value, *([change(s).value] if way != "update" else [])]))
    assert stream(program, 1, TINY) is program
    check(program, arrays_for(program))


def test_a_large_value_that_an_update_reads_stays() -> None:
    """Its own phase has no loop, so forward keeps it."""
    builder = ProgramBuilder()
    x, z = (Tensor(builder, builder.input(name, TensorSpec(SMALL, "float64"))) for name in "xz")
    w = Tensor(builder, builder.input("w", TensorSpec((32,), "float64"), Kind.PARAMETER))
    s = tanh(x @ swap_last(z))
    y = s @ z
    with builder.at(Origin("optimizer", Phase.UPDATE)):
        builder.update(w.value, (w - s.sum(0)).value)
    program = run_passes(builder.build([y.value]))
    assert stream(program, 1, TINY) is program


@pytest.mark.parametrize("sizes", [(1, 64, 40, 4), (2, 64, 64, 2), (1, 64, 64, 2), (2, 64, 40, 1)])
@pytest.mark.parametrize(("workers", "l2_bytes"), [(1, TINY), (2, 512)])
def test_products_beside_scores(sizes: tuple[int, int, int, int], workers: int, l2_bytes: int) -> None:
    """Queries of few features are much larger than these, and scores that read them larger still: they come first."""
    batch, queries, keys, heads = sizes
    rng = np.random.default_rng(0)
    given = {"x": rng.normal(size=(batch, queries, 1)), "z": rng.normal(size=(batch, keys, 1))}
    x, z = (gnn.Input(("batch", *array.shape[1:]), name=name) for name, array in given.items())
    q, k, v = (layers.Linear(4 * heads)(y) for y in (x, z, z))
    graph = gnn.Graph([x, z], layers.DotProductAttention(n_heads=heads)(q, k, v))
    made = check(*step_of(graph, given), workers, l2_bytes)
    assert largest(made) < int(np.prod(sizes)) * ITEM


@pytest.mark.parametrize("length", [150, 400, 2000])
def test_long_chains_at_the_default_recursion_limit(length: int) -> None:
    program = gradients_of(scores_changed(often(length)), SMALL, SMALL)
    assert not loops(stream(program, 1, TINY))


def test_products_of_large_values_are_not_made_again() -> None:
    """What backward reads is made of them, so forward keeps it."""
    builder = ProgramBuilder()
    x, z, w = (
        Tensor(builder, builder.input(f"x{n}", TensorSpec(s, "float64"))) for n, s in enumerate((*[SMALL] * 2, WIDE))
    )
    y = tanh((x @ swap_last(z)) @ w) @ z
    program = run_passes(differentiate(builder.build([y.value]), [x.value, z.value]))
    assert stream(program, 1, TINY) is program


def test_a_region_has_one_phase() -> None:
    """Whoever says that something between two of its instructions belongs to another gets no loop for it."""
    builder = ProgramBuilder()
    x, z = (Tensor(builder, builder.input(name, TensorSpec(SMALL, "float64"))) for name in "xz")
    s = tanh(x @ swap_last(z))
    with builder.at(Origin("", Phase.BACKWARD)):
        rows = s.sum(1, keep=True)
    program = run_passes(builder.build([((s * rows) @ z).value]))
    assert stream(program, 1, TINY) is program


def test_what_follows_row_by_row_is_done_in_the_loop() -> None:
    builder = ProgramBuilder()
    x, z = (Tensor(builder, builder.input(name, TensorSpec(SMALL, "float64"))) for name in "xz")
    y = tanh((softmax(x @ swap_last(z), 1) @ z) * 2.0)
    program = run_passes(builder.build([y.value, sin(y + x).value]))
    made = check(program, arrays_for(program))
    names = Counter(i.op.name for i in made.instructions)
    assert not names["tanh"]
    assert names["sin"]  # which reads something else too


def test_queries_are_cut_as_they_lie() -> None:
    """Each part turns its own; keys and values are turned once for all of them."""
    made = stream(attention_step(heads=2)[0], 1, TINY)
    turned = {i.origin.path for i in made.instructions if i.op.name == "transpose"}
    assert "att/split_k" in turned
    assert not {(i.origin.path, i.origin.phase) for i in made.instructions if i.op.name == "transpose"} & {
        ("att/split_q", Phase.FORWARD)
    }


def test_second_derivatives() -> None:
    def function(x: Tensor, z: Tensor) -> list[Tensor]:
        return [softmax(x @ swap_last(z), 1) @ z]

    once = gradients_of(function, SMALL, SMALL)
    twice = run_passes(differentiate(once, once.inputs[:2], once.outputs[1:]))
    check(twice, arrays_for(twice))


class Drawn:
    """A program that Hypothesis shows as text."""

    def __init__(self, program: Program):
        self.program = program

    def __repr__(self) -> str:
        return to_text(self.program)


@st.composite
def programs_around_products(draw: Callable[..., Any]) -> Drawn:
    """Large values of some sizes and what is made of them, forward, or backward too, or that once more."""
    builder = ProgramBuilder()
    words = Tensor(builder, builder.input(RANDOM_INPUT, TensorSpec((4,), "uint32")))
    n, m, lead = draw(st.sampled_from([16, 24, 32])), draw(st.sampled_from([16, 32])), draw(st.sampled_from(LEADS))
    shapes = ((*lead, n, 1), (*lead, n, 2), (*lead, m, 2), (*lead, m, 1), (n, 1), (*lead, n, m))
    *small, whole = (Tensor(builder, builder.input(f"x{i}", TensorSpec(s, "float64"))) for i, s in enumerate(shapes))
    given, large = len(small), [small[1] @ swap_last(small[2])]
    for number in range(draw(st.integers(2, 10))):
        x = draw(st.sampled_from(large))
        match draw(st.integers(0, 11)):
            case 0:
                a = draw(st.sampled_from(small))
                large.append(a @ swap_last(draw(st.sampled_from([b for b in small if b.shape[-1] == a.shape[-1]]))))
            case 1:
                large.append(tanh(x))
            case 2:
                large.append(x * draw(st.sampled_from([y for y in (*large, whole) if y.shape == x.shape] or [x])))
            case 3:
                large.append(softmax(x, -1))
            case 4:
                large.append(draw(st.sampled_from(SELDOM))(x))
            case 5:
                large.append(where(random_keep_mask(words, x.shape, number, 0.7), x, x.lift(0.0)))
            case 6:
                large.append(x.reshape((*x.shape[:-2], x.shape[-1], x.shape[-2])) + swap_last(x))
            case 7:
                small.append(tanh(x.sum(-1, keep=True)))
            case 8:
                small.append(tanh(swap_last(x.sum(-2, keep=True))))
            case 9:
                fitting = [y for y in small if y.shape[-2] == x.shape[-2]]
                small += [tanh(swap_last(x) @ draw(st.sampled_from(fitting)))] if fitting else []
            case _:
                fitting = [y for y in small if y.shape[-2] == x.shape[-1]]
                small += [tanh(x @ draw(st.sampled_from(fitting)))] if fitting else []
    ends = [(y * y).sum() for y in (*small[given:], *large[-1:])]
    program = builder.build([sum(ends[1:], start=ends[0]).value])
    for count in range(draw(st.integers(0, 2))):
        program = differentiate(program, program.inputs[1 : 6 - 3 * count], program.outputs[count:])
    return Drawn(run_passes(program))


LEADS = ((), (), (1,), (3,), (1, 2), (2, 2))
SELDOM = (
    lambda x: softmax(x, -2), lambda x: cumulative_sum(x, -1), lambda x: cumulative_sum(x, -2), swap_last,
    lambda x: flip(x, -1), lambda x: flip(x, -2),
)  # fmt: skip


@settings(max_examples=300)
@given(programs_around_products(), st.sampled_from([1, 2, 3]), st.sampled_from([64, 1024]))
def test_programs_around_products_give_the_same(drawn: Drawn, workers: int, l2_bytes: int) -> None:
    check(drawn.program, arrays_for(drawn.program), workers, l2_bytes)
