"""Views: which scene is drawn of a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from graphnn.errors import OptionError
from graphnn.graph.graph import Graph
from graphnn.graph.summary import walk
from graphnn.render.backward import backward_scene
from graphnn.render.describe import Parameters, parameters_by_path, shape_text
from graphnn.render.forward import ForwardWalk, opens
from graphnn.render.options import Options, make_options, never, open_modules
from graphnn.render.overlay import lay_over
from graphnn.render.scene import Scene
from graphnn.render.schedule_view import number_boxes, schedule_scene
from graphnn.render.sharing import mark_shared
from graphnn.render.simplify import condense
from graphnn.render.text import plural

AUTOMATIC_BOXES = 300  # without a given depth, modules stay closed so that no more boxes than this are drawn
MOST_LEVELS = 50  # of frames within frames; deeper modules stay closed


def build_scene(
    graph: Graph,
    view: str = "forward",
    depth: int | None = None,
    is_frozen: Callable[[str], bool] = never,
    **options: Any,
) -> Scene:
    """The scene of a view.

    Args:
        graph: what is drawn.
        view: one of VIEWS.
        depth: how many levels of modules are open: 0 for none; None for all, or fewer in a large graph.
        is_frozen: whether the node at a path is frozen.
        options: more of `Options`.

    Raises:
        OptionError: an unknown view or option, or a value that is not allowed.
    """
    if view not in VIEWS:
        raise OptionError("there is no such view", where="view", expected=", ".join(VIEWS), got=repr(view))
    chosen = make_options({"depth": depth, "is_frozen": is_frozen, **options})
    if view != "forward" or chosen.overlays or chosen.facts:
        chosen = replace(chosen, fold=False)  # there every node has something of its own to show
    scene = VIEWS[view](graph, forward_walk(graph, chosen), start_scene(graph, chosen), chosen)
    if chosen.shows("order") and view == "forward":
        scene = number_boxes(graph, scene)
    if chosen.overlays:
        scene = lay_over(scene, chosen.overlays[0])
    return condense(mark_shared(graph, scene))


def forward_walk(graph: Graph, options: Options) -> ForwardWalk:
    """All boxes and connections in forward direction."""
    shown, _ = shown_depth(graph, options)
    is_open = open_modules(graph, shown, options)
    return ForwardWalk(graph, is_open, parameters_by_path(graph, options.is_frozen), options)


def start_scene(graph: Graph, options: Options) -> Scene:
    """A scene without boxes: names, totals, what is closed."""
    shown, deepest = shown_depth(graph, options)
    subtitle = _subtitle(graph, parameters_by_path(graph, options.is_frozen)[""])
    notice = f"showing depth {shown} of {deepest}: deeper modules are closed"
    return Scene(
        name=graph.default_name,
        subtitle=subtitle,
        description=_description(graph, subtitle),
        notices=(*options.facts.get("", ()), *([notice] if shown < deepest else [])),
        boxes=(),
        groups=(),
        edges=(),
        direction=options.direction,
        theme=options.theme,
    )


def forward_scene(graph: Graph, walk: ForwardWalk, scene: Scene, options: Options) -> Scene:
    """Every layer in forward direction."""
    return replace(scene, boxes=tuple(walk.boxes), groups=tuple(walk.groups), edges=walk.edges)


VIEWS: dict[str, Callable[[Graph, ForwardWalk, Scene, Options], Scene]] = {
    "forward": forward_scene,
    "backward": backward_scene,
    "schedule": schedule_scene,
}


def shown_depth(graph: Graph, options: Options) -> tuple[int, int]:
    """(how many levels of modules are open, the depth at which all are)."""
    deepest, automatic = _depths(graph)
    return min(automatic if options.depth is None else options.depth, deepest, MOST_LEVELS), deepest


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
