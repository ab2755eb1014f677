"""Two devices in one subnet: which of them packets leave by is as it was, or is told."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest

from manactl.act import restore
from manactl.model.port import PortId
from manactl.netstate import losses
from manactl.netstate.losses import Cause
from manactl.netstate.snapshot import PortState, Rows
from tests.netns.port import PORT, Here, batch, down_and_up, everything, ip, put_back, settle
from tests.unit.wording import wording

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("netns")]
ADDRESS = {
    "port0": "address add 10.5.0.5/24 dev port0\naddress add 2001:db8:5::5/64 dev port0 nodad\n",
    "other0": "address add 10.5.0.4/24 dev other0\naddress add 2001:db8:5::4/64 dev other0 nodad\n",
}
ROUTES = """\
route append 192.0.2.0/24 via 10.5.0.1 dev {0} metric 100
route append 192.0.2.0/24 via 10.5.0.2 dev {1} metric 100
route append 198.51.100.0/24 dev {0} scope link table 100
route append 198.51.100.0/24 dev {1} scope link table 100
"""
WHERE = ("10.5.0.77", "10.5.0.255", "192.0.2.7", "2001:db8:5::77")


@pytest.fixture(autouse=True)
def without_dad(netns: None) -> None:
    Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")


def ways() -> dict[str, str]:
    found = {to: ip("route", "get", to).splitlines()[0] for to in WHERE}
    found["table 100"] = ip("route", "show", "table", "100")
    return found


@pytest.mark.parametrize("order", [("port0", "other0"), ("other0", "port0")])
def test_the_way_that_packets_take(here: Here, order: tuple[str, str]) -> None:
    batch(ADDRESS[order[0]] + ADDRESS[order[1]] + ROUTES.format(*order))
    settle()
    before, all_before = ways(), everything()
    state = here.capture(PORT)
    told = losses.coming(state)
    down_and_up()
    done = put_back(here, state)
    assert done.residue == done.extra == ()
    settle()
    assert everything() == all_before
    now = ways()
    different = {to for to in now if now[to] != before[to]}
    if order[0] == "port0":
        assert different == {"2001:db8:5::77"}  # IPv6 puts no route before another
        assert [one.cause for one in told] == [one.cause for one in done.lost] == [Cause.ORDER]
        assert done.lost[0].text.startswith("2001:db8:5::/64 dev port0")
        with wording:
            assert "dev other0" in done.lost[0].text
    else:
        assert not different
        assert (told, done.lost) == ([], ())
    # The connected routes are the kernel's as before: they go with their addresses.
    batch("address del 10.5.0.5/24 dev port0\naddress del 2001:db8:5::5/64 dev port0\n")
    assert "10.5.0" not in ip("route", "show", "table", "all", "dev", "port0")
    assert put_back(here, state).lost == done.lost


def test_a_place_between_two_others_is_lost(here: Here) -> None:
    batch(
        "link add third0 type veth peer name wire2\nlink set third0 up\nlink set wire2 up\n"
        "route append 192.0.2.0/24 dev other0 metric 100\n"
        "route append 192.0.2.0/24 dev port0 metric 100\n"
        "route append 192.0.2.0/24 dev third0 metric 100\n"
    )
    before = ip("route", "get", "192.0.2.7")
    state = here.capture(PORT)
    (told,) = losses.coming(state)
    assert (told.cause, told.instead is not None) == (Cause.ORDER, True)
    down_and_up()
    done = put_back(here, state)
    assert ip("route", "get", "192.0.2.7") == before
    assert [one.cause for one in done.lost] == [Cause.ORDER]
    assert done.residue == ()


def test_several_of_ours_around_anothers(here: Here) -> None:
    rows = "\n".join(
        f"route append 192.0.2.0/24 via 10.5.0.{n} dev {dev} metric 100"
        for n, dev in ((1, "port0"), (2, "port0"), (3, "other0"), (6, "port0"), (7, "port0"))
    )
    batch(ADDRESS["other0"] + ADDRESS["port0"] + rows)
    before = ip("route", "show", "192.0.2.0/24")
    state = here.capture(PORT)
    assert losses.coming(state) == []
    down_and_up()
    done = put_back(here, state)
    assert (done.residue, done.lost) == ((), ())
    assert ip("route", "show", "192.0.2.0/24") == before


def test_the_ways_of_a_multipath_route_stay_in_place(here: Here) -> None:
    """The kernel keeps the route for its other way, and with it the order."""
    batch(
        ADDRESS["port0"] + "address add 2001:db8:8::4/64 dev other0 nodad\n"
        "-6 route add 2001:db8:9::/48 nexthop via 2001:db8:5::9 dev port0 "
        "nexthop via 2001:db8:8::9 dev other0\n"
        "route add 192.0.2.0/24 nexthop via 10.5.0.9 dev port0 nexthop via 10.8.0.9 dev other0\n"
        "route append 192.0.2.0/24 via 10.8.0.8 dev other0\n"
    )
    before = ip("route", "show", "192.0.2.0/24"), ip("-6", "route", "show", "2001:db8:9::/48")
    state = here.capture(PORT)
    assert losses.coming(state) == []
    down_and_up()
    done = put_back(here, state)
    assert (done.residue, done.lost) == ((), ())
    after = ip("route", "show", "192.0.2.0/24"), ip("-6", "route", "show", "2001:db8:9::/48")
    assert after == before


def test_a_daemon_that_has_gone_over_to_another_device(here: Here) -> None:
    """Put back beside it, its old route would outlive the daemon's next change."""
    batch(
        ADDRESS["port0"] + "address add 10.6.0.4/24 dev other0\n"
        "route add 192.0.2.0/24 via 10.5.0.1 proto bgp metric 20\n"
        "route add 192.0.3.0/24 via 10.5.0.1 proto static metric 20\n"
        "-6 route add 2001:db8:9::/48 via 2001:db8:5::9 dev port0 proto bgp\n"
    )
    state = here.capture(PORT)
    down_and_up()
    batch(
        "route add 192.0.2.0/24 via 10.6.0.1 proto bgp metric 20\n"
        "-6 route add 2001:db8:9::/48 via 2001:db8:8::9 dev other0 proto bgp\n"
    )
    done = put_back(here, state)
    assert done.residue == ()
    assert [one.cause for one in done.lost] == [Cause.TAKEN_OVER] * 2
    assert ip("route", "show", "192.0.2.0/24").count("via") == 1
    assert ip("-6", "route", "show", "2001:db8:9::/48").count("via") == 1
    assert "192.0.3.0/24 via 10.5.0.1" in ip("route", "show")


