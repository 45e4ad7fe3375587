"""graphnn check: whether a network is sound, node by node."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from graphnn.cli.data import split_inputs
from graphnn.cli.output import coloured, emit
from graphnn.cli.sizes import add_sizes, size_text, sizes_of
from graphnn.cli.target import add_device, add_target, load_model
from graphnn.errors import GradientError
from graphnn.gradient_check import GradientReport, check_gradients
from graphnn.graph.graph import Graph
from graphnn.graph.summary import walk
from graphnn.ir.program import Kind
from graphnn.model import Model
from graphnn.run_views import random_inputs


def add(commands: Any, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The options."""
    parser = commands.add_parser(
        "check", parents=[common], help="check a network: shapes, numbers and the gradient of every node",
        description="Declare, compile and run the network on random numbers, and compare the gradient of each node "
        "with differences, in float64. Names the nodes at fault and exits with 1.",
    )  # fmt: skip
    add_target(parser)
    add_sizes(parser)
    parser.add_argument("--data", metavar="FILE", help="npz file with arrays by input name, in place of random numbers")
    parser.add_argument("--training", action="store_true", help="layers as in training: dropout, batch statistics")
    parser.add_argument(
        "--tolerance", type=float, default=1e-5, metavar="T", help="largest relative error allowed (default: 1e-5)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of random numbers and directions (default: 0)")
    add_device(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    """Print a line for each node."""
    model = load_model(options.target, device=options.device)
    sizes = sizes_of(model.graph, options)
    if options.data:
        arrays, _ = split_inputs(model.graph, options.data, needs_targets=False)
    else:
        arrays = random_inputs(model.graph, sizes, options.seed)
    fault = _wrong_numbers(model, arrays, options.training)
    report = None
    try:
        report = check_gradients(
            model, tolerance=options.tolerance, training=options.training, seed=options.seed, **arrays
        )
    except GradientError as error:
        fault = fault or error
    sizes = {} if options.data else sizes
    emit(options, _data(model.graph, sizes, report, fault), _text(model.graph, sizes, report) if report else "")
    if fault and not options.json:
        raise fault
    return int(fault is not None)


def _wrong_numbers(model: Model, arrays: dict[str, Any], training: bool) -> GradientError | None:
    """The first node whose output is not finite, where the inputs are."""
    run = model.run(training=training, retain=True, keep=False, **arrays)
    if not all(np.isfinite(array).all() for array in arrays.values()):
        return None
    for leaf in model.flat.leaves:
        outputs = [leaf.path, *(f"{leaf.path}:{index}" for index in range(len(leaf.specs)))]
        for name in outputs:
            if name in run.derived_variables and not np.isfinite(model.to_host(run.derived_variables[name])).all():
                text = "NaN or infinity for finite inputs"
                return GradientError("an output is not finite", where=leaf.path, expected="finite numbers", got=text)
    return None


def untrained(graph: Graph) -> list[str]:
    """Paths of nodes with parameters that no gradient reaches, as all their outputs are integers or unused."""
    visited = {node.name for node in graph.backward_schedule()}
    found = []
    for path, _, node in walk(graph):
        if path.split("/")[0] not in visited and any(d.kind is Kind.PARAMETER for d in node.declarations):
            found.append(path)
    return found


def _data(
    graph: Graph, sizes: dict[str, int], report: GradientReport | None, fault: GradientError | None
) -> dict[str, Any]:
    nodes = [vars(node).copy() for node in report.nodes] if report else []
    data: dict[str, Any] = {"graph": graph.default_name, "ok": fault is None, "sizes": sizes, "nodes": nodes}
    data["never_trained"] = untrained(graph)
    if fault is not None:
        data["error"] = {"where": fault.where, "message": fault.message, "expected": fault.expected, "got": fault.got}
    return data


def _text(graph: Graph, sizes: dict[str, int], report: GradientReport) -> str:
    lines = [f"graph {graph.default_name}" + (f" with {size_text(sizes)}" if sizes else ""), str(report)]
    lines += [f"note: no gradient reaches the parameters of {path}" for path in untrained(graph)]
    worst = max((node.error for node in report.nodes), default=0.0)
    verdict = coloured("ok", "green")
    return "\n".join([*lines, f"{verdict}: {len(report.nodes)} nodes, largest relative error {worst:.1e}"])
