"""profile: the time, operations and bytes of each node, forward, backward and in the update."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from graphnn.backends.executable import Backend
from graphnn.backends.reference import ReferenceBackend, array_module
from graphnn.errors import OptionError
from graphnn.ir.program import Phase
from graphnn.model import Model
from graphnn.plan.cost import cost_of_step
from graphnn.plan.plan import Step
from graphnn.plans import Part, parts_of
from graphnn.render.notebook import bundle
from graphnn.render.overlay import Overlay
from graphnn.render.text import plural
from graphnn.render.units import BYTES, FLOPS, SECONDS, Units, bytes_text, flops_text, seconds_text, unit_for
from graphnn.training.trainer import Trainer

PHASES = tuple(phase.value for phase in Phase)


@dataclass(frozen=True)
class Row:
    """What one node costs in one phase.

    Args:
        path: of the node; "loss..." and "optimizer/clip" for what belongs to no node.
        layer: kind of the node, "" for what belongs to no node.
        phase: "forward", "backward" or "update".
        seconds: the medians of its steps, added up.
        flops: floating-point operations, by the conventions of `graphnn.plan.cost`.
        bytes_read: sizes of all operands of its ops.
        bytes_written: sizes of all results of its ops.
        steps: number of steps of the plan.
    """

    path: str
    layer: str
    phase: str
    seconds: float
    flops: int
    bytes_read: int
    bytes_written: int
    steps: int


@dataclass(frozen=True)
class Profile:
    """Rows by node and phase; `str()` gives a table, `to_dict()` plain data, `overlay()` colours for a drawing.

    Args:
        name: of the graph.
        what: "forward and backward" or "one training step".
        backend: on which it was measured.
        runs: number of measured runs.
        arena_bytes: memory of the largest plan.
        rows: nodes in forward order, phases in theirs.
        uncounted: paths with functions of their own, whose operations nobody knows.
    """

    name: str
    what: str
    backend: str
    runs: int
    arena_bytes: int
    rows: tuple[Row, ...]
    uncounted: tuple[str, ...] = ()

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
        totals = {"seconds": self.seconds, "flops": self.flops, "bytes": self.bytes}
        return {**asdict(self), "rows": [asdict(row) for row in self.rows], "uncounted": list(self.uncounted), **totals}

    def overlay(self, what: str = "seconds") -> Overlay:
        """Numbers by node for a drawing, all phases added up.

        Args:
            what: "seconds", "flops" or "bytes".

        Raises:
            OptionError: something else.
        """
        if what not in QUANTITIES:
            raise OptionError("there is no such number", where="what", expected=", ".join(QUANTITIES), got=repr(what))
        title, units, of, total_text = QUANTITIES[what]
        sums: dict[str, float] = {}
        for row in self.rows:
            sums[row.path] = sums.get(row.path, 0) + of(row)
        nodes = {row.path for row in self.rows if row.layer}
        size, unit = unit_for(max(sums.values(), default=0), units)
        total = sum(sums.values())
        notes = [f"{total_text(total)} in all" + (f", {self.how()}" if what == "seconds" else "")]
        if other := sum(value for path, value in sums.items() if path not in nodes):
            notes.append(f"{total_text(other)} of it for loss, metrics and clipping: not drawn")
        values = {path: value / size for path, value in sums.items() if path in nodes}
        return Overlay(f"{title} of {self.what}", unit, values, notes=tuple(notes))

    def how(self) -> str:
        """In words: how often and on what the times were measured."""
        return f"median of {plural(self.runs, 'run')} on {self.backend}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return bundle(str(self))

    def __str__(self) -> str:
        return "\n".join(_table(self))


QUANTITIES: dict[str, tuple[str, Units, Callable[[Row], float], Callable[[float], str]]] = {
    "seconds": ("time", SECONDS, lambda row: row.seconds, seconds_text),
    "flops": ("operations", FLOPS, lambda row: row.flops, flops_text),
    "bytes": ("bytes read and written", BYTES, lambda row: row.bytes_read + row.bytes_written, bytes_text),
}


def profile(target: Model | Trainer, /, *inputs: Any, runs: int = 5, training: bool = True, **named: Any) -> Profile:
    """Run a model forward and backward, or a trainer's step, step by step, and measure each step of the plan.

    The first run is not counted. Gradients of outputs are ones. Parameters, states and gradients stay as they are.

    Args:
        target: a model, or a trainer.
        inputs: as for `Model.forward`; for a trainer, x and y as for `Trainer.train_step`.
        runs: how often to measure; of each step's times the median counts.
        training: mode of the layers; for a trainer, False for the step of `evaluate`.
        named: inputs of a model by name.

    Raises:
        OptionError: `runs` is not positive. GraphnnError: arrays do not fit.
    """
    if isinstance(runs, bool) or not isinstance(runs, int) or runs < 1:
        raise OptionError("not a number of runs", where="runs", expected="1, 2, 3...", got=repr(runs))
    model = target.model if isinstance(target, Trainer) else target
    parts = parts_of(target, inputs, named, training)
    backend = ReferenceBackend(array_module(model.device))
    table = _Table(model)
    results: Mapping[str, Any] = {}
    for part in parts:
        results, times = _measure(part, results, backend, runs)
        table.add(part, times)
    arena = max(part.compiled.executable.plan.arena_bytes for part in parts)
    what = ("one training step" if training else "one evaluation step") if len(parts) == 1 else "forward and backward"
    what = "forward" if parts[-1].name == "forward" else what
    return Profile(model.graph.default_name, what, backend.name, runs, arena, table.rows(), table.uncounted())


def _measure(
    part: Part, earlier: Mapping[str, Any], backend: ReferenceBackend, runs: int
) -> tuple[dict[str, Any], list[float]]:
    """Outputs by name, and the median seconds of each step."""
    executable = backend.compile(part.compiled.executable.plan)
    known = {**earlier, **part.arrays}
    arrays = [
        _copy(backend, known[value.name]) if value.name in known else _ones(backend, value.spec)
        for value in part.compiled.program.inputs
    ]
    executable.run_timed(arrays)
    measured = [executable.run_timed(arrays) for _ in range(runs)]
    outputs = dict(zip(part.compiled.outputs, measured[-1][0], strict=True))
    return outputs, [median(times) for times in zip(*(seconds for _, seconds in measured), strict=True)]


def _copy(backend: Backend, array: Any) -> Any:
    return backend.to_device(array)


def _ones(backend: Backend, spec: Any) -> Any:
    return backend.to_device(np.ones(spec.shape, spec.dtype))


class _Table:
    """Rows by path and phase, in forward order."""

    def __init__(self, model: Model):
        self._layers = {leaf.path: leaf.layer.kind for leaf in model.flat.leaves}
        self._owners = {path: path.rpartition("/")[0] for path in model.parameters}
        self._rows: dict[tuple[str, str], Row] = {}
        self._uncounted: dict[str, None] = {}

    def add(self, part: Part, times: list[float]) -> None:
        """The steps of a part."""
        plan = part.compiled.executable.plan
        for step, seconds in zip(plan.steps, times, strict=True):
            path, phase = self._path(step), step.origin.phase.value
            cost = cost_of_step(plan, step)
            if cost.flops is None:
                self._uncounted[path] = None
            old = self._rows.get((path, phase)) or Row(path, self._layers.get(path, ""), phase, 0.0, 0, 0, 0, 0)
            self._rows[path, phase] = replace(
                old,
                seconds=old.seconds + seconds,
                flops=old.flops + (cost.flops or 0),
                bytes_read=old.bytes_read + cost.bytes_read,
                bytes_written=old.bytes_written + cost.bytes_written,
                steps=old.steps + 1,
            )

    def _path(self, step: Step) -> str:
        """The node of a step; that of an update is called by its parameter."""
        path = step.origin.path
        return self._owners.get(path, path) if step.origin.phase is Phase.UPDATE else path

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
