"""The `graphnn` command: one file for each subcommand, each with `add` (its options) and `run` (what it does)."""

from graphnn.cli.command import main

__all__ = ["main"]
