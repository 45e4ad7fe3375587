"""Case: one op with inputs from a safe domain and an independent value; all generic tests of ops start from it.

A family of ops lists its cases in a file `tests/ops/cases_<family>.py` as `CASES = [Case(...), ...]`; `op_cases.py`
finds it. Example:

    CASES = [
        Case(Log(), [positive(2, 3)], np.log, wrong=[["int64[3]"]]),
        Case(Gather(1), [normal(2, 5), integers(2, 3, high=5)], gather_by_loops, wrong=[["float32[2]", "bool[2]"]]),
    ]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphnn.ir.dimension import parse_size
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.op import Op

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


@dataclass(frozen=True, eq=False)
class Input:
    """Makes arrays of a shape: of the tested float dtype, or of a dtype of its own."""

    shape: tuple[int, ...]
    draw: Draw
    dtype: str | None = None

    def __call__(self, rng: np.random.Generator, dtype: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """An array, of another shape if one is named."""
        return self.draw(rng, self.shape if shape is None else shape).astype(self.dtype or dtype)


@dataclass(frozen=True, eq=False)
class Case:
    """One point at which an op is tested.

    Args:
        op: the op with its attributes.
        inputs: one per input of the op, such as `normal(2, 3)`; called as input(rng, dtype).
        expected: the value (a tuple for several outputs) from the input arrays, written independently of the op's
            `reference`: loops, einsum, another NumPy function. It gets floats widened to float64, so it is the exact
            value for inputs of any float dtype.
        dtypes: float dtypes to run with; integer and bool inputs have their own dtype anyway.
        tolerance: largest error, in units of machine epsilon times max(1, largest expected magnitude).
        gradient: compare the first and second gradients with differences. False only for ops that are random, or
            where the inputs must lie on a kink.
        wrong: lists of specs such as ["float32[2, 3]", "int64[batch]"] that `infer` must refuse with a typed error.
        label: tells cases of one op apart.
    """

    op: Op
    inputs: Sequence[Input]
    expected: Callable[..., Any]
    dtypes: tuple[str, ...] = ("float32", "float64")
    tolerance: float = 16.0
    gradient: bool = True
    wrong: Sequence[Sequence[str]] = ()
    label: str = ""

    def __str__(self) -> str:
        return f"{self.op.name}-{self.label}" if self.label else self.op.name

    def make(self, dtype: str = "float64", seed: int = 0) -> list[np.ndarray]:
        """Input arrays."""
        rng = np.random.default_rng(seed)
        return [make(rng, dtype) for make in self.inputs]


def normal(*shape: int, scale: float = 1.0) -> Input:
    """Gaussian numbers."""
    return Input(shape, lambda rng, shape: scale * rng.normal(size=shape))


def uniform(low: float, high: float, *shape: int) -> Input:
    """Numbers between two bounds."""
    return Input(shape, lambda rng, shape: rng.uniform(low, high, shape))


def positive(*shape: int) -> Input:
    """Numbers from 0.5 to 2."""
    return uniform(0.5, 2.0, *shape)


def nonzero(*shape: int) -> Input:
    """Numbers from 0.5 to 2 of either sign."""
    return Input(shape, lambda rng, shape: rng.uniform(0.5, 2.0, shape) * rng.choice([-1.0, 1.0], shape))


def spaced(*shape: int, gap: float = 0.25) -> Input:
    """Distinct numbers in random order, `gap` apart and half of it away from 0: no ties, no kink at 0."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        count = int(np.prod(shape))
        return ((rng.permutation(count) - count // 2 + 0.5) * gap).reshape(shape)

    return Input(shape, draw)


def fractional(*shape: int) -> Input:
    """Numbers of either sign at least 0.1 away from integers and from halves."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.integers(-4, 4, shape) + rng.choice([0.1, 0.6], shape) + rng.uniform(0, 0.3, shape)

    return Input(shape, draw)


def integers(*shape: int, low: int = 0, high: int = 10, dtype: str = "int64") -> Input:
    """Integers low <= n < high."""
    return Input(shape, lambda rng, shape: rng.integers(low, high, shape), dtype)


def bools(*shape: int) -> Input:
    """Truth values."""
    return Input(shape, lambda rng, shape: rng.random(shape) < 0.5, "bool")


def chosen(values: Sequence[float], *shape: int) -> Input:
    """Random choices among a few numbers; each of them at least once where there is room."""
    return Input(shape, lambda rng, shape: rng.permutation(np.resize(values, int(np.prod(shape)))).reshape(shape))


def exactly(values: object, dtype: str | None = None) -> Input:
    """Given values; of the tested float dtype unless one is named."""
    return Input(np.shape(values), lambda rng, shape: np.array(values).reshape(shape), dtype)


def spec(text: str) -> TensorSpec:
    """The TensorSpec written as `float32[batch, 2*time, 3]`, `bool[]`."""
    dtype, _, shape = text.rstrip("]").partition("[")
    return TensorSpec(tuple(parse_size(size) for size in shape.split(",") if size.strip()), dtype)
