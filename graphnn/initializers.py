"""Initial values of parameters: rules from a shape and a random stream to an array.

The numbers are made in float64 and rounded once, so a float32 weight is the rounded float64 one. They depend on the
stream (seed and path) and the shape only, and on every machine they are the same (but see Orthogonal).

The fans of a weight, channels last (kernel..., in, out): fan_in = kernel * in, fan_out = kernel * out.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, final

import numpy as np

from graphnn.errors import DTypeError, OptionError, ShapeError
from graphnn.ir.tensor_spec import DTYPES, FLOATS
from graphnn.ops.random import RandomStream

SQRT_2 = math.sqrt(2.0)
CUT = 2.0  # standard deviations at which a truncated normal distribution ends
# What is left of the standard deviation after the cut: sqrt(1 - 2 c phi(c) / (2 Phi(c) - 1)) with c = CUT.
STD_AFTER_CUT = 0.87962566103423978


@dataclass(frozen=True)
class Initializer(ABC):
    """A rule for initial values; the dataclass fields are its hyper-parameters, all of them numbers.

    A subclass is known to `initializer` by its class name.
    """

    registry: ClassVar[dict[str, type[Initializer]]] = {}  # every rule by its class name
    accepts: ClassVar[tuple[str, ...]] = FLOATS

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        Initializer.registry[cls.__name__] = cls

    def __post_init__(self) -> None:
        for name, value in self.options().items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                where = type(self).__name__
                raise OptionError(f"`{name}` is not a number", where=where, expected="a finite float", got=repr(value))

    @abstractmethod
    def values(self, random: RandomStream, shape: tuple[int, ...]) -> np.ndarray:
        """The values in float64."""

    def __call__(self, random: RandomStream, shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
        """An array of the shape and the dtype, C-contiguous.

        Raises:
            DTypeError: random numbers were asked for in an integer dtype.
        """
        if dtype not in self.accepts:
            expected, where = ", ".join(self.accepts), type(self).__name__
            raise DTypeError("these initial values need another dtype", where=where, expected=expected, got=repr(dtype))
        return np.asarray(self.values(random, shape), dtype, order="C")

    def options(self) -> dict[str, float]:
        """The hyper-parameters by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def to_config(self) -> dict[str, str | float]:
        """A JSON-able description, such as {"initializer": "GlorotUniform", "gain": 1.0}; `initializer` reads it."""
        return {"initializer": type(self).__name__, **self.options()}


@final
class Zeros(Initializer):
    """0 everywhere."""

    accepts = DTYPES

    def values(self, random: RandomStream, shape: tuple[int, ...]) -> np.ndarray:
        """Draws nothing."""
        return np.zeros(shape)


@final
class Ones(Initializer):
    """1 everywhere."""

    accepts = DTYPES

    def values(self, random: RandomStream, shape: tuple[int, ...]) -> np.ndarray:
        """Draws nothing."""
        return np.ones(shape)


@final
@dataclass(frozen=True)
class Constant(Initializer):
    """`value` everywhere."""

    value: float
    accepts = DTYPES

    def values(self, random: RandomStream, shape: tuple[int, ...]) -> np.ndarray:
        """Draws nothing."""
        return np.full(shape, float(self.value))


@final
@dataclass(frozen=True)
class Identity(Initializer):
    """`gain` on the diagonal of a matrix, else 0: a recurrent layer that starts by keeping its state."""

    gain: float = 1.0

    def values(self, random: RandomStream, shape: tuple[int, ...]) -> np.ndarray:
        """Draws nothing; the shape must have rank 2."""
        if len(shape) != 2:
            raise ShapeError("an identity needs a matrix", where="Identity", expected="rank 2", got=shape)
        return float(self.gain) * np.eye(*shape)


@final
@dataclass(frozen=True)
class Uniform(Initializer):
    """Uniform from `low` to `high`."""

    low: float = -0.05
    high: float = 0.05

    def __post_init__(self) -> None:
        Initializer.__post_init__(self)
        if self.low > self.high:
            raise OptionError("the bounds stand in the wrong order", where="Uniform", expected="low <= high", got=self)

    def values(self, random: RandomStream, shape: tuple[int, ...]) -> np.ndarray:
        """One draw."""
        return self.low + (self.high - self.low) * random.uniform(shape)


