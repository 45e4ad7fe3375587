"""JSON text from strangers to plain data: limits are checked before anything is built."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any, NoReturn

from graphnn.errors import FileFormatError

MAX_CHARACTERS = 250_000_000
MAX_BRACKETS = 400  # inside each other; below the recursion limit, which the json module's parser meets
MAX_STRING = 10_000  # characters
MAX_DIGITS = 25
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[][{}]', re.DOTALL)  # possessive: never tries twice


def parse_json(text: str | bytes, where: str) -> Any:
    """The data that `text` describes.

    Raises:
        FileFormatError: no JSON, a key that stands twice, a number that is not finite, or over one of the limits.
    """
    if isinstance(text, bytes):
        text = _decode(text, where)
    if not isinstance(text, str):
        raise FileFormatError("not a text", where=where, expected="str", got=type(text).__name__)
    if len(text) > MAX_CHARACTERS:
        raise FileFormatError(
            "the text is too long", where=where, expected=f"{MAX_CHARACTERS} characters", got=len(text)
        )
    _check_tokens(text, where)
    strict = _Strict(where)
    try:
        return json.loads(
            text, object_pairs_hook=strict.object, parse_int=strict.integer, parse_float=strict.number,
            parse_constant=strict.refuse,
        )  # fmt: skip
    except json.JSONDecodeError as error:
        place = f"{where}, line {error.lineno}, column {error.colno}"
        raise FileFormatError("this is no JSON", where=place, expected="JSON", got=error.msg) from None
    except RecursionError:
        raise FileFormatError("nested too deep to be read from here", where=where) from None


def _decode(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileFormatError("this is no text", where=where, expected="UTF-8", got=str(error)) from None


def _check_tokens(text: str, where: str) -> None:
    """Nesting and string length, in one pass that builds nothing."""
    depth = 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in "[{":
            depth += 1
            if depth > MAX_BRACKETS:
                raise FileFormatError("nested too deep", where=where, expected=f"at most {MAX_BRACKETS} brackets")
        elif token in "]}":
            depth -= 1
        elif len(token) > MAX_STRING:
            line = text.count("\n", 0, match.start()) + 1
            place = f"{where}, line {line}"
            raise FileFormatError(
                "a string is too long", where=place, expected=f"{MAX_STRING} characters", got=len(token)
            )


class _Strict:
    """What the json module would let pass."""

    def __init__(self, where: str):
        self._where = where

    def object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise FileFormatError(
                "a key stands twice", where=self._where, expected="each key once", got=repr(twice[:80])
            )
        return result

    def integer(self, digits: str) -> int:
        if len(digits) > MAX_DIGITS:
            raise FileFormatError("an integer is too long", where=self._where, expected=f"{MAX_DIGITS} digits")
        return int(digits)

    def number(self, digits: str) -> float:
        value = float(digits)
        return value if math.isfinite(value) else self.refuse(digits)

    def refuse(self, text: str) -> NoReturn:
        raise FileFormatError("a number is not finite", where=self._where, expected="JSON numbers", got=text[:40])
