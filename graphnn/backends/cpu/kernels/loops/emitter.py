"""emit_loops: a Fused group, or one op, as a loop nest kernel."""

from __future__ import annotations

from graphnn.backends.cpu.emit import Function
from graphnn.backends.cpu.kernel import Kernel, Specs
from graphnn.backends.cpu.kernels.loops.across import goes_across, lanes_of
from graphnn.backends.cpu.kernels.loops.frame import Frame
from graphnn.backends.cpu.kernels.loops.schedule import Schedule
from graphnn.backends.cpu.kernels.loops.writer import write_nest
from graphnn.backends.cpu.target import Target
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Program
from graphnn.ops.fused import Fused
from graphnn.ops.op import Op
from graphnn.passes.loop_nest import analyse


def emit_loops(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """The kernel of a group of elementwise ops, broadcasts and reductions; None where it is not one loop nest.

    The group must follow the rules of `passes.loop_nest.analyse`. An output may lie over an input where
    `LoopNest.may_overwrite` holds. Sums of float32 are carried in several partial sums, and put aside every 64 turns
    of a loop; sums over rows of one number each in float64; sums of whole rows (column sums) one row after the other,
    those of short rows in each lane and then over the lanes.
    """
    body = body_of(op, inputs)
    places = (*body.inputs, *body.outputs)
    nest = analyse(body) if len(set(places)) == len(places) else None  # else an output is an input, or stands twice
    if nest is None:
        return None
    f, schedule = Function(target), Schedule(nest)
    memory = {value: f.pointer(number) for number, value in enumerate(places)}
    frame = Frame(f, f.pointer(len(places)))
    write_nest(f, frame, schedule, memory)
    return Kernel(f.finish(), tuple(frame.sizes), frame.scratch_bytes, describe(schedule, target))


def body_of(op: Op, inputs: Specs) -> Program:
    """The Program of a group, or of one op."""
    if isinstance(op, Fused):
        return op.body
    builder = ProgramBuilder()
    values = [builder.input(f"x{number}", spec) for number, spec in enumerate(inputs)]
    return builder.build(builder.emit(op, values))


def describe(schedule: Schedule, target: Target) -> str:
    """One line for `explain`."""
    nest = schedule.nest
    sizes = [str(size) for size in nest.sizes]
    loops = " x ".join(sizes[: nest.outer]) or "1"
    row = " x ".join(sizes[nest.outer :]) or "1"
    more = ", then an epilogue" if nest.epilogue else ""
    lanes = lanes_of(schedule, target) if goes_across(schedule, target) else 1
    how = f"{lanes} at once" if lanes > 1 else f"{nest.stages} sweeps"
    return f"{loops} rows of {row}, {how}, {len(nest.folds)} folds{more}"
