"""Attempt: a layer and the inputs that it could not be connected to, and the graph up to there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from graphnn.errors import GraphnnError

if TYPE_CHECKING:
    from graphnn.graph.graph import Graph
    from graphnn.graph.layer import Layer


class Attempt(NamedTuple):
    """What an error was raised about.

    Args:
        layer: that could not be connected.
        inputs: what it was called on: symbolic tensors, None, or things that are no input at all.
    """

    layer: Layer
    inputs: tuple[object, ...]

    def graph_so_far(self, layer_names: Mapping[int, str] | None) -> Graph | None:
        """All that the inputs depend on, with one output for each different one; None where that is no graph.

        Args:
            layer_names: by identity of the layer: the names in the module where the attempt was made.
        """
        from graphnn.graph.collect import collect_reachable
        from graphnn.graph.graph import Graph
        from graphnn.graph.layer import SymbolicTensor

        tensors = dict.fromkeys(tensor for tensor in self.inputs if isinstance(tensor, SymbolicTensor))
        try:
            return Graph(collect_reachable(list(tensors)), tuple(tensors), attribute_names=layer_names)
        except GraphnnError:  # nothing symbolic, or such as one name for two layers, which no graph has told yet
            return None
