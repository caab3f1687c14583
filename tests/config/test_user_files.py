"""Nothing in a YAML file of the user's runs code or has no end while it is composed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.config import compose

from sweep.config import optimizer_checks
from sweep.config.compose import compose_jobs
from sweep.config.schema import ConfigError

TOUCH = "_target_: pathlib.Path.touch, self: {_target_: pathlib.Path, _args_: [%s]}"


def refusal(folder: Path, name: str, text: str, typed: Sequence[str] = ("freeze=mine",)) -> str:
    """What is said of a file of --config-dir."""
    file = folder / "own" / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        compose_jobs(typed, str(folder / "own"))
    (message,) = caught.value.messages
    return message.removeprefix(f"{file} ")


MINE = "name: mine\nparts: []\n"
CODE = {
    "below-the-launcher": (
        "freeze/mine",
        "# @package _global_\nhydra:\n  launcher:\n    x: {CALL}\nfreeze: {name: mine}\n",
        "has hydra.launcher.x._target_,",
    ),
    "in-a-list": ("freeze/mine", MINE + "x: [[{CALL}]]\n", "has x.0.0._target_,"),
    "of-the-option-itself": ("freeze/mine", MINE + "_target_: os.system\n", "has _target_,"),
    "below-a-launcher-of-the-users": (
        "hydra/launcher/mine",
        "_target_: hydra_plugins.sweep_launcher.LocalLauncher\nx: {CALL}\n",
        "has x._target_,",
    ),
    "behind-an-alias": (
        "freeze/mine",
        MINE + "a: &a {CALL}\nhydra: {launcher: {x: *a}}\n",
        "has a._target_,",
    ),
}


@pytest.mark.parametrize("case", CODE)
def test_what_names_code_is_refused_and_not_run(case: str, tmp_path: Path) -> None:
    name, text, told = CODE[case]
    made = tmp_path / "made"
    text = text.replace("CALL", TOUCH % made)
    group, _, option = name.rpartition("/")
    assert refusal(tmp_path, name, text, [f"{group}={option}", "seed=0"]) == (
        f"{told} which would run code while it is read. Remove it; a class can be named at the top"
        " of a file in hydra/launcher alone."
    )
    assert not made.exists()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        pytest.param("hydra: {callbacks: {x: {y: 1}}}", "hydra.callbacks.x", id="callbacks"),
        pytest.param("hydra: {launcher: {n_jobs: 2}}", "hydra.launcher.n_jobs", id="launcher"),
        pytest.param("hydra: {searchpath: [file:///x]}", "hydra.searchpath", id="search-path"),
        pytest.param("hydra.launcher: {x: 1}", "hydra.launcher", id="dotted"),
        pytest.param("hydra: null", "hydra", id="null"),
    ],
)
def test_hydras_own_node_is_not_an_options_to_set(text: str, key: str, tmp_path: Path) -> None:
    text = f"# @package _global_\n{text}\nfreeze: {{name: mine}}\n"
    assert refusal(tmp_path, "freeze/mine", text) == (
        f"sets {key}, and only hydra/launcher=NAME and its keys can be set of Hydra's, on the"
        " command line, or in a file of hydra/launcher. Remove it."
    )


def test_another_package_does_not_lead_there(tmp_path: Path) -> None:
    text = "# @package hydra.launcher\nx: 1\n"
    assert refusal(tmp_path, "freeze/mine", text) == (
        "has the package hydra.launcher, and only hydra/launcher=NAME and its keys can be set of"
        " Hydra's. Remove that line."
    )


def test_options_of_hydras_own_groups_are_refused(tmp_path: Path) -> None:
    text = "version: 1\nhandlers: {x: {(): pathlib.Path, _args_: [x]}}\n"
    # conf/config.yaml asks for one of this name.
    assert refusal(tmp_path, "hydra/job_logging/none", text, ["freeze=none"]) == (
        "is an option of Hydra's own, which cannot be set. Remove it."
    )


def test_options_of_hydras_own_groups_are_not_reached_by_a_detour(tmp_path: Path) -> None:
    file = tmp_path / "own" / "freeze" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(f"defaults: [/freeze/../hydra/env/x]\n{MINE}", "utf-8")
    assert refusal(tmp_path, "hydra/env/x", "x: 1\n").endswith(
        "is an option of Hydra's own, which cannot be set. Remove it."
    )


def test_an_interpolation_below_the_launcher_does_not_lead_to_code(tmp_path: Path) -> None:
    made = tmp_path / "made"
    typed = [
        f"families.x={{_target_: pathlib.Path.touch, self: {made}}}",
        "hydra/launcher=mine",
        "hydra.launcher.x=${families.x}",
    ]
    text = "_target_: hydra_plugins.sweep_launcher.LocalLauncher\nx: null\n"
    file = tmp_path / "own" / "hydra" / "launcher" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError):
        compose_jobs(typed, str(tmp_path / "own"))
    assert not made.exists()


def test_the_sweep_of_an_experiment_can_be_set(tmp_path: Path) -> None:
    file = tmp_path / "own" / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True)
    text = "# @package _global_\nseed: 3\nhydra: {sweeper: {params: {freeze: 'none,full'}}}\n"
    file.write_text(text, "utf-8")
    jobs = compose_jobs(["experiment=mine"], str(tmp_path / "own"))
    assert [(job.name, job.cfg.seed) for job in jobs] == [("none", 3), ("full", 3)]


BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
)
LARGE = (
    "has more than 10000 values once its aliases are filled in, or is nested more than 50 deep."
    " No option needs that; make it smaller."
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(BOMB, LARGE, id="alias-bomb"),
        pytest.param("x: " + "[" * 5000 + "]" * 5000, LARGE, id="deep"),
        pytest.param("x: [" + "1," * 20_000 + "]", LARGE, id="wide"),
        pytest.param(
            "x: &x [*x]", "holds itself: *x stands inside of &x. Remove it.", id="list-in-itself"
        ),
        pytest.param(
            "x: &x {y: {z: *x}}", "holds itself: *x stands inside of &x. Remove it.", id="in-a-map"
        ),
        pytest.param("&r\nx: *r", "holds itself: *r stands inside of &r. Remove it.", id="root"),
    ],
)
def test_a_file_without_end_is_refused(text: str, told: str, tmp_path: Path) -> None:
    assert refusal(tmp_path, "freeze/mine", text) == told


@pytest.mark.parametrize(
    ("files", "asked"),
    [
        pytest.param({"freeze/mine": "defaults: [mine]\nname: mine\n"}, "freeze=mine", id="itself"),
        pytest.param(
            {"freeze/mine": "defaults: [two]\n", "freeze/two": "defaults: [mine]\n"},
            "freeze=mine",
            id="each-other",
        ),
    ],
)
def test_defaults_that_lead_in_a_circle_are_told(
    files: dict[str, str], asked: str, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.yaml").write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        compose_jobs([asked], str(tmp_path))
    assert caught.value.messages == (
        f"The configuration ({asked}) cannot be composed: a defaults list in it leads back to its"
        " own file. Correct the YAML file of that option.",
    )


# How many runs, and what an optimizer looks for.


def messages(*typed: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        compose_jobs(typed)
    return caught.value.messages


ADVICE = "Take fewer values, or set max_runs to what you mean."


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["seed=range(1000000)"], "seed=range(1000000) stands for more than max_runs=10000."),
        (["seed=range(0,1e15)"], "seed=range(0,1e15) stands for more than max_runs=10000."),
        (
            ["seed=shuffle(range(1000000000000))"],
            "seed=shuffle(range(1000000000000)) stands for more than max_runs=10000.",
        ),
        (
            ["seed=range(200)", "data.split_seed=range(51)"],
            "These are 10200 runs, more than max_runs=10000.",
        ),
        (["max_runs=2", "seed=0,1,2"], "These are 3 runs, more than max_runs=2."),
        (["seed=range(4)", "max_runs=3"], "seed=range(4) stands for more than max_runs=3."),
    ],
)
def test_more_runs_than_anybody_meant_are_refused(typed: list[str], told: str) -> None:
    assert messages("freeze=none", *typed) == (f"{told} {ADVICE}",)


def test_as_many_as_were_meant_are_composed() -> None:
    assert len(compose_jobs(["freeze=none", "seed=range(3)", "max_runs=3"])) == 3


SGD = ("freeze=none", "optimizer=sgd")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("momentom=0.9", "'momentom' is no argument of sgd. Its arguments are momentum, dampening,"
         " nesterov. Correct the name."),
        ("momentum=abc", "momentum='abc' is not allowed. It has to be a number of 0 or more."),
        ("momentum=nan", "momentum='nan' is not allowed. It has to be a number of 0 or more."),
        ("momentum=-1", "momentum='-1' is not allowed. It has to be a number of 0 or more."),
        ("nesterov=maybe", "nesterov='maybe' is not allowed. It has to be true or false."),
        ("nesterov=true", "nesterov needs a momentum above 0, and no dampening. Set momentum=0.9."),
        ("weight_decay=0.1", "weight_decay is optimizer.weight_decay. Set that."),
    ],
)  # fmt: skip
def test_arguments_that_an_optimizer_would_drop_are_told(given: str, told: str) -> None:
    optimizer = compose(*SGD).optimizer
    optimizer.optim_args = given
    assert optimizer_checks.check(optimizer) == [f"optimizer.optim_args: {told}"]


@pytest.mark.parametrize("given", ["momentum=0", "momentum=0.9,nesterov=True", "momentum=1e-1"])
def test_arguments_that_an_optimizer_takes_are_passed_on(given: str) -> None:
    (job,) = compose_jobs([*SGD, f"optimizer.optim_args='{given}'"])
    assert job.cfg.optimizer.optim_args == given


def test_dropped_arguments_are_told_with_the_other_mistakes() -> None:
    assert messages(*SGD, "optimizer.optim_args='momentom=0.9'", "seed=-1") == (
        "seed=-1 is not allowed. It has to be an integer from 0 to 4294967295.",
        "optimizer.optim_args: 'momentom' is no argument of sgd. Its arguments are momentum,"
        " dampening, nesterov. Correct the name.",
    )


def test_a_count_that_no_library_can_count_with_is_told() -> None:
    key = "trainer.per_device_train_batch_size"
    assert messages("freeze=none", f"{key}={10**20}") == (
        f"{key}={10**20} is not allowed. It has to be an integer of 1 or more, below 2147483648.",
    )


def test_epochs_without_end_are_told() -> None:
    assert messages("freeze=none", "trainer.num_train_epochs=1e300") == (
        "trainer.num_train_epochs=1e+300 is not allowed. It has to be auto, or a number above 0,"
        " up to 1000000.",
    )


def test_submitit_may_not_start_a_run_twice(tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    from sweep.config import launchers

    node: Any = OmegaConf.create({"nodes": 1, "tasks_per_node": 2})
    assert launchers._several_processes(node) == [
        "hydra.launcher.tasks_per_node=2 would start every run that often, and a run is one process"
        " on one device. Set hydra.launcher.tasks_per_node=1."
    ]
    assert launchers._several_processes(OmegaConf.create({"nodes": 1})) == []
