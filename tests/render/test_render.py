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
