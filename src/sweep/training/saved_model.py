"""The trained weights as a run's artifact: saved, loaded again, and described in a model card.

A full model is saved whole, an adapter without the backbone that it sits in.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sweep.base.device import Hardware
from sweep.config.schema import Config
from sweep.data.encode import Encoded
from sweep.models import pooling, pretrained
from sweep.models.pretrained import Loaded
from sweep.strategies import adapters
from sweep.strategies.description import describe
from sweep.strategies.freeze_report import FreezeReport

if TYPE_CHECKING:
    from torch import nn

    from sweep.training.trainer import Subject

CARD = """\
# {title}

A text classifier, fine-tuned by `sweep`. What trained: {about}.

| | |
|---|---|
{rows}

```python
{code}
```
"""


def save_proven(subject: Subject, loaded: Loaded, part: Encoded, cfg: Config, folder: Path) -> None:
    """Save the model, load it again and compare what the two predict for a split.

    Args:
        subject: The trained model, whole again.
        loaded: What it was before; an adapter is put on a fresh one of these.
        part: The split.
        cfg: The run.
        folder: Where the model goes.

    Raises:
        ProofError: They predict otherwise.
    """
    from sweep.models.cpu_kernels import faster
    from sweep.strategies import proof
    from sweep.training import train

    save(subject.model, subject.tokenizer, folder)
    fresh = load_again(cfg, folder, loaded, subject.hardware)
    predicted = []
    with tempfile.TemporaryDirectory() as scratch:
        for model in (subject.model, fresh):
            with faster(model, subject.kernels):
                whole = replace(subject, model=model, cut=None)
                predicted.append(train.predict(whole, part, cfg, Path(scratch)))
    proof.check_saved(*predicted)


def save(trained: Any, tokenizer: Any, folder: Path) -> None:
    """Write the weights that are needed to use the model, and its tokenizer."""
    # Not Trainer.save_model, which adds its arguments as a pickle.
    trained.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if getattr(trained.config, "pooling", None):
        base = trained.get_base_model() if hasattr(trained, "get_base_model") else trained
        pooling.write_code(folder, base)


def load_again(cfg: Config, folder: Path, loaded: Loaded, hardware: Hardware) -> nn.Module:
    """Load the saved model into a fresh one, of which nothing may be left over to help.

    What is drawn anew gets another seed, so a head that was not saved shows.
    """
    label_names = [*loaded.model.config.id2label.values()]
    if cfg.freeze.adapter:
        other = replace(cfg, seed=(cfg.seed + 1) % 2**32)
        base = pretrained.load(other, label_names, hardware, loaded.folder).model
        return adapters.load_saved(base, folder)
    return _load_whole(cfg, folder)


def load(
    cfg: Config, folder: Path, label_names: Sequence[str], hardware: Hardware
) -> tuple[nn.Module, Any]:
    """Load a saved model and its tokenizer.

    Args:
        cfg: The run that saved it.
        folder: Of the saved model.
        label_names: Names of the classes, in order.
        hardware: Where it will compute.

    Raises:
        ConfigError: The base model of an adapter is no longer there.
    """
    # The class of a pooled model is code of ours, which its tokenizer is asked about, too.
    trusted = cfg.model.trust_remote_code or _is_pooled(folder)
    tokenizer = pretrained.load_tokenizer(replace(cfg.model, trust_remote_code=trusted), folder)
    if cfg.freeze.adapter:
        base = pretrained.load(cfg, label_names, hardware).model
        return adapters.load_saved(base, folder), tokenizer
    return _load_whole(cfg, folder), tokenizer


def _is_pooled(folder: Path) -> bool:
    return (folder / f"{pooling.MODULE}.py").exists()


def _load_whole(cfg: Config, folder: Path) -> nn.Module:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(
        folder,
        dtype="float32",
        use_safetensors=True,
        trust_remote_code=cfg.model.trust_remote_code or _is_pooled(folder),
    )
    return cast("nn.Module", model)


def write_card(
    cfg: Config,
    label_names: Sequence[str],
    report: FreezeReport,
    metrics: Mapping[str, float],
    folder: Path,
) -> None:
    """Write README.md beside the weights; text from outside is escaped."""
    rows = {
        "strategy": cfg.freeze.name,
        "base model": cfg.model.name_or_path,
        "data": f"{cfg.data.name}, {cfg.data.path or cfg.data.dataset}",
        "trained parameters": f"{report.trainable_params:,} of {report.total_params:,}",
        "learning rate": f"{cfg.learning_rate:g}",
        "seed": str(cfg.seed),
    }
    if cfg.freeze.quantization:
        rows["packed"] = "the backbone was in 4 bits while training; below it is not, which can"
        rows["packed"] += " change a probability slightly"
    rows |= {k: f"{v:.4f}" for k, v in metrics.items() if k.startswith(("test_", "eval_"))}
    text = CARD.format(
        title=escape(f"{cfg.freeze.name} on {cfg.data.name}"),
        about=escape(str(describe(cfg.freeze))),
        rows="\n".join(f"| {escape(key)} | {escape(value)} |" for key, value in rows.items()),
        code=_code(cfg, label_names),
    )
    (folder / "README.md").write_text(text, "utf-8")


def escape(text: str) -> str:
    """Switch off Markdown and HTML of a text, and put it on one line."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_{}\[\]()#!|~])", r"\\\1", plain)


def _code(cfg: Config, label_names: Sequence[str]) -> str:
    """Return three lines that load the model; an adapter's folder does not know its classes."""
    name, package, classes = "AutoModelForSequenceClassification", "transformers", ""
    if cfg.freeze.adapter:
        name, package = "AutoPeftModelForSequenceClassification", "peft"
        quoted = [json.dumps(label) for label in label_names]
        names = ", ".join(f"{i}: {label}" for i, label in enumerate(quoted))
        # The base model may come with classes of its own, in another order.
        numbers = ", ".join(f"{label}: {i}" for i, label in enumerate(quoted))
        classes = f", num_labels={len(quoted)}, id2label={{{names}}}, label2id={{{numbers}}}"
        classes = classes.replace("`", "\\u0060")  # a backtick could end the block of code
        # The base model may come with a head for other classes, which the adapter's own replaces.
        classes += ", ignore_mismatched_sizes=True"
    tokenizer = 'tokenizer = transformers.AutoTokenizer.from_pretrained(".")'
    if cfg.model.pooling not in (None, "auto", "pooler"):
        return _pooled_code(cfg, classes, tokenizer)
    return "\n".join(
        [
            f"import {package}, transformers" if package == "peft" else "import transformers",
            f'model = {package}.{name}.from_pretrained("."{classes})',
            tokenizer,
        ]
    )


def _pooled_code(cfg: Config, classes: str, tokenizer: str) -> str:
    """Return lines that load a model whose head reads another vector than its architecture's."""
    if not cfg.freeze.adapter:
        name = "transformers.AutoModelForSequenceClassification"
        load = f'model = {name}.from_pretrained(".", trust_remote_code=True)'
        return "\n".join(["import transformers", load, tokenizer])
    base = json.dumps(cfg.model.name_or_path).replace("`", "\\u0060")
    return "\n".join(
        [
            f"import peft, transformers, {pooling.MODULE}  # {pooling.MODULE}.py is in this folder",
            f"base = {pooling.MODULE}.PooledModel.from_pretrained({base}{classes})",
            'model = peft.PeftModel.from_pretrained(base, ".")',
            tokenizer,
        ]
    )
