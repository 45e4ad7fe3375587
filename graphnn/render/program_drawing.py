"""A program as a picture: its ops in boxes by the node and the phase that they come from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from graphnn.errors import OptionError
from graphnn.ir.program import Instruction, Kind, Phase, Program, Value
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ir.text import instruction_text, name_values, to_text
from graphnn.ops.convolution import ConvolutionOp
from graphnn.ops.creation import Cast, Fill, Iota
from graphnn.ops.elementwise import Elementwise, Where
from graphnn.ops.fused import Fused
from graphnn.ops.indexing import CumulativeSum, ScatterAdd, ScatterAddAlong
from graphnn.ops.linalg import MatMul
from graphnn.ops.opaque import Opaque, OpaqueGradient
from graphnn.ops.pooling import PoolingOp
from graphnn.ops.random import RandomBits
from graphnn.ops.reduction import ArgMax, Reduction
from graphnn.render.scene import OUTPUT, Box, Edge, Group, Scene
from graphnn.render.simplify import REFERENCE, condense, groups_with
from graphnn.render.svg import draw
from graphnn.render.text import TIMES, plural
from graphnn.scan import Scan
from graphnn.tiled import Tiled

MANY_BOXES = 40  # of a picture with more, edges from one phase to another become labels beside their targets
AUTOMATIC_OPS = 150  # of a program with more, each node is one closed box unless `expand` says which to open
MOST_CLOSED = 150  # boxes; with more, nodes inside of a module are drawn as one
MEMBERS = 9  # ops listed in the box of a fused group
NAMED_OPS = 4  # ops listed on a closed box

MEANINGS = {r"residual:\d+": "kept by the forward run", r"cotangent[:_]\d+": "gradient of an output"}  # of inputs

# The family of an op, which gives the colour; everything else moves data.
FAMILIES: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("product", (MatMul, ConvolutionOp)),
    ("fused", (Fused,)),
    ("elementwise", (Elementwise, Where, Cast)),
    ("reduction", (Reduction, ArgMax, CumulativeSum, ScatterAdd, ScatterAddAlong, PoolingOp)),
    ("constant", (Fill, Iota, RandomBits)),
    ("loop", (Scan, Tiled)),
    ("other", (Opaque, OpaqueGradient)),
)


def program_svg(
    program: Program, title: str = "program", expand: str | None = None, direction: str = "down", theme: str = "auto"
) -> str:
    """The ops of a program as SVG text: one box for each, in a frame for each node and phase.

    Values have the numbers that `to_text` gives them. A scalar constant is written into the op that reads it.

    Args:
        program: of a model (`programs_of`), or from a builder.
        title: above the picture.
        expand: glob of node paths ("encoder/*") whose ops are shown; the others are closed boxes, and only those next
            to an open one are drawn. None: all are open in a small program, and all closed in a large one.
        direction: "down" or "right": where values flow to.
        theme: "light", "dark", or "auto" for what the reader's system prefers.

    Raises:
        OptionError: nothing matches `expand`. BackendError: there is no Graphviz.
    """
    return draw(replace(program_scene(program, title, expand), direction=direction, theme=theme))


def program_scene(program: Program, title: str = "program", expand: str | None = None) -> Scene:
    """What `program_svg` draws."""
    table = _Owners(program)
    if expand is not None and not any(fnmatchcase(table.path(i), expand) for i in program.instructions):
        paths = ", ".join(list(dict.fromkeys(map(table.path, program.instructions)))[:20])
        raise OptionError("no node of the program matches", where="expand", expected=paths, got=repr(expand))
    walk = _Walk(program, table, expand)
    subtitle = f"{plural(len(program.instructions), 'op')} · {plural(len(walk.nodes), 'node')}"
    scene = Scene(
        name=title,
        subtitle=subtitle,
        description=f"Program {title}: {subtitle}.",
        notices=tuple(walk.notices()),
        boxes=tuple(walk.boxes.values()),
        groups=tuple(walk.groups.values()),
        edges=tuple(Edge(*ends, tuple(texts)) for ends, texts in walk.edges.items()),
    )
    scene = scene if expand is None else _near(scene)
    return condense(_refer(scene) if len(scene.boxes) > MANY_BOXES else scene)


def family_of(op: object) -> str:
    """The family of an op: fused, product, elementwise, reduction, movement, constant, loop or other."""
    return next((name for name, kinds in FAMILIES if isinstance(op, kinds)), "movement")


class _Owners:
    """The node that an instruction belongs to; that of an update is called by its parameter."""

    def __init__(self, program: Program):
        self._parameters = {value.name for value in program.inputs if value.kind is Kind.PARAMETER}

    def path(self, instruction: Instruction) -> str:
        path, phase = instruction.origin.path, instruction.origin.phase
        return path.rpartition("/")[0] if phase is Phase.UPDATE and path in self._parameters else path


@dataclass
class _Closed:
    """A closed box under construction."""

    key: str
    title: str
    phase: str
    order: int
    names: dict[str, int] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def box(self) -> Box:
        names = list(self.names)
        listed = ", ".join(names[:NAMED_OPS]) + (" …" if len(names) > NAMED_OPS else "")
        lines = (f"{self.phase} · {plural(len(self.lines), 'op')}", listed)
        return Box(self.key, "module", self.title, "module", lines, (f"{self.title} · {self.phase}", *self.lines))


class _Walk:
    """Goes once through a program in its order, so that each box stands behind those that it reads."""

    def __init__(self, program: Program, owners: _Owners, expand: str | None):
        self._program, self._owners, self._expand = program, owners, expand
        self._names = name_values(program)
        self.boxes: dict[str, Box] = {}
        self.groups: dict[str, Group] = {}
        self.edges: dict[tuple[str, str], list[str]] = {}
        self.nodes = dict.fromkeys((i.origin.phase, owners.path(i)) for i in program.instructions)
        self._all_open = expand is None and len(program.instructions) <= AUTOMATIC_OPS
        self._depth = _depth([path for _, path in self.nodes])
        self._closed: dict[tuple[Phase, str], _Closed] = {}  # the one that takes what comes next
        self._all_closed: list[_Closed] = []
        self._order: dict[str, int] = {}  # of boxes, by key
        self._key_of: dict[Value, str] = {}  # the box that a value comes out of
        self._constants: dict[Value, Fill] = {}
        read = {value for instruction in program.instructions for value in instruction.inputs}
        self._also_returned = read & set(program.outputs)  # only asked, never iterated over
        for instruction in program.instructions:
            self._instruction(instruction)
        self._results()
        self.boxes |= {box.key: box.box() for box in self._all_closed}
        self._finish_groups()

    def notices(self) -> Iterator[str]:
        """What is not shown."""
        if self._closed and self._expand is None:
            yield "each box stands for the ops of one node or module: name what to open (expand) to see its ops"
        if self._closed and self._expand is not None:
            yield f"{self._expand} is open; of the other nodes only those next to it are drawn, closed"

    def _is_open(self, instruction: Instruction) -> bool:
        if self._expand is None:
            return self._all_open
        return fnmatchcase(self._owners.path(instruction), self._expand)

    def _instruction(self, instruction: Instruction) -> None:
        op = instruction.op
        (first, *_) = instruction.outputs
        if isinstance(op, Fill) and not first.spec.shape and first not in self._program.results:
            self._constants[first] = op
            return
        for value in instruction.inputs:
            self._input(value, instruction)
        if self._is_open(instruction):
            self._open(instruction)
        else:
            self._close(instruction)

    def _input(self, value: Value, reader: Instruction | None) -> None:
        """Draw an input of the program when it is first read; a parameter only beside an op that is drawn."""
        if value in self._key_of or value in self._constants:
            return
        is_stored = value.kind in (Kind.PARAMETER, Kind.STATE)
        if is_stored and (reader is None or not self._is_open(reader)):
            return
        key = f"%{self._names[value]}"
        title = {Kind.PARAMETER: "Parameter", Kind.STATE: "State"}.get(value.kind, "Input")
        text = f"{key}: {value.spec}"
        group = self._group(reader) if is_stored and reader is not None else ""
        category = "parameter" if is_stored else "input"
        lines = (
            value.name.removesuffix(":"),
            *(meaning for pattern, meaning in MEANINGS.items() if re.fullmatch(pattern, value.name)),
            _shape(value.spec),
            *(["also returned"] if value in self._also_returned else []),
        )
        self._add(Box(key, "input", title, category, lines, (value.name, text), group))
        self._key_of[value] = key

    def _open(self, instruction: Instruction) -> None:
        key = f"%{self._names[instruction.outputs[0]]}"
        lines = [f"%{self._names[value]}  {_shape(value.spec)}" for value in instruction.outputs[:3]]
        lines += ["also returned"] if any(value in self._also_returned for value in instruction.outputs) else []
        if len(instruction.outputs) > 3:
            lines.append(f"and {len(instruction.outputs) - 3} more outputs")
        tooltip = (
            instruction_text(instruction, self._names),
            f"{instruction.origin.phase.value} of {self._path(instruction)}",
        )
        if isinstance(instruction.op, Scan | Tiled):
            lines.append(f"body of {plural(len(instruction.op.body.instructions), 'op')}")
        if isinstance(instruction.op, Fused):
            lines = [*_members(instruction.op), *lines]
            tooltip = (*tooltip, *to_text(instruction.op.body).splitlines())
        group, family = self._group(instruction), family_of(instruction.op)
        self._add(Box(key, "layer", self._title(instruction), family, tuple(lines), tooltip, group))
        self._connect(instruction.inputs, key, instruction.op.name)
        self._key_of |= dict.fromkeys(instruction.outputs, key)

    def _title(self, instruction: Instruction) -> str:
        """`tanh`; `subtract(1, ·)` where an operand is a scalar constant."""
        op = instruction.op
        if isinstance(op, Fill):
            return f"fill {op.value:.4g}"
        if isinstance(op, Scan):
            return f"scan {TIMES}{op.length}"
        if isinstance(op, Tiled):
            return f"tiles {TIMES}{op.tiles}"
        operands = [f"{self._constants[v].value:.4g}" if v in self._constants else "·" for v in instruction.inputs]
        has_constant = any(value in self._constants for value in instruction.inputs)
        return f"{op.name}({', '.join(operands)})" if has_constant else op.name

    def _path(self, instruction: Instruction) -> str:
        return self._owners.path(instruction) or "no node"

    def _group(self, instruction: Instruction) -> str:
        """The frame of a node and phase, made when it is first needed."""
        path, phase = self._path(instruction), instruction.origin.phase.value
        key = f"{phase}:{path}"
        self.groups.setdefault(key, Group(key, "", f"{path} · {phase}", (f"{path} · {phase}",)))
        return key

    def _close(self, instruction: Instruction) -> None:
        """Add the op to the closed box of its node, or to a new one where that would read what comes behind it."""
        phase = instruction.origin.phase
        path = "/".join(self._path(instruction).split("/")[: self._depth])
        sources = [self._order[self._key_of[v]] for v in instruction.inputs if v in self._key_of]
        box = self._closed.get((phase, path))
        if box is None or any(order > box.order for order in sources):
            number = len(self._all_closed)
            box = self._closed[phase, path] = _Closed(
                f"{phase.value}:{path}:{number}", path, phase.value, len(self._order)
            )
            self._all_closed.append(box)
            self._add(box.box())  # keeps the place; the box itself is made when all its ops are known
        box.names[instruction.op.name] = box.names.get(instruction.op.name, 0) + 1
        box.lines.append(instruction_text(instruction, self._names))
        self._connect(instruction.inputs, box.key, instruction.op.name)
        self._key_of |= dict.fromkeys(instruction.outputs, box.key)

    def _add(self, box: Box) -> None:
        self._order.setdefault(box.key, len(self._order))
        self.boxes[box.key] = box

    def _connect(self, values: Iterable[Value], target: str, what: str) -> None:
        for position, value in enumerate(values):
            source = self._key_of.get(value)
            if source is not None and source != target:
                text = f"%{self._names[value]} → input {position} of {what}: {value.spec}"
                self.edges.setdefault((source, target), []).append(text)

    def _results(self) -> None:
        """Boxes for what the program returns, and for the new values of parameters and states that are drawn."""
        for index, value in enumerate(dict.fromkeys(self._program.outputs)):
            self._input(value, None)
            source = self.boxes.get(self._key_of.get(value, ""))
            if source is not None and (value not in self._also_returned or source.role == "module"):
                key, lines = f"{OUTPUT}{index}", (f"%{self._names[value]}", _shape(value.spec))
                self._add(Box(key, "output", "Output", "output", lines, ("Output", *lines)))
                self._connect([value], key, "the results")
        for old, new in self._program.updates:
            source = self.boxes.get(self._key_of.get(new, ""))
            if source is not None and source.role != "module":
                key = f"{OUTPUT}update/{old.name}"
                self._add(
                    Box(key, "output", "Update", "output", (old.name,), (f"new value of {old.name}",), source.group)
                )
                self._connect([new], key, f"update of {old.name}")

    def _finish_groups(self) -> None:
        """Frames that have a box, with the number of ops."""
        counts: dict[str, int] = {}
        for box in self.boxes.values():
            counts[box.group] = counts.get(box.group, 0) + (box.role == "layer")
        self.groups = {
            key: Group(key, "", f"{group.title} · {plural(counts[key], 'op')}", group.tooltip)
            for key, group in self.groups.items()
            if key in counts
        }


def _members(op: Fused) -> list[str]:
    """The ops of a fused group in lines of a few names, equal ones in a row once."""
    names: list[str] = []
    for instruction in op.body.instructions:
        if not isinstance(instruction.op, Fill) and names[-1:] != [instruction.op.name]:
            names.append(instruction.op.name)
    shown = names if len(names) <= MEMBERS else [*names[: MEMBERS - 1], f"and {len(names) - MEMBERS + 1} more"]
    return [" → ".join(shown[start : start + 3]) for start in range(0, len(shown), 3)]


def _depth(paths: list[str]) -> int:
    """How many parts of their paths tell closed boxes apart, so that there are not too many."""
    deepest = max((path.count("/") + 1 for path in paths), default=1)
    fitting = (n for n in range(deepest, 1, -1) if len({"/".join(p.split("/")[:n]) for p in paths}) <= MOST_CLOSED)
    return next(fitting, 1)


def _shape(spec: TensorSpec) -> str:
    return f"({', '.join(map(str, spec.shape))})" + ("" if spec.dtype == "float32" else f" {spec.dtype}")


def _near(scene: Scene) -> Scene:
    """Without the closed boxes that are not connected to an open one, and what is then connected to nothing."""
    drawn = {box.key for box in scene.boxes if box.role == "layer"}  # only asked, never iterated over
    edges = tuple(edge for edge in scene.edges if edge.source in drawn or edge.target in drawn)
    near = {end for edge in edges for end in (edge.source, edge.target)}
    boxes = tuple(box for box in scene.boxes if box.key in near or box.key in drawn)
    return replace(scene, boxes=boxes, edges=edges, groups=groups_with(boxes, scene.groups))


def _refer(scene: Scene) -> Scene:
    """Labels in the frame of the target in place of edges from an open frame of one phase to one of another."""
    by_key = {box.key: box for box in scene.boxes}
    edges: list[Edge] = []
    labels: dict[tuple[str, str], Box] = {}
    for edge in scene.edges:
        source, target = by_key[edge.source], by_key[edge.target]
        if not (source.group and target.group) or _phase(source) == _phase(target):
            edges.append(edge)
            continue
        if (source.key, target.group) not in labels:
            labels[source.key, target.group] = _label(source, target.group)
        edges.append(Edge(labels[source.key, target.group].key, target.key, edge.connections))
    order = {box.key: index for index, box in enumerate(scene.boxes)}
    for edge in edges:  # a label stands before the first of its targets
        if edge.source.startswith(REFERENCE):
            order[edge.source] = min(order.get(edge.source, len(order)), order[edge.target])
    found = sorted(labels.values(), key=lambda label: order[label.key])
    boxes: list[Box] = []
    for index, box in enumerate(scene.boxes):
        while found and order[found[0].key] <= index:
            boxes.append(found.pop(0))
        boxes.append(box)
    return replace(scene, boxes=tuple(boxes), edges=tuple(edges))


def _phase(box: Box) -> str:
    return box.group.partition(":")[0]


def _label(source: Box, group: str) -> Box:
    title = f"from {source.lines[0] if source.role == 'input' else source.title}"
    where = source.group.partition(":")[2] + " · " + _phase(source)
    lines = (source.lines[0], where) if source.role != "input" else (where,)
    key = f"{REFERENCE}{group}/{source.key}"
    return Box(key, "reference", title, "other", lines, source.tooltip, group, stands_for=(source.key,))
