"""explain: what a model or a trainer runs: steps, formulas, memory, loops, kernels; on request their machine code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from graphnn.backends.calls import Inspectable, KernelCall
from graphnn.compile import Compiled
from graphnn.errors import OptionError
from graphnn.ir.program import Origin, Phase
from graphnn.model import Model
from graphnn.ops.formula import WIDTH
from graphnn.plan.members import members_of
from graphnn.plan.outline import Entry, Operand, outline, paths_text, short_names
from graphnn.plans import Part, parts_of
from graphnn.render.mime import bundle
from graphnn.render.text import plural
from graphnn.render.units import bytes_text, flops_text
from graphnn.scan import Scan
from graphnn.tiled import Tiled
from graphnn.training.trainer import Trainer

MOST_NODES = 4  # named in the title of a step
INDENT = "  "


@dataclass(frozen=True)
class Section:
    """One program: that of forward, of backward, or of a training step.

    Args:
        name: "forward", "backward" or "step".
        facts: about all of it, a line each.
        entries: the steps.
        kernels: by the number of the step, where it has one.
        executable: what runs it; None on a device whose kernels nobody can look into.
    """

    name: str
    facts: tuple[str, ...]
    entries: tuple[Entry, ...]
    kernels: dict[str, KernelCall]
    executable: Inspectable | None


@dataclass(frozen=True)
class Explanation:
    """What runs, as text (`str`) and as data (`to_dict`).

    Args:
        title: what is explained, and for which sizes.
        sections: one for each program.
        step: number of the one step that is shown; "" for all.
        ir: with the LLVM IR of each kernel that is shown.
        assembly: with its machine code.
    """

    title: str
    sections: tuple[Section, ...]
    step: str = ""
    ir: bool = False
    assembly: bool = False

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return bundle(str(self))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able copy."""
        sections = [
            {
                "name": section.name,
                "facts": list(section.facts),
                "steps": [_data(section, entry) for entry in self._shown(section)],
                "listings": {
                    title: text for entry in self._shown(section) for title, text in self._code(section, entry)
                },
            }
            for section in self.sections
        ]
        return {"title": self.title, "programs": sections}

    def _shown(self, section: Section) -> list[Entry]:
        if not self.step:
            return list(section.entries)
        return [entry for top in section.entries for entry in top.walk() if entry.number == self.step]

    def _lines(self) -> Iterator[str]:
        yield self.title
        for section in self.sections:
            entries = self._shown(section)
            if not entries:
                continue
            yield ""
            yield f"-- {section.name} " + "-" * (96 - len(section.name))
            yield from ([] if self.step else section.facts)
            for entry in entries:
                yield from _entry_lines(section, entry, "")
                for title, text in self._code(section, entry):
                    yield from ("", f"-- {title}", text)

    def _code(self, section: Section, entry: Entry) -> Iterator[tuple[str, str]]:
        """(title, text) of what the code generator got and made, as far as that was asked for."""
        if section.executable is None:
            return
        for inner in entry.walk():
            call = section.kernels.get(inner.number)
            if call is not None and call.ir and self.ir:
                yield f"LLVM IR of step {inner.number}", section.executable.optimised_ir(call)
            if call is not None and call.ir and self.assembly:
                yield f"machine code of step {inner.number}", section.executable.assembly(call)


def explain(
    target: Model | Trainer,
    /,
    *inputs: Any,
    training: bool | None = None,
    step: str | int | None = None,
    ir: bool = False,
    assembly: bool = False,
    **named: Any,
) -> Explanation:
    """Say what a model or a trainer runs for arrays of these sizes; nothing is run.

    For each step: its nodes, its formula, what it reads and writes and where that lies, and how its kernel goes about
    it. Values have the names of the nodes that make them, gradients "d_" before that, new values of parameters and
    states "'" behind it. Views (the same bytes with another shape) are left out.

    Args:
        target: a model, or a trainer.
        inputs: as for `Model.forward`; for a trainer, x and y as for `Trainer.train_step`.
        training: of a model: True for forward and backward as in training, False (the default) for inference. Of a
            trainer: True (the default) for the training step, False for that of `evaluate`.
        step: number of the one step to show, such as 3 or "2.5".
        ir: with the LLVM IR of the kernels that are shown.
        assembly: with their machine code.
        named: inputs of a model by name.

    Raises:
        OptionError: there is no such step. GraphnnError: arrays do not fit.
    """
    is_trainer = isinstance(target, Trainer)
    training = is_trainer if training is None else training
    parts = parts_of(target, inputs, named, training, keep=training)
    sections = tuple(map(_section, parts))
    found = Explanation(_title(target, parts, training), sections, "" if step is None else str(step), ir, assembly)
    if found.step and not any(
        entry.number == found.step for s in sections for top in s.entries for entry in top.walk()
    ):
        numbers = ", ".join(top.number for top in sections[0].entries)
        raise OptionError("there is no such step", where="step", expected=f"{numbers}, or 2.5 inside of 2", got=step)
    return found


def _title(target: Model | Trainer, parts: Sequence[Part], training: bool) -> str:
    model = target.model if isinstance(target, Trainer) else target
    if isinstance(target, Trainer):
        what = "one training step" if training else "one evaluation step"
    else:
        what = " and ".join(part.name for part in parts) + ("" if training else ", inference")
    return f"{model.graph.default_name}: {what} on {model.device}"


def _section(part: Part) -> Section:
    compiled = part.compiled
    plan, executable = compiled.executable.plan, compiled.executable
    entries = outline(plan, compiled.outputs)
    if not isinstance(executable, Inspectable):
        return Section(part.name, tuple(_plan_facts(compiled, entries)), entries, {}, None)
    known = {(call.within, call.step): call for call in executable.calls if call.step is not None}
    pairs = ((entry, known.get((entry.within, entry.step))) for top in entries for entry in top.walk())
    kernels = {entry.number: call for entry, call in pairs if call is not None}
    facts = (*_plan_facts(compiled, entries), *_native_facts(executable))
    return Section(part.name, facts, entries, kernels, executable)


