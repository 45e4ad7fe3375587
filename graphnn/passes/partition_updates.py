"""partition_updates: work on large arrays, such as the update of a weight, is shared by the workers."""

from __future__ import annotations

from graphnn.ir.dimension import Shape
from graphnn.ir.program import Phase, Program
from graphnn.ops.linalg import MatMul
from graphnn.ops.reduction import Sum
from graphnn.ops.shape import Transpose
from graphnn.passes.partition import assemble
from graphnn.passes.partition_delay import delay
from graphnn.passes.partition_rules import ELEMENTWISE, fits, local_of
from graphnn.passes.partition_schedule import Schedule
from graphnn.passes.partition_state import Cut, Decided, Local, Site, aligned, can_cut
from graphnn.passes.partition_weights import products_by_rows, with_factors

LEAST_ELEMENTS = 2**12  # below that one core is done before a second has started
OFF_AXIS_0 = 4  # times as many where parts are no single run in memory, and so have to be copied


def partition_updates(program: Program, workers: int, least: int = LEAST_ELEMENTS) -> Program:
    """The same program, where elementwise ops of the update phase, and sums of all elements, stand in `Tiled` loops.

    These are optimizers, and the norm of the gradients; `partition` leaves them outside, and with them the gradients of
    some weights (`gradients_by_rows`), which belong to the same loop. All updates are one loop, or two where a
    clipping factor stands between. Each array is cut along its first axis that divides; no array is reshaped, so that
    new values can be written over old ones.

    Args:
        program: after `partition`, before fusing.
        workers: number of tiles; with 1 there is nothing to do.
        least: elements of an array that is worth it.
    """
    if workers < 2:
        return program
    products = with_factors(program, products_by_rows(program, workers))
    others = (i for i in program.instructions if i.origin.phase is not Phase.UPDATE and i not in products)
    decided = Decided(outside={value for i in others for value in i.outputs})
    schedule = Schedule(program, {}, workers, lambda site: _part_of_update(site, least), decided, whole_too=True)
    return assemble(delay(schedule)) if schedule.phases else program


def _part_of_update(site: Site, least: int) -> Local | None:
    found = _alone(site, least)
    return found if found is not None and fits(site, found) else None


def _alone(site: Site, least: int) -> Local | None:
    """The part of a worker, however the inputs are cut already."""
    if any(site.states) and not site.cuts:
        return local_of(site)  # sums of parts of sums
    if isinstance(site.op, Sum):
        (x,) = site.inputs
        cut = _cut_of(x.shape, site.tiles) if len(site.op.axes) == x.rank else None
        return Local(site.op, (cut,), ("sum",)) if cut is not None and _is_large(x.size, cut, least) else None
    if isinstance(site.op, MatMul | Transpose):
        return _rows(site)
    (output,) = site.outputs[:1]
    cut = _cut_of(output.shape, site.tiles) if isinstance(site.op, ELEMENTWISE) else None
    if cut is None or not (site.cuts or _is_large(output.size, cut, least)):
        return None
    return Local(site.op, tuple(aligned(spec, output, cut) for spec in site.inputs), (cut,))


def _rows(site: Site) -> Local:
    """Rows of the product of two matrices, and those rows of a first factor that is transposed."""
    inputs = (Cut(1),) if isinstance(site.op, Transpose) else (Cut(0), None)
    return Local(site.op, inputs, (Cut(0),))


def _cut_of(shape: Shape, tiles: int) -> Cut | None:
    """The same for all arrays of one shape, so that their parts meet."""
    return next((Cut(axis) for axis in range(len(shape)) if can_cut(shape, Cut(axis), tiles)), None)


def _is_large(size: int, cut: Cut, least: int) -> bool:
    return size >= (least if cut.axis == 0 else OFF_AXIS_0 * least)
