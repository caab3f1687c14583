"""Sweeps after sweeps in one folder: what is taken over, trained anew, ended, or left alone."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from support.runs import restored

from sweep.base.environment import cores
from sweep.commands import conclude as publish
from sweep.commands import report
from sweep.commands.inputs import check_inputs
from sweep.commands.sweep import main
from sweep.config.compose import compose_jobs
from sweep.config.schema import Config
from sweep.execution.faults import MEMORY
from sweep.execution.retries import next_try
from sweep.execution.worker import Outcome
from sweep.runs.ledger import Ledger
from sweep.runs.record import Record, RunSpec, unfinished, write_record
from sweep.runs.run import run
from sweep.tracking.outbox import Outbox
from sweep.tracking.queue import has_waiting
from sweep.tracking.store import Store
from sweep.training.stopping import Stopped, StopRequest


def records(root: Path) -> list[dict[str, Any]]:
    """All records below a folder, the oldest sweep first."""
    paths = sorted(root.glob("mlruns/sweeps/*/*/record.json"))
    return [restored(json.loads(path.read_text("utf-8"))) for path in paths]


def sweep(*argv: str) -> int:
    return main(["tracking=none", "trainer.max_steps=1", *argv])


def test_the_same_command_takes_over_and_a_wider_one_trains_what_is_new(
    overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep("freeze=full", *overrides) == 0
    assert capsys.readouterr().out.startswith("1 run, results in ")
    assert sweep("freeze=full", *overrides) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("1 finished, 0 to do, results in ")
    assert "started" not in printed
    assert "full: trains head, " in printed  # the table
    assert sweep("freeze=full,layer_norm", *overrides) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("1 finished, 1 to do, results in ")
    assert [line for line in printed.splitlines() if "started" in line] == [
        "[2/2] layer_norm: started"
    ]
    assert "full: trains head, " in printed
    assert [r["strategy"] for r in records(tmp_path)] == ["full", "layer_norm"]


def test_what_changes_the_result_is_trained_again_and_what_does_not_is_not(
    overrides: list[str], csv_file: Path, own: str, tmp_path: Path
) -> None:
    table = Path(shutil.copy(csv_file, tmp_path / "moved.csv"))
    moved = [x if not x.startswith("data.path=") else f"data.path={table}" for x in overrides]
    strategy = Path(own) / "freeze" / "mine.yaml"
    strategy.write_text("name: mine\nparts: []\nlearning_rate: 1e-3\n", "utf-8")
    mine = ["--config-dir", own, "freeze=mine"]
    assert sweep(*mine, *overrides) == 0
    strategy.write_text("# mine\nname: mine\nparts: []\nlearning_rate: 0.001\n", "utf-8")
    assert sweep(*mine, *moved, "trainer.timeout_min=60", "jobs=2") == 0
    assert len(records(tmp_path)) == 1
    text = table.read_text("utf-8")
    row = text.splitlines()[7]
    label = row.rpartition(",")[2]
    other = next(name for name in ("good", "bad", "plain") if name != label)
    table.write_text(text.replace(row, row.removesuffix(label) + other), "utf-8")
    assert sweep(*mine, *moved) == 0
    assert sweep(*mine, "resume=false", *moved) == 0
    found = records(tmp_path)
    assert len(found) == 3
    assert [r["key"] == found[0]["key"] for r in found] == [True, False, False]
    assert found[1]["key"] == found[2]["key"]
    assert len({r["folder"] for r in found}) == 3


def test_a_run_without_its_weights_is_trained_again_when_they_are_asked(
    overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command, opening in (
        (["freeze=full"], "1 run, "),
        (["freeze=full", "trainer.save_model=true"], "1 run, "),
        (["freeze=full", "trainer.save_model=true"], "1 finished, 0 to do, "),
        (["freeze=full"], "1 finished, 0 to do, "),
    ):
        assert sweep(*command, *overrides) == 0
        assert capsys.readouterr().out.startswith(opening)
    first, second = records(tmp_path)
    assert not (Path(first["folder"]) / "model").exists()
    assert (Path(second["folder"]) / "model").is_dir()


def test_a_sweep_is_judged_and_shown_as_it_was_asked_though_its_runs_are_taken_over(
    overrides: list[str], tmp_path: Path
) -> None:
    def shown(*typed: str) -> tuple[str, float, str]:
        """Language, margin and metric of the report of a sweep of one run."""
        assert sweep("freeze=full", *typed, *overrides) == 0
        return reported()

    def reported() -> tuple[str, float, str]:
        folder = max((tmp_path / "mlruns" / "sweeps").iterdir()) / "report"
        page = (folder / "index.html").read_text("utf-8")
        content = json.loads((folder / "recommendation.json").read_text("utf-8"))
        (language,) = re.findall(r'<html lang="(\w+)">', page)
        return language, content["margin"], content["metric"]

    asked = ["report.language=ko", "compare.margin=0.05", "compare.metric=f1"]
    assert shown(*asked) == ("ko", 0.05, "test_f1")
    time.sleep(1)  # names of sweeps begin with the second
    assert shown() == ("en", 0.01, "test_accuracy")  # not as the sweep was that trained the run
    time.sleep(1)
    assert shown(*asked[1:]) == ("en", 0.05, "test_f1")
    assert report.main([]) == 0
    assert reported() == ("en", 0.05, "test_f1")
    assert report.main(["compare.margin=0.02"]) == 0
    assert reported() == ("en", 0.02, "test_f1")
    assert len(records(tmp_path)) == 1
    config = (Path(records(tmp_path)[0]["folder"]) / "config.yaml").read_text("utf-8")
    assert set(yaml.safe_load(config)) == {field.name for field in fields(Config)}


@pytest.mark.parametrize(
    ("typed", "file"),
    [([], "config.yaml"), (["trainer.save_model=true"], "model/model.safetensors")],
)
def test_a_finished_run_with_a_damaged_file_is_named_and_trained_again(
    typed: list[str],
    file: str,
    overrides: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["tracking=none", "freeze=full", *typed, *overrides]
    assert main(command) == 0
    (record,) = records(tmp_path)
    path = Path(record["folder"]) / file
    path.write_bytes(path.read_bytes()[:-100])
    capsys.readouterr()
    assert report.main(["tracking=none"]) == 0
    reported = capsys.readouterr().out
    assert ("FAILED" in reported) == (file == "config.yaml")
    for opening in (
        f"full: {path} is gone or damaged, so the run counts as not done\n1 run, ",
        "1 finished, 0 to do, ",
    ):
        assert main(command) == 0
        assert capsys.readouterr().out.startswith(opening)
    assert [r["key"] for r in records(tmp_path)] == [record["key"]] * 2


@pytest.mark.parametrize(
    ("typed", "reason"),
    [("on_failure=stop", "on_failure=stop"), ("max_failures=1", "max_failures=1")],
)
def test_enough_failures_leave_the_rest_out(
    typed: str, reason: str, overrides: list[str], own: str, tmp_path: Path, capsys: Any
) -> None:
    command = ["--config-dir", own, "freeze=diverges,full", "optimizer.warmup_steps=0", typed]
    assert main(["tracking=none", *command, *overrides]) == 1
    printed = capsys.readouterr().out
    assert f"1 of 2 runs were not begun (1 failed, and {reason})\n" in printed
    assert [r["status"] for r in records(tmp_path)] == ["FAILED"]


def test_a_run_that_takes_too_long_is_ended(overrides: list[str], tmp_path: Path) -> None:
    long = ["trainer.max_steps=1000000", "trainer.timeout_min=0.05"]
    assert main(["tracking=none", "freeze=full", "freeze.probe=adamw", *overrides, *long]) == 1
    (record,) = records(tmp_path)
    assert record["status"] == "FAILED"
    assert record["reason"] == "took longer than trainer.timeout_min=0.05"


def begin(root: Path, *argv: str) -> subprocess.Popen[bytes]:
    """Start a sweep in a process of its own."""
    command = [sys.executable, "-m", "sweep", *argv]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL)


def kill_the_first_run(root: Path) -> None:
    """SIGKILL for the process that writes the first log there is, once it trains."""
    while not (curves := list(root.glob("mlruns/sweeps/*/000_none/curves.jsonl"))):
        time.sleep(0.05)
    log = str(curves[0].with_name("run.log"))
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(file.path == log for file in process.open_files()):
                process.kill()


def test_a_run_whose_process_is_killed_fails_and_the_others_go_on(
    overrides: list[str], tmp_path: Path
) -> None:
    killer = threading.Thread(target=kill_the_first_run, args=(tmp_path,))
    killer.start()
    steps = ["trainer.max_steps=300", "trainer.num_threads=1"]
    assert main(["tracking=none", "freeze=none,full", *overrides, *steps]) == 1
    killer.join()
    assert [(r["status"], r["reason"]) for r in records(tmp_path)] == [
        ("FAILED", "the process was killed by SIGKILL"),
        ("FINISHED", ""),
    ]


def test_two_sweeps_at_once_train_every_key_once(overrides: list[str], tmp_path: Path) -> None:
    from mlflow import MlflowClient

    command = ["freeze=full", "seed=0,1,2", "trainer.max_steps=100", *overrides]
    command += ["trainer.num_threads=1"]  # two sweeps with two threads each hinder each other
    with begin(tmp_path, *command) as other:
        while not list(tmp_path.glob("mlruns/sweeps/*/000_full/curves.jsonl")):
            time.sleep(0.1)
        assert main(command) == 0
        assert other.wait(timeout=100) == 0
    found = records(tmp_path)
    assert Counter(r["status"] for r in found) == {"FINISHED": 3}
    assert len({r["key"] for r in found}) == 3
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("sweep")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    kinds = Counter((run.data.tags["sweep.kind"], run.info.status) for run in runs)
    assert kinds == {("sweep", "FINISHED"): 2, ("run", "FINISHED"): 3}


def test_two_jobs_run_at_once_and_say_that_their_times_were_contended(
    overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [text for text in overrides if text != "trainer=debug"]
    command = ["tracking=none", "freeze=full,none", "jobs=2", "trainer.max_steps=300", *steps]
    assert main(command) == 0
    told = [x for x in capsys.readouterr().out.splitlines() if x.startswith("[")]
    started = [i for i, line in enumerate(told) if line.endswith("started")]
    finished = [i for i, line in enumerate(told) if "finished" in line]
    assert max(started) < min(finished)
    found = records(tmp_path)
    assert [r["tags"].get("timing_contended") for r in found] == ["true", "true"]
    assert {r["tags"]["sweep.num_threads"] for r in found} == {str(max(1, cores() // 2))}


def test_a_stopped_sweep_goes_on_from_the_step_where_it_was(
    overrides: list[str], tmp_path: Path
) -> None:
    steps = ["trainer.max_steps=400", "trainer.num_threads=1", "trainer.logging_steps=20"]
    command = ["freeze=none", *(text for text in overrides if text != "trainer=debug"), *steps]
    calm, stopped = tmp_path / "calm", tmp_path / "stopped"
    for folder in (calm, stopped):
        folder.mkdir()
    with begin(stopped, *command) as process:
        while not list(stopped.glob("mlruns/sweeps/*/*/curves.jsonl")):
            time.sleep(0.05)
        process.terminate()
        assert process.wait(timeout=120) == 130
    (record,) = records(stopped)
    assert record["status"] == "KILLED"
    assert record["reason"].endswith("; the same command goes on from there")
    for folder in (calm, stopped):
        with begin(folder, *command) as process:
            assert process.wait(timeout=300) == 0
    (whole,), (pieces,) = records(calm), records(stopped)
    assert pieces["key"] == whole["key"]
    assert [note for note in pieces["notes"] if note.startswith("went on from step ")]
    timed = ("_s", "per_second", "_mib")
    first, second = (
        {k: v for k, v in r["metrics"].items() if not k.endswith(timed)} for r in (whole, pieces)
    )
    assert first == second
    assert curves(whole) == curves(pieces)


def test_runs_share_a_frozen_part_only_where_they_compute_it_alike(overrides: list[str]) -> None:
    def sharing(*typed: str) -> list[int]:
        checked = check_inputs(compose_jobs(["freeze=full", *typed, *overrides]))
        return [job.sharing for job in checked]

    assert sharing("seed=0,1,2") == [3, 3, 3]
    assert sharing("trainer.precision=fp32,bf16", "seed=0,1") == [2, 2, 2, 2]


def test_a_run_in_smaller_pieces_that_is_stopped_goes_on_in_them(
    overrides: list[str], tmp_path: Path
) -> None:
    steps = ["trainer.max_steps=4", "trainer.per_device_train_batch_size=8"]
    command = ["freeze=full", "freeze.probe=adamw", *overrides, *steps]
    (checked,) = check_inputs(compose_jobs(command))
    cfg, ledger, stop = checked.job.cfg, Ledger(tmp_path / "mlruns"), StopRequest()
    first = tmp_path / "mlruns" / "sweeps" / "before" / "000_full"
    spec = RunSpec("full", cfg, {}, checked.key, "before", first, Store(None), ledger.root)
    again = next_try(spec, Outcome(Record("", "full", "full", "FAILED"), MEMORY), 0)
    assert again is not None
    again.spec.folder.mkdir(parents=True)
    with ledger.lock(checked.key):
        ledger.add(checked.key, again.spec.folder)
    with pytest.raises(Stopped) as stopped:
        run(again.spec, Outbox(again.spec.folder, Store(None)), lambda *_: stop.ask(), stop)
    write_record(unfinished(again.spec, "KILLED", stopped.value.remark), again.spec.folder)

    assert main(["tracking=none", *command]) == 0
    (record,) = records(tmp_path)
    assert record["status"] == "FINISHED"
    assert record["params"]["per_device_train_batch_size"] == 4
    assert "went on from step 1" in record["notes"]
    note = "out of memory with batches of 8; trained with batches of 4, 2 to an optimizer step"
    assert note in record["notes"]


def change_the_data_once_a_run_trains(root: Path, table: Path) -> None:
    """Leave out the last row as soon as the first curve of the first run is there."""
    while not list(root.glob("mlruns/sweeps/*/000_*/curves.jsonl")):
        time.sleep(0.01)
    table.write_text("\n".join(table.read_text("utf-8").splitlines()[:-1]) + "\n", "utf-8")


def test_a_run_that_finds_other_data_than_its_sweep_fails_and_says_why(
    overrides: list[str], csv_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Path(shutil.copy(csv_file, tmp_path / "rows.csv"))
    changer = threading.Thread(target=change_the_data_once_a_run_trains, args=(tmp_path, table))
    changer.start()
    command = ["tracking=none", *overrides, f"data.path={table}", "freeze=full", "seed=0,1"]
    assert main([*command, "trainer.max_steps=100"]) == 1
    changer.join()
    reason = "the data changed while the sweep ran, so its runs could not be compared"
    assert [(r["status"], r["reason"]) for r in records(tmp_path)] == [
        ("FINISHED", ""),
        ("FAILED", f"RuntimeError: {reason}; start it anew"),
    ]
    assert f"full seed=1: FAILED: RuntimeError: {reason}; start it anew" in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_run_that_is_taken_over_names_the_rows_of_the_file_as_it_is_now(
    overrides: list[str], csv_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Path(shutil.copy(csv_file, tmp_path / "rows.csv"))
    typed = [*overrides, f"data.path={table}"]
    assert sweep("freeze=full", *typed) == 0
    header, *rows = table.read_text("utf-8").splitlines()
    table.write_text("\n".join([header, ",good", ",bad", ",plain", *rows]), "utf-8")
    capsys.readouterr()
    assert sweep("freeze=full,layer_norm", *typed) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 finished, 1 to do" in printed
    assert "the rows of the data file have moved since the run" in printed
    assert "its test texts are not those of the other runs" not in printed
    now = [line.rpartition(",")[2] for line in table.read_text("utf-8").splitlines()[1:]]
    for record in records(tmp_path):
        lines = (Path(record["folder"]) / "predictions.csv").read_text("utf-8").splitlines()[1:]
        cells = [line.split(",") for line in lines]
        assert [now[int(number)] for number, *_ in cells] == [label for _, label, *_ in cells]
    capsys.readouterr()
    assert sweep("freeze=full", *typed) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("1 finished, 0 to do")
    assert "have moved" not in printed


def curves(record: dict[str, Any]) -> list[tuple[int, dict[str, float]]]:
    """Points of a run's curves, without when they were made."""
    lines = (Path(record["folder"]) / "curves.jsonl").read_text("utf-8").splitlines()
    return [(point["step"], point["metrics"]) for point in map(json.loads, lines)]


def test_what_a_run_could_not_tell_the_store_is_told_at_the_end(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mlruns" / "sweeps" / "another" / "000_none"
    store = f"sqlite:///{tmp_path}/mlruns/mlflow.db"

    conclude = publish.conclude

    def interrupted(*arguments: Any) -> Any:
        """As if the store had been away when a run ended."""
        folder.mkdir(parents=True)
        box = Outbox(folder, Store(store, "1"))
        box.create("left", {})
        box.finish("FINISHED")
        return conclude(*arguments)

    monkeypatch.setattr(publish, "conclude", interrupted)
    assert main(["freeze=full", "trainer.max_steps=1", *overrides]) == 0
    assert not has_waiting(folder)
