import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

import drawn_graphs
from graphnn.errors import OptionError
from graphnn.render.explorer import explorer_data
from graphnn.render.html import EXPLORER_COLOURS, to_html
from graphnn.render.options import Options
from graphnn.render.palette import BASE, contrast
from graphnn.render.svg import to_svg

SHELL_LIMIT = 60 * 1024
EMPTY = ("meta", "input", "rect", "path", "br")  # never closed in HTML, or closed by themselves in SVG


class Parsed(HTMLParser):
    """Tags that are open and used, and the text of each script; refuses what would fetch or run something."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.scripts, self.policy = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in EMPTY:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")
        given = dict(attributes)
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]
        assert not any(name in ("src", "href", "xlink:href") or name.startswith("on") for name in given)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def hostile():
    return to_html(drawn_graphs.hostile(), is_frozen=lambda path: True)


def test_the_page_stands_alone(hostile):
    page = Parsed(hostile)
    assert page.open == []
    assert page.tags.count("script") == 2
    assert not set(page.tags) & {"link", "img", "iframe", "object", "embed", "base", "form"}
    assert set(re.findall(r"\w+://[^\"'\s]*", hostile)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page.policy
    assert not set(hostile) & set("\u2028\u2029\x00")


def test_only_the_script_of_the_page_may_run(hostile):
    page = Parsed(hostile)
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    (sources,) = [part for part in page.policy.split(";") if part.startswith("script-src")]
    assert sources == f"script-src 'sha256-{digest}'"
    markup = r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|Function|fetch|import)\b"
    assert not re.search(markup, page.scripts[1])


def test_the_data_are_json_without_characters_of_markup(hostile):
    (payload,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', hostile)
    assert not set(payload) & set("<>&\u2028\u2029")
    assert json.loads(payload) == explorer_data(drawn_graphs.hostile(), "forward", Options(is_frozen=lambda path: True))
    assert any("script>" in node["kind"] for node in json.loads(payload)["nodes"])


def test_the_shell_is_small(hostile):
    """Everything that is the same for each graph."""
    data = re.sub(r'(id="data">).*?(</script>)', r"\1\2", hostile, flags=re.DOTALL)
    shell = re.sub(r"<noscript>.*?</noscript>", "", data, flags=re.DOTALL)
    assert 20_000 < len(shell.encode()) <= SHELL_LIMIT


def test_without_scripts_the_drawing_is_there(hostile):
    (static,) = re.findall(r"<noscript>(.*?)</noscript>", hostile, flags=re.DOTALL)
    assert to_svg(drawn_graphs.hostile(), is_frozen=lambda path: True) in static
    assert '<div id="app" hidden>' in hostile


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"view": "schedule"}, "no such view of a page(.|\n)*forward, backward(.|\n)*svg"),
        ({"depth": -1}, "not a depth"),
        ({"theme": "pink"}, "no such choice(.|\n)*auto, light, dark"),
        ({"direction": "right"}, "no such option(.|\n)*collapse, expand, facts, kept, overlay, show, theme"),
        ({"expand": "nowhere"}, "no module matches"),
    ],
)
def test_what_a_page_cannot_do_is_refused(options, complaint):
    with pytest.raises(OptionError, match=complaint):
        to_html(drawn_graphs.nested(), **options)


def test_the_theme_can_be_given():
    assert '<html lang="en">' in to_html(drawn_graphs.chain(1))
    assert '<html lang="en" data-theme="dark">' in to_html(drawn_graphs.chain(1), theme="dark")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_marks_can_be_seen(theme):
    grounds = [getattr(BASE[name], theme) for name in ("paper", "group-even", "group-odd")]
    for colour in EXPLORER_COLOURS.values():
        for ground in grounds:
            assert contrast(getattr(colour, theme), ground) >= 4.5  # links are text


def test_the_page_has_nothing_from_before():
    assert to_html(drawn_graphs.nested()) == to_html(drawn_graphs.nested())
