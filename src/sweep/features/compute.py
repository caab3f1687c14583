"""Outputs of the frozen lower part, computed once and shared by all runs that have it in common.

What decides them is hashed into their name: the tokens, every frozen weight below the cut, the
model's configuration, precision, device, threads and versions. Seeds, rates and heads do not
matter, so all runs of a sweep with one prefix read one file. Whether a cut model computes the same
as the whole one is tried on a few texts in every run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from sweep.base import cache
from sweep.base.words import Remark, Text
from sweep.config.schema import Config
from sweep.features.cut import (
    Cut,
    CutError,
    Level,
    States,
    attention_of,
    cut_model,
    first_token_alone,
    layer_form,
    levels_of,
    pooled_form,
    stopped_at,
)
from sweep.features.frozen_part import FrozenPart, keys
from sweep.features.payoff import no_room, why_not
from sweep.models.modes import evaluating

TOLERANCE = {"fp32": 1e-3}
LOOSE = 0.1
"""Largest difference of a logit, in units of how far the texts' logits lie apart; with 8 bits of
mantissa another batch gives other last bits."""


class NoRoomError(Exception):
    """Disk or memory would not hold the features; the message says what they take."""


@dataclass(frozen=True)
class Features:
    """The use made of the frozen part of a run."""

    cut: Cut | None = None
    """None trains the model as it is."""
    state: str = "off"
    """`built` by this run, `shared` with the one that built it, or `off`."""
    runtime_s: float = 0.0
    """Seconds of computing the features; 0 when another run has done it."""
    notes: list[Text] = field(default_factory=list)


def prepare(part: FrozenPart, sharing: int = 1) -> Features:
    """Compute or find the features of the frozen part, if there is one and they pay; else say why.

    Args:
        part: Its model has its strategy applied, and the kernels that it will train with: features
            have to be what the Trainer would compute. It is left whole; see `cut_model`.
        sharing: How many runs of the sweep have this frozen part and these texts.
    """
    model, device = part.model, part.hardware.device
    levels = levels_of(model, part.report)
    reason = why_not(part, levels, sharing)
    if reason is not None:
        return _none(reason) if reason else Features()
    cut = Cut(model, part.loaded.parts, levels, left=part.loaded.tokenizer.padding_side == "left")
    if part.device.type != device:  # where the Trainer would put it
        model.to(device)
    try:
        # Lower levels are cut to compute higher ones from them, and every level to be checked.
        with cut_model(cut), evaluating(model):
            runtime_s = _fill(cut, part)
            _check(cut, part)
    except (CutError, NoRoomError, cache.CacheError) as error:
        return _none(error.args[0] if isinstance(error, NoRoomError) else str(error))
    except Exception as error:  # a model's own code may take a cut in any way
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return _none(Remark("note.no_cut", {"reason": reason}))
    return Features(cut, "built" if runtime_s else "shared", runtime_s)


def _none(reason: Text) -> Features:
    return Features(notes=[Remark("note.features", {"reason": reason})])


def _fill(cut: Cut, part: FrozenPart) -> float:
    """Get the states of every level, the lowest first, so that each starts from the one below.

    Returns:
        Seconds that this process computed.
    """
    key, runtime_s = keys(part), 0.0
    for level in sorted(set(cut.levels), key=lambda level: (level.layers, level.pooled)):
        if level.layers:
            level = _find_form(cut, level, part)
            make = partial(_make, cut=cut, level=level, part=part, key=key)
            limit_mib = part.cfg.trainer.cache_limit_mib
            entry = cache.get_or_make("features", key(level), make, limit_mib)
            cut.use_level(None)
            _keep(entry, cut, level, part)
            runtime_s += entry.built_s
    return runtime_s


def _find_form(cut: Cut, level: Level, part: FrozenPart) -> Level:
    """See what the output at a level looks like; a head that needs all tokens lowers the level."""
    batch = {name: values for name, values in part.sample().items() if name != "row"}
    with part.hardware.autocast():
        if level.pooled:
            try:
                cut.forms[level.name] = pooled_form(part.model, batch)
                return level
            except CutError:
                plain = Level(level.layers)
                cut.levels = [plain if existing == level else existing for existing in cut.levels]
                level = plain
        if len(part.layers) < level.layers:
            raise CutError("its layers are not modules of their own")
        cut.forms[level.name] = layer_form(part.model, part.module(level), batch)
    return level


def _keep(entry: cache.Found, cut: Cut, level: Level, part: FrozenPart) -> None:
    ends = None if level.pooled else part.ends
    dtype = getattr(torch, entry.info["dtype"])
    cut.states[level.name] = States(entry.arrays["states"], ends, dtype)


def _make(
    draft: cache.Draft, cut: Cut, level: Level, part: FrozenPart, key: Callable[[Level], str]
) -> dict[str, Any]:
    """Compute the states of a level, from those of the highest one below it that are there."""
    if (reason := no_room(part, level)) is not None:
        raise NoRoomError(reason)
    block = _block_to_shorten(cut, level, part)  # before a cut, whose states need not be fp32
    exact = part.cfg.trainer.feature_dtype == "fp32"
    for layers in range(level.layers - (not level.pooled), 0, -1) if exact else ():
        lower = Level(layers)
        if (entry := cache.get("features", key(lower))) is not None:
            _find_form(cut, lower, part)
            _keep(entry, cut, lower, part)
            cut.use_level(lower)
            break
    return _compute(draft, cut, level, part, block)


def _compute(
    draft: cache.Draft, cut: Cut, level: Level, part: FrozenPart, block: nn.Module | None
) -> dict[str, Any]:
    """Run the frozen part over all rows, texts of one length together."""
    ends = part.ends
    states: np.ndarray | None = None
    dtype = torch.float32
    for batch, rows in part.batches():
        cut.load(batch.pop("row"), batch["input_ids"].shape[1], part.device)
        with part.hardware.autocast(), first_token_alone(block) if block else nullcontext():
            output = _outputs(cut, level, part, batch)
        dtype = output.dtype
        values = _stored(output, part.cfg)
        if states is None:
            count = len(ends) - 1 if level.pooled else int(ends[-1])
            states = draft.array("states", values.dtype, (count, values.shape[-1]))
        _place(states, values, rows, None if level.pooled else ends, cut.left)
    return {"dtype": str(dtype).removeprefix("torch."), "level": level.name}


def _outputs(
    cut: Cut, level: Level, part: FrozenPart, batch: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """Return the states at a level for a batch."""
    with torch.inference_mode(), stopped_at(part.module(level)) as outputs:
        part.model(**batch)
    return cut.forms[level.name].unwrap(outputs[0])


def _block_to_shorten(cut: Cut, level: Level, part: FrozenPart) -> nn.Module | None:
    """Return the attention after which only the first token matters, as tried on a few texts.

    A feed-forward block less is a tenth of the work for six layers.
    """
    if not level.pooled or not part.layers:
        return None
    block = attention_of(part.layers[-1], part.model, part.loaded.parts)
    if block is None:
        return None
    batch = {name: values for name, values in part.sample().items() if name != "row"}
    whole = _outputs(cut, level, part, batch)  # in fp32, where a difference shows
    try:
        with first_token_alone(block):
            short = _outputs(cut, level, part, batch)
    except Exception:  # a model's own code may take this in any way
        return None
    close = whole.shape == short.shape and torch.allclose(whole, short, rtol=1e-4, atol=1e-5)
    return block if close else None


def _place(
    states: np.ndarray, values: np.ndarray, rows: list[int], ends: np.ndarray | None, left: bool
) -> None:
    if ends is None:
        states[rows] = values
        return
    for row, line in zip(rows, values, strict=True):
        count = ends[row + 1] - ends[row]
        states[ends[row] : ends[row + 1]] = line[-count:] if left else line[:count]


def _stored(states: torch.Tensor, cfg: Config) -> np.ndarray:
    """Convert for the file; states that are computed in bf16 need no more bits."""
    if cfg.trainer.feature_dtype == "bf16" or states.dtype == torch.bfloat16:
        return states.to(torch.bfloat16).cpu().view(torch.uint16).numpy()
    return states.float().cpu().numpy()


def _check(cut: Cut, part: FrozenPart) -> None:
    """Compare the cut model with the whole one.

    Raises:
        CutError: They give different logits.
    """
    batch = part.sample()
    rows = batch.pop("row")
    exact = part.cfg.trainer.feature_dtype == "fp32"
    tolerance = TOLERANCE.get(part.hardware.precision, LOOSE) if exact else LOOSE
    with torch.no_grad(), part.hardware.autocast():
        cut.use_level(None)
        whole = part.model(**batch).logits.float()
        apart = float((whole - whole.mean(0)).abs().max())
        allowed = tolerance * max(apart, 0.01 * float(whole.abs().max()))
        for level in set(cut.levels):
            cut.use_level(level)
            cut.load(rows, batch["input_ids"].shape[1], part.device)
            off = float((part.model(**batch).logits.float() - whole).abs().max())
            if not off <= allowed:
                raise CutError(
                    f"the model cannot be cut at {level.name} (a logit differs by {off:.2g})"
                )
