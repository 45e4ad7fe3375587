"""BoundRun: native calls that know where their arrays are.

To ask an array for its address takes as long as a small kernel. So the addresses of parameters, states and moments are
written once, into a table that belongs to the run; each run writes those of the arrays that it is given.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import is_
from typing import TYPE_CHECKING, Any

import numpy as np

from graphnn.backends.cpu.driver import Field
from graphnn.backends.cpu.memory import address, new_array
from graphnn.backends.cpu.table import FIRST_EXTERNAL, Table
from graphnn.backends.cpu.timing import Log
from graphnn.backends.reference import ReferenceExecutable, run_step, tell_where
from graphnn.errors import BackendError
from graphnn.ops.op import Array
from graphnn.plan.plan import Step

if TYPE_CHECKING:
    from graphnn.backends.cpu.executable import CpuExecutable

SMALL = 64  # bytes of an output that is always made at the same place, and copied; others are new arrays in each run


@dataclass(frozen=True, eq=False)
class Native:
    """A stretch of steps that one native call runs.

    Args:
        table: its rows.
        fields: what the driver is called with, see `Field`; all but the places of a run.
    """

    table: Table
    fields: np.ndarray


@dataclass(frozen=True, eq=False)
class Interpreted:
    """A step without a kernel, such as a user's numeric layer: it runs by its reference."""

    step: Step
    missing: str  # the op without a kernel, in the step or inside of it


class BoundRun:
    """Runs of an executable with arrays that stay, and others that each run is given.

    Args:
        executable: in whose memory they run, one at a time.
        arrays: one for each input of the plan; those that stay are held.
        changing: positions of those that each run is given; they are the caller's to let go.
        read: what a run gives of each output; None: an array that the caller owns.
        logs: where each segment's kernels write down when they ran; none if empty.
    """

    def __init__(
        self,
        executable: CpuExecutable,
        arrays: Sequence[Array],
        changing: Sequence[int],
        read: Callable[[Array], Any] | None = None,
        logs: Sequence[Log] = (),
    ):
        plan = self._plan = executable.plan
        self.memory, self._places, self._lock = executable.run_memory(), executable.assembled.places, executable.lock
        self._table = (ctypes.c_int64 * (FIRST_EXTERNAL + len(plan.inputs) + len(plan.outputs)))()
        self._table[: len(self.memory.bases)] = self.memory.bases
        self._status = ctypes.c_int64()  # 0, or 1 + the row of a kernel that refused its inputs
        self._changing = list(changing)
        self._slots = [FIRST_EXTERNAL + position for position in changing]
        self._held = dict(enumerate(arrays))
        for position in changing:
            del self._held[position]
        for position, array in self._held.items():
            self._table[FIRST_EXTERNAL + position] = address(array)
        self._read = read
        self._bind_outputs()
        self._fields: list[np.ndarray] = []  # kept, for their addresses are in the calls
        self._current: list[Array] | None = None  # all arrays of the run at hand, for steps without a kernel
        known = logs or [None] * len(executable.segments)
        self._calls = [self._call(executable, *pair) for pair in zip(executable.segments, known, strict=True)]
        self._interprets = len(self._fields) < len(self._calls)

    def _bind_outputs(self) -> None:
        specs = [self._plan.buffers[number].spec for number in self._plan.outputs]
        first = FIRST_EXTERNAL + len(self._plan.inputs)
        self._fixed: list[Any] = [None] * len(specs)
        self._small, self._large = list[int](), list[tuple[int, int, tuple[Any, Any]]]()
        for number, spec in enumerate(specs):
            kind = (tuple(map(int, spec.shape)), np.dtype(spec.dtype))
            if 0 < spec.nbytes <= SMALL:
                self._fixed[number] = new_array(*kind)
                self._table[first + number] = address(self._fixed[number])
                self._small.append(number)
            else:
                self._large.append((number, first + number, kind))

    def _call(self, executable: CpuExecutable, segment: Native | Interpreted, log: Log | None) -> Callable[[], int]:
        """What runs a segment; it returns 0, or not, where a kernel has refused its inputs."""
        if isinstance(segment, Interpreted):
            return partial(self._interpret, segment.step, log)
        fields = segment.fields.copy()
        fields[[Field.BASES, Field.STATUS]] = ctypes.addressof(self._table), ctypes.addressof(self._status)
        if log is not None:
            fields[[Field.LOG, Field.LOG_WORDS]] = log.words.ctypes.data, log.words.shape[1]
        self._fields.append(fields)
        return executable.pool.caller(executable.job, fields.ctypes.data)

    def holds(self, arrays: Sequence[Array]) -> bool:
        """Whether the arrays that stay are these."""
        return all(map(is_, map(arrays.__getitem__, self._held), self._held.values()))

    def run(self, arrays: Sequence[Array]) -> list[Any]:
        """Run once with these arrays in the places of those that change, as many; what `read` makes of the outputs."""
        with self._lock.own:
            table = self._table
            for slot, array in zip(self._slots, arrays):  # noqa: B905 -- "strict" takes as long as an address
                table[slot] = address(array)
            outputs = self.outputs()
            if self._interprets:
                self._current = [*self._all(arrays), *outputs]
            self._status.value = 0  # an interrupt, or a fork, may have come before an earlier one was told
            try:
                for call in self._calls:
                    if call():
                        self._refuse(arrays)
            finally:
                self._current = None
            return self._owned(outputs) if self._read is None else list(map(self._read, outputs))

    def _owned(self, outputs: list[Any]) -> list[Any]:
        """The outputs as arrays that a later run does not write into."""
        for number in self._small:
            outputs[number] = outputs[number].copy()
        return outputs

    def outputs(self) -> list[Any]:
        """Arrays for the outputs of a run, whose addresses are written."""
        found = self._fixed.copy()
        for number, slot, kind in self._large:
            array = found[number] = new_array(*kind)
            self._table[slot] = address(array)
        return found

    def _all(self, arrays: Sequence[Array]) -> list[Array]:
        given = {**self._held, **dict(zip(self._changing, arrays, strict=True))}
        return [given[position] for position in range(len(given))]

    def _interpret(self, step: Step, log: Log | None) -> int:
        begin = time.monotonic_ns()
        try:
            with np.errstate(all="ignore"):
                run_step(np, step, self.memory.views(self._plan, self._places, self._current or ()))
        except Exception as error:
            tell_where(error, step)
            raise
        if log is not None:
            log.interpreted(begin)
        return 0

    def _refuse(self, arrays: Sequence[Array]) -> None:
        """A kernel has refused its inputs, before anything was changed: the reference says what is wrong with them."""
        ReferenceExecutable(self._plan, np)([array.copy() for array in self._all(arrays)])
        raise BackendError("a kernel refuses what the reference accepts", fix='report this; device="reference" works')
