"""IR becomes machine code once, that code is right, and a fault in it is told."""

import ctypes
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cpu_kernels
from graphnn.backends.cpu import jit
from graphnn.backends.cpu.cache import Cache
from graphnn.backends.cpu.emit import TYPES, Function, const
from graphnn.backends.cpu.jit import Code, host_target
from graphnn.backends.cpu.target import Target
from graphnn.errors import BackendError

ROOT = Path(__file__).parents[3]
HOST = host_target()
BOTH = pytest.mark.parametrize("target", [HOST, cpu_kernels.avx2()], ids=["host", "avx2"])
only_x86 = pytest.mark.skipif(not HOST.triple.startswith("x86_64"), reason="reads x86 machine code")


def adding(number: int, target: Target = HOST) -> str:
    """Kernel: returns sizes[0] + number."""
    f = Function(target)
    return f.finish(f.builder.add(f.size(0), const(number)))


def call(address: int, size: int = 0, pointer: int | None = None) -> int:
    sizes = (ctypes.c_int64 * 1)(size)
    pointers = (ctypes.c_void_p * 1)(pointer)
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)(address)(pointers, sizes)


def run(code: Code, text: str, size: int = 0, pointer: int | None = None) -> int:
    return call(code.compile(text), size, pointer)  # the code lives as long as `code`, which the caller's frame holds


