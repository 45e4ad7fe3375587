"""Op: one primitive, with its shape rule, its gradient and its NumPy/CuPy meaning in one class.

Tensor: a value of a Program under construction. Rules and layers write mathematics with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from graphnn.errors import DTypeError, OptionError
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.dimension import Shape, Size
from graphnn.ir.program import Value
from graphnn.ir.tensor_spec import FLOATS, TensorSpec

Array = Any  # numpy.ndarray or cupy.ndarray: the reference is written once for both
ArrayModule = Any  # numpy or cupy


@dataclass(frozen=True)
class Op(ABC):
    """A primitive operation; the dataclass fields are its attributes.

    Calling an op on Tensors appends it to their Program: `Tanh()(x)`.
    """

    name: ClassVar[str] = ""  # empty for abstract classes
    registry: ClassVar[dict[str, type[Op]]] = {}  # every concrete op by name
    expression: ClassVar[str] = ""  # the scalar formula of an elementwise op, in the subset Python and C++ share
    ufunc: ClassVar[str] = ""  # the one NumPy/CuPy function that computes it straight into its output, if there is one
    may_write_input: ClassVar[bool] = False  # element i of the output needs only element i of the inputs
    is_view: ClassVar[bool] = False  # the output has the bytes of input 0 in the same order
    may_fail: ClassVar[bool] = False  # raises for some numbers: no parameter or state is overwritten before it has run

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__ and cls.name:
            Op.registry[cls.name] = cls

    @abstractmethod
    def infer(self, *specs: TensorSpec) -> tuple[TensorSpec, ...]:
        """Output specs; raises ShapeError or DTypeError where the inputs do not fit."""

    @abstractmethod
    def reference(self, xp: ArrayModule, *arrays: Array) -> Array | tuple[Array, ...]:
        """The meaning, on NumPy or CuPy arrays; never changes its inputs. A tuple where there are several outputs."""

    def vjp(
        self, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], cotangents: tuple[Tensor, ...]
    ) -> tuple[Tensor | None, ...]:
        """One cotangent per input; None where nothing flows. Broadcast inputs need no care: autodiff sums them.

        An op without this rule has no gradient at all (comparisons, argmax, random bits).
        """
        return (None,) * len(inputs)

    def may_overwrite(self, source: int, output: int) -> bool:
        """Whether output number `output` may be written over input number `source`, if their specs are equal."""
        return self.may_write_input

    def __call__(self, *inputs: Tensor) -> Any:
        outputs = emit(self, inputs)
        return outputs[0] if len(outputs) == 1 else outputs


def emit(op: Op, inputs: Sequence[Tensor], builder: ProgramBuilder | None = None) -> tuple[Tensor, ...]:
    """Append `op(inputs)` to the Program of the inputs, or to `builder` for an op without inputs."""
    builder = builder or inputs[0].builder
    return tuple(Tensor(builder, value) for value in builder.emit(op, [tensor.value for tensor in inputs]))


class Tensor:
    """A value in a Program under construction, with NumPy's operators. Python numbers take the tensor's dtype."""

    __slots__ = ("builder", "value")
    __array_ufunc__ = None  # a NumPy scalar on the left hands over to __radd__ and its like

    def __init__(self, builder: ProgramBuilder, value: Value):
        self.builder = builder
        self.value = value

    @property
    def spec(self) -> TensorSpec:
        """Shape and dtype."""
        return self.value.spec

    @property
    def shape(self) -> Shape:
        """Sizes, ints or named."""
        return self.value.spec.shape

    @property
    def dtype(self) -> str:
        """Element type."""
        return self.value.spec.dtype

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.value.spec.shape)

    def __repr__(self) -> str:
        return f"Tensor({self.value!r})"

    # -- operators; the ops are found by name so that this file need not know them ------------------------------------

    def _apply(self, name: str, *others: Tensor | float, **attributes: object) -> Tensor:
        tensors = [self.lift(other) for other in others]
        return emit(Op.registry[name](**attributes), [self, *tensors])[0]

    def lift(self, number: Tensor | float) -> Tensor:
        """A Python number as a scalar tensor of this tensor's dtype; tensors pass through."""
        if isinstance(number, Tensor):
            return number
        if isinstance(number, float) and self.dtype not in FLOATS:
            raise DTypeError("a fraction cannot take an integer dtype", expected=self.dtype, got=repr(number))
        return self.fill(number, ())

    def fill(self, number: float, shape: Shape, dtype: str | None = None) -> Tensor:
        """A constant tensor of this tensor's dtype in the same Program."""
        attributes: dict[str, Any] = {"value": number, "shape": shape, "dtype": dtype or self.dtype}
        return emit(Op.registry["fill"](**attributes), (), self.builder)[0]

    def __add__(self, other: Tensor | float) -> Tensor:
        return self._apply("add", other)

    def __radd__(self, other: float) -> Tensor:
        return self.lift(other)._apply("add", self)

    def __sub__(self, other: Tensor | float) -> Tensor:
        return self._apply("subtract", other)

    def __rsub__(self, other: float) -> Tensor:
        return self.lift(other)._apply("subtract", self)

    def __mul__(self, other: Tensor | float) -> Tensor:
        return self._apply("multiply", other)

    def __rmul__(self, other: float) -> Tensor:
        return self.lift(other)._apply("multiply", self)

    def __truediv__(self, other: Tensor | float) -> Tensor:
        return self._apply("divide", other)

    def __rtruediv__(self, other: float) -> Tensor:
        return self.lift(other)._apply("divide", self)

    def __pow__(self, other: Tensor | float) -> Tensor:
        return self._apply("power", other)

    def __matmul__(self, other: Tensor) -> Tensor:
        return self._apply("matmul", other)

    def __neg__(self) -> Tensor:
        return self._apply("negative")

    def __lt__(self, other: Tensor | float) -> Tensor:
        return self._apply("less", other)

    def __le__(self, other: Tensor | float) -> Tensor:
        return self._apply("less_equal", other)

    def __gt__(self, other: Tensor | float) -> Tensor:
        return self._apply("greater", other)

    def __ge__(self, other: Tensor | float) -> Tensor:
        return self._apply("greater_equal", other)

    def __invert__(self) -> Tensor:
        return self._apply("logical_not")

    def __and__(self, other: Tensor) -> Tensor:
        return self._apply("logical_and", other)

    def __or__(self, other: Tensor) -> Tensor:
        return self._apply("logical_or", other)

    def __bool__(self) -> bool:
        raise DTypeError("a symbolic tensor has no truth value", got=repr(self), fix="use ops.where(condition, a, b)")

    def __iter__(self) -> None:
        raise DTypeError("a symbolic tensor cannot be iterated over", got=repr(self), fix="slice it, or use ops.scan")

    # -- methods that gradient rules need -----------------------------------------------------------------------------

    def sum(self, axes: int | Sequence[int] | None = None, keep: bool = False) -> Tensor:
        """Sum over `axes` (all by default); `keep` leaves them with size 1."""
        total = self._apply("sum", axes=self.axes(axes))
        return total.reshape(keep_shape(self.shape, self.axes(axes))) if keep else total

    def max(self, axes: int | Sequence[int] | None = None, keep: bool = False) -> Tensor:
        """Largest element over `axes` (all by default)."""
        largest = self._apply("max", axes=self.axes(axes))
        return largest.reshape(keep_shape(self.shape, self.axes(axes))) if keep else largest

    def reshape(self, shape: Shape) -> Tensor:
        """Same elements in C order, another shape."""
        return self if tuple(shape) == self.shape else self._apply("reshape", shape=tuple(shape))

    def transpose(self, order: Sequence[int]) -> Tensor:
        """Axes in another order."""
        return self._apply("transpose", order=tuple(order))

    def broadcast_to(self, shape: Shape) -> Tensor:
        """Repeat size-1 and missing leading axes up to `shape`."""
        return self if tuple(shape) == self.shape else self._apply("broadcast_to", shape=tuple(shape))

    def cast(self, dtype: str) -> Tensor:
        """Same values in another dtype."""
        return self if dtype == self.dtype else self._apply("cast", dtype=dtype)

    def slice(self, axis: int, start: Size, stop: Size, step: int = 1) -> Tensor:
        """Elements `start, start + step, ... < stop` of one axis."""
        bounds: list[tuple[Size, Size, int]] = [(0, size, 1) for size in self.shape]
        bounds[axis % self.rank] = (start, stop, step)
        starts, stops, steps = zip(*bounds, strict=True)
        return self._apply("slice", starts=starts, stops=stops, steps=steps)

    def axes(self, axes: int | Sequence[int] | None) -> tuple[int, ...]:
        """Axis numbers made positive and sorted; None means all.

        Raises:
            OptionError: an axis is out of range, or stands twice.
        """
        return normalize_axes(axes, self.rank)


def spec_of(array: Array) -> TensorSpec:
    """Shape and dtype of an array."""
    return TensorSpec(tuple(array.shape), str(array.dtype))


def normalize_axes(axes: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """Axis numbers made positive and sorted; None means all axes of a tensor of `rank`."""
    from_user = range(rank) if axes is None else (axes,) if isinstance(axes, int) else axes
    if any(not -rank <= axis < rank for axis in from_user):
        raise OptionError("an axis is out of range", expected=f"-{rank} to {rank - 1}", got=axes)
    return tuple(sorted({axis % rank for axis in from_user}))


def keep_shape(shape: Shape, axes: Sequence[int]) -> Shape:
    """`shape` with size 1 at `axes`."""
    return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
