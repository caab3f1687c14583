"""Imported once by the server that run processes are forked from; see `execute.start_server`."""

import contextlib
import gc
import logging
import signal
import warnings

import mlflow  # noqa: F401
import torch
import transformers

from sweep import adapters, environment, features, metrics, opening, plots, run, train  # noqa: F401

# A scheduler signals the whole group; the runs answer for themselves, the server outlives them.
signal.signal(signal.SIGTERM, signal.SIG_IGN)
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
warnings.filterwarnings("ignore", category=FutureWarning)
# It takes seconds to import, but brings bitsandbytes along, which starts CUDA: no process could be
# forked after that.
if torch.version.cuda is None:
    with contextlib.suppress(ImportError):
        adapters.load_peft()
for name in ("mlflow", "alembic"):
    logging.getLogger(name).setLevel(logging.ERROR)
environment.versions()  # read from a hundred folders; every run tags them
# accelerate collects garbage in every run: 0.4 s over all that was imported here, and each page it
# touches is copied.
gc.collect()
gc.freeze()
