"""Which vector of a text the head reads: as the model says of itself, or as typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.config import compose

from sweep.config.schema import Config, ConfigError
from sweep.models import pooling, pretrained

LABELS = ["bad", "good", "plain"]
STATED = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken"}


def of_folder(folder: Path, *overrides: str) -> Config:
    strategy = [] if any(x.startswith("freeze=") for x in overrides) else ["freeze=none"]
    return compose(*strategy, "model=hub", f"model.name_or_path={folder}", *overrides)


def without_pooler(folder: Path) -> Path:
    path = folder / "model.safetensors"
    tensors = {k: v for k, v in load_file(path).items() if "pooler" not in k}
    save_file(tensors, path, {"format": "pt"})
    return folder


def resolved(folder: Path, *overrides: str) -> str | None:
    return pooling.resolve(of_folder(folder, *overrides), folder)


def batch(model: Any, left: bool = False) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Three texts of 5, 3 and 2 tokens, and the states that the bare backbone gives each alone."""
    texts = [[2, 7, 8, 9, 3], [2, 10, 3], [2, 3]]
    ids, mask = torch.zeros(3, 5, dtype=torch.long), torch.zeros(3, 5, dtype=torch.long)
    for line, text in enumerate(texts):
        place = slice(5 - len(text), 5) if left else slice(0, len(text))
        ids[line, place], mask[line, place] = torch.tensor(text), 1
    return {"input_ids": ids, "attention_mask": mask}, mask


@pytest.mark.parametrize("kind", STATED)
def test_auto_takes_what_a_sentence_encoder_says(copy_of: Callable[[str], Path], kind: str) -> None:
    folder = copy_of("bert")
    modes = {f"pooling_mode_{name}": name == STATED[kind] for name in STATED.values()}
    (folder / "1_Pooling").mkdir()
    (folder / pooling.STATED).write_text(json.dumps({"word_embedding_dimension": 8} | modes))
    assert resolved(folder, "freeze=full") == kind
    assert resolved(folder, "freeze=full", "freeze.probe=adamw") is None
    assert resolved(folder, "freeze=none") is None  # its pooler is pretrained, and adapts
    assert resolved(without_pooler(folder), "freeze=none") == kind


def test_auto_leaves_an_unknown_or_double_pooling_to_the_architecture(
    copy_of: Callable[[str], Path],
) -> None:
    folder = copy_of("bert")
    (folder / "1_Pooling").mkdir()
    for stated in ("max_tokens",), ("mean_tokens", "max_tokens"):
        modes = {f"pooling_mode_{name}": True for name in stated}
        (folder / pooling.STATED).write_text(json.dumps(modes))
        assert resolved(folder, "freeze=full") is None


def test_auto_puts_no_random_pooler_in_place_of_one_that_is_missing(
    copy_of: Callable[[str], Path],
) -> None:
    folder = copy_of("bert")
    assert resolved(folder) is None
    assert resolved(without_pooler(folder)) == "mean"
    loaded = pretrained.load(of_folder(folder), LABELS)
    assert not loaded.new_names
    assert not [name for name, _ in loaded.model.named_parameters() if "pooler" in name]


@pytest.mark.parametrize("family", ["roberta", "distilbert", "modernbert", "deberta-v2"])
def test_architectures_without_a_pooler_of_the_backbone_keep_their_own_way(
    saved_model: Callable[[str], Path], family: str
) -> None:
    assert resolved(saved_model(family)) is None


def test_a_pooler_that_is_not_there_cannot_be_asked_for(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("bert")
    assert resolved(folder, "model.pooling=pooler") is None
    with pytest.raises(ConfigError, match=r"model.pooling='pooler'.*no pretrained pooler"):
        resolved(without_pooler(folder), "model.pooling=pooler")
    with pytest.raises(ConfigError, match="no pretrained pooler"):
        resolved(copy_of("roberta"), "model.pooling=pooler")


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
@pytest.mark.parametrize("kind", ["mean", "cls", "last"])
def test_padding_on_either_side_is_no_part_of_the_vector(kind: str, left: bool) -> None:
    states = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    _, mask = batch(None, left)
    vectors = pooling.pool(states, mask, kind)
    for line in range(3):
        text = states[line][mask[line].bool()]
        expected = {"mean": text.mean(0), "cls": text[0], "last": text[-1]}[kind]
        torch.testing.assert_close(vectors[line], expected)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "modernbert"])
@pytest.mark.parametrize("kind", ["mean", "last"])
def test_the_head_of_every_family_reads_the_vector(
    saved_model: Callable[[str], Path], family: str, kind: str
) -> None:
    folder = saved_model(family)
    loaded = pretrained.load(of_folder(folder, f"model.pooling={kind}"), LABELS)
    model = loaded.model.eval()
    inputs, mask = batch(model)
    plain = pretrained.load(of_folder(folder, "model.pooling=null"), LABELS).model.eval()
    with torch.no_grad():
        logits = model(**inputs).logits
        states = getattr(plain, plain.base_model_prefix)(**inputs).last_hidden_state
        vectors = pooling.pool(states, mask, kind)
        # What the plain model makes of a text of this one vector, by way of its own head.
        plain_pooler = getattr(getattr(plain, plain.base_model_prefix), "pooler", None)
        if plain_pooler is None:
            handle = getattr(plain, plain.base_model_prefix).register_forward_hook(
                lambda _, __, output: type(output)(
                    last_hidden_state=vectors[:, None].expand(-1, 5, -1)
                )
            )
            expected = plain(**inputs).logits
            handle.remove()
        else:
            expected = plain.classifier(vectors)
    torch.testing.assert_close(logits, expected)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_saved_model_is_loaded_by_plain_transformers_or_refused(
    copy_of: Callable[[str], Path],
    family: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import transformers

    from sweep.training import saved_model as saving

    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "m"))
    cfg = of_folder(copy_of(family), "model.pooling=mean")
    loaded = pretrained.load(cfg, LABELS)
    folder = tmp_path / "saved"
    saving.save(loaded.model, loaded.tokenizer, folder)
    inputs, _ = batch(loaded.model)
    with torch.no_grad():
        expected = loaded.model.eval()(**inputs).logits
        again = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder, trust_remote_code=True
        )
        torch.testing.assert_close(again.eval()(**inputs).logits, expected)
    assert again.config.id2label == dict(enumerate(LABELS))
    with pytest.raises(ValueError, match="trust_remote_code"):
        transformers.AutoModelForSequenceClassification.from_pretrained(
            folder, trust_remote_code=False
        )


def test_the_choice_decides_the_key_of_a_run_only_where_it_is_not_the_models_own() -> None:
    from sweep.runs.record import run_key

    cfg = compose("freeze=none")

    def key(kind: str | None) -> str:
        return run_key(replace(cfg, model=replace(cfg.model, pooling=kind)), "data", "weights")

    assert len({key(None), key("mean"), key("cls")}) == 3