@final
@dataclass(frozen=True)
class Normal(Initializer):
    """Normal with `mean` and standard deviation `std`."""

    mean: float = 0.0
    std: float = 0.05

    def __post_init__(self) -> None:
        Initializer.__post_init__(self)
        check_std(self, self.std)

    def values(self, random: RandomStream, shape: tuple[int, ...]) -> np.ndarray:
        """One draw."""
        return self.mean + self.std * random.normal(shape)


@final
@dataclass(frozen=True)
class TruncatedNormal(Initializer):
    """Normal around 0 without its tails, of standard deviation `std` after the cut.

    The distribution that is cut, at two of its standard deviations, is wider by 1 / 0.8796: so the values reach to
    +-2.274 std, and their standard deviation is what was asked for.
    """

    std: float = 0.05

    def __post_init__(self) -> None:
        Initializer.__post_init__(self)
        check_std(self, self.std)

    def values(self, random: RandomStream, shape: tuple[int, ...]) -> np.ndarray:
        """What lies beyond the cut is drawn again until nothing does."""
        values = random.normal(shape).reshape(-1)
        beyond = np.flatnonzero(np.abs(values) > CUT)
        while beyond.size:
            values[beyond] = random.normal((beyond.size,))
            beyond = beyond[np.abs(values[beyond]) > CUT]
        return (self.std / STD_AFTER_CUT) * values.reshape(shape)


@final
@dataclass(frozen=True)
class GlorotUniform(Initializer):
    """Uniform with standard deviation gain * sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""

    gain: float = 1.0

    def values(self, random: RandomStream, shape: tuple[int, ...]) -> np.ndarray:
        """One draw."""
        return self.gain * _uniform(random, shape, sum(fans(shape)) / 2)


@final
@dataclass(frozen=True)
class GlorotNormal(Initializer):
    """Normal with standard deviation gain * sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""

    gain: float = 1.0

    def values(self, random: RandomStream, shape: tuple[int, ...]) -> np.ndarray:
        """One draw."""
        return self.gain * _normal(random, shape, sum(fans(shape)) / 2)


@final
@dataclass(frozen=True)
class HeUniform(Initializer):
    """Uniform with standard deviation gain / sqrt(fan_in) (He et al. 2015).

    The default gain is that of ReLU, sqrt(2); `gain_of("leaky_relu", slope)` gives sqrt(2 / (1 + slope**2)).
    """

    gain: float = SQRT_2

    def values(self, random: RandomStream, shape: tuple[int, ...]) -> np.ndarray:
        """One draw."""
        return self.gain * _uniform(random, shape, fans(shape)[0])


@final
@dataclass(frozen=True)
class HeNormal(Initializer):
    """Normal with standard deviation gain / sqrt(fan_in) (He et al. 2015); for the gain see HeUniform."""

    gain: float = SQRT_2

    def values(self, random: RandomStream, shape: tuple[int, ...]) -> np.ndarray:
        """One draw."""
        return self.gain * _normal(random, shape, fans(shape)[0])


@final
class LecunUniform(Initializer):
    """Uniform with standard deviation 1 / sqrt(fan_in) (LeCun et al. 1998)."""

    def values(self, random: RandomStream, shape: tuple[int, ...]) -> np.ndarray:
        """One draw."""
        return _uniform(random, shape, fans(shape)[0])


@final
class LecunNormal(Initializer):
    """Normal with standard deviation 1 / sqrt(fan_in) (LeCun et al. 1998)."""

    def values(self, random: RandomStream, shape: tuple[int, ...]) -> np.ndarray:
        """One draw."""
        return _normal(random, shape, fans(shape)[0])


