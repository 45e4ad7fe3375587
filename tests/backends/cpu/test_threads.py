"""Workers run every job exactly once each, whatever else happens to the process."""

import ctypes
import faulthandler
import gc
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnn.backends.cpu import threads
from graphnn.backends.cpu.emit import I64, POINTER, Function, const
from graphnn.backends.cpu.jit import Code, host_target
from graphnn.backends.cpu.machine import allowed_cores
from graphnn.backends.cpu.threads import Pool, Pools, emit_barrier, polling_calls, system_calls
from graphnn.backends.cpu.threads_ir import pool_ir
from graphnn.errors import BackendError, OptionError, StateError

ROOT = Path(__file__).parents[3]
SIZES = (1, 2, 5)  # 5: more than many machines have cores
CODE = Code(host_target())
JOB = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
posix = pytest.mark.skipif(os.name == "nt", reason="no such signals and no fork there")


@pytest.fixture(params=["system", "polling"])
def calls(request, monkeypatch) -> Callable[[], threads.SystemCalls]:
    """How the workers sleep: by the system's functions, or without any."""
    found = {"system": system_calls, "polling": polling_calls}[request.param]
    monkeypatch.setattr(threads, "system_calls", found)
    return found


@pytest.fixture(autouse=True)
def _no_hang():
    """A lost wake-up would hang the run: say where, and end it."""
    faulthandler.dump_traceback_later(120, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def python_job(function) -> tuple[int, object]:
    """The address of a job in Python, and what keeps it alive."""
    kept = JOB(function)
    return ctypes.cast(kept, ctypes.c_void_p).value, kept


def phases_ir() -> str:
    """Job over i64 (pool, phases, fault, numbers...): in each phase a worker writes its number and sees those of all.

    Returns how many numbers were wrong.
    """
    f = Function(CODE.target, arguments=(POINTER, I64, I64))
    b, (data, worker, workers) = f.builder, f.function.args
    pool = b.inttoptr(f.load(data, 0, "int64"), POINTER)
    with f.loop(f.load(data, 1, "int64"), [const(0)]) as phase:
        value = b.add(phase.index, const(1))
        f.store(value, data, b.add(worker, const(2)), "int64")
        emit_barrier(f, pool)
        with f.loop(workers, phase.carried) as other:
            wrong = b.icmp_signed("!=", f.load(data, b.add(other.index, const(2)), "int64"), value)
            other.results = [b.add(other.carried[0], b.zext(wrong, I64))]
        phase.results = other.carried
        emit_barrier(f, pool)
    return f.finish(phase.carried[0])


PHASES = CODE.compile(phases_ir())


def phases(pool: Pool, count: int) -> np.ndarray:
    return np.array([pool.address, count, *[0] * pool.workers], "int64")


# -- jobs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", SIZES)
def test_every_worker_runs_every_job_once(workers, calls):
    pool, seen = Pool(workers, CODE), []
    job, _kept = python_job(lambda argument, worker, count: seen.append((argument, worker, count)) or 0)
    for number in range(1, 60):
        assert pool.run(job, number) == 0
        assert sorted(seen) == [(number, worker, workers) for worker in range(workers)]
        seen.clear()
    assert pool.workers == workers


@pytest.mark.parametrize("workers", SIZES)
def test_no_call_is_lost_on_workers_that_fall_asleep(workers, calls):
    pool, counts = Pool(workers, CODE), np.zeros(workers, "int64")

    def count(argument, worker, workers):
        counts[worker] += 1
        return 0

    job, _kept = python_job(count)
    for number in range(60):
        time.sleep(number % 6 / 3000)  # from awake over dozing to asleep
        pool.run(job, 0)
    assert counts.tolist() == [60] * workers


@given(statuses=st.lists(st.integers(-2, 2), min_size=5, max_size=5))
def test_the_first_failure_by_number_is_told(statuses):
    job, _kept = python_job(lambda argument, worker, workers: statuses[worker])
    assert FIVE.run(job, 0) == next((status for status in statuses if status), 0)


FIVE = Pool(5, CODE)


@pytest.mark.parametrize("workers", [0, -1])
def test_a_pool_needs_a_worker(workers):
    with pytest.raises(OptionError, match="at least 1"):
        Pool(workers, CODE)


def test_a_job_cannot_start_another(monkeypatch):
    pool, errors = Pool(3, CODE), []

    def nested(argument, worker, workers):
        try:
            pool.run(job, 0)
        except StateError as error:
            errors.append(error)
        return 0

    job, _kept = python_job(nested)
    assert pool.run(job, 0) == 0
    assert len(errors) == 3


def test_a_system_without_threads_is_told_and_may_recover(monkeypatch):
    def fail(thread):
        raise RuntimeError("can't start new thread")

    pool, data = Pool(3, CODE), np.zeros(0)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(BackendError, match="fewer than 3 threads"):
            pool.run(PHASES, 0)
    data = phases(pool, 10)
    assert pool.run(PHASES, data.ctypes.data) == 0


# -- the barrier ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", SIZES)
def test_behind_a_barrier_all_see_what_all_wrote_before(workers, calls):
    pool = Pool(workers, CODE)
    count = 20 if calls is polling_calls else 1000
    for _ in range(5):
        data = phases(pool, count)
        assert pool.run(PHASES, data.ctypes.data) == 0
        assert data[2:].tolist() == [count] * workers


@pytest.mark.parametrize("failing", range(5))
def test_a_worker_that_fails_keeps_nobody_at_the_barrier(failing):
    inner = JOB(PHASES)
    data = phases(FIVE, 50)
    job, _kept = python_job(lambda _, worker, workers: 9 if worker == failing else inner(data.ctypes.data, worker, 5))
    for _ in range(10):
        assert FIVE.run(job, 0) != 0
    data[2:] = 0
    assert FIVE.run(PHASES, data.ctypes.data) == 0  # whole again


# -- several threads, and the end of a pool ---------------------------------------------------------------------------


def test_threads_take_turns(calls):
    pool, running, most, results = Pool(3, CODE), [0], [0], []

    def enter(argument, worker, workers):
        if worker == 0:
            running[0] += 1
            most[0] = max(most[0], running[0])
            time.sleep(0.0005)
            running[0] -= 1
        return argument or 0

    job, _kept = python_job(enter)

    def call(number: int) -> None:
        results.extend((number, pool.run(job, number)) for _ in range(10))

    callers = [threading.Thread(target=call, args=(number,)) for number in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert most == [1]
    assert sorted(results) == sorted((number, number) for number in range(6) for _ in range(10))


def ours() -> set[int | None]:
    return {thread.ident for thread in threading.enumerate() if thread.name.startswith("graphnn-")}


def test_threads_go_with_the_pool(calls):
    before = ours()
    pool = Pool(4, CODE)
    assert ours() == before  # not before there is work
    data = phases(pool, 3)
    pool.run(PHASES, data.ctypes.data)
    assert len(ours() - before) == 3
    del pool
    gc.collect()
    assert ours() <= before


def test_a_pool_of_each_size_is_made_once():
    pools = Pools(CODE)
    assert pools.size == allowed_cores()
    first = pools.get()
    assert first.workers == pools.size
    pools.set_size(7)
    assert pools.get().workers == pools.size == 7
    pools.set_size(first.workers)
    assert pools.get() is first


@pytest.mark.parametrize("workers", [0, -3, 1.5, True, "2", None])
def test_a_size_is_a_whole_number(workers):
    pools = Pools(CODE)
    with pytest.raises(OptionError, match="number of threads"):
        pools.set_size(workers)
    assert pools.size == allowed_cores()


# -- what can happen to a process -------------------------------------------------------------------------------------

PRELUDE = """
import ctypes, os, signal, sys, threading, time
import llvmlite.binding as llvm
import numpy as np
from graphnn.backends.cpu.jit import Code, host_target
from graphnn.backends.cpu.threads import Pool
JOB = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
code = Code(host_target())
pool = Pool(3, code)
def address(function):
    return ctypes.cast(function, ctypes.c_void_p).value
counts = [0, 0, 0]
@JOB
def count(argument, worker, workers):
    counts[worker] += 1
    return 0
@JOB
def linger(argument, worker, workers):
    time.sleep(0.3)
    return count(argument, worker, workers)
def run(job=count, argument=0):
    if pool.run(address(job), argument) != 0: sys.exit("refused")  # no assert: it must run under -O too
"""


def run_script(text: str, *options: str) -> str:
    """What the program prints; it must end well, soon and without a word on stderr."""
    command = [sys.executable, *options, "-c", PRELUDE + text]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


FORKING = """
run()
{before}
sys.stdout.flush()
child = os.fork()
if child == 0:
    threads_before = threading.active_count()
    counts[:] = [0, 0, 0]
    run(); run()
    print("child", counts, threads_before, threading.active_count())
    sys.stdout.flush()
    {leave}
run()
print("status", os.waitpid(child, 0)[1])
{after}
print("parent", counts)
"""


@posix
@pytest.mark.parametrize("leave", ["sys.exit()", "os._exit(0)"])
def test_a_forked_child_has_workers_of_its_own(leave):
    printed = run_script(FORKING.format(before="", leave=leave, after=""), "-W", "ignore::DeprecationWarning")
    assert printed.splitlines() == ["child [2, 2, 2] 1 3", "status 0", "parent [2, 2, 2]"]


@posix
def test_a_fork_amid_another_threads_job_gives_a_whole_pool():
    before = "other = threading.Thread(target=run, args=(linger,)); other.start(); time.sleep(0.1)"
    text = FORKING.format(before=before, leave="os._exit(0)", after="other.join()")
    printed = run_script(text, "-W", "ignore::DeprecationWarning")
    assert printed.splitlines() == ["child [2, 2, 2] 1 3", "status 0", "parent [3, 3, 3]"]


ENDS = {
    "asleep": "run(); time.sleep(0.1)",
    "just finished": "run()",
    "never used": "",
    "called from elsewhere": "other = threading.Thread(target=run); other.start(); other.join()",
    "amid a daemon's job": "threading.Thread(target=run, args=(linger,), daemon=True).start(); time.sleep(0.1)",
    "called to the end": """
def forever():
    try:
        while True: run()
    except BaseException: pass  # no more jobs
threading.Thread(target=forever, daemon=True).start(); time.sleep(0.1)""",
    "an error": "run()\ntry: 1 / 0\nfinally: print('end'); sys.exit(0)",
    "a pool in a cycle": "run(); cycle = [pool]; cycle.append(cycle); del pool, cycle",
    "kept by a module that goes late": "run(); sys.pool = pool; sys.code = code",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_the_interpreter_ends_at_once_and_quietly(end):
    start = time.monotonic()
    run_script("print('start')\n" + end)
    assert time.monotonic() - start < 8


@posix
def test_an_interrupt_waits_for_the_job_and_then_comes():
    text = """
from graphnn.backends.cpu.emit import *
from graphnn.backends.cpu.threads import emit_barrier
f = Function(code.target, arguments=(POINTER, I64, I64))
with f.loop(f.load(f.function.args[0], 1, "int64")):
    emit_barrier(f, f.builder.inttoptr(f.load(f.function.args[0], 0, "int64"), POINTER))
number, b = f.function.args[1], f.builder
f.store(const(1), f.function.args[0], b.add(number, const(2)), "int64")
native = code.compile(f.finish())
data = np.array([pool.address, 1000, 0, 0, 0])
start = time.perf_counter(); pool.run(native, data.ctypes.data); one = (time.perf_counter() - start) / 1000
data[1:] = [int(1.0 / one) + 1, 0, 0, 0]
threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    pool.run(native, data.ctypes.data)
    while True: time.sleep(0.01)
except KeyboardInterrupt:
    print("interrupted", data[2:].tolist())
run()
print(counts)
"""
    assert run_script(text).splitlines() == ["interrupted [1, 1, 1]", "[1, 1, 1]"]


INTERRUPTED = """
armed, got, pools = [False], 0, []
def interrupt(*_):
    if armed[0]:
        armed[0] = False  # one for each round, so that none comes while the last one is being handled
        raise KeyboardInterrupt
signal.signal(signal.SIGINT, interrupt)
def send():
    for _ in range(80):
        time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGINT)
sender = threading.Thread(target=send)
sender.start()
native = code.compile("define i64 @kernel(ptr %a, i64 %b, i64 %c) { ret i64 0 }")
while sender.is_alive():
    try:
        pool = Pool(3, code)
        pools.append(pool)
        armed[0] = True
        while sender.is_alive():
            pool.run(native, 0)
    except KeyboardInterrupt:
        got += 1
armed[0] = False
for pool in pools:
    run()
print(got > 10, counts == [len(pools)] * 3)
"""


@posix
def test_interrupts_at_any_moment_leave_pools_that_work():
    assert run_script(INTERRUPTED).splitlines() == ["True True"]


def test_a_crowd_of_processes_gets_through():
    text = """
for _ in range(300): run()
print(counts)
"""
    command = [sys.executable, "-c", PRELUDE + text]
    crowd = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate(timeout=60)[0] for process in crowd] == ["[300, 300, 300]\n"] * 4


PLATFORMS = {
    "x86_64-unknown-linux-gnu": "pause",
    "x86_64-pc-windows-msvc": "pause",
    "x86_64-apple-darwin23": "pause",
    "arm64-apple-darwin23": r"yield|hint\s+#0?x?1",
    "aarch64-unknown-linux-gnu": r"yield|hint\s+#0?x?1",
}


@pytest.mark.parametrize(("triple", "pause"), PLATFORMS.items())
def test_the_native_half_can_be_compiled_for_every_platform(triple, pause):
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = llvm.parse_assembly(pool_ir(triple), context=llvm.create_context())
    module.verify()
    machine = llvm.Target.from_triple(triple).create_target_machine()
    assert re.search(rf"^\s+({pause})\s*$", machine.emit_assembly(module), re.MULTILINE)
