"""Ctrl-C during training: the first ends it after the step at hand, the second at once."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupt:
    """While entered, the first SIGINT sets `requested`; then the former handler is back.

    Does nothing outside of the main thread, where Python does not allow handlers, or when `active` is False.
    """

    def __init__(self, active: bool = True):
        self.requested = False
        self._active = active and threading.current_thread() is threading.main_thread()
        self._former: Any = None

    def __enter__(self) -> Self:
        if self._active:
            self._former = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._active and self._former is not None:
            signal.signal(signal.SIGINT, self._former)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, self._former)
        print("\nstopping after this step; press Ctrl-C again to stop at once", file=sys.stderr, flush=True)
