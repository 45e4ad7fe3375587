"""Sizes of named dimensions, and inputs of those sizes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from graphnn.errors import OptionError, ShapeError
from graphnn.graph.graph import Graph
from graphnn.graph.layer import InputNode
from graphnn.ir.dimension import Dimension
from graphnn.ir.tensor_spec import TensorSpec

DEFAULT_SIZE = 8


def add_sizes(parser: argparse.ArgumentParser) -> None:
    """The options that give sizes."""
    group = parser.add_argument_group("sizes")
    text = f"size of a named dimension, such as batch=8; {DEFAULT_SIZE} for those not given; may be repeated"
    group.add_argument("--size", action="append", default=[], metavar="NAME=N", help=text)
    text = "shape of an input, such as x=8,16,32, which gives sizes to its named dimensions; may be repeated"
    group.add_argument("--input", action="append", default=[], metavar="NAME=SHAPE", help=text)


def sizes_of(graph: Graph, options: argparse.Namespace) -> dict[str, int]:
    """The size of each named dimension, as given or by default.

    Raises:
        OptionError: text that is no size, or a name that the graph lacks.
        ShapeError: a shape that does not fit its input, or two sizes for one name.
    """
    known = dict.fromkeys(name for node in graph.inputs for name in sorted(node.spec.names))
    given: dict[str, int] = {}
    for text in options.size:
        name, size = _pair(text, "--size", "batch=8")
        if name not in known:
            raise OptionError("no such dimension", where="--size", expected=", ".join(known) or "none", got=name)
        _give(given, name, _natural(size, text, "--size"))
    for text in options.input:
        name, shape = _pair(text, "--input", "x=8,16,32")
        node = _input(graph, name)
        _fit(node, [_natural(size, text, "--input") for size in shape.strip("()").split(",") if size.strip()], given)
    return {name: given.get(name, DEFAULT_SIZE) for name in known}


def specs_of(graph: Graph, sizes: Mapping[str, int], dtype: str = "float32") -> dict[str, TensorSpec]:
    """The spec of each input with integer sizes."""
    bound = {node.name: node.spec.bind(sizes) for node in graph.inputs}
    return {name: spec.with_dtype(dtype) if spec.is_float else spec for name, spec in bound.items()}


def size_text(sizes: Mapping[str, int]) -> str:
    """`batch=8, time=16`."""
    return ", ".join(f"{name}={size}" for name, size in sizes.items()) or "all fixed"


def _pair(text: str, option: str, example: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise OptionError("not a name with a value", where=option, expected=example, got=text)
    return name.strip(), value


def _natural(text: str, whole: str, option: str) -> int:
    if not text.strip().isdecimal():
        raise OptionError("not a size", where=option, expected="integers from 0 on", got=whole)
    return int(text)


def _input(graph: Graph, name: str) -> InputNode:
    for node in graph.inputs:
        if node.name == name:
            return node
    names = ", ".join(node.name for node in graph.inputs)
    raise OptionError("no such input", where="--input", expected=names, got=name)


def _give(given: dict[str, int], name: str, size: int) -> None:
    if given.setdefault(name, size) != size:
        raise ShapeError(f"two sizes for `{name}`", where="--size, --input", expected=given[name], got=size)


def _fit(node: InputNode, shape: list[int], given: dict[str, int]) -> None:
    if len(shape) != node.spec.rank:
        raise ShapeError("another number of axes", where=f"--input {node.name}", expected=node.spec, got=tuple(shape))
    for size, number in zip(node.spec.shape, shape, strict=True):
        if isinstance(size, Dimension) and str(size).isidentifier():
            _give(given, str(size), number)
    known = {name: given.get(name, DEFAULT_SIZE) for name in node.spec.names}
    if (bound := node.spec.bind(known).shape) != tuple(shape):
        raise ShapeError("the shape does not fit", where=f"--input {node.name}", expected=bound, got=tuple(shape))
