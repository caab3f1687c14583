"""Runs made by setting values are those that composing each of them anew would give."""

from __future__ import annotations

from functools import cached_property

import pytest

from sweep.config.compose import compose_jobs
from sweep.config.composed_base import Base
from sweep.config.schema import ConfigError


class Anew(Base):
    """Resolves every run's configuration from OmegaConf's nodes."""

    _resolved = cached_property(lambda _: None)


COMMANDS = [
    ["freeze=none,full,lora", "seed=0,1", "optimizer.learning_rate=1e-3,2"],
    [
        "trainer.cache_features=true,auto,false",
        "data.train_size=0.5,64",
        "trainer.save_steps=3,null",
    ],
    ["data.label_names=[a,b],[b,a]", "freeze.train=['!bert','.*']", "seed=1,2"],
    ["model.parts={head: a},{head: b}", "model.parts.head=c", "seed=0"],
    ["families.bert.head=x,y"],
    ["trainer.save_steps='${seed}',7", "seed=1,2", "data.name='${oc.env:HOME}'"],
    ["experiment=notebook", "freeze=none,attention", "trainer.max_steps=3,4"],
    [
        "freeze.rank=2,4",
        "freeze=lora,dora",
        "optimizer=adamw,sgd",
        "optimizer.optim_args=momentum=0.9",
    ],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_runs_are_what_composing_anew_gives(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def jobs() -> list[str]:
        try:
            return [repr(job) for job in compose_jobs(command)]
        except ConfigError as error:
            return list(error.messages)

    quick = jobs()
    monkeypatch.setattr("sweep.config.compose.Base", Anew)
    assert quick == jobs()
    assert quick


def test_a_run_does_not_share_what_another_one_changes() -> None:
    first, second = compose_jobs(["freeze=attention", "seed=0,1"])
    first.cfg.freeze.parts.append("embeddings")
    assert second.cfg.freeze.parts == ["attention", "pooler"]
