"""Every module has a test file of its name, or a line here says which tests cover it."""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).parents[2]
SOURCE, TESTS = PROJECT / "src" / "sweep", PROJECT / "tests"
COVERED = {
    "__main__": "end_to_end/test_command_line",
    "api": "runs/test_read_records",
    "base/disk": "tracking/test_outbox",
    "base/environment": "training/test_train",
    "base/files": "models/test_model_files",
    "base/loading": "execution/test_worker",
    "base/locks": "commands/test_session",
    "commands/conclude": "comparison/test_verdict",
    "commands/inputs": "config/test_errors",
    "comparison/caveats": "comparison/test_recommend",
    "comparison/per_text_scores": "comparison/test_significance",
    "comparison/reasons": "comparison/test_recommend",
    "comparison/results": "comparison/test_compare",
    "comparison/rows": "comparison/test_compare",
    "comparison/winners": "comparison/test_verdict",
    "config/checks": "config/test_errors",
    "config/compose": "config/test_options",
    "config/launchers": "execution/test_launcher",
    "config/optimizer_checks": "config/test_user_files",
    "config/overrides": "config/test_errors",
    "config/schema": "config/test_options",
    "config/strategy_checks": "config/test_errors",
    "data/cleaning": "data/test_splits",
    "data/collate": "data/test_encode",
    "data/hub": "data/test_splits",
    "data/json_files": "data/test_files",
    "data/parquet_files": "data/test_files",
    "data/table_files": "data/test_splits",
    "execution/active": "execution/test_scheduler",
    "execution/other_sweeps": "commands/test_session",
    "execution/processes": "execution/test_worker",
    "features/cut": "features/test_compute",
    "features/frozen_part": "features/test_compute",
    "features/payoff": "features/test_compute",
    "models/bitsandbytes_import": "execution/test_preload",
    "models/modes": "training/test_logit_check",
    "models/parts": "models/test_pretrained",
    "models/quantization": "strategies/test_adapters",
    "plan": "commands/test_plan",
    "predict": "commands/test_predict",
    "report": "commands/test_report",
    "reporting/collect": "commands/test_report",
    "reporting/detail_sections": "reporting/test_page",
    "reporting/figures/across_strategies": "reporting/test_sections",
    "reporting/figures/layer_map": "reporting/test_sections",
    "reporting/figures/per_strategy": "reporting/test_sections",
    "reporting/material": "reporting/test_sections",
    "reporting/recommendation_file": "comparison/test_verdict",
    "reporting/report_files": "commands/test_report",
    "reporting/sentences": "reporting/test_korean",
    "reporting/strategy_sections": "reporting/test_page",
    "reporting/tables": "reporting/test_terminal",
    "runs/description": "tracking/test_store",
    "runs/liveness": "runs/test_ledger",
    "runs/outputs": "training/test_train",
    "runs/read_outputs": "commands/test_report",
    "runs/read_store": "runs/test_read_records",
    "strategies/description": "strategies/test_adapters",
    "strategies/freeze_report": "strategies/test_freeze",
    "strategies/selection": "strategies/test_freeze",
    "tracking/connect": "tracking/test_store",
    "tracking/queue": "tracking/test_outbox",
    "training/cost": "training/test_train",
    "training/progress": "execution/test_progress",
    "training/resume": "training/test_checkpoint",
    "training/saved_model": "strategies/test_proof",
    "training/stopping": "training/test_checkpoint",
    "training/trainer": "training/test_train",
}
"""Module -> the test file that covers most of it, both without their suffix."""


def test_every_module_is_named_by_a_test() -> None:
    modules = [
        path.relative_to(SOURCE).with_suffix("")
        for path in SOURCE.rglob("*.py")
        if path.stem != "__init__"
    ]
    unnamed = {
        module.as_posix()
        for module in modules
        if not (TESTS / module.parent / f"test_{module.name}.py").exists()
    }
    assert len(modules) > 100
    assert unnamed == set(COVERED)


def test_the_files_that_cover_them_are_there() -> None:
    assert [name for name in COVERED.values() if not (TESTS / f"{name}.py").is_file()] == []
