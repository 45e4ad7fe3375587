"""Rules of the partition pass: how each op works on one tile, given how its inputs are cut."""

from __future__ import annotations

from typing import cast

from graphnn.ops.arithmetic import Add, Subtract
from graphnn.ops.convolution import Convolution, ConvolutionInputGradient, ConvolutionWeightGradient
from graphnn.ops.creation import Cast, StopGradient
from graphnn.ops.elementwise import Elementwise, Negative, Where
from graphnn.ops.linalg import MatMul
from graphnn.ops.op import Op
from graphnn.ops.pooling import PoolingOp
from graphnn.ops.random import RandomBits
from graphnn.ops.reduction import Max, Min, Reduction, Sum
from graphnn.passes.partition_moves import MOVES, Rule, made_part
from graphnn.passes.partition_state import Cut, Local, Site, State, aligned, part
from graphnn.tiled import Combine

ELEMENTWISE = (Elementwise, Where, Cast, StopGradient)
KEPT_COMBINED = {"sum": (Add, Subtract, Negative, StopGradient), "max": (StopGradient,), "min": (StopGradient,)}
REDUCED: dict[type[Op], Combine] = {Sum: "sum", Max: "max", Min: "min"}


def elementwise(site: Site) -> Local | None:
    """Operands are cut where the output is, but for those that are repeated there."""
    if site.combined:
        kept = isinstance(site.op, KEPT_COMBINED[site.combined]) and len({spec.shape for spec in site.inputs}) == 1
        return Local(site.op, site.states, (site.combined,)) if kept else None
    output, (position, found) = site.outputs[0], site.cuts[0]
    cut = Cut(found.axis + output.rank - site.inputs[position].rank, found.blocks)
    return Local(site.op, tuple(aligned(spec, output, cut) for spec in site.inputs), (cut,))


def reduction(site: Site) -> Local | None:
    """Over the cut axis each tile gives its part; otherwise the cut moves up."""
    axes, combine = cast(Reduction, site.op).axes, REDUCED[type(site.op)]
    if site.combined:
        return Local(site.op, site.states, site.states) if site.combined == combine else None
    _, cut = site.cuts[0]
    if cut.axis in axes:
        return Local(site.op, (cut,), (combine,))
    return Local(site.op, (cut,), (Cut(cut.axis - sum(axis < cut.axis for axis in axes), cut.blocks),))


def matmul(site: Site) -> Local | None:
    """Rows, columns or leading axes cut: a part of the product; the inner axis cut in both: a part of the sum."""
    if site.combined:
        return None
    (a, b), output, (position, cut) = site.inputs, site.outputs[0], site.cuts[0]
    own = site.inputs[position]
    if cut.axis == own.rank - 1 - position:
        inner = (Cut(a.rank - 1, cut.blocks), Cut(b.rank - 2, cut.blocks))
        return Local(site.op, inner, ("sum",))
    after = Cut(cut.axis + output.rank - own.rank, cut.blocks)
    if cut.axis >= own.rank - 2:
        return Local(site.op, (cut, None) if position == 0 else (None, cut), (after,))
    return Local(site.op, (aligned(a, output, after), aligned(b, output, after)), (after,))


def of_examples(site: Site) -> Local | None:
    """All inputs that are no weights have the batch first."""
    if site.combined or site.cuts[0] != (0, cut := site.cuts[0][1]) or cut.axis != 0:
        return None
    weighted = isinstance(site.op, Convolution | ConvolutionInputGradient)
    inputs = (cut, None) if weighted else (cut,) * len(site.inputs)
    return Local(site.op, inputs, ("sum",) if isinstance(site.op, ConvolutionWeightGradient) else (cut,))


def pooling(site: Site) -> Local | None:
    """Batch and channels do not mix."""
    if site.combined:
        return None
    _, cut = site.cuts[0]
    return Local(site.op, (cut,) * len(site.inputs), (cut,)) if cut.axis in (0, site.inputs[0].rank - 1) else None


RULES: dict[type[Op], Rule] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    Reduction: reduction,
    MatMul: matmul,
    **dict.fromkeys((Convolution, ConvolutionInputGradient, ConvolutionWeightGradient), of_examples),
    PoolingOp: pooling,
    **MOVES,
}


def local_of(site: Site, rules: dict[type[Op], Rule] = RULES) -> Local | None:
    """How one tile does it, or None where it cannot: no rule, or the inputs are cut in ways that do not go together.

    Args:
        site: with at least one input that is cut or to be combined.
        rules: a class stands for those below it that have no entry of their own.
    """
    if not site.cuts and not site.combined:
        return None
    rule = next((rules[base] for base in type(site.op).__mro__ if base in rules), None)
    found = rule(site) if rule is not None else None
    return found if found is not None and fits(site, found) else None


def fits(site: Site, local: Local) -> bool:
    """Every input is what the tile needs; only a whole one may still be cut."""
    return all(
        state == wanted or (state is None and isinstance(wanted, Cut))
        for state, wanted in zip(site.states, local.inputs, strict=True)
    )


def generated(site: Site, cut: Cut) -> tuple[Local, bool] | None:
    """How a tile makes its part of a value that is made of whole values alone, instead of being handed it.

    Returns:
        What it does, and whether the number of its first element is a further input; None: the value is handed over.
    """
    if isinstance(site.op, RandomBits):
        whole = site.outputs[0].shape
        if any(int(size) != 1 for size in whole[: cut.axis]) or cut.blocks != 1:
            return None  # a tile's words are not one stretch
        shape = part(whole, cut, site.tiles)
        return Local(RandomBits(shape, site.op.stream), (None,) * len(site.inputs), (cut,)), True
    if isinstance(site.op, ELEMENTWISE):
        inputs: tuple[State, ...] = tuple(aligned(spec, site.outputs[0], cut) for spec in site.inputs)
        return Local(site.op, inputs, (cut,)), False
    found = made_part(site, cut)
    return (found, False) if found is not None else None
