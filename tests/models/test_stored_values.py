"""Checkpoints that fit in names and shapes, and hold no weights all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.config import of_folder

from sweep.config.schema import ConfigError
from sweep.runs.run import preflight

QUERY = "bert.encoder.layer.0.attention.self.query.weight"
NORM = "bert.embeddings.LayerNorm.bias"
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def folder(copy_of: Callable[[str], Path]) -> Path:
    """A copy of the tiny BERT, to be changed."""
    return copy_of("bert")


def store(folder: Path, **changed: torch.Tensor) -> None:
    """Put tensors in place of those of the same names; `__` stands for a dot."""
    path = folder / "model.safetensors"
    tensors = load_file(path) | {name.replace("__", "."): t for name, t in changed.items()}
    save_file(tensors, path, {"format": "pt"})


def complaint(folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        preflight(of_folder(folder), 3)
    return "\n".join(caught.value.messages).replace(f"model.name_or_path='{folder}' ", "")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_that_are_no_numbers_are_refused(
    value: float, kind: torch.dtype, folder: Path
) -> None:
    weights = load_file(folder / "model.safetensors")[QUERY].to(kind)
    weights[0, 0] = value
    store(folder, **{QUERY: weights})
    assert complaint(folder) == (
        f"has weights that are NaN or infinite, {QUERY!r}. Copy the model again, or take one from"
        " before its training diverged."
    )


def test_several_of_them_are_counted(folder: Path) -> None:
    norm = torch.full((8,), float("nan"))
    store(folder, **{QUERY: torch.full((8, 8), float("inf")), NORM: norm})
    assert f"infinite, for example {NORM!r} of 2 such tensors. Copy" in complaint(folder)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (torch.int8, "I8"),
        (torch.uint8, "U8"),
        (torch.int32, "I32"),
        (torch.float8_e4m3fn, "F8_E4M3"),
    ],
)
def test_codes_are_no_weights(kind: torch.dtype, name: str, folder: Path) -> None:
    store(folder, **{QUERY: torch.ones(8, 8).to(kind)})
    assert complaint(folder) == (
        "has weights that are stored as whole numbers or in 8 bits,"
        f" {QUERY!r} ({name}): codes of a quantised model, which would be taken for its weights."
        " Give the folder of the original model; freeze=qlora packs it into 4 bits while loading."
    )


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions_are_fine(kind: torch.dtype, folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    store(folder, **{name: tensor.to(kind) for name, tensor in tensors.items()})
    preflight(of_folder(folder), 3)


def test_what_no_classifier_reads_may_hold_anything(folder: Path) -> None:
    """The head is drawn anew, and old versions saved positions and masks."""
    store(
        folder,
        classifier__weight=torch.full((2, 8), float("nan")),
        cls__predictions__bias=torch.full((40,), float("nan")),
        bert__embeddings__position_ids=torch.arange(64).reshape(1, -1),
    )
    preflight(of_folder(folder), 3)


def test_a_backbone_without_prefix_and_its_shards_are_looked_at(folder: Path) -> None:
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder)
    weights = model.get_parameter(QUERY.removeprefix("bert."))
    torch.nn.init.constant_(weights, float("nan"))
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="2KB")
    assert not (folder / "model.safetensors").exists()
    assert f"infinite, {QUERY.removeprefix('bert.')!r}. Copy" in complaint(folder)
