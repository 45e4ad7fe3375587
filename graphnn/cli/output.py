"""Results: text or JSON on stdout, or bytes in a file; colour only where a person watches."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

from graphnn.atomic import replace_file

STDOUT = "-"
COLOURS = {"red": 31, "green": 32, "yellow": 33}


def emit(options: argparse.Namespace, data: Any, text: object) -> None:
    """Print `data` as JSON where that was asked for, else `text`."""
    print(json.dumps(strict(data), indent=2, allow_nan=False) if options.json else text)


def strict(data: Any) -> Any:
    """JSON has no NaN and no infinities: they become null."""
    if isinstance(data, dict):
        return {str(key): strict(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [strict(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def write(path: str, content: bytes) -> None:
    """To stdout for "-", else to a file, all or nothing."""
    if path != STDOUT:
        with replace_file(path) as file:
            file.write(content)
        return
    sys.stdout.flush()
    if hasattr(sys.stdout, "buffer"):
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:  # a stream of text only, such as that of a notebook
        sys.stdout.write(content.decode())


def note(text: object) -> None:
    """One line about what happens, on stderr."""
    print(text, file=sys.stderr, flush=True)


def coloured(text: str, colour: str) -> str:
    """`text` in a colour on a terminal that shows colours, unless NO_COLOR is set (https://no-color.org)."""
    shows = sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")
    return f"\033[{COLOURS[colour]}m{text}\033[0m" if shows else text


def check_folder(path: str | None) -> None:
    """Fail before hours of work rather than after them.

    Raises:
        OSError: a result could not be written to `path`, as its folder is missing or read-only.
    """
    if path is None or path == STDOUT:
        return
    folder = Path(path).resolve().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{path}: the folder {folder} cannot be written to")
