"""What is said about a node in a picture: shapes, hyper-parameters, parameters and whose they are."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from graphnn.graph.flatten import flatten
from graphnn.graph.graph import Graph, Node
from graphnn.graph.layer import Layer
from graphnn.graph.scope import ParameterDeclaration
from graphnn.graph.summary import walk
from graphnn.ir.program import Kind
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.render.text import clean, plural

NESTING = 3  # levels of a hyper-parameter that are written out
ITEMS = 8  # entries of a list or dict that are written out


@dataclass
class Parameters:
    """Numbers of trained elements under a path.

    Args:
        owned: elements of arrays whose first use is here.
        frozen: how many of `owned` are frozen.
        states: elements of states whose first use is here.
        shared: arrays here whose first use is elsewhere.
        shared_frozen: how many of `shared` are frozen.
        owner: path of the first use of the same layer, where that is elsewhere.
    """

    owned: int = 0
    frozen: int = 0
    states: int = 0
    shared: int = 0
    shared_frozen: int = 0
    owner: str = ""

    @property
    def all_frozen(self) -> bool:
        """Whether there is something to train, and nothing of it is trained."""
        return self.owned + self.shared > 0 and self.owned == self.frozen and self.shared == self.shared_frozen

    @property
    def is_later_use(self) -> bool:
        """Whether all parameters here belong to another path."""
        return self.shared > 0 and self.owned == 0 and bool(self.owner)

    def __str__(self) -> str:
        if self.is_later_use:
            return f"= {self.owner}" + (" · frozen" if self.all_frozen else "")
        parts = [plural(self.owned, "parameter")] if self.owned or self.shared else []
        if self.frozen:
            parts.append("frozen" if self.all_frozen else f"{self.frozen:,} frozen")
        if self.shared:
            parts.append("some shared" if self.owned else "shared")
        return " · ".join(parts)


def parameters_by_path(graph: Graph, is_frozen: Callable[[str], bool]) -> dict[str, Parameters]:
    """The counts of every node at every depth by path, and those of the whole graph by ""."""
    owners = {leaf.path: leaf.owner for leaf in flatten(graph).leaves}
    result = {"": Parameters()}
    first_use: dict[int, str] = {}  # by identity of the layer; a key only, never written out
    for path, _, node in walk(graph):
        owner = owners.get(path) or first_use.setdefault(id(node.layer), path)
        result[path] = Parameters(owner="" if owner == path else owner)
        for declaration in node.declarations:
            frozen = is_frozen(owner)
            for enclosing in and_above(path):
                _count(result[enclosing], declaration, owner == path, frozen)
    return result


def and_above(path: str) -> Iterator[str]:
    """The path, those of the modules around it from inner to outer, and "" for the graph."""
    while path:
        yield path
        path = path.rpartition("/")[0]
    yield ""


def _count(counts: Parameters, declaration: ParameterDeclaration, is_owner: bool, frozen: bool) -> None:
    size = declaration.spec.size
    if declaration.kind is not Kind.PARAMETER:
        counts.states += size * is_owner
    elif is_owner:
        counts.owned += size
        counts.frozen += size * frozen
    else:
        counts.shared += 1
        counts.shared_frozen += frozen


def shape_text(spec: TensorSpec) -> str:
    """`(batch, 64)`, with the element type where it is not float32."""
    sizes = ", ".join(map(str, spec.shape)) + ("," if spec.rank == 1 else "")
    return f"({sizes})" + ("" if spec.dtype == "float32" else f" {spec.dtype}")


def outputs_of(node: Node) -> list[str]:
    """`(batch, 64)` for one output, `h: (batch, 64)` for each of several."""
    if not node.output_names:
        return [shape_text(node.spec)]
    return [f"{name}: {shape_text(spec)}" for name, spec in zip(node.output_names, node.specs, strict=True)]


def attributes_of(path: str, node: Node, parameters: Parameters) -> Iterator[str]:
    """One line for each fact about a node, the same on every machine: file names and lines are left out."""
    yield f"{node.layer.kind} · {path}"
    names = node.output_names or ("output",)
    yield from (f"{name}: {spec}" for name, spec in zip(names, node.specs, strict=True))
    for declaration in node.declarations:
        yield f"{declaration.kind.value} {declaration.path.removeprefix('/')}: {declaration.spec}"
    if text := str(parameters):
        yield text if parameters.all_frozen or parameters.is_later_use else f"{text} · trainable"
    if parameters.states:
        yield f"{parameters.states:,} numbers in states"
    yield from (f"{key} = {plain(value)}" for key, value in node.layer.hyperparameters.items())


def short_hyperparameters(layer: Layer) -> list[str]:
    """`name = value` for each but those that are None or False; four lines at most, those that were chosen first."""
    said = {key: value for key, value in layer.hyperparameters.items() if value is not None and value is not False}
    chosen = _chosen(layer)
    lines = [f"{key} = {plain(said[key])}" for key in sorted(said, key=lambda key: key not in chosen)]
    return lines if len(lines) <= 4 else [*lines[:3], f"and {len(lines) - 3} more settings"]


def activation_of(layer: Layer) -> str:
    """`act_fn = 'relu'` of a layer that has one by choice, a step that has no node of its own; else ""."""
    value = _chosen(layer).get("act_fn")
    return "" if value is None else f"act_fn = {plain(value)}"


def _chosen(layer: Layer) -> dict[str, Any]:
    """The hyper-parameters that differ from what the class takes where nothing is said."""
    usual = _usual(type(layer))
    return {key: value for key, value in layer.hyperparameters.items() if usual.get(key) != plain(value)}


@lru_cache(maxsize=256)
def _usual(kind: type[Layer]) -> dict[str, str]:
    """Default arguments by name, as `plain` text."""
    parameters = inspect.signature(kind).parameters.values()
    return {each.name: plain(each.default) for each in parameters if each.default is not each.empty}


def differences(nodes: Sequence[Node]) -> dict[str, list[str]]:
    """For each module by name: `name = value` of what sets it apart from others of its kind, two lines at most."""
    values: dict[str, dict[str, dict[str, None]]] = {}
    modules = [node for node in nodes if node.graph is not None]
    for node in modules:
        for key, value in node.layer.hyperparameters.items():
            values.setdefault(node.layer.kind, {}).setdefault(key, {})[plain(value)] = None
    return {
        node.name: [
            f"{key} = {plain(value)}"
            for key, value in node.layer.hyperparameters.items()
            if len(values[node.layer.kind][key]) > 1
        ][:2]
        for node in modules
    }


def plain(value: object, nesting: int = NESTING) -> str:
    """A hyper-parameter as short text without memory addresses or set order."""
    if value is None or isinstance(value, bool | int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return clean(repr(value))
    if nesting == 0:
        return "…"
    if isinstance(value, np.ndarray):
        return f"array {value.dtype}{list(value.shape)}"
    return _structure(value, nesting - 1)


def _structure(value: Any, nesting: int) -> str:
    if isinstance(value, Mapping):
        return "{" + _some([f"{plain(key, nesting)}: {plain(item, nesting)}" for key, item in value.items()]) + "}"
    if isinstance(value, list | tuple):
        return "[" + _some([plain(item, nesting) for item in value[: ITEMS + 1]]) + "]"
    if isinstance(value, set | frozenset):
        return "{" + _some(sorted(plain(item, nesting) for item in value)) + "}"
    if isinstance(value, Layer):
        return f"{value.kind}({_keywords(value.hyperparameters, nesting)})"
    if is_dataclass(value) and not isinstance(value, type):
        return f"{type(value).__name__}({_keywords({f.name: getattr(value, f.name) for f in fields(value)}, nesting)})"
    return str(getattr(value, "__qualname__", type(value).__name__))


def _keywords(values: Mapping[str, object], nesting: int) -> str:
    return _some([f"{key}={plain(value, nesting)}" for key, value in values.items()])


def _some(items: list[str]) -> str:
    return ", ".join(items if len(items) <= ITEMS else [*items[:ITEMS], "…"])
