"""graphnn render: the picture of a network."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from graphnn.cli.explain import program_of
from graphnn.cli.output import STDOUT, emit, write
from graphnn.cli.sizes import add_sizes, random_inputs, sizes_of
from graphnn.cli.target import add_target, load_target
from graphnn.errors import OptionError
from graphnn.graph.graph import Graph
from graphnn.model import Model
from graphnn.plan.memory import make_plan
from graphnn.profiler import profile
from graphnn.render.memory import memory_svg
from graphnn.render.options import DIRECTIONS, SHOWN, THEMES
from graphnn.render.overlay import Overlay
from graphnn.render.program_drawing import program_svg
from graphnn.render.views import VIEWS
from graphnn.values import inspect_values

FORMATS = ("svg", "html", "dot")
LOWERED = ("program", "memory")  # views of what a network becomes; they need sizes
MEASURED, VALUES = ("seconds", "flops", "bytes"), ("outputs", "gradients")
OPTIONS = ("expand", "collapse", "fold", "show", "direction", "theme")


def add(commands: Any, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The options."""
    parser = commands.add_parser(
        "render", parents=[common], help="draw a network as SVG, HTML or DOT",
        description="Draw a network to a file; its ending says how: .svg, .html or .dot.",
    )  # fmt: skip
    add_target(parser)
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="file to write; - prints the picture")
    parser.add_argument("--format", choices=FORMATS, help="default: by the ending of FILE; svg for -")
    parser.add_argument("--view", default="forward", help=f"{', '.join((*VIEWS, *LOWERED))} (default: forward)")
    text = "colour nodes by a number, taken from a run on random inputs"
    parser.add_argument("--overlay", choices=(*MEASURED, *VALUES), help=text)
    look = parser.add_argument_group("what is shown and how")
    look.add_argument("--depth", type=int, metavar="N", help="how many levels of modules to open; all by default")
    for name in ("expand", "collapse"):
        text = f"{name} modules whose path matches this, at any depth; may be repeated"
        look.add_argument(f"--{name}", action="append", metavar="GLOB", help=text)
    look.add_argument("--fold", action="store_true", default=None, help="draw equal neighbours once, with their number")
    look.add_argument("--show", action="append", choices=SHOWN, help="a further line on every node; may be repeated")
    look.add_argument("--direction", choices=DIRECTIONS, help="where data flow to (default: down)")
    look.add_argument("--theme", choices=THEMES, help="colours (default: auto, as the reader's system prefers)")
    look.add_argument("--gradients", action="store_true", help="program and memory: with the gradients of parameters")
    add_sizes(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    """Draw, and say what was written."""
    ending = options.format or ("svg" if options.output == STDOUT else Path(options.output).suffix.lower()[1:])
    formats = FORMATS[:1] if options.view in LOWERED else FORMATS
    if ending not in formats:
        expected = ", ".join(f".{name}" for name in formats)
        raise OptionError("the file ending names no format", where=options.output, expected=expected, got=f".{ending}")
    target = load_target(options.target)
    content = _lowered(target, options) if options.view in LOWERED else _draw(target, options, ending)
    write(options.output, content)
    if options.output != STDOUT:
        data = {"file": options.output, "format": ending, "view": options.view, "bytes": len(content)}
        emit(options, data, f"{options.output}: {len(content):,} bytes")
    return 0


def _lowered(target: Graph | Model, options: argparse.Namespace) -> bytes:
    graph = target.graph if isinstance(target, Model) else target
    program = program_of(graph, sizes_of(graph, options), gradients=options.gradients)
    if options.view == "program":
        return program_svg(program, graph.default_name).encode()
    return memory_svg(make_plan(program), f"memory of {graph.default_name}").encode()


def _draw(target: Graph | Model, options: argparse.Namespace, ending: str) -> bytes:
    given: dict[str, Any] = {name: getattr(options, name) for name in OPTIONS if getattr(options, name) is not None}
    if options.overlay:
        model = target if isinstance(target, Model) else Model(target)
        given["overlay"] = _overlay(model, sizes_of(model.graph, options), options.overlay)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, f"picture.{ending}")
        target.render(path, view=options.view, depth=options.depth, **given)
        return Path(path).read_bytes()


def _overlay(model: Model, sizes: dict[str, int], what: str) -> Overlay:
    inputs: dict[str, Any] = dict(random_inputs(model.graph, sizes, seed=0))
    if what in MEASURED:
        return profile(model, **inputs).overlay(what)
    names = model.graph.output_names or ("",)
    specs = [spec.bind(sizes) for spec in model.graph.output_specs]
    ones = {n: np.ones(tuple(map(int, s.shape)), s.dtype) for n, s in zip(names, specs, strict=True) if s.is_float}
    return inspect_values(model, output_gradients=ones.get("", ones), **inputs).overlay(what)
