"""Rows, tokenizers and sizes of the tiny models that tests train."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import transformers

WORDS = {
    "good": ["great", "lovely", "bright", "warm", "happy", "fine"],
    "bad": ["awful", "cold", "dark", "sad", "broken", "poor"],
    "plain": ["table", "chair", "paper", "road", "window", "cup"],
}
FILLER = ["the", "a", "this", "is", "was", "very", "so", "and", "with", "of"]


def make_rows(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Distinct (text, label) rows that a tiny model can learn: the label's words are in it."""
    rng = random.Random(seed)
    rows: dict[str, str] = {}
    while len(rows) < count:
        label = list(WORDS)[len(rows) % len(WORDS)]
        words = rng.choices(FILLER, k=rng.randint(2, 8)) + rng.choices(WORDS[label], k=3)
        rng.shuffle(words)
        rows.setdefault(" ".join(words), label)
    return list(rows.items())


def save_tokenizer(folder: Path) -> None:
    """A word-level tokenizer with the special tokens of BERT."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, *FILLER, *(w for group in WORDS.values() for w in group)]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(folder)


SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertConfig", {}),
    "roberta": ("RobertaConfig", {}),
    "xlm-roberta": ("XLMRobertaConfig", {}),
    "distilbert": ("DistilBertConfig", {"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 16}),
    "electra": ("ElectraConfig", {"embedding_size": 4}),
    "deberta-v2": (
        "DebertaV2Config",
        {
            "relative_attention": True,
            "position_buckets": 4,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "type_vocab_size": 0,
            "pooler_hidden_size": 8,
        },
    ),
    "modernbert": (
        "ModernBertConfig",
        {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3},
    ),
}
