"""History: one row of numbers for each epoch, over all calls of `fit`."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from graphnn.atomic import replace_file
from graphnn.errors import OptionError
from graphnn.render.mime import bundle
from graphnn.training.callbacks import is_better, resolve_mode

Cell: TypeAlias = int | float | str | None
PLOTTED = ("loss", "val_loss")


class History:
    """Rows in the order of the epochs; a column that a row lacks is None there.

    What a Trainer writes: "epoch" (from 1 on), "step" (training steps so far), "loss", the metrics, each of them once
    more as "val_..." where there is validation, "learning_rate", "seconds" and "status".

    Attributes:
        rows: one dict for each epoch.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, Cell]] = []

    def append(self, row: Mapping[str, Any]) -> None:
        """Add an epoch; numbers of NumPy become Python's.

        Raises:
            OptionError: a value is neither a number nor a text.
        """
        self.rows.append({str(name): _cell(str(name), value) for name, value in row.items()})

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, column: object) -> bool:
        return any(column in row for row in self.rows)

    def __getitem__(self, column: str) -> list[Any]:
        """The values of a column, one for each row.

        Raises:
            OptionError: no row has it.
        """
        if column not in self:
            expected = ", ".join(self.columns) or "no column: there are no rows yet"
            raise OptionError("no such column", where="History", expected=expected, got=repr(column))
        return [row.get(column) for row in self.rows]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns, in the order in which they came."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row))

    @property
    def status(self) -> str:
        """How the last row ended: "completed", "stopped" or "interrupted"; "" where nothing says so."""
        return str(self.rows[-1].get("status") or "") if self.rows else ""

    def best(self, metric: str = "loss", mode: str = "auto") -> dict[str, Any]:
        """The row in which `metric` is best; of equal ones the first.

        Args:
            metric: a column of numbers.
            mode: "min" or "max" is better; "auto" takes "max" for accuracies, else "min".

        Raises:
            OptionError: no such column, or it holds no number.
        """
        mode, best, found = resolve_mode(mode, metric), None, None
        for row, value in zip(self.rows, self[metric], strict=True):
            if isinstance(value, int | float) and is_better(value, best, mode):
                best, found = value, row
        if found is None:
            raise OptionError("no number to compare", where="History.best", expected="a column of numbers", got=metric)
        return dict(found)

    def __repr__(self) -> str:
        if not self.rows:
            return "History of 0 epochs"
        last = ", ".join(f"{name} {value}" for name, value in self.rows[-1].items())
        return f"History of {len(self)} epochs; last: {last}"

    # -- as data and files --------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, list[Any]]:
        """Columns by name, all of equal length."""
        return {column: self[column] for column in self.columns}

    @classmethod
    def from_dict(cls, columns: Mapping[str, list[Any]]) -> History:
        """What `to_dict` gave, as a History.

        Raises:
            OptionError: the columns differ in length.
        """
        if len({len(values) for values in columns.values()}) > 1:
            got = {name: len(values) for name, values in columns.items()}
            raise OptionError("columns of different lengths", where="History", expected="equal lengths", got=got)
        history = cls()
        for values in zip(*columns.values(), strict=True):
            cells = zip(columns, values, strict=True)
            history.append({name: value for name, value in cells if value is not None})
        return history

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a header and one line for each row, all or nothing."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([row.get(column) for column in self.columns] for row in self.rows)
        _write(path, text.getvalue())

    def to_jsonl(self, path: str | os.PathLike[str]) -> None:
        """Write one JSON object for each row, all or nothing; NaN and infinities, which JSON lacks, become null."""
        rows = ({name: _finite_or_none(value) for name, value in row.items()} for row in self.rows)
        _write(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))

    # -- pictures -----------------------------------------------------------------------------------------------------

    def to_svg(self, *columns: str, log: bool = False, theme: str = "auto") -> str:
        """Columns over the epochs as SVG text, the best epoch of each marked.

        Args:
            columns: of numbers; by default "loss" and, where there is one, "val_loss".
            log: logarithmic vertical axis.
            theme: "light", "dark", or "auto" for what the reader's system prefers.

        Raises:
            OptionError: no such column or theme.
        """
        from graphnn.render.chart import line_chart

        names = columns or tuple(name for name in PLOTTED if name == "loss" or name in self)
        best = "max" if all(resolve_mode("auto", name) == "max" for name in names) else "min"
        series = {name: list(self._points(name)) for name in names}
        y_label = ", ".join(names)
        return line_chart(series, "Training", "epoch", y_label, log, best, whole=True, theme=theme)

    def plot(self, path: str | os.PathLike[str], *columns: str, log: bool = False, theme: str = "auto") -> None:
        """Write `to_svg` to a file, all or nothing."""
        _write(path, self.to_svg(*columns, log=log, theme=theme))

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return bundle(repr(self), self.to_svg if "loss" in self else None)

    def _points(self, column: str) -> Iterator[tuple[float, float]]:
        """(epoch, value) wherever there is a number; rows without an epoch are counted instead."""
        for index, (row, value) in enumerate(zip(self.rows, self[column], strict=True)):
            if isinstance(value, int | float):
                epoch = row.get("epoch")
                yield float(epoch) if isinstance(epoch, int | float) else index + 1.0, float(value)


def _cell(name: str, value: Any) -> Cell:
    if hasattr(value, "item") and value.size == 1:  # a scalar of NumPy or CuPy
        value = value.item()
    if value is None or isinstance(value, int | float | str):
        return value
    raise OptionError(
        "a history holds numbers and texts", where=name, expected="int, float or str", got=repr(value)[:60]
    )


def _finite_or_none(value: Cell) -> Cell:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(path: str | os.PathLike[str], text: str) -> None:
    with replace_file(path) as file:
        file.write(text.encode("utf-8"))
