"""The search of other network namespaces, as far as it needs no other namespace."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from manactl.look import netns
from manactl.look.netns import Namespace, NetdevInNetns, OtherNamespaces, enter, namespaces
from manactl.look.sysfs import Roots
from manactl.model.claim import NetnsId
from manactl.model.port import Netdev

PCI = "7870:00:00.0"
BLUE = Netdev("eth1", 3, 0x1003, "up", True, None, None)


class Places:
    """A /proc and a directory of names, with files for namespaces: one inode, one namespace."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.proc, self.named = str(base / "proc"), str(base / "named")
        (base / "named").mkdir()
        self.add("self", "ours")

    def namespace(self, name: str) -> Path:
        path = self.base / f"ns-{name}"
        path.touch()
        return path

    def add(self, pid: int | str, namespace: str) -> None:
        directory = self.base / "proc" / str(pid) / "ns"
        directory.mkdir(parents=True)
        (directory / "net").symlink_to(self.namespace(namespace))

    def name(self, name: str, namespace: str) -> None:
        os.link(self.namespace(namespace), self.base / "named" / name)

    def found(self) -> list[tuple[str, str]]:
        listed = namespaces(self.proc, self.named)
        by_inode = {os.stat(p).st_ino: p.name[3:] for p in self.base.glob("ns-*")}
        return [(place.name, by_inode[place.inode]) for place in listed]


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


def test_ours_comes_first_then_the_named_then_those_of_processes(places: Places) -> None:
    places.add(30, "hidden")
    places.add(4, "other")
    places.add(5, "ours")
    places.name("red", "red")
    places.name("blue", "blue")
    places.add(6, "blue")
    proc = places.proc
    assert places.found() == [
        ("", "ours"),
        ("blue", "blue"),
        ("red", "red"),
        (f"{proc}/4/ns/net", "other"),
        (f"{proc}/30/ns/net", "hidden"),
    ]


def test_every_namespace_has_a_path_to_enter_it_by(places: Places) -> None:
    places.name("blue", "blue")
    places.add(4, "other")
    assert [place.path for place in namespaces(places.proc, places.named)] == [
        f"{places.proc}/self/ns/net",
        f"{places.named}/blue",
        f"{places.proc}/4/ns/net",
    ]


def test_what_ends_meanwhile_or_may_not_be_seen_is_passed_over(places: Places) -> None:
    (places.base / "proc/7/ns").mkdir(parents=True)
    (places.base / "proc/cpuinfo").touch()
    (places.base / "named/stale").symlink_to(places.base / "gone")
    places.add(8, "other")
    assert places.found() == [("", "ours"), (f"{places.proc}/8/ns/net", "other")]


def test_a_mount_leads_to_a_namespace_that_has_neither_name_nor_process(places: Places) -> None:
    """As Docker keeps them below /run/docker."""
    place = places.base / "two words"
    os.link(places.namespace("docker"), place)
    mounted = str(place).replace(" ", "\\040")
    (places.base / "proc/self/mountinfo").write_text(
        "21 20 0:4 / /proc rw - proc proc rw\n"
        f"52 21 0:4 net:[4026532291] {mounted} rw shared:7 - nsfs nsfs rw\n"
        f"53 21 0:4 mnt:[4026532292] {places.base}/ns-ours rw - nsfs nsfs rw\n"
        "54 21\n"
    )
    assert places.found() == [("", "ours"), (str(place), "docker")]


def test_without_names_and_processes_there_is_ours(tmp_path: Path) -> None:
    listed = namespaces("/proc", str(tmp_path / "none"))
    ours = next(listed)
    assert (ours.name, ours.path) == ("", "/proc/self/ns/net")
    assert ours.inode == os.stat("/proc/self/ns/net").st_ino


