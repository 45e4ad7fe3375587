"""ForkLock: a lock that a forked child finds free."""

from __future__ import annotations

import os
import threading


class ForkLock:
    """One lock for each process that the object lives in, so that none waits for a thread that the fork left behind.

    What it guards must be usable in whatever state a thread of the parent was stopped.
    """

    def __init__(self) -> None:
        self._locks: dict[int, threading.Lock] = {}

    def own(self) -> threading.Lock:
        """This process's lock, for `with`: written in C, it cannot be interrupted between two of its steps."""
        process = os.getpid()
        return self._locks.get(process) or self._locks.setdefault(process, threading.Lock())
