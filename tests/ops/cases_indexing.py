"""Cases of ops that read, add and order by index. Expected values are loops over the definition of each op."""

from __future__ import annotations

import numpy as np

from graphnn.ops.indexing import CumulativeSum, Gather, GatherAlong, OneHot, ScatterAdd, ScatterAddAlong
from graphnn.ops.sorting import Sort, TopK
from ops.case import Case, bools, exactly, integers, normal, spaced


def gathered(x, indices, axis):
    y = np.empty((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)
    for place in np.ndindex(*y.shape):
        middle = place[axis : axis + indices.ndim]
        y[place] = x[(*place[:axis], int(indices[middle]), *place[axis + indices.ndim :])]
    return y


def scattered(updates, indices, axis, size):
    y = np.zeros((*updates.shape[:axis], size, *updates.shape[axis + indices.ndim :]), updates.dtype)
    for place in np.ndindex(*updates.shape):
        middle = place[axis : axis + indices.ndim]
        y[(*place[:axis], int(indices[middle]), *place[axis + indices.ndim :])] += updates[place]
    return y


def gathered_along(x, indices, axis):
    y = np.empty(indices.shape, x.dtype)
    for place in np.ndindex(*y.shape):
        y[place] = x[(*place[:axis], int(indices[place]), *place[axis + 1 :])]
    return y


def scattered_along(updates, indices, axis, size):
    y = np.zeros((*updates.shape[:axis], size, *updates.shape[axis + 1 :]), updates.dtype)
    for place in np.ndindex(*updates.shape):
        y[(*place[:axis], int(indices[place]), *place[axis + 1 :])] += updates[place]
    return y


def summed(x, axis, reverse, exclusive):
    y = np.zeros_like(x)
    size = x.shape[axis]
    for i in range(size):
        start, stop = (i + exclusive, size) if reverse else (0, i + (not exclusive))
        for j in range(start, stop):
            np.moveaxis(y, axis, 0)[i] += np.moveaxis(x, axis, 0)[j]
    return y


def ordered(x, axis, descending, k=None):
    """Python's own sort of (key, index) pairs: equal keys stand in the order of their indices."""
    lines = np.moveaxis(x, axis, -1)
    count = lines.shape[-1] if k is None else k
    indices = np.empty((*lines.shape[:-1], count), "int64")
    for place in np.ndindex(*lines.shape[:-1]):
        key = [(-value if descending else value, index) for index, value in enumerate(lines[place].tolist())]
        indices[place] = [index for _, index in sorted(key)[:count]]
    indices = np.moveaxis(indices, -1, axis)
    return gathered_along(x, indices, axis), indices


def sum_case(axis, reverse, exclusive, *shape, **options):
    op = CumulativeSum(axis, reverse, exclusive)
    return Case(op, [normal(*shape)], lambda x: summed(x, axis, reverse, exclusive), **options)


def sort_case(axis, descending, values, **options):
    return Case(Sort(axis, descending), [values], lambda x: ordered(x, axis, descending), **options)


def top_case(k, axis, values, **options):
    return Case(TopK(k, axis), [values], lambda x: ordered(x, axis, True, k), **options)


TIES = exactly([[2.0, 1.0, 2.0, -1.0, 1.0, 2.0], [0.0, -0.0, 0.0, 3.0, 3.0, -np.inf]])

CASES = [
    Case(Gather(1), [normal(3, 4, 2), integers(2, 3, high=4)], lambda x, i: gathered(x, i, 1),
         wrong=[["float32[3]", "int64[2]"], ["float32[3, 4]", "float32[2]"], ["float32[3, 4]", "bool[2]"]]),
    Case(Gather(0), [normal(5, 2), integers(7, high=5, dtype="uint8")], lambda x, i: gathered(x, i, 0), label="rows"),
    Case(Gather(0), [normal(5), integers(high=5, dtype="int32")], lambda x, i: gathered(x, i, 0), label="scalar"),
    Case(Gather(0), [bools(5), integers(3, high=5, dtype="uint64")], lambda x, i: gathered(x, i, 0), label="bools"),
    Case(Gather(1), [normal(2, 0), integers(0, dtype="int8")], lambda x, i: np.empty((2, 0)), label="empty"),
    Case(ScatterAdd(1, 4), [normal(3, 2, 3, 2), integers(2, 3, high=4)], lambda u, i: scattered(u, i, 1, 4),
         wrong=[["float32[3, 2]", "int64[3]"], ["float32[3, 2]", "float32[2]"], ["float32[3]", "int64[3, 1]"],
                ["bool[3, 2]", "int64[2]"]]),
    Case(ScatterAdd(0, 3), [normal(9, 2), integers(9, high=3, dtype="uint8")], lambda u, i: scattered(u, i, 0, 3),
         label="rows"),
    Case(ScatterAdd(0, 3), [normal(2), integers(high=3)], lambda u, i: scattered(u, i, 0, 3), label="scalar"),
    Case(ScatterAdd(0, 2), [integers(9, high=99, dtype="int16"), integers(9, high=2)],
         lambda u, i: scattered(u, i, 0, 2), label="integers"),
    Case(ScatterAdd(0, 3), [normal(0, 2), integers(0)], lambda u, i: np.zeros((3, 2)), label="empty"),
    Case(GatherAlong(1), [normal(2, 4, 3), integers(2, 5, 3, high=4)], lambda x, i: gathered_along(x, i, 1),
         wrong=[["float32[2, 4, 3]", "int64[2, 5, 2]"], ["float32[2, 4]", "int64[2]"],
                ["float32[2, 4]", "float32[2, 4]"], ["float32[2]", "int64[2]"]]),
    Case(GatherAlong(0), [normal(4), integers(6, high=4, dtype="int32")], lambda x, i: gathered_along(x, i, 0),
         label="vector"),
    Case(ScatterAddAlong(1, 4), [normal(2, 5, 3), integers(2, 5, 3, high=4)],
         lambda u, i: scattered_along(u, i, 1, 4),
         wrong=[["float32[2, 5]", "int64[2, 4]"], ["float32[2, 5]", "int64[2]"], ["float32[2, 5]", "float32[2, 5]"],
                ["bool[2, 5]", "int64[2, 5]"], ["float32[2]", "int64[2]"]]),
    Case(ScatterAddAlong(0, 4), [normal(6), integers(6, high=4, dtype="uint32")],
         lambda u, i: scattered_along(u, i, 0, 4), label="vector"),
    Case(OneHot(4), [integers(2, 3, high=4)], lambda i: [[[float(k == n) for k in range(4)] for n in row] for row in i],
         wrong=[["float32[2]"], ["bool[2]"]]),
    Case(OneHot(3, "bool"), [integers(high=3, dtype="int8")], lambda i: [k == int(i) for k in range(3)], label="bool"),
    sum_case(1, False, False, 2, 5, 3, wrong=[["float32[3]"], ["bool[2, 3]"]]),
    sum_case(0, True, False, 4, 2, label="reverse"),
    sum_case(1, False, True, 2, 4, label="exclusive"),
    sum_case(1, True, True, 2, 4, 2, label="reverse_exclusive"),
    sum_case(0, False, True, 0, 2, label="empty"),
    Case(CumulativeSum(0), [integers(6, high=50, dtype="uint8")], lambda x: summed(x, 0, False, False), label="uint8"),
    sort_case(1, False, spaced(2, 5, 3), wrong=[["float32[3]"], ["bool[2, 3]"]]),
    sort_case(0, True, spaced(5, 2), label="descending"),
    sort_case(1, False, TIES, gradient=False, label="ties"),
    sort_case(1, True, TIES, gradient=False, label="ties_descending"),
    sort_case(0, True, integers(9, high=3, dtype="uint8"), label="integers"),
    top_case(3, 1, spaced(2, 5, 3), wrong=[["float32[3]"], ["float32[3, 2]"], ["bool[3, 3]"]]),
    top_case(1, 0, spaced(4), label="one"),
    top_case(4, 1, TIES, gradient=False, label="ties"),
]  # fmt: skip
