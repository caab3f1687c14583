"""A run that failed, once more where that can help: in smaller pieces, or after a while."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sweep.base.words import Remark
from sweep.config.schema import Config
from sweep.execution import faults
from sweep.execution.worker import Outcome
from sweep.runs.record import RunSpec, saved_config, write_record


@dataclass(frozen=True)
class Retry:
    """The run to try, and the seconds to wait before."""

    spec: RunSpec
    delay_s: float = 0.0


def next_try(spec: RunSpec, outcome: Outcome, tries: int) -> Retry | None:
    """Return the run once more, in a folder of its own, or None.

    Args:
        spec: The run that ended.
        outcome: How it ended; a run that does not fit even in single texts gets that as reason.
        tries: How often passing faults have been answered with another try.
    """
    record = outcome.record
    if record is None or record.status != "FAILED":
        return None
    if outcome.cause == faults.MEMORY:
        return _in_smaller_pieces(spec, outcome)
    if outcome.cause == faults.PASSING and tries < len(faults.PAUSES_S):
        note = Remark("note.again", {"reason": record.reason})
        return Retry(_again(spec, note), faults.PAUSES_S[tries])
    return None


def _in_smaller_pieces(spec: RunSpec, outcome: Outcome) -> Retry | None:
    record, smaller = outcome.record, faults.smaller(spec.cfg)
    assert record is not None
    if smaller is None:
        record.reason = Remark("end.too_large", {"reason": record.reason})
        write_record(record, spec.folder)
        return None
    return Retry(replace(_again(spec, _reduced(spec.cfg, smaller)), cfg=smaller))


def _reduced(cfg: Config, smaller: Config) -> Remark:
    values = {
        "before": cfg.trainer.per_device_train_batch_size,
        "after": smaller.trainer.per_device_train_batch_size,
        "pieces": smaller.trainer.gradient_accumulation_steps,
    }
    return Remark("note.smaller", values)


def as_stopped(spec: RunSpec) -> RunSpec:
    """Return a stopped run, to go on in its folder in pieces as small as it was trained in.

    Its checkpoint counts steps and texts of these pieces, and larger ones did not fit.
    """
    try:
        reached = saved_config(spec.folder).trainer.per_device_train_batch_size
    except Exception:  # stopped before it was written, or damaged
        return spec
    cfg, notes = spec.cfg, spec.notes
    while cfg.trainer.per_device_train_batch_size > reached:
        smaller = faults.smaller(cfg)
        if smaller is None:
            return spec
        cfg, notes = smaller, (*notes, _reduced(cfg, smaller))
    return replace(spec, cfg=cfg, notes=notes)


def _again(spec: RunSpec, note: Remark) -> RunSpec:
    return replace(spec, folder=spec.paths.next_try(), notes=(*spec.notes, note), device=None)
