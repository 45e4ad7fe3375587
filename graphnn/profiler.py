"""profile: the time, operations and bytes of each node, forward, backward and in the update."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from graphnn.backends.calls import Inspectable
from graphnn.backends.executable import Backend
from graphnn.backends.reference import ReferenceBackend, array_module, array_module_of
from graphnn.errors import OptionError
from graphnn.ir.program import Origin, Phase
from graphnn.model import Model
from graphnn.plan.cost import cost_of_step
from graphnn.plan.members import Member, members_of, shares_of
from graphnn.plans import Part, parts_of
from graphnn.render.describe import and_above
from graphnn.render.mime import bundle
from graphnn.render.overlay import Details, Overlay
from graphnn.render.text import plural
from graphnn.render.units import BYTES, FLOPS, SECONDS, Units, bytes_text, flops_text, in_unit, seconds_text, unit_for
from graphnn.training.trainer import Trainer

PHASES = tuple(phase.value for phase in Phase)


@dataclass(frozen=True)
class Row:
    """What one node costs in one phase.

    Args:
        path: of the node; "loss..." and "optimizer/clip" for what belongs to no node.
        layer: kind of the node, "" for what belongs to no node.
        phase: "forward", "backward" or "update".
        seconds: the medians of its kernels, added up. The time of a kernel that several workers run is that of all of
            them divided by their number.
        flops: floating-point operations, by the conventions of `graphnn.plan.cost`.
        bytes_read: sizes of all that its kernels read; what a fused group keeps in registers is not in it.
        bytes_written: sizes of all that its kernels write.
        steps: number of kernels that it has a part in; on the device "reference" each step of the plan is one.
        shared: whether some of its kernels also belong to other rows. Nobody can measure the parts of a kernel: its
            time is shared among the instructions in it by their operations and bytes (`graphnn.plan.members`).
    """

    path: str
    layer: str
    phase: str
    seconds: float
    flops: int
    bytes_read: int
    bytes_written: int
    steps: int
    shared: bool = False


@dataclass(frozen=True)
class Profile:
    """Rows by node and phase; `str()` gives a table, `to_dict()` plain data, `overlay()` colours for a drawing.

    Args:
        name: of the graph.
        what: "forward and backward" or "one training step".
        backend: on which it was measured, and by how many workers.
        runs: number of measured runs.
        arena_bytes: memory of the largest plan.
        rows: nodes in forward order, phases in theirs.
        uncounted: paths with functions of their own, whose operations nobody knows.
        interpreted: of a native engine, the steps that have no kernel and run by their reference: which, and why.
    """

    name: str
    what: str
    backend: str
    runs: int
    arena_bytes: int
    rows: tuple[Row, ...]
    uncounted: tuple[str, ...] = ()
    interpreted: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Of all rows; the time between steps is not in it."""
        return sum(row.seconds for row in self.rows)

    @property
    def flops(self) -> int:
        """Of all rows."""
        return sum(row.flops for row in self.rows)

    @property
    def bytes(self) -> int:
        """Read and written, of all rows."""
        return sum(row.bytes_read + row.bytes_written for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able copy, with the totals."""
        named = {"uncounted": list(self.uncounted), "interpreted": list(self.interpreted)}
        totals = {"seconds": self.seconds, "flops": self.flops, "bytes": self.bytes}
        return {**asdict(self), "rows": [asdict(row) for row in self.rows], **named, **totals}

    def overlay(self, of: str = "seconds") -> Overlay:
        """Numbers by node for a drawing, all phases added up.

        Args:
            of: "seconds", "flops" or "bytes".

        Raises:
            OptionError: something else.
        """
        if of not in QUANTITIES:
            raise OptionError("there is no such number", where="of", expected=", ".join(QUANTITIES), got=repr(of))
        title, units, number_of, total_text = QUANTITIES[of]
        sums: dict[str, float] = {}
        for row in self.rows:
            sums[row.path] = sums.get(row.path, 0) + number_of(row)
        nodes = {row.path for row in self.rows if row.layer}
        size, unit = unit_for(max(sums.values(), default=0), units)
        total = sum(sums.values())
        notes = [f"{total_text(total)} in all" + (f", {self.how()}" if of == "seconds" else "")]
        if other := sum(value for path, value in sums.items() if path not in nodes):
            notes.append(f"{total_text(other)} of it for loss, metrics and clipping: not drawn")
        values = {path: value / size for path, value in sums.items() if path in nodes}
        details = Details(title, ("", "of all"), self._shares(number_of, (size, unit), total))
        return Overlay(f"{title} of {self.what}", unit, values, notes=tuple(notes), details=details)

    def _shares(
        self, number_of: Callable[[Row], float], unit: tuple[float, str], total: float
    ) -> dict[str, tuple[tuple[str, ...], ...]]:
        """Of each node, of each module and by "" of all: numbers of the phases, in all, and as shares of the total."""
        sums: dict[str, dict[str, float]] = {}
        for row in self.rows if total else ():
            for path in and_above(row.path) if row.layer else ():
                phases = sums.setdefault(path, {})
                phases[row.phase] = phases.get(row.phase, 0) + number_of(row)
        return {
            path: tuple(
                (name, in_unit(number, unit), f"{number / total:.1%}")
                for name, number in (*sorted(phases.items(), key=_place), ("in all", sum(phases.values())))
            )
            for path, phases in sums.items()
        }

    def how(self) -> str:
        """In words: how often and on what the times were measured."""
        return f"median of {plural(self.runs, 'run')} on {self.backend}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return bundle(str(self))

    def __str__(self) -> str:
        return "\n".join(_table(self))


def _place(phase: tuple[str, float]) -> int:
    return PHASES.index(phase[0])


QUANTITIES: dict[str, tuple[str, Units, Callable[[Row], float], Callable[[float], str]]] = {
    "seconds": ("time", SECONDS, lambda row: row.seconds, seconds_text),
    "flops": ("operations", FLOPS, lambda row: row.flops, flops_text),
    "bytes": ("bytes read and written", BYTES, lambda row: row.bytes_read + row.bytes_written, bytes_text),
}


def profile(target: Model | Trainer, /, *inputs: Any, runs: int = 5, training: bool = True, **named: Any) -> Profile:
    """Run a model forward and backward, or a trainer's step, and measure each kernel.

    What is measured is what trains: on "cpu" the native kernels, with all workers at work. The time of a kernel that
    does the work of several nodes is shared among them, see `Row`. On "reference" each step of the plan is measured.
    The first run is not counted. Gradients of outputs are ones. Parameters, states and gradients stay as they are.

    Args:
        target: a model, or a trainer.
        inputs: as for `Model.forward`; for a trainer, x and y as for `Trainer.train_step`.
        runs: how often to measure; of each kernel's times the median counts.
        training: mode of the layers; for a trainer, False for the step of `evaluate`.
        named: inputs of a model by name.

    Raises:
        OptionError: `runs` is not positive. GraphnnError: arrays do not fit.
    """
    if isinstance(runs, bool) or not isinstance(runs, int) or runs < 1:
        raise OptionError("not a number of runs", where="runs", expected="1, 2, 3...", got=repr(runs))
    model = target.model if isinstance(target, Trainer) else target
    parts = parts_of(target, inputs, named, training)
    table = _Table(model)
    results: Mapping[str, Any] = {}
    for part in parts:
        results, measured = _measure(part, results, model.backend, runs)
        table.add(measured)
    arena = max(part.compiled.executable.plan.arena_bytes for part in parts)
    what = ("one training step" if training else "one evaluation step") if len(parts) == 1 else "forward and backward"
    what = "forward" if parts[-1].name == "forward" else what
    about = (model.graph.default_name, what, _measured_on(model, parts[0]), runs, arena)
    return Profile(*about, table.rows(), table.uncounted(), _interpreted(parts))


def _measured_on(model: Model, part: Part) -> str:
    executable = part.compiled.executable
    if not isinstance(executable, Inspectable):
        return ReferenceBackend(array_module(model.device)).name
    return f"{model.backend.name}, {plural(executable.workers, 'worker')}"


def _interpreted(parts: Sequence[Part]) -> tuple[str, ...]:
    executables = (part.compiled.executable for part in parts)
    calls = [call for e in executables if isinstance(e, Inspectable) for call in e.calls if not call.ir]
    return tuple(dict.fromkeys(f"{call.origin.path or call.op.name} {call.notes}" for call in calls))


@dataclass(frozen=True)
class _Measured:
    """A kernel or a step: what is in it, and its seconds."""

    members: Sequence[Member]
    seconds: float


def _measure(
    part: Part, earlier: Mapping[str, Any], backend: Backend, runs: int
) -> tuple[dict[str, Any], list[_Measured]]:
    """Outputs by name, and the median seconds of each kernel."""
    known = {**earlier, **part.arrays}
    arrays = [
        backend.to_device(known[value.name]) if value.name in known else _ones(backend, value.spec)
        for value in part.compiled.program.inputs
    ]
    run, contents = _runner(part, arrays)
    run()
    found = [run() for _ in range(runs)]
    seconds = [median(times) for times in zip(*(times for _, times in found), strict=True)]
    measured = [_Measured(members, time) for members, time in zip(contents, seconds, strict=True)]
    return dict(zip(part.compiled.outputs, found[-1][0], strict=True)), measured


def _runner(
    part: Part, arrays: Sequence[Any]
) -> tuple[Callable[[], tuple[list[Any], list[float]]], list[list[Member]]]:
    """What runs once, (outputs, seconds of each kernel), and what is in each kernel."""
    executable = part.compiled.executable
    if isinstance(executable, Inspectable):
        contents = [members_of(c.op, c.inputs, c.outputs, c.origin, c.runs) for c in executable.calls]

        def native() -> tuple[list[Any], list[float]]:
            outputs, times = executable.run_timed(arrays)
            return outputs, [time.shared for time in times]

        return native, contents
    plan = executable.plan
    reference = ReferenceBackend(array_module_of(arrays[0]) if arrays else np).compile(plan)
    steps = [[Member(step.op, step.origin, cost_of_step(plan, step))] for step in plan.steps]
    return lambda: reference.run_timed(arrays), steps


def _ones(backend: Backend, spec: Any) -> Any:
    return backend.to_device(np.ones(spec.shape, spec.dtype))


class _Table:
    """Rows by path and phase, in forward order."""

    def __init__(self, model: Model):
        self._layers = {leaf.path: leaf.layer.kind for leaf in model.flat.leaves}
        self._owners = {path: path.rpartition("/")[0] for path in model.parameters}
        self._rows: dict[tuple[str, str], Row] = {}
        self._uncounted: dict[str, None] = {}

    def add(self, measured: Sequence[_Measured]) -> None:
        """The kernels of a part; each is counted once in every row that it has something of."""
        for each in measured:
            shares = shares_of(each.members)
            taking = [(m, share) for m, share in zip(each.members, shares, strict=True) if share]
            keys = dict.fromkeys((self._path(member.origin), member.origin.phase.value) for member, _ in taking)
            for member, share in taking:
                self._add(member, share * each.seconds)
            for key in keys:
                row = self._rows[key]
                self._rows[key] = replace(row, steps=row.steps + 1, shared=row.shared or len(keys) > 1)

    def _add(self, member: Member, seconds: float) -> None:
        path, phase, cost = self._path(member.origin), member.origin.phase.value, member.cost
        if cost.flops is None:
            self._uncounted[path] = None
        old = self._rows.get((path, phase)) or Row(path, self._layers.get(path, ""), phase, 0.0, 0, 0, 0, 0)
        self._rows[path, phase] = replace(
            old,
            seconds=old.seconds + seconds,
            flops=old.flops + (cost.flops or 0),
            bytes_read=old.bytes_read + cost.bytes_read,
            bytes_written=old.bytes_written + cost.bytes_written,
        )

    def _path(self, origin: Origin) -> str:
        """The node of an instruction; that of an update is called by its parameter."""
        return self._owners.get(origin.path, origin.path) if origin.phase is Phase.UPDATE else origin.path

    def rows(self) -> tuple[Row, ...]:
        """Nodes in forward order, then what belongs to none."""
        paths = dict.fromkeys([*self._layers, *(path for path, _ in self._rows)])
        return tuple(self._rows[path, phase] for path in paths for phase in PHASES if (path, phase) in self._rows)

    def uncounted(self) -> tuple[str, ...]:
        """Paths with steps of unknown FLOPs."""
        return tuple(self._uncounted)


# -- the table for people ----------------------------------------------------------------------------------------------


def _table(profile: Profile) -> Iterator[str]:
    units = [unit_for(profile.flops / 100, FLOPS), unit_for(profile.bytes / 100, BYTES)]
    header = ("node", "layer", *PHASES, "total", "share", units[0][1], f"{units[1][1]} moved")
    groups: dict[str, list[Row]] = {}
    for row in profile.rows:
        groups.setdefault(row.path, []).append(row)
    lines = [header, *(_cells(rows, profile, units) for rows in groups.values())]
    lines.append(("total", "", *_cells(list(profile.rows), profile, units)[2:]))
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    texts = [
        "  ".join(t.ljust(w) if c < 2 else t.rjust(w) for c, (t, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]
    rule = "-" * len(texts[0])
    yield f"profile of {profile.name}: {profile.what}, {profile.how()}; times in ms"
    yield from (line.rstrip() for line in (rule, texts[0], rule, *texts[1:-1], rule, texts[-1]))
    rate = f", {profile.flops / profile.seconds / 1e9:.3g} GFLOP/s" if profile.seconds else ""
    yield f"{flops_text(profile.flops)}{rate}; arena {bytes_text(profile.arena_bytes)}; a multiply-add counts 2"
    if any(row.shared for row in profile.rows):
        yield "the time of a kernel that does the work of several nodes is shared by their operations and bytes"
    yield from profile.interpreted
    if profile.uncounted:
        yield f"without the operations of {', '.join(profile.uncounted)}: functions whose inside is not known"


def _cells(rows: list[Row], profile: Profile, units: list[tuple[float, str]]) -> tuple[str, ...]:
    by_phase = [sum(row.seconds for row in rows if row.phase == phase) for phase in PHASES]
    moved = sum(row.bytes_read + row.bytes_written for row in rows)
    return (
        rows[0].path if rows else "",
        rows[0].layer if rows else "",
        *(f"{1e3 * seconds:.3f}" if seconds else "" for seconds in by_phase),
        f"{1e3 * sum(by_phase):.3f}",
        f"{sum(by_phase) / (profile.seconds or 1):.1%}",
        f"{sum(row.flops for row in rows) / units[0][0]:,.1f}",
        f"{moved / units[1][0]:,.1f}",
    )
