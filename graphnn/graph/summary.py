"""A printable table of a graph: path, layer, output shape, parameters, connected to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphnn.graph.flatten import flatten
from graphnn.graph.node import Node
from graphnn.graph.scope import ParameterDeclaration
from graphnn.ir.program import Kind
from graphnn.ir.tensor_spec import ITEM_BYTES

if TYPE_CHECKING:
    from graphnn.graph.graph import Graph


@dataclass(frozen=True)
class Row:
    """One node of the table; `parameters` counts what this node owns, shared ones at their first use only."""

    path: str
    layer: str
    outputs: tuple[str, ...]
    parameters: int
    connected_to: tuple[str, ...]
    shares: str = ""  # path of the owner, for a later use of a layer with parameters
    frozen: bool = False


@dataclass(frozen=True)
class Summary:
    """Rows and totals; `str()` gives the table, `to_dict()` plain data."""

    name: str
    rows: tuple[Row, ...]
    trainable: int
    frozen: int
    states: int
    parameter_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able copy."""
        keys = ("path", "layer", "outputs", "parameters", "connected_to", "shares", "frozen")
        rows = [{key: _plain(getattr(row, key)) for key in keys} for row in self.rows]
        totals = {"trainable": self.trainable, "frozen": self.frozen, "states": self.states}
        return {"name": self.name, "nodes": rows, **totals, "parameter_bytes": self.parameter_bytes}

    def __str__(self) -> str:
        header = ("path", "layer", "output", "parameters", "connected to")
        table = [header, *map(_cells, self.rows)]
        widths = [max(len(line[column]) for line in table) for column in range(len(header))]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        lines = [_line(line, widths) for line in table]
        return "\n".join([f"graph {self.name}", rule, lines[0], rule, *lines[1:], rule, self._totals()])

    def _totals(self) -> str:
        total = self.trainable + self.frozen
        text = f"{total:,} parameters ({_bytes(self.parameter_bytes)}): "
        text += f"{self.trainable:,} trainable, {self.frozen:,} frozen"
        return text + (f"; {self.states:,} in states" if self.states else "")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _cells(row: Row) -> tuple[str, ...]:
    count = f"= {row.shares}" if row.shares else f"{row.parameters:,}" + (" frozen" if row.frozen else "")
    return row.path, row.layer, " ".join(row.outputs), count, ", ".join(row.connected_to)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    parts = [
        cell.rjust(w) if column == 3 else cell.ljust(w)
        for column, (cell, w) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(parts).rstrip()


def _bytes(count: int) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024  # type: ignore[assignment]
    return f"{count:.4g} GiB"


def summarize(graph: Graph, is_frozen: Callable[[str], bool] = lambda path: False, dtype: str = "float32") -> Summary:
    """Rows for inputs and all nodes at every depth (inner ones by path), and the totals."""
    owners = {leaf.path: leaf.owner for leaf in flatten(graph).leaves}
    rows: list[Row] = [Row(n.name, "Input", (_shape(n.spec),), 0, ()) for n in graph.inputs]
    totals = {"trainable": 0, "frozen": 0, "states": 0}
    for path, _, node in walk(graph):
        shared = owners.get(path, path) != path and bool(node.declarations)
        count = 0 if shared else _count(node.declarations, Kind.PARAMETER)
        frozen = is_frozen(path)
        totals["frozen" if frozen else "trainable"] += count
        totals["states"] += 0 if shared else _count(node.declarations, Kind.STATE)
        sources = tuple(str(source) for source in node.inputs if source is not None)  # names in the same graph
        shares = owners[path] if shared else ""
        rows.append(
            Row(path, node.layer.kind, tuple(map(_shape, node.specs)), count, sources, shares, frozen and count > 0)
        )
    total_bytes = (totals["trainable"] + totals["frozen"]) * ITEM_BYTES[dtype]
    return Summary(graph.default_name, tuple(rows), **totals, parameter_bytes=total_bytes)


def walk(graph: Graph) -> Iterator[tuple[str, str, Node]]:
    """(path, path of the enclosing graph with a slash, node) for all nodes at every depth, outer before inner."""
    stack: list[tuple[str, Iterator[Node]]] = [("", iter(graph.nodes))]
    while stack:
        prefix, nodes = stack[-1]
        node = next(nodes, None)
        if node is None:
            stack.pop()
            continue
        yield prefix + node.name, prefix, node
        if node.graph is not None:
            stack.append((f"{prefix}{node.name}/", iter(node.graph.nodes)))


def _shape(spec: Any) -> str:
    return f"({', '.join(map(str, spec.shape))})" + ("" if spec.dtype == "float32" else f" {spec.dtype}")


def _count(declarations: tuple[ParameterDeclaration, ...], kind: Kind) -> int:
    return sum(declaration.spec.size for declaration in declarations if declaration.kind is kind)
