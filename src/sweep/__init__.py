"""Compare fine-tuning strategies of transformer text classifiers.

import sweep

runs = sweep.load_runs()  # a DataFrame, one row per run
found = sweep.compare(margin=0.02)  # what the newest sweep shows
print(found.recommendation)
page = sweep.report()  # the page to open, written once more
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from sweep.api import Sweeps
    from sweep.comparison.results import Comparison

__version__ = "0.1.0"
__all__ = ["compare", "load_runs", "report"]


def load_runs(sweep: Sweeps = None, root: str | Path = "mlruns") -> pd.DataFrame:
    """Runs as a table, one row each.

    Args:
        sweep: Name or folder of a sweep, or several; None takes all.
        root: Folder `mlruns`, or the address of an MLflow store.

    Returns:
        run_id, name, strategy, status, reason, folder, and params.*, metrics.* and tags.* as
        MLflow names them.

    Raises:
        ConfigError: There is no such sweep.
    """
    from sweep import api

    return api.load_runs(sweep, root)


def compare(sweep: Sweeps = None, root: str | Path = "mlruns", **options: Any) -> Comparison:
    """What the runs of a sweep show: intervals, differences, baselines, a recommendation.

    Args:
        sweep: Name or folder of a sweep, or several that are read as one; None is the newest.
        root: Folder `mlruns`, or the address of an MLflow store.
        options: Keys of `compare`, such as margin=0.02 or cost="memory", in place of the sweep's.

    Raises:
        ConfigError: There is no such sweep, or an option is not allowed.
    """
    from sweep import api

    return api.compare(sweep, root, **options)


def report(
    sweep: Sweeps = None, root: str | Path = "mlruns", language: str | None = None, **options: Any
) -> Path:
    """Write the report of a sweep once more; returns the path of its page.

    Args:
        sweep: Name or folder of a sweep, or several that are read as one; None is the newest.
        root: Folder `mlruns`.
        language: `en` or `ko`; None is the sweep's.
        options: Keys of `compare`, in place of the sweep's.

    Raises:
        ConfigError: There is no such sweep, or an option is not allowed.
    """
    from sweep import api

    return api.report(sweep, root, language, **options)
