"""One run from configuration to record; reads as the table of contents of the whole flow."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

from sweep.base.device import precision_and_device
from sweep.base.words import Remark
from sweep.config.schema import Config, ConfigError
from sweep.data.encode import encode_splits
from sweep.data.splits import load_splits
from sweep.models import pretrained
from sweep.runs import description, integrity, outputs
from sweep.runs.outputs import Curves
from sweep.runs.record import Record, RunSpec
from sweep.strategies.freeze import apply
from sweep.strategies.freeze_report import FreezeReport
from sweep.tracking.outbox import Outbox
from sweep.tracking.tags import Tag
from sweep.training import checkpoint, saved_model
from sweep.training.progress import Progress

if TYPE_CHECKING:
    from sweep.training.stopping import StopRequest


def preflight(cfg: Config, num_labels: int) -> FreezeReport:
    """Everything that can go wrong without data and weights, in a second.

    Raises:
        ConfigError: As `pretrained.build_empty`, `pretrained.check_agreement`, `freeze.apply` and
            `device.resolve_precision`, or a decay by layers without layers.
    """
    precision_and_device(cfg.trainer)
    empty, parts = pretrained.build_empty(cfg, num_labels)
    pretrained.check_agreement(cfg, empty, parts)
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
    import torch

    from sweep.features import compute
    from sweep.training import train

    cfg, started = spec.cfg, time.time()
    torch.set_num_threads(spec.num_threads)  # sums in another order give other last bits
    splits = load_splits(cfg.data)
    if spec.data_fingerprint not in ("", splits.fingerprint):
        raise RuntimeError(
            "the data changed while the sweep ran, so its runs could not be compared; start it anew"
        )
    loaded = pretrained.load(cfg, splits.label_names, *precision_and_device(cfg.trainer))
    frozen, report = apply(loaded.model, loaded.parts, cfg.freeze, loaded.new_names)
    tokens = encode_splits(splits, loaded.tokenizer, cfg)
    encoded = tokens.encoded
    record = description.open_record(spec, splits, encoded, report, loaded)
    description.tell(spec, record, splits, outbox)

    found = compute.prepare(frozen, loaded, report, tokens, cfg, spec.sharing)
    description.note_costs(record, tokens, found, spec.sharing)
    outbox.describe({}, {Tag.FEATURES: found.state})

    curves = Curves(spec.folder, outbox, progress)
    session = train.Session(spec.paths.checkpoints, curves.add, stop)
    if (stopped := session.resume_from) is not None:
        curves.cut(checkpoint.step_of(stopped))
        step = checkpoint.step_of(stopped)
        record.notes.append(Remark("note.went_on", {"step": step}))
    result, trainer = train.train(
        frozen, loaded.tokenizer, encoded, cfg, session, report, found.cut
    )
    record.metrics |= result.metrics
    record.notes += result.notes

    outputs.write_results(spec.folder, splits, report, result)
    if cfg.trainer.save_model:
        outputs.save_model(
            cfg, trainer, splits.label_names, encoded[result.reported], spec.paths.model
        )
        saved_model.write_card(cfg, splits.label_names, report, result.metrics, spec.paths.model)
    integrity.seal(spec.folder)
    shutil.rmtree(session.output_dir, ignore_errors=True)
    record.metrics["total_runtime_s"] = time.time() - started
    outbox.log([(record.metrics, curves.last_step, time.time())])
    record.status = "FINISHED"
    return record
