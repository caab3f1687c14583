"""From finished runs to what is printed, written and stored; nothing here may lose results."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from rich.console import Console
from support.config import compose
from support.runs import some_right, write_run, write_sweep

import sweep
from sweep.commands import conclude as publish
from sweep.comparison import compare, verdict, winners
from sweep.comparison.results import Comparison
from sweep.config.schema import CompareConfig, SweepSettings, TrackingConfig
from sweep.reporting import recommendation_file
from sweep.runs.record import Record
from sweep.tracking import connect
from sweep.tracking import store as track
from sweep.tracking.outbox import Outbox


@pytest.fixture
def console() -> Console:
    return Console(width=200, file=io.StringIO())


def printed(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def conclude(console: Console, folder: Path, records: list[Record]) -> Comparison | None:
    return publish.conclude(console, Outbox(folder, track.Store(None)), records, SweepSettings())


def test_the_recommendation_is_a_file_that_programs_can_read(tmp_path: Path) -> None:
    found = compare.compare(write_sweep(tmp_path, {"none": 0.8, "full": 0.6}))
    content = json.loads(recommendation_file.to_json(found))
    assert content["recommended"] == "none"
    assert content["recommendations"][""]["candidates"] == ["none"]
    assert content["strategies"][1]["metrics"]["test_accuracy"]["n"] == 3
    assert content["differences"][0]["verdict"] == "better"
    assert [s["strategy"] for s in content["strategies"]] == ["none", "full"]


def test_without_results_the_file_says_so() -> None:
    content = json.loads(recommendation_file.to_json(compare.compare([])))
    assert content["recommended"] is None
    assert content["warnings"] == ["no recommendation: no strategy has results to compare"]


def test_the_winner_is_all_its_runs_and_the_checkpoint_validation_prefers(tmp_path: Path) -> None:
    runs = write_sweep(tmp_path, {"none": 0.8, "full": 0.6})
    for run, loss in zip(runs, (0.5, 0.3, 0.4, 0, 0, 0), strict=True):
        run.metrics["eval_loss"] = loss
    for run in (runs[0], runs[2], runs[3]):  # the best, seed 1, was not saved
        (Path(run.folder) / "model").mkdir()
    found = compare.compare(runs)
    assert winners.winners(found) == runs[:3]
    assert winners.checkpoints(found) == [runs[2]]


def test_the_verdict_is_printed_below_the_table(tmp_path: Path, console: Console) -> None:
    assert conclude(console, tmp_path, write_sweep(tmp_path, {"none": 0.8, "full": 0.6}))
    lines = printed(console)
    assert "recommended: none. none has the best mean test accuracy" in "\n".join(lines)
    content = json.loads((tmp_path / "report" / "recommendation.json").read_text("utf-8"))
    assert content["recommended"] == "none"


def test_remarks_are_written_as_sentences(tmp_path: Path) -> None:
    runs = write_sweep(tmp_path, {"none": 0.8, "full": 0.6}, seeds=1)
    runs[1].metrics["peak_memory_mib"] = 200.0
    found = compare.compare(runs, CompareConfig(max_memory_mib=150))
    content = json.loads(recommendation_file.to_json(found))
    chosen = content["recommendations"][""]
    assert chosen["rule"].startswith("The cheapest strategy by training time that is not worse")
    assert chosen["reason"].endswith("run seed=0,1,2.")
    assert chosen["excluded"] == ["full: 200 MiB, above compare.max_memory_mib=150"]
    assert content["warnings"] == [str(remark) for remark in found.warnings]
    assert content["strategies"][0]["when"] == str(found.uses["none"])
    assert content["strategies"][0]["why"] == "how far it back-propagates was not recorded"


# Several models, and several sweeps.


def two_models(root: Path) -> list[Record]:
    """`none` is better on one model, `full` on the other."""
    shares = {("x", "none"): 0.9, ("x", "full"): 0.6, ("y", "none"): 0.5, ("y", "full"): 0.8}
    return [
        write_run(
            root, name, seed, some_right(share, seed=seed), swept={"model": model},
            params={"model": model},
        )
        for (model, name), share in shares.items()
        for seed in range(2)
    ]  # fmt: skip


def test_every_group_has_its_winner(tmp_path: Path) -> None:
    runs = two_models(tmp_path)
    for run in runs:
        (Path(run.folder) / "model").mkdir()
    found = compare.compare(runs)
    assert {run.name for run in winners.winners(found)} == {
        *("none seed=0 model=x", "none seed=1 model=x"),
        *("full seed=0 model=y", "full seed=1 model=y"),
    }
    assert [run.params["model"] for run in winners.checkpoints(found)] == ["x", "y"]


def test_the_verdict_names_the_group_of_each_recommendation(tmp_path: Path) -> None:
    found = compare.compare(two_models(tmp_path))
    lines = verdict.text(found).splitlines()
    assert [line.partition(".")[0] for line in lines if not line.startswith("rule")] == [
        "no clear winner for model=x: full is not shown to be worse than none",
        "recommended for model=x: none model=x",
        "recommended for model=y: full model=y",
    ]
    content = json.loads(recommendation_file.to_json(found))
    assert content["recommended"] is None
    assert set(content["recommendations"]) == {"model=x", "model=y"}


def sweep_in(root: Path, name: str, shares: dict[str, float], rate: float, data: str) -> str:
    """A sweep whose runs have kept their settings; returns its name."""
    for run in write_sweep(root / name, shares, tags={"sweep.data_fingerprint": data}):
        cfg = compose(f"freeze={run.strategy}", f"optimizer.learning_rate={rate}")
        OmegaConf.save(OmegaConf.structured(cfg), Path(run.folder) / "config.yaml")
        run.key = f"{run.name} {rate} {data}"
        (Path(run.folder) / "record.json").write_text(json.dumps(asdict(run)), "utf-8")
    (root / name / "mlruns" / "sweeps" / "one").rename(made_dir(root) / name)
    return name


def made_dir(root: Path) -> Path:
    """The folder of all sweeps."""
    found = root / "mlruns" / "sweeps"
    found.mkdir(parents=True, exist_ok=True)
    return found


def test_sweeps_with_one_setting_apart_are_told_apart_by_it(tmp_path: Path) -> None:
    names = [
        sweep_in(tmp_path, "a", {"none": 0.8, "full": 0.6}, 1e-4, "same"),
        sweep_in(tmp_path, "b", {"none": 0.7, "full": 0.6}, 2e-5, "same"),
    ]
    found = sweep.compare(names, tmp_path / "mlruns")
    assert [(row.name, row.finished) for row in found.rows] == [
        ("none optimizer.learning_rate=0.0001", 3),
        ("full optimizer.learning_rate=0.0001", 3),
        ("none optimizer.learning_rate=2e-05", 3),
        ("full optimizer.learning_rate=2e-05", 3),
    ]
    assert [row.name for row in found.chosen] == [row.name for row in found.rows[:2]]
    assert found.budgets == {"none": 2, "full": 2}


def test_sweeps_of_other_data_are_groups(tmp_path: Path) -> None:
    names = [
        sweep_in(tmp_path, "a", {"none": 0.8, "full": 0.6}, 1e-4, "one" * 5),
        sweep_in(tmp_path, "b", {"none": 0.8, "full": 0.6}, 1e-4, "two" * 5),
    ]
    found = sweep.compare(names, tmp_path / "mlruns")
    assert set(found.recommendations) == {"data=d@oneoneon", "data=d@twotwotw"}
    assert {(d.a.partition(" ")[2], d.b.partition(" ")[2]) for d in found.differences} == {
        ("data=d@oneoneon",) * 2,
        ("data=d@twotwotw",) * 2,
    }


def test_a_run_that_both_sweeps_have_counts_once(tmp_path: Path) -> None:
    name = sweep_in(tmp_path, "a", {"none": 0.8, "full": 0.6}, 1e-4, "same")
    folder = made_dir(tmp_path)
    shutil.copytree(folder / name, folder / "copy")
    found = sweep.compare([name, "copy"], tmp_path / "mlruns")
    assert [(row.name, row.finished) for row in found.rows] == [("none", 3), ("full", 3)]


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_a_sweep_without_a_finished_run_is_reported_too(
    status: str, tmp_path: Path, console: Console
) -> None:
    runs = write_sweep(tmp_path, {"none": 0.8, "full": 0.6}, status=status, reason="x")
    assert conclude(console, tmp_path, runs) is not None
    assert "note: no run of none finished, so it is not compared" in printed(console)


def test_a_comparison_that_fails_costs_no_results(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(verdict, "judge", broken)
    assert conclude(console, tmp_path, write_sweep(tmp_path, {"none": 0.8, "full": 0.6})) is None
    lines = printed(console)
    assert any(line.startswith(" none ") for line in lines)
    assert (
        "error: the runs are kept, but the comparison failed (ZeroDivisionError: a bug); details"
        f" in {tmp_path}/report_error.txt"
    ) in lines
    assert "raise ZeroDivisionError" in (tmp_path / "report_error.txt").read_text("utf-8")


def test_runs_of_the_winner_are_marked_in_the_store(tmp_path: Path, console: Console) -> None:
    store = connect.open_store(TrackingConfig(uri=None), tmp_path)
    box = Outbox(tmp_path, store)
    box.create("one", {"sweep.kind": "sweep"})
    box.deliver()
    records = []
    for index, share in enumerate((0.9, 0.5)):
        run = write_run(tmp_path, f"s{index}", right=[i < share * 50 for i in range(50)])
        run.run_id = store.create_run(run.name, {"sweep.id": box.run_id})
        records.append(run)
    found = publish.conclude(console, box, records, SweepSettings())
    box.deliver()
    assert found is not None
    publish.mark_recommended(console, store, box.run_id, found, True)
    tags = [store.client.get_run(run.run_id).data.tags for run in records]
    assert [t.get("sweep.recommended") for t in tags] == ["true", None]
    text = store.client.get_run(box.run_id).data.tags["sweep.recommendation"]
    assert text.startswith("recommended: s0. ")


def test_a_store_that_went_away_is_told(tmp_path: Path, console: Console) -> None:
    found = compare.compare(write_sweep(tmp_path, {"none": 0.8, "full": 0.6}))
    gone = track.Store(f"sqlite:///{tmp_path}/no/such/place.db/x", "1")
    (tmp_path / "no").write_text("a file where a folder would be")
    publish.mark_recommended(console, gone, "id", found, True)
    assert "the recommended runs could not be marked in the store: " in printed(console)[-1]


@pytest.mark.parametrize("is_finished", [True, False])
def test_the_alias_moves_only_when_all_runs_have_finished(
    is_finished: bool, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = write_sweep(tmp_path, {"none": 0.9, "full": 0.5})
    for record in records:
        record.paths.model.mkdir()
        record.params |= {"data": "d", "model": "m"}
    comparison = compare.compare(records)
    registered: list[str] = []

    class Registry:
        def recommend(self, *_: object) -> None: ...

        def register(self, run_id: str, *_: object) -> str:
            registered.append(run_id)
            return "d-m"

    monkeypatch.setattr(publish.report_files, "describe_runs", lambda *_: None)
    publish.mark_recommended(console, Registry(), "id", comparison, is_finished)  # type: ignore[arg-type]
    assert len(registered) == is_finished
    assert any("registered as d-m@recommended" in line for line in printed(console)) == is_finished
