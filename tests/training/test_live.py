import sys
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest

from graphnn.errors import OptionError
from graphnn.training.live import LiveCurve

SVG = "image/svg+xml"


class Notebook:
    """Stands for IPython: remembers what was shown, by place."""

    def __init__(self, kernel=True):
        self.places = []
        self.get_ipython = lambda: SimpleNamespace(kernel=object()) if kernel else SimpleNamespace()
        self.display = SimpleNamespace(display=self.show)

    def show(self, contents, raw, display_id):
        assert raw is True
        assert display_id is True
        shown = [contents]
        self.places.append(shown)
        return SimpleNamespace(update=lambda contents, raw: shown.append(contents))


@pytest.fixture
def notebook(monkeypatch):
    notebook = Notebook()
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    return notebook


def fit(callback, losses, **more):
    callback.on_train_begin(None)
    for epoch, loss in enumerate(losses, start=1):
        callback.on_epoch_end(None, {"epoch": epoch, "loss": loss, **more})
    callback.on_train_end(None)


def test_each_epoch_draws_again_in_the_same_place_and_each_fit_in_a_new_one(notebook):
    curve = LiveCurve()
    fit(curve, [3.0, 2.0, 1.0])
    fit(curve, [0.5])
    assert [len(place) for place in notebook.places] == [3, 1]
    first, *_, last = (contents[SVG] for contents in notebook.places[0])
    assert ET.fromstring(last).tag.endswith("svg")
    assert "last 3 at 1" in first
    assert "last 1 at 3" in last
    assert notebook.places[0][-1]["text/plain"].startswith("History of 3 epochs")
    assert notebook.places[1][0]["text/plain"].startswith("History of 1 epochs")


def test_columns_can_be_chosen(notebook):
    fit(LiveCurve("accuracy"), [3.0, 2.0], accuracy=0.5)
    assert 'data-series="accuracy"' in notebook.places[0][-1][SVG]
    assert 'data-series="loss"' not in notebook.places[0][-1][SVG]


@pytest.mark.parametrize("ipython", [None, Notebook(kernel=False)], ids=["no IPython", "a terminal"])
def test_elsewhere_nothing_is_shown(ipython, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    if ipython is not None:
        monkeypatch.setitem(sys.modules, "IPython", ipython)
    fit(LiveCurve(), [3.0, 2.0])
    assert capsys.readouterr() == ("", "")
    assert ipython is None or ipython.places == []
    assert ipython is not None or "IPython" not in sys.modules


def test_a_column_that_is_not_there_is_an_error_everywhere():
    with pytest.raises(OptionError, match="no such column"):
        fit(LiveCurve("acuracy"), [1.0])
