"""The callback that a training reports its progress to."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[dict[str, float], int, int], None]
"""Takes metrics, the optimizer step they belong to, and how many steps there will be."""
