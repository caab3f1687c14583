"""Every file of conf/ composes, says what it is and is packaged; command lines expand."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import pytest
import yaml
from transformers import TrainingArguments

from sweep.config import strategy_checks
from sweep.config.checks import CHOICES, RANGES
from sweep.config.compose import GROUPS, compose_jobs, options
from sweep.config.overrides import LAUNCHER
from sweep.config.schema import ConfigError, FreezeConfig, OptimizerConfig, TrainerConfig, keys

PROJECT = Path(__file__).parents[2]
CONF = PROJECT / "conf"
FILES = sorted(CONF.rglob("*.yaml"))
ROOMS = (PROJECT / "src" / "sweep").rglob("__init__.py")
OPTIONS = [
    (path.parent.relative_to(CONF).as_posix(), path.stem) for path in FILES if path.parent != CONF
]
MODELS = [name for group, name in OPTIONS if group == "model"]
STRATEGIES = [name for group, name in OPTIONS if group == "freeze"]
REQUIRED = {
    "data=csv": ["data.path=my.csv"],
    "data=korean_dialogue": ["data.path=train.csv"],
    "data=hub": ["data.dataset=fancyzhx/ag_news"],
    "model=hub": ["model.name_or_path=./my-encoder"],
    "tracking=server": ["tracking.uri=http://127.0.0.1:5000"],
    "experiment=notebook": ["data.path=train.csv"],
}
"""What an option leaves to its user."""
HEADER_COMMANDS = [
    line.split("python -m sweep ", 1)[1]
    for path in FILES
    for line in path.read_text("utf-8").splitlines()
    if line.startswith("#") and "python -m sweep " in line
]
LISTED = options()
EXAMPLES = [
    (group, name, about.partition("e.g. ")[2])
    for group, found in LISTED.items()
    for name, about in found.items()
    if "e.g. " in about
]


def names(*overrides: str, config_dir: str | None = None) -> list[str]:
    """Names of the runs of a command line."""
    return [job.name for job in compose_jobs(overrides, config_dir)]


def messages(overrides: Sequence[str], config_dir: str | None = None) -> tuple[str, ...]:
    """What is wrong with a command line."""
    with pytest.raises(ConfigError) as caught:
        compose_jobs(overrides, config_dir)
    return caught.value.messages


# The files.


def test_every_group_has_options() -> None:
    assert {group for group, _ in OPTIONS} == {*GROUPS, LAUNCHER}
    assert len(OPTIONS) >= 20


@pytest.mark.parametrize(("group", "name"), OPTIONS, ids=lambda part: part)
def test_every_option_composes(group: str, name: str) -> None:
    choice = f"{group}={name}"
    others = ["freeze=none"] if group not in ("freeze", "experiment") else []
    jobs = compose_jobs([choice, *others, *REQUIRED.get(choice, [])])
    assert jobs
    if hasattr(jobs[0].cfg, group) and hasattr(getattr(jobs[0].cfg, group), "name"):
        assert getattr(jobs[0].cfg, group).name == name


@pytest.mark.parametrize("model", MODELS)
def test_every_strategy_composes_with_every_model(model: str) -> None:
    required = REQUIRED.get(f"model={model}", [])
    jobs = compose_jobs([f"model={model}", "freeze=glob(*)", *required])
    assert sorted(job.cfg.freeze.name for job in jobs) == STRATEGIES
    assert {job.cfg.model.name for job in jobs} == {model}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_every_file_begins_with_what_it_is(path: Path) -> None:
    comments = [
        line.removeprefix("#").strip()
        for line in path.read_text("utf-8").splitlines()
        if line.startswith("#")
    ]
    about = next(comment for comment in comments if not comment.startswith("@"))
    assert len(about) > 15


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_help_shows_the_first_comment_of_every_option(path: Path) -> None:
    if path.parent != CONF:
        about = LISTED[path.parent.relative_to(CONF).as_posix()][path.stem]
        assert f"# {about}" in path.read_text("utf-8").splitlines()


def test_the_headers_have_commands() -> None:
    assert HEADER_COMMANDS
    assert len(EXAMPLES) >= 4


@pytest.mark.parametrize("command", HEADER_COMMANDS)
def test_every_command_of_a_header_composes(command: str) -> None:
    assert compose_jobs(shlex.split(command))


@pytest.mark.parametrize(("group", "name", "example"), EXAMPLES, ids=lambda part: part[:20])
def test_every_example_of_a_header_composes(group: str, name: str, example: str) -> None:
    assert example.startswith(f"{group}={name}")
    assert compose_jobs([*shlex.split(example), "freeze=none"])


def test_every_folder_of_conf_is_packaged() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))
    setuptools = project["tool"]["setuptools"]
    folders = {path.parent.relative_to(PROJECT).as_posix() for path in FILES}
    wanted = {f"sweep.{folder.replace('/', '.')}": folder for folder in folders}
    source = {"hydra_plugins": "src/hydra_plugins", "sweep": "src/sweep"}
    rooms = {".".join(p.parent.relative_to(PROJECT / "src").parts) for p in ROOMS}
    assert set(setuptools["packages"]) == {*source, *rooms, *wanted}
    assert setuptools["package-dir"] == {**source, **wanted}


def test_every_family_has_a_head_and_the_same_parts() -> None:
    families = yaml.safe_load((CONF / "families.yaml").read_text("utf-8"))
    parts = [set(family) for family in families.values()]
    assert all(found == parts[0] for found in parts)
    assert all(family["head"] for family in families.values())


# The schema.

FREE_TEXT = {
    "data.configuration",
    "data.revision",
    "data.validation_split",
    "data.test_split",
    "data.text_column",
    "data.label_column",
    "data.label_pattern",  # compiled with the checks of what goes together
    "data.split_column",
    "model.revision",
}


def test_every_key_is_free_text_a_switch_or_checked() -> None:
    own = {f"freeze.{item.name}" for item in fields(FreezeConfig)}  # strategy.check looks at them
    open_keys = {
        key
        for key, kind in keys().items()
        if not isinstance(kind, type) or kind is not bool
        if key not in (*GROUPS, "compare", "report", "families", "model.parts")
        if bool not in get_args(kind) or str in get_args(kind)
    }
    assert open_keys - own == ({*CHOICES, *RANGES} | FREE_TEXT) - own
    assert callable(strategy_checks.check)


def test_what_is_checked_exists() -> None:
    assert {*CHOICES, *RANGES, *FREE_TEXT} <= set(keys())


OWN_NAMES = {
    "padding",
    "class_weight",
    "early_stopping_patience",  # of EarlyStoppingCallback
    "precision",
    "device",
    "num_threads",
    "layer_decay",
    "timeout_min",
    "cache_features",
    "feature_dtype",
    "cache_limit_mib",
}
"""Settings that `TrainingArguments` does not have, or has under several names."""


@pytest.mark.parametrize("group", [OptimizerConfig, TrainerConfig], ids=["optimizer", "trainer"])
def test_settings_are_spelt_as_in_training_arguments(group: type) -> None:
    known = {item.name for item in fields(TrainingArguments)}
    own = {item.name for item in fields(group)}
    assert own - known - OWN_NAMES - {"save_model"} == set()


def test_null_is_refused_where_it_means_nothing() -> None:
    refused = [
        key
        for key, kind in keys().items()
        if NoneType not in get_args(kind) and kind is not Any and key not in (*GROUPS, "families")
    ]
    told = messages([f"{key}=null" for key in refused])
    assert [message.split(" has the wrong type")[0] for message in told] == [
        f"{key}=null" for key in refused
    ]


# Command lines.


def test_the_bare_command_compares_three_strategies_in_order() -> None:
    assert names() == ["attention", "full", "none"]


RATE = "optimizer.learning_rate="


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["freeze=full"], ["full"]),
        (["freeze=none,full"], ["none", "full"]),
        (["freeze=none", "seed=range(0,3)"], ["none seed=0", "none seed=1", "none seed=2"]),
        (["freeze=none", "seed=choice(2,1)"], ["none seed=2", "none seed=1"]),
        (["seed=1,2", "freeze=full"], ["full seed=1", "full seed=2"]),
        (["seed=1"], ["attention", "full", "none"]),
        (["freeze=none,none"], ["none"]),
        (["freeze=none", "optimizer.learning_rate=1e-4,0.0001"], ["none"]),
        (["freeze=none", f"{RATE}null,1e-3"], [f"none {RATE}null", f"none {RATE}0.001"]),
        (["freeze=full", "freeze=none"], ["none"]),
        (["freeze=none", "experiment=null"], ["none"]),
    ],
    ids=" ".join,
)
def test_sweeps_expand(typed: list[str], expected: list[str]) -> None:
    assert names(*typed) == expected


def test_the_notebook_compares_its_two_strategies() -> None:
    jobs = compose_jobs(["experiment=notebook", "data.path=train.csv"])
    assert [(job.cfg.freeze.name, job.cfg.optimizer.weight_decay) for job in jobs] == [
        ("none", 2e-5),
        ("attention", 1e-5),
    ]


def test_the_command_line_wins_over_the_experiment() -> None:
    typed = ["experiment=notebook", "data=csv", "data.path=a.csv", "freeze=none"]
    (job,) = compose_jobs([*typed, "trainer.num_train_epochs=1"])
    assert (job.cfg.data.name, job.cfg.trainer.num_train_epochs) == ("csv", 1.0)


@pytest.mark.parametrize(
    ("typed", "key", "value"),
    [
        ("data.text_column=사람문장1", "text_column", "사람문장1"),
        ('data.text_column="사람문장1"', "text_column", "사람문장1"),
        ("data.path=감성 대화(1).csv", "path", "감성 대화(1).csv"),
        ("data.separator=;", "separator", ";"),
        ("data.separator=,", "separator", ","),
        ("data.label_pattern=(E[1-6])\\d{1,2}", "label_pattern", "(E[1-6])\\d{1,2}"),
        ("data.label_names=[기쁨, 슬픔]", "label_names", ["기쁨", "슬픔"]),
        ("data.configuration=null", "configuration", None),
    ],
    ids=lambda part: str(part)[:30],
)
def test_text_needs_no_quotes(typed: str, key: str, value: object) -> None:
    (job,) = compose_jobs(["data=csv", "data.path=a.csv", "freeze=none", typed])
    assert getattr(job.cfg.data, key) == value


def test_other_scripts_can_be_swept() -> None:
    typed = ["data=csv", "freeze=none", "data.path=하나.csv,둘.csv"]
    assert names(*typed) == ["none data.path=하나.csv", "none data.path=둘.csv"]


def test_keys_smuggled_in_with_a_plus_are_refused() -> None:
    assert messages(["+trainer.fp16=true", "++optimizer.lr=1", "freeze=none"]) == (
        "'+trainer.fp16=true' adds or deletes a key. Only existing keys can be set, with"
        " trainer.fp16=value.",
        "'++optimizer.lr=1' adds or deletes a key. Only existing keys can be set, with"
        " optimizer.lr=value.",
    )


# Options of one's own.


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder for --config-dir with one strategy and one model."""
    for group, name, text in (
        ("freeze", "mine", "# mine\nname: mine\nparts: [attention]\nlearning_rate: 1e-3\n"),
        ("model", "tiny", "# tiny\nname: tiny\nname_or_path: ./tiny\nparts: {head: cls.*}\n"),
    ):
        (tmp_path / group).mkdir()
        (tmp_path / group / f"{name}.yaml").write_text(text, "utf-8")
    return tmp_path


