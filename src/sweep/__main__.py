"""Entry point: `python -m sweep freeze=attention,full,none`."""

from __future__ import annotations

import sys

from sweep.commands.sweep import main

if __name__ == "__main__":
    sys.exit(main())
