"""The names of processes that have ended, as the kernel told them at their exec.

Whoever sets a netdev up is often gone before anybody can read /proc: `ip link set eth1 up` lives
for a few milliseconds. PERF_RECORD_COMM tells each exec, on an event that counts nothing
(PERF_COUNT_SW_DUMMY). The ring of a CPU is one that the kernel writes backwards over what is oldest
(write_backward, as `perf record --overwrite` has it): it holds the last hundreds of execs, and costs
us nothing until somebody asks. Who was forked and has executed nothing is not in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from manactl.look import perf

PAGES = 4  # of a CPU's ring: some 300 execs
# include/uapi/linux/perf_event.h
_SOFTWARE, _DUMMY = 1, 9
_TIME = 0x4  # PERF_SAMPLE_TIME
_FLAGS = 1 << 9 | 1 << 14 | 1 << 18 | 1 << 27  # comm, watermark, sample_id_all, write_backward
_NEVER = 0xFFFFFFFF  # bytes to a wakeup
_PAUSE_OUTPUT = 0x40042409  # PERF_EVENT_IOC_PAUSE_OUTPUT
_RECORD_COMM = 3
_IDS, _AT = struct.Struct("=II"), struct.Struct("=Q")  # pid, tid, the name; the time is the last
_HEAD = 1024  # in struct perf_event_mmap_page


class Exec(NamedTuple):
    """Since when a process has had this name. `at`: s, CLOCK_MONOTONIC."""

    pid: int
    comm: str
    at: float


class ExecNames:
    """Watches these CPUs until close(). Where the kernel refuses, no name is known."""

    def __init__(self, cpus: Sequence[int]) -> None:
        self._fds: list[int] = []
        self._rings: list[BackwardRing] = []
        with contextlib.suppress(OSError):
            call = perf.perf_event_open()
            for cpu in cpus:
                self._fds.append(call(_attr(), cpu))
                area = mmap.mmap(
                    self._fds[-1], (1 + PAGES) * mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ
                )
                self._rings.append(BackwardRing(area))

    def close(self) -> None:
        for ring in self._rings:
            ring.close()
        for fd in self._fds:
            os.close(fd)
        self._fds, self._rings = [], []

    def of(self, wanted: Collection[tuple[int, float]]) -> dict[int, str]:
        """The names, by pid, that processes had at a time (s, CLOCK_MONOTONIC)."""
        if not wanted:
            return {}
        told = sorted(self._told(), key=lambda one: one.at)
        found = {}
        for pid, at in wanted:
            if names := [one.comm for one in told if one.pid == pid and one.at <= at]:
                found[pid] = names[-1]
        return found

    def _told(self) -> Iterator[Exec]:
        for fd, ring in zip(self._fds, self._rings, strict=False):
            with _paused(fd):
                yield from ring.read()


class BackwardRing:
    """The buffer of one CPU: the newest record is at its head, which moves down."""

    def __init__(self, area: mmap.mmap) -> None:
        self._area = area

    def close(self) -> None:
        self._area.close()

    def read(self) -> Iterator[Exec]:
        """From the newest back, as far as they are whole."""
        (head,) = struct.unpack_from("=Q", self._area, _HEAD)
        data = self._area[mmap.PAGESIZE :]
        at, left = head, min(len(data), -head % (1 << 64))
        while left >= perf.HEADER.size:
            kind, _, length = perf.HEADER.unpack(perf.around(data, at, perf.HEADER.size))
            if not perf.HEADER.size <= length <= left:
                break
            body = perf.around(data, at + perf.HEADER.size, length - perf.HEADER.size)
            if kind == _RECORD_COMM and len(body) >= _IDS.size + _AT.size:
                pid, thread = _IDS.unpack_from(body)
                comm = body[_IDS.size : -_AT.size].partition(b"\0")[0]
                (when,) = _AT.unpack(body[-_AT.size :])
                if pid == thread:
                    yield Exec(pid, comm.decode(errors="surrogateescape"), when / 1e9)
            at, left = at + length, left - length


@contextlib.contextmanager
def _paused(fd: int) -> Iterator[None]:
    """Nothing is written over what is read meanwhile. What comes meanwhile is lost."""
    fcntl.ioctl(fd, _PAUSE_OUTPUT, 1)
    try:
        yield
    finally:
        fcntl.ioctl(fd, _PAUSE_OUTPUT, 0)


def _attr() -> bytes:
    return perf.attr(_SOFTWARE, _DUMMY, sample=_TIME, flags=_FLAGS, wakeup=_NEVER)
