"""Executable: a Plan that can be called."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from graphnn.ir.program import Program
from graphnn.ops.op import Array
from graphnn.plan.plan import Plan


@dataclass(frozen=True, eq=False)
class Executable(ABC):
    """One call runs the plan."""

    plan: Plan

    @abstractmethod
    def __call__(self, arrays: Sequence[Array]) -> list[Array]:
        """Run once.

        Args:
            arrays: one per `plan.inputs`, contiguous, of its spec. Parameters and states that the plan updates are
                changed in place.

        Returns:
            The outputs, as arrays that the caller owns.
        """

    def bind(
        self, arrays: Sequence[Array], changing: Sequence[int], read: Callable[[Array], Any] | None = None
    ) -> Callable[[Sequence[Array]], list[Any]]:
        """The same call again and again: a function of the arrays that change; what can be done once is done here.

        Args:
            arrays: as for a call. Those that do not change are held: their elements may, as those of parameters.
            changing: positions of the others, in the order in which the function takes them.
            read: what the function gives of each output, such as `float`; None: the array.
        """
        held = list(arrays)
        for position in changing:
            held[position] = None

        def call(given: Sequence[Array]) -> list[Any]:
            current = held.copy()
            for position, array in zip(changing, given, strict=True):
                current[position] = array
            outputs = self(current)
            return outputs if read is None else list(map(read, outputs))

        return call


class Backend(ABC):
    """Turns Plans into Executables, and moves arrays."""

    name: str

    def rewrite(self, program: Program) -> Program:
        """The program as this backend runs it best, behind the standard passes; by default as it is."""
        return program

    @abstractmethod
    def compile(self, plan: Plan) -> Executable:
        """An Executable of `plan`."""

    @abstractmethod
    def to_device(self, array: Array) -> Array:
        """A copy in the backend's memory."""

    @abstractmethod
    def zeros(self, shape: tuple[int, ...], dtype: str) -> Array:
        """A new array of zeros; where the system gives memory out when it is first used, it takes none before."""

    @abstractmethod
    def to_host(self, array: Array) -> Array:
        """A NumPy copy."""
