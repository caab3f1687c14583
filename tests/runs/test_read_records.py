"""Runs read back from folders and from MLflow, and what a notebook does with them."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.runs import write_run, write_sweep

import sweep
from sweep.base.layout import RunPaths
from sweep.config.schema import ConfigError, TrackingConfig
from sweep.reporting import collect
from sweep.runs import read_records, read_store
from sweep.runs.record import Record, write_record
from sweep.tracking import connect
from sweep.tracking import store as track


def names(found: list[Record]) -> list[str]:
    return [record.name for record in found]


@pytest.fixture
def root(tmp_path: Path) -> str:
    """A folder mlruns with the sweep `one` of two strategies and three seeds."""
    write_sweep(tmp_path, {"none": 0.8, "full": 0.6})
    return str(tmp_path / "mlruns")


@pytest.fixture(scope="module")
def filed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The same in an MLflow store; its address, and the id of the sweep."""
    root = tmp_path_factory.mktemp("stored")
    store = connect.open_store(TrackingConfig(uri=None), root)
    sweep_id = store.create_run("one", {"sweep.kind": "sweep"})
    for record in write_sweep(root, {"none": 0.8, "full": 0.6}):
        run_id = store.create_run(record.name, {"sweep.id": sweep_id})
        store.describe(run_id, {"freeze": record.strategy}, {"only.in": "store"})
        store.log_metrics(run_id, [("test_accuracy", record.metrics["test_accuracy"], 1, 0)])
        store.upload(run_id, sorted(Path(record.folder).iterdir()))
        store.set_status(run_id, "FINISHED")
    failed = store.create_run("bias", {"sweep.id": sweep_id})
    store.describe(failed, {"freeze": "bias"}, {"sweep.status_reason": "out of memory"})
    store.set_status(failed, "FAILED")
    assert store.uri is not None
    return store.uri, sweep_id


# Folders.


def test_records_of_a_sweep_are_read_in_order(root: str) -> None:
    records = read_records.load("one", root)
    assert names(records) == [f"{name} seed={s}" for name in ("none", "full") for s in range(3)]
    assert records[0].metrics["train_runtime_s"] == 10.0
    assert records[0].swept == {"freeze": "none", "seed": "0"}


def test_the_newest_sweep_is_the_default(root: str, tmp_path: Path) -> None:
    newer = tmp_path / "mlruns" / "sweeps" / "two" / "000_full"
    newer.mkdir(parents=True)
    text = (Path(root) / "sweeps" / "one" / "0" / "record.json").read_text("utf-8")
    (newer / "record.json").write_text(text.replace("none seed=0", "newer"), "utf-8")
    assert names(read_records.load(None, root)) == ["newer"]
    assert read_records.find_sweeps(root) == ["one", "two"]


@pytest.mark.parametrize(
    ("started", "newest"),
    [
        # By their names, the one of Seoul is the newest.
        pytest.param(("T12:00:00+09:00", "T05:00:00-05:00"), "New York", id="time-zones"),
        pytest.param(("T12:00:00+09:00", "T05:00:00Z"), "New York", id="a-container-in-utc"),
        pytest.param(("T02:30:00+02:00", "T02:10:00+01:00"), "New York", id="summer-time-ends"),
        pytest.param(("T12:00:00.400+00:00", "T12:00:00.500+00:00"), "New York", id="one-second"),
        pytest.param((None, None), "New York", id="cut-short"),
        pytest.param(("T12:00:00+09:00", None), "New York", id="one-cut-short"),
        pytest.param(("noon", 7), "New York", id="damaged"),
    ],
)
def test_the_newest_sweep_is_the_one_that_began_last(
    started: tuple[Any, Any], newest: str, tmp_path: Path
) -> None:
    root = tmp_path / "mlruns"
    names = {"Seoul": "2026-11-02_12-00-00_aaaaaa", "New York": "2026-11-01_22-00-00_bbbbbb"}
    for when, name in zip(started, names.values(), strict=True):
        write_run(tmp_path)
        folder = (root / "sweeps" / "one").rename(root / "sweeps" / name)
        (folder / "alive.host").write_text("host", "utf-8")
        os.utime(folder / "alive.host", (2e9 + (name > "2026-11-02"),) * 2)
        if when is not None:
            about = {"started": when if when in ("noon", 7) else f"2026-11-02{when}"}
            (folder / "sweep.json").write_text(json.dumps(about), "utf-8")
    os.utime(root / "sweeps" / names["New York"] / "alive.host", (2e9 + 9, 2e9 + 9))
    assert read_records.sweep_folder(root=str(root)).name == names[newest]
    assert [path.name for path in collect.newest(root)][0] == names[newest]


