"""The whole path on tiny models: command line -> processes -> store -> table.

`main` is called in this process, so that the server which loads torch starts once for all tests.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sweep.commands.sweep import main

PROJECT = Path(__file__).parents[2]


def records(root: Path) -> list[dict[str, Any]]:
    """All records below a folder, in the order of the runs."""
    paths = sorted(root.glob("mlruns/sweeps/*/*/record.json"))
    return [json.loads(path.read_text("utf-8")) for path in paths]


def search_runs(root: Path, kind: str) -> list[Any]:
    """Runs in the store, oldest first."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{root}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("sweep")
    assert experiment is not None
    return client.search_runs(
        [experiment.experiment_id],
        f"tags.`sweep.kind` = '{kind}'",
        order_by=["attributes.start_time ASC"],
    )


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, request: Any) -> Any:
    """One sweep of three strategies, looked at by several tests."""
    root = tmp_path_factory.mktemp("sweep")
    csv_file = request.getfixturevalue("csv_file")
    model = request.getfixturevalue("saved_model")("bert")
    command = [
        *(sys.executable, "-m", "sweep", "freeze=attention,full,none", "trainer=debug"),
        *("data=csv", f"data.path={csv_file}", "data.max_length=32", "trainer.device=cpu"),
        *("model=hub", f"model.name_or_path={model}"),
    ]
    found = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return root, found


def test_it_ends_well_and_prints_one_row_per_strategy(swept: Any) -> None:
    _, found = swept
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stderr == ""
    assert "dropped: none" in found.stdout
    for name in ("attention", "full", "none"):
        rows = [line for line in found.stdout.splitlines() if line.startswith(f" {name} ")]
        assert len(rows) == 3  # means, intervals and cost, at 80 columns


def test_it_prints_where_the_results_are_and_how_to_open_them(swept: Any) -> None:
    root, found = swept
    lines = dict(line.split(": ", 1) for line in found.stdout.splitlines() if ": " in line)
    assert (root / lines["results"] / "report" / "summary.csv").is_file()
    assert lines["open"].startswith(f"mlflow ui --backend-store-uri sqlite:///{root}/mlruns")
    assert lines["compare"].startswith("http://127.0.0.1:5000/#/compare-runs?runs=")


def test_nothing_is_left_outside_mlruns(swept: Any) -> None:
    root, _ = swept
    assert [path.name for path in root.iterdir()] == ["mlruns"]


def test_trainable_parameters_are_exact(swept: Any) -> None:
    root, _ = swept
    # 2 layers of width 8, inner width 16, 40 words, 64 positions, 3 labels.
    attention = 2 * (4 * (8 * 8 + 8) + 2 * 8)
    feed_forward = 2 * (8 * 16 + 16 + 16 * 8 + 8 + 2 * 8)
    embeddings = 40 * 8 + 64 * 8 + 2 * 8 + 2 * 8
    pooler, head = 8 * 8 + 8, 8 * 3 + 3
    total = embeddings + attention + feed_forward + pooler + head
    found = {r["strategy"]: r["metrics"]["trainable_params"] for r in records(root)}
    assert found == {"attention": attention + pooler + head, "full": head, "none": total}


def test_the_store_holds_the_record_of_every_run(swept: Any) -> None:
    root, _ = swept
    (summary,) = search_runs(root, "sweep")
    runs = search_runs(root, "run")
    assert [run.data.params["freeze"] for run in runs] == ["attention", "full", "none"]
    for run in runs:
        assert run.info.status == "FINISHED"
        assert run.data.tags["sweep.id"] == summary.info.run_id
        assert set(PARAMS) <= set(run.data.params)
        assert set(METRICS) <= set(run.data.metrics)
        assert len(run.data.tags["sweep.key"]) == 64
        assert len(run.inputs.dataset_inputs) == 3
    assert summary.info.status == "FINISHED"
    assert "attention/test_accuracy_mean" in summary.data.metrics


