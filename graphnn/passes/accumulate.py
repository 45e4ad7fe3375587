"""accumulate: a contraction that adds to what is there already, as the later tiles of a worker do with a gradient."""

from __future__ import annotations

from collections.abc import Sequence

from graphnn.ir.program import Instruction, Kind, Program, Value
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.arithmetic import Add
from graphnn.ops.fused import Fused, as_group
from graphnn.ops.op import Op
from graphnn.passes.fuse import contraction_of

Specs = Sequence[TensorSpec]
ADD: Op = Add()


def accumulating(op: Op, inputs: Specs, outputs: Specs, added: Sequence[int]) -> Fused | None:
    """totals + outputs, where `added` says, for further inputs `totals`, which may be written in place.

    Args:
        op: a contraction, alone or with an epilogue; for others the answer is None.
        inputs: its specs.
        outputs: likewise.
        added: positions of outputs, each once.
    """
    group = as_group(op, inputs, outputs)
    body = group.body
    if contraction_of(body) is None:
        return None
    totals = tuple(Value(f"total_{n}", outputs[n], Kind.INPUT) for n in added)
    sums = tuple(Value(f"sum_{n}", outputs[n], Kind.INTERMEDIATE) for n in added)
    adding = (
        Instruction(ADD, (total, body.outputs[n]), (made,)) for n, total, made in zip(added, totals, sums, strict=True)
    )
    results = dict(zip(added, sums, strict=True))
    made = tuple(results.get(n, value) for n, value in enumerate(body.outputs))
    places = (*group.in_place, *((len(inputs) + k, n) for k, n in enumerate(added)))
    return Fused(Program((*body.inputs, *totals), (*body.instructions, *adding), made), places)
