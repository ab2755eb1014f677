"""What is known of processes that have ended: their names and cgroups, as the kernel told them.

Whoever sets a netdev up is often gone before anybody can read /proc: `ip link set eth1 up` lives
for a few milliseconds, and so does a unit that does no more. PERF_RECORD_COMM tells each exec and
PERF_RECORD_CGROUP each cgroup that is made, on an event that counts nothing (PERF_COUNT_SW_DUMMY).
The ring of a CPU is one that the kernel writes backwards over what is oldest (write_backward, as
`perf record --overwrite` has it): it holds some hundreds of them, and costs us nothing until
somebody asks. Who was forked and has executed nothing is not in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
from collections.abc import Collection, Iterator, Sequence

from manactl.look import perf
from manactl.look.text_files import rows, text
from manactl.model.named_tuple import NamedTuple

PAGES = 4  # of a CPU's ring: some 300 execs
# include/uapi/linux/perf_event.h
_SOFTWARE, _DUMMY = 1, 9
_TIME = 0x4  # PERF_SAMPLE_TIME
_FLAGS = 1 << 9 | 1 << 14 | 1 << 18 | 1 << 27  # comm, watermark, sample_id_all, write_backward
_CGROUP = 1 << 32
_NEVER = 0xFFFFFFFF  # bytes to a wakeup
_PAUSE_OUTPUT = 0x40042409  # PERF_EVENT_IOC_PAUSE_OUTPUT
_RECORD_COMM, _RECORD_CGROUP = 3, 19
_IDS, _U64 = struct.Struct("=II"), struct.Struct("=Q")  # pid, tid; the time is the last
_HEAD = 1024  # in struct perf_event_mmap_page


class Call(NamedTuple):
    """Of which process what is asked: at which time (s, CLOCK_MONOTONIC), in which cgroup."""

    pid: int
    at: float
    cgroup: int | None = None


class Ended(NamedTuple):
    """What is known; a cgroup's path is below the root of its hierarchy."""

    comm: str | None
    cgroup: str | None


class Exec(NamedTuple):
    """Since when a process has had this name. `at`: s, CLOCK_MONOTONIC."""

    pid: int
    comm: str
    at: float


class MadeCgroup(NamedTuple):
    """Its number is never used again until the next boot."""

    number: int
    path: str


class EndedProcesses:
    """Watches these CPUs until close(). Where the kernel refuses, nothing is known. `cgroups`:
    whether it tells them (CONFIG_CGROUP_PERF); samples may ask for PERF_SAMPLE_CGROUP then."""

    def __init__(
        self, cpus: Sequence[int], *, proc: str = "/proc", cgroupfs: str = "/sys/fs/cgroup"
    ) -> None:
        self.cgroups = False
        self._proc, self._cgroupfs = proc, cgroupfs
        self._fds: list[int] = []
        self._rings: list[BackwardRing] = []
        self._standing: dict[int, str] = {}  # paths of cgroups that were found, by number
        for cgroups in (True, False):
            try:
                self._open(cpus, cgroups=cgroups)
            except OSError:
                self.close()  # no half of them
            else:
                self.cgroups = cgroups
                break

    def _open(self, cpus: Sequence[int], *, cgroups: bool) -> None:
        call = perf.perf_event_open()
        for cpu in cpus:
            self._fds.append(call(_attr(cgroups=cgroups), cpu))
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

    def of(self, calls: Collection[Call]) -> dict[int, Ended]:
        """What is known of these processes, by pid."""
        if not calls:
            return {}
        sought = [_IDS.pack(one.pid, one.pid) for one in calls]
        sought += [_U64.pack(one.cgroup) for one in calls if one.cgroup is not None]
        told = [
            one
            for fd, ring in zip(self._fds, self._rings, strict=True)
            for one in _of(fd, ring, sought)
        ]
        execs = sorted((one for one in told if isinstance(one, Exec)), key=lambda one: one.at)
        paths = {one.number: one.path for one in told if isinstance(one, MadeCgroup)}
        self._seek({one.cgroup for one in calls if one.cgroup is not None} - paths.keys())
        found = {}
        for pid, at, cgroup in calls:
            names = [one.comm for one in execs if one.pid == pid and one.at <= at]
            path = None if cgroup is None else paths.get(cgroup) or self._standing.get(cgroup)
            found[pid] = Ended(names[-1] if names else None, path)
        return found

    def _seek(self, numbers: Collection[int]) -> None:
        """The paths of cgroups that were made before us, and are still there: their numbers are those
        of their directories. Only where perf events are in the unified hierarchy, and that is at its
        place: in another the same number is another's. All in one walk, and each once: there may be
        thousands, and somebody waits."""
        left = set(numbers) - self._standing.keys()
        if not left or not os.path.exists(f"{self._cgroupfs}/cgroup.controllers"):
            return
        mine = [row.split(":", 2) for row in rows(text(f"{self._proc}/self/cgroup") or "")]
        if any("perf_event" in row[1].split(",") for row in mine if len(row) > 1):
            return
        todo = [self._cgroupfs]
        while todo and left:
            here = todo.pop()
            with contextlib.suppress(OSError), os.scandir(here) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        continue
                    todo.append(entry.path)
                    if (number := entry.inode()) in left:
                        left.remove(number)
                        self._standing[number] = entry.path.removeprefix(self._cgroupfs)


