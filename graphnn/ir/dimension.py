"""Named dimensions: integer expressions such as `batch`, `2*time - 1` or `(time + 1)//2`.

A Dimension is a polynomial over atoms, kept in one canonical form, so that equal expressions compare equal.
Constants fold to plain ints: a size is an `int` or a `Dimension`, and code that knows only ints keeps working.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from graphnn.errors import DimensionError

UNKNOWN_FIX = "declare this size as an integer, or compile with concrete shapes"
MAX_TEXT = 500  # characters; a size comes from a user or a file, never needs more


@dataclass(frozen=True, slots=True)
class Quotient:
    """The atom `numerator // divisor`."""

    numerator: Dimension
    divisor: int

    def __str__(self) -> str:
        text = str(self.numerator)
        return f"({text})//{self.divisor}" if not text.isidentifier() else f"{text}//{self.divisor}"


Atom: TypeAlias = str | Quotient
Monomial: TypeAlias = tuple[Atom, ...]


def _atom_key(atom: Atom) -> str:
    return str(atom)


def _monomial_key(monomial: Monomial) -> tuple[int, tuple[str, ...]]:
    return (-len(monomial), tuple(map(_atom_key, monomial)))


@dataclass(frozen=True, slots=True)
class Dimension:
    """A size that is known by name only; `terms` maps monomials to coefficients in canonical order."""

    terms: tuple[tuple[Monomial, int], ...]

    @staticmethod
    def named(name: str) -> Dimension:
        """The dimension called `name`."""
        return Dimension((((name,), 1),))

    def __add__(self, other: Size) -> Size:
        return _polynomial([*self.terms, *_terms(other)])

    def __mul__(self, other: Size) -> Size:
        products = [(tuple(sorted(a + b, key=_atom_key)), p * q) for a, p in self.terms for b, q in _terms(other)]
        return _polynomial(products)

    def __neg__(self) -> Size:
        return self * -1

    def __sub__(self, other: Size) -> Size:
        return self + other * -1

    def __rsub__(self, other: Size) -> Size:
        return self * -1 + other

    __radd__ = __add__
    __rmul__ = __mul__

    def __floordiv__(self, divisor: Size) -> Size:
        if isinstance(divisor, Dimension):
            return self._divide_by_dimension(divisor)
        if divisor == 1:
            return self
        if divisor <= 0:
            raise DimensionError("a dimension can only be divided by a positive integer", got=f"{self} // {divisor}")
        whole = [(monomial, c // divisor) for monomial, c in self.terms if c % divisor == 0 or not monomial]
        rest = [(monomial, c % divisor if not monomial else c) for monomial, c in self.terms if c % divisor]
        remainder = _polynomial(rest)
        if isinstance(remainder, int):
            return _polynomial(whole) + remainder // divisor
        return _polynomial([*whole, ((Quotient(remainder, divisor),), 1)])

    def _divide_by_dimension(self, divisor: Dimension) -> Size:
        """Exact division by a one-term dimension, as in `batch*time*8 // (batch*time)`."""
        if len(divisor.terms) == 1:
            (atoms, scale), quotient = divisor.terms[0], []
            for monomial, coefficient in self.terms:
                rest = _without(monomial, atoms)
                if rest is None or coefficient % scale:
                    break
                quotient.append((rest, coefficient // scale))
            else:
                return _polynomial(quotient)
        raise DimensionError("sizes do not divide for every value of their names", got=f"{self} // {divisor}")

    def __rfloordiv__(self, number: int) -> Size:
        if number == 0:
            return 0
        raise DimensionError("sizes do not divide for every value of their names", got=f"{number} // {self}")

    def __mod__(self, divisor: int) -> Size:
        return self - (self // divisor) * divisor

    def _compare(self, other: Size, test: Callable[[int], bool]) -> bool:
        difference = self - other
        if isinstance(difference, int):
            return test(difference)
        raise DimensionError("the order of these sizes is not known", got=f"{self} and {other}", fix=UNKNOWN_FIX)

    def __lt__(self, other: Size) -> bool:
        return self._compare(other, lambda d: d < 0)

    def __le__(self, other: Size) -> bool:
        return self._compare(other, lambda d: d <= 0)

    def __gt__(self, other: Size) -> bool:
        return self._compare(other, lambda d: d > 0)

    def __ge__(self, other: Size) -> bool:
        return self._compare(other, lambda d: d >= 0)

    def __index__(self) -> int:
        raise DimensionError(f"the size `{self}` is known by name only", fix=UNKNOWN_FIX)

    def __str__(self) -> str:
        parts = [_term_text(monomial, coefficient) for monomial, coefficient in self.terms]
        return " + ".join(parts).replace("+ -", "- ")

    __repr__ = __str__

    @property
    def names(self) -> frozenset[str]:
        """All names that the expression depends on."""
        atoms = [atom for monomial, _ in self.terms for atom in monomial]
        return frozenset().union(*({a} if isinstance(a, str) else a.numerator.names for a in atoms))


Size: TypeAlias = int | Dimension
Shape: TypeAlias = tuple[Size, ...]


def _term_text(monomial: Monomial, coefficient: int) -> str:
    if not monomial:
        return str(coefficient)
    is_product = len(monomial) > 1 or coefficient != 1  # 2*n//3 would mean (2*n)//3
    atoms = "*".join(f"({atom})" if is_product and isinstance(atom, Quotient) else str(atom) for atom in monomial)
    return {1: atoms, -1: f"-{atoms}"}.get(coefficient, f"{coefficient}*{atoms}")


def _terms(size: Size) -> Iterable[tuple[Monomial, int]]:
    return size.terms if isinstance(size, Dimension) else [((), int(size))]


def _without(monomial: Monomial, atoms: Monomial) -> Monomial | None:
    rest = list(monomial)
    for atom in atoms:
        if atom not in rest:
            return None
        rest.remove(atom)
    return tuple(rest)


def _polynomial(terms: Iterable[tuple[Monomial, int]]) -> Size:
    sums: dict[Monomial, int] = {}
    for monomial, coefficient in terms:
        sums[monomial] = sums.get(monomial, 0) + coefficient
    kept = sorted(((m, c) for m, c in sums.items() if c), key=lambda term: _monomial_key(term[0]))
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0]:
        return kept[0][1]
    return Dimension(tuple(kept))


def bind(size: Size, sizes: Mapping[str, int]) -> int:
    """The integer that `size` is under the given sizes of names.

    Raises:
        DimensionError: a name has no size.
    """
    if not isinstance(size, Dimension):
        return int(size)
    total = 0
    for monomial, coefficient in size.terms:
        for atom in monomial:
            coefficient *= _bind_atom(atom, sizes)
        total += coefficient
    return total


def _bind_atom(atom: Atom, sizes: Mapping[str, int]) -> int:
    if isinstance(atom, Quotient):
        return bind(atom.numerator, sizes) // atom.divisor
    if atom not in sizes:
        raise DimensionError(
            f"no input gives a size for the dimension `{atom}`", fix=f"give an input that has `{atom}`"
        )
    return sizes[atom]


def substitute(size: Size, sizes: Mapping[str, Size]) -> Size:
    """`size` with some names replaced by other sizes."""
    if not isinstance(size, Dimension):
        return size
    total: Size = 0
    for monomial, coefficient in size.terms:
        product: Size = coefficient
        for atom in monomial:
            product = product * _substitute_atom(atom, sizes)
        total = total + product
    return total


def _substitute_atom(atom: Atom, sizes: Mapping[str, Size]) -> Size:
    if isinstance(atom, Quotient):
        return substitute(atom.numerator, sizes) // atom.divisor
    return sizes.get(atom, Dimension.named(atom))


def parse_size(text: str) -> Size:
    """The size written as `text`: names, integers, + - * // and parentheses. Nothing is evaluated as Python.

    Raises:
        DimensionError: the text is anything else.
    """
    try:
        if len(text) <= MAX_TEXT:
            return _parse(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    raise DimensionError("not a size", expected="an integer or names with + - * //", got=repr(text[:60]))


def _parse(tree: ast.expr) -> Size:
    match tree:
        case ast.Name(id=name):
            return Dimension.named(name)
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _parse(operand) * -1
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _parse(left) + _parse(right)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _parse(left) - _parse(right)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _parse(left) * _parse(right)
        case ast.BinOp(left=left, op=ast.FloorDiv(), right=ast.Constant(value=int(divisor))):
            return _parse(left) // divisor
        case _:
            raise ValueError("not a size")


def is_known(size: Size) -> bool:
    """True for an int, False for a named dimension."""
    return not isinstance(size, Dimension)
