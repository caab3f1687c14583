"""Imported once by the server that run processes are forked from; see `forkserver.start`."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import signal
import warnings

import sqlalchemy.orm
import transformers
import transformers.conversion_mapping

from sweep.base import environment, process_groups
from sweep.execution.stop_requests import NOTICES
from sweep.models import bitsandbytes_import

# A process that has started CUDA cannot be forked. Whether there is a GPU is asked of the driver.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
bitsandbytes_import.hide()
process_groups.forget()
for module in (
    "mlflow.store.tracking.sqlalchemy_store",  # every client of a database loads it
    "sweep.features.compute",
    "sweep.runs.confusion_plot",
    "sweep.runs.run",
    "sweep.tracking.connect",
    "sweep.training.metrics",
    "sweep.training.train",
):
    importlib.import_module(module)

# A scheduler signals the whole group; the runs answer for themselves, the server outlives them.
for notice in (signal.SIGTERM, *NOTICES):
    signal.signal(notice, signal.SIG_IGN)
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
warnings.filterwarnings("ignore", category=FutureWarning)
for name in ("mlflow", "alembic"):
    logging.getLogger(name).setLevel(logging.ERROR)
sqlalchemy.orm.configure_mappers()
transformers.conversion_mapping.get_checkpoint_conversion_mapping("bert")  # compiles all of them
environment.versions()  # read from a hundred folders; every run tags them
# accelerate collects garbage in every run: 0.4 s over all that was imported here, and each page it
# touches is copied.
gc.collect()
gc.freeze()
