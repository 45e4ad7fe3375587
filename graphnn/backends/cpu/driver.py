"""The driver: one native function that walks a table of steps. No kernel is known to it but by its address.

A table row is one of

    CALL     function, first argument, arguments, first size     a kernel
    COPY     target argument, source argument, bytes
    LOOP     turns, first row, last row, backwards, start        a loop of one worker; `step` counts its turns, from
                                                                 `start` on, `outer` those of the loop around it
    TILES    tiles, first row, last row, first later, last later     each worker runs its share of the tiles
    SERIAL   first row, last row, worker                         by one worker alone
    BARRIER  -                                                   all workers wait for each other
    INDEX    argument, of the turn                               writes the number of the tile, or of the turn, there

An argument is (base, offset, bytes per tile, bytes per step, bytes per outer step, bytes per worker, home, home
offset): its address is bases[base] + offset + worker * bytes per worker, or for worker 0 bases[home] + home offset,
and further + tile * bytes per tile + step * bytes per step + outer * bytes per outer step.
"""

from __future__ import annotations

from enum import IntEnum
from functools import cache
from typing import Any

from llvmlite import ir

from graphnn.backends.cpu.emit import I32, I64, POINTER, Function, Value, const
from graphnn.backends.cpu.target import Target
from graphnn.backends.cpu.threads import emit_barrier

ROW, ARGUMENT = 6, 8  # numbers in a row, and in an argument
MOST_ARGUMENTS = 256  # of one kernel; an op with more has none
NONE = const(0)
LOGGED = 3  # row, nanoseconds at the beginning on the clock of time.monotonic, nanoseconds that it took


class RowKind(IntEnum):
    """What a row of the table is."""

    CALL = 0
    COPY = 1
    LOOP = 2
    TILES = 3
    SERIAL = 4
    BARRIER = 5
    INDEX = 6


class Field(IntEnum):
    """The numbers that the driver is called with: addresses of the parts of the table."""

    ROWS = 0
    ROW_COUNT = 1
    ARGUMENTS = 2
    BASES = 3
    SIZES = 4
    STATUS = 5  # of one number: 0, or 1 + the row of a kernel that refused its inputs
    BARRIER = 6  # the pool's
    LOG = 7  # 0, or what each worker writes down: the number of its calls, and LOGGED numbers for each of them
    LOG_WORDS = 8  # of one worker


@cache
def emit_driver(target: Target) -> str:
    """IR of `i64 kernel(ptr fields, i64 worker, i64 workers)`: walks all rows; returns the status."""
    main = Function(target, arguments=(POINTER, I64, I64))
    walker = _Walker(main)
    walker.write()
    b, (fields, worker, workers) = main.builder, main.function.args
    count = _field(main, fields, Field.ROW_COUNT)
    status = b.call(walker.function, [fields, const(0), count, worker, workers, *[NONE] * 3])
    return main.finish(status)


def _field(f: Function, fields: Value, which: Field) -> Value:
    return f.load(fields, which.value, "int64")


class _Part(Function):
    """A further function of the same module."""

    def __init__(self, main: Function, name: str, arguments: list[Any]):
        self.target, self.module = main.target, main.module
        self.function = ir.Function(self.module, ir.FunctionType(I64, arguments), name)
        self.function.linkage = "internal"
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))


