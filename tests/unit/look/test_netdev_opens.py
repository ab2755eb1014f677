"""Who opens a netdev: the ring that the kernel fills, and /proc; the lab has the kernel's own."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from manactl.look import perf, text_files
from manactl.look.ended_processes import Call, Ended, EndedProcesses
from manactl.look.netdev_opens import NetdevOpens, Ring, Sample, is_kernel
from manactl.model.hold import Opened, Opener, Unasked
from tests.unit.wording import wording


class Kernel:
    """Writes records into a ring as perf_output_begin() does, over its end too."""

    def __init__(self) -> None:
        self.area = mmap.mmap(-1, 2 * mmap.PAGESIZE)
        self.head = 0

    def write(self, kind: int, body: bytes) -> None:
        for byte in struct.pack("=IHH", kind, 0, 8 + len(body)) + body:
            self.area[mmap.PAGESIZE + self.head % mmap.PAGESIZE] = byte
            self.head += 1
        struct.pack_into("=Q", self.area, 1024, self.head)

    def sample(self, pid: int, at: int, cgroup: int | None = None) -> None:
        self.write(9, struct.pack("=IIQ", pid, pid, at) + _number(cgroup))

    def returns(
        self, pid: int, at: int, value: int, abi: int = 2, cgroup: int | None = None
    ) -> None:
        """With one register, of which a function that returns an int sets the lower half."""
        registers = struct.pack("=QiI", abi, value, 0xFFFF8881) if abi else bytes(8)
        self.write(9, struct.pack("=IIQ", pid, pid, at) + registers + _number(cgroup))

    @property
    def tail(self) -> int:
        return int(struct.unpack_from("=Q", self.area, 1032)[0])


def _number(cgroup: int | None) -> bytes:
    return b"" if cgroup is None else struct.pack("=Q", cgroup)


def test_samples_are_read_once_and_their_room_given_back() -> None:
    kernel = Kernel()
    ring = Ring(kernel.area)
    assert list(ring.read()) == []
    kernel.sample(154, 2_500_000_000)
    kernel.write(2, bytes(16))  # PERF_RECORD_LOST
    kernel.sample(155, 3_000_000_000)
    assert list(ring.read()) == [Sample(154, 154, 2.5), Sample(155, 155, 3.0)]
    assert kernel.tail == kernel.head
    assert list(ring.read()) == []
    ring.close()


def test_a_sample_may_lie_around_the_end() -> None:
    kernel = Kernel()
    ring = Ring(kernel.area)
    for number in range(1, 2000):
        if number % 3 == 0:
            kernel.write(2, bytes(13))  # so that ends lie anywhere
        kernel.sample(number, number * 1_000_000_000)
        assert list(ring.read()) == [Sample(number, number, float(number))]
    ring.close()


def test_a_return_tells_whether_it_failed() -> None:
    kernel = Kernel()
    ring = Ring(kernel.area)
    kernel.sample(154, 1_000_000_000)
    kernel.returns(154, 2_000_000_000, -errno.EBUSY)
    kernel.returns(154, 3_000_000_000, 0)
    kernel.returns(154, 4_000_000_000, 0, abi=0)
    assert [one.failed for one in ring.read()] == [None, True, False, False]
    ring.close()


def test_a_broken_record_ends_the_reading_and_not_us() -> None:
    kernel = Kernel()
    ring = Ring(kernel.area)
    kernel.area[mmap.PAGESIZE : mmap.PAGESIZE + 8] = bytes(8)
    struct.pack_into("=Q", kernel.area, 1024, 64)
    assert list(ring.read()) == []
    assert kernel.tail == 64
    ring.close()


def test_without_kprobe_events_nobody_is_known(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with NetdevOpens(pmu=str(tmp_path / "none")) as opens:
        assert opens.refused is not None
        with wording:
            assert opens.refused.strerror == "this kernel has no kprobe events for perf"
        assert (opens.descriptors, opens.read()) == ((), [])
    assert os.listdir("/proc/self/fd") == before


def test_an_event_that_the_kernel_refuses_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "type").write_text("4000000000\n")  # no PMU has this number
    before = os.listdir("/proc/self/fd")
    with NetdevOpens(pmu=str(tmp_path / "type")) as opens:
        assert opens.refused
        assert opens.descriptors == ()
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (errno.ENOENT, "neither driver mana nor hv_netvsc is loaded"),
        (errno.EINVAL, "neither driver mana nor hv_netvsc is loaded"),
        (errno.EACCES, "Permission denied"),
        (errno.EPERM, "Operation not permitted"),
        (errno.EMFILE, "Too many open files"),
    ],
)
def test_why_nobody_is_known_is_kept(
    number: int, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    (tmp_path / "type").write_text("8\n")
    monkeypatch.setattr(perf, "perf_event_open", lambda: refuses)
    with NetdevOpens(pmu=str(tmp_path / "type")) as opens:
        assert opens.refused is not None
        with wording:
            assert opens.refused.strerror == why


class Drivers:
    """A kernel with drivers that come and go: their directories below /sys/module, and kprobes,
    which die with the module that has the function."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lacking: set[str] = set()  # functions that a driver does not have
        self.loads = 0
        self.probes: dict[int, tuple[str, int]] = {}  # by descriptor: function, which load of it
        path.mkdir()
        (path / "type").write_text("8\n")
        self.loaded: dict[str, int] = {}

    def load(self, *names: str) -> None:
        for name in names:
            self.loads += 1
            self.loaded[name] = self.loads
            (self.path / f"{name}-{self.loads}").mkdir()
            (self.path / name).symlink_to(f"{name}-{self.loads}")

    def unload(self, name: str) -> None:
        del self.loaded[name]
        (self.path / name).unlink()

    def perf_event_open(self, attr: bytes, _cpu: int) -> int:
        kind, address = struct.unpack_from("=I52xQ", attr)  # type, config1
        if kind == 1:  # PERF_TYPE_SOFTWARE
            raise OSError(errno.EPERM, "Operation not permitted")
        function = ctypes.string_at(address).decode()
        driver = {"mana_open": "mana", "netvsc_open": "hv_netvsc"}[function]
        if driver not in self.loaded or function in self.lacking:
            raise OSError(errno.ENOENT, "No such file or directory")
        fd = os.memfd_create(function)
        os.ftruncate(fd, 2 * mmap.PAGESIZE)
        self.probes[fd] = function, self.loaded[driver]
        return fd

    def alive(self) -> set[str]:
        """The functions whose calls are seen."""
        now = {("mana_open", "mana"), ("netvsc_open", "hv_netvsc")}
        opened = {int(fd) for fd in os.listdir("/proc/self/fd")}
        seen = {probe for fd, probe in self.probes.items() if fd in opened}
        return {one for one, driver in now if (one, self.loaded.get(driver, 0)) in seen}


