"""Philox-4x32-10 on vectors: what `RandomBits` gives, computed where it is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from graphnn.backends.cpu.emit import I32, I64, Function, Value, const
from graphnn.ops.random import KEY_STEPS, LOW, MULTIPLIERS, ROUNDS


@dataclass(frozen=True)
class Keys:
    """Key and step of a stream, i32 each."""

    key: tuple[Value, Value]
    step: tuple[Value, Value]


def load_keys(f: Function, random: Value, stream: int) -> Keys:
    """From the address of the words (seed low, seed high, step low, step high)."""
    words = [f.load(random, index, "uint32") for index in range(4)]
    key = tuple(f.builder.xor(word, I32(part)) for word, part in zip(words, (stream & LOW, stream >> 32), strict=False))
    return Keys((key[0], key[1]), (words[2], words[3]))


def words_from(f: Function, keys: Keys, start: Value, lanes: int, is_aligned: bool) -> Value:
    """<lanes x i32>: words start to start + lanes - 1; lanes is a multiple of 4.

    Args:
        f: where the IR goes.
        keys: of the stream.
        start: i64.
        lanes: a multiple of 4.
        is_aligned: `start` is known to be a multiple of 4; otherwise that is found out in the run, and a start within
            a block takes twice the work.
    """
    b = f.builder
    if is_aligned:
        return _blocks(f, keys, start, lanes)
    within = b.and_(start, const(3))
    base = b.sub(start, within)
    low = _blocks(f, keys, base, lanes)
    before = b.block
    with b.if_then(b.icmp_unsigned("!=", within, const(0)), likely=False):
        shifted = _shifted(f, low, _blocks(f, keys, b.add(base, const(lanes)), lanes), within)
        inside = b.block
    result = b.phi(low.type)
    result.add_incoming(low, before)
    result.add_incoming(shifted, inside)
    return result


def word_at(f: Function, keys: Keys, place: Value) -> Value:
    """One word, i32."""
    b = f.builder
    words = _philox(f, keys, f.splat(b.lshr(place, const(2)), 1))
    within = b.and_(place, const(3))
    chosen = words[3]
    for number in range(3):
        chosen = b.select(b.icmp_unsigned("==", within, const(number)), words[number], chosen)
    return b.extract_element(chosen, I32(0))


def _blocks(f: Function, keys: Keys, start: Value, lanes: int) -> Value:
    """As `words_from`, for a multiple of 4: one block for four words."""
    blocks = lanes // 4
    x0, x1, x2, x3 = _philox(f, keys, _count_from(f, f.builder.lshr(start, const(2)), blocks))
    pairs = [number // 2 + blocks * (number % 2) for number in range(2 * blocks)]
    low, high = _shuffle(f, x0, x1, pairs), _shuffle(f, x2, x3, pairs)
    quads = [number // 4 * 2 + number % 2 + 2 * blocks * (number % 4 // 2) for number in range(lanes)]
    return _shuffle(f, low, high, quads)


def _shifted(f: Function, low: Value, high: Value, by: Value) -> Value:
    """Lanes from number `by` (1 to 3) on, of `low` and then `high`."""
    b, lanes = f.builder, low.type.count
    one, two, three = (_shuffle(f, low, high, range(number, number + lanes)) for number in (1, 2, 3))
    more = b.select(b.icmp_unsigned("==", by, const(2)), two, three)
    return b.select(b.icmp_unsigned("==", by, const(1)), one, more)


def _count_from(f: Function, start: Value, lanes: int) -> Value:
    steps = ir.Constant(ir.VectorType(I64, lanes), list(range(lanes)))
    return f.builder.add(f.splat(start, lanes), steps)


def _philox(f: Function, keys: Keys, blocks: Value) -> list[Value]:
    """Four words for each block number (i64), as in `ops.random.philox4x32`.

    A word is the low half of 64 bits: the high half may hold anything, as a product of low halves does not see it.
    """
    b, lanes = f.builder, blocks.type.count
    half = f.splat(const(32), lanes)
    words = [f.splat(b.zext(word, I64), lanes) for word in (*keys.step, *keys.key)]
    steps = [f.splat(const(step), lanes) for step in KEY_STEPS]
    with f.loop(ROUNDS, [blocks, b.lshr(blocks, half), *words]) as loop:  # written out it takes long to compile
        x0, x1, x2, x3, k0, k1 = loop.carried
        first, second = _product(f, x0, MULTIPLIERS[0]), _product(f, x2, MULTIPLIERS[1])
        high0, high1 = b.lshr(first, half), b.lshr(second, half)
        state = [b.xor(b.xor(high1, x1), k0), second, b.xor(b.xor(high0, x3), k1), first]
        loop.results = [*state, b.add(k0, steps[0]), b.add(k1, steps[1])]
    return [b.trunc(x, ir.VectorType(I32, lanes)) for x in loop.carried[:4]]


def _product(f: Function, x: Value, factor: int) -> Value:
    """The 64 bits of the low half of x times the factor."""
    lanes = x.type.count
    return f.builder.mul(f.builder.and_(x, f.splat(const(LOW), lanes)), f.splat(const(factor), lanes))


def _shuffle(f: Function, a: Value, b: Value, numbers: Sequence[int]) -> Value:
    return f.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(numbers)), list(numbers)))
