"""Canonical text of a Program, for reading, tests, errors and cache keys."""

from __future__ import annotations

from graphnn.ir.program import Instruction, Phase, Program, Value


def to_text(program: Program) -> str:
    """One line per instruction; values are numbered in order of definition, so equal programs give equal text."""
    names = name_values(program)
    lines = [f"  {value.kind.value} %{names[value]}: {value.spec}  # {value.name}" for value in program.inputs]
    lines += [f"  {instruction_text(instruction, names)}" for instruction in program.instructions]
    lines += [f"  update %{names[old]} <- %{names[new]}" for old, new in program.updates]
    lines += ["  return " + ", ".join(f"%{names[value]}" for value in program.outputs)]
    return "\n".join(["program {", *lines, "}"])


def name_values(program: Program) -> dict[Value, str]:
    """Numbers for all values, in order of definition."""
    names: dict[Value, str] = {}
    for value in [*program.inputs, *(v for i in program.instructions for v in i.outputs)]:
        names.setdefault(value, str(len(names)))
    return names


def instruction_text(instruction: Instruction, names: dict[Value, str]) -> str:
    """`%5: float32[2, 3] = tanh(%4)  # block/tanh` with the op's attributes in brackets."""
    outputs = ", ".join(f"%{names[value]}: {value.spec}" for value in instruction.outputs)
    inputs = ", ".join(f"%{names.get(value, value.name)}" for value in instruction.inputs)
    origin = instruction.origin
    phase = "" if origin.phase is Phase.FORWARD else f" ({origin.phase.value})"
    comment = f"  # {origin.path}{phase}" if origin.path or phase else ""
    return f"{outputs} = {instruction.op}({inputs}){comment}"
