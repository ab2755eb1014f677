"""A scope of systemd for this process alone, outside of the session and the service it came from.

A login manager that ends all processes of a session (KillUserProcesses=), or the end of a service,
goes by the control group. A scope adopts a process that runs already: StartTransientUnit of
org.freedesktop.systemd1.Manager. Where that cannot be had, the process stays where it is.
"""

from __future__ import annotations

import os

from manactl.look.bus import Bus, Interface, longest, within
from manactl.look.text_files import text
from manactl.poll import LIVE, until

_RUNS = "/run/systemd/system"  # sd_booted(3)
_FIRST_PIDS = "pid:[4026531836]"  # PROC_PID_INIT_INO in include/linux/proc_ns.h
_MANAGER = Interface(
    "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"
)
_ASKED = 4.0  # s for the call: whoever waits for this process goes without a scope rather than long
_MOVED = 2.0  # s in which systemd has moved the process, after it has answered
AT_MOST = longest(_ASKED) + _MOVED
"""After how many seconds `enter` has returned, whatever the bus does."""


def enter(name: str, about: str, bus: Bus | None = None, *, root: str = "") -> bool:
    """Move this process to a scope of that name; whether it is there.

    Not from within a container: systemd would take the pid for another process.
    """
    try:
        if (
            not os.path.isdir(root + _RUNS)
            or os.readlink(f"{root}/proc/self/ns/pid") != _FIRST_PIDS
        ):
            return False
        (bus or Bus(within(_ASKED))).call(
            _MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", name, "fail", "3",
            "PIDs", "au", "1", str(os.getpid()), "Description", "s", about,
            "CollectMode", "s", "inactive-or-failed", "0",
        )  # fmt: skip
    except OSError:
        return False
    return until(LIVE, lambda: f"/{name}" in (text(f"{root}/proc/self/cgroup") or ""), _MOVED)
