"""Sweeps that a report can be made of, without training: real files with made-up numbers."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweep.base.words import Remark
from sweep.config.schema import TrackingConfig
from sweep.runs import record as record_module
from sweep.runs.record import Record
from sweep.tracking import connect
from sweep.tracking.store import Store

SKILL = {"none": 0.84, "attention": 0.83, "full": 0.7, "lora": 0.82, "top_layers": 0.78}
COST = {"none": 80.0, "attention": 60.0, "full": 20.0, "lora": 65.0, "top_layers": 35.0}
SIZES = {"none": 22_714_371, "attention": 3_701_763, "full": 1155, "lora": 332_931}
LAYERS = 2
NOTE = Remark(
    "note.data",
    {
        "data": "rows",
        "sizes": tuple(Remark(f"note.{n}", {"n": "100"}) for n in ("train", "validation", "test")),
        "classes": 3,
        "left": "",
        "dropped": (Remark("note.nothing"),),
    },
)


def make_sweep(
    folder: Path,
    strategies: Sequence[str] = ("none", "attention", "full"),
    seeds: int = 3,
    classes: Sequence[str] = ("good", "bad", "plain"),
    texts: int = 120,
) -> list[Record]:
    """Write the runs of a sweep below a folder as `run` does; returns their records."""
    records = []
    for strategy in strategies:
        for seed in range(seeds):
            place = folder / f"{len(records):03d}_{strategy[:20]}"
            record = make_run(place, strategy, seed, classes, texts)
            records.append(record)
    return records


def make_run(
    folder: Path, strategy: str, seed: int, classes: Sequence[str], texts: int = 120
) -> Record:
    """Write one finished run."""
    folder.mkdir(parents=True)
    rng = random.Random(f"{strategy} {seed}")
    rows = [(i, classes[i % len(classes)]) for i in range(texts)]
    skill = SKILL.get(strategy, 0.75)
    guesses = [label if rng.random() < skill else rng.choice(classes) for _, label in rows]
    _write_predictions(folder, rows, guesses, classes)
    _write_curves(folder, rng, skill)
    (folder / "freeze.json").write_text(json.dumps({"tensors": tensors(strategy)}), "utf-8")
    (folder / "run.log").write_text("loading\ntrained\n", "utf-8")
    accuracy = sum(guess == label for guess, (_, label) in zip(guesses, rows, strict=True)) / texts
    record = Record(
        run_id=f"{strategy}-{seed}",
        name=f"{strategy} seed={seed}",
        strategy=strategy,
        status="FINISHED",
        key=f"key of {strategy} {seed}",
        swept={"freeze": strategy, "seed": str(seed)},
        folder=str(folder),
        params={"freeze": strategy, "seed": seed, "data": "rows", "model": "tiny"},
        metrics=_metrics(strategy, accuracy, rng),
        tags={
            "sweep.trains": f"what {strategy} trains",
            "sweep.device": "a processor",
            "sweep.num_threads": "1",
            "sweep.data_fingerprint": "d" * 64,
            "sweep.weights_fingerprint": "w" * 64,
            "sweep.version.torch": "2.13.0",
        },
        notes=[NOTE],
    )
    write_record(record)
    return record


def store_sweep(records: Sequence[Record], name: str, root: Path) -> tuple[Store, str]:
    """Put runs into a new MLflow store below a folder; returns it and the summary run's id."""
    store = connect.open_store(TrackingConfig(uri=None), root)
    sweep_id = store.create_run(name, {"sweep.kind": "sweep"})
    for record in records:
        tags = {"sweep.kind": "run", "sweep.id": sweep_id}
        record.run_id = store.create_run(record.name, tags)
        write_record(record)
        params = {key: str(value) for key, value in record.params.items()}
        store.describe(record.run_id, params, record.tags)
        lines = (Path(record.folder) / "curves.jsonl").read_text("utf-8").splitlines()
        points = [(point["metrics"], point["step"]) for point in map(json.loads, lines)]
        points.append((record.metrics, 50))
        values = [(k, v, step, step) for metrics, step in points for k, v in metrics.items()]
        store.log_metrics(record.run_id, values)
        store.upload(record.run_id, sorted(Path(record.folder).iterdir()))
        store.set_status(record.run_id, "FINISHED")
    return store, sweep_id


def write_record(record: Record) -> None:
    """Save a record where `findings` reads it."""
    record_module.write_record(record, Path(record.folder))


def tensors(strategy: str) -> list[dict[str, Any]]:
    """The tensors of a small BERT with what the strategy does to them."""
    names = ["bert.embeddings.word_embeddings.weight", "bert.embeddings.LayerNorm.weight"]
    parts = ("attention.self.query", "attention.output.dense", "intermediate.dense", "output.dense")
    for layer in range(LAYERS):
        names += [f"bert.encoder.layer.{layer}.{p}.{w}" for p in parts for w in ("weight", "bias")]
    names += ["bert.pooler.dense.weight", "classifier.weight", "classifier.bias"]
    found = []
    for name in names:
        head = name.startswith("classifier")
        trains = head or strategy == "none" or (strategy == "attention" and "attention" in name)
        why = "head: classifier" if head else strategy if trains else "frozen"
        found.append({"name": name, "shape": [8, 8], "trainable": trains, "decided_by": why})
    return found


def _metrics(strategy: str, accuracy: float, rng: random.Random) -> dict[str, float]:
    seconds = COST.get(strategy, 50.0) * rng.uniform(0.95, 1.05)
    params = SIZES.get(strategy, 1_000_000)
    return {
        "test_accuracy": accuracy,
        "test_f1": accuracy - 0.02,
        "test_loss": 1 - accuracy,
        "eval_accuracy": accuracy - 0.01,
        "eval_f1": accuracy - 0.03,
        "eval_loss": 1.01 - accuracy,
        "train_runtime_s": seconds,
        "train_forward_s": seconds * 0.3,
        "train_backward_s": seconds * 0.6,
        "train_samples_per_second": 3000 / seconds,
        "train_flops": seconds * 1e10,
        "peak_memory_mib": 900 + seconds * 10,
        "checkpoint_mib": 86.6,
        "trainable_params": params,
        "total_params": 22_714_371,
        "trainable_fraction": params / 22_714_371,
    }


def _write_predictions(
    folder: Path, rows: Sequence[tuple[int, str]], guesses: Sequence[str], classes: Sequence[str]
) -> None:
    with (folder / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label", "prediction", *(f"p_{name}" for name in classes)])
        for (key, label), guess in zip(rows, guesses, strict=True):
            writer.writerow([key, label, guess, *("0.5" for _ in classes)])


def _write_curves(folder: Path, rng: random.Random, skill: float) -> None:
    lines = []
    for step in range(5, 55, 5):
        loss = 1 / step**0.3 + rng.uniform(0, 0.1)
        metrics = {"train_loss": loss, "eval_loss": loss + 0.05}
        metrics["eval_accuracy"] = skill * (1 - 1 / step)
        lines.append(json.dumps({"metrics": metrics, "step": step, "time": float(step)}))
    (folder / "curves.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
