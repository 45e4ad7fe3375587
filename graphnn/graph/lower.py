"""lower: from a Graph to a Program under construction, with integer sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from graphnn.errors import GraphnnError
from graphnn.graph.flatten import FlatGraph, Leaf, flatten
from graphnn.graph.graph import Graph, Source
from graphnn.graph.layer import flatten_structure
from graphnn.graph.scope import Context, Scope
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Origin
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.creation import fill
from graphnn.ops.op import Tensor


@dataclass(frozen=True, eq=False)
class Lowered:
    """A graph's forward instructions in a builder, ready for a loss, gradients and updates.

    Args:
        context: builder, declared parameters and states.
        inputs: INPUT tensors by name.
        nodes: output tensors of every leaf and every inner graph, by path.
        outputs: the graph's outputs.
    """

    context: Context
    inputs: Mapping[str, Tensor]
    nodes: Mapping[str, tuple[Tensor, ...]]
    outputs: tuple[Tensor, ...]

    @property
    def builder(self) -> ProgramBuilder:
        """Where further instructions go."""
        return self.context.builder


def lower(
    graph: Graph,
    input_specs: Mapping[str, TensorSpec],
    *,
    training: bool = False,
    dtype: str = "float32",
    is_frozen: Callable[[str], bool] = lambda path: False,
    flat: FlatGraph | None = None,
) -> Lowered:
    """Lower every leaf node in forward order.

    Args:
        graph: what to lower.
        input_specs: integer spec of each input of the graph.
        training: mode that layers see.
        dtype: of parameters.
        is_frozen: whether a node path is frozen.
        flat: `flatten(graph)`, if it is at hand.

    Raises:
        GraphnnError: a layer refuses the sizes; names the node and the user's line.
    """
    context = Context(ProgramBuilder(), training, dtype, is_frozen)
    flat = flat or flatten(graph)
    sizes = bind_names(graph, input_specs)
    inputs = {
        node.name: Tensor(context.builder, context.builder.input(node.name, input_specs[node.name]))
        for node in graph.inputs
    }
    nodes: dict[str, tuple[Tensor, ...]] = {name: (tensor,) for name, tensor in inputs.items()}

    def resolve(source: Source | TensorSpec) -> Tensor:
        if isinstance(source, TensorSpec):
            spec = source.bind(sizes)
            return fill(context.builder, 0, spec.shape, dtype if spec.is_float else spec.dtype)
        return nodes[source.name][source.index]

    for leaf in flat.leaves:
        nodes[leaf.path] = _lower_leaf(context, leaf, tuple(map(resolve, leaf.inputs)))
    outputs = tuple(map(resolve, flat.outputs))
    groups = {path: tuple(map(resolve, sources)) for path, sources in flat.groups.items()}
    return Lowered(context, inputs, {path: nodes[path] for path in nodes if path not in inputs} | groups, outputs)


def _lower_leaf(context: Context, leaf: Leaf, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    try:
        with context.builder.at(Origin(leaf.path)):
            outputs, _ = flatten_structure(leaf.layer.lower(Scope(context, leaf.path, leaf.owner), *inputs))
    except GraphnnError as error:
        error.locate(leaf.path, leaf.declared_at)
        raise
    return outputs


def bind_names(graph: Graph, specs: Mapping[str, TensorSpec]) -> dict[str, int]:
    """Sizes of the graph's named dimensions, read off concrete input specs."""
    sizes: dict[str, int] = {}
    for node in graph.inputs:
        for declared, given in zip(node.spec.shape, specs[node.name].shape, strict=True):
            if str(declared).isidentifier():
                sizes.setdefault(str(declared), given.__index__())
    return sizes
