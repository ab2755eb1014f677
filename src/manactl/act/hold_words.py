"""What `manactl hold` cannot do, in words."""

from __future__ import annotations

import errno

from manactl.errors import strerror

_NO_PERF = (
    "perf events on kernel functions need CAP_PERFMON (CAP_SYS_ADMIN where "
    "kernel.perf_event_paranoid is 3), and a kernel that is not locked down"
)
_NOT_HEARD = {
    errno.EMFILE: "the inotify instances of this user (sysctl fs.inotify.max_user_instances) or "
    "the open files of this process (ulimit -n) are used up: raise that, then start it again",
    errno.ENOSPC: "the inotify watches of this user (sysctl fs.inotify.max_user_watches) are used "
    "up: raise that, then start it again",
}


def openers_unknown(error: OSError) -> str:
    """Who sets ports up cannot be watched at all."""
    denied = error.errno in (errno.EPERM, errno.EACCES)
    why = _NO_PERF if denied else strerror(error)
    return _kept_all_the_same(f"who sets a port up will not be known: {why}")


def function_missing(function: str) -> str:
    """A driver's function that cannot be watched, though the driver is loaded."""
    return _kept_all_the_same(
        "who sets up some netdevs will not be known: this kernel has no function "
        f"{function} that can be watched"
    )


def _kept_all_the_same(text: str) -> str:
    return f"{text}; ports are kept down all the same"


def not_heard(error: OSError) -> str:
    """What to do where events cannot be watched."""
    otherwise = "without that nothing would be heard: fix the cause, then start it again"
    return _NOT_HEARD.get(error.errno or 0, otherwise)
