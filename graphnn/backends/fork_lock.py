"""ForkLock: a lock that a forked child finds free."""

from __future__ import annotations

import os
import threading
import weakref


class ForkLock:
    """One lock for each process that the object lives in, so that none waits for a thread that the fork left behind.

    What it guards must be usable in whatever state a thread of the parent was stopped.

    Attributes:
        own: this process's lock, for `with`: written in C, it cannot be interrupted between two of its steps.
    """

    def __init__(self) -> None:
        self.own = threading.Lock()
        _ALL.add(weakref.ref(self, _ALL.discard))


_ALL: set[weakref.ref[ForkLock]] = set()  # changed by single steps of the interpreter: a fork finds it whole


def _renew() -> None:
    for reference in tuple(_ALL):
        lock = reference()
        if lock is not None:
            lock.own = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
