"""The `graphnn` command: print or draw a graph."""

from __future__ import annotations

import argparse
import json
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from graphnn import __version__
from graphnn.errors import GraphError, GraphnnError
from graphnn.graph.graph import Graph
from graphnn.model import Model


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 when all went well, 1 after an error that was reported, 2 after a usage error.
    """
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except (GraphnnError, OSError) as error:
        print(f"graphnn: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="graphnn", description="Neural networks declared as graphs.")
    parser.add_argument("--version", action="version", version=f"graphnn {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    target = argparse.ArgumentParser(add_help=False)
    target.add_argument("target", help="file.py:name of a Graph or Model, or a graph JSON file")
    summary = commands.add_parser("summary", parents=[target], help="print nodes, shapes and parameters")
    summary.add_argument("--json", action="store_true", help="print data instead of a table")
    summary.set_defaults(command=_summary)
    render = commands.add_parser("render", parents=[target], help="draw the graph")
    render.add_argument("-o", "--output", required=True, help="file that ends in .svg, .html or .dot; - prints SVG")
    render.add_argument("--depth", type=int, help="how many levels of modules to open; all by default")
    render.set_defaults(command=_render)
    return parser


def _summary(options: argparse.Namespace) -> int:
    summary = load_graph(options.target).summary()
    print(json.dumps(summary.to_dict(), indent=2) if options.json else summary)
    return 0


def _render(options: argparse.Namespace) -> int:
    graph = load_graph(options.target)
    if options.output == "-":
        print(graph.to_svg(depth=options.depth))
    else:
        graph.render(options.output, depth=options.depth)
    return 0


def load_graph(target: str) -> Graph:
    """The graph that a target names: `file.py:name` runs the file, a JSON file is only read.

    Raises:
        GraphError: there is no such file or name, or it is no graph.
    """
    path, separator, name = target.rpartition(":") if ".py:" in target else (target, "", "")
    if not Path(path).is_file():
        raise GraphError("there is no such file", where=target, expected="file.py:name or graph.json", got=path)
    if not separator:
        return Graph.from_json(Path(path).read_text(encoding="utf-8"))
    names = runpy.run_path(path, run_name="graphnn_target")
    found = names.get(name)
    if callable(found) and not isinstance(found, Graph):
        found = found()
    if isinstance(found, Model):
        found = found.graph
    if not isinstance(found, Graph):
        known = ", ".join(sorted(key for key, value in names.items() if isinstance(value, (Graph, Model))))
        raise GraphError(
            "the name is no graph", where=target, expected=f"a Graph or Model: {known}", got=repr(found)[:80]
        )
    return found
