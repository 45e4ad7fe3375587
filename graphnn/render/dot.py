"""DOT: the drawing as a graphviz.Digraph, to be styled or laid out by Graphviz itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from graphnn.errors import BackendError
from graphnn.graph.graph import Graph
from graphnn.render.layout import shows_count
from graphnn.render.options import never
from graphnn.render.palette import CATEGORIES, category_of
from graphnn.render.scene import Box, Group, Scene
from graphnn.render.text import TIMES, clean, identifier
from graphnn.render.views import build_scene

if TYPE_CHECKING:
    import graphviz

SHAPES = {
    "input": "ellipse",
    "output": "ellipse",
    "reference": "plaintext",
    "omission": "plaintext",
    "level": "plaintext",
}


def to_graphviz(
    graph: Graph,
    depth: int | None = None,
    view: str = "forward",
    is_frozen: Callable[[str], bool] = never,
    **options: Any,
) -> graphviz.Digraph:
    """The drawing as a graphviz.Digraph: nodes by path, nested modules as clusters, plain labels.

    Making it needs the package graphviz only; its `render` needs the program `dot`.

    Args:
        graph: what is drawn.
        depth: how many levels of modules are open; None for all.
        view: "forward", "backward" or "schedule".
        is_frozen: whether the node at a path is frozen.
        options: more of `Options`.

    Raises:
        OptionError: an unknown view or a bad depth.
        BackendError: the package graphviz is not installed.
    """
    try:
        import graphviz
    except ImportError:
        fix = "`pip install graphviz`, or use to_svg"
        raise BackendError("DOT text needs a package", where="render", expected="graphviz", fix=fix) from None
    scene = build_scene(graph, view, depth, is_frozen, **options)
    digraph = graphviz.Digraph(identifier(scene.name), node_attr={"fontname": "Helvetica", "style": "filled,rounded"})
    label = "\n".join([scene.name, scene.subtitle, *scene.notices])
    digraph.attr(label=_escape(label), labelloc="t", fontname="Helvetica", compound="true")
    if scene.direction == "right":
        digraph.attr(rankdir="LR")
    _fill(digraph, scene)
    for row in scene.rows:
        digraph.body.append("\t{rank=same " + " ".join(f'"{identifier(key)}"' for key in row) + "}\n")
    for edge in scene.edges:
        if not edge.connections:
            digraph.edge(identifier(edge.source), identifier(edge.target), style="invis")
            continue
        cut = {"style": "dotted", "arrowhead": "tee"} if edge.is_cut else {}
        count = {"label": f"{TIMES}{edge.count}"} if shows_count(edge) else {}
        digraph.edge(identifier(edge.source), identifier(edge.target), **count, **cut)
    return digraph


def _fill(digraph: graphviz.Digraph, scene: Scene) -> None:
    """Write boxes into the clusters of their groups; a cluster goes into the one around it when it is complete."""
    clusters = {"": digraph}
    for group in scene.groups:
        clusters[group.path] = _cluster(digraph, group)
    for box in scene.boxes:
        _node(clusters[box.group], box)
    for group in sorted(scene.groups, key=lambda group: -group.level):
        clusters[group.parent].subgraph(clusters[group.path])


def _cluster(digraph: graphviz.Digraph, group: Group) -> graphviz.Digraph:
    style = "rounded,dashed" if group.frozen else "rounded"
    times = f"{TIMES}{group.repeats} · " if group.repeats > 1 else ""
    attributes = {"label": _escape(times + group.title), "labeljust": "l", "style": style, "fontname": "Helvetica"}
    return type(digraph)(f"cluster_{identifier(group.path)}", graph_attr=attributes)


def _node(digraph: graphviz.Digraph, box: Box) -> None:
    fill, border = CATEGORIES[category_of(box.category)]
    style = {"style": "filled,rounded,dashed"} if box.frozen else {}
    lines = [box.title, *box.lines, *(badge.text for badge in box.badges)]
    digraph.node(
        identifier(box.key), label=_escape("\n".join(lines)), shape=SHAPES.get(box.role, "box"),
        fillcolor=fill.light, color=border.light, tooltip=_escape("\n".join(box.tooltip)),
        peripheries="2" if box.role in ("module", "output") else "1", **style,
    )  # fmt: skip


def _escape(text: str) -> str:
    """`text` as Graphviz will show it: backslashes kept, lines centred, never taken for HTML."""
    lines = [clean(line).replace("\\", "\\\\") for line in text.split("\n")]
    return "\\n".join(lines) + ("\\n" if text.startswith("<") else "")