class _Walker:
    """Writes `i64 walk(ptr fields, first, last, worker, workers, tile, step, outer)`; all but `fields` are i64."""

    def __init__(self, main: Function):
        self.f = _Part(main, "walk", [POINTER, *[I64] * 7])
        self.function = self.f.function
        self.fields, self.first, self.last, self.worker, self.workers, *self.counters = self.function.args
        self.tile, self.step, self.outer = self.counters
        self.pointers = self.f.builder.alloca(I64, MOST_ARGUMENTS)
        self.clock = self.f.builder.alloca(I64, 2)  # seconds, nanoseconds
        self.rows, self.arguments, self.bases, self.sizes, self.status, self.barrier, self.log = (
            self._pointer(which)
            for which in (
                Field.ROWS, Field.ARGUMENTS, Field.BASES, Field.SIZES, Field.STATUS, Field.BARRIER, Field.LOG,
            )
        )  # fmt: skip

    def _pointer(self, which: Field) -> Value:
        return self.f.builder.inttoptr(_field(self.f, self.fields, which), POINTER)

    def write(self) -> None:
        """The loop over rows first..last, and one block for each kind of row."""
        f, b = self.f, self.f.builder
        self.head, self.done = b.append_basic_block("head"), b.append_basic_block("done")
        body = b.append_basic_block("row")
        entry = b.block
        b.branch(self.head)
        b.position_at_end(self.head)
        self.row = b.phi(I64)
        self.row.add_incoming(self.first, entry)
        b.cbranch(b.icmp_signed("<", self.row, self.last), body, self.done)
        b.position_at_end(body)
        self.numbers = b.mul(self.row, const(ROW))
        switch = b.switch(self._number(0), self.done)
        for kind in RowKind:
            block = b.append_basic_block(kind.name.lower())
            switch.add_case(const(kind.value), block)
            b.position_at_end(block)
            getattr(self, f"_{kind.name.lower()}")()
            self._next()
        b.position_at_end(self.done)
        b.ret(f.load(self.status, 0, "int64"))

    def _number(self, position: int) -> Value:
        return self.f.load(self.rows, self.f.builder.add(self.numbers, const(position)), "int64")

    def _next(self) -> None:
        """Go to the next row, unless a kernel has refused."""
        b = self.f.builder
        ahead = b.add(self.row, const(1))
        failed = b.icmp_signed("!=", self.f.load(self.status, 0, "int64"), const(0))
        self.row.add_incoming(b.select(failed, self.last, ahead), b.block)
        b.branch(self.head)

    def _address(self, argument: Value) -> Value:
        f, b = self.f, self.f.builder
        first = b.mul(argument, const(ARGUMENT))
        base, offset, *per_count, per_worker, home, home_offset = (
            f.load(self.arguments, b.add(first, const(k)), "int64") for k in range(ARGUMENT)
        )
        leads = b.icmp_signed("==", self.worker, const(0))
        total = f.load(self.bases, b.select(leads, home, base), "int64")
        total = b.add(total, b.select(leads, home_offset, b.add(offset, b.mul(self.worker, per_worker))))
        for index, stride in zip(self.counters, per_count, strict=True):
            total = b.add(total, b.mul(index, stride))
        return total

    # -- one method for each kind of row ------------------------------------------------------------------------------

    def _call(self) -> None:
        f, b = self.f, self.f.builder
        first = self._number(2)
        with f.loop(self._number(3)) as each:
            f.store(self._address(b.add(first, each.index)), self.pointers, each.index, "int64")
        start = self._now()
        sizes = f.at(self.sizes, self._number(4), "int64")
        status = _call_pointer(b, self._number(1), [self.pointers, sizes])
        self._write_down(start)
        with f.when(b.icmp_signed("!=", status, const(0))):
            f.store(b.add(self.row, const(1)), self.status, 0, "int64")

    def _copy(self) -> None:
        b = self.f.builder
        target, source = (b.inttoptr(self._address(self._number(k)), POINTER) for k in (1, 2))
        intrinsic = self.f.intrinsic("llvm.memmove.p0.p0.i64", ir.VoidType(), [POINTER, POINTER, I64, ir.IntType(1)])
        b.call(intrinsic, [target, source, self._number(3), ir.IntType(1)(0)])

    def _loop(self) -> None:
        f, b = self.f, self.f.builder
        turns, backwards = self._number(1), self._number(4)
        with f.loop(turns, start=self._number(5)) as each:
            mirrored = b.sub(b.sub(turns, const(1)), each.index)
            step = b.select(b.icmp_signed("!=", backwards, const(0)), mirrored, each.index)
            self._walk(self._number(2), self._number(3), self.tile, step, outer=self.step)

    def _tiles(self) -> None:
        f, b = self.f, self.f.builder
        tiles = self._number(1)
        sharing = b.select(b.icmp_signed("<", tiles, self.workers), tiles, self.workers)
        with f.when(b.icmp_signed("<", self.worker, sharing)):
            low, high = (
                b.sdiv(b.mul(w, tiles), sharing) for w in (self.worker, b.add(self.worker, const(1)))
            )  # fmt: skip
            self._walk(self._number(2), self._number(3), tile=low)
            with f.loop(high, start=b.add(low, const(1))) as each:
                self._walk(self._number(4), self._number(5), tile=each.index)

    def _serial(self) -> None:
        with self.f.when(self.f.builder.icmp_signed("==", self.worker, self._number(3))):
            self._walk(self._number(1), self._number(2), tile=const(0))

    def _barrier(self) -> None:
        with self.f.when(self.f.builder.icmp_signed(">", self.workers, const(1))):
            emit_barrier(self.f, self.barrier)

    def _index(self) -> None:
        b = self.f.builder
        target = b.inttoptr(self._address(self._number(1)), POINTER)
        number = b.select(b.icmp_signed("!=", self._number(2), const(0)), self.step, self.tile)
        self.f.store(number, target, 0, "int64")

    def _walk(self, first: Value, last: Value, tile: Value, step: Value = NONE, outer: Value = NONE) -> None:
        self.f.builder.call(self.function, [self.fields, first, last, self.worker, self.workers, tile, step, outer])

    # -- times --------------------------------------------------------------------------------------------------------

    def _now(self) -> Value:
        """Nanoseconds of the clock, 0 where nobody asks for times."""
        f, b = self.f, self.f.builder
        before, asking, behind = b.block, b.append_basic_block("clock"), b.append_basic_block("known")
        b.cbranch(self._timed(), asking, behind)
        b.position_at_end(asking)
        clock = f.intrinsic("clock_gettime", I32, [I32, POINTER])
        b.call(clock, [I32(1), self.clock])
        now = b.add(b.mul(f.load(self.clock, 0, "int64"), const(10**9)), f.load(self.clock, 1, "int64"))
        asked = b.block
        b.branch(behind)
        b.position_at_end(behind)
        result = b.phi(I64)
        result.add_incoming(const(0), before)
        result.add_incoming(now, asked)
        return result

    def _timed(self) -> Value:
        return self.f.builder.icmp_signed("!=", _field(self.f, self.fields, Field.LOG), const(0))

    def _write_down(self, start: Value) -> None:
        f, b = self.f, self.f.builder
        now = self._now()
        with f.when(self._timed()):
            first = b.mul(self.worker, _field(f, self.fields, Field.LOG_WORDS))
            count = f.load(self.log, first, "int64")
            place = b.add(b.add(first, const(1)), b.mul(count, const(LOGGED)))
            for number, value in enumerate((self.row, start, b.sub(now, start))):
                f.store(value, self.log, b.add(place, const(number)), "int64")
            f.store(b.add(count, const(1)), self.log, first, "int64")


def _call_pointer(b: ir.IRBuilder, address: Value, arguments: list[Value]) -> Value:
    kind = ir.FunctionType(I64, [argument.type for argument in arguments])
    return b.call(b.inttoptr(address, kind.as_pointer()), arguments)
