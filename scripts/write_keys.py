"""Write docs/reference/keys.md from the schema: `python scripts/write_keys.py`; `make docs` does.

A test compares the file with what this would write.
"""

from __future__ import annotations

from pathlib import Path

from sweep.config import key_reference
from sweep.config.key_reference import Key

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "keys.md"
SWEEP = "other keys"
"""Heading of the keys that belong to no group."""
INTRODUCTION = """\
# Every key

Made from the schema by `make docs`; `python -m sweep --keys` prints the same.

An option of a group, such as `freeze=lora` or `trainer=debug`, may set other defaults. `KEY=VALUE`
wins over both, and `KEY=A,B` sweeps. `hydra/launcher=NAME` chooses what starts the runs, and
`hydra.launcher.KEY=VALUE` sets what it takes. `???` has to be given; `null` is none."""


def page() -> str:
    """Return the whole page as Markdown: groups in the order of the schema, then all other keys."""
    sections: dict[str, list[Key]] = {}
    for key in key_reference.rows():
        sections.setdefault(_heading(key), []).append(key)
    sections[SWEEP] = sections.pop(SWEEP)  # behind the groups
    return "\n\n".join([INTRODUCTION, *(_section(*item) for item in sections.items())]) + "\n"


def _heading(key: Key) -> str:
    group, dot, _ = key.name.partition(".")
    return group if dot else SWEEP


def _section(heading: str, keys: list[Key]) -> str:
    head = ["| key | default | values | meaning |", "|---|---|---|---|"]
    return "\n".join([f"## {heading}", "", *head, *map(_row, keys)])


def _row(key: Key) -> str:
    return f"| `{key.name}` | `{key.default}` | {_cell(key.values)} | {_cell(key.meaning)} |"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
