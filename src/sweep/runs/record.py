"""The specification of a run, its record, and the key that stands for its result."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import os
import platform
import re
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from sweep.base.disk import write_atomically
from sweep.base.layout import RunPaths
from sweep.base.words import Text, from_json, to_json
from sweep.config import decides
from sweep.config.decides import Decides
from sweep.config.schema import Config
from sweep.tracking.store import Store
from sweep.tracking.tags import Tag

TRAINING = 3
"""Part of every key; raise it when the same choices come to give other results."""
_SEED = re.compile(r"^seed: (\d+)\n", re.MULTILINE)
COMPUTED_WITH = (
    *("seed", "num_train_epochs", "train_examples", "max_steps"),
    "per_device_train_batch_size",
)
"""Params that comparisons and estimates take for numbers."""


@dataclass(frozen=True)
class RunSpec:
    """Everything a process needs to do one run."""

    name: str
    cfg: Config
    swept: dict[str, str]
    key: str
    """Content hash of all that determines the result."""
    sweep_id: str
    folder: Path
    """Made when the run begins, unless the run goes on in it."""
    store: Store
    root: Path = Path()
    """Where all results are, absolute."""
    num_threads: int = 1
    device: int | None = None
    """Which GPU, when runs are spread over several."""
    notes: tuple[Text, ...] = ()
    """What happened to the run before this try."""
    data_fingerprint: str = ""
    """Content of the splits when the sweep began."""
    weights_fingerprint: str = ""
    """Content of the model's files when the sweep began; empty takes them as they are."""
    weights_stamp: str = ""
    """Their sizes and times then; see `model_files.fetch_same`."""
    sharing: int = 1
    """How many runs of the sweep read the same texts with the same frozen part."""
    resume: bool = True
    """Whether the same run, where another process has finished it, is taken over."""

    @property
    def paths(self) -> RunPaths:
        """The files that the run leaves."""
        return RunPaths(self.folder)


@dataclass
class Record:
    """The results of a run; one JSON file per run, and the rows of every comparison."""

    run_id: str
    name: str
    strategy: str
    status: str
    reason: Text = ""
    key: str = ""
    """Content hash of all that determines the result."""
    swept: dict[str, str] = field(default_factory=dict)
    """The keys that vary in the sweep, with this run's values as typed."""
    folder: str = ""
    """Where the run's files are, absolute."""
    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    notes: list[Text] = field(default_factory=list)

    @property
    def paths(self) -> RunPaths:
        """Its files; without a folder, none of them exists."""
        return RunPaths(Path(self.folder or os.devnull))


