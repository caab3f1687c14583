"""Texts as they are compared, named and shown."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from sweep.base.characters import bare, cleaned, folded, is_blank, visible
from sweep.base.files import reason_of

EVERY = "".join(map(chr, range(0x3000))) + "\ud800\udfff\ufffe\uffff\U0001f600"


def test_every_character_can_be_shown_in_xml() -> None:
    shown = visible(EVERY).replace("&", "&amp;").replace("<", "&lt;")
    text = ET.fromstring(f"<a>{shown}</a>").text
    assert text is not None
    assert len(text) == len(EVERY)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\nof two lines", "plain\ttext\nof two lines"),
        ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
        ("bell\x07, delete\x7f, NUL\0", "bell␇, delete␡, NUL␀"),
        ("a\x9bb\u202ec", "a\ufffdb\ufffdc"),
        ("한국어 👩‍👩‍👧 می‌خواهم", "한국어 👩‍👩‍👧 می‌خواهم"),
    ],
    ids=ascii,
)
def test_control_characters_are_shown_as_pictures(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_name_keeps_what_writing_needs() -> None:
    for name in ("👩‍👩‍👧", "می‌خواهم", "❤️", "naïve", "한국어", "a/b:c\\d"):
        assert cleaned(name) == name


@pytest.mark.parametrize(
    ("one", "other"),
    [("Straße", "STRASSE"), ("ＡＢＣ", "abc"), ("ﬁne", "FINE"), ("ΣΑΣ", "σας"), ("a\r\nb", "A B")],
)
def test_texts_that_differ_in_case_or_width_fold_to_one(one: str, other: str) -> None:
    assert folded(one) == folded(other)


@pytest.mark.parametrize(
    ("one", "other"), [("résumé", "resume"), ("ab", "a b"), ("a.", "a"), ("😀", "😁")]
)
def test_texts_that_differ_in_letters_stay_apart(one: str, other: str) -> None:
    assert folded(one) != folded(other)


def test_texts_are_compared_without_accents_and_blanks() -> None:
    assert bare("Résumé , it 's") == bare("RESUME, it's")
    assert bare("한국어 문장") != bare("한국어 문작")


@pytest.mark.parametrize("text", ["", " \n\t", "\u200b\ufeff", "\u3164", "\x00\x1b", "\u2800"])
def test_a_text_of_which_nothing_is_seen_is_blank(text: str) -> None:
    assert is_blank(text)
    assert not is_blank(f"{text}.")


def test_an_error_of_a_library_is_one_visible_line() -> None:
    assert reason_of(ValueError("bad \x1b[2J thing.\nmore")) == "bad ␛[2J thing"
    assert reason_of(KeyError()) == "KeyError"
