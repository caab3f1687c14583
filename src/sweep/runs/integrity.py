"""Check that the files of a finished run are still as it left them.

A run ends by writing down size and checksum of the files that others read. A run of which one is
gone, cut or changed counts as not done: it is trained again, and a report names the file.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from sweep.base.disk import changed_file, fingerprints, write_atomically
from sweep.base.layout import RunPaths
from sweep.base.words import Remark
from sweep.models.model_files import weights_damage
from sweep.runs.record import Record, read_record

_RUN = RunPaths(Path())
SEAL, MODEL, RECORD = (path.name for path in (_RUN.seal, _RUN.model, _RUN.record))
RESULTS = tuple(p.name for p in (_RUN.config, _RUN.freeze, _RUN.curves, _RUN.predictions))
NODES = {"data", "model", "freeze", "optimizer", "trainer", "seed"}
"""Of every config.yaml, whichever version wrote it."""

_UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError),
    *(csv.Error, yaml.YAMLError),
)


def seal(folder: Path) -> None:
    """Write down what the files of a run are; the last thing that it does before it is finished."""
    paths = [folder / name for name in RESULTS if (folder / name).is_file()]
    paths += [path for path in (folder / MODEL).rglob("*") if path.is_file()]
    write_atomically(folder / SEAL, json.dumps({"files": fingerprints(folder, paths)}, indent=1))


def reseal(folder: Path, path: Path) -> None:
    """Write down anew what one file is that was changed on purpose, if it was sealed before."""
    files = _sealed(folder)
    if files is not None and path.name in files:
        files |= fingerprints(folder, [path])
        write_atomically(folder / SEAL, json.dumps({"files": files}, indent=1))


def damaged_file(folder: Path, with_model: bool = False) -> str:
    """Return the first file of a finished run that is not as it was left, or nothing.

    Runs of versions that sealed nothing are read, as far as a file shows by itself that it was cut.

    Args:
        folder: Of the run.
        with_model: Whether its trained weights have to be there, too.
    """
    record = read_record(folder)
    if record is None or not any(name.startswith(("test_", "eval_")) for name in record.metrics):
        return RECORD
    files = _sealed(folder)
    if files is None:
        return _cut_file(folder) or (_damaged_model(folder) if with_model else "")
    wanted = {name: known for name, known in files.items() if with_model or not _of_model(name)}
    if with_model and not any(_of_model(name) for name in files):
        return MODEL
    return changed_file(folder, wanted)


def has_model(folder: Path) -> bool:
    """Whether a run has left trained weights, be they whole or not."""
    return (folder / MODEL).is_dir() or any(map(_of_model, _sealed(folder) or ()))


def checked_record(folder: Path) -> Record | None:
    """Return a run's record: failed where files are damaged, None where it left no record."""
    record = read_record(folder)
    if record is None and (folder / RECORD).exists():
        record = Record("", folder.name, folder.name, "FINISHED", folder=str(folder.absolute()))
    if record is None or record.status != "FINISHED" or not (file := damaged_file(folder)):
        return record
    # Numbers of a record that holds no result would be taken for some.
    metrics = {} if file == RECORD else record.metrics
    reason = Remark("end.damaged", {"file": file, "folder": str(folder)})
    return replace(record, status="FAILED", reason=reason, metrics=metrics)


def _sealed(folder: Path) -> dict[str, list[Any]] | None:
    """Return the seal's entry of each file; None where no seal can be read."""
    try:
        files = json.loads((folder / SEAL).read_text("utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return files if isinstance(files, dict) else None


def _of_model(name: str) -> bool:
    return name.startswith(f"{MODEL}/")


def _damaged_model(folder: Path) -> str:
    """Name the weights that nobody has sealed if headers, lengths or companions are wrong."""
    model = folder / MODEL
    weights = [path for path in model.glob("*.safetensors") if path.is_file()]
    about = any((model / name).is_file() for name in ("config.json", "adapter_config.json"))
    return "" if weights and about and not weights_damage(model) else MODEL


def _cut_file(folder: Path) -> str:
    """Name the first result that does not read as one; a missing file is no damage."""
    for name, reads in zip(RESULTS, (_config, _freeze, _curves, _predictions), strict=True):
        path = folder / name
        if path.exists() and not _reads(path, reads):
            return name
    return ""


def _reads(path: Path, reads: Callable[[str], bool]) -> bool:
    try:
        return reads(path.read_text("utf-8"))
    except _UNREADABLE:
        return False


def _config(text: str) -> bool:
    return set(yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))) >= NODES


def _freeze(text: str) -> bool:
    tensors = json.loads(text).get("tensors", [])
    return all(type(t["name"]) is str and type(t["trainable"]) is bool for t in tensors)


def _curves(text: str) -> bool:
    return all(isinstance(json.loads(line)["metrics"], dict) for line in text.splitlines())


def _predictions(text: str) -> bool:
    rows = list(csv.reader(text.splitlines(keepends=True)))
    same = all(len(row) == len(rows[0]) for row in rows)
    return len(rows) > 1 and same and {"id", "label", "prediction"} <= set(rows[0])
