"""One run from configuration to record; reads as the table of contents of the whole flow."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from sweep import checkpoint, environment, model, saving, table, track
from sweep.config import SWEEP_WIDE, Config, ConfigError
from sweep.data import Encoded, Splits, load_splits
from sweep.device import precision_and_device
from sweep.folder import fingerprint
from sweep.freeze import FreezeReport, apply, describe
from sweep.outbox import Outbox, write_atomically
from sweep.tokens import Tokens, encode_splits
from sweep.track import Store

if TYPE_CHECKING:
    from sweep.features import Features
    from sweep.stopping import StopRequest
    from sweep.train import TrainResult

Progress = Callable[[dict[str, float], int, int], None]
"""Takes metrics, the optimizer step and the number of steps of the run."""
CHECKPOINTS = "checkpoints"
"""Folder of what only the training itself needs."""
RECORD = "record.json"
CURVES = "curves.jsonl"


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
    tags: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What happened to the run before this try."""
    data_fingerprint: str = ""
    """Content of the splits when the sweep began."""
    sharing: int = 1
    """How many runs of the sweep read the same texts with the same frozen part."""


@dataclass
class Record:
    """What a run leaves; one JSON file per run, and the rows of every comparison."""

    run_id: str
    name: str
    strategy: str
    status: str
    reason: str = ""
    key: str = ""
    """Content hash of all that determines the result."""
    swept: dict[str, str] = field(default_factory=dict)
    """The keys that vary in the sweep, with this run's values as typed."""
    folder: str = ""
    """Where the run's files are, absolute."""
    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def run_key(cfg: Config, data_fingerprint: str, weights_fingerprint: str) -> str:
    """Hash of the resolved choices and of the content of data and weights.

    Names, paths and where results go do not enter; a file moved elsewhere is the same file.
    `trainer.precision=auto` and `trainer.device=auto` enter as typed: resolving them takes seconds
    of importing torch, which no error should wait for. What they stood for is among the run's
    params and tags; on a machine that resolves them otherwise, the same key has other last bits.
    """
    choices = {key: value for key, value in asdict(cfg).items() if key not in SWEEP_WIDE}
    for key in ("save_model", "save_steps", "timeout_min", "cache_limit_mib", "cache_features"):
        del choices["trainer"][key]
    choices["data"] = {"max_length": cfg.data.max_length}
    choices["model"] = {"parts": cfg.model.parts}
    choices["optimizer"]["learning_rate"] = cfg.learning_rate
    del choices["freeze"]["learning_rate"]
    content = json.dumps([choices, data_fingerprint, weights_fingerprint], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def preflight(cfg: Config, num_labels: int) -> FreezeReport:
    """Everything that can go wrong without data and weights, in a second.

    Raises:
        ConfigError: As `model.build_empty`, `freeze.apply` and `device.resolve_precision`, or a
            decay by layers without layers.
    """
    precision_and_device(cfg.trainer)
    model.load_tokenizer(cfg.model)
    empty, parts = model.build_empty(cfg, num_labels)
    _, report = apply(empty, parts, cfg.freeze)
    if cfg.optimizer.layer_decay is not None and not report.has_layers:
        raise ConfigError(
            f"optimizer.layer_decay={cfg.optimizer.layer_decay:g} needs layers, and the parts of"
            f" the model {cfg.model.name!r} name none. Add `layers: PATTERN` to its parts, or set"
            " optimizer.layer_decay=null."
        )
    return report


def run(spec: RunSpec, outbox: Outbox, progress: Progress, stop: StopRequest) -> Record:
    """Train one configuration with one seed and record it; its status is left to the caller.

    Args:
        spec: The run. When its folder holds a whole checkpoint, the training goes on from there.
        outbox: Takes what is to be stored.
        progress: Called while training.
        stop: Asks to stop between two steps.

    Raises:
        Stopped: As asked; the next run in the same folder goes on.
    """
    from sweep import features, train

    started = time.time()
    set_threads(spec.num_threads)
    splits = load_splits(spec.cfg.data)
    if spec.data_fingerprint not in ("", splits.fingerprint):
        raise RuntimeError(
            "the data changed while the sweep ran, so its runs could not be compared; start it anew"
        )
    loaded = model.load(spec.cfg, splits.label_names, *precision_and_device(spec.cfg.trainer))
    frozen, report = apply(loaded.model, loaded.parts, spec.cfg.freeze, loaded.new_names)
    tokens = encode_splits(splits, loaded.tokenizer, spec.cfg)
    encoded = tokens.encoded
    record = _open_record(spec, splits, encoded, report, loaded.new_names)
    _describe(spec, record, splits, outbox)
    found = features.prepare(frozen, loaded, report, tokens, spec.cfg, spec.sharing)
    _note_costs(spec, record, tokens, found)
    outbox.describe({}, {"sweep.features": found.state})
    curves = _Curves(spec.folder, outbox, progress)
    session = train.Session(spec.folder / CHECKPOINTS, curves.add, stop)
    if session.resume_from is not None:
        curves.cut(checkpoint.step_of(session.resume_from))
        record.notes.append(f"went on from step {checkpoint.step_of(session.resume_from)}")
    result, trainer = train.train(
        frozen, loaded.tokenizer, encoded, spec.cfg, session, report, found.cut
    )
    record.metrics |= result.metrics
    record.notes += result.notes
    _write_artifacts(spec, splits, report, result)
    if spec.cfg.trainer.save_model:
        _save(spec, splits, encoded, trainer, result)
        metrics = result.metrics
        saving.write_card(spec.cfg, splits.label_names, report, metrics, spec.folder / "model")
    shutil.rmtree(session.output_dir, ignore_errors=True)
    record.metrics["total_runtime_s"] = time.time() - started
    outbox.log([(record.metrics, curves.last_step, time.time())])
    record.status = "FINISHED"
    return record


@dataclass
class _Curves:
    """The points of a run's curves: on disk, in the store and on the screen."""

    folder: Path
    outbox: Outbox
    progress: Progress
    last_step: int = 0

    def add(self, metrics: dict[str, float], step: int, steps: int) -> None:
        now, self.last_step = time.time(), max(self.last_step, step)
        with (self.folder / CURVES).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"metrics": metrics, "step": step, "time": now}) + "\n")
        self.outbox.log([(metrics, step, now)])
        self.progress(metrics, step, steps)

    def cut(self, step: int) -> None:
        """Forget points behind a checkpoint, which will come again."""
        path = self.folder / CURVES
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        kept = [x for x in lines if x.endswith("}") and json.loads(x)["step"] <= step]
        write_atomically(path, "".join(f"{line}\n" for line in kept))


