"""RunMemory: what runs of a plan work in; and the addresses of arrays."""

from __future__ import annotations

import ctypes
import math
import mmap
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphnn.backends.cpu.table import FIRST_EXTERNAL, Place
from graphnn.backends.reference import too_large
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.op import Array
from graphnn.plan.plan import ALIGNMENT, Plan, aligned

LARGE = 2**18  # bytes


class RunMemory:
    """The arena and the workers' parts, for one run at a time.

    Args:
        sizes: bytes of each base below FIRST_EXTERNAL.
    """

    def __init__(self, sizes: Sequence[int]):
        self.arena = allocate(sum(map(aligned, sizes)))
        start = self.arena.ctypes.data
        self.bases = [start + sum(map(aligned, sizes[:base])) for base in range(len(sizes))]

    def views(self, plan: Plan, places: Sequence[Place], externals: Sequence[Array]) -> list[Array]:
        """An array for every buffer of the plan; `externals` are its inputs and outputs."""
        return [self._view(place, buffer.spec, externals) for place, buffer in zip(places, plan.buffers, strict=True)]

    def _view(self, place: Place, spec: TensorSpec, externals: Sequence[Array]) -> Array:
        if place.base >= FIRST_EXTERNAL:
            return externals[place.base - FIRST_EXTERNAL].reshape(spec.shape)
        raw = self.arena[place.offset : place.offset + spec.nbytes]
        return raw.view(spec.dtype).reshape(spec.shape)


_address_of, _first_byte = ctypes.addressof, ctypes.c_char.from_buffer


def address(array: Any) -> int:
    """Of its first element; the long way, which takes five times as long, where ctypes refuses: read only, empty."""
    try:
        return _address_of(_first_byte(array))
    except (TypeError, ValueError):
        return array.__array_interface__["data"][0]


def new_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """An array for the caller, not filled.

    Raises:
        BackendError: there is not so much memory.
    """
    try:
        return np.empty(shape, dtype)
    except MemoryError as error:
        raise too_large(math.prod(shape) * dtype.itemsize) from error


def aligned_array(shape: tuple[int, ...], dtype: np.dtype[Any], zeros: bool = False) -> np.ndarray:
    """An array whose first element begins a cache line; filled with zeros, or not.

    Raises:
        BackendError: there is not so much memory.
    """
    nbytes = math.prod(shape) * dtype.itemsize
    return allocate(nbytes, zeros)[:nbytes].view(dtype).reshape(shape)


def allocate(nbytes: int, zeros: bool = False) -> np.ndarray:
    """Aligned bytes: anything, or zeros, which the system gives out when they are first used.

    Many bytes get pages of their own. The heap would keep those that are given back, and the next array, of another
    size, would lie behind them.

    Raises:
        BackendError: there are not so many.
    """
    try:
        if nbytes >= LARGE and os.name == "posix":
            return _pages(nbytes)
        raw = (np.zeros if zeros else np.empty)(nbytes + ALIGNMENT, "uint8")
    except (MemoryError, OSError, OverflowError) as error:
        raise too_large(nbytes) from error
    return raw[-raw.ctypes.data % ALIGNMENT :]


def _pages(nbytes: int) -> np.ndarray:
    """Zeros that begin somewhere in a page: arrays of one size that began alike would share a few ways of a cache."""
    raw = np.frombuffer(mmap.mmap(-1, nbytes + mmap.PAGESIZE, access=mmap.ACCESS_COPY), "uint8")
    return raw[raw.ctypes.data // mmap.PAGESIZE * ALIGNMENT % mmap.PAGESIZE :]
