"""Pictures of a model: those of its graph, with what only a model knows: what is frozen and what is kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphnn.compile import Signature, kept_for_backward
from graphnn.errors import GraphnnError
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.model_summary import frozen_marks
from graphnn.render.render import render
from graphnn.render.svg import to_svg

if TYPE_CHECKING:
    from graphnn.model import Model

ANY_SIZE = 64  # of named dimensions; which values are kept does not depend on it


def model_svg(model: Model, view: str, depth: int | None, options: Mapping[str, Any]) -> str:
    """The drawing of a model as SVG text; see `Graph.to_svg`."""
    return to_svg(model.graph, view, depth, frozen_marks(model), **_with_kept(model, view, options))


def render_model(
    model: Model, path: str | os.PathLike[str], view: str, depth: int | None, options: Mapping[str, Any]
) -> None:
    """Write the drawing of a model to a file; see `Graph.render`."""
    known = options if Path(path).suffix.lower() == ".html" else _with_kept(model, view, options)  # a page shows none
    render(model.graph, path, view, depth, frozen_marks(model), **known)


def _with_kept(model: Model, view: str, options: Mapping[str, Any]) -> dict[str, Any]:
    return {"kept": kept_values(model), **options} if view == "backward" else dict(options)


def kept_values(model: Model) -> dict[str, tuple[str, ...]]:
    """What a training run keeps for its backward run, by node path; empty where no size fits all inputs."""
    names = dict.fromkeys(name for node in model.graph.inputs for name in sorted(node.spec.names))
    sizes = dict.fromkeys(names, ANY_SIZE)
    try:
        specs = tuple((node.name, _bound(node.spec, sizes, model.dtype)) for node in model.graph.inputs)
        signature = Signature(specs, True, model.dtype, model.frozen_nodes(), model.fixed_parameters())
        return kept_for_backward(model.graph, model.flat, signature)
    except GraphnnError:
        return {}


def _bound(spec: TensorSpec, sizes: Mapping[str, int], dtype: str) -> TensorSpec:
    return TensorSpec(spec.bind(sizes).shape, dtype if spec.is_float else spec.dtype)
