"""`manactl help` on a terminal: the manual page, shown by man(1).

A pager starts any command for whoever sits before it. So as root it runs as the user whom sudo
stands in for, or as nobody.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator

# mandoc's man, where man-db has the name.
_VIEWERS = ("man", "mman")
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def show(command: str | None) -> None:
    """Become man(1) on the page of `command`, or of manactl itself; as root, start it and end.

    Returns where that cannot be: without a terminal, a page, or a man(1) that shows it.
    """
    if not sys.stdout.isatty():
        return
    page = find("manactl" if command is None else f"manactl-{command}", directories())
    if page is None:
        return
    sys.stdout.flush()
    root = 0 in {os.getuid(), os.geteuid()}
    for viewer in _programs(os.get_exec_path()):
        try:
            if not root:
                os.execv(viewer, [viewer, "-l", page])  # noqa: S606 - no shell is wanted
            if _shown_as_somebody_else(viewer, page):
                sys.exit(0)
        except OSError:
            continue


def _shown_as_somebody_else(viewer: str, page: str) -> bool:
    """Whether another user could be shown the page. OSError when the viewer does not start."""
    import pwd  # noqa: PLC0415
    import signal  # noqa: PLC0415
    import subprocess  # noqa: PLC0415

    try:
        uid = int(os.environ.get("SUDO_UID", "0"))
        user = pwd.getpwuid(uid) if uid > 0 else pwd.getpwnam("nobody")
    except (KeyError, ValueError, OverflowError):
        return False
    # ^C is for the pager. Not SIG_IGN, which the pager would inherit.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        words = [viewer, "-l", page]
        shown = subprocess.run(
            words, user=user.pw_uid, group=user.pw_gid, extra_groups=[], check=False
        )
    finally:
        signal.signal(signal.SIGINT, before)
    return shown.returncode == 0


def directories() -> tuple[str, ...]:
    """Where pages of section 8 are: in a checkout, beside this package, in its environment."""
    return (
        f"{_PACKAGE}/../../man",
        f"{_PACKAGE}/../../../../share/man/man8",
        f"{sys.prefix}/share/man/man8",
    )


def find(name: str, places: Iterable[str]) -> str | None:
    """The file of a page; distributions compress theirs."""
    for place in places:
        for ending in (".8", ".8.gz"):
            path = os.path.normpath(f"{place}/{name}{ending}")
            if os.path.isfile(path):
                return path
    return None


def _programs(path: Iterable[str]) -> Iterator[str]:
    for name in _VIEWERS:
        for place in path:
            candidate = os.path.join(place, name)
            if os.access(candidate, os.X_OK) and os.path.isfile(candidate):
                yield candidate
