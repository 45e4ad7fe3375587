"""prepare: what makes a program easier to fuse, without changing a bit of its results."""

from __future__ import annotations

from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Instruction, Program, Value
from graphnn.ops.comparison import LessEqual
from graphnn.ops.creation import Fill
from graphnn.ops.elementwise import Elementwise, Where
from graphnn.ops.op import Op
from graphnn.ops.shape import BroadcastTo
from graphnn.passes.rewrite import keep, rebuild


def prepare(program: Program) -> Program:
    """The same results from shorter chains.

    - An elementwise op reads the source of a broadcast, and a scalar in place of a filled tensor, where another operand
      gives the shape: elementwise ops broadcast by themselves.
    - The mask x <= 0 of y = where(x <= 0, 0, x), a ReLU, is read as y <= 0 by all others: both are false for NaN. So
      neither x nor the mask need be kept for the gradient.
    """
    preparation = _Preparation()
    return rebuild(program, preparation.visit)


class _Preparation:
    def __init__(self) -> None:
        self._maker: dict[Value, Instruction] = {}
        self._rectified: dict[Value, tuple[Value, Value]] = {}  # mask -> (y, the zero)
        self._again: dict[Value, Value] = {}  # mask -> y <= 0

    def visit(self, builder: ProgramBuilder, instruction: Instruction, inputs: tuple[Value, ...]) -> tuple[Value, ...]:
        """Keep the instruction, with other inputs where these serve as well."""
        inputs = tuple(self._mask(builder, value) for value in inputs)
        if isinstance(instruction.op, Elementwise | Where):
            inputs = self._without_broadcasts(builder, instruction, inputs)
        outputs = keep(builder, instruction, inputs)
        self._remember(Instruction(instruction.op, inputs, outputs, instruction.origin))
        return outputs

    def _remember(self, instruction: Instruction) -> None:
        self._maker.update(dict.fromkeys(instruction.outputs, instruction))
        if isinstance(instruction.op, Where):
            condition, zero, x = instruction.inputs
            test = self._maker.get(condition)
            if test is not None and isinstance(test.op, LessEqual) and test.inputs[0] is x and self._is_zero(zero):
                y = instruction.outputs[0]
                if self._is_zero(test.inputs[1]) and y.spec.shape == condition.spec.shape == x.spec.shape:
                    self._rectified[condition] = y, zero

    def _is_zero(self, value: Value) -> bool:
        op = self._maker[value].op if value in self._maker else None
        return isinstance(op, Fill) and op.value == 0

    def _mask(self, builder: ProgramBuilder, value: Value) -> Value:
        if value not in self._rectified:
            return value
        if value not in self._again:
            y, zero = self._rectified[value]
            self._again[value] = self._emit(builder, LessEqual(), y, zero)
        return self._again[value]

    def _without_broadcasts(
        self, builder: ProgramBuilder, instruction: Instruction, inputs: tuple[Value, ...]
    ) -> tuple[Value, ...]:
        shape = instruction.outputs[0].spec.shape
        result = list(inputs)
        for place, value in enumerate(inputs):
            others = [other.spec.shape for at, other in enumerate(result) if at != place]
            if shape in others and value in self._maker:
                result[place] = self._narrow(builder, value)
        return tuple(result)

    def _narrow(self, builder: ProgramBuilder, value: Value) -> Value:
        """What was broadcast or filled to the shape of `value`."""
        maker = self._maker[value]
        if isinstance(maker.op, BroadcastTo):
            return maker.inputs[0]
        if not isinstance(maker.op, Fill) or not value.spec.shape:
            return value
        return self._emit(builder, Fill(maker.op.value, (), maker.op.dtype))

    def _emit(self, builder: ProgramBuilder, op: Op, *inputs: Value) -> Value:
        (value,) = builder.emit(op, inputs)
        self._maker[value] = builder.instructions[-1]
        return value
