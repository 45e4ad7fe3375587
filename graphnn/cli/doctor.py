"""graphnn doctor: what this machine has, for a report or to see why something does not run. It never fails."""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import graphnn
from graphnn.backends.choose import native_engine, num_threads
from graphnn.backends.cpu.machine import allowed_cores
from graphnn.cli.output import emit
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.layers.linear import Linear
from graphnn.model import Model
from graphnn.render.engine import positions
from graphnn.render.units import bytes_text

PACKAGES = ("numpy", "llvmlite", "networkx", "graphviz", "pygraphviz", "scikit-learn")
CUPY = ("cupy", "cupy-cuda12x", "cupy-cuda13x")
FEATURES = ("sse4_2", "avx", "f16c", "fma", "avx2", "avx512f", "avx512_bf16", "amx_tile", "asimd", "sve", "bf16")
CONTROL_GROUPS = Path("/sys/fs/cgroup")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def add(commands: Any, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The options."""
    return commands.add_parser(
        "doctor", parents=[common], help="print versions, processor, engines and folders",
        description="Print what this machine has: versions, processor, engines, GPU, folders. Never fails.",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Ask everything; print one table."""
    sections = {
        "versions": {"graphnn": lambda: graphnn.__version__, "python": _python, **_packages()},
        "processor": {"model": _model, "features": _features, "cores": _cores, "threads": _threads},
        "engines": {"cpu": lambda: _runs("cpu"), "reference": lambda: _runs("reference"), "layout": _layout},
        "engine cpu": {"target": _target, "threads": _workers, "cache": _cache},
        "gpu": {"cupy": _cupy, "driver": _driver},
        "folders": {
            "package": lambda: str(Path(graphnn.__file__).parent),
            "python": lambda: sys.executable,
            "working": lambda: str(Path.cwd()),
            "temporary": tempfile.gettempdir,
        },
    }
    data = {title: {name: _ask(probe) for name, probe in rows.items()} for title, rows in sections.items()}
    lines = []
    for title, rows in data.items():
        lines += [title, *(f"  {name.ljust(12)}  {text}" for name, text in rows.items())]
    emit(options, data, "\n".join(lines))
    return 0


def _ask(probe: Callable[[], str]) -> str:
    """What a probe finds, or how it failed: a broken part is a finding, not the end."""
    try:
        return probe()
    except Exception as error:
        return f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def _packages() -> dict[str, Callable[[], str]]:
    return {name: lambda name=name: _version(name) for name in PACKAGES}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _python() -> str:
    return f"{platform.python_version()} ({platform.python_implementation()}, {platform.platform()})"


# -- processor ---------------------------------------------------------------------------------------------------------


def _cpu_info(*keys: str) -> str:
    """The first value of a line of /proc/cpuinfo with one of the keys; "" on other systems."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for key in keys:
        if found := re.search(rf"^{key}\s*:\s*(.+)$", text, re.MULTILINE):
            return found[1].strip()
    return ""


def _model() -> str:
    return f"{_cpu_info('model name') or platform.processor() or 'unknown'} ({platform.machine()})"


def _features() -> str:
    """Those that matter for numbers; where the system does not tell, what NumPy was built to use."""
    flags = _cpu_info("flags", "Features").split()
    return " ".join(name for name in FEATURES if name in flags) or "unknown"


def _cores() -> str:
    """How many there are, how many this process may use, and what share of them its container gets."""
    parts = [f"{os.cpu_count()} in the machine"]
    if hasattr(os, "sched_getaffinity"):
        parts.append(f"{len(os.sched_getaffinity(0))} allowed to this process")
    parts.append(f"quota of the control group: {_quota() or 'none'}")
    return ", ".join(parts)


def _quota() -> str:
    """Cores that the control group allows on average: cpu.max of version 2, cpu.cfs_* of version 1."""
    root = CONTROL_GROUPS
    for folder in (root / _own_group(), root):
        if (file := folder / "cpu.max").is_file():
            most, period = file.read_text(encoding="ascii").split()
            return "" if most == "max" else f"{int(most) / int(period):g} cores"
    old = root / "cpu"
    if (old / "cpu.cfs_quota_us").is_file():
        most, period = (int((old / f"cpu.cfs_{name}_us").read_text(encoding="ascii")) for name in ("quota", "period"))
        return f"{most / period:g} cores" if most > 0 else ""
    return ""


def _own_group() -> str:
    try:
        text = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(r"^0::/(.*)$", text, re.MULTILINE)
    return found[1] if found else ""


def _threads() -> str:
    given = [f"{name}={os.environ[name]}" for name in THREAD_VARIABLES if name in os.environ]
    return ", ".join(given) or f"no limit given by {', '.join(THREAD_VARIABLES)}"


# -- engines -----------------------------------------------------------------------------------------------------------


def _runs(device: str) -> str:
    """A forward and a backward run of one layer."""
    x = Input(("batch", 2), name="x")
    model = Model(Graph(x, Linear(2)(x)), dtype="float64", device=device)
    model.forward(np.ones((1, 2)))
    model.backward(np.ones((1, 2)))
    return "works, native code by LLVM" if device == "cpu" else f"works, on NumPy {np.__version__}"


def _target() -> str:
    """What LLVM makes code for."""
    found = native_engine().target
    caches = f"caches of a core {found.l1_bytes >> 10} KiB and {found.l2_bytes >> 10} KiB"
    return f"{found.name}, {found.registers} vector registers of {found.vector_bytes} bytes, {caches}"


def _workers() -> str:
    return f"{num_threads()}, of {allowed_cores()} cores that this process may keep busy"


def _cache() -> str:
    """Machine code on disk."""
    cache = native_engine().cache
    if cache is None:
        return "none"
    found = cache.status()
    held = f"{found.folder}: {found.entries} kernels, {bytes_text(found.nbytes)}" if found.folder else "none"
    return f"{held} ({found.fault})" if found.fault else held


def _layout() -> str:
    """Which Graphviz gives places, after it gave one."""
    positions("digraph { a -> b }")
    if (found := _version("pygraphviz")) != "not installed":
        return f"works, Graphviz by pygraphviz {found}"
    return f"works, Graphviz by {shutil.which('dot')}"


def _cupy() -> str:
    installed = [f"{name} {found}" for name in CUPY if (found := _version(name)) != "not installed"]
    if not installed:
        return "not installed (extras cuda12, cuda13)"
    import cupy  # pyright: ignore[reportMissingImports]

    count = cupy.cuda.runtime.getDeviceCount()
    names = [cupy.cuda.runtime.getDeviceProperties(index)["name"].decode() for index in range(count)]
    return f"{', '.join(installed)}; devices: {', '.join(names) or 'none'}"


def _driver() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "no nvidia-smi on the PATH"
    done = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=10, check=False)
    return "; ".join(re.sub(r"\s*\(UUID.*\)", "", line) for line in done.stdout.splitlines()) or done.stderr.strip()
