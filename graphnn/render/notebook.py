"""What notebooks show in place of `repr`: a text, and a drawing where one can be made."""

from __future__ import annotations

from collections.abc import Callable

from graphnn.errors import BackendError
from graphnn.ir.program import Program
from graphnn.ir.text import to_text
from graphnn.plan.plan import Plan
from graphnn.render.plan_drawing import plan_svg, plan_text
from graphnn.render.program_drawing import program_svg

TEXT, SVG = "text/plain", "image/svg+xml"


def bundle(text: str, draw: Callable[[], str] | None = None) -> dict[str, str]:
    """Contents by MIME type, as `_repr_mimebundle_` returns them.

    Args:
        text: for frontends that show no pictures.
        draw: makes the drawing as SVG text. Without a Graphviz the text stands alone: a cell shall not fail for that.
    """
    contents = {TEXT: text}
    if draw is not None:
        try:
            contents[SVG] = draw()
        except BackendError:
            return contents
    return contents


def program_bundle(program: Program) -> dict[str, str]:
    """Its canonical text, and its ops in boxes."""
    return bundle(to_text(program), lambda: program_svg(program))


def plan_bundle(plan: Plan) -> dict[str, str]:
    """Its table of steps, as text and as a picture."""
    return bundle(plan_text(plan), lambda: plan_svg(plan))
