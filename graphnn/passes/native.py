"""native_passes: what a Program goes through behind the standard passes, before kernels are made for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from graphnn.ir.program import Instruction, Kind, Program, Value
from graphnn.passes.fuse import LOOP_PASSES, fuse, unfuse
from graphnn.passes.layouts import turn_products, write_as_read
from graphnn.passes.partition import partition, sharded_inputs
from graphnn.passes.partition_features import by_features
from graphnn.passes.partition_state import NOTHING
from graphnn.passes.partition_tiles import choose_tiles
from graphnn.passes.partition_updates import partition_updates
from graphnn.passes.partition_weights import gradients_by_rows
from graphnn.passes.pipeline import Pass, clean_bodies
from graphnn.passes.scale_rows import scale_rows
from graphnn.passes.stream import stream
from graphnn.passes.widen_half import widen_half


def native_passes(workers: int, l2_bytes: int, supported: Callable[[Instruction], bool]) -> Sequence[Pass]:
    """Widen float16 contractions, cut along the batch, some layers by features, and fuse.

    Args:
        workers: threads that share the tiles.
        l2_bytes: cache of one of them, which the values of a tile should fit into.
        supported: whether there is a kernel for a Fused; others are taken apart again.
    """

    def cut_batch(program: Program) -> Program:
        return in_tiles(program, workers, l2_bytes)

    def cut_updates(program: Program) -> Program:
        return partition_updates(program, workers)

    def cut_rows(program: Program) -> Program:
        return stream(program, workers, l2_bytes)

    def take_apart(program: Program) -> Program:
        return unfuse(program, supported)

    before = (*LOOP_PASSES, scale_rows, turn_products, widen_half)
    return *before, cut_batch, cut_rows, cut_updates, clean_bodies, fuse, write_as_read, take_apart


def in_tiles(program: Program, workers: int, l2_bytes: int) -> Program:
    """The program cut along the batch, with layers and gradients that are better cut in other ways."""
    batch = batch_of(program)
    tiles = tiles_of(program, batch, workers, l2_bytes)
    if tiles == 1:
        return program
    decided = by_features(program, batch, workers) if tiles == workers else NOTHING
    rows = gradients_by_rows(program, tiles, workers)
    outside = {value for i in rows for value in i.outputs if value not in decided.locals}
    decided = replace(decided, outside={*decided.outside, *outside})
    return partition(program, tiles, sharded_inputs(program, batch), decided)


def batch_of(program: Program) -> int:
    """The size that most bytes of the inputs begin with: any choice is right, a wrong one costs time only."""
    weights: dict[int, int] = {}
    for value in program.inputs:
        if value.kind is Kind.INPUT and value.spec.rank:
            size = value.spec.shape[0].__index__()
            weights[size] = weights.get(size, 0) + value.spec.nbytes
    return max(weights, key=lambda size: weights[size], default=0)


def tiles_of(program: Program, batch: int, workers: int, l2_bytes: int) -> int:
    """The number of tiles for a program; 1 where there is no batch to cut."""
    if batch < 2:
        return 1
    weights = sum(value.spec.nbytes for value in program.inputs if value.kind is Kind.PARAMETER)
    example_bytes = max(1, most_alive(program) // batch)
    return choose_tiles(batch, workers, example_bytes, l2_bytes, weights)


def most_alive(program: Program) -> int:
    """The most bytes of intermediate values alive at once, in the order of the program."""
    last: dict[Value, int] = {}
    for number, instruction in enumerate(program.instructions):
        last.update(dict.fromkeys((*instruction.inputs, *instruction.outputs), number))
    dying: dict[int, int] = {}
    for value, number in last.items():
        if value.kind is Kind.INTERMEDIATE:
            dying[number] = dying.get(number, 0) + value.spec.nbytes
    alive = most = 0
    for number, instruction in enumerate(program.instructions):
        alive += sum(value.spec.nbytes for value in instruction.outputs)
        most = max(most, alive)
        alive -= dying.get(number, 0)
    return most
