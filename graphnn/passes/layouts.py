"""Layouts: products are computed, and their results written, so that transposes behind them move nothing.

They are turned the way round in which they are read, and axes are put in the order in which they are read
(docs/decisions/0018-layouts.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Instruction, Kind, Program, Value, users
from graphnn.ops.fused import Fused, as_group
from graphnn.ops.linalg import MatMul, swapped
from graphnn.ops.shape import Transpose
from graphnn.passes.bodies import rewrite_bodies
from graphnn.passes.dead import remove_dead
from graphnn.passes.fuse import contraction_of
from graphnn.passes.rewrite import append, rebuild

FEWEST_COLUMNS = 16  # of a product that is turned: with fewer, vectors would stay half empty
Order = tuple[int, ...]


# -- the way round -----------------------------------------------------------------------------------------------------


def turn_products(program: Program) -> Program:
    """transpose(a @ b) -> b.T @ a.T, where all readers want the rows of the product innermost; also inside of loops.

    Operands are read in any order of axes at no cost, but the columns of a result are written side by side. Sums are
    added in the same order.
    """
    return _turned(rewrite_bodies(program, _turned))


def _turned(program: Program) -> Program:
    readers, results = users(program), set(program.results)
    found = {i.outputs[0] for i in program.instructions if _is_read_turned(i, readers.get(i.outputs[0], ()))}
    found -= results
    if not found:
        return program
    turning = _Turning(found)
    return remove_dead(rebuild(program, turning.visit))


def _is_read_turned(instruction: Instruction, readers: Sequence[Instruction]) -> bool:
    if not isinstance(instruction.op, MatMul) or not readers:
        return False
    rows = instruction.outputs[0].spec.rank - 2
    turned = all(isinstance(i.op, Transpose) and i.op.order[-1] == rows for i in readers)
    return turned and int(instruction.outputs[0].spec.shape[rows]) >= FEWEST_COLUMNS


class _Turning:
    """Copies a program; transposes of transposes become one, as a product reads through one."""

    def __init__(self, found: set[Value]):
        self._found = found
        self._turned: dict[Value, Value] = {}  # a @ b, not computed any more -> b.T @ a.T
        self._moved: dict[Value, tuple[Value, Order]] = {}  # by a transpose

    def visit(self, builder: ProgramBuilder, instruction: Instruction, inputs: tuple[Value, ...]) -> list[Value] | None:
        """See `rebuild`."""
        if instruction.outputs[0] in self._found:
            a, b = (self._transposed(builder, value, swapped(value.spec.rank)) for value in inputs)
            self._turned[instruction.outputs[0]] = append(builder, MatMul(), b, a)
        elif isinstance(instruction.op, Transpose):
            source, order = inputs[0], cast(Transpose, instruction.op).order
            if source in self._turned:
                swap = swapped(len(order))
                return [self._transposed(builder, self._turned[source], tuple(swap[axis] for axis in order))]
            self._moved[instruction.outputs[0]] = source, order
        return None

    def _transposed(self, builder: ProgramBuilder, value: Value, order: Order) -> Value:
        if value in self._moved:
            value, first = self._moved[value]
            order = tuple(first[axis] for axis in order)
        if order == tuple(range(len(order))):
            return value
        made = append(builder, Transpose(order), value)
        self._moved[made] = value, order
        return made


# -- the order of axes -------------------------------------------------------------------------------------------------


def write_as_read(program: Program) -> Program:
    """Products that write their result in the order of axes that its one reader, a transpose, asks for.

    Behind `fuse`; also inside of loops. The columns stay innermost.
    """
    return _written(rewrite_bodies(program, _written))


def _written(program: Program) -> Program:
    readers, results = users(program), set(program.results)
    gone: set[Instruction] = set()  # transposes that products do themselves
    made: dict[Instruction, Instruction] = {}
    for instruction in program.instructions:
        for value in instruction.outputs:
            reader = readers.get(value, [])
            if len(reader) != 1 or value in results or not _keeps_columns(reader[0]):
                continue
            new = _writing(made.get(instruction, instruction), value, reader[0])
            if new is not None:
                made[instruction] = new
                gone.add(reader[0])
    kept = [made.get(i, i) for i in program.instructions if i not in gone]
    return replace(program, instructions=tuple(kept)) if gone else program


def _keeps_columns(instruction: Instruction) -> bool:
    op = instruction.op
    return isinstance(op, Transpose) and len(op.order) > 2 and op.order[-1] == len(op.order) - 1


def _writing(instruction: Instruction, value: Value, reader: Instruction) -> Instruction | None:
    """The instruction with the output of the reader in the place of `value`; None for what is no matrix product."""
    if not isinstance(instruction.op, Fused | MatMul):
        return None
    given, made = ([v.spec for v in values] for values in (instruction.inputs, instruction.outputs))
    group = as_group(instruction.op, given, made, instruction.origin)
    product = contraction_of(group.body)
    if product is None or not isinstance(product.op, MatMul):
        return None
    place = instruction.outputs.index(value)
    inner, body = group.body.outputs[place], group.body
    moved = Value(f"{inner.name}_moved", reader.outputs[0].spec, Kind.INTERMEDIATE)
    if body.outputs.count(inner) > 1 or any(inner in i.inputs for i in body.instructions):
        return None
    move = Instruction(reader.op, (inner,), (moved,), reader.origin)
    outputs = tuple(moved if n == place else v for n, v in enumerate(body.outputs))
    body = replace(body, instructions=(*body.instructions, move), outputs=outputs)
    pairs = tuple((i, o) for i, o in group.in_place if o != place)
    outer = tuple(reader.outputs[0] if n == place else v for n, v in enumerate(instruction.outputs))
    return replace(instruction, op=Fused(body, pairs), outputs=outer)