def run_key(cfg: Config, data_fingerprint: str, weights_fingerprint: str) -> str:
    """Return the hash of the resolved choices and of the content of data and weights.

    Names, paths and where results go do not enter; a file moved elsewhere is the same file.
    `trainer.precision=auto` and `trainer.device=auto` enter as typed: resolving them takes seconds
    of importing torch, which no error should wait for. What they stood for is among the run's
    params and tags; on a machine that resolves them otherwise, the same key has other last bits.
    """
    choices = decides.values(cfg, Decides.RESULT)
    choices["optimizer"]["learning_rate"] = cfg.learning_rate
    # What came later enters only where it makes a difference, so that older keys stay.
    if cfg.solves_probe:
        choices["freeze"]["probe"] = "lbfgs"
    if cfg.model.pooling is not None:
        choices["model"]["pooling"] = cfg.model.pooling
    content = json.dumps([TRAINING, choices, data_fingerprint, weights_fingerprint], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def first_tags(spec: RunSpec) -> dict[str, str]:
    """Return the tags that the store gets when a run begins."""
    tags = {
        Tag.KIND: "run",
        Tag.ID: spec.sweep_id,
        Tag.KEY: spec.key,
        Tag.HOST: platform.node(),
    }
    return tags | ({Tag.PARENT: spec.sweep_id} if spec.store.nested else {})


def begun(spec: RunSpec, status: str, reason: Text = "") -> Record:
    """Record of a run of which nothing but its specification is known."""
    name, strategy = spec.name, spec.cfg.freeze.name
    return Record("", name, strategy, status, reason, spec.key, spec.swept, str(spec.folder))


def unfinished(spec: RunSpec, status: str, reason: Text) -> Record:
    """Record of a run that ended early, with whatever it had written down before."""
    record, written = begun(spec, status, reason), read_record(spec.folder)
    if written is not None:
        for key in ("params", "metrics", "tags", "notes"):
            setattr(record, key, getattr(written, key))
    return record


def write_record(record: Record, folder: Path) -> None:
    """Save the record beside the run's other files, so that nothing depends on the store."""
    content = asdict(record)
    content |= {"reason": to_json(record.reason), "notes": to_json(record.notes)}
    write_atomically(RunPaths(folder).record, json.dumps(content, indent=1))


def read_record(folder: Path) -> Record | None:
    """Return the record in a folder; None where it is missing, damaged or of another kind."""
    try:
        content = json.loads(RunPaths(folder).record.read_text("utf-8"))
        if not _is_record(content):
            return None
        known = {
            field.name: content[field.name] for field in fields(Record) if field.name in content
        }
        known["reason"] = from_json(known.get("reason", ""))
        known["notes"] = [from_json(note) for note in known.get("notes", ())]
        # The folder may have been moved since.
        return Record(**{**known, "folder": str(folder.absolute())})
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def _is_record(content: Any) -> bool:
    """Whether what a file holds is of the types that a record has."""
    if not isinstance(content, dict):
        return False
    texts = [content.get(key, "") for key in ("run_id", "name", "strategy", "status", "key")]
    for key in ("swept", "tags"):
        texts += content.get(key, {}).values() if isinstance(content.get(key, {}), dict) else [None]
    metrics = content.get("metrics", {})
    return (
        all(isinstance(text, str) for text in texts)
        and _are_params(content.get("params", {}))
        and isinstance(content.get("notes", []), list)
        and isinstance(metrics, dict)
        and all(map(_is_number, metrics.values()))
    )


def _are_params(params: Any) -> bool:
    """Whether params are plain values, and numbers where they are computed with."""
    return (
        isinstance(params, dict)
        and all(isinstance(value, str | int | float | None) for value in params.values())
        and all(_is_number(params[key], as_text=True) for key in COMPUTED_WITH if key in params)
    )


def _is_number(value: Any, as_text: bool = False) -> bool:
    """Whether a value is one that Python can compute with; MLflow keeps params as texts."""
    if isinstance(value, bool) or not isinstance(value, int | float | (str if as_text else int)):
        return False
    try:
        float(value)
    except (ValueError, OverflowError):
        return False
    return True


def write_config(spec: RunSpec) -> None:
    """Save the configuration that a run is made with."""
    OmegaConf.save(OmegaConf.structured(spec.cfg), spec.paths.config)


def saved_config(folder: Path) -> Config:
    """Return the configuration that a run was made with, from its folder.

    Older versions wrote the settings of the sweep into it, too, which are no part of the run.
    """
    text = RunPaths(folder).config.read_text("utf-8")
    seed = _SEED.search(text)
    if seed is None:
        return copy.deepcopy(_typed(text))
    return replace(copy.deepcopy(_typed(_SEED.sub("", text))), seed=int(seed[1]))


@functools.lru_cache(maxsize=4096)
def _typed(text: str) -> Config:
    """Return what a config.yaml says; OmegaConf takes 90 ms, and replicates differ in a line."""
    written = cast(DictConfig, OmegaConf.create(text))
    settings = {each.name: written[each.name] for each in fields(Config) if each.name in written}
    # What their runs did where a key was not there yet.
    before = {"freeze": {"probe": "adamw"}, "model": {"pooling": None}}
    loaded = OmegaConf.merge(OmegaConf.structured(Config), before, settings)
    return cast(Config, OmegaConf.to_object(loaded))
