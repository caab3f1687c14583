"""Keeps bitsandbytes out of a process until something is to be quantised.

Its import asks what the GPUs can do, which starts CUDA, and a process that has started CUDA cannot
be forked any more. peft imports it wherever it is installed, and the Trainer imports peft.
"""

from __future__ import annotations

import sys
from typing import Any

PACKAGE = "bitsandbytes"


def hide() -> None:
    """Let the package look as if it were not installed, unless it is imported already."""
    sys.modules.setdefault(PACKAGE, None)  # type: ignore[arg-type]  # what `import` refuses


def show() -> None:
    """Undo `hide`, also for those who have asked meanwhile and remember the answer."""
    if PACKAGE in sys.modules and sys.modules[PACKAGE] is None:
        del sys.modules[PACKAGE]
        for ask in _questions():
            ask.cache_clear()


def _questions() -> list[Any]:
    """Return the functions of libraries that tell, and remember, if it is installed."""
    names = {
        "peft.import_utils": ("is_bnb_available", "is_bnb_4bit_available"),
        "transformers.utils.import_utils": ("is_bitsandbytes_available",),
    }
    return [
        getattr(sys.modules[module], function)
        for module, functions in names.items()
        if module in sys.modules
        for function in functions
    ]
