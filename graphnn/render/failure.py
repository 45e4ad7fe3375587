"""The picture of a declaration that failed: the graph so far, and the layer that could not be connected to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from graphnn.errors import GraphnnError
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Layer, SymbolicTensor, describe
from graphnn.render.layout import TEXT_SIZE, WIDEST_TEXT
from graphnn.render.scene import OUTPUT, Badge, Box, Edge, Scene
from graphnn.render.svg import draw
from graphnn.render.text import clean, wrap
from graphnn.render.views import build_scene

FAILURE = "@failure"
MOST_LINES = 12


def failure_svg(error: GraphnnError, depth: int | None = 0, **options: Any) -> str:
    """The graph that was declared so far, with the layer at fault in red: what it expected, what it got, what to do.

    An error that did not come from connecting a layer is drawn as one red box. Inside a module, the inside is drawn.

    Args:
        error: as caught.
        depth: how many levels of modules are open.
        options: as for to_svg.

    Raises:
        BackendError: there is no Graphviz.
    """
    return draw(failure_scene(error, depth, **options))


def failure_scene(error: GraphnnError, depth: int | None = 0, **options: Any) -> Scene:
    """The scene that `failure_svg` draws."""
    layer, given = error.attempt or (None, ())
    scene = _so_far(error.graph, depth, options)
    failing = _box(error, layer, given)
    edges = [edge for edge in scene.edges if not edge.target.startswith(OUTPUT)]
    edges += _edges_to_failure(scene, given)
    summary = f"{type(error).__name__}: {error.message}"
    return replace(
        scene,
        name=error.where or "a declaration that failed",
        subtitle=summary,
        description=clean(str(error).split("\n  declared at")[0]) + ".",
        boxes=(*(box for box in scene.boxes if box.role != "output"), failing),
        edges=tuple(edges),
    )


def _so_far(graph: Graph | None, depth: int | None, options: dict[str, Any]) -> Scene:
    return Scene("", "", "", (), (), (), ()) if graph is None else build_scene(graph, depth=depth, **options)


def _edges_to_failure(scene: Scene, given: tuple[object, ...]) -> list[Edge]:
    """One for each box that the failing layer reads: those that the outputs of the graph so far come from."""
    sources = {edge.target: edge.source for edge in scene.edges if edge.target.startswith(OUTPUT)}
    unique = list(dict.fromkeys(tensor for tensor in given if isinstance(tensor, SymbolicTensor)))
    texts: dict[str, list[str]] = {}
    for position, tensor in enumerate(given):
        if isinstance(tensor, SymbolicTensor) and sources:
            source = sources[OUTPUT + str(unique.index(tensor))]
            texts.setdefault(source, []).append(f"{source} → input {position}: {tensor.spec}")
    return [Edge(source, FAILURE, tuple(lines)) for source, lines in texts.items()]


def _box(error: GraphnnError, layer: Layer | None, given: tuple[object, ...]) -> Box:
    parts = [("expected", error.expected), ("got", error.got), ("fix", error.fix)]
    lines = [error.where, *wrap(error.message, TEXT_SIZE, WIDEST_TEXT)]
    for label, text in parts:
        lines += wrap(f"{label}: {text}", TEXT_SIZE, WIDEST_TEXT) if text else []
    inputs = tuple(f"input {position}: {describe(value)}" for position, value in enumerate(given))
    title = layer.kind if layer is not None else type(error).__name__
    return Box(
        FAILURE, "failure", title, "failure", tuple(line for line in lines if line)[:MOST_LINES],
        (*inputs, *lines), badges=(Badge("flag", f"! {type(error).__name__}"),), flag=type(error).__name__,
    )  # fmt: skip
