"""structure: what two Programs have in common that differ in names and origins only."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import fields, is_dataclass

from graphnn.ir.program import Instruction, Operation, Program, Value


def structure(program: Program) -> Hashable:
    """Equal for programs that compute the same thing in the same order: ops, attributes, specs and wiring."""
    numbers: dict[Value, int] = {}
    for value in program.inputs:
        numbers[value] = len(numbers)
    rows = tuple(_row(instruction, numbers) for instruction in program.instructions)
    updates = tuple((numbers[old], numbers[new]) for old, new in program.updates)
    specs = tuple(value.spec for value in program.inputs)
    return specs, rows, tuple(numbers[value] for value in program.outputs), updates


def _row(instruction: Instruction, numbers: dict[Value, int]) -> Hashable:
    inputs = tuple(numbers[value] for value in instruction.inputs)
    for value in instruction.outputs:
        numbers[value] = len(numbers)
    return operation_key(instruction.op), inputs, tuple(value.spec for value in instruction.outputs)


def operation_key(op: Operation) -> Hashable:
    """The op and its attributes; 0.0 and -0.0, and 1 and True, are told apart."""
    attributes = ((field.name, _key(getattr(op, field.name))) for field in fields(op)) if is_dataclass(op) else ()
    return (type(op), *attributes)


def _key(attribute: object) -> Hashable:
    if isinstance(attribute, Program):
        return structure(attribute)
    if isinstance(attribute, float):
        return float, str(attribute), math.copysign(1.0, attribute)
    if isinstance(attribute, tuple):
        return tuple(map(_key, attribute))
    return type(attribute), attribute
