"""inspect_values: what the numbers in a run look like, and where the first NaN or infinity is."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from graphnn.errors import OptionError
from graphnn.graph.flatten import Leaf
from graphnn.model import Model
from graphnn.render.mime import bundle
from graphnn.render.overlay import Details, Overlay

GRADIENT = "dLd/"  # before the path of what it is the gradient of
OVERLAYS = ("outputs", "gradients")


@dataclass(frozen=True)
class Statistics:
    """One array in numbers; least, mean and largest are those of its finite elements, None where there is none.

    Args:
        name: "conv" for a node's output, "conv/W" for a parameter, "dLd/conv" and "dLd/conv/W" for their gradients.
        kind: "input", "output" (of a node), "parameter", "state" or "gradient".
        node: path of the node that it belongs to; for an input its own name.
        dtype: of the elements.
        shape: of the array.
        least: the smallest finite element.
        mean: of the finite elements.
        largest: the largest finite element.
        zeros: share of elements that are exactly 0.
        nan: number of elements that are not a number.
        inf: number of infinite elements.
    """

    name: str
    kind: str
    node: str
    dtype: str
    shape: tuple[int, ...]
    least: float | None
    mean: float | None
    largest: float | None
    zeros: float
    nan: int
    inf: int

    @property
    def is_bad(self) -> bool:
        """Whether there is a NaN or an infinity."""
        return self.nan + self.inf > 0

    @property
    def flag(self) -> str:
        """What is bad: "NaN", "Inf", "NaN, Inf" or nothing."""
        return ", ".join(text for text, count in (("NaN", self.nan), ("Inf", self.inf)) if count)

    @property
    def short_name(self) -> str:
        """The name without the path of the node: "W", "dLd/W"."""
        mark = GRADIENT if self.name.startswith(GRADIENT) else ""
        return mark + self.name.removeprefix(mark).removeprefix(self.node + "/")

    @property
    def range_text(self) -> str:
        """Least, mean and largest, and the share of zeros if there are any: `0 … 0.116 … 1.64 · 46.5% zeros`."""
        zeros = f" · {self.zeros:.1%} zeros" if self.zeros >= 0.0005 else ""
        return f"{_short(self.least)} … {_short(self.mean)} … {_short(self.largest)}{zeros}"


@dataclass(frozen=True)
class Values:
    """Statistics of a run; `str()` gives a table, `to_dict()` plain data, `overlay()` colours and flags for a drawing.

    Args:
        name: of the graph.
        rows: inputs, then node by node in forward order its parameters, states and outputs, then gradients in the
            order in which backward computes them.
    """

    name: str
    rows: tuple[Statistics, ...]

    def __getitem__(self, name: str) -> Statistics:
        """The row of this name.

        Raises:
            KeyError: there is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    @property
    def first_bad(self) -> Statistics | None:
        """The first row with a NaN or an infinity: in forward order, then in backward order."""
        return next((row for row in self.rows if row.is_bad), None)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able copy."""
        bad = self.first_bad
        rows = [{**asdict(row), "shape": list(row.shape)} for row in self.rows]
        return {"name": self.name, "rows": rows, "first_bad": bad.name if bad else None}

    def overlay(self, of: str = "outputs") -> Overlay:
        """For a drawing: colours for sizes, a line with least, mean, largest and zeros, flags for NaN and infinities.

        Args:
            of: "outputs" of the nodes, or "gradients" of the loss by them.

        Raises:
            OptionError: something else.
        """
        if of not in OVERLAYS:
            raise OptionError("there are no such values", where="of", expected=" or ".join(OVERLAYS), got=repr(of))
        kinds = ("gradient",) if of == "gradients" else ("input", "output")
        sizes: dict[str, float] = {}
        texts: dict[str, str] = {}
        flags = self._flags(of == "gradients")
        for row in self.rows:
            is_own = row.name.removeprefix(GRADIENT).partition(":")[0] == row.node
            if row.kind in kinds and is_own and row.node not in sizes and row.largest is not None:
                sizes[row.node] = max(abs(row.least or 0.0), abs(row.largest))
                texts[row.node] = row.range_text
        title = "largest gradient by magnitude" if of == "gradients" else "largest value by magnitude"
        notes = (
            "on each node: least … mean … largest, and how many are 0 if any",
            *([self._verdict()] if self.first_bad else []),
        )
        return Overlay(title, "", sizes, texts, flags, combine="max", notes=notes, details=self._details(of))

    def _details(self, of: str) -> Details:
        """The rows of each node: of its gradients, or all others."""
        found: dict[str, list[tuple[str, ...]]] = {}
        for row in self.rows:
            if (row.kind == "gradient") == (of == "gradients"):
                found.setdefault(row.node, []).append((_part_name(row), *_cells(row)[3:]))
        title = "gradients of this run" if of == "gradients" else "values of this run"
        return Details(title, HEADER[3:], {node: tuple(rows) for node, rows in found.items()})

    def _flags(self, gradients: bool) -> dict[str, str]:
        """What is bad at each node; the first of all says so, and stands beside the gradients that it spoils."""
        flags: dict[str, str] = {}
        bad = self.first_bad
        for row in self.rows:
            is_meant = (row.kind == "gradient") == gradients or (gradients and row is bad)
            if row.is_bad and row.node not in flags and is_meant:
                where = "" if row.name.removeprefix(GRADIENT) == row.node else f" in {row.short_name}"
                flags[row.node] = f"{'first ' if row is bad else ''}{row.flag}{where}"
        return flags

    def _verdict(self) -> str:
        bad = self.first_bad
        if bad is None:
            return "all values are finite"
        counts = [f"{count:,} {name}" for count, name in ((bad.nan, "NaN"), (bad.inf, "Inf")) if count]
        of = f"{math.prod(bad.shape):,}"
        return f"the first bad values are at {bad.node}: {bad.name} has {' and '.join(counts)} among {of}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return bundle(str(self))

    def __str__(self) -> str:
        lines = [HEADER, *map(_cells, self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
        texts = [_line(line, widths) for line in lines]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        return "\n".join([f"values of {self.name}", rule, texts[0], rule, *texts[1:], rule, self._verdict()])


HEADER = ("value", "kind", "dtype and shape", "least", "mean", "largest", "zeros", "bad")


def _part_name(row: Statistics) -> str:
    """What an array, or that of which it is the gradient, is to its node: "output", "output 1", "W"."""
    name, _, index = row.name.removeprefix(GRADIENT).partition(":")
    return f"output {index}".strip() if name == row.node else row.short_name.removeprefix(GRADIENT)


def _cells(row: Statistics) -> tuple[str, ...]:
    spec = f"{row.dtype}[{', '.join(map(str, row.shape))}]"
    numbers = (_short(number) for number in (row.least, row.mean, row.largest))
    bad = [f"{count:,} {name}" for count, name in ((row.nan, "NaN"), (row.inf, "Inf")) if count]
    return row.name, row.kind, spec, *numbers, f"{row.zeros:.1%}", " ".join(bad)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    texts = [
        cell.rjust(width) if 3 <= column <= 6 else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(texts).rstrip()


def _short(number: float | None) -> str:
    return "-" if number is None else f"{number:.3g}"


def statistics_of(name: str, kind: str, node: str, array: np.ndarray) -> Statistics:
    """The row of one array, computed in float64."""
    numbers = array.astype("float64") if array.dtype != np.float64 else array
    nan, inf = int(np.isnan(numbers).sum()), int(np.isinf(numbers).sum())
    finite = numbers[np.isfinite(numbers)] if nan + inf else numbers
    with np.errstate(over="ignore"):
        least, mean, largest = (
            (float(finite.min()), float(finite.mean()), float(finite.max())) if finite.size else (None,) * 3
        )
    zeros = float((numbers == 0).mean()) if numbers.size else 0.0
    return Statistics(
        name, kind, node, str(array.dtype), tuple(array.shape), least, mean, largest, zeros, nan, inf
    )  # fmt: skip


def inspect_values(
    model: Model, /, *inputs: Any, output_gradients: Any = None, training: bool = False, **named: Any
) -> Values:
    """Run the model and describe all its numbers: inputs, parameters, states, each node's output, gradients.

    The model stays as it is: no statistics, gradients or counters change.

    Args:
        model: what to run.
        inputs: as for `Model.forward`.
        output_gradients: an array, a sequence of arrays, or a dict by output name, as for `Model.backward`; None for no
            backward run.
        training: mode of the layers.
        named: inputs by name.

    Raises:
        GraphnnError: arrays do not fit.
    """
    rows: list[Statistics] = []
    with _unchanged(model):
        arrays, _ = model.bind(inputs, named, training)
        run = model.run(*inputs, training=training, retain=True, keep=output_gradients is not None, **named)
        rows += [statistics_of(name, "input", name, model.to_host(array)) for name, array in arrays.items()]
        seen: set[str] = set()
        for leaf in model.flat.leaves:
            rows += _stored(model, leaf, seen)
            rows += _outputs(model, leaf, run.derived_variables)
        if output_gradients is not None:
            rows += _gradients(model, run, output_gradients)
    return Values(model.graph.default_name, tuple(rows))


@contextmanager
def _unchanged(model: Model) -> Generator[None, None, None]:
    """Whatever happens inside, the model's states, gradients and step are then as before."""
    stores = [{path: array.copy() for path, array in store.items()} for store in (model.states, model.gradients)]
    step = model.step
    try:
        yield
    finally:
        model.step = step
        for store, kept in zip((model.states, model.gradients), stores, strict=True):
            for path, array in kept.items():
                store[path][...] = array


