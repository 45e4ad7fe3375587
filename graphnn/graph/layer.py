"""Layer: one declared operation. Calling it on symbolic tensors adds a call to the graph being declared."""

from __future__ import annotations

import inspect
import itertools
import operator
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache, lru_cache
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from graphnn.errors import GraphError, GraphnnError, OptionError
from graphnn.graph.attempt import Attempt
from graphnn.graph.scope import Context, ParameterDeclaration, Scope
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.dimension import Shape, parse_size
from graphnn.ir.program import Kind
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.op import Tensor

Position: TypeAlias = tuple[str, int]  # file name, line number
PACKAGE_FOLDER = str(Path(__file__).parents[1])
RESERVED_CHARACTERS = set("/:*?[]<>@\\")
_definition_clock = itertools.count()  # only the order of two readings matters, never a number


@dataclass(frozen=True, eq=False)
class Layer(ABC):
    """One declared operation with hyper-parameters (its dataclass fields) and maybe parameters.

    A layer is a frozen dataclass with one method, `lower`. Calling it connects it to symbolic tensors; calling it twice
    shares its parameters.

    Args:
        name: node name; by default made from the class name, or from the attribute of the Module that holds it.
    """

    registry: ClassVar[dict[str, type[Layer]]] = {}  # the closed set of classes that a graph file may name
    category: ClassVar[str] = "other"  # for pictures: the family that gives the colour

    name: str | None = field(default=None, kw_only=True)

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__.startswith("graphnn."):
            Layer.registry[cls.__name__] = cls

    @abstractmethod
    def lower(self, scope: Scope, *inputs: Any, **named: Any) -> Tensor | tuple[Tensor, ...] | dict[str, Tensor]:
        """The layer as mathematics on tensors, one argument per input.

        Runs at declaration, with named sizes, and at compile time, with integers.
        """

    def __call__(self, *inputs: SymbolicTensor | None) -> Any:
        """Use the layer on symbolic tensors: one node more in the graph being declared."""
        return connect(self, inputs)

    @property
    def kind(self) -> str:
        """The class name that summaries, pictures and files show."""
        return type(self).__name__

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The dataclass fields but the name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "name"}

    @property
    def default_name(self) -> str:
        """The given name, or the class name in snake_case."""
        return self.name or snake_case(self.kind)


