"""A timer that goes on while the machine is suspended, by timerfd_create(2)."""

from __future__ import annotations

import os
import time

TFD_TIMER_ABSTIME = 1  # include/uapi/linux/timerfd.h


def at(deadline: float) -> int:
    """A descriptor that becomes readable when CLOCK_BOOTTIME is `deadline` seconds, also when that
    is past. To be closed by the caller; OSError when it cannot be had.

    A machine that was suspended meanwhile makes it readable when it is resumed; nobody who sets
    the clock changes it.
    """
    import ctypes  # noqa: PLC0415 - only for a claim that has to be confirmed

    class Spec(ctypes.Structure):  # struct itimerspec: an interval, and the first time
        _fields_ = (("interval", ctypes.c_long * 2), ("value", ctypes.c_long * 2))

    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.timerfd_create(time.CLOCK_BOOTTIME, os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    nanoseconds = max(1, int(deadline * 1e9))  # 0 would disarm it
    spec = Spec()
    spec.value[:] = divmod(nanoseconds, 10**9)
    if libc.timerfd_settime(fd, TFD_TIMER_ABSTIME, ctypes.byref(spec), None) < 0:
        number = ctypes.get_errno()
        os.close(fd)
        raise OSError(number, os.strerror(number))
    return fd
