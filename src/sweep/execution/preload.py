"""Imported once by the server that run processes are forked from; see `forkserver.start`."""

import gc
import logging
import signal
import warnings

import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  # every client of a database loads it
import sqlalchemy.orm
import transformers
import transformers.conversion_mapping

from sweep.base import environment  # noqa: F401
from sweep.features import compute  # noqa: F401
from sweep.runs import (
    confusion_plot,  # noqa: F401
    run,  # noqa: F401
)
from sweep.tracking import connect  # noqa: F401
from sweep.training import (
    metrics,  # noqa: F401
    train,  # noqa: F401
)

# A scheduler signals the whole group; the runs answer for themselves, the server outlives them.
signal.signal(signal.SIGTERM, signal.SIG_IGN)
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
