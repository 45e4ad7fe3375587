"""graphnn bench: training steps of graphnn beside those of other libraries."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from graphnn.backends.choose import set_num_threads
from graphnn.bench.graphnn_contender import batch_of, trainer_of
from graphnn.bench.machine import cores, peak, versions
from graphnn.bench.measure import PEERS, Settings, check_peers, compare, installed_peers
from graphnn.bench.report import Report
from graphnn.bench.roofline import Machine, bandwidth, roofline_text
from graphnn.bench.trace import to_json, trace
from graphnn.bench.workload import SIX, Workload
from graphnn.bench.workloads import WORKLOADS, find
from graphnn.cli.output import check_folder, emit, note, strict, write
from graphnn.errors import OptionError
from graphnn.profiler import profile

DEVICES = ("cpu", "reference")
EPILOG = f"""\
Without a WORKLOAD: the six networks. Each contender runs in a process of its
own and stands still while another one is measured. First all of them make
three steps from equal weights on equal data: their losses must agree.

workloads: {", ".join(list(WORKLOADS)[:6])},
  {", ".join(list(WORKLOADS)[6:9])},
  {", ".join(list(WORKLOADS)[9:])}, or all
"""


def add(commands: Any, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The options."""
    parser = commands.add_parser(
        "bench", parents=[common], help="measure training steps beside torch and jax", epilog=EPILOG,
        description="Measure whole training steps beside those of the libraries that are there.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("workload", nargs="*", metavar="WORKLOAD", help="which networks; default: the six")
    text = f"comma-separated, of {', '.join(PEERS)}; default: those installed; none for graphnn alone"
    parser.add_argument("--peers", metavar="NAMES", help=text)
    parser.add_argument("--threads", type=int, default=cores(), metavar="N", help="of each contender; default: all")
    text = "for each contender on each workload (default: 3)"
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help=text)
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="of graphnn (default: cpu)")
    parser.add_argument("--no-warm", action="store_true", help="do not start everything again to time a warm start")
    text = "also print where graphnn's time goes, node by node, beside what the machine could do"
    parser.add_argument("--profile", action="store_true", help=text)
    text = "also write one step to this file as a Chrome trace; %%s in it becomes the workload"
    parser.add_argument("--trace", metavar="FILE", help=text)
    parser.add_argument("-o", "--output", metavar="FILE", help="also write all numbers to this file, as JSON")
    return parser


def run(options: argparse.Namespace) -> int:
    """Measure, workload by workload; print the tables."""
    workloads, settings = _workloads(options.workload), _settings(options)
    check_folder(options.output)
    check_folder(options.trace)
    if options.trace and len(workloads) > 1 and "%s" not in options.trace:
        raise OptionError("several traces, one file", where="--trace", expected="%s in its name", got=options.trace)
    note("measuring the peak")
    most = peak(settings.threads)
    comparisons = tuple(compare(workload, settings, note) for workload in workloads)
    report = Report(settings, most, comparisons, versions())
    if options.output:
        write(options.output, json.dumps(strict(report.to_dict()), indent=2, allow_nan=False).encode())
    if options.output != "-":
        emit(options, report.to_dict(), report)
    if options.profile or options.trace:
        _look_inside(options, workloads, Machine(most, bandwidth(settings.threads)))
    return 0


def _look_inside(options: argparse.Namespace, workloads: Sequence[Workload], machine: Machine) -> None:
    """Where the time of a step of graphnn goes; tables go to stderr where stdout has the numbers as JSON."""
    if options.device == "cpu":
        set_num_threads(options.threads)
    for workload in workloads:
        trainer, batch = trainer_of(workload, options.device), batch_of(workload)
        if options.trace:
            content = to_json(trace(trainer, *batch), workload.title)
            write(options.trace.replace("%s", workload.name), content.encode())
        if options.profile:
            text = "\n" + roofline_text(workload.title, profile(trainer, *batch), machine)
            note(text) if options.json or options.output == "-" else print(text)


def _workloads(names: Sequence[str]) -> list[Workload]:
    if "all" in names:
        return list(WORKLOADS.values())
    return [find(name) for name in names] or [w for w in WORKLOADS.values() if w.group == SIX]


def _settings(options: argparse.Namespace) -> Settings:
    if options.threads < 1 or not options.seconds > 0:
        got = f"--threads {options.threads} --seconds {options.seconds}"
        raise OptionError("there is nothing to measure", where="bench", expected="positive numbers", got=got)
    named = options.peers if options.peers is None else options.peers.removeprefix("none")
    names = installed_peers() if named is None else [name for name in named.split(",") if name]
    return Settings(check_peers(names), options.threads, options.seconds, options.device, not options.no_warm)
