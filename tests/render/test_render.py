import re
from html.parser import HTMLParser

import pytest

import drawn_graphs
from graphnn.errors import OptionError
from graphnn.render.dot import to_graphviz
from graphnn.render.html import to_html
from graphnn.render.render import render
from graphnn.render.svg import to_svg


@pytest.mark.parametrize(
    ("ending", "text"),
    [("svg", to_svg), ("html", to_html), ("dot", lambda graph, **kw: to_graphviz(graph, **kw).source), ("SVG", to_svg)],
)
def test_the_ending_chooses_the_format(tmp_path, ending, text):
    path = tmp_path / f"nét.{ending}"
    path.write_text("old")
    drawn_graphs.nested().render(path, depth=1)
    assert path.read_text(encoding="utf-8") == text(drawn_graphs.nested(), depth=1)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["net.png", "net", ".svg", "net.svg.gz"])
def test_other_endings_are_refused_before_anything_is_drawn(tmp_path, name):
    with pytest.raises(OptionError, match=r"names no format(.|\n)*\.svg, \.html, \.dot"):
        render(drawn_graphs.chain(1), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        render(drawn_graphs.chain(1), tmp_path / "nowhere" / "net.svg")


class Page(HTMLParser):
    """Tags that are open and closed, and the text of the table's cells."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.cells = [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag not in ("meta", "rect", "path"):
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")
        assert not any(name in ("src", "href") or name.startswith("on") for name, _ in attributes)

    def handle_startendtag(self, tag, attributes):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def test_the_page_stands_alone():
    text = to_html(drawn_graphs.hostile(), is_frozen=lambda path: True)
    page = Page(text)
    assert page.open == []
    assert not page.tags & {"script", "link", "img", "iframe", "object"}
    assert "default-src 'none'" in text
    assert set(re.findall(r"https?://[^\"]*", text)) == {"http://www.w3.org/2000/svg"}
    assert to_svg(drawn_graphs.hostile(), is_frozen=lambda path: True) in text
    assert "20 frozen" in page.cells


def test_the_page_has_the_summary():
    graph = drawn_graphs.nested()
    cells = Page(to_html(graph)).cells
    rows = [cells[index : index + 5] for index in range(5, len(cells), 5)]
    assert [row[0] for row in rows] == [row.path for row in graph.summary().rows]
    assert ["stack/blocks_0_2/linear", "Linear", "(batch, 4)", "= stack/blocks_0/linear"] in [row[:4] for row in rows]
