"""The part of a run before its first step: what does not fit there fits in no smaller batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_NOTE = "before the first step"


@contextmanager
def loading() -> Iterator[None]:
    """Remember of an exception that leaves the block where it was raised."""
    try:
        yield
    except Exception as error:
        error.add_note(_NOTE)
        raise


def is_of_loading(error: BaseException) -> bool:
    """Whether an exception has left a block of `loading`."""
    return _NOTE in getattr(error, "__notes__", ())
