"""The reading half of graph_json: first every entry of the file is checked, then graphs are built from inside out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphnn.errors import FileFormatError, GraphError, GraphnnError, OptionError
from graphnn.files.hyperparameters import Decoder, check_nesting
from graphnn.files.json_text import parse_json
from graphnn.graph.assemble import Blueprint, NodeRecord, Reference, assemble
from graphnn.graph.graph import Graph
from graphnn.graph.layer import InputNode, Layer, Position, check_name
from graphnn.ir.dimension import Size, parse_size
from graphnn.ir.tensor_spec import TensorSpec

FORMAT = "graphnn.graph"
VERSION = 1
MAX_DEPTH = 64  # graphs inside each other
MAX_NODES = 1_000_000  # with inner graphs counted as often as they are used
_SOURCE = re.compile(r"([^:]+)(?::([1-9][0-9]{0,8}))?")


@dataclass(eq=False)
class _GraphEntry:
    """A checked graph of the file; `where` is its place in the file, such as `nodes[3].graph`."""

    name: str | None
    path: str
    where: str
    layer: str
    hyperparameters: dict[str, Any]
    inputs: tuple[InputNode, ...] = ()
    nodes: list[_NodeEntry] = field(default_factory=list)
    outputs: tuple[Reference, ...] = ()
    output_names: tuple[str, ...] = ()
    built: Graph | None = None
    count: int = 0  # nodes at every depth
    depth: int = 1


@dataclass(eq=False)
class _NodeEntry:
    """A checked node; exactly one of layer, graph and shared_with is given."""

    name: str
    path: str
    where: str
    kind: str
    inputs: tuple[Reference | None, ...]
    layer: Layer | None = None
    graph: _GraphEntry | None = None
    shared_with: str | None = None


def read_graph(text: str | bytes, layers: Mapping[str, type[Layer]], position: Position) -> Graph:
    """See `graph_json.from_json`; `position` is the user's line that all nodes are declared at."""
    data = parse_json(text, FORMAT)
    header = ("format", "version", "name", "layer", "hyperparameters", "inputs", "nodes", "outputs")
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        got = repr(data.get("format")) if isinstance(data, dict) else type(data).__name__
        raise FileFormatError("this is no graph file", where="format", expected=repr(FORMAT), got=got)
    if data.get("version") != VERSION or isinstance(data["version"], bool):
        got = repr(data.get("version"))
        raise FileFormatError(
            "unknown version", where="version", expected=VERSION, got=got, fix="read it with a newer graphnn"
        )
    _check_keys(data, header, "")
    reader = _Reader(Decoder(_classes(layers)), position)
    return reader.read(data)


def _classes(layers: Mapping[str, type[Layer]]) -> dict[str, type[Layer]]:
    for name, kind in layers.items():
        if not (isinstance(kind, type) and issubclass(kind, Layer)) or Layer.registry.get(name, kind) is not kind:
            raise OptionError(
                "`layers` maps names to Layer classes, none of graphnn's names among them", where=str(name),
                expected="a subclass of graphnn.Layer", got=repr(kind),
            )  # fmt: skip
    return {**Layer.registry, **layers}


