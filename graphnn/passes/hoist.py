"""hoist: work that is the same in each turn of a loop, or that one product can do for all turns, moves in front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.dimension import Size
from graphnn.ir.program import Instruction, Kind, Program, Value, users
from graphnn.ops.creation import Fill, StopGradient
from graphnn.ops.elementwise import Elementwise, Where
from graphnn.ops.linalg import MatMul
from graphnn.ops.op import Op
from graphnn.ops.shape import BroadcastTo, Reshape, Slice
from graphnn.passes.bodies import rewrite_bodies
from graphnn.passes.rewrite import rebuild
from graphnn.scan import Scan

STAYING = (Fill, BroadcastTo, Reshape, StopGradient)  # cheaper to do again than to keep: they move only for others


def hoist(program: Program) -> Program:
    """The program with less work in the bodies of its scans, innermost first.

    In front of a scan go, from its body:

    - what depends on constants alone, such as transposes of weights;
    - products of a sequence with a constant, slice @ weight, as one product of the whole sequence;
    - slices of a sequence of which nothing else is read, and elementwise work on sequences whose result takes the place
      of one of them.

    What may fail stays: it must not fail where the loop makes no turn. A large product may round its sums in another
    way than small ones.
    """
    return _hoisted(rewrite_bodies(program, _hoisted))


def _hoisted(program: Program) -> Program:
    def visit(builder: ProgramBuilder, instruction: Instruction, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        if not isinstance(instruction.op, Scan):
            return None
        parts = _divide(instruction.op)
        return _emit(builder, instruction.op, inputs, parts) if parts.constant or parts.batched else None

    return rebuild(program, visit)


@dataclass(frozen=True, eq=False)
class _Parts:
    """Instructions of a body.

    Args:
        constant: the same in each turn; without those that only the body reads and that cost nothing.
        free: constant too, but they stay; copies go in front for the others.
        batched: done for all turns at once.
    """

    constant: tuple[Instruction, ...]
    free: tuple[Instruction, ...]
    batched: tuple[Instruction, ...]


def _divide(op: Scan) -> _Parts:
    _, slices, constants = op.split(op.body.inputs)
    readers = users(op.body)
    fixed, sequences = set(constants), set(slices)
    constant: list[Instruction] = []
    free: list[Instruction] = []
    batched: list[Instruction] = []
    for instruction in op.body.instructions:
        if _may_move(instruction) and all(value in fixed for value in instruction.inputs):
            (free if isinstance(instruction.op, STAYING) else constant).append(instruction)
            fixed.update(instruction.outputs)
        elif _can_batch(instruction, fixed, sequences, readers, set(op.body.outputs)):
            batched.append(instruction)
            sequences.update(instruction.outputs)
    return _Parts(tuple(constant), tuple(free), tuple(batched))


def _may_move(instruction: Instruction) -> bool:
    return isinstance(instruction.op, Op) and not instruction.op.may_fail and not isinstance(instruction.op, Scan)


def _can_batch(
    instruction: Instruction,
    fixed: set[Value],
    sequences: set[Value],
    readers: dict[Value, list[Instruction]],
    outputs: set[Value],
) -> bool:
    """Whether the instruction can be done for all turns at once, and that is worth its memory."""
    op, inputs = instruction.op, instruction.inputs
    if isinstance(op, MatMul):
        return inputs[0] in sequences and inputs[1] in fixed and inputs[1].spec.rank == 2
    if isinstance(op, Slice):
        alone = all(isinstance(reader.op, Slice) for reader in readers[inputs[0]])
        return inputs[0] in sequences and alone and inputs[0] not in outputs
    if not isinstance(op, Elementwise | Where) or any(v not in sequences and v not in fixed for v in inputs):
        return False
    result = instruction.outputs[0].spec
    replaced = [v for v in inputs if v in sequences and len(readers[v]) == 1 and v not in outputs and v.spec == result]
    return bool(replaced) and all(v.spec.rank == result.rank or v in fixed for v in inputs)


def _emit(builder: ProgramBuilder, op: Scan, inputs: Sequence[Value], parts: _Parts) -> tuple[Value, ...]:
    """Append what moves, and the smaller scan; its outputs."""
    outer = dict(zip(op.body.inputs, inputs, strict=True))
    _copy(builder, op.body, {*parts.constant, *parts.free}, outer)
    for instruction in parts.batched:
        batch = _for_all_turns(instruction, op.length)
        outer[instruction.outputs[0]] = builder.emit(batch, [outer[value] for value in instruction.inputs])[0]
    moved = {*parts.constant, *parts.batched}
    remaining = tuple(i for i in op.body.instructions if i not in moved)
    carries, sequences, constants = op.split(op.body.inputs)
    sequences += tuple(i.outputs[0] for i in parts.batched)
    constants += tuple(value for i in parts.constant for value in i.outputs)
    remaining, read = _needed(remaining, op.body.outputs)
    sequences, constants = (tuple(value for value in values if value in read) for values in (sequences, constants))
    body = _with_inputs((*carries, *sequences, *constants), remaining, op.body.outputs)
    smaller = replace(op, body=body, n_sequences=len(sequences))
    return builder.emit(smaller, [outer[value] for value in (*carries, *sequences, *constants)])


def _needed(
    instructions: Sequence[Instruction], outputs: Sequence[Value]
) -> tuple[tuple[Instruction, ...], set[Value]]:
    """The instructions that the outputs still need, and all values that are read."""
    read, kept = set(outputs), list[Instruction]()
    for instruction in reversed(instructions):
        if any(value in read for value in instruction.outputs):
            kept.append(instruction)
            read.update(instruction.inputs)
    return tuple(reversed(kept)), read


def _for_all_turns(instruction: Instruction, length: Size) -> Op:
    """The op on whole sequences; all but slices are the same, for leading axes are only carried along."""
    op = instruction.op
    if not isinstance(op, Op):
        raise TypeError(op)
    return Slice((0, *op.starts), (length, *op.stops), (1, *op.steps)) if isinstance(op, Slice) else op


def _copy(builder: ProgramBuilder, body: Program, wanted: set[Instruction], outer: dict[Value, Value]) -> None:
    for instruction in body.instructions:
        if instruction in wanted:
            outputs = builder.emit(instruction.op, [outer[value] for value in instruction.inputs])
            outer.update(zip(instruction.outputs, outputs, strict=True))


def _with_inputs(inputs: Sequence[Value], instructions: Sequence[Instruction], outputs: Sequence[Value]) -> Program:
    """A program in which some values that instructions made have become inputs."""
    made = {value for value in inputs if value.kind is Kind.INTERMEDIATE}
    table = {
        value: Value(f"moved_{number}", value.spec, Kind.INPUT) for number, value in enumerate(inputs) if value in made
    }
    renamed = tuple(
        Instruction(i.op, tuple(table.get(value, value) for value in i.inputs), i.outputs, i.origin)
        for i in instructions
    )
    return Program(tuple(table.get(v, v) for v in inputs), renamed, tuple(table.get(v, v) for v in outputs))
