"""graphnn diff: what was edited between two networks."""

from __future__ import annotations

import argparse
from typing import Any

from graphnn.cli.output import coloured, emit, write
from graphnn.cli.render import add_theme
from graphnn.cli.target import add_target, load_graph
from graphnn.graph.diff import GraphDiff, diff

COLOUR_OF = {"+": "green", "-": "red", "~": "yellow"}


def add(commands: Any, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The options."""
    parser = commands.add_parser(
        "diff", parents=[common], help="compare two networks, as text or as one picture",
        description="Say which nodes were added, removed, rewired or re-parameterised. + added, - removed, ~ changed, "
        "= what follows from a change. Equal and different networks both exit with 0; see --exit-code.",
    )  # fmt: skip
    add_target(parser, "before", "the first network")
    add_target(parser, "after", "the second network")
    parser.add_argument("-o", "--output", metavar="FILE", help="draw both as one SVG to this file; - prints it")
    add_theme(parser)
    parser.add_argument("--exit-code", action="store_true", help="exit with 1 where something differs, as diff does")
    return parser


def run(options: argparse.Namespace) -> int:
    """Print the list, or the picture."""
    found = diff(load_graph(options.before), load_graph(options.after))
    if options.output:
        write(options.output, found.to_svg(options.theme or "auto").encode())
    if options.output != "-":
        emit(options, found.to_dict(), _text(found))
    return int(options.exit_code and bool(found))


def _text(found: GraphDiff) -> str:
    lines = str(found).splitlines()
    return "\n".join(coloured(line, COLOUR_OF[line[2]]) if line[2:3] in COLOUR_OF else line for line in lines)
