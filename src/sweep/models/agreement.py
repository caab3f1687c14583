"""Check that config.json, weights and tokenizer of a model's folder belong together.

Nothing here reads a weight: a model on the meta device and the names and shapes that transformers
finds in the checkpoint are enough, so that all of it is known before the first run.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweep.models.parts import Parts, layer_indices

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHOWN = 3
"""How many tokens or names a message shows."""
LEAST_USED_ROWS = 0.8
"""Share of the embeddings that the tokenizer of a model uses; rounding up leaves a few per cent."""
RESTORE = "Restore the config.json of these weights, or save the model anew with save_pretrained()."
WRAPPERS = {"_orig_mod": "torch.compile", "module": "DataParallel"}
_BUFFERS = re.compile(
    r".*(inv_freq|masked_bias|position_ids|token_type_ids|(attn|attention)\.bias)$"
)
"""Tables that older versions of transformers saved, and newer ones compute."""
_POSITIONS = re.compile(r"(.*\.)?(position_embeddings?|embed_positions|wpe)")
_DIGITS = re.compile(r"(?<=\.)\d+(?=\.)")


@dataclass(frozen=True)
class Checkpoint:
    """The tensors that a checkpoint has and lacks, beside the model that config.json makes."""

    names: Sequence[str]
    """Of the model's parameters."""
    missing: frozenset[str]
    """Parameters that the checkpoint lacks."""
    unexpected: frozenset[str]
    """Tensors of the checkpoint that the model has no place for."""
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    """Parameter -> shape in the checkpoint and in the model, where they differ."""
    prefix: str = ""
    """What a backbone's own checkpoint leaves out of the names."""

    @classmethod
    def of(cls, model: PreTrainedModel, info: Mapping[str, Any]) -> Checkpoint:
        """Read what `from_pretrained(output_loading_info=True)` tells."""
        return cls(
            [name for name, _ in model.named_parameters()],
            frozenset(info["missing_keys"]),
            frozenset(name for name in info["unexpected_keys"] if not _BUFFERS.fullmatch(name)),
            {name: (tuple(old), tuple(new)) for name, old, new in info["mismatched_keys"]},
            model.base_model_prefix,
        )

    def new_names(self, parts: Parts) -> frozenset[str]:
        """Return the backbone parameters that the checkpoint lacks."""
        return frozenset(self.missing & set(self.names)) - _head(self.names, parts)

    def unused(self) -> frozenset[str]:
        """Return modules of the checkpoint, such as other heads, that a classifier does not use."""
        return frozenset(".".join(name.split(".")[:-1][:2]) or name for name in self.unexpected)


def weight_errors(
    where: str, checkpoint: Checkpoint, parts: Parts, values: Mapping[str, Any]
) -> list[str]:
    """Complain about weights that are not those that config.json describes.

    Args:
        where: The model as the user named it.
        checkpoint: Names and shapes.
        parts: Of the model.
        values: What config.json says, to name the key that a size comes from.
    """
    fresh = _in_layers(checkpoint.missing, checkpoint, parts)
    wrapper = _wrapper(checkpoint) if fresh else ""
    if wrapper:
        by = WRAPPERS.get(wrapper.split(".")[0], "a wrapper")
        return [
            f"{where} has weights whose names begin with {wrapper + '.'!r}, as {by} leaves them, so"
            " that no layer finds its own. Save the model inside of it with save_pretrained()."
        ]
    shapes = {k: v for k, v in checkpoint.shapes.items() if k not in _head(checkpoint.names, parts)}
    return [
        *_shape_errors(where, shapes, values),
        *_missing_errors(where, fresh),
        *_surplus_errors(where, checkpoint, parts),
    ]


def token_errors(where: str, tokenizer: Any, model: PreTrainedModel) -> list[str]:
    """Complain about indices that the tokenizer can give and no embedding stands for."""
    given = tokenizer("a")
    return [
        *_index_errors(where, tokenizer, _rows(model), given["input_ids"]),
        *_type_errors(where, model, given.get("token_type_ids", [])),
    ]


def usable_positions(model: PreTrainedModel) -> int | None:
    """Return how many tokens the model has position embeddings for; None where nothing limits them.

    RoBERTa and its kin number positions from the padding index on, BART from an offset.
    """
    stated = getattr(model.config, "max_position_embeddings", None)
    limits = [stated] if isinstance(stated, int) and stated > 0 else []
    for name, module in model.named_modules():
        if _POSITIONS.fullmatch(name) and hasattr(module, "weight"):
            padding = getattr(module, "padding_idx", None)
            skipped = getattr(module, "offset", 0) if padding is None else padding + 1
            limits.append(int(module.weight.shape[0]) - skipped)
    return min(limits, default=None)


