"""Surgery: a changed copy of a graph. The given graph stays as it is; unchanged nodes keep names and layers.

So parameters keep their paths, and arrays of the old graph fit the new one wherever its nodes remain. (A layer that
several nodes share is called by the first of them; when that one goes, by the next.) Every node of the copy is checked
again. Nodes that no output needs any more are left out; an input that none needs is an error, as callers would still
have to give it.

A node is named by its path: "conv", or "block/conv" for one inside a Module or Graph. What is inside is changed for
that node alone, also where other nodes share the module; the layers in it stay shared. A source is "conv", or "conv:1"
for a second output, within the same graph.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace as changed
from typing import TypeAlias

from graphnn.errors import GraphError, GraphnnError
from graphnn.graph.assemble import Blueprint, NodeRecord, Reference, assemble
from graphnn.graph.graph import Graph
from graphnn.graph.layer import InputNode, Layer, check_name, user_position
from graphnn.graph.node import Edge, Node, Source

Ends: TypeAlias = str | Sequence[str] | Mapping[str, str]


def rewire(graph: Graph, node: str, input_index: int, source: str | Source) -> Graph:
    """Input `input_index` of `node` comes from `source`.

    Raises:
        GraphError: an unknown name or index, a cycle (which is spelled out), or an input that nothing uses any more.
        ShapeError, DTypeError: the source does not fit the node.
    """

    def edit(inner: Graph, name: str) -> Blueprint:
        reference = _reference(inner, source, node)
        return _with_input(inner, name, node, input_index, reference)

    return _edit(graph, node, edit)


def replace(graph: Graph, node: str, layer: Layer) -> Graph:
    """`node` does what `layer` does; its name and connections stay.

    Raises:
        GraphError: no such node, or the layer takes another number of inputs.
        ShapeError, DTypeError: the layer, or a node behind it, does not fit.
    """
    position = user_position()

    def edit(inner: Graph, name: str) -> Blueprint:
        index = _index(inner, name, node)
        blueprint = inner.blueprint()
        record = changed(blueprint.nodes[index], layer=_layer(layer, node), declared_at=position)
        if isinstance(layer, Graph):  # unlike a Module's forward it has no place for what is not given
            record = changed(record, inputs=tuple(i for i in record.inputs if i is not None or _takes(layer, record)))
        return _with_record(blueprint, index, record)

    return _edit(graph, node, edit)


def insert(
    graph: Graph, layer: Layer, name: str, *, after: str | Source | None = None, edge: Edge | None = None
) -> Graph:
    """A new node on one connection, or on all that leave one output.

    Args:
        graph: the graph to change.
        layer: what the new node does; takes one input.
        name: its name.
        after: every node and graph output that read this source read the new node instead.
        edge: one of `graph.edges`; only this connection goes through the new node.

    Raises:
        GraphError: neither or both of `after` and `edge` are given, an unknown source or edge, a name that is taken.
        ShapeError, DTypeError: the layer, or a node behind it, does not fit.
    """
    check_name(name)
    if (after is None) == (edge is None):
        got = "both" if edge else "none"
        raise GraphError("a node is inserted at one place", where=name, expected="either `after` or `edge`", got=got)
    if edge is not None and edge not in graph.edges:
        raise GraphError("the graph has no such edge", where=name, expected="one of graph.edges", got=edge)
    position = user_position()

    def edit(inner: Graph, local: str) -> Blueprint:
        if edge is None:
            source = _reference(inner, local, name)
            blueprint = _redirect(inner.blueprint(), {source: (name, 0)})
        else:
            source = (edge.source, edge.source_index)
            blueprint = _with_input(inner, edge.target, edge.target, edge.target_index, (name, 0))
        record = NodeRecord(name, _layer(layer, name), (source,), position)
        place = 1 + next((i for i, node in enumerate(inner.nodes) if node.name == source[0]), -1)
        return changed(blueprint, nodes=(*blueprint.nodes[:place], record, *blueprint.nodes[place:]))

    return _edit(graph, str(after) if edge is None else edge.target, edit)


def delete(graph: Graph, node: str) -> Graph:
    """`node` is bypassed: what read it reads its input instead.

    Raises:
        GraphError: no such node, or it has not exactly one input and one output.
        ShapeError, DTypeError: a node behind it does not fit the bypassed input.
    """

    def edit(inner: Graph, name: str) -> Blueprint:
        index = _index(inner, name, node)
        blueprint = inner.blueprint()
        given = [reference for reference in blueprint.nodes[index].inputs if reference is not None]
        count = len(inner.nodes[index].specs)
        if len(given) != 1 or count != 1:
            raise GraphError(
                "only a node with one input and one output can be bypassed", where=node,
                expected="1 input and 1 output", got=f"{len(given)} and {count}", fix="rewire the nodes that read it",
            )  # fmt: skip
        rest = changed(blueprint, nodes=(*blueprint.nodes[:index], *blueprint.nodes[index + 1 :]))
        return _redirect(rest, {(name, 0): given[0]})

    return _edit(graph, node, edit)


def subgraph(
    graph: Graph,
    inputs: Ends,
    outputs: Ends,
    name: str | None = None,
) -> Graph:
    """The part of `graph` that leads from some sources to others; it shares the layers.

    Args:
        graph: the graph to cut.
        inputs: sources that the part gets from outside: inputs of `graph` or outputs of nodes. The inputs of the part
            are called like them ("conv" for "conv", "lstm_1" for "lstm:1"), or by the keys of a mapping.
        outputs: one source, a sequence or a mapping by name: the structure of the part's outputs.
        name: of the part.

    Raises:
        GraphError: an unknown source, an output that needs an input which is not listed, or an input that none needs.
    """
    try:
        return _cut(graph, inputs, outputs, name)
    except GraphnnError as error:
        error.locate(name or graph.default_name, user_position())
        raise


def _cut(graph: Graph, inputs: Ends, outputs: Ends, name: str | None) -> Graph:
    where = name or graph.default_name
    cut = {_reference(graph, source, where): key for key, source in _input_names(inputs, where).items()}
    wanted = {key: _reference(graph, source, where) for key, source in _output_names(outputs).items()}
    blueprint = graph.blueprint()
    needed = _needed(blueprint, wanted.values(), cut)
    for node in graph.inputs:
        if node.name in needed:
            raise GraphError(
                "an output of the part depends on an input that is not listed", where=node.name,
                expected=f"inputs with `{node.name}`", got=", ".join(cut.values()),
                fix="list it, or a source between it and the outputs",
            )  # fmt: skip
    nodes = tuple(record for record in blueprint.nodes if record.name in needed)
    names = () if isinstance(outputs, str) else tuple(wanted)
    ends = tuple(_input_node(graph, key, reference) for reference, key in cut.items())
    part = _redirect(Blueprint(ends, nodes, tuple(wanted.values()), names), {r: (key, 0) for r, key in cut.items()})
    return Graph(*assemble(part, where), name=name)


# -- paths ------------------------------------------------------------------------------------------------------------


def _edit(graph: Graph, path: str, edit: Callable[[Graph, str], Blueprint]) -> Graph:
    """`graph` with the inner graph that holds `path` changed by `edit`, and all graphs around it rebuilt."""
    try:
        *outer_names, name = path.split("/")
        around = _descend(graph, outer_names, path)
        inner = around[-1][0].nodes[around[-1][1]].graph if around else graph
        changed_graph = _rebuild(inner or graph, edit(inner or graph, name), outer_names)
        while around:
            outer, index = around.pop()
            record = changed(_aligned(outer, index), layer=changed_graph)
            blueprint = _with_record(outer.blueprint(), index, record)
            changed_graph = _rebuild(outer, blueprint, outer_names[: len(around)])
    except GraphnnError as error:
        error.locate(path, user_position())
        raise
    return changed_graph


def _descend(graph: Graph, names: Sequence[str], path: str) -> list[tuple[Graph, int]]:
    """Each graph on the way to `path`, with the number of the node to go into."""
    way: list[tuple[Graph, int]] = []
    for name in names:
        index = _index(graph, name, path)
        way.append((graph, index))
        inner = graph.nodes[index].graph
        if inner is None:
            raise GraphError("the node has no graph inside", where=path, expected="a Module or Graph", got=repr(name))
        graph = inner
    return way


def _rebuild(graph: Graph, blueprint: Blueprint, outer_names: Sequence[str]) -> Graph:
    try:
        return graph.rebuild(blueprint)
    except GraphnnError as error:
        error.where = "/".join([*outer_names, error.where])
        raise


def _aligned(graph: Graph, index: int) -> NodeRecord:
    """The record of a Module or Graph node with one source for each input of its inner graph."""
    given = tuple(None if s is None else (s.name, s.index) for _, s in graph.nodes[index].inner_sources)
    return changed(graph.blueprint().nodes[index], inputs=given)


def _index(graph: Graph, name: str, path: str) -> int:
    for index, node in enumerate(graph.nodes):
        if node.name == name:
            return index
    raise GraphError("no such node", where=path, expected=_names(graph.nodes), got=repr(name))


def _names(nodes: Iterable[Node | InputNode]) -> str:
    names = [node.name for node in nodes]
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _reference(graph: Graph, source: str | Source, where: str) -> Reference:
    """(name, index) of a source that exists."""
    name, _, number = str(source).partition(":")
    counts = {node.name: 1 for node in graph.inputs} | {node.name: len(node.specs) for node in graph.nodes}
    if name not in counts:
        expected = _names((*graph.inputs, *graph.nodes))
        raise GraphError("a source does not exist", where=where, expected=expected, got=repr(name))
    if not (number or "0").isdecimal() or int(number or 0) >= counts[name]:
        expected = name if counts[name] == 1 else f"{name}:0 to {name}:{counts[name] - 1}"
        raise GraphError(f"`{name}` has no such output", where=where, expected=expected, got=str(source))
    return name, int(number or 0)


# -- blueprints -------------------------------------------------------------------------------------------------------


def _layer(layer: object, where: str) -> Layer:
    if not isinstance(layer, Layer):
        raise GraphError("this is no layer", where=where, expected="a layer such as layers.ReLU()", got=repr(layer))
    return layer


def _takes(graph: Graph, record: NodeRecord) -> bool:
    return len(graph.inputs) == len(record.inputs)


def _with_record(blueprint: Blueprint, index: int, record: NodeRecord) -> Blueprint:
    return changed(blueprint, nodes=(*blueprint.nodes[:index], record, *blueprint.nodes[index + 1 :]))


def _with_input(graph: Graph, name: str, path: str, input_index: int, reference: Reference) -> Blueprint:
    index = _index(graph, name, path)
    record = graph.blueprint().nodes[index]
    if not 0 <= input_index < len(record.inputs):
        expected = f"less than {len(record.inputs)}"
        raise GraphError("the node has no such input", where=path, expected=expected, got=input_index)
    inputs = (*record.inputs[:input_index], reference, *record.inputs[input_index + 1 :])
    return _with_record(graph.blueprint(), index, changed(record, inputs=inputs))


def _redirect(blueprint: Blueprint, new: Mapping[Reference, Reference]) -> Blueprint:
    """Every reader of a source, graph outputs among them, reads another one."""
    nodes = tuple(
        changed(record, inputs=tuple(None if i is None else new.get(i, i) for i in record.inputs))
        for record in blueprint.nodes
    )
    return changed(blueprint, nodes=nodes, outputs=tuple(new.get(output, output) for output in blueprint.outputs))


def _needed(blueprint: Blueprint, outputs: Iterable[Reference], cut: Container[Reference]) -> set[str]:
    """Names of nodes and inputs between the cut and `outputs`."""
    records = {record.name: record for record in blueprint.nodes}
    needed: set[str] = set()
    stack = [reference for reference in outputs if reference not in cut]
    while stack:
        name, _ = stack.pop()
        if name not in needed:
            needed.add(name)
            given = records[name].inputs if name in records else ()
            stack.extend(reference for reference in given if reference is not None and reference not in cut)
    return needed


def _input_node(graph: Graph, name: str, reference: Reference) -> InputNode:
    check_name(name)
    for node in graph.inputs:
        if node.name == reference[0]:
            return changed(node, name=name)
    spec = graph.spec_of(Source(*reference))
    return InputNode(name, spec, declared_at=graph.node(reference[0]).declared_at)


def _input_names(inputs: Ends, where: str) -> Mapping[str, str]:
    if isinstance(inputs, Mapping):
        return inputs
    sources = [inputs] if isinstance(inputs, str) else list(inputs)
    names = {source.replace(":", "_"): source for source in map(str, sources)}
    if len(names) < len(sources):
        raise GraphError("an input is listed twice", where=where, expected="each source once", got=", ".join(sources))
    return names


def _output_names(outputs: Ends) -> Mapping[str, str]:
    if isinstance(outputs, Mapping):
        return outputs
    return {str(index): source for index, source in enumerate([outputs] if isinstance(outputs, str) else outputs)}
