"""verify: the invariants of a Program, checked after every pass."""

from __future__ import annotations

from collections.abc import Set

from graphnn.errors import GraphnnError, PassError
from graphnn.ir.program import Instruction, Kind, Program, Value
from graphnn.ir.text import instruction_text, name_values


def verify(program: Program, known: Set[Instruction] = frozenset()) -> Program:
    """Return `program` unchanged if every invariant holds.

    Checked: each value is defined once and before its use; INTERMEDIATE values come from instructions and only from
    there; each output spec is what the op's rule gives; updates keep kind and spec; outputs are defined. The same holds
    for the bodies of loops and groups.

    Args:
        program: what to check.
        known: instructions that stood in a verified program. They cannot have changed since, so their ops are not asked
            again: after a pass, that is most of the work.

    Raises:
        PassError: the first broken invariant, with the instructions around it.
    """
    defined: set[Value] = set()
    for value in program.inputs:
        if value.kind is Kind.INTERMEDIATE or value in defined:
            raise PassError(f"input {value!r} is an intermediate, or stands twice")
        defined.add(value)
    for index, instruction in enumerate(program.instructions):
        _verify_wiring(program, index, instruction, defined)
        if instruction not in known:
            _verify_rule(program, index, instruction, known)
        defined.update(instruction.outputs)
    _verify_results(program, defined)
    return program


def _verify_wiring(program: Program, index: int, instruction: Instruction, defined: set[Value]) -> None:
    for value in instruction.inputs:
        if value not in defined:
            raise _broken(program, index, f"input {value!r} is used before it is defined")
    for value in instruction.outputs:
        if value in defined or value.kind is not Kind.INTERMEDIATE:
            raise _broken(program, index, f"output {value!r} is defined twice, or is not an intermediate")


def _verify_rule(program: Program, index: int, instruction: Instruction, known: Set[Instruction]) -> None:
    specs = tuple(value.spec for value in instruction.outputs)
    try:
        inferred = instruction.op.infer(*(value.spec for value in instruction.inputs))
    except GraphnnError as error:
        raise _broken(program, index, f"the op refuses its inputs: {error}") from error
    if specs != inferred:
        raise _broken(program, index, "output specs differ from the op's rule", str(inferred), str(specs))
    body = _body(instruction)
    if body is not None:
        verify(body, known)


def instructions_within(program: Program) -> set[Instruction]:
    """Those of the program and of all bodies in it; for `known` of `verify`."""
    found: set[Instruction] = set()
    waiting = [program]
    while waiting:
        instructions = waiting.pop().instructions
        found.update(instructions)
        waiting += [body for body in map(_body, instructions) if body is not None]
    return found


def _body(instruction: Instruction) -> Program | None:
    body = getattr(instruction.op, "body", None)
    return body if isinstance(body, Program) else None


def _verify_results(program: Program, defined: set[Value]) -> None:
    for value in program.results:
        if value not in defined:
            raise PassError(f"result {value!r} is not defined")
    targets = [old for old, _ in program.updates]
    if len(set(targets)) != len(targets):
        raise PassError("a parameter or state is updated twice", got=str(targets))
    inputs = set(program.inputs)
    for old, new in program.updates:
        if old.kind not in (Kind.PARAMETER, Kind.STATE) or old not in inputs:
            raise PassError(f"update of {old!r}, which is no parameter or state of the program")
        if old.spec != new.spec:
            raise PassError("an update changes its spec", where=old.name, expected=old.spec, got=new.spec)


def _broken(program: Program, index: int, message: str, expected: str = "", got: str = "") -> PassError:
    names = name_values(program)
    first, last = max(0, index - 5), min(len(program.instructions), index + 6)
    around = [
        f"    {'->' if i == index else '  '} {instruction_text(program.instructions[i], names)}"
        for i in range(first, last)
    ]
    where = program.instructions[index].origin.path
    return PassError("\n".join([message, *around]), where=where, expected=expected, got=got)
