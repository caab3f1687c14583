"""Command line -> parsed overrides, with every mistake put in words."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from math import inf
from types import NoneType, UnionType
from typing import Any, cast, get_args, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.errors import HydraException

from sweep.config import schema
from sweep.config.schema import ConfigError

OPTIONS = ("--cfg job", "--config-dir DIR", "--help", "--keys", "--version")
LAUNCHER = "hydra/launcher"
LAUNCHER_KEYS = "hydra.launcher."
"""What can be set of Hydra's own keys; those of a launcher are looked at where it is known."""
WORDS = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "a text",
    NoneType: "null",
    Any: "a text or a list, [a,b]",
}
OPEN = ("families.", "model.parts.")
"""Tables whose keys the user makes up."""
Groups = Mapping[str, Callable[[], Sequence[str]]]
"""What lists the options of a group, by its name."""


def parse(
    texts: Sequence[str], groups: Groups, loader: Any, errors: list[str]
) -> dict[str, list[Override]]:
    """Read overrides and enumerate their sweeps.

    Args:
        texts: As typed; `key=a,b` sweeps.
        groups: All of them.
        loader: Hydra's, for `glob(*)`.
        errors: Gets one message per mistake.

    Returns:
        Per key, one override per value, in the order typed; those with a mistake are left out.
        The last word counts when a key is given twice.
    """
    # Quotes around the comma do not survive the shell, and Hydra would read a sweep of nothing.
    texts = ['data.separator=","' if text == "data.separator=," else text for text in texts]
    parser, most = OverridesParser.create(config_loader=loader), _typed_limit(texts)
    parsed: dict[str, list[Override]] = {}
    for text in texts:
        try:
            override = _parse_one(text, parser)
            problem = _problem(override, groups)
            values = [] if problem else _expand(override, parser, most)
        except HydraException as error:
            problem = _unreadable(text, str(error))
        except ConfigError as error:
            problem = str(error)
        if problem:
            errors.append(problem)
            continue
        key = override.key_or_group
        names = groups[key]() if key in groups else []
        unknown = [
            _unknown_option(key, value_of(value), names)
            for value in values
            if key in groups and value_of(value) not in names
        ]
        errors += unknown
        if not unknown:
            parsed[key] = values
    return parsed


def _parse_one(text: str, parser: OverridesParser) -> Override:
    """Read one override; a text that the grammar has no letters for is taken as it is."""
    try:
        return cast(Override, parser.parse_overrides([text])[0])
    except HydraException:
        quoted = _quote(text)
        if quoted is None:
            raise
        return cast(Override, parser.parse_overrides([quoted])[0])


def _quote(text: str) -> str | None:
    """Quote the values of a key that takes text: Hydra knows ASCII alone outside of quotes."""
    key, _, value = text.partition("=")
    kind = schema.keys().get(key)
    listed = value.startswith("[") and value.endswith("]")
    is_text = str in (kind, *get_args(kind)) and not listed
    is_list = list[str] in (kind, *get_args(kind)) and listed
    if not (is_text or is_list) or not value or "'" in value or value.endswith("\\"):
        return None
    if is_list:
        return f"{key}=[" + ",".join(f"'{part.strip()}'" for part in value[1:-1].split(",")) + "]"
    # A comma in brackets belongs to a regular expression; any other one sweeps.
    values = [value] if set(value) & set("()[]{}") else value.split(",")
    return f"{key}=" + ",".join(f"'{part}'" for part in values)


def value_of(override: Override) -> str:
    """Return the value as it would be typed, without quotes."""
    value = override.value()
    return value if isinstance(value, str) else str(override.get_value_element_as_str())


def wrong_type(override: Override, reason: str) -> str:
    """Return the message for a value that the schema does not take."""
    typed, kind = override.input_line, schema.keys().get(override.key_or_group)
    if kind is None:
        return f"{typed} is not accepted: {reason}."
    return f"{typed} has the wrong type. It has to be {in_words(kind)}."


def too_many(what: str, limit: int) -> str:
    """Return the message for more runs than a sweep may have."""
    return (
        f"{what} more than max_runs={limit}. Take fewer values, or set max_runs to what you mean."
    )


