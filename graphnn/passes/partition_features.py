"""Layers that are cut by their features, not by examples: each worker keeps its part of two weights to itself.

Of two dense layers in a row, a worker has some columns of the first weight, and of the second the rows that meet these.

    h[:, part] = f(x @ W1[:, part] + b[part])           its own features of all examples
    y          = sum over workers of h[:, part] @ W2[part]   shared out again by examples

Both gradients and both updates are then of its own part too. What crosses from one core to another are y and its
gradient, instead of both weights: fewer bytes where the batch is small. And a weight is prepared for multiplying once,
for all examples, instead of by each worker for its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from graphnn.ir.program import Instruction, Kind, Phase, Program, Value, users
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.linalg import MatMul
from graphnn.ops.reduction import Sum
from graphnn.ops.shape import Transpose
from graphnn.passes.partition_rules import ELEMENTWISE
from graphnn.passes.partition_state import NOTHING, Cut, Decided, Local, can_cut, part_spec
from graphnn.passes.partition_weights import update_products

ROWS, COLUMNS = Cut(0), Cut(1)
LINE = 64  # bytes: no two workers write into one cache line


@dataclass(frozen=True, eq=False)
class Dense:
    """The products of a layer with one weight: y = x @ weight, what goes back to x, and the gradient of the weight."""

    weight: Value
    forward: Instruction
    back: tuple[Instruction, ...]
    gradient: Instruction


@dataclass(frozen=True, eq=False)
class Pair:
    """Two layers, the second one behind elementwise work on what the first one gives."""

    first: Dense
    second: Dense


def by_features(program: Program, batch: int, workers: int) -> Decided:
    """How the workers compute the layers that are better cut by features; each of them has one tile.

    Args:
        program: a training step before `partition`.
        batch: number of examples.
        workers: number of parts of the weights.
    """
    pairs = [pair for pair in pairs_of(program, batch, workers) if _is_worth_it(pair, workers)]
    if not pairs:
        return NOTHING
    makers = {value: i for i in program.instructions for value in i.outputs}
    locals_ = {i.outputs[0]: local for pair in pairs for i, local in _locals(pair)}
    products = [i for pair in pairs for i, _ in _locals(pair)]
    factors = (makers.get(value) for product in products for value in product.inputs)
    outside = {i.outputs[0] for i in factors if i is not None and _turns(i)}  # each tile turns what it needs
    sums = [i.outputs[0] for pair in pairs for i in (pair.second.forward, *pair.first.back)]
    layers = [layer for pair in pairs for layer in (pair.first, pair.second)]
    behind = {
        layer.gradient.outputs[0]: [i.outputs[0] for i in (layer.forward, *layer.back)]
        for layer in layers
    }  # fmt: skip
    return Decided(outside, locals_, dict.fromkeys(sums, ROWS), behind)


def _locals(pair: Pair) -> Iterator[tuple[Instruction, Local]]:
    """How a tile computes each product of the two layers."""
    first, second = pair.first, pair.second
    yield first.forward, Local(first.forward.op, (None, COLUMNS), (COLUMNS,))
    yield second.forward, Local(second.forward.op, (COLUMNS, ROWS), ("sum",))
    for product in second.back:
        yield product, Local(product.op, (None, COLUMNS), (COLUMNS,))
    for product in first.back:
        yield product, Local(product.op, (COLUMNS, ROWS), ("sum",))
    yield second.gradient, Local(second.gradient.op, (ROWS, None), (ROWS,))
    yield first.gradient, Local(first.gradient.op, (None, COLUMNS), (COLUMNS,))


def _is_worth_it(pair: Pair, workers: int) -> bool:
    """Whether fewer bytes cross than by examples, where each worker reads what others have updated of the weights."""
    sums = [i.outputs[0] for i in (pair.second.forward, *pair.first.back)]
    weights = [pair.first.weight, pair.second.weight]
    return 2 * sum(value.spec.nbytes for value in sums) < sum(value.spec.nbytes for value in weights)


# -- finding layers ----------------------------------------------------------------------------------------------------


def pairs_of(program: Program, batch: int, workers: int) -> list[Pair]:
    """Neighbouring layers that can be cut by features, each in one pair at most, from the first on."""
    finder = _Finder(program, batch, workers)
    layers, taken, pairs = list(finder.layers()), set[Dense](), list[Pair]()
    for first in layers:
        second = next((layer for layer in layers if first not in taken and finder.follows(first, layer)), None)
        if second is not None and second not in taken:
            taken |= {first, second}
            pairs.append(Pair(first, second))
    return pairs


class _Finder:
    def __init__(self, program: Program, batch: int, workers: int):
        self.program, self.batch, self.workers = program, batch, workers
        self.readers, self.results = users(program), set(program.outputs)
        self.olds = {new: old for old, new in program.updates}

    def layers(self) -> Iterator[Dense]:
        """Those whose weight is updated, and used for nothing else."""
        gradients = {weight: i for i in update_products(self.program, self.workers) for weight in self._updated(i)}
        for instruction in self.program.instructions:
            if self._is_forward(instruction) and (weight := instruction.inputs[1]) in gradients:
                back = self._back(instruction, weight)
                if back is not None:
                    yield Dense(weight, instruction, tuple(back), gradients[weight])

    def _is_forward(self, instruction: Instruction) -> bool:
        if not isinstance(instruction.op, MatMul) or instruction.origin.phase is not Phase.FORWARD:
            return False
        x, weight = instruction.inputs
        return weight.kind is Kind.PARAMETER and x.spec.rank == weight.spec.rank == 2 and x.spec.shape[0] == self.batch

    def _updated(self, gradient: Instruction) -> set[Value]:
        """The weights whose new values follow from a gradient."""
        found, waiting = set[Value](), list(gradient.outputs)
        while waiting:
            value = waiting.pop()
            if value not in found:
                found.add(value)
                waiting += [made for reader in self.readers.get(value, ()) for made in reader.outputs]
        olds = (self.olds[value] for value in found if value in self.olds)
        return {old for old in olds if old.kind is Kind.PARAMETER}

    def _back(self, forward: Instruction, weight: Value) -> list[Instruction] | None:
        """The products with the transposed weight; None where something else but its update reads the weight."""
        found: list[Instruction] = []
        for reader in self.readers[weight]:
            if reader is forward or reader.origin.phase is Phase.UPDATE:
                continue
            products = self.readers.get(reader.outputs[0], ()) if _turns(reader) else [reader]
            if not all(_multiplies(product, reader.outputs[0]) for product in products):
                return None
            found += products
        return found

    def follows(self, first: Dense, second: Dense) -> bool:
        """Whether only elementwise work, forward and backward, lies between two layers, and features can be cut."""
        if first is second or not _fits(first.forward.outputs[0].spec, self.workers):
            return False
        known: set[Value] = set()
        forward = self._leads(first.forward.outputs, {second.forward}, Phase.FORWARD, known)
        ends = {first.gradient, *first.back}
        made = [value for product in second.back for value in product.outputs]
        return forward and bool(made) and self._leads(made, ends, Phase.BACKWARD, known)

    def _leads(self, start: Sequence[Value], ends: Collection[Instruction], phase: Phase, known: set[Value]) -> bool:
        """Whether all that a phase makes of values goes through elementwise work into the ends, all of them.

        Args:
            start: the values.
            ends: products.
            phase: readers of other phases do not count.
            known: values that are cut by features; those found are added.
        """
        reached, waiting, shape = set[Instruction](), list(start), start[0].spec.shape
        while waiting:
            value = waiting.pop()
            known.add(value)
            if value in self.results:
                return False
            for reader in self.readers.get(value, ()):
                if reader in ends:
                    reached.add(reader)
                elif reader.origin.phase is phase and not _sums_examples(reader):
                    if not _is_alike(reader, shape, known | {v for v in reader.inputs if v in waiting}):
                        return False
                    waiting += [made for made in reader.outputs if made not in known]
        return reached == set(ends)


def _turns(instruction: Instruction) -> bool:
    return isinstance(instruction.op, Transpose) and instruction.op.order == (1, 0)


def _multiplies(product: Instruction, weight: Value) -> bool:
    """Whether it is a product on the way back with this second factor alone."""
    back = isinstance(product.op, MatMul) and product.origin.phase is Phase.BACKWARD
    return back and product.inputs[1] is weight is not product.inputs[0] and product.inputs[0].spec.rank == 2


def _sums_examples(instruction: Instruction) -> bool:
    return isinstance(instruction.op, Sum) and instruction.op.axes == (0,)


def _is_alike(instruction: Instruction, shape: tuple[object, ...], known: Collection[Value]) -> bool:
    """Whether it is elementwise work of this shape on values that are known, or the same for all examples."""
    if not isinstance(instruction.op, ELEMENTWISE) or any(made.spec.shape != shape for made in instruction.outputs):
        return False
    return all(value in known or _is_shared(value.spec) for value in instruction.inputs)


def _is_shared(spec: TensorSpec) -> bool:
    return all(size == 1 for size in spec.shape[:-1])


def _fits(features: TensorSpec, workers: int) -> bool:
    """Whether each worker gets whole cache lines of the features."""
    own = part_spec(features, COLUMNS, workers)
    return (
        can_cut(features.shape, COLUMNS, workers)
        and own.shape[1].__index__() * features.nbytes // features.size % LINE == 0
    )
