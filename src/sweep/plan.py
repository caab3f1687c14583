"""Entry point: `python -m sweep.plan freeze=attention,full,none seed=0,1,2`."""

from __future__ import annotations

import sys

from sweep.commands.plan import main

if __name__ == "__main__":
    sys.exit(main())
