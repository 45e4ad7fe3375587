"""Graph: the declared DAG of named layer nodes. What users write, see, save, cut and join."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graphnn.errors import GraphError, GraphnnError
from graphnn.graph import schedule
from graphnn.graph.assemble import Blueprint, NodeRecord, assemble, check_input_specs
from graphnn.graph.collect import collect, name_calls
from graphnn.graph.layer import (
    Composite,
    InputNode,
    Layer,
    SymbolicTensor,
    arrange,
    check_name,
    flatten_structure,
    user_position,
)
from graphnn.graph.node import Edge, Node, Source
from graphnn.graph.sharing import check_sharing
from graphnn.graph.summary import Summary, summarize
from graphnn.ir.tensor_spec import TensorSpec


class Graph(Composite):
    """The DAG between `inputs` and `outputs`.

    Args:
        inputs: tensors made by `gnn.Input`, one or a list, in call order.
        outputs: one symbolic tensor, or a tuple or dict of them; a run returns this structure.
        name: used when the graph is a node of another graph.

    Attributes:
        inputs: tuple of InputNode.
        nodes: tuple of Node, in definition order (which is a forward order).
        output_names: names of the outputs, () for one unnamed output.
        outputs: tuple of Source.

    Raises:
        GraphError: disconnected, duplicate or reserved names, no symbolic tensors; says where and what to do.
    """

    inputs: tuple[InputNode, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Source, ...]
    output_names: tuple[str, ...]
    label: str  # class of the Module it was made by, or "Graph"
    _hyperparameters: dict[str, Any]

    def __init__(
        self,
        inputs: SymbolicTensor | Sequence[SymbolicTensor],
        outputs: SymbolicTensor | Sequence[SymbolicTensor] | Mapping[str, SymbolicTensor],
        name: str | None = None,
        attribute_names: Mapping[int, str] | None = None,
    ):
        super().__init__(name=name)
        try:
            self._declare(inputs, outputs, attribute_names or {})
        except GraphnnError as error:
            error.locate(self.default_name if name else "graph", user_position())
            raise

    def _declare(self, inputs: Any, outputs: Any, attribute_names: Mapping[int, str]) -> None:
        if self.name is not None:
            check_name(self.name)
        given = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
        flat, names = flatten_structure(outputs)
        named_inputs, calls = collect(given, flat, names)
        call_names = name_calls(named_inputs.values(), calls, attribute_names)
        place: dict[object, str] = {**{source: node.name for source, node in named_inputs.items()}, **call_names}
        self._set(
            inputs=tuple(named_inputs.values()),
            nodes=tuple(_node(call, place) for call in calls),
            outputs=tuple(Source(place[tensor.source], tensor.index) for tensor in flat),
            output_names=names,
            label="Graph",
            _hyperparameters={},
        )
        check_sharing(self.nodes)

    def _set(self, **attributes: Any) -> None:
        for key, value in attributes.items():
            object.__setattr__(self, key, value)
        specs = {node.name: (node.spec,) for node in self.inputs} | {node.name: node.specs for node in self.nodes}
        object.__setattr__(self, "_specs", specs)

    def __setattr__(self, key: str, value: object) -> None:
        expected, fix = "no assignment", "use graphnn.graph.surgery: its functions give a new graph"
        raise GraphError("a graph does not change", where=self.default_name, expected=expected, got=key, fix=fix)

    def describe(self, label: str, hyperparameters: dict[str, Any]) -> Graph:
        """The same graph, remembered as made by a Module class with these arguments."""
        object.__setattr__(self, "label", label)
        object.__setattr__(self, "_hyperparameters", hyperparameters)
        return self

    # -- reading ------------------------------------------------------------------------------------------------------

    @property
    def kind(self) -> str:
        """`Graph`, or the Module class it was made by."""
        return self.label

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Arguments of the Module it was made by."""
        return dict(self._hyperparameters)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """All connections, by target in definition order; two inputs from one node are two edges."""
        return tuple(
            Edge(source.name, source.index, node.name, position)
            for node in self.nodes
            for position, source in enumerate(node.inputs)
            if source is not None
        )

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """Specs of the outputs."""
        return tuple(self.spec_of(source) for source in self.outputs)

    def spec_of(self, source: Source) -> TensorSpec:
        """Spec of an output of a node or input of this graph."""
        return self._specs[source.name][source.index]  # type: ignore[attr-defined]

    def node(self, name: str) -> Node:
        """The node called `name`.

        Raises:
            GraphError: there is none; lists the names.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        names = ", ".join(node.name for node in self.nodes[:20])
        raise GraphError(f"no node is called {name!r}", where=self.default_name, expected=names, got=repr(name))

    def arrange(self, values: Iterable[Any]) -> Any:
        """Output values in the structure that the graph was declared with."""
        return arrange(list(values), self.output_names)

    # -- a graph is a layer -------------------------------------------------------------------------------------------

    def __call__(self, *inputs: SymbolicTensor | None, **named: SymbolicTensor | None) -> Any:
        """Use the graph as a node: its parameters are shared by all uses.

        Optional inputs may be left out.
        """
        names = [node.name for node in self.inputs]
        if len(inputs) > len(names) or set(named) - set(names[len(inputs) :]):
            raise GraphError(
                "unknown, repeated or too many inputs", where=self.default_name, expected=", ".join(names),
                got=f"{len(inputs)} by position" + "".join(f", {name}=..." for name in named),
            ).locate("", user_position())  # fmt: skip
        given = dict(zip(names, inputs, strict=False)) | named
        return super().__call__(*(given.get(name) for name in names))

    def expand(self, specs: tuple[TensorSpec | None, ...]) -> Graph:
        """This graph, or the same nodes re-inferred where the given specs differ from the declared ones."""
        renewed = check_input_specs(self, specs)
        if all(new == node.spec for new, node in zip(renewed, self.inputs, strict=True)):
            return self
        return self.with_input_specs(renewed)

    def with_input_specs(self, specs: Sequence[TensorSpec]) -> Graph:
        """The same layers on inputs of other specs."""
        blueprint = self.blueprint()
        inputs = tuple(
            InputNode(node.name, spec, node.optional, node.declared_at, node.serial)
            for node, spec in zip(self.inputs, specs, strict=True)
        )
        return self.rebuild(Blueprint(inputs, blueprint.nodes, blueprint.outputs, blueprint.output_names))

    def blueprint(self) -> Blueprint:
        """The description that `rebuild` makes graphs from; plain data, changed freely by surgery."""
        nodes = tuple(
            NodeRecord(
                n.name, n.layer, tuple(None if s is None else (s.name, s.index) for s in n.inputs), n.declared_at
            )
            for n in self.nodes
        )
        outputs = tuple((source.name, source.index) for source in self.outputs)
        return Blueprint(self.inputs, nodes, outputs, self.output_names)

    def rebuild(self, blueprint: Blueprint) -> Graph:
        """A new graph from a changed description; every node is checked again.

        Raises:
            GraphError: a cycle, an unknown source, or whatever a node refuses.
        """
        inputs, outputs = assemble(blueprint, self.default_name)
        return Graph(inputs, outputs, name=self.name).describe(self.label, self._hyperparameters)

    # -- doors to lower rooms -----------------------------------------------------------------------------------------

    def schedule(self) -> tuple[Node, ...]:
        """Nodes in forward order: a topological order, ties by definition order."""
        return schedule.forward_schedule(self)

    def backward_schedule(self) -> tuple[Node, ...]:
        """Nodes in backward order: the reverse, only those that a gradient visits."""
        return schedule.backward_schedule(self)

    def summary(self) -> Summary:
        """A printable table: path, layer, output shape, parameters, connected to; `.to_dict()` for data."""
        return summarize(self)

    def to_networkx(self) -> Any:
        """A networkx.MultiDiGraph with nodes by name and an edge per connection."""
        return schedule.to_networkx(self)

    def to_graphviz(self, depth: int | None = None) -> Any:
        """A graphviz.Digraph with `depth` levels of modules open, all by default."""
        from graphnn.render.dot import to_graphviz

        return to_graphviz(self, depth)

    def to_svg(self, view: str = "forward", depth: int | None = None, **options: Any) -> str:
        """The drawing as SVG text; the same graph gives the same bytes everywhere.

        Args:
            view: "forward", "backward" or "schedule"; "memory", "program" or "plan": what the graph becomes; "profile"
                or "values": numbers of a run. The last five need `sizes` or `inputs`.
            depth: how many levels of modules are open; None for all, or fewer in a large graph.
            options: direction, theme, expand, collapse, fold, show, overlay: see `graphnn.render.options.Options`; for
                the views of a run those of `graphnn.run_views.Request`.

        Raises:
            OptionError: an unknown view or option, or sizes are missing; says what to give.
            BackendError: there is no Graphviz.
        """
        from graphnn.model_views import draw

        return draw(self, view, depth, options)

    def render(self, path: str, view: str = "forward", depth: int | None = None, **options: Any) -> None:
        """Write the drawing to `path`: .svg, .html or .dot; `options` are those of `to_svg`.

        A page (.html) of a run has all its numbers, for the reader to choose from; those that `of` names come first.
        """
        from graphnn.model_views import write

        write(self, path, view, depth, options)

    def to_json(self) -> str:
        """Canonical JSON text of the graph; `Graph.from_json` reads it."""
        from graphnn.files.graph_json import to_json

        return to_json(self)

    @staticmethod
    def from_json(text: str, layers: Mapping[str, type[Layer]] | None = None) -> Graph:
        """The graph that `to_json` wrote; only known layer classes and those given in `layers` may occur."""
        from graphnn.files.graph_json import from_json

        return from_json(text, layers)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        from graphnn.render.mime import bundle

        return bundle(str(self.summary()), self.to_svg)

    def __repr__(self) -> str:
        sizes = f"{len(self.inputs)} inputs, {len(self.nodes)} nodes, {len(self.outputs)} outputs"
        return f"Graph({self.default_name!r}, {sizes})"


def _node(call: Any, place: Mapping[object, str]) -> Node:
    inputs = tuple(None if t is None else Source(place[t.source], t.index) for t in call.inputs)
    return Node(
        place[call], call.layer, inputs, call.specs, call.output_names, call.declarations, call.inner, call.declared_at
    )  # fmt: skip