def test_a_sweep_without_any_time_goes_by_its_name(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    names = ["other", "2026-11-01_22-00-00_bbbbbb", "2026-11-02_12-00-00_aaaaaa"]
    for name in reversed(names):
        write_run(tmp_path)
        (root / "sweeps" / "one").rename(root / "sweeps" / name)
    assert read_records.find_sweeps(str(root)) == names


@pytest.mark.parametrize("is_copied", [True, False], ids=["copied", "moved"])
def test_runs_of_a_project_elsewhere_are_read_there(is_copied: bool, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    record = write_run(first)
    plan = {"runs": [{"folder": record.folder, "name": "none"}]}
    (Path(record.folder).parent / "sweep.json").write_text(json.dumps(plan), "utf-8")
    (shutil.copytree if is_copied else shutil.move)(first, second)
    (found,) = read_records.load("one", str(second / "mlruns"))
    assert found.folder == str(second / "mlruns" / "sweeps" / "one" / "0")


def test_a_sweep_can_be_given_as_a_folder(root: str) -> None:
    assert len(read_records.load(Path(root) / "sweeps" / "one", root)) == 6


def test_a_folder_that_was_moved_is_read_where_it_is(root: str, tmp_path: Path) -> None:
    (tmp_path / "mlruns").rename(tmp_path / "moved")
    records = read_records.load("one", str(tmp_path / "moved"))
    assert records[0].folder == str(tmp_path / "moved" / "sweeps" / "one" / "0")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": "x"}'])
def test_a_damaged_record_is_a_run_that_failed(content: str, root: str) -> None:
    path = Path(root) / "sweeps" / "one" / "0" / "record.json"
    path.write_text(content)
    record = read_records.load("one", root)[0]
    assert (record.status, record.metrics) == ("FAILED", {})
    assert record.reason == (
        f"its result cannot be used: record.json in {path.parent} is damaged, so the run counts as"
        " not done"
    )


def test_keys_of_a_later_version_do_no_harm(root: str) -> None:
    path = Path(root) / "sweeps" / "one" / "0" / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"unheard_of": 1}))
    assert names(read_records.load("one", root))[0] == "none seed=0"


@pytest.mark.parametrize("first", ["000_none", "000_none_2", "000_lora_8"])
def test_of_several_tries_the_finished_one_counts(first: str, tmp_path: Path) -> None:
    tries = [tmp_path / first]
    tries += [RunPaths(tries[0]).next_try()]
    tries += [RunPaths(tries[1]).next_try()]
    for folder, status in zip(tries, ("FAILED", "FINISHED", "KILLED"), strict=True):
        folder.mkdir()
        record = Record("", folder.name, "none", status, metrics={"eval_accuracy": 1.0})
        write_record(record, folder)
    found = read_records.best_try(tries[0])
    assert found is not None
    assert (found.name, found.status) == (tries[1].name, "FINISHED")


def test_runs_taken_over_from_another_sweep_are_read_too(root: str, tmp_path: Path) -> None:
    other = Path(write_run(tmp_path / "elsewhere", "bias").folder)
    two = other.parent.rename(other.parent.with_name("two"))
    plan = {"runs": [{"folder": str(two / other.name)}]}
    (Path(root) / "sweeps" / "one" / "sweep.json").write_text(json.dumps(plan))
    assert names(read_records.load("one", root))[-1] == "bias seed=0"


