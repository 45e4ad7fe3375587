"""Axes of convolutions: which kernel elements each output sees, and where zeros around the input are worth a copy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from graphnn.backends.cpu.contraction import Border, Segment
from graphnn.backends.cpu.kernels.matmul import Operand
from graphnn.ops.convolution import ConvolutionOp


@dataclass(frozen=True)
class Group:
    """Channels of A and of the output in one group."""

    count: int
    inputs: int
    outputs: int

    @property
    def depthwise(self) -> bool:
        """Groups of one channel: vectors run over the groups."""
        return self.count > 1 and self.inputs == self.outputs == 1


def bordered_strides(a: Operand, border: Border | None) -> list[int]:
    """Elements of A, or of its copy, per position of each spatial axis."""
    if border is None:
        return list(a.strides[1:-1])
    line = border.elements // border.lines
    outer = [line * math.prod(a.shape[i + 1 : -2]) for i in range(1, len(a.shape) - 2)]
    return [*outer, border.channels]


@dataclass(frozen=True)
class _Run:
    """Positions from `start` on that see the same kernel elements."""

    start: int
    count: int
    first: int
    taps: int


def runs(positions: int, start: int, move: int, tap: int, taps: int, size: int) -> Iterator[_Run]:
    """Runs of t for which the same j lie inside: 0 <= start + t * move + j * tap < size, 0 <= j < taps."""
    ends = {0, positions}
    for j in range(taps):
        for bound in (0, size):
            ends.add(min(max(-(-(bound - start - j * tap) // move), 0), positions))
    previous: _Run | None = None
    for low, high in zip(sorted(ends), sorted(ends)[1:], strict=False):
        inside = [j for j in range(taps) if 0 <= start + low * move + j * tap < size]
        run = _Run(low, high - low, inside[0] if inside else 0, len(inside))
        if previous and (previous.first, previous.taps) == (run.first, run.taps):
            run = _Run(previous.start, previous.count + run.count, run.first, run.taps)
        elif previous:
            yield previous
        previous = run
    if previous:
        yield previous


@dataclass(frozen=True)
class Slide:
    """One spatial axis before it is known how A lies in memory.

    Args:
        segments: peeled; `a` counts positions.
        whole: the same without borders, for an A that has `low` and `high` zeros; `a` counts positions of that.
        move: positions of A from one index to the next.
        tap: positions of A from one k to the next.
        step: positions of the output from one index to the next.
        step_k: kernel elements from one k to the next.
        low: zeros that `whole` needs in front.
        high: zeros behind, which may be fewer than none.
    """

    segments: tuple[Segment, ...]
    whole: tuple[Segment, ...]
    move: int
    tap: int
    step: int
    step_k: int
    low: int
    high: int


def forward_axis(
    op: ConvolutionOp, i: int, spatial: tuple[int, ...], x: tuple[int, ...], kernel: tuple[int, ...]
) -> Slide:
    """Output p reads x at p * stride + j * dilation - low."""
    stride, rate, (low, _) = op.strides[i], op.dilation[i], op.padding[i]
    positions, size, taps = spatial[i], x[1 + i], kernel[i]
    segments = tuple(
        Segment(run.start, run.count, run.start * stride - low + run.first * rate, run.first, run.taps)
        for run in runs(positions, -low, stride, rate, taps, size)
    )
    last = (positions - 1) * stride + (taps - 1) * rate - low
    return Slide(segments, (Segment(0, positions, 0, 0, taps),), stride, rate, 1, 1, low, last + 1 - size)


def backward_axis(
    op: ConvolutionOp, i: int, spatial: tuple[int, ...], dy: tuple[int, ...], kernel: tuple[int, ...]
) -> Slide:
    """Output q = r + t * stride reads dy at start + t - j * tap with the kernel elements k0 + j * step_k of phase r."""
    stride, rate, low = op.strides[i], op.dilation[i], op.padding[i][0]
    step_k, size = stride // math.gcd(stride, rate), dy[1 + i]
    tap = rate * step_k // stride
    segments, whole, reach = [], [], [0]
    for phase in range(min(stride, spatial[i])):
        positions = -(-(spatial[i] - phase) // stride)
        k0 = next((k for k in range(min(step_k, kernel[i])) if (phase + low - k * rate) % stride == 0), None)
        if k0 is None:
            segments.append(Segment(phase, positions, 0, 0, 0))
            whole.append(segments[-1])
            continue
        start, taps = (phase + low - k0 * rate) // stride, -(-(kernel[i] - k0) // step_k)
        for run in runs(positions, start, 1, -tap, taps, size):
            at = start + run.start - run.first * tap
            segments.append(Segment(phase + run.start * stride, run.count, at, k0 + run.first * step_k, run.taps))
        whole.append(Segment(phase, positions, start, k0, taps))
        reach += [start - (taps - 1) * tap, start + positions - size]
    border = max(0, -min(reach))
    whole = [Segment(s.out, s.count, s.a + border, s.k, s.k_count) for s in whole]
    return Slide(tuple(segments), tuple(whole), 1, -tap, stride, step_k, border, max(reach))