def snake_case(name: str) -> str:
    """`LeakyReLU` -> `leaky_relu`, `BatchNorm2D` -> `batch_norm2d`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z])", "_", name.replace("ReLU", "Relu")).lower()


class Composite(Layer):
    """A layer made of layers: a graph inside a graph."""

    @abstractmethod
    def expand(self, specs: tuple[TensorSpec | None, ...]) -> Any:
        """The inner Graph for inputs of these specs; None for an optional input that is not given."""

    def lower(self, scope: Scope, *inputs: Tensor) -> Tensor:
        """Never called: the nodes inside are lowered one by one."""
        raise GraphError("a layer made of layers has no lowering of its own", where=scope.path)


@dataclass(frozen=True, eq=False)
class Call:
    """One use of a layer during declaration; becomes a Node of the Graph that reaches it."""

    layer: Layer
    inputs: tuple[SymbolicTensor | None, ...]
    specs: tuple[TensorSpec, ...]
    output_names: tuple[str, ...]
    declarations: tuple[ParameterDeclaration, ...]
    inner: Any  # the inner Graph of a Composite
    declared_at: Position
    serial: int
    name: str | None = None  # fixed beforehand when a graph is rebuilt from its description


@dataclass(frozen=True, eq=False)
class InputNode:
    """A value that the user gives on every run.

    Args:
        name: keyword of the call.
        spec: shape with named dimensions, dtype.
        optional: zeros when not given.
    """

    name: str
    spec: TensorSpec
    optional: bool = False
    declared_at: Position = ("", 0)
    serial: int = 0


@dataclass(frozen=True, eq=False)
class SymbolicTensor:
    """An output of a call, or an input, while a graph is declared. Operators add named Add, Multiply... nodes."""

    source: Call | InputNode
    index: int
    spec: TensorSpec
    __array_ufunc__ = None

    @property
    def shape(self) -> tuple[Any, ...]:
        """Sizes, ints or named."""
        return self.spec.shape

    @property
    def dtype(self) -> str:
        """Element type."""
        return self.spec.dtype

    def __repr__(self) -> str:
        return f"SymbolicTensor({self.spec})"

    def _combine(self, kind: str, other: object, reverse: bool = False) -> SymbolicTensor:
        if isinstance(other, Real):
            number = other if isinstance(other, (int, float)) else float(other)
            return Layer.registry["Scalar" + kind](number, reverse=reverse)(self)  # type: ignore[call-arg]
        if not isinstance(other, SymbolicTensor):
            raise GraphError(
                f"cannot {kind.lower()} these", where=repr(self), expected="a symbolic tensor or a number",
                got=describe(other),
                fix="numbers that change from run to run come in through gnn.Input",
            ).locate("", user_position())  # fmt: skip
        return Layer.registry[kind]()(self, other)

    def __add__(self, other: object) -> SymbolicTensor:
        return self._combine("Add", other)

    def __sub__(self, other: object) -> SymbolicTensor:
        return self._combine("Subtract", other)

    def __mul__(self, other: object) -> SymbolicTensor:
        return self._combine("Multiply", other)

    def __truediv__(self, other: object) -> SymbolicTensor:
        return self._combine("Divide", other)

    def __rsub__(self, other: object) -> SymbolicTensor:
        return self._combine("Subtract", other, reverse=True)

    def __rtruediv__(self, other: object) -> SymbolicTensor:
        return self._combine("Divide", other, reverse=True)

    def __matmul__(self, other: object) -> SymbolicTensor:
        return self._combine("MatMul", other)

    def __neg__(self) -> SymbolicTensor:
        return self * -1

    __radd__ = __add__
    __rmul__ = __mul__

    def __bool__(self) -> bool:
        raise GraphError(
            "a symbolic tensor has no truth value, as its numbers come later", where=repr(self),
            expected="a Python value",
            got="a symbolic tensor", fix="branch on hyper-parameters or shapes; use layers to choose between numbers",
        ).locate("", user_position())  # fmt: skip

    def __iter__(self) -> None:
        raise GraphError(
            "a symbolic tensor cannot be iterated over", where=repr(self), expected="one value, not several",
            got="a loop or an assignment to several names", fix="take parts of it by a layer",
        ).locate("", user_position())  # fmt: skip


def Input(  # noqa: N802 - reads as the noun it makes
    shape: tuple[int | str, ...], name: str | None = None, dtype: str = "float32", optional: bool = False
) -> SymbolicTensor:
    """Declare a value that the user gives on every run.

    Args:
        shape: all axes, the batch axis written out; ints, names such as "batch", or expressions such as "2*time".
        name: keyword of the call; `x`, `x_2`... by default.
        dtype: floating-point inputs follow the dtype of the Model.
        optional: zeros when not given.

    Raises:
        DimensionError, DTypeError, GraphError: a bad shape, dtype or name, with what was expected.
    """
    position = user_position()
    try:
        spec = TensorSpec(_sizes(shape), dtype)
        if name is not None:
            check_name(name)
    except GraphnnError as error:
        error.locate("an input" if name is None else f"input {name}", position)
        raise
    node = InputNode(name or "", spec, optional, position, next(_definition_clock))
    return SymbolicTensor(node, 0, spec)


def _sizes(shape: object) -> Shape:
    if not isinstance(shape, (tuple, list)):
        raise OptionError(
            "an input shape is a tuple with one entry per axis", expected='("batch", 32)', got=repr(shape)
        )
    return tuple(parse_size(size) if isinstance(size, str) else _integer_size(size) for size in shape)


def _integer_size(size: object) -> int:
    if hasattr(size, "__index__") and not isinstance(size, bool):
        return operator.index(size)  # type: ignore[arg-type]
    raise OptionError("not a size", expected="an integer or a name", got=repr(size), fix='name unknown sizes: "batch"')


def check_name(name: str) -> None:
    """Raise GraphError for a name that would be ambiguous in a path or a glob."""
    is_text = isinstance(name, str) and name not in ("", "dLd") and name == name.strip() and name.isprintable()
    if not is_text or set(name) & RESERVED_CHARACTERS:
        raise GraphError(
            f"{name!r} cannot be a name", got=repr(name),
            expected="a non-empty string other than 'dLd' of printable characters, without any of / : * ? [ ] < > @ \\",
        )  # fmt: skip


def user_position() -> Position:
    """File and line of the innermost caller outside of the package."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE_FOLDER):
        frame = frame.f_back
    return (frame.f_code.co_filename, frame.f_lineno) if frame else ("", 0)


def connect(
    layer: Layer,
    inputs: tuple[SymbolicTensor | None, ...],
    name: str | None = None,
    declared_at: Position | None = None,
) -> Any:
    """Use `layer` on `inputs`: infer output specs now, so that a misfit is reported at the user's line.

    Returns:
        One SymbolicTensor, or a tuple or dict of them: the structure that the layer gives.
    """
    position = declared_at or user_position()
    try:
        if layer.name is not None:
            check_name(layer.name)
        _check_inputs(layer, inputs)
        specs, names, declarations, inner = _infer(layer, inputs)
    except GraphnnError as error:
        if not hasattr(error, "culprit"):
            error.culprit = layer  # type: ignore[attr-defined]  # a Module that holds it knows its name
        error.attempt = error.attempt or Attempt(layer, inputs)
        where = name or layer.default_name
        if error.where and not isinstance(layer, Composite):  # such as an initializer that the layer holds
            error.where = f"{where}, {error.where}"
        error.locate(where, position)
        raise
    call = Call(layer, inputs, specs, names, declarations, inner, position, next(_definition_clock), name)
    tensors = [SymbolicTensor(call, index, spec) for index, spec in enumerate(specs)]
    if inner is not None:
        return inner.arrange(tensors)
    return arrange(tensors, names)


