"""Train once as notebooks do, without any of `sweep`: the other side of the benchmark.

    python scripts/measure/notebook_recipe.py --recipe notebook --strategy full --data rows.json \\
        --model FOLDER --epochs 3 --batch-size 64 --learning-rate 1e-3 --seed 0

`notebook` pads every text to 60 tokens and tokenises it again each time it is read; `trainer` is
the usual use of the Trainer: tokenised once, padded to the longest text of a batch. Both train in
fp32 with the defaults of the Trainer, evaluate every 200 steps, and run frozen layers in training
mode. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from typing import Any

import numpy as np
import torch
import transformers

LENGTH = 60
TRAINED = {
    "none": ".*",
    "attention": r".*(attention|pooler|classifier).*",
    "top_layers": r".*(layer\.[45]\.|pooler|classifier).*",
    "full": "classifier.*",
}
"""Per strategy, a pattern of the parameters that train, for a BERT of six layers."""


class PaddedRows(torch.utils.data.Dataset[dict[str, Any]]):
    """Rows of (text, label), tokenised each time they are read."""

    def __init__(self, rows: list[Any], tokenizer: Any) -> None:
        self.rows, self.tokenizer = rows, tokenizer

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        text, label = self.rows[index]
        encoded = self.tokenizer(
            text, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
        )
        return {**{name: ids[0] for name, ids in encoded.items()}, "labels": label}


class TimedTrainer(transformers.Trainer):
    """A Trainer that adds up the seconds of evaluation, to be left out of the training time."""

    evaluation_s = 0.0

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        started = time.perf_counter()
        metrics: dict[str, float] = super().evaluate(*args, **kwargs)
        self.evaluation_s += time.perf_counter() - started
        return metrics


def main() -> None:
    """Train, evaluate, and print the measurements as JSON."""
    started = time.perf_counter()
    args = parse()
    with open(args.data, encoding="utf-8") as file:
        data = json.load(file)
    transformers.logging.set_verbosity_error()
    transformers.set_seed(args.seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        args.model, num_labels=len(data["label_names"])
    )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(re.fullmatch(TRAINED[args.strategy], name) is not None)
    splits = {name: encode(data[name], tokenizer, args.recipe) for name in ("train", "test")}
    trainer = TimedTrainer(
        model=model,
        args=transformers.TrainingArguments(
            output_dir=args.folder,
            seed=args.seed,
            learning_rate=args.learning_rate,
            num_train_epochs=args.epochs,
            per_device_train_batch_size=args.batch_size,
            per_device_eval_batch_size=args.batch_size,
            eval_strategy="steps",
            eval_steps=200,
            save_strategy="no",
            use_cpu=not torch.cuda.is_available(),
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=splits["train"],
        eval_dataset=splits["test"],
        processing_class=tokenizer,
        compute_metrics=lambda p: {"accuracy": float((np.argmax(p[0], -1) == p[1]).mean())},
    )
    began = time.perf_counter()
    trainer.train()
    train_s = time.perf_counter() - began - trainer.evaluation_s
    accuracy = trainer.evaluate()["eval_accuracy"]
    measured = {
        "train_s": train_s,
        "process_s": time.perf_counter() - started,
        "accuracy": accuracy,
    }
    print(json.dumps(measured))


def encode(rows: list[Any], tokenizer: Any, recipe: str) -> Any:
    """Return a data set of rows of (text, label)."""
    if recipe == "notebook":
        return PaddedRows(rows, tokenizer)
    encoded = tokenizer([text for text, _ in rows], truncation=True, max_length=LENGTH)
    return [
        {**{name: ids[i] for name, ids in encoded.items()}, "labels": label}
        for i, (_, label) in enumerate(rows)
    ]


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", choices=("notebook", "trainer"), required=True)
    parser.add_argument("--strategy", choices=tuple(TRAINED), required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--folder", default="recipe")
    parser.add_argument("--epochs", type=float, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
