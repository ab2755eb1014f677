"""Nothing is called restored that differs from what was: `ip` makes the difference.

The network sends nothing here, so whatever is not seen would be reported as verified.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import pytest

from manactl.netstate import diff
from manactl.netstate.requests import Filled
from manactl.netstate.snapshot import Request
from tests.netns.port import PORT, Here, batch, ip, put_back, settle
from tests.unit.fakes import refused
from tests.unit.wording import wording

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("netns")]

BASE = """
address add 10.1.0.2/24 dev port0
address add 10.1.0.3/24 dev port0
address add 2001:db8:1::2/64 dev port0 nodad
address add 2001:db8:2::2/64 dev port0 nodad
"""
ROUTE = "route add 192.0.2.0/24"
ROUTE6 = "-6 route add 2001:db8:100::/48"
NEIGH = "neighbour add 10.1.0.50"
HOPS = "nexthop add id 10 via 10.1.0.20 dev port0\nnexthop add id 11 via 10.1.0.21 dev port0\n"


@pytest.fixture(autouse=True)
def without_dad(netns: None) -> None:
    """It would take two seconds each time."""
    set_sysctl("net/ipv6/conf/default/accept_dad", "0")


class Mute(Here):
    """Nothing can be changed."""

    def send(self, request: Request) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    def send_all(self, requests: Sequence[Request]) -> list[OSError | None]:
        return [refused(self.send, request) for request in requests]

    def send_alike(self, requests: Filled) -> None:
        self.send_all([*requests.each()])

    def set_sysctl(self, path: str, value: str) -> None:
        raise OSError(errno.EACCES, "Permission denied")


# How it was, and how it is: both are made by `ip`; what was is removed before.
CHANGES = [
    (f"{ROUTE} via 10.1.0.5", f"{ROUTE} via 10.1.0.6"),
    (f"{ROUTE} via 10.1.0.5", f"{ROUTE} dev port0 scope link"),
    (f"{ROUTE} via 10.1.0.5", f"{ROUTE} via 10.1.0.5 onlink dev port0"),
    (f"{ROUTE} via 10.1.0.5", f"{ROUTE} via inet6 fe80::5 dev port0"),
    (f"{ROUTE} via 10.1.0.5 src 10.1.0.2", f"{ROUTE} via 10.1.0.5 src 10.1.0.3"),
    (f"{ROUTE} via 10.1.0.5 mtu 1400", f"{ROUTE} via 10.1.0.5 mtu 1300"),
    (f"{ROUTE} via 10.1.0.5 mtu 1400", f"{ROUTE} via 10.1.0.5 mtu lock 1400"),
    (f"{ROUTE} via 10.1.0.5", f"{ROUTE} via 10.1.0.5 initcwnd 20"),
    (f"{ROUTE} via 10.1.0.5", f"{ROUTE} via 10.1.0.5 proto static"),
    (f"{ROUTE} via 10.1.0.5", f"{ROUTE} via 10.1.0.5 tos 0x10"),
    (f"{ROUTE} via 10.1.0.5", f"{ROUTE} via 10.1.0.5 metric 7"),
    (f"{ROUTE} via 10.1.0.5", f"{ROUTE} via 10.1.0.5 table 7"),
    (f"{ROUTE} via 10.1.0.5", f"{ROUTE} via 10.1.0.5 realm 5"),
    (f"{ROUTE} via 10.1.0.5", "route add 192.0.2.0/25 via 10.1.0.5"),
    (f"{ROUTE} dev port0", "route add local 192.0.2.0/24 dev port0 table main"),
    (f"{ROUTE} encap ip id 5 dst 10.1.0.9 dev port0",
     f"{ROUTE} encap ip id 6 dst 10.1.0.9 dev port0"),
    (f"{ROUTE} nexthop via 10.1.0.5 weight 2 nexthop via 10.1.0.6",
     f"{ROUTE} nexthop via 10.1.0.5 weight 3 nexthop via 10.1.0.6"),
    (f"{ROUTE} nexthop via 10.1.0.5 nexthop via 10.1.0.6",
     f"{ROUTE} nexthop via 10.1.0.5 nexthop via 10.1.0.7"),
    (f"{ROUTE} nexthop via 10.1.0.5 nexthop via 10.1.0.6",
     f"{ROUTE} nexthop via 10.1.0.6 nexthop via 10.1.0.5"),
    (f"{ROUTE} nexthop via 10.1.0.5 nexthop via 10.1.0.6",
     f"{ROUTE} nexthop via 10.1.0.5 nexthop via 10.1.0.6 nexthop via 10.1.0.7"),
    (f"{ROUTE6} via 2001:db8:1::5", f"{ROUTE6} via 2001:db8:1::6"),
    (f"{ROUTE6} via fe80::1 dev port0", f"{ROUTE6} via fe80::1 dev port0 pref high"),
    (f"{ROUTE6} via fe80::1 dev port0 expires 600", f"{ROUTE6} via fe80::1 dev port0"),
    (f"{ROUTE6} via fe80::1 dev port0", f"{ROUTE6} via fe80::1 dev port0 expires 600"),
    (f"{ROUTE6} via 2001:db8:1::5 src 2001:db8:1::2",
     f"{ROUTE6} via 2001:db8:1::5 src 2001:db8:2::2"),
    (f"{ROUTE6} from 2001:db8:1::/64 dev port0", f"{ROUTE6} dev port0"),
    (f"{ROUTE6} encap seg6 mode encap segs 2001:db8::9 dev port0",
     f"{ROUTE6} encap seg6 mode encap segs 2001:db8::8 dev port0"),
    (f"{ROUTE6} nexthop via 2001:db8:1::5 nexthop via 2001:db8:1::6",
     f"{ROUTE6} nexthop via 2001:db8:1::5 nexthop via 2001:db8:1::6 weight 4"),
    (f"{NEIGH} lladdr 02:00:00:00:00:50 dev port0", f"{NEIGH} lladdr 02:00:00:00:00:51 dev port0"),
    (f"{NEIGH} lladdr 02:00:00:00:00:50 dev port0",
     f"{NEIGH} lladdr 02:00:00:00:00:50 dev port0 extern_learn"),
    (f"{NEIGH} lladdr 02:00:00:00:00:50 dev port0",
     f"{NEIGH} lladdr 02:00:00:00:00:50 dev port0 proto 99"),
    ("neighbour add proxy 10.1.0.60 dev port0", "neighbour add proxy 10.1.0.61 dev port0"),
    ("address add 10.2.0.2/24 dev port0", "address add 10.2.0.2/25 dev port0"),
    ("address add 10.2.0.2/24 dev port0", "address add 10.2.0.2/24 dev port0 scope link"),
    ("address add 10.2.0.2/24 dev port0", "address add 10.2.0.2/24 dev port0 metric 9"),
    ("address add 10.2.0.2/24 dev port0", "address add 10.2.0.2/24 dev port0 label port0:x"),
    ("address add 10.2.0.2/24 dev port0", "address add 10.2.0.2/24 dev port0 noprefixroute"),
    ("address add 10.2.0.2/24 dev port0", "address add 10.2.0.2/24 broadcast 10.2.0.9 dev port0"),
    ("address add 10.2.0.2/24 dev port0", "address add 10.2.0.2/24 dev port0 valid_lft 900 preferred_lft 800"),
    ("address add 10.2.0.2 peer 10.2.0.7/32 dev port0",
     "address add 10.2.0.2 peer 10.2.0.8/32 dev port0"),
    ("address add 2001:db8:9::2/64 dev port0 nodad", "address add 2001:db8:9::2/64 dev port0"),
    ("address add 2001:db8:9::2/64 dev port0 nodad",
     "address add 2001:db8:9::2/64 dev port0 nodad mngtmpaddr"),
    ("address add 2001:db8:9::2/64 dev port0 nodad",
     "address add 2001:db8:9::2/64 dev port0 nodad home"),
    (HOPS + "nexthop add id 20 group 10/11", HOPS + "nexthop add id 20 group 10,2/11"),
    (HOPS + "nexthop add id 20 group 10/11", HOPS + "nexthop add id 20 group 10/11 proto 99"),
    (HOPS + "nexthop add id 20 group 10/11 type resilient buckets 32",
     HOPS + "nexthop add id 20 group 10/11 type resilient buckets 64"),
    ("nexthop add id 10 via 10.1.0.20 dev port0", "nexthop add id 10 via 10.1.0.22 dev port0"),
    ("nexthop add id 10 via 10.1.0.20 dev port0", "nexthop add id 10 dev port0"),
    (HOPS + f"{ROUTE} nhid 10", HOPS + f"{ROUTE} nhid 11"),
]  # fmt: skip


def set_sysctl(path: str, value: str) -> None:
    (Path("/proc/sys") / path).write_text(value)


def undo(line: str) -> str:
    """The command that removes what that one has made."""
    words = line.replace(" add ", " del ").split()
    if "nexthop" in words[:1]:
        return " ".join(words[:4])
    if "valid_lft" in words:
        words = words[: words.index("valid_lft")]
    plain = {"extern_learn", "mngtmpaddr", "home", "noprefixroute", "nodad"}
    return " ".join(word for word in words if word not in plain)


@pytest.mark.parametrize(("was", "now"), CHANGES)
def test_a_difference_is_residue(here: Here, was: str, now: str) -> None:
    batch(BASE + was)
    settle()
    state = here.capture(PORT)
    mute = Mute(here.rtnl, here.name)
    assert put_back(mute, state, 0.0).residue == ()
    assert diff.changes(state, here.capture(PORT)) == []
    assert diff.renewed(state, here.capture(PORT)) == []
    for line in reversed(was.strip().splitlines()):
        ip(*undo(line).split())
    batch(now)
    settle()
    assert diff.changes(state, here.capture(PORT)), f"{was!r} became {now!r} unnoticed"
    done = put_back(mute, state, 0.0)
    assert done.residue, f"{was!r} became {now!r}, and nothing was said"
    target = was.strip().splitlines()[-1].split()
    named = next(word for word in target if word[0].isdigit()).partition("/")[0]
    assert any(named in line for line in done.residue), done.residue


@pytest.mark.parametrize("was", sorted({was for was, _ in CHANGES}))
def test_what_is_missing_is_residue(here: Here, was: str) -> None:
    batch(BASE + was)
    settle()
    state = here.capture(PORT)
    for line in reversed(was.strip().splitlines()):
        ip(*undo(line).split())
    done = put_back(Mute(here.rtnl, here.name), state, 0.0)
    assert done.residue
    with wording:
        assert all("Operation not permitted" in line or "missing" in line for line in done.residue)


def test_a_wrong_sysctl_is_residue(here: Here) -> None:
    state = here.capture(PORT)
    mute = Mute(here.rtnl, here.name)
    assert put_back(mute, state, 0.0).residue == ()
    set_sysctl("net/ipv6/conf/port0/mtu", "1400")
    (line,) = put_back(mute, state, 0.0).residue
    assert line == "sysctl net/ipv6/conf/port0/mtu = 1500 (Permission denied)"
    assert put_back(here, state, 0.0).residue == ()
    assert Path("/proc/sys/net/ipv6/conf/port0/mtu").read_text().strip() == "1500"


def test_a_vanished_upper_is_residue_with_what_was_on_it(here: Here) -> None:
    batch("link add m1 link port0 type macvlan\nlink set m1 up\naddress add 10.5.0.2/24 dev m1\n")
    settle()
    state = here.capture(PORT)
    ip("link", "del", "m1")
    (line,) = put_back(here, state, 0.0).residue
    assert line.startswith("macvlan m1 (")
    with wording:
        assert line.startswith("macvlan m1 (it is gone, with ")
        assert int(line.split("with ")[1].split()[0]) >= 4  # address, connected, local, broadcast


def test_an_upper_that_cannot_be_set_up_is_residue(here: Here) -> None:
    batch("link add m1 link port0 type macvlan\nlink set m1 up\n")
    settle()
    state = here.capture(PORT)
    ip("link", "set", "m1", "down")
    done = put_back(Mute(here.rtnl, here.name), state, 0.0)
    assert done.residue[0] == "macvlan m1 up (Operation not permitted)"


def test_privacy_addresses_are_the_kernels(here: Here) -> None:
    """Their numbers are new each time: neither missed nor called somebody else's work."""
    set_sysctl("net/ipv6/conf/port0/use_tempaddr", "2")
    ip("address", "add", "2001:db8:7::2/64", "dev", "port0", "mngtmpaddr", "nodad")
    settle()
    before = temporary()
    state = here.capture(PORT)
    ip("link", "set", "port0", "down")
    ip("link", "set", "port0", "up")
    done = put_back(here, state, 5.0)
    assert (done.residue, done.extra) == ((), ())
    settle()
    assert before
    assert temporary()
    assert not before & temporary()
    assert put_back(here, state, 0.0).residue == ()


def temporary() -> set[str]:
    lines = ip("-6", "-o", "address", "show", "dev", "port0", "temporary").splitlines()
    return {line.split()[3] for line in lines}
