"""One run from configuration to record; reads as the table of contents of the whole flow."""

from __future__ import annotations

import shutil
import time
from functools import partial
from typing import TYPE_CHECKING

from sweep.base.device import Hardware, resolve_hardware
from sweep.base.loading import loading
from sweep.base.words import Remark
from sweep.config.schema import Config, ConfigError
from sweep.data.encode import encode_splits
from sweep.data.splits import Splits, load_splits
from sweep.models import pretrained
from sweep.models.model_files import fetch, fetch_same
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
    from torch import nn

    from sweep.training.stopping import StopRequest
    from sweep.training.train import Session


def preflight(cfg: Config, num_labels: int) -> tuple[FreezeReport, Hardware]:
    """Check everything that can go wrong without data and weights, in a second.

    Returns:
        What would train, and on what.

    Raises:
        ConfigError: As `pretrained.build_empty`, `pretrained.check_agreement`, `freeze.apply` and
            `device.resolve_hardware`, or a decay by layers without layers.
    """
    hardware, folder = resolve_hardware(cfg.trainer), fetch(cfg.model)
    empty, parts = pretrained.build_empty(cfg, num_labels, folder)
    pretrained.check_agreement(cfg, empty, parts, folder)
    _, report = apply(empty, parts, cfg.freeze)
    if cfg.optimizer.layer_decay is not None and not report.has_layers:
        raise ConfigError(
            f"optimizer.layer_decay={cfg.optimizer.layer_decay:g} needs layers, and the parts of"
            f" the model {cfg.model.name!r} name none. Add `layers: PATTERN` to its parts, or set"
            " optimizer.layer_decay=null."
        )
    if cfg.freeze.probe == "lbfgs":
        _check_probe(cfg, empty, report)
    return report, hardware


def _check_probe(cfg: Config, empty: nn.Module, report: FreezeReport) -> None:
    from sweep.training.probe import is_linear

    if not is_linear(empty, report):
        raise ConfigError(
            f"freeze.probe='lbfgs': the head of the model {cfg.model.name!r} is more than one"
            " linear layer, so there is no single best answer to solve for. Set"
            " freeze.probe=adamw, or leave it out."
        )


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
    from sweep.features.cut import cut_model
    from sweep.features.frozen_part import FrozenPart
    from sweep.models.cpu_kernels import faster
    from sweep.training import logit_check, probe, safety_net, train
    from sweep.training.trainer import Subject

    cfg, started = spec.cfg, time.time()
    torch.set_num_threads(spec.num_threads)  # sums in another order give other last bits
    hardware, splits = resolve_hardware(cfg.trainer), _same_splits(spec)
    folder = fetch_same(cfg.model, spec.weights_fingerprint, spec.weights_stamp)
    with loading():
        loaded = pretrained.load(cfg, splits.label_names, hardware, folder)
    model, report = apply(loaded.model, loaded.parts, cfg.freeze, loaded.new_names)
    tokens = encode_splits(splits, loaded.tokenizer, cfg, folder)
    part, encoded = FrozenPart(model, loaded, report, tokens, cfg, hardware), tokens.encoded
    record = description.open_record(spec, splits, part)
    description.tell(spec, record, splits, outbox)

    curves = Curves(spec.folder, outbox, progress)
    session = train.Session(spec.paths.checkpoints, curves.add, stop)
    ways = logit_check.check(part)
    description.note(record, ways.notes)
    # Both change how a model computes, and both leave it as it was.
    with faster(model, ways.kernels):
        features = compute.prepare(part, spec.sharing)
        description.note_costs(record, tokens, features, spec.sharing)
        outbox.describe({}, {Tag.FEATURES: features.state})
        _go_on(session, curves, record)
        subject = Subject(model, loaded.tokenizer, hardware, features.cut, ways.kernels)
        unsolvable = probe.why_not(subject, cfg, report)
        description.note_probe(record, cfg, unsolvable)
        fit = train.train if unsolvable is not None else probe.solve
        if unsolvable is not None and cfg.rates.source == "guessed":
            fit = partial(safety_net.train, forget=partial(curves.cut, -1))
        with cut_model(features.cut):
            result = fit(subject, encoded, cfg, session, report)
    record.metrics |= result.metrics
    record.notes += result.notes

    outputs.write_results(spec.folder, splits, report, result)
    if cfg.trainer.save_model:
        saved_model.save_proven(subject, loaded, encoded[result.reported], cfg, spec.paths.model)
        saved_model.write_card(cfg, splits.label_names, report, result.metrics, spec.paths.model)
    integrity.seal(spec.folder)
    shutil.rmtree(session.output_dir, ignore_errors=True)
    record.metrics["total_runtime_s"] = time.time() - started
    outbox.log([(record.metrics, curves.last_step, time.time())])
    record.status = "FINISHED"
    return record


def _same_splits(spec: RunSpec) -> Splits:
    """Read the data that the sweep began with."""
    splits = load_splits(spec.cfg.data)
    if spec.data_fingerprint not in ("", splits.fingerprint):
        raise RuntimeError(
            "the data changed while the sweep ran, so its runs could not be compared; start it anew"
        )
    return splits


def _go_on(session: Session, curves: Curves, record: Record) -> None:
    """Cut the curves at the checkpoint from which the training goes on, if there is one."""
    if (stopped := session.resume_from) is None:
        curves.cut(-1)  # of a try that left none
        return
    step = checkpoint.step_of(stopped)
    curves.cut(step)
    record.notes.append(Remark("note.went_on", {"step": step}))
