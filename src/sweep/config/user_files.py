"""Check YAML files of --config-dir: they hold settings, nothing that runs code or has no end.

Hydra makes objects of what its own node names in `_target_`, so that node is not an option's to
set. Files are looked at one by one as Hydra loads them, before it reads them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from sweep.config.schema import ConfigError

TARGET = "_target_"
LAUNCHERS = "hydra/launcher/"
"""Where an option may name a class at its top; Hydra takes launchers of its plugins alone."""
ALLOWED = {"sweeper": ("params",), "sweep": ("subdir",), "job": ("name", "chdir")}
"""What of Hydra's node is no code: the sweep of an experiment, and what conf/config.yaml has."""
MOST_VALUES = 10_000
MOST_DEEP = 50
_PACKAGE = re.compile(r"^#\s*@package\s+(\S+)", re.MULTILINE)


def guard(repository: Any, folder: Path) -> None:
    """Let a repository of Hydra's look at each file of a folder before it loads it."""
    load = repository.load_config

    def load_checked(config_path: str) -> Any:
        file = folder / (config_path if config_path.endswith(".yaml") else f"{config_path}.yaml")
        if file.is_file():
            check(file, config_path)
        return load(config_path=config_path)

    repository.load_config = load_checked


def check(file: Path, name: str) -> None:
    """Look at one file.

    Args:
        file: Where it is.
        name: Its path below the folder, without suffix.

    Raises:
        ConfigError: It would run code, or be too large once it is read.
    """
    try:
        text = file.read_text("utf-8-sig")
        problem = _size_problem(text)
        if not problem:
            problem = _code_problem(name, text, yaml.safe_load(text))
    except (OSError, UnicodeError, yaml.YAMLError):
        return  # Hydra tells
    if problem:
        raise ConfigError(f"{file} {problem}")


def _size_problem(text: str) -> str:
    """Count what a text would be with all aliases filled in; its events are read one by one."""
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(text):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in (anchor for anchor, _ in open_nodes):
                return f"holds itself: *{event.anchor} stands inside of &{event.anchor}. Remove it."
            total += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            sizes |= {event.anchor: 1} if event.anchor else {}
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, total))
            total += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            sizes |= {anchor: total - before} if anchor else {}
        if total > MOST_VALUES or len(open_nodes) > MOST_DEEP:
            return (
                f"has more than {MOST_VALUES} values once its aliases are filled in, or is nested"
                f" more than {MOST_DEEP} deep. No option needs that; make it smaller."
            )
    return ""


def _code_problem(name: str, text: str, content: Any) -> str:
    name = os.path.normpath(name)  # a defaults list may lead there by way of another group
    is_launcher = name.startswith(LAUNCHERS)
    if name.startswith("hydra/") and not is_launcher:
        return "is an option of Hydra's own, which cannot be set. Remove it."
    package = _PACKAGE.search(text)
    if package and package[1].startswith("hydra") and not is_launcher:
        return (
            f"has the package {package[1]}, and only hydra/launcher=NAME and its keys can be set of"
            " Hydra's. Remove that line."
        )
    if not isinstance(content, dict):
        return ""
    named = [key for key in _targets(content) if not (is_launcher and key == TARGET)]
    if named:
        return (
            f"has {named[0]}, which would run code while it is read. Remove it; a class can be"
            " named at the top of a file in hydra/launcher alone."
        )
    return _hydra_problem(content)


def _hydra_problem(content: dict[Any, Any]) -> str:
    keys = [str(key) for key in content if str(key).partition(".")[0] == "hydra"]
    node = content.get("hydra")
    if keys == ["hydra"] and isinstance(node, dict):
        keys = [
            f"hydra.{key}.{inner}" if isinstance(value, dict) else f"hydra.{key}"
            for key, value in node.items()
            for inner in (value if isinstance(value, dict) else ("",))
            if key != "output_subdir" and inner not in ALLOWED.get(key, ())
        ]
    if not keys:
        return ""
    return (
        f"sets {keys[0]}, and only hydra/launcher=NAME and its keys can be set of Hydra's, on the"
        " command line, or in a file of hydra/launcher. Remove it."
    )


def _targets(node: Any, path: str = "") -> Iterator[str]:
    """Yield the dotted keys that name a class or function, at whatever depth."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        dotted_key = f"{path}.{key}" if path else str(key)
        if key == TARGET:
            yield dotted_key
        if isinstance(value, dict | list):
            yield from _targets(value, dotted_key)


def nested_targets(node: Any) -> list[str]:
    """Return the dotted keys that name a class in a launcher's configuration, but its own."""
    return [key for key in _targets(node) if key != TARGET]
