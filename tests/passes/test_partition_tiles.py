"""choose_tiles: divisors of the batch that keep all workers busy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnn.passes.partition_tiles import ABOUT, choose_tiles, cost

MIB = 2**20
SIZES = st.integers(1, 2**30)


@given(st.integers(1, 3000), st.integers(1, 64), SIZES, st.sampled_from([MIB // 4, MIB, 2 * MIB]), SIZES)
def test_a_divisor_that_no_other_beats(batch, workers, example, l2, weights):
    tiles = choose_tiles(batch, workers, example, l2, weights)
    assert batch % tiles == 0
    sizes = (batch, workers, example, l2, weights)
    divisors = [n for n in range(1, batch + 1) if batch % n == 0 and n <= 200]
    assert all(cost(tiles, *sizes) <= ABOUT * cost(other, *sizes) for other in divisors)


@pytest.mark.parametrize(
    ("batch", "workers", "example", "weights", "tiles"),
    [
        (64, 2, 3000, 70_000, 2),  # a small MLP: one tile for each worker
        (256, 2, 15_000, 8 * MIB, 2),  # large weights: each tile would read them again
        (8, 2, 20 * MIB, MIB // 2, 8),  # long sequences: an example is more than the cache holds
        (64, 1, 1000, 1000, 1),  # fits as it is
        (6, 4, MIB, 0, 6),  # no multiple of 4 divides it: 2 rounds of one example
        (7, 2, MIB, 0, 7),  # a small prime: one example at a time
        (251, 2, 100, 8 * MIB, 1),  # a large prime, and little to do for one example
        (1, 8, MIB, MIB, 1),
    ],
)
def test_choices(batch, workers, example, weights, tiles):
    assert choose_tiles(batch, workers, example, 2 * MIB, weights) == tiles
