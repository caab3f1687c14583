"""The words of a report in the languages there are; one TOML file each in `page/`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "page"
"""Templates, styles, scripts and words of the report."""
LANGUAGES = tuple(sorted(path.stem for path in PAGE.glob("*.toml")))


@dataclass(frozen=True)
class Words:
    """Sentences of one language by dotted keys, with values filled in."""

    language: str
    sentences: Mapping[str, str]

    def __call__(self, key: str, **values: object) -> str:
        return self.sentences[key].format(**values)

    def __contains__(self, key: str) -> bool:
        return key in self.sentences

    def known(self, prefix: str, name: str) -> str:
        """The word for a name that code uses, or the name itself."""
        return self.sentences.get(f"{prefix}.{name}", name)


@cache
def load(language: str) -> Words:
    """All words of one of `LANGUAGES`."""
    content = tomllib.loads((PAGE / f"{language}.toml").read_text("utf-8"))
    return Words(language, dict(_flat(content, "")))


def _flat(node: Mapping[str, Any], prefix: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in node.items():
        found += (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
        )
    return found
