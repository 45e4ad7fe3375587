"""Where gradients go: which nodes a backward run visits, in which order, and which values get a gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphnn.graph.flatten import FlatGraph, Leaf, flatten
from graphnn.graph.graph import Graph, Source
from graphnn.ir.program import Kind


@dataclass(frozen=True)
class GradientFlow:
    """The way of all gradients from the outputs of a graph.

    Args:
        order: number of each visited leaf node by path, from 1; backward order is the reverse of forward order.
        readers: for each value that gets a gradient, the visited leaf nodes that send one.
        reached: values that are graph outputs and get a gradient from outside.
        frozen: paths of visited leaf nodes whose parameters get none.
        flat: the leaf nodes.
    """

    order: dict[str, int]
    readers: dict[Source, list[str]]
    reached: dict[Source, None]
    frozen: dict[str, None]
    flat: FlatGraph


def gradient_flow(graph: Graph, is_frozen: Callable[[str], bool]) -> GradientFlow:
    """Follow gradients back from every floating-point output.

    A gradient visits a node when it goes on from there to trained parameters or a floating-point input of the graph.
    """
    flat = flatten(graph)
    carries = _carriers(graph, flat, is_frozen)
    reached = {s: None for s in flat.outputs if isinstance(s, Source) and s in carries}
    readers: dict[Source, list[str]] = {}
    order: dict[str, int] = {}
    frozen: dict[str, None] = {}
    for leaf in reversed(flat.leaves):
        results = [Source(leaf.path, index) for index in range(len(leaf.specs))]
        if not any(source in carries and (source in readers or source in reached) for source in results):
            continue
        order[leaf.path] = len(order) + 1
        if _has_parameters(leaf) and is_frozen(leaf.owner):
            frozen[leaf.path] = None
        for source in leaf.inputs:
            if isinstance(source, Source) and source in carries:
                readers.setdefault(source, []).append(leaf.path)
    return GradientFlow(order, readers, reached, frozen, flat)


def _carriers(graph: Graph, flat: FlatGraph, is_frozen: Callable[[str], bool]) -> dict[Source, None]:
    """Floating-point values that depend on trained parameters or a floating-point input."""
    carries: dict[Source, None] = {Source(node.name): None for node in graph.inputs if node.spec.is_float}
    for leaf in flat.leaves:
        trained = _has_parameters(leaf) and not is_frozen(leaf.owner)
        if trained or any(source in carries for source in leaf.inputs if isinstance(source, Source)):
            carries |= {Source(leaf.path, i): None for i, spec in enumerate(leaf.specs) if spec.is_float}
    return carries


def _has_parameters(leaf: Leaf) -> bool:
    return any(declaration.kind is Kind.PARAMETER for declaration in leaf.declarations)
