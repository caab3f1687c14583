"""The consequences of each setting of a run, said once, as metadata of the schema's fields.

A group says it for its keys; a key that differs from its group says what it adds or lacks. Which
runs are the same, which configurations differ, and what can be shared all follow from here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from enum import Flag, auto
from typing import Any, cast, get_type_hints


class Decides(Flag):
    """The kinds of consequence that the value of a setting has."""

    NOTHING = 0
    RESULT = auto()
    """What the run learns: the value enters the key of the run as it stands."""
    CONFIGURATION = auto()
    """Which configuration it is: runs with other values are no replicates of each other."""
    FROZEN_STATES = auto()
    """What the frozen part of the model makes of the texts, which runs can share."""
    FIT = auto()
    """Whether strategy and model go together, and how many weights train."""
    COST = auto()
    """How long it takes, and how much memory."""


ADDS, LACKS, LATER = "adds", "lacks", "later"


def group(kind: type, decides: Decides) -> Any:
    """Return a field of the schema that holds a group of settings."""
    return dataclasses.field(default_factory=kind, metadata={ADDS: decides})


def setting(default: Any, adds: Decides = Decides.NOTHING, lacks: Decides = Decides.NOTHING) -> Any:
    """Return a field of the schema whose value decides more or less than its group's others."""
    return dataclasses.field(default=default, metadata={ADDS: adds, LACKS: lacks})


def later(default: Any) -> Any:
    """Return a field that came later: at its default, runs have the keys that they had before."""
    return dataclasses.field(default=default, metadata={LATER: True})


def name_only(default: Any) -> Any:
    """Return a field that says what something is called, or where it is, not what it is."""
    return setting(default, lacks=Decides.CONFIGURATION)


def no_effect_on_result(default: Any) -> Any:
    """Return a field of which the result is independent: runs are the same whatever it says."""
    return setting(default, lacks=Decides.RESULT | Decides.CONFIGURATION)


def values(node: Any, decides: Decides, of_group: Decides = Decides.NOTHING) -> dict[str, Any]:
    """Return the settings of a run that decide something, nested as they are in the schema.

    Those that came later are left out at their defaults.

    Args:
        node: A `Config`, or a group of one.
        decides: One of the flags.
        of_group: What the group decides, where `node` is one.
    """
    result: dict[str, Any] = {}
    for field in dataclasses.fields(node):
        effect, value = _effect(field, of_group), getattr(node, field.name)
        if dataclasses.is_dataclass(value):
            if inner := values(value, decides, effect):
                result[field.name] = inner
        elif decides in effect and not (field.metadata.get(LATER) and value == field.default):
            result[field.name] = value
    return result


def keys_without(
    node: type, decides: Decides, of_group: Decides = Decides.NOTHING, prefix: str = ""
) -> Iterator[str]:
    """Return the dotted keys below a class of the schema that do not decide something."""
    kinds = get_type_hints(node)
    for field in dataclasses.fields(node):
        effect, name = _effect(field, of_group), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(kinds[field.name]):
            yield from keys_without(cast(type, kinds[field.name]), decides, effect, f"{name}.")
        elif decides not in effect:
            yield name


def _effect(field: dataclasses.Field[Any], of_group: Decides) -> Decides:
    adds, lacks = (field.metadata.get(key, Decides.NOTHING) for key in (ADDS, LACKS))
    return cast(Decides, (of_group | adds) & ~lacks)
