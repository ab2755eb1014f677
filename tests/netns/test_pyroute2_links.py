"""Links decoded by pyroute2 beside those of our own decoder, which snapshots are made with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from manactl.look import pyroute2_links
from manactl.look.rtnetlink import Rtnl
from manactl.look.stacked_links import BESIDE

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("netns")]


def ip(*words: str | bytes) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture
def stranger() -> Iterator[str]:
    """The pid of a process in a network namespace of its own."""
    with subprocess.Popen(
        ["unshare", "--net", "setpriv", "--pdeathsig", "KILL", "sh", "-c", "echo; cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield str(process.pid)
        process.kill()


def test_both_decoders_see_the_same(stranger: str) -> None:
    ip("link", "add", "port0", "type", "veth", "peer", "name", "wire0")
    ip("link", "add", "port1", "type", "veth", "peer", "name", "away", "netns", stranger)
    ip("link", "add", "link", "port0", "name", "mv0", "type", "macvlan")
    ip("link", "add", "br0", "type", "bridge")
    ip("link", "add", "link", "br0", "name", "mv1", "type", "macvtap")
    ip("link", "set", "port1", "master", "br0")
    ip("link", "set", "lo", "up")
    ip("link", "set", "wire0", "up")  # and port0 not: no carrier comes between the two dumps
    ip(b"link", b"set", b"mv1", b"name", b"mv\xff")
    found = pyroute2_links.links()
    with Rtnl() as rtnl:
        ours = rtnl.stack()
    assert len(found) == len(ours) == 7
    for theirs, own in zip(found, ours, strict=True):
        assert theirs == (
            own.ifindex, own.name, own.kind, own.up, own.carrier, own.link,
            None if own.kind in BESIDE else own.far_lower, own.master, own.follows,
        )  # fmt: skip
    by_name = {link.name: link for link in found}
    assert by_name["mv\udcff"].lower == by_name["br0"].ifindex
    assert by_name["port1"].master == by_name["br0"].ifindex
    assert by_name["mv0"].lower == by_name["port0"].ifindex
    assert (by_name["lo"].up, by_name["wire0"].up, by_name["port0"].up) == (True, True, False)
    assert (by_name["lo"].carrier, by_name["wire0"].carrier) == (True, False)


def test_an_upper_of_another_namespace_has_a_far_lower(stranger: str) -> None:
    ip("link", "add", "port0", "type", "veth", "peer", "name", "wire0")
    ip("link", "add", "link", "port0", "name", "mv0", "type", "macvlan")
    index = {link.name: link.ifindex for link in pyroute2_links.links()}["port0"]
    ip("link", "set", "mv0", "netns", stranger)
    code = (
        "from manactl.look import pyroute2_links; "
        "print(*[(one.lower, *one.far_lower) for one in pyroute2_links.links() if one.far_lower])"
    )
    inside = ["nsenter", f"--net=/proc/{stranger}/ns/net", sys.executable, "-c", code]
    done = subprocess.run(
        inside, check=True, capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert done.stdout.split() == ["(None,", f"{index},", "0)"]


def test_every_dump_has_a_socket_of_its_own_and_leaves_none() -> None:
    code = (
        "import os; from manactl.look import pyroute2_links; pyroute2_links.links()\n"
        "before = sorted(os.listdir('/proc/self/fd'))\n"
        "for _ in range(20): pyroute2_links.links()\n"
        "assert sorted(os.listdir('/proc/self/fd')) == before\n"
    )
    env = {"PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