class _Reader:
    def __init__(self, decoder: Decoder, position: Position):
        self._decoder = decoder
        self._position = position
        self._nodes: dict[str, _NodeEntry] = {}  # by path
        self._count = 0

    def read(self, data: dict[str, Any]) -> Graph:
        name = data["name"]
        if name is not None:
            _check_name(name, "name")
        root = self._graph_entry(data, name, "", "", data["layer"], data["hyperparameters"])
        pending = [(root, data)]
        while pending:
            entry, value = pending.pop()
            pending.extend(self._fill(entry, value))
        for entry in self._inside_out(root):
            self._build(entry)
        if root.built is None:
            raise TypeError(root)
        return root.built

    # -- checking entries ---------------------------------------------------------------------------------------------

    def _graph_entry(
        self, value: Any, name: str | None, path: str, where: str, layer: Any, hyperparameters: Any
    ) -> _GraphEntry:
        _check_type(value, dict, where)
        _check_type(layer, str, _join(where, "layer"))
        _check_type(hyperparameters, dict, _join(where, "hyperparameters"))
        check_nesting(hyperparameters, _join(where, "hyperparameters"))
        return _GraphEntry(name, path, where, layer, hyperparameters)

    def _fill(self, entry: _GraphEntry, value: dict[str, Any]) -> list[tuple[_GraphEntry, dict[str, Any]]]:
        """Check what stands directly in a graph; return its inner graphs, still to be filled."""
        for key in ("inputs", "nodes"):
            _check_type(value[key], list, _join(entry.where, key))
        entry.inputs = tuple(
            self._input(item, _join(entry.where, f"inputs[{index}]")) for index, item in enumerate(value["inputs"])
        )
        inner = []
        for index, item in enumerate(value["nodes"]):
            node = self._node(item, entry, _join(entry.where, f"nodes[{index}]"))
            entry.nodes.append(node)
            if node.graph is not None:
                inner.append((node.graph, item["graph"]))
        entry.outputs, entry.output_names = _outputs(value["outputs"], _join(entry.where, "outputs"))
        return inner

    def _input(self, item: Any, where: str) -> InputNode:
        _check_keys(item, ("name", "shape", "dtype", "optional"), where)
        _check_name(item["name"], f"{where}.name")
        _check_type(item["shape"], list, f"{where}.shape")
        _check_type(item["dtype"], str, f"{where}.dtype")
        _check_type(item["optional"], bool, f"{where}.optional")
        with _Located(f"{item['name']}, {where}"):
            spec = TensorSpec(tuple(_size(size, f"{where}.shape") for size in item["shape"]), item["dtype"])
        return InputNode(item["name"], spec, item["optional"], self._position)

    def _node(self, item: Any, graph: _GraphEntry, where: str) -> _NodeEntry:
        shared = isinstance(item, dict) and "shared_with" in item
        has_graph = isinstance(item, dict) and "graph" in item and not shared
        keys = ("shared_with",) if shared else ("hyperparameters", *(("graph",) if has_graph else ()))
        _check_keys(item, ("name", "layer", *keys, "inputs"), where)
        _check_name(item["name"], f"{where}.name")
        _check_type(item["layer"], str, f"{where}.layer")
        path = _slash(graph.path, item["name"])
        where = f"{path}, {where}"
        if path in self._nodes:
            raise GraphError(
                "the name is given twice", where=where, expected="unique names in a graph", fix="rename one"
            )
        _check_type(item["inputs"], list, f"{where}.inputs")
        inputs = tuple(
            _source(s, f"{where}.inputs[{i}]", optional=has_graph or shared) for i, s in enumerate(item["inputs"])
        )
        node = _NodeEntry(item["name"], path, where, item["layer"], inputs)
        self._define(node, item, has_graph)
        self._nodes[path] = node
        return node

    def _define(self, node: _NodeEntry, item: dict[str, Any], has_graph: bool) -> None:
        if "shared_with" in item:
            _check_type(item["shared_with"], str, f"{node.where}.shared_with")
            node.shared_with = item["shared_with"]
        elif has_graph:
            _check_keys(item["graph"], ("inputs", "nodes", "outputs"), f"{node.where}.graph")
            given = item["graph"], node.name, node.path, f"{node.where}.graph", node.kind, item["hyperparameters"]
            node.graph = self._graph_entry(*given)
        else:
            node.layer = self._decoder.layer(node.kind, item["hyperparameters"], node.where)

    # -- building -----------------------------------------------------------------------------------------------------

    def _owner(self, node: _NodeEntry) -> _NodeEntry:
        """The node that has the layer or graph that `node` uses."""
        if node.shared_with is None:
            return node
        owner = self._nodes.get(node.shared_with)
        if owner is None or owner.shared_with is not None or owner.kind != node.kind:
            raise FileFormatError(
                "`shared_with` is the path of another node with a layer of its own", where=f"{node.where}.shared_with",
                expected=f"the path of a {node.kind}", got=node.shared_with[:80],
            )  # fmt: skip
        return owner

    def _inside_out(self, root: _GraphEntry) -> Iterator[_GraphEntry]:
        """Each graph after the graphs that its nodes use."""
        open_entries = {root}
        stack = [(root, self._inner(root))]
        while stack:
            entry, inner = stack[-1]
            following = next((graph for graph in inner if not graph.count), None)
            if following is None:
                self._measure(entry)
                open_entries.discard(entry)
                stack.pop()
                yield entry
            elif following in open_entries or len(stack) >= MAX_DEPTH:
                raise FileFormatError("graphs lie too deep inside each other, or in themselves", where=following.where)
            else:
                open_entries.add(following)
                stack.append((following, self._inner(following)))

    def _inner(self, entry: _GraphEntry) -> Iterator[_GraphEntry]:
        return (graph for graph in (self._owner(node).graph for node in entry.nodes) if graph is not None)

    def _measure(self, entry: _GraphEntry) -> None:
        """Count nodes as often as they are used: a few lines of sharing could stand for billions."""
        inner = list(self._inner(entry))
        entry.count = 1 + len(entry.nodes) + sum(graph.count for graph in inner)
        entry.depth = 1 + max((graph.depth for graph in inner), default=0)
        if entry.count > MAX_NODES or entry.depth > MAX_DEPTH:
            raise FileFormatError(
                "the graph is too large", where=entry.where or "nodes",
                expected=f"at most {MAX_NODES:,} nodes, {MAX_DEPTH} levels", got=f"{entry.count:,} and {entry.depth}",
            )  # fmt: skip

    def _build(self, entry: _GraphEntry) -> None:
        records = tuple(NodeRecord(node.name, self._layer(node), node.inputs, self._position) for node in entry.nodes)
        blueprint = Blueprint(entry.inputs, records, entry.outputs, entry.output_names)
        with _Located(entry.path):
            inputs, outputs = assemble(blueprint, "outputs")
            graph = Graph(inputs, outputs, name=entry.name).describe(entry.layer, entry.hyperparameters)
            if len(graph.nodes) < len(records):
                used = {node.name for node in graph.nodes}
                unused = next(record.name for record in records if record.name not in used)
                raise GraphError(
                    "no output depends on this node", where=unused, expected="nodes that an output needs",
                    got=repr(unused), fix="take it out of the file",
                )  # fmt: skip
        entry.built = graph

    def _layer(self, node: _NodeEntry) -> Layer:
        owner = self._owner(node)
        layer = owner.layer if owner.graph is None else owner.graph.built
        if layer is None:
            raise TypeError(node)
        return layer