def test_a_path_that_leads_to_another_namespace_by_now_is_not_entered(tmp_path: Path) -> None:
    """The process has ended, and its number was given to another."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ProcessLookupError):
        enter(Namespace("x", "/proc/self/ns/net", os.stat("/proc/self/ns/net").st_ino + 1))
    with pytest.raises(FileNotFoundError):
        enter(Namespace("x", str(tmp_path / "gone"), 1))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_name_without_a_namespace_is_passed_over(tmp_path: Path) -> None:
    """The plain file that `ip netns add` mounts a namespace on, without the mount."""
    before = len(os.listdir("/proc/self/fd"))
    leftover = tmp_path / "leftover"
    leftover.touch()
    with pytest.raises(ProcessLookupError):
        enter(Namespace("leftover", str(leftover), leftover.stat().st_ino))
    assert len(os.listdir("/proc/self/fd")) == before


def child(answer: object) -> type:
    """What takes the place of the child process: it runs nothing and has this answer."""

    class Answering:
        waits: ClassVar[list[tuple[float, float]]] = []

        def __init__(self, task: Callable[[], object]) -> None:
            assert callable(task)

        def collect(self, wait: float, longest: float) -> object:
            self.waits.append((wait, longest))
            return answer

    return Answering


def search(
    places: Places, answer: object, monkeypatch: pytest.MonkeyPatch, uid: int = 0
) -> dict[int, NetdevInNetns]:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    answering = child(answer)
    monkeypatch.setattr(netns, "Child", answering)
    source = OtherNamespaces(Roots("/sys", places.proc), places.named, wait=3.5)
    found = dict(source.find(PCI, [1]))
    assert answering.waits == [(3.5, 15.0)]  # type: ignore[attr-defined]
    return found


def test_what_the_search_found_is_told_by_port(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"error": 0, "found": {1: ("blue", 17, tuple(BLUE))}}
    assert search(places, answer, monkeypatch) == {1: NetdevInNetns("blue", BLUE, 17)}
    assert search(places, {"error": 0, "found": {}}, monkeypatch) == {}


def test_a_search_that_failed_is_no_search_that_found_nothing(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OSError, match="Operation not permitted") as caught:
        search(places, {"error": errno.EPERM, "found": {}}, monkeypatch)
    assert caught.value.errno == errno.EPERM
    with pytest.raises(TimeoutError) as late:
        search(places, None, monkeypatch)
    assert late.value.errno == errno.ETIMEDOUT
    with pytest.raises(PermissionError) as denied:
        search(places, {"error": 0, "found": {}}, monkeypatch, uid=1000)
    assert denied.value.errno == errno.EPERM


def test_an_answer_of_the_kernel_that_is_no_zero_is_its_errno(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ctypes  # noqa: PLC0415 - as the module does it

    ctypes.set_errno(errno.EINVAL)
    netns._check(0)
    with pytest.raises(OSError, match="Invalid argument") as caught:
        netns._check(-1)
    assert caught.value.errno == errno.EINVAL


def test_what_the_kernel_does_not_let_the_child_do_ends_the_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Libc:
        def unshare(self, flags: int) -> int:
            assert flags == 0x20000  # CLONE_NEWNS, and no CLONE_NEWNET
            return -1

    import ctypes  # noqa: PLC0415

    monkeypatch.setattr(netns, "_libc", Libc)
    ctypes.set_errno(errno.EPERM)
    assert netns._search([], PCI, {1}) == {"error": errno.EPERM, "found": {}}


def test_our_own_namespace_is_told_by_inode_and_cookie(places: Places) -> None:
    ours = netns.own()
    assert ours.inode == os.stat("/proc/self/ns/net").st_ino
    assert ours.cookie is None or ours.cookie > 0
    assert netns.own().is_same(ours)
    # Another /proc, the same process.
    assert netns.own(places.proc).cookie == ours.cookie
    assert netns.own(str(places.base / "nowhere")).inode is None


RED = NetnsId(0, 17)


@pytest.mark.parametrize(
    ("cookie", "found"),
    [(17, True), (18, False), (None, True)],  # it; the number is another's now; not to be entered
)
def test_a_namespace_is_found_by_its_number_and_told_by_its_cookie(
    places: Places, monkeypatch: pytest.MonkeyPatch, cookie: int | None, found: bool
) -> None:
    monkeypatch.setattr(netns, "Child", child(cookie))
    places.name("red", "red")
    places.add(5, "blue")
    red, blue = (os.stat(places.namespace(name)).st_ino for name in ("red", "blue"))
    there = netns.find(RED._replace(inode=red), places.proc, places.named)
    assert (there.name if there else None) == ("red" if found else None)
    there = netns.find(RED._replace(inode=blue), places.proc, places.named)
    assert (there.path if there else None) == (f"{places.proc}/5/ns/net" if found else None)
    assert netns.find(RED._replace(inode=-1), places.proc, places.named) is None
