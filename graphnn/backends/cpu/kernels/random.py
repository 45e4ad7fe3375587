"""The kernel of random bits: Philox 4x32-10 on vectors of blocks, with the bits of the reference.

Philox: Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011).
"""

from __future__ import annotations

from llvmlite import ir

from graphnn.backends.cpu.emit import I32, I64, Function, Value, const
from graphnn.backends.cpu.kernel import Emitter, Kernel, Specs
from graphnn.backends.cpu.target import Target
from graphnn.ops.op import Op
from graphnn.ops.random import KEY_STEPS, LOW, MULTIPLIERS, ROUNDS, RandomBits

WORDS = 4  # of a block


def emit_random_bits(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """Sizes: number of words, stream low, stream high. A vector holds one word of each of its blocks in 64 bits."""
    if not isinstance(op, RandomBits):
        return None
    f, lanes = Function(target), target.lanes("int64")
    b, count, result = f.builder, f.size(0), f.pointer(len(inputs))
    first = f.load(f.pointer(1), 0, "int64") if len(inputs) > 1 else const(0)
    random = [f.splat(b.zext(f.load(f.pointer(0), n, "uint32"), I64), lanes) for n in range(4)]
    keys = [b.xor(random[n], f.splat(f.size(1 + n), lanes)) for n in (0, 1)]
    ramp = ir.Constant(ir.VectorType(I64, lanes), list(range(lanes)))
    skipped = b.and_(first, const(WORDS - 1))  # words of the first block that come before `first`
    with f.loop(b.add(count, skipped), step=WORDS * lanes) as loop:
        number = b.lshr(b.add(b.sub(first, skipped), loop.index), const(2))
        block = b.add(f.splat(number, lanes), ramp)
        low, high = b.and_(block, _low(f, lanes)), b.lshr(block, f.splat(const(32), lanes))
        halves = _in_order(f, _philox(f, [low, high, *random[2:]], keys, lanes), lanes)
        _store(f, halves, result, b.sub(loop.index, skipped), count)
    (y,) = outputs
    return Kernel(f.finish(), (y.size, op.stream & LOW, op.stream >> 32))


def _low(f: Function, lanes: int) -> Value:
    return f.splat(const(LOW), lanes)


def _philox(f: Function, x: list[Value], keys: list[Value], lanes: int) -> list[Value]:
    """The rounds of `graphnn.ops.random.philox4x32`; what lies above 32 bits of a word means nothing."""
    b, shift = f.builder, f.splat(const(32), lanes)
    for number in range(ROUNDS):
        k0, k1 = (b.add(key, f.splat(const(number * by & LOW), lanes)) for key, by in zip(keys, KEY_STEPS, strict=True))
        p0, p1 = (
            b.mul(b.and_(word, _low(f, lanes)), f.splat(const(by), lanes))
            for word, by in zip((x[0], x[2]), MULTIPLIERS, strict=True)
        )
        x = [b.xor(b.xor(b.lshr(p1, shift), x[1]), k0), p1, b.xor(b.xor(b.lshr(p0, shift), x[3]), k1), p0]
    return x


def _in_order(f: Function, x: list[Value], lanes: int) -> list[Value]:
    """The words of the blocks one behind the other, in two vectors."""
    b, shift = f.builder, f.splat(const(32), lanes)
    pairs = [b.or_(b.and_(x[n], _low(f, lanes)), b.shl(x[n + 1], shift)) for n in (0, 2)]
    halves = []
    for first in (0, lanes // 2):
        numbers = [first + n // 2 + n % 2 * lanes for n in range(lanes)]
        mixed = b.shuffle_vector(pairs[0], pairs[1], ir.Constant(ir.VectorType(I32, lanes), numbers))
        halves.append(b.bitcast(mixed, ir.VectorType(I32, 2 * lanes)))
    return halves


def _store(f: Function, halves: list[Value], result: Value, start: Value, count: Value) -> None:
    """Write the vectors from element `start` on, as far as they lie in 0 to count - 1."""
    b, width = f.builder, halves[0].type.count
    stop = b.add(start, const(len(halves) * width))
    inside = b.and_(b.icmp_signed(">=", start, const(0)), b.icmp_signed("<=", stop, count))
    starts = [b.add(start, const(n * width)) for n in range(len(halves))]
    with b.if_else(inside, likely=True) as (full, part):
        with full:
            for half, at in zip(halves, starts, strict=True):
                f.store_vector(half, result, at, "uint32")
        with part:
            for half, at in zip(halves, starts, strict=True):
                before = f.tail_mask(b.neg(at), width)
                mask = b.and_(f.tail_mask(b.sub(count, at), width), b.not_(before))
                f.store_masked(half, result, at, "uint32", mask)


EMITTERS: dict[type[Op], Emitter] = {RandomBits: emit_random_bits}
