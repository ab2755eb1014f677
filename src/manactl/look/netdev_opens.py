"""Who opens a netdev, as the kernel sees it: the process that is current in the driver's open.

rtnetlink does not say who asked. A perf event on a kprobe does, for every way there is (netlink,
ioctl, the kernel's own threads): perf_event_open(2) with the PMU of
/sys/bus/event_source/devices/kprobe, here on the ndo_open functions of mana and hv_netvsc, and on
their returns (kretprobe), as an open that fails is not announced, and one that is under way not
yet. It is anonymous: it stands in no list of tracefs, and goes with its descriptors, however we
end. It needs CAP_PERFMON (Debian's kernels CAP_SYS_ADMIN: kernel.perf_event_paranoid is 3 there),
CONFIG_KPROBE_EVENTS, and no lockdown in confidentiality mode; without one of these nobody is known,
and that is all. A CPU that comes later is not watched.

Such a kprobe dies with the module that has the function, and does not come with it: when a driver
was loaded meanwhile, all are opened again (renew()).

The first event comes when the driver begins to open, so the process is mostly there to be looked
at; one that has ended meanwhile is known by its exec and its cgroup (ended_processes).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import itertools
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from typing import Self

from manactl.look import perf, procfs
from manactl.look.ended_processes import Call, EndedProcesses
from manactl.look.text_files import number, target
from manactl.model.hold import Opened, Opener, OpenEvent, Unasked
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import Holder

DRIVERS = {"mana_open": "mana", "netvsc_open": "hv_netvsc"}  # by the function that they have
FUNCTIONS = tuple(DRIVERS)
MOST = 4  # processes that are looked at in one go
_PMU = "/sys/bus/event_source/devices/kprobe/type"
# include/uapi/linux/perf_event.h
_SET_OUTPUT = 0x2405  # PERF_EVENT_IOC_SET_OUTPUT
_TID, _TIME, _REGS_INTR, _CGROUP = 0x2, 0x4, 1 << 18, 1 << 21  # PERF_SAMPLE_*
_RECORD_SAMPLE = 9
_SAMPLE = struct.Struct("=IIQ")  # pid, tid, time
_NUMBER = struct.Struct("=Q")  # of the cgroup, the last
_RETURN = struct.Struct("=QI4x")  # ABI of the registers (0: none), what was returned
_RETPROBE = 1  # config, as /sys/bus/event_source/devices/kprobe/format/retprobe has it
_RETURNED = 1  # PERF_REG_X86_AX, PERF_REG_ARM64_X0: bit 0 of both
_HEAD, _TAIL = 1024, 1032  # in struct perf_event_mmap_page
_KTHREAD = 0x00200000  # PF_KTHREAD


class Sample(NamedTuple):
    """A call, or the return of one: then with whether it failed. `at`: s, CLOCK_MONOTONIC.
    `cgroup`: its number."""

    pid: int
    thread: int
    at: float
    failed: bool | None = None
    cgroup: int | None = None


class NetdevOpens:
    """Watches; a context manager. `refused` says why nobody will be known, or None; `missing` are
    functions that cannot be watched though their drivers are loaded."""

    def __init__(
        self,
        functions: Sequence[str] = FUNCTIONS,
        *,
        proc: str = "/proc",
        pmu: str = _PMU,
        modules: str = "/sys/module",
    ) -> None:
        self.refused: OSError | None = None
        self.missing: tuple[str, ...] = ()
        self._functions, self._proc, self._pmu, self._modules = functions, proc, pmu, modules
        self._netns = target(f"{proc}/self/ns/net")
        self._fds: list[int] = []
        self._rings: dict[int, Ring] = {}
        self._drivers: dict[str, int] = {}
        self._ended = EndedProcesses(perf.online())
        self._begin()

    def renew(self) -> bool:
        """Watch again where a driver was loaded or unloaded since the last time; whether that was
        so. Else it costs a few microseconds."""
        if self._loaded() == self._drivers:
            return False
        self._end()
        self._begin()
        return True

    def _begin(self) -> None:
        self._drivers = self._loaded()
        self.refused, self.missing = None, ()
        try:
            absent = self._open_rather(self._functions, self._pmu)
            self.missing = tuple(one for one in absent if DRIVERS.get(one) in self._drivers)
        except OSError as error:
            self.refused = error
            self._end()

    def _open_rather(self, functions: Sequence[str], pmu: str) -> list[str]:
        """As _open(). Where there are not enough descriptors for both, who has ended is not known."""
        try:
            return self._open(functions, pmu)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        self._end()
        self._ended.close()
        return self._open(functions, pmu)

    def _loaded(self) -> dict[str, int]:
        """The drivers that are loaded; the inode of a module's directory is new each time."""
        found = {}
        for driver in (DRIVERS.get(one, one) for one in self._functions):
            with contextlib.suppress(OSError):
                found[driver] = os.stat(f"{self._modules}/{driver}").st_ino
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._end()
        self._ended.close()

    def _end(self) -> None:
        for ring in self._rings.values():
            ring.close()
        for fd in self._fds:
            os.close(fd)
        self._rings, self._fds = {}, []

    @property
    def descriptors(self) -> tuple[int, ...]:
        """To be polled for reading."""
        return tuple(self._rings)

    def read(self) -> list[OpenEvent]:
        """Who has begun to open a netdev since the last time, as far as /proc still knows it or
        the kernel has told, and which opens are over, in the order of time. Of many processes only
        the last are asked for: others wait for this. Nothing of who is known to be in another
        network namespace, whose netdevs are not announced here."""
        samples: list[Sample] = []
        # Until nothing is left: a thread may begin on one CPU and return on another, whose ring is
        # read later.
        while more := [one for ring in self._rings.values() for one in ring.read()]:
            samples += more
        samples.sort(key=lambda one: one.at)
        calls = {one.pid: one for one in reversed(samples) if one.failed is None}
        looked = self._look([Call(one.pid, one.at, one.cgroup) for one in calls.values()][:MOST])
        elsewhere = {
            (one.pid, one.thread)
            for one in samples
            if one.failed is None and one.pid in looked and self._is_elsewhere(one, looked[one.pid])
        }
        found: list[OpenEvent] = []
        for pid, thread, at, failed, _ in samples:
            if failed is not None:
                found.append(Opened(thread, at, failed))
            elif pid not in looked:
                found.append(Unasked(thread, at))
            elif (pid, thread) not in elsewhere:
                found.append(Opener(*looked[pid], at, thread))
        return found

    def _is_elsewhere(self, call: Sample, looked: tuple[Holder, bool]) -> bool:
        """Whether that thread is known to be in another network namespace. The kernel's own threads
        serve all of them."""
        _, kernel = looked
        there = target(f"{self._proc}/{call.pid}/task/{call.thread}/ns/net")
        return not kernel and None not in (there, self._netns) and there != self._netns

    def _look(self, calls: Sequence[Call]) -> dict[int, tuple[Holder, bool]]:
        """Processes, and whether each is the kernel's; by pid."""
        seen = {
            one.pid: (procfs.describe(self._proc, one.pid, None), is_kernel(one.pid, self._proc))
            for one in calls
        }
        gone = [one for one in calls if seen[one.pid][0].comm is None]
        for pid, (comm, cgroup) in self._ended.of(gone).items():
            process, kernel = seen[pid]
            process = process._replace(comm=comm)
            if cgroup is not None:  # else what /proc still said of it stands
                process = procfs.placed(process, f"0::{cgroup}")
            seen[pid] = process, kernel
        return seen

    def _open(self, functions: Sequence[str], pmu: str) -> list[str]:
        """The functions that are not there."""
        kind = number(pmu)
        if kind is None:
            raise OSError(errno.ENOENT, "this kernel has no kprobe events for perf")
        call = perf.perf_event_open()
        absent: dict[str, OSError] = {}
        for cpu in perf.online():
            ring = -1
            for function, returns in itertools.product(functions, (False, True)):
                name = ctypes.create_string_buffer(function.encode())
                try:
                    fd = call(self._attr(kind, ctypes.addressof(name), returns), cpu)
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.EINVAL):
                        raise
                    absent[function] = error  # that driver is not loaded
                    continue
                self._fds.append(fd)
                if ring < 0:
                    ring = fd
                    area = mmap.mmap(fd, 2 * mmap.PAGESIZE)
                    self._rings[fd] = Ring(area, cgroups=self._ended.cgroups)
                else:
                    fcntl.ioctl(fd, _SET_OUTPUT, ring)
        if not self._rings and absent:
            drivers = " nor ".join(DRIVERS.get(one, one) for one in functions)
            raise OSError(errno.ENOENT, f"neither driver {drivers} is loaded")
        return list(absent)

    def _attr(self, kind: int, name: int, returns: bool) -> bytes:
        """config1 is the address of the function's name. Each is a sample; a call wakes us, a
        return does not: it is announced, or nothing has changed."""
        cgroup = _CGROUP if self._ended.cgroups else 0
        return perf.attr(
            kind,
            _RETPROBE if returns else 0,
            period=1,
            sample=_TID | _TIME | cgroup | (_REGS_INTR if returns else 0),
            wakeup=0 if returns else 1,
            config1=name,
            registers=_RETURNED if returns else 0,
        )


