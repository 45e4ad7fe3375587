"""Target: what the code generator needs to know of a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import llvmlite.binding as llvm

from graphnn.backends.cpu.machine import cache_bytes
from graphnn.errors import BackendError
from graphnn.ir.tensor_spec import TensorSpec

AVX512 = ("avx512f", "avx512vl", "avx512bw", "avx512dq")  # all of Skylake and later; the first CPUs with some had less
AVX2 = ("avx2", "fma")
INSTEAD = 'use device="reference", which runs everywhere'


@dataclass(frozen=True)
class Target:
    """A CPU, as the code generator sees it.

    Args:
        name: LLVM's name of the CPU.
        features: LLVM's feature string, such as "+avx2,+fma".
        triple: LLVM's target triple.
        vector_bytes: width of a vector register: 64 with AVX-512, 32 with AVX2, 16 with NEON.
        registers: number of vector registers.
        l1_bytes: first-level data cache of one core.
        l2_bytes: second-level cache of one core.
    """

    name: str
    features: str
    triple: str
    vector_bytes: int
    registers: int
    l1_bytes: int = 32 * 1024
    l2_bytes: int = 1024 * 1024

    def lanes(self, dtype: str) -> int:
        """Elements of `dtype` in one vector register."""
        return self.vector_bytes // TensorSpec((), dtype).nbytes


def host_target() -> Target:
    """The CPU that this process runs on.

    Raises:
        BackendError: if no code can be made for it.
    """
    try:
        features = llvm.get_host_cpu_features()
        name, triple = llvm.get_host_cpu_name(), llvm.get_process_triple()
    except (RuntimeError, OSError) as error:
        raise BackendError(f"LLVM does not know this CPU: {error}", where="cpu", fix=INSTEAD) from error
    target = describe(name, features, triple)
    l1, l2 = (cache_bytes(level, size) for level, size in ((1, target.l1_bytes), (2, target.l2_bytes)))
    return replace(target, l1_bytes=l1, l2_bytes=l2)


def describe(name: str, features: Mapping[str, bool], triple: str) -> Target:
    """The vector registers of a CPU, from what LLVM says of it.

    Args:
        name: LLVM's name of the CPU.
        features: whether it has a feature, by LLVM's name of the feature.
        triple: LLVM's target triple.

    Raises:
        BackendError: if the engine was not made for CPUs of this kind.
    """
    architecture = triple.partition("-")[0]
    flags = ",".join(f"{'+' if has else '-'}{feature}" for feature, has in sorted(features.items()))
    vector_bytes, registers = _vectors(architecture, features)
    return Target(name, flags, triple, vector_bytes, registers)


def _vectors(architecture: str, features: Mapping[str, bool]) -> tuple[int, int]:
    """Bytes and number of the vector registers."""
    if architecture in ("aarch64", "arm64"):
        return 16, 32  # NEON
    if architecture not in ("x86_64", "amd64"):
        raise BackendError("no code can be made for this CPU", where="cpu", expected="x86_64 or aarch64",
                           got=architecture, fix=INSTEAD)  # fmt: skip
    if all(features.get(feature) for feature in AVX512):
        return 64, 32
    return (32, 16) if all(features.get(feature) for feature in AVX2) else (16, 16)