@pytest.fixture
def drivers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Drivers:
    found = Drivers(tmp_path / "module")
    monkeypatch.setattr(perf, "perf_event_open", lambda: found.perf_event_open)
    monkeypatch.setattr(perf, "online", lambda: [0])
    monkeypatch.setattr(fcntl, "ioctl", lambda *_: 0)
    return found


def watch(drivers: Drivers) -> NetdevOpens:
    return NetdevOpens(pmu=str(drivers.path / "type"), modules=str(drivers.path))


def test_a_driver_that_comes_later_or_once_more_is_watched(drivers: Drivers) -> None:
    before = os.listdir("/proc/self/fd")
    with watch(drivers) as opens:
        assert opens.refused is not None
        assert (opens.refused.errno, opens.missing) == (errno.ENOENT, ())
        drivers.load("hv_netvsc", "mana")
        assert opens.renew() is True
        assert drivers.alive() == {"mana_open", "netvsc_open"}
        assert (opens.refused, len(opens.descriptors)) == (None, 1)
        assert opens.renew() is False
        drivers.unload("mana")
        drivers.load("mana")
        assert drivers.alive() == {"netvsc_open"}
        assert opens.renew() is True
        assert drivers.alive() == {"mana_open", "netvsc_open"}
        drivers.unload("mana")
        assert opens.renew() is True
        assert (opens.refused, opens.missing, drivers.alive()) == (None, (), {"netvsc_open"})
    assert os.listdir("/proc/self/fd") == before


def test_a_function_that_a_loaded_driver_does_not_have_is_told(drivers: Drivers) -> None:
    drivers.load("hv_netvsc", "mana")
    drivers.lacking.add("mana_open")
    with watch(drivers) as opens:
        assert (opens.refused, opens.missing) == (None, ("mana_open",))