def set_threads(number: int) -> None:
    """Pin the number of CPU threads: sums in another order give other last bits."""
    import torch

    torch.set_num_threads(number)


def cores() -> int:
    """Physical cores, or as many as a batch system or a container leaves to this process."""
    import psutil

    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    if not hasattr(os, "sched_getaffinity"):  # macOS and Windows
        return physical
    return min(physical, len(os.sched_getaffinity(0)))


def _open_record(
    spec: RunSpec,
    splits: Splits,
    encoded: dict[str, Encoded],
    report: FreezeReport,
    new_names: frozenset[str],
) -> Record:
    """Write down what is known before training, so that a failed run can be read too."""
    world = environment.describe(precision_and_device(spec.cfg.trainer)[1])
    record = Record(
        run_id="",
        name=spec.name,
        strategy=spec.cfg.freeze.name,
        status="RUNNING",
        **_identity(spec),
        params=_params(spec, splits),
        metrics={**_sizes(report), "tokens_per_text": _tokens_per_text(encoded["train"])},
        tags=_tags(spec, report, world) | {"sweep.data_fingerprint": splits.fingerprint},
        notes=[
            *splits.notes,
            *_encoding_notes(encoded, spec.cfg),
            *_new_notes(new_names),
            *spec.notes,
        ],
    )
    OmegaConf.save(OmegaConf.structured(spec.cfg), spec.folder / "config.yaml")
    (spec.folder / "freeze.json").write_text(report.to_json(), "utf-8")
    (spec.folder / "environment.json").write_text(json.dumps(world, indent=1), "utf-8")
    write_record(record, spec.folder)
    for note in record.notes:
        print(note)
    return record


