"""Configurable: hyper-parameters as data, checked when made, found by name and written as plain data."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, TypeVar

from graphnn.errors import OptionError
from graphnn.graph.layer import snake_case


@dataclass(frozen=True)
class Configurable:
    """The dataclass fields are the hyper-parameters; equal fields make equal objects.

    A subclass that sets `family`, such as "loss", opens a family; all classes below it are known to `choose` by name.
    """

    family: ClassVar[str] = ""
    registry: ClassVar[dict[str, type[Configurable]]] = {}  # the classes of the family by class name
    intervals: ClassVar[dict[str, str]] = {}  # what numeric fields may be: "[0, 1)", "integer [1, inf)"

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if "family" in cls.__dict__:
            cls.registry = {}
        else:
            cls.registry[cls.__name__] = cls

    def __post_init__(self) -> None:
        for name, interval in self.intervals.items():
            self.check_number(name, interval)

    def check_number(self, name: str, interval: str) -> None:
        """Check that a field is a number within an interval; None passes where it is the default.

        Raises:
            OptionError: it is not.
        """
        value: Any = getattr(self, name)
        if value is None and any(f.name == name and f.default is None for f in dataclasses.fields(self)):
            return
        _, integer, bounds = interval.rpartition("integer ")
        kinds = Integral if integer else Real  # those of NumPy too
        if isinstance(value, bool) or not isinstance(value, kinds) or not _lies_within(float(value), bounds):
            expected = f"an integer in {bounds}" if integer else f"a number in {bounds}"
            raise OptionError(f"`{name}` does not fit", where=type(self).__name__, expected=expected, got=repr(value))
        if not isinstance(value, (int, float)):
            plain = int if integer else float
            object.__setattr__(self, name, plain(getattr(self, name)))

    def check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        """Check that a field is one of the words.

        Raises:
            OptionError: it is not.
        """
        if (value := getattr(self, name)) not in choices:
            expected, where = ", ".join(map(repr, choices)), type(self).__name__
            raise OptionError(f"`{name}` does not fit", where=where, expected=expected, got=repr(value))

    def options(self) -> dict[str, Any]:
        """The hyper-parameters by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def to_config(self) -> dict[str, Any]:
        """A JSON-able description, such as {"loss": "Huber", "delta": 1.0, ...}, which `choose` reads."""
        return {self.family: type(self).__name__, **{name: _plain(value) for name, value in self.options().items()}}


Member = TypeVar("Member", bound=Configurable)


def choose(family: type[Member], value: object) -> Member:
    """The member of a family that is meant: itself, its name in any usual spelling, or what `to_config` gave.

    Raises:
        OptionError: the name is unknown, or the options are not those of the class.
    """
    if isinstance(value, family):
        return value
    options: dict[str, Any] = {}
    if isinstance(value, Mapping):
        options = {str(name): option for name, option in value.items() if name != family.family}
        value = value.get(family.family)
    known = {_key(name): kind for name, kind in family.registry.items() if not inspect.isabstract(kind)}
    if not isinstance(value, str) or _key(value) not in known:
        names = ", ".join(snake_case(kind.__name__) for kind in known.values())
        expected = f"{names}, or an instance of {family.__name__}"
        raise OptionError(f"unknown {family.family}", expected=expected, got=repr(value))
    return _make(known[_key(value)], options)  # pyright: ignore[reportReturnType] (a family's registry holds its own)


def _make(kind: type[Configurable], options: Mapping[str, Any]) -> Configurable:
    fields = dataclasses.fields(kind)
    required = {field.name for field in fields if field.default is dataclasses.MISSING}
    if not required <= set(options) <= {field.name for field in fields}:
        expected, got = ", ".join(field.name for field in fields), ", ".join(options) or "none"
        raise OptionError("the options do not fit", where=kind.__name__, expected=expected or "none", got=got)
    return kind(**options)


def _lies_within(value: float, bounds: str) -> bool:
    low, high = (float(bound) for bound in bounds[1:-1].split(","))
    above = value >= low if bounds[0] == "[" else value > low
    return above and (value <= high if bounds[-1] == "]" else value < high)


def _plain(value: Any) -> Any:
    if isinstance(value, Configurable):
        return value.to_config()
    return list(value) if isinstance(value, tuple) else value


def _key(name: str) -> str:
    """One spelling for `CrossEntropy`, `cross_entropy` and `cross entropy`."""
    return "".join(letter for letter in name.lower() if letter.isalnum())
