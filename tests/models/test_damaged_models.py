"""Folders that look complete, but would train something else than what was asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.config import compose

from sweep.config.schema import ConfigError
from sweep.models import pretrained


@pytest.fixture
def folder(saved_model: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of the tiny BERT, to be damaged."""
    return shutil.copytree(saved_model("bert"), tmp_path / "model")


def test_weights_of_something_else_are_told(folder: Path) -> None:
    save_file({"other.weight": torch.zeros(2)}, folder / "model.safetensors", {"format": "pt"})
    where = f"model.name_or_path={folder}"
    cfg = compose("freeze=full", "model=hub", where, "data.max_length=32")
    with pytest.raises(ConfigError, match="has weights that do not fit its config.json: 32 tens"):
        pretrained.load(cfg, ["a", "b"])


def test_a_damaged_tokenizer_is_told(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{", "utf-8")
    cfg = compose("freeze=full", "model=hub", f"model.name_or_path={folder}")
    with pytest.raises(ConfigError, match="has a tokenizer that cannot be loaded: .*Save it again"):
        pretrained.load_tokenizer(cfg.model)
