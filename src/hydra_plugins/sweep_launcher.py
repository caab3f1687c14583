"""The launcher `local`, in the one package that Hydra takes launchers from.

Every program that uses Hydra loads this file where sweep is installed, so it is light.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher


class LocalLauncher(Launcher):
    """Names sweep's scheduler, which `python -m sweep` calls without going through Hydra.

    Another program may still come to it, say one that reads sweep's configuration: it is refused.
    """

    def setup(self, **_: Any) -> None:
        """Keep nothing."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Refuse, with a message that Hydra prints alone: there is no scheduler here."""
        raise CompactHydraException(
            "hydra/launcher=local starts the runs of `python -m sweep` and of no other program."
            " Choose one of Hydra's launchers, such as hydra/launcher=basic."
        )