class Counted(Cache):
    """Counts what is looked for and what is made."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.loaded, self.stored = [], []

    def load(self, key: str) -> bytes | None:
        found = super().load(key)
        self.loaded.append(found is not None)
        return found

    def store(self, key: str, data: bytes) -> None:
        self.stored.append(key)
        super().store(key, data)


def test_every_text_gets_the_address_of_its_own_code():
    numbers = [*range(100), 7, 7, 0]
    code = Code(HOST)
    addresses = code.compile_all([adding(number) for number in numbers])
    assert [call(address, 1000) for address in addresses] == [1000 + number for number in numbers]
    assert len(set(addresses)) == 100
    assert code.compile(adding(7)) == addresses[7]
    assert code.compile_all([]) == []


@BOTH
def test_vectors_of_the_target_are_used_and_give_the_right_sums(target):
    lanes = target.lanes("float32")
    f = Function(target)
    with f.loop(f.size(0), step=lanes) as loop:
        values = f.load_vector(f.pointer(0), loop.index, "float32", lanes)
        total = f.builder.fadd(f.builder.fmul(values, values, flags=("contract",)), values, flags=("contract",))
        f.store_vector(total, f.pointer(0), loop.index, "float32")
    text, array = f.finish(), np.arange(16 * lanes, dtype="float32")
    expected = array * array + array
    assert run(Code(target), text, array.size, array.ctypes.data) == 0
    np.testing.assert_array_equal(array, expected)


@only_x86
def test_a_product_and_a_sum_are_contracted_where_that_is_allowed_and_only_there():
    found = {}
    for flags in ((), ("contract",)):
        f = Function(cpu_kernels.avx2())
        x = f.load_vector(f.pointer(0), 0, "float32", 8)
        f.store_vector(f.builder.fadd(f.builder.fmul(x, x, flags=flags), x, flags=flags), f.pointer(0), 0, "float32")
        found[flags] = Code(f.target).assembly(f.finish())
    assert "vfmadd" in found[("contract",)]
    assert "vmulps" not in found[("contract",)]
    assert "vmulps" in found[()]
    assert "vfmadd" not in found[()]


@only_x86
def test_assembly_shows_the_registers_of_the_target():
    for target in (HOST, cpu_kernels.avx2()):
        f = Function(target)
        f.store_vector(f.load_vector(f.pointer(0), 0, "float32", 16), f.pointer(1), 0, "float32")
        assert ("%zmm" in Code(target).assembly(f.finish())) == (target.vector_bytes == 64)


def test_the_ir_is_shown_as_the_code_generator_gets_it():
    assert "define i64 @kernel(" in Code(HOST).optimised_ir(adding(4711))
    assert "4711" in Code(HOST).optimised_ir(adding(4711))


HELPED = """
@table = global [2 x i64] [i64 {0}, i64 {0}]
define i64 @helper() {{
  %value = load i64, ptr @table
  ret i64 %value
}}
define i64 @kernel(ptr %pointers, ptr %sizes) {{
  %value = call i64 @helper()
  ret i64 %value
}}
"""


def test_helpers_of_equal_names_do_not_meet():
    code = Code(HOST)
    addresses = code.compile_all([HELPED.format(n) for n in range(5)])
    assert [call(address) for address in addresses] == list(range(5))


def test_memory_can_be_filled_and_moved_by_the_c_library():
    text = """
    declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
    define i64 @kernel(ptr %pointers, ptr %sizes) {
      %array = load ptr, ptr %pointers
      %size = load i64, ptr %sizes
      call void @llvm.memset.p0.i64(ptr %array, i8 7, i64 %size, i1 false)
      ret i64 0
    }"""
    array = np.zeros(1000, "uint8")
    run(Code(HOST), text, 999, array.ctypes.data)
    assert (array[:999] == 7).all()
    assert array[999] == 0


UNKNOWN = "declare i64 @graphnn_has_no_such()\n" + HELPED.format(0).replace(
    "@helper()\n  ret", "@graphnn_has_no_such()\n  ret"
)
FAULTS = [
    ("no IR", "expected top-level entity"),
    (adding(0).replace("ret i64", "ret i32"), "expected .i32"),
    ("define i64 @kernel() {\n  br label %a\na:\n  %x = phi i64 [0, %a]\n  ret i64 %x\n}", "PHI|phi"),
    (adding(0).replace("kernel", "another"), "kernel"),
    (UNKNOWN, "materialize"),
]


@pytest.mark.parametrize(("text", "message"), FAULTS)
def test_faulty_ir_is_told_and_harms_nothing_else(text, message, tmp_path):
    for cache in (None, Cache(tmp_path)):
        code = Code(HOST, cache)
        before = code.compile(adding(1))
        for _ in range(2):
            with pytest.raises(BackendError, match=rf'(?s){message}.*device="reference"'):
                code.compile_all([adding(2), text, adding(3)])
        assert code.compile(adding(1)) == before
        assert [call(address) for address in code.compile_all([adding(2), adding(3)])] == [2, 3]


def test_a_target_without_code_generator_is_told():
    with pytest.raises(BackendError, match='device="reference"'):
        Code(replace(HOST, triple="nonsense-unknown-none"))


# -- sharing ----------------------------------------------------------------------------------------------------------


def test_threads_share_what_one_of_them_has_compiled(tmp_path):
    cache = Counted(tmp_path)
    code, texts, found = Code(HOST, cache), [adding(n) for n in range(10)], []

    def compile_from(start: int) -> None:
        order = texts[start:] + texts[:start]
        addresses = dict(zip(order, [*code.compile_all(order[:5]), *map(code.compile, order[5:])], strict=True))
        found.append([addresses[text] for text in texts])

    threads = [threading.Thread(target=compile_from, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(addresses == found[0] for addresses in found)
    assert len(cache.stored) == 10
    assert [call(address) for address in found[0]] == list(range(10))


def test_the_next_process_finds_it_on_disk(tmp_path):
    texts = [adding(n) for n in range(20)]
    Code(HOST, Cache(tmp_path)).compile_all(texts)
    cache = Counted(tmp_path)
    code = Code(HOST, cache)
    addresses = code.compile_all(texts)
    assert cache.loaded == [True] * 20
    assert cache.stored == []
    assert [call(address) for address in addresses] == list(range(20))


def test_all_that_code_depends_on_is_in_its_name(tmp_path, monkeypatch):
    Code(HOST, Cache(tmp_path)).compile(adding(1))

    def is_new(target: Target = HOST, number: int = 1) -> bool:
        cache = Counted(tmp_path)
        assert run(Code(target, cache), adding(number)) == number
        return len(cache.stored) == 1

    assert not is_new()
    assert is_new(number=2)
    assert is_new(replace(HOST, name="generic"))
    assert is_new(replace(HOST, features=""))
    assert not is_new(replace(HOST, l1_bytes=1))  # already in the IR, where it matters
    monkeypatch.setattr(jit, "CODEGEN", jit.CODEGEN + 1)
    assert is_new()
    monkeypatch.setattr(jit.llvmlite, "__version__", "999")
    assert is_new()


def test_a_damaged_entry_is_compiled_again_and_replaced(tmp_path):
    Code(HOST, Cache(tmp_path)).compile(adding(1))
    (path,) = (tmp_path / "kernels").iterdir()
    whole = path.read_bytes()
    for content in (b"", whole[:100], whole[:-1] + bytes([whole[-1] ^ 255]), bytes(len(whole))):
        path.write_bytes(content)
        assert run(Code(HOST, Cache(tmp_path)), adding(1), 5) == 6
        assert path.read_bytes() == whole


def test_the_same_code_is_made_in_every_process(tmp_path):
    program = "import sys; from graphnn.backends.cpu.jit import *; from graphnn.backends.cpu.cache import Cache; from pathlib import Path; Code(host_target(), Cache(Path(sys.argv[1]))).compile(sys.stdin.read())"  # noqa: E501
    made = []
    for name in ("a", "b"):
        command = [sys.executable, "-c", program, str(tmp_path / name)]
        subprocess.run(command, input=adding(1), text=True, check=True, cwd=ROOT)
        made.append({path.name: path.read_bytes() for path in (tmp_path / name / "kernels").iterdir()})
    assert made[0] == made[1]


# -- progress ---------------------------------------------------------------------------------------------------------


def test_a_long_batch_says_how_far_it_is(monkeypatch):
    told = []
    code = Code(HOST, on_progress=lambda *numbers: told.append(numbers))
    code.compile_all([adding(n) for n in range(3)])
    assert told == []  # it took no second
    monkeypatch.setattr(jit, "PATIENCE", -1.0)
    code.compile_all([adding(n) for n in range(2, 6)])
    assert told == [(1, 3), (2, 3), (3, 3)]  # the first of the four is known already


def test_float_types_are_those_of_llvm():
    # The table of emit.py against the code generator: one load and store of each type must compile.
    for dtype in TYPES:
        f = Function(HOST)
        f.store(f.load(f.pointer(0), 1, dtype), f.pointer(0), 0, dtype)
        array = np.array([0, 1], dtype)
        run(Code(HOST), f.finish(), 0, array.ctypes.data)
        assert re.match("[TF1]", str(array[0]))
