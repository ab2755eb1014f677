"""`python3 -m manactl`, and the entry point of the installed command."""

from __future__ import annotations

import sys

try:
    from manactl.cli.main import main
except KeyboardInterrupt:
    # ^C while modules load: nothing was looked at yet, and main() is not there to say so.
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(main())
