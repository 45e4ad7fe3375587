"""Scene: what a picture of a graph shows, before anything has a place: boxes, groups and edges."""

from __future__ import annotations

from dataclasses import dataclass

OUTPUT = "@output/"  # before the name of a graph output; "@" cannot be in the name of a node


@dataclass(frozen=True)
class Badge:
    """A short mark on a box.

    Args:
        kind: what it says, for the legend: repeat, reverse, order, kept, shared or flag.
        text: two or three words at most.
    """

    kind: str
    text: str


@dataclass(frozen=True)
class Box:
    """One drawn node.

    Args:
        key: unique: the path of a node, the name of an input, OUTPUT and the name of an output.
        role: input, layer, module (a closed one), output, reference, omission, stop (no gradient goes there), level
            (the name of a row) or failure.
        title: first line, in bold.
        category: family of the layer, which gives the colour.
        lines: further lines.
        tooltip: lines shown on hovering.
        group: path of the open module that the box lies in, "" for none.
        frozen: all its parameters are frozen.
        shared: all its parameters belong to an earlier use of the layer.
        stands_for: keys of the boxes that a reference takes the place of at this end of an edge.
        badges: short marks in a row below the lines.
        stripe: number of the group of boxes that use the same parameters, drawn as a stripe of one colour.
        heat: step of the overlay's scale, which then gives the colour.
        flag: a warning, drawn in red.
    """

    key: str
    role: str
    title: str
    category: str
    lines: tuple[str, ...]
    tooltip: tuple[str, ...]
    group: str = ""
    frozen: bool = False
    shared: bool = False
    stands_for: tuple[str, ...] = ()
    badges: tuple[Badge, ...] = ()
    stripe: int | None = None
    heat: int | None = None
    flag: str = ""


@dataclass(frozen=True)
class Group:
    """An open module: the frame around its boxes.

    Args:
        path: of the module.
        parent: path of the group around it, "" for none.
        title: name, kind and number of parameters.
        tooltip: lines shown on hovering.
        frozen: all its parameters are frozen.
        level: number of groups around it.
        repeats: how many times what is inside follows on itself.
    """

    path: str
    parent: str
    title: str
    tooltip: tuple[str, ...]
    frozen: bool = False
    level: int = 0
    repeats: int = 1


@dataclass(frozen=True)
class Edge:
    """All connections from one box to another.

    Args:
        source: key of a box.
        target: key of a box.
        connections: one text for each connection: which output, which input, spec.
        is_cut: nothing flows here; drawn with a bar in place of the arrow.
    """

    source: str
    target: str
    connections: tuple[str, ...]
    is_cut: bool = False

    @property
    def count(self) -> int:
        """Number of connections."""
        return len(self.connections)


@dataclass(frozen=True)
class ScaleBar:
    """The legend of an overlay's colours: what is measured, and the numbers at both ends."""

    title: str
    least: str
    most: str


@dataclass(frozen=True)
class Scene:
    """Boxes in topological order, groups from outer to inner, and edges.

    Args:
        name: of the graph.
        subtitle: one line of totals.
        description: one sentence for readers who do not see the picture.
        notices: what the picture leaves out.
        boxes: drawn nodes.
        groups: frames; each has a box somewhere inside.
        edges: merged connections.
        direction: "down" or "right": where edges point.
        theme: "auto" (as the reader's system says), "light" or "dark".
        rows: keys of boxes that stand side by side; no group may then be drawn.
        scale: of an overlay.
    """

    name: str
    subtitle: str
    description: str
    notices: tuple[str, ...]
    boxes: tuple[Box, ...]
    groups: tuple[Group, ...]
    edges: tuple[Edge, ...]
    direction: str = "down"
    theme: str = "auto"
    rows: tuple[tuple[str, ...], ...] = ()
    scale: ScaleBar | None = None


def levels(scene: Scene) -> dict[str, int]:
    """The row of each box: one below its lowest source; a box without sources stands just above its first target."""
    sources: dict[str, list[str]] = {}
    targets: dict[str, list[str]] = {}
    for edge in scene.edges:
        sources.setdefault(edge.target, []).append(edge.source)
        targets.setdefault(edge.source, []).append(edge.target)
    level: dict[str, int] = {}
    for box in scene.boxes:
        level[box.key] = max((level[key] + 1 for key in sources.get(box.key, ())), default=0)
    for box in scene.boxes:
        if box.key not in sources:
            level[box.key] = min((level[key] for key in targets.get(box.key, ())), default=1) - 1
    return level
