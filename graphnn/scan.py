"""scan: a loop over the leading axis of sequences as one op, and its gradient (a scan the other way round).

It stands above autodiff because its gradient rule differentiates the loop's body.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import accumulate
from operator import add
from typing import ClassVar, TypeAlias, TypeVar, final

from graphnn.autodiff import append_gradients
from graphnn.errors import GraphError, ShapeError
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.dimension import Shape, Size
from graphnn.ir.program import Instruction, Program, Value
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.creation import Fill
from graphnn.ops.evaluate import evaluate
from graphnn.ops.linalg import MatMul, swap_last
from graphnn.ops.op import Array, ArrayModule, Op, Tensor, emit, spec_of
from graphnn.ops.shape import Transpose

Item = TypeVar("Item")
Parts: TypeAlias = tuple[tuple[Item, ...], tuple[Item, ...], tuple[Item, ...]]
Tensors: TypeAlias = tuple[Tensor, ...]
Finish: TypeAlias = Callable[[Tensors, dict[Value, Tensor]], Tensor]  # (last carries, stacks) -> a cotangent


@final
@dataclass(frozen=True)
class Scan(Op):
    """for t in 0..length-1 (or back): carries, outputs[t] = body(carries, sequences[t], constants).

    Inputs: the first carries, sequences (length, ...), constants. Outputs: the last carries, the stacked step outputs
    (length, ...), and, with `keep_carries`, the carries before each step, stacked. The kept carries let the gradient
    recompute one step at a time instead of storing every value of the body.
    """

    name: ClassVar[str] = "scan"
    body: Program = field(repr=False)
    n_carries: int
    n_sequences: int
    length: Size
    reverse: bool = False
    keep_carries: bool = True

    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """Carries keep their spec; sequences share the length."""
        carries, sequences, constants = self.split(specs)
        self._check_lengths(sequences)
        slices = tuple(TensorSpec(spec.shape[1:], spec.dtype) for spec in sequences)
        wanted = tuple(value.spec for value in self.body.inputs)
        if (*carries, *slices, *constants) != wanted:
            got = _texts((*carries, *slices, *constants))
            raise ShapeError("inputs of a scan do not fit its body", expected=_texts(wanted), got=got)
        results = tuple(value.spec for value in self.body.outputs)
        if results[: self.n_carries] != carries:
            got = _texts(results[: self.n_carries])
            raise ShapeError("a scan changes the spec of a carry", expected=_texts(carries), got=got)
        kept = carries if self.keep_carries else ()
        return (*carries, *(self._stacked(spec) for spec in (*results[self.n_carries :], *kept)))

    def _check_lengths(self, sequences: Sequence[TensorSpec]) -> None:
        if any(not spec.shape for spec in sequences):
            raise ShapeError("a sequence has no axis to loop over", expected="(length, ...)", got=_texts(sequences))
        if any(spec.shape[0] != self.length for spec in sequences):
            raise ShapeError("sequences of a scan differ in length", expected=self.length, got=_texts(sequences))

    def _stacked(self, spec: TensorSpec) -> TensorSpec:
        return TensorSpec((self.length, *spec.shape), spec.dtype)

    def split(self, items: Sequence[Item]) -> Parts[Item]:
        """Inputs as (carries, sequences, constants)."""
        first, second = self.n_carries, self.n_carries + self.n_sequences
        return tuple(items[:first]), tuple(items[first:second]), tuple(items[second:])

    def split_outputs(self, items: Sequence[Item]) -> Parts[Item]:
        """Outputs as (last carries, step outputs, kept carries)."""
        first, second = self.n_carries, len(self.body.outputs)
        return tuple(items[:first]), tuple(items[first:second]), tuple(items[second:])

    def reference(self, xp: ArrayModule, *arrays: Array) -> tuple[Array, ...]:
        """A Python loop."""
        carries, sequences, constants = self.split(arrays)
        _, stacked, kept = self.split_outputs(self.infer(*map(spec_of, arrays)))
        stacks = [xp.empty(spec.shape, spec.dtype) for spec in (*stacked, *kept)]
        steps = range(self.length.__index__())
        for t in reversed(steps) if self.reverse else steps:
            values = evaluate(xp, self.body, (*carries, *(s[t] for s in sequences), *constants))
            results = tuple(values[value] for value in self.body.outputs)
            for stack, value in zip(
                stacks, results[self.n_carries :] + (carries if self.keep_carries else ()), strict=True
            ):
                stack[t] = value
            carries = results[: self.n_carries]
        return (*carries, *stacks)

    def vjp(self, inputs: Tensors, outputs: Tensors, cotangents: Tensors) -> tuple[Tensor | None, ...]:
        """A scan in the other direction over the body's gradient; cotangents of constants add up in its carries."""
        if not self.keep_carries:
            raise ShapeError(
                "this scan has dropped its carries, so it has no gradient", fix="differentiate before passes"
            )
        return _ScanGradient(self, inputs, outputs, cotangents).run()


