"""Orders of a graph, by networkx: forward, backward, and the cycle that forbids one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from graphnn.errors import GraphError
from graphnn.graph.flatten import Leaf, flatten
from graphnn.graph.node import Source
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

    A gradient visits a leaf node when it comes from a floating-point output and goes on to a parameter or a
    floating-point input; it visits a graph inside the graph when it visits a leaf in there.
    """
    visited = {path.partition("/")[0] for path in _visited_leaves(graph)}
    return tuple(node for node in reversed(forward_schedule(graph)) if node.name in visited)


def _visited_leaves(graph: Graph) -> Iterator[str]:
    flat = flatten(graph)
    carries = {Source(node.name) for node in graph.inputs if node.spec.is_float}
    for leaf in flat.leaves:
        if is_trained(leaf) or not carries.isdisjoint(leaf.inputs):
            carries.update(Source(leaf.path, index) for index, spec in enumerate(leaf.specs) if spec.is_float)
    wanted = set(flat.outputs)
    for leaf in reversed(flat.leaves):
        results = (Source(leaf.path, index) for index in range(len(leaf.specs)))
        if any(source in wanted and source in carries for source in results):
            wanted.update(leaf.inputs)
            yield leaf.path


def is_trained(leaf: Leaf) -> bool:
    """Whether the leaf has a trained array."""
    return any(declaration.kind is Kind.PARAMETER for declaration in leaf.declarations)


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
