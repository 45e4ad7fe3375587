"""What the operating system says of the machine: cores that this process may use, sizes of the caches."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path("/")
CPUS = "sys/devices/system/cpu"
GROUPS = "sys/fs/cgroup"
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def release_memory() -> None:
    """Give back to the system what this process has freed, where the C library can."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
        if trim is not None:
            trim(ctypes.c_size_t(0))


def allowed_cores(root: Path = ROOT) -> int:
    """Cores that this process may keep busy, at least 1.

    The physical cores among the logical CPUs that it may run on: two threads of one core share its vector units. Where
    a control group grants less time (containers), that many, rounded up.

    Args:
        root: where /proc and /sys are looked for.
    """
    cpus = _allowed_cpus()
    cores = {_read(root / CPUS / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu) for cpu in cpus}
    granted = _granted_cpus(root)
    return max(1, len(cores) if math.isinf(granted) else min(len(cores), math.ceil(granted)))


def cache_bytes(level: int, default: int, root: Path = ROOT) -> int:
    """Data cache of this level that one core has for itself.

    Args:
        level: 1 or 2.
        default: what is assumed where the system does not say.
        root: where /sys is looked for.
    """
    cpu = root / CPUS / f"cpu{min(_allowed_cpus())}"
    siblings = _count(_read(cpu / "topology/thread_siblings_list"))
    for entry in sorted((cpu / "cache").glob("index*")):
        if _read(entry / "level") == str(level) and _read(entry / "type") in ("Data", "Unified"):
            sharers = max(1, _count(_read(entry / "shared_cpu_list")) // siblings)
            return _bytes(_read(entry / "size")) // sharers or default
    return default


def _allowed_cpus() -> Sequence[int]:
    if sys.platform == "linux":
        return sorted(os.sched_getaffinity(0))
    return range(os.cpu_count() or 1)


def _granted_cpus(root: Path) -> float:
    """CPU seconds per second that the control groups of this process allow; infinity where nothing is said."""
    granted = math.inf
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2: one tree
            granted = min([granted, *(_quota(*_read(f / "cpu.max").split()) for f in _folders(root / GROUPS, path))])
        elif "cpu" in controllers.split(","):  # version 1: a tree for each controller
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            folders = _folders(root / GROUPS / "cpu", path) + _folders(root / GROUPS / controllers, path)
            granted = min([granted, *(_quota(*(_read(folder / name) for name in names)) for folder in folders)])
    return granted


def _folders(tree: Path, group: str) -> list[Path]:
    """The group's folder and those above it, each of which may set a limit.

    In a container the tree often starts at the group, though the path is told from the host's root: then only the tree
    itself is found.
    """
    inner = tree / group.strip("/")
    return [inner, *(folder for folder in inner.parents if folder == tree or tree in folder.parents)]


def _quota(quota: str = "", period: str = "") -> float:
    """Microseconds granted by microseconds of a period; "max" and -1 are no limit."""
    if quota.isdigit() and period.isdigit() and int(period) > 0 and int(quota) > 0:
        return int(quota) / int(period)
    return math.inf


def _count(cpus: str) -> int:
    """How many numbers a list such as "0-3,8" has; 1 for an empty or odd one."""
    try:
        ends = [part.split("-") for part in cpus.split(",")]
        return max(1, sum(int(end[-1]) - int(end[0]) + 1 for end in ends))
    except ValueError:
        return 1


def _bytes(size: str) -> int:
    """48K -> 49152; 0 for what is no size."""
    number, unit = size.rstrip("KMG"), size[-1:]
    return int(number) * UNITS.get(unit, 1) if number.isdigit() else 0


def _read(path: Path) -> str:
    """The text of a small file of the system, "" where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
