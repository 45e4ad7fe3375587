"""Typed errors. Every message says where, what was expected, what was got and what to do."""

from __future__ import annotations

import linecache
from typing import Any, Self


class GraphnnError(Exception):
    """Base of all errors raised by graphnn.

    Args:
        message: what went wrong, in one sentence.
        where: node path, file or argument at fault.
        expected: what would have been right.
        got: what came instead.
        fix: what the user can do about it.
    """

    def __init__(self, message: str, *, where: str = "", expected: object = "", got: object = "", fix: str = ""):
        super().__init__(message)
        self.message = message
        self.where = where
        self.expected = str(expected)
        self.got = str(got)
        self.fix = fix
        self.declared_at: tuple[str, int] | None = None
        self.attempt: Any = None  # a graphnn.graph.attempt.Attempt: layer and inputs that did not fit, to be drawn
        self.layer_names: dict[int, str] | None = None  # by identity: names in the module where that was

    def locate(self, where: str, declared_at: tuple[str, int] | None = None) -> Self:
        """Add the node path and the user's line, unless an inner call already knew them better."""
        self.where = self.where or where
        self.declared_at = self.declared_at or declared_at
        return self

    @property
    def graph(self) -> Any:
        """The Graph up to the layer that could not be connected, with one output for each input of that layer.

        Inside a module it is the inside. None for an error that did not come from connecting a layer to symbolic
        tensors, and where these make no graph. `graphnn.render.failure.failure_svg` draws it with the layer at fault.
        """
        return self.attempt.graph_so_far(self.layer_names) if self.attempt is not None else None

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.message}" if self.where else self.message]
        parts = (("expected", self.expected), ("got", self.got), ("fix", self.fix))
        lines += [f"  {label}: {text}" for label, text in parts if text]
        if self.declared_at:
            lines.append(f"  declared at {describe_line(self.declared_at)}")
        return "\n".join(lines)


class GraphError(GraphnnError, ValueError):
    """The declared graph is not a valid DAG: cycle, disconnected, duplicate or reserved name, arity."""


class ShapeError(GraphnnError, ValueError):
    """Shapes do not fit together."""


class DTypeError(GraphnnError, TypeError):
    """Element types do not fit together."""


class DimensionError(ShapeError):
    """A named dimension was used where its size must be known, or was bound to two sizes."""


class OptionError(GraphnnError, ValueError):
    """A hyper-parameter or argument has a value that is not allowed."""


class ParameterError(GraphnnError, KeyError):
    """A parameter path is unknown, or an array does not fit it."""

    __str__ = GraphnnError.__str__  # KeyError would print the repr


class StateError(GraphnnError, RuntimeError):
    """A call came out of order, such as backward before forward."""


class PassError(GraphnnError, RuntimeError):
    """A Program breaks an invariant; names the pass after which it did."""


class BackendError(GraphnnError, RuntimeError):
    """A device or library is missing, or failed."""


class GradientError(GraphnnError, ArithmeticError):
    """An analytic gradient disagrees with finite differences, or does not exist."""


class DivergenceError(GraphnnError, ArithmeticError):
    """Training produced a loss that is not a finite number."""


class FileFormatError(GraphnnError, ValueError):
    """A file is damaged, of another format, or holds something that must not be loaded."""


def describe_line(position: tuple[str, int]) -> str:
    """`file.py:12: x = ...` for a (file name, line number)."""
    file_name, line_number = position
    text = linecache.getline(file_name, line_number).strip()
    return f"{file_name}:{line_number}" + (f": {text}" if text else "")
