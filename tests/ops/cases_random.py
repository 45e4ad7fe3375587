"""Case of random_bits: its expected words come from Philox written for one block with Python's integers."""

from __future__ import annotations

import math

import numpy as np

from graphnn.ops.random import RandomBits
from ops.case import Case, exactly

STREAM = 0xFEDCBA9876543210


def philox_block(counter, key):
    """The four words of one block, after Salmon et al. 2011, section 3.3 (Philox-4x32, 10 rounds)."""
    r0, l0, r1, l1 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * r0, 2**32)
        high1, low1 = divmod(0xCD9E8D57 * r1, 2**32)
        r0, l0, r1, l1 = high1 ^ k0 ^ l0, low1, high0 ^ k1 ^ l1, low0
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return r0, l0, r1, l1


def word(place, stream, random):
    """Element `place` of the output of RandomBits."""
    seed, step = random[0] + (random[1] << 32), random[2] + (random[3] << 32)
    key, block = seed ^ stream, place // 4
    counter = (block % 2**32, block >> 32, step % 2**32, step >> 32)
    return philox_block(counter, (key % 2**32, key >> 32))[place % 4]


def words(random, shape):
    random = [int(number) for number in random]
    flat = [word(place, STREAM, random) for place in range(math.prod(shape))]
    return np.array(flat, "uint32").reshape(shape)


def random_case(*shape, **options):
    random = exactly([0x01234567, 0x89ABCDEF, 0xFFFFFFFF, 7], "uint32")
    return Case(RandomBits(shape, STREAM), [random], lambda r: words(r, shape), gradient=False, **options)


CASES = [
    random_case(3, 5, 2, wrong=[["int64[4]"], ["uint32[2]"], ["uint32[4, 1]"]]),
    random_case(label="scalar"),
    random_case(2, 0, label="empty"),
    random_case(8, label="whole_blocks"),
    Case(
        RandomBits((3, 5), STREAM), [exactly([1, 2, 3, 4], "uint32"), exactly(7, "int64")],
        lambda r, first: words(r, (22,))[first:].reshape(3, 5), gradient=False, label="a_part",
        wrong=[["uint32[4]", "int32[]"], ["uint32[4]", "int64[1]"], ["uint32[4]", "int64[]", "int64[]"]],
    ),
]  # fmt: skip
