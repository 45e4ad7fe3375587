"""A browser that shows the pages of graphs."""

import pytest

from browser import Browser
from graphnn.render.html import to_html


@pytest.fixture(scope="module")
def browser():
    with Browser() as running:
        yield running


@pytest.fixture
def show(browser, tmp_path):
    """Open the page of a graph; in the end, nothing may have gone wrong on it, and nothing been asked for."""
    pages = []

    def open_page(graph, media=None, **options):
        path = tmp_path / f"{len(pages)}.html"
        path.write_text(to_html(graph, **options), encoding="utf-8")
        pages.append((browser.open(path, **(media or {})), path))
        return pages[-1][0]

    yield open_page
    for page, path in pages:
        assert page.complaints == []
        assert page.requests == [path.as_uri()]
        page.close()