def arrange(tensors: list[Any], names: tuple[str, ...]) -> Any:
    """One value for names (), a tuple for ("0", "1"...), else a dict."""
    if not names:
        return tensors[0]
    if names == tuple(map(str, range(len(tensors)))):
        return tuple(tensors)
    return dict(zip(names, tensors, strict=True))


def _check_inputs(layer: Layer, inputs: tuple[SymbolicTensor | None, ...]) -> None:
    composite = isinstance(layer, Composite)
    for index, tensor in enumerate(inputs):
        if not isinstance(tensor, SymbolicTensor) and not (tensor is None and composite):
            message, expected = f"input {index} is not a symbolic tensor", "gnn.Input(...) or the output of a layer"
            raise GraphError(message, expected=expected, got=describe(tensor), fix=_advice(tensor))
    low, high = (0, float("inf")) if composite else _arity(type(layer))
    if not low <= len(inputs) <= high:
        expected = str(low) if low == high else f"{low} or more" if high == float("inf") else f"{low} to {high}"
        raise GraphError(f"{layer.kind} got the wrong number of inputs", expected=expected, got=len(inputs))


def describe(value: object) -> str:
    """A few words for an error on what was given in place of a symbolic tensor."""
    if isinstance(value, SymbolicTensor):
        source = value.source.name if isinstance(value.source, InputNode) else value.source.layer.default_name
        return f"{value.spec} from `{source}`"
    if isinstance(value, Layer):
        return f"the layer {value.kind}, not called"
    if isinstance(value, (tuple, list, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    return repr(value) if value is None or isinstance(value, (bool, int, float, str)) else type(value).__name__


def _advice(value: object) -> str:
    """What to do when `value` was given in place of a symbolic tensor."""
    if isinstance(value, Layer):
        return f"call it on a tensor first: {value.kind}(...)(x)"
    if isinstance(value, (tuple, list, dict)):
        return "give its tensors one by one: layer(a, b), or layer(*tensors)"
    if value is None:
        return "leave out optional inputs of modules and graphs only"
    return "give arrays to Model.forward, not to layers"


@cache
def _arity(kind: type[Layer]) -> tuple[int, float]:
    """Least and most inputs, read off the signature of `lower`."""
    parameters = list(inspect.signature(kind.lower).parameters.values())[2:]
    required = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return len(required) or int(variadic), float("inf") if variadic else len(parameters)


def _infer(layer: Layer, inputs: tuple[SymbolicTensor | None, ...]) -> tuple[Any, ...]:
    specs = tuple(tensor.spec if tensor is not None else None for tensor in inputs)
    if isinstance(layer, Composite):
        inner = layer.expand(specs)
        return inner.output_specs, inner.output_names, (), inner
    signature = _signature(layer.hyperparameters) if Layer.registry.get(layer.kind) is type(layer) else None
    if signature is None:
        return _infer_leaf(_Question(layer, specs, None))
    return _infer_like(_Question(layer, specs, (type(layer), signature)))


@dataclass(frozen=True)
class _Question:
    """What a layer gives on inputs of these specs; equal questions have equal answers."""

    layer: Layer = field(compare=False)
    specs: tuple[TensorSpec | None, ...]
    signature: object


def _infer_leaf(question: _Question) -> tuple[Any, ...]:
    context = Context(ProgramBuilder(), training=True)
    tensors = [Tensor(context.builder, context.builder.input("", spec)) for spec in question.specs if spec is not None]
    outputs, names = flatten_structure(question.layer.lower(Scope(context, "", ""), *tensors))
    return tuple(t.spec for t in outputs), names, tuple(context.declarations.values()), None


_infer_like = lru_cache(maxsize=4096)(_infer_leaf)  # deep networks repeat few layers: 5 times faster at 100,000 nodes


def _signature(value: Any) -> object:
    """A hashable copy that tells 1 from 1.0 and True; None if `value` holds something that cannot be compared."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple):
        items = tuple(map(_signature, value))
        return None if None in items else items
    return (type(value), value) if value is None or isinstance(value, (bool, int, float, str, Layer)) else None


def flatten_structure(structure: Any) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """(values, names) of one value, a tuple or a dict; names are () for one value."""
    if isinstance(structure, Mapping):
        return tuple(structure.values()), tuple(structure)
    if isinstance(structure, (tuple, list)):
        return tuple(structure), tuple(map(str, range(len(structure))))
    return (structure,), ()


def is_parameter(declaration: ParameterDeclaration) -> bool:
    """True for trained arrays, False for states."""
    return declaration.kind is Kind.PARAMETER
