"""graphnn summary: nodes, shapes and parameters as a table."""

from __future__ import annotations

import argparse
from typing import Any

from graphnn.cli.output import emit
from graphnn.cli.target import add_target, load_graph


def add(commands: Any, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The options."""
    text = "print nodes, shapes and parameters"
    parser = commands.add_parser("summary", parents=[common], help=text, description=f"{text.capitalize()}.")
    add_target(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    """Print the table."""
    summary = load_graph(options.target).summary()
    emit(options, summary.to_dict(), summary)
    return 0
