"""The parent's side of a contender's process: starting it, asking it for steps, keeping it still in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from graphnn.bench.packed import unpacked
from graphnn.errors import BackendError

PAUSES = hasattr(signal, "SIGSTOP")
POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
LINES_OF_ERROR = 12


@dataclass(frozen=True)
class Entry:
    """Who runs what, and how.

    Args:
        contender: "graphnn", "torch", "compile" or "jax".
        workload: its name.
        threads: threads, and cores that the process may use.
        device: of graphnn.
        arrays: npz file with the initial parameters and states.
        cache: folder for compiled code.
    """

    contender: str
    workload: str
    threads: int
    device: str
    arrays: str
    cache: str

    def environment(self) -> dict[str, str]:
        """That of this process, with limits for thread pools and the places of caches."""
        caches = {
            "GRAPHNN_CACHE_DIR": self.cache,
            "TORCHINDUCTOR_CACHE_DIR": self.cache,
            "JAX_COMPILATION_CACHE_DIR": self.cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PLATFORMS": "cpu",
        }
        return {**os.environ, **dict.fromkeys(POOLS, str(self.threads)), **caches}


class Process:
    """A contender that has made its first step; it stands still but while it is asked for steps.

    Attributes:
        start_seconds: from the imported library to the end of the first step.
        losses: of all steps so far.
        peak_memory: largest number of bytes that steps added to what was resident after the imports; None: unknown.

    Raises:
        BackendError: the process failed; says with what.
    """

    def __init__(self, entry: Entry):
        self.entry = entry
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        command = [sys.executable, "-m", "graphnn.bench.child", json.dumps(vars(entry))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            env=entry.environment(),
        )  # fmt: skip
        _keep_to_cores(self._process.pid, entry.threads)
        first = self._answer()
        self.start_seconds: float = first["start_seconds"]
        self.losses: list[float] = [first["loss"]]
        self.peak_memory: int | None = None
        self._memory_before: int | None = first["memory_before"]
        self._pause()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def run(self, steps: int) -> list[float]:
        """Make so many steps; the seconds of each."""
        self._continue()
        stdin = self._process.stdin
        if stdin is not None:
            stdin.write(json.dumps({"steps": steps}) + "\n")
            stdin.flush()
        answer = self._answer()
        self._pause()
        self.losses += unpacked(answer["losses"])
        if answer["peak_memory"] is not None and self._memory_before is not None:
            self.peak_memory = answer["peak_memory"] - self._memory_before
        return unpacked(answer["seconds"])

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._continue()
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _answer(self) -> Mapping[str, Any]:
        stdout = self._process.stdout
        line = stdout.readline() if stdout is not None else ""
        if not line:
            self._process.wait()
            self._errors.seek(0)
            text = "\n".join(self._errors.read().decode(errors="replace").splitlines()[-LINES_OF_ERROR:])
            self.close()
            where = f"{self.entry.contender} on {self.entry.workload}"
            raise BackendError("a contender failed", where=where, got=text, fix="leave it out with --peers")
        return json.loads(line)

    def _pause(self) -> None:
        """A pool of threads that waits for work by spinning would disturb the others."""
        if PAUSES:
            self._process.send_signal(signal.SIGSTOP)

    def _continue(self) -> None:
        if PAUSES:
            self._process.send_signal(signal.SIGCONT)


def _keep_to_cores(pid: int, threads: int) -> None:
    """As many cores as threads, where the system can do that: not all pools of threads have a limit of their own."""
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(pid, allowed[: max(1, threads)])


def warm_start(entry: Entry) -> float:
    """Seconds to the end of the first step in a new process that finds the cache of an earlier one."""
    with Process(entry) as process:
        return process.start_seconds


def cache_of(folder: Path, contender: str, workload: str) -> str:
    """A folder of its own for what a contender compiles."""
    path = folder / f"{workload}-{contender}"
    path.mkdir()
    return str(path)
