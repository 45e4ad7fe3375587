"""The CPU backend: a Plan as a table of native kernels, and one native call that walks it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from graphnn.backends.calls import Inspectable, KernelCall, KernelRun
from graphnn.backends.cpu.arrange import arrange
from graphnn.backends.cpu.assemble import Assembler, NotCoveredError, bind
from graphnn.backends.cpu.bound import BoundRun, Interpreted, Native
from graphnn.backends.cpu.driver import Field, emit_driver
from graphnn.backends.cpu.jit import Code
from graphnn.backends.cpu.kernel import Text
from graphnn.backends.cpu.memory import RunMemory
from graphnn.backends.cpu.strided_parts import InPlace
from graphnn.backends.cpu.table import (
    ARENA,
    FIRST_EXTERNAL,
    Copy,
    Place,
    Row,
    Serial,
    Table,
    flatten,
)
from graphnn.backends.cpu.threads import Pool
from graphnn.backends.cpu.tile_loop import TileLoop
from graphnn.backends.cpu.timing import Calls, Log, interpreted_call
from graphnn.backends.fork_lock import ForkLock
from graphnn.ir.program import Kind
from graphnn.ops.op import Array
from graphnn.plan.plan import Plan, Step, aligned
from graphnn.tiled import Tiled


@dataclass(frozen=True, eq=False)
class Assembled:
    """A plan in segments, and the memory that they need.

    Args:
        segments: in order of execution.
        places: of every buffer of the plan.
        worker_bytes: of one worker, for each base; 0 for the arena.
    """

    segments: tuple[tuple[Row, ...] | Interpreted, ...]
    places: tuple[Place, ...]
    worker_bytes: tuple[int, int, int, int]


def assemble(plan: Plan, assembler: Assembler) -> Assembled:
    """All steps of the plan as rows, cut where a step has no kernel."""
    externals = [Place(FIRST_EXTERNAL + number) for number in range(len(plan.inputs) + len(plan.outputs))]
    inputs, outputs = externals[: len(plan.inputs)], externals[len(plan.inputs) :]
    places, copies = bind(plan, inputs, outputs, Place(ARENA))
    segments: list[list[Row] | Interpreted] = [[]]
    works = assembler.works(plan)
    for step in plan.steps:
        try:
            rows = _top_rows(assembler, works, step, places)
        except NotCoveredError as error:
            segments += [Interpreted(step, str(error)), []]
        else:
            _last(segments).extend(rows)
    arena_end = Place(ARENA, plan.arena_bytes)
    _last(segments).extend([Serial((*copies, *_commits(plan, places, arena_end)))])
    kept = range(FIRST_EXTERNAL, FIRST_EXTERNAL + len(plan.inputs))
    arranged = [s if isinstance(s, Interpreted) else arrange(s, assembler.workers, kept) for s in segments]
    sizes = (0, assembler.private_bytes, assembler.partial_bytes, aligned(assembler.scratch_bytes))
    return Assembled(tuple(segment for segment in arranged if segment), tuple(places), sizes)


def _top_rows(assembler: Assembler, works: InPlace, step: Step, places: Sequence[Place]) -> list[Row]:
    if isinstance(step.op, Tiled):
        return TileLoop(assembler, works.plan, step, places).shared()
    rows = assembler.step(works, step, places)
    return [Serial(tuple(rows))] if rows else []


def _last(segments: list[list[Row] | Interpreted]) -> list[Row]:
    last = segments[-1]
    if isinstance(last, Interpreted):
        raise TypeError(last)
    return last


def _commits(plan: Plan, places: Sequence[Place], spare: Place) -> list[Row]:
    """New values of parameters and states that were not written in place; all are read before any is written."""
    pending = [(old, new) for old, new in plan.updates if plan.buffers[new].shares != old]
    early: list[Row] = []
    late: list[Row] = []
    for old, new in pending:
        source, nbytes = places[new], plan.buffers[new].spec.nbytes
        if new < len(plan.inputs):  # another parameter, which this very step may replace
            early.append(Copy(spare, source, nbytes))
            source, spare = spare, spare.ahead(aligned(nbytes))
        late.append(Copy(places[old], source, nbytes))
    return early + late


def spare_bytes(plan: Plan) -> int:
    """Memory behind the arena that commits of parameters into parameters need."""
    numbers = [new for _, new in plan.updates if new < len(plan.inputs)]
    return sum(aligned(plan.buffers[number].spec.nbytes) for number in numbers)


def base_bytes(plan: Plan, assembled: Assembled, workers: int) -> list[int]:
    """Bytes of the arena, and of the private, partial and scratch memory of all workers; worker 0 adds up in place."""
    private, partial, scratch = map(aligned, assembled.worker_bytes[1:])
    return [plan.arena_bytes + spare_bytes(plan), private * workers, partial * (workers - 1), scratch * workers]


@dataclass(frozen=True, eq=False)
class CpuExecutable(Inspectable):
    """Runs a plan by native calls. The memory belongs to one run at a time; threads take turns."""

    code: Code
    pool: Pool
    assembled: Assembled
    segments: tuple[Native | Interpreted, ...]
    job: int
    lock: ForkLock = field(default_factory=ForkLock)
    _memory: list[RunMemory] = field(default_factory=list)
    _bound: list[BoundRun] = field(default_factory=list)  # the last one of `__call__`

    def __call__(self, arrays: Sequence[Array]) -> list[Array]:
        """See Executable."""
        changing = self._inputs
        bound = self._bound[0] if self._bound else None
        if bound is None or not bound.holds(arrays):
            bound = BoundRun(self, arrays, changing)
            self._bound[:] = [bound]
        return bound.run([arrays[position] for position in changing])

    def bind(
        self, arrays: Sequence[Array], changing: Sequence[int], read: Callable[[Array], Any] | None = None
    ) -> Callable[[Sequence[Array]], list[Any]]:
        """See Executable."""
        return BoundRun(self, arrays, changing, read).run

    @cached_property
    def _inputs(self) -> list[int]:
        """Positions of what is another array in each call; parameters and states stay."""
        return [position for position, value in enumerate(self.plan.inputs) if value.kind is Kind.INPUT]

    def run_memory(self) -> RunMemory:
        """Memory for all runs, from the first one on."""
        with self.lock.own:
            if not self._memory:
                self._memory.append(RunMemory(base_bytes(self.plan, self.assembled, self.workers)))
            return self._memory[0]

    def run_traced(self, arrays: Sequence[Array]) -> tuple[list[Array], list[KernelRun]]:
        """See Inspectable."""
        found = self._found
        logs = [Log(found.runs[number], self.workers) for number in range(len(self.segments))]
        bound = BoundRun(self, arrays, (), logs=logs)
        begin = time.monotonic_ns()
        outputs = bound.run(())
        return outputs, [run for number, log in enumerate(logs) for run in log.read(found.by_row[number], begin)]

    @property
    def workers(self) -> int:
        """See Inspectable."""
        return self.pool.workers

    @property
    def memory(self) -> dict[str, int]:
        """See Inspectable."""
        names = ("arena", "tiles", "sums of tiles", "scratch")
        return dict(zip(names, base_bytes(self.plan, self.assembled, self.workers), strict=True))

    @property
    def calls(self) -> tuple[KernelCall, ...]:
        """See Inspectable."""
        return self._found.calls

    @cached_property
    def _found(self) -> Calls:
        segments = [
            interpreted_call(self.plan, segment.step, segment.missing) if isinstance(segment, Interpreted) else segment
            for segment in self.assembled.segments
        ]
        tables = [segment.table if isinstance(segment, Native) else None for segment in self.segments]
        return Calls.of(segments, tables, self.workers)

    def optimised_ir(self, call: KernelCall) -> str:
        """See Inspectable."""
        return self.code.optimised_ir(call.ir)

    def assembly(self, call: KernelCall) -> str:
        """See Inspectable."""
        return self.code.assembly(call.ir)


def link(plan: Plan, assembled: Assembled, code: Code, pool: Pool) -> CpuExecutable:
    """Compile what is not compiled yet, and put the addresses into the tables."""
    tables = {
        number: flatten(segment, assembled.worker_bytes)
        for number, segment in enumerate(assembled.segments)
        if not isinstance(segment, Interpreted)
    }
    texts = list(dict.fromkeys(call.kernel.ir for table in tables.values() for _, call in table.calls))
    driver = emit_driver(code.target)
    addresses = dict(zip([driver, *texts], code.compile_all([driver, *texts]), strict=True))
    segments: list[Native | Interpreted] = []
    for number, segment in enumerate(assembled.segments):
        if isinstance(segment, Interpreted):
            segments.append(segment)
        else:
            segments.append(_native(tables[number], addresses, pool))
    return CpuExecutable(plan, code, pool, assembled, tuple(segments), addresses[driver])


def _native(table: Table, addresses: dict[Text, int], pool: Pool) -> Native:
    for row, call in table.calls:
        table.rows[row, 1] = addresses[call.kernel.ir]
    fields = np.zeros(len(Field), "int64")
    fields[Field.ROWS] = table.rows.ctypes.data
    fields[Field.ROW_COUNT] = table.top
    fields[Field.ARGUMENTS] = table.arguments.ctypes.data
    fields[Field.SIZES] = table.sizes.ctypes.data
    fields[Field.BARRIER] = pool.address
    return Native(table, fields)
