"""Rules of the partition pass for ops that move, pick and order elements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias, cast

from graphnn.ops.creation import Fill, Iota
from graphnn.ops.indexing import CumulativeSum, Gather, GatherAlong, OneHot, ScatterAdd, ScatterAddAlong
from graphnn.ops.op import Op
from graphnn.ops.reduction import ArgMax
from graphnn.ops.shape import BroadcastTo, Concatenate, Flip, Pad, Reshape, Slice, Transpose
from graphnn.ops.sorting import Sort, TopK
from graphnn.passes.partition_state import Cut, Local, Site, aligned, part, reshaped

Rule: TypeAlias = Callable[[Site], Local | None]  # asked where an input is cut or to be combined; None: stays outside


def _same(site: Site, cut: Cut, op: Op | None = None) -> Local:
    """All inputs and outputs cut alike."""
    return Local(op or site.op, (cut,) * len(site.inputs), (cut,) * len(site.outputs))


def _linear(site: Site) -> Local | None:
    """f(sum of parts) = sum of f(parts)."""
    return Local(site.op, site.states, ("sum",)) if site.combined == "sum" else None


def reshape(site: Site) -> Local | None:
    """Each tile's elements must lie in the new shape as regularly as in the old one."""
    if site.combined:
        return Local(site.op, site.states, site.states)
    _, cut = site.cuts[0]
    after = reshaped(site.inputs[0].shape, cut, site.outputs[0].shape, site.tiles)
    return after and Local(Reshape(part(site.outputs[0].shape, after, site.tiles)), (cut,), (after,))


def transpose(site: Site) -> Local | None:
    """The cut moves with its axis."""
    if site.combined:
        return Local(site.op, site.states, site.states)
    _, cut = site.cuts[0]
    return Local(site.op, (cut,), (Cut(cast(Transpose, site.op).order.index(cut.axis), cut.blocks),))


def broadcast_to(site: Site) -> Local | None:
    """The axis of the input is one of the output."""
    if site.combined:
        return None
    _, cut = site.cuts[0]
    after = Cut(cut.axis + site.outputs[0].rank - site.inputs[0].rank, cut.blocks)
    return Local(BroadcastTo(part(site.outputs[0].shape, after, site.tiles)), (cut,), (after,))


def slice_(site: Site) -> Local | None:
    """The cut axis is taken whole."""
    if site.combined:
        return _linear(site)
    op, (_, cut), size = cast(Slice, site.op), site.cuts[0], site.inputs[0].shape[site.cuts[0][1].axis]
    if (op.starts[cut.axis], op.stops[cut.axis], op.steps[cut.axis]) != (0, size, 1):
        return None
    return _same(site, cut, replace(op, stops=part(op.stops, cut, site.tiles)))


def pad(site: Site) -> Local | None:
    """Nothing is added along the cut axis."""
    op = cast(Pad, site.op)
    if site.combined:
        return _linear(site) if op.value == 0 else None
    _, cut = site.cuts[0]
    grows = any(widths[cut.axis] for widths in (op.low, op.high, op.interior))
    return None if grows else _same(site, cut)


def concatenate(site: Site) -> Local | None:
    """Joined along another axis than the cut one."""
    if site.combined:
        return _linear(site)
    _, cut = site.cuts[0]
    return None if cut.axis == cast(Concatenate, site.op).axis else _same(site, cut)


def flip(site: Site) -> Local | None:
    """Other axes are turned round than the cut one."""
    if site.combined:
        return Local(site.op, site.states, site.states)
    _, cut = site.cuts[0]
    return None if cut.axis in cast(Flip, site.op).axes else _same(site, cut)


def lines(site: Site) -> Local | None:
    """Each line along an axis is worked on alone; another axis is cut."""
    if site.combined:
        return None
    _, cut = site.cuts[0]
    axis = cast("Sort | TopK | CumulativeSum | GatherAlong | ScatterAddAlong", site.op).axis
    return None if cut.axis == axis else _same(site, cut)


def argmax(site: Site) -> Local | None:
    """As lines, but that the axis disappears."""
    if site.combined:
        return None
    (_, cut), axis = site.cuts[0], cast(ArgMax, site.op).axis
    return None if cut.axis == axis else Local(site.op, (cut,), (Cut(cut.axis - (cut.axis > axis), cut.blocks),))


def one_hot(site: Site) -> Local | None:
    """The new axis is the last."""
    return None if site.combined else _same(site, site.cuts[0][1])


def gather(site: Site) -> Local | None:
    """The indices are cut, or x along another axis than that of the lookup."""
    if site.combined:
        return None
    (position, cut), axis, rank = site.cuts[0], cast(Gather, site.op).axis, site.inputs[1].rank
    if position == 1:
        return Local(site.op, (None, cut), (Cut(axis + cut.axis, cut.blocks),))
    if cut.axis == axis:
        return None
    return Local(site.op, (cut, None), (Cut(cut.axis + (rank - 1) * (cut.axis > axis), cut.blocks),))


def scatter_add(site: Site) -> Local | None:
    """Cut along an axis of the indices, each tile makes a part of the sum; along another, a part of the output."""
    if site.combined:
        return None
    (position, cut), axis, rank = site.cuts[0], cast(ScatterAdd, site.op).axis, site.inputs[1].rank
    own = Cut(axis + cut.axis, cut.blocks) if position == 1 else cut  # the cut of the updates
    if axis <= own.axis < axis + rank:
        return Local(site.op, (own, Cut(own.axis - axis, own.blocks)), ("sum",))
    return Local(site.op, (own, None), (Cut(own.axis - (rank - 1) * (own.axis >= axis), own.blocks),))


MOVES: dict[type[Op], Rule] = {
    Reshape: reshape,
    Transpose: transpose,
    BroadcastTo: broadcast_to,
    Slice: slice_,
    Pad: pad,
    Concatenate: concatenate,
    Flip: flip,
    **dict.fromkeys((Sort, TopK, CumulativeSum, GatherAlong, ScatterAddAlong), lines),
    ArgMax: argmax,
    OneHot: one_hot,
    Gather: gather,
    ScatterAdd: scatter_add,
}


def made_part(site: Site, cut: Cut) -> Local | None:
    """How a tile makes its own part of a value that would otherwise be made whole and cut; None: it is passed."""
    op, shape, tiles = site.op, site.outputs[0].shape, site.tiles
    if isinstance(op, Fill):
        return Local(replace(op, shape=part(shape, cut, tiles)), (), (cut,))
    if isinstance(op, Iota) and op.axis != cut.axis:
        return Local(replace(op, shape=part(shape, cut, tiles)), (), (cut,))
    if isinstance(op, BroadcastTo):
        return Local(BroadcastTo(part(shape, cut, tiles)), (aligned(site.inputs[0], site.outputs[0], cut),), (cut,))
    if isinstance(op, Transpose):
        return Local(op, (Cut(op.order[cut.axis], cut.blocks),), (cut,))
    if isinstance(op, Reshape) and (before := reshaped(shape, cut, site.inputs[0].shape, tiles)):
        return Local(Reshape(part(shape, cut, tiles)), (before,), (cut,))
    return None
