"""Random programs for property tests, their inputs, and a way to run a plan that shows every stray read or write."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from graphnn.backends.reference import ReferenceBackend
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Kind, Program
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ir.verify import verify
from graphnn.ops import concatenate, fill, matmul, maximum, sigmoid, tanh, top_k, where
from graphnn.ops.op import Tensor
from graphnn.plan.plan import ALIGNMENT, Plan
from graphnn.scan import scan

SIZES = (0, 1, 3, 8, 40)
JUNK = 0xFF  # as the bytes of a float: NaN


def with_same_shape(draw, a, tensors):
    return draw(st.sampled_from([b for b in tensors if b.shape == a.shape]))


def step(draw, tensors, smooth=False):
    """One more tensor, or several, from those there are; all are of rank 2 and one dtype."""
    a = draw(st.sampled_from(tensors[-4:] if draw(st.booleans()) else tensors))
    rows, columns = a.shape
    match draw(st.integers(0, 11 if smooth else 14)):
        case 0:
            return [tanh(a)]
        case 1:
            return [sigmoid(a)]
        case 2:
            return [a + with_same_shape(draw, a, tensors)]
        case 3:
            return [a * with_same_shape(draw, a, tensors)]
        case 4:
            return [a.reshape((columns, rows))]  # a view
        case 5:
            return [a.transpose((1, 0))]
        case 6:
            return [a.sum(0, keep=True) + a]  # broadcast
        case 7:
            return [
                matmul(a, draw(st.sampled_from([b for b in tensors if b.shape[0] == columns] + [a.transpose((1, 0))])))
            ]
        case 8:
            return [a + fill(a.builder, draw(st.sampled_from([0.0, 1.0, 2.0])), (), a.dtype)]
        case 9:
            return [concatenate([a, with_same_shape(draw, a, tensors)], axis=0).slice(0, rows, 2 * rows)]
        case 10:
            return [a.reshape((rows * columns, 1)).reshape((1, rows * columns)).reshape((rows, columns))]
        case 11 if columns:
            return list(scan(lambda c, s, k: ([tanh(c[0] + s[0])], [c[0] * 2.0]), [a.sum(0)], [a])[1])
        case 12 if columns:
            values, indices = top_k(a, 1)
            return [values, indices.cast(a.dtype)] if draw(st.booleans()) else [values]  # one output may be dead
        case 13:
            return [where(a > 0.0, a, with_same_shape(draw, a, tensors))]
    return [maximum(a, a)]


@st.composite
def programs(draw, max_instructions=25, sizes=SIZES, dtype="float32", smooth=False):
    """Views, chances to work in place, dead instructions, updates, results that are inputs or stand twice.

    Args:
        draw: Hypothesis fills it in.
        max_instructions: about the largest number.
        sizes: of axes.
        dtype: of all values but indices.
        smooth: leave out what has kinks or jumps.
    """
    builder = ProgramBuilder()
    kinds = draw(st.lists(st.sampled_from([Kind.INPUT, Kind.PARAMETER, Kind.STATE]), min_size=1, max_size=4))
    size = st.sampled_from(sizes)
    tensors = [
        Tensor(builder, builder.input(f"in_{i}", TensorSpec((draw(size), draw(size)), dtype), kind))
        for i, kind in enumerate(kinds)
    ]
    count = draw(st.integers(1, max_instructions))
    while len(builder.instructions) < count:
        tensors += step(draw, tensors, smooth)
    for old, kind in zip(tensors, kinds, strict=False):
        if kind is not Kind.INPUT and draw(st.booleans()):
            builder.update(old.value, with_same_shape(draw, old, tensors).value)
    results = draw(st.lists(st.sampled_from(tensors), max_size=3))
    return verify(builder.build([tensor.value for tensor in results]))


def arrays_for(program: Program, seed: int = 0) -> list[np.ndarray]:
    """Gaussian numbers for the inputs, integers for those that ask for integers."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=value.spec.shape).astype(value.spec.dtype) for value in program.inputs]


class JunkNumpy:
    """NumPy whose fresh memory is full of NaN; the first that is asked for is kept to look at."""

    __name__ = "numpy"

    def __init__(self):
        self.arena: np.ndarray | None = None

    def __getattr__(self, name):
        return getattr(np, name)

    def empty(self, shape, dtype):
        array = np.empty(shape, dtype)
        array.reshape(-1).view("uint8")[...] = JUNK
        self.arena = array if self.arena is None else self.arena
        return array


def run_in_junk(plan: Plan, arrays: Sequence[np.ndarray], runs: int = 2) -> list[np.ndarray]:
    """Outputs and new values of parameters and states after the last of several runs from the same arrays.

    Before each run the arena is filled with NaN; the bytes around it must stay as they are, and so must the inputs.
    """
    xp = JunkNumpy()
    executable = ReferenceBackend(xp).compile(plan)
    for _ in range(runs):
        if xp.arena is not None:
            xp.arena[...] = JUNK
        given = [array.copy() for array in arrays]
        outputs = executable(given)
        start = -xp.arena.ctypes.data % ALIGNMENT
        outside = (*xp.arena[:start], *xp.arena[start + plan.arena_bytes :])
        assert set(outside) == {JUNK}, "written outside of the arena"
        for value, before, after in zip(plan.inputs, arrays, given, strict=True):
            assert value.kind is not Kind.INPUT or before.tobytes() == after.tobytes(), f"{value!r} was changed"
        assert all(not np.shares_memory(output, xp.arena) for output in outputs), "an output lies in the arena"
    return [*outputs, *(given[old] for old, _ in plan.updates)]