class Two(Here):
    """Both ports of a claim."""

    def capture(
        self,
        port: PortId,
        nexthops: Collection[int] = (),
        rows: Rows = None,
        *,
        alone: bool = False,
    ) -> PortState:
        self.name = ("port0", "other0")[port.port - 1]
        return super().capture(port, nexthops, rows, alone=alone)


@pytest.mark.parametrize("order", [("port0", "other0"), ("other0", "port0")])
def test_two_ports_of_one_claim(here: Here, order: tuple[str, str]) -> None:
    """Whichever comes back first, their routes are in order again, before another's or after it."""
    batch(
        "link add third0 type veth peer name wire2\nlink set third0 up\nlink set wire2 up\n"
        + ADDRESS[order[0]] + ADDRESS[order[1]]
        + ROUTES.format(*order)
        + "address add 10.5.0.9/24 dev third0\n"
    )  # fmt: skip
    settle()
    before, all_before = ways(), everything()
    both = Two(here.rtnl, "")
    states = [both.capture(PortId("0000:00:00.0", n, None)) for n in (1, 2)]
    batch("link set port0 down\nlink set other0 down\nlink set other0 up\nlink set port0 up\n")
    told = restore.restore_ports(both, states, 3.0)
    assert [one.residue for one in told] == [(), ()]
    settle()
    assert everything() == all_before
    now = ways()
    assert [to for to in now if now[to] != before[to] and ":" not in to] == []
    # IPv6 has them in the order of the ports: told where that is not as it was.
    causes = [lost.cause for one in told for lost in one.lost if lost.text.startswith("2001")]
    assert causes == ([] if order == ("port0", "other0") else [Cause.ORDER] * 2)
