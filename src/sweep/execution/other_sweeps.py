"""Runs that other sweeps, earlier ones or some at work now, have in common with this one."""

from __future__ import annotations

from dataclasses import replace

from sweep.base.locks import is_held
from sweep.runs.ledger import Ledger
from sweep.runs.record import Record, RunSpec


def finished(spec: RunSpec) -> Record | None:
    """Return the record of a run that is done already and taken over, as one of this sweep."""
    if not spec.resume:
        return None
    record = Ledger(spec.root).finished(spec.key, spec.cfg.trainer.save_model)
    # Whatever the run was called there, it has this sweep's name here.
    return record and replace(
        record, name=spec.name, swept=spec.swept, strategy=spec.cfg.freeze.name
    )


def is_at_work(spec: RunSpec) -> bool:
    """Return whether another sweep trains the same, whose result can be taken over."""
    return spec.resume and is_held(Ledger(spec.root).lock(spec.key))
