"""Write the files that a run leaves: curves, predictions, the trained model."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sweep.base.disk import write_atomically
from sweep.base.layout import RunPaths
from sweep.data.splits import Split, Splits
from sweep.runs import predictions
from sweep.strategies.freeze_report import FreezeReport
from sweep.tracking.outbox import Outbox
from sweep.training.progress import Progress

if TYPE_CHECKING:
    from sweep.training.train import TrainResult


@dataclass
class Curves:
    """The points of a run's curves: on disk, in the store and on the screen."""

    folder: Path
    outbox: Outbox
    progress: Progress
    last_step: int = 0

    def add(self, metrics: dict[str, float], step: int, steps: int) -> None:
        """Take what was measured at a step."""
        now, self.last_step = time.time(), max(self.last_step, step)
        with RunPaths(self.folder).curves.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"metrics": metrics, "step": step, "time": now}) + "\n")
        self.outbox.log([(metrics, step, now)])
        self.progress(metrics, step, steps)

    def cut(self, step: int) -> None:
        """Forget points behind a step, which will come again."""
        path = RunPaths(self.folder).curves
        if not path.exists():
            return
        lines = path.read_text("utf-8").splitlines()
        remaining = [x for x in lines if x.endswith("}") and json.loads(x)["step"] <= step]
        write_atomically(path, "".join(f"{line}\n" for line in remaining))


def write_results(folder: Path, splits: Splits, report: FreezeReport, result: TrainResult) -> None:
    """Write what was predicted, how often what for what, and when what was thawed."""
    from sweep.runs import confusion_plot

    if result.stages:
        RunPaths(folder).freeze.write_text(report.to_json(stages=result.stages), "utf-8")
    name, label_names = result.reported, splits.label_names
    table = _predictions(getattr(splits, name), result.probabilities[name], label_names)
    predictions.write(table, folder)
    confusion_plot.confusion_matrix(table["label"], table["prediction"], label_names, folder, name)


def _predictions(split: Split, probabilities: np.ndarray, label_names: list[str]) -> pd.DataFrame:
    """Return one row per text: id, label, prediction, and the probability of each class."""
    names = np.array(label_names)
    table = pd.DataFrame(
        {
            "id": split.ids,
            "label": names[split.labels],
            "prediction": names[probabilities.argmax(-1)],
        }
    )
    return table.join(pd.DataFrame(probabilities, columns=[f"p_{name}" for name in label_names]))
