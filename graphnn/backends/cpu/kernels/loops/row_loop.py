"""RowLoop: the loops over one row, in vectors, with partial results of reductions carried through them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from graphnn.backends.cpu.emit import Function, Value, const
from graphnn.backends.cpu.kernels.loops.position import Position, first_lanes
from graphnn.backends.cpu.kernels.loops.reduce import combine, identity, row_dtype
from graphnn.ir.program import Instruction
from graphnn.ir.tensor_spec import FLOATS
from graphnn.ops.reduction import Sum

# Turns of a loop after which partial sums are put aside. A lane adds up at most this many numbers before its sum joins
# a second one, so the error of a sum of n float32 numbers grows with 64 + n / (64 * lanes * unroll), not with n.
CHUNK = 64

Body = Callable[[Position, Sequence[Value]], list[Value]]  # from partial results to those with this position


@dataclass(frozen=True)
class RowLoop:
    """Calls `body` for all positions of a row.

    Args:
        f: where the IR goes.
        sizes: of the loops of the nest.
        extents: the same, as IR; the first one is known when the kernel runs.
        outer: number of the first loop of the row.
        lanes: of a vector.
        unroll: vectors in one turn.
        reductions: those whose partial results are carried, one vector each.
        body: writes one position.
    """

    f: Function
    sizes: Sequence[int]
    extents: Sequence[Value]
    outer: int
    lanes: int
    unroll: int
    reductions: Sequence[Instruction]
    body: Body

    def write(self) -> list[Value]:
        """The loops; one vector of partial results for each reduction."""
        return self._plain(self.outer, {}, self._neutral())

    def _neutral(self) -> list[Value]:
        return [identity(r.op, row_dtype(r), self.lanes) for r in self.reductions]

    def _combined(self, a: Sequence[Value], b: Sequence[Value]) -> list[Value]:
        triples = zip(self.reductions, a, b, strict=True)
        return [combine(self.f, r.op, left, right, row_dtype(r)) for r, left, right in triples]

    def _plain(self, axis: int, indices: Mapping[int, Value], first: list[Value]) -> list[Value]:
        """The axes outside of the innermost one."""
        if axis == len(self.sizes) - 1:
            return self._vectors(indices, first)
        with self.f.loop(self.extents[axis], first) as loop:
            loop.results = self._plain(axis + 1, {**indices, axis: loop.index}, loop.carried)
        return loop.carried

    def _vectors(self, indices: Mapping[int, Value], first: list[Value]) -> list[Value]:
        """Whole turns, then the rest under masks."""
        turn, whole = self.lanes * self.unroll, self._whole()
        if self._is_open or self.sizes[-1] >= turn:
            copies = [*first, *self._neutral() * (self.unroll - 1)]
            write = self._chunks if self._needs_chunks else self._turns
            copies = write(const(0), whole, indices, copies)
            first = self._merged(copies)
        return self._rest(whole, indices, first)

    @property
    def _is_open(self) -> bool:
        return len(self.sizes) == 1  # the innermost loop is the outermost one, whose length is known only in a run

    @property
    def _needs_chunks(self) -> bool:
        sums = any(isinstance(r.op, Sum) and r.outputs[0].spec.dtype in FLOATS for r in self.reductions)
        return sums and (self._is_open or self.sizes[-1] > CHUNK * self.lanes * self.unroll)

    def _whole(self) -> Value:
        b, turn = self.f.builder, self.lanes * self.unroll
        if self._is_open:
            return b.sub(self.extents[-1], b.urem(self.extents[-1], const(turn)))
        return const(self.sizes[-1] - self.sizes[-1] % turn)

    def _turns(self, start: Value, stop: Value, indices: Mapping[int, Value], copies: list[Value]) -> list[Value]:
        count = len(self.reductions)
        with self.f.loop(stop, copies, start=start, step=self.lanes * self.unroll) as loop:
            results: list[Value] = []
            for number in range(self.unroll):
                place = self.f.builder.add(loop.index, const(number * self.lanes))
                at = Position(place, None, dict(indices))
                results += self.body(at, loop.carried[number * count : (number + 1) * count])
            loop.results = results
        return loop.carried

    def _chunks(self, start: Value, stop: Value, indices: Mapping[int, Value], copies: list[Value]) -> list[Value]:
        """As `_turns`; sums begin anew from time to time."""
        b, step = self.f.builder, CHUNK * self.lanes * self.unroll
        with self.f.loop(stop, copies, start=start, step=step) as loop:
            end = b.add(loop.index, const(step))
            end = b.select(b.icmp_signed("<", end, stop), end, stop)
            part = self._turns(loop.index, end, indices, self._neutral() * self.unroll)
            count = len(self.reductions)
            slices = [slice(n * count, (n + 1) * count) for n in range(self.unroll)]
            loop.results = [v for s in slices for v in self._combined(loop.carried[s], part[s])]
        return loop.carried

    def _merged(self, copies: list[Value]) -> list[Value]:
        """Partial results of the vectors of a turn, combined in pairs."""
        count = len(self.reductions)
        parts = [copies[n * count : (n + 1) * count] for n in range(self.unroll)]
        while len(parts) > 1:
            parts = [self._combined(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    def _rest(self, whole: Value, indices: Mapping[int, Value], partial: list[Value]) -> list[Value]:
        rest = self.sizes[-1] % (self.lanes * self.unroll)
        if not self._is_open and rest <= self.lanes:
            mask = first_lanes(rest, self.lanes)
            return self.body(Position(whole, mask, dict(indices)), partial) if rest else partial
        with self.f.loop(self.extents[-1], partial, start=whole, step=self.lanes) as loop:
            mask = self.f.tail_mask(self.f.builder.sub(self.extents[-1], loop.index), self.lanes)
            loop.results = self.body(Position(loop.index, mask, dict(indices)), loop.carried)
        return loop.carried
