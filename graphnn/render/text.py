"""Text for pictures: harmless to XML, of known width, cut to a length."""

from __future__ import annotations

import re
import unicodedata
from html import escape
from urllib.parse import quote

# Advance widths in hundredths of the font size for the characters 32 to 126. They are those of DejaVu Sans, the widest
# sans-serif font that browsers commonly fall back to, so that text in Arial, Helvetica or Segoe UI is narrower.
_REGULAR = (
    *(32, 40, 46, 84, 64, 95, 78, 27, 39, 39, 50, 84, 32, 36, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 34, 34),
    *(84, 84, 84, 53, 100, 68, 69, 70, 77, 63, 58, 77, 75, 29, 29, 66, 56, 86, 75, 79, 60, 79, 69, 63, 61, 73, 68, 99),
    *(69, 61, 69, 39, 34, 39, 84, 50, 50, 61, 63, 55, 63, 62, 35, 63, 63, 28, 28, 58, 28, 97, 63, 61, 63, 63, 41, 52),
    *(39, 63, 59, 82, 59, 59, 52, 64, 34, 64, 84),
)
_BOLD = (
    *(35, 46, 52, 84, 70, 100, 87, 31, 46, 46, 52, 84, 38, 42, 38, 37, 70, 70, 70, 70, 70, 70, 70, 70, 70, 70, 40, 40),
    *(84, 84, 84, 58, 100, 77, 76, 73, 83, 68, 68, 82, 84, 37, 37, 77, 64, 100, 84, 85, 73, 85, 77, 72, 68, 81, 77),
    *(110, 77, 72, 73, 46, 37, 46, 84, 50, 50, 67, 72, 59, 72, 68, 44, 72, 71, 34, 34, 67, 34, 104, 71, 69, 72, 72),
    *(49, 60, 48, 71, 65, 92, 65, 65, 58, 71, 37, 71, 84),
)
TIMES = "\N{MULTIPLICATION SIGN}"
_OTHER = {"·": 38, TIMES: 84, "→": 84}
_WIDE = 130  # East Asian characters and emoji
_UNKNOWN = 135  # the widest Cyrillic capital

# What XML 1.0 cannot hold even when escaped, and lone surrogates, which UTF-8 cannot.
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def clean(text: str) -> str:
    """`text` on one line, with a replacement character for whatever XML cannot hold."""
    return re.sub(r"\s+", " ", _NOT_IN_XML.sub("\ufffd", text))


def xml(text: str) -> str:
    """`text` ready to stand in an XML element or in an attribute between double quotes."""
    return escape(_NOT_IN_XML.sub("\ufffd", text), quote=False).replace('"', "&quot;")


def identifier(path: str) -> str:
    """An ASCII id without spaces or quotes; different paths have different ids.

    Percent encoding with a tilde, because Graphviz keeps names that begin with a percent sign for itself.
    """
    return quote(path, safe="/", errors="surrogatepass").replace("~", "%7E").replace("%", "~")


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Width in pixels that `text` needs at most, in any common sans-serif font of `size` pixels."""
    table = _BOLD if bold else _REGULAR
    return sum(_advance(character, table) for character in text) * size / 100


def _advance(character: str, table: tuple[int, ...]) -> int:
    if " " <= character <= "~":
        return table[ord(character) - 32]
    if character in _OTHER:
        return _OTHER[character]
    if unicodedata.combining(character):
        return 0
    if unicodedata.east_asian_width(character) in "WF":
        return _WIDE
    base = unicodedata.normalize("NFD", character)[0]
    return table[ord(base) - 32] if " " <= base <= "~" else _UNKNOWN


def shorten(text: str, size: float, limit: float, bold: bool = False) -> str:
    """`text`, with its middle left out where it is wider than `limit` pixels."""
    text = clean(text)
    if text_width(text, size, bold) <= limit:
        return text
    room = limit - text_width("…", size, bold)
    head = _prefix(text, size, room * 0.45, bold)
    tail = _prefix(text[::-1], size, room * 0.55, bold)[::-1]
    return f"{head}…{tail}"


def wrap(text: str, size: float, limit: float, bold: bool = False) -> list[str]:
    """`text` in lines of at most `limit` pixels, broken at spaces; a longer word loses its middle."""
    lines = [""]
    for word in clean(text).split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size, bold) > limit:
            lines.append(word)
        else:
            lines[-1] = longer
    return [shorten(line, size, limit, bold) for line in lines]


def _prefix(text: str, size: float, room: float, bold: bool) -> str:
    for index, character in enumerate(text):
        room -= text_width(character, size, bold)
        if room < 0:
            return text[:index]
    return text


def plural(count: int, noun: str) -> str:
    """`1 node`, `2,000 nodes`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def letters(index: int) -> str:
    """0, 1... as A, B... Z, AA, AB..."""
    text = ""
    while index >= 0:
        text = chr(ord("A") + index % 26) + text
        index = index // 26 - 1
    return text
