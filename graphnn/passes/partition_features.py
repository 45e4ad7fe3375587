"""Layers that are cut by their features, not by examples: each worker keeps its part of two weights to itself.

Of two dense layers in a row, a worker has some columns of the first weight, and of the second the rows that meet these.

    h[:, part] = f(x @ W1[:, part] + b[part])           its own features of all examples
    y          = sum over workers of h[:, part] @ W2[part]   shared out again by examples

Both gradients and both updates are then of its own part too. What crosses from one core to another are y and its
gradient, instead of both weights: fewer bytes where the batch is small. And a weight is prepared for multiplying once,
for all examples, instead of by each worker for its own.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

from graphnn.ir.program import Instruction, Kind, Phase, Program, Value, users
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.linalg import MatMul
from graphnn.ops.reduction import Sum
from graphnn.passes.partition_rules import ELEMENTWISE
from graphnn.passes.partition_state import NOTHING, Cut, Decided, Local, can_cut, part_spec
from graphnn.passes.partition_weights import turns, update_products, updates

ROWS, COLUMNS = Cut(0), Cut(1)
LINE = 64  # bytes: no two workers write into one cache line
RUN = 2**10  # bytes of a worker's features of one example: processors fetch lines behind a run, which are another's


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
    pairs = [pair for pair in pairs_of(program, batch, workers) if _is_worth_it(pair)]
    if not pairs:
        return NOTHING
    locals_ = {product: local for pair in pairs for product, local in _locals(pair)}
    makers = {value: i for i in program.instructions for value in i.outputs}
    factors = (makers.get(value) for product in locals_ for value in product.inputs)
    turned = {i.outputs[0] for i in factors if i is not None and turns(i)}  # each tile turns what it needs
    sums = [i.outputs[0] for pair in pairs for i in (pair.second.forward, *pair.first.back)]
    behind = {
        layer.gradient.outputs[0]: [i.outputs[0] for i in (layer.forward, *layer.back)]
        for pair in pairs
        for layer in (pair.first, pair.second)
    }
    known = {product.outputs[0]: local for product, local in locals_.items()}
    return Decided(turned, known, dict.fromkeys(sums, ROWS), behind)


def _locals(pair: Pair) -> Iterator[tuple[Instruction, Local]]:
    """How a tile computes each product of the two layers."""
    columns, rows = Local(MatMul(), (None, COLUMNS), (COLUMNS,)), Local(MatMul(), (ROWS, None), (ROWS,))
    part_of_sum = Local(MatMul(), (COLUMNS, ROWS), ("sum",))
    first, second = pair.first, pair.second
    yield from ((product, columns) for product in (first.forward, *second.back, first.gradient))
    yield from ((product, part_of_sum) for product in (second.forward, *first.back))
    yield second.gradient, rows


def _is_worth_it(pair: Pair) -> bool:
    """Whether fewer bytes cross than by examples, where each worker reads what others have updated of the weights."""
    sums = [i.outputs[0] for i in (pair.second.forward, *pair.first.back)]
    weights = [pair.first.weight, pair.second.weight]
    return 2 * sum(value.spec.nbytes for value in sums) < sum(value.spec.nbytes for value in weights)


# -- finding layers ----------------------------------------------------------------------------------------------------


def pairs_of(program: Program, batch: int, workers: int) -> list[Pair]:
    """Neighbouring layers that can be cut by features, each in one pair at most, from the first on."""
    finder, taken, pairs = _Finder(program, batch, workers), set[Dense](), list[Pair]()
    layers = {layer.forward: layer for layer in finder.layers()}
    for first in layers.values():
        second = None if first in taken else finder.second(first, layers)
        if second is not None and second not in taken:
            taken |= {first, second}
            pairs.append(Pair(first, second))
    return pairs


class _Finder:
    def __init__(self, program: Program, batch: int, workers: int):
        self.program, self.batch, self.workers = program, batch, workers
        self.readers, self.outputs = users(program), set(program.outputs)
        self.makers = {value: i for i in program.instructions for value in i.outputs}
        self.olds = {new: old for old, new in program.updates}

    def layers(self) -> Iterator[Dense]:
        """Those whose weight is updated, and used for nothing else."""
        gradients = {weight: i for i in update_products(self.program) for weight in self._updated(i)}
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
        """The weights whose new values follow from a gradient; none where more than elementwise work reads it."""
        found, waiting = set[Value](), list(gradient.outputs)
        while waiting:
            value = waiting.pop()
            found.add(value)
            for reader in self.readers.get(value, ()):
                if not updates(reader, value):
                    return set()
                waiting += [made for made in reader.outputs if made not in found]
        olds = (self.olds[value] for value in found if value in self.olds)
        return {old for old in olds if old.kind is Kind.PARAMETER}

    def _back(self, forward: Instruction, weight: Value) -> list[Instruction] | None:
        """The products with the transposed weight; None where something else but its update reads the weight."""
        found: list[Instruction] = []
        for reader in self.readers[weight]:
            if reader is forward or reader.origin.phase is Phase.UPDATE:
                continue
            products = self.readers.get(reader.outputs[0], ()) if turns(reader) else [reader]
            if not all(_multiplies(product, reader.outputs[0]) for product in products):
                return None
            found += products
        return found

    def second(self, first: Dense, layers: Mapping[Instruction, Dense]) -> Dense | None:
        """The layer behind, if features can be cut and only elementwise work lies between, forward and backward.

        Args:
            first: the layer whose features they are.
            layers: all, by their products forward.
        """
        if not _fits(first.forward.outputs[0].spec, self.workers):
            return None
        known = self._followed(first.forward.outputs, layers, Phase.FORWARD)
        behind = {layers[reader] for value in known for reader in self.readers.get(value, ()) if reader in layers}
        second = behind.pop() if len(behind) == 1 else None
        if second is None or not second.back:
            return None
        back, ends = [product.outputs[0] for product in second.back], {first.gradient, *first.back}
        forward = self._leads(first.forward.outputs, {second.forward}, Phase.FORWARD, known)
        return second if forward and self._leads(back, ends, Phase.BACKWARD, known) else None

    def _leads(self, start: Sequence[Value], ends: Collection[Instruction], phase: Phase, known: set[Value]) -> bool:
        """Whether all that a phase makes of values goes through elementwise work into the ends, all of them.

        Args:
            start: the values.
            ends: products.
            phase: readers of other phases do not count.
            known: values that are cut by features; those found are added.
        """
        reached, followed = set[Instruction](), self._followed(start, ends, phase)
        known |= followed
        for value in followed:
            if value in self.outputs:
                return False
            for reader in self.readers.get(value, ()):
                if reader in ends:
                    reached.add(reader)
                elif self._goes_on(reader, phase) and not self._is_alike(reader, start[0].spec, known):
                    return False
        return reached == set(ends)

    def _followed(self, start: Sequence[Value], ends: Container[Instruction], phase: Phase) -> set[Value]:
        """All that a phase makes of values, up to the ends and to sums over the examples."""
        found, waiting = set[Value](), list(start)
        while waiting:
            value = waiting.pop()
            found.add(value)
            for reader in self.readers.get(value, ()):
                if reader not in ends and self._goes_on(reader, phase):
                    waiting += [made for made in reader.outputs if made not in found]
        return found

    @staticmethod
    def _goes_on(reader: Instruction, phase: Phase) -> bool:
        """Whether a reader in this phase makes more values of features; sums over the examples are fine anyhow."""
        return reader.origin.phase is phase and not (isinstance(reader.op, Sum) and reader.op.axes == (0,))

    def _is_alike(self, instruction: Instruction, features: TensorSpec, known: set[Value]) -> bool:
        """Whether it is elementwise work on known values, on what is shared, and on what such work makes of these."""
        waiting, found = [instruction], set[Value]()
        while waiting:
            current = waiting.pop()
            if not isinstance(current.op, ELEMENTWISE) or current.outputs[0].spec.shape != features.shape:
                return False
            others = {v for v in current.inputs if not (v in known or v in found or _is_shared(v.spec))}
            if not others <= self.makers.keys():
                return False
            found |= others
            waiting += [self.makers[value] for value in others]
        return True


def _multiplies(product: Instruction, weight: Value) -> bool:
    """Whether it is a product on the way back with this second factor alone."""
    back = isinstance(product.op, MatMul) and product.origin.phase is Phase.BACKWARD
    return back and product.inputs[1] is weight is not product.inputs[0] and product.inputs[0].spec.rank == 2


def _is_shared(spec: TensorSpec) -> bool:
    """Whether it is the same for all examples."""
    return all(size == 1 for size in spec.shape[:-1])


def _fits(features: TensorSpec, workers: int) -> bool:
    """Whether each worker gets a long run of features of each example, whole cache lines."""
    run = part_spec(features, COLUMNS, workers).nbytes // features.shape[0].__index__()
    return can_cut(features.shape, COLUMNS, workers) and run >= RUN and run % LINE == 0