def _typed_limit(texts: Sequence[str]) -> int:
    """Return `max_runs` as typed, which is known before any other value is enumerated."""
    limits = [text.partition("=")[2] for text in texts if text.startswith("max_runs=")]
    return int(limits[-1]) if limits and limits[-1].isdecimal() else schema.SweepSettings.max_runs


def _length(values: RangeSweep) -> float:
    """Count the numbers of a range without enumerating them."""
    start, stop = (float(edge or 0) for edge in (values.start, values.stop))
    return max(0.0, (stop - start) / values.step) if values.step else inf


def _expand(override: Override, parser: OverridesParser, most: int) -> list[Override]:
    """Return one override per value of a sweep, without repetitions."""
    if not override.is_sweep_override():
        return [override]
    if not override.is_discrete_sweep():
        raise HydraException("its values cannot be enumerated")
    if override.is_range_sweep() and _length(override.value()) > most:
        raise ConfigError(too_many(f"{override.input_line} stands for", most))
    values = dict.fromkeys(override.sweep_string_iterator())
    if not values:
        raise HydraException("no value fits it")
    return list(parser.parse_overrides([f"{override.key_or_group}={value}" for value in values]))


def _problem(override: Override, groups: Groups) -> str:
    """Say what is wrong with a key; an empty string if nothing is."""
    key, known = override.key_or_group, schema.keys()
    if not key:
        return _unreadable(str(override.input_line), "there is no key")
    if override.is_add() or override.is_force_add() or override.is_delete():
        return (
            f"{override.input_line!r} adds or deletes a key. Only existing keys can be set, with"
            f" {key}=value."
        )
    if override.package is not None:
        return f"{override.input_line!r} has an @. Write {key}=value."
    if override.is_hydra_override() and key != LAUNCHER and not key.startswith(LAUNCHER_KEYS):
        return (
            f"{override.input_line!r} has no effect. Of Hydra's own keys only"
            " hydra/launcher=NAME and hydra.launcher.KEY=VALUE can be set. Remove it."
        )
    if key in groups or key in known or key.startswith((*OPEN, LAUNCHER_KEYS)):
        return ""
    return _unknown_key(key, sorted({*known, *groups}))


def _unreadable(text: str, reason: str) -> str:
    if text.startswith("-"):
        return (
            f"{text!r} is no option. The options are {', '.join(OPTIONS)}; sweep.plan has"
            " --measure too."
        )
    return (
        f"{text!r} cannot be read ({reason.splitlines()[0]}). Write key=value, key=a,b to sweep,"
        " and quote values with special characters: key='\"a=b\"'."
    )


def _unknown_option(group: str, name: str, names: Sequence[str]) -> str:
    more = " Hydra's plugins bring others when they are installed." if group == LAUNCHER else ""
    return (
        f"{group}={name!r} is no option of {group}. Its options are: {', '.join(names)}."
        f"{more}{_did_you_mean(name, names)}"
    )


def _unknown_key(key: str, known: Sequence[str]) -> str:
    parent = key.rpartition(".")[0]
    while parent and parent not in known:
        parent = parent.rpartition(".")[0]
    prefix = f"{parent}." if parent else ""
    siblings = [k for k in known if k.startswith(prefix) and "." not in k[len(prefix) :]]
    where = f"Keys of {parent}" if siblings and parent else "Top-level keys"
    names = siblings or [k for k in known if "." not in k]
    return f"{key} is no key. {where}: {', '.join(names)}.{_did_you_mean(key, known)}"


def _did_you_mean(word: str, candidates: Sequence[str]) -> str:
    last = {c.rpartition(".")[2]: c for c in candidates}
    close = difflib.get_close_matches(word, candidates, n=1) or [
        last[name] for name in difflib.get_close_matches(word.rpartition(".")[2], last, n=1)
    ]
    return f" Did you mean {close[0]}?" if close else ""


def in_words(kind: Any) -> str:
    """Return a type of the schema as people say it."""
    if isinstance(kind, UnionType):
        return " or ".join(in_words(k) for k in get_args(kind))
    if get_origin(kind) is list:
        return "a list of texts, [a,b]"
    return WORDS.get(kind, "a mapping, {key: value}")
