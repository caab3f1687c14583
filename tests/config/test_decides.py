"""What hangs on each setting: keys of runs are those of before; each effect has its keys."""

from __future__ import annotations

from dataclasses import fields

import pytest

from sweep.config import decides
from sweep.config.compose import compose_jobs, compose_sweep
from sweep.config.decides import Decides
from sweep.config.schema import Composed, Config, SweepSettings, keys
from sweep.runs.record import run_key

STANDARD = "8caac657e911a555ef8ccc90e50c5d1874ea7283d66f058c25e24cf9905dc94a"
BEFORE = {
    "freeze=none": STANDARD,
    "freeze=none seed=3": "35af38b52c5aeb32ba6852e71e0cbedb56a9c7f13ab1b909086d39ffc5818de4",
    "freeze=full freeze.learning_rate=0.01": (
        "9cbfe653cfb9334ec93ca69d0a461ca97d9aebaac9aa16ca1cd214942f4ba28d"
    ),
    "freeze=full optimizer.learning_rate=0.01": (
        "9cbfe653cfb9334ec93ca69d0a461ca97d9aebaac9aa16ca1cd214942f4ba28d"
    ),
    "freeze=lora freeze.rank=4": (
        "713b709222dd102ff2e3b17b1c43572d76f9c2b619e63f2bc713b6d951b94c1a"
    ),
    "freeze=attention trainer.precision=fp32 trainer.feature_dtype=bf16 trainer.num_threads=2"
    " trainer.max_steps=7": "0e34aa9b567c298f6f4b56486fc87e2ff0231d90552199362fe2e6306bab1291",
    "freeze=none optimizer.layer_decay=0.9 data.max_length=64": (
        "7f1b5d6eb99b041414a915425db64bc9b2bb0299249f0df7c91fec82023bbdfa"
    ),
    "freeze=full model=hub model.name_or_path=someone/model model.parts={head:classifier.*}": (
        "3fa570f75395fbba7ade9240050c2fa147d29043ec492169a6d617716c230026"
    ),
    "freeze=full data=csv data.path=mine.csv data.text_column=review data.name=mine"
    " trainer.num_train_epochs=2": (
        "d28fc459a3dbe96cf842da96165c4386dc88294f5c1b2cfbb00eb7b8c25f7832"
    ),
    "freeze=none trainer.save_model=true trainer.save_steps=5 trainer.timeout_min=3"
    " trainer.cache_limit_mib=1 trainer.cache_features=false": STANDARD,
    "freeze=none trainer.class_weight=null trainer.label_smoothing_factor=0": STANDARD,
    "freeze=none jobs=2 resume=false on_failure=stop max_failures=2 tracking=none"
    " compare.cost=memory compare.margin=0.05 report.language=ko": STANDARD,
}
"""Keys as the version before this metadata computed them, of data `data` and weights `weights`."""


@pytest.mark.parametrize("line", BEFORE)
def test_keys_of_runs_are_those_of_before(line: str) -> None:
    # Ways of fitting and reading that came later, as they were before.
    (job,) = compose_jobs([*line.split(), "model.pooling=null", "freeze.probe=adamw"])
    assert run_key(job.cfg, "data", "weights") == BEFORE[line]


def test_settings_of_the_sweep_are_no_part_of_a_run() -> None:
    run, sweep = ({field.name for field in fields(kind)} for kind in (Config, SweepSettings))
    assert not run & sweep
    assert {field.name for field in fields(Composed)} == run | sweep
    composed = compose_sweep(["freeze=none", "jobs=3", "compare.margin=0.05"])
    assert (composed.settings.jobs, composed.settings.compare.margin) == (3, 0.05)
    assert {field.name for field in fields(composed.jobs[0].cfg)} == run


def lacking(effect: Decides) -> set[str]:
    """Keys of a run that do not decide it; groups of which no key does are shortened."""
    lacks = set(decides.keys_without(Config, effect))
    leaves = {key for key in keys(Config) if "." in key}
    for group in {key.partition(".")[0] for key in leaves}:
        members = {key for key in leaves if key.startswith(f"{group}.")}
        if members <= lacks:
            lacks = lacks - members | {f"{group}.*"}
    return lacks


def test_each_effect_has_its_keys() -> None:
    without_content = {key for key in lacking(Decides.RESULT) if key[:5] not in ("data.", "model")}
    assert without_content == {
        *("freeze.learning_rate", "freeze.rate_ratio", "freeze.probe", "rates.*"),
        *(f"trainer.{key}" for key in ("save_model", "save_steps", "timeout_min")),
        *("trainer.cache_limit_mib", "trainer.cache_features"),
    }
    cfg = compose_jobs(["freeze=none"])[0].cfg
    entering = decides.values(cfg, Decides.RESULT)
    assert set(entering["data"]) == {"max_length"}
    assert set(entering["model"]) == {"parts"}
    assert lacking(Decides.CONFIGURATION) == {
        *("families", "seed", "freeze.name", "model.parts", "rates.source"),
        *("data.name", "data.path", "data.sha256"),
        *(f"trainer.{key}" for key in ("save_model", "save_steps", "timeout_min")),
        *("trainer.cache_limit_mib", "trainer.cache_features"),
    }
    assert lacking(Decides.COST) == {
        *("seed", "optimizer.learning_rate", "freeze.learning_rate", "freeze.rate_ratio"),
        *("model.base_rate", "rates.*"),
    }
    states = decides.values(cfg, Decides.FROZEN_STATES)
    assert set(states) == {"data", "model", "freeze", "trainer"}
    assert set(states["trainer"]) == {"device", "precision", "feature_dtype", "cache_features"}
    fit = decides.values(cfg, Decides.FIT)
    assert set(fit) == {"data", "model", "freeze", "optimizer", "trainer", "families"}
    assert (set(fit["data"]), set(fit["optimizer"])) == ({"max_length"}, {"layer_decay"})
