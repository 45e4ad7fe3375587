"""A pool of workers that wait for jobs in native code, and a barrier among them."""

from __future__ import annotations

import ctypes
import os
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from threading import get_ident
from typing import Any

import numpy as np
from llvmlite import ir

from graphnn.backends.cpu.emit import POINTER, Function, Value
from graphnn.backends.cpu.jit import Code
from graphnn.backends.cpu.machine import allowed_cores
from graphnn.backends.cpu.target import host_target
from graphnn.backends.cpu.threads_ir import LINE, Word, pool_ir
from graphnn.backends.fork_lock import ForkLock
from graphnn.errors import BackendError, OptionError, StateError

SPINS = 192  # looks at a word before other threads are let in, 3 to 8 microseconds; they may need the core
LIMIT = 5000  # looks before the thread sleeps: to be woken takes longer than all of them
CROWDED = 64, 1280  # the same where workers outnumber cores: whoever is waited for probably has none
PATIENCE = 10.0  # seconds to wait for a job that still runs when the interpreter ends
MOST = 1024  # threads: more cores than any machine has; a slip of the hand would start them all


class Pool:
    """Workers that run one native job at a time, all of them together.

    The caller is worker 0; the others are daemon threads, started by the first job. Between jobs they look out for the
    next one for a moment, then sleep. Threads that call at once take turns. A forked child starts workers of its own;
    the interpreter's end stops them.

    Args:
        workers: number of workers, at least 1.
        code: compiles the pool's own code, and must have the jobs' target.

    Raises:
        OptionError: if `workers` is less than 1.
    """

    def __init__(self, workers: int, code: Code | None = None):
        if workers < 1:
            raise OptionError("a pool needs a worker", where="workers", expected="at least 1", got=workers)
        self._state = state = _State(workers, code or Code(host_target()))
        self._finalizer = weakref.finalize(self, _State.close, state)  # called at exit too, before the modules go
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_Forked(state))

    @property
    def workers(self) -> int:
        """Number of workers, with the caller."""
        return self._state.workers

    @property
    def address(self) -> int:
        """What `emit_barrier` takes; it stays the same for the pool's life, in forked children too."""
        return self._state.address

    def run(self, job: int, argument: int) -> int:
        """Call `i64 job(ptr argument, i64 worker, i64 workers)` once in every worker, and wait for all.

        Args:
            job: address of the function.
            argument: address that it gets.

        Returns:
            0, or what the first worker returned that did not return 0. Once a worker has, barriers hold nobody up.

        Raises:
            StateError: if a job of the pool calls this, or the interpreter ends.
            BackendError: if the system has no thread left.
        """
        return self.caller(job, argument)()

    def caller(self, job: int, argument: int) -> Callable[[], int]:
        """`run` as a function without arguments: they are converted once, which takes half the time of a call."""
        return partial(self._state.run, self._state.entrance(job, argument))


class Pools:
    """Pools by size, each made when it is first asked for; `size` is the one that is meant where none is said.

    Args:
        code: compiles the pools' own code.
    """

    def __init__(self, code: Code):
        self._code = code
        self._lock = ForkLock()
        self._pools: dict[int, Pool] = {}
        self._size = allowed_cores()

    @property
    def size(self) -> int:
        """Number of workers; at first the cores that this process may use."""
        return self._size

    def set_size(self, workers: int) -> None:
        """Let `get` return a pool of so many workers from now on; pools that are in use stay as they are.

        Raises:
            OptionError: if `workers` is not a whole number from 1 to MOST.
        """
        if not isinstance(workers, int) or isinstance(workers, bool) or not 1 <= workers <= MOST:
            expected = f"a whole number from 1 to {MOST}"
            raise OptionError("not a number of threads", where="threads", expected=expected, got=repr(workers))
        self._size = workers

    def get(self) -> Pool:
        """The pool of the size that is set."""
        with self._lock.own:
            if self._size not in self._pools:
                self._pools[self._size] = Pool(self._size, self._code)
            return self._pools[self._size]


