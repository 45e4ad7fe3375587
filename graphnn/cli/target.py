"""Targets: the graph or model that an argument names."""

from __future__ import annotations

import argparse
import os
import pkgutil
import runpy
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, redirect_stdout
from glob import escape
from pathlib import Path
from typing import Any

from graphnn.errors import GraphError, GraphnnError
from graphnn.graph.graph import Graph
from graphnn.model import Model

DEVICES = ("cpu", "reference", "cuda")
FORMS = "file.py:name, package.module:name, or a graph JSON file"


def add_target(parser: argparse.ArgumentParser, name: str = "target", meaning: str = "the network") -> None:
    """The positional argument of a command that reads a network."""
    parser.add_argument(name, metavar=name.upper(), help=f"{meaning}: {FORMS}")


def add_device(parser: Any) -> None:
    """The option that says where to run."""
    text = "cpu (native code), reference (NumPy, slow and plain) or cuda (CuPy); default: that of a Model, or else cpu"
    parser.add_argument("--device", choices=DEVICES, help=text)


def on_device(model: Model, device: str | None) -> Model:
    """The model with the same numbers on a device; None leaves it where it is.

    Raises:
        BackendError: what the device needs is missing.
    """
    if device is None or device == model.device:
        return model
    moved = Model(model.graph, model.seed, device, model.dtype)
    for old, new in ((model.parameters, moved.parameters), (model.states, moved.states)):
        new.update({path: model.to_host(array) for path, array in old.items()})
    for pattern in sorted(model.frozen_nodes() | model.fixed_parameters()):
        moved.freeze(escape(pattern))
    return moved


def load_graph(target: str) -> Graph:
    """The graph that a target names.

    Raises:
        GraphError: there is no such file or name, it is no graph, or the file cannot be run.
        FileFormatError: the JSON file is no graph.
    """
    found = load_target(target)
    return found.graph if isinstance(found, Model) else found


def load_model(target: str, seed: int | None = None, device: str | None = None) -> Model:
    """The model that a target names, or a new one of its graph; a given seed makes a new one in any case.

    Raises:
        GraphError, FileFormatError: as for `load_graph`. BackendError: what the device needs is missing.
    """
    found = load_target(target)
    if isinstance(found, Model) and seed is None:
        return on_device(found, device)
    return Model(found.graph if isinstance(found, Model) else found, seed or 0, device or "cpu")


def load_target(target: str) -> Graph | Model:
    """Run a Python target, or read a JSON file without running anything.

    Raises:
        GraphError, FileFormatError: as for `load_graph`.
    """
    with redirect_stdout(sys.stderr):  # what the user's code prints is none of the command's results
        return _load(target)


def _load(target: str) -> Graph | Model:
    path, name = _split(target)
    if Path(path).is_file():
        if not path.endswith(".py"):
            return _read(path)
        with _folder_on_path(Path(path).parent):
            return _pick(target, name, _run(target, path))
    if name and not path.endswith((".py", ".json")):
        with _folder_on_path(Path()):
            return _pick(target, name, _import(target, path))
    raise GraphError("there is no such file", where=target, expected=FORMS, got=path)


def _split(target: str) -> tuple[str, str]:
    """(file or module, name); a colon may also belong to the path of a file."""
    path, colon, name = target.rpartition(":")
    return (path, name) if colon and not Path(target).is_file() else (target, "")


def _read(path: str) -> Graph:
    try:
        return Graph.from_json(Path(path).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise GraphError("the file is no text", where=path, expected="a graph JSON file", got=str(error)) from error
    except GraphnnError as error:
        error.locate(path)
        raise


def _run(target: str, path: str) -> Mapping[str, Any]:
    try:
        return runpy.run_path(path, run_name="graphnn_target")
    except GraphnnError:
        raise
    except Exception as error:
        raise _failed(target, path, error) from error


def _import(target: str, module: str) -> Mapping[str, Any]:
    try:
        return vars(pkgutil.resolve_name(f"{module}:"))
    except GraphnnError:
        raise
    except Exception as error:
        raise _failed(target, module, error) from error


def _failed(target: str, path: str, error: Exception) -> GraphError:
    """The user's own code raised; the line is the last one that lies in a file of theirs."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    step = error.__traceback__
    while step is not None and not isinstance(error, SyntaxError):
        line = step.tb_lineno if step.tb_frame.f_code.co_filename == path else line
        step = step.tb_next
    text = f"{type(error).__name__}: {error}"
    found = GraphError("the target cannot be run", where=target, got=text, fix="--traceback shows where it happened")
    found.declared_at = (path, line) if line else None
    return found


def _pick(target: str, name: str, names: Mapping[str, Any]) -> Graph | Model:
    known = {key: value for key, value in names.items() if isinstance(value, Graph | Model)}
    if not name:
        return _only(target, known)
    found = names.get(name)
    if callable(found) and not isinstance(found, Graph | Model):
        try:
            found = found()
        except GraphnnError:
            raise
        except Exception as error:
            raise _failed(target, str(names.get("__file__", "")), error) from error
    if not isinstance(found, Graph | Model):
        expected = f"a Graph or Model: {_listing(known)}"
        fault, got = ("the name is no graph", repr(found)[:80]) if name in names else ("there is no such name", name)
        raise GraphError(fault, where=target, expected=expected, got=got)
    return found


def _only(target: str, known: Mapping[str, Graph | Model]) -> Graph | Model:
    """The one network of a file: a graph, or the model of it."""
    graphs = {value.graph if isinstance(value, Model) else value: None for value in known.values()}
    models = {value: None for value in known.values() if isinstance(value, Model)}
    if not graphs:
        fix = f"write {target}:name with the name of a function that gives one"
        raise GraphError("there is no network", where=target, expected="a Graph or Model", got="none", fix=fix)
    if len(graphs) != 1 or len(models) > 1:
        fix = f"write {target}:{next(iter(known))}"
        raise GraphError("which one?", where=target, expected="one Graph or Model", got=_listing(known), fix=fix)
    return next(iter([*models, *graphs]))


def _listing(known: Mapping[str, Any]) -> str:
    return ", ".join(sorted(known)) or "none"


@contextmanager
def _folder_on_path(folder: Path) -> Generator[None]:
    """Imports find what lies in `folder`, as they do for a script in it."""
    entry = os.fspath(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)
