"""Layers with several uses: their parameters must have one shape everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphnn.errors import ShapeError, describe_line
from graphnn.graph.node import Node


def check_sharing(nodes: Sequence[Node]) -> None:
    """Find a layer whose uses, at any depth, ask for parameters of different shapes.

    Raises:
        ShapeError: names both uses, the parameter and what to do.
    """
    first: dict[int, tuple[str, Node]] = {}
    for path, node in _with_parameters(nodes):
        first_path, other = first.setdefault(id(node.layer), (path, node))
        if node.declarations is other.declarations:
            continue
        for mine, theirs in zip(node.declarations, other.declarations, strict=False):
            if mine.spec != theirs.spec:
                raise ShapeError(
                    f"the shared parameter `{mine.path.removeprefix('/')}` would need two shapes", where=path,
                    expected=f"{theirs.spec} as `{first_path}`, {describe_line(other.declared_at)}", got=mine.spec,
                    fix="call the layer on inputs of equal feature size, or use two layers",
                ).locate("", node.declared_at)  # fmt: skip


def _with_parameters(nodes: Sequence[Node]) -> Iterator[tuple[str, Node]]:
    """Leaves with parameters or states, with their paths; a graph that is used again has nothing new."""
    known: set[int] = set()
    stack = [("", iter(nodes))]
    while stack:
        prefix, remaining = stack[-1]
        node = next(remaining, None)
        if node is None:
            stack.pop()
        elif node.declarations:
            yield prefix + node.name, node
        elif node.graph is not None and id(node.graph) not in known:
            known.add(id(node.graph))
            stack.append((f"{prefix}{node.name}/", iter(node.graph.nodes)))
