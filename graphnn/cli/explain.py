"""graphnn explain: the primitive ops that a network becomes, and their order and memory."""

from __future__ import annotations

import argparse
from typing import Any

from graphnn.autodiff import differentiate
from graphnn.cli.output import emit
from graphnn.cli.sizes import add_sizes, size_text, sizes_of, specs_of
from graphnn.cli.target import add_target, load_graph, load_model
from graphnn.errors import OptionError
from graphnn.explanation import explain
from graphnn.graph.graph import Graph
from graphnn.graph.lower import lower
from graphnn.ir.program import Kind, Program
from graphnn.ir.text import to_text
from graphnn.passes.pipeline import run_passes
from graphnn.plan.memory import make_plan
from graphnn.plan.plan import Plan
from graphnn.run_views import random_inputs


def add(commands: Any, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The options."""
    parser = commands.add_parser(
        "explain", parents=[common], help="print the program and the memory plan that a network becomes",
        description="Print what layers become: the Program, a list of primitive ops, and the Plan, their order and the "
        "place of every value in memory. Both need sizes, so named dimensions get some.",
    )  # fmt: skip
    add_target(parser)
    add_sizes(parser)
    parser.add_argument("--program", action="store_true", help="only the program")
    parser.add_argument("--plan", action="store_true", help="only the plan")
    parser.add_argument("--training", action="store_true", help="layers as in training: dropout, batch statistics")
    parser.add_argument("--gradients", action="store_true", help="with the gradients of all parameters")
    parser.add_argument("--raw", action="store_true", help="as lowered: before any pass has simplified it")
    native = parser.add_argument_group("native kernels")
    text = "what runs on this machine: formulas, memory, tiles and kernels, step by step"
    native.add_argument("--native", action="store_true", help=text)
    native.add_argument("--step", metavar="N", help="only this step, such as 3 or 2.5; with --native")
    native.add_argument("--ir", action="store_true", help="with the LLVM IR of the kernels; with --native")
    native.add_argument("--assembly", action="store_true", help="with their machine code; with --native")
    return parser


def run(options: argparse.Namespace) -> int:
    """Print one or both, or what runs natively."""
    if options.native:
        return _run_native(options)
    if options.step or options.ir or options.assembly:
        raise OptionError("steps, IR and machine code are those of kernels", where="explain", fix="add --native")
    graph = load_graph(options.target)
    sizes = sizes_of(graph, options)
    program = program_of(graph, sizes, options.training, options.gradients, options.raw)
    plan = make_plan(program)
    data: dict[str, Any] = {"graph": graph.default_name, "sizes": sizes}
    parts = [f"graph {graph.default_name} with {size_text(sizes)}"]
    if options.program or not options.plan:
        data["program"] = to_text(program).splitlines()
        parts.append(to_text(program))
    if options.plan or not options.program:
        data["plan"] = plan_data(plan)
        parts.append(plan_text(plan))
    emit(options, data, "\n\n".join(parts))
    return 0


def _run_native(options: argparse.Namespace) -> int:
    if options.program or options.plan or options.raw:
        fix = "leave out --native, or --program, --plan and --raw"
        raise OptionError("kernels have no program or plan of primitive ops", where="explain", fix=fix)
    model = load_model(options.target)
    inputs = random_inputs(model.graph, sizes_of(model.graph, options)).values()
    training = options.training or options.gradients
    found = explain(model, *inputs, training=training, step=options.step, ir=options.ir, assembly=options.assembly)
    emit(options, found.to_dict(), found)
    return 0


def program_of(
    graph: Graph, sizes: dict[str, int], training: bool = False, gradients: bool = False, raw: bool = False
) -> Program:
    """What a graph becomes for these sizes.

    Args:
        graph: what to lower.
        sizes: of all named dimensions.
        training: mode of the layers.
        gradients: with those of all parameters.
        raw: before any pass.
    """
    lowered = lower(graph, specs_of(graph, sizes), training=training)
    lowered.context.finish()
    program = lowered.builder.build([tensor.value for tensor in lowered.outputs])
    if gradients:
        program = differentiate(program, [value for value in program.inputs if value.kind is Kind.PARAMETER])
    return program if raw else run_passes(program)


def plan_data(plan: Plan) -> dict[str, Any]:
    """The plan as plain data; buffers are called by their numbers."""
    return {
        "arena_bytes": plan.arena_bytes,
        "peak_bytes": plan.peak_bytes,
        "buffers": [
            {
                "spec": str(buffer.spec), "bytes": buffer.spec.nbytes, "offset": buffer.offset,
                "first_step": buffer.first_step, "last_step": buffer.last_step, "shares": buffer.shares,
            }
            for buffer in plan.buffers
        ],
        "steps": [
            {
                "op": str(step.op), "inputs": list(step.inputs), "outputs": list(step.outputs),
                "path": step.origin.path, "phase": step.origin.phase.value,
            }
            for step in plan.steps
        ],
        "outputs": list(plan.outputs),
        "updates": [list(pair) for pair in plan.updates],
    }  # fmt: skip


def plan_text(plan: Plan) -> str:
    """Two tables: steps, and the buffers that lie in the arena. The inputs of the program are the first buffers."""
    lines = [
        f"plan: {len(plan.steps):,} steps, {len(plan.buffers):,} buffers, arena {plan.arena_bytes:,} bytes "
        f"(at least {plan.peak_bytes:,} are in use at once)",
        "",
        *_table(
            ["step", "op", "reads", "writes", "node"], [_step_row(index, plan) for index in range(len(plan.steps))]
        ),
        "",
        *_table(["buffer", "value", "bytes", "from step", "to step", "place"], _buffer_rows(plan)),
    ]
    return "\n".join(lines)


def _step_row(index: int, plan: Plan) -> list[str]:
    step = plan.steps[index]
    reads, writes = (", ".join(map(str, numbers)) for numbers in (step.inputs, step.outputs))
    phase = "" if step.origin.phase.value == "forward" else f" ({step.origin.phase.value})"
    return [str(index), str(step.op), reads, writes, step.origin.path + phase]


def _buffer_rows(plan: Plan) -> list[list[str]]:
    rows = []
    for index, buffer in enumerate(plan.buffers):
        place = "caller's" if buffer.offset is None else f"{buffer.offset:,}"
        place += f", memory of {buffer.shares}" if buffer.shares is not None else ""
        name = f" {plan.inputs[index].name}" if index < len(plan.inputs) else ""
        last = "end" if buffer.last_step >= len(plan.steps) else str(buffer.last_step)
        first = "start" if buffer.first_step < 0 else str(buffer.first_step)
        rows.append([str(index), f"{buffer.spec}{name}", f"{buffer.spec.nbytes:,}", first, last, place])
    return rows


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [heads, *rows]
    ]
