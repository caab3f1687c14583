"""Parts found from structure, against those of families.yaml and against counts by hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support.config import of_folder
from support.models import SIZES

from sweep.models import pretrained
from sweep.models.structure import find_parts

DECODER = {"num_key_value_heads": 2, "head_dim": 4}
FOUND: dict[str, dict[str, Any]] = {
    "Llama": DECODER,
    "Mistral": DECODER,
    "Qwen2": DECODER,
    "Qwen3": DECODER,
    "Gemma2": DECODER,
    "Phi": {},
    "SmolLM3": DECODER,
    "GPT2": {"n_embd": 8, "n_layer": 2, "n_head": 2},
    "OPT": {"ffn_dim": 16, "word_embed_proj_dim": 8},
    "GPTNeoX": {},
    "MPNet": {},
    "MobileBert": {"embedding_size": 8, "intra_bottleneck_size": 8, "true_hidden_size": 8},
}


def empty_model(name: str, changes: dict[str, Any]) -> transformers.PreTrainedModel:
    config = getattr(transformers, f"{name}Config")(**SIZES | changes)
    config.num_labels = 3
    with torch.device("meta"):
        return transformers.AutoModelForSequenceClassification.from_config(config)


def matching(model: torch.nn.Module, pattern: str | None) -> set[str]:
    names = [name for name, _ in model.named_parameters()]
    return {name for name in names if pattern and re.fullmatch(pattern, name)}


def size(model: torch.nn.Module, pattern: str | None) -> int:
    return sum(model.get_parameter(name).numel() for name in matching(model, pattern))


@pytest.mark.parametrize("name", FOUND)
def test_every_parameter_belongs_to_exactly_one_part(name: str) -> None:
    model = empty_model(name, FOUND[name])
    parts = find_parts(model)
    assert parts is not None
    groups = [matching(model, parts[p]) for p in ("embeddings", "layers", "pooler", "head")]
    assert sum(map(len, groups)) == len(set().union(*groups)) == len(list(model.parameters()))
    assert not matching(model, parts["attention"]) & matching(model, parts["feed_forward"])
    assert matching(model, parts["attention"]) < matching(model, parts["layers"])


@pytest.mark.parametrize(
    ("name", "attention", "feed_forward", "embeddings", "head"),
    [
        # Per layer four projections 8 x 8 without bias, and three of 8 x 16; 40 tokens of width 8.
        ("Llama", 2 * 4 * 64, 2 * 3 * 128, 320, 24),
        # Queries, keys and values have a bias.
        ("Qwen2", 2 * (4 * 64 + 3 * 8), 2 * 3 * 128, 320, 24),
        # A norm of queries and one of keys, each as wide as a head.
        ("Qwen3", 2 * (4 * 64 + 2 * 4), 2 * 3 * 128, 320, 24),
        # All have a bias; the inner width is 4 x 8, and there are 64 positions.
        ("GPT2", 2 * (4 * 64 + 32), 2 * (2 * 256 + 32 + 8), 320 + 64 * 8, 24),
        # 64 positions, and 2 that OPT leaves out.
        ("OPT", 2 * (4 * 64 + 32), 2 * (2 * 128 + 16 + 8), 320 + 66 * 8, 24),
        ("GPTNeoX", 2 * (4 * 64 + 32), 2 * (2 * 128 + 16 + 8), 320, 24),
    ],
)
def test_counts_are_those_by_hand(
    name: str, attention: int, feed_forward: int, embeddings: int, head: int
) -> None:
    model = empty_model(name, FOUND[name])
    parts = find_parts(model)
    assert parts is not None
    counts = [size(model, parts[p]) for p in ("attention", "feed_forward", "embeddings", "head")]
    assert counts == [attention, feed_forward, embeddings, head]


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "modernbert"])
def test_layers_and_embeddings_are_those_that_were_written_by_hand(
    family: str, saved_model: Callable[[str], Path]
) -> None:
    model, written = pretrained.build_empty(of_folder(saved_model(family)), 3)
    parts = find_parts(model)
    assert parts is not None
    for part in ("embeddings", "layers", "layer_norm"):
        assert matching(model, parts[part]) == matching(model, written[part]), (family, part)


def test_a_decoder_without_biases_has_no_such_part() -> None:
    parts = find_parts(empty_model("Llama", DECODER))
    assert parts is not None
    assert parts["bias"] is None


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("T5", {"d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_heads": 2}),
        ("Bart", {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "decoder_layers": 1}),
        ("Albert", {"embedding_size": 8}),
    ],
)
def test_two_stacks_and_shared_layers_leave_a_doubt(name: str, changes: dict[str, Any]) -> None:
    assert find_parts(empty_model(name, changes)) is None
