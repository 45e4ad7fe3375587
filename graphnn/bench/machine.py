"""The machine that something was measured on: its versions, and its peak, which a process of its own measures."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from graphnn.errors import BackendError

PACKAGES = ("graphnn", "numpy", "llvmlite", "torch", "jax")


def versions() -> dict[str, str]:
    """Of the packages that are installed, of Python, and the processor."""
    found = {name: text for name in PACKAGES if (text := _version(name))}
    return {**found, "python": platform.python_version(), "on": processor()}


def processor() -> str:
    """Its name, and the cores that this process may use."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {cores()} cores"


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak(threads: int) -> float:
    """FLOP/s of multiply-adds on registers alone, by so many threads.

    Raises:
        BackendError: it cannot be measured.
    """
    command = [sys.executable, "-m", "graphnn.bench.peak", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BackendError("the peak cannot be measured", where="graphnn.bench.peak", got=done.stderr[-500:])
    return float(done.stdout)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