def test_a_sweep_that_is_not_there_shows_those_that_are(root: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_records.load("three", root)
    assert str(caught.value) == f"There is no sweep 'three' in {root!r}. The newest are: one."


def test_a_folder_without_sweeps_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There are no sweeps in"):
        read_records.load(None, str(tmp_path))


# The store.


def test_runs_of_a_store_are_read_with_their_files(filed: tuple[str, str]) -> None:
    uri, sweep_id = filed
    records = read_records.load(sweep_id, uri)
    assert [(r.name, r.strategy, r.status) for r in records[-2:]] == [
        ("full seed=2", "full", "FINISHED"),
        ("bias", "bias", "FAILED"),
    ]
    assert records[-1].reason == "out of memory"
    assert records[0].swept == {"freeze": "none", "seed": "0"}
    assert records[0].tags["only.in"] == "store"
    assert (Path(records[0].folder) / "predictions.csv").exists()


def test_files_fetched_from_a_store_do_not_outlive_the_process(
    filed: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_exit: list[Callable[[], None]] = []
    monkeypatch.setattr(
        atexit,
        "register",
        lambda call, *given, **named: at_exit.append(partial(call, *given, **named)),
    )

    def copied(uri: str, run_id: str, names: Sequence[str], folder: Path) -> Path:
        folder.mkdir()
        return folder

    monkeypatch.setattr(read_store, "fetch", copied)  # as from a server
    folders = [Path(record.folder) for record in read_records.load(None, filed[0])]
    assert all(folder.exists() for folder in folders)
    for call in at_exit:
        call()
    assert not any(folder.exists() for folder in folders)


def test_a_sweep_of_a_store_goes_by_its_name_too(filed: tuple[str, str]) -> None:
    uri, sweep_id = filed
    assert read_store.sweeps(uri) == [(sweep_id, "one")]
    assert len(read_records.load("one", uri)) == len(read_records.load(None, uri)) == 7


def test_a_sweep_that_a_store_lacks_is_told(filed: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match="There is no sweep 'three'"):
        read_records.load("three", filed[0])


def test_a_store_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        read_records.load(None, f"sqlite:///{tmp_path}/no.db")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "text.db").write_text("no database")
    with pytest.raises(ConfigError, match="cannot be read: .*file is not a database"):
        read_records.load(None, f"sqlite:///{tmp_path}/text.db")


def test_a_store_gives_the_same_verdict_as_the_folders(filed: tuple[str, str], root: str) -> None:
    from_store, from_folder = sweep.compare(root=filed[0]), sweep.compare(root=root)
    assert from_store.differences == from_folder.differences
    assert len(from_store.differences) == 2


def test_marks_of_an_earlier_recommendation_go(filed: tuple[str, str]) -> None:
    uri, sweep_id = filed
    store = track.Store(uri, read_store.sweeps(uri) and experiment_of(uri, sweep_id))
    ids = [run.run_id for run in read_store.runs(uri, sweep_id)]
    for marked in (ids[:2], ids[1:3]):
        store.recommend(sweep_id, marked)
        recommended = [
            r.run_id for r in read_store.runs(uri, sweep_id) if "sweep.recommended" in r.tags
        ]
        assert recommended == marked


def experiment_of(uri: str, run_id: str) -> str:
    return str(track.Store(uri).client.get_run(run_id).info.experiment_id)


def test_a_saved_model_is_registered_with_an_alias(filed: tuple[str, str], tmp_path: Path) -> None:
    uri, sweep_id = filed
    store = track.Store(uri, experiment_of(uri, sweep_id))
    first, second = (run.run_id for run in read_store.runs(uri, sweep_id)[:2])
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    store.upload(first, [tmp_path / "model"])
    for run_id in (first, second, first):  # a second report makes no second version
        assert store.register(run_id, "d/x-m:1", "why") == "sweep-d_x-m_1"
        version = store.client.get_model_version_by_alias("sweep-d_x-m_1", "recommended")
        assert version.run_id == run_id
    assert len(store.client.search_model_versions("name = 'sweep-d_x-m_1'")) == 2
    assert (read_store.fetch(uri, first, [], tmp_path) / "model" / "config.json").exists()


# The notebook.


def test_runs_are_a_table(root: str) -> None:
    runs = sweep.load_runs(root=root)
    assert len(runs) == 6
    means = runs.groupby("params.freeze")["metrics.test_accuracy"].mean().round(1).to_dict()
    assert means == {"full": 0.6, "none": 0.8}
    assert {"run_id", "name", "strategy", "status", "folder", "tags.sweep.device"} <= set(runs)


def test_the_comparison_takes_other_options(root: str) -> None:
    assert sweep.compare("one", root).margin == 0.01
    comparison = sweep.compare("one", root, margin=0.5, cost="memory")
    assert comparison.margin == 0.5
    assert comparison.recommendation is not None
    assert comparison.recommendation.cost == "memory"


def test_several_sweeps_are_read_as_one(root: str, tmp_path: Path) -> None:
    other = write_sweep(tmp_path / "other", {"bias": 0.7})
    comparison = sweep.compare(["one", Path(other[0].folder).parent], root)
    assert [row.label for row in comparison.chosen] == ["none", "full", "bias"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"margn": 1},
            "margn: no such option. Options: metric, margin, confidence, cost, max_memory_mib,"
            " max_time_s.",
        ),
        (
            {"cost": "money"},
            "compare.cost='money' is not known. Choose one of checkpoint, memory, parameters,"
            " time.",
        ),
        (
            {"margin": 5},
            "compare.margin=5 is not allowed. It has to be a number above 0 and below 1, as 0.01.",
        ),
    ],
)
def test_a_wrong_option_is_told(options: dict[str, Any], message: str, root: str) -> None:
    with pytest.raises(ConfigError) as caught:
        sweep.compare("one", root, **options)
    assert str(caught.value) == message


def output_of(script: str) -> list[str]:
    """Words that a Python script prints."""
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_importing_the_package_loads_nothing_else() -> None:
    script = "import sys, sweep; print(*(m for m in sys.modules if m.startswith('sweep.')), 'end')"
    completed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert completed.stdout.split() == ["end"]


def test_functions_of_the_package_are_not_hidden_by_its_modules(root: str) -> None:
    script = (
        "import sweep, sweep.comparison.compare, sweep.comparison.verdict, sweep.api\n"
        f"print(len(sweep.load_runs(root={root!r})), sweep.compare(root={root!r}).split)"
    )
    completed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert completed.stdout.split() == ["6", "test"]
