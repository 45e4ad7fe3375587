"""The native half of the worker pool, as LLVM IR."""

from __future__ import annotations

import re
from enum import IntEnum

LINE = 128  # bytes between words that different cores write: CPUs fetch cache lines in pairs


class Word(IntEnum):
    """Where things lie in the pool's memory, in bytes. Words that change during a job have lines of their own."""

    GENERATION = 0 * LINE  # number of jobs so far: a change calls the workers
    FINISHED = 1 * LINE  # number of jobs that all workers have finished
    REMAINING = 2 * LINE  # workers that have not finished the job; worker 0 is not counted
    ARRIVED = 3 * LINE  # workers that wait at the barrier
    TURN = 4 * LINE  # number of barriers that all have passed
    SLEEPERS = 5 * LINE  # threads that sleep, or are about to
    BROKEN = 6 * LINE  # not 0: a worker has failed and will come to no barrier
    ENTERED = 6 * LINE + 8  # threads that have come to serve
    WORKERS = 7 * LINE
    JOB = 7 * LINE + 8
    ARGUMENT = 7 * LINE + 16
    STOP = 7 * LINE + 24
    SPINS = 7 * LINE + 32
    LIMIT = 7 * LINE + 40
    BARRIER = 7 * LINE + 48  # addresses of functions from here on
    LOCK = 7 * LINE + 56
    UNLOCK = 7 * LINE + 64
    SLEEP = 7 * LINE + 72
    WAKE = 7 * LINE + 80
    YIELD = 7 * LINE + 88
    MUTEX = 8 * LINE
    CONDITION = 9 * LINE
    STATUS = 10 * LINE  # what each worker returned, a line each


def pool_ir(triple: str) -> str:
    """`i64 kernel(ptr pool, i64 serves, ptr job, ptr argument)`.

    A thread that serves takes the next free number and runs jobs until STOP is set, or returns at once if the pool is
    complete. The thread that does not is worker 0: it runs the job with the others, and returns the first status that
    is not 0; without a job it only calls the others.
    """
    declaration, pause = PAUSES.get(triple.partition("-")[0], ("", ""))
    places = {word.name: str(word.value) for word in Word} | {"LINE": str(LINE)}
    functions = re.sub(r"\b[A-Z]{3,}\b", lambda name: places[name[0]], KERNEL + SERVE + WORK + BARRIER + WAIT)
    return f'target triple = "{triple}"\n{declaration}\n{functions.replace("; pause", pause)}'


# What a core does in a tight loop to leave its other hardware thread, and the memory, in peace.
PAUSES = {
    "x86_64": ("declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()"),
    "aarch64": ("declare void @llvm.aarch64.hint(i32)", "call void @llvm.aarch64.hint(i32 1)"),
    "arm64": ("declare void @llvm.aarch64.hint(i32)", "call void @llvm.aarch64.hint(i32 1)"),
}

# In the texts below a name in capitals is that Word's place. Whoever changes a word that others wait for then looks
# whether anybody sleeps; whoever goes to sleep counts himself and then looks at the word once more. All four are
# sequentially consistent, so at least one of the two sees the other: nobody sleeps on.

KERNEL = """
define i64 @kernel(ptr %pool, i64 %serves, ptr %job, ptr %argument) {
entry:
  %workers_at = getelementptr i8, ptr %pool, i64 WORKERS
  %workers = load i64, ptr %workers_at, align 8
  %calls = icmp eq i64 %serves, 0
  br i1 %calls, label %call, label %come
come:
  %entered = getelementptr i8, ptr %pool, i64 ENTERED
  %earlier = atomicrmw add ptr %entered, i64 1 acq_rel
  %worker = add i64 %earlier, 1
  %needed = icmp ult i64 %worker, %workers
  br i1 %needed, label %other, label %end
other:
  call void @serve(ptr %pool, i64 %worker)
  ret i64 0
call:
  %job_at = getelementptr i8, ptr %pool, i64 JOB
  store ptr %job, ptr %job_at, align 8
  %argument_at = getelementptr i8, ptr %pool, i64 ARGUMENT
  store ptr %argument, ptr %argument_at, align 8
  %barrier_at = getelementptr i8, ptr %pool, i64 BARRIER
  store ptr @barrier, ptr %barrier_at, align 8
  %broken = getelementptr i8, ptr %pool, i64 BROKEN
  store i64 0, ptr %broken, align 8
  %arrived = getelementptr i8, ptr %pool, i64 ARRIVED
  store i64 0, ptr %arrived, align 8
  %others = sub i64 %workers, 1
  %remaining = getelementptr i8, ptr %pool, i64 REMAINING
  store i64 %others, ptr %remaining, align 8
  %finished = getelementptr i8, ptr %pool, i64 FINISHED
  %before = load atomic i64, ptr %finished seq_cst, align 8
  %alone = icmp eq i64 %others, 0
  br i1 %alone, label %own, label %wake
wake:
  call void @change(ptr %pool, i64 GENERATION)
  %ends = icmp eq ptr %job, null
  br i1 %ends, label %end, label %own
own:
  call void @work(ptr %pool, i64 0)
  br i1 %alone, label %check, label %join
join:
  call void @wait(ptr %pool, i64 FINISHED, i64 %before)
  br label %check
check:
  %number = phi i64 [0, %own], [0, %join], [%next, %following]
  %status_at = call ptr @status_of(ptr %pool, i64 %number)
  %status = load i64, ptr %status_at, align 8
  %failed = icmp ne i64 %status, 0
  %next = add i64 %number, 1
  %last = icmp eq i64 %next, %workers
  %known = or i1 %failed, %last
  br i1 %known, label %result, label %following
following:
  br label %check
result:
  ret i64 %status
end:
  ret i64 0
}
"""

