"""What the command prints without training anything."""

from __future__ import annotations

import pytest
import yaml

import sweep
from sweep.commands.sweep import main


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"sweep {sweep.__version__}\n"


def test_the_configuration_of_every_run_is_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cfg", "job", "freeze=none,lora", "seed=3"]) == 0
    first, second = yaml.safe_load_all(capsys.readouterr().out)
    assert (first["freeze"]["name"], second["freeze"]["name"]) == ("none", "lora")
    assert (first["seed"], second["freeze"]["adapter"]) == (3, "lora")


def test_a_mistake_is_told_before_anything_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cfg", "job", "freeze=nothing"]) == 2
    assert capsys.readouterr().out == ""
    assert main(["--cfg", "hydra"]) == 2
    assert "--cfg" in capsys.readouterr().err
