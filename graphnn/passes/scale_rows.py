"""scale_rows: rows of a softmax are divided, and gradients of it summed up, where there is less to do.

A softmax divides each row of exponentials by their sum. Products are linear: (e / s) @ v = (e @ v) / s, where e has as
many columns as v has rows, and the result as few as v. So only the sums and what is small are divided, and a training
step keeps one large value instead of two. The gradient of a softmax needs the sum of weights times their gradients, row
by row; that is the sum of results times their gradients as well, which are smaller.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Instruction, Program, Value, users
from graphnn.ops.arithmetic import Divide, Multiply, Subtract
from graphnn.ops.creation import Fill
from graphnn.ops.elementwise import Exp, Negative, Where
from graphnn.ops.linalg import MatMul, swapped
from graphnn.ops.reduction import Max, Sum
from graphnn.ops.shape import Reshape, Transpose
from graphnn.passes.dead import remove_dead
from graphnn.passes.merge import merge_common
from graphnn.passes.rewrite import append, rebuild

DTYPES = ("float32", "float64")  # products with exponentials may be too large for float16
STEPS_TO_MAXIMUM = 10  # instructions between a maximum and what is subtracted


def scale_rows(program: Program) -> Program:
    """(e / s) @ v -> (e @ v) / s, and what goes with it in a gradient, for softmaxes whose weights nothing else reads.

    e are exponentials of differences from a maximum, so at most 1; s is whatever the rows are divided by, mostly their
    sums. Results differ by rounding, and e @ v may be as many times as large as the result as there are columns in e.

        (e / s) @ v               ->  (e @ v) / s
        (e / s).T @ d             ->  e.T @ (d / s)
        (d @ v) / s               ->  (d / s) @ v
        sum(x * (e / s), axis=-1) ->  sum(x * e, axis=-1) / s
        sum((d @ v.T) * e, axis=-1)  ->  sum(d * (e @ v), axis=-1)    where e @ v is there already
    """
    scaled = _Softmaxes(program).found()
    if not scaled:
        return program
    program = remove_dead(merge_common(rebuild(program, _Scaling(program, scaled).visit)))
    return remove_dead(rebuild(program, _Sums(program).visit))


class _Softmaxes:
    """Finds divisions that can be put off: all who read the quotients are products, or lead to such."""

    def __init__(self, program: Program):
        self._program, self._results = program, set(program.results)
        self._maker = {value: i for i in program.instructions for value in i.outputs}
        self._readers = users(program)

    def found(self) -> dict[Value, Value]:
        """Quotients, and what is made of them and is still to be divided -> the sums that rows are divided by."""
        found: dict[Value, Value] = {}
        for instruction in self._program.instructions:
            own = self._put_off(instruction.outputs[0]) if self._is_softmax(instruction) else None
            if own is not None and found.keys().isdisjoint(own):
                found.update(dict.fromkeys(own, instruction.inputs[1]))
        return found

    def _is_softmax(self, instruction: Instruction) -> bool:
        made = instruction.outputs[0].spec
        if not isinstance(instruction.op, Divide) or made.rank < 2 or made.dtype not in DTYPES:
            return False
        over, under = instruction.inputs
        rows = over.spec.shape == made.shape and under.spec.shape == (*made.shape[:-1], 1)
        return rows and made.shape[-1] != 1 and self._is_below_one(over)

    def _is_below_one(self, value: Value) -> bool:
        """Whether it is exp(x - something that follows from a maximum)."""
        exponential = self._maker.get(value)
        difference = self._maker.get(exponential.inputs[0]) if exponential and isinstance(exponential.op, Exp) else None
        if difference is None or not isinstance(difference.op, Subtract):
            return False
        waiting, steps = [difference.inputs[1]], STEPS_TO_MAXIMUM
        while waiting and steps:
            maker = self._maker.get(waiting.pop(0))
            if maker is not None and isinstance(maker.op, Max):
                return maker.inputs[0] is difference.inputs[0]
            waiting += maker.inputs if maker is not None else ()
            steps -= 1
        return False

    def _put_off(self, quotient: Value) -> list[Value] | None:
        """The quotient and what is made of it, up to products and sums; None where somebody else reads one of them."""
        found = [quotient]
        for value in found:
            if value in self._results:
                return None
            for reader in self._readers.get(value, ()):
                if _ends(reader, value):
                    continue
                if not self._passes_on(reader, value) or reader.outputs[0] in found:
                    return None
                found.append(reader.outputs[0])
        return found

    def _passes_on(self, reader: Instruction, value: Value) -> bool:
        """Whether rows of its result are to be divided by the same: it is linear in the value, row by row."""
        op, others = reader.op, [v for v in reader.inputs if v is not value]
        if isinstance(op, Transpose):
            return op.order == swapped(value.spec.rank) and self._leads_to_products(reader.outputs[0])
        if len(others) != len(reader.inputs) - 1:
            return False
        if isinstance(op, Where):
            zero = self._maker.get(others[-1])
            is_zero = zero is not None and isinstance(zero.op, Fill) and zero.op.value == 0
            return is_zero and reader.inputs[1] is value and reader.outputs[0].spec == value.spec
        return isinstance(op, Negative) or (isinstance(op, Multiply) and reader.outputs[0].spec == value.spec)

    def _leads_to_products(self, turned: Value) -> bool:
        """Whether all readers multiply from the left with what is smaller, whose rows can be divided."""
        readers = self._readers.get(turned, ())
        return turned not in self._results and all(_is_product(r, turned) and _has_rows(r, turned) for r in readers)


def _ends(reader: Instruction, value: Value) -> bool:
    """Whether the division can be done on its result instead, or on its other operand."""
    if isinstance(reader.op, Sum):
        return reader.op.axes == (value.spec.rank - 1,)
    return _is_product(reader, value)


def _is_product(reader: Instruction, value: Value) -> bool:
    if not isinstance(reader.op, MatMul):
        return False
    left, right = reader.inputs
    return left is value and right is not value and reader.outputs[0].spec.size < value.spec.size


def _has_rows(product: Instruction, turned: Value) -> bool:
    """Whether the right operand has a row for each column of the turned left one, of the same batch."""
    right, left = product.inputs[1].spec.shape, turned.spec.shape
    return right[:-1] == (*left[:-2], left[-1])


class _Scaling:
    """Copies a program and keeps, for each value that is still to be divided, its numerator."""

    def __init__(self, program: Program, scaled: Mapping[Value, Value]):
        self._scaled, self._sums = scaled, set(scaled.values())
        self._maker = {value: i for i in program.instructions for value in i.outputs}
        self._readers, self._results = users(program), set(program.results)
        self._over: dict[Value, Value] = {}  # numerators in the new program
        self._new: dict[Value, Value] = {}  # all values of the new program that stand for old ones

    def visit(self, builder: ProgramBuilder, instruction: Instruction, inputs: tuple[Value, ...]) -> list[Value] | None:
        """See `rebuild`."""
        self._new.update(zip(instruction.inputs, inputs, strict=True))
        made, value = instruction.outputs[0], next((v for v in instruction.inputs if v in self._over), None)
        if made in self._scaled:
            self._over[made] = inputs[0] if value is None else self._again(builder, instruction)
            return None
        if value is not None:
            return [self._end(builder, instruction, value)]
        return self._before(builder, instruction)

    def _again(self, builder: ProgramBuilder, instruction: Instruction) -> Value:
        """The instruction on numerators."""
        inputs = [self._over.get(value, self._new[value]) for value in instruction.inputs]
        return builder.emit(instruction.op, inputs)[0]

    def _end(self, builder: ProgramBuilder, instruction: Instruction, value: Value) -> Value:
        """A product or a sum: the division behind it, or in front of what a turned value is multiplied with."""
        total = self._new[self._scaled[value]]
        maker = self._maker[value]
        if isinstance(maker.op, Transpose):
            right = append(builder, Divide(), self._new[instruction.inputs[1]], total)
            return append(builder, MatMul(), self._over[value], right)
        made = self._again(builder, instruction)
        if isinstance(instruction.op, Sum):
            total = append(builder, Reshape(made.spec.shape), total)
        return append(builder, Divide(), made, total)

    def _before(self, builder: ProgramBuilder, instruction: Instruction) -> list[Value] | None:
        """(d @ v) / s -> (d / s) @ v, where d is smaller and nobody else reads the product."""
        if not isinstance(instruction.op, Divide) or instruction.inputs[1] not in self._sums:
            return None
        product, total = instruction.inputs
        maker = self._maker.get(product)
        if maker is None or not isinstance(maker.op, MatMul) or product in self._results:
            return None
        left, right = maker.inputs
        alone = len(self._readers[product]) == 1 and left.spec.size < product.spec.size
        if not alone or left.spec.shape[:-1] != total.spec.shape[:-1] or left in self._over:
            return None
        divided = append(builder, Divide(), self._new[left], self._new[total])
        return [append(builder, MatMul(), divided, self._new[right])]


class _Sums:
    """Copies a program; sums over large values that two small ones give as well are made of these."""

    def __init__(self, program: Program):
        self._maker = {value: i for i in program.instructions for value in i.outputs}
        self._readers, self._results = users(program), set(program.results)
        products = (i for i in program.instructions if isinstance(i.op, MatMul))
        self._products = {(i.inputs[0], *self._source(i.inputs[1])): i.outputs[0] for i in products}
        self._new: dict[Value, Value] = {}

    def visit(self, builder: ProgramBuilder, instruction: Instruction, inputs: tuple[Value, ...]) -> list[Value] | None:
        """See `rebuild`."""
        self._new.update(zip(instruction.inputs, inputs, strict=True))
        self._new.setdefault(instruction.outputs[0], instruction.outputs[0])
        if not isinstance(instruction.op, Sum) or instruction.op.axes != (instruction.inputs[0].spec.rank - 1,):
            return None
        factors, negated = self._factors(instruction.inputs[0])
        if factors is None:
            return None
        product = append(builder, Multiply(), *(self._new[value] for value in factors))
        product = append(builder, Negative(), product) if negated else product
        return [append(builder, Sum(instruction.op.axes), product)]

    def _factors(self, summed: Value) -> tuple[tuple[Value, Value] | None, bool]:
        """Two smaller values whose product has the same sums, and whether the sum is negated."""
        maker = self._maker.get(summed)
        negated = maker is not None and isinstance(maker.op, Negative)
        if negated and maker is not None:
            maker = self._maker.get(maker.inputs[0])
        if maker is None or not isinstance(maker.op, Multiply) or maker.inputs[0].spec != maker.inputs[1].spec:
            return None, negated
        pairs = (maker.inputs, maker.inputs[::-1])
        return next((found for pair in pairs if (found := self._smaller(*pair)) is not None), None), negated

    def _smaller(self, product: Value, weights: Value) -> tuple[Value, Value] | None:
        """For (d @ v.T) * e: d and e @ v, which must be there, and be smaller."""
        maker = self._maker.get(product)
        if maker is None or not isinstance(maker.op, MatMul):
            return None
        left, right = maker.inputs
        source, order = self._source(right)
        known = self._products.get((weights, source, (*order[:-2], order[-1], order[-2])))
        if known is None or known not in self._new:  # or it stands behind the sum
            return None
        return (left, known) if known.spec == left.spec and left.spec.size < product.spec.size else None

    def _source(self, value: Value) -> tuple[Value, tuple[int, ...]]:
        """What it is a transpose of, if of anything, and the order of axes."""
        maker = self._maker.get(value)
        if maker is None or not isinstance(maker.op, Transpose):
            return value, tuple(range(value.spec.rank))
        return maker.inputs[0], maker.op.order
