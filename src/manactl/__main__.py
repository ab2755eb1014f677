"""`python3 -m manactl`, and the entry point of the installed command."""

from __future__ import annotations

import os
import sys

from manactl.inherited import hear_of_children


def occupy_standard_descriptors() -> None:
    """Whoever started us may have closed 0, 1 or 2, and the next file would get that number.

    /dev/null takes their place, open the wrong way round: to use one is an error still.
    """
    for number, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # the lowest that is free
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


occupy_standard_descriptors()
hear_of_children()

try:
    from manactl.cli.main import main
except KeyboardInterrupt:
    # ^C while modules load: nothing was looked at yet, and main() is not there to say so.
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(main())
