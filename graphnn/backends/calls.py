"""Inspectable: an Executable of kernels that says what they are, and measures each of their runs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from graphnn.backends.executable import Executable
from graphnn.ir.program import Origin
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.op import Array, Op
from graphnn.plan.plan import Step


@dataclass(frozen=True, eq=False)
class KernelCall:
    """One kernel, at one place of an executable.

    Args:
        op: what it computes.
        inputs: specs of what it reads: of one tile, of one turn of a loop.
        outputs: specs of what it writes.
        step: of the plan, or of the plan of a loop's body; None: work that no step asked for, such as adding up what
            workers have summed.
        within: the tiled and scan steps around it, the outermost first.
        origin: of the step, or that of the value it works on.
        runs: how often it runs in one run of the plan, by all workers together.
        notes: what a reader should know: tiles, passes over memory; why there is no kernel, where there is none.
        scratch_bytes: private memory while it runs.
        ir: LLVM IR as it was written; "" where there is no kernel.
    """

    op: Op
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    step: Step | None
    within: tuple[Step, ...]
    origin: Origin
    runs: int
    notes: str = ""
    scratch_bytes: int = 0
    ir: str = ""


@dataclass(frozen=True, eq=False)
class KernelRun:
    """One run of a kernel by one worker, in seconds; `begin` counts from the beginning of the run of the plan."""

    call: KernelCall
    worker: int
    begin: float
    seconds: float


@dataclass(frozen=True, eq=False)
class CallTime:
    """The time of all runs of a kernel; `seconds` has a number for each worker, 0 for one that did not run it."""

    call: KernelCall
    seconds: tuple[float, ...]

    @property
    def shared(self) -> float:
        """Seconds, added up over the workers that ran it and divided by their number."""
        used = sum(1 for seconds in self.seconds if seconds)
        return sum(self.seconds) / max(used, 1)


class Inspectable(Executable):
    """An executable that knows its kernels."""

    @property
    @abstractmethod
    def workers(self) -> int:
        """Number of workers that share its work."""

    @property
    @abstractmethod
    def memory(self) -> dict[str, int]:
        """Bytes beside the caller's arrays, by what they are for; those of a worker are added up over all workers."""

    @property
    @abstractmethod
    def calls(self) -> tuple[KernelCall, ...]:
        """Every kernel of the plan, in order of execution."""

    @abstractmethod
    def run_traced(self, arrays: Sequence[Array]) -> tuple[list[Array], list[KernelRun]]:
        """Like a call: (the outputs, each run of each kernel; for every worker in their order)."""

    @abstractmethod
    def optimised_ir(self, call: KernelCall) -> str:
        """The LLVM IR of a kernel as the code generator gets it."""

    @abstractmethod
    def assembly(self, call: KernelCall) -> str:
        """The machine code of a kernel, for reading."""

    def run_timed(self, arrays: Sequence[Array]) -> tuple[list[Array], list[CallTime]]:
        """Like a call: (the outputs, the time of each of `calls`)."""
        outputs, runs = self.run_traced(arrays)
        return outputs, times_of(self.calls, runs, self.workers)


def times_of(calls: Sequence[KernelCall], runs: Iterable[KernelRun], workers: int) -> list[CallTime]:
    """The runs of each call added up."""
    sums = {call: [0.0] * workers for call in calls}
    for run in runs:
        sums[run.call][run.worker] += run.seconds
    return [CallTime(call, tuple(seconds)) for call, seconds in sums.items()]
