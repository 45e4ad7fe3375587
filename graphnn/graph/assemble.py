"""Graphs from descriptions: what files, surgery and re-use on other input shapes build from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphnn.errors import GraphError, ShapeError
from graphnn.graph.layer import InputNode, Layer, Position, SymbolicTensor, arrange, connect
from graphnn.graph.schedule import topological_order
from graphnn.ir.dimension import substitute
from graphnn.ir.tensor_spec import TensorSpec

if TYPE_CHECKING:
    from graphnn.graph.graph import Graph

Reference = tuple[str, int]  # name of a node or input, index of its output


@dataclass(frozen=True)
class NodeRecord:
    """Name, layer and sources of a node that is to be made."""

    name: str
    layer: Layer
    inputs: tuple[Reference | None, ...]
    declared_at: Position


@dataclass(frozen=True)
class Blueprint:
    """Description of a graph that is to be made; nodes may stand in any order."""

    inputs: tuple[InputNode, ...]
    nodes: tuple[NodeRecord, ...]
    outputs: tuple[Reference, ...]
    output_names: tuple[str, ...]


def assemble(blueprint: Blueprint, where: str = "graph") -> tuple[list[SymbolicTensor], Any]:
    """Symbolic inputs and outputs of the described graph.

    Raises:
        GraphError: duplicate names, unknown sources, or a cycle (which is spelled out).
    """
    _check_unique(node.name for node in (*blueprint.inputs, *blueprint.nodes))
    inputs = [SymbolicTensor(node, 0, node.spec) for node in blueprint.inputs]
    made: dict[str, tuple[SymbolicTensor, ...]] = {t.source.name: (t,) for t in inputs}  # type: ignore[misc]
    for record in _in_order(blueprint):
        sources = tuple(None if ref is None else _resolve(made, ref, record.name) for ref in record.inputs)
        result = connect(record.layer, sources, record.name, record.declared_at)
        made[record.name] = _outputs(result)
    if not blueprint.outputs:
        raise GraphError("a graph needs at least one output", where=where, expected="a source", got="nothing")
    outputs = [_resolve(made, reference, where) for reference in blueprint.outputs]
    return inputs, arrange(outputs, blueprint.output_names)


def _check_unique(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            expected = "unique names in a graph"
            raise GraphError("the name is given twice", where=name, expected=expected, got=repr(name), fix="rename one")
        seen.add(name)


def _outputs(result: Any) -> tuple[SymbolicTensor, ...]:
    if isinstance(result, SymbolicTensor):
        return (result,)
    return tuple(result.values()) if isinstance(result, dict) else tuple(result)


def _in_order(blueprint: Blueprint) -> list[NodeRecord]:
    position = {record.name: index for index, record in enumerate(blueprint.nodes)}
    known = {node.name for node in blueprint.inputs} | set(position)
    edges = []
    for index, record in enumerate(blueprint.nodes):
        for reference in record.inputs:
            if reference is not None and reference[0] not in known:
                raise _unknown(reference[0], record.name, sorted(known))
            if reference is not None and reference[0] in position:
                edges.append((position[reference[0]], index))
    order = topological_order(len(blueprint.nodes), edges, lambda index: blueprint.nodes[index].name)
    return [blueprint.nodes[index] for index in order]


def _resolve(made: dict[str, tuple[SymbolicTensor, ...]], reference: Reference, where: str) -> SymbolicTensor:
    name, index = reference
    if name not in made:
        raise _unknown(name, where, sorted(made))
    if not 0 <= index < len(made[name]):
        expected = name if len(made[name]) == 1 else f"{name}:0 to {name}:{len(made[name]) - 1}"
        raise GraphError(f"`{name}` has no such output", where=where, expected=expected, got=f"{name}:{index}")
    return made[name][index]


def _unknown(name: str, where: str, known: list[str]) -> GraphError:
    return GraphError("a source does not exist", where=where, expected=", ".join(known[:20]), got=repr(name))


def check_input_specs(graph: Graph, specs: tuple[TensorSpec | None, ...]) -> list[TensorSpec]:
    """The spec of each input of `graph` when it is called with `specs`; names of sizes may become other sizes.

    Raises:
        GraphError: a required input is missing. ShapeError: a rank, integer size or dtype differs.
    """
    if len(specs) > len(graph.inputs):
        raise GraphError("too many inputs", where=graph.default_name, expected=len(graph.inputs), got=len(specs))
    padded = [*specs, *[None] * (len(graph.inputs) - len(specs))]
    bindings: dict[str, Any] = {}
    for node, spec in zip(graph.inputs, padded, strict=True):
        if spec is None and not node.optional:
            where = f"{graph.default_name}/{node.name}"
            raise GraphError("a required input is missing", where=where, expected=node.spec, got="nothing")
        if spec is not None:
            _match(graph, node, spec, bindings)
    return [spec or _substituted(node.spec, bindings) for node, spec in zip(graph.inputs, padded, strict=True)]


def _match(graph: Graph, node: InputNode, spec: TensorSpec, bindings: dict[str, Any]) -> None:
    fits = spec.rank == node.spec.rank and spec.dtype == node.spec.dtype
    for declared, given in zip(node.spec.shape, spec.shape, strict=False):
        if isinstance(declared, int):
            fits = fits and declared == given
        elif str(declared).isidentifier():
            fits = fits and bindings.setdefault(str(declared), given) == given
    if not fits:
        where = f"{graph.default_name}/{node.name}"
        bound = {name: str(bindings[name]) for name in sorted(node.spec.names & set(bindings))}
        used = ", ".join(f"{name} = {size}" for name, size in bound.items() if size != name)
        expected = f"{node.spec}" + (f" where {used}" if used else "")
        raise ShapeError("the input does not fit the graph that is called", where=where, expected=expected, got=spec)


def _substituted(spec: TensorSpec, bindings: dict[str, Any]) -> TensorSpec:
    return TensorSpec(tuple(substitute(size, bindings) for size in spec.shape), spec.dtype)
