"""From LLVM IR text to callable machine code."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import TypeAlias

import llvmlite
import llvmlite.binding as llvm

from graphnn.backends.cpu.cache import Cache
from graphnn.backends.cpu.emit import ENTRY
from graphnn.backends.cpu.kernel import Text, digest_of
from graphnn.backends.cpu.machine import release_memory
from graphnn.backends.cpu.target import INSTEAD, Target, host_target
from graphnn.errors import BackendError

Progress: TypeAlias = Callable[[int, int], None]  # kernels that are done, all kernels of the batch

CODEGEN = 1  # to be raised with every change below that changes machine code: objects in the disk cache are found by it
LEVEL = 2  # of LLVM's code generator; 3 gives the same code in the same time
PATIENCE = 1.0  # seconds after which a batch is worth a word to the user


class Code:
    """Compiled kernels; the machine code lives as long as this object. Threads may share it.

    Args:
        target: the CPU.
        cache: machine code on disk, from which kernels are taken and to which they are added.
        on_progress: told how far a batch is, from its second second on.

    Raises:
        BackendError: if LLVM cannot make code for the target.
    """

    def __init__(self, target: Target, cache: Cache | None = None, on_progress: Progress | None = None):
        self.target = target
        self._cache = cache
        self._on_progress = on_progress
        self._lock = threading.RLock()  # compiles in one thread at a time, as LLVM's binding does anyway
        if hasattr(os, "register_at_fork"):  # a fork waits for the batch: LLVM's locks are free in the child then
            after = {"after_in_parent": self._lock.release, "after_in_child": self._lock.release}
            os.register_at_fork(before=self._lock.acquire, **after)
        self._addresses: dict[str, int] = {}
        self._libraries: list[llvm.ResourceTracker] = []
        self._names = itertools.count()  # of libraries: LLVM wants a new one also after a failure
        self._machine = _machine(target)
        with _llvm_errors():
            # The newer linker, where it is complete: RuntimeDyld asks for memory that is near to all that it refers to.
            self._linker = llvm.create_lljit_compiler(_machine(target), use_jit_link="windows" not in target.triple)

    def compile(self, text: Text) -> int:
        """The address of the function `kernel` in the IR; equal IR has one address."""
        return self.compile_all([text])[0]

    def compile_all(self, texts: Sequence[Text]) -> list[int]:
        """The addresses of the functions `kernel`, one for each text.

        Raises:
            BackendError: if a text is not valid IR, or calls what this process does not have.
        """
        keys = [self._key(text) for text in texts]
        with self._lock:
            missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._addresses}
            if missing:
                self._load(dict(self._objects(missing)))
                release_memory()
            return [self._addresses[key] for key in keys]

    def optimised_ir(self, text: str) -> str:
        """The IR as the code generator gets it."""
        with self._lock, _llvm_errors():
            return str(_parse(text))

    def assembly(self, text: str) -> str:
        """The machine code of the IR, for reading."""
        with self._lock, _llvm_errors():
            return self._machine.emit_assembly(_parse(text))

    def _key(self, text: Text) -> str:
        """Names the machine code of `text`: all that it depends on is in it."""
        target = (self.target.name, self.target.features, self.target.triple)
        made_by = (CODEGEN, LEVEL, llvmlite.__version__, llvm.llvm_version_info)
        return blake2b(repr((made_by, target, digest_of(text))).encode(), digest_size=20).hexdigest()

    def _objects(self, texts: dict[str, Text]) -> Iterator[tuple[str, bytes]]:
        """Machine code by key: from the cache, or made and put there."""
        start = time.monotonic()
        for done, (key, text) in enumerate(texts.items(), 1):
            found = self._cache.load(key) if self._cache else None
            if found is None:
                found = self._emit(str(text), key)
                if self._cache:
                    self._cache.store(key, found)
            yield key, found
            if self._on_progress and time.monotonic() - start > PATIENCE:
                self._on_progress(done, len(texts))

    def _emit(self, text: str, key: str) -> bytes:
        """An object file whose only visible name is that of the kernel, so that many can be linked together."""
        with _llvm_errors():
            module = _parse(text)
            for item in (*module.functions, *module.global_variables):
                if not item.is_declaration:
                    item.linkage = llvm.Linkage.internal
            kernel = module.get_function(ENTRY)
            kernel.linkage, kernel.name = llvm.Linkage.external, _symbol(key)
            return self._machine.emit_object(module)

    def _load(self, objects: dict[str, bytes]) -> None:
        """Link the objects into memory, close together."""
        library = llvm.JITLibraryBuilder().add_current_process()
        for key, found in objects.items():
            library.add_object_img(found).export_symbol(_symbol(key))
        with _llvm_errors():
            linked = library.link(self._linker, f"library{next(self._names)}")
        self._libraries.append(linked)
        self._addresses.update({key: linked[_symbol(key)] for key in objects})


def _symbol(key: str) -> str:
    return f"{ENTRY}_{key}"


def _machine(target: Target) -> llvm.TargetMachine:
    """LLVM's code generator for the target."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    with _llvm_errors():
        found = llvm.Target.from_triple(target.triple)
        return found.create_target_machine(cpu=target.name, features=target.features, opt=LEVEL, reloc="pic")


def _parse(text: str) -> llvm.ModuleRef:
    """The checked module.

    No pass of LLVM's optimiser runs over it: kernels come with explicit vectors, blocks and unrolled loops, and the
    code generator itself moves invariants out of loops, merges equal address arithmetic and contracts a * b + c. Over
    our kernels its passes doubled the time to compile and changed no kernel's speed.
    """
    module = llvm.parse_assembly(text, context=llvm.create_context())  # a context of its own is freed with the module
    module.verify()
    return module


@contextmanager
def _llvm_errors() -> Generator[None]:
    try:
        yield
    except (RuntimeError, NameError, OSError) as error:
        message, fix = " ".join(str(error).split()), f"report this with the kernel's IR; {INSTEAD}"
        raise BackendError(f"LLVM: {message}", where="cpu", fix=fix) from error


__all__ = ["Code", "Progress", "host_target"]
