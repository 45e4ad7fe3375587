import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnn.errors import OptionError, ShapeError, StateError
from graphnn.training.data import Batches, count_examples


def numbered(n):
    """Examples whose inputs, by name, and targets tell their number."""
    return {"a": np.arange(n), "b": np.arange(2.0 * n).reshape(n, 2)}, np.arange(n) * 10


@given(
    n=st.integers(1, 30),
    batch_size=st.integers(1, 35),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    seed=st.integers(0, 5),
    epoch=st.integers(0, 5),
)
def test_an_epoch_has_each_example_once_in_full_batches(n, batch_size, shuffle, drop_last, seed, epoch):
    if drop_last and batch_size > n:
        return
    batches = Batches(numbered(n), batch_size, shuffle=shuffle, seed=seed, drop_last=drop_last)
    got = list(batches.epoch(epoch))
    sizes = [batch_size] * (n // batch_size) + ([n % batch_size] if n % batch_size and not drop_last else [])
    assert [count_examples(x) for x, _ in got] == [len(y) for _, y in got] == sizes
    assert batches.steps == len(sizes)
    numbers = np.concatenate([x["a"] for x, _ in got])
    np.testing.assert_array_equal(numbers, batches.order(epoch)[: len(numbers)])
    assert sorted(batches.order(epoch).tolist()) == list(range(n))
    np.testing.assert_array_equal(np.concatenate([x["b"] for x, _ in got]), 2 * numbers[:, None] + [0, 1])
    np.testing.assert_array_equal(np.concatenate([y for _, y in got]), 10 * numbers)


def test_the_order_depends_on_seed_and_epoch_alone():
    n = 50
    orders = [Batches(numbered(n), 8, seed=seed).order(epoch).tolist() for seed in range(4) for epoch in range(4)]
    assert all(a != b for a, b in itertools.combinations(orders, 2))
    batches = Batches(numbered(n), 3, seed=2)
    list(batches.epoch(0)), next(batches.epoch(1))  # what was read before makes no difference
    assert [batches.order(epoch).tolist() for epoch in range(4)] == orders[8:12]
    assert Batches(numbered(n), shuffle=False).order(3).tolist() == list(range(n))


def test_an_order_is_the_same_everywhere():
    assert Batches(numbered(8), seed=3).order(5).tolist() == [3, 1, 6, 5, 0, 2, 7, 4]


@pytest.mark.parametrize("start", [0, 1, 4, 5, 6])
def test_an_epoch_can_be_entered_anywhere(start):
    batches = Batches(numbered(23), 5)
    whole, rest = list(batches.epoch(2)), list(batches.epoch(2, start))
    assert len(rest) == max(len(whole) - start, 0)
    for (x, y), (x2, y2) in zip(whole[start:], rest, strict=True):
        np.testing.assert_array_equal(x["b"], x2["b"])
        np.testing.assert_array_equal(y, y2)


def test_structures_are_kept_and_arrays_without_shuffling_are_not_copied():
    x, y = np.zeros((6, 2)), {"one": np.zeros(6), "two": np.zeros((6, 1))}
    (bx, by), *_ = Batches((x, y), 4, shuffle=False)
    assert np.shares_memory(bx, x)
    assert list(by) == ["one", "two"]
    assert np.shares_memory(by["two"], y["two"])
    ((bx, by),) = Batches(([[1, 2], [3, 4]], None), 4, shuffle=False)
    np.testing.assert_array_equal(bx, [[1, 2], [3, 4]])
    assert by is None


def test_batches_of_an_iterable_pass_through():
    pairs = [(object(), object()), [1, 2], (3, 4)]
    batches = Batches(pairs, 99)
    assert list(batches) == list(batches.epoch(7)) == [tuple(pair) for pair in pairs]
    assert list(batches.epoch(1, 2)) == [(3, 4)]
    assert batches.steps == 3
    assert batches.examples is None
    with pytest.raises(StateError, match="order of its own"):
        batches.order(0)


def test_an_iterator_lasts_for_one_epoch():
    batches = Batches((number, number) for number in range(3))
    assert batches.steps is None
    assert list(batches.epoch(0)) == [(0, 0), (1, 1), (2, 2)]
    with pytest.raises(StateError, match=r"once only\n.*\n  fix: give a list"):
        next(batches.epoch(1))


@pytest.mark.parametrize(
    ("data", "options", "error", "text"),
    [
        ((np.zeros(3), np.zeros(4)), {}, ShapeError, "examples differ\n.*\n  got: x: 3, y: 4"),
        (({"a": np.zeros(3), "b": np.zeros(2)}, None), {}, ShapeError, "got: x\\['a'\\]: 3, x\\['b'\\]: 2"),
        ((np.zeros((0, 3)), np.zeros(0)), {}, ShapeError, "there are no examples"),
        (({}, None), {}, ShapeError, "there are no examples"),
        ((np.zeros(()), np.zeros(3)), {}, ShapeError, "x: the data has no first axis"),
        (([[1], [2, 3]], [1, 2]), {}, ShapeError, "x: rows of different lengths"),
        ((np.zeros(3), np.zeros(3)), {"batch_size": 0}, OptionError, "`batch_size` does not fit\n  expected: .*>= 1"),
        ((np.zeros(3), np.zeros(3)), {"batch_size": 2.0}, OptionError, "`batch_size` does not fit"),
        ((np.zeros(3), np.zeros(3)), {"batch_size": True}, OptionError, "`batch_size` does not fit"),
        ((np.zeros(3), np.zeros(3)), {"batch_size": 4, "drop_last": True}, OptionError, "no batch would be full"),
        (np.zeros((4, 2)), {}, OptionError, "not data\n  expected: \\(x, y\\), or an iterable"),
        ({"x": np.zeros(3)}, {}, OptionError, "not data"),
        (3, {}, OptionError, "not data"),
    ],
)
def test_data_that_do_not_fit_are_refused(data, options, error, text):
    with pytest.raises(error, match=text):
        Batches(data, **options)


def test_items_that_are_no_batches_and_negative_positions_are_refused():
    with pytest.raises(OptionError, match="not a batch\n  expected: a pair \\(x, y\\)\n  got: ndarray"):
        next(Batches([np.zeros(2)]).epoch(0))
    for position in ((-1, 0), (0, -1)):
        with pytest.raises(OptionError, match="a position is negative"):
            Batches(numbered(3)).epoch(*position)
