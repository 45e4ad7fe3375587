"""choose_tiles: into how many tiles a batch is cut."""

from __future__ import annotations

import math

PER_DOUBLING = 0.08  # of time, for each doubling of a tile beyond the cache; from one WaveNet step, 4 tiles to 1
START = 2**16  # bytes of activations that are computed in the time that a tile takes to start in every phase
ABOUT = 1.03  # times as long is as good as the best
MOST_TILES = 256  # for each worker; more are never quicker


def choose_tiles(batch: int, workers: int, example_bytes: int, l2_bytes: int, weight_bytes: int = 0) -> int:
    """A divisor of the batch: of those that `cost` says to be about quickest the largest, which takes the least memory.

    With one example for each tile, a large prime batch would start too often: it stays in one piece where that costs
    less; then a caller may pad the batch or drop an example.

    Args:
        batch: number of examples.
        workers: number of threads that take tiles.
        example_bytes: of all values that live at once in the tile of one example.
        l2_bytes: of the cache that one worker has for itself.
        weight_bytes: of all weights: every tile reads them, and adds to their gradients.
    """
    candidates = divisors(batch, MOST_TILES * workers)
    costs = {tiles: cost(tiles, batch, workers, example_bytes, l2_bytes, weight_bytes) for tiles in candidates}
    return max(tiles for tiles in candidates if costs[tiles] <= ABOUT * min(costs.values()))


def cost(tiles: int, batch: int, workers: int, example_bytes: int, l2_bytes: int, weight_bytes: int) -> float:
    """The time of a step, in bytes of activations that one worker computes: rounds * (start + values + weights).

    rounds = ceil(tiles / workers): all workers are busy in all of them if `tiles` is a multiple of `workers`;
    values = bytes of the tile, which cost 8 % more each time that they double beyond half of the cache (the other
    half holds weights); weights = a third of their bytes: they are read, and their gradients added to, while products
    are made (a Transformer step with 2, 4 and 8 tiles: 1, 1.01 and 1.08).
    """
    values = batch / tiles * example_bytes
    spill = 1.0 + PER_DOUBLING * math.log2(max(1.0, values / (l2_bytes / 2)))
    return math.ceil(tiles / workers) * (START + spill * values + weight_bytes / 3)


def divisors(number: int, most: int) -> list[int]:
    """All divisors up to `most`, from 1 on."""
    return [n for n in range(1, min(number, most) + 1) if number % n == 0] or [1]
