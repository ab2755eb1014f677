"""What a bridge has of a member that is destroyed and made again, on the running kernel; VLANs need
the lab's kernels (tests/lab/test_recreate.py)."""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
from collections.abc import Sequence

import pytest

from manactl.look.rtnetlink import Rtnl
from manactl.netstate import link_settings
from manactl.netstate.link_settings import LinkSettings
from manactl.netstate.requests import Request
from manactl.netstate.snapshot import PortState
from tests.netns.port import PORT, Here, batch, ip, put_back
from tests.netns.test_surroundings import settled

pytestmark = pytest.mark.netns


def bridge(*words: str) -> str:
    done = subprocess.run(["bridge", *words], check=True, capture_output=True, text=True)
    return done.stdout


def shown() -> list[str]:
    lasting = ("static", "permanent")  # others are learned
    rows = bridge("fdb", "show", "brport", "port0").splitlines()
    fdb = [row for row in rows if "master" in row and any(word in row for word in lasting)]
    groups = [line for line in bridge("-d", "mdb", "show").splitlines() if "permanent" in line]
    return [*sorted(fdb), *sorted(groups), ip("token", "get", "dev", "port0")]


def state_of(name: str) -> str:
    (row,) = json.loads(bridge("-j", "link", "show", "dev", name))
    return str(row["state"])


@pytest.mark.parametrize("state", ["disabled", "listening", "learning", "forwarding"])
def test_what_a_port_does_in_a_bridge_without_stp(here: Here, state: str) -> None:
    """The kernel forgets that with the carrier."""
    batch("link add br0 type bridge stp_state 0\nlink set br0 up\nlink set port0 master br0")
    settled(lambda: state_of("port0") == "forwarding")
    bridge("link", "set", "dev", "port0", "state", state)
    assert state_of("port0") == state
    kept = PortState.from_json(json.loads(json.dumps(here.capture(PORT).to_json())))
    ip("link", "set", "port0", "down")
    ip("link", "set", "port0", "up")
    settled(lambda: state_of("port0") == "forwarding")
    done = put_back(here, kept)
    assert (done.residue, done.lost) == ((), ())
    assert state_of("port0") == state


def test_groups_that_are_permanent_stay_and_others_go_with_the_carrier(here: Here) -> None:
    """Of whatever source: what the plan tells (plan_words.py) is what the kernel does."""
    batch("link add br0 type bridge\nlink set br0 up\nlink set port0 master br0")
    settled(lambda: state_of("port0") == "forwarding")
    for number, words in enumerate((("temp",), ("src", "10.0.0.9", "temp")), 1):
        for last, lasting in ((words, 0), ((*words[:-1], "permanent"), 4)):
            group = f"239.1.1.{number + lasting}"
            bridge("mdb", "add", "dev", "br0", "port", "port0", "grp", group, *last)
    groups = {"239.1.1.1", "239.1.1.2", "239.1.1.5", "239.1.1.6"}
    assert set(re.findall(r"239[.0-9]+", bridge("mdb", "show"))) == groups
    ip("link", "set", "port0", "down")
    ip("link", "set", "port0", "up")
    settled(lambda: state_of("port0") == "forwarding")
    assert set(re.findall(r"239[.0-9]+", bridge("mdb", "show"))) == {"239.1.1.5", "239.1.1.6"}


def settings(rtnl: Rtnl) -> LinkSettings:
    found = rtnl.link_settings(socket.if_nametoindex("port0"))
    return LinkSettings.from_json(json.loads(json.dumps(found.to_json())))


def attribute(kind: int, payload: bytes) -> bytes:
    head = struct.pack("=HH", 4 + len(payload), kind)
    return head + payload + bytes(-len(payload) % 4)


def add_group(rtnl: Rtnl, group: str, mode: int, sources: Sequence[str], protocol: int = 4) -> None:
    """As `bridge mdb add ... filter_mode MODE source_list SOURCES` of newer releases does."""
    family = socket.AF_INET6 if ":" in group else socket.AF_INET
    packed = socket.inet_pton(family, group).ljust(16, b"\0")
    ethertype = 0x86DD if family == socket.AF_INET6 else 0x0800
    where = [socket.if_nametoindex(name) for name in ("port0", "br0")]
    entry = struct.pack("=IBBH16s", where[0], 1, 0, 0, packed) + struct.pack("!Hxx", ethertype)
    listed = b"".join(
        attribute(1 | 0x8000, attribute(1, socket.inet_pton(family, source))) for source in sources
    )
    attrs = attribute(4, bytes([protocol]))
    if sources:
        attrs += attribute(2 | 0x8000, listed) + attribute(3, bytes([mode]))
    body = struct.pack("=BxxxI", 7, where[1]) + attribute(1, entry) + attribute(2 | 0x8000, attrs)
    rtnl.send(Request(84, 0x600, body))


def test_groups_with_a_list_of_sources_come_back(here: Here) -> None:
    """For each source the kernel makes an entry as well: of an EXCLUDE list one that blocks."""
    batch(
        "link add br0 type bridge mcast_igmp_version 3 mcast_mld_version 2\n"
        "link set br0 up\nlink set port0 master br0"
    )
    include, exclude = 1, 0
    add_group(here.rtnl, "239.1.1.1", include, ("192.0.2.1", "192.0.2.2"))
    add_group(here.rtnl, "239.1.1.2", exclude, ("192.0.2.3",), protocol=11)  # zebra
    add_group(here.rtnl, "ff05::77", exclude, ("2001:db8::1", "2001:db8::2"))
    add_group(here.rtnl, "239.1.1.3", exclude, (), protocol=11)
    for words in ("grp 239.1.1.4", "grp 239.1.1.5 src 192.0.2.1"):
        bridge("mdb", "add", "dev", "br0", "port", "port0", *words.split(), "permanent")
    before, was = shown(), settings(here.rtnl)
    assert sum(" 192.0.2." in row or " 2001:db8::" in row for row in before) >= 5, before
    assert sum("blocked" in row for row in before) == 3, before
    made_again(here, was)
    assert shown() == before


def test_static_entries_groups_and_the_token_come_back(here: Here) -> None:
    batch(
        "link add br0 type bridge\nlink set br0 up\nlink set port0 master br0\n"
        "token set ::77 dev port0"
    )
    for words in (
        "fdb add 02:aa:00:00:00:01 dev port0 master static",
        "fdb add 02:aa:00:00:00:02 dev port0 master",
        "mdb add dev br0 port port0 grp 239.1.1.1 permanent",
        "mdb add dev br0 port port0 grp ff05::77 permanent",
    ):
        bridge(*words.split())
    before, was = shown(), settings(here.rtnl)
    assert {one.kind for one in was.bridging} == {"fdb", "mdb", "token"}
    assert len(was.bridging) == 5
    made_again(here, was)
    assert shown() == before


def made_again(here: Here, was: LinkSettings) -> None:
    ip("link", "del", "port0")
    batch("link add port0 address 02:00:00:00:00:01 type veth peer name wire0\nlink set wire0 up")
    index = socket.if_nametoindex("port0")
    for _ in range(3):  # as act/recreate.py does
        for change in link_settings.changes(was, here.rtnl.link_settings(index), index):
            if change.request is not None:
                here.rtnl.send(change.request)
    left = link_settings.changes(was, here.rtnl.link_settings(index), index)
    assert [one.text for one in left if one.bridging] == []
    batch("link set port0 up")
    settled(lambda: bool(here.rtnl.link(index).carrier))
