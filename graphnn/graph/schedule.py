"""Orders of a graph, by networkx: forward, backward, and the cycle that forbids one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from graphnn.errors import GraphError
from graphnn.ir.program import Kind

if TYPE_CHECKING:
    from graphnn.graph.graph import Graph, Node


def topological_order(count: int, edges: Sequence[tuple[int, int]], name: Callable[[int], str]) -> list[int]:
    """The numbers 0..count-1 so that every edge points forward; ties go to the smaller number.

    Raises:
        GraphError: there is a cycle; it is spelled out by `name`.
    """
    if all(source < target for source, target in edges):
        return list(range(count))
    import networkx

    digraph = networkx.DiGraph()
    digraph.add_nodes_from(range(count))
    digraph.add_edges_from(edges)
    try:
        return list(networkx.lexicographical_topological_sort(digraph))
    except networkx.NetworkXUnfeasible:
        cycle = [name(edge[0]) for edge in networkx.find_cycle(digraph)]
        text = " -> ".join([*cycle, cycle[0]])
        raise GraphError(
            "the graph has a cycle", where=cycle[0], expected="no way from a node back to itself", got=text,
            fix="let one of these nodes read another source",
        ) from None  # fmt: skip


def forward_schedule(graph: Graph) -> tuple[Node, ...]:
    """Nodes in a topological order, ties by definition order."""
    position = {node.name: index for index, node in enumerate(graph.nodes)}
    edges = [(position[e.source], position[e.target]) for e in graph.edges if e.source in position]
    order = topological_order(len(graph.nodes), edges, lambda index: graph.nodes[index].name)
    return tuple(graph.nodes[index] for index in order)


def backward_schedule(graph: Graph) -> tuple[Node, ...]:
    """The reverse of the forward order, only the nodes that a gradient visits.

    A gradient visits a node when it comes from a floating-point output and goes on to a parameter or a
    floating-point input.
    """
    order = forward_schedule(graph)
    carries = {(node.name, 0): node.spec.is_float for node in graph.inputs}
    for node in order:
        gives = has_parameters(node) or any(carries.get((s.name, s.index)) for s in node.inputs if s is not None)
        carries |= {(node.name, index): gives and spec.is_float for index, spec in enumerate(node.specs)}
    wanted = {(source.name, source.index) for source in graph.outputs}
    visited = []
    for node in reversed(order):
        if any((node.name, index) in wanted and carries[node.name, index] for index in range(len(node.specs))):
            visited.append(node)
            wanted.update((s.name, s.index) for s in node.inputs if s is not None)
    return tuple(visited)


def has_parameters(node: Node) -> bool:
    """Whether the node, or one inside it, has a trained array."""
    stack = [node]
    while stack:
        inner = stack.pop()
        if any(declaration.kind is Kind.PARAMETER for declaration in inner.declarations):
            return True
        if inner.graph is not None:
            stack.extend(inner.graph.nodes)
    return False


def to_networkx(graph: Graph) -> Any:
    """A MultiDiGraph: nodes by name with layer, kind and specs; an edge per connection with both indices."""
    import networkx

    result = networkx.MultiDiGraph(name=graph.default_name)
    for node in graph.inputs:
        result.add_node(node.name, kind="Input", specs=(node.spec,))
    for node in graph.nodes:
        result.add_node(node.name, kind=node.layer.kind, layer=node.layer, specs=node.specs)
    for edge in graph.edges:
        result.add_edge(edge.source, edge.target, source_index=edge.source_index, target_index=edge.target_index)
    return result
