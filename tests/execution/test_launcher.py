"""Runs are started by the launcher that hydra/launcher names, and are the same runs."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from support.runs import restored

import sweep.plan
from sweep.commands.sweep import main
from sweep.config import launchers
from sweep.config.compose import compose_jobs, compose_sweep
from sweep.config.schema import Config, ConfigError
from sweep.execution.launcher import _in_words, _left
from sweep.execution.scheduler import Executed, Execution
from sweep.runs import liveness
from sweep.runs.record import Record, RunSpec, write_record
from sweep.tracking.store import Store

TIMED = ("_s", "per_second", "_mib")


class Backwards(BasicLauncher):  # type: ignore[misc]
    """Begins with the last run, and calls a copy of the task as another process would."""

    __module__ = "hydra_plugins.made_up"

    def __init__(self, **settings: Any) -> None:
        super().__init__()

    def setup(self, **given: Any) -> None:
        task = pickle.loads(pickle.dumps(given["task_function"]))
        super().setup(**{**given, "task_function": task})

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> list[JobReturn]:
        numbered = list(enumerate(job_overrides, initial_job_idx))
        found = [super(Backwards, self).launch([line], n)[0] for n, line in numbered[::-1]]
        return found[::-1]


Lines = Sequence[Sequence[str]]
LOST = JobReturn(status=JobStatus.FAILED, _return_value=ConnectionError("node 7 is away"))


def absent(self: BasicLauncher, lines: Lines, first: int) -> list[JobReturn]:
    """Has no cluster."""
    raise RuntimeError("the cluster is gone")


def broken(self: BasicLauncher, lines: Lines, first: int) -> list[JobReturn]:
    """Loses its cluster after the first run."""
    BasicLauncher.launch(self, lines[:1], first)
    raise RuntimeError("the cluster is gone")


def forgetful(self: BasicLauncher, lines: Lines, first: int) -> list[JobReturn]:
    """Loses the machine of its first job."""
    return [LOST, *BasicLauncher.launch(self, lines[1:], first + 1)]


def mute(self: BasicLauncher, lines: Lines, first: int) -> list[JobReturn]:
    """Does all jobs and cannot say what came of the first."""
    return [LOST, *BasicLauncher.launch(self, lines, first)[1:]]


def short(self: BasicLauncher, lines: Lines, first: int) -> list[JobReturn]:
    """Does all jobs and returns the last."""
    return list(BasicLauncher.launch(self, lines, first)[-1:])


FAULTY = {
    launch.__name__: type(
        launch.__name__.title(),
        (BasicLauncher,),
        {
            "__module__": "hydra_plugins.made_up",
            "launch": lambda self, job_overrides, initial_job_idx, launch=launch: launch(
                self, job_overrides, initial_job_idx
            ),
        },
    )
    for launch in (absent, broken, forgetful, mute, short)
}
"""Launchers that go wrong, by the name of their option."""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A --config-dir with a strategy that fails, and launchers that Hydra does not come with."""
    files = {
        "freeze/diverges.yaml": "name: diverges\nparts: [everything]\nlearning_rate: 1e30\n",
        "hydra/launcher/backwards.yaml": "_target_: hydra_plugins.made_up.Backwards\n",
        "hydra/launcher/lacks.yaml": "_target_: hydra_plugins.made_up.Broken\nnodes: 2\n",
        "hydra/launcher/lost.yaml": "_target_: hydra_plugins.lost.Lost\npartition: null\n",
        "hydra/launcher/foreign.yaml": "_target_: os.system\n",
    }
    for name, kind in FAULTY.items():
        files[f"hydra/launcher/{name}.yaml"] = f"_target_: hydra_plugins.made_up.{kind.__name__}\n"
    for name, text in files.items():
        path = tmp_path / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    # Hydra takes launchers from this package alone.
    kinds = {kind.__name__: kind for kind in (Backwards, *FAULTY.values())}
    module = ModuleType("hydra_plugins.made_up")
    module.__dict__.update(kinds)
    monkeypatch.setitem(sys.modules, "hydra_plugins.made_up", module)
    for launcher in kinds.values():
        Plugins.instance().register(launcher)
    return str(tmp_path / "own")


def records(root: Path) -> list[dict[str, Any]]:
    """All records below a folder, the oldest sweep first."""
    paths = sorted(root.glob("mlruns/sweeps/*/*/record.json"))
    return [restored(json.loads(path.read_text("utf-8"))) for path in paths]


def results(root: Path) -> list[tuple[str, str, dict[str, float]]]:
    """Key, status and the metrics that another machine or moment does not change."""
    return [
        (r["key"], r["status"], {k: v for k, v in r["metrics"].items() if not k.endswith(TIMED)})
        for r in records(root)
    ]


