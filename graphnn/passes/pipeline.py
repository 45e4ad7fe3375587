"""run_passes: the rewriting of a Program, verified after each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

from graphnn.errors import PassError
from graphnn.ir.program import Program
from graphnn.ir.verify import instructions_within, verify
from graphnn.passes.bodies import rewrite_bodies
from graphnn.passes.dead import remove_dead
from graphnn.passes.merge import merge_common
from graphnn.passes.simplify import simplify

Pass = Callable[[Program], Program]
CLEANING: tuple[Pass, ...] = (remove_dead, simplify, merge_common, remove_dead)


def clean_bodies(program: Program) -> Program:
    """The cleaning passes, applied to what is inside of loops."""
    return rewrite_bodies(program, lambda body: reduce(lambda cleaned, rewrite: rewrite(cleaned), CLEANING, body))


STANDARD_PASSES: tuple[Pass, ...] = (*CLEANING, clean_bodies)


def run_passes(
    program: Program,
    passes: Sequence[Pass] = STANDARD_PASSES,
    on_pass: Callable[[str, Program], None] = lambda name, program: None,
) -> Program:
    """The program after all passes, in order.

    Args:
        program: stays as it is.
        passes: Program -> Program functions.
        on_pass: called with the name of each pass and its result; for looking on.

    Raises:
        PassError: a pass broke an invariant; names it and the passes that ran before.
    """
    verify(program)
    done: list[str] = []
    for rewrite in passes:
        name = getattr(rewrite, "__name__", repr(rewrite))
        before, program = program, rewrite(program)
        try:
            verify(program, known=instructions_within(before))
        except PassError as error:
            message = f"{error.message}\n  after pass {name} (before it: {', '.join(done) or 'none'})"
            raise PassError(message, where=error.where, expected=error.expected, got=error.got) from error
        done.append(name)
        on_pass(name, program)
    return program
