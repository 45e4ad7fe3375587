"""Arrays by path, and the check of a call's arrays against the graph's inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from operator import attrgetter
from typing import Any, NoReturn

import numpy as np

from graphnn.backends.reference import array_module_of
from graphnn.errors import DTypeError, GraphError, ParameterError, ShapeError
from graphnn.graph.graph import Graph
from graphnn.graph.layer import InputNode
from graphnn.ir.dimension import Dimension, bind
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.op import Array


class ArrayStore(MutableMapping[str, Array]):
    """An ordered mapping path -> array whose paths, shapes and dtypes are fixed.

    Reading gives the array itself: `store["fc/W"][0] = 1` changes the model. Assigning copies into it.
    """

    def __init__(self, arrays: Mapping[str, Array]):
        self._arrays = dict(arrays)
        self.version = 0  # grows with every assignment; runs notice that parameters changed under them

    def __getitem__(self, path: str) -> Array:
        if path not in self._arrays:
            raise ParameterError("there is no such array", where=repr(path), expected=_listing(self._arrays))
        return self._arrays[path]

    def __setitem__(self, path: str, new: Any) -> None:
        self.update({path: new})

    def update(self, other: Any = (), /, **named: Any) -> None:
        """Assign several arrays: all of them, or none if one does not fit.

        Raises:
            ParameterError: an unknown path, or an array of another shape or dtype.
        """
        given = dict(other, **named)
        checked = {path: self._check(path, new) for path, new in given.items()}
        for path, new in checked.items():
            self._arrays[path][...] = new
            self.version += 1

    def _check(self, path: str, new: Any) -> Any:
        array = self[path]
        new = as_array(new, path)
        if tuple(new.shape) != tuple(array.shape):
            raise ParameterError(
                "an array of another shape cannot be assigned", where=path, expected=array.shape, got=new.shape
            )
        if new.dtype != array.dtype and not _narrows(new.dtype, array.dtype):
            raise ParameterError(
                "an array of another dtype cannot be assigned", where=path, expected=array.dtype, got=new.dtype
            )
        return array_module_of(array).asarray(new)

    def __delitem__(self, path: str) -> None:
        raise ParameterError("arrays cannot be deleted", where=path, fix="change the graph instead")

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        rows = [f"  {path}: {array.dtype}{list(array.shape)}" for path, array in self._arrays.items()]
        return "\n".join([f"{len(rows)} arrays", *rows])


def store(name: str, doc: str) -> Any:
    """A property of an object that keeps an ArrayStore as `_name`; it says how to assign to its arrays instead."""

    def refuse(owner: object, value: object) -> NoReturn:
        raise ParameterError(f"`{name}` stays; assign to its arrays", fix=f"model.{name}.update(...)")

    return property(attrgetter(f"_{name}"), refuse, doc=doc)


def as_array(value: Any, where: str) -> Any:
    """`value` itself where it is an array of NumPy or CuPy, else a NumPy array of it: of a list, a number...

    Raises:
        DTypeError: it is no array of numbers.
    """
    if isinstance(value, np.ndarray) or hasattr(value, "__cuda_array_interface__"):
        return value
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        expected = "an array, a number, or nested lists of equal lengths"
        raise DTypeError("this is no array", where=where, expected=expected, got=str(error)) from error
    if array.dtype.kind not in "fiub":
        got = f"{type(value).__name__} of {array.dtype}"
        raise DTypeError("this is no array of numbers", where=where, expected="floats, integers or bools", got=got)
    return array


def _narrows(given: Any, wanted: Any) -> bool:
    """Any float may become the model's float type; so may integers whose every value it holds."""
    return given.kind == wanted.kind == "f" or np.can_cast(given, wanted, "safe")


