"""Module: a reusable sub-graph written as a class."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from graphnn.errors import GraphError, GraphnnError
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Composite, Input, Layer, SymbolicTensor, user_position
from graphnn.ir.tensor_spec import TensorSpec


class Module(Composite):
    """A layer made of layers. Make them in `__init__`, connect them in `forward`.

    Attributes that are layers, also in lists, tuples and dicts, give their nodes their names (`conv`, `blocks_0`).
    Calling the module twice shares all parameters.
    """

    _arguments: dict[str, Any]
    _expansions: dict[tuple[TensorSpec | None, ...], Graph]

    def __new__(cls, *args: Any, **kwargs: Any) -> Module:
        """Remember the arguments: they are the module's hyper-parameters."""
        module = super().__new__(cls)
        object.__setattr__(module, "_expansions", {})
        try:
            bound = inspect.signature(cls.__init__).bind(module, *args, **kwargs)
        except TypeError:  # __init__ itself will say it better
            bound = None
        if bound is not None:
            bound.apply_defaults()
        arguments = dict(list(bound.arguments.items())[1:]) if bound else {}
        arguments.pop("name", None)
        object.__setattr__(module, "_arguments", arguments)
        return module

    def __init__(self, name: str | None = None):
        super().__init__(name=name)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Connect layers to the symbolic inputs; returns a symbolic tensor, or a tuple or dict of them."""
        expected = f"def forward(self, ...) in {type(self).__name__}"
        raise GraphError("a module must define forward", where=self.default_name, expected=expected, got="none")

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The arguments of `__init__`."""
        return dict(self._arguments)

    @property
    def components(self) -> dict[str, Layer]:
        """The layers that the module holds, by node name, in the order they were assigned."""
        return dict(_components(vars(self)))

    def __call__(self, *inputs: SymbolicTensor | None, **named: SymbolicTensor | None) -> Any:
        """Use the module as a node of the graph being declared."""
        try:
            bound = inspect.signature(self.forward).bind(*inputs, **named)
        except TypeError as error:
            expected = f"forward{inspect.signature(self.forward)}"
            got = f"{len(inputs)} by position" + "".join(f", {name}=..." for name in named)
            wrong = GraphError(f"wrong inputs: {error}", where=self.default_name, expected=expected, got=got)
            raise wrong.locate("", user_position()) from None
        bound.apply_defaults()
        return super().__call__(*bound.args)

    def expand(self, specs: tuple[TensorSpec | None, ...]) -> Graph:
        """The inner graph for inputs of these specs, made by running `forward` once."""
        if specs not in self._expansions:
            self._expansions[specs] = self._trace(specs)
        return self._expansions[specs]

    def _trace(self, specs: tuple[TensorSpec | None, ...]) -> Graph:
        names = _input_names(self.forward, len(specs))
        inputs = [None if spec is None else _input(spec, name) for spec, name in zip(specs, names, strict=True)]
        attributes = {id(layer): name for name, layer in self.components.items()}
        given = [tensor for tensor in inputs if tensor is not None]
        try:
            graph = Graph(given, self.forward(*inputs), self.name, attributes)
            self._refuse_unregistered(graph, attributes)
        except GraphnnError as error:
            self._name_culprit(error, attributes)
            raise
        return graph.describe(self.kind, self.hyperparameters)

    def _name_culprit(self, error: GraphnnError, attributes: Mapping[int, str]) -> None:
        """Put the module's own name, and the attribute name of the layer at fault, into the error's path."""
        culprit = getattr(error, "culprit", None)
        name = attributes.get(id(culprit))
        if name is not None and isinstance(culprit, Layer) and error.where.startswith(culprit.default_name):
            error.where = name + error.where.removeprefix(culprit.default_name)
        error.where = f"{self.default_name}/{error.where}" if error.where else self.default_name
        error.culprit = self  # type: ignore[attr-defined]
        error.layer_names = error.layer_names or dict(attributes)

    def _refuse_unregistered(self, graph: Graph, attributes: Mapping[int, str]) -> None:
        for node in graph.nodes:
            if node.declarations and id(node.layer) not in attributes:
                raise GraphError(
                    "a layer with parameters is made inside forward, so a second call could not share them",
                    where=node.name, expected=f"an attribute of {self.kind} that holds it",
                    got=f"a new {node.layer.kind}", fix="make it in __init__ and assign it to self",
                ).locate("", node.declared_at)  # fmt: skip


def _input(spec: TensorSpec, name: str) -> SymbolicTensor:
    return Input(tuple(size if isinstance(size, int) else str(size) for size in spec.shape), name, spec.dtype)


def _components(attributes: Mapping[str, Any]) -> Iterator[tuple[str, Layer]]:
    for name, value in attributes.items():
        if isinstance(value, Layer):
            yield name, value
        elif isinstance(value, (list, tuple)):
            yield from _components({f"{name}_{index}": item for index, item in enumerate(value)})
        elif isinstance(value, dict) and not name.startswith("_"):
            yield from _components({f"{name}_{key}": item for key, item in value.items()})


def _input_names(forward: Any, count: int) -> list[str]:
    """Parameter names of `forward`; further inputs of a variadic one are numbered."""
    names: list[str] = []
    for parameter in inspect.signature(forward).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}_{index}" for index in range(count - len(names))]
        else:
            names.append(parameter.name)
    return names[:count]
