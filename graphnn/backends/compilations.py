"""Compilations: what was compiled, kept as long as it is used."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Generic, TypeVar

from graphnn.backends.fork_lock import ForkLock

PROGRAMS_KEPT = 64  # sizes of batches times modes; each holds an arena
NEVER = 2**30  # collections of younger objects before one of all
Made = TypeVar("Made")


class Compilations(Generic[Made]):
    """What was compiled, by key; of more than PROGRAMS_KEPT, those used last. Threads may share it."""

    def __init__(self) -> None:
        self._kept: dict[object, Made] = {}  # the one used last stands last
        self._lock = ForkLock()

    def values(self) -> list[Made]:
        """All that is kept."""
        return list(self._kept.values())

    def get(self, key: object, make: Callable[[], Made]) -> Made:
        """What was made for `key`; made now, if there is none."""
        with self._lock.own:
            found = self._kept.pop(key, None)
            if found is not None:
                self._kept[key] = found
                return found
        with without_full_collections():
            made = make()  # not under the lock: it takes its time
        with self._lock.own:
            self._kept[key] = made
            while len(self._kept) > PROGRAMS_KEPT:
                del self._kept[next(iter(self._kept))]
        return made


@contextmanager
def without_full_collections() -> Generator[None]:
    """Python's collector leaves old objects alone meanwhile.

    Nearly all that lives for a while in a compilation lives to its end. To go through it again and again takes a fifth
    of the time of a large one.
    """
    thresholds = gc.get_threshold()
    if thresholds[2] == NEVER:  # another thread compiles too, and will put it right
        yield
        return
    try:
        gc.set_threshold(*thresholds[:2], NEVER)
        yield
    finally:
        gc.set_threshold(*thresholds)
