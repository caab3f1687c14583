"""Run the command `python -m sweep.predict`: labels for new texts, by a model that a run has saved.

Texts are read as the run read its data, and computed as it computed. Exit status: 0, or 2 for a
mistake in the arguments.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.base import csv_cells
from sweep.base.layout import ROOT, RunPaths, SweepPaths
from sweep.commands.arguments import OptionParser
from sweep.config.schema import Config, ConfigError
from sweep.runs import read_outputs, read_records
from sweep.runs.record import Record, read_record

if TYPE_CHECKING:
    import pandas as pd

HELP = """usage: python -m sweep.predict SWEEP|RUN FILE [--output FILE]
       python -m sweep.predict SWEEP|RUN "a text" ["another"]

Labels new texts with a model that was trained with trainer.save_model=true.

  SWEEP    a name under mlruns/sweeps, or a folder: the recommended run with a saved model
  RUN      the folder of one run, mlruns/sweeps/SWEEP/000_none
  FILE     what data.path takes; its texts are in the column that the run read. Other arguments that
           are no files are texts

options:
  --output FILE      write id, text, prediction and the probability of each class as CSV
  --column NAME      column of the texts, if it is called otherwise here
  --help             this text
"""
SHOWN = 20
"""Lines printed of a file when nothing is said of the output."""


@dataclass(frozen=True)
class SavedRun:
    """A finished run with its saved model."""

    record: Record
    cfg: Config
    label_names: list[str]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = OptionParser("sweep.predict")
    parser.add_argument("--output")
    parser.add_argument("--column")
    try:
        arguments, rest = parser.parse_known_args(sys.argv[1:] if argv is None else argv)
        if arguments.help:
            print(HELP, end="")
            return 0
        _command(rest, arguments.output, arguments.column)
    except ConfigError as error:
        for message in error.messages:
            print(f"error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _command(words: Sequence[str], output: str | None, column: str | None) -> None:
    if unknown := [word for word in words if word.startswith("--")]:
        raise ConfigError(f"{unknown[0]} is no option of sweep.predict. See --help.")
    if len(words) < 2:
        raise ConfigError(
            "sweep.predict takes a sweep or a run, and then a file or texts. See --help."
        )
    saved = find(words[0])
    texts = _texts(words[1:], saved.cfg, column)
    print(f"{saved.record.name} of {Path(saved.record.folder).parent.name}: {len(texts):,} texts")
    table = predict(saved, texts)
    if output is not None:
        for name in ("text", "prediction"):
            table[name] = table[name].map(csv_cells.harmless)
        table.to_csv(output, index=False)
        print(f"written to {output}")
        return
    for text, label, *shares in table.head(SHOWN).drop(columns="id").itertuples(index=False):
        print(f"{label} {max(shares):.2f}\t{text[:80]}")
    if len(table) > SHOWN:
        print(f"{len(table) - SHOWN:,} more; --output FILE writes all")


def find(name: str | Path, root: str | Path = ROOT) -> SavedRun:
    """Return the run that a name or folder means: the recommended one of a sweep.

    Raises:
        ConfigError: There is none, or none that has saved its model.
    """
    folder = Path(name)
    if RunPaths(folder.parent).record.exists():  # its model/ was given
        folder = folder.parent
    if RunPaths(folder).record.exists():
        record = read_record(folder)
        records = [record] if record is not None else []
    else:
        records = _recommended(read_records.sweep_folder(name, root))
    with_model = [r for r in records if r.status == "FINISHED" and r.paths.model.is_dir()]
    if not with_model:
        raise ConfigError(
            f"{str(name)!r} has no finished run with a saved model"
            f"{' among the recommended' if len(records) > 1 else ''}. Run it once more with"
            " trainer.save_model=true, or give the folder of another run."
        )
    record = min(with_model, key=lambda r: r.metrics.get("eval_loss", float("inf")))
    cfg, stored = read_outputs.settings(record), read_outputs.predictions(record)
    if cfg is None or not stored.classes:
        raise ConfigError(
            f"{record.folder} lacks config.yaml or predictions.csv, which say how its model is"
            " used. Restore them, or train it anew."
        )
    return SavedRun(record, cfg, stored.classes)


def predict(saved: SavedRun, texts: Sequence[str]) -> pd.DataFrame:
    """Return id, text, prediction and the probability of each class, one row per text.

    Raises:
        ConfigError: No texts, or a base model that is no longer there.
    """
    import numpy as np
    import pandas as pd

    from sweep.base.device import resolve_hardware
    from sweep.data.encode import encode
    from sweep.data.splits import Split
    from sweep.training import saved_model, train
    from sweep.training.trainer import Subject

    if not texts:
        raise ConfigError("there are no texts to label.")
    hardware = resolve_hardware(saved.cfg.trainer)
    model, tokenizer = saved_model.load(
        saved.cfg, saved.record.paths.model, saved.label_names, hardware
    )
    rows = len(texts)
    split = Split([*texts], np.zeros(rows, np.int64), np.arange(rows))
    part = encode(split, tokenizer, saved.cfg.data, by_length=True)
    with tempfile.TemporaryDirectory() as scratch:
        subject = Subject(model.eval(), tokenizer, hardware)
        shares = train.predict(subject, part, saved.cfg, Path(scratch))
    names = np.array(saved.label_names, object)
    table = pd.DataFrame(
        {"id": range(rows), "text": [*texts], "prediction": names[shares.argmax(-1)]}
    )
    return table.join(pd.DataFrame(shares, columns=[f"p_{name}" for name in saved.label_names]))


def _recommended(folder: Path) -> list[Record]:
    """Return the finished runs of what a sweep recommends, or all where it recommends nothing."""
    from sweep.comparison import verdict, winners
    from sweep.config.schema import CompareConfig

    records = read_records.load(folder)
    settings = read_outputs.read_plan(folder).settings
    options = settings.compare if settings is not None else CompareConfig()
    has_baselines = SweepPaths(folder).baselines.exists()
    comparison = verdict.judge(records, options, folder if has_baselines else None)
    return winners.winners(comparison) or [r for r in records if r.status == "FINISHED"]


def _texts(words: Sequence[str], cfg: Config, column: str | None) -> list[str]:
    """Return the texts of a file, or the words themselves."""
    from sweep.data import table_files
    from sweep.data.files import KINDS

    files = [w for w in words if Path(w).exists() or Path(w).suffix.lower() in KINDS]
    if not files:
        return [*words]
    if len(words) > 1:
        raise ConfigError(
            f"sweep.predict takes one file, or texts; {files[0]!r} is a file among {len(words)}"
            " arguments. Give it alone."
        )
    data = cfg.data if column is None else replace(cfg.data, text_column=column)
    return table_files.read_texts(words[0], data)
