"""What notebooks show in place of `repr`, by MIME type; nothing that draws is loaded for it."""

from __future__ import annotations

from collections.abc import Callable

from graphnn.errors import BackendError

TEXT, SVG = "text/plain", "image/svg+xml"


def bundle(text: str, draw: Callable[[], str] | None = None) -> dict[str, str]:
    """Contents by MIME type, as `_repr_mimebundle_` returns them.

    Args:
        text: for frontends that show no pictures.
        draw: makes the drawing as SVG text. Without a Graphviz the text stands alone: a cell shall not fail for that.
    """
    contents = {TEXT: text}
    if draw is not None:
        try:
            contents[SVG] = draw()
        except BackendError:
            return contents
    return contents
