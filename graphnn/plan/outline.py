"""outline: the steps of a plan for people: formulas, and what each step reads and writes, by name and place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from graphnn.ir.program import Instruction, Kind, Origin, Phase, Program, Value
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.formula import formula, formulas
from graphnn.ops.fused import Fused
from graphnn.ops.op import Op
from graphnn.plan.memory import make_plan
from graphnn.plan.plan import Plan, Step
from graphnn.scan import Scan
from graphnn.tiled import Tiled

Names: TypeAlias = Mapping[int, str]  # by number of the buffer


@dataclass(frozen=True)
class Operand:
    """What a step reads or writes.

    Args:
        name: node or parameter, "d_" before its last part for a gradient, "'" behind it for a new value.
        spec: shape and dtype, of one tile or turn.
        place: where its bytes are, in words.
    """

    name: str
    spec: TensorSpec
    place: str


@dataclass(frozen=True)
class Entry:
    """One step.

    Args:
        number: of the step in its plan; "2.5": step 5 of the loop that step 2 is.
        step: as it stands in the plan.
        within: the loops around it, the outermost first.
        origins: nodes and phases whose instructions are in it.
        formulas: what it computes; none for a loop.
        reads: its inputs.
        writes: its outputs.
        entries: of a loop, its steps.
        is_view: nothing is done: the output is the input, seen with another shape.
    """

    number: str
    step: Step
    within: tuple[Step, ...]
    origins: tuple[Origin, ...]
    formulas: tuple[str, ...]
    reads: tuple[Operand, ...]
    writes: tuple[Operand, ...]
    entries: tuple[Entry, ...] = ()
    is_view: bool = False

    def walk(self) -> Iterator[Entry]:
        """The entry and all in it."""
        yield self
        for entry in self.entries:
            yield from entry.walk()


def outline(plan: Plan, outputs: Sequence[str] = ()) -> tuple[Entry, ...]:
    """An entry for each step.

    Args:
        plan: of a program.
        outputs: keys of its outputs, as a compiled program has them; without them, outputs are called by their nodes.
    """
    names = _names(plan, _given_names(plan, outputs))
    known = {number: value.kind.value for number, value in enumerate(plan.inputs)}
    return _Level(plan, names, _places(plan, names, known, "arena"), (), "").entries()


@dataclass(frozen=True)
class _Level:
    """The whole plan, or that of a loop's body."""

    plan: Plan
    names: Names
    places: Names
    within: tuple[Step, ...]
    prefix: str

    def entries(self) -> tuple[Entry, ...]:
        return tuple(self._entry(number, step) for number, step in enumerate(self.plan.steps))

    def _entry(self, number: int, step: Step) -> Entry:
        label = f"{self.prefix}{number}"
        reads, writes = (tuple(map(self._operand, numbers)) for numbers in (step.inputs, step.outputs))
        inside, lines, op = (), (), step.op
        if isinstance(op, Tiled | Scan):
            inside = self._body(step, op, label).entries()
        else:
            lines = tuple(_formulas(op, reads, writes))
        origins = origins_of(step, self._owner())
        viewing = _is_view(self.plan, step)
        return Entry(label, step, self.within, origins, lines, reads, writes, inside, viewing)

    def _owner(self) -> Origin:
        return next((s.origin for s in reversed(self.within) if s.origin.path), Origin())

    def _operand(self, number: int) -> Operand:
        return Operand(self.names[number], self.plan.buffers[number].spec, self.places[number])

    def _body(self, step: Step, op: Tiled | Scan, label: str) -> _Level:
        """The plan of a loop's body, whose inputs and outputs have the names that they have outside."""
        plan = make_plan(op.body)
        read, written = ([(self.names[n], self.places[n]) for n in side] for side in (step.inputs, step.outputs))
        if isinstance(op, Tiled):
            outer_in, outer_out = _of_tiles(op, read, written, "turn" if self.within else "tile")
        else:
            outer_in, outer_out = _of_turns(op, read, written)
        given = dict(enumerate(name for name, _ in outer_in))
        given = {number: name for number, (name, _) in zip(plan.outputs, outer_out, strict=False)} | given
        names = _names(plan, given, self.names.values())
        known = {number: place for number, (_, place) in zip(plan.outputs, outer_out, strict=False)}
        known |= dict(enumerate(place for _, place in outer_in))
        memory = "tile memory" if isinstance(op, Tiled) else "loop memory"
        places = _places(plan, names, known, f"memory of {label}" if self.within else memory)
        return _Level(plan, names, places, (*self.within, step), f"{label}.")


Outer: TypeAlias = list[tuple[str, str]]  # (name, place) of what goes into a loop or comes out of it


