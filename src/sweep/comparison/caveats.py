"""Warn of what makes a comparison unfair: unequal budgets, other hardware, lost runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from sweep.base.words import Remark, Text
from sweep.comparison.results import Row
from sweep.runs.record import Record
from sweep.tracking.tags import Tag


def warnings(rows: Sequence[Row], chosen: Sequence[Row], split: str) -> list[Text]:
    """Return what a reader of the comparison has to keep in mind.

    Args:
        rows: Every configuration.
        chosen: The configurations that are compared, one per strategy and group.
        split: `test` or `eval`.
    """
    return [
        *_lost(rows),
        *_groups(chosen),
        *_not_finite(rows),
        *_few_seeds(chosen),
        *_unequal_seeds(chosen),
        *_tuning(rows, split),
        *_training(chosen),
        *_timing(chosen),
    ]


def tuning_budgets(rows: Sequence[Row]) -> dict[str, int]:
    """Return, by label, how many configurations validation had to choose from."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.label] = counts.get(row.label, 0) + 1
    return counts


def timing_problems(rows: Sequence[Row]) -> tuple[Remark, ...]:
    """Return why the training times of these rows cannot be ranked; empty when they can."""
    records = finished(rows)
    contended = sum(record.tags.get(Tag.CONTENDED) == "true" for record in records)
    problems = []
    if contended:
        shared = {"contended": contended, "runs": len(records)}
        problems.append(Remark("timing.contended", shared))
    mixed = tuple(row.label for row in rows if len(_on_features(row)) > 1)
    if mixed:
        problems.append(Remark("timing.features", {"strategies": mixed}))
    facts = {
        Tag.HOST: "timing.machines",
        Tag.DEVICE: "timing.devices",
        Tag.NUM_THREADS: "timing.threads",
    }
    tags = sorted({tag for record in records for tag in record.tags})
    facts |= {tag: "timing.versions" for tag in tags if tag.startswith(Tag.VERSION)}
    for tag, key in facts.items():
        values = _tags(records, tag)
        if len(values) > 1:
            problems.append(Remark(key, {"values": values, "of": tag.rpartition(".")[2]}))
    return tuple(problems)


def _on_features(row: Row) -> set[bool]:
    return {record.tags.get(Tag.FEATURES, "off") != "off" for record in finished([row])}


def devices(rows: Sequence[Row]) -> tuple[Text, ...]:
    """Return the different devices that the runs were trained on."""
    return _tags(finished(rows), Tag.DEVICE)


def finished(rows: Iterable[Row]) -> list[Record]:
    """Return all finished runs of rows."""
    return [record for row in rows for record in row.records if record.status == "FINISHED"]


def _tags(records: Iterable[Record], tag: str) -> tuple[Text, ...]:
    """Return the different values of a tag, with a remark for runs that lack it."""
    values = dict.fromkeys(record.tags.get(tag) for record in records)
    return tuple(Remark("timing.unknown") if value is None else value for value in values)


def _lost(rows: Sequence[Row]) -> list[Remark]:
    labels = dict.fromkeys(row.label for row in rows)
    done = {row.label for row in rows if row.finished}
    return [Remark("warning.lost", {"strategy": name}) for name in labels if name not in done]


def _groups(chosen: Sequence[Row]) -> list[Remark]:
    names = tuple(dict.fromkeys(row.group for row in chosen))
    return [Remark("warning.groups", {"groups": names})] if len(names) > 1 else []


def _not_finite(rows: Sequence[Row]) -> list[Remark]:
    return [
        Remark("warning.not_finite", {"run": record.name, "metrics": tuple(bad)})
        for record in finished(rows)
        if (bad := sorted(k for k, v in record.metrics.items() if not math.isfinite(v)))
    ]


def _few_seeds(chosen: Sequence[Row]) -> list[Remark]:
    by_count = {
        count: tuple(row.label for row in chosen if row.finished == count) for count in (1, 2)
    }
    keys = {1: "warning.one_seed", 2: "warning.two_seeds"}
    return [Remark(keys[n], {"strategies": labels}) for n, labels in by_count.items() if labels]


def _unequal_seeds(chosen: Sequence[Row]) -> list[Remark]:
    return _unequal("warning.seeds", {row.label: row.finished for row in chosen})


def _tuning(rows: Sequence[Row], split: str) -> list[Remark]:
    budgets = tuning_budgets(rows)
    remarks = _unequal("warning.tuning", budgets)
    if split == "eval" and max(budgets.values(), default=1) > 1:
        remarks.append(Remark("warning.no_test"))
    return remarks


def _training(chosen: Sequence[Row]) -> list[Remark]:
    """Warn, per group, of unequal numbers of texts in training, and of different texts."""
    remarks = []
    for group in dict.fromkeys(row.group for row in chosen):
        rows = [row for row in chosen if row.group == group]
        seen = {row.label: texts for row in rows if (texts := _texts_seen(row)) is not None}
        remarks += _unequal("warning.training", seen)
        if len(_tags(finished(rows), Tag.DATA_FINGERPRINT)) > 1:
            remarks.append(Remark("warning.texts"))
    return remarks


def _texts_seen(row: Row) -> float | None:
    """Return texts times epochs of the first finished run; None when its record does not say."""
    params = next((record.params for record in finished([row])), {})
    steps = float(params.get("max_steps", -1))
    try:
        if steps > 0:
            return steps * float(params["per_device_train_batch_size"])
        return float(params["num_train_epochs"]) * float(params["train_examples"])
    except KeyError:
        return None


def _timing(chosen: Sequence[Row]) -> list[Remark]:
    problems = timing_problems(chosen)
    return [Remark("warning.timing", {"problems": problems})] if problems else []


def _unequal(key: str, counts: Mapping[str, float]) -> list[Remark]:
    """Return a remark with all counts unless they are the same for all strategies."""
    listed = tuple(f"{label} {count:,.0f}" for label, count in counts.items())
    return [Remark(key, {"counts": listed})] if len(set(counts.values())) > 1 else []
