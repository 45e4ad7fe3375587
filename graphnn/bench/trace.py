"""A training step as a Chrome trace: for chrome://tracing, https://ui.perfetto.dev, or any viewer of that format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from graphnn.backends.calls import Inspectable, KernelCall, KernelRun
from graphnn.backends.executable import Executable
from graphnn.backends.reference import ReferenceBackend
from graphnn.ops.op import Array
from graphnn.plan.cost import cost_of_step
from graphnn.plan.members import members_of
from graphnn.plan.plan import Plan, Step
from graphnn.plans import parts_of
from graphnn.training.trainer import Trainer

MICROSECONDS = 1e6
PROCESS = 1


@dataclass(frozen=True)
class Span:
    """What one worker did for a while.

    Args:
        name: of the node.
        phase: "forward", "backward" or "update".
        op: of the step.
        begin: seconds since the beginning of the run.
        seconds: how long.
        worker: its number, from 0.
        flops: operations; None: unknown.
        bytes: read and written.
    """

    name: str
    phase: str
    op: str
    begin: float
    seconds: float
    worker: int
    flops: int | None
    bytes: int


def trace(trainer: Trainer, x: Any, y: Any, runs: int = 5) -> list[Span]:
    """The steps of one training step: of so many runs, the shortest. Nothing of the model changes.

    On the device "cpu" a span is one run of a native kernel by one worker; a kernel that does the work of several nodes
    is called by the one that takes most of it. On other devices the plan runs on the reference backend, step by step.

    Args:
        trainer: whose step.
        x: as for `Trainer.train_step`.
        y: as for `Trainer.train_step`.
        runs: how often to measure, behind one run that is not counted.
    """
    (part,) = parts_of(trainer, (x, y), {})
    executable = part.compiled.executable
    arrays = [trainer.model.backend.to_device(part.arrays[value.name]) for value in executable.plan.inputs]
    found = [_run(executable, arrays) for _ in range(runs + 1)]
    return min(found[1:], key=end_of)


def _run(executable: Executable, arrays: Sequence[Array]) -> list[Span]:
    if isinstance(executable, Inspectable):
        return _spans(executable.run_traced(arrays)[1])
    plan = executable.plan
    return spans_of(plan, ReferenceBackend().compile(plan).run_timed(arrays)[1])


def _spans(runs: Sequence[KernelRun]) -> list[Span]:
    known: dict[KernelCall, Span] = {}
    for run in runs:
        if run.call not in known:
            known[run.call] = _span_of_call(run.call)
    return [replace(known[run.call], begin=run.begin, seconds=run.seconds, worker=run.worker) for run in runs]


def _span_of_call(call: KernelCall) -> Span:
    """One run of a kernel; when and by whom is not known yet."""
    members = members_of(call.op, call.inputs, call.outputs, call.origin)
    main = max(members, key=lambda member: member.weight, default=None)
    origin = call.origin if main is None else main.origin
    known = [member.cost.flops for member in members if member.cost.flops is not None]
    flops = sum(known) if len(known) == len(members) else None
    moved = sum(member.cost.bytes_read + member.cost.bytes_written for member in members)
    names = ", ".join(dict.fromkeys(member.op.name for member in members))
    return Span(origin.path, origin.phase.value, names, 0.0, 0.0, 0, flops, moved)


def end_of(spans: Iterable[Span]) -> float:
    """Seconds from the beginning of the run to the end of the last span."""
    return max((span.begin + span.seconds for span in spans), default=0.0)


def spans_of(plan: Plan, seconds: Sequence[float]) -> list[Span]:
    """Steps that one worker ran, one behind the other, in so many seconds each."""
    begins = accumulate(seconds, initial=0.0)
    timed = zip(plan.steps, begins, seconds, strict=False)
    return [span_of(plan, step, begin, duration) for step, begin, duration in timed]


def span_of(plan: Plan, step: Step, begin: float, seconds: float, worker: int = 0) -> Span:
    """One step of a plan."""
    cost = cost_of_step(plan, step)
    moved = cost.bytes_read + cost.bytes_written
    return Span(step.origin.path, step.origin.phase.value, step.op.name, begin, seconds, worker, cost.flops, moved)


def to_json(spans: Iterable[Span], title: str) -> str:
    """The trace event format: complete events, with times in microseconds, and names for process and workers."""
    spans = list(spans)
    events = [_named("process_name", title, 0)]
    events += [_named("thread_name", f"worker {n}", n) for n in sorted({span.worker for span in spans})]
    events += [_event(span) for span in spans]
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}, indent=1)


def _event(span: Span) -> dict[str, Any]:
    return {
        "name": span.name or span.op, "cat": span.phase, "ph": "X", "pid": PROCESS, "tid": span.worker,
        "ts": span.begin * MICROSECONDS, "dur": span.seconds * MICROSECONDS,
        "args": {"op": span.op, "flops": span.flops, "bytes": span.bytes},
    }  # fmt: skip


def _named(what: str, name: str, worker: int) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": PROCESS, "tid": worker, "args": {"name": name}}
