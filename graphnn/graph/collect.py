"""From symbolic outputs back to all calls and inputs that they need; names for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from graphnn.errors import GraphError, describe_line
from graphnn.graph.layer import Call, InputNode, SymbolicTensor, check_name, describe


def collect(
    inputs: Sequence[SymbolicTensor], outputs: Sequence[SymbolicTensor], output_names: Sequence[str]
) -> tuple[dict[InputNode, InputNode], list[Call]]:
    """All calls that `outputs` need, in definition order, and the inputs with their final names.

    Raises:
        GraphError: not symbolic, an input that is no Input, stands twice, is missing or unused; duplicate names.
    """
    _check_ends(inputs, outputs, output_names)
    sources = [tensor.source for tensor in inputs if isinstance(tensor.source, InputNode)]
    calls, reached = _walk_back(outputs)
    listed = set(sources)
    missing = [node for node in reached if node not in listed]
    if missing:
        raise GraphError(
            "an output depends on an input that the graph does not list", where=missing[0].name or "an unnamed input",
            expected=f"one of {', '.join(node.name for node in sources) or 'none'}", got=missing[0].spec,
            fix="add it to the graph's inputs",
        ).locate("", missing[0].declared_at)  # fmt: skip
    unused = [node for node in sources if node not in reached]
    if unused:
        raise GraphError(
            "the input is disconnected: no output depends on it", where=unused[0].name or "an unnamed input",
            expected="a node or output that reads it", got="none", fix="use it, or leave it out of the graph's inputs",
        ).locate("", unused[0].declared_at)  # fmt: skip
    return _name_inputs(sources), sorted(calls, key=lambda call: call.serial)


def collect_reachable(outputs: Sequence[SymbolicTensor]) -> list[SymbolicTensor]:
    """The inputs that `outputs` depend on, in the order of their definition."""
    _, inputs = _walk_back(outputs)
    return [SymbolicTensor(node, 0, node.spec) for node in sorted(inputs, key=lambda node: node.serial)]


def _check_ends(inputs: Sequence[object], outputs: Sequence[object], output_names: Sequence[str]) -> None:
    for tensor in inputs:
        if not isinstance(tensor, SymbolicTensor) or not isinstance(tensor.source, InputNode):
            fix = "to begin in the middle of a graph, cut it: surgery.subgraph"
            raise GraphError("a graph begins at inputs", expected="gnn.Input(...)", got=describe(tensor), fix=fix)
    names = [tensor.source.name for tensor in inputs if isinstance(tensor, SymbolicTensor)]
    if len({tensor.source for tensor in inputs if isinstance(tensor, SymbolicTensor)}) < len(names):
        expected = "each input once"
        raise GraphError(
            "an input stands twice in the graph's inputs", expected=expected, got=", ".join(map(str, names))
        )
    if not outputs:
        expected = "a symbolic tensor, a tuple or a dict of them"
        raise GraphError("a graph needs at least one output", expected=expected, got="nothing")
    for tensor in outputs:
        if not isinstance(tensor, SymbolicTensor):
            expected = "the output of a layer"
            raise GraphError("a graph output is not a symbolic tensor", expected=expected, got=describe(tensor))
    for name in output_names:
        check_name(name)


def _walk_back(outputs: Sequence[SymbolicTensor]) -> tuple[list[Call], dict[InputNode, None]]:
    calls: dict[Call, None] = {}
    inputs: dict[InputNode, None] = {}
    stack = [tensor.source for tensor in outputs]
    while stack:
        source = stack.pop()
        if isinstance(source, InputNode):
            inputs[source] = None
        elif source not in calls:
            calls[source] = None
            stack.extend(tensor.source for tensor in source.inputs if tensor is not None)
    return list(calls), inputs


def _name_inputs(sources: Sequence[InputNode]) -> dict[InputNode, InputNode]:
    names = _Names()
    for node in sources:
        if node.name:
            names.claim(node.name, node, node.declared_at)
    return {node: node if node.name else replace(node, name=names.fresh("x")) for node in sources}


def name_calls(inputs: Iterable[InputNode], calls: Sequence[Call], attributes: Mapping[int, str]) -> dict[Call, str]:
    """A unique name for each call: fixed, given to the layer, the Module's attribute, or made from the class.

    A layer that is called again gets `name_2`, `name_3`...

    Raises:
        GraphError: two different layers were given the same name; shows both lines.
    """
    names = _Names()
    for node in inputs:
        names.claim(node.name, node, node.declared_at)
    result: dict[Call, str] = {}
    for call in calls:  # names that the user chose come first, so that no made-up name takes their place
        chosen = call.name or call.layer.name or attributes.get(id(call.layer))
        if chosen is not None and not (call.name is None and names.owner(chosen) is call.layer):
            names.claim(chosen, call.layer, call.declared_at)
            result[call] = chosen
    for call in calls:
        if call not in result:
            result[call] = names.fresh(attributes.get(id(call.layer)) or call.layer.default_name)
    return {call: result[call] for call in calls}


class _Names:
    """Names in use, with who holds each; makes fresh ones in constant time."""

    def __init__(self) -> None:
        self._taken: dict[str, tuple[object, tuple[str, int]]] = {}
        self._next: dict[str, int] = {}

    def owner(self, name: str) -> object:
        return self._taken[name][0] if name in self._taken else None

    def claim(self, name: str, owner: object, declared_at: tuple[str, int]) -> None:
        if name in self._taken:
            first = describe_line(self._taken[name][1])
            raise GraphError(
                "the name is given twice", where=name, expected="unique names in a graph", got=f"first used at {first}",
                fix="rename one of them",
            ).locate("", declared_at)  # fmt: skip
        self._taken[name] = (owner, declared_at)

    def fresh(self, base: str) -> str:
        number = self._next.get(base, 1)
        while (name := base if number == 1 else f"{base}_{number}") in self._taken:
            number += 1
        self._next[base] = number + 1
        self._taken[name] = (None, ("", 0))
        return name