def _of_tiles(op: Tiled, read: Outer, written: Outer, count: str) -> tuple[Outer, Outer]:
    cut = [
        (name, place if axis is None else _part_of(place))
        for (name, place), axis in zip(read, op.input_axes, strict=True)
    ]
    index = [(count, f"number of the {count}")] if op.with_index else []
    joined = [
        (name, f"{axis} of all {count}s, {place}" if isinstance(axis, str) else _part_of(place))
        for (name, place), axis in zip(written, op.output_axes, strict=True)
    ]
    return cut + index, joined


def _part_of(place: str) -> str:
    """A part of a part is one of the whole."""
    return place if place.startswith("tile of ") else f"tile of {place}"


def _of_turns(op: Scan, read: Outer, written: Outer) -> tuple[Outer, Outer]:
    carries, sequences, constants = op.split(read)
    last, stacked, _ = op.split_outputs(written)
    going_in = [
        *((name, "carried") for (name, _), _ in zip(last, carries, strict=True)),
        *((f"{name}[t]", f"slice of {place}") for name, place in sequences),
        *constants,
    ]
    coming_out = [
        *((f"{name}'", "carried on") for name, _ in last),
        *((f"{name}[t]", f"slice of {place}") for name, place in stacked),
    ]
    return going_in, coming_out


def work_of(step: Step) -> str:
    """`4 tiles`, `64 turns`, or the name of the op."""
    if isinstance(step.op, Tiled):
        return f"{step.op.tiles:,} tiles" if step.op.tiles != 1 else "1 tile"
    if isinstance(step.op, Scan):
        return f"{step.op.length.__index__():,} turns"
    return step.op.name


def has_groups(plan: Plan) -> bool:
    """Whether steps do the work of several nodes, so that what a step is called says little."""
    return any(isinstance(step.op, Fused | Tiled) for step in plan.steps)


def paths_text(origins: Sequence[Origin], most: int = 3) -> str:
    """`conv, norm, relu and 4 more`."""
    paths = list(dict.fromkeys(origin.path or "(no node)" for origin in origins))
    more = f" and {len(paths) - most:,} more" if len(paths) > most else ""
    return ", ".join(paths[:most]) + more


def phases_text(origins: Sequence[Origin]) -> str:
    """`forward + backward`."""
    return " + ".join(phase.value for phase in Phase if any(origin.phase is phase for origin in origins))


# -- names -------------------------------------------------------------------------------------------------------------


def short_names(names: Sequence[str]) -> dict[str, str]:
    """The last part of each path, where it is the only one."""
    last = [name.rpartition("/")[2] for name in dict.fromkeys(names)]
    return {
        name: part if last.count(part) == 1 else name for name, part in zip(dict.fromkeys(names), last, strict=True)
    }


def _formulas(op: Op, reads: Sequence[Operand], writes: Sequence[Operand]) -> list[str]:
    inner = dict(_inner_gradients(op.body)) if isinstance(op, Fused) else {}
    short = short_names([*(operand.name for operand in (*reads, *writes)), *inner.values()])
    if isinstance(op, Fused):
        values = [*zip(op.body.inputs, reads, strict=True), *zip(op.body.outputs, writes, strict=True)]
        names = inner | {value: operand.name for value, operand in reversed(values)}
        return formulas(op.body, {value: short[name] for value, name in names.items()})
    inputs, outputs = ([Value("", o.spec, Kind.INTERMEDIATE) for o in side] for side in (reads, writes))
    pairs = zip((*inputs, *outputs), (*reads, *writes), strict=True)
    return formula(op, inputs, outputs, {value: short[operand.name] for value, operand in pairs})


def _inner_gradients(body: Program) -> Iterator[tuple[Value, str]]:
    """(value, name) of what is made backward and updates a parameter in the same group."""
    made = {value for i in body.instructions if i.origin.phase is Phase.BACKWARD for value in i.outputs}
    for instruction in body.instructions:
        if instruction.origin.phase is Phase.UPDATE:
            name = gradient_name(instruction.origin.path)
            yield from ((value, name) for value in instruction.inputs if value in made)


def _given_names(plan: Plan, outputs: Sequence[str]) -> dict[int, str]:
    names = {number: _input_name(value.name) for number, value in enumerate(plan.inputs)}
    for number, key in zip(plan.outputs, outputs, strict=False):
        if name := _output_name(key):
            names.setdefault(number, name)
    for old, new in plan.updates:
        names.setdefault(new, names[old] + "'")
    for parameter, number in _gradients(plan):
        names.setdefault(number, gradient_name(parameter))
    return names


def gradient_name(path: str) -> str:
    """`block/d_conv` for `block/conv`."""
    before, slash, last = path.rpartition("/")
    return f"{before}{slash}d_{last}"


def _input_name(name: str) -> str:
    kind, colon, rest = name.partition(":")
    if kind == "step":
        return {"number": "step"}.get(rest, rest)
    if kind == "cotangent":
        return f"d_output_{rest}"
    return f"{kind}_{rest}" if colon and rest else kind


