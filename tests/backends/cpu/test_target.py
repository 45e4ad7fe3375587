"""CPUs are described by what they have; cores and caches are those that the system grants."""

import math
import os
from pathlib import Path

import llvmlite.binding as llvm
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnn.backends.cpu import machine
from graphnn.backends.cpu.machine import allowed_cores, cache_bytes
from graphnn.backends.cpu.target import AVX512, describe, host_target
from graphnn.errors import BackendError

LINUX = "x86_64-unknown-linux-gnu"
SKYLAKE = dict.fromkeys(("avx2", "fma", *AVX512), True)
CPUS = [
    ("skylake-avx512", SKYLAKE, LINUX, (64, 32)),
    ("knl", SKYLAKE | {"avx512vl": False}, LINUX, (32, 16)),
    ("haswell", {"avx2": True, "fma": True, "avx512f": False}, LINUX, (32, 16)),
    ("avx2 alone", {"avx2": True, "fma": False}, LINUX, (16, 16)),
    ("x86-64", {}, "x86_64-pc-windows-msvc", (16, 16)),
    ("apple-m1", {"neon": True}, "arm64-apple-darwin23", (16, 32)),
    ("neoverse-v1", {"neon": True, "sve": True}, "aarch64-unknown-linux-gnu", (16, 32)),
]


@pytest.mark.parametrize(("name", "features", "triple", "vectors"), CPUS)
def test_the_widest_whole_vector_set_is_used(name, features, triple, vectors):
    target = describe(name, features, triple)
    assert (target.vector_bytes, target.registers) == vectors
    assert target.lanes("float32") == vectors[0] // 4
    assert target.lanes("float64") == vectors[0] // 8
    assert target.name == name


def test_features_are_written_as_llvm_reads_them():
    assert describe("c", {"fma": True, "avx2": False}, LINUX).features == "-avx2,+fma"


@pytest.mark.parametrize("triple", ["riscv64-unknown-linux-gnu", "i686-pc-windows-msvc", "s390x-ibm-linux", ""])
def test_another_cpu_is_refused_with_a_way_out(triple):
    with pytest.raises(BackendError, match=r'(?s)x86_64 or aarch64.*device="reference"'):
        describe("generic", {}, triple)


def test_a_cpu_that_llvm_does_not_know_is_refused_with_a_way_out(monkeypatch):
    def fail():
        raise RuntimeError("failed to detect host features")

    monkeypatch.setattr(llvm, "get_host_cpu_features", fail)
    with pytest.raises(BackendError, match='device="reference"'):
        host_target()


def test_the_host_is_the_same_each_time():
    assert host_target() == host_target()
    assert host_target().l1_bytes <= host_target().l2_bytes


# -- a machine made of files ------------------------------------------------------------------------------------------


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


def cpus(monkeypatch, *numbers: int) -> None:
    monkeypatch.setattr(machine, "_allowed_cpus", lambda: numbers)


def siblings(*groups: str) -> dict[str, str]:
    return {f"{machine.CPUS}/cpu{n}/topology/thread_siblings_list": group for n, group in enumerate(groups)}


V2 = {"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/cpu.max": "max 100000"}
V1 = {"proc/self/cgroup": "4:memory:/x\n3:cpu,cpuacct:/a\n0::/"}
QUOTAS = [
    ({}, 8),
    ({"proc/self/cgroup": "0::/"}, 8),
    (V2, 8),
    (V2 | {"sys/fs/cgroup/a/b/cpu.max": "150000 100000"}, 2),
    (V2 | {"sys/fs/cgroup/a/cpu.max": "300000 100000", "sys/fs/cgroup/a/b/cpu.max": "500000 100000"}, 3),
    (V2 | {"sys/fs/cgroup/cpu.max": "1000 100000"}, 1),
    (V2 | {"sys/fs/cgroup/cpu.max": "9900000 100000"}, 8),
    (V2 | {"sys/fs/cgroup/cpu.max": "nonsense"}, 8),
    (V2 | {"sys/fs/cgroup/cpu.max": "0 0"}, 8),
    (V1, 8),
    (V1 | {"sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000"}, 8),
    (V1 | {"sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "250000", "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000"}, 3),
    (V1 | {"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "5", "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "5"}, 1),
]


@pytest.mark.parametrize(("files", "cores"), QUOTAS)
def test_cores_are_those_that_the_control_groups_grant(tmp_path, monkeypatch, files, cores):
    cpus(monkeypatch, *range(8))
    assert allowed_cores(write(tmp_path, files)) == cores


@given(quota=st.integers(1, 10**7), period=st.integers(1, 10**6), count=st.integers(1, 300))
def test_a_quota_is_rounded_up_and_never_more_than_there_is(tmp_path_factory, quota, period, count):
    files = {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": f"{quota} {period}"}
    root = write(tmp_path_factory.mktemp("root"), files)
    with pytest.MonkeyPatch.context() as patch:
        cpus(patch, *range(count))
        assert allowed_cores(root) == max(1, min(count, math.ceil(quota / period)))


def test_two_threads_of_a_core_count_once(tmp_path, monkeypatch):
    root = write(tmp_path, siblings("0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7"))
    for numbers, cores in (((0, 1, 2, 3, 4, 5, 6, 7), 4), ((0, 4), 1), ((0, 5), 2)):
        cpus(monkeypatch, *numbers)
        assert allowed_cores(root) == cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_the_affinity_of_the_process_counts():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert allowed_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


CACHES = [
    ({}, 7),
    ({"level": "1", "type": "Instruction", "size": "32K"}, 7),
    ({"level": "2", "type": "Data", "size": "2048K", "shared_cpu_list": "0"}, 2 << 20),
    ({"level": "2", "type": "Unified", "size": "2M", "shared_cpu_list": "0-1"}, 2 << 20),  # the threads of one core
    ({"level": "2", "type": "Unified", "size": "4M", "shared_cpu_list": "0-7"}, 1 << 20),  # four cores share it
    ({"level": "2", "type": "Unified", "size": "4M"}, 4 << 20),
    ({"level": "2", "type": "Unified", "size": "", "shared_cpu_list": ""}, 7),
    ({"level": "2", "type": "Unified", "size": "many", "shared_cpu_list": "odd"}, 7),
]


@pytest.mark.parametrize(("cache", "nbytes"), CACHES)
def test_a_core_has_its_share_of_a_cache(tmp_path, monkeypatch, cache, nbytes):
    cpus(monkeypatch, 0, 1)
    first = {"level": "1", "type": "Data", "size": "48K", "shared_cpu_list": "0-1"}
    files = {f"index0/{key}": text for key, text in first.items()} | {f"index1/{k}": text for k, text in cache.items()}
    files = {f"{machine.CPUS}/cpu0/cache/{name}": text for name, text in files.items()}
    root = write(tmp_path, files | siblings("0-1", "0-1"))
    assert cache_bytes(1, 5, root) == 48 << 10
    assert cache_bytes(2, 7, root) == nbytes
