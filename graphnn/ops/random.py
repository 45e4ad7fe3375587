"""Random numbers by counting: each number is a pure function of (seed, stream, step, place), on every backend alike.

The generator is Philox-4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3, SC 2011).
Nothing is carried from one draw to the next, so adding a node to a graph changes no number of another node.
"""

from __future__ import annotations

import hashlib
import math
import operator
from dataclasses import dataclass
from typing import final

import numpy as np

from graphnn.errors import DTypeError, OptionError, ShapeError
from graphnn.ir.dimension import Shape
from graphnn.ir.tensor_spec import FLOATS, TensorSpec
from graphnn.ops.arithmetic import minimum
from graphnn.ops.elementwise import cos, log, sqrt
from graphnn.ops.op import Array, ArrayModule, Op, Tensor

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
LOW = 0xFFFFFFFF  # the low 32 bits
RANGE = 2**32
BLOCKS_AT_ONCE = 2**14  # blocks of 4 words; measured: the intermediates of more no longer fit the cache
LOG_2 = 0.6931471805599453
LARGEST_BELOW_ONE = {"float16": 1.0 - 2.0**-11, "float32": 1.0 - 2.0**-24, "float64": 1.0 - 2.0**-53}
SECOND_STREAM = 0x9E3779B97F4A7C15  # a normal number needs two words; for the second these bits of the stream flip


def philox4x32(xp: ArrayModule, counters: tuple[Array, ...], keys: tuple[Array, ...]) -> Array:
    """Four random words for each counter: Philox-4x32 with 10 rounds.

    Args:
        xp: numpy or cupy.
        counters: four uint64 arrays or scalars below 2**32, of shapes that broadcast to a common one.
        keys: two such.

    Returns:
        uint32 of the common shape plus a last axis of 4.
    """
    x0, x1, x2, x3 = counters
    k0, k1 = keys
    for _ in range(ROUNDS):
        p0, p1 = x0 * MULTIPLIERS[0], x2 * MULTIPLIERS[1]
        x0, x1 = (p1 >> 32) ^ x1 ^ k0, p1 & LOW
        x2, x3 = (p0 >> 32) ^ x3 ^ k1, p0 & LOW
        k0, k1 = (k0 + KEY_STEPS[0]) & LOW, (k1 + KEY_STEPS[1]) & LOW
    return xp.stack([x.astype("uint32") for x in xp.broadcast_arrays(x0, x1, x2, x3)], axis=-1)