@pytest.mark.parametrize(
    ("stat", "expected"),
    [
        ("9 (kworker/0:1-ev) I 2 0 0 0 -1 69238880 0 0", True),
        ("154 (ip) x) R 1 154 154 0 -1 4194304 0 0", False),
        ("154 (ip", False),
    ],
)
def test_a_thread_of_the_kernel(stat: str, expected: bool, tmp_path: Path) -> None:
    (tmp_path / "154").mkdir()
    (tmp_path / "154/stat").write_text(stat + "\n")
    assert is_kernel(154, str(tmp_path)) is expected
    assert not is_kernel(155, str(tmp_path)), "it has ended"
    assert not is_kernel(os.getpid())


def test_of_many_the_last_are_looked_at_and_their_opens_told_in_the_order_of_time(
    tmp_path: Path,
) -> None:
    kernel, other = Kernel(), Kernel()
    opens = NetdevOpens(proc=str(tmp_path), pmu=str(tmp_path / "none"))
    opens._rings[-1], opens._rings[-2] = Ring(kernel.area), Ring(other.area)
    for at, pid in enumerate((1, 2, 3, 4, 5, 6, 1)):
        kernel.sample(pid, at * 1_000_000_000)
    other.returns(3, 2_500_000_000, 0)
    other.returns(6, 5_500_000_000, -1)
    told = opens.read()
    assert [(one.thread, one.at) for one in told] == [
        (1, 0.0), (2, 1.0), (3, 2.0), (3, 2.5), (4, 3.0), (5, 4.0), (6, 5.0), (6, 5.5), (1, 6.0),
    ]  # fmt: skip
    assert [one for one in told if isinstance(one, Unasked)] == [Unasked(2, 1.0), Unasked(3, 2.0)]
    assert [one for one in told if isinstance(one, Opened)] == [
        Opened(3, 2.5), Opened(6, 5.5, failed=True),
    ]  # fmt: skip
    opens.close()


def test_who_is_in_another_network_namespace_is_left_out(tmp_path: Path) -> None:
    def namespace(path: str, number: int | None) -> None:
        where = tmp_path / path / "ns"
        where.mkdir(parents=True)
        if number is not None:
            (where / "net").symlink_to(f"net:[{number}]")

    namespace("self", 7)
    namespace("2/task/2", 7)
    namespace("3/task/3", 8)
    namespace("3/task/33", 7)
    namespace("4/task/4", None)  # nobody may look there, or it has ended
    namespace("5/task/5", 8)
    (tmp_path / "5/stat").write_text("5 (kworker/0:1-ev) I 2 0 0 0 -1 69238880 0 0\n")
    kernel = Kernel()
    opens = NetdevOpens(proc=str(tmp_path), pmu=str(tmp_path / "none"))
    opens._rings[-1] = Ring(kernel.area)
    seen = []
    for pid, thread in ((2, 2), (3, 3), (3, 33), (4, 4), (5, 5)):
        kernel.write(9, struct.pack("=IIQ", pid, thread, 1_000_000_000))
        seen += [one.thread for one in opens.read()]
    assert seen == [2, 33, 4, 5]
    opens.close()


def test_who_has_ended_is_known_by_its_exec_and_its_cgroup(tmp_path: Path) -> None:
    """/proc is asked first: a process may have another name since."""

    class Told(EndedProcesses):
        def of(self, calls: Collection[Call]) -> dict[int, Ended]:
            asked.extend(calls)
            return {154: Ended("ip", "/system.slice/up.service"), 156: Ended(None, None)}

    asked: list[Call] = []
    (tmp_path / "155").mkdir()
    (tmp_path / "155/comm").write_text("networkd\n")
    kernel = Kernel()
    opens = NetdevOpens(proc=str(tmp_path), pmu=str(tmp_path / "none"))
    opens._ended.close()
    opens._rings[-1], opens._ended = Ring(kernel.area, cgroups=True), Told([])
    for pid, at in ((154, 2), (155, 3), (156, 4), (154, 5)):
        kernel.sample(pid, at * 1_000_000_000, pid + 1000)
    told = [one.process for one in opens.read() if isinstance(one, Opener)]
    assert [one.comm for one in told] == ["ip", "networkd", None, "ip"]
    assert [one.unit for one in told] == ["up.service", None, None, "up.service"]
    assert sorted(asked) == [Call(154, 2.0, 1154), Call(156, 4.0, 1156)]
    opens.close()


