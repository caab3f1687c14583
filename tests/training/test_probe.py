"""A head that trains alone is solved: as scikit-learn would, with everything else untouched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from support.config import compose
from support.training import Trainings

from sweep.__main__ import main
from sweep.config import checks
from sweep.runs.record import run_key
from sweep.training import probe
from sweep.training.probe import STRENGTHS, _solutions, _Vectors

ROWS = 90


def vectors(classes: int, seed: int = 0) -> tuple[_Vectors, _Vectors]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, 12))
    labels = np.arange(2 * ROWS) % classes
    values = centres[labels] + rng.normal(scale=2.0, size=(2 * ROWS, 12))
    return _Vectors(values[:ROWS], labels[:ROWS]), _Vectors(values[ROWS:], labels[ROWS:])


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_solutions_are_those_of_scikit_learn_to_four_digits(classes: int) -> None:
    train, validation = vectors(classes)
    fits = [*_solutions(train, validation, classes)]
    assert [fit.strength for fit in fits] == list(STRENGTHS[: len(fits)])
    for fit in fits:
        cold = LogisticRegression(C=fit.strength, tol=1e-8, max_iter=10_000)
        cold.fit(train.values, train.labels)
        expected = log_loss(validation.labels, cold.predict_proba(validation.values))
        assert fit.scores["eval_loss"] == pytest.approx(expected, abs=5e-5)
        logits = torch.from_numpy(validation.values @ fit.weight.T + fit.bias)
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(validation.labels))
        assert float(loss) == pytest.approx(fit.scores["eval_loss"], abs=1e-6)


def test_strengths_that_get_worse_are_left_out() -> None:
    rng = np.random.default_rng(0)
    noise = _Vectors(rng.normal(size=(40, 30)), np.arange(40) % 2)
    fits = [*_solutions(noise, _Vectors(rng.normal(size=(40, 30)), np.arange(40) % 2), 2)]
    losses = [fit.scores["eval_loss"] for fit in fits]
    assert len(fits) < len(STRENGTHS)
    assert losses[-1] > losses[-2] > min(losses)


@pytest.mark.parametrize(
    ("typed", "solves"),
    [
        (["freeze=full"], True),
        (["freeze=none"], False),
        (["freeze=lora"], False),
        (["freeze=full", "freeze.probe=adamw"], False),
        (["freeze=full", "optimizer.learning_rate=0.1"], False),
        (["freeze=full", "freeze.frozen_dropout=true"], False),
        (["freeze=full", "trainer.cache_features=false"], False),
    ],
)
def test_auto_solves_where_it_can_and_no_rate_is_typed(typed: list[str], solves: bool) -> None:
    cfg = compose(*typed)
    assert cfg.solves_probe == solves


def test_solved_and_trained_heads_are_runs_of_their_own() -> None:
    solved, trained = (compose("freeze=full", f"freeze.probe={way}") for way in ("lbfgs", "adamw"))
    assert run_key(solved, "data", "weights") == run_key(compose("freeze=full"), "data", "weights")
    assert run_key(solved, "data", "weights") != run_key(trained, "data", "weights")
    assert run_key(compose("freeze=none"), "d", "w") == run_key(
        compose("freeze=none", "freeze.probe=adamw"), "d", "w"
    )


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["freeze=none"], "trains more"),
        (["freeze=full", "freeze.frozen_dropout=true"], "freeze.frozen_dropout=true"),
        (["freeze=full", "trainer.cache_features=false"], "trainer.cache_features=false"),
        (["freeze=full", "optimizer.learning_rate=0.1"], "optimizer.learning_rate=0.1"),
    ],
)
def test_what_excludes_a_solution_is_one_error(typed: list[str], message: str) -> None:
    cfg = compose(*typed)
    cfg.freeze.probe = "lbfgs"
    (error,) = checks.strategy_checks.check(cfg)
    assert message in error
    assert "freeze.probe" in error


def test_a_head_of_two_layers_has_no_single_best_answer(
    csv_file: Path, saved_model: Callable[[str], Path], tmp_path: Path
) -> None:
    trainings = Trainings(csv_file, saved_model, tmp_path)
    cfg = trainings.configure("freeze=full", family="roberta")
    _, model, report = trainings.apply(cfg)
    assert not probe.is_linear(model, report)
    _, model, report = trainings.apply(trainings.configure("freeze=full"))
    assert probe.is_linear(model, report)


def test_a_solved_run_leaves_what_every_run_leaves(
    overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = [typed for typed in overrides if not typed.startswith("optimizer.learning_rate")]
    line += ["freeze=full", "seed=0,1", "tracking=none", "trainer.save_model=true"]
    assert main([*line, "trainer.precision=fp32"]) == 0
    first, second = sorted(Path("mlruns/sweeps").glob("*/*_full"))
    records = [
        json.loads((folder / "record.json").read_text("utf-8")) for folder in (first, second)
    ]
    for record in records:
        assert record["params"]["probe"] == "lbfgs"
        assert record["metrics"]["probe_c"] in STRENGTHS
        assert {"train_loss", "train_runtime_s", "eval_loss", "test_accuracy"} <= {
            *record["metrics"]
        }
    one, other = (
        {k: v for k, v in record["metrics"].items() if k.startswith(("eval_", "test_"))}
        for record in records
    )
    assert one == other
    curve = [json.loads(x) for x in (first / "curves.jsonl").read_text("utf-8").splitlines()]
    assert [point["step"] for point in curve] == [*range(1, len(curve) + 1)]
    best = min(point["metrics"]["eval_loss"] for point in curve)
    assert records[0]["metrics"]["eval_loss"] == pytest.approx(best, rel=1e-3)
    assert (first / "model" / "model.safetensors").exists()
    assert "the head was solved" in capsys.readouterr().out


def test_what_a_model_cannot_be_solved_for_is_trained_unless_that_was_typed(
    overrides: list[str],
    saved_model: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = [*overrides, "freeze=full", "tracking=none"]
    line.append(f"model.name_or_path={saved_model('roberta')}")
    assert main(line) == 0
    (record,) = Path("mlruns/sweeps").glob("*/000_full/record.json")
    assert json.loads(record.read_text("utf-8"))["params"]["probe"] == "adamw"
    capsys.readouterr()
    assert main([*line, "freeze.probe=lbfgs"]) == 2
    assert "freeze.probe='lbfgs': the head of the model 'hub'" in capsys.readouterr().err
