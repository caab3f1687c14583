"""Overrides quoted so that they can be pasted into a shell."""

from __future__ import annotations

import shlex


def override(key: str, value: str) -> str:
    """Return `key=value` quoted twice: for Hydra, and around that for the shell."""
    escaped = value.replace("\\", "\\\\") if value.endswith("\\") else value
    escaped = escaped.replace('"', '\\"')
    return shlex.quote(f'{key}="{escaped}"')
