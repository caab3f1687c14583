"""Compare fine-tuning strategies of transformer text classifiers.

import sweep

runs = sweep.load_runs()  # a DataFrame, one row per run
comparison = sweep.compare(margin=0.02)  # of the newest sweep
print(comparison.recommendation)
page = sweep.report()  # the path of its page, written again
labels = sweep.predict(None, ["a text"])  # by its recommended run, if that saved its model
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

    from sweep.api import Sweeps
    from sweep.comparison.results import Comparison

__version__ = "0.1.0"
__all__ = ["compare", "load_runs", "predict", "report"]


def load_runs(sweep: Sweeps = None, root: str | Path = "mlruns") -> pd.DataFrame:
    """Return runs as a table, one row each.

    Args:
        sweep: Name or folder of a sweep, or several; None loads all sweeps.
        root: Folder `mlruns`, or the address of an MLflow store.

    Returns:
        Columns run_id, name, strategy, status, reason, folder, and params.*, metrics.* and
        tags.* as MLflow names them.

    Raises:
        ConfigError: There is no such sweep.
    """
    from sweep import api

    return api.load_runs(sweep, root)


def compare(sweep: Sweeps = None, root: str | Path = "mlruns", **options: Any) -> Comparison:
    """Return what the runs of a sweep show: intervals, differences, baselines, a recommendation.

    Args:
        sweep: Name or folder of a sweep, or several that are compared as one; None is the newest.
        root: Folder `mlruns`, or the address of an MLflow store.
        options: Keys of `compare`, such as margin=0.02 or cost="memory"; the sweep's by default.

    Raises:
        ConfigError: There is no such sweep, or an option is not allowed.
    """
    from sweep import api

    return api.compare(sweep, root, **options)


def report(
    sweep: Sweeps = None, root: str | Path = "mlruns", language: str | None = None, **options: Any
) -> Path:
    """Write the report of a sweep again, and return the path of its page.

    Args:
        sweep: Name or folder of a sweep, or several that are compared as one; None is the newest.
        root: Folder `mlruns`.
        language: `en` or `ko`; the sweep's by default.
        options: Keys of `compare`; the sweep's by default.

    Raises:
        ConfigError: There is no such sweep, or an option is not allowed.
    """
    from sweep import api

    return api.report(sweep, root, language, **options)


def predict(
    model: str | Path | None, texts: Sequence[str], root: str | Path = "mlruns"
) -> pd.DataFrame:
    """Return labels for new texts, by a model that was trained with trainer.save_model=true.

    Args:
        model: Folder of a run, or name or folder of a sweep, of which it is the recommended run;
            None is the newest sweep.
        texts: One per row.
        root: Folder `mlruns`.

    Returns:
        Columns id, text, prediction and, per class, p_CLASS: its probability.

    Raises:
        ConfigError: There is no such run, or it has saved no model.
    """
    from sweep import api

    return api.predict(model, texts, root)
