"""graphnn render: the picture of a network."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from graphnn.cli.output import STDOUT, emit, note, write
from graphnn.cli.sizes import add_sizes, sizes_of
from graphnn.cli.target import add_device, add_target, load_target, on_device
from graphnn.errors import GraphnnError, OptionError
from graphnn.graph.graph import Graph
from graphnn.model import Model
from graphnn.model_views import ALL_VIEWS
from graphnn.node_costs import counted_words
from graphnn.render.failure import failure_svg
from graphnn.render.options import DIRECTIONS, SHOWN
from graphnn.render.palette import THEMES
from graphnn.run_views import LOWERED, MEASURED, NUMBERS, PARTS, STAGES

FORMATS = ("svg", "html", "dot")
LOOKS = ("depth", "expand", "collapse", "fold", "show", "direction", "theme", "part", "stage", "of")


def add(commands: Any, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The options."""
    parser = commands.add_parser(
        "render", parents=[common], help="draw a network as SVG, HTML or DOT",
        description="Draw a network to a file; its ending says how: .svg, .html or .dot.",
    )  # fmt: skip
    add_target(parser)
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="file to write; - prints the picture")
    parser.add_argument("--format", choices=FORMATS, help="default: by the ending of FILE; svg for -")
    text = f"{', '.join(ALL_VIEWS)} (default: forward)"
    parser.add_argument("--view", choices=ALL_VIEWS, default="forward", metavar="VIEW", help=text)
    look = parser.add_argument_group("what is shown and how")
    look.add_argument("--depth", type=int, metavar="N", help="how many levels of modules to open; all by default")
    for name in ("expand", "collapse"):
        text = f"{name} modules whose path matches this, at any depth; may be repeated"
        look.add_argument(f"--{name}", action="append", metavar="GLOB", help=text)
    look.add_argument("--fold", action="store_true", default=None, help="draw equal neighbours once, with their number")
    look.add_argument(
        "--show", action="append", choices=SHOWN, metavar="LINE",
        help=f"a further line on every node, one of {', '.join(SHOWN)}; may be repeated",
    )  # fmt: skip
    look.add_argument("--direction", choices=DIRECTIONS, help="where data flow to (default: down)")
    add_theme(look)
    _add_run(parser)
    return parser


def add_theme(parser: Any) -> None:
    """The option that says in which colours."""
    parser.add_argument("--theme", choices=THEMES, help="colours (default: auto, as the reader's system prefers)")


def _add_run(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("views of a run, on random numbers", ", ".join((*LOWERED, *MEASURED)))
    text = "of memory, program and plan: training is forward and backward in one (default: forward)"
    group.add_argument("--part", choices=PARTS, help=text)
    text = "of the same: ops as on every device, or what the device makes of them (default: ops)"
    group.add_argument("--stage", choices=STAGES, help=text)
    text = (
        "seconds, flops or bytes of a profile (default: seconds); outputs or gradients of values (default: outputs); "
        "a page has all, this first"
    )
    group.add_argument("--of", choices=NUMBERS, metavar="WHAT", help=text)
    add_device(group)
    add_sizes(parser)


def run(options: argparse.Namespace) -> int:
    """Draw, and say what was written."""
    ending = options.format or ("svg" if options.output == STDOUT else Path(options.output).suffix.lower()[1:])
    formats = FORMATS[:1] if options.view in LOWERED else FORMATS
    if ending not in formats:
        expected = ", ".join(f".{name}" for name in formats)
        raise OptionError("the file ending names no format", where=options.output, expected=expected, got=f".{ending}")
    try:
        target = load_target(options.target)
    except GraphnnError as error:
        if error.attempt is not None and ending == "svg":
            _draw_failure(error, options)
        raise
    content = _draw(target, options, ending)
    write(options.output, content)
    if options.output != STDOUT:
        data = {"file": options.output, "format": ending, "view": options.view, "bytes": len(content)}
        emit(options, data, f"{options.output}: {len(content):,} bytes")
    return 0


def _draw_failure(error: GraphnnError, options: argparse.Namespace) -> None:
    """The graph so far in place of the picture; the error itself is reported as any other."""
    looks = {name: getattr(options, name) for name in ("direction", "theme") if getattr(options, name) is not None}
    write(options.output, failure_svg(error, **looks).encode())
    note(f"{options.output}: the graph so far, with the layer that could not be connected")


def _draw(target: Graph | Model, options: argparse.Namespace, ending: str) -> bytes:
    given: dict[str, Any] = {name: getattr(options, name) for name in LOOKS if getattr(options, name) is not None}
    if options.view in (*LOWERED, *MEASURED) or counted_words(options.show or ()):
        target = on_device(target if isinstance(target, Model) else Model(target), options.device)
        given["sizes"] = sizes_of(target.graph, options)
        if options.view == "program" and "expand" in given:
            (given["expand"],) = given["expand"] if len(given["expand"]) == 1 else _one_glob(given["expand"])
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, f"picture.{ending}")
        target.render(path, view=options.view, **given)
        return Path(path).read_bytes()


def _one_glob(given: list[str]) -> list[str]:
    raise OptionError("a program opens what one glob names", where="--expand", expected="once", got=", ".join(given))
