"""Plan: a Program with an order, one arena and a place in it for every value."""

from __future__ import annotations

from dataclasses import dataclass

from graphnn.ir.program import Origin, Value
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.op import Op

ALIGNMENT = 64  # bytes: a cache line, and the widest vector register


@dataclass(frozen=True)
class Buffer:
    """Memory of a value.

    Args:
        spec: shape and dtype of the contiguous array in it.
        offset: bytes from the start of the arena; None for memory that the caller owns.
        first_step: the step that writes it (-1: it is there before the run).
        last_step: the last step that reads it (number of steps: it is a result).
        shares: buffer whose memory this one continues to use (a view, an in-place result, an update), or None.
    """

    spec: TensorSpec
    offset: int | None
    first_step: int
    last_step: int
    shares: int | None = None


@dataclass(frozen=True)
class Step:
    """`op` reads and writes buffers by number."""

    op: Op
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    origin: Origin


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything about a run but the numbers.

    Args:
        inputs: the program's INPUT, PARAMETER and STATE values, in call order; their buffers are 0, 1, 2...
        buffers: one per value.
        steps: in order of execution.
        outputs: buffers of results, owned by the caller of the run.
        updates: (buffer of the parameter or state, buffer of its new value); equal where the step writes it in place.
        arena_bytes: size of the one block that holds all buffers with an offset.
        peak_bytes: the most bytes of arena values alive at once, a lower bound of `arena_bytes`.
    """

    inputs: tuple[Value, ...]
    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    updates: tuple[tuple[int, int], ...]
    arena_bytes: int
    peak_bytes: int

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        from graphnn.render.notebook import plan_bundle

        return plan_bundle(self)


def aligned(nbytes: int) -> int:
    """`nbytes` rounded up to a multiple of ALIGNMENT."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
