"""The CPU backend: a Plan as a table of native kernels, and one native call that walks it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from graphnn.backends.calls import Inspectable, KernelCall, KernelRun
from graphnn.backends.cpu.assemble import Assembler, NotCoveredError, bind
from graphnn.backends.cpu.driver import Field, emit_driver
from graphnn.backends.cpu.jit import Code
from graphnn.backends.cpu.kernel import Text
from graphnn.backends.cpu.memory import RunMemory
from graphnn.backends.cpu.table import (
    ARENA,
    FIRST_EXTERNAL,
    Barrier,
    Copy,
    Place,
    Row,
    Serial,
    Table,
    flatten,
)
from graphnn.backends.cpu.threads import Pool
from graphnn.backends.cpu.timing import Calls, Log, interpreted_call
from graphnn.backends.fork_lock import ForkLock
from graphnn.backends.reference import ReferenceExecutable, run_step, tell_where
from graphnn.errors import BackendError
from graphnn.ops.op import Array
from graphnn.plan.plan import Plan, Step, aligned
from graphnn.tiled import Tiled


@dataclass(frozen=True, eq=False)
class Native:
    """A stretch of steps that one native call runs."""

    table: Table
    fields: np.ndarray  # what the driver is called with, see `Field`
    address: int  # of the fields


@dataclass(frozen=True, eq=False)
class Interpreted:
    """A step without a kernel, such as a user's numeric layer: it runs by its reference."""

    step: Step
    missing: str  # the op without a kernel, in the step or inside of it


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
    for step in plan.steps:
        try:
            rows = _top_rows(assembler, plan, step, places)
        except NotCoveredError as error:
            segments += [Interpreted(step, str(error)), []]
        else:
            _last(segments).extend(rows)
    arena_end = Place(ARENA, plan.arena_bytes)
    _last(segments).extend([Serial((*copies, *_commits(plan, places, arena_end)))])
    merged = [segment if isinstance(segment, Interpreted) else _merged(segment) for segment in segments]
    sizes = (0, assembler.private_bytes, assembler.partial_bytes, aligned(assembler.scratch_bytes))
    return Assembled(tuple(segment for segment in merged if segment), tuple(places), sizes)


def _top_rows(assembler: Assembler, plan: Plan, step: Step, places: Sequence[Place]) -> list[Row]:
    if isinstance(step.op, Tiled):
        return assembler.tiled(plan, step, places)
    rows = assembler.step(plan, step, places)
    return [Serial(tuple(rows))] if rows else []


def _last(segments: list[list[Row] | Interpreted]) -> list[Row]:
    last = segments[-1]
    if isinstance(last, Interpreted):
        raise TypeError(last)
    return last


def _merged(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Neighbouring serial rows as one; a barrier between what one worker does and what all do."""
    merged: list[Row] = []
    for row in rows:
        if isinstance(row, Serial) and not row.rows:
            continue
        if isinstance(row, Serial) and merged and isinstance(merged[-1], Serial):
            merged[-1] = Serial((*merged[-1].rows, *row.rows))
            continue
        if merged and isinstance(merged[-1], Serial) and not isinstance(row, Barrier):
            merged.append(Barrier())
        merged.append(row)
    return tuple(merged)


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
    _segments: tuple[Native | Interpreted, ...]
    _job: int
    _lock: ForkLock = field(default_factory=ForkLock)
    _memory: list[RunMemory] = field(default_factory=list)

    def __call__(self, arrays: Sequence[Array]) -> list[Array]:
        """See Executable."""
        with self._lock.own():
            return self._run(arrays)

    def run_traced(self, arrays: Sequence[Array]) -> tuple[list[Array], list[KernelRun]]:
        """See Inspectable."""
        found = self._found
        logs = [Log(found.runs[number], self.workers) for number in range(len(self._segments))]
        with self._lock.own():
            begin = time.monotonic_ns()
            try:
                for segment, log in zip(self._segments, logs, strict=True):
                    if isinstance(segment, Native):
                        segment.fields[[Field.LOG, Field.LOG_WORDS]] = log.words.ctypes.data, log.words.shape[1]
                outputs = self._run(arrays, logs)
            finally:
                for segment in self._segments:
                    if isinstance(segment, Native):
                        segment.fields[Field.LOG] = 0
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
        tables = [segment.table if isinstance(segment, Native) else None for segment in self._segments]
        return Calls.of(segments, tables, self.workers)

    def optimised_ir(self, call: KernelCall) -> str:
        """See Inspectable."""
        return self.code.optimised_ir(call.ir)

    def assembly(self, call: KernelCall) -> str:
        """See Inspectable."""
        return self.code.assembly(call.ir)

    def _run(self, arrays: Sequence[Array], logs: Sequence[Log] = ()) -> list[Array]:
        memory = self._memory[0] if self._memory else self._allocate()
        memory.read(arrays)
        outputs = memory.outputs()
        for number, segment in enumerate(self._segments):
            if isinstance(segment, Native):
                memory.status[0] = 0  # an interrupt, or a fork, may have come before an earlier one was told
                if self.pool.run(self._job, segment.address):
                    self._raise(arrays)
            else:
                begin = time.monotonic_ns()
                _interpret(segment.step, memory.views(self.plan, self.assembled.places, [*arrays, *outputs]))
                if logs:
                    logs[number].interpreted(begin)
        return memory.finished(outputs)

    def _allocate(self) -> RunMemory:
        """Memory for all runs from the first one on; the segments are told where it is."""
        memory = RunMemory(self.plan, base_bytes(self.plan, self.assembled, self.pool.workers))
        for segment in self._segments:
            if isinstance(segment, Native):
                segment.fields[[Field.BASES, Field.STATUS]] = memory.bases.ctypes.data, memory.status.ctypes.data
        self._memory.append(memory)
        return memory

    def _raise(self, arrays: Sequence[Array]) -> None:
        """A kernel has refused its inputs, before anything was changed: the reference says what is wrong with them."""
        ReferenceExecutable(self.plan, np)([array.copy() for array in arrays])
        raise BackendError("a kernel refuses what the reference accepts", fix='report this; device="reference" works')


def _interpret(step: Step, memory: Sequence[Array]) -> None:
    try:
        with np.errstate(all="ignore"):
            run_step(np, step, memory)
    except Exception as error:
        tell_where(error, step)
        raise


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
    return Native(table, fields, fields.ctypes.data)
