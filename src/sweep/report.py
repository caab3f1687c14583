"""Entry point: `python -m sweep.report [SWEEP ...] [report.language=ko] [compare.margin=0.02]`."""

from __future__ import annotations

import sys

from sweep.commands.report import main

if __name__ == "__main__":
    sys.exit(main())