def _stored(model: Model, leaf: Leaf, seen: set[str]) -> Iterator[Statistics]:
    """Parameters and states of a node; shared ones at their first use."""
    for declaration in leaf.declarations:
        path = leaf.owner + declaration.path
        if path not in seen:
            seen.add(path)
            store, kind = (model.parameters, "parameter") if path in model.parameters else (model.states, "state")
            yield statistics_of(path, kind, leaf.path, model.to_host(store[path]))


def _outputs(
    model: Model, leaf: Leaf, derived: Mapping[str, Any], prefix: str = "", kind: str = "output"
) -> Iterator[Statistics]:
    """Outputs of a node, or with a prefix their gradients; one of several outputs is called `path:index`."""
    for name in (leaf.path, *(f"{leaf.path}:{index}" for index in range(len(leaf.specs)))):
        if prefix + name in derived:
            yield statistics_of(prefix + name, kind, leaf.path, model.to_host(derived[prefix + name]))


def _gradients(model: Model, run: Any, given: Any) -> Iterator[Statistics]:
    """In backward order: of each node its output's gradient, then its parameters'; at last the inputs'."""
    model.cleargrads()
    by_name = given if isinstance(given, Mapping) else {}
    by_place = () if isinstance(given, Mapping) else tuple(given) if isinstance(given, list | tuple) else (given,)
    found = run.backward(*by_place, **by_name)
    last_use = {leaf.owner: leaf.path for leaf in reversed(model.flat.leaves)}
    for leaf in reversed(model.flat.leaves):
        yield from _outputs(model, leaf, run.derived_variables, GRADIENT, "gradient")
        if last_use[leaf.owner] == leaf.path:  # then all uses have added to it
            paths = (leaf.owner + declaration.path for declaration in leaf.declarations)
            for path in (path for path in paths if path in model.gradients and path not in model.fixed_parameters()):
                yield statistics_of(GRADIENT + path, "gradient", leaf.path, model.to_host(model.gradients[path]))
    names = [node.name for node in model.graph.inputs if node.spec.is_float]
    by_input = found if isinstance(found, Mapping) else dict.fromkeys(names[:1], found)
    for name, array in by_input.items():
        yield statistics_of(GRADIENT + name, "gradient", name, model.to_host(array))
