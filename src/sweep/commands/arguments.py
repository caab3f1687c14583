"""The options of a command; a mistake in one is told as any other mistake is."""

from __future__ import annotations

import argparse
from typing import NoReturn

from sweep.config.schema import ConfigError


class OptionParser(argparse.ArgumentParser):
    """Parser of what begins with `--`; what it does not know is left to the overrides."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, add_help=False, allow_abbrev=False)
        self.add_argument("--config-dir", "-cd")
        self.add_argument("--help", "-h", action="store_true")

    def error(self, message: str) -> NoReturn:
        """Raise a ConfigError where argparse would print its usage and leave."""
        reason = message.removeprefix("argument ").rstrip(".")
        raise ConfigError(f"{reason}. Write python -m {self.prog} --help for what there is.")