class _Located:
    """Puts the path of a graph before the place that an error names; what is no GraphnnError becomes one."""

    def __init__(self, path: str):
        self._path = path

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, GraphnnError):
            error.where = _slash(self._path, error.where)
        elif isinstance(error, TypeError | ValueError | AttributeError | ArithmeticError | LookupError):
            got = f"{type(error).__name__}: {error}"
            raise FileFormatError("a layer refuses what the file gives it", where=self._path, got=got) from error


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _slash(path: str, name: str) -> str:
    return f"{path}/{name}" if path and name else path or name


def _check_type(value: Any, kind: type, where: str) -> None:
    if not isinstance(value, kind):
        names = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
        got = repr(value)
        raise FileFormatError(
            "wrong type", where=where, expected=names[kind], got=got if len(got) < 80 else f"{got[:77]}..."
        )


def _check_keys(value: Any, keys: tuple[str, ...], where: str) -> None:
    _check_type(value, dict, where or "the file")
    if set(value) != set(keys):
        unknown = [key[:80] for key in value if key not in keys]
        missing = [key for key in keys if key not in value]
        message = f"unknown key {unknown[0]!r}" if unknown else f"the key {missing[0]!r} is missing"
        raise FileFormatError(message, where=where or "the file", expected=", ".join(keys), got=", ".join(value)[:200])


def _check_name(name: Any, where: str) -> None:
    try:
        check_name(name)
    except GraphError as error:
        raise FileFormatError(error.message, where=where, expected=error.expected, got=error.got) from None


def _size(value: Any, where: str) -> Size:
    if isinstance(value, str):
        return parse_size(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise FileFormatError(
        "not a size", where=where, expected="an integer or a text such as 2*time", got=repr(value)[:80]
    )


def _source(value: Any, where: str, optional: bool = False) -> Reference | None:
    if value is None and optional:
        return None
    match = _SOURCE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise FileFormatError("not a source", where=where, expected='"node" or "node:1"', got=repr(value)[:80])
    return match[1], int(match[2] or 0)


def _outputs(value: Any, where: str) -> tuple[tuple[Reference, ...], tuple[str, ...]]:
    names: tuple[str, ...] = ()
    if isinstance(value, dict):
        names, sources = tuple(value), list(value.values())
    elif isinstance(value, list):
        names, sources = tuple(map(str, range(len(value)))), value
    else:
        sources = [value]
    for name in names:
        _check_name(name, where)
    references = (_source(source, f"{where}[{index}]") for index, source in enumerate(sources))
    return tuple(reference for reference in references if reference is not None), names
