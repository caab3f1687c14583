"""Names of parameters -> which of them train: by the parts of a model, or by patterns."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sweep.config.schema import ConfigError, FreezeConfig
from sweep.models.parts import Parts, layer_indices

EVERYTHING = "everything"
HEAD = "head"
FROZEN = "frozen"
Names = Sequence[str]


class Decision(NamedTuple):
    """The choice to train a parameter or not, and the reason for it."""

    trains: bool
    decided_by: str


def decide(names: Names, parts: Parts, strategy: FreezeConfig) -> dict[str, Decision]:
    """Decide each name by the strategy's parts or by its patterns.

    Raises:
        ConfigError: A part the model does not have, a pattern that matches nothing, a name that
            no pattern covers, or a head that would not train.
    """
    if strategy.train is not None:
        return _by_patterns(names, parts, strategy)
    wanted = _by_parts(names, parts, strategy)
    return {
        name: next((Decision(True, why) for why, chosen in wanted.items() if name in chosen), None)
        or Decision(False, FROZEN)
        for name in names
    }


def head_of(names: Names, parts: Parts) -> set[str]:
    """Return the names of the head.

    Raises:
        ConfigError: There are none.
    """
    return _matching(names, parts, HEAD)


def matching(names: Names, pattern: str | None) -> set[str]:
    """Return the names that a pattern matches as a whole; none without a pattern."""
    return {name for name in names if re.fullmatch(pattern, name)} if pattern else set()


def _by_parts(names: Names, parts: Parts, strategy: FreezeConfig) -> dict[str, set[str]]:
    """Return the names that train for each reason; the head comes first."""
    wanted = {f"head: {parts[HEAD]}": head_of(names, parts)}
    for part in strategy.parts:
        if part == EVERYTHING:
            wanted[EVERYTHING] = set(names)
        elif part not in parts:
            available = ", ".join(sorted([*parts, EVERYTHING]))
            raise ConfigError(
                f"freeze.parts={strategy.parts} of the strategy {strategy.name!r}: the model has"
                f" no part {part!r}. Its parts are: {available}."
            )
        elif parts[part] is not None:  # null: the family has none, and says so
            selected = _matching(names, parts, part)
            if part == "layers" and strategy.count is not None:
                selected = _top_layers(selected, names, parts, strategy.count)
            wanted[f"{part}: {parts[part]}"] = selected
    head, *others = wanted.values()
    if strategy.parts and not set().union(*others) - head:
        raise ConfigError(
            f"freeze.parts={strategy.parts} of the strategy {strategy.name!r}: this model has none"
            " of these parts, so nothing but the head would train. Use freeze=full for that."
        )
    return wanted


def _top_layers(layers: set[str], names: Names, parts: Parts, count: int) -> set[str]:
    index = layer_indices(names, parts)
    top = sorted(set(index.values()))[-count:]
    return {name for name in layers if index[name] in top}


def _matching(names: Names, parts: Parts, part: str) -> set[str]:
    pattern = str(parts[part])
    try:
        matched = matching(names, pattern)
    except re.error as error:
        raise ConfigError(
            f"model.parts.{part}={pattern!r} is no regular expression: {error}."
        ) from None
    if not matched:
        raise ConfigError(
            f"model.parts.{part}={pattern!r} matches none of the {len(names)} parameters,"
            f" for example {names[0]!r}. Correct it, or set it to null if the model has no {part}."
        )
    return matched


def _by_patterns(names: Names, parts: Parts, strategy: FreezeConfig) -> dict[str, Decision]:
    decisions: dict[str, Decision] = {}
    errors = []
    for text in strategy.train or []:
        matched = matching(names, text.removeprefix("!"))
        fresh = matched - set(decisions)
        if not fresh:
            errors.append(_decides_nothing(text, matched, names, strategy))
        decisions |= dict.fromkeys(fresh, Decision(not text.startswith("!"), f"pattern: {text}"))
    uncovered = [name for name in names if name not in decisions]
    if uncovered:
        errors.append(_not_covered(uncovered, strategy))
    frozen_head = sorted(
        name for name in head_of(names, parts) & set(decisions) if not decisions[name][0]
    )
    if frozen_head:
        errors.append(
            f"freeze.train of the strategy {strategy.name!r} freezes the head, which is new and has"
            f" to train: {few(frozen_head)}. Put {str(parts[HEAD])!r} in front of the other"
            " patterns."
        )
    if errors:
        raise ConfigError(*errors)
    return decisions


def _decides_nothing(text: str, matched: set[str], names: Names, strategy: FreezeConfig) -> str:
    where = f"freeze.train of the strategy {strategy.name!r}: the pattern {text!r}"
    if matched:
        return (
            f"{where} decides nothing, because the patterns before it match all it matches."
            " The first match wins; move it to the front, or leave it out."
        )
    return (
        f"{where} matches none of the {len(names)} parameters as a whole."
        f" Near misses: {few(_near_misses(text.removeprefix('!'), names))}."
        " Correct it, or leave it out."
    )


def _near_misses(pattern: str, names: Names) -> list[str]:
    """Return the names that the pattern matches in part, else those that are spelt alike."""
    partly = [name for name in names if pattern and re.search(pattern, name)]
    plain = re.sub(r"\\(.)", r"\1", pattern)
    return partly or difflib.get_close_matches(plain, names, n=3, cutoff=0) or list(names[:3])


def _not_covered(uncovered: Names, strategy: FreezeConfig) -> str:
    partial: Mapping[str, str] = {
        text: next((n for n in uncovered if re.search(text.removeprefix("!"), n)), "")
        for text in strategy.train or []
    }
    near = [f"{text!r} matches {name} in part" for text, name in partial.items() if name]
    hint = f" Near misses: {'; '.join(near)}." if near else ""
    return (
        f"freeze.train of the strategy {strategy.name!r} does not say what becomes of"
        f" {len(uncovered)} parameters: {few(uncovered)}.{hint} Every parameter has to be covered;"
        " add '!.*' as the last pattern to freeze all others."
    )


def few(names: Names, limit: int = 3) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