def _output_name(key: str) -> str:
    """The name of an output that is more than the result of a node; "" for those."""
    kind, colon, rest = key.partition(":")
    if not colon:
        return kind
    known = {"metric": rest, "parameter": gradient_name(rest), "input": gradient_name(rest)}
    return known.get(kind, "")


def _gradients(plan: Plan) -> Iterator[tuple[str, int]]:
    """(parameter, the buffer that its update reads and that is made backward)."""
    specs = {value.name: value.spec for value in plan.inputs if value.kind is Kind.PARAMETER}
    made = {n: maker_of(step, k) for step in plan.steps for k, n in enumerate(step.outputs)}
    for step in plan.steps:
        for origin, number in _readings(step):
            fits = origin.phase is Phase.UPDATE and specs.get(origin.path) == plan.buffers[number].spec
            if fits and number in made and made[number].phase is Phase.BACKWARD:
                yield origin.path, number


def _readings(step: Step) -> Iterator[tuple[Origin, int]]:
    body = step.op.body if isinstance(step.op, Tiled) else None
    if body is None:
        yield from ((step.origin, number) for number in step.inputs)
        return
    numbers = dict(zip(body.inputs, step.inputs, strict=False))
    yield from ((i.origin, numbers[v]) for i in body.instructions for v in i.inputs if v in numbers)


def _names(plan: Plan, given: Names, outer: Iterable[str] = ()) -> Names:
    """The given names, and for all other values the node that makes them; views are called as what they show."""
    names, taken = dict(given), {*given.values(), *outer}
    for step in plan.steps:
        for position, number in enumerate(step.outputs):
            if number in names:
                continue
            if _is_view(plan, step):
                names[number] = names[step.inputs[0]]
                continue
            base = _result_name(maker_of(step, position))
            name = next(n for k in range(len(taken) + 2) if (n := f"{base}_{k + 1}" if k else base) not in taken)
            names[number] = name
            taken.add(name)
    return names


def _result_name(origin: Origin) -> str:
    if origin.phase is Phase.UPDATE:
        return "u"
    path = origin.path or "t"
    return gradient_name(path) if origin.phase is Phase.BACKWARD else path


def maker_of(step: Step, position: int) -> Origin:
    """The origin of the instruction that makes an output, however deep inside of loops and groups."""
    return _maker_in(step.op, position, step.origin)


def _maker_in(op: object, position: int, origin: Origin) -> Origin:
    if not isinstance(op, Fused | Tiled):
        return origin
    value = op.body.outputs[position]
    maker = next((i for i in op.body.instructions if value in i.outputs), None)
    if maker is None:
        return origin
    return _maker_in(maker.op, maker.outputs.index(value), maker.origin if maker.origin.path else origin)


def origins_of(step: Step, owner: Origin | None = None) -> tuple[Origin, ...]:
    """Those of all instructions in a step; constants count for nothing, as any node may share them."""
    body = getattr(step.op, "body", None)
    own = step.origin if step.origin.path or owner is None else owner
    if not isinstance(body, Program):
        return (own,)
    found = dict.fromkeys(origin for i in body.instructions for origin in _counting(i, own))
    return tuple(origin for origin in found if origin.path) or tuple(found) or (own,)


def _counting(instruction: Instruction, owner: Origin) -> Iterator[Origin]:
    body = getattr(instruction.op, "body", None)
    own = instruction.origin if instruction.origin.path else owner
    if isinstance(body, Program):
        for inner in body.instructions:
            yield from _counting(inner, own)
    elif instruction.op.name != "fill":
        yield own


# -- places ------------------------------------------------------------------------------------------------------------


def _is_view(plan: Plan, step: Step) -> bool:
    return step.op.is_view and plan.buffers[step.outputs[0]].shares is not None


def _places(plan: Plan, names: Names, known: Names, memory: str) -> dict[int, str]:
    """Of every buffer; `known` are those of inputs and, in a loop, of outputs."""
    places, moved = dict(known), {new: old for old, new in plan.updates}
    viewed = {n for step in plan.steps for n in step.outputs if step.op.is_view}
    for number, buffer in enumerate(plan.buffers):
        if number in places:
            continue
        place = "result" if buffer.offset is None else f"{memory} at {buffer.offset:,}"
        if buffer.shares is not None:
            place = places[buffer.shares]
            is_new_value = names[number] == names[buffer.shares] + "'"
            over = ", in place" if is_new_value else f", over {names[buffer.shares]}"
            place = place if number in viewed else place.partition(", over")[0] + over
        if number in moved and buffer.shares != moved[number]:
            place += f", then into {names[moved[number]]}"
        places[number] = place
    return places
