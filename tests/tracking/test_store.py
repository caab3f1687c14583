"""The record in a real SQLite store."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from support.config import compose

from sweep.comparison import rows
from sweep.comparison.results import Interval, Row
from sweep.config.schema import ConfigError, TrackingConfig
from sweep.data import table_files
from sweep.data.splits import Split, Splits
from sweep.runs import description
from sweep.tracking import connect, database
from sweep.tracking.store import RefusedError, Store


@pytest.fixture
def store(root: Path, request: pytest.FixtureRequest) -> Store:
    """An experiment of its own for each test."""
    return connect.open_store(TrackingConfig(uri=None, experiment_name=request.node.name), root)


def read(store: Store, run_id: str) -> Any:
    """A run as a connection of its own sees it."""
    return replace(store).client.get_run(run_id)


def journal_mode(database: Path) -> str:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    return str(mode)


# Opening.


def test_the_default_store_is_sqlite_that_can_be_read_while_written(root: Path) -> None:
    assert journal_mode(root / "mlflow.db") == "wal"


def test_the_address_is_absolute(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    store = connect.open_store(TrackingConfig(uri=None), Path(root.name))
    assert store.uri == f"sqlite:///{root}/mlflow.db"


def test_opening_again_finds_the_same_experiment(root: Path) -> None:
    first, again, other = (
        connect.open_store(TrackingConfig(uri=None, experiment_name=name), root)
        for name in ("one", "one", "two")
    )
    assert first == again
    assert other.experiment_id != first.experiment_id


OPEN = """
import multiprocessing, sys
from pathlib import Path
import mlflow, sqlalchemy.dialects.sqlite
from sweep.config.schema import TrackingConfig
from sweep.tracking import connect

def open_it(barrier):
    barrier.wait()
    connect.open_store(TrackingConfig(uri=None), Path(sys.argv[1])).create_run("one of four", {})

context = multiprocessing.get_context("fork")
barrier = context.Barrier(4)
processes = [context.Process(target=open_it, args=(barrier,)) for _ in range(4)]
for process in processes:
    process.start()
for process in processes:
    process.join()
