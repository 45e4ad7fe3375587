"""Hyper-parameters as JSON values and back.

Numbers, strings, booleans, None, lists and dicts are themselves; a tuple is a list. Everything else is an object with
one key that begins with "$": `{"$layer": "ReLU", "hyperparameters": {}}`, `{"$initializer": "Normal", ...}`,
`{"$size": "2*time"}`, `{"$float": "inf"}`. Reading knows these four and no other, and makes only classes that it was
given.
"""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np

from graphnn.errors import FileFormatError, GraphError, GraphnnError
from graphnn.files.json_text import MAX_STRING
from graphnn.graph.layer import Composite, Layer
from graphnn.initializers import Initializer
from graphnn.ir.dimension import Dimension, parse_size

MAX_NESTING = 32  # lists, dicts and layers inside each other
MAX_INTEGER = 2**64  # JSON readers elsewhere may not hold more, and no hyper-parameter needs it
MAX_TEXT = MAX_STRING // 12  # a character takes up to 12 in JSON
FLOATS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


# -- writing ----------------------------------------------------------------------------------------------------------


class Encoder:
    """Turns layers into JSON values; remembers the user's classes, as a file tells classes apart by name only."""

    def __init__(self) -> None:
        self._classes: dict[str, type[Layer]] = {}

    def layer(self, layer: Layer, where: str) -> dict[str, Any]:
        """The hyper-parameters of a leaf layer.

        Raises:
            GraphError: one of them is no data, or reading could not make the layer again; says what to do.
        """
        self._check_class(type(layer), where)
        return {key: self._value(value, f"{where}, {key}", 0) for key, value in layer.hyperparameters.items()}

    def description(self, hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a Module class. They only describe it, so what is no data becomes the name of its type."""
        return {str(key): self._described(value, 0) for key, value in hyperparameters.items()}

    def _value(self, value: Any, where: str, depth: int) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if depth <= MAX_NESTING:
            if value is None or isinstance(value, bool) or (isinstance(value, str) and len(repr(value)) < MAX_TEXT):
                return value
            if isinstance(value, int) and abs(value) <= MAX_INTEGER:
                return int(value)
            if isinstance(value, float):
                return float(value) if math.isfinite(value) else {"$float": str(float(value))}
            if isinstance(value, tuple | list):
                return [self._value(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
            if isinstance(value, dict) and all(isinstance(key, str) and key[:1] != "$" for key in value):
                return {key: self._value(item, f"{where}, {key}", depth + 1) for key, item in value.items()}
            if isinstance(value, Layer | Initializer | Dimension) and not isinstance(value, Composite):
                return self._object(value, where, depth)
        raise GraphError(
            "this hyper-parameter cannot be written to a file", where=where,
            expected="numbers, strings, lists, dicts, initializers, layers without inner graph", got=_short(value),
            fix="make it a dataclass field that holds data; a layer that holds a function or an array cannot be saved",
        )  # fmt: skip

    def _object(self, value: Layer | Initializer | Dimension, where: str, depth: int) -> dict[str, Any]:
        if isinstance(value, Dimension):
            return {"$size": str(value)}
        if isinstance(value, Layer):
            self._check_class(type(value), where)
            given, tag = value.hyperparameters, "$layer"
        else:
            given, tag = value.options(), "$initializer"
        encoded = {key: self._value(item, f"{where}, {key}", depth + 2) for key, item in given.items()}
        return {tag: type(value).__name__, "hyperparameters": encoded}

    def _described(self, value: Any, depth: int) -> Any:
        if depth > MAX_NESTING:
            return {"$unsaved": type(value).__name__}
        if isinstance(value, tuple | list):
            return [self._described(item, depth + 1) for item in value]
        if isinstance(value, dict):
            return {str(key): self._described(item, depth + 1) for key, item in value.items()}
        if isinstance(value, Composite):
            arguments = {key: self._described(item, depth + 2) for key, item in value.hyperparameters.items()}
            return {"$layer": value.kind, "hyperparameters": arguments}
        try:
            return self._value(value, "", depth)
        except GraphError:
            return {"$unsaved": type(value).__name__}

    def _check_class(self, kind: type[Layer], where: str) -> None:
        name = kind.__name__
        if self._classes.get(name) is kind:
            return
        known = Layer.registry.get(name, self._classes.get(name, kind))
        if known is not kind:
            raise GraphError(
                f"two layer classes are called {name}", where=where, expected="class names that tell them apart",
                got=f"{known.__module__}.{name} and {kind.__module__}.{name}", fix="rename your class",
            )  # fmt: skip
        arguments, expected = _arguments(kind), {f.name for f in _fields(kind)}
        if arguments != expected:
            raise GraphError(
                f"{name} could not be made again from its fields", where=where,
                expected=f"arguments {', '.join(sorted(expected)) or '(none)'}",
                got=", ".join(sorted(arguments)) or "none",
                fix="make it a frozen dataclass without an __init__ of its own: @dataclass(frozen=True, eq=False)",
            )  # fmt: skip
        self._classes[name] = kind


def _short(value: Any) -> str:
    text = type(value).__name__ if isinstance(value, np.ndarray) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _fields(kind: type) -> list[Any]:
    return [f for f in fields(kind) if f.name != "name"]


def _arguments(kind: type) -> set[str]:
    return set(inspect.signature(kind).parameters) - {"name"}


# -- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decoder:
    """Makes layers from JSON values.

    Args:
        layers: the layer classes that may occur, by name.
    """

    layers: Mapping[str, type[Layer]]
    _made: dict[str, Layer] = field(default_factory=dict, init=False)  # deep networks repeat few layers

    def layer(self, name: Any, hyperparameters: Any, where: str) -> Layer:
        """The layer of class `name`.

        Raises:
            FileFormatError: the class, an attribute or the type of its value is not known.
        """
        known = self._made.get(text := f"{name} {hyperparameters!r}")
        if known is not None:
            return replace(known)  # equal, but another object: only what the file calls shared is shared
        check_nesting(hyperparameters, f"{where}.hyperparameters")
        made = self._layer(name, hyperparameters, f"{where}.layer", f"{where}.hyperparameters")
        self._made[text] = made
        return made

    def _layer(self, name: Any, hyperparameters: Any, where: str, where_inside: str) -> Layer:
        kind = self.layers.get(name) if isinstance(name, str) else None
        if kind is None:
            raise FileFormatError(
                "unknown layer", where=where, expected="a layer of graphnn, or one that is given", got=_short(name),
                fix="a class of your own: Graph.from_json(text, layers={'MyLayer': MyLayer})",
            )  # fmt: skip
        if inspect.isabstract(kind) or issubclass(kind, Composite):
            raise FileFormatError(
                "this layer cannot stand alone", where=where, expected="a node with a graph", got=name
            )
        return self._make(kind, hyperparameters, where_inside)

    def _make(self, kind: type, hyperparameters: Any, where: str) -> Any:
        if not isinstance(hyperparameters, dict):
            raise FileFormatError(
                "hyper-parameters are an object", where=where, expected="{...}", got=_short(hyperparameters)
            )
        _check_keys(kind, hyperparameters, where)
        hints = _hints(kind)
        arguments = {}
        for key, value in hyperparameters.items():
            arguments[key] = self._value(value, f"{where}.{key}")
            if not _fits(arguments[key], hints.get(key, Any)):
                expected = str(getattr(hints[key], "__name__", hints[key]))
                raise FileFormatError(
                    f"wrong type of {key!r}", where=f"{where}.{key}", expected=expected, got=_short(arguments[key])
                )
        try:
            return kind(**arguments)
        except GraphnnError as error:
            error.where = f"{where}, {error.where}" if error.where else where
            raise
        except (TypeError, ValueError, ArithmeticError) as error:
            raise FileFormatError(f"{kind.__name__} refuses these values", where=where, got=str(error)) from error

    def _value(self, value: Any, where: str) -> Any:
        if isinstance(value, list):
            return tuple(self._value(item, f"{where}[{i}]") for i, item in enumerate(value))
        if not isinstance(value, dict):
            return value
        if not any(key.startswith("$") for key in value):
            return {key: self._value(item, f"{where}.{key}") for key, item in value.items()}
        match value:
            case {"$float": "inf" | "-inf" | "nan" as text} if len(value) == 1:
                return FLOATS[text]
            case {"$size": str(text)} if len(value) == 1:
                return parse_size(text)
            case {"$layer": name, "hyperparameters": given} if len(value) == 2:
                return self._layer(name, given, f"{where}.$layer", f"{where}.hyperparameters")
            case {"$initializer": str(name), "hyperparameters": given} if len(value) == 2 and _is_initializer(name):
                return self._make(Initializer.registry[name], given, f"{where}.hyperparameters")
            case _:
                pass
        raise FileFormatError(
            "unknown kind of value", where=where, expected="$float, $size, $layer or $initializer with a known name",
            got=_short(value),
        )  # fmt: skip


def check_nesting(hyperparameters: Any, where: str) -> None:
    """Raise FileFormatError where lists and objects lie deeper inside each other than writing allows."""
    stack = [(hyperparameters, -1)]
    while stack:
        value, depth = stack.pop()
        if depth > MAX_NESTING:
            raise FileFormatError("nested too deep", where=where, expected=f"at most {MAX_NESTING} levels")
        if isinstance(value, dict | list):
            items = value.values() if isinstance(value, dict) else value
            stack.extend((item, depth + 1) for item in items)


def _is_initializer(name: str) -> bool:
    return name in Initializer.registry and not inspect.isabstract(Initializer.registry[name])


def _check_keys(kind: type, given: Mapping[str, Any], where: str) -> None:
    known = {f.name: f for f in _fields(kind)}
    needed = [f.name for f in known.values() if f.default is MISSING and f.default_factory is MISSING]
    expected = ", ".join(known) or "no hyper-parameters"
    for key in given:
        if key not in known:
            raise FileFormatError(
                f"unknown attribute of {kind.__name__}", where=where, expected=expected, got=_short(key)
            )
    for key in needed:
        if key not in given:
            got = ", ".join(given) or "none"
            raise FileFormatError(f"{kind.__name__} lacks {key!r}", where=where, expected=expected, got=got)


@cache
def _hints(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind)
    except NameError:  # an annotation that only a type checker can read: the constructor checks for itself
        return {}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a decoded value is of the annotated type; what is not known here fits."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            arguments = (arguments[0],) * (len(value) if isinstance(value, tuple) else 0)
        return isinstance(value, tuple) and len(value) == len(arguments) and all(map(_fits, value, arguments))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return not isinstance(hint, type) or isinstance(value, tuple if hint is list else hint)
