import csv
import io
import json
import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from graphnn.errors import OptionError
from graphnn.training.history import History

ROWS = [
    {"epoch": 1, "step": 10, "loss": 0.9, "accuracy": 0.5, "seconds": 1.5, "status": "completed"},
    {"epoch": 2, "step": 20, "loss": 0.1 + 0.2, "accuracy": 0.75, "val_loss": 0.4, "status": "completed"},
    {"epoch": 3, "step": 30, "loss": math.nan, "accuracy": 0.75, "val_loss": math.inf, "status": "stopped"},
]


@pytest.fixture
def history():
    made = History()
    for row in ROWS:
        made.append(row)
    return made


def test_columns_have_one_entry_for_each_row(history):
    assert len(history) == 3
    assert history.columns == ("epoch", "step", "loss", "accuracy", "seconds", "status", "val_loss")
    assert history["val_loss"] == [None, 0.4, math.inf]
    assert history["epoch"] == [1, 2, 3]
    assert "val_loss" in history
    assert "val_accuracy" not in history
    assert history.status == "stopped"
    assert (History().status, History().columns, len(History())) == ("", (), 0)


def test_rows_are_copies_in_python_numbers():
    history, row = History(), {"loss": np.float32(0.5), "step": np.int64(3), "epoch": np.array(1)}
    history.append(row)
    row["loss"] = 7
    assert {name: type(value) for name, value in history.rows[0].items()} == {"loss": float, "step": int, "epoch": int}
    assert history["loss"] == [0.5]


def test_the_best_row_is_the_first_of_the_best_and_never_nan(history):
    assert history.best()["epoch"] == 2
    assert history.best("accuracy") == ROWS[1]
    assert history.best("accuracy", "min")["epoch"] == 1
    assert history.best("loss", "max")["epoch"] == 1
    history.best()["epoch"] = 99  # a copy
    assert history["epoch"] == [1, 2, 3]


def test_dicts_give_the_history_back(history):
    columns = history.to_dict()
    assert {len(values) for values in columns.values()} == {3}
    again = History.from_dict(columns)
    for row, expected in zip(again.rows, ROWS, strict=True):
        assert repr(sorted(row.items())) == repr(sorted(expected.items()))  # repr: NaN is not equal to itself
    assert History.from_dict(History().to_dict()).rows == []


def test_csv_files_hold_every_digit(history, tmp_path):
    history.to_csv(tmp_path / "h.csv")
    data = (tmp_path / "h.csv").read_bytes()
    assert b"\r" not in data
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8"))))
    assert [float(row["loss"]) for row in rows[:2]] == [0.9, 0.1 + 0.2]
    assert (rows[0]["val_loss"], rows[2]["loss"], rows[2]["status"]) == ("", "nan", "stopped")


def test_jsonl_files_are_strict_json(history, tmp_path):
    history.to_jsonl(tmp_path / "h.jsonl")
    lines = (tmp_path / "h.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line, parse_constant=lambda text: pytest.fail(f"{text} is no JSON")) for line in lines]
    assert rows[:2] == ROWS[:2]
    assert rows[2] == {**ROWS[2], "loss": None, "val_loss": None}


@pytest.mark.parametrize("write", [History.to_csv, History.to_jsonl, History.plot])
def test_a_file_that_cannot_be_written_stays_as_it_was(history, tmp_path, monkeypatch, write):
    path = tmp_path / "history"
    path.write_text("old")
    with monkeypatch.context() as patched:
        patched.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError("the disk is full")))
        with pytest.raises(OSError, match="full"):
            write(history, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write(history, path)
    assert path.read_text("utf-8") != "old"


def test_plots_are_pictures_of_the_columns(history, tmp_path):
    history.plot(tmp_path / "h.svg")
    text = (tmp_path / "h.svg").read_text("utf-8")
    assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert text == history._repr_mimebundle_()["image/svg+xml"] == history.to_svg()
    assert "val_loss" in text
    assert "accuracy" not in text
    assert "accuracy" in history.to_svg("accuracy", log=True)
    assert list(History()._repr_mimebundle_()) == ["text/plain"]


def test_repr_shows_the_last_row(history):
    assert repr(History()) == "History of 0 epochs"
    assert repr(history).startswith("History of 3 epochs; last: epoch 3, step 30, loss nan")


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (lambda h: h["los"], "History: no such column\n  expected: epoch, step, loss, .*\n  got: 'los'"),
        (lambda h: History()["loss"], "no column: there are no rows yet"),
        (lambda h: h.to_svg("los"), "no such column"),
        (lambda h: h.best("status"), "no number to compare"),
        (lambda h: h.best("loss", "least"), "unknown mode\n  expected: auto, min, max"),
        (lambda h: h.append({"loss": [1.0]}), "loss: a history holds numbers and texts"),
        (lambda h: h.append({"loss": np.zeros(2)}), "loss: a history holds numbers and texts"),
        (lambda h: History.from_dict({"a": [1], "b": [1, 2]}), "columns of different lengths"),
    ],
)
def test_what_does_not_fit_is_refused(history, run, text):
    with pytest.raises(OptionError, match=text):
        run(history)
    assert len(history) == 3
