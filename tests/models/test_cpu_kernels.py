"""Dropout, attention and norms of a CPU do what PyTorch's do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

from sweep.base.device import Hardware
from sweep.models import cpu_kernels


def encoder_layer() -> torch.nn.Module:
    """What the attention asks about its module."""
    module = torch.nn.Module()
    module.is_causal = False
    return module


def batch_of_three() -> dict[str, torch.Tensor]:
    """Texts of 8, 5 and 2 tokens."""
    return {
        "input_ids": torch.arange(24).view(3, 8) % 30,
        "attention_mask": (torch.arange(8) < torch.tensor([[8], [5], [2]])).long(),
        "labels": torch.tensor([0, 1, 1]),
    }


TEXTS = torch.randn(3, 2, 7, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_with_its_probability_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    dropped = cpu_kernels.drop(torch.ones(1_000_003), p)
    # Five standard deviations of a mean of a million draws.
    assert float((dropped == 0).float().mean()) == pytest.approx(p, abs=0.0025)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.02)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / (1 - p)], rel=1e-3)


def test_every_place_is_dropped_as_often() -> None:
    # Four draws share 64 random bits, so a lane could be off.
    torch.manual_seed(0)
    kept = cpu_kernels.drop(torch.ones(4 * 100_000), 0.3).view(-1, 4) > 0
    assert kept.float().mean(0).tolist() == pytest.approx([0.7] * 4, abs=0.0075)


def test_the_gradient_passes_where_the_value_did() -> None:
    x = torch.ones(1000, requires_grad=True)
    dropped = cpu_kernels.drop(x, 0.4)
    dropped.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, dropped.detach())


def test_a_seed_decides_what_is_dropped() -> None:
    first, again, other = (
        cpu_kernels.drop(torch.ones(100), 0.5) for seed in (1, 1, 2) if torch.manual_seed(seed)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_dropout_is_off_in_evaluation() -> None:
    layer = cpu_kernels.Dropout(0.5).eval()
    assert torch.equal(layer(TEXTS), TEXTS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mask", ["none", "bool", "float"])
def test_attention_without_dropout_is_pytorchs(mask: str, dtype: torch.dtype) -> None:
    tolerance = 1e-5 if dtype == torch.float32 else 0.06
    keep = torch.arange(7)[None, None, None] < torch.tensor([7, 4, 1])[:, None, None, None]
    given = {"none": None, "bool": keep, "float": torch.zeros(3, 1, 1, 7).masked_fill(~keep, -1e9)}
    found = []
    for function in (cpu_kernels.attention, cpu_kernels.sdpa_attention_forward):
        inputs = [(TEXTS + k).to(dtype).requires_grad_() for k in range(3)]
        module = encoder_layer()
        own = given[mask] if given[mask] is None or mask == "bool" else given[mask].to(dtype)
        output, _ = function(module, *inputs, own)
        output.float().square().sum().backward()
        found.append([output.detach(), *(x.grad for x in inputs)])
    for one, other in zip(*found, strict=True):
        assert float((one - other).abs().max()) < tolerance * float(other.abs().max())


def test_attention_drops_weights() -> None:
    torch.manual_seed(0)
    value = torch.ones(200, 1, 50, 1)
    query = torch.zeros(200, 1, 50, 1, requires_grad=True)
    module = encoder_layer()
    output = cpu_kernels.attention(module, query, query, value, None, dropout=0.2)[0].detach()
    assert output.shape == (200, 50, 1, 1)
    assert float(output.mean()) == pytest.approx(1, abs=0.01)
    # The variance of a mean of 50 factors that are 0 or 1.25.
    assert float(output.var()) == pytest.approx(0.25 / 50, rel=0.1)


@pytest.mark.parametrize("family", ["bert", "distilbert", "electra", "modernbert"])
def test_a_model_computes_the_same(family: str, saved_model: Callable[[str], Path]) -> None:
    load = transformers.AutoModelForSequenceClassification.from_pretrained
    plain, fast = (load(saved_model(family)) for _ in range(2))
    for layer in [*plain.modules(), *fast.modules()]:
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    with cpu_kernels.faster(fast, cpu_kernels.KERNELS):
        assert fast.config._attn_implementation == cpu_kernels.NAME
        losses = [network.eval()(**batch_of_three()).loss for network in (plain, fast)]
        torch.testing.assert_close(*losses)
        for loss in losses:
            loss.backward()
    for one, other in zip(plain.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-6, rtol=1e-4)


def norm_types(network: torch.nn.Module) -> dict[str, torch.dtype]:
    """What every norm has handed on last, by its name; filled by forward passes."""
    types: dict[str, torch.dtype] = {}
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.register_forward_hook(
                lambda _, __, found, name=name: types.update({name: found.dtype})
            )
    return types


@pytest.mark.parametrize("family", ["bert", "distilbert", "deberta-v2", "modernbert"])
def test_norms_of_layers_hand_on_what_autocast_computes_in(
    family: str, saved_model: Callable[[str], Path]
) -> None:
    load = transformers.AutoModelForSequenceClassification.from_pretrained
    plain, fast = (load(saved_model(family)).eval() for _ in range(2))
    with torch.no_grad():  # so that texts get logits that differ by more than rounding
        for weight in [*plain.parameters(), *fast.parameters()]:
            weight.mul_(10 if weight.ndim == 2 else 1)
    block = cpu_kernels.faster(fast, cpu_kernels.KERNELS)
    block.__enter__()
    types = [norm_types(network) for network in (plain, fast)]
    with torch.autocast("cpu", torch.bfloat16):
        logits = [network(**batch_of_three()).logits.detach() for network in (plain, fast)]
        fast(**batch_of_three()).loss.backward()
    inner = {name for name in types[1] if any(character.isdigit() for character in name)}
    assert {types[1][name] for name in inner} == {torch.bfloat16}
    assert {types[1][name] == types[0][name] for name in types[1].keys() - inner} == {True}
    apart = float((logits[0] - logits[0].mean(0)).abs().max())
    assert apart > 0.01
    torch.testing.assert_close(*logits, atol=0.1 * apart, rtol=0)
    grads = [p.grad for p in fast.parameters() if p.grad is not None]
    assert {grad.dtype for grad in grads} == {torch.float32}
    fast(**batch_of_three())  # without autocast everything stays fp32
    assert set(types[1].values()) == {torch.float32}
    block.__exit__(None, None, None)


Way = list[tuple[str, type, object]]


def way_of(network: torch.nn.Module) -> tuple[Way, str, list[str], list[str]]:
    """All that decides how a model computes: classes, forward passes, configuration, tables."""
    tables = transformers.AttentionInterface(), transformers.AttentionMaskInterface()
    return (
        [(name, type(m), m.__dict__.get("forward")) for name, m in network.named_modules()],
        repr([(id(m.config), vars(m.config)) for m in network.modules() if hasattr(m, "config")]),
        *(sorted(table) for table in tables),
    )


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "modernbert"])
def test_a_model_is_as_it_was_after_the_block(
    family: str, saved_model: Callable[[str], Path]
) -> None:
    load = transformers.AutoModelForSequenceClassification.from_pretrained
    network = load(saved_model(family))
    before = way_of(network)
    with cpu_kernels.faster(network, cpu_kernels.KERNELS):
        assert way_of(network) != before
        with cpu_kernels.faster(load(saved_model(family)), cpu_kernels.KERNELS):
            pass
        inputs = batch_of_three()
        del inputs["labels"]  # the model itself notes what problem they make
        network.eval()(**inputs)  # the block inside has not taken anything away
    assert way_of(network) == before
    with pytest.raises(KeyError), cpu_kernels.faster(network, cpu_kernels.KERNELS):
        raise KeyError
    assert way_of(network) == before


@pytest.mark.parametrize(
    ("device", "compiled", "there"),
    [("cpu", False, True), ("cpu", True, False), ("cuda", False, False)],
)
def test_kernels_are_for_cpus_and_models_that_are_not_compiled(
    device: str, compiled: bool, there: bool
) -> None:
    expected = cpu_kernels.KERNELS if there else frozenset()
    assert cpu_kernels.available(Hardware(device, "fp32"), compiled) == expected


def test_a_saved_model_does_not_ask_for_them(
    saved_model: Callable[[str], Path], tmp_path: Path
) -> None:
    network = transformers.AutoModelForSequenceClassification.from_pretrained(saved_model("bert"))
    with cpu_kernels.faster(network, cpu_kernels.KERNELS):
        network.save_pretrained(tmp_path)
    assert cpu_kernels.NAME not in json.dumps(json.loads((tmp_path / "config.json").read_text()))
