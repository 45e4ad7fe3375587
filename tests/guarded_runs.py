"""Runs of native code in poisoned memory, between margins that nobody may touch."""

from collections.abc import Sequence
from functools import cache
from math import prod

import numpy as np
import pytest

from graphnn.backends.cpu import bound
from graphnn.backends.cpu import memory as run_memory
from graphnn.backends.cpu.backend import CpuBackend, shared_engine
from graphnn.backends.cpu.executable import CpuExecutable
from graphnn.backends.cpu.threads import Pool
from graphnn.backends.reference import ReferenceBackend
from graphnn.ir.program import Kind, Program
from graphnn.plan.memory import make_plan
from graphnn.plan.plan import ALIGNMENT
from random_programs import JUNK

MARGIN = 4096  # bytes


@cache
def backend(workers: int) -> CpuBackend:
    return CpuBackend(Pool(workers, shared_engine().code))


class Memory:
    """What runs work in, are given and return, between margins that nobody may touch."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self._made: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # bytes, and those before and behind
        patch.setattr(run_memory, "allocate", self._allocate)
        patch.setattr(bound, "new_array", self.array)

    def _allocate(self, nbytes: int, shift: int = 0) -> np.ndarray:
        raw = np.full(nbytes + 2 * MARGIN + ALIGNMENT, JUNK, "uint8")
        start = MARGIN + -(raw.ctypes.data + MARGIN) % ALIGNMENT + shift
        self._made.append((raw[start : start + nbytes], raw[:start], raw[start + nbytes :]))
        return self._made[-1][0]

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """At an address that is a multiple of the element size only."""
        return self._allocate(prod(shape) * dtype.itemsize, dtype.itemsize).view(dtype).reshape(shape)

    def copy(self, array: np.ndarray) -> np.ndarray:
        copied = self.array(array.shape, array.dtype)
        copied[...] = array
        return copied

    def poison(self) -> None:
        """All that was there before is NaN."""
        for inside, _, _ in self._made:
            inside[...] = JUNK

    def check(self) -> None:
        outside = {byte for _, *margins in self._made for margin in margins for byte in np.unique(margin)}
        assert outside <= {JUNK}, "written outside of the memory"


def results_of(made: CpuExecutable, program: Program, arrays: Sequence[np.ndarray], runs: int = 3) -> list[np.ndarray]:
    """Outputs, and what the inputs are then, of several runs from the same arrays, all of which must be alike.

    Before each run all memory is filled with junk.

    Args:
        made: of the program, not yet run.
        program: what it was made of.
        arrays: its inputs.
        runs: their number.
    """
    with pytest.MonkeyPatch.context() as patch:
        memory = Memory(patch)
        found: list[list[np.ndarray]] = []
        for _ in range(runs):
            memory.poison()
            arguments = [memory.copy(array) for array in arrays]
            found.append([array.copy() for array in (*made(arguments), *arguments)])
            memory.check()
    for value, before, after in zip(program.inputs, arrays, found[0][len(program.outputs) :], strict=True):
        assert value.kind is not Kind.INPUT or before.tobytes() == after.tobytes(), f"{value!r} was changed"
    for again in found[1:]:
        assert [array.tobytes() for array in again] == [array.tobytes() for array in found[0]], "two runs differ"
    return found[0]


def wanted_of(program: Program, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    arguments = [array.copy() for array in arrays]
    return [*ReferenceBackend().compile(make_plan(program))(arguments), *arguments]
