"""The settings of a sweep: written to sweep.json, read back, and of older versions from runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sweep.config.launchers import Launch
from sweep.config.schema import CompareConfig, ConfigError, ReportConfig, SweepSettings
from sweep.config.schema import TrackingConfig as Tracking
from sweep.runs import sweep_settings
from sweep.runs.record import Record

FILE = Path("sweep.json")


def test_what_is_written_is_read_back_without_the_address_of_the_store() -> None:
    settings = SweepSettings(
        tracking=Tracking(uri="postgresql://me:secret@host/db", experiment_name="mine"),
        compare=CompareConfig(cost="memory", margin=0.05, max_time_s=3),
        report=ReportConfig("ko", examples=0),
        jobs=2,
        max_failures=3,
    )
    text = json.dumps(sweep_settings.to_json(settings, Launch("slurm")))
    assert "secret" not in text
    written = json.loads(text)
    assert written["launcher"] == "slurm"
    settings.tracking.uri = None
    assert sweep_settings.from_json(written, FILE) == settings


def test_keys_that_another_version_has_are_left_out() -> None:
    written = {"compare": {"margin": 0.05, "later": 1}, "later": {"x": 1}, "report": None}
    settings = sweep_settings.from_json(written, FILE)
    assert settings.compare == CompareConfig(margin=0.05)
    assert settings.report == ReportConfig()


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            {"compare": {"margin": 5}},
            "sweep.json: compare.margin=5.0 is not allowed. It has to be a number above 0 and"
            " below 1, as 0.01.",
        ),
        (
            {"report": {"language": "xx"}},
            "sweep.json: report.language='xx' is not known. Choose one of en, ko.",
        ),
        (
            {"jobs": "many"},
            "sweep.json has settings that cannot be read: Value 'many' of type 'str' could not be"
            " converted to Integer.",
        ),
    ],
    ids=["out-of-range", "not-known", "of-another-type"],
)
def test_values_that_cannot_be_used_are_told(written: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as told:
        sweep_settings.from_json(written, FILE)
    assert told.value.messages == (message,)


def run_with(folder: Path, config: str) -> Record:
    """A run whose config.yaml has this text."""
    folder.mkdir()
    (folder / "config.yaml").write_text(config, "utf-8")
    return Record("", "none", "none", "FINISHED", folder=str(folder))


def test_sweeps_of_older_versions_have_them_in_their_runs(tmp_path: Path) -> None:
    runs = [
        Record("", "none", "none", "FINISHED", folder=str(tmp_path / "gone")),
        run_with(tmp_path / "damaged", "compare: {margin: ["),
        run_with(tmp_path / "odd", "compare: {margin: 7}"),
        run_with(tmp_path / "new", "seed: 1"),
        run_with(tmp_path / "old", "seed: 1\ncompare: {margin: 0.05}\nreport: {language: ko}\n"),
    ]
    settings = sweep_settings.of_runs(runs)
    assert (settings.compare.margin, settings.report.language) == (0.05, "ko")
    assert sweep_settings.of_runs(runs[:-1]).compare == CompareConfig()
