"""What a bridge has of a member that is destroyed and made again, on the running kernel; VLANs need
the lab's kernels (tests/lab/test_recreate.py)."""

from __future__ import annotations

import json
import re
import socket
import subprocess

import pytest

from manactl.look.rtnetlink import Rtnl
from manactl.netstate import link_settings
from manactl.netstate.link_settings import LinkSettings
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
    groups = [line for line in bridge("mdb", "show").splitlines() if "permanent" in line]
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
    assert shown() == before
