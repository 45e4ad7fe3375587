"""TensorSpec: the shape and element type of a value, known before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from graphnn.errors import DTypeError, ShapeError
from graphnn.ir.dimension import Dimension, Shape, Size, bind, is_known

FLOATS = ("float16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64")
DTYPES = (*FLOATS, *INTEGERS, "bool")
ITEM_BYTES = {name: np.dtype(name).itemsize for name in DTYPES}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Shape and dtype. `str(spec)` reads `float32[batch, time, 32]`.

    Args:
        shape: ints or named dimensions.
        dtype: one of `DTYPES`.
    """

    shape: Shape
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in ITEM_BYTES:
            raise DTypeError("unknown element type", expected=", ".join(DTYPES), got=repr(self.dtype))
        if all([type(size) is int and size >= 0 for size in self.shape]):  # lists: shapes are short, and there are many
            return
        for size in self.shape:
            if not isinstance(size, int | Dimension | np.integer) or isinstance(size, bool):
                raise ShapeError("not a size", expected="an integer or a named dimension", got=repr(size))
            if not isinstance(size, Dimension) and size < 0:
                raise ShapeError("a size is negative", expected="0 or more", got=self)
        if any([isinstance(size, np.integer) for size in self.shape]):
            plain = tuple([int(size) if isinstance(size, np.integer) else size for size in self.shape])
            object.__setattr__(self, "shape", plain)

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def is_known(self) -> bool:
        """True when every size is an integer."""
        return all(map(is_known, self.shape))

    @property
    def size(self) -> int:
        """Number of elements.

        Raises:
            DimensionError: a size is known by name only.
        """
        return math.prod([size.__index__() for size in self.shape])

    @property
    def nbytes(self) -> int:
        """Bytes of a contiguous array of this spec."""
        return self.size * ITEM_BYTES[self.dtype]

    @property
    def is_float(self) -> bool:
        """True for floating-point element types."""
        return self.dtype in FLOATS

    def bind(self, sizes: Mapping[str, int]) -> TensorSpec:
        """The spec with every name replaced by its size."""
        return TensorSpec(tuple(bind(size, sizes) for size in self.shape), self.dtype)

    def with_dtype(self, dtype: str) -> TensorSpec:
        """Same shape, another element type."""
        return TensorSpec(self.shape, dtype)

    @property
    def names(self) -> frozenset[str]:
        """Names of the named dimensions in the shape."""
        return frozenset().union(*(size.names for size in self.shape if isinstance(size, Dimension)))

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


def broadcast_shapes(shapes: Iterable[Shape]) -> Shape:
    """The shape that all of `shapes` broadcast to, by NumPy's rule.

    A named dimension equals only the same expression; size 1 fits anything.

    Raises:
        ShapeError: two sizes on one axis differ and neither is 1.
    """
    shapes = list(shapes)
    if shapes and all([shape == shapes[0] for shape in shapes]):
        return tuple(shapes[0])
    rank = max(map(len, shapes), default=0)
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(_broadcast_sizes(sizes, shapes) for sizes in zip(*padded, strict=True))


def _broadcast_sizes(sizes: tuple[Size, ...], shapes: list[Shape]) -> Size:
    result: Size = 1
    for size in sizes:
        if result == 1:
            result = size
        elif size not in (1, result):
            texts = " and ".join(f"({', '.join(map(str, shape))})" for shape in shapes)
            raise ShapeError(
                "shapes do not broadcast together",
                expected="equal sizes, or 1, on every axis from the right",
                got=texts,
            )
    return result
