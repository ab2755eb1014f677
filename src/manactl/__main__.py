"""`python3 -m manactl`, and the entry point of the installed command."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys

from manactl.inherited import hear_of_children

OUTPUT = "manactl_output"
"""Of our own among Python's -X: the encoding that is printed in."""

FEW = 100_000
"""Objects that may wait for the cycle collector: a claim has made half of them when it ends. What
runs for days (hold, --watch) is collected as ever, later: some 10 MiB at most."""


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


def leave_the_locale() -> None:
    """Names and values of the kernel are bytes, nearly always UTF-8. In a locale of another encoding
    Python would ask for other names of files and pass on other words: so it is executed again, in
    its UTF-8 mode. What was typed stays the same bytes, and what is printed is in the locale's
    encoding. The environment, which a command of the operator's gets, is left as it is.
    """
    if sys.flags.utf8_mode or sys.getfilesystemencoding() == "utf-8" or not sys.executable:
        return
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    first, *rest = sys.orig_argv
    words = [first, "-X", "utf8", "-X", f"{OUTPUT}={encoding}", *rest]
    with contextlib.suppress(OSError):  # it may be gone: then most of it works all the same
        os.execv(sys.executable, words)  # noqa: S606 - no shell


def print_as_the_locale_has_it() -> None:
    """The streams in the encoding that they had before the program was executed again."""
    encoding = sys._xoptions.get(OUTPUT)
    for stream in (sys.stdout, sys.stderr) if isinstance(encoding, str) else ():
        with contextlib.suppress(LookupError, ValueError):
            stream.reconfigure(encoding=encoding)  # type: ignore[union-attr]


def collect_rarely() -> None:
    """Nearly all that a command makes is of modules, and needed until it ends. The cycle collector
    goes through it after every 2000 objects (700 up to Python 3.12), and twice at the end: a fifth
    of the time of `status`. Nothing here waits for a finalizer to be closed or written."""
    gc.set_threshold(FEW)
    atexit.register(gc.freeze)


occupy_standard_descriptors()
leave_the_locale()
print_as_the_locale_has_it()
hear_of_children()
collect_rarely()

try:
    from manactl.cli.main import main
except KeyboardInterrupt:
    # ^C while modules load: nothing was looked at yet, and main() is not there to say so.
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(main())
