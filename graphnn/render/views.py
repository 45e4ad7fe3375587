"""Views: which scene is drawn of a graph."""

from __future__ import annotations

from collections.abc import Callable

from graphnn.errors import OptionError
from graphnn.graph.graph import Graph
from graphnn.graph.summary import walk
from graphnn.render.describe import Parameters, parameters_by_path, shape_text
from graphnn.render.forward import ForwardWalk, opens
from graphnn.render.scene import Scene
from graphnn.render.simplify import condense
from graphnn.render.text import plural

AUTOMATIC_BOXES = 300  # without a given depth, modules stay closed so that no more boxes than this are drawn
MOST_LEVELS = 50  # of frames within frames; deeper modules stay closed


def build_scene(
    graph: Graph, view: str = "forward", depth: int | None = None, is_frozen: Callable[[str], bool] = lambda path: False
) -> Scene:
    """The scene of a view.

    Args:
        graph: what is drawn.
        view: one of VIEWS.
        depth: how many levels of modules are open: 0 for none; None for all, or fewer in a large graph.
        is_frozen: whether the node at a path is frozen.

    Raises:
        OptionError: an unknown view, or a depth that is no natural number.
    """
    if view not in VIEWS:
        raise OptionError("there is no such view", where="view", expected=", ".join(VIEWS), got=repr(view))
    if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int) or depth < 0):
        raise OptionError("not a depth", where="depth", expected="None, 0, 1, 2...", got=repr(depth))
    return VIEWS[view](graph, depth, is_frozen)


def forward_scene(graph: Graph, depth: int | None, is_frozen: Callable[[str], bool]) -> Scene:
    """Every layer in forward direction, modules open down to `depth`."""
    deepest, automatic = _depths(graph)
    shown = min(automatic if depth is None else depth, deepest, MOST_LEVELS)
    parameters = parameters_by_path(graph, is_frozen)
    drawn = ForwardWalk(graph, shown, parameters)
    subtitle = _subtitle(graph, parameters[""])
    scene = Scene(
        name=graph.default_name,
        subtitle=subtitle,
        description=_description(graph, subtitle),
        notices=(f"showing depth {shown} of {deepest}: deeper modules are closed",) if shown < deepest else (),
        boxes=tuple(drawn.boxes),
        groups=tuple(drawn.groups),
        edges=drawn.edges,
    )
    return condense(scene)


VIEWS: dict[str, Callable[[Graph, int | None, Callable[[str], bool]], Scene]] = {"forward": forward_scene}


def _depths(graph: Graph) -> tuple[int, int]:
    """(the depth at which all is open, the largest depth with at most AUTOMATIC_BOXES boxes or else 0)."""
    leaves: dict[int, int] = {}
    modules: dict[int, int] = {}
    for path, _, node in walk(graph):
        counts = modules if opens(node) else leaves
        level = path.count("/")
        counts[level] = counts.get(level, 0) + 1
    deepest = max(modules, default=-1) + 1
    automatic, total = 0, len(graph.inputs) + len(graph.outputs)
    for depth in range(deepest + 1):
        total += leaves.get(depth, 0)
        if total + modules.get(depth, 0) <= AUTOMATIC_BOXES:
            automatic = depth
    return deepest, automatic


def _subtitle(graph: Graph, total: Parameters) -> str:
    layers = sum(node.graph is None for _, _, node in walk(graph))
    text = f"{plural(layers, 'layer')} · {plural(total.owned, 'parameter')}"
    return text + (f": {total.owned - total.frozen:,} trainable, {total.frozen:,} frozen" if total.owned else "")


def _description(graph: Graph, subtitle: str) -> str:
    inputs = ", ".join(f"{node.name} {shape_text(node.spec)}" for node in graph.inputs)
    names = graph.output_names or ("",)
    outputs = ", ".join(f"{n} {shape_text(s)}".strip() for n, s in zip(names, graph.output_specs, strict=True))
    return f"Neural network {graph.default_name}: {subtitle}. Inputs: {inputs}. Outputs: {outputs}."
