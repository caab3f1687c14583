"""Compare fine-tuning strategies of transformer text classifiers.

import sweep

runs = sweep.load_runs()  # a DataFrame, one row per run
comparison = sweep.compare(margin=0.02)  # of the newest sweep
print(comparison.recommendation)
page = sweep.report()  # the path of its page, written again
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
