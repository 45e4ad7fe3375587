"""Numbers on their way from a contender to its parent."""

import math
from array import array

from graphnn.bench.packed import packed, unpacked


def test_numbers_come_back_bit_for_bit():
    numbers = [0.1, -0.0, math.inf, 5e-324, 1e300]
    assert list(map(repr, unpacked(packed(array("d", numbers))))) == list(map(repr, numbers))
    assert unpacked(packed(array("d"))) == []