def _describe(spec: RunSpec, record: Record, splits: Splits, outbox: Outbox) -> None:
    """Store what is known before training."""
    outbox.describe(record.params, record.tags)
    outbox.log([(record.metrics, 0, time.time())])
    outbox.upload(artifacts(spec.folder))
    sources = table.sources(spec.cfg.data)
    outbox.inputs(track.dataset_inputs(splits, spec.cfg.data.name, sources))


def first_tags(spec: RunSpec) -> dict[str, str]:
    """What the store is told when a run begins."""
    tags = {
        "sweep.kind": "run",
        "sweep.id": spec.sweep_id,
        "sweep.key": spec.key,
        "sweep.host": platform.node(),
        **spec.tags,
    }
    return tags | ({"mlflow.parentRunId": spec.sweep_id} if spec.store.nested else {})


def artifacts(folder: Path) -> list[Path]:
    """What of a run's folder belongs into the store: not what only this machine needs."""
    private = ("store.", "alive.", ".", CHECKPOINTS)
    return sorted(path for path in folder.iterdir() if not path.name.startswith(private))


def _params(spec: RunSpec, splits: Splits) -> dict[str, Any]:
    cfg = spec.cfg
    params = {
        "freeze": cfg.freeze.name,
        "model": cfg.model.name,
        "data": cfg.data.name,
        "seed": cfg.seed,
        "optim": cfg.optimizer.optim,
        "learning_rate": cfg.learning_rate,
        "num_train_epochs": cfg.trainer.num_train_epochs,
        "max_steps": cfg.trainer.max_steps,
        "per_device_train_batch_size": cfg.trainer.per_device_train_batch_size,
        "max_length": cfg.data.max_length,
        "precision": precision_and_device(cfg.trainer)[0],
        "num_labels": len(splits.label_names),
        "train_examples": len(splits.train),
    }
    swept = {k: v for k, v in spec.swept.items() if k.rpartition(".")[2] not in params}
    return {**params, **swept}


def _tags(spec: RunSpec, report: FreezeReport, world: dict[str, Any]) -> dict[str, str]:
    about = f"{describe(spec.cfg.freeze)} train, {report.trainable_fraction:.1%} of the parameters"
    return {
        "sweep.key": spec.key,
        "sweep.weights_fingerprint": fingerprint(spec.cfg.model),
        "sweep.trains": describe(spec.cfg.freeze),
        "sweep.layers": str(report.layers),
        "sweep.lowest_trained_depth": str(report.lowest_trained_depth),
        "sweep.device": str(world["device"]),
        "sweep.num_threads": str(spec.num_threads),
        "sweep.machine": environment.fingerprint(world, spec.num_threads),
        "sweep.git": world["git"],
        **{f"sweep.version.{name}": v for name, v in world["versions"].items()},
        "mlflow.note.content": f"**{spec.cfg.freeze.name}**: {about}.",
    }


def _sizes(report: FreezeReport) -> dict[str, float]:
    return {
        "trainable_params": report.trainable_params,
        "total_params": report.total_params,
        "trainable_fraction": report.trainable_fraction,
        # What save_model writes, in fp32.
        "checkpoint_mib": report.checkpoint_params * 4 / 2**20,
    }


def _tokens_per_text(part: Encoded) -> float:
    return part.tokens / len(part)


def _encoding_notes(encoded: dict[str, Encoded], cfg: Config) -> list[str]:
    texts = sum(len(part) for part in encoded.values())
    cut = sum(part.truncated for part in encoded.values())
    return [f"{cut / texts:.1%} of the texts are longer than data.max_length={cfg.data.max_length}"]


def _new_notes(new_names: frozenset[str]) -> list[str]:
    if not new_names:
        return []
    names = ", ".join(sorted(new_names))
    return [f"not in the checkpoint, so freshly drawn and trained with the head: {names}"]


