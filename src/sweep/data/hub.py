"""Data sets of the Hugging Face Hub, or folders of theirs, through the `datasets` library."""

from __future__ import annotations

import pandas as pd

from sweep.base.files import reason_of
from sweep.config.schema import ConfigError, DataConfig


def read(split: str, name: str, cfg: DataConfig) -> tuple[pd.DataFrame, list[str] | None, str]:
    """Return the rows of one split, the classes that it declares, and what messages call it."""
    import datasets

    datasets.disable_progress_bars()
    where = f"data.dataset={cfg.dataset!r} (split {split!r})"
    try:
        loaded = datasets.load_dataset(
            cfg.dataset, cfg.configuration, revision=cfg.revision, split=split
        )
    except Exception as error:  # the library raises a dozen unrelated types here
        raise ConfigError(
            f"{where} cannot be loaded: {reason_of(error)}."
            " Check the name, data.configuration and data.revision. Without a network, use"
            " data=csv, or load the dataset once while online and set HF_HUB_OFFLINE=1."
        ) from None
    frame = loaded.to_pandas()
    names = getattr(loaded.features.get(cfg.label_column), "names", None)
    if names:  # class indices become the names that the data set declares; -1 is no label
        frame[cfg.label_column] = frame[cfg.label_column].map(
            lambda i: names[int(i)] if pd.notna(i) and int(i) >= 0 else ""
        )
    return frame, names, where
