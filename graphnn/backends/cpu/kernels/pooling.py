"""Kernels of pooling: for each output place, vectors of channels go through the elements of the window.

Padding is never in memory: the address of a place outside is moved inside, and what is found there is replaced. The
gradients walk the output places backwards, so each element of dx gets its terms in the order of the window's elements,
as in the reference: all results have its bits, but for the sign of a largest element that is zero.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

from llvmlite import ir

from graphnn.backends.cpu.emit import TYPES, Function, Value, const
from graphnn.backends.cpu.kernel import Emitter, Kernel, Specs
from graphnn.backends.cpu.kernels.copying import emit_fill, integer
from graphnn.backends.cpu.kernels.ordering import greater, maximum
from graphnn.backends.cpu.kernels.vectors import element_kind, load_kind, splat, store_kind, strips
from graphnn.backends.cpu.target import Target
from graphnn.ir.tensor_spec import ITEM_BYTES, TensorSpec
from graphnn.ops.op import Op
from graphnn.ops.pooling import MaxPool, MaxPoolGradient, MaxPoolSelect, PoolingOp, SumPool, SumPoolGradient

UNROLLED = 16  # windows of up to so many elements are written out
INFINITY_BITS = {"float16": 0xFC00, "float32": 0xFF800000, "float64": 0xFFF0000000000000}  # of -inf

Visit: TypeAlias = Callable[["Tap", list[Value]], list[Value]]


@dataclass(frozen=True)
class Windows:
    """Where the windows of a pooling lie; `spatial` and `out` are the sizes of x and of y."""

    op: PoolingOp
    spatial: tuple[int, ...]
    out: tuple[int, ...]
    channels: int
    dtype: str

    @property
    def are_apart(self) -> bool:
        """No element lies in two windows, and none in the padding."""
        numbers = zip(self.op.strides, self.op.window, self.op.dilation, strict=True)
        return not any(map(self.is_padded, range(len(self.out)))) and all(s > (w - 1) * d for s, w, d in numbers)

    @property
    def cover_all(self) -> bool:
        """Each element lies in exactly one window."""
        reached = tuple(n * step for n, step in zip(self.out, self.op.strides, strict=True))
        return self.are_apart and reached == self.spatial and self.op.window == self.op.strides

    def is_padded(self, axis: int) -> bool:
        """Some window reaches over an end of the axis."""
        op, low = self.op, self.op.padding[axis][0]
        last = (self.out[axis] - 1) * op.strides[axis] + (op.window[axis] - 1) * op.dilation[axis] - low
        return low > 0 or last >= self.spatial[axis]


@dataclass(frozen=True)
class Tap:
    """One element of one window: its number in C order, its place in x (a channel of it), and whether it is in x."""

    number: Value
    place: Value
    inside: Value | None

    def choose(self, f: Function, found: Value, outside: Value) -> Value:
        """What counts: `found`, or `outside` in the padding."""
        return found if self.inside is None else f.builder.select(self.inside, found, outside)


@dataclass(frozen=True)
class Strip:
    """Neighbouring channels of one output: where they lie in an array of y's shape, and the way through the window."""

    place: Value
    taps: Callable[[list[Value], Visit], list[Value]]
    width: int


def windows_of(op: Op, x: TensorSpec, y: TensorSpec) -> Windows:
    """The geometry of a pooling op of x and its result y."""
    (_, *spatial, channels), (_, *out, _) = ([size.__index__() for size in spec.shape] for spec in (x, y))
    if not isinstance(op, PoolingOp):
        raise TypeError(op)
    return Windows(op, tuple(spatial), tuple(out), channels, x.dtype)


