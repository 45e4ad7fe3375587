"""One self-contained HTML page with the drawing and the summary table; nothing is fetched, no script runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from graphnn.graph.graph import Graph
from graphnn.graph.summary import Row, summarize
from graphnn.render.palette import BASE, FONT
from graphnn.render.svg import to_svg
from graphnn.render.text import xml

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
HEADER = ("Path", "Layer", "Output", "Parameters", "Connected to")


def to_html(
    graph: Graph, view: str = "forward", depth: int | None = None, is_frozen: Callable[[str], bool] = lambda path: False
) -> str:
    """The page as text.

    Args:
        graph: what is drawn.
        view: as for to_svg.
        depth: as for to_svg.
        is_frozen: whether the node at a path is frozen.

    Raises:
        OptionError, BackendError: as to_svg.
    """
    return "\n".join(_page(graph, to_svg(graph, view, depth, is_frozen), is_frozen)) + "\n"


def _page(graph: Graph, svg: str, is_frozen: Callable[[str], bool]) -> Iterator[str]:
    title = xml(graph.default_name)
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    yield '<meta name="viewport" content="width=device-width,initial-scale=1">'
    yield f"<title>{title}</title>\n<style>{_css()}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>"
    yield f"<figure>\n{svg}</figure>\n<h2>Summary</h2>\n<div>\n<table>\n<thead><tr>"
    yield "".join(f'<th scope="col">{name}</th>' for name in HEADER) + "</tr></thead>\n<tbody>"
    summary = summarize(graph, is_frozen)
    yield from map(_row, summary.rows)
    yield "</tbody>\n</table>\n</div>"
    total = summary.trainable + summary.frozen
    yield f"<p>{total:,} parameters: {summary.trainable:,} trainable, {summary.frozen:,} frozen</p>"
    yield "</main>\n</body>\n</html>"


def _row(row: Row) -> str:
    count = f"= {row.shares}" if row.shares else f"{row.parameters:,}" + (" frozen" if row.frozen else "")
    cells = (row.layer, " ".join(row.outputs), count, ", ".join(row.connected_to))
    return f'<tr><th scope="row">{xml(row.path)}</th>' + "".join(f"<td>{xml(cell)}</td>" for cell in cells) + "</tr>"


def _css() -> str:
    rules = [
        f":root{{color-scheme:light dark}}body{{{FONT};margin:0;background:{{paper}};color:{{ink}}}}",
        "main{max-width:100%;padding:1rem;box-sizing:border-box}figure{margin:0;overflow:auto}",
        "div{overflow-x:auto}table{border-collapse:collapse;font-size:13px}",
        "td,th{padding:3px 10px;text-align:left;font-weight:400;border-bottom:1px solid {frame};white-space:nowrap}",
        "thead th{font-weight:700}td:nth-child(4){text-align:right;font-variant-numeric:tabular-nums}",
    ]
    return (
        _painted(rules, "light")
        + "@media (prefers-color-scheme:dark){"
        + _painted(rules[:1] + rules[3:4], "dark")
        + "}"
    )


def _painted(rules: list[str], theme: str) -> str:
    text = "".join(rules)
    for name in ("paper", "ink", "frame"):
        text = text.replace(f"{{{name}}}", getattr(BASE[name], theme))
    return text