sys.exit(sum(process.exitcode != 0 for process in processes))
"""


@pytest.mark.slow
def test_four_processes_may_open_a_fresh_store_at_once(tmp_path: Path) -> None:
    root = tmp_path / "my runs"
    root.mkdir()
    command = [sys.executable, "-c", OPEN, str(root)]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    store = connect.open_store(TrackingConfig(uri=None), root)
    assert len(store.client.search_runs([store.experiment_id])) == 4


def test_the_library_draws_no_bars() -> None:
    code = "import sweep.tracking.store, mlflow.environment_variables as e; "
    code += "print(e.MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.get())"
    command = [sys.executable, "-c", code]
    environment = {name: v for name, v in os.environ.items() if not name.startswith("MLFLOW_")}
    outcome = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert outcome.stdout == "False\n"


def test_a_deleted_experiment_is_a_config_error(store: Store, root: Path) -> None:
    name = store.client.get_experiment(store.experiment_id).name
    store.client.delete_experiment(store.experiment_id)
    with pytest.raises(ConfigError) as caught:
        connect.open_store(TrackingConfig(uri=None, experiment_name=name), root)
    assert caught.value.messages == (
        f"tracking.experiment_name={name!r} was deleted in MLflow. Restore it there, or choose"
        " another name.",
    )


@pytest.mark.parametrize(
    "uri",
    [
        pytest.param("nonsense://somewhere", id="unknown-scheme"),
        pytest.param("./mlruns", id="folder"),
        pytest.param("nosuchdialect+driver://localhost/x", id="unknown-driver"),
        pytest.param("postgresql://localhost/x", id="driver-not-installed"),
    ],
)
def test_an_address_that_cannot_be_used_is_a_config_error(uri: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        connect.open_store(TrackingConfig(uri=uri), tmp_path)
    (message,) = caught.value.messages
    assert message.startswith(f"tracking.uri={uri!r} cannot be used: ")
    assert message.endswith(" Correct tracking.uri or tracking.experiment_name.")


def test_a_database_that_was_cut_is_told_by_its_file(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    whole = (root / "mlflow.db").read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError) as caught:
        connect.open_store(TrackingConfig(uri=None), tmp_path)
    (message,) = caught.value.messages
    assert message.startswith(f"{file} cannot be used: ")
    assert "malformed. Move it away, and a new one is made;" in message


@pytest.mark.parametrize("content", [b"no database " * 50, None], ids=["garbage", "foreign"])
def test_a_damaged_default_store_is_told_by_its_file(
    content: bytes | None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mlflow.db"
    if content:
        file.write_bytes(content)
    else:
        with contextlib.closing(sqlite3.connect(file)) as connection:
            connection.execute("CREATE TABLE experiments (a INTEGER)")
            connection.execute("INSERT INTO experiments VALUES (1)")
            connection.commit()
    with pytest.raises(ConfigError) as caught:
        connect.open_store(TrackingConfig(uri=None), tmp_path)
    (message,) = caught.value.messages
    assert message.startswith(f"{file} cannot be used: (sqlite3.")
    assert message.endswith(
        ". Move it away, and a new one is made; the files of all runs are in mlruns/sweeps and"
        " stay."
    )
    assert "tracking.uri" not in message
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        pytest.param(
            "sqlite:///:memory:",
            " names no file, and runs are other processes, which could not see it. Use"
            " sqlite:///FILE.",
            id="memory",
        ),
        pytest.param(
            "sqlite:///{gone}/mlflow.db",
            ": the folder {gone} is not there, or cannot be written. Make it, or correct"
            " tracking.uri; an absolute path has four slashes, sqlite:////DIR/FILE.",
            id="no-folder",
        ),
    ],
)
def test_a_database_without_a_file_is_told(uri: str, complaint: str, tmp_path: Path) -> None:
    uri, complaint = (text.replace("{gone}", str(tmp_path / "gone")) for text in (uri, complaint))
    with pytest.raises(ConfigError) as caught:
        connect.open_store(TrackingConfig(uri=uri), tmp_path)
    assert caught.value.messages == (f"tracking.uri={uri!r}{complaint}",)


def test_a_given_database_is_opened_like_the_default_one(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tmp_path / "given.db"
    with (
        contextlib.closing(sqlite3.connect(root / "mlflow.db")) as source,
        contextlib.closing(sqlite3.connect(given)) as copy,
    ):
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
    locked: list[str] = []
    lock = database.FileLock
    monkeypatch.setattr(database, "FileLock", lambda path: [locked.append(path), lock(path)][1])
    monkeypatch.chdir(tmp_path)
    connect.open_store(TrackingConfig(uri="sqlite:///given.db"), root)
    assert journal_mode(given) == "wal"
    assert locked == [f"{given}.lock"]


def test_an_experiment_that_another_sweep_has_just_made_is_used(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    name = store.client.get_experiment(store.experiment_id).name
    look, looks = MlflowClient.get_experiment_by_name, iter([False])

    def not_yet_there(client: MlflowClient, name: str) -> Any:
        return look(client, name) if next(looks, True) else None

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", not_yet_there)
    assert connect.open_store(TrackingConfig(uri=None, experiment_name=name), root) == store


def test_artifacts_of_a_given_database_go_under_the_root_too(root: Path, tmp_path: Path) -> None:
    cfg = TrackingConfig(uri=f"sqlite:///{root}/mlflow.db", experiment_name="given database")
    store = connect.open_store(cfg, tmp_path)
    location = store.client.get_experiment(store.experiment_id).artifact_location
    assert location == (tmp_path / "artifacts").as_uri()


def test_a_server_that_does_not_answer_is_a_config_error() -> None:
    with pytest.raises(ConfigError) as caught:
        connect.check(TrackingConfig(uri="http://127.0.0.1:9"))
    assert caught.value.messages == (
        "tracking.uri='http://127.0.0.1:9' does not answer ([Errno 111] Connection refused). Start"
        " the server, correct the address, or use tracking=local.",
    )


@pytest.mark.parametrize(
    "cfg",
    [
        pytest.param(TrackingConfig(uri=None), id="sqlite"),
        pytest.param(TrackingConfig(enabled=False, uri="http://127.0.0.1:9"), id="off"),
    ],
)
def test_only_servers_are_asked_whether_they_answer(cfg: TrackingConfig) -> None:
    connect.check(cfg)


# Runs.


def test_a_run_begins_as_running_with_its_name_and_tags(store: Store) -> None:
    run = read(store, store.create_run("none seed=1", {"sweep.kind": "run", "sweep.key": "abc"}))
    assert (run.info.run_name, run.info.status) == ("none seed=1", "RUNNING")
    assert run.info.experiment_id == store.experiment_id
    tags = {k: v for k, v in run.data.tags.items() if k != "mlflow.runName"}
    assert tags == {"sweep.kind": "run", "sweep.key": "abc"}


def test_runs_of_a_sweep_can_be_found(store: Store) -> None:
    runs = {store.create_run(name, {"sweep.id": "one"}) for name in ("none", "full")}
    store.create_run("none", {"sweep.id": "other"})
    found = store.client.search_runs([store.experiment_id], "tags.`sweep.id` = 'one'")
    assert {run.info.run_id for run in found} == runs


@pytest.mark.parametrize("folder", ["/mlruns/it's a run", "/mlruns/100% \\ `감성`"])
def test_a_run_is_found_again_by_its_folder_and_machine(folder: str, store: Store) -> None:
    mine = {"sweep.place": folder, "sweep.host": "here"}
    assert store.find_run(mine) == ""
    run_id = store.create_run("none", {**mine, "sweep.key": "abc"})
    assert store.find_run({**mine, "sweep.key": "another"}) == run_id
    assert store.find_run({**mine, "sweep.host": "elsewhere"}) == ""
    assert store.find_run({**mine, "sweep.place": f"{folder}_2"}) == ""


def test_a_run_without_folder_or_machine_is_never_found(store: Store) -> None:
    store.create_run("none", {"sweep.key": "abc"})
    assert store.find_run({"sweep.key": "abc"}) == ""


def test_only_what_runs_and_is_of_this_tool_counts_as_running(store: Store) -> None:
    running = store.create_run("none", {"sweep.kind": "run", "sweep.host": "here"})
    store.set_status(store.create_run("full", {"sweep.kind": "run"}), "FINISHED")
    store.create_run("of somebody else", {})
    ((found, tags),) = store.running()
    assert found == running
    assert tags["sweep.host"] == "here"


def test_parameters_and_tags_are_stored(store: Store) -> None:
    run_id = store.create_run("none", {})
    store.describe(run_id, {"learning_rate": "2e-05"}, {"sweep.device": "CPU"})
    data = read(store, run_id).data
    assert data.params == {"learning_rate": "2e-05"}
    assert data.tags["sweep.device"] == "CPU"


def test_metrics_keep_steps_and_times(store: Store) -> None:
    run_id = store.create_run("none", {})
    store.log_metrics(run_id, [("train_loss", 1.0, 101_000, 1), ("train_loss", 0.5, 102_000, 2)])
    assert read(store, run_id).data.metrics == {"train_loss": 0.5}
    history = store.client.get_metric_history(run_id, "train_loss")
    assert [(p.value, p.step, p.timestamp) for p in history] == [
        (1.0, 1, 101_000),
        (0.5, 2, 102_000),
    ]


def test_a_metric_that_is_delivered_twice_is_stored_once(store: Store) -> None:
    run_id = store.create_run("none", {})
    for _ in range(2):
        store.log_metrics(run_id, [("train_loss", 1.0, 101_000, 1)])
    assert len(store.client.get_metric_history(run_id, "train_loss")) == 1


def test_what_the_store_will_never_take_is_told_from_a_store_that_is_away(store: Store) -> None:
    run_id = store.create_run("none", {})
    store.describe(run_id, {"seed": "0"}, {})
    with pytest.raises(RefusedError, match="Changing param values is not allowed"):
        store.describe(run_id, {"seed": "1"}, {})
    away = replace(store, uri="http://127.0.0.1:9")
    with pytest.raises(MlflowException, match="Connection refused"):
        away.describe(run_id, {}, {"note": "x"})


AWKWARD = {
    "path": "none data.path=../my data/x.csv",
    "address": "none model.name_or_path=http://host//model",
    "list": "none data.label_names=[a,b]",
    "quotes": "none data.text_column='my text'",
    "operators": "none data.label_pattern=(E[1-6])\\d?|x@y#z%20",
    "korean": "none data.text_column=감성",
    "long": "none data.path=/" + "very/" * 100 + "long.csv",
    "backslash": "none data.separator=\\t",
}


@pytest.mark.parametrize("name", AWKWARD.values(), ids=AWKWARD)
def test_the_summary_of_any_configuration_can_be_stored(name: str, store: Store) -> None:
    row = Row(name, "none", "head", 2, (), {"test_f1": Interval(0.5, 2, 0.4, 0.6)})
    run_id = store.create_run("s", {})
    rolled_up = rows.rollup([row])
    store.log_metrics(run_id, [(key, value, 1_000, 0) for key, value in rolled_up.items()])
    assert read(store, run_id).data.metrics == rolled_up
    assert sorted(rolled_up.values()) == [0.4, 0.5, 0.6]


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_a_run_ends_with_its_status(status: str, store: Store) -> None:
    run_id = store.create_run("none", {})
    store.set_status(run_id, status)
    info = read(store, run_id).info
    assert info.status == status
    assert info.end_time is not None


def test_a_stopped_run_can_go_on(store: Store) -> None:
    run_id = store.create_run("none", {})
    store.set_status(run_id, "KILLED")
    store.set_status(run_id, "RUNNING")
    assert read(store, run_id).info.status == "RUNNING"


def test_artifacts_go_under_the_root(store: Store, root: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 0\n", "utf-8")
    (tmp_path / "run.log").write_text("done\n", "utf-8")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}\n", "utf-8")
    run_id = store.create_run("none", {})
    files = [tmp_path / name for name in ("config.yaml", "run.log", "model")]
    store.upload(run_id, [*files, tmp_path / "gone"])
    folder = root / "artifacts" / run_id / "artifacts"
    assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == {
        "config.yaml",
        "run.log",
        "model/config.json",
    }


def sources(*typed: str) -> description.Sources:
    """Where the splits of these settings are from."""
    return table_files.sources(compose("freeze=none", *typed).data)


@pytest.fixture
def splits() -> Splits:
    """Two texts to train on, one to validate, none to test."""

    def split(count: int) -> Split:
        return Split(["text"] * count, np.zeros(count, np.int64), np.arange(count))

    return Splits(split(2), split(1), split(0), ["a", "b"], [])


def test_data_is_recorded_per_split(store: Store, splits: Splits) -> None:
    run_id = store.create_run("none", {})
    store.log_inputs(
        run_id,
        description.dataset_inputs(splits, "rows", sources("data=csv", "data.path=rows.csv")),
    )
    found = {
        i.tags[0].value: (i.dataset.name, i.dataset.digest, json.loads(i.dataset.profile))
        for i in read(store, run_id).inputs.dataset_inputs
    }
    digest = splits.fingerprint[:32]
    assert found == {
        "train": ("rows (train)", digest, {"num_rows": 2}),
        "validation": ("rows (validation)", digest, {"num_rows": 1}),
    }


def test_data_at_the_end_of_a_very_long_path_is_recorded(store: Store, splits: Splits) -> None:
    run_id = store.create_run("none", {})
    source = "/".join(["", *["deeper"] * 100, "rows.csv"])
    store.log_inputs(
        run_id,
        description.dataset_inputs(splits, "rows", sources("data=csv", f"data.path={source}")),
    )
    dataset = read(store, run_id).inputs.dataset_inputs[0].dataset
    assert dataset.name == "rows (train)"
    assert json.loads(dataset.source) == {"uri": source}


@pytest.mark.parametrize(
    ("typed", "kind", "validation"),
    [
        pytest.param(
            ["data=csv", "data.path=rows.csv"], "local", {"uri": "rows.csv"}, id="one-file"
        ),
        pytest.param(
            ["data=csv", "data.path=rows.csv", "data.validation_path=dev.csv"],
            "local",
            {"uri": "dev.csv"},
            id="two-files",
        ),
        pytest.param(
            ["data=hub", "data.dataset=me/rows", "data.validation_split=dev", "data.revision=v1"],
            "hugging_face",
            {"path": "me/rows", "split": "dev", "revision": "v1"},
            id="hub",
        ),
        pytest.param(
            ["data=hub", "data.dataset=me/rows", "data.configuration=small"],
            "hugging_face",
            {"path": "me/rows", "split": "train", "config_name": "small"},
            id="one-split-of-the-hub",
        ),
    ],
)
def test_mlflow_knows_where_each_split_is_from(
    typed: list[str],
    kind: str,
    validation: dict[str, str],
    store: Store,
    splits: Splits,
) -> None:
    from mlflow.data.dataset_source_registry import get_dataset_source_from_json

    run_id = store.create_run("none", {})
    store.log_inputs(run_id, description.dataset_inputs(splits, "rows", sources(*typed)))
    inputs = read(store, run_id).inputs.dataset_inputs
    found = {i.tags[0].value: i.dataset for i in inputs}["validation"]
    source = get_dataset_source_from_json(found.source, found.source_type)
    assert source._get_source_type() == kind
    assert {key: value for key, value in source.to_dict().items() if value} == validation


# Tracking off.


def test_without_tracking_no_store_is_made(tmp_path: Path) -> None:
    store = connect.open_store(TrackingConfig(enabled=False, uri=None), tmp_path)
    assert store == Store(None)
    assert list(tmp_path.iterdir()) == []


def test_without_tracking_there_is_nothing_to_open() -> None:
    assert Store(None).compare_url(["a"]) == ""
    assert Store(None).ui_command() == ""


# What is shown.


@pytest.mark.parametrize(
    ("uri", "page"),
    [
        pytest.param("sqlite:////x/mlflow.db", "http://127.0.0.1:5000/#/compare-runs", id="sqlite"),
        pytest.param("https://host/ml/", "https://host/ml/#/compare-runs", id="server"),
        pytest.param(
            "https://me:secret@host:8443", "https://host:8443/#/compare-runs", id="password"
        ),
    ],
)
def test_the_address_of_the_comparison_names_runs_and_experiment(uri: str, page: str) -> None:
    url = Store(uri, "7").compare_url(["a1", "b2"])
    assert url.partition("?")[0] == page
    query = parse_qs(urlsplit(url.replace("#/", "")).query, strict_parsing=True)
    assert {key: json.loads(value) for key, (value,) in query.items()} == {
        "runs": ["a1", "b2"],
        "experiments": ["7"],
    }
    assert not set(url) & set(' "[]')


def test_the_command_that_opens_the_store_can_be_pasted() -> None:
    assert Store("sqlite:////my runs/mlflow.db").ui_command() == (
        "mlflow ui --backend-store-uri 'sqlite:////my runs/mlflow.db' --host 127.0.0.1 --port 5000"
    )


def test_a_server_needs_no_command() -> None:
    assert Store("https://host").ui_command() == ""


def test_a_store_can_be_sent_to_another_process_once_it_is_in_use(store: Store) -> None:
    assert store.client
    assert "client" not in vars(replace(store))