def _plan_facts(compiled: Compiled, entries: Sequence[Entry]) -> Iterator[str]:
    every = [entry for top in entries for entry in top.walk() if not entry.entries]
    plan = compiled.executable.plan
    inside = f", {len(every):,} with those inside of loops" if len(every) > len(plan.steps) else ""
    yield f"{plural(len(plan.steps), 'step')}{inside}; arena {bytes_text(plan.arena_bytes)}"


def _native_facts(executable: Inspectable) -> Iterator[str]:
    parts = [f"{name} {bytes_text(nbytes)}" for name, nbytes in executable.memory.items() if nbytes]
    yield f"memory for {plural(executable.workers, 'worker')}: {', '.join(parts) or 'none'}"
    extra = Counter(call.op.name for call in executable.calls if call.step is None)
    if extra:
        texts = {"slice": "copy parts of arrays in and out of tiles"}
        listed = [f"{count} {texts.get(name, f'{name} what tiles have made')}" for name, count in extra.items()]
        yield f"besides the steps, {plural(sum(extra.values()), 'kernel')}: {', '.join(listed)}"


# -- text of a step ----------------------------------------------------------------------------------------------------


def _entry_lines(section: Section, entry: Entry, indent: str) -> Iterator[str]:
    if entry.is_view and entry.number not in section.kernels:
        return
    yield ""
    inner = indent + " " * (len(entry.number) + 2)
    title = f"{indent}{entry.number}  {_title_of(entry, section)}"
    yield from wrap(title, WIDTH, subsequent_indent=inner + INDENT, break_long_words=False, break_on_hyphens=False)
    yield from (f"{inner}{line}" for line in entry.formulas)
    if not entry.entries:
        yield from (f"{inner}{INDENT}{line}" for line in _operand_lines(entry))
    yield from (f"{inner}{INDENT}{line}" for line in _notes(entry, section))
    for child in entry.entries:
        yield from _entry_lines(section, child, indent + INDENT)


def _title_of(entry: Entry, section: Section) -> str:
    op, nodes = entry.step.op, _nodes(entry.origins)
    if isinstance(op, Tiled):
        return f"{plural(op.tiles, 'tile')} {_by_whom(entry, section, op.tiles)} · {nodes}"
    if isinstance(op, Scan):
        return f"{plural(op.length.__index__(), 'turn')}{' backwards' if op.reverse else ''} · {nodes}"
    return nodes


def _by_whom(entry: Entry, section: Section, tiles: int) -> str:
    if entry.within:
        return f"in turn within a {'tile' if isinstance(entry.within[-1].op, Tiled) else 'turn'}"
    workers = section.executable.workers if section.executable else 1
    return f"on {plural(min(workers, tiles), 'worker')}"


def _nodes(origins: Sequence[Origin]) -> str:
    """`hidden_0/matmul, act · forward`, phase by phase."""
    phases = ([origin for origin in origins if origin.phase is phase] for phase in Phase)
    return "; ".join(f"{paths_text(some, MOST_NODES)} · {some[0].phase.value}" for some in phases if some)


def _operand_lines(entry: Entry) -> list[str]:
    short = short_names([operand.name for operand in (*entry.reads, *entry.writes)])
    operands = [*(("", o) for o in dict.fromkeys(entry.reads)), *(("→ ", o) for o in entry.writes)]
    rows = [_operand_cells(arrow, operand, short) for arrow, operand in operands]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    return [
        f"{name.ljust(widths[0])}  {spec.ljust(widths[1])}  {nbytes.rjust(widths[2])}  {place}".rstrip()
        for name, spec, nbytes, place in rows
    ]


def _operand_cells(arrow: str, operand: Operand, short: dict[str, str]) -> tuple[str, str, str, str]:
    return f"{arrow or '  '}{short[operand.name]}", str(operand.spec), bytes_text(operand.spec.nbytes), operand.place


def _notes(entry: Entry, section: Section) -> Iterator[str]:
    call = section.kernels.get(entry.number)
    if call is None:
        return
    flops = sum(member.cost.flops or 0 for member in members_of(call.op, call.inputs, call.outputs, call.origin))
    parts = [
        call.notes,
        flops_text(flops) if flops else "",
        f"scratch {bytes_text(call.scratch_bytes)}" if call.scratch_bytes else "",
        f"{call.runs:,} runs" if call.runs > 1 else "",
    ]
    if any(parts):
        yield "kernel: " + " · ".join(filter(None, parts)) if call.ir else call.notes


# -- data --------------------------------------------------------------------------------------------------------------


def _data(section: Section, entry: Entry) -> dict[str, Any]:
    call = section.kernels.get(entry.number)
    return {
        "number": entry.number,
        "op": entry.step.op.name,
        "nodes": [{"path": origin.path, "phase": origin.phase.value} for origin in entry.origins],
        "formulas": list(entry.formulas),
        "reads": list(map(_operand_data, entry.reads)),
        "writes": list(map(_operand_data, entry.writes)),
        "is_view": entry.is_view,
        "kernel": None
        if call is None
        else {"notes": call.notes, "runs": call.runs, "scratch_bytes": call.scratch_bytes, "native": bool(call.ir)},
        "steps": [_data(section, inner) for inner in entry.entries],
    }


def _operand_data(operand: Operand) -> dict[str, Any]:
    spec = operand.spec
    return {"name": operand.name, "spec": str(spec), "bytes": spec.nbytes, "place": operand.place}
