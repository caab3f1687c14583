"""Addresses of stores: credentials in them stay in memory, and the path that a SQLite one means.

What is written down, shown or sent is the masked address. The real one is in the environment,
which processes inherit, and is looked up where a connection is made.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

VARIABLE = "SWEEP_TRACKING_ADDRESS"
"""Of the environment; holds the real address of the sweep's store, if it has credentials."""
MASK = "***"
# A colon with a port behind it, and an @ later in the path, are no credentials.
_USER = re.compile(r"(?<=://)([^:/?#@\s]*)(:(?!\d*(?:[/?#]|$))\S*)?@")
_PARAMETER = re.compile(
    r"([?&;][\w.-]*(?:passw|pwd|secret|token|credential|api_?key)[\w.-]*=)[^&;\s'\"]+",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """Return the same words with a mask for every password and token in an address."""
    hidden = _USER.sub(lambda m: f"{m[1]}:{MASK}@" if m[2] else f"{MASK}@", text)
    return _PARAMETER.sub(rf"\g<1>{MASK}", hidden)


def hide(uri: str) -> str:
    """Keep the real address for `real`, here and in processes to come; returns it masked."""
    shown = masked(uri)
    if shown != uri:
        os.environ[VARIABLE] = uri
    return shown


def real(uri: str) -> str:
    """Return the address to connect to, of a masked one; any other is returned as it is."""
    known = os.environ.get(VARIABLE, "")
    return known if masked(known) == uri else uri


def without_credentials(uri: str) -> str:
    """Return an address that any program can ask, which may refuse to answer."""
    return _USER.sub("", uri)


def of_file(path: Path) -> str:
    """Return the address of a SQLite file with whatever letters in its path."""
    plain = str(path.absolute())
    quoted = re.sub("[%?]", lambda m: quote(m[0]), plain)
    # MLflow makes the folder of an address without a driver, and takes it as it is written.
    return f"sqlite:///{plain}" if quoted == plain else f"sqlite+pysqlite:///{quoted}"


def file_of(uri: str) -> Path | None:
    """Return the file that a SQLite address names; None for another address, or without a file."""
    match = re.match(r"sqlite(?:\+\w+)?:///([^?]+)", uri)
    if match is None or match[1] == ":memory:":
        return None
    return Path(unquote(match[1]))


def from_environment(uri: str | None, experiment_name: str) -> list[str]:
    """Say which settings of the store come from MLflow's own variables, without credentials."""
    used = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_NAME": experiment_name}
    keys = {"MLFLOW_TRACKING_URI": "uri", "MLFLOW_EXPERIMENT_NAME": "experiment_name"}
    return [
        f"tracking.{keys[name]}={masked(str(value))}, from {name}"
        for name, value in used.items()
        if value and masked(os.environ.get(name, "")) == masked(value)
    ]