class Ring:
    """The buffer of the events of one CPU, which the kernel writes and we read. `cgroups`: each
    ends with the number of one."""

    def __init__(self, area: mmap.mmap, *, cgroups: bool = False) -> None:
        self._area, self._cgroups = area, cgroups

    def close(self) -> None:
        self._area.close()

    def read(self) -> Iterator[Sample]:
        area = self._area
        (head,) = struct.unpack_from("=Q", area, _HEAD)
        (tail,) = struct.unpack_from("=Q", area, _TAIL)
        data = area[mmap.PAGESIZE :]
        while tail < head:
            kind, _, length = perf.HEADER.unpack(perf.around(data, tail, perf.HEADER.size))
            if length < perf.HEADER.size:
                tail = head
                break
            if kind == _RECORD_SAMPLE:
                body = perf.around(data, tail + perf.HEADER.size, length - perf.HEADER.size)
                pid, thread, at = _SAMPLE.unpack_from(body)
                end, cgroup = len(body), None
                if self._cgroups:
                    end -= _NUMBER.size
                    (cgroup,) = _NUMBER.unpack_from(body, end)
                yield Sample(pid, thread, at / 1e9, _failed(body[_SAMPLE.size : end]), cgroup)
            tail += length
        struct.pack_into("=Q", area, _TAIL, tail)


def _failed(registers: bytes) -> bool | None:
    """Whether a call has returned an error; None: it is just made. Without registers (32-bit ABI
    unknown to the kernel, say) a return is taken for a success."""
    if not registers:
        return None
    abi, value = _RETURN.unpack(registers.ljust(_RETURN.size, b"\0"))
    return bool(abi and value)


def is_kernel(pid: int, proc: str = "/proc") -> bool:
    """Whether it is a thread of the kernel, a work queue's for instance."""
    return bool((procfs.stat_of(f"{proc}/{pid}").flags or 0) & _KTHREAD)
