"""Cases of ops that move elements. Expected values are built element by element from the definition of each op."""

from __future__ import annotations

import numpy as np

from graphnn.ops.shape import BroadcastTo, Concatenate, Flip, Pad, Reshape, Slice, Transpose
from ops.case import Case, bools, integers, normal


def sliced(x: np.ndarray, op: Slice) -> np.ndarray:
    places = [range(*bounds) for bounds in zip(op.starts, op.stops, op.steps, strict=True)]
    y = np.empty([len(place) for place in places], x.dtype)
    for index in np.ndindex(*y.shape):
        y[index] = x[tuple(place[i] for place, i in zip(places, index, strict=True))]
    return y


def padded(x: np.ndarray, op: Pad) -> np.ndarray:
    for axis, (low, high, gap) in enumerate(zip(op.low, op.high, op.interior, strict=True)):
        rows = list(np.moveaxis(x, axis, 0))
        empty = np.full(x.shape[:axis] + x.shape[axis + 1 :], op.value, x.dtype)
        spread = [row for index, row in enumerate(rows) for row in ([empty] * gap if index else []) + [row]]
        stack = [empty] * low + spread + [empty] * high
        x = np.moveaxis(np.array(stack, x.dtype).reshape(len(stack), *empty.shape), 0, axis)
    return x


def sliced_case(starts, stops, steps, shape, **options):
    op = Slice(starts, stops, steps)
    return Case(op, [normal(*shape)], lambda x: sliced(x, op), **options)


def padded_case(low, high, interior, shape, value=0.0, **options):
    op = Pad(low, high, interior, value)
    return Case(op, [normal(*shape)], lambda x: padded(x, op), **options)


CASES = [
    Case(Reshape((3, 4)), [normal(2, 6)], lambda x: [x.ravel()[4 * i : 4 * i + 4] for i in range(3)],
         wrong=[["float32[2, 5]"], ["float32[batch, 6]"]]),
    Case(Reshape(()), [integers(1, 1)], lambda x: x[0, 0], label="scalar"),
    Case(Reshape((3, 0)), [normal(0, 2)], lambda x: np.empty((3, 0)), label="empty"),
    Case(Transpose((2, 0, 1)), [normal(2, 3, 4)], lambda x: np.einsum("abc->cab", x), wrong=[["float32[2, 3]"]]),
    Case(Transpose(()), [normal()], lambda x: x, label="scalar"),
    Case(BroadcastTo((2, 3, 4)), [normal(3, 1)], lambda x: [np.repeat(x, 4, axis=1)] * 2,
         wrong=[["float32[3, 2]"], ["float32[1, 2, 3, 4]"]]),
    Case(BroadcastTo((2, 0)), [normal(2, 1)], lambda x: np.empty((2, 0)), label="empty"),
    Case(BroadcastTo((2,)), [bools()], lambda x: [x, x], label="bools"),
    sliced_case((1, 0), (4, 6), (2, 1), (5, 6), wrong=[["float32[3, 6]"], ["float32[5]"]]),
    sliced_case((0,), (6,), (4,), (7,), label="rest"),
    sliced_case((2, 1), (2, 3), (3, 1), (5, 4), label="empty"),
    sliced_case((0, 0), (0, 2), (2, 1), (0, 2), label="of_empty"),
    padded_case((1, 0), (0, 2), (0, 1), (2, 3), wrong=[["float32[2]"]]),
    padded_case((1, 2), (1, 0), (2, 0), (3, 1), value=-1.5, label="value"),
    padded_case((1, 1), (2, 0), (1, 0), (0, 2), label="of_empty"),
    Case(Concatenate(1), [normal(2, 1), normal(2, 3), normal(2, 0)],
         lambda *parts: [[x for part in parts for x in part[row]] for row in range(2)],
         wrong=[["float32[2, 1]", "float32[3, 1]"], ["float32[2, 1]", "float64[2, 1]"], ["float32[2]", "float32[2]"],
                ["float32[2, 1]", "float32[2, 1, 1]"]]),
    Case(Concatenate(0), [normal(3)], lambda x: x, label="one"),
    Case(Flip((0, 2)), [normal(2, 3, 4)], lambda x: [[row[::-1] for row in plane] for plane in list(x)[::-1]],
         wrong=[["float32[2]"]]),
    Case(Flip(()), [normal(2)], lambda x: x, label="none"),
]  # fmt: skip
