"""backend_for: the backend of a device; and the engine of device "cpu" with the number of its threads."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from graphnn.backends.executable import Backend
from graphnn.backends.reference import ReferenceBackend, array_module
from graphnn.errors import BackendError

if TYPE_CHECKING:
    from graphnn.backends.cpu.backend import Engine


def backend_for(device: str) -> Backend:
    """The native engine for "cpu", NumPy for "reference", CuPy for "cuda".

    Raises:
        BackendError: an unknown device, or what it needs is missing.
    """
    xp = array_module(device)
    if device != "cpu":
        return ReferenceBackend(xp)
    return _native().CpuBackend()


def set_num_threads(threads: int) -> None:
    """Let what is compiled from now on for device "cpu" use so many threads; what is compiled already keeps its own.

    Results are equal from run to run for the same number, and differ by rounding between numbers.

    Raises:
        OptionError: not a whole number, less than 1, or more than any machine has cores.
    """
    native_engine().pools.set_size(threads)


def num_threads() -> int:
    """Threads that device "cpu" uses; at first the cores that this process may use."""
    return native_engine().pools.size


def native_engine() -> Engine:
    """What device "cpu" is made of: the CPU it makes code for, its threads, its cache on disk.

    Raises:
        BackendError: no code can be made here, or llvmlite is missing.
    """
    return _native().shared_engine()


def _native() -> ModuleType:
    """The engine, which brings LLVM; the other devices do without.

    Raises:
        BackendError: llvmlite is missing, or its library cannot be loaded.
    """
    try:
        from graphnn.backends.cpu import backend
    except (ImportError, OSError) as error:
        raise BackendError(
            'device="cpu" needs llvmlite', got=str(error), fix='pip install llvmlite, or device="reference"'
        ) from error
    return backend
