"""Progress: how far a training is, for people who watch a terminal and for files that keep what was printed.

Nothing but text, carriage returns and line ends is written: no colours (NO_COLOR holds by itself), no escape codes.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

SECONDS_BETWEEN_REDRAWS = 0.1
BAR_WIDTH = 20
NOT_SHOWN = ("epoch", "step", "seconds", "learning_rate", "status")  # columns of a row that have a place of their own


class Progress:
    """Prints the state of a training.

    On a terminal one line is drawn again and again, at most ten times a second, and each epoch leaves one line behind.
    Elsewhere (a pipe, a file, a notebook, TERM=dumb) only the lines of the epochs are printed.

    Call `start_epoch`, `step` after each batch, `finish_epoch`; and `close` when the training ends for any reason.

    Args:
        stream: where to print; standard error by default.
        clock: seconds that only grow.
        environment: of the process by default.
        width: characters in a line; the terminal's by default.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        environment: Mapping[str, str] | None = None,
        width: int | None = None,
    ):
        environment = os.environ if environment is None else environment
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._width = width
        self._redraws = self._stream.isatty() and environment.get("TERM") != "dumb"
        self._drawn = 0  # characters of the line that stands on the terminal
        self._last_redraw = -float("inf")
        self._begin(0, None, None)

    def _begin(self, epoch: int, epochs: int | None, steps: int | None) -> None:
        self._epoch, self._epochs, self._steps = epoch, epochs, steps
        self._done = self._samples = 0
        self._sums: dict[str, float] = {}
        self._started = self._last_step = self._clock()
        self._after_first: tuple[float, int] | None = (
            None  # time and samples: the first step compiles, so it is left out
        )

    def start_epoch(self, epoch: int, epochs: int | None = None, steps: int | None = None) -> None:
        """An epoch begins.

        Args:
            epoch: its number, from 1 on.
            epochs: how many there will be, if known.
            steps: batches in it, if known.
        """
        self._begin(epoch, epochs, steps)
        self._redraw()

    def step(self, samples: int, values: Mapping[str, float]) -> None:
        """A step is done.

        Args:
            samples: examples in its batch.
            values: its loss and metrics; what is shown are means over the epoch's examples so far.
        """
        self._done += 1
        self._samples += samples
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + samples * float(value)
        self._last_step = self._clock()
        if self._after_first is None:
            self._after_first = self._last_step, self._samples
        self._redraw()

    def finish_epoch(self, row: Mapping[str, Any]) -> None:
        """Print the line of an epoch.

        Args:
            row: its line of the history.
        """
        parts = [self._epoch_text(), *(f"{name} {_number(row[name])}" for name in row if name not in NOT_SHOWN)]
        if "learning_rate" in row:
            parts.append(f"lr {_number(row['learning_rate'])}")
        parts.append(_duration(float(row.get("seconds", self._clock() - self._started))))
        if rate := self._samples_per_second:
            parts.append(f"{_count(rate)} samples/s")
        if (status := row.get("status")) not in (None, "", "completed"):
            parts.append(str(status))
        self._print_line("  ".join(parts))

    def message(self, text: str) -> None:
        """Print a line of its own, such as why the training stopped."""
        self._print_line(text)

    def close(self) -> None:
        """Wipe an unfinished line off the terminal. May be called any number of times."""
        if self._drawn:
            self._stream.write("\r" + " " * self._drawn + "\r")
            self._drawn = 0
            self._stream.flush()

    # -- the line that is drawn again and again -----------------------------------------------------------------------

    def _redraw(self) -> None:
        now = self._clock()
        if not self._redraws or now - self._last_redraw < SECONDS_BETWEEN_REDRAWS:
            return
        self._last_redraw = now
        text = "  ".join(self._state())[: self._line_width() - 1]  # a full line would wrap, and leave its head behind
        self._stream.write("\r" + text.ljust(self._drawn))
        self._drawn = len(text)
        self._stream.flush()

    def _state(self) -> list[str]:
        parts = [self._epoch_text(), f"step {self._done}" + (f"/{self._steps}" if self._steps else "")]
        if self._steps:
            filled = min(self._done * BAR_WIDTH // self._steps, BAR_WIDTH)
            parts[-1] += f" [{'=' * filled}{'.' * (BAR_WIDTH - filled)}]"
        parts += [f"{name} {_number(total / max(self._samples, 1))}" for name, total in self._sums.items()]
        if rate := self._samples_per_second:
            parts.append(f"{_count(rate)} samples/s")
            if self._steps:
                remaining = max(self._steps - self._done, 0)
                parts.append(f"{_duration(self._measured_seconds / (self._done - 1) * remaining)} left")
        return parts

    @property
    def _measured_seconds(self) -> float:
        """From the end of the epoch's first step to that of its last one: without compilation and validation."""
        return self._last_step - self._after_first[0] if self._after_first else 0.0

    @property
    def _samples_per_second(self) -> float:
        """0 while it is not known."""
        seconds = self._measured_seconds
        return (self._samples - self._after_first[1]) / seconds if self._after_first and seconds > 0 else 0.0

    def _print_line(self, text: str) -> None:
        start = "\r" if self._drawn else ""
        self._stream.write(start + text.ljust(self._drawn) + "\n")
        self._drawn = 0
        self._stream.flush()

    def _epoch_text(self) -> str:
        return f"epoch {self._epoch}" + (f"/{self._epochs}" if self._epochs else "")

    def _line_width(self) -> int:
        """Asked for at each redraw, as windows change their size."""
        if self._width is not None:
            return self._width
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        except (OSError, ValueError):
            return shutil.get_terminal_size().columns


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _count(value: float) -> str:
    """1234 -> 1.23k: three digits."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def _duration(seconds: float) -> str:
    """0.123 -> 123 ms, 12.34 -> 12.3 s, 75 -> 1:15, 3700 -> 1:01:40."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
