"""What the explorer says of one node: the lines in its box, and the card of the side panel."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from graphnn.graph.graph import Node
from graphnn.graph.layer import InputNode, Position
from graphnn.graph.scope import ParameterDeclaration
from graphnn.ir.program import Kind
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.render.describe import Parameters, outputs_of, plain, shape_text
from graphnn.render.explorer_layout import TEXT_SIZE, output_key
from graphnn.render.scene import Box
from graphnn.render.text import clean, plural, shorten, text_width

Card = dict[str, Any]
WIDEST_TITLE = 420
SHOWN_OUTPUTS = 3  # lines for outputs in a box; the card has all


def input_box(node: InputNode) -> Box:
    """The box of an input of a graph."""
    lines = (clean(node.name), shape_text(node.spec), *(["optional: else zeros"] if node.optional else []))
    return Box(node.name, "input", "Input", "input", lines, ())


def output_box(index: int, name: str, spec: TensorSpec) -> Box:
    """The box of an output of a graph."""
    lines = tuple(filter(None, (clean(name), shape_text(spec))))
    return Box(output_key(index), "output", "Output", "output", lines, ())


def node_box(node: Node, counts: Parameters) -> Box:
    """The box of a layer or of a closed module; it has the name, not the path, so that equal modules look equal."""
    role, category = ("module", "module") if node.graph is not None else ("layer", node.layer.category)
    outputs = outputs_of(node)
    if len(outputs) > SHOWN_OUTPUTS:
        outputs = [*outputs[: SHOWN_OUTPUTS - 1], f"and {len(outputs) - SHOWN_OUTPUTS + 1} more outputs"]
    inside = f"▸ {plural(len(node.graph.nodes), 'node')} inside" if node.graph is not None else ""
    lines = tuple(filter(None, (clean(node.name), *outputs, str(counts), inside)))
    title = clean(node.layer.kind)
    return Box(node.name, role, title, category, lines, (), frozen=counts.all_frozen, shared=counts.is_later_use)


def input_card(node: InputNode) -> Card:
    """Facts about an input of a graph."""
    card = {"kind": "Input", "outputs": [_output("", node.spec)], "optional": node.optional}
    return {key: value for key, value in card.items() if value}


def output_card(name: str, spec: TensorSpec) -> Card:
    """Facts about an output of a graph."""
    return {"kind": "Output", "outputs": [_output(name, spec)]}


def node_card(node: Node, counts: Parameters) -> Card:
    """Facts about a node; what is empty is left out."""
    own = node.declarations if node.graph is None else ()  # those of a module stand on the cards of its layers
    card = {
        "kind": clean(node.layer.kind),
        "outputs": [_output(name, spec) for name, spec in zip(node.output_names or ("",), node.specs, strict=True)],
        "hyperparameters": [[clean(key), plain(value)] for key, value in node.layer.hyperparameters.items()],
        "parameters": [_array(item) for item in own if item.kind is Kind.PARAMETER],
        "states": [_array(item) for item in own if item.kind is Kind.STATE],
        "counts": str(counts),
        "frozen": counts.all_frozen,
        "declared": shortened_position(node.declared_at),
        **(_title(node, counts) if node.graph is not None else {}),
    }
    return {key: value for key, value in card.items() if value}


def _output(name: str, spec: TensorSpec) -> list[str]:
    sizes = ", ".join(map(str, spec.shape)) + ("," if spec.rank == 1 else "")
    return [clean(name), f"({sizes})", spec.dtype]


def _array(declaration: ParameterDeclaration) -> list[str]:
    spec = declaration.spec
    return [clean(declaration.path.removeprefix("/")), shape_text(spec), f"{spec.size:,}"]


def _title(node: Node, counts: Parameters) -> Card:
    """The title of the frame of an open module, and the room that it needs."""
    text = " · ".join(filter(None, (clean(node.name), clean(node.layer.kind), str(counts))))
    text = shorten(text, TEXT_SIZE, WIDEST_TITLE, bold=True)
    return {"title": text, "title_width": round(text_width(text, TEXT_SIZE, bold=True))}


def shortened_position(position: Position) -> str:
    """`examples/digits.py:24`: no more of the path than that, because the rest may name a home folder."""
    file, line = position
    return clean(f"{'/'.join(PurePath(file).parts[-2:])}:{line}")
