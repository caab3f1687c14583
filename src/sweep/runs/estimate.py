"""Estimate seconds and peak memory of a run to come, from runs that have finished."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.config import budget
from sweep.config.schema import Config
from sweep.runs.record import Record
from sweep.tracking.tags import Tag

BYTES_PER_TRAINABLE = 12
"""A gradient and the two moments of AdamW, in fp32, that each trained element adds."""


@dataclass(frozen=True)
class Size:
    """The size of a model under its strategy, before it is trained."""

    trainable_params: int
    total_params: int
    flops_per_token: float
    precision: str
    device: str
    """Name of what it will compute on."""


@dataclass(frozen=True)
class Guess:
    """None for what cannot be told."""

    seconds: float | None = None
    memory_mib: float | None = None


def texts_of(cfg: Config, train_examples: int) -> float:
    """Count the texts that a run trains on, each time it sees one."""
    trainer = budget.settled(cfg.trainer, train_examples)
    if trainer.max_steps > 0:
        batch = trainer.per_device_train_batch_size * trainer.gradient_accumulation_steps
        return trainer.max_steps * batch
    return float(trainer.num_train_epochs) * train_examples


def guess(cfg: Config, train_examples: int, size: Size, records: Iterable[Record]) -> Guess:
    """Estimate a run, best from runs like it, else from others of the same model on this device.

    Args:
        cfg: The run.
        train_examples: Rows of its training split.
        size: Of its model, with its strategy applied.
        records: Of runs that have finished.
    """
    known = [r for r in records if _is_comparable(r, cfg, size)]
    calm = [r for r in known if Tag.CONTENDED not in r.tags] or known
    texts = texts_of(cfg, train_examples)
    like = [r for r in calm if r.strategy == cfg.freeze.name and _has_same_data(r, cfg)]
    like = [r for r in like if r.params["train_examples"] == train_examples]
    if like:
        rest = _median(like, _rest_s)
        seconds = _sum(_divide(texts, _median(like, _metric("train_samples_per_second"))), rest)
        return Guess(seconds, _median(like, _metric("peak_memory_mib")))
    return Guess(_from_flops(cfg, texts, size, calm), _from_trainable(cfg, size, calm))


def guess_each(jobs: Iterable[tuple[Config, int, Size]], records: Sequence[Record]) -> list[Guess]:
    """Estimate many runs; those that are alike to `guess` are looked up among the records once."""
    known: dict[object, Guess] = {}
    guesses = []
    for cfg, train_examples, size in jobs:
        names = (cfg.model.name, cfg.freeze.name, cfg.data.name, cfg.data.max_length)
        batch = cfg.trainer.per_device_train_batch_size
        settings = (*names, batch, texts_of(cfg, train_examples), train_examples, size)
        if settings not in known:
            known[settings] = guess(cfg, train_examples, size, records)
        guesses.append(known[settings])
    return guesses


def _from_flops(cfg: Config, texts: float, size: Size, known: Sequence[Record]) -> float | None:
    """Return the seconds for this run's operations at the speed of other strategies."""
    same_data = [r for r in known if _has_same_data(r, cfg)]
    tokens_per_text = _median(same_data, _metric("tokens_per_text"))
    speed = _median(known, lambda r: r.metrics["train_flops"] / r.metrics["train_runtime_s"])
    if tokens_per_text is None:
        return None
    operations = size.flops_per_token * tokens_per_text * texts
    return _sum(_divide(operations, speed), _median(same_data, _rest_s))


def _from_trainable(cfg: Config, size: Size, known: Sequence[Record]) -> float | None:
    """Return the peak of other strategies, with the state of more or fewer trained elements."""

    def moved(record: Record) -> float:
        more = size.trainable_params - record.metrics["trainable_params"]
        return record.metrics["peak_memory_mib"] + more * BYTES_PER_TRAINABLE / 2**20

    return _median([r for r in known if _has_same_data(r, cfg)], moved)


def _is_comparable(record: Record, cfg: Config, size: Size) -> bool:
    wanted = {
        "model": cfg.model.name,
        "precision": size.precision,
        "per_device_train_batch_size": cfg.trainer.per_device_train_batch_size,
    }
    return (
        record.status == "FINISHED"
        and record.tags.get(Tag.DEVICE) == size.device
        and all(record.params.get(key) == value for key, value in wanted.items())
    )


def _has_same_data(record: Record, cfg: Config) -> bool:
    wanted = {"data": cfg.data.name, "max_length": cfg.data.max_length}
    return all(record.params.get(key) == value for key, value in wanted.items())


def _rest_s(record: Record) -> float:
    """Return the seconds beside the training steps: loading, encoding, evaluation."""
    return record.metrics["total_runtime_s"] - record.metrics["train_runtime_s"]


def _metric(name: str) -> Callable[[Record], float]:
    return lambda record: record.metrics[name]


def _median(records: Sequence[Record], value: Callable[[Record], Any]) -> float | None:
    """Return the median over the records that have the value; None when none has."""
    values = []
    for record in records:
        try:
            values.append(float(value(record)))
        except (KeyError, ZeroDivisionError):  # an earlier version did not write it down
            continue
    return statistics.median(values) if values else None


def _divide(amount: float, speed: float | None) -> float | None:
    return amount / speed if speed else None


def _sum(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second
