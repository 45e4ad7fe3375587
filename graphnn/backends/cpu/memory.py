"""RunMemory: what runs of a plan work in, and the addresses that the driver reads.

To ask an array for its address takes as long as a small kernel. So addresses are written once where they stay.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from operator import is_not
from typing import Any

import numpy as np

from graphnn.backends.cpu.table import FIRST_EXTERNAL, Place
from graphnn.backends.reference import too_large
from graphnn.ir.program import Kind, Value
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.op import Array
from graphnn.plan.plan import ALIGNMENT, Plan, aligned

HELD = 64  # bytes of an input or output whose address stays


class RunMemory:
    """The arena, the workers' parts, and the addresses of these and of a call's arrays.

    Args:
        plan: what is run.
        sizes: bytes of each base below FIRST_EXTERNAL.
    """

    def __init__(self, plan: Plan, sizes: Sequence[int]):
        self.status = np.zeros(1, "int64")
        self.arena = allocate(sum(map(aligned, sizes)))
        self.bases = np.zeros(FIRST_EXTERNAL + len(plan.inputs) + len(plan.outputs), "int64")
        start = self.arena.ctypes.data
        self.bases[: len(sizes)] = [start + sum(map(aligned, sizes[:base])) for base in range(len(sizes))]
        self._inputs = _Inputs(plan.inputs, self.bases[FIRST_EXTERNAL:])
        specs = [plan.buffers[number].spec for number in plan.outputs]
        self._outputs = _Outputs(specs, self.bases[FIRST_EXTERNAL + len(plan.inputs) :])

    def read(self, arrays: Sequence[Array]) -> None:
        """Write the addresses of a call's arrays."""
        self._inputs.read(arrays)

    def outputs(self) -> list[np.ndarray]:
        """Arrays for the outputs of a run, whose addresses are written."""
        return self._outputs.arrays()

    def finished(self, outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The same after the run, as arrays that the caller owns."""
        return self._outputs.owned(outputs)

    def views(self, plan: Plan, places: Sequence[Place], externals: Sequence[Array]) -> list[Array]:
        """An array for every buffer of the plan."""
        return [self._view(place, buffer.spec, externals) for place, buffer in zip(places, plan.buffers, strict=True)]

    def _view(self, place: Place, spec: TensorSpec, externals: Sequence[Array]) -> Array:
        if place.base >= FIRST_EXTERNAL:
            return externals[place.base - FIRST_EXTERNAL].reshape(spec.shape)
        raw = self.arena[place.offset : place.offset + spec.nbytes]
        return raw.view(spec.dtype).reshape(spec.shape)


class _Inputs:
    """Parameters and states stay from call to call, and so do small inputs that are filled anew, as the learning rate.

    They are held, and known again. A large input is not held, for it is the caller's to let go.
    """

    def __init__(self, values: Sequence[Value], addresses: np.ndarray):
        held = [value.kind is not Kind.INPUT or value.spec.nbytes <= HELD for value in values]
        self._held = [number for number, is_held in enumerate(held) if is_held]
        self._new = [number for number, is_held in enumerate(held) if not is_held]
        self._known: list[Any] = [None] * len(self._held)
        self._addresses = addresses

    def read(self, arrays: Sequence[Array]) -> None:
        addresses = self._addresses
        for number in self._new:
            addresses[number] = address(arrays[number])
        held = [arrays[number] for number in self._held]
        if any(map(is_not, held, self._known)):
            addresses[self._held] = list(map(address, held))
            self._known = held


class _Outputs:
    """Small ones are always made at the same place, and copied; for others each run gets new arrays."""

    def __init__(self, specs: Sequence[TensorSpec], addresses: np.ndarray):
        self._kinds = [(tuple(map(int, spec.shape)), np.dtype(spec.dtype)) for spec in specs]
        self._small = [
            _new(*kind) if 0 < spec.nbytes <= HELD else None for spec, kind in zip(specs, self._kinds, strict=True)
        ]
        self._addresses = addresses
        for number, array in enumerate(self._small):
            if array is not None:
                addresses[number] = address(array)

    def arrays(self) -> list[np.ndarray]:
        found: list[np.ndarray] = []
        for number, (array, kind) in enumerate(zip(self._small, self._kinds, strict=True)):
            if array is None:
                array = _new(*kind)
                self._addresses[number] = address(array)
            found.append(array)
        return found

    def owned(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [array if small is None else array.copy() for array, small in zip(arrays, self._small, strict=True)]


def address(array: np.ndarray) -> int:
    """Of its first element; the long way, which takes five times as long, for arrays that ctypes does not take."""
    if array.flags.writeable and array.nbytes:
        return ctypes.addressof(ctypes.c_char.from_buffer(array.data))
    return array.__array_interface__["data"][0]


def _new(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    try:
        return np.empty(shape, dtype)
    except MemoryError as error:
        raise too_large(math.prod(shape) * dtype.itemsize) from error


def allocate(nbytes: int) -> np.ndarray:
    """Aligned bytes.

    Raises:
        BackendError: there are not so many.
    """
    try:
        raw = np.empty(nbytes + ALIGNMENT, "uint8")
    except MemoryError as error:
        raise too_large(nbytes) from error
    return raw[-raw.ctypes.data % ALIGNMENT :]
