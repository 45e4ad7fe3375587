"""The explorer: one self-contained HTML page to walk through a graph. Nothing is fetched; data and script are apart.

Without JavaScript the page shows the drawing of `to_svg`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

from graphnn.errors import OptionError
from graphnn.graph.graph import Graph
from graphnn.render.explorer import explorer_data
from graphnn.render.options import make_options, never
from graphnn.render.palette import BASE, CATEGORIES, FONT, HEAT, WARNING, Colour
from graphnn.render.svg import to_svg
from graphnn.render.text import xml

SCRIPTS = tuple(f"explorer_{part}.js" for part in ("graph", "places", "drawing", "numbers", "reading", "actions"))
OPTIONS = {"expand", "collapse", "theme", "show", "overlay", "kept", "facts"}
VIEWS = ("forward", "backward")  # between which a reader switches on the page
EXPLORER_COLOURS = {
    "focus": Colour("#0b57d0", "#8ab4f8"),
    "before": Colour("#a3307f", "#f08ad8"),
    "after": Colour("#00705a", "#3ec9a0"),
    "warning": WARNING,
}
KEYS = (
    ("Tab", "next node, in forward order"),
    ("Enter", "open or close a module"),
    ("Shift + ↑ ↓", "follow an edge back or on"),
    ("/", "search; Enter jumps"),
    ("arrows, drag", "move the drawing"),
    ("+ - wheel", "zoom"),
    ("0", "fit all"),
    ("i, o", "trace inputs, outputs"),
    ("b", "backward or forward view"),
    ("n", "next numbers, or none"),
    ("f", "next node with a flag"),
    ("t", "dark or light"),
    ("Esc", "select nothing"),
)


def to_html(
    graph: Graph,
    view: str = "forward",
    depth: int | None = None,
    is_frozen: Callable[[str], bool] = never,
    **options: Any,
) -> str:
    """The page as text, the same bytes for the same graph.

    Args:
        graph: what is drawn.
        view: "forward" or "backward": how the page starts; readers switch.
        depth: how many levels of modules start open; None for as many as are comfortable.
        is_frozen: whether the node at a path is frozen.
        options: of `Options`: `expand`, `collapse` and `theme`, how the page starts; `overlay`, of several the first is
            shown until the reader takes another; `show`, `facts` and `kept`: the cards of the nodes have them all.

    Raises:
        OptionError: another view or option, or a value that is not allowed.
        BackendError: there is no Graphviz.
    """
    if view not in VIEWS:
        raise OptionError(
            "there is no such view of a page", where="view", expected=", ".join(VIEWS), got=repr(view),
            fix="render other views as .svg",
        )  # fmt: skip
    if unknown := sorted(options.keys() - OPTIONS):
        raise OptionError(
            "a page has no such option", where="render", expected=", ".join(sorted(OPTIONS)), got=unknown[0],
            fix="readers open modules and switch views themselves; other drawings are .svg",
        )  # fmt: skip
    chosen = make_options({"depth": depth, "is_frozen": is_frozen, **options})
    static = to_svg(graph, depth=depth, is_frozen=is_frozen, **options)
    return "\n".join(_page(graph, explorer_data(graph, view, chosen), static, chosen.theme)) + "\n"


def _page(graph: Graph, data: dict[str, Any], static: str, theme: str) -> Iterator[str]:
    title, script = xml(graph.default_name), "".join(map(_condensed, SCRIPTS))
    policy = f"default-src 'none';style-src 'unsafe-inline';script-src '{_digest(script)}';base-uri 'none'"
    chosen_theme = "" if theme == "auto" else f' data-theme="{theme}"'
    yield f'<!DOCTYPE html>\n<html lang="en"{chosen_theme}>\n<head>\n<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy};form-action \'none\'">'
    yield '<meta name="viewport" content="width=device-width,initial-scale=1">'
    yield f"<title>{title}</title>\n<style>\n{_css()}</style>\n</head>\n<body>"
    yield f"<noscript><h1>{title}</h1>\n<p>With JavaScript, modules open and close here.</p>\n{static}</noscript>"
    yield _shell(title)
    yield f'<script type="application/json" id="data">{_harmless_json(data)}</script>'
    yield f"<script>{script}</script>\n</body>\n</html>"


def _condensed(name: str) -> str:
    """A file of the package without indentation and without comments on lines of their own."""
    text = files("graphnn.render").joinpath(name).read_text(encoding="utf-8")
    lines = re.sub(r"^\s*/\*(?:(?!\*/).)*\*/$", "", text, flags=re.MULTILINE | re.DOTALL).splitlines()
    return "".join(f"{line.strip()}\n" for line in lines if line.strip())


def _digest(script: str) -> str:
    """By which the browser knows the page's own script; it runs no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _harmless_json(data: dict[str, Any]) -> str:
    """JSON in ASCII without a character that means something to HTML: no name can end the element that it stands in."""
    text = json.dumps(data, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _shell(title: str) -> str:
    keys = "".join(f"<dt>{key}</dt><dd>{meaning}</dd>" for key, meaning in KEYS)
    return f"""<div id="app" hidden>
<header id="bar">
<h1>{title}</h1>
<div class="finder"><input id="search" type="search" placeholder="Search (/)" role="combobox" autocomplete="off"
 aria-label="Search nodes by path or kind" aria-controls="results" aria-expanded="false">
<ul id="results" role="listbox" aria-label="Matching nodes" hidden></ul></div>
<fieldset id="levels"><legend>Modules</legend><label>depth <input id="depth" type="range" min="0" step="1"></label>
<output id="depth-shown"></output><button id="open" type="button">open all</button>
<button id="close" type="button">close all</button></fieldset>
<label>View <select id="view"><option>forward</option><option>backward</option></select></label>
<label id="numbers" hidden>Numbers <select id="overlay"><option value="-1">none</option></select></label>
<fieldset><legend>Trace</legend><label><input id="before" type="checkbox"> inputs</label>
<label><input id="after" type="checkbox"> outputs</label></fieldset>
<fieldset><legend>Zoom</legend><button id="smaller" type="button" aria-label="zoom out">&minus;</button>
<button id="larger" type="button" aria-label="zoom in">+</button><button id="fit" type="button">fit</button></fieldset>
<button id="theme" type="button">dark / light</button>
</header>
<svg id="drawing" xmlns="http://www.w3.org/2000/svg" role="group" aria-label="Drawing of {title}"><g id="world">
</g></svg>
<div id="scale" role="group" aria-label="Scale of the numbers"></div>
<aside id="panel" aria-label="Selected node">
<div id="card"></div>
<h3>Legend</h3><ul id="legend"></ul>
<details open><summary>Keys</summary><dl>{keys}</dl></details>
</aside>
<div id="news"><p id="status" role="status"></p><p id="traced"></p></div>
</div>"""


def _css() -> str:
    colours = BASE | EXPLORER_COLOURS
    for name, (fill, border) in CATEGORIES.items():
        colours |= {f"{name}-fill": fill, f"{name}-edge": border}
    colours |= {f"heat-{step}": colour for step, colour in enumerate(HEAT)}
    light = ";".join(f"--{name}:{colour.light}" for name, colour in colours.items())
    dark = ";".join(f"--{name}:{colour.dark}" for name, colour in colours.items())
    themes = [
        f":root{{color-scheme:light;{light}}}",
        f"@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{color-scheme:dark;{dark}}}}}",
        f"@media screen{{:root[data-theme=dark]{{color-scheme:dark;{dark}}}}}",
        f"body,button,#drawing text{{{FONT}}}",
    ]
    boxes = [f"[data-category={name}]{{fill:var(--{name}-fill);stroke:var(--{name}-edge)}}" for name in CATEGORIES]
    boxes += [f'[data-heat="{step}"]>.box{{fill:var(--heat-{step})}}' for step in range(len(HEAT))]
    return "\n".join([*themes, *boxes, _condensed("explorer.css")])
