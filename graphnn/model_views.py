"""Pictures of graphs, models and trainers: the one way in for every view."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from graphnn.atomic import replace_file
from graphnn.compile import Signature, kept_for_backward
from graphnn.errors import GraphnnError, OptionError
from graphnn.graph.graph import Graph
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.model import Model
from graphnn.model_summary import frozen_marks
from graphnn.node_costs import counted_words, facts_of
from graphnn.render.options import COUNTED, never
from graphnn.render.render import render
from graphnn.render.svg import to_svg
from graphnn.render.views import VIEWS
from graphnn.run_views import (
    LOWERED,
    MEASURED,
    Request,
    check_view_of,
    lowered_svg,
    overlays_of,
    split_options,
)
from graphnn.training.trainer import Trainer

ANY_SIZE = 64  # of named dimensions; which values are kept does not depend on it
ALL_VIEWS = (*VIEWS, *LOWERED, *MEASURED)
Target = Graph | Model | Trainer


def draw(target: Target, view: str, depth: int | None, options: Mapping[str, Any]) -> str:
    """Any view as SVG text; see `Graph.to_svg`.

    Raises:
        OptionError: an unknown view or option, or sizes are missing; says what to give.
        BackendError: there is no Graphviz, or no such device.
    """
    if view in LOWERED:
        return _lowered(target, view, depth, options)
    graph, view, is_frozen, options = _as_graph(target, view, options)
    return to_svg(graph, view, depth, is_frozen, **options)


def write(
    target: Target, path: str | os.PathLike[str], view: str, depth: int | None, options: Mapping[str, Any]
) -> None:
    """Write a drawing to a file; see `Graph.render`.

    Raises:
        OptionError, BackendError: as for `draw`; or the ending names no format that the view has.
        OSError: the folder does not exist or cannot be written.
    """
    ending = Path(path).suffix.lower()
    if view in LOWERED:
        if ending != ".svg":
            where = os.fspath(path)
            raise OptionError(f"the view {view} has another format", where=where, expected=".svg", got=ending)
        svg = _lowered(target, view, depth, options)
        with replace_file(path) as file:
            file.write(svg.encode())
        return
    graph, view, is_frozen, options = _as_graph(target, view, options, is_page=ending == ".html")
    render(graph, path, view, depth, is_frozen, **options)


def _lowered(target: Target, view: str, depth: int | None, options: Mapping[str, Any]) -> str:
    if depth is not None:
        raise OptionError(f"the view {view} has no depth: it shows ops", where="depth", expected="None", got=depth)
    return lowered_svg(target, view, split_options(view, options)[0])


def _as_graph(
    target: Target, view: str, options: Mapping[str, Any], is_page: bool = False
) -> tuple[Graph, str, Callable[[str], bool], dict[str, Any]]:
    """(graph, view of it, what is frozen, options of the drawing); measured numbers become overlays.

    A page gets all that is at hand, for its reader to choose from.
    """
    if view not in ALL_VIEWS:
        raise OptionError("there is no such view", where="view", expected=", ".join(ALL_VIEWS), got=repr(view))
    request, rest, words = Request(), dict(options), counted_words(options.get("show", ()))
    if is_page and view in MEASURED:
        words = tuple(word for word in COUNTED if word != "device" or not isinstance(target, Graph))
    if view in MEASURED or words:
        request, rest = split_options(view, options)
    check_view_of(view, rest)
    if words:
        rest["facts"] = facts_of(target, words, request)
    if view in MEASURED:
        rest["overlay"], view = overlays_of(target, view, request, is_page), "forward"
    if isinstance(target, Graph):
        return target, view, rest.pop("is_frozen", never), rest
    model = target.model if isinstance(target, Trainer) else target
    if view == "backward" or is_page:
        rest = {"kept": kept_values(model), **rest}
    return model.graph, view, frozen_marks(model), rest


def kept_values(model: Model) -> dict[str, tuple[str, ...]]:
    """What a training run keeps for its backward run, by node path; empty where no size fits all inputs."""
    names = dict.fromkeys(name for node in model.graph.inputs for name in sorted(node.spec.names))
    sizes = dict.fromkeys(names, ANY_SIZE)
    try:
        specs = tuple((node.name, _bound(node.spec, sizes, model.dtype)) for node in model.graph.inputs)
        signature = Signature(specs, True, model.dtype, model.frozen_nodes(), model.fixed_parameters())
        return kept_for_backward(model.graph, model.flat, signature)
    except GraphnnError:
        return {}


def _bound(spec: TensorSpec, sizes: Mapping[str, int], dtype: str) -> TensorSpec:
    return TensorSpec(spec.bind(sizes).shape, dtype if spec.is_float else spec.dtype)
