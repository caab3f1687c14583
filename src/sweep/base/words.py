"""Facts -> sentences, in the languages there are; one TOML file each in `languages/`.

What is found out about a sweep is kept as a `Remark`: which sentence, and what fills it in. Only
this module makes words of it, so a rule is written once however many languages tell it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any

FOLDER = Path(__file__).parent / "languages"
LANGUAGES = tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


@dataclass(frozen=True, repr=False)
class Remark:
    """Something to be said; as text, and where it is shown, the English sentence."""

    key: str
    """Of the sentence, dotted as in the TOML files."""
    values: Mapping[str, object] = field(default_factory=dict)
    """Numbers, names, other remarks, and tuples of those, by the names that the sentence has."""

    def __str__(self) -> str:
        return load("en").tell(self)

    def __repr__(self) -> str:
        return f"Remark({str(self)!r})"


Text = Remark | str
"""A remark, or words that are data: names, commands, errors of libraries."""


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
        """A remark in this language; other words as they are."""
        return said if isinstance(said, str) else self(said.key, **said.values)

    def known(self, prefix: str, name: str) -> str:
        """The word for a name that code uses, or the name itself."""
        return self.sentences.get(f"{prefix}.{name}", name)

    def again(self, section: str, text: str) -> str:
        """A remark that was stored as its English text, in this language.

        Args:
            section: Of the sentences that it may be one of; parts of it may be others of them.
            text: Comes back as it is where no sentence of the section made it.
        """
        for pattern in _patterns(section):
            if found := pattern.of.fullmatch(text):
                values = {
                    name: tuple(self.again(section, item) for item in part.split(separator))
                    if (separator := pattern.separators[name])
                    else self.again(section, part)
                    for name, part in found.groupdict().items()
                }
                return self(pattern.key, **values)
        return text

    def _told(self, value: object) -> object:
        if isinstance(value, tuple):
            return _Listed(str(self._told(item)) for item in value)
        return self.tell(value) if isinstance(value, Remark) else value


@cache
def load(language: str) -> Words:
    """All words of one of `LANGUAGES`."""
    content = tomllib.loads((FOLDER / f"{language}.toml").read_text("utf-8"))
    return Words(language, dict(_flat(content, "")))


def named(prefix: str, name: str) -> Text:
    """The remark of a name that code uses, or the name itself where there are no words for it."""
    key = f"{prefix}.{name}"
    return Remark(key) if key in load("en").sentences else name


@dataclass(frozen=True)
class _Pattern:
    """An English sentence turned round: it finds the values that fill it."""

    key: str
    literal: str
    """Of the sentence, without its values."""
    of: re.Pattern[str]
    separators: Mapping[str, str]
    """Per value, what stands between its items; empty where it is no list."""


@cache
def _patterns(section: str) -> list[_Pattern]:
    """Of all sentences of a section, those with the most words of their own first."""
    own = {k: s for k, s in load("en").sentences.items() if k.startswith(f"{section}.")}
    found = [_pattern(key, sentence) for key, sentence in own.items()]
    return sorted(found, key=lambda pattern: -len(pattern.literal))


def _pattern(key: str, sentence: str) -> _Pattern:
    pattern, literal, separators = "", "", {}
    for before, name, separator, _ in Formatter().parse(sentence):
        pattern, literal = pattern + re.escape(before), literal + before
        if name:
            pattern += f"(?P<{name}>.*?)"
            separators[name] = separator or ""
    return _Pattern(key, literal, re.compile(pattern, re.DOTALL), separators)


def _flat(node: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, str]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
