"""Entry point: `python -m sweep.predict SWEEP|RUN texts.csv [--output labels.csv]`."""

from __future__ import annotations

import sys

from sweep.commands.predict import main

if __name__ == "__main__":
    sys.exit(main())
