"""Reports made once more: from folders, from the store, of broken sweeps, and of several."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from support.config import compose
from support.report import make_run, make_sweep, store_sweep, write_record

import sweep
from sweep.commands import report as rebuild
from sweep.comparison import rows
from sweep.config.schema import ConfigError, TrackingConfig
from sweep.data.splits import load_splits
from sweep.reporting import collect, report_files
from sweep.runs import liveness, read_records
from sweep.runs.record import Record
from sweep.tracking import connect
from sweep.tracking.outbox import Outbox


def make_folder(root: Path, name: str = "2026-01-01_00-00-00_abc", **more: Any) -> list[Record]:
    """A sweep below mlruns/ of a folder."""
    return make_sweep(root / "mlruns" / "sweeps" / name, **more)


def write_plan(folder: Path, records: list[Record], **more: Any) -> None:
    """sweep.json as a sweep writes it when it starts."""
    runs = [
        {"name": r.name, "strategy": r.strategy, "key": r.key, "folder": r.folder} for r in records
    ]
    plan = {"id": "", "name": folder.name, "command": "python -m sweep seed=0,1,2", "runs": runs}
    plan |= more
    (folder / "sweep.json").write_text(json.dumps(plan), "utf-8")


def page(root: Path, name: str = "2026-01-01_00-00-00_abc") -> str:
    """The report of a sweep."""
    return (root / "mlruns" / "sweeps" / name / "report" / "index.html").read_text("utf-8")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)


def test_the_newest_sweep_is_reported_by_default(tmp_path: Path, capsys: Any) -> None:
    make_folder(tmp_path, "2026-01-01_old", seeds=1)
    make_folder(tmp_path, "2026-02-01_new", seeds=2)
    assert rebuild.main([]) == 0
    assert "2026-02-01_new/report/index.html" in capsys.readouterr().out
    report = tmp_path / "mlruns" / "sweeps" / "2026-02-01_new" / "report"
    files = {path.name for path in report.iterdir() if not path.name.startswith("figure_")}
    assert files == {"index.html", "summary.csv", "summary.md", "recommendation.json"}


def test_a_sweep_goes_by_its_name_or_its_folder(tmp_path: Path) -> None:
    make_folder(tmp_path, "one", seeds=1)
    make_folder(tmp_path, "two", seeds=1)
    assert rebuild.main(["one"]) == 0
    assert rebuild.main([str(tmp_path / "mlruns" / "sweeps" / "two")]) == 0
    assert "Sweep <bdi>one</bdi>" in page(tmp_path, "one")
    assert "Sweep <bdi>two</bdi>" in page(tmp_path, "two")


def test_language_and_margin_can_be_chosen(tmp_path: Path) -> None:
    make_folder(tmp_path)
    assert rebuild.main(["report.language=ko", "compare.margin=0.025"]) == 0
    assert '<html lang="ko">' in page(tmp_path)
    assert "2.5%p" in page(tmp_path)


def test_a_killed_sweep_tells_what_is_missing(tmp_path: Path) -> None:
    records = make_folder(tmp_path)
    folder = tmp_path / "mlruns" / "sweeps" / "2026-01-01_00-00-00_abc"
    write_plan(folder, records)
    for record in records[4:]:
        shutil.rmtree(record.folder)
    records[3].status = "RUNNING"
    write_record(records[3])
    (Path(records[2].folder) / "curves.jsonl").write_text('{"metrics": {"train_lo', "utf-8")
    (Path(records[1].folder) / "freeze.json").write_text("", "utf-8")
    assert rebuild.main([]) == 0
    text = page(tmp_path)
    assert "1 of 9 runs finished" in text  # a run with a damaged file counts as not done
    assert text.count("never began or left nothing") == 5
    assert "python -m sweep seed=0,1,2" in text


def test_runs_whose_folders_are_gone_come_from_the_store(tmp_path: Path) -> None:
    records = make_folder(tmp_path)
    store, sweep_id = store_sweep(records, "2026-01-01_00-00-00_abc", tmp_path / "mlruns")
    shutil.rmtree(tmp_path / "mlruns" / "sweeps" / "2026-01-01_00-00-00_abc")
    assert rebuild.main(["2026-01-01_00-00-00_abc"]) == 0
    report = tmp_path / "mlruns" / "reports" / "2026-01-01_00-00-00_abc" / "report"
    text = (report / "index.html").read_text("utf-8")
    assert "9 of 9 runs finished" in text
    assert 'id="figure-confusion_best"' in text
    run = store.client.get_run(sweep_id)
    assert "none/test_accuracy_ci_low" in run.data.metrics
    assert len(run.data.metrics) == 3 * 8
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith(("Take “", "No clear winner"))
    assert "| none |" in note
    stored = {item.path for item in store.client.list_artifacts(sweep_id, "report")}
    assert {
        "report/index.html",
        "report/recommendation.json",
        "report/figure_cost_time.svg",
    } <= stored
    # A name never leads out of mlruns/.
    store.create_run("../../outside/x", {"sweep.kind": "sweep"})
    assert collect._from_store("../../outside/x", tmp_path, store).folder.parent == (
        tmp_path / "reports"
    )


def test_several_sweeps_are_read_as_one(tmp_path: Path, capsys: Any) -> None:
    make_folder(tmp_path, "a", strategies=("none",))
    make_folder(tmp_path, "b", strategies=("full",))
    assert rebuild.main(["a", "b"]) == 0
    assert " full " in capsys.readouterr().out
    (report,) = (tmp_path / "mlruns" / "reports").glob("2_sweeps_*/report/index.html")
    assert "a + b" in report.read_text("utf-8")


def test_runs_of_other_settings_are_no_replicates(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one", "none", 0, ("a", "b"))
    other = make_run(tmp_path / "other", "none", 1, ("a", "b"))
    for record, rate in ((one, 1e-4), (other, 2e-5)):
        wide = f"tracking: {{uri: x{rate}}}\njobs: {rate}\nmax_failures: {rate}\n"
        settings = f"optimizer: {{learning_rate: {rate}}}\ntrainer: {{save_steps: {rate}}}\n{wide}"
        (Path(record.folder) / "config.yaml").write_text(settings, "utf-8")
    collect.name_choices([one, other])
    assert one.swept["optimizer.learning_rate"] != other.swept["optimizer.learning_rate"]
    assert set(one.swept) == {"freeze", "seed", "optimizer.learning_rate"}


def test_runs_on_other_data_are_told_apart(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one", "none", 0, ("a", "b"))
    other = make_run(tmp_path / "other", "none", 0, ("a", "b"))
    other.tags["sweep.data_fingerprint"] = "e" * 64
    collect.name_choices([one, other])
    assert (one.swept["data"], other.swept["data"]) == ("rows@dddddddd", "rows@eeeeeeee")


def test_a_run_that_two_sweeps_share_counts_once(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one", "none", 0, ("a", "b"))
    failed = Record("x", one.name, "none", "FAILED", key=one.key)
    assert rows.unique([failed, one, one]) == [one]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(
            ["nothing"],
            "'nothing' is no sweep: there is no such folder under mlruns/sweeps, and no store to"
            " ask. The newest are: f, e, d, c, b.",
            id="unknown",
        ),
        pytest.param(
            ["freeze=full"],
            "'freeze=full' has no effect on runs that are over. A report takes compare.*, report.*"
            " and tracking.*; names of sweeps have no `=`.",
            id="settings-of-runs",
        ),
        pytest.param(
            ["report.language=de"],
            "report.language='de' is not known. Choose one of en, ko.",
            id="language",
        ),
        pytest.param(
            ["report.examples=-1"],
            "report.examples=-1 is not allowed. It has to be an integer of 0 or more.",
            id="examples",
        ),
        pytest.param(
            ["report.language=en,ko"],
            "report.language=en,ko holds for a whole sweep. Give it one value.",
            id="swept",
        ),
    ],
)
def test_a_mistake_is_told(words: list[str], expected: str, tmp_path: Path, capsys: Any) -> None:
    for name in "abcdef":
        make_folder(tmp_path, name, strategies=("none",), seeds=1)
    assert rebuild.main(words) == 2
    assert capsys.readouterr().err == f"error: {expected}\n"


def test_without_any_sweep_the_error_says_how_to_make_one(tmp_path: Path, capsys: Any) -> None:
    assert rebuild.main([]) == 2
    assert "holds no sweep. Run one with `python -m sweep`" in capsys.readouterr().err


def asked(root: Path, name: str, started: str = "", **settings: dict[str, Any]) -> Path:
    """A sweep that was asked for with these settings."""
    records = make_folder(root, name, strategies=("none", "full"), seeds=2)
    folder = root / "mlruns" / "sweeps" / name
    write_plan(folder, records, settings=settings, started=started)
    return folder


def write_old_config(folder: Path, **settings: Any) -> None:
    """config.yaml as older versions wrote it, with the settings of the sweep that made the run."""
    cfg = compose("freeze=none", "data=csv", "data.path=gone.csv")
    OmegaConf.save({**asdict(cfg), **settings}, folder / "config.yaml")


def test_the_settings_are_the_sweeps_but_for_those_given_anew(tmp_path: Path) -> None:
    memory = {"cost": "memory", "margin": 0.05}
    folder = asked(tmp_path, "a", compare=memory, report={"language": "ko", "examples": 0})
    for run in sorted(folder.glob("0*")):
        write_old_config(run, compare={"margin": 0.3})
    comparison = sweep.compare()
    assert comparison.recommendation is not None
    assert (comparison.margin, comparison.recommendation.cost) == (0.05, "memory")
    assert sweep.compare(margin=0.1).margin == 0.1
    assert '<html lang="ko">' in sweep.report().read_text("utf-8")
    text = sweep.report(language="en", cost="time").read_text("utf-8")
    assert '<html lang="en">' in text
    assert rebuild.main(["compare.margin=0.03"]) == 0
    assert '<html lang="ko">' in page(tmp_path, "a")
    content = json.loads((folder / "report" / "recommendation.json").read_text("utf-8"))
    assert (content["margin"], content["recommendations"][""]["cost"]) == (0.03, "memory")


def test_sweeps_of_older_versions_have_their_settings_in_their_runs(tmp_path: Path) -> None:
    records = make_folder(tmp_path, seeds=2)
    old = {"compare": {"margin": 0.05}, "report": {"language": "ko"}}
    write_old_config(Path(records[0].folder), jobs=2, resume=True, **old)
    assert sweep.compare().margin == 0.05
    assert rebuild.main([]) == 0
    assert '<html lang="ko">' in page(tmp_path)


def test_several_sweeps_are_judged_as_the_newest_was_and_say_so(
    tmp_path: Path, capsys: Any
) -> None:
    # The one that began last has the older name, as on a machine in another time zone.
    late = "2026-01-01_10-00-00_b"
    asked(tmp_path, late, "2026-01-01T10:00:00-0500", compare={"margin": 0.05})
    early = "2026-01-01_12-00-00_a"
    asked(tmp_path, early, "2026-01-01T12:00:00+0100", compare={"margin": 0.02})
    note = (
        "these sweeps were judged and shown by different settings: those of"
        f" {late}, the newest, are used where none are given anew"
    )
    assert rebuild.main([late, early]) == 0
    assert f"note: {note}\n" in capsys.readouterr().out
    (report,) = (tmp_path / "mlruns" / "reports").glob("2_sweeps_*/report")
    assert json.loads((report / "recommendation.json").read_text("utf-8"))["margin"] == 0.05
    assert note in (report / "index.html").read_text("utf-8")
    comparison = sweep.compare([early, late])
    assert comparison.margin == 0.05
    assert note in map(str, comparison.warnings)
    alike = sweep.compare([late, str(shutil.copytree(f"mlruns/sweeps/{late}", "copy"))])
    assert not [w for w in alike.warnings if "the newest" in str(w)]


def test_settings_come_from_the_store_where_the_folder_is_gone(tmp_path: Path) -> None:
    name = "2026-01-01_00-00-00_abc"
    folder = asked(tmp_path, name, compare={"margin": 0.05})
    records = read_records.load(folder)
    store, sweep_id = store_sweep(records, name, tmp_path / "mlruns")
    store.upload(sweep_id, [folder / "sweep.json"])
    shutil.rmtree(folder)
    assert rebuild.main([name]) == 0
    report = tmp_path / "mlruns" / "reports" / name / "report"
    assert json.loads((report / "recommendation.json").read_text("utf-8"))["margin"] == 0.05
    assert sweep.compare(name, root=str(store.uri)).margin == 0.05


def test_settings_that_cannot_be_used_are_told(tmp_path: Path, capsys: Any) -> None:
    folder = asked(tmp_path, "a", report={"language": "xx"})
    assert rebuild.main([]) == 2
    assert capsys.readouterr().err == (
        f"error: {folder}/sweep.json: report.language='xx' is not known. Choose one of en, ko.\n"
    )


def test_a_notebook_gets_the_page(tmp_path: Path) -> None:
    make_folder(tmp_path)
    found = sweep.report(language="ko", margin=0.03)
    assert found == tmp_path / "mlruns/sweeps/2026-01-01_00-00-00_abc/report/index.html"
    assert "3%p" in found.read_text("utf-8")
    with pytest.raises(ConfigError, match=r"report.language='xx' is not known"):
        sweep.report(language="xx")


def test_texts_are_shown_while_the_data_is_what_it_was(csv_file: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    shutil.copy(csv_file, own)
    cfg = compose("freeze=none", "data=csv", f"data.path={own}")
    splits = load_splits(cfg.data)
    record = make_run(tmp_path / "run", "none", 0, ("a", "b"))
    OmegaConf.save(OmegaConf.structured(cfg), Path(record.folder) / "config.yaml")
    record.tags["sweep.data_fingerprint"] = splits.fingerprint
    ids = map(str, splits.test.ids)
    assert report_files.texts_of([record], "test") == dict(zip(ids, splits.test.texts, strict=True))
    assert len(report_files.texts_of([record], "eval")) == len(splits.validation)
    with own.open("a") as file:
        file.writelines(f"one more text {i},good\n" for i in range(30))
    assert report_files.texts_of([record], "test") == {}
    own.unlink()
    assert report_files.texts_of([record], "test") == {}


def test_what_the_store_has_not_heard_is_delivered(tmp_path: Path) -> None:
    make_folder(tmp_path, seeds=1)
    folder = tmp_path / "mlruns" / "sweeps" / "2026-01-01_00-00-00_abc"
    store = connect.open_store(TrackingConfig(uri=None), tmp_path / "mlruns")
    box = Outbox(folder, store)
    box.create(folder.name, {"sweep.kind": "sweep"})
    box.finish("FINISHED", "")
    assert store.client.search_runs([store.experiment_id]) == []
    assert rebuild.main([]) == 0
    (run,) = store.client.search_runs([store.experiment_id])
    assert run.info.status == "FINISHED"


def test_the_module_is_a_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sweep.report", "--help"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.search(r"^usage: python -m sweep.report", found.stdout)


def test_a_report_on_a_sweep_at_work_is_not_its_last_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = make_folder(tmp_path, strategies=("none", "full"))
    folder = Path(records[0].folder).parent
    store, sweep_id = store_sweep(records, folder.name, tmp_path / "mlruns")
    last = records[-1]
    last.status, last.run_id, last.metrics = "RUNNING", "", {}
    write_record(last)
    write_plan(folder, records, id=sweep_id, started="2026-01-01T00:00:00+00:00")
    with liveness.claim(folder):
        assert rebuild.main([]) == 0
    shown = capsys.readouterr().out
    assert "note: the sweep is still running: 5 of 6 runs have finished" in shown
    assert "RUNNING" not in shown
    assert "repeat others" not in shown
    tags = store.client.get_run(sweep_id).data.tags
    assert "sweep.recommendation" not in tags
    marked = [
        r for r in records[:-1] if "sweep.recommended" in store.client.get_run(r.run_id).data.tags
    ]
    assert marked == []
    assert rebuild.main([]) == 0  # it was killed: its last state is the last word
    assert "sweep.recommendation" in store.client.get_run(sweep_id).data.tags
