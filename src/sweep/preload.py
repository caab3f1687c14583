"""Imported once by the server that run processes are forked from; see `execute.start_server`."""

import logging
import warnings

import mlflow  # noqa: F401
import transformers

from sweep import metrics, plots, run, track, train  # noqa: F401

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
warnings.filterwarnings("ignore", category=FutureWarning)
for name in ("mlflow", "alembic"):
    logging.getLogger(name).setLevel(logging.ERROR)