def _listing(names: Mapping[str, Any]) -> str:
    shown = list(names)[:20]
    return ", ".join(shown) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def bind_inputs(
    graph: Graph, positional: Sequence[Any], named: Mapping[str, Any], dtype: str, where: str = ""
) -> tuple[dict[str, Any], dict[str, int]]:
    """Arrays by input name, checked, and the sizes that they give to named dimensions.

    Optional inputs that are not given are left out.

    Raises:
        GraphError: an input is missing, unknown or given twice.
        ShapeError: a rank or size differs, or one name would have two sizes.
        DTypeError: numbers of another kind.
    """
    names = [node.name for node in graph.inputs]
    where = where or graph.default_name
    if len(positional) > len(names):
        raise GraphError("too many inputs", where=where, expected=names, got=f"{len(positional)} arrays")
    given = dict(zip(names, positional, strict=False))
    for name, array in named.items():
        if name not in names or name in given:
            raise GraphError(f"no free input is called {name!r}", where=where, expected=names, got=repr(name))
        given[name] = array
    arrays, sizes, source = {}, {}, {}
    for node in graph.inputs:
        if given.get(node.name) is None:
            if not node.optional:
                raise GraphError("an input is missing", where=f"{where}/{node.name}", expected=node.spec, got="nothing")
            continue
        arrays[node.name] = check_array(given[node.name], node.spec, dtype, node.name)
        _bind_sizes(node, arrays[node.name].shape, sizes, source)
    return arrays, sizes


def check_keywords(graph: Graph) -> None:
    """Raise GraphError where an input or output has the name of an option of `forward` or `backward`."""
    inputs = [(node.name, node.declared_at) for node in graph.inputs if node.name in ("training", "retain", "keep")]
    for name, position in inputs + [(name, None) for name in graph.output_names if name == "accumulate"]:
        raise GraphError(
            "the name of an option cannot be that of an input or output", where=f"{graph.default_name}/{name}",
            expected="another name than training, retain, keep and accumulate", got=repr(name),
        ).locate("", position)  # fmt: skip


def check_array(array: Any, spec: TensorSpec, dtype: str, where: str) -> Any:
    """`array` with the dtype that `spec` asks for; floats take the model's dtype.

    Raises:
        ShapeError: the rank or an integer size differs.
        DTypeError: numbers of another kind (a float where integers belong, ...).
    """
    array = as_array(array, where)
    wanted = np.dtype(dtype if spec.is_float else spec.dtype)
    if array.dtype != wanted and not _fits_kind(array, wanted):
        raise DTypeError(
            "numbers of another kind", where=where, expected=wanted, got=array.dtype, fix="convert with astype"
        )
    shape = tuple(array.shape)
    fits = len(shape) == spec.rank and all(
        isinstance(size, Dimension) or size == n for size, n in zip(spec.shape, shape, strict=True)
    )
    if not fits:
        raise ShapeError("the array does not fit", where=where, expected=spec, got=f"{array.dtype}{list(shape)}")
    return array


def _fits_kind(array: Any, wanted: np.dtype[Any]) -> bool:
    """Floats become the wanted float; integers the wanted integer or float where every number keeps its value."""
    if array.dtype.kind == wanted.kind == "f":
        return True
    if array.dtype.kind in "iu" and wanted.kind in "iu":
        info = np.iinfo(wanted)
        return array.size == 0 or (int(array.min()) >= info.min and int(array.max()) <= info.max)
    return bool(np.can_cast(array.dtype, wanted, "safe"))


def _bind_sizes(node: InputNode, shape: Sequence[int], sizes: dict[str, int], source: dict[str, str]) -> None:
    for axis, (size, n) in enumerate(zip(node.spec.shape, shape, strict=True)):
        name = str(size)
        if not isinstance(size, Dimension) or not name.isidentifier():
            continue
        if sizes.setdefault(name, n) != n:
            raise ShapeError(
                f"the dimension `{name}` would have two sizes", where=node.name, got=f"{n} on axis {axis}",
                expected=f"{sizes[name]}, as in {source[name]}",
            )  # fmt: skip
        source.setdefault(name, f"axis {axis} of {node.name}")


def check_expressions(graph: Graph, arrays: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
    """Sizes declared as expressions (`2*time`) must agree with the sizes that the names have.

    Raises:
        ShapeError: one does not.
    """
    for node in graph.inputs:
        if node.name in arrays:
            expected = tuple(bind(size, sizes) for size in node.spec.shape)
            if expected != tuple(arrays[node.name].shape):
                got = tuple(arrays[node.name].shape)
                raise ShapeError(
                    "the array does not fit", where=node.name, expected=f"{node.spec} = {expected}", got=got
                )