SERVE = """
define internal void @serve(ptr %pool, i64 %worker) {
entry:
  %generation = getelementptr i8, ptr %pool, i64 GENERATION
  %stop_at = getelementptr i8, ptr %pool, i64 STOP
  %remaining = getelementptr i8, ptr %pool, i64 REMAINING
  br label %ready
ready:
  %seen = phi i64 [0, %entry], [%now, %job], [%now, %last]
  call void @wait(ptr %pool, i64 GENERATION, i64 %seen)
  %now = load atomic i64, ptr %generation acquire, align 8
  %stop = load i64, ptr %stop_at, align 8
  %stopped = icmp ne i64 %stop, 0
  br i1 %stopped, label %end, label %job
job:
  call void @work(ptr %pool, i64 %worker)
  %left = atomicrmw sub ptr %remaining, i64 1 acq_rel
  %is_last = icmp eq i64 %left, 1
  br i1 %is_last, label %last, label %ready
last:
  call void @change(ptr %pool, i64 FINISHED)
  br label %ready
end:
  ret void
}
"""

WORK = """
define internal ptr @status_of(ptr %pool, i64 %worker) {
  %offset = mul i64 %worker, LINE
  %first = getelementptr i8, ptr %pool, i64 STATUS
  %own = getelementptr i8, ptr %first, i64 %offset
  ret ptr %own
}

define internal void @work(ptr %pool, i64 %worker) {
entry:
  %workers_at = getelementptr i8, ptr %pool, i64 WORKERS
  %workers = load i64, ptr %workers_at, align 8
  %job_at = getelementptr i8, ptr %pool, i64 JOB
  %job = load ptr, ptr %job_at, align 8
  %argument_at = getelementptr i8, ptr %pool, i64 ARGUMENT
  %argument = load ptr, ptr %argument_at, align 8
  %status = call i64 %job(ptr %argument, i64 %worker, i64 %workers)
  %status_at = call ptr @status_of(ptr %pool, i64 %worker)
  store i64 %status, ptr %status_at, align 8
  %failed = icmp ne i64 %status, 0
  br i1 %failed, label %release, label %end
release:  ; it may have left out barriers at which others wait
  %broken = getelementptr i8, ptr %pool, i64 BROKEN
  store atomic i64 1, ptr %broken seq_cst, align 8
  call void @change(ptr %pool, i64 TURN)
  br label %end
end:
  ret void
}
"""

BARRIER = """
define internal void @barrier(ptr %pool) {
entry:
  %turn = getelementptr i8, ptr %pool, i64 TURN
  %now = load atomic i64, ptr %turn seq_cst, align 8
  %broken = getelementptr i8, ptr %pool, i64 BROKEN
  %is_broken = load atomic i64, ptr %broken seq_cst, align 8
  %open = icmp ne i64 %is_broken, 0
  br i1 %open, label %end, label %arrive
arrive:
  %arrived = getelementptr i8, ptr %pool, i64 ARRIVED
  %before = atomicrmw add ptr %arrived, i64 1 acq_rel
  %count = add i64 %before, 1
  %workers_at = getelementptr i8, ptr %pool, i64 WORKERS
  %workers = load i64, ptr %workers_at, align 8
  %is_last = icmp eq i64 %count, %workers
  br i1 %is_last, label %last, label %others
last:
  store atomic i64 0, ptr %arrived release, align 8
  call void @change(ptr %pool, i64 TURN)
  br label %end
others:
  call void @wait(ptr %pool, i64 TURN, i64 %now)
  br label %end
end:
  ret void
}
"""

