"""Documentation is executed: commands run, links lead somewhere, examples are what they claim."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from support.models import make_rows

import sweep.__main__
import sweep.plan
from sweep.config.compose import compose_jobs, options

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text("utf-8")
FENCES = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    shlex.split(line, comments=True)[2:]
    for kind, block in FENCES
    if kind == "bash"
    for line in block.splitlines()
    if line.startswith("python -m sweep")
]


def test_the_readme_has_commands() -> None:
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_readme_command_runs(
    command: list[str],
    saved_model: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = make_rows(120)
    (tmp_path / "reviews.tsv").write_text(
        "review\tstars\n" + "".join(f"{text}\t{label}\n" for text, label in rows), "utf-8"
    )
    codes = {"good": ("E18", "E60"), "bad": ("E31", "E55"), "plain": ("E29", "E40")}
    (tmp_path / "train.csv").write_text(
        "HS01,label\n"
        + "".join(f"{text},{codes[label][i % 2]}\n" for i, (text, label) in enumerate(rows)),
        "utf-8",
    )
    shutil.copytree(saved_model("bert"), tmp_path / "my-encoder")
    small = ["trainer.max_steps=2", "trainer.device=cpu"]
    if not any(word.startswith("data") for word in command):
        small += ["data.train_size=24", "data.validation_size=12", "data.test_size=12"]
    if not any(word.startswith("model=") for word in command):
        small += ["model=hub", f"model.name_or_path={tmp_path / 'my-encoder'}"]
    if not any("max_length" in word or "notebook" in word for word in command):
        small += ["data.max_length=32"]
    main = {"sweep": sweep.__main__.main, "sweep.plan": sweep.plan.main}[command[0]]
    assert main([*command[1:], *([] if "--help" in command else small)]) == 0


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (PROJECT / "Makefile").read_text("utf-8")
    named = set(re.findall(r"make ([a-z]+)", README))
    targets = set(re.findall(r"^([a-z]+):.*##", makefile, re.MULTILINE))
    expected = "help setup sweep test lint format ui report bench clean"
    assert targets == set(expected.split())
    assert named <= targets


def test_relative_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert [target for target in targets if not (PROJECT / target).exists()] == []


def test_example_files_of_the_readme_compose(tmp_path: Path) -> None:
    examples = [block for kind, block in FENCES if kind == "yaml"]
    assert len(examples) == 2
    for group, text in zip(("freeze", "model"), examples, strict=True):
        assert len(text.splitlines()) < 10
        (tmp_path / group).mkdir()
        (tmp_path / group / f"{yaml.safe_load(text)['name']}.yaml").write_text(text, "utf-8")
    (job,) = compose_jobs(["freeze=attention_bias", "model=my_encoder"], str(tmp_path))
    assert job.cfg.freeze.parts == ["attention", "pooler", "bias"]
    assert job.cfg.model.parts is not None


def test_shares_in_the_strategy_table_are_measured() -> None:
    from sweep.models.pretrained import build_empty
    from sweep.strategies.freeze import apply

    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| .* \| ([\d.]+) % \|$", README, re.MULTILINE)
    shares = {name: share for names, share in rows for name in re.findall(r"`(\w+)`", names)}
    assert set(shares) == set(options()["freeze"])
    for name, share in shares.items():
        (job,) = compose_jobs([f"freeze={name}"])
        model, parts = build_empty(job.cfg, num_labels=3)
        _, report = apply(model, parts, job.cfg.freeze)
        digits = len(share.partition(".")[2])
        assert f"{report.trainable_fraction * 100:.{digits}f}" == share, name
