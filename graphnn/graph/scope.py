"""Scope: what a layer may ask for while it is lowered: parameters, states, random bits, the mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from graphnn.errors import DimensionError, ShapeError
from graphnn.initializers import Initializer
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.dimension import Shape
from graphnn.ir.program import Kind, Value
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.creation import fill, iota
from graphnn.ops.op import Op, Tensor, emit
from graphnn.ops.random import random_keep_mask, stream_of

RANDOM_INPUT = "random:words"  # seed and step, from which all random bits come; no name of a user holds a colon


@dataclass(frozen=True)
class ParameterDeclaration:
    """A trained array or a state that a layer asked for; numbers are made later from the initializer."""

    path: str
    spec: TensorSpec
    initializer: Initializer
    kind: Kind


@dataclass(eq=False)
class Context:
    """What all scopes of one lowering share.

    Args:
        builder: receives the instructions.
        training: True while training: batch statistics, dropout.
        dtype: the floating-point type of parameters.
        is_frozen: whether the node at a path is frozen.
    """

    builder: ProgramBuilder
    training: bool
    dtype: str = "float32"
    is_frozen: Callable[[str], bool] = lambda path: False
    declarations: dict[str, ParameterDeclaration] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    latest: dict[Value, Tensor] = field(default_factory=dict)  # states that this run has given a new value
    random: Value | None = None

    def declare(self, path: str, spec: TensorSpec, initializer: Initializer, kind: Kind) -> Tensor:
        """The parameter or state at `path`, made at the first call; later calls must agree on its shape."""
        known = self.declarations.get(path)
        if known is None:
            self.declarations[path] = ParameterDeclaration(path, spec, initializer, kind)
            self.values[path] = self.builder.input(path, spec, kind)
        elif known.spec != spec:
            raise ShapeError(
                f"the shared parameter `{path}` would need two shapes", expected=known.spec, got=spec,
                fix="call the layer on inputs of equal feature size, or use two layers",
            )  # fmt: skip
        value = self.values[path]
        return self.latest.get(value, Tensor(self.builder, value))

    def finish(self) -> None:
        """Record the new values of states as updates of the Program."""
        for value, new in self.latest.items():
            self.builder.update(value, new.value)


class Scope:
    """The place of one node in a lowering; given to `Layer.lower`.

    Attributes:
        training: True while training.
        frozen: True when the node is frozen: keep statistics, drop nothing.
        dtype: floating-point type of parameters.
        path: node path.
    """

    def __init__(self, context: Context, path: str, owner: str):
        self._context = context
        self._owner = owner
        self._draws = 0
        self.path = path
        self.training = context.training
        self.frozen = context.is_frozen(path)
        self.dtype = context.dtype

    def child(self, name: str) -> Scope:
        """A scope for a layer inside this layer, such as its activation."""
        inner = Scope(self._context, f"{self.path}/{name}", f"{self._owner}/{name}")
        inner.frozen = self.frozen
        return inner

    def parameter(self, name: str, shape: Shape, initializer: Initializer) -> Tensor:
        """The trained array `name` of this layer; shared call sites get the same one.

        Raises:
            DimensionError: a size is known by name only.
            ShapeError: an earlier call site gave it another shape.
        """
        return self._declare(name, shape, initializer, Kind.PARAMETER)

    def state(self, name: str, shape: Shape, initializer: Initializer) -> Tensor:
        """An array that training changes without a gradient, such as a running mean."""
        return self._declare(name, shape, initializer, Kind.STATE)

    def _declare(self, name: str, shape: Shape, initializer: Initializer, kind: Kind) -> Tensor:
        spec = TensorSpec(tuple(shape), self.dtype)
        if not spec.is_known:
            raise DimensionError(
                f"the size of parameter `{name}` must be a number", expected="integers", got=spec,
                fix="give this axis of the input an integer size",
            )  # fmt: skip
        return self._context.declare(f"{self._owner}/{name}", spec, initializer, kind)

    def update_state(self, name: str, new: Tensor) -> None:
        """`new` becomes the value of the state after the run."""
        self._context.latest[self._context.values[f"{self._owner}/{name}"]] = new

    def fill(self, value: float, shape: Shape = (), dtype: str | None = None) -> Tensor:
        """A constant tensor."""
        return fill(self._context.builder, value, shape, dtype or self.dtype)

    def iota(self, shape: Shape, axis: int = 0, dtype: str = "int64") -> Tensor:
        """Indices along one axis."""
        return iota(self._context.builder, shape, axis, dtype)

    def apply(self, op: Op, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Append an op, also one without inputs."""
        return emit(op, inputs, self._context.builder)

    def keep_mask(self, shape: Shape, keep_probability: float) -> Tensor:
        """A random bool mask, a function of the model's seed, this node's path and the step alone."""
        self._draws += 1
        return random_keep_mask(self.random, shape, stream_of(self.path, self._draws), keep_probability)

    @property
    def random(self) -> Tensor:
        """uint32[4]: seed and step."""
        context = self._context
        if context.random is None:
            context.random = context.builder.input(RANDOM_INPUT, TensorSpec((4,), "uint32"))
        return Tensor(context.builder, context.random)