def _shape_errors(
    where: str, shapes: Mapping[str, Sequence[tuple[int, ...]]], values: Mapping[str, Any]
) -> list[str]:
    if not shapes:
        return []
    name = min(shapes, key=lambda name: (len(shapes[name][0]) < 2, name))
    has, wants = shapes[name]
    sizes = set(wants) - set(has)
    keys = [f"{key}={v}" for key, v in values.items() if type(v) is int and v in sizes]
    source = f" ({', '.join(keys)})" if keys else ""
    tensors = "1 tensor has" if len(shapes) == 1 else f"{len(shapes)} tensors have"
    return [
        f"{where} has weights that do not fit its config.json: {tensors} another shape, for example"
        f" {name!r} {_shape(has)}, which config.json{source} makes {_shape(wants)}. {RESTORE}"
    ]


def _missing_errors(where: str, fresh: Sequence[str]) -> list[str]:
    """Complain about a checkpoint of something else, which would leave the layers to chance."""
    if not fresh:
        return []
    return [
        f"{where} has weights that do not fit its config.json: {len(fresh)} tensors of its layers"
        f" are not among them, for example {fresh[0]!r}. Give the folder of a model saved with"
        " save_pretrained()."
    ]


def _surplus_errors(where: str, checkpoint: Checkpoint, parts: Parts) -> list[str]:
    """Complain about a layer, or a tensor inside one, that is left out: it makes another model."""
    surplus = _in_layers(checkpoint.unexpected, checkpoint, parts)
    if not surplus:
        return []
    layers = len(set(layer_indices(checkpoint.names, parts).values()))
    return [
        f"{where} has weights that its config.json has no place for: {len(surplus)} tensors of"
        f" layers would be left out, for example {surplus[0]!r}; config.json makes {layers} layers."
        f" {RESTORE}"
    ]


def _in_layers(names: Collection[str], checkpoint: Checkpoint, parts: Parts) -> list[str]:
    """Return the names that belong to a layer, be it one that the model has or not."""
    known = {_DIGITS.sub("N", name) for name in checkpoint.names}
    known = {name for name in known if ".N." in name}
    return [
        name
        for name in sorted(names)
        if any(
            _DIGITS.sub("N", full) in known or layer_indices([full], parts)
            for full in (name, f"{checkpoint.prefix}.{name}")
        )
    ]


def _wrapper(checkpoint: Checkpoint) -> str:
    """Return the prefix of most tensors that the model looks for in vain."""
    wanted = {*checkpoint.missing} | {
        name.removeprefix(f"{checkpoint.prefix}.") for name in checkpoint.missing
    }
    for depth in (1, 2, 3):
        split = [name.split(".", depth) for name in sorted(checkpoint.unexpected)]
        fitting = [steps[:-1] for steps in split if len(steps) > depth and steps[-1] in wanted]
        if len(fitting) * 2 > len(checkpoint.missing):
            return ".".join(fitting[0])
    return ""


def _head(names: Sequence[str], parts: Parts) -> frozenset[str]:
    return frozenset(name for name in names if re.fullmatch(str(parts["head"]), name))


def _rows(model: PreTrainedModel) -> int | None:
    """Count the rows of the word embeddings; None where the model does not say which those are."""
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (NotImplementedError, AttributeError):
        return None


def _index_errors(where: str, tokenizer: Any, rows: int | None, given: Sequence[int]) -> list[str]:
    tokens = {index: token for token, index in tokenizer.get_vocab().items()}
    tokens |= {index: f"token {index}" for index in given if index not in tokens}
    beyond = sorted(index for index in tokens if rows is not None and index >= rows)
    if not beyond:
        return _surplus_of_rows(where, len(tokens), rows)
    more = ", ..." if len(beyond) > SHOWN else ""
    shown = ", ".join(f"{tokens[index]!r} ({index})" for index in beyond[:SHOWN]) + more
    return [
        f"{where} has a tokenizer that knows {max(tokens) + 1} tokens, and a model that knows"
        f" {rows}: there is no embedding for {shown}. Give the model one for each, with"
        f" model.resize_token_embeddings({max(tokens) + 1}) and save_pretrained(), or put the"
        " tokenizer of this model into the folder."
    ]


def _surplus_of_rows(where: str, tokens: int, rows: int | None) -> list[str]:
    """Complain about rows that no token stands for; a few only round their number up."""
    if rows is None or tokens >= rows * LEAST_USED_ROWS or rows - tokens < 1000:
        return []
    return [
        f"{where} has a tokenizer that knows {tokens:,} tokens, and a model that knows {rows:,}, so"
        " it is hardly the one that the model was trained with. Put the tokenizer of this model"
        f" into the folder, or, if it is, drop the unused rows with"
        f" model.resize_token_embeddings({tokens}) and save_pretrained()."
    ]


def _type_errors(where: str, model: PreTrainedModel, types: Sequence[int]) -> list[str]:
    """Complain about types of tokens that tell two texts of a pair apart."""
    errors = []
    for name, module in model.named_modules():
        if name.endswith("token_type_embeddings") and hasattr(module, "weight"):
            rows = int(module.weight.shape[0])
            if max(types, default=0) >= rows:
                errors.append(
                    f"{where} has a tokenizer that gives tokens of type {max(types)}, and a model"
                    f" that knows {rows} types, counted from 0. Put the tokenizer of this model"
                    " into the folder."
                )
    return errors


def _shape(sizes: Sequence[int]) -> str:
    return f"({', '.join(map(str, sizes))})"
