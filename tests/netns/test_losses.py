"""What only its maker can put back: told, listed, and no residue. On the host's own kernel."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from manactl.act.plan import SetAdmin
from manactl.netstate import losses
from manactl.netstate.losses import Cause
from tests.lab.guest import makers
from tests.netns.port import PORT, Here, batch, down_and_up, everything, ip, put_back, settle
from tests.unit.wording import wording

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("netns")]

ANYCAST = "2001:db8:1::77"


@pytest.fixture(autouse=True)
def without_dad(netns: None) -> None:
    Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")


def joined(address: str) -> socket.socket:
    """A program that is a member of that anycast address."""
    return makers.join("port0", address)


def until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def anycasts() -> list[str]:
    shown = ip("-6", "route", "show", "table", "local", "type", "anycast", "dev", "port0")
    return [line.split()[1] for line in shown.splitlines()]


@pytest.mark.parametrize("forwarding", [0, 1])
@pytest.mark.parametrize("lives", [True, False], ids=["lives", "ended"])
def test_an_anycast_address_of_a_program(here: Here, forwarding: int, lives: bool) -> None:
    Path("/proc/sys/net/ipv6/conf/port0/forwarding").write_text(str(forwarding))
    ip("address", "add", "2001:db8:1::4/64", "dev", "port0", "nodad")
    with joined(ANYCAST) as program:
        of_kernel = {"2001:db8:1::", "fe80::"} if forwarding else set()
        until(lambda: set(anycasts()) == {ANYCAST, *of_kernel})
        state = here.capture(PORT)
        (loss,) = losses.coming(state)
        assert loss.cause is Cause.ANYCAST
        if not lives:
            program.close()
        down_and_up()
        done = put_back(here, state)
        assert done.residue == ()
        (lost,) = done.lost
        assert lost.cause is Cause.ANYCAST
        assert lost.text.startswith(f"anycast {ANYCAST}/128 dev port0")
        assert set(anycasts()) == of_kernel
        assert put_back(here, state).lost == done.lost  # and it stays so


def test_an_anycast_address_is_there_when_its_program_joins_again(here: Here) -> None:
    ip("address", "add", "2001:db8:1::4/64", "dev", "port0", "nodad")
    with joined(ANYCAST):
        state = here.capture(PORT)
        down_and_up()
    assert len(put_back(here, state).lost) == 1
    with joined(ANYCAST):
        done = put_back(here, state)
        assert (done.residue, done.lost) == ((), ())


def test_autojoin_addresses_are_left_first_and_come_back(here: Here) -> None:
    batch(
        "address add ff05::1234/128 dev port0 autojoin\n"
        "address add 239.1.1.1/32 dev port0 autojoin\n"
    )
    settle()
    before, groups = everything(), sorted(ip("maddress", "show").split())
    state = here.capture(PORT)
    assert losses.coming(state) == []
    leaves = tuple(fact.body for fact in losses.autojoined(state))
    assert len(leaves) == 1
    step = SetAdmin(PORT, "port0", up=False, was=True, had_carrier=True, leaves=leaves)
    step.do(System(here), 5.0)
    step.undo(System(here))
    done = put_back(here, state)
    assert (done.residue, done.lost, done.extra) == ((), (), ())
    settle()
    assert everything() == before
    assert sorted(ip("maddress", "show").split()) == groups
    ip("address", "del", "ff05::1234/128", "dev", "port0")  # which leaves its group
    assert "ff05::1234" not in ip("maddress", "show", "dev", "port0")


def test_an_autojoin_address_whose_group_the_kernel_has_kept(here: Here) -> None:
    """Somebody else set the port down and up."""
    ip("address", "add", "ff05::1234/128", "dev", "port0", "autojoin")
    state = here.capture(PORT)
    down_and_up()
    done = put_back(here, state, 0.3)
    assert done.residue == ()
    assert [one.cause for one in done.lost] == [Cause.JOINED]


class System:
    """What SetAdmin needs of act.plan.System, on that interface."""

    def __init__(self, here: Here) -> None:
        self.here = here
        self.monotonic, self.pause, self.send = here.monotonic, here.pause, here.send

    def netdev(self, _port: object) -> object:
        index = socket.if_nametoindex("port0")
        return _Now("port0", index, self.here.rtnl.link(index).up)

    def set_admin(self, _port: object, up: bool) -> None:
        self.here.rtnl.set_up(socket.if_nametoindex("port0"), up)

    def carrier(self, _port: object) -> bool:
        return bool(self.here.rtnl.link(socket.if_nametoindex("port0")).carrier)

    def boottime(self) -> float:
        return 0.0


class _Now:
    def __init__(self, name: str, ifindex: int, up: bool) -> None:
        self.name, self.ifindex, self.up = name, ifindex, up


# --- encapsulations -------------------------------------------------------------------------

ENCAPS = (
    "-6 route add 2001:db8:f1::/64 encap rpl segs 2001:db8:1::7 dev port0",
    "-6 route add 2001:db8:f2::/64 encap seg6 mode encap segs 2001:db8:1::7 dev port0",
    "-6 route add 2001:db8:f3::/64 encap seg6local action End count dev port0",
    "-6 route add 2001:db8:f4::/64 encap seg6local action End.X nh6 2001:db8:1::7 dev port0",
    "-6 route add 2001:db8:f5::/64 encap ioam6 trace prealloc type 0x800000 ns 1 size 12 "
    "via 2001:db8:1::1 dev port0",
    "-6 route add 2001:db8:f6::/64 encap ip6 id 7 dst 2001:db8:1::8 dev port0",
    "route add 198.51.100.0/24 encap ip id 7 dst 10.1.0.8 dev port0",
    "route add 198.51.101.0/24 encap xfrm if_id 7 via 10.1.0.8 dev port0",
    "route add 198.51.102.0/24 encap mpls 100/200 via 10.1.0.8 dev port0",
    "-6 route add 2001:db8:f7::/64 nexthop encap seg6 mode inline segs 2001:db8:1::7 "
    "via 2001:db8:1::1 dev port0 nexthop via 2001:db8:1::2 dev port0",
    "nexthop add id 30 encap rpl segs 2001:db8:1::7 via 2001:db8:1::1 dev port0",
    "-6 route add 2001:db8:f8::/64 nhid 30",
)


def test_encapsulations_come_back(here: Here) -> None:
    batch("address add 10.1.0.2/24 dev port0\naddress add 2001:db8:1::4/64 dev port0 nodad\n")
    made = []
    for line in ENCAPS:
        with contextlib.suppress(Exception):  # this kernel may lack the kind
            ip(*line.split())
            made.append(line)
    print(made)
    assert any("seg6 " in line for line in made)
    settle()
    before = everything()
    state = here.capture(PORT)
    assert losses.coming(state) == []
    down_and_up()
    done = put_back(here, state)
    assert (done.residue, done.lost) == ((), ())
    settle()
    assert everything() == before


def test_a_bpf_program_of_a_route_is_lost_with_all_that_goes_by_it(here: Here) -> None:
    batch("address add 10.1.0.2/24 dev port0\n")
    makers.bpf_route("port0", "198.51.100.0/24")
    makers.bpf_nexthop("port0", 40, "10.1.0.9")
    batch(
        "nexthop add id 41 via 10.1.0.7 dev port0\nnexthop add id 50 group 40/41\n"
        "route add 198.51.101.0/24 nhid 40\nroute add 198.51.102.0/24 nhid 41\n"
        "route add 198.51.103.0/24 nhid 50\n"
    )
    state = here.capture(PORT)
    told = losses.coming(state)
    assert [one.cause for one in told].count(Cause.BPF) == 2
    assert [one.cause for one in told].count(Cause.NEXTHOP) == 3
    down_and_up()
    done = put_back(here, state, 0.5)
    assert done.residue == ()
    assert sorted(one.text.split(" (")[0] for one in done.lost) == [
        "198.51.100.0/24 dev port0 proto static scope link",
        "198.51.101.0/24 nhid 40 proto boot",
        "198.51.103.0/24 nhid 50 proto boot",
        "nexthop id 40 via 10.1.0.9 dev port0",
        "nexthop id 50 group 40/41",
    ]
    assert "198.51.102.0/24" in ip("route", "show")


# --- routing daemons ------------------------------------------------------------------------


def test_what_a_daemon_has_taken_over_is_settled(here: Here) -> None:
    batch(
        "address add 10.1.0.2/24 dev port0\n"
        "nexthop add id 10 via 10.1.0.1 dev port0 proto zebra\n"
        "nexthop add id 11 via 10.1.0.5 dev port0 proto zebra\n"
        "nexthop add id 12 via 10.8.0.5 dev other0 proto zebra\n"
        "nexthop add id 20 group 10/12 proto zebra\n"
        "route add 198.51.100.0/24 nhid 10 proto bgp\n"
        "route add 198.51.101.0/24 nhid 10 proto bgp\n"
        "route add 198.51.102.0/24 nhid 11 proto bgp\n"
        "route add 198.51.103.0/24 via 10.1.0.1 proto bird\n"
        "route add 198.51.104.0/24 nhid 20 proto bgp\n"
    )
    state = here.capture(PORT)
    down_and_up()
    batch(
        "nexthop add id 10 via 10.8.0.1 dev other0 proto zebra\n"
        "route add 198.51.100.0/24 nhid 10 proto bgp\n"
        "route add 198.51.103.0/24 via 10.1.0.3 proto bird\n"
    )
    done = put_back(here, state, 0.5)
    assert done.residue == ()
    assert {one.cause for one in done.lost} == {Cause.TAKEN_OVER}
    texts = sorted(one.text for one in done.lost)
    assert [text.split(" (")[0] for text in texts] == [
        "198.51.101.0/24 nhid 10 proto bgp",
        "198.51.103.0/24 via 10.1.0.1 dev port0 proto bird",
        "nexthop id 10 via 10.1.0.1 dev port0",
        "nexthop id 20 group 10/12",
    ]
    with wording:
        there = "left as it is: nexthop id 10 via 10.8.0.1 dev other0)"
        assert [text.endswith(there) for text in texts] == [True, False, True, True]
    routes = ip("route", "show")
    assert "198.51.101.0/24" not in routes
    assert "198.51.102.0/24 nhid 11" in routes  # what nobody has touched comes back
    assert routes.count("198.51.103.0/24") == 1


def test_what_is_no_daemons_is_not_settled_by_it(here: Here) -> None:
    batch(
        "address add 10.1.0.2/24 dev port0\n"
        "nexthop add id 10 via 10.1.0.1 dev port0 proto zebra\n"
        "route add 198.51.100.0/24 nhid 10 proto static\n"
    )
    state = here.capture(PORT)
    down_and_up()
    ip("nexthop", "add", "id", "10", "via", "10.8.0.1", "dev", "other0", "proto", "zebra")
    done = put_back(here, state, 0.5)
    assert len(done.residue) == len(done.lost) == 1
    assert done.residue[0].startswith("198.51.100.0/24 nhid 10 proto static")
    assert "198.51.100.0/24" not in ip("route", "show")


def test_what_is_left_of_a_daemons_multipath_route_is_completed(here: Here) -> None:
    batch(
        "address add 2001:db8:1::2/64 dev port0 nodad\n"
        "-6 route add 2001:db8:9::/48 proto bird nexthop via 2001:db8:1::9 dev port0 "
        "nexthop via 2001:db8:8::9 dev other0\n"
    )
    settle()
    before = everything()
    state = here.capture(PORT)
    down_and_up()
    assert "via 2001:db8:8::9" in ip("-6", "route", "show", "2001:db8:9::/48")
    done = put_back(here, state)
    assert (done.residue, done.lost) == ((), ())
    settle()
    assert everything() == before


def test_a_daemons_nexthop_whose_id_a_person_uses_is_not_settled(here: Here) -> None:
    batch(
        "address add 10.1.0.2/24 dev port0\n"
        "nexthop add id 10 via 10.1.0.1 dev port0 proto zebra\n"
        "route add 198.51.100.0/24 nhid 10 proto bgp\n"
    )
    state = here.capture(PORT)
    down_and_up()
    batch("nexthop add id 10 via 10.8.0.1 dev other0\n")
    done = put_back(here, state, 0.5)
    assert done.lost == ()
    first, second = sorted(done.residue)
    assert first.startswith("198.51.100.0/24 nhid 10 proto bgp (")
    assert second.startswith("nexthop id 10 via 10.1.0.1 dev port0 (")
    assert all("nexthop id 10 via 10.8.0.1 dev other0" in line for line in (first, second))
    with wording:
        assert "(nexthop id 10 is not what it was: " in first
        assert "(there is instead: nexthop id 10" in second
    assert "198.51.100.0/24" not in ip("route", "show")


def test_an_address_that_is_no_more_the_first_of_its_network_is_told(here: Here) -> None:
    """Its own routes and others' have another source then, for good: nothing is awaited for them."""
    batch(
        "address add 10.4.0.2/24 dev port0\naddress add 10.4.0.3/24 dev port0\n"
        "address add 10.5.0.2/24 dev port0\naddress add 10.4.0.4/25 dev port0\n"
    )
    settle()
    state = here.capture(PORT)
    ip("link", "set", "port0", "down")
    ip("-4", "address", "flush", "dev", "port0")
    batch("address add 10.4.0.3/24 dev port0\nlink set port0 up")
    done = put_back(here, state, 20.0)
    assert done.residue == ()
    (lost,) = done.lost
    assert lost.cause is Cause.ORDER
    assert "10.4.0.2/24" in lost.text
    assert "10.4.0.3/24" in lost.text
    assert done.extra == ()
    for to in ("10.4.0.200", "10.4.0.9", "10.5.0.9"):
        assert f"{to} dev port0 src" in ip("route", "get", to)
    assert put_back(here, state, 0.0).lost == done.lost, "and it stays so"
    ip("-4", "address", "flush", "dev", "port0")
    assert put_back(here, state).lost == (), "in their order again"