@final
@dataclass(frozen=True)
class Orthogonal(Initializer):
    """`gain` times a random matrix with orthonormal rows or columns, whichever are fewer (Saxe et al. 2014).

    The matrix is (kernel * in, out), uniform among all such (Mezzadri 2007). It comes from a LAPACK
    factorization, so unlike all other rules it may differ between machines in its last bits.
    """

    gain: float = 1.0

    def values(self, random: RandomStream, shape: tuple[int, ...]) -> np.ndarray:
        """One draw; the shape must have rank 2 or more."""
        if len(shape) < 2:
            raise ShapeError(
                "orthogonal weights need a matrix", where="Orthogonal", expected="rank 2 or more", got=shape
            )
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(random.normal((max(rows, columns), min(rows, columns))))
        q = q * np.copysign(1.0, np.diagonal(r))  # the factorization is unique, and the result uniform, for positive r
        return self.gain * (q if rows >= columns else q.T).reshape(shape)


def check_std(rule: Initializer, std: float) -> None:
    """Raise OptionError for a negative standard deviation."""
    if std < 0:
        raise OptionError("a standard deviation is negative", where=type(rule).__name__, expected="0 or more", got=std)


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight of shape (kernel..., in, out); of a vector, both are its size."""
    if len(shape) < 2:
        return math.prod(shape), math.prod(shape)
    return math.prod(shape[:-1]), math.prod(shape[:-2]) * shape[-1]


def _uniform(random: RandomStream, shape: tuple[int, ...], fan: float) -> np.ndarray:
    """Mean 0, variance 1 / fan: a uniform distribution over +-limit has the variance limit**2 / 3."""
    return math.sqrt(3.0 / max(fan, 1)) * (2.0 * random.uniform(shape) - 1.0)


def _normal(random: RandomStream, shape: tuple[int, ...], fan: float) -> np.ndarray:
    """Mean 0, variance 1 / fan."""
    return random.normal(shape) / math.sqrt(max(fan, 1))


def gain_of(activation: str, slope: float = 0.01) -> float:
    """The factor on 1 / sqrt(fan_in) that keeps the variance through an activation; 1 for one that is not listed.

    relu sqrt(2), leaky_relu sqrt(2 / (1 + slope**2)) (He et al. 2015), tanh 5/3, selu 3/4 (as is customary).
    """
    gains = {"relu": SQRT_2, "leakyrelu": math.sqrt(2.0 / (1.0 + slope**2)), "tanh": 5.0 / 3.0, "selu": 0.75}
    return gains.get(_key(activation), 1.0)


ALIASES = {"std_normal": Normal(std=1.0), "trunc_normal": TruncatedNormal(std=1.0)}


def initializer(value: Initializer | str | Mapping[str, object]) -> Initializer:
    """The rule that is meant: itself, its name (`glorot_uniform` or `GlorotUniform`), or what `to_config` gave.

    Raises:
        OptionError: the name is unknown, or the options are not those of the rule.
    """
    if isinstance(value, Initializer):
        return value
    options: dict[str, object] = {}
    if isinstance(value, Mapping):
        options = {str(name): option for name, option in value.items() if name != "initializer"}
        value = str(value.get("initializer", ""))
    if not isinstance(value, str):
        raise OptionError("not an initializer", expected="an Initializer, its name or its config", got=repr(value))
    rules = {_key(name): rule for name, rule in Initializer.registry.items()}
    aliases = {_key(name): rule for name, rule in ALIASES.items()}
    if _key(value) in aliases and not options:
        return aliases[_key(value)]
    if _key(value) not in rules:
        raise OptionError("unknown initializer", expected=", ".join(sorted({*_names(), *ALIASES})), got=repr(value))
    return _make(rules[_key(value)], options)


def _make(rule: type[Initializer], options: Mapping[str, object]) -> Initializer:
    fields = dataclasses.fields(rule)
    required = {field.name for field in fields if field.default is dataclasses.MISSING}
    if not required <= set(options) <= {field.name for field in fields}:
        expected = ", ".join(field.name for field in fields) or "no options"
        raise OptionError(
            "options do not fit", where=rule.__name__, expected=expected, got=", ".join(options) or "none"
        )
    return rule(**options)


@lru_cache(maxsize=1024)  # called for every registered name each time a layer with weights is declared
def _key(name: str) -> str:
    """One spelling for `GlorotUniform`, `glorot_uniform` and `glorot uniform`."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _names() -> list[str]:
    """The registered names in snake case."""
    return ["".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_") for name in Initializer.registry]
