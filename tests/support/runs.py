"""Finished runs made up with known predictions, in folders as a sweep leaves them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sweep.base.words import from_json
from sweep.runs.record import Record

TAGS = {
    "sweep.host": "one",
    "sweep.device": "cpu",
    "sweep.num_threads": "2",
    "sweep.version.torch": "2.13.0",
    "sweep.trains": "something",
    "sweep.layers": "6",
}


def write_run(
    root: Path,
    strategy: str = "none",
    seed: int = 0,
    right: Sequence[bool] | np.ndarray = (True, False),
    **changes: Any,
) -> Record:
    """A run whose predictions are right where `right` says; labels alternate between a and b."""
    swept = {"freeze": strategy, "seed": str(seed), **changes.pop("swept", {})}
    others = [f"{key}={value}" for key, value in swept.items() if key != "freeze"]
    name = " ".join([strategy, *others])
    folder = root / "mlruns" / "sweeps" / "one" / f"{len(list(root.glob('mlruns/sweeps/one/*')))}"
    folder.mkdir(parents=True)
    labels = np.array(["a", "b"] * len(right))[: len(right)]
    other = np.where(labels == "a", "b", "a")
    table = {
        "id": range(len(right)),
        "label": labels,
        "prediction": np.where(right, labels, other),
    }
    pd.DataFrame(table).to_csv(folder / "predictions.csv", index=False)
    accuracy = float(np.mean(right))
    metrics = {
        "eval_loss": 1.0,
        "eval_accuracy": accuracy,
        "test_accuracy": accuracy,
        "test_f1": accuracy,
        "train_runtime_s": 10.0,
        "peak_memory_mib": 100.0,
        "trainable_params": 1000.0,
        "trainable_fraction": 0.5,
        "checkpoint_mib": 5.0,
        "train_flops": 1e9,
    }
    record = Record(
        run_id=folder.name,
        name=name,
        strategy=strategy,
        status=changes.pop("status", "FINISHED"),
        reason=changes.pop("reason", ""),
        key=name,
        swept=swept,
        folder=str(folder),
        params={"seed": seed, "model": "m", "data": "d", "freeze": strategy}
        | {"num_train_epochs": 2.0, "train_examples": 100, "max_steps": -1}
        | {"per_device_train_batch_size": 8}
        | changes.pop("params", {}),
        metrics=metrics | changes.pop("metrics", {}),
        tags=TAGS | changes.pop("tags", {}),
    )
    assert not changes, f"unknown: {changes}"
    (folder / "record.json").write_text(json.dumps(asdict(record)), "utf-8")
    return record


def told(remarks: Iterable[object]) -> list[str]:
    """Remarks in English."""
    return [str(remark) for remark in remarks]


def some_right(share: float, texts: int = 1000, seed: int = 0) -> np.ndarray:
    """Which texts a run gets right: the same easy ones, and a few that the seed decides."""
    easy = np.random.default_rng(99).random(texts)
    return np.asarray(easy + 0.02 * np.random.default_rng(seed).normal(size=texts) < share)


def write_sweep(
    root: Path, shares: dict[str, float], seeds: int = 3, **changes: Any
) -> list[Record]:
    """A run per strategy and seed, with these shares of texts right."""
    return [
        write_run(root, name, seed, some_right(share, seed=seed + 10 * index), **changes)
        for index, (name, share) in enumerate(shares.items())
        for seed in range(seeds)
    ]


def restored(stored: dict[str, Any]) -> dict[str, Any]:
    """The content of a record.json, with what was stored of sentences as sentences."""
    notes = [from_json(note) for note in stored["notes"]]
    return {**stored, "reason": from_json(stored["reason"]), "notes": notes}
