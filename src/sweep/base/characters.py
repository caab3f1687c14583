"""Texts as they are compared, named and shown: data may hold what nobody can see.

What a model is trained on is never changed here.
"""

from __future__ import annotations

import re
import unicodedata

JOINERS = "\u200c\u200d"
"""Format characters that writing needs: between letters of Persian, within an emoji."""
_VARIANTS = re.compile("[\u180b-\u180d\ufe00-\ufe0f\U000e0100-\U000e01ef]")
FILLERS = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters, by Unicode's word, of which nothing is seen."""
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_ASCII_CONTROLS = re.compile("[\x00-\x08\x0e-\x1b\x7f]")
_ASCII_BLANKS = re.compile("[\x00-\x20\x7f]+")
_CONTROLS = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"}
_TWINS = str.maketrans(
    "АВЕЅІЈКМНОРСТУХаеѕіјорсухһԁԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧοİıɡɑ⁄‐‑‒–—―−’‘ʼ",
    "ABESIJKMHOPCTYXaesijopcyxhdqwABEZHIKMNOPTYXoIiga/-------'''",
)
"""Letters of Cyrillic, Greek and Turkish, and signs, with those of ASCII that look like them."""
# C1 controls, marks that turn the direction of writing, and what XML forbids.
_HIDDEN = re.compile("[\x80-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def cleaned(text: str) -> str:
    """Return a name as it is shown: composed, without what cannot be seen, single blanks."""
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    if text.isascii():
        return " ".join(_ASCII_CONTROLS.sub("", text).split())
    composed = unicodedata.normalize("NFC", text)
    letters = (x for x in composed if x.isspace() or x in JOINERS or not _is_hidden(x))
    return " ".join("".join(letters).split())


def is_blank(text: str) -> bool:
    """Whether nothing of a text is seen."""
    if text[:1].isalnum() and text[0] not in FILLERS:  # nearly all texts
        return False
    return all(letter.isspace() or _is_hidden(letter) for letter in text)


def spelling(text: str) -> str:
    """Return what two names have in common that look the same."""
    name = cleaned(text)
    if name.isascii():
        return name
    return _VARIANTS.sub("", name).translate(dict.fromkeys(map(ord, JOINERS)))


def folded(text: str) -> str:
    """Return what two texts have in common that differ in case, width or blanks only."""
    if text.isascii():
        return spelling(text).casefold()
    return spelling(unicodedata.normalize("NFKC", spelling(text)).casefold())


def look(text: str) -> str:
    """Return what two names have in common whose letters look the same in some alphabet."""
    name = unicodedata.normalize("NFKC", spelling(text))
    return name if name.isascii() else name.translate(_TWINS)


def bare(text: str) -> str:
    """Return what two texts have in common that any tokenizer may make one of.

    Those without case drop accents as well, and most set signs apart from words by themselves. It
    is a rule for keeping texts apart, never for changing them.
    """
    if text.isascii():
        return _ASCII_BLANKS.sub("", text).lower()
    letters = unicodedata.normalize("NFD", folded(text))
    return "".join("".join(x for x in letters if unicodedata.category(x) != "Mn").split())


def visible(text: str) -> str:
    """Return a text with its control characters as pictures, for terminals and XML."""
    if text.isascii() and text.isprintable():
        return text
    return _HIDDEN.sub("\ufffd", text.translate(_CONTROLS).replace("\x7f", "\u2421"))


def _is_hidden(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cf") or letter in FILLERS
