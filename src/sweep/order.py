"""In which order a training sees its texts: drawn anew in each epoch, from the seed alone.

The Trainer's own samplers draw from the random state that training has left behind, so that a
training which goes on in the middle of its second epoch would see other batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import RandomSampler, Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler


class EpochOrder(Sampler[int]):
    """Indices of the training texts, shuffled, with texts of like length side by side if asked."""

    def __init__(self, lengths: Sequence[int], group: int, seed: int) -> None:
        """Keep what the order depends on.

        Args:
            lengths: Tokens per text.
            group: Texts per optimizer step, to be of like length; 0 shuffles freely.
            seed: Of the run.
        """
        self._lengths, self._group, self._seed = list(lengths), group, seed
        self.epoch = 0
        """Which epoch the next iteration is for."""

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self._seed * 1_000_003 + self.epoch)  # seeds are below 2**32
        if not self._group:
            return iter(RandomSampler(self._lengths, generator=generator))
        return iter(LengthGroupedSampler(self._group, lengths=self._lengths, generator=generator))