def test_another_launcher_gives_the_same_results_and_writes_to_mlruns_alone(
    overrides: list[str], csv_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for name in ("local", "basic"):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        Path("rows.csv").write_bytes(csv_file.read_bytes())
        command = [*overrides, "data.path=rows.csv", "freeze=full,none", f"hydra/launcher={name}"]
        assert main(["tracking=none", *command]) == 0
        assert {path.name for path in folder.iterdir()} == {"mlruns", "rows.csv"}
        assert list(folder.rglob(".hydra")) == []
        found.append(results(folder))
    local, basic = found
    assert [status for _, status, _ in local] == ["FINISHED", "FINISHED"]
    assert basic == local


def test_a_run_that_fails_elsewhere_leaves_the_others_and_what_finished_is_taken_over(
    overrides: list[str], own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["tracking=none", "--config-dir", own, "optimizer.warmup_steps=0", *overrides]
    chosen = ["freeze=diverges,full", "hydra/launcher=basic"]
    assert main([*command, *chosen]) == 1
    printed = capsys.readouterr().out
    assert [r["status"] for r in records(tmp_path)] == ["FAILED", "FINISHED"]
    assert "\n1 of 2 runs failed\n" in printed
    told = [line for line in printed.splitlines() if line.startswith("[2/2]")]
    assert told[0] == "[2/2] full: started"
    assert told[-1].startswith("[2/2] full: finished, ")
    assert main([*command, "freeze=full"]) == 0  # with the launcher that is the default
    assert capsys.readouterr().out.startswith("1 finished, 0 to do, ")


def test_a_launcher_of_the_users_own_starts_the_runs(
    overrides: list[str], own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["tracking=none", "--config-dir", own, "freeze=full", "seed=0,1", *overrides]
    assert main([*command, "hydra/launcher=backwards"]) == 0
    printed = capsys.readouterr().out
    started = [line for line in printed.splitlines() if line.endswith("started")]
    assert started == ["[1/1] full seed=1: started", "[1/1] full seed=0: started"]
    assert [r["name"] for r in records(tmp_path)] == ["full seed=0", "full seed=1"]


def test_what_finished_before_its_launcher_broke_is_reported(
    overrides: list[str], own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["tracking=none", "--config-dir", own, "freeze=full", "seed=0,1", *overrides]
    assert main([*command, "hydra/launcher=broken"]) == 1
    printed = capsys.readouterr().out
    why = "hydra/launcher=broken ended with RuntimeError: the cluster is gone"
    assert f"\n1 of 2 runs were not begun ({why})\n" in printed
    assert "full: trains head, " in printed  # the table
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("1 finished, 1 to do, ")


def test_a_job_that_its_launcher_has_lost_is_a_failed_run(
    overrides: list[str], own: str, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    command = ["--config-dir", own, "freeze=full", "seed=0,1", *overrides]
    assert main([*command, "hydra/launcher=forgetful"]) == 1
    lost, done = records(tmp_path)
    assert (lost["status"], lost["reason"]) == ("FAILED", "ConnectionError: node 7 is away")
    assert done["status"] == "FINISHED"
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    runs = [client.get_run(record["run_id"]) for record in (lost, done)]
    assert [run.info.status for run in runs] == ["FAILED", "FINISHED"]
    assert runs[0].data.tags["sweep.status_reason"] == "ConnectionError: node 7 is away"


def test_a_launcher_that_breaks_after_the_last_run_is_told(
    overrides: list[str], own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["tracking=none", "--config-dir", own, "freeze=full", *overrides]
    assert main([*command, "hydra/launcher=broken"]) == 1
    assert [record["status"] for record in records(tmp_path)] == ["FINISHED"]
    told = "\nhydra/launcher=broken ended with RuntimeError: the cluster is gone\n"
    assert told in capsys.readouterr().out


def test_once_the_disk_is_full_no_other_run_begins(
    overrides: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = []

    def run(self: Execution, specs: dict[int, Any]) -> Executed:
        begun.extend(specs)
        return Executed(why_ended="the disk is full")

    monkeypatch.setattr(Execution, "run", run)
    command = ["tracking=none", "freeze=full", "seed=0,1", "hydra/launcher=basic", *overrides]
    assert main(command) == 1
    assert begun == [0]
    assert "\n2 of 2 runs were not begun (the disk is full)\n" in capsys.readouterr().out


def test_a_run_that_its_launcher_lost_is_left_alone_while_it_is_alive(tmp_path: Path) -> None:
    spec = RunSpec("none", Config(), {}, "key", "sweep", tmp_path, Store(None))
    with liveness.claim(tmp_path):
        assert _left(spec, "the node is away") is None
    record = _left(spec, "the node is away")
    assert record is not None
    assert (record.status, record.reason) == ("FAILED", "the node is away")


def test_a_stopped_run_that_its_launcher_gave_up_still_goes_on(tmp_path: Path) -> None:
    spec = RunSpec("none", Config(), {}, "key", "sweep", tmp_path, Store(None))
    stopped = Record("", "none", "none", "KILLED", "stopped at step 2", folder=str(tmp_path))
    write_record(stopped, tmp_path)
    record = _left(spec, "UncompletedJobError: timed out too often")
    assert record is not None
    assert (record.status, record.reason) == ("KILLED", "stopped at step 2")
    earlier = _left(spec, "UncompletedJobError: no such partition", before=record)
    assert earlier is not None
    assert (earlier.status, earlier.reason) == (
        "KILLED",
        "UncompletedJobError: no such partition",
    )


def test_of_an_error_on_ray_the_cause_is_shown() -> None:
    traceback = "ray::_run_job() (pid=9)\n  File 'x.py'\n    run()\nValueError: no such column"
    assert _in_words(RuntimeError(traceback)) == "RuntimeError: ValueError: no such column"
    assert _in_words(RuntimeError("first\nsecond")) == "RuntimeError: first"
    assert _in_words(KeyboardInterrupt()) == "KeyboardInterrupt"


@pytest.mark.parametrize("launcher", ["mute", "short"])
def test_a_result_counts_though_its_launcher_does_not_hand_it_on(
    launcher: str, overrides: list[str], own: str, tmp_path: Path
) -> None:
    command = ["tracking=none", "--config-dir", own, "freeze=full", "seed=0,1", *overrides]
    assert main([*command, f"hydra/launcher={launcher}"]) == 0
    assert [record["status"] for record in records(tmp_path)] == ["FINISHED", "FINISHED"]


def test_a_stopped_run_that_its_launcher_never_began_was_not_begun(
    overrides: list[str], own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asker = threading.Thread(target=ask_to_stop_once_a_run_trains, args=(tmp_path,))
    asker.start()
    steps = ["trainer.max_steps=1000000", "trainer.logging_steps=1"]
    command = ["tracking=none", "--config-dir", own, "freeze=full", *overrides, *steps]
    assert main(command) == 130
    asker.join()
    capsys.readouterr()
    assert main([*command, "hydra/launcher=absent"]) == 1
    why = "hydra/launcher=absent ended with RuntimeError: the cluster is gone"
    assert f"1 of 1 runs were not begun ({why})\n" in capsys.readouterr().out


def ask_to_stop_once_a_run_trains(root: Path) -> None:
    while not list(root.glob("mlruns/sweeps/*/000_*/curves.jsonl")):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_request_to_stop_reaches_the_run_and_no_other_begins(
    overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asker = threading.Thread(target=ask_to_stop_once_a_run_trains, args=(tmp_path,))
    asker.start()
    steps = ["trainer.max_steps=1000000", "trainer.logging_steps=1"]
    command = ["tracking=none", *overrides, "freeze=attention", "seed=0,1", "hydra/launcher=basic"]
    assert main([*command, *steps]) == 130
    asker.join()
    (record,) = records(tmp_path)
    assert record["status"] == "KILLED"
    assert record["reason"].endswith("; the same command goes on from there")
    printed = capsys.readouterr().out
    assert "1 of 2 runs were stopped\n" in printed
    assert "1 of 2 runs were not begun (stopped by Ctrl-C or SIGTERM)\n" in printed


NO_KEY = (
    "hydra.launcher.partition is no key of hydra/launcher=basic. Its keys are: none. Remove it, or"
    " choose the launcher that has it."
)
NO_EFFECT = (
    " has no effect with hydra/launcher=basic, which starts runs as its own keys say. Remove it,"
    " or use hydra/launcher=local."
)
CORRECT = " Set its keys or correct its YAML file, or use hydra/launcher=local."


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("hydra/launcher=basic jobs=2", ["jobs=2" + NO_EFFECT]),
        (
            "hydra/launcher=basic on_failure=stop max_failures=3",
            ["on_failure=stop" + NO_EFFECT, "max_failures=3" + NO_EFFECT],
        ),
        (
            "hydra/launcher=basic,local",
            ["hydra/launcher=basic,local holds for a whole sweep. Give it one value."],
        ),
        (
            "hydra/launcher=slurm",
            [
                "hydra/launcher='slurm' is no option of hydra/launcher. Its options are:"
                " absent, backwards, basic, broken, foreign, forgetful, lacks, local, lost,"
                " mute, short. Hydra's plugins bring others when they are installed."
            ],
        ),
        ("hydra/launcher=basic hydra.launcher.partition=main", [NO_KEY]),
        (
            "hydra/launcher=lost hydra.launcher.partition=a,b",
            [
                "hydra.launcher.partition=a,b holds for a whole sweep. Give it one value.",
                "hydra/launcher=lost cannot be used: Unknown plugin class :"
                " 'hydra_plugins.lost.Lost'." + CORRECT,
            ],
        ),
        (
            "hydra/launcher=lacks",
            [
                "hydra/launcher=lacks cannot be used: Error in call to target"
                " 'hydra_plugins.made_up.Broken': TypeError(\"BasicLauncher.__init__() got an"
                " unexpected keyword argument 'nodes'\")." + CORRECT
            ],
        ),
        (
            "hydra/launcher=foreign",
            [
                "hydra/launcher=foreign cannot be used: Invalid plugin 'os.system': not the"
                " hydra_plugins package." + CORRECT
            ],
        ),
    ],
)
def test_a_mistake_with_launchers_is_told_before_training(
    typed: str, expected: list[str], overrides: list[str], own: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_jobs([*overrides, *typed.split()], own)
    assert list(caught.value.messages) == expected


def test_keys_of_a_launcher_have_the_types_it_gives_them(
    own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass
    class Settings:
        _target_: str = "hydra_plugins.made_up.Backwards"
        n_jobs: int = 1
        more: dict[str, Any] = field(default_factory=dict)

    monkeypatch.setattr(ConfigStore.instance(), "repo", deepcopy(ConfigStore.instance().repo))
    ConfigStore.instance().store("typed", Settings, group="hydra/launcher")
    with pytest.raises(ConfigError) as caught:
        compose_jobs(["hydra/launcher=typed", "hydra.launcher.n_jobs=many"])
    assert caught.value.messages == (
        "hydra.launcher.n_jobs=many is not accepted: Value 'many' of type 'str' could not be"
        " converted to Integer.",
    )
    keys = ["hydra.launcher.n_jobs=2", "hydra.launcher.more.gres=gpu:1"]
    launch = compose_sweep(["freeze=full", "hydra/launcher=typed", *keys]).launch
    assert (launch.name, launch.is_local) == ("typed", False)
    assert launch.config is not None
    assert launch.config.hydra.launcher == {
        "_target_": "hydra_plugins.made_up.Backwards",
        "n_jobs": 2,
        "more": {"gres": "gpu:1"},
    }


def test_hydra_composes_nothing_for_a_job_and_counts_them(tmp_path: Path) -> None:
    launch = compose_sweep(["freeze=full,none", "hydra/launcher=basic"]).launch
    GlobalHydra.instance().clear()  # without it, Hydra cannot compose

    def task(_: Any) -> tuple[int, str]:
        settings = HydraConfig.get()
        return settings.job.num, settings.sweep.dir

    launcher = launchers.prepare(launch, task, tmp_path / "it's")
    returns = launcher.launch([["freeze=full"], ["freeze=none"]], initial_job_idx=0)
    folder = str(tmp_path / "it's")
    assert [returned.return_value for returned in returns] == [(0, folder), (1, folder)]


def test_another_program_is_refused_the_launcher_of_sweep(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import hydra\n"
        "from hydra.core.config_store import ConfigStore\n"
        "launcher = {'_target_': 'hydra_plugins.sweep_launcher.LocalLauncher'}\n"
        "ConfigStore.instance().store('local', launcher, group='hydra/launcher')\n"
        "@hydra.main(version_base='1.3', config_path=None)\n"
        "def main(cfg): print('never')\n"
        "main()\n",
        "utf-8",
    )
    command = [sys.executable, program, "-m", "hydra/launcher=local", "+seed=0,1"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.splitlines() == [
        "hydra/launcher=local starts the runs of `python -m sweep` and of no other program."
        " Choose one of Hydra's launchers, such as hydra/launcher=basic.",
        "",
        "Set the environment variable HYDRA_FULL_ERROR=1 for a complete stack trace.",
    ]


def test_the_launcher_is_no_part_of_what_a_run_is(overrides: list[str]) -> None:
    usual = compose_sweep([*overrides, "freeze=full"])
    other = compose_sweep([*overrides, "freeze=full", "hydra/launcher=basic"])
    (job,), (other_job,) = usual.jobs, other.jobs
    assert (other_job.cfg, other_job.name, other_job.swept) == (job.cfg, job.name, job.swept)
    assert (usual.launch.name, other.launch.name) == ("local", "basic")


def test_a_plan_takes_the_same_command(
    overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep.plan.main(["freeze=full", *overrides, "hydra/launcher=basic"]) == 0
    assert "1 run: 0 finished, 1 to do" in capsys.readouterr().out
