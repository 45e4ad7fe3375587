"""main: one subcommand, its exit code, and errors as messages that a person can read."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from graphnn import __version__
from graphnn.cli import bench, check, demo, diff, doctor, explain, predict, render, summary, train
from graphnn.errors import DivergenceError, GraphnnError

COMMANDS = (render, summary, explain, check, diff, train, predict, demo, doctor, bench)
FAILURE, USAGE, DIVERGED = 1, 2, 3
INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM
DESCRIPTION = "Neural networks declared as graphs: draw, check, compare, train and run them."
EPILOG = """\
TARGET names a network: file.py:name, package.module:name, or a graph JSON
file. The name is that of a Graph, a Model, or a function without arguments that
gives one; it may be left out where a file holds only one. A Python target is
run; a JSON file is only read.

exit codes: 0 all went well, 1 failure, 2 usage, 3 training diverged,
            130 interrupted (Ctrl-C), 143 terminated
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command: results on stdout, progress and errors on stderr.

    Returns:
        The exit code: 0, 1 after a failure that was reported, 3 when training diverged, 130 after Ctrl-C.

    Raises:
        SystemExit: 2 after a usage error, 143 when the process is asked to end.
    """
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help(sys.stderr)
        return USAGE
    try:
        with _termination():
            code = options.command(options)
            sys.stdout.flush()
            return code
    except KeyboardInterrupt:
        print("graphnn: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except Exception as error:
        return _report(error, options.traceback)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("graphnn", description=DESCRIPTION, epilog=EPILOG, formatter_class=layout)
    parser.add_argument("--version", action="version", version=f"graphnn {__version__}")
    parser.set_defaults(command=None)
    common = argparse.ArgumentParser(add_help=False)
    group = common.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print the result as JSON")
    group.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(metavar="command", title="commands")
    for module in COMMANDS:
        module.add(commands, common).set_defaults(command=module.run)
    return parser


@contextmanager
def _termination() -> Generator[None]:
    """While entered, SIGTERM ends the program with exit code 143 and lets every file be closed as it should."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _terminate(number: int, frame: FrameType | None) -> Any:
    raise SystemExit(TERMINATED)


def _report(error: Exception, wants_traceback: bool) -> int:
    if wants_traceback:
        traceback.print_exception(error)
    elif isinstance(error, GraphnnError | OSError):
        print(f"graphnn: {error}", file=sys.stderr)
    else:
        text = f"unexpected {type(error).__name__}: {error}"
        print(f"graphnn: {text}\n  fix: run it again with --traceback to see where", file=sys.stderr)
    return DIVERGED if isinstance(error, DivergenceError) else FAILURE
