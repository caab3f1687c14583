"""Locks on files, which the system frees however their process ends."""

from __future__ import annotations

from filelock import FileLock, Timeout


def is_held(lock: FileLock) -> bool:
    """Whether another process holds a lock; for a moment this one does, if none did."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False