@contextmanager
def _places(f: Function, w: Windows, backwards: bool, before: Callable[[Value], None]) -> Generator[list[Value]]:
    """The indices (batch, *place) of all outputs; `before(image)` runs at the start of each image."""
    with ExitStack() as loops:
        image = loops.enter_context(f.loop(f.size(0))).index
        before(image)
        place = [loops.enter_context(f.loop(count)).index for count in w.out]
        if backwards:
            place = [f.builder.sub(const(n - 1), index) for n, index in zip(w.out, place, strict=True)]
        yield [image, *place]


def _each_strip(
    f: Function,
    w: Windows,
    body: Callable[[Strip], None],
    backwards: bool = False,
    before: Callable[[Value], None] | None = None,
) -> None:
    """Run `body` for all outputs, in vectors of channels."""
    with _places(f, w, backwards, before or (lambda image: None)) as index:
        start, unrolled = _place(f, index, w.out, w.channels), math.prod(w.op.window) <= UNROLLED
        written_out = _taps(f, w, index) if unrolled else []
        for first, stop, width in strips(w.channels, f.target.lanes(w.dtype)):
            with f.loop(stop, start=first, step=width) as loop:
                walk = Walk(f, w, index, loop.index, written_out)
                body(Strip(f.builder.add(start, loop.index), walk.run if unrolled else walk.run_in_loops, width))


def _taps(f: Function, w: Windows, index: Sequence[Value]) -> list[Tap]:
    """The elements of the window at an index (image, *place) in C order; their places are those of channel 0."""
    axes = [
        [_coordinate(f, w, axis, index[axis + 1], const(k)) for k in range(count)]
        for axis, count in enumerate(w.op.window)
    ]
    return [
        Tap(const(number), _place(f, [index[0], *(at for at, _ in parts)], w.spatial, w.channels), _all(f, parts))
        for number, parts in enumerate(itertools.product(*axes))
    ]


def _all(f: Function, parts: Sequence[tuple[Value, Value | None]]) -> Value | None:
    """Whether an element lies in x along all axes; None where that is certain."""
    conditions = [condition for _, condition in parts if condition is not None]
    return functools.reduce(f.builder.and_, conditions) if conditions else None


def _place(f: Function, index: Sequence[Value], spatial: Sequence[int], channels: int) -> Value:
    """The first channel at an index (image, *place)."""
    total = index[0]
    for number, size in zip(index[1:], spatial, strict=True):
        total = f.builder.add(f.builder.mul(total, const(size)), number)
    return f.builder.mul(total, const(channels))


@dataclass(frozen=True)
class Walk:
    """The way through one window for some channels: written out, or in loops where the window is large."""

    f: Function
    w: Windows
    index: Sequence[Value]
    channel: Value
    written_out: Sequence[Tap]

    def run(self, carried: list[Value], visit: Visit) -> list[Value]:
        """visit(tap, carried) -> carried for the elements of the window in C order."""
        for tap in self.written_out:
            carried = visit(replace(tap, place=self.f.builder.add(tap.place, self.channel)), carried)
        return carried

    def run_in_loops(
        self, carried: list[Value], visit: Visit, parts: tuple[tuple[Value, Value | None], ...] = (), number: Value = 0
    ) -> list[Value]:
        """The same, a loop for each axis."""
        f, w, axis, b = self.f, self.w, len(parts), self.f.builder
        if axis == len(w.op.window):
            start = _place(f, [self.index[0], *(at for at, _ in parts)], w.spatial, w.channels)
            return visit(Tap(number, b.add(start, self.channel), _all(f, parts)), carried)
        with f.loop(w.op.window[axis], carried) as loop:
            here = _coordinate(f, w, axis, self.index[axis + 1], loop.index)
            following = b.add(b.mul(number, const(w.op.window[axis])), loop.index) if axis else loop.index
            loop.results = self.run_in_loops(loop.carried, visit, (*parts, here), following)
        return loop.carried


