"""Facts -> sentences, in the languages there are; one TOML file each in `languages/`.

What is found out about a sweep is a `Remark`: which sentence, and what fills it in. It is stored
as that too, so that it can be shown in any language later. Only this module makes words of it, so
a rule is written once however many languages tell it.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "languages"
LANGUAGES = tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


class Remark(str):
    """An English sentence that knows which one it is and what fills it in.

    So it is at home wherever a text is (tags, logs, tables), and `Words.tell` says it in another
    language. `str(remark)` is the sentence alone.
    """

    key: str
    """Of the sentence, dotted as in the TOML files."""
    values: Mapping[str, object]
    """Numbers, names, other remarks, and tuples of those, by the names that the sentence has."""

    def __new__(cls, key: str, values: Mapping[str, object] | None = None) -> Remark:
        remark = super().__new__(cls, load("en")(key, **(values or {})))
        remark.key, remark.values = key, values or {}
        return remark

    def __reduce__(self) -> tuple[type[Remark], tuple[str, Mapping[str, object]]]:
        return Remark, (self.key, self.values)

    def __repr__(self) -> str:
        return f"Remark({str(self)!r})"


Text = Remark | str
"""A remark, or words that are data: names, commands, errors of libraries."""


def to_json(value: object) -> object:
    """Return the JSON of a text, or of a value that fills it in; a remark's key and values."""
    if isinstance(value, Remark):
        return {"key": value.key, "values": {k: to_json(v) for k, v in value.values.items()}}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    return value if isinstance(value, str | int | float) else str(value)


def from_json(stored: object) -> Text:
    """Return the text that `to_json` has stored.

    Versions up to 0.1.0 stored English sentences. They come back as such, and stay English on a
    page in another language. What a later version has stored, and this one has no sentence for,
    comes back as it stands in the file.
    """
    value = _restored(stored)
    return value if isinstance(value, str) else json.dumps(stored, ensure_ascii=False)


def _restored(stored: Any) -> object:
    if isinstance(stored, list):
        return tuple(_restored(item) for item in stored)
    try:
        return Remark(stored["key"], {k: _restored(v) for k, v in stored["values"].items()})
    except (LookupError, ValueError, TypeError, AttributeError):
        return stored


class _Listed(tuple[str, ...]):
    """Items that a sentence joins with what stands behind the colon, as in `{names: and }`."""

    __slots__ = ()

    def __format__(self, separator: str) -> str:
        return separator.join(self)


@dataclass(frozen=True)
class Words:
    """Sentences of one language by dotted keys, with values filled in."""

    language: str
    sentences: Mapping[str, str]

    def __call__(self, key: str, /, **values: object) -> str:
        filled = {name: self._told(value) for name, value in values.items()}
        return self.sentences[key].format(**filled)

    def tell(self, said: Text) -> str:
        """Put a remark in this language; other words are returned as they are."""
        return self(said.key, **said.values) if isinstance(said, Remark) else said

    def known(self, prefix: str, name: str) -> str:
        """Return the word for a name that code uses, or the name itself."""
        return self.sentences.get(f"{prefix}.{name}", name)

    def _told(self, value: object) -> object:
        if isinstance(value, tuple):
            return _Listed(str(self._told(item)) for item in value)
        return self.tell(value) if isinstance(value, Remark) else value


@cache
def load(language: str) -> Words:
    """Return all words of one of `LANGUAGES`."""
    content = tomllib.loads((FOLDER / f"{language}.toml").read_text("utf-8"))
    return Words(language, dict(_flat(content, "")))


def named(prefix: str, name: Text) -> Text:
    """Return the remark of a name that code uses, or the name itself if no word stands for it."""
    key = f"{prefix}.{name}"
    return Remark(key) if key in load("en").sentences else name


def _flat(node: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, str]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
