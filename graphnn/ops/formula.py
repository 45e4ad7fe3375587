"""formulas: a short program as mathematics, such as `y = relu(x @ W + b)`, for people to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from textwrap import wrap
from typing import Any

from graphnn.ir.dimension import Shape
from graphnn.ir.program import Instruction, Program, Value
from graphnn.ops.op import Op

# Sign and binding strength of the ops that have one; others are written as functions.
COMPARE, SUM, PRODUCT, SIGN, POWER, ATOM = range(6)
SIGNS: dict[str, tuple[str, int]] = {
    "add": ("+", SUM), "subtract": ("-", SUM), "multiply": ("*", PRODUCT), "divide": ("/", PRODUCT),
    "matmul": ("@", PRODUCT), "equal": ("==", COMPARE), "not_equal": ("!=", COMPARE), "less": ("<", COMPARE),
    "less_equal": ("<=", COMPARE), "greater": (">", COMPARE), "greater_equal": (">=", COMPARE),
}  # fmt: skip
SHORT = {
    "convolution": "conv", "convolution_input_gradient": "conv_dx", "convolution_weight_gradient": "conv_dW",
    "absolute": "abs",
}  # fmt: skip
HIDDEN = {"shape", "dtype", "padding"}  # attributes that the shapes of the values show
LONGEST = 90  # of an expression that is written where it is used
WIDTH = 100


@dataclass(frozen=True)
class Term:
    """Text, and how strongly its outermost sign binds."""

    text: str
    strength: int = ATOM

    def within(self, strength: int) -> str:
        """The text, in brackets where it binds less than what is around it."""
        return self.text if self.strength >= strength else f"({self.text})"


def formulas(body: Program, names: Mapping[Value, str], width: int = WIDTH) -> list[str]:
    """One formula for each output, and for each value inside that is used more than once.

    Args:
        body: of a fused group; any program will do.
        names: of its inputs and outputs; others are called t1, t2...
        width: where long lines are broken.
    """
    writer = _Writer(body, names)
    return [part for line in writer.lines() for part in _broken(line, width)]


def formula(op: Op, inputs: Sequence[Value], outputs: Sequence[Value], names: Mapping[Value, str]) -> list[str]:
    """That of a single op."""
    return formulas(Program(tuple(inputs), (Instruction(op, tuple(inputs), tuple(outputs)),), tuple(outputs)), names)


def _broken(line: str, width: int) -> list[str]:
    indent = " " * (line.find("=") + 2)
    return wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


class _Writer:
    def __init__(self, body: Program, names: Mapping[Value, str]):
        self._body, self._names = body, names
        self._makers = {value: i for i in body.instructions for value in i.outputs}
        self._uses = {value: 0 for i in body.instructions for value in i.outputs}
        for value in (value for i in body.instructions for value in i.inputs):
            self._uses[value] = self._uses.get(value, 0) + 1
        self._skipped: set[Instruction] = set()
        self._relus = {i: value for i in body.instructions if (value := self._relu(i)) is not None}
        self._terms: dict[Value, Term] = {value: Term(names[value]) for value in body.inputs}

    def lines(self) -> list[str]:
        """In order of the instructions."""
        found: list[str] = []
        for i in self._body.instructions:
            if i in self._skipped:
                continue
            term = self._term(i)
            if len(i.outputs) == 1 and not self._stands_alone(i, i.outputs[0], term):
                self._terms[i.outputs[0]] = term
                continue
            called = [self._name(value) for value in i.outputs]
            found.append(f"{', '.join(called)} = {term.text}")
            self._terms |= {value: Term(name) for value, name in zip(i.outputs, called, strict=True)}
        return found

    def _stands_alone(self, i: Instruction, value: Value, term: Term) -> bool:
        if value in self._body.outputs:
            return True
        is_short = term.strength == ATOM and len(term.text) < 12 and "(" not in term.text
        return not is_short and (self._uses[value] > 1 or len(term.text) > LONGEST)

    def _name(self, value: Value) -> str:
        if value not in self._names:
            self._names = {**self._names, value: f"t{1 + sum(v not in self._body.inputs for v in self._inner())}"}
        return self._names[value]

    def _inner(self) -> list[Value]:
        outer = {*self._body.inputs, *self._body.outputs}
        return [value for value in self._names if value not in outer and value in self._makers]

    # -- what is recognised -------------------------------------------------------------------------------------------

    def _relu(self, i: Instruction) -> Value | None:
        """The x of `where(x <= 0, 0, x)`; the comparison is not written then, unless it is a result itself."""
        if i.op.name != "where":
            return None
        condition, zero, x = i.inputs
        compare = self._makers.get(condition)
        if compare is None or compare.op.name != "less_equal" or compare.inputs[0] is not x:
            return None
        if not (self._is_zero(zero) and self._is_zero(compare.inputs[1])) or self._uses[condition] != 1:
            return None
        if condition not in self._body.outputs:
            self._uses[x] -= 1
            self._skipped.add(compare)
        return x

    def _is_zero(self, value: Value) -> bool:
        maker = self._makers.get(value)
        return maker is not None and maker.op.name == "fill" and not _attribute(maker.op, "value")

    # -- terms --------------------------------------------------------------------------------------------------------

    def _term(self, i: Instruction) -> Term:
        name = i.op.name
        if i in self._relus:
            return Term(f"relu({self._terms[self._relus[i]].text})")
        if name == "fill":
            return _number(_attribute(i.op, "value"))
        terms = [self._terms[value] for value in i.inputs]
        if name in SIGNS:
            sign, strength = SIGNS[name]
            return Term(f"{terms[0].within(strength)} {sign} {terms[1].within(strength + 1)}", strength)
        if name == "negative":
            return Term("-" + terms[0].within(SIGN), SIGN)
        if name == "power":
            return Term(f"{terms[0].within(ATOM)} ** {terms[1].within(ATOM)}", POWER)
        return self._moved(i, terms) or _function(i, [term.text for term in terms])

    def _moved(self, i: Instruction, terms: Sequence[Term]) -> Term | None:
        """What only repeats elements or names axes of size 1 is left out; matrices are transposed by `.T`."""
        source, target = (i.inputs or i.outputs)[0].spec.shape, i.outputs[0].spec.shape
        if i.op.name == "broadcast_to" or (i.op.name == "reshape" and _long(source) == _long(target)):
            return terms[0]
        rank = len(source)
        if i.op.name == "transpose" and _attribute(i.op, "order") == (*range(rank - 2), rank - 1, rank - 2):
            return Term(terms[0].within(ATOM) + ".T")
        if i.op.name == "cast":
            return Term(f"{_attribute(i.op, 'dtype')}({terms[0].text})")
        if i.op.name == "reshape":
            return Term(f"reshape({terms[0].text}, {_shape(target)})")
        return None


def _function(i: Instruction, arguments: list[str]) -> Term:
    name = SHORT.get(i.op.name, i.op.name)
    if i.op.name in ("sum", "max", "min"):
        axes = _attribute(i.op, "axes")
        every = len(axes) == len(i.inputs[0].spec.shape)
        return Term(f"{name}({arguments[0]}{'' if every else f', axis={_plain(axes)}'})")
    return Term(f"{name}({', '.join([*arguments, *_attributes(i.op)])})")


def _attributes(op: Any) -> list[str]:
    """Those that differ from their defaults, or from 1 where they count."""
    found = []
    for each in fields(op) if isinstance(op, Op) else ():
        value = getattr(op, each.name)
        is_default = each.default is not MISSING and value == each.default
        if each.name in HIDDEN or is_default or value in ((1,), (1, 1), (1, 1, 1)) or isinstance(value, Program):
            continue
        found.append(f"{each.name}={_plain(value)}")
    return found


def _plain(value: Any) -> str:
    if isinstance(value, tuple) and value and len(set(value)) == 1:
        value = value[0]
    return str(value)


def _attribute(op: Any, name: str) -> Any:
    return getattr(op, name)


def _number(value: Any) -> Term:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return Term(text, SIGN if text.startswith("-") else ATOM)


def _long(shape: Shape) -> tuple[Any, ...]:
    return tuple(size for size in shape if size != 1)


def _shape(shape: Shape) -> str:
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"
