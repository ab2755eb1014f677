"""The search for netdevs in namespaces of other processes, with the running kernel's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from manactl.look import netns
from manactl.look.netns import OtherNamespaces, namespaces
from manactl.look.sysfs import Roots
from manactl.model.claim import NetnsId

pytestmark = [
    pytest.mark.netns,
    pytest.mark.usefixtures("netns"),
    # A test runner may have threads; the command has none.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


@pytest.fixture
def stranger() -> Iterator[int]:
    """A process in a network namespace of its own, with a child there."""
    script = "echo; sleep 600 & wait"
    with subprocess.Popen(
        ["unshare", "--net", "setpriv", "--pdeathsig", "KILL", "sh", "-c", script],
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        os.killpg(process.pid, 9)


def test_a_namespace_is_listed_once_and_by_its_name_if_it_has_one(
    stranger: int, tmp_path: Path
) -> None:
    own = f"/proc/{stranger}/ns/net"
    inode = os.stat(own).st_ino
    assert [one.path for one in namespaces("/proc", str(tmp_path)) if one.inode == inode] == [own]
    (tmp_path / "blue").symlink_to(own)
    assert [one.name for one in namespaces("/proc", str(tmp_path)) if one.inode == inode] == [
        "blue"
    ]


def test_our_own_namespace_comes_first_and_has_no_name(tmp_path: Path) -> None:
    (tmp_path / "here").symlink_to("/proc/self/ns/net")
    first, *others = namespaces("/proc", str(tmp_path))
    assert (first.name, first.inode) == ("", os.stat("/proc/self/ns/net").st_ino)
    assert "here" not in [one.name for one in others]


def test_the_search_finds_nothing_that_is_not_there_and_leaves_no_mount(
    stranger: int, tmp_path: Path
) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    before = os.stat("/proc/thread-self/ns/net").st_ino
    (tmp_path / "blue").symlink_to(f"/proc/{stranger}/ns/net")
    search = OtherNamespaces(Roots(), named=str(tmp_path), wait=60)
    assert search.find("ffff:00:00.0", {0, 1}) == {}
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert os.stat("/proc/thread-self/ns/net").st_ino == before


def test_a_namespace_is_known_again_by_the_kernels_cookie(stranger: int, tmp_path: Path) -> None:
    script = "from manactl.look import netns; print(*netns.own())"
    (tmp_path / "blue").symlink_to(f"/proc/{stranger}/ns/net")
    shown = subprocess.run(
        ["nsenter", f"--net=/proc/{stranger}/ns/net", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(netns.__file__).parents[2])},
    )
    inode, cookie = map(int, shown.stdout.split())
    theirs = NetnsId(inode, cookie)
    assert not theirs.is_same(netns.own())
    found = netns.find(theirs, named=str(tmp_path))
    assert found is not None
    assert (found.name, found.inode) == ("blue", inode)
    # Another one that has got the number of it.
    assert netns.find(NetnsId(inode, cookie + 1), named=str(tmp_path)) is None


def test_a_search_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "blue")  # to open it is to wait for a writer
    with pytest.raises(TimeoutError):
        OtherNamespaces(Roots(), named=str(tmp_path), wait=0.05).find("ffff:00:00.0", {0})
