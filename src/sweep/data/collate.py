"""Examples -> padded tensors.

Texts are views of arrays already, so this costs a tenth of what `tokenizer.pad` takes for lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Padding:
    """Collates the examples of `Encoded` into a batch."""

    fill: Mapping[str, int]
    """What stands in the place of missing tokens, per column."""
    left: bool = False
    length: int | None = None
    """Tokens of every batch; None pads to its longest text."""

    @classmethod
    def of(cls, tokenizer: Any, length: int | None) -> Padding:
        """Return the padding of a tokenizer."""
        fill = {
            "input_ids": tokenizer.pad_token_id,
            "token_type_ids": tokenizer.pad_token_type_id,
            "attention_mask": 0,
        }
        return cls(fill, tokenizer.padding_side == "left", length)

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return tensors of shape (texts, tokens), `labels` and `row` of shape (texts,)."""
        import torch

        width = self.length or max(len(example["input_ids"]) for example in examples)
        batch: dict[str, Any] = {}
        for name, first in examples[0].items():
            values = [example[name] for example in examples]
            if isinstance(first, np.ndarray):
                batch[name] = torch.from_numpy(self._pad(values, self.fill[name], width))
            else:
                batch[name] = torch.tensor(values)
        return batch

    def _pad(self, values: Sequence[np.ndarray], fill: int, width: int) -> np.ndarray:
        padded = np.full((len(values), width), fill, np.int64)
        for line, ids in zip(padded, values, strict=True):
            line[width - len(ids) if self.left else 0 :][: len(ids)] = ids
        return padded
