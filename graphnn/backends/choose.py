"""backend_for: the backend of a device; and how many threads the native one uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphnn.backends.executable import Backend
from graphnn.backends.reference import ReferenceBackend, array_module

if TYPE_CHECKING:
    from graphnn.backends.cpu.threads import Pools


def backend_for(device: str) -> Backend:
    """The native engine for "cpu", NumPy for "reference", CuPy for "cuda".

    Raises:
        BackendError: an unknown device, or what it needs is missing.
    """
    xp = array_module(device)
    if device != "cpu":
        return ReferenceBackend(xp)
    from graphnn.backends.cpu.backend import CpuBackend  # brings LLVM, which the other devices do without

    return CpuBackend()


def set_num_threads(threads: int) -> None:
    """Let what is compiled from now on for device "cpu" use so many threads; what is compiled already keeps its own.

    Results are equal from run to run for the same number, and differ by rounding between numbers.

    Raises:
        OptionError: not a whole number from 1 on.
    """
    _pools().set_size(threads)


def num_threads() -> int:
    """Threads that device "cpu" uses; at first the cores that this process may use."""
    return _pools().size


def _pools() -> Pools:
    from graphnn.backends.cpu.backend import shared_engine

    return shared_engine().pools
