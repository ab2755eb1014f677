"""perf_event_open(2), as far as it is needed here: events of each CPU, and the records in their
rings (include/uapi/linux/perf_event.h)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
from collections.abc import Callable

from manactl.look.text_files import text

HEADER = struct.Struct("=IHH")  # struct perf_event_header: type, misc, size
_SYSCALL = {"x86_64": 298, "aarch64": 241}  # perf_event_open
_CLOEXEC = 8  # PERF_FLAG_FD_CLOEXEC
_USE_CLOCKID = 1 << 25
_CLOCK_MONOTONIC = 1
_ATTR = struct.Struct("=IIQQQQQIIQQQQIiQIHH")  # struct perf_event_attr, PERF_ATTR_SIZE_VER5


def attr(
    kind: int,
    config: int,
    *,
    sample: int,
    period: int = 0,
    flags: int = 0,
    wakeup: int = 0,
    config1: int = 0,
    registers: int = 0,
) -> bytes:
    """struct perf_event_attr; times in records are of CLOCK_MONOTONIC. `flags`: the bits after
    read_format. `wakeup`: events, or bytes with the bit `watermark`. `registers`: of those at the
    interrupt."""
    return _ATTR.pack(
        kind, _ATTR.size, config, period, sample, 0, flags | _USE_CLOCKID, wakeup, 0, config1,
        0, 0, 0, 0, _CLOCK_MONOTONIC, registers, 0, 0, 0,
    )  # fmt: skip


def perf_event_open() -> Callable[[bytes, int], int]:
    """The system call, for all processes on one CPU. Raises OSError."""
    machine = os.uname().machine
    if machine not in _SYSCALL:
        raise OSError(errno.ENOSYS, f"the number of perf_event_open is not known on {machine}")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long

    def call(of: bytes, cpu: int) -> int:
        fd = libc.syscall(
            ctypes.c_long(_SYSCALL[machine]), ctypes.create_string_buffer(of, len(of)),
            ctypes.c_int(-1), ctypes.c_int(cpu), ctypes.c_int(-1), ctypes.c_ulong(_CLOEXEC),
        )  # fmt: skip
        if fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return int(fd)

    return call


def online() -> list[int]:
    """The CPUs."""
    found: list[int] = []
    for part in (text("/sys/devices/system/cpu/online") or "0").split(","):
        first, _, last = part.partition("-")
        with contextlib.suppress(ValueError):
            found += range(int(first), int(last or first) + 1)
    return found


def around(data: bytes, at: int, length: int) -> bytes:
    """A part of a ring, which may lie around its end."""
    at %= len(data)
    return (data[at : at + length] + data[:length])[:length]
