"""fuse: instructions that belong together become one Fused each, so that fewer bytes move between kernels.

Two kinds of groups, told apart by `contraction_of`: loop nests (what `analyse` accepts: elementwise work with its
reductions), and one contraction with an epilogue of elementwise instructions of the shape of its output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from graphnn.ir.program import Instruction, Program
from graphnn.ops.creation import Fill
from graphnn.ops.fused import Fused
from graphnn.passes.bodies import rewrite_bodies, with_body
from graphnn.passes.dead import remove_dead
from graphnn.passes.flow import CONTRACTIONS, POINTWISE, Body, Flow, Role, body_of_group, flow_of
from graphnn.passes.gather_groups import Gathering
from graphnn.passes.hoist import hoist
from graphnn.passes.loop_nest import analyse
from graphnn.passes.merge import merge_common
from graphnn.passes.order import in_order
from graphnn.passes.pipeline import Pass
from graphnn.passes.prepare import prepare
from graphnn.passes.recompute import Copies, recompute
from graphnn.passes.reuse import reuse_turns
from graphnn.passes.split import split_products
from graphnn.scan import Scan


def fuse(program: Program) -> Program:
    """The program with groups of instructions as Fused ops, also inside of loops.

    Same numbers, bit for bit where a backend rounds each instruction alike. Free instructions (fills, broadcasts,
    reshapes, transposes of what is multiplied) are copied into each group that reads them, and so is what is cheaper
    to compute again than to store (see `recompute`). Deterministic; about linear time.
    """
    return _fused(program, False)


def _fused(program: Program, is_turn: bool) -> Program:
    """`is_turn`: the body of a scan, of which all runs in one turn, whatever its phase."""
    inside = replace(program, instructions=tuple(map(_fused_inside, program.instructions)))
    flow = flow_of(prepare(remove_dead(inside)), is_turn)
    groups = Gathering(flow).run()
    return remove_dead(_assemble(flow, recompute(flow, groups)))


def _fused_inside(instruction: Instruction) -> Instruction:
    return with_body(instruction, lambda body: _fused(body, isinstance(instruction.op, Scan)))


def contraction_of(body: Program) -> Instruction | None:
    """The matrix product, convolution or gradient of a convolution in a body; None for a loop nest."""
    return next((i for i in body.instructions if isinstance(i.op, CONTRACTIONS)), None)


def unfuse(program: Program, supported: Callable[[Instruction], bool]) -> Program:
    """The program with the bodies of those Fused ops in their places that are not supported; also inside of loops."""
    return _unfused(rewrite_bodies(program, lambda body: _unfused(body, supported)), supported)


def _unfused(program: Program, supported: Callable[[Instruction], bool]) -> Program:
    instructions: list[Instruction] = []
    for instruction in program.instructions:
        if not isinstance(instruction.op, Fused) or supported(instruction):
            instructions.append(instruction)
        else:
            instructions += _inlined(instruction, instruction.op.body)
    return replace(program, instructions=tuple(instructions))


def _inlined(instruction: Instruction, body: Program) -> list[Instruction]:
    table = dict(zip(body.inputs, instruction.inputs, strict=True))
    table.update(zip(body.outputs, instruction.outputs, strict=True))
    result: list[Instruction] = []
    for i in body.instructions:
        inputs, outputs = (tuple(table.get(v, v) for v in values) for values in (i.inputs, i.outputs))
        result.append(Instruction(i.op, inputs, outputs, i.origin))
    return result


# -- from groups to a program ------------------------------------------------------------------------------------------


def _assemble(flow: Flow, groups: Sequence[Copies]) -> Program:
    """One instruction for each group, the free ones as they are, in an order where inputs come first."""
    units = [(group.members[-1], _instruction(flow, group)) for group in groups if group.members]
    free = [number for number, role in enumerate(flow.roles) if role is Role.FREE]
    units += [(number, flow.instruction(number)) for number in free]
    return replace(flow.program, instructions=in_order(units))


def _instruction(flow: Flow, group: Copies) -> Instruction:
    first = flow.instruction(group.members[0])
    if flow.roles[group.members[0]] is Role.OTHER:
        return first
    body = body_of_group(flow, group.members, group.outputs)
    if len(body.program.instructions) == 1:
        return first
    places = _in_place(body)
    if len(group.members) == 1 and places is None:
        return first
    most = max(group.members, key=lambda number: (flow.roles[number] is Role.CONTRACTION, _size(flow, number), -number))
    return Instruction(Fused(body.program, places or ()), body.inputs, body.outputs, flow.instruction(most).origin)


def _size(flow: Flow, number: int) -> int:
    instruction = flow.instruction(number)
    return max(value.spec.size for value in (*instruction.inputs, *instruction.outputs))


def _in_place(body: Body) -> tuple[tuple[int, int], ...] | None:
    """Pairs of an input and an output that may share memory; None for what is neither a contraction nor a nest.

    A contraction reads its operands after it has begun to write, but those of its epilogue element by element.
    """
    inside = body.program
    pairs = [(i, o) for o in range(len(inside.outputs)) for i in range(len(inside.inputs))]
    if contraction_of(inside) is not None:
        once = {value for i in inside.instructions if not isinstance(i.op, POINTWISE) for value in i.inputs}
        return tuple(
            (i, o) for i, o in pairs
            if inside.inputs[i].spec == inside.outputs[o].spec and inside.inputs[i] not in once
        )  # fmt: skip
    if _is_flat(inside):
        return tuple((i, o) for i, o in pairs if inside.inputs[i].spec == inside.outputs[o].spec)
    nest = analyse(inside)
    return nest and tuple((i, o) for i, o in pairs if nest.may_overwrite(inside.outputs[o], inside.inputs[i]))


def _is_flat(body: Program) -> bool:
    """Whether all of it is elementwise work of one shape, and scalars: a nest without further questions."""
    shapes = {i.outputs[0].spec.shape for i in body.instructions if isinstance(i.op, POINTWISE)}
    others = (i for i in body.instructions if not isinstance(i.op, POINTWISE))
    return len(shapes) == 1 and all(isinstance(i.op, Fill) and not i.op.shape for i in others)


# What a backend with kernels for groups wants behind the standard passes. Slices first meet products inside of loops,
# then, once these have moved out, outside. A cut along the batch stands in front of `fuse`, behind all others.
LOOP_PASSES: tuple[Pass, ...] = (
    *(split_products, hoist, merge_common, split_products, merge_common, remove_dead),
    *(reuse_turns, remove_dead),
)
FUSING_PASSES: tuple[Pass, ...] = (*LOOP_PASSES, fuse)
