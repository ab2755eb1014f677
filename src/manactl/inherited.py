"""What whoever started us has left to us, and a command of the operator's gets as it was."""

from __future__ import annotations

# The signal module makes enums of all of them, which takes a tenth of the time of `--version`.
from _signal import (  # type: ignore[import-not-found]
    SIG_DFL,
    SIG_IGN,
    SIGCHLD,
    getsignal,
    signal,
)

sigchld_ignored = False  # until hear_of_children()


def hear_of_children() -> None:
    """Have the ends of our children reported to us.

    An ignored SIGCHLD is inherited through execve(), and where it is ignored the kernel keeps no
    exit status (do_notify_parent()): waitid() fails, and subprocess takes that for success.
    """
    global sigchld_ignored  # noqa: PLW0603 - of the process, as the signal's action is
    if getsignal(SIGCHLD) == SIG_IGN:
        sigchld_ignored = True
        signal(SIGCHLD, SIG_DFL)