def _coordinate(f: Function, w: Windows, axis: int, out: Value, k: Value) -> tuple[Value, Value | None]:
    """(where element k of a window lies, moved into x; whether it lay there)."""
    b, op, last = f.builder, w.op, const(w.spatial[axis] - 1)
    at = b.add(b.mul(out, const(op.strides[axis])), b.mul(k, const(op.dilation[axis])))
    if not w.is_padded(axis):
        return at, None
    at = b.sub(at, const(op.padding[axis][0]))
    below, above = b.icmp_signed("<", at, const(0)), b.icmp_signed(">", at, last)
    moved = b.select(below, const(0), b.select(above, last, at))
    return moved, b.not_(b.or_(below, above))


# -- forward ----------------------------------------------------------------------------------------------------------


def emit_max_pool(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """The running maximum, from -inf on."""
    (x,), (y,) = inputs, outputs
    f, w = Function(target), windows_of(op, x, y)

    def body(strip: Strip) -> None:
        lowest = _lowest(f, w.dtype, strip.width)

        def visit(tap: Tap, carried: list[Value]) -> list[Value]:
            found = load_kind(f, f.pointer(0), tap.place, w.dtype, strip.width)
            return [maximum(f, carried[0], tap.choose(f, found, lowest))]

        (largest,) = strip.taps([lowest], visit)
        store_kind(f, largest, f.pointer(1), strip.place, w.dtype, strip.width)

    return _forward(f, w, x, y, body, INFINITY_BITS[y.dtype])


def emit_sum_pool(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """The running sum; padding adds 0."""
    (x,), (y,) = inputs, outputs
    f, w = Function(target), windows_of(op, x, y)

    def body(strip: Strip) -> None:
        zero = ir.Constant(element_kind(w.dtype, strip.width), None)

        def visit(tap: Tap, carried: list[Value]) -> list[Value]:
            found = load_kind(f, f.pointer(0), tap.place, w.dtype, strip.width)
            return [f.builder.fadd(carried[0], tap.choose(f, found, zero))]

        (total,) = strip.taps([zero], visit)
        store_kind(f, total, f.pointer(1), strip.place, w.dtype, strip.width)

    return _forward(f, w, x, y, body, 0)


def emit_max_pool_select(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """The element of v that goes with the largest so far; the first element holds until a larger one comes."""
    (x, _), (y,) = inputs, outputs
    f, w = Function(target), windows_of(op, x, y)

    def body(strip: Strip) -> None:
        lowest, zero = _lowest(f, w.dtype, strip.width), ir.Constant(element_kind(w.dtype, strip.width), None)

        def visit(tap: Tap, carried: list[Value]) -> list[Value]:
            found, v = (load_kind(f, f.pointer(n), tap.place, w.dtype, strip.width) for n in (0, 1))
            found, v = tap.choose(f, found, lowest), tap.choose(f, v, zero)
            first = splat(f, f.builder.icmp_signed("==", tap.number, const(0)), strip.width)
            better = f.builder.or_(greater(f, found, carried[0], w.dtype), first)
            return [maximum(f, carried[0], found), f.builder.select(better, v, carried[1])]

        _, chosen = strip.taps([lowest, zero], visit)
        store_kind(f, chosen, f.pointer(2), strip.place, w.dtype, strip.width)

    return _forward(f, w, x, y, body, 0)


def _forward(
    f: Function, w: Windows, x: TensorSpec, y: TensorSpec, body: Callable[[Strip], None], outside: int
) -> Kernel:
    """The kernel; an x without elements leaves padding alone, whose result has the bits `outside`."""
    unit = ITEM_BYTES[w.dtype]
    if x.size:
        _each_strip(f, w, body)
    else:
        result = f.pointer(1 if isinstance(w.op, MaxPool | SumPool) else 2)
        emit_fill(f, result, integer(unit)(outside), y.size, unit, unit)
    return Kernel(f.finish(), (x.shape[0].__index__(),))


def _lowest(f: Function, dtype: str, width: int) -> Value:
    """-inf."""
    return splat(f, ir.Constant(TYPES[dtype], float("-inf")), width)


# -- gradients --------------------------------------------------------------------------------------------------------


def emit_max_pool_gradient(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """The number of the first largest element, then dy there."""
    (x, dy), (dx,) = inputs, outputs
    f, w = Function(target), windows_of(op, x, dy)
    if math.prod(w.op.window) >= 2**15:
        return None  # numbers of elements are as wide as the floats

    def body(strip: Strip) -> None:
        largest = _first_largest(f, w, strip)

        def here(tap: Tap) -> Value:
            return f.builder.icmp_signed("==", largest, _number(f, w, strip, tap))

        _spread(f, w, strip, f.pointer(1), f.pointer(2), here)

    return _backward(f, w, dx, body, 2)


def _number(f: Function, w: Windows, strip: Strip, tap: Tap) -> Value:
    """The number of an element of the window in all lanes, as wide as the floats."""
    kind = integer(ITEM_BYTES[w.dtype])
    return splat(f, tap.number if kind.width == 64 else f.builder.trunc(tap.number, kind), strip.width)


def _first_largest(f: Function, w: Windows, strip: Strip) -> Value:
    """The number of the first largest element of x; 0, or that of the largest before it, where there is NaN."""
    lowest = _lowest(f, w.dtype, strip.width)
    first = splat(f, ir.Constant(integer(ITEM_BYTES[w.dtype]), 0), strip.width)

    def visit(tap: Tap, carried: list[Value]) -> list[Value]:
        found = tap.choose(f, load_kind(f, f.pointer(0), tap.place, w.dtype, strip.width), lowest)
        better = greater(f, found, carried[0], w.dtype)
        number = f.builder.select(better, _number(f, w, strip, tap), carried[1])
        return [maximum(f, carried[0], found), number]

    return strip.taps([lowest, first], visit)[1]


def emit_sum_pool_gradient(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """dy at all elements of its window."""
    (dy,), (dx,) = inputs, outputs
    f, w = Function(target), windows_of(op, dx, dy)
    return _backward(f, w, dx, lambda strip: _spread(f, w, strip, f.pointer(0), f.pointer(1), None), 1)


def _spread(f: Function, w: Windows, strip: Strip, dy: Value, dx: Value, where: Callable[[Tap], Value] | None) -> None:
    """Add dy to the elements of its window, those that `where` tells."""
    zero = ir.Constant(element_kind(w.dtype, strip.width), None)
    given = load_kind(f, dy, strip.place, w.dtype, strip.width)

    def visit(tap: Tap, carried: list[Value]) -> list[Value]:
        term = given if where is None else f.builder.select(where(tap), given, zero)
        term = tap.choose(f, term, zero)
        total = zero if w.are_apart else load_kind(f, dx, tap.place, w.dtype, strip.width)
        store_kind(f, f.builder.fadd(total, term), dx, tap.place, w.dtype, strip.width)
        return carried

    strip.taps([], visit)


def _backward(f: Function, w: Windows, dx: TensorSpec, body: Callable[[Strip], None], position: int) -> Kernel:
    """The kernel: zeros image by image, then the terms."""
    unit, count = ITEM_BYTES[w.dtype], math.prod(w.spatial) * w.channels

    def zero(image: Value) -> None:
        if not w.cover_all:
            start = f.at(f.pointer(position), f.builder.mul(image, const(count)), w.dtype)
            emit_fill(f, start, integer(unit)(0), count, unit, unit)

    if dx.size:
        _each_strip(f, w, body, backwards=True, before=zero)
    return Kernel(f.finish(), (dx.shape[0].__index__(),))


EMITTERS: dict[type[Op], Emitter] = {
    MaxPool: emit_max_pool,
    MaxPoolGradient: emit_max_pool_gradient,
    MaxPoolSelect: emit_max_pool_select,
    SumPool: emit_sum_pool,
    SumPoolGradient: emit_sum_pool_gradient,
}