def random_words(xp: ArrayModule, count: int, stream: int, random: Array, first_block: int = 0) -> Array:
    """`count` words of a stream, from block `first_block` on; `RandomBits` says which they are."""
    random = random.astype("uint64")
    keys = (random[0] ^ (stream & LOW), random[1] ^ (stream >> 32))
    words = xp.empty((-(-count // 4), 4), "uint32")
    for start in range(0, len(words), BLOCKS_AT_ONCE):
        part = words[start : start + BLOCKS_AT_ONCE]
        block = xp.arange(first_block + start, first_block + start + len(part), dtype="uint64")
        part[...] = philox4x32(xp, (block & LOW, block >> 32, random[2], random[3]), keys)
    return words.reshape(-1)[:count]


@final
@dataclass(frozen=True)
class RandomBits(Op):
    """y = independent uniform 32-bit words. No gradient.

    The input `random` holds (seed low, seed high, step low, step high), see `seed_words`. Element i, in C order, is
    word i % 4 of the Philox block with the counter (i // 4 low, i // 4 high, step low, step high) and the key
    (seed low ^ stream low, seed high ^ stream high).

    With a second input, `first`, the output is the part of a larger draw that starts at element `first` of that, in C
    order: so the tiles of a batch draw what the whole batch would draw.

    Args:
        shape: of the output.
        stream: 64-bit number that tells apart the places that draw, see `stream_of`.
    """

    name = "random_bits"
    shape: Shape
    stream: int

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """uint32[4], or uint32[4] and int64[] -> uint32 of the shape."""
        random, *first = specs
        if first not in ([], [TensorSpec((), "int64")]):
            got = ", ".join(map(str, first))
            raise DTypeError("`random_bits` needs the number of its first element", expected="int64[]", got=got)
        if random.dtype != "uint32":
            raise DTypeError("`random_bits` needs the words of seed and step", expected="uint32[4]", got=random)
        if random.shape != (4,):
            raise ShapeError("`random_bits` needs the words of seed and step", expected="uint32[4]", got=random)
        if not 0 <= self.stream < 2**64:
            raise OptionError("a stream is not a 64-bit number", expected="0 to 2**64 - 1", got=self.stream)
        return (TensorSpec(self.shape, "uint32"),)

    def reference(self, xp: ArrayModule, *arrays: Array) -> Array:
        """`random_words`; a part may start within a block of 4."""
        count, first = operator.index(math.prod(self.shape)), int(arrays[1]) if arrays[1:] else 0
        skipped = first % 4
        words = random_words(xp, skipped + count, self.stream, arrays[0], first // 4)
        return words[skipped:].reshape(self.shape)


def stream_of(path: str, index: int = 0) -> int:
    """The stream of the `index`-th draw of the node at `path`: a 64-bit hash, the same in every process."""
    return _hash(f"{index}:{path}".encode(), b"stream")


def seed_words(seed: int, step: int) -> np.ndarray:
    """The input of `RandomBits`: uint32 (seed low, seed high, step low, step high), the seed mixed into 64 bits.

    Raises:
        OptionError: the seed is no integer >= 0, or the step lies outside of 64 bits.
    """
    step = _natural(step, "step")
    if step >= 2**64:
        raise OptionError("`step` does not fit into 64 bits", expected="0 to 2**64 - 1", got=step)
    seed = _natural(seed, "seed")
    key = _hash(seed.to_bytes(seed.bit_length() // 8 + 1, "little"), b"seed")
    return np.array([key & LOW, key >> 32, step & LOW, step >> 32], dtype="uint32")


def _hash(data: bytes, purpose: bytes) -> int:
    """64 bits; equal data give other bits for another purpose."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, person=purpose).digest(), "little")


def _natural(number: int, name: str) -> int:
    try:
        number = operator.index(number)
    except TypeError:
        raise OptionError(f"`{name}` is not an integer", expected="an integer >= 0", got=repr(number)) from None
    if number < 0:
        raise OptionError(f"`{name}` is negative", expected="an integer >= 0", got=number)
    return number


def random_bits(random: Tensor, shape: Shape, stream: int) -> Tensor:
    """Independent uniform 32-bit words, uint32."""
    return RandomBits(tuple(shape), stream)(random)


def random_uniform(random: Tensor, shape: Shape, stream: int, dtype: str = "float32") -> Tensor:
    """Uniform numbers in [0, 1).

    word / 2**32 rounded to the dtype, where what would round up to 1 becomes the largest number below 1. So float64 has
    a resolution of 2**-32, and the float32 numbers are the rounded float64 ones.

    Raises:
        DTypeError: the dtype is not a floating-point one.
    """
    check_float(dtype)
    bits = random_bits(random, shape, stream)
    wide = bits.cast("float64" if dtype == "float64" else "float32")  # 2**32 is too large for float16
    fractions = (wide * 2.0**-32).cast(dtype)
    return minimum(fractions, fractions.lift(LARGEST_BELOW_ONE[dtype]))


def random_normal(random: Tensor, shape: Shape, stream: int, dtype: str = "float32") -> Tensor:
    """Normal numbers of mean 0 and standard deviation 1, by Box and Muller's sqrt(-2 log u) * cos(2 pi v).

    u lies in the middle of its 2**-32 wide cell, so that log stays finite: the numbers reach to about +-6.8. Those of
    float32 and float64 agree to 2**-12, mostly far better; a mask that must not differ is `random_keep_mask`.

    Raises:
        DTypeError: the dtype is not a floating-point one.
    """
    check_float(dtype)
    wide = "float64" if dtype == "float64" else "float32"
    u = (random_bits(random, shape, stream).cast(wide) + 0.5) * 2.0**-32
    angle = random_bits(random, shape, stream ^ SECOND_STREAM).cast(wide) * (2.0 * math.pi * 2.0**-32)
    return (sqrt(log(u) * -2.0) * cos(angle)).cast(dtype)


def random_keep_mask(random: Tensor, shape: Shape, stream: int, keep_probability: float) -> Tensor:
    """True with `keep_probability`, as in dropout; bool.

    Words are compared with a threshold: the mask is the same whatever dtype it is applied to, and 0 and 1 are exact.

    Raises:
        OptionError: the probability is not within 0 to 1.
    """
    if not 0.0 <= keep_probability <= 1.0:
        raise OptionError("a probability is out of range", expected="0 to 1", got=keep_probability)
    bits = random_bits(random, shape, stream)
    kept = round(keep_probability * RANGE)  # number of words that keep; all 2**32 would not fit into one word
    return bits <= kept - 1 if kept else bits < 0


def check_float(dtype: str) -> None:
    """Raise DTypeError unless the dtype is a floating-point one."""
    if dtype not in FLOATS:
        raise DTypeError("random numbers need a floating-point dtype", expected=", ".join(FLOATS), got=repr(dtype))


class RandomStream:
    """Random numbers on the host, for initial weights and the order of data: the same in every process and machine.

    Each draw is one step of a stream of its own: draw d takes the words that `RandomBits` would give at step d, and has
    as many as it needs, so its size does not move later draws. Only additions, products, divisions and roots are
    used, which IEEE 754 fixes to the last bit; library functions such as log differ between machines.

    Args:
        seed: any integer >= 0.
        path: what the numbers are for, such as the path of a parameter.
        draws: number of draws to skip, to go on where another stream stopped.
    """

    def __init__(self, seed: int, path: str, draws: int = 0):
        self.seed = _natural(seed, "seed")
        self.path = path
        self.draws = _natural(draws, "draws")
        self._stream = _hash(path.encode(), b"host")  # not the streams of nodes, whose paths may be equal

    def bits(self, n: int) -> np.ndarray:
        """`n` words, uint32."""
        words = random_words(np, n, self._stream, seed_words(self.seed, self.draws))
        self.draws += 1
        return words

    def uniform(self, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Numbers in [0, 1), float64 of 53 random bits."""
        words = self.bits(2 * math.prod(shape))
        high, low = words[0::2] >> 5, words[1::2] >> 6
        return ((high * 2.0**26 + low) * 2.0**-53).reshape(shape)

    def normal(self, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Numbers of mean 0 and standard deviation 1, float64, by Box and Muller's method."""
        count = math.prod(shape)
        pairs = -(-count // 2)
        uniform = self.uniform((2, pairs))
        values = np.empty((2, pairs))
        for start in range(0, pairs, BLOCKS_AT_ONCE):
            part = np.s_[:, start : start + BLOCKS_AT_ONCE]
            u, turns = uniform[part]
            values[part] = np.sqrt(_log(1.0 - u) * -2.0) * _cos_sin(turns)
        return values.reshape(-1)[:count].reshape(shape)

    def permutation(self, n: int) -> np.ndarray:
        """0 to n - 1 in random order, int64: the order of `n` random 64-bit numbers."""
        words = self.bits(2 * n).astype("uint64")
        return np.argsort(words[0::2] << 32 | words[1::2], kind="stable").astype("int64")


def _log(u: np.ndarray) -> np.ndarray:
    """log(u) for u > 0 in float64: log(m * 2**e) = 2 artanh((m - 1) / (m + 1)) + e log(2)."""
    m, e = np.frexp(u)
    small = m < math.sqrt(0.5)
    m, e = np.where(small, 2.0 * m, m), e - small
    s = (m - 1.0) / (m + 1.0)  # |s| < 0.172: the power series has 11 terms above 1e-17
    return 2.0 * s * _polynomial(s * s, [1.0 / n for n in range(1, 22, 2)]) + e * LOG_2


def _cos_sin(turns: np.ndarray) -> np.ndarray:
    """(cos, sin) of 2 pi * turns for 0 <= turns <= 1 in float64, by power series within a quarter of a turn."""
    half_turns = np.rint(2.0 * turns)
    a = (2.0 * turns - half_turns) * math.pi
    cos_series = _polynomial(a * a, [(-1.0) ** n / math.factorial(2 * n) for n in range(12)])
    sin_series = _polynomial(a * a, [(-1.0) ** n / math.factorial(2 * n + 1) for n in range(12)])
    sign = 1.0 - 2.0 * (half_turns == 1.0)  # half a turn further, both have the other sign
    return np.stack([sign * cos_series, sign * a * sin_series])


def _polynomial(x: np.ndarray, coefficients: list[float]) -> np.ndarray:
    total = np.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total *= x
        total += coefficient
    return total