def _note_costs(spec: RunSpec, record: Record, tokens: Tokens, found: Features) -> None:
    """Tell what was done once for all runs that have it in common, and what it took."""
    record.metrics["tokens_runtime_s"] = tokens.runtime_s
    record.metrics["features_runtime_s"] = found.runtime_s
    record.tags["sweep.features"] = found.state
    notes = [*tokens.notes, *found.notes]
    if found.runtime_s:
        own, runs = found.runtime_s, spec.sharing
        share = f": {own / runs:.1f} s for each of {runs} runs" if runs > 1 else ""
        notes.append(f"the frozen part was computed once, in {own:.1f} s{share}")
    record.notes += notes
    for note in notes:
        print(note)


def _save(
    spec: RunSpec, splits: Splits, encoded: dict[str, Encoded], trainer: Any, result: TrainResult
) -> None:
    """Save the model, load it again and compare what the two predict."""
    from sweep import proof, train

    cfg, folder = spec.cfg, spec.folder / "model"
    tokenizer = trainer.processing_class
    if trainer.cut is not None:
        trainer.cut.use_level(None)  # whoever uses the model computes all of it
    saving.save(trainer.model, tokenizer, folder)
    where = precision_and_device(cfg.trainer)
    fresh = saving.load_again(cfg, folder, splits.label_names, *where)
    name = _reported_split(result)
    original, again = (
        train.predict(network, tokenizer, encoded[name], cfg, spec.folder / CHECKPOINTS)
        for network in (trainer.model, fresh)
    )
    proof.check_saved(original, again)


def _reported_split(result: TrainResult) -> str:
    return "test" if "test" in result.probabilities else "validation"


def _write_artifacts(
    spec: RunSpec, splits: Splits, report: FreezeReport, result: TrainResult
) -> None:
    from sweep import plots

    folder = spec.folder
    if result.stages:
        (folder / "freeze.json").write_text(report.to_json(stages=result.stages), "utf-8")
    name = _reported_split(result)
    probabilities = result.probabilities[name]
    predictions = predictions_table(getattr(splits, name), probabilities, splits.label_names)
    predictions.to_csv(folder / "predictions.csv", index=False)
    plots.confusion_matrix(
        predictions["label"], predictions["prediction"], splits.label_names, folder, name
    )


def predictions_table(
    split: Any, probabilities: np.ndarray, label_names: list[str]
) -> pd.DataFrame:
    """One row per text: id, label, prediction, and the probability of each class."""
    names = np.array(label_names)
    table = pd.DataFrame(
        {
            "id": split.ids,
            "label": names[split.labels],
            "prediction": names[probabilities.argmax(-1)],
        }
    )
    return table.join(pd.DataFrame(probabilities, columns=[f"p_{name}" for name in label_names]))


def write_record(record: Record, folder: Path) -> None:
    """Save the record beside the run's other files, so that nothing depends on the store."""
    write_atomically(folder / RECORD, json.dumps(asdict(record), indent=1))


def read_record(folder: Path) -> Record | None:
    """The record in a folder, or None when there is none, or a damaged one."""
    try:
        return Record(**{**json.loads((folder / RECORD).read_text("utf-8")), "folder": str(folder)})
    except (OSError, ValueError, TypeError):
        return None


def saved_config(folder: Path) -> Config:
    """The configuration that a run was made with, from its folder."""
    loaded = OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.load(folder / "config.yaml"))
    return cast(Config, OmegaConf.to_object(loaded))


def _identity(spec: RunSpec) -> dict[str, Any]:
    return {"key": spec.key, "swept": spec.swept, "folder": str(spec.folder)}


def unfinished(spec: RunSpec, status: str, reason: str) -> Record:
    """Record of a run that ended early, with whatever it had written down before."""
    record = Record("", spec.name, spec.cfg.freeze.name, status, reason, **_identity(spec))
    written = read_record(spec.folder)
    if written is not None:
        for key in ("params", "metrics", "tags", "notes"):
            setattr(record, key, getattr(written, key))
    return record
