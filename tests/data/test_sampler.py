"""The order in which a training sees its texts."""

import random

import pytest

from sweep.data.sampler import EpochOrder

DRAW = random.Random(0)
LENGTHS = [DRAW.randint(5, 60) for _ in range(1000)]


def padding(order: list[int], batch_size: int) -> float:
    """Padded tokens over real ones."""
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    padded = sum(len(b) * max(LENGTHS[i] for i in b) for b in batches)
    return padded / sum(LENGTHS)


@pytest.mark.parametrize("group", [0, 1, 16, 64, 1000, 5000])
def test_an_epoch_sees_every_text_once(group: int) -> None:
    assert sorted(EpochOrder(LENGTHS, group, 0)) == list(range(1000))


def test_texts_of_like_length_share_a_batch() -> None:
    assert padding(list(EpochOrder(LENGTHS, 64, 0)), 64) < 1.15
    assert padding(list(EpochOrder(LENGTHS, 0, 0)), 64) > 1.6


def test_batches_come_in_random_order_after_the_longest_text() -> None:
    order = list(EpochOrder(LENGTHS, 64, 0))
    longest = [max(LENGTHS[i] for i in order[at : at + 64]) for at in range(0, 960, 64)]
    assert longest[0] == max(LENGTHS[i] for i in order[:960])
    assert longest != sorted(longest)
    assert longest != sorted(longest, reverse=True)


def test_epochs_and_seeds_differ_and_repeat() -> None:
    def draw(seed: int, epoch: int) -> list[int]:
        order = EpochOrder(LENGTHS, 16, seed)
        order.epoch = epoch
        return list(order)

    assert draw(0, 0) == draw(0, 0)
    assert len({tuple(draw(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4
