"""Kernels on disk without their IR, so that the next process need not write it again to find their machine code."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Hashable
from functools import cache as once
from hashlib import blake2b
from pathlib import Path

import llvmlite

import graphnn.backends.cpu
from graphnn.backends.cpu.cache import NOTE, Cache
from graphnn.backends.cpu.kernel import Kernel, Unwritten, digest_of
from graphnn.backends.cpu.target import Target
from graphnn.ir.tensor_spec import TensorSpec

FORMAT = 1
SOURCES = ("backends/cpu", "ir", "ops", "passes", "scan.py", "tiled.py")  # all that the IR of a kernel depends on
LOADED = time.time()  # code that runs is that of files which are older
TRUSTED = ("builtins", "graphnn", "numpy")  # packages whose classes are known by their names


class KernelCache:
    """Kernels without their IR, by what they are made from.

    The key holds the op with its attributes, the specs, the target, and a digest of the sources that write the IR: what
    another version of them wrote is never found.

    Args:
        cache: where entries lie, beside the machine code.
        target: the CPU.
        sources: their digest; "" where they cannot be read: then nothing is found and nothing kept.
    """

    def __init__(self, cache: Cache, target: Target, sources: str | None = None):
        self._cache = cache
        self._made_by = repr((FORMAT, llvmlite.__version__, target))
        self._sources = source_digest() if sources is None else sources

    def get(self, key: Hashable, make: Callable[[], Kernel | None]) -> Kernel | None:
        """The kernel of that key: from disk, or made and kept."""
        name = self._name(key)
        if name is None:
            return make()
        found = self._cache.load(name)
        if found is not None:
            return _unpacked(found, make)
        made = make()
        self._cache.store(name, _packed(made))
        return made

    def _name(self, key: Hashable) -> str | None:
        text = lasting_text(key) if self._sources else None
        if text is None:
            return None
        return NOTE + blake2b("\n".join((self._made_by, self._sources, text)).encode(), digest_size=20).hexdigest()


def lasting_text(key: Hashable) -> str | None:
    """A text that is equal for equal keys in all processes; None for a key with parts that have none.

    Such parts are the classes and objects of users: those of another script may have the same names.
    """
    if isinstance(key, tuple):
        parts = [lasting_text(part) for part in key]
        return None if None in parts else f"({','.join(map(str, parts))})"
    if isinstance(key, type):
        return f"{key.__module__}.{key.__qualname__}" if key.__module__.partition(".")[0] in TRUSTED else None
    if isinstance(key, TensorSpec):
        return str(key)
    return repr(key) if key is None or type(key) in (bool, int, float, str) else None


@once
def source_digest() -> str:
    """Of the files that the IR depends on; "" if they cannot be read, or have changed since they were loaded."""
    return digest_of_files(Path(graphnn.backends.cpu.__path__[0]).parents[1], LOADED)


def digest_of_files(package: Path, loaded: float) -> str:
    """See `source_digest`. Times and sizes may be equal for different versions, so the content is read: it takes 5 ms.

    Args:
        package: folder of graphnn.
        loaded: time in seconds at which the code was read.
    """
    digest, places = blake2b(digest_size=20), [package / name for name in SOURCES]
    files = [file for place in places for file in ([place] if place.suffix else sorted(place.rglob("*.py")))]
    try:
        for file in files:
            content = file.read_bytes()
            digest.update(f"{file.relative_to(package).as_posix()} {len(content)}\n".encode() + content)
            if file.stat().st_mtime > loaded:
                return ""
    except OSError:
        return ""
    return digest.hexdigest()


def _packed(kernel: Kernel | None) -> bytes:
    if kernel is None:
        return b"null"
    fields = (digest_of(kernel.ir), [*map(int, kernel.sizes)], int(kernel.scratch_bytes), kernel.notes)
    return json.dumps(fields).encode()


def _unpacked(found: bytes, make: Callable[[], Kernel | None]) -> Kernel | None:
    fields = json.loads(found)
    if fields is None:
        return None
    digest, sizes, scratch_bytes, notes = fields

    def write() -> str:
        made = make()
        return str(made.ir) if made else ""

    return Kernel(Unwritten(digest, write), tuple(sizes), scratch_bytes, notes)
