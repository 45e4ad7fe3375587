"""render: write a drawing to a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from graphnn.atomic import replace_file
from graphnn.errors import OptionError
from graphnn.graph.graph import Graph
from graphnn.render.dot import to_graphviz
from graphnn.render.html import to_html
from graphnn.render.options import never
from graphnn.render.svg import to_svg


def render(
    graph: Graph,
    path: str | os.PathLike[str],
    view: str = "forward",
    depth: int | None = None,
    is_frozen: Callable[[str], bool] = never,
    **options: Any,
) -> None:
    """Write the drawing to `path`; the ending says how: .svg, .html or .dot.

    The file is either the old one or the new one, never half of it.

    Args:
        graph: what is drawn.
        path: file to write.
        view: as for to_svg.
        depth: as for to_svg.
        is_frozen: whether the node at a path is frozen.
        options: as for to_svg; an .html page has fewer: see to_html.

    Raises:
        OptionError: another ending, an unknown view or a bad depth.
        BackendError: there is no Graphviz.
        OSError: the folder does not exist or cannot be written.
    """
    writers: dict[str, Callable[[], str]] = {
        ".svg": lambda: to_svg(graph, view, depth, is_frozen, **options),
        ".html": lambda: to_html(graph, view, depth, is_frozen, **options),
        ".dot": lambda: to_graphviz(graph, depth, view, is_frozen, **options).source,
    }
    ending = Path(path).suffix.lower()
    if ending not in writers:
        raise OptionError(
            "the file ending names no format", where=os.fspath(path), expected=", ".join(writers), got=ending
        )
    with replace_file(path) as file:
        file.write(writers[ending]().encode())
