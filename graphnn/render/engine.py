"""The layout engine: DOT text without any letters to draw in, JSON with positions out."""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
from collections.abc import Generator
from typing import Any

from graphnn.errors import BackendError

_graphviz_in_use = threading.Lock()  # Graphviz keeps global state


def positions(dot: str) -> dict[str, Any]:
    """Graphviz's answer (format json0) to a layout question.

    pygraphviz does the work in this process; where it is not installed, the program `dot` does.

    Raises:
        BackendError: neither is there, or Graphviz failed.
    """
    try:
        import pygraphviz
    except ImportError:
        return json.loads(_by_program(dot))
    with _graphviz_in_use, _silence():
        try:
            text = pygraphviz.AGraph(string=dot).draw(format="json0", prog="dot")
        except (ValueError, OSError) as error:
            raise _failure(str(error)) from error
    return json.loads(text or "{}")


def _by_program(dot: str) -> bytes:
    try:
        import graphviz
    except ImportError:
        raise _missing() from None
    try:
        return graphviz.Source(dot, engine="dot").pipe(format="json0", quiet=True)
    except graphviz.ExecutableNotFound:
        raise _missing() from None
    except graphviz.CalledProcessError as error:
        raise _failure(str(error)) from error


def _missing() -> BackendError:
    return BackendError(
        "drawing needs Graphviz for the places of boxes, and there is none",
        where="render", expected="the package pygraphviz, or the package graphviz and the program dot on the PATH",
        fix="`pip install pygraphviz` (its wheels carry Graphviz), or install Graphviz with the system's package"
        " manager (apt, dnf, brew, winget) for `dot`, or use graph.summary(), which needs neither",
    )  # fmt: skip


def _failure(text: str) -> BackendError:
    return BackendError("Graphviz failed to lay out the graph", where="render", got=text, fix="try a smaller depth")


@contextlib.contextmanager
def _silence() -> Generator[None]:
    """Drop what pygraphviz and the C library say on the standard error stream about sizes and fonts."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.ExitStack() as stack:
        try:
            kept = os.dup(2)
        except OSError:  # there is no such stream, as in a program without a console
            yield
            return
        stack.callback(os.close, kept)
        stack.callback(os.dup2, kept, 2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, nowhere)
        os.dup2(nowhere, 2)
        yield