def test_what_proc_still_said_of_who_is_ending_is_kept(tmp_path: Path) -> None:
    """Its cgroup was read, and then it was gone; the kernel did not tell one."""
    (tmp_path / "154").mkdir()
    (tmp_path / "154/cgroup").write_text("0::/system.slice/up.service\n")
    kernel = Kernel()
    opens = NetdevOpens(proc=str(tmp_path), pmu=str(tmp_path / "none"))
    opens._rings[-1] = Ring(kernel.area)
    kernel.sample(154, 2_000_000_000)
    (told,) = opens.read()
    assert isinstance(told, Opener)
    assert told.process.unit == "up.service"
    opens.close()


def test_samples_with_the_number_of_a_cgroup() -> None:
    kernel = Kernel()
    ring = Ring(kernel.area, cgroups=True)
    kernel.sample(154, 1_000_000_000, 77)
    kernel.returns(154, 2_000_000_000, -errno.EBUSY, cgroup=77)
    kernel.returns(154, 3_000_000_000, 0, abi=0, cgroup=78)
    assert list(ring.read()) == [
        Sample(154, 154, 1.0, None, 77), Sample(154, 154, 2.0, True, 77),
        Sample(154, 154, 3.0, False, 78),
    ]  # fmt: skip
    ring.close()


@pytest.mark.parametrize("cgroups", [True, False])
def test_cgroups_are_asked_for_where_the_kernel_has_them(
    cgroups: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def opens(attr: bytes, _cpu: int) -> int:
        kind, sample = struct.unpack_from("=I20xQ", attr)
        (flags,) = struct.unpack_from("=Q", attr, 40)
        if (flags & 1 << 32 or sample & 1 << 21) and not cgroups:
            raise OSError(errno.EINVAL, "Invalid argument")
        fd = os.memfd_create("event")
        os.ftruncate(fd, 8 * mmap.PAGESIZE)
        if kind == 8:
            asked.append(bool(sample & 1 << 21))
        return fd

    (tmp_path / "type").write_text("8\n")
    monkeypatch.setattr(perf, "perf_event_open", lambda: opens)
    monkeypatch.setattr(perf, "online", lambda: [0])
    monkeypatch.setattr(fcntl, "ioctl", lambda *_: 0)
    before = os.listdir("/proc/self/fd")
    with NetdevOpens(pmu=str(tmp_path / "type")) as watched:
        assert watched.refused is None
        assert asked == [cgroups] * 4  # two functions and their returns
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(
    ("limit", "known", "ended"),
    [(9, False, False), (10, True, False), (13, True, False), (14, True, True)],
)
def test_where_descriptors_are_few_they_are_for_who_opens_a_netdev(
    limit: int, known: bool, ended: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each CPU two functions and their returns, and one for execs; a ring has another (mmap)."""

    def opens(_attr: bytes, _cpu: int) -> int:
        there = [
            text_files.target(f"/proc/self/fd/{fd}") or "" for fd in os.listdir("/proc/self/fd")
        ]
        if sum("memfd:event" in one for one in there) >= limit:
            raise OSError(errno.EMFILE, "Too many open files")
        fd = os.memfd_create("event")
        os.ftruncate(fd, 8 * mmap.PAGESIZE)
        return fd

    (tmp_path / "type").write_text("8\n")
    monkeypatch.setattr(perf, "perf_event_open", lambda: opens)
    monkeypatch.setattr(perf, "online", lambda: [0, 1])
    monkeypatch.setattr(fcntl, "ioctl", lambda *_: 0)
    before = os.listdir("/proc/self/fd")
    with NetdevOpens(pmu=str(tmp_path / "type")) as watched:
        assert (watched.refused is None) is known
        assert len(watched.descriptors) == (2 if known else 0)
        assert bool(watched._ended._fds) is ended
    assert os.listdir("/proc/self/fd") == before


def test_what_begins_on_a_cpu_that_was_read_and_returns_on_one_that_was_not(
    tmp_path: Path,
) -> None:
    kernel, other = Kernel(), Kernel()
    opens = NetdevOpens(proc=str(tmp_path), pmu=str(tmp_path / "none"))

    class Meanwhile(Ring):
        def read(self) -> Iterator[Sample]:
            if not kernel.head:
                kernel.sample(9, 1_000_000_000)
                other.returns(9, 2_000_000_000, 0)
            return super().read()

    opens._rings[-1], opens._rings[-2] = Ring(kernel.area), Meanwhile(other.area)
    assert [type(one) for one in opens.read()] == [Opener, Opened]
    opens.close()
