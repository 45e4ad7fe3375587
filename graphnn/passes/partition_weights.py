"""Weights whose gradients are computed by parts of the weight, not by parts of the batch.

A gradient of a weight is a sum over all examples. Cut along the batch, each worker makes a whole one from its own
examples, and these are added up: dear where the weight is large and the batch small. Cut along the weight, each worker
makes the rows of its part from all examples, and updates them while they are in registers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from graphnn.ir.program import Instruction, Kind, Phase, Program, Value, users
from graphnn.ops.linalg import MatMul
from graphnn.ops.shape import Transpose
from graphnn.passes.flow import POINTWISE
from graphnn.passes.partition_state import Cut, can_cut

LEAST_PRODUCTS = 2**16  # multiply-adds: a microsecond of one core


def gradients_by_rows(program: Program, tiles: int, workers: int) -> set[Instruction]:
    """The matrix products, with the transposes in front of them, that are to stay outside of the loop over tiles.

    Args:
        program: before `partition`.
        tiles: parts of the batch.
        workers: threads that share the tiles; each gets rows of the weight.
    """
    products = products_by_rows(program, workers)
    cheap = (p for p in products if _bytes_by_rows(p, workers) < _bytes_by_examples(p, tiles, workers))
    return with_factors(program, cheap)


def products_by_rows(program: Program, workers: int) -> Iterator[Instruction]:
    """Those of `update_products` whose rows the workers can share, and are worth it."""
    return (product for product in update_products(program) if _is_worth_it(product, workers))


def with_factors(program: Program, products: Iterable[Instruction]) -> set[Instruction]:
    """The products, and what transposes the first factor of one of them and of nothing else."""
    readers, chosen = users(program), set(products)
    factors = {product.inputs[0] for product in chosen}
    turned = {i for i in program.instructions if i.outputs[0] in factors and turns(i)}
    return chosen | {i for i in turned if chosen.issuperset(readers[i.outputs[0]])}


def turns(instruction: Instruction) -> bool:
    """Whether it transposes a matrix."""
    return isinstance(instruction.op, Transpose) and instruction.op.order == (1, 0)


def update_products(program: Program) -> Iterator[Instruction]:
    """The matrix products that are read by elementwise work alone, which updates a weight of their shape."""
    readers, results = users(program), set(program.results)
    new = {new.spec.shape for old, new in program.updates if old.kind is Kind.PARAMETER}
    for instruction in program.instructions:
        if isinstance(instruction.op, MatMul) and instruction.origin.phase is Phase.BACKWARD:
            (made,) = instruction.outputs
            alike = made.spec.rank == 2 and made.spec.shape in new and made not in results
            if alike and all(updates(reader, made) for reader in readers.get(made, ())):
                yield instruction


def _is_worth_it(product: Instruction, workers: int) -> bool:
    depth, (made,) = product.inputs[0].spec.shape[-1], product.outputs
    return can_cut(made.spec.shape, Cut(0), workers) and made.spec.size * depth >= LEAST_PRODUCTS


def updates(reader: Instruction, made: Value) -> bool:
    """Whether it is elementwise work of an update on an array of the shape of `made`."""
    shapes = {value.spec.shape for value in reader.outputs}
    return reader.origin.phase is Phase.UPDATE and isinstance(reader.op, POINTWISE) and shapes == {made.spec.shape}


def _bytes_by_rows(product: Instruction, workers: int) -> int:
    """What the workers read of the two factors, and what they wrote of them for each other."""
    (rows, depth), columns = product.inputs[0].spec.shape, product.inputs[1].spec.shape[1]
    return depth.__index__() * (2 * rows.__index__() + (1 + workers) * columns.__index__())


def _bytes_by_examples(product: Instruction, tiles: int, workers: int) -> int:
    """A sum for each worker, to which those of its later tiles are added; their sum; that read by the update."""
    later = max(0, tiles - workers)
    return product.outputs[0].spec.size.__index__() * (2 * workers + 2 + 2 * later)
