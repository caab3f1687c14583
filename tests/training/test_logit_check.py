"""Ways to compute a model that have to agree are compared before it trains."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from support.models import FAMILIES, SIZES

from sweep.base.device import Hardware
from sweep.data.encode import Encoded
from sweep.models.cpu_kernels import ATTENTION, KERNELS
from sweep.training import logit_check

pytestmark = pytest.mark.usefixtures("one_thread")
LENGTHS = [3, 5, 8, 13, 21]
DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "falcon": ("FalconConfig", {"alibi": False, "new_decoder_architecture": False}),
    "falcon-alibi": ("FalconConfig", {"alibi": True, "new_decoder_architecture": False}),
    "gpt2": ("GPT2Config", {"n_positions": 64, "n_embd": 8, "n_layer": 2, "n_head": 2}),
}
PLAIN = "computed without the faster attention for CPUs, with which this model gives other logits"


def make(family: str) -> torch.nn.Module:
    """A random model whose texts get logits that lie apart."""
    name, extra = (FAMILIES | DECODERS)[family]
    sizes = {} if family in ("distilbert", "gpt2") else SIZES
    config = getattr(transformers, name)(**{"vocab_size": 40, "pad_token_id": 0, **sizes, **extra})
    transformers.set_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(10)
    return model.train()


def texts() -> Encoded:
    """Five texts of other lengths, of ids that are no special tokens."""
    ends = np.concatenate([[0], np.cumsum(LENGTHS)])
    ids = np.random.default_rng(0).integers(5, 40, ends[-1]).astype(np.int32)
    columns = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    rows = np.arange(len(LENGTHS))
    return Encoded(columns, ends, labels=rows * 0, order=rows, truncated=0)


def compare(
    model: torch.nn.Module, precision: str = "fp32", side: str = "right"
) -> logit_check.LogitCheck:
    tokenizer = SimpleNamespace(pad_token_id=0, pad_token_type_id=0, padding_side=side)
    return logit_check.compare(model, tokenizer, texts(), Hardware("cpu", precision), KERNELS)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2", "modernbert", "gpt2"])
def test_a_model_that_agrees_gets_all_kernels(family: str, precision: str) -> None:
    assert compare(make(family), precision) == logit_check.LogitCheck(KERNELS, [])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", ["falcon", "falcon-alibi"])
def test_falcon_is_computed_with_its_own_attention(family: str, precision: str) -> None:
    # It compares the name of its attention with "sdpa", and masks nothing under another name.
    assert compare(make(family), precision) == logit_check.LogitCheck(
        KERNELS - {ATTENTION}, [PLAIN]
    )


def test_padding_on_the_side_that_a_model_does_not_expect_is_said() -> None:
    # GPT-2 numbers positions from the left, padding included.
    (note,) = compare(make("gpt2"), side="left").notes
    start, _, end = note.partition(" (off by ")
    assert start == "in a padded batch a text gets other logits than alone"
    assert end.endswith(
        " apart), so its prediction depends on the batch: see whether the tokenizer pads with the"
        " token and on the side that the model expects"
    )


def test_a_pad_token_that_is_read_is_said() -> None:
    model = make("bert")
    forward = model.forward
    model.forward = lambda attention_mask, **inputs: forward(**inputs)
    (note,) = compare(model).notes
    assert note.startswith("in a padded batch a text gets other logits than alone (off by ")


def test_a_kernel_that_a_model_cannot_take_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TypeError("an argument too many")

    monkeypatch.setattr("sweep.models.cpu_kernels.attention", fail)
    assert compare(make("bert")) == logit_check.LogitCheck(KERNELS - {ATTENTION}, [PLAIN])


def test_nothing_that_a_training_depends_on_changes() -> None:
    model = make("bert")
    model.bert.encoder.layer[0].eval()
    state, modes = torch.get_rng_state(), [module.training for module in model.modules()]
    weights = [parameter.clone() for parameter in model.parameters()]
    compare(model, "bf16")
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert all(map(torch.equal, weights, model.parameters()))
    assert {parameter.grad for parameter in model.parameters()} == {None}


def test_the_texts_have_several_lengths_without_the_longest() -> None:
    seen = []
    model = make("bert")
    model.register_forward_pre_hook(
        lambda _, __, inputs: seen.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
    )
    compare(model)
    assert seen == [(4, 13), (1, 3), (1, 5), (1, 8), (1, 13), (4, 13), (4, 13)]
