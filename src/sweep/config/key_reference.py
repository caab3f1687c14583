"""Every key that can be set, as `python -m sweep --keys` prints it; made from the schema."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, cast, get_type_hints

from omegaconf import MISSING

from sweep.config import schema
from sweep.config.checks import CHOICES
from sweep.config.overrides import in_words

INTRODUCTION = """\
Every key with its default, the values it takes, and its meaning. An option of a group, such as
freeze=lora or trainer=debug, may set other defaults; KEY=VALUE wins over both, KEY=A,B sweeps.
hydra/launcher=NAME chooses what starts the runs; hydra.launcher.KEY=VALUE sets what it takes."""


@dataclasses.dataclass(frozen=True)
class Key:
    """One key of the schema."""

    name: str
    """Dotted, as typed."""
    default: str
    values: str
    meaning: str


def text() -> str:
    """Return the whole reference."""
    return "\n".join([INTRODUCTION, "", *(line for key in rows() for line in _lines(key))])


def rows(node: type = schema.Composed, prefix: str = "") -> Iterator[Key]:
    """Yield all keys in the order of the schema; groups are not among them, their keys are."""
    below = _docstrings()
    meanings = {k: v for each in node.__mro__ for k, v in below.get(each.__name__, {}).items()}
    kinds = get_type_hints(node)
    for field in dataclasses.fields(node):
        name, kind = prefix + field.name, kinds[field.name]
        if dataclasses.is_dataclass(kind):
            yield from rows(cast(type, kind), f"{name}.")
            continue
        values = f"one of {', '.join(CHOICES[name])}" if name in CHOICES else in_words(kind)
        yield Key(name, _default(field), values, meanings.get(field.name, ""))


def _lines(key: Key) -> list[str]:
    return [f"{key.name}={key.default}   ({key.values})", f"    {key.meaning}"]


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return str(field.default_factory())
    if field.default == MISSING:
        return "???"
    if field.default is None:
        return "null"
    return str(field.default).lower() if isinstance(field.default, bool) else str(field.default)


def _docstrings() -> dict[str, dict[str, str]]:
    """Return the text under each field, on one line, per dataclass of the schema."""
    tree = ast.parse(inspect.getsource(schema))
    return {
        node.name: {
            field.target.id: " ".join(below.value.value.split())
            for field, below in pairwise(node.body)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            if isinstance(below.value.value, str)
        }
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