def test_every_artifact_is_there_and_readable(swept: Any) -> None:
    root, _ = swept
    for run in search_runs(root, "run"):
        folder = Path(run.info.artifact_uri.removeprefix("file://"))
        assert root in folder.parents
        assert {path.name for path in folder.iterdir()} == ARTIFACTS
        tensors = json.loads((folder / "freeze.json").read_text("utf-8"))["tensors"]
        trained = sum(t["trainable"] for t in tensors)
        assert 0 < trained <= len(tensors)
        with (folder / "predictions.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 24
        assert list(rows[0]) == ["id", "label", "prediction", "p_bad", "p_good", "p_plain"]


def test_curves_have_steps(swept: Any) -> None:
    from mlflow import MlflowClient

    root, _ = swept
    client = MlflowClient(f"sqlite:///{root}/mlruns/mlflow.db")
    run = search_runs(root, "run")[0]
    history = client.get_metric_history(run.info.run_id, "train_loss")
    assert sorted({point.step for point in history}) == [1, 2]


PARAMS = (
    *("freeze", "model", "data", "seed", "optim", "learning_rate", "num_train_epochs"),
    *("max_steps", "per_device_train_batch_size", "max_length", "precision", "num_labels"),
    "train_examples",
)
METRICS = (
    *("train_loss", "eval_loss", "eval_accuracy", "eval_f1", "test_loss", "test_accuracy"),
    *("test_f1", "train_runtime_s", "total_runtime_s", "train_samples_per_second"),
    *("trainable_params", "total_params", "trainable_fraction", "peak_memory_mib"),
    *("train_flops", "checkpoint_mib"),
)
ARTIFACTS = {
    *("config.yaml", "freeze.json", "predictions.csv", "confusion_matrix.png", "seal.json"),
    *("environment.json", "run.log", "record.json", "curves.jsonl"),
}


def test_the_same_seed_gives_the_same_numbers(overrides: list[str], tmp_path: Path) -> None:
    assert main(["freeze=none", "seed=3", *overrides]) == 0
    assert main(["freeze=none", "seed=3,4", "resume=false", *overrides]) == 0
    timed = ("_s", "per_second", "_mib")
    first, again, other = (
        {k: v for k, v in r["metrics"].items() if not k.endswith(timed)} for r in records(tmp_path)
    )
    assert first == again
    assert first["test_loss"] != other["test_loss"]


def test_a_failed_run_is_recorded_and_the_others_go_on(
    overrides: list[str], own: str, tmp_path: Path, capsys: Any
) -> None:
    command = ["--config-dir", own, "freeze=full,diverges,none", "optimizer.warmup_steps=0"]
    status = main([*command, *overrides])
    assert status == 1
    runs = search_runs(tmp_path, "run")
    assert [run.info.status for run in runs] == ["FINISHED", "FAILED", "FINISHED"]
    reason = runs[1].data.tags["sweep.status_reason"]
    assert reason.startswith("DivergedError: The training loss became nan at step 2.")
    log = Path(runs[1].info.artifact_uri.removeprefix("file://")) / "run.log"
    assert "Traceback (most recent call last)" in log.read_text("utf-8")
    assert runs[1].data.metrics["trainable_params"] > 0
    assert runs[1].data.metrics["train_loss"] > 0  # the curve up to the failure
    assert search_runs(tmp_path, "sweep")[0].info.status == "FAILED"
    printed = capsys.readouterr().out
    assert f"diverges: FAILED: {reason}" in printed
    assert " diverges " in printed


def test_without_tracking_results_are_on_disk_only(overrides: list[str], tmp_path: Path) -> None:
    assert main(["freeze=full", "tracking=none", *overrides]) == 0
    assert {path.name for path in (tmp_path / "mlruns").iterdir()} == {"cache", "keys", "sweeps"}
    (record,) = records(tmp_path)
    assert record["status"] == "FINISHED"


def test_two_sweeps_of_one_second_have_their_own_folders(tmp_path: Path) -> None:
    from sweep.commands.session import new_folder

    assert new_folder(tmp_path) != new_folder(tmp_path)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_signal_closes_the_run_and_the_sweep_as_killed(
    sent: signal.Signals, overrides: list[str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "sweep", "freeze=none,full", *overrides]
    long = ["trainer.max_steps=100000"]
    with subprocess.Popen(
        [*command, *long], stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if "started" in line)
        time.sleep(1)
        process.send_signal(sent)
        rest = process.stdout.read()
        assert process.wait(timeout=60) == 130
    assert "stopped; the same command does what is missing" in rest
    assert [run.info.status for run in search_runs(tmp_path, "run")] == ["KILLED"]
    assert search_runs(tmp_path, "sweep")[0].info.status == "KILLED"


def test_the_wheel_works_without_the_checkout(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path]
    subprocess.run([*build, PROJECT], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(site)
    shipped = {name.removeprefix("sweep/") for name in names if name.endswith(".yaml")}
    assert shipped == {str(p.relative_to(PROJECT)) for p in PROJECT.glob("conf/**/*.yaml")}
    parts = {name.removeprefix("sweep/page/") for name in names if name.startswith("sweep/page/")}
    assert parts == {p.name for p in PROJECT.glob("src/sweep/page/*")}
    found = subprocess.run(
        [sys.executable, "-m", "sweep", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "attention blocks (with their LayerNorm), pooler and head train" in found.stdout