WAIT = """
define internal void @wait(ptr %pool, i64 %offset, i64 %value) {
entry:  ; until the word differs from the value
  %word = getelementptr i8, ptr %pool, i64 %offset
  %spins_at = getelementptr i8, ptr %pool, i64 SPINS
  %spins = load i64, ptr %spins_at, align 8
  %limit_at = getelementptr i8, ptr %pool, i64 LIMIT
  %limit = load i64, ptr %limit_at, align 8
  %mutex = getelementptr i8, ptr %pool, i64 MUTEX
  %condition = getelementptr i8, ptr %pool, i64 CONDITION
  %sleepers = getelementptr i8, ptr %pool, i64 SLEEPERS
  br label %look
look:
  %looks = phi i64 [0, %entry], [%looked, %pausing], [%looked, %look_again], [%looked, %yield]
  %first = load atomic i64, ptr %word acquire, align 8
  %changed = icmp ne i64 %first, %value
  br i1 %changed, label %end, label %pausing
pausing:
  ; pause
  %looked = add i64 %looks, 1
  %patient = icmp ult i64 %looked, %spins
  br i1 %patient, label %look, label %polite
polite:  ; from now on others are let in: the one that is waited for may need this core
  %part = and i64 %looked, 63
  %turn = icmp eq i64 %part, 0
  br i1 %turn, label %yield, label %look_again
look_again:
  br label %look
yield:
  %yield_at = getelementptr i8, ptr %pool, i64 YIELD
  %let_in = load ptr, ptr %yield_at, align 8
  %ignored = call i32 %let_in(ptr null, ptr null, i32 0, i32 0)
  %still_patient = icmp ult i64 %looked, %limit
  br i1 %still_patient, label %look, label %tired
tired:
  %lock_at = getelementptr i8, ptr %pool, i64 LOCK
  %lock = load ptr, ptr %lock_at, align 8
  %locked = call i32 %lock(ptr %mutex, ptr null, i32 0, i32 0)
  %counted = atomicrmw add ptr %sleepers, i64 1 seq_cst
  br label %last_look
last_look:
  %third = load atomic i64, ptr %word seq_cst, align 8
  %changed_now = icmp ne i64 %third, %value
  br i1 %changed_now, label %awake, label %sleep
sleep:
  %sleep_at = getelementptr i8, ptr %pool, i64 SLEEP
  %sleeping = load ptr, ptr %sleep_at, align 8
  %slept = call i32 %sleeping(ptr %condition, ptr %mutex, i32 -1, i32 0)
  br label %last_look
awake:
  %uncounted = atomicrmw sub ptr %sleepers, i64 1 seq_cst
  %unlock_at = getelementptr i8, ptr %pool, i64 UNLOCK
  %unlock = load ptr, ptr %unlock_at, align 8
  %unlocked = call i32 %unlock(ptr %mutex, ptr null, i32 0, i32 0)
  br label %end
end:
  ret void
}

define internal void @change(ptr %pool, i64 %offset) {
entry:  ; add 1 to the word, and wake those who sleep
  %word = getelementptr i8, ptr %pool, i64 %offset
  %old = atomicrmw add ptr %word, i64 1 seq_cst
  %sleepers = getelementptr i8, ptr %pool, i64 SLEEPERS
  %count = load atomic i64, ptr %sleepers seq_cst, align 8
  %all_awake = icmp eq i64 %count, 0
  br i1 %all_awake, label %end, label %wake
wake:
  %mutex = getelementptr i8, ptr %pool, i64 MUTEX
  %condition = getelementptr i8, ptr %pool, i64 CONDITION
  %lock_at = getelementptr i8, ptr %pool, i64 LOCK
  %lock = load ptr, ptr %lock_at, align 8
  %locked = call i32 %lock(ptr %mutex, ptr null, i32 0, i32 0)
  %wake_at = getelementptr i8, ptr %pool, i64 WAKE
  %wake_all = load ptr, ptr %wake_at, align 8
  %woken = call i32 %wake_all(ptr %condition, ptr null, i32 0, i32 0)
  %unlock_at = getelementptr i8, ptr %pool, i64 UNLOCK
  %unlock = load ptr, ptr %unlock_at, align 8
  %unlocked = call i32 %unlock(ptr %mutex, ptr null, i32 0, i32 0)
  br label %end
end:
  ret void
}
"""
