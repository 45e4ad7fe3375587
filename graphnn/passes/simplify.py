"""simplify: algebraic rules that are exact in floating point, apart from the sign of zero."""

from __future__ import annotations

from collections.abc import Callable

from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Instruction, Program, Value
from graphnn.ops.arithmetic import Add, Divide, Multiply, Subtract
from graphnn.ops.creation import Cast, Fill, StopGradient
from graphnn.ops.elementwise import Negative
from graphnn.ops.op import Op
from graphnn.ops.shape import BroadcastTo, Flip, Pad, Reshape, Slice, Transpose
from graphnn.passes.rewrite import rebuild

Rule = Callable[["Rewriter", Instruction, tuple[Value, ...]], Value | None]


class Rewriter:
    """The program being rebuilt, with the instruction that made each value of it."""

    def __init__(self, builder: ProgramBuilder):
        self.builder = builder
        self.producer: dict[Value, Instruction] = {}

    def made_by(self, value: Value, kind: type[Op]) -> Instruction | None:
        """The instruction of op class `kind` that made `value`, if there is one."""
        found = self.producer.get(value)
        return found if found is not None and isinstance(found.op, kind) else None

    def constant(self, value: Value) -> float | None:
        """The number that fills `value`, if it is known."""
        found = self.made_by(value, Fill)
        return found.op.value if found is not None and isinstance(found.op, Fill) else None

    def emit(self, op: Op, *inputs: Value) -> Value:
        """Append an instruction with one output."""
        return self.builder.emit(op, inputs)[0]


def simplify(program: Program) -> Program:
    """Apply the rules of `RULES` once to every instruction, inputs first."""
    state: list[Rewriter] = []

    def visit(builder: ProgramBuilder, instruction: Instruction, inputs: tuple[Value, ...]) -> tuple[Value] | None:
        if not state:
            state.append(Rewriter(builder))
        rewriter = state[0]
        for rule in RULES.get(type(instruction.op), ()):  # type: ignore[arg-type]
            replacement = rule(rewriter, instruction, inputs)
            if replacement is not None and replacement.spec == instruction.outputs[0].spec:
                _remember(rewriter)
                return (replacement,)
        kept = Instruction(instruction.op, inputs, instruction.outputs, instruction.origin)
        rewriter.producer.update(dict.fromkeys(instruction.outputs, kept))
        return None

    return rebuild(program, visit)


def _remember(rewriter: Rewriter) -> None:
    """Know the instructions that a rule has emitted."""
    for instruction in reversed(rewriter.builder.instructions):
        if instruction.outputs[0] in rewriter.producer:
            return
        rewriter.producer.update(dict.fromkeys(instruction.outputs, instruction))


def add_zero(rewriter: Rewriter, instruction: Instruction, inputs: tuple[Value, ...]) -> Value | None:
    """X + 0 -> x, 0 + x -> x."""
    a, b = inputs
    return a if rewriter.constant(b) == 0 else b if rewriter.constant(a) == 0 else None


def subtract_zero(rewriter: Rewriter, instruction: Instruction, inputs: tuple[Value, ...]) -> Value | None:
    """X - 0 -> x."""
    return inputs[0] if rewriter.constant(inputs[1]) == 0 else None


def multiply_by_one(rewriter: Rewriter, instruction: Instruction, inputs: tuple[Value, ...]) -> Value | None:
    """X * 1 -> x, 1 * x -> x."""
    a, b = inputs
    return a if rewriter.constant(b) == 1 else b if rewriter.constant(a) == 1 else None


def divide_by_one(rewriter: Rewriter, instruction: Instruction, inputs: tuple[Value, ...]) -> Value | None:
    """X / 1 -> x."""
    return inputs[0] if rewriter.constant(inputs[1]) == 1 else None


def negate_twice(rewriter: Rewriter, instruction: Instruction, inputs: tuple[Value, ...]) -> Value | None:
    """-(-x) -> x."""
    inner = rewriter.made_by(inputs[0], Negative)
    return inner.inputs[0] if inner else None


def reshape_twice(rewriter: Rewriter, instruction: Instruction, inputs: tuple[Value, ...]) -> Value | None:
    """reshape(reshape(x)) -> reshape(x); reshape to the same shape -> x."""
    inner = rewriter.made_by(inputs[0], Reshape)
    source = inner.inputs[0] if inner else inputs[0]
    if source.spec == instruction.outputs[0].spec:
        return source
    return rewriter.emit(Reshape(instruction.outputs[0].spec.shape), source) if inner else None


def transpose_twice(rewriter: Rewriter, instruction: Instruction, inputs: tuple[Value, ...]) -> Value | None:
    """transpose(transpose(x)) -> one transpose; the order 0, 1, 2... -> x."""
    order, source = _order(instruction), inputs[0]
    inner = rewriter.made_by(source, Transpose)
    if inner is not None:
        order, source = tuple(_order(inner)[axis] for axis in order), inner.inputs[0]
    if order == tuple(range(len(order))):
        return source
    return rewriter.emit(Transpose(order), source) if inner else None


def _order(instruction: Instruction) -> tuple[int, ...]:
    if not isinstance(instruction.op, Transpose):
        raise TypeError(instruction.op)
    return instruction.op.order


def same_spec(rewriter: Rewriter, instruction: Instruction, inputs: tuple[Value, ...]) -> Value | None:
    """Casts, broadcasts, slices, pads that change nothing (their output spec says so), stop_gradient -> x."""
    return inputs[0]


def flip_twice(rewriter: Rewriter, instruction: Instruction, inputs: tuple[Value, ...]) -> Value | None:
    """flip(flip(x)) over the same axes -> x."""
    inner = rewriter.made_by(inputs[0], Flip)
    return inner.inputs[0] if inner is not None and inner.op == instruction.op else None


def fill_through(rewriter: Rewriter, instruction: Instruction, inputs: tuple[Value, ...]) -> Value | None:
    """A broadcast or reshaped constant -> a constant of that shape."""
    number = rewriter.constant(inputs[0])
    spec = instruction.outputs[0].spec
    return None if number is None else rewriter.emit(Fill(number, spec.shape, spec.dtype))


RULES: dict[type[Op], tuple[Rule, ...]] = {
    Add: (add_zero,),
    Subtract: (subtract_zero,),
    Multiply: (multiply_by_one,),
    Divide: (divide_by_one,),
    Negative: (negate_twice,),
    Reshape: (fill_through, reshape_twice),
    Transpose: (fill_through, transpose_twice),
    BroadcastTo: (same_spec, fill_through),
    Slice: (same_spec, fill_through),
    Pad: (same_spec,),
    Cast: (same_spec,),
    StopGradient: (same_spec,),
    Flip: (flip_twice,),
}
