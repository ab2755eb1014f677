"""`python3 -m manactl`, and the entry point of the installed command."""

from __future__ import annotations

import sys

from manactl.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