def test_own_options_stand_beside_the_built_in_ones(own: Path) -> None:
    jobs = compose_jobs(["freeze=mine,full", "model=tiny"], str(own))
    assert [job.cfg.freeze.parts for job in jobs] == [["attention"], []]
    assert [job.cfg.learning_rate for job in jobs] == [1e-3, 1e-1]
    assert jobs[0].cfg.model.parts == {"head": "cls.*"}


def test_an_own_option_can_be_changed_on_the_command_line(own: Path) -> None:
    typed = ["freeze=mine", "model=tiny", "freeze.parts=[pooler]", "model.parts.layers='l(.*)'"]
    (job,) = compose_jobs(typed, str(own))
    assert job.cfg.freeze.parts == ["pooler"]
    assert job.cfg.model.parts == {"head": "cls.*", "layers": "l(.*)"}


def test_the_strategy_varies_slowest() -> None:
    typed = ["freeze=none,full", "seed=1,2"]
    assert names(*typed) == ["none seed=1", "none seed=2", "full seed=1", "full seed=2"]


def test_a_family_can_be_named_on_the_command_line() -> None:
    (job,) = compose_jobs(
        ["families.new={head: 'cls.*'}", "families.bert.pooler=null", "freeze=none"]
    )
    assert job.cfg.families["new"] == {"head": "cls.*"}
    assert job.cfg.families["bert"]["pooler"] is None


