"""Imported once by the server that run processes are forked from; see `execute.start_server`."""

import contextlib
import logging
import warnings

import mlflow  # noqa: F401
import transformers

from sweep import adapters, metrics, plots, run, track, train  # noqa: F401

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
warnings.filterwarnings("ignore", category=FutureWarning)
with contextlib.suppress(ImportError):  # an extra, and seconds to import
    adapters.load_peft()
for name in ("mlflow", "alembic"):
    logging.getLogger(name).setLevel(logging.ERROR)
