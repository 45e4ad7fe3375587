"""Kernels on disk: found again by the next process, and never those of another op, CPU or version."""

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cpu_kernels import avx2, host
from graphnn.backends.cpu import backend as backend_module
from graphnn.backends.cpu import kernel_cache
from graphnn.backends.cpu.backend import Engine
from graphnn.backends.cpu.cache import Cache
from graphnn.backends.cpu.kernel import Kernel, Unwritten, digest_of
from graphnn.backends.cpu.kernel_cache import SOURCES, KernelCache, digest_of_files, lasting_text
from graphnn.backends.cpu.kernels.registry import emit_kernel
from graphnn.ir.structure import operation_key
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.creation import Fill
from graphnn.ops.elementwise import Elementwise, Exp, Tanh
from graphnn.ops.linalg import MatMul
from graphnn.ops.op import Op
from graphnn.ops.opaque import Opaque
from graphnn.ops.reduction import Sum

SPEC = TensorSpec((3, 5))
KERNEL = Kernel("some text", (2, 7), 640, "tiles of 6 x 16")
DIFFERENT = [
    (operation_key(Exp()), (SPEC,)),
    (operation_key(Tanh()), (SPEC,)),
    (operation_key(Exp()), (TensorSpec((3, 5), "float64"),)),
    (operation_key(Exp()), (TensorSpec((35,)),)),
    (operation_key(Exp()), (SPEC, SPEC)),
    (operation_key(Sum((0,))), (SPEC,)),
    (operation_key(Sum((1,))), (SPEC,)),
    (operation_key(Sum((0, 1))), (SPEC,)),
    *((operation_key(Fill(value, (3,), "float32")), ()) for value in (0.0, -0.0, 1.0, 1, True, math.nan, math.inf)),
    (("part", SPEC, 0, 1, True),),
    (("part", SPEC, 0, 1, False),),
    (("part", SPEC, 1, 1, True),),
]


@dataclass(frozen=True)
class Mine(Elementwise):
    """Of a user: another script may have another one of this name."""

    expression = "x0 + 1"


def must_not_be_called() -> Kernel:
    raise AssertionError("it is made again")


def test_a_kernel_is_made_once(tmp_path):
    for known, made in ((KERNEL, KERNEL), (None, None)):
        key = (str(known),)
        assert KernelCache(Cache(tmp_path), host(), "v1").get(key, lambda made=made: made) == made
        found = KernelCache(Cache(tmp_path), host(), "v1").get(key, must_not_be_called)
        if made is None:
            assert found is None
        else:
            assert found == replace(made, ir=Unwritten(digest_of(made.ir), must_not_be_called))


def test_its_text_is_written_on_demand(tmp_path):
    KernelCache(Cache(tmp_path), host(), "v1").get((1,), lambda: KERNEL)
    assert str(KernelCache(Cache(tmp_path), host(), "v1").get((1,), lambda: KERNEL).ir) == KERNEL.ir


def test_nothing_of_another_version_or_cpu_is_found(tmp_path):
    KernelCache(Cache(tmp_path), host(), "v1").get((1,), lambda: KERNEL)
    other = replace(KERNEL, ir="other text")
    for target, sources in ((host(), "v2"), (avx2(), "v1"), (replace(host(), l2_bytes=12345), "v1")):
        assert KernelCache(Cache(tmp_path), target, sources).get((1,), lambda: other) == other


def test_without_sources_nothing_is_kept(tmp_path):
    KernelCache(Cache(tmp_path), host(), "").get((1,), lambda: KERNEL)
    assert Cache(tmp_path).status().nbytes == 0


def test_different_keys_have_different_texts():
    texts = [lasting_text(key) for key in DIFFERENT]
    assert None not in texts
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("op", [Mine(), Opaque(abs)], ids=lambda op: type(op).__name__)
def test_what_users_define_is_not_kept(op: Op, tmp_path):
    assert lasting_text((operation_key(op), (SPEC,))) is None
    KernelCache(Cache(tmp_path), host(), "v1").get(operation_key(op), lambda: KERNEL)
    assert Cache(tmp_path).status().nbytes == 0


@pytest.fixture
def package(tmp_path) -> Path:
    for name in SOURCES:
        file = tmp_path / name if name.endswith(".py") else tmp_path / name / "inside" / "file.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x = 1\n")
        os.utime(file, (1e9, 1e9))
    return tmp_path


def test_the_digest_changes_with_every_source(package: Path):
    first = digest_of_files(package, 2e9)
    assert first == digest_of_files(package, 2e9) != ""
    digests = [first]
    for file in sorted(package.rglob("*.py")):
        file.write_text("x = 2\n")  # of equal size, and of equal time
        os.utime(file, (1e9, 1e9))
        digests.append(digest_of_files(package, 2e9))
    (package / "ops" / "new.py").write_text("")
    os.utime(package / "ops" / "new.py", (1e9, 1e9))
    digests.append(digest_of_files(package, 2e9))
    assert len(set(digests)) == len(SOURCES) + 2


def test_sources_that_changed_since_they_were_loaded_or_are_gone_have_no_digest(package: Path):
    assert digest_of_files(package, 9e8) == ""
    (package / "scan.py").unlink()
    assert digest_of_files(package, 2e9) == ""


def test_a_second_engine_writes_no_ir(tmp_path, monkeypatch):
    specs = {Exp(): (SPEC,), Sum((0,)): (SPEC,), MatMul(): (SPEC, TensorSpec((5, 4)))}
    asked = [(op, inputs, op.infer(*inputs)) for op, inputs in specs.items()]
    monkeypatch.setattr(kernel_cache, "source_digest", lambda: "v1")
    first, second = Engine(host(), Cache(tmp_path)), Engine(host(), Cache(tmp_path))
    made = [first.of(*each) for each in asked]
    first.code.compile_all([kernel.ir for kernel in made])
    monkeypatch.setattr(backend_module, "emit_kernel", must_not_be_called)
    found = [second.of(*each) for each in asked]
    assert all(second.code.compile_all([kernel.ir for kernel in found]))
    assert [digest_of(kernel.ir) for kernel in found] == [digest_of(kernel.ir) for kernel in made]
    monkeypatch.setattr(backend_module, "emit_kernel", emit_kernel)
    assert [str(kernel.ir) for kernel in found] == [kernel.ir for kernel in made]


def test_a_text_that_is_not_written_has_the_code_of_the_written_one():
    text = emit_kernel(Exp(), (SPEC,), (SPEC,), host()).ir
    code = Engine(host()).code
    assert code.compile(text) == code.compile(Unwritten(digest_of(text), must_not_be_called))
