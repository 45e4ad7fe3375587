"""Options: how a graph is drawn, checked once at the border."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from graphnn.errors import OptionError
from graphnn.graph.graph import Graph
from graphnn.graph.summary import walk
from graphnn.render.overlay import Overlay
from graphnn.render.palette import THEMES

Paths: TypeAlias = str | Iterable[str] | Callable[[str], bool]  # globs, or a predicate on paths
DIRECTIONS = ("down", "right")
COUNTED = ("flops", "memory", "device")  # lines of these are in `facts`; graphnn.node_costs makes them
SHOWN = ("dtype", "hyperparameters", "inputs", "order", *COUNTED)


def never(path: str) -> bool:
    """No node at all."""
    return False


@dataclass(frozen=True)
class Options:
    """How a graph is drawn; all have defaults.

    Args:
        depth: how many levels of modules are open: 0 for none; None for all, or fewer in a large graph.
        is_frozen: whether the node at a path is frozen.
        direction: "down" or "right": where data flow to.
        theme: "light", "dark", or "auto" for what the reader's system prefers.
        expand: paths of modules that are open at any depth, with those around them: globs, or a predicate on paths.
        collapse: paths of modules that are closed at any depth; stronger than `expand`.
        fold: draw equal neighbours in a chain once, with their number. Only the forward view without an overlay
            does.
        show: further lines on every node: "dtype", "hyperparameters", "inputs", "order"; "flops" and "memory" (bytes of
            parameters and output), which need `sizes` or `inputs` where dimensions are named; of a model "device".
        overlay: numbers that colour the nodes; of several, a page lets its reader choose, and a still picture shows the
            first.
        kept: what a forward run keeps for the backward one, by node path, one line for each value.
        facts: further lines by node path, "" for the whole; with them nothing is folded.

    Raises:
        OptionError: a value that is not allowed; says which are.
    """

    depth: int | None = None
    is_frozen: Callable[[str], bool] = never
    direction: str = "down"
    theme: str = "auto"
    expand: Paths = ()
    collapse: Paths = ()
    fold: bool = False
    show: Collection[str] = ()
    overlay: Overlay | list[Overlay] | tuple[Overlay, ...] | None = None
    kept: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    facts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.depth is not None and (
            isinstance(self.depth, bool) or not isinstance(self.depth, int) or self.depth < 0
        ):
            raise OptionError("not a depth", where="depth", expected="None, 0, 1, 2...", got=repr(self.depth))
        _check("direction", [self.direction], DIRECTIONS)
        _check("theme", [self.theme], THEMES)
        if self.shows("time"):
            fix = 'draw view="profile", which runs the network'
            raise OptionError("time is measured", where="show", expected=", ".join(SHOWN), got="'time'", fix=fix)
        _check("show", [self.show] if isinstance(self.show, str) else self.show, SHOWN)
        for overlay in self.overlays:
            if not isinstance(overlay, Overlay):
                expected, got = "an Overlay, or several", type(overlay).__name__
                raise OptionError("these are no numbers to draw", where="overlay", expected=expected, got=got)

    @property
    def overlays(self) -> tuple[Overlay, ...]:
        """All that are given."""
        if self.overlay is None:
            return ()
        return tuple(self.overlay) if isinstance(self.overlay, list | tuple) else (self.overlay,)

    def shows(self, what: str) -> bool:
        """Whether every node has a line of that kind."""
        return what == self.show or (not isinstance(self.show, str) and what in self.show)


def _check(name: str, given: Iterable[object], allowed: tuple[str, ...]) -> None:
    for value in given:
        if value not in allowed:
            raise OptionError("there is no such choice", where=name, expected=", ".join(allowed), got=repr(value))


def make_options(keywords: Mapping[str, Any]) -> Options:
    """Options from keyword arguments.

    Raises:
        OptionError: an unknown keyword, or a value that is not allowed.
    """
    names = [f.name for f in fields(Options)]
    unknown = [name for name in keywords if name not in names]
    if unknown:
        raise OptionError("there is no such option of a drawing", expected=", ".join(names), got=unknown[0])
    return Options(**keywords)


def open_modules(graph: Graph, depth: int, options: Options) -> frozenset[str]:
    """Paths of the modules that are drawn open: `depth` levels of them, changed by `expand` and `collapse`.

    Raises:
        OptionError: a glob matches no module; names some that there are.
    """
    modules = [path for path, _, node in walk(graph) if node.graph is not None and node.graph.nodes]
    collapsed = frozenset(_matching(options.collapse, modules, "collapse"))
    opened = {path for path in modules if path.count("/") < depth}
    for path in _matching(options.expand, modules, "expand"):
        opened.update(_with_outer(path))
    return frozenset(opened - collapsed)


def _matching(patterns: Paths, modules: list[str], what: str) -> list[str]:
    if callable(patterns):
        return [path for path in modules if patterns(path)]
    chosen: dict[str, None] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        found = [path for path in modules if fnmatchcase(path, pattern)]
        if not found:
            expected = "one of " + ", ".join(modules[:20]) if modules else "a graph with modules"
            raise OptionError("no module matches the pattern", where=what, expected=expected, got=repr(pattern))
        chosen.update(dict.fromkeys(found))
    return list(chosen)


def _with_outer(path: str) -> list[str]:
    """`a/b/c` -> a, a/b, a/b/c."""
    parts = path.split("/")
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]
