"""Names of processes that have ended: the ring that the kernel writes backwards, and its own."""

from __future__ import annotations

import errno
import mmap
import os
import struct
import subprocess
import time
from pathlib import Path

import pytest

from manactl.look import ended_processes, perf
from manactl.look.ended_processes import (
    PAGES,
    BackwardRing,
    Call,
    Ended,
    EndedProcesses,
    Exec,
    MadeCgroup,
)

SIZE = PAGES * mmap.PAGESIZE


class Kernel:
    """Writes records backwards, as perf_output_begin_backward() does."""

    def __init__(self) -> None:
        self.area = mmap.mmap(-1, mmap.PAGESIZE + SIZE)
        self.head = 0

    def write(self, kind: int, body: bytes) -> None:
        record = struct.pack("=IHH", kind, 0, 8 + len(body)) + body
        self.head -= len(record)
        for at, byte in enumerate(record):
            self.area[mmap.PAGESIZE + (self.head + at) % SIZE] = byte
        struct.pack_into("=Q", self.area, 1024, self.head % (1 << 64))

    def makes(self, number: int, path: str) -> None:
        name = path.encode() + b"\0"
        name = name.ljust((len(name) + 7) // 8 * 8, b"\0")
        self.write(19, struct.pack("=Q", number) + name + bytes(8))

    def names(self, pid: int, comm: str, at: float, thread: int | None = None) -> None:
        name = comm.encode(errors="surrogateescape") + b"\0"
        name = name.ljust((len(name) + 7) // 8 * 8, b"\0")
        thread = pid if thread is None else thread
        self.write(3, struct.pack("=II", pid, thread) + name + struct.pack("=Q", int(at * 1e9)))


def test_the_newest_comes_first_and_nothing_before_the_beginning() -> None:
    kernel = Kernel()
    ring = BackwardRing(kernel.area)
    assert list(ring.read()) == []
    kernel.names(154, "sh", 1.0)
    kernel.write(2, bytes(24))  # PERF_RECORD_LOST
    kernel.names(154, "ip", 2.5)
    kernel.names(155, "exactly-15-long", 3.0)
    expected = [Exec(155, "exactly-15-long", 3.0), Exec(154, "ip", 2.5), Exec(154, "sh", 1.0)]
    assert list(ring.read()) == expected
    assert list(ring.read()) == expected, "it is not used up"
    ring.close()


def test_a_thread_that_names_itself_is_not_the_process() -> None:
    kernel = Kernel()
    ring = BackwardRing(kernel.area)
    kernel.names(154, "server", 1.0)
    kernel.names(154, "worker/3", 2.0, thread=160)
    assert list(ring.read()) == [Exec(154, "server", 1.0)]
    ring.close()


def test_a_name_that_is_not_utf8() -> None:
    kernel = Kernel()
    ring = BackwardRing(kernel.area)
    kernel.names(154, "caf\udce9", 1.0)
    assert list(ring.read()) == [Exec(154, "caf\udce9", 1.0)]
    ring.close()


def test_the_last_hundreds_are_kept_and_a_torn_one_is_not_read() -> None:
    kernel = Kernel()
    ring = BackwardRing(kernel.area)
    for number in range(1, 3000):
        if number % 3 == 0:
            kernel.write(2, bytes(8 * (number % 5 + 1)))  # so that ends lie anywhere
        kernel.names(number, f"name-{number}"[:15], float(number))
    found = list(ring.read())
    assert found == [
        Exec(one, f"name-{one}"[:15], one) for one in range(2999, 2999 - len(found), -1)
    ]
    assert len(found) > 250
    ring.close()


def test_it_is_read_only_where_something_is_that_is_sought() -> None:
    """Also where that lies around the end."""
    kernel = Kernel()
    ring = BackwardRing(kernel.area)
    around = 0
    for number in range(1, 3000):
        kernel.names(number, "ip", float(number))
        body = (kernel.head + 8) % SIZE
        around += body > SIZE - 8
        assert next(ring.read([struct.pack("=II", number, number)])).pid == number
        if number % 3 == 0:
            kernel.write(2, bytes(number % 5 + 1))  # so that ends lie anywhere
    assert list(ring.read([struct.pack("=II", 4000, 4000)])) == []
    assert around
    ring.close()


@pytest.mark.parametrize("length", [0, 7, 60000])
def test_a_broken_record_ends_the_reading_and_not_us(length: int) -> None:
    kernel = Kernel()
    ring = BackwardRing(kernel.area)
    kernel.names(154, "old", 1.0)
    kernel.write(3, bytes(16))
    struct.pack_into("=IHH", kernel.area, mmap.PAGESIZE + kernel.head % SIZE, 3, 0, length)
    kernel.names(155, "new", 2.0)
    assert list(ring.read()) == [Exec(155, "new", 2.0)]
    ring.close()


def test_a_short_record_has_no_name() -> None:
    kernel = Kernel()
    ring = BackwardRing(kernel.area)
    kernel.write(3, bytes(8))
    assert list(ring.read()) == []
    ring.close()


def test_a_cgroup_that_is_made() -> None:
    kernel = Kernel()
    ring = BackwardRing(kernel.area)
    kernel.makes(77, "/system.slice/up.service")
    assert list(ring.read()) == [MadeCgroup(77, "/system.slice/up.service")]
    ring.close()


def test_what_was_so_at_that_time(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Kernel(), Kernel()
    ended = EndedProcesses([])
    ended._fds, ended._rings = [-1, -2], [BackwardRing(first.area), BackwardRing(second.area)]
    paused: list[tuple[int, int]] = []
    monkeypatch.setattr("fcntl.ioctl", lambda fd, _, pause: paused.append((fd, pause)))
    second.makes(77, "/system.slice/up.service")
    second.names(154, "sh", 1.0)
    first.names(154, "ip", 2.0)
    second.names(154, "systemd-udevd", 3.0)  # another that got its number
    assert ended.of([]) == {}
    assert paused == []
    assert ended.of([Call(154, 2.5, 77), Call(155, 9.0)]) == {
        154: Ended("ip", "/system.slice/up.service"),
        155: Ended(None, None),
    }
    assert ended.of([Call(154, 0.5)]) == {154: Ended(None, None)}
    assert paused == [(-1, 1), (-1, 0), (-2, 1), (-2, 0)] * 2
    for ring in ended._rings:
        ring.close()


@pytest.mark.parametrize(
    ("mine", "expected"),
    [
        ("0::/init.scope\n", "/user.slice/session-3.scope"),
        ("3:cpu,perf_event:/\n0::/\n", None),  # numbers of another hierarchy
        ("", "/user.slice/session-3.scope"),
    ],
)
def test_a_cgroup_that_was_made_before_and_is_still_there(
    mine: str, expected: str | None, tmp_path: Path
) -> None:
    tree, proc = tmp_path / "cgroup", tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "self/cgroup").write_text(mine)
    session = tree / "user.slice/session-3.scope"
    session.mkdir(parents=True)
    (tree / "user.slice/session-4.scope").mkdir()
    (tree / "cgroup.controllers").write_text("cpu\n")
    (session / "cgroup.procs").write_text("")
    ended = EndedProcesses([], proc=str(proc), cgroupfs=str(tree))
    number = session.stat().st_ino
    assert ended.of([Call(154, 1.0, number)]) == {154: Ended(None, expected)}
    of_a_file = (session / "cgroup.procs").stat().st_ino
    assert ended.of([Call(154, 1.0, of_a_file)]) == {154: Ended(None, None)}


def test_of_several_that_stand_each_is_looked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody waits, and there may be thousands. A number is never used again."""
    numbers = []
    for name in ("b.slice", "a.service", "b.slice/c.scope"):
        (tmp_path / name).mkdir()
        numbers.append((tmp_path / name).stat().st_ino)
    (tmp_path / "cgroup.controllers").write_text("")
    ended = EndedProcesses([], proc=str(tmp_path), cgroupfs=str(tmp_path))
    looked: list[str] = []
    scandir = os.scandir

    def noted(path: str) -> os.ScandirIterator[str]:
        looked.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", noted)
    calls = [Call(pid, 1.0, number) for pid, number in enumerate(numbers)]
    expected = ["/b.slice", "/a.service", "/b.slice/c.scope"]
    assert [one.cgroup for one in ended.of(calls).values()] == expected
    assert len(looked) == len(set(looked))
    looked.clear()
    (tmp_path / "a.service").rmdir()
    assert [one.cgroup for one in ended.of(calls).values()] == expected
    assert looked == []


def test_the_number_of_another_hierarchy_is_another_cgroup(tmp_path: Path) -> None:
    """/sys/fs/cgroup with a directory for each controller, and perf events in none of them."""
    cpu = tmp_path / "cpu/system.slice/other.service"
    cpu.mkdir(parents=True)
    ended = EndedProcesses([], proc=str(tmp_path), cgroupfs=str(tmp_path))
    assert ended.of([Call(154, 1.0, cpu.stat().st_ino)]) == {154: Ended(None, None)}


@pytest.mark.parametrize("number", [errno.EPERM, errno.EMFILE, errno.ENODEV])
@pytest.mark.parametrize("half", [False, True])
def test_where_the_kernel_refuses_nothing_is_known(
    half: bool, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    def refuses_the_second(_: bytes, cpu: int) -> int:
        if cpu:
            raise OSError(number, os.strerror(number))
        fd = os.memfd_create("event")
        os.ftruncate(fd, (1 + PAGES) * mmap.PAGESIZE)
        return fd

    call = refuses_the_second if half else refuses
    monkeypatch.setattr(perf, "perf_event_open", lambda: call)
    before = os.listdir("/proc/self/fd")
    ended = EndedProcesses([0, 1])
    assert not ended.cgroups
    assert ended.of([Call(os.getpid(), time.monotonic())]) == {os.getpid(): Ended(None, None)}
    ended.close()
    assert os.listdir("/proc/self/fd") == before


def test_a_process_that_has_ended_on_this_kernel() -> None:
    """Where it lets us: the lab's guests have it in test_hold and test_units."""
    try:
        os.close(perf.perf_event_open()(ended_processes._attr(cgroups=False), perf.online()[0]))
    except OSError as error:
        assert error.errno in (errno.EACCES, errno.EPERM, errno.ENOSYS, errno.ENOENT)  # noqa: PT017
        return
    before = os.listdir("/proc/self/fd")
    ended = EndedProcesses(perf.online())
    process = subprocess.Popen(["/bin/true"])
    process.wait()
    assert not os.path.exists(f"/proc/{process.pid}")
    found = ended.of([Call(process.pid, time.monotonic())])
    assert found == {process.pid: Ended("true", None)}
    ended.close()
    assert os.listdir("/proc/self/fd") == before
