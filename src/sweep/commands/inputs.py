"""Check data, models, disk and store before anything is trained.

Reads files but imports neither torch nor transformers, so that a mistake shows within seconds.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sweep.base.layout import ROOT, RootPaths
from sweep.config import decides, rates
from sweep.config.compose import Job
from sweep.config.decides import Decides
from sweep.config.schema import Config, ConfigError, TrackingConfig
from sweep.data.splits import load_splits
from sweep.models import model_files, pooling
from sweep.runs.record import run_key
from sweep.tracking import connect

MIN_FREE_MIB = 200


@dataclass(frozen=True)
class Checked:
    """A job whose data and model files have been checked."""

    job: Job
    key: str
    num_labels: int
    train_examples: int
    data_fingerprint: str = ""
    weights_fingerprint: str = ""
    weights_stamp: str = ""
    sharing: int = 1
    """Number of jobs with the same states of the frozen part, this one included."""
    ids: Sequence[int] = ()
    """Row ids of the reported texts, in the file as it is now."""


def check_inputs(jobs: Sequence[Job], tracking: TrackingConfig | None = None) -> list[Checked]:
    """Read every data file and check every model folder once.

    Args:
        jobs: The jobs of one sweep.
        tracking: Names the store that has to answer; None checks none.

    Raises:
        ConfigError: Anything cannot be used; holds the messages of all mistakes.
    """
    errors: list[str] = []
    seen: dict[str, Any] = {}

    def once(key: str, function: Any, *arguments: Any) -> Any:
        if key not in seen:
            try:
                seen[key] = function(*arguments)
            except ConfigError as error:
                errors.extend(error.messages)
                seen[key] = None
        return seen[key]

    once("root", check_root, ROOT)
    if tracking is not None:
        once("tracking", connect.check, tracking)
    checked = []
    for job in jobs:
        cfg = job.cfg
        splits = once(f"data {cfg.data}", load_splits, cfg.data)
        # The stamp comes first: files written between the two will be hashed again by the run.
        stamp = once(f"stamp {cfg.model}", model_files.file_stamp, cfg.model)
        weights = stamp is not None and once(
            f"model {cfg.model}", model_files.fingerprint, cfg.model
        )
        if weights:
            limits = f"limits {cfg.model} {cfg.data.max_length} {cfg.freeze.count}"
            errors.extend(once(limits, model_files.check_positions, cfg))
            folder = once(f"folder {cfg.model}", model_files.fetch, cfg.model)
            what = f"resolved {cfg.model} {cfg.freeze} {cfg.optimizer} {cfg.rates} {cfg.trainer}"
            resolved = folder and once(what, _with_files_read, cfg, folder)
        if splits is not None:
            errors.extend(_check_class_weight(cfg.trainer.class_weight, splits.label_names))
        if splits is not None and weights and resolved:
            job = replace(job, cfg=replace(cfg, model=resolved.model, rates=resolved.rates))
            key = run_key(job.cfg, splits.fingerprint, weights)
            size = len(splits.label_names), len(splits.train)
            ids = splits.reported.ids.tolist()
            checked.append(Checked(job, key, *size, splits.fingerprint, weights, stamp, ids=ids))
    if errors:
        raise ConfigError(*errors)
    states = [repr(decides.values(each.job.cfg, Decides.FROZEN_STATES)) for each in checked]
    alike = Counter(states)
    return [replace(each, sharing=alike[its]) for each, its in zip(checked, states, strict=True)]


def _with_files_read(cfg: Config, folder: Path) -> Config:
    """Return the run with what the model's files decide of it."""
    model = replace(cfg.model, pooling=pooling.resolve(cfg, folder))
    base = rates.with_base_rate(cfg, model_files.read_config(folder) or {})
    return replace(cfg, model=model, rates=base)


def _check_class_weight(weights: Any, label_names: Sequence[str]) -> list[str]:
    """Complain about a list of weights that has not one for each class."""
    if not isinstance(weights, list) or len(weights) == len(label_names):
        return []
    names = ", ".join(label_names[:10]) + (", ..." if len(label_names) > 10 else "")
    return [
        f"trainer.class_weight={weights} has {len(weights)} weights, but the data has"
        f" {len(label_names)} classes. Give one for each of {names}, in this order, or set"
        " trainer.class_weight=balanced."
    ]


def check_root(root: Path) -> None:
    """Make sure that results can be written, before hours are spent on them.

    Raises:
        ConfigError: The folder cannot be written, or has less than `MIN_FREE_MIB` left.
    """
    try:
        sweeps = RootPaths(root).sweeps
        sweeps.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=sweeps):
            pass
    except OSError as error:
        raise ConfigError(
            f"{root.absolute()} cannot be written ({error.strerror}). Results go to mlruns/ of the"
            " current directory; start from a directory of yours."
        ) from None
    free = shutil.disk_usage(root).free // 2**20
    if free < MIN_FREE_MIB:
        raise ConfigError(
            f"{root.absolute()} has {free} MiB left, and a sweep needs {MIN_FREE_MIB}."
            " Free some space, or start from a directory on another disk."
        )
