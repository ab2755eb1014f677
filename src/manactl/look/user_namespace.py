"""Whether root is root: the user namespace that this process is in, and what it may do from there.

In a user namespace of its own (a rootless container, `unshare -Ur`) a process is uid 0 and has all
capabilities, over what belongs to that namespace and nothing else.
"""

from __future__ import annotations

import contextlib
import os

_INITIAL = 0xEFFFFFFD  # USER_NS_INIT_INO of include/uapi/linux/nsfs.h, since Linux 3.8
NS_GET_USERNS = 0xB701  # _IO(NSIO, 0x1), the same file


def is_initial(proc: str = "/proc") -> bool:
    """Whether it is the machine's own. A kernel without user namespaces has no other."""
    try:
        return os.stat(f"{proc}/self/ns/user").st_ino == _INITIAL
    except FileNotFoundError:
        return True
    except OSError:
        return False


def owns_netns(proc: str = "/proc") -> bool:
    """Whether capabilities of this user namespace are good for the network namespace we are in.

    The kernel tells the owner of a namespace only where that is ours or a descendant (ns_get_owner());
    so it does where ns_capable() looks at our capabilities.
    """
    import fcntl  # noqa: PLC0415 - in a user namespace only

    with contextlib.suppress(OSError):
        fd = os.open(f"{proc}/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.close(fcntl.ioctl(fd, NS_GET_USERNS))
        finally:
            os.close(fd)
        return True
    return False
