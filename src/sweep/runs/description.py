"""Facts on a run before it trains, for its folder, its record and the store."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sweep.base import environment
from sweep.base.words import Remark, Text
from sweep.config import budget
from sweep.config.schema import Config
from sweep.data import table_files
from sweep.data.encode import Encoded, Tokens
from sweep.data.split_rows import NAMES
from sweep.data.splits import Splits
from sweep.runs.record import Record, RunSpec, begun, write_config, write_record
from sweep.strategies.description import describe
from sweep.strategies.freeze_report import FreezeReport
from sweep.tracking.outbox import Outbox
from sweep.tracking.tags import Tag

if TYPE_CHECKING:
    from sweep.features.compute import Features
    from sweep.features.frozen_part import FrozenPart
    from sweep.models.pretrained import Loaded

Sources = Mapping[str, tuple[str, Mapping[str, str | None]]]
"""Per split, the type and the fields of its source; see `table.sources`."""


def open_record(spec: RunSpec, splits: Splits, part: FrozenPart) -> Record:
    """Write down what is known before training, so that a failed run can be read too."""
    encoded, report = part.tokens.encoded, part.report
    world = environment.describe(part.hardware.device)
    record = begun(spec, "RUNNING")
    record.params = _params(spec, splits, part.hardware.precision)
    train = encoded["train"]
    record.metrics = {
        "trainable_params": report.trainable_params,
        "total_params": report.total_params,
        "trainable_fraction": report.trainable_fraction,
        "checkpoint_mib": report.checkpoint_params * 4 / 2**20,  # what save_model writes, in fp32
        "tokens_per_text": train.tokens / len(train),
    }
    record.tags = _tags(spec, report, world) | {Tag.DATA_FINGERPRINT: splits.fingerprint}
    notes = [*splits.notes, _cut_note(encoded, spec.cfg), *_rate_notes(spec.cfg)]
    note(record, [*notes, *_checkpoint_notes(part.loaded), *spec.notes])
    write_config(spec)
    spec.paths.freeze.write_text(report.to_json(), "utf-8")
    spec.paths.environment.write_text(json.dumps(world, indent=1), "utf-8")
    write_record(record, spec.folder)
    return record


def tell(spec: RunSpec, record: Record, splits: Splits, outbox: Outbox) -> None:
    """Store what is known before training."""
    outbox.describe(record.params, record.tags)
    outbox.log([(record.metrics, 0, time.time())])
    outbox.upload(spec.paths.artifacts())
    outbox.inputs(dataset_inputs(splits, spec.cfg.data.name, table_files.sources(spec.cfg.data)))


def dataset_inputs(splits: Splits, name: str, sources: Sources) -> list[dict[str, str]]:
    """Return one entry per split for `Store.log_inputs`."""
    return [
        {
            # MLflow merges datasets of one name and digest, and limits names.
            "name": f"{name[:400]} ({split})",
            "digest": splits.fingerprint[:32],
            "source_type": sources[split][0],
            "source": json.dumps(sources[split][1]),
            "profile": json.dumps({"num_rows": len(getattr(splits, split))}),
            "context": split,
        }
        for split in NAMES
        if len(getattr(splits, split))
    ]


def note_costs(record: Record, tokens: Tokens, features: Features, runs: int) -> None:
    """Tell what was done once for all runs that have it in common, and what it took."""
    record.metrics["tokens_runtime_s"] = tokens.runtime_s
    record.metrics["features_runtime_s"] = features.runtime_s
    record.tags[Tag.FEATURES] = features.state
    notes = [*tokens.notes, *features.notes]
    if runtime_s := features.runtime_s:
        values = {"seconds": f"{runtime_s:.1f}", "each": f"{runtime_s / runs:.1f}", "runs": runs}
        notes.append(Remark("note.shared" if runs > 1 else "note.computed", values))
    note(record, notes)


def note_probe(record: Record, cfg: Config, unsolvable: Text | None) -> None:
    """Tell how a head that trains alone is fitted, and why it is not solved where that was asked.

    Raises:
        RuntimeError: It cannot be solved, and `freeze.probe=lbfgs` was typed.
    """
    if cfg.freeze.trains_head_alone:
        record.params["probe"] = "adamw" if unsolvable is not None else "lbfgs"
    if unsolvable and cfg.freeze.probe == "lbfgs":
        raise RuntimeError(f"freeze.probe=lbfgs: {unsolvable}. Set freeze.probe=adamw.")
    if unsolvable:
        note(record, [Remark("note.unsolvable", {"reason": unsolvable})])


def note(record: Record, notes: Sequence[Text]) -> None:
    """Add notes to a record, and show them in the log of the run."""
    record.notes += notes
    print(*notes, sep="\n", end="\n" if notes else "")


def _params(spec: RunSpec, splits: Splits, precision: str) -> dict[str, Any]:
    cfg, trainer = spec.cfg, budget.settled(spec.cfg.trainer, len(splits.train))
    params = {
        "freeze": cfg.freeze.name,
        "model": cfg.model.name,
        "data": cfg.data.name,
        "seed": cfg.seed,
        "optim": cfg.optimizer.optim,
        "learning_rate": cfg.learning_rate,
        "rates": "scaled",
        "rate_source": cfg.rates.source,
        "num_train_epochs": round(float(trainer.num_train_epochs), 4),
        "max_steps": trainer.max_steps,
        "per_device_train_batch_size": cfg.trainer.per_device_train_batch_size,
        "max_length": cfg.data.max_length,
        "pooling": cfg.model.pooling or "architecture",
        "precision": precision,
        "num_labels": len(splits.label_names),
        "train_examples": len(splits.train),
    }
    if cfg.rates.base_rate is not None:
        params["base_rate"] = cfg.rates.base_rate
    swept = {k: v for k, v in spec.swept.items() if k.rpartition(".")[2] not in params}
    return {**params, **swept}


def _tags(spec: RunSpec, report: FreezeReport, world: dict[str, Any]) -> dict[str, str]:
    about = f"{describe(spec.cfg.freeze)} train, {report.trainable_fraction:.1%} of the parameters"
    return {
        Tag.KEY: spec.key,
        Tag.WEIGHTS_FINGERPRINT: spec.weights_fingerprint,
        Tag.TRAINS: str(describe(spec.cfg.freeze)),
        Tag.LAYERS: str(report.layers),
        Tag.LOWEST_TRAINED_DEPTH: str(report.lowest_trained_depth),
        Tag.HOST: world["hostname"],
        Tag.DEVICE: str(world["device"]),
        Tag.NUM_THREADS: str(spec.num_threads),
        Tag.MACHINE: environment.fingerprint(world, spec.num_threads),
        Tag.GIT: world["git"],
        **{f"{Tag.VERSION}{name}": v for name, v in world["versions"].items()},
        Tag.NOTE: f"**{spec.cfg.freeze.name}**: {about}.",
    }


def _cut_note(encoded: Mapping[str, Encoded], cfg: Config) -> Text:
    texts = sum(len(part) for part in encoded.values())
    cut = sum(part.truncated for part in encoded.values())
    values = {"share": f"{cut / texts:.1%}", "length": cfg.data.max_length}
    return Remark("note.cut", values)


def _rate_notes(cfg: Config) -> list[Text]:
    """Note a rate that nobody has measured on this model."""
    if cfg.rates.source != "guessed" or cfg.solves_probe:
        return []
    values = {"rate": f"{cfg.learning_rate:.2g}", "base": f"{cfg.rates.base_rate:.2g}"}
    return [Remark("note.guessed_rate", values)]


def _checkpoint_notes(loaded: Loaded) -> list[str]:
    """Note the tensors that the checkpoint lacks, and those that a classifier does not need."""
    notes = {"note.new": loaded.new_names, "note.left_out": loaded.unused}
    return [
        Remark(key, {"names": ", ".join(sorted(names))}) for key, names in notes.items() if names
    ]
