"""Tags that sweeps and runs carry in the store and in record.json; no other module spells them.

MLflow keeps texts alone, so what is a number is read here.
"""

from __future__ import annotations

from collections.abc import Mapping


class Tag:
    """Names of tags, and how some of them begin."""

    KIND = "sweep.kind"
    """`run` or `sweep`."""
    ID = "sweep.id"
    """Of the sweep that a run belongs to."""
    KEY = "sweep.key"
    """Hash of all that determines a run's result."""
    FOLDER = "sweep.folder"
    PLACE = "sweep.place"
    """The last two steps of the folder: what stays the same when mlruns/ is moved."""
    HOST = "sweep.host"
    HEARTBEAT = "sweep.heartbeat"
    """Unix time, s."""
    STATUS_REASON = "sweep.status_reason"
    RECOMMENDED = "sweep.recommended"
    RECOMMENDATION = "sweep.recommendation"
    DATA_FINGERPRINT = "sweep.data_fingerprint"
    WEIGHTS_FINGERPRINT = "sweep.weights_fingerprint"
    TRAINS = "sweep.trains"
    LAYERS = "sweep.layers"
    LOWEST_TRAINED_DEPTH = "sweep.lowest_trained_depth"
    DEVICE = "sweep.device"
    NUM_THREADS = "sweep.num_threads"
    MACHINE = "sweep.machine"
    GIT = "sweep.git"
    FEATURES = "sweep.features"
    FLAGS = "sweep.flags"
    """The signs that the run's strategy could do better than it was seen to."""
    CONTENDED = "timing_contended"
    """Set where another training shared cores or the device; the only one without the prefix."""
    VERSION = "sweep.version."
    """Begins one tag per library."""
    NOTE = "mlflow.note.content"
    """The description that MLflow shows."""
    PARENT = "mlflow.parentRunId"


def number(tags: Mapping[str, str], tag: str) -> int | None:
    """Return the whole number that a tag holds; None where it is missing or holds none."""
    try:
        return int(float(tags[tag]))
    except (KeyError, ValueError, OverflowError):
        return None
