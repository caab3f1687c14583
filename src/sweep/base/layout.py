"""Names of all files and folders that sweeps and runs leave; no other module spells them.

    mlruns/                       RootPaths
      sweeps/2026-.../            SweepPaths
        report/                   ReportPaths
        000_attention/            RunPaths

What stands inside a cache entry, a checkpoint or a saved model is named by the module that owns its
format. Nothing is read or made here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path("mlruns")
"""Everything a sweep leaves goes there, in the current directory."""
LOCK = "alive.lock"
"""In the folder of a run or sweep: held, and touched, for as long as its process lives."""
HOST = "alive.host"
"""Name of the machine that this process is on."""
ENTRIES = "store.jsonl"
"""What the store is to be told of a run or sweep, one entry per line."""
STATE = "store.json"
"""Which store that is, and how much of it the store has heard."""
PRIVATE = ("store.", "alive.", ".")
"""How names begin of what only this machine needs."""


@dataclass(frozen=True)
class RootPaths:
    """The files and folders that all sweeps of one directory share."""

    folder: Path = ROOT

    @property
    def sweeps(self) -> Path:
        """One folder per sweep."""
        return self.folder / "sweeps"

    @property
    def keys(self) -> Path:
        """A lock and the list of its folders, per run key."""
        return self.folder / "keys"

    @property
    def cache(self) -> Path:
        """Token ids, stored features and baselines."""
        return self.folder / "cache"

    @property
    def reports(self) -> Path:
        """Reports on several sweeps, or on one whose folder is gone."""
        return self.folder / "reports"

    @property
    def database(self) -> Path:
        """The MLflow store."""
        return self.folder / "mlflow.db"

    @property
    def artifacts(self) -> Path:
        """Files that the MLflow store was given."""
        return self.folder / "artifacts"


@dataclass(frozen=True)
class SweepPaths:
    """One sweep."""

    folder: Path

    @property
    def plan(self) -> Path:
        """The runs that there are to be, and the folder of each."""
        return self.folder / "sweep.json"

    @property
    def baselines(self) -> Path:
        return self.folder / "baselines.json"

    @property
    def report(self) -> Path:
        return self.folder / "report"

    @property
    def report_error(self) -> Path:
        """The reason why there is no report."""
        return self.folder / "report_error.txt"

    @property
    def launcher(self) -> Path:
        """The output of a launcher of Hydra's."""
        return self.folder / "launcher"

    def run(self, index: int, strategy: str) -> Path:
        """Return the folder of a run's first try."""
        return self.folder / f"{index:03d}_{strategy}"

    def records(self) -> list[Path]:
        """Return the records that runs have left, in the order of the runs."""
        return sorted(self.folder.glob(f"*/{RunPaths(Path()).record}"))


@dataclass(frozen=True)
class ReportPaths:
    """The report of a sweep."""

    folder: Path

    @property
    def page(self) -> Path:
        return self.folder / "index.html"

    @property
    def table(self) -> Path:
        return self.folder / "summary.csv"

    @property
    def markdown(self) -> Path:
        return self.folder / "summary.md"

    @property
    def recommendation(self) -> Path:
        return self.folder / "recommendation.json"

    def figure(self, name: str) -> Path:
        return self.folder / f"figure_{name}.svg"

    def figures(self) -> list[Path]:
        """Return all figures that are there."""
        return sorted(self.folder.glob(self.figure("*").name))


@dataclass(frozen=True)
class RunPaths:
    """One try of a run."""

    folder: Path

    @property
    def record(self) -> Path:
        """Status, params, metrics, tags and notes."""
        return self.folder / "record.json"

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def freeze(self) -> Path:
        """The entry of each tensor: trained or frozen, and the reason."""
        return self.folder / "freeze.json"

    @property
    def environment(self) -> Path:
        return self.folder / "environment.json"

    @property
    def curves(self) -> Path:
        """Metrics over optimizer steps, one point per line."""
        return self.folder / "curves.jsonl"

    @property
    def predictions(self) -> Path:
        """Label, prediction and probabilities of each reported text."""
        return self.folder / "predictions.csv"

    @property
    def confusion_matrix(self) -> Path:
        return self.folder / "confusion_matrix.png"

    @property
    def seal(self) -> Path:
        """Size and checksum of what a finished run has left."""
        return self.folder / "seal.json"

    @property
    def log(self) -> Path:
        """All that the process printed."""
        return self.folder / "run.log"

    @property
    def model(self) -> Path:
        """The trained weights, with trainer.save_model."""
        return self.folder / "model"

    @property
    def checkpoints(self) -> Path:
        """The files that only the training itself needs; gone once it has finished."""
        return self.folder / "checkpoints"

    def next_try(self) -> Path:
        """Return the folder of a run tried again: 003_none, 003_none_2, 003_none_3."""
        stem, _, number = self.folder.name.rpartition("_")
        again = number.isdigit() and stem
        base, count = (stem, int(number)) if again else (self.folder.name, 1)
        return self.folder.with_name(f"{base}_{count + 1}")

    def artifacts(self) -> list[Path]:
        """Return the files that belong into the store: all but those only this machine needs."""
        private = (*PRIVATE, self.checkpoints.name)
        return sorted(path for path in self.folder.iterdir() if not path.name.startswith(private))
