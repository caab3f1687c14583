"""What must be known before two strategies are compared: unequal budgets, hardware, lost runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from sweep.record import Record
from sweep.results import Row


def warnings(rows: Sequence[Row], chosen: Sequence[Row], split: str) -> list[str]:
    """Sentences on what a reader of the comparison has to keep in mind."""
    return [
        *_lost(rows),
        *_groups(chosen),
        *_not_finite(rows),
        *_one_seed(chosen),
        *_unequal_seeds(chosen),
        *_tuning(rows, split),
        *_training(chosen),
        *_timing(chosen),
    ]


def tuning_budgets(rows: Sequence[Row]) -> dict[str, int]:
    """Per strategy, how many configurations validation had to choose from."""
    found: dict[str, int] = {}
    for row in rows:
        found[row.label] = found.get(row.label, 0) + 1
    return found


def timing_problems(rows: Sequence[Row]) -> list[str]:
    """Why training times of these rows cannot be ranked; empty when they can."""
    records = finished(rows)
    contended = sum(record.tags.get("timing_contended") == "true" for record in records)
    problems = []
    if contended:
        problems.append(f"{contended} of {len(records)} runs shared cores or a device with others")
    facts = {"devices": "sweep.device", "numbers of CPU threads": "sweep.num_threads"}
    facts |= {
        f"versions of {tag.rpartition('.')[2]}": tag
        for tag in sorted({tag for record in records for tag in record.tags})
        if tag.startswith("sweep.version.")
    }
    for what, tag in facts.items():
        values = _tags(records, tag)
        if len(values) > 1:
            problems.append(f"runs had different {what} ({', '.join(values)})")
    return problems


def devices(rows: Sequence[Row]) -> list[str]:
    """On what the runs were trained."""
    return _tags(finished(rows), "sweep.device")


def finished(rows: Iterable[Row]) -> list[Record]:
    """All finished runs of rows."""
    return [record for row in rows for record in row.records if record.status == "FINISHED"]


def _tags(records: Iterable[Record], tag: str) -> list[str]:
    """The different values of a tag."""
    return list(dict.fromkeys(record.tags.get(tag, "unknown") for record in records))


def _lost(rows: Sequence[Row]) -> list[str]:
    labels = dict.fromkeys(row.label for row in rows)
    done = {row.label for row in rows if row.finished}
    gone = [label for label in labels if label not in done]
    return [f"no run of {label} finished, so it is not compared" for label in gone]


def _groups(chosen: Sequence[Row]) -> list[str]:
    names = list(dict.fromkeys(row.group for row in chosen))
    if len(names) < 2:
        return []
    return [f"strategies are compared within each of {'; '.join(names)}, and never across"]


def _not_finite(rows: Sequence[Row]) -> list[str]:
    return [
        f"{record.name}: {', '.join(bad)} is not a number and is left out of the means"
        for record in finished(rows)
        if (bad := sorted(k for k, v in record.metrics.items() if not math.isfinite(v)))
    ]


def _one_seed(chosen: Sequence[Row]) -> list[str]:
    single = [row.label for row in chosen if row.finished == 1]
    if not single:
        return []
    return [
        f"one seed of {', '.join(single)}: one seed says nothing about training noise, so a p-value"
        " is about these trained models and not about the strategies. Run seed=0,1,2 or more."
    ]


def _unequal_seeds(chosen: Sequence[Row]) -> list[str]:
    counts = {row.label: row.finished for row in chosen}
    if len(set(counts.values())) < 2:
        return []
    return [f"finished seeds differ: {_listed(counts)}. Pairs use the seeds that both have."]


def _tuning(rows: Sequence[Row], split: str) -> list[str]:
    budgets = tuning_budgets(rows)
    found = []
    if len(set(budgets.values())) > 1:
        found.append(
            f"tuning budgets differ: validation chose from {_listed(budgets)} configurations. The"
            " more there are to choose from, the better the best of them."
        )
    if split == "eval" and max(budgets.values(), default=1) > 1:
        found.append(
            "there is no test split: scores are of the validation texts that also chose each"
            " strategy's values, so they are too good. Set data.test_size."
        )
    return found


def _training(chosen: Sequence[Row]) -> list[str]:
    """Texts seen in training, and which texts those were."""
    found = []
    for group in dict.fromkeys(row.group for row in chosen):
        rows = [row for row in chosen if row.group == group]
        seen = {row.label: texts for row in rows if (texts := _texts_seen(row)) is not None}
        if len(set(seen.values())) > 1:
            listed = ", ".join(f"{label} {texts:,.0f}" for label, texts in seen.items())
            found.append(f"training budgets differ, in texts seen: {listed}")
        if len(_tags(finished(rows), "sweep.data_fingerprint")) > 1:
            found.append("the runs were trained on different texts, which may be the difference")
    return found


def _texts_seen(row: Row) -> float | None:
    """Texts times epochs of one run; None when the record does not say."""
    params = next((record.params for record in finished([row])), {})
    steps = float(params.get("max_steps", -1))
    try:
        if steps > 0:
            return steps * float(params["per_device_train_batch_size"])
        return float(params["num_train_epochs"]) * float(params["train_examples"])
    except KeyError:
        return None


def _timing(chosen: Sequence[Row]) -> list[str]:
    problems = timing_problems(chosen)
    return [f"training times are shown but not ranked: {'; '.join(problems)}"] if problems else []


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{label} {count}" for label, count in counts.items())
