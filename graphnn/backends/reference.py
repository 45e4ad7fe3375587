"""The reference backend: every op by its own `reference`, on NumPy or CuPy, in the plan's arena."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphnn.backends.executable import Backend, Executable
from graphnn.backends.fork_lock import ForkLock
from graphnn.errors import BackendError, GraphnnError
from graphnn.ops.op import Array, ArrayModule
from graphnn.plan.plan import ALIGNMENT, Buffer, Plan, Step


class ReferenceBackend(Backend):
    """Slow but right; what other backends are compared with.

    Args:
        xp: numpy or cupy.
    """

    def __init__(self, xp: ArrayModule = np):
        self.xp = xp
        self.name = f"reference ({xp.__name__})"

    def compile(self, plan: Plan) -> ReferenceExecutable:
        """Views into an arena for every buffer; nothing is allocated before the first run."""
        return ReferenceExecutable(plan, self.xp)

    def to_device(self, array: Array) -> Array:
        """A contiguous copy."""
        return self.xp.array(array, order="C", copy=True)

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Array:
        """See Backend."""
        return self.xp.zeros(shape, dtype)

    def to_host(self, array: Array) -> np.ndarray:
        """A NumPy copy."""
        return array.copy() if isinstance(array, np.ndarray) else array.get()


@dataclass(frozen=True, eq=False)
class ReferenceExecutable(Executable):
    """Runs the steps one by one. The arena belongs to one run at a time; threads take turns."""

    xp: Any
    _lock: ForkLock = field(default_factory=ForkLock)
    _memory: list[list[Array | None]] = field(default_factory=list)  # the views into the arena, once there is one

    def __call__(self, arrays: Sequence[Array]) -> list[Array]:
        """See Executable."""
        return self._run(arrays, lambda step, memory: run_step(self.xp, step, memory))

    def run_timed(self, arrays: Sequence[Array]) -> tuple[list[Array], list[float]]:
        """Like a call, but waits for each step: (the outputs, seconds of each step)."""
        seconds: list[float] = []

        def run(step: Step, memory: Sequence[Array]) -> None:
            start = time.perf_counter()
            run_step(self.xp, step, memory)
            _wait(self.xp)
            seconds.append(time.perf_counter() - start)

        return self._run(arrays, run), seconds

    def _run(self, arrays: Sequence[Array], run: Callable[[Step, Sequence[Array]], None]) -> list[Array]:
        with self._lock.own:
            memory = self._bind(arrays)
            with np.errstate(all="ignore"):  # infinities and NaN are values here, looked for where a user asks
                for step in self.plan.steps:
                    try:
                        run(step, memory)
                    except Exception as error:
                        tell_where(error, step)
                        raise
            results = _results(self.plan, memory)
            _commit(self.plan, memory)
            return results

    def _bind(self, arrays: Sequence[Array]) -> list[Array]:
        """An array for every buffer: the caller's, views into the arena, and fresh ones for outputs."""
        if not self._memory:
            self._memory.append(_arena_views(self.xp, self.plan))
        memory: list[Any] = list(self._memory[0])
        memory[: len(arrays)] = arrays
        for number, buffer in enumerate(self.plan.buffers):
            if memory[number] is None:
                memory[number] = _caller_owned(self.xp, buffer, memory)
        return memory


def _results(plan: Plan, memory: Sequence[Array]) -> list[Array]:
    """The outputs; an input, and a value that is returned twice, is copied: the caller may change each of them."""
    shared, results = set(range(len(plan.inputs))), []
    for number in plan.outputs:
        results.append(memory[number].copy() if number in shared else memory[number])
        shared.add(number)
    return results


def _commit(plan: Plan, memory: Sequence[Array]) -> None:
    """Write new values of parameters and states that were not written in place; all are read before any is written."""
    pending = [(old, new) for old, new in plan.updates if plan.buffers[new].shares != old]
    values = [memory[new].copy() if new < len(plan.inputs) else memory[new] for _, new in pending]
    for (old, _), value in zip(pending, values, strict=True):
        memory[old][...] = value


def _arena_views(xp: ArrayModule, plan: Plan) -> list[Array | None]:
    """Views for buffers with an offset, None for the others."""
    try:
        raw = xp.empty(plan.arena_bytes + ALIGNMENT, "uint8")
    except MemoryError as error:
        raise too_large(plan.arena_bytes) from error
    address = raw.ctypes.data if isinstance(raw, np.ndarray) else raw.data.ptr
    arena = raw[-address % ALIGNMENT :]
    return [None if b.offset is None else _view(arena, b) for b in plan.buffers]


def too_large(nbytes: int) -> BackendError:
    """The error for memory that the machine does not have."""
    needed = f"{nbytes / 2**20:.1f} MiB"
    return BackendError("the plan needs more memory than there is", expected=needed, fix="a smaller batch")


def tell_where(error: Exception, step: Step) -> None:
    """Add the node: to an error of ours, such as an index out of range, or as a note to one of a user's layer."""
    if isinstance(error, GraphnnError):
        error.locate(step.origin.path)
    else:
        error.add_note(f"while {step.origin.path!r} ran ({step.origin.phase.value})")


def _view(arena: Array, buffer: Buffer) -> Array:
    offset = buffer.offset or 0
    return arena[offset : offset + buffer.spec.nbytes].view(buffer.spec.dtype).reshape(buffer.spec.shape)


def _caller_owned(xp: ArrayModule, buffer: Buffer, memory: Sequence[Array]) -> Array:
    if buffer.shares is not None:
        return memory[buffer.shares].reshape(buffer.spec.shape)
    return xp.empty(buffer.spec.shape, buffer.spec.dtype)


def run_step(xp: ArrayModule, step: Step, memory: Sequence[Array]) -> None:
    """Read and write the step's buffers in `memory`, an array for each buffer of its plan."""
    inputs = [memory[number] for number in step.inputs]
    outputs = [memory[number] for number in step.outputs]
    if step.op.ufunc:
        getattr(xp, step.op.ufunc)(*inputs, out=outputs[0])
        return
    if step.op.is_view and _same_memory(inputs[0], outputs[0]):
        return
    results = step.op.reference(xp, *inputs)
    for target, result in zip(outputs, results if isinstance(results, tuple) else (results,), strict=True):
        target[...] = result


def _wait(xp: ArrayModule) -> None:
    """Return when all that was asked of the device is done."""
    if xp is not np:
        xp.cuda.get_current_stream().synchronize()


def _same_memory(a: Array, b: Array) -> bool:
    if isinstance(a, np.ndarray):
        return a.ctypes.data == b.ctypes.data
    return a.data.ptr == b.data.ptr


def array_module(device: str) -> ArrayModule:
    """numpy for "cpu" and "reference", cupy for "cuda".

    Raises:
        BackendError: CuPy or a GPU is missing; says what to install.
    """
    if device in ("cpu", "reference"):
        return np
    if device != "cuda":
        raise BackendError("unknown device", expected='"cpu", "cuda" or "reference"', got=repr(device))
    try:
        import cupy  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise BackendError(
            'device="cuda" needs CuPy',
            got=str(error),
            fix='pip install "graphnn[cuda13]" (or [cuda12]), or device="cpu"',
        ) from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendError(
            'device="cuda" finds no usable GPU', got=str(error), fix='check the driver, or device="cpu"'
        ) from error
    if not count:
        raise BackendError('device="cuda" finds no GPU', expected="at least one", got=count, fix='device="cpu"')
    return cupy


def array_module_of(array: Array) -> ArrayModule:
    """The module that an array belongs to."""
    return np if isinstance(array, np.ndarray) else array_module("cuda")
