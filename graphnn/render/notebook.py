"""What notebooks show for a Program and a Plan: a text, and a drawing where one can be made."""

from __future__ import annotations

from graphnn.ir.program import Program
from graphnn.ir.text import to_text
from graphnn.plan.plan import Plan
from graphnn.render.mime import bundle
from graphnn.render.plan_drawing import plan_svg, plan_text
from graphnn.render.program_drawing import program_svg


def program_bundle(program: Program) -> dict[str, str]:
    """Its canonical text, and its ops in boxes."""
    return bundle(to_text(program), lambda: program_svg(program))


def plan_bundle(plan: Plan) -> dict[str, str]:
    """Its table of steps, as text and as a picture."""
    return bundle(plan_text(plan), lambda: plan_svg(plan))