def _texts(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(map(str, specs))


def scan(
    body: Callable[[Tensors, Tensors, Tensors], tuple[Sequence[Tensor], Sequence[Tensor]]],
    carries: Sequence[Tensor],
    sequences: Sequence[Tensor] = (),
    constants: Sequence[Tensor] = (),
    length: Size | None = None,
    reverse: bool = False,
) -> tuple[Tensors, Tensors]:
    """Loop over axis 0 of `sequences`.

    Args:
        body: (carries, slices, constants) -> (new carries, step outputs), written in Tensors. A tensor from outside
            that it reads becomes a constant; it must stand right of a tensor of the body, as in `slice + outside`.
        carries: state before the first step; specs stay the same.
        sequences: (length, ...) each.
        constants: seen whole by every step.
        length: number of steps; read off the sequences where there are any.
        reverse: go from the last step to the first.

    Returns:
        (carries after the last step, stacked step outputs (length, ...)).

    Raises:
        ShapeError: lengths differ, a carry changes its spec, or there is no length.
        GraphError: the body writes outside.
    """
    given = (*carries, *sequences, *constants)
    if any(not sequence.shape for sequence in sequences):
        got = _texts([sequence.spec for sequence in sequences])
        raise ShapeError("a sequence has no axis to loop over", expected="(length, ...)", got=got)
    steps = sequences[0].shape[0] if sequences else length
    if steps is None or not given:
        raise ShapeError("a scan without sequences needs a length, and a carry", expected="length=...", got=steps)
    n_c, n_s = len(carries), len(sequences)
    specs = [TensorSpec(x.shape[1:], x.dtype) if n_c <= i < n_c + n_s else x.spec for i, x in enumerate(given)]
    outside = given[0].builder
    written = len(outside.instructions)
    builder = ProgramBuilder()
    inner = tuple(Tensor(builder, builder.input(f"in_{i}", spec)) for i, spec in enumerate(specs))
    new_carries, step_outputs = body(inner[:n_c], inner[n_c : n_c + n_s], inner[n_c + n_s :])
    if len(new_carries) != n_c:
        raise ShapeError("the body of a scan changes the number of carries", expected=n_c, got=len(new_carries))
    program = builder.build([tensor.value for tensor in (*new_carries, *step_outputs)])
    _refuse_writes(outside.instructions[written:], program)
    program, captured = _capture(program)
    op = Scan(program, n_c, n_s, steps, reverse)
    last, stacked, _ = op.split_outputs(emit(op, (*given, *(Tensor(outside, value) for value in captured))))
    return last, stacked


def _defined(program: Program) -> set[Value]:
    return {*program.inputs, *(value for instruction in program.instructions for value in instruction.outputs)}


def _refuse_writes(written: Sequence[Instruction], body: Program) -> None:
    """An operator belongs to the program of its left operand: `outside + slice` would land outside of the loop."""
    inside = _defined(body)
    for instruction in written:
        if any(value in inside for value in instruction.inputs):
            raise GraphError(
                "the body of a scan computes outside of the loop", where=instruction.op.name,
                expected="a tensor of the body as the first operand", got="a tensor from outside",
                fix="exchange the operands, or list the tensor among the constants",
            )  # fmt: skip


def _capture(body: Program) -> tuple[Program, list[Value]]:
    """The body with the outside values that it reads as further inputs, and these values."""
    inside = _defined(body)
    read = [*(value for instruction in body.instructions for value in instruction.inputs), *body.outputs]
    captured = list(dict.fromkeys(value for value in read if value not in inside))
    if not captured:
        return body, []
    builder = ProgramBuilder()
    builder.inputs = list(body.inputs)
    renamed = {value: builder.input(f"outside_{i}", value.spec) for i, value in enumerate(captured)}
    for i in body.instructions:
        inputs = tuple(renamed.get(value, value) for value in i.inputs)
        builder.instructions.append(Instruction(i.op, inputs, i.outputs, i.origin))
    return builder.build([renamed.get(value, value) for value in body.outputs]), captured


class _ScanGradient:
    """Builds the backward scan of one Scan; only floating-point inputs take part.

    Carried are the cotangents of the carries, and a running sum for each constant. A constant that is only the right
    side of one matrix product, as the weight of a recurrent layer, needs no sum: the sum over t of a_t^T @ b_t is one
    product of the stacked a and b behind the loop, and in most cases both are stacked anyway.
    """

    def __init__(self, op: Scan, inputs: Tensors, outputs: Tensors, cotangents: Tensors):
        self.op, self.inputs = op, inputs
        self.builder = ProgramBuilder()  # of the backward body
        zeros = _fresh_zeros(cotangents)
        last, stacked, kept = op.split_outputs(cotangents)
        _, _, histories = op.split_outputs(outputs)
        carries, sequences, constants = op.split(inputs)
        self.float_carries = _float_positions(carries)
        self.stepwise = [i for i in _float_positions(stacked) if stacked[i].value not in zeros]
        self.kept = [i for i in self.float_carries if kept[i].value not in zeros]
        given = [*histories, *sequences, *(stacked[i] for i in self.stepwise), *(kept[i] for i in self.kept)]
        self.carried = [(self._input(last[i]), last[i]) for i in self.float_carries]  # (in the body, first value)
        self.slices = [(self._input(x, x.shape[1:]), x) for x in given]
        self.constants = [(self._input(x), x) for x in constants]
        self.next_carries: list[Tensor] = []
        self.steps: dict[Value, Tensor] = {}  # step outputs

    def _input(self, like: Tensor, shape: Shape | None = None) -> Tensor:
        spec = like.spec if shape is None else TensorSpec(shape, like.dtype)
        return Tensor(self.builder, self.builder.input("", spec))

    def run(self) -> tuple[Tensor | None, ...]:
        """One cotangent per input of the scan."""
        n_c, n_s = self.op.n_carries, self.op.n_sequences
        state, xs = self._parts(self.slices, n_c, n_s)
        inner = [*state, *xs, *(tensor for tensor, _ in self.constants)]
        found = self._differentiate(inner)
        self._step_carries(state, found)
        results: list[Finish | None] = [None] * len(inner)
        for k, i in enumerate(self.float_carries):
            results[i] = lambda last, steps, k=k: last[k]
        for i, x in enumerate(inner[n_c:], n_c):
            if x.value in found and x.spec.is_float:
                results[i] = self._of_slice(found[x.value]) if i < n_c + n_s else self._of_constant(found[x.value], i)
        last, steps = self._emit()
        return tuple(None if result is None else result(last, steps) for result in results)

    @staticmethod
    def _parts(slices: Sequence[tuple[Tensor, Tensor]], *sizes: int) -> list[list[Tensor]]:
        tensors, starts = [tensor for tensor, _ in slices], [0, *accumulate(sizes)]
        return [tensors[start : start + size] for start, size in zip(starts, sizes, strict=False)]

    def _differentiate(self, inner: Sequence[Tensor]) -> dict[Value, Tensor]:
        """Cotangents of the values of the body, which is computed again."""
        n_c = self.op.n_carries
        results = inline(self.builder, self.op.body, inner)
        _, _, dy, _ = self._parts(self.slices, n_c, self.op.n_sequences, len(self.stepwise), len(self.kept))
        pairs = [(results[i], carried) for i, (carried, _) in zip(self.float_carries, self.carried, strict=True)]
        pairs += [(results[n_c + i], seed) for i, seed in zip(self.stepwise, dy, strict=True)]
        seeds: dict[Value, Tensor] = {}
        for target, seed in pairs:
            seeds[target.value] = seeds[target.value] + seed if target.value in seeds else seed
        return append_gradients(self.builder, seeds, [tensor.value for tensor in inner])

    def _step_carries(self, state: Sequence[Tensor], found: dict[Value, Tensor]) -> None:
        sizes = (self.op.n_carries, self.op.n_sequences, len(self.stepwise), len(self.kept))
        dkept = dict(zip(self.kept, self._parts(self.slices, *sizes)[3], strict=True))
        for i in self.float_carries:
            terms = [x for x in (found.get(state[i].value), dkept.get(i)) if x is not None]
            self.next_carries.append(reduce(add, terms) if terms else state[i].fill(0, state[i].shape))

    def _of_slice(self, gradient: Tensor) -> Finish:
        self._stack(gradient)
        return lambda last, steps: steps[gradient.value]

    def _of_constant(self, gradient: Tensor, position: int) -> Finish:
        factors = self._factors(gradient)
        if factors is not None:
            a, b = factors
            self._stack(a)
            self._stack(b)
            return lambda last, steps: swap_last(_rows(steps[a.value])) @ _rows(steps[b.value])
        first = self.inputs[position]
        total = self._input(first)
        self.carried.append((total, first.fill(0, first.shape)))
        self.next_carries.append(total + gradient)
        place = len(self.next_carries) - 1
        return lambda last, steps: last[place]

    def _stack(self, tensor: Tensor) -> None:
        """Make it a step output, unless it is a slice of what is stacked already."""
        if all(tensor.value is not known.value for known, _ in self.slices):
            self.steps[tensor.value] = tensor

    def _factors(self, gradient: Tensor) -> tuple[Tensor, Tensor] | None:
        """a (n, k) and b (n, m) where the gradient is a^T @ b."""
        made = {i.outputs[0]: i for i in self.builder.instructions if isinstance(i.op, MatMul | Transpose)}
        product = made.get(gradient.value)
        if product is None or not isinstance(product.op, MatMul):
            return None
        left, b = product.inputs
        transposed = made.get(left)
        if transposed is None or not _swaps(transposed.op) or b.spec.rank != 2:
            return None
        return Tensor(self.builder, transposed.inputs[0]), Tensor(self.builder, b)

    def _emit(self) -> tuple[Tensors, dict[Value, Tensor]]:
        """Appends the scan; last carries, and stacks by the value of the body that they hold."""
        inputs = [*self.carried, *self.slices, *self.constants]
        outputs = tuple(tensor.value for tensor in (*self.next_carries, *self.steps.values()))
        body = Program(tuple(tensor.value for tensor, _ in inputs), tuple(self.builder.instructions), outputs)
        op = Scan(body, len(self.carried), len(self.slices), self.op.length, not self.op.reverse)
        last, stacked, _ = op.split_outputs(emit(op, [outer for _, outer in inputs], self.inputs[0].builder))
        steps = {tensor.value: outer for tensor, outer in self.slices}
        return last, steps | dict(zip(self.steps, stacked, strict=True))


def _rows(x: Tensor) -> Tensor:
    """(length, n, m) as (length * n, m)."""
    return x.reshape((x.shape[0] * x.shape[1], x.shape[2]))


def _fresh_zeros(cotangents: Tensors) -> set[Value]:
    """Those cotangents that autodiff has just filled with zeros, for outputs that nobody uses."""
    recent = cotangents[0].builder.instructions[-len(cotangents) :]
    fills = [i for i in recent if isinstance(i.op, Fill) and i.op.value == 0]
    return {value for instruction in fills for value in instruction.outputs}


def _swaps(op: object) -> bool:
    return isinstance(op, Transpose) and op.order == (1, 0)


def _float_positions(tensors: Sequence[Tensor]) -> list[int]:
    return [index for index, tensor in enumerate(tensors) if tensor.spec.is_float]


def inline(builder: ProgramBuilder, program: Program, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Append the instructions of `program` to `builder`, reading `inputs`; returns its outputs."""
    table = dict(zip(program.inputs, (tensor.value for tensor in inputs), strict=True))
    for instruction in program.instructions:
        outputs = builder.emit(instruction.op, [table[value] for value in instruction.inputs])
        table.update(zip(instruction.outputs, outputs, strict=True))
    return tuple(Tensor(builder, table[value]) for value in program.outputs)


def drop_unused(op: Scan, used: Sequence[bool]) -> tuple[Scan, list[int]] | None:
    """The scan without kept carries and step outputs that nobody reads, and the positions of the outputs it keeps.

    None where nothing can be dropped.
    """
    _, stacked, kept = op.split_outputs(used)
    keep_carries = op.keep_carries and any(kept)
    kept_steps = [index for index, flag in enumerate(stacked) if flag]
    if len(kept_steps) == len(stacked) and keep_carries == op.keep_carries:
        return None
    outputs = op.body.outputs[: op.n_carries] + tuple(op.body.outputs[op.n_carries + index] for index in kept_steps)
    body = Program(op.body.inputs, op.body.instructions, outputs)
    positions = [*range(op.n_carries), *(op.n_carries + index for index in kept_steps)]
    if keep_carries:
        positions += range(len(op.body.outputs), len(used))
    return replace(op, body=body, keep_carries=keep_carries), positions
