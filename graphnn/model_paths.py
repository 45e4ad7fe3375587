"""What a model knows by path: which parameters its leaves declare, and what a glob means."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from graphnn.errors import OptionError, ParameterError
from graphnn.graph.scope import ParameterDeclaration
from graphnn.ops.random import RandomStream


def declarations_of(leaves: Iterable[Any], dtype: str) -> dict[str, ParameterDeclaration]:
    """Parameters and states of all leaves by full path; a shared layer's stand once, at its owner."""
    result: dict[str, ParameterDeclaration] = {}
    for leaf in leaves:
        for d in leaf.declarations:
            path = leaf.owner + d.path
            result.setdefault(path, ParameterDeclaration(path, d.spec.with_dtype(dtype), d.initializer, d.kind))
    return result


def initial_array(declaration: ParameterDeclaration, seed: int) -> np.ndarray:
    """The array that a declaration starts with: a function of the seed and the path alone."""
    shape = tuple(map(int, declaration.spec.shape))
    return declaration.initializer(RandomStream(seed, declaration.path), shape, declaration.spec.dtype)


def ancestors(path: str) -> list[str]:
    """`a/b/c` -> a, a/b, a/b/c."""
    parts = path.split("/")
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


def match_all(patterns: Iterable[str], paths: list[str], what: str) -> list[str]:
    """Paths that match any of the globs.

    Raises:
        ParameterError: a pattern matches nothing.
    """
    patterns = list(patterns) if isinstance(patterns, Iterable) else [patterns]
    chosen: dict[str, None] = {}
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise OptionError(
                f"a pattern for a {what} is text", expected='a path or a glob: "conv_*"', got=repr(pattern)
            )
        found = [path for path in paths if fnmatchcase(path, pattern)]
        if not found and pattern != "*":
            listing = ", ".join(paths[:20])
            raise ParameterError(f"no {what} matches the pattern", where=repr(pattern), expected=f"one of {listing}")
        chosen.update(dict.fromkeys(found))
    return list(chosen)
