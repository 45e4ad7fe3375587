"""reuse_turns: what a scan computes turn by turn is stacked, instead of computed again for all turns behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Instruction, Program, Value, users
from graphnn.ops.creation import Fill
from graphnn.ops.elementwise import Elementwise, Where
from graphnn.ops.linalg import MatMul
from graphnn.passes.rewrite import rebuild
from graphnn.scan import Scan

BATCHED = (Elementwise, Where, MatMul)  # the same op for one turn and for all of them


def reuse_turns(program: Program) -> Program:
    """The program whose scans give out what would be computed from their stacks a second time.

    The gradient of a scan repeats the turns of the scan; once `hoist` has moved the products in it in front, they are
    those that the first scan has done: state @ weight, and the gates made of it. Stacked there, they cost memory from
    forward to backward, as much as the loop over the gradient reads anyway, and no second product.
    """
    table = {v: number for number, i in enumerate(program.instructions) for v in i.outputs}
    readers = users(program)
    found: dict[Instruction, dict[Value, Value]] = {}
    for instruction in program.instructions:
        if isinstance(instruction.op, Scan):
            found[instruction] = _Turns(program, instruction, instruction.op, table, readers).stacks()
    return _rebuilt(program, found) if any(found.values()) else program


class _Turns:
    """Matches instructions behind a scan with those of its body."""

    def __init__(
        self,
        program: Program,
        instruction: Instruction,
        op: Scan,
        places: dict[Value, int],
        readers: dict[Value, list[Instruction]],
    ):
        self._program, self._readers, self._places = program, readers, places
        self._start = places[instruction.outputs[0]]
        _, sequences, constants = op.split(instruction.inputs)
        _, slices, fixed = op.split(op.body.inputs)
        _, _, kept = op.split_outputs(instruction.outputs)
        states, _, _ = op.split(op.body.inputs)
        self._turn = dict(zip((*sequences, *kept), (*slices, *states[: len(kept)]), strict=True))  # stack -> one turn
        self._fixed = dict(zip(constants, fixed, strict=True))
        self._fills = {repr(i.op): i.outputs[0] for i in op.body.instructions if isinstance(i.op, Fill)}
        self._done = {(i.op, i.inputs): i for i in op.body.instructions if isinstance(i.op, BATCHED)}
        self._length = op.length

    def stacks(self) -> dict[Value, Value]:
        """Values behind the scan, and the values of the body that they are stacks of; none without a product."""
        matched: dict[Value, Instruction] = {}
        waiting = list(self._turn)
        while waiting:
            for reader in self._readers.get(waiting.pop(), ()):
                value = reader.outputs[0]
                turn = self._match(reader) if value not in matched else None
                if turn is not None:
                    matched[value] = reader
                    self._turn[value] = turn
                    waiting.append(value)
        if not any(isinstance(reader.op, MatMul) for reader in matched.values()):
            return {}
        used = set(self._program.results)
        inside = set(matched.values())
        return {
            value: self._turn[value]
            for value in matched
            if value in used or any(reader not in inside for reader in self._readers.get(value, ()))
        }

    def _match(self, reader: Instruction) -> Value | None:
        """The value of the body that the instruction has for all turns."""
        value = reader.outputs[0]
        if not isinstance(reader.op, BATCHED) or self._places[value] < self._start:
            return None
        inputs = [self._inner(v) for v in reader.inputs]
        same = self._done.get((reader.op, tuple(v for v in inputs if v is not None)))
        if same is None or None in inputs or value.spec.shape != (self._length, *same.outputs[0].spec.shape):
            return None
        return same.outputs[0]

    def _inner(self, value: Value) -> Value | None:
        place = self._places.get(value)
        op = None if place is None else self._program.instructions[place].op
        filled = self._fills.get(repr(op)) if isinstance(op, Fill) and not op.shape else None
        return self._turn.get(value, self._fixed.get(value, filled))


def _rebuilt(program: Program, found: dict[Instruction, dict[Value, Value]]) -> Program:
    stacked: dict[Value, Value] = {}

    def visit(builder: ProgramBuilder, instruction: Instruction, inputs: tuple[Value, ...]) -> Sequence[Value] | None:
        if isinstance(instruction.op, Scan) and found[instruction]:
            return _give_out(builder, instruction.op, inputs, found[instruction], stacked)
        again = stacked.get(instruction.outputs[0])
        return None if again is None else (again,)

    return rebuild(program, visit)


def _give_out(
    builder: ProgramBuilder, op: Scan, inputs: Sequence[Value], wanted: dict[Value, Value], stacked: dict[Value, Value]
) -> tuple[Value, ...]:
    """Append the scan with the wanted values among its step outputs; the outputs that it had before."""
    turns = tuple(dict.fromkeys(wanted.values()))
    steps = len(op.body.outputs)
    bigger = replace(op, body=replace(op.body, outputs=(*op.body.outputs, *turns)))
    outputs = builder.emit(bigger, inputs)
    stack_of = dict(zip(turns, outputs[steps : steps + len(turns)], strict=True))
    stacked.update({value: stack_of[turn] for value, turn in wanted.items() if value not in stacked})
    return (*outputs[:steps], *outputs[steps + len(turns) :])
