"""Private names of transformers and accelerate that are used, so an upgrade fails in one place."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import accelerate
import pytest
import torch
import transformers
from transformers import Trainer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.auto.auto_factory import _BaseAutoModelClass

METHODS = {
    # training/trainer.py overrides or calls these.
    Trainer._prepare_inputs: ["self", "inputs"],
    Trainer.compute_loss: ["self", "model", "inputs", "return_outputs", "num_items_in_batch"],
    Trainer.training_step: ["self", "model", "inputs", "num_items_in_batch"],
    Trainer.floating_point_ops: ["self", "inputs"],
    Trainer.evaluate: ["self", "eval_dataset", "ignore_keys", "metric_key_prefix"],
    Trainer._get_train_sampler: ["self", "train_dataset"],
    Trainer._get_eval_sampler: ["self", "eval_dataset"],
    Trainer.log: ["self", "logs", "start_time"],
    Trainer._load_best_model: ["self"],
    # training/trainer.py overrides it, training/resume.py calls it.
    Trainer._save_checkpoint: ["self", "model", "trial"],
    # models/pretrained.py draws a head with it.
    transformers.PreTrainedModel._init_weights: ["self", "module"],
}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__qualname__)
def test_a_method_takes_what_it_is_given(method: Callable[..., Any]) -> None:
    assert [*inspect.signature(method).parameters] == METHODS[method]


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        # training/trainer.py keeps the window of the logged loss, and one model input.
        (Trainer, "self._tr_loss = "),
        (Trainer, "self._globalstep_last_logged = "),
        (Trainer, "self.model_accepts_loss_kwargs = "),
        # training/trainer.py lets a run have one of several GPUs.
        (transformers.TrainingArguments, "self._n_gpu = "),
        # training/trainer.py undoes these after a training.
        (Trainer, "self.model.config.use_cache = "),
        (accelerate.Accelerator, "model._original_forward = model.forward"),
        (accelerate.Accelerator, "model.forward = "),
        (accelerate.Accelerator, "item._is_accelerate_prepared = True"),
    ],
)
def test_an_attribute_is_set_where_it_is_read(owner: type, name: str) -> None:
    assert name in inspect.getsource(owner)


@pytest.fixture(scope="module")
def model() -> Any:
    config = transformers.BertConfig(
        vocab_size=8, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4
    )
    return transformers.AutoModelForSequenceClassification.from_config(config)


def test_a_configuration_keeps_the_name_of_the_attention(model: Any) -> None:
    """models/cpu_kernels.py replaces it."""
    assert model.config._attn_implementation_internal == "sdpa"
    assert model.config._attn_implementation == "sdpa"
    attention = model.bert.encoder.layer[0].attention.self
    assert attention.config is model.config


@pytest.mark.parametrize(
    "table", [transformers.AttentionInterface, transformers.AttentionMaskInterface]
)
def test_what_is_registered_can_be_taken_out(table: Any) -> None:
    """models/cpu_kernels.py does both."""
    table.register("a name", torch.relu)
    assert table._global_mapping.pop("a name") is torch.relu
    assert "a name" not in table()


def test_attention_and_its_mask_take_what_they_are_given() -> None:
    """models/cpu_kernels.py stands in for the one and hands on to it, and uses the other."""
    names = [*inspect.signature(sdpa_attention_forward).parameters]
    assert names[:7] == [
        "module",
        "query",
        "key",
        "value",
        "attention_mask",
        "dropout",
        "scaling",
    ]
    assert {"batch_size", "attention_mask"} <= {*inspect.signature(sdpa_mask).parameters}


def test_an_auto_class_knows_what_it_can_make(model: Any) -> None:
    """models/pretrained.py looks there for a text classifier."""
    auto = transformers.AutoModelForSequenceClassification
    assert issubclass(auto, _BaseAutoModelClass)
    assert transformers.BertConfig in auto._model_mapping


def test_loaded_tensors_are_marked(model: Any, tmp_path: Any) -> None:
    """models/pretrained.py takes the mark off before it draws a head."""
    model.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert loaded.classifier.weight._is_hf_initialized
    assert loaded.base_model_prefix == "bert"
