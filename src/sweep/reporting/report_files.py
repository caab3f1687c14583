"""Write the report of a comparison to disk, and its metrics and notes to MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sweep.base import words
from sweep.base.layout import ReportPaths, SweepPaths
from sweep.comparison import recommend, rows
from sweep.comparison.results import Comparison, Row
from sweep.config.schema import ReportConfig
from sweep.data.splits import load_splits
from sweep.reporting import recommendation_file, sentences, tables
from sweep.reporting.material import Material
from sweep.reporting.page import build as build_page
from sweep.runs.read_outputs import Plan
from sweep.runs.record import Record, saved_config
from sweep.tracking.store import Store
from sweep.tracking.tags import Tag

MOST_NOTES = 200
"""Number of runs whose description is written; the others keep their first one."""
SHOWN = ("accuracy", "f1")
COSTS = ("train_runtime_s", "peak_memory_mib")
"""Metrics of the summary run: few, because MLflow draws a chart for each."""


def write(
    comparison: Comparison,
    records: Sequence[Record],
    plan: Plan,
    folder: Path,
    options: ReportConfig,
) -> Path:
    """Write report/ of a sweep, and return the path of its page."""
    report = SweepPaths(folder).report
    tables.write(comparison, report)
    ReportPaths(report).recommendation.write_text(recommendation_file.to_json(comparison), "utf-8")
    texts = texts_of(records, comparison.split) if options.examples else {}
    say = words.load(options.language)
    return build_page(report, Material(comparison, records, plan, say, texts, options.examples))


def texts_of(records: Sequence[Record], split: str) -> dict[str, str]:
    """Return the text per id of the reported split; empty if the data has changed since."""
    fingerprints = {r.tags.get(Tag.DATA_FINGERPRINT) for r in records if r.status == "FINISHED"}
    known = [r for r in records if r.status == "FINISHED" and r.paths.config.exists()]
    if len(fingerprints) != 1 or not known:
        return {}
    try:
        splits = load_splits(saved_config(Path(known[0].folder)).data)
    except Exception:  # a file that cannot be read must not cost the report, only its texts
        return {}
    if splits.fingerprint not in fingerprints:
        return {}
    part = splits.test if split == "test" else splits.validation
    return {str(key): text for key, text in zip(part.ids, part.texts, strict=True)}


def description(comparison: Comparison, plan: Plan) -> str:
    """Return the description of the summary run, in Markdown."""
    command = f"\n\n`{plan.command}`" if plan.command else ""
    page = "The whole report is the artifact `report/index.html`."
    return f"{tables.markdown(comparison)}\n{page}{command}"


def describe_runs(store: Store, sweep_id: str, comparison: Comparison) -> None:
    """Set the columns of MLflow's run list, and write each strategy's result on its runs' pages."""
    if store.uri is None:
        return
    run_ids = [record.run_id for row in comparison.rows for record in row.records if record.run_id]
    store.share_view(sweep_id, run_ids, _columns(comparison), comparison.metric)
    chosen = [(row, record) for row in comparison.chosen for record in row.records if record.run_id]
    for row, record in chosen[:MOST_NOTES]:
        tags = {Tag.NOTE: _about(comparison, row)}
        if flags := sentences.flags(comparison, row.label, words.load("en")):
            tags[Tag.FLAGS] = ", ".join(flags)
        store.describe(record.run_id, {}, tags)


def summary_metrics(comparison: Comparison) -> dict[str, float]:
    """Return `<strategy>/test_accuracy_mean`, `_ci_low`, ... of the chosen configurations."""
    wanted = {f"{comparison.split}_{name}" for name in SHOWN} | set(COSTS)
    shown = []
    for row in comparison.chosen:
        metrics = {
            name: value if name not in COSTS else replace(value, low=None, high=None)
            for name, value in row.metrics.items()
            if name in wanted
        }
        shown.append(replace(row, name=row.label, metrics=metrics))
    return rows.rollup(shown)


def _columns(comparison: Comparison) -> list[str]:
    """Return the metrics that the run list shows."""
    scores = [f"{comparison.split}_{name}" for name in SHOWN]
    return [*scores, *COSTS, "trainable_params", "train_flops", "checkpoint_mib"]


def _about(comparison: Comparison, row: Row) -> str:
    """Return the note on a strategy for its runs' pages."""
    score = row.metrics.get(comparison.metric)
    lines = [f"**{row.label}** trains {row.trains}."]
    if score is not None:
        ends = sentences.range_text(score, 100)
        name = recommend.metric_name(comparison.metric)
        lines.append(
            f"Over {score.n} seeds, {name} {sentences.percent(score.mean)} {ends}".strip() + "."
        )
    if sentences.recommended_row(comparison, row.group) is row:
        lines.append("Recommended in its sweep.")
    why = comparison.reasons.get(row.label)
    return "\n\n".join([*lines, *([f"It {why}."] if why else [])])