def emit_barrier(f: Function, pool: Value) -> None:
    """Write a call that returns when every worker of the running job has made it as often as this one.

    Args:
        f: the function that is being written.
        pool: a pointer, `Pool.address`.
    """
    kind = ir.FunctionType(ir.VoidType(), [POINTER])
    address = f.load(pool, Word.BARRIER // 8, "int64")
    f.builder.call(f.builder.inttoptr(address, kind.as_pointer()), [pool])


class _State:
    """What a pool consists of; the threads refer to its parts but not to the pool, so that an unused pool can go."""

    def __init__(self, workers: int, code: Code):
        self.workers = workers
        self.others = workers - 1
        self._code = code
        entry = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
        self._enter = entry(code.compile(pool_ir(code.target.triple)))
        self._calls = system_calls()
        self.memory = _aligned_words(Word.STATUS // 8 + workers * LINE // 8)
        self.address: int = self.memory.ctypes.data
        self.reset()

    def reset(self) -> None:
        """No worker, no job; in a forked child the threads of the parent are gone, whatever they were doing."""
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._started = 0
        self._inside: set[int] = set()  # the workers
        self._caller = 0  # the thread whose job is running
        self._closed = False
        self.memory[:] = 0
        self._set(Word.WORKERS, self.workers)
        spins, limit = CROWDED if self.workers > allowed_cores() else (SPINS, LIMIT)
        self._set(Word.SPINS, spins)
        self._set(Word.LIMIT, limit)
        self._calls.prepare(self.address)
        for word, address in self._calls.addresses.items():
            self._set(word, address)

    def entrance(self, job: int, argument: int) -> Callable[[], int]:
        """The native call that runs a job, as worker 0."""
        words = ctypes.c_void_p(self.address), ctypes.c_int64(0), ctypes.c_void_p(job), ctypes.c_void_p(argument)
        return partial(self._enter, *words)

    def run(self, enter: Callable[[], int]) -> int:
        """See `Pool.run`."""
        caller = get_ident()
        if caller == self._caller or caller in self._inside:
            raise StateError("a job cannot start a job of its own pool", where="threads")
        with self._lock:
            if self._started < self.others or self._closed:
                self._prepare()
            try:
                self._caller = caller
                return enter()
            finally:
                self._caller = 0

    def _prepare(self) -> None:
        if self._closed:
            raise StateError("the interpreter ends: no more jobs", where="threads")
        while self._started < self.others:
            self._start()

    def _start(self) -> None:
        """One more thread. If an interrupt makes us lose count of one, the pool sends away the one too many."""
        arguments = (self._enter, self.memory, self._code)
        thread = threading.Thread(target=_serve, args=arguments, name=f"graphnn-{self._started + 1}", daemon=True)
        self._threads.append(thread)
        try:
            thread.start()
        except RuntimeError as error:
            self._threads.pop()
            fix = f"use fewer than {self.workers} threads"
            raise BackendError(f"no thread for a worker: {error}", where="threads", fix=fix) from error
        self._inside.add(thread.ident or 0)
        self._started += 1

    def close(self) -> None:
        """Stop the workers, once they have finished."""
        if not self._lock.acquire(timeout=PATIENCE):
            return  # a job without end: its workers die with the process
        try:
            self._closed = True
            if self._threads:
                self._set(Word.STOP, 1)
                self._enter(self.address, 0, None, None)
            for thread in self._threads:
                if thread.is_alive() and thread is not threading.current_thread():
                    thread.join(PATIENCE)
        finally:
            self._lock.release()

    def _set(self, word: Word, value: int) -> None:
        self.memory[word // 8] = value


class _Forked:
    """Called in a forked child; holds no pool alive."""

    def __init__(self, state: _State):
        self._state = weakref.ref(state)

    def __call__(self) -> None:
        state = self._state()
        if state is not None:
            state.reset()


def _serve(enter: Callable[..., int], memory: np.ndarray, code: Code) -> None:
    """Stay in native code until the pool closes; memory and code live as long."""
    enter(memory.ctypes.data, 1, None, None)
    del memory, code


def _aligned_words(count: int) -> np.ndarray:
    raw = np.zeros(count + LINE // 8, "int64")
    start = -raw.ctypes.data % LINE // 8
    return raw[start : start + count]


class SystemCalls:
    """How threads sleep and wake: addresses of functions of the C library or of Windows, by their place in the pool.

    Args:
        addresses: by place.
        initializers: called with the addresses of the lock and of the condition.
        kept: what must stay alive.
    """

    def __init__(self, addresses: dict[Word, int], initializers: tuple[Any, ...] = (), kept: tuple[Any, ...] = ()):
        self.addresses = addresses
        self._initializers = initializers
        self._kept = kept

    def prepare(self, pool: int) -> None:
        """Initialise the lock and the condition in the pool's memory, which is all zeros."""
        for initialize, word in zip(self._initializers, (Word.MUTEX, Word.CONDITION), strict=False):
            initialize(ctypes.c_void_p(pool + word), None)


def system_calls() -> SystemCalls:
    """Those of this platform."""
    try:
        return _windows_calls() if os.name == "nt" else _posix_calls()
    except (AttributeError, OSError, TypeError):  # no such library, or not these functions in it
        return polling_calls()


def _posix_calls() -> SystemCalls:
    library = ctypes.CDLL(None)
    names = {
        Word.LOCK: "pthread_mutex_lock", Word.UNLOCK: "pthread_mutex_unlock", Word.SLEEP: "pthread_cond_wait",
        Word.WAKE: "pthread_cond_broadcast", Word.YIELD: "sched_yield",
    }  # fmt: skip
    initializers = (library.pthread_mutex_init, library.pthread_cond_init)
    return SystemCalls(_addresses(library, names), initializers, (library,))


def _windows_calls() -> SystemCalls:
    library = ctypes.CDLL("kernel32")  # on 64-bit Windows there is one calling convention
    names = {
        Word.LOCK: "AcquireSRWLockExclusive", Word.UNLOCK: "ReleaseSRWLockExclusive",
        Word.SLEEP: "SleepConditionVariableSRW", Word.WAKE: "WakeAllConditionVariable", Word.YIELD: "SwitchToThread",
    }  # fmt: skip
    return SystemCalls(_addresses(library, names), (), (library,))  # all zeros is their initial state


def _addresses(library: ctypes.CDLL, names: dict[Word, str]) -> dict[Word, int]:
    found = {word: ctypes.cast(getattr(library, name), ctypes.c_void_p).value for word, name in names.items()}
    return {word: address for word, address in found.items() if address}


def polling_calls() -> SystemCalls:
    """Where the system has no such functions: sleep a little and look again."""
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32)
    rest, nothing = kind(lambda *_: time.sleep(0.0002)), kind(lambda *_: None)
    functions = {word: nothing for word in (Word.LOCK, Word.UNLOCK, Word.WAKE)} | {Word.SLEEP: rest, Word.YIELD: rest}
    addresses = {word: ctypes.cast(function, ctypes.c_void_p).value or 0 for word, function in functions.items()}
    return SystemCalls(addresses, kept=(rest, nothing))
