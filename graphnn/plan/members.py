"""members_of: the instructions inside of a step, each with its node and its cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from graphnn.ir.program import Instruction, Operation, Origin, Value
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.fused import Fused
from graphnn.ops.op import Op
from graphnn.plan.cost import Cost, cost_of
from graphnn.scan import Scan
from graphnn.tiled import Tiled


@dataclass(frozen=True)
class Member:
    """One instruction.

    Args:
        op: what it computes.
        origin: its node and phase; those of the step around it where it has none.
        cost: of all its runs. In a fused group only what the group reads and writes counts as bytes, for the first
            member that reads it and for the one that makes it: what passes from member to member stays in registers.
    """

    op: Operation
    origin: Origin
    cost: Cost

    @property
    def weight(self) -> int:
        """Operations and bytes: the part of a common time that this instruction is thought to take."""
        return (self.cost.flops or 0) + self.cost.bytes_read + self.cost.bytes_written


def members_of(
    op: Operation, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], origin: Origin, runs: int = 1
) -> list[Member]:
    """The instructions of fused groups and loops, however deep; of any other op the op itself.

    Args:
        op: of a step.
        inputs: known sizes.
        outputs: known sizes.
        origin: of the step.
        runs: how often it runs.
    """
    if isinstance(op, Fused):
        return list(_group(op, origin, runs))
    if isinstance(op, Scan | Tiled):
        turns = op.tiles if isinstance(op, Tiled) else op.length.__index__()
        return [member for i in op.body.instructions for member in _inside(i, origin, runs * turns)]
    return [Member(op, origin, _times(_moving(op, inputs, outputs), runs))]


def shares_of(members: Sequence[Member]) -> list[float]:
    """The part of their common time that each takes: by weight, all equal where nothing weighs anything."""
    total = sum(member.weight for member in members)
    return [member.weight / total if total else 1 / len(members) for member in members]


def _inside(instruction: Instruction, origin: Origin, runs: int) -> list[Member]:
    own = instruction.origin if instruction.origin.path else origin
    op = instruction.op
    if isinstance(op, Op) and op.is_view:  # in a loop nobody returns it, so that nothing is copied
        return []
    return members_of(op, _specs(instruction.inputs), _specs(instruction.outputs), own, runs)


def _group(op: Fused, origin: Origin, runs: int) -> Iterator[Member]:
    unread, results = set(op.body.inputs), set(op.body.outputs)
    for i in op.body.instructions:
        flops = cost_of(i.op, _specs(i.inputs), _specs(i.outputs)).flops
        read = sum(value.spec.nbytes for value in dict.fromkeys(i.inputs) if value in unread)
        unread -= set(i.inputs)
        cost = Cost(flops, read, sum(value.spec.nbytes for value in i.outputs if value in results))
        yield Member(i.op, i.origin if i.origin.path else origin, _times(cost, runs))


def _moving(op: Operation, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Cost:
    """The cost of a step of its own: a view that is one has been copied."""
    cost = cost_of(op, inputs, outputs)
    if isinstance(op, Op) and op.is_view:
        return replace(cost, bytes_read=inputs[0].nbytes, bytes_written=outputs[0].nbytes)
    return cost


def _times(cost: Cost, runs: int) -> Cost:
    flops = None if cost.flops is None else cost.flops * runs
    return Cost(flops, cost.bytes_read * runs, cost.bytes_written * runs)


def _specs(values: Sequence[Value]) -> list[TensorSpec]:
    return [value.spec for value in values]
