"""graphnn summary: nodes, shapes and parameters as a table."""

from __future__ import annotations

import argparse
from typing import Any

from graphnn.cli.output import emit
from graphnn.cli.target import add_target, load_target
from graphnn.graph.summary import summarize
from graphnn.model import Model
from graphnn.model_summary import frozen_marks


def add(commands: Any, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The options."""
    text = "print nodes, shapes and parameters"
    parser = commands.add_parser("summary", parents=[common], help=text, description=f"{text.capitalize()}.")
    add_target(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    """Print the table; that of a model marks what is frozen."""
    found = load_target(options.target)
    is_model = isinstance(found, Model)
    summary = summarize(found.graph, frozen_marks(found), found.dtype) if is_model else summarize(found)
    emit(options, summary.to_dict(), summary)
    return 0
