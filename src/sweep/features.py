"""Outputs of the frozen lower part, computed once and shared by all runs that have it in common.

What decides them is hashed into their name: the tokens, every frozen weight below the cut, the
model's configuration, precision, device, threads and versions. Seeds, rates and heads do not
matter, so all runs of a sweep with one prefix read one file. Whether a cut model computes the same
as the whole one is tried on a few texts in every run.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import nn

from sweep import cache, kernels
from sweep.batches import Padding
from sweep.config import Config
from sweep.cut import (
    POOLED,
    Cut,
    CutError,
    Level,
    States,
    backbone,
    in_backbone,
    layer_form,
    layer_modules,
    levels_of,
    pooled_form,
    stopped_at,
)
from sweep.data import NAMES, Encoded
from sweep.device import precision_and_device
from sweep.freeze import FreezeReport
from sweep.model import Loaded
from sweep.proof import checksums
from sweep.tokens import Tokens

VERSION = 1
"""Raise it when the files get another content."""
BATCH = 64
"""Texts per forward pass; measured on a CPU, 256 are slower."""
SAMPLE = 8
"""Texts on which a cut model is compared with the whole one."""
WORTH = 1.5
"""Saved work has to be this many times the work of computing the features."""
TOLERANCE = {"fp32": 1e-4}
LOOSE = 0.1
"""Largest difference of a logit, absolute or relative; with 8 bits of mantissa another batch
gives other last bits."""


@dataclass(frozen=True)
class Features:
    """What became of the frozen part of a run."""

    cut: Cut | None = None
    """None trains the model as it is."""
    state: str = "off"
    """`built` by this run, `shared` with the one that built it, or `off`."""
    runtime_s: float = 0.0
    """Seconds of computing the features; 0 when another run has done it."""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Source:
    """Everything that features are computed from."""

    model: nn.Module
    loaded: Loaded
    report: FreezeReport
    tokens: Tokens
    cfg: Config

    @property
    def parts(self) -> list[Encoded]:
        return [self.tokens.encoded[name] for name in NAMES]

    @property
    def ends(self) -> np.ndarray:
        """(rows + 1,) over the rows of all splits."""
        lengths = [np.diff(part.ends) for part in self.parts]
        return np.concatenate([[0], np.concatenate(lengths).cumsum()])

    def example(self, row: int) -> dict[str, Any]:
        """The tokens of a row, counted through all splits."""
        part = next(p for p in self.parts[::-1] if len(p) and row >= p.first)
        start, end = part.ends[row - part.first], part.ends[row - part.first + 1]
        return {**{name: ids[start:end] for name, ids in part.columns.items()}, "row": row}

    def precision(self) -> AbstractContextManager[Any]:
        """As the Trainer computes."""
        precision, device = precision_and_device(self.cfg.trainer)
        dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
        if precision not in dtypes:
            return nullcontext()
        return torch.autocast(device, dtype=dtypes[precision])


def prepare(
    model: nn.Module,
    loaded: Loaded,
    report: FreezeReport,
    tokens: Tokens,
    cfg: Config,
    sharing: int = 1,
) -> Features:
    """Features of the frozen part, if there is one and they pay; else why not.

    Args:
        model: With its strategy applied; left cut.
        loaded: Its parts and tokenizer.
        report: What trains.
        tokens: What it reads.
        cfg: The run.
        sharing: How many runs of the sweep have this frozen part and these texts.
    """
    kernels.speed_up(model, cfg.trainer)  # features have to be what the Trainer would compute
    source = _Source(model, loaded, report, tokens, cfg)
    levels = levels_of(model, report)
    reason = _why_not(source, levels, sharing)
    if reason is not None:
        return Features(notes=[f"features are not cached: {reason}"] if reason else [])
    cut = Cut(model, loaded.parts, levels, left=loaded.tokenizer.padding_side == "left")
    device = precision_and_device(cfg.trainer)[1]
    if _device(source).type != device:  # where the Trainer would put it
        model.to(device)
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        runtime_s = _fill(cut, source)
        _check(cut, source)
    except (CutError, cache.CacheError) as error:
        cut.use_level(None)
        return Features(notes=[f"features are not cached: {error}"])
    except Exception as error:  # a model's own code may take a cut in any way
        cut.use_level(None)
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return Features(notes=[f"features are not cached: the model cannot be cut ({reason})"])
    finally:
        for module, mode in training.items():
            module.training = mode
    cut.use(1)
    return Features(cut, "built" if runtime_s else "shared", runtime_s)


def _why_not(source: _Source, levels: list[Level], sharing: int) -> str | None:
    """None to go on; else the reason, or an empty text when there is nothing to be told."""
    t, freeze = source.cfg.trainer, source.cfg.freeze
    frozen = max(level.layers for level in levels)
    if t.cache_features is False or not frozen or freeze.frozen_dropout or t.torch_compile:
        return ""
    size_mib = _size_mib(source, levels)
    if size_mib > t.cache_limit_mib:
        return f"they would take {size_mib:,.0f} MiB, more than trainer.cache_limit_mib"
    if size_mib > cache.free_mib() / 2:
        return f"they would take {size_mib:,.0f} MiB, more than half of what the disk has left"
    if t.cache_features == "auto":
        import psutil

        if size_mib > psutil.virtual_memory().available / 2**20 / 2:
            return f"they would take {size_mib:,.0f} MiB, more than half of the free memory"
        if sharing * saved_work(source.cfg, source.tokens.encoded, levels) < WORTH:
            return ""
    return None


def saved_work(cfg: Config, encoded: Mapping[str, Encoded], levels: list[Level]) -> float:
    """Forward passes that features save one run, in units of the work of computing them."""
    train, validation, test = (encoded[name].tokens for name in NAMES)
    t = cfg.trainer
    texts = t.per_device_train_batch_size * t.gradient_accumulation_steps
    per_epoch = max(math.ceil(len(encoded["train"]) / texts), 1)
    steps = t.max_steps if t.max_steps > 0 else math.ceil(t.num_train_epochs * per_epoch)
    evaluations = max(steps // t.eval_steps if t.eval_steps else steps // per_epoch, 1)
    read = train * steps / per_epoch + validation * evaluations + test
    layers = [level.layers for level in levels]
    return read * sum(layers) / len(layers) / ((train + validation + test) * max(layers))


def _size_mib(source: _Source, levels: list[Level]) -> float:
    config = getattr(source.model, "config", None)
    width = getattr(config, "hidden_size", 0)
    rows, tokens = len(source.ends) - 1, int(source.ends[-1])
    each = 2 if source.cfg.trainer.feature_dtype == "bf16" else 4
    kept = {level.name: rows if level.pooled else tokens for level in levels if level.layers}
    return sum(kept.values()) * width * each / 2**20


def _fill(cut: Cut, source: _Source) -> float:
    """Get the states of every level, the lowest first, so that each starts from the one below.

    Returns:
        Seconds that this process computed.
    """
    sample = _sample(source)
    tensors, rest = checksums(source.model), _surroundings(source)
    runtime_s = 0.0

    def key(level: Level) -> str:
        return cache.key_of(VERSION, level.name, _weights(level, source, tensors), rest)

    def keep(level: Level, found: cache.Found) -> None:
        ends = None if level.pooled else source.ends
        dtype = getattr(torch, found.info["dtype"])
        cut.states[level.name] = States(found.arrays["states"], ends, dtype)

    def make(level: Level, draft: cache.Draft) -> dict[str, Any]:
        exact = source.cfg.trainer.feature_dtype == "fp32"
        for layers in range(level.layers - (not level.pooled), 0, -1) if exact else ():
            lower = Level(layers)
            if (found := cache.get("features", key(lower))) is not None:
                _find_form(cut, lower, source, sample)
                keep(lower, found)
                cut.use_level(lower)
                break
        return _compute(draft, cut, level, source)

    for level in sorted(set(cut.levels), key=lambda level: (level.layers, level.pooled)):
        if level.layers:
            level = _find_form(cut, level, source, sample)
            limit_mib = source.cfg.trainer.cache_limit_mib
            found = cache.get_or_make("features", key(level), partial(make, level), limit_mib)
            cut.use_level(None)
            keep(level, found)
            runtime_s += found.built_s
    return runtime_s


def _find_form(cut: Cut, level: Level, source: _Source, sample: dict[str, Any]) -> Level:
    """See what the output at a level looks like; a head that needs all tokens lowers the level."""
    batch = {name: values for name, values in sample.items() if name != "row"}
    with source.precision():
        if level.pooled:
            try:
                cut.forms[level.name] = pooled_form(source.model, batch)
                return level
            except CutError:
                plain = Level(level.layers)
                cut.levels = [plain if own == level else own for own in cut.levels]
                level = plain
        layers = layer_modules(source.model, source.loaded.parts)
        if len(layers) < level.layers:
            raise CutError("its layers are not modules of their own")
        cut.forms[level.name] = layer_form(source.model, layers[level.layers - 1], batch)
    return level


def _compute(draft: cache.Draft, cut: Cut, level: Level, source: _Source) -> dict[str, Any]:
    """Run the frozen part over all rows, texts of one length together."""
    ends, cut_at = source.ends, _module(level, source)
    states: np.ndarray | None = None
    dtype = torch.float32
    for batch, rows in _batches(source):
        cut.load(batch.pop("row"), batch["input_ids"].shape[1], _device(source))
        with torch.inference_mode(), source.precision(), stopped_at(cut_at) as outputs:
            source.model(**batch)
        found = cut.forms[level.name].unwrap(outputs[0])
        dtype = found.dtype
        values = _stored(found, source.cfg)
        if states is None:
            count = len(ends) - 1 if level.pooled else int(ends[-1])
            states = draft.array("states", values.dtype, (count, values.shape[-1]))
        _place(states, values, rows, None if level.pooled else ends, cut.left)
    return {"dtype": str(dtype).removeprefix("torch."), "level": level.name}


def _place(
    states: np.ndarray, values: np.ndarray, rows: list[int], ends: np.ndarray | None, left: bool
) -> None:
    if ends is None:
        states[rows] = values
        return
    for row, line in zip(rows, values, strict=True):
        count = ends[row + 1] - ends[row]
        states[ends[row] : ends[row + 1]] = line[-count:] if left else line[:count]


def _stored(found: torch.Tensor, cfg: Config) -> np.ndarray:
    """As it goes into the file; what is computed in bf16 needs no more bits."""
    if cfg.trainer.feature_dtype == "bf16" or found.dtype == torch.bfloat16:
        return found.to(torch.bfloat16).cpu().view(torch.uint16).numpy()
    return found.float().cpu().numpy()


def _batches(source: _Source) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """All rows, the longest first, with their numbers."""
    order = np.argsort(np.diff(source.ends), kind="stable")[::-1]
    for start in range(0, len(order), BATCH):
        rows = [int(row) for row in order[start : start + BATCH]]
        yield _batch(source, rows), rows


def _batch(source: _Source, rows: list[int]) -> dict[str, Any]:
    padding = Padding.of(source.loaded.tokenizer, None)
    batch = padding([source.example(row) for row in rows])
    return {name: values.to(_device(source)) for name, values in batch.items()}


def _device(source: _Source) -> torch.device:
    return next(source.model.parameters()).device


def _sample(source: _Source) -> dict[str, Any]:
    """A few texts of all lengths."""
    order = np.argsort(np.diff(source.ends), kind="stable")
    picked = np.linspace(0, len(order) - 1, min(SAMPLE, len(order))).astype(int)
    return _batch(source, [int(order[i]) for i in picked])


def _check(cut: Cut, source: _Source) -> None:
    """Compare the cut model with the whole one.

    Raises:
        CutError: They give different logits.
    """
    batch = _sample(source)
    rows = batch.pop("row")
    precision, _ = precision_and_device(source.cfg.trainer)
    exact = source.cfg.trainer.feature_dtype == "fp32"
    tolerance = TOLERANCE.get(precision, LOOSE) if exact else LOOSE
    with torch.no_grad(), source.precision():
        cut.use_level(None)
        whole = source.model(**batch).logits.float()
        for level in set(cut.levels):
            cut.use_level(level)
            cut.load(rows, batch["input_ids"].shape[1], _device(source))
            off = float((source.model(**batch).logits.float() - whole).abs().max())
            if not off <= tolerance * max(1.0, float(whole.abs().max())):
                raise CutError(
                    f"the model cannot be cut at {level.name} (a logit differs by {off:.2g})"
                )


def _module(level: Level, source: _Source) -> nn.Module:
    if level.pooled:
        return backbone(source.model)
    return layer_modules(source.model, source.loaded.parts)[level.layers - 1]


def _surroundings(source: _Source) -> list[Any]:
    """What features depend on beside the level and the weights."""
    config: Any = getattr(source.model, "config", None)
    settings = config.to_dict() if hasattr(config, "to_dict") else {}
    for name in ("id2label", "label2id", "_name_or_path", "num_labels", "architectures"):
        settings.pop(name, None)
    precision, device = precision_and_device(source.cfg.trainer)
    return [
        source.tokens.key,
        type(source.model).__name__,
        json.dumps(settings, sort_keys=True, default=str),
        (precision, device, source.cfg.trainer.feature_dtype, torch.get_num_threads()),
        [version(name) for name in ("torch", "transformers")],
    ]


def _weights(level: Level, source: _Source, tensors: Mapping[str, str]) -> str:
    """Hash of every frozen tensor that may take part below a level, from its checksums."""
    digest = hashlib.sha256()
    depths = {tensor.name: tensor for tensor in source.report.tensors}
    for name in sorted(tensors):
        tensor = depths.get(name)
        below = tensor is None or (
            in_backbone(source.model, name)
            if level.name == POOLED
            else tensor.depth <= level.layers and not tensor.is_head
        )
        if below:
            digest.update(f"{name} {tensors[name]}\n".encode())
    return digest.hexdigest()