class BackwardRing:
    """The buffer of one CPU: the newest record is at its head, which moves down."""

    def __init__(self, area: mmap.mmap) -> None:
        self._area = area

    def close(self) -> None:
        self._area.close()

    def read(self, sought: Collection[bytes] = (b"",)) -> Iterator[Exec | MadeCgroup]:
        """From the newest back, as far as they are whole; nothing where none of `sought` is in it:
        somebody waits, and there may be hundreds of CPUs."""
        (head,) = _U64.unpack_from(self._area, _HEAD)
        data = self._area[mmap.PAGESIZE :]
        whole = data + data[: _U64.size]
        if not any(one in whole for one in sought):
            return
        at, left = head, min(len(data), -head % (1 << 64))
        while left >= perf.HEADER.size:
            kind, _, length = perf.HEADER.unpack(perf.around(data, at, perf.HEADER.size))
            if not perf.HEADER.size <= length <= left:
                break
            body = perf.around(data, at + perf.HEADER.size, length - perf.HEADER.size)
            if len(body) >= 2 * _U64.size:
                yield from _record(kind, body)
            at, left = at + length, left - length


def _record(kind: int, body: bytes) -> Iterator[Exec | MadeCgroup]:
    """One of ours: eight bytes, a string, the time."""
    words = body[_U64.size : -_U64.size].partition(b"\0")[0].decode(errors="surrogateescape")
    (at,) = _U64.unpack(body[-_U64.size :])
    if kind == _RECORD_COMM:
        pid, thread = _IDS.unpack_from(body)
        if pid == thread:
            yield Exec(pid, words, at / 1e9)
    elif kind == _RECORD_CGROUP:
        (number,) = _U64.unpack_from(body)
        yield MadeCgroup(number, words)


def _of(fd: int, ring: BackwardRing, sought: Collection[bytes]) -> list[Exec | MadeCgroup]:
    """Nothing is written over what is read meanwhile. What comes meanwhile is lost."""
    fcntl.ioctl(fd, _PAUSE_OUTPUT, 1)
    try:
        return list(ring.read(sought))
    finally:
        fcntl.ioctl(fd, _PAUSE_OUTPUT, 0)


def _attr(*, cgroups: bool) -> bytes:
    flags = _FLAGS | (_CGROUP if cgroups else 0)
    return perf.attr(_SOFTWARE, _DUMMY, sample=_TIME, flags=flags, wakeup=_NEVER)