def test_own_options_are_listed_in_help(own: Path) -> None:
    listed = options(str(own))
    assert listed["freeze"]["mine"] == "mine"
    assert listed["model"]["tiny"] == "tiny"
    assert "full" in listed["freeze"]


def test_an_own_option_replaces_the_built_in_one_of_its_name(own: Path) -> None:
    text = "# other\nname: full\nparts: [pooler]\nlearning_rate: 1\n"
    (own / "freeze" / "full.yaml").write_text(text, "utf-8")
    (job,) = compose_jobs(["freeze=full"], str(own))
    assert job.cfg.freeze.parts == ["pooler"]


def test_two_strategies_of_one_name_are_refused(own: Path) -> None:
    text = (own / "freeze" / "mine.yaml").read_text("utf-8")
    (own / "freeze" / "twin.yaml").write_text(text.replace("1e-3", "2e-3"), "utf-8")
    assert messages(["freeze=mine,twin"], str(own)) == (
        "freeze=mine,twin: these options share the name 'mine'. Give each strategy's YAML its own"
        " `name`.",
    )


def test_a_config_dir_does_not_outlive_its_command(own: Path) -> None:
    assert names("freeze=mine", config_dir=str(own)) == ["mine"]
    assert messages(["freeze=mine"])[0].startswith("freeze='mine' is no option of freeze.")
