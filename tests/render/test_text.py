import unicodedata
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from graphnn.render.text import clean, identifier, plural, shorten, text_width, xml

ANY_TEXT = st.text(st.characters(codec=None), max_size=60)  # with control characters and lone surrogates


@given(ANY_TEXT)
def test_any_text_can_stand_in_xml(text):
    parsed = ElementTree.fromstring(f'<a b="{xml(text)}">{xml(text)}</a>'.encode())
    kept = "".join(c for c in text if ElementTree_keeps(c))
    assert [c for c in parsed.text or "" if c != "\ufffd"] == [c for c in kept.replace("\r", "\n") if c != "\ufffd"]


def ElementTree_keeps(character: str) -> bool:  # noqa: N802
    """XML 1.0, production 2 (Char)."""
    code = ord(character)
    return code in (9, 10, 13) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000


@given(ANY_TEXT)
def test_cleaned_text_has_one_line(text):
    assert clean(text) == clean(clean(text))
    assert len(clean(text).splitlines()) <= 1


@given(ANY_TEXT, ANY_TEXT)
@example("\ud800", "\udfff")
@example("%7E", "~")
def test_identifiers_are_plain_and_tell_paths_apart(first, second):
    assert identifier(first).isascii()
    assert not set(identifier(first)) & set(" \t\n\"'<>&")
    assert (identifier(first) == identifier(second)) == (first == second)


@given(ANY_TEXT, st.floats(30, 400), st.booleans())
def test_shortened_text_fits_and_keeps_both_ends(text, limit, bold):
    short = shorten(text, 11, limit, bold)
    assert text_width(short, 11, bold) <= limit + 1e-9
    if text_width(clean(text), 11, bold) <= limit:
        assert short == clean(text)
    else:
        head, _, tail = short.partition("…")
        assert clean(text).startswith(head)
        assert clean(text).endswith(tail)


def test_wide_characters_count_double():
    assert text_width("神経", 10) >= 2 * text_width("ab", 10)
    assert text_width("é", 10) == text_width(unicodedata.normalize("NFD", "é"), 10) == text_width("e", 10)
    assert text_width("ab", 10, bold=True) > text_width("ab", 10)


@pytest.mark.parametrize(("count", "text"), [(0, "0 nodes"), (1, "1 node"), (2000, "2,000 nodes")])
def test_plural(count, text):
    assert plural(count, "node") == text
