"""What a port loses by down and up comes back: judged by `ip`, not by manactl's own reading."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from typing import Any

import pytest

from manactl.act.restore import Restored
from manactl.netstate.requests import Filled
from manactl.netstate.snapshot import Kind, Request
from tests.netns.port import (
    PORT,
    Here,
    batch,
    down_and_up,
    everything,
    ip,
    put_back,
    settle,
    without,
)
from tests.unit.fakes import refused

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("netns")]

RICH = """
address add 10.1.0.2/24 dev port0
address add 10.1.0.3/24 dev port0 label port0:x
address add 10.1.9.9/32 dev port0 noprefixroute
address add 10.2.0.2 peer 10.2.0.7/32 dev port0
address add 10.3.0.2/24 dev port0 metric 77
address add 10.4.0.2/24 dev port0 valid_lft 900 preferred_lft 800
address add 2001:db8:1::2/64 dev port0
address add 2001:db8:2::2/64 dev port0 noprefixroute
address add 2001:db8:3::2/64 dev port0 nodad
address add 2001:db8:4::2/64 dev port0 valid_lft 900 preferred_lft 800
address add 2001:db8:5::2/128 dev port0 metric 55
address add 2001:db8:6::2 peer 2001:db8:6::7/128 dev port0
address add fe80::77/64 dev port0
route add default via 10.1.0.1 dev port0 proto dhcp src 10.1.0.2 metric 100
route add 192.0.2.0/24 via 10.1.0.1 mtu lock 1400 advmss 1300 initcwnd 20
route add 192.0.3.0/24 dev port0 scope link
route add 192.0.4.0/24 via 10.99.0.1 dev port0 onlink
route add 192.0.5.0/24 via 10.1.0.5 tos 0x10
route add 192.0.5.0/24 via 10.1.0.6 metric 5
route add 192.0.6.0/24 via inet6 2001:db8:1::1 dev port0
route add 192.0.7.0/24 nexthop via 10.1.0.5 weight 3 nexthop via 10.1.0.6
route add 192.0.8.0/24 nexthop via 10.1.0.5 dev port0 nexthop via 10.8.0.5 dev other0
route add 10.1.9.0/24 dev port0 proto kernel scope link src 10.1.9.9
route add local 198.51.100.0/24 dev port0
route add default via 10.1.0.1 dev port0 table 100
route add 10.77.0.0/16 via 10.1.0.9 table 4000 proto 199
route append 192.0.9.0/24 via 10.1.0.5
route append 192.0.9.0/24 via 10.1.0.4
-6 route add default via fe80::1 dev port0 metric 2048 proto static pref high
-6 route add 2001:db8:100::/40 via 2001:db8:1::1 mtu 1400
-6 route add 2001:db8:200::/40 dev port0 table 100
-6 route add 2001:db8:300::/48 via 2001:db8:1::1 table 4000 expires 600
-6 route add 2001:db8:400::/48 nexthop via 2001:db8:1::5 weight 2 nexthop via 2001:db8:1::6
-6 route add 2001:db8:500::/48 nexthop via 2001:db8:1::5 nexthop via 2001:db8:8::5
nexthop add id 10 via 10.1.0.20 dev port0
nexthop add id 11 via 10.1.0.21 dev port0
nexthop add id 12 via 10.8.0.20 dev other0
nexthop add id 13 via fe80::20 dev port0
nexthop add id 20 group 10/11
nexthop add id 21 group 10,2/12,3
nexthop add id 22 group 10,1/11,2 type resilient buckets 32 idle_timer 60
route add 203.0.113.0/25 nhid 10
route add 203.0.113.128/25 nhid 20 table 100
route add 198.18.0.0/24 nhid 21
route add 198.18.1.0/24 nhid 22
-6 route add 2001:db8:600::/48 nhid 13
neighbour add 10.1.0.50 lladdr 02:00:00:00:00:50 dev port0 nud permanent
neighbour add 2001:db8:1::50 lladdr 02:00:00:00:00:51 dev port0 nud permanent router
neighbour add 10.1.0.51 lladdr 02:00:00:00:00:52 dev port0 nud reachable extern_learn
neighbour add 10.1.0.9 lladdr 02:00:00:00:00:09 dev port0 nud noarp
neighbour add 2001:db8:1::9 lladdr 02:00:00:00:00:0a dev port0 nud noarp
neighbour add proxy 10.1.0.60 dev port0
neighbour add proxy 2001:db8:1::60 dev port0
"""


def test_everything_comes_back(here: Here) -> None:
    batch(RICH)
    settle()
    before = everything()
    state = here.capture(PORT)
    down_and_up()
    lost = {k: set(v) - set(everything()[k]) for k, v in before.items()}
    assert sum(map(len, lost.values())) > 20, "the kernel should have dropped most of it"
    done = put_back(here, state)
    assert done.residue == ()
    assert done.extra == ()
    settle()
    assert everything() == before
    assert done.counts[Kind.ROUTE] >= 20
    assert done.counts[Kind.NEXTHOP] == 6  # the group that only lost a member counts too


def test_what_is_there_already_is_left_alone(here: Here) -> None:
    batch(RICH)
    settle()
    state = here.capture(PORT)
    monitor = subprocess.Popen(
        ["ip", "monitor", "link", "address", "route", "nexthop"], stdout=subprocess.PIPE
    )
    try:
        _hear(monitor, "192.0.2.98")  # until then it may not have been listening
        done = put_back(here, state)
        heard = _hear(monitor, "192.0.2.99").replace("192.0.2.98", "192.0.2.99")
    finally:
        monitor.kill()
        monitor.communicate()
    assert done == Restored()
    marks = {"unreachable 192.0.2.99", "Deleted unreachable 192.0.2.99"}
    assert {line.strip() for line in heard.splitlines()} == marks


def _hear(monitor: subprocess.Popen[bytes], mark: str) -> str:
    """What the monitor says until it has seen a route of our own come and go."""
    assert monitor.stdout is not None
    os.set_blocking(monitor.stdout.fileno(), False)
    heard = ""
    deadline = time.monotonic() + 20
    # A monitor that has just been started may not be listening yet: so again and again.
    while f"Deleted unreachable {mark}" not in heard:
        assert time.monotonic() < deadline
        ip("route", "add", "unreachable", mark)
        ip("route", "del", "unreachable", mark)
        time.sleep(0.05)
        heard += (monitor.stdout.read() or b"").decode()
    return heard


def test_a_half_finished_restore_is_finished(here: Here) -> None:
    batch(RICH)
    settle()
    before = everything()
    state = here.capture(PORT)
    down_and_up()

    class Dies(Exception):
        pass

    class Short(Here):
        left = 7

        def send(self, request: Request) -> None:
            if not self.left:
                raise Dies
            self.left -= 1
            super().send(request)

        def send_all(self, requests: Sequence[Request]) -> list[OSError | None]:
            return [refused(self.send, request) for request in requests]

        def send_alike(self, requests: Filled) -> None:
            self.send_all([*requests.each()])

    for left in (0, 1, 4, 9, 20):
        short = Short(here.rtnl, here.name)
        short.left = left
        with pytest.raises(Dies):
            put_back(short, state)
    assert put_back(here, state).residue == ()
    settle()
    assert everything() == before


def test_a_rename_meanwhile_is_followed(here: Here) -> None:
    batch(RICH)
    settle()
    state = here.capture(PORT)
    before = relabelled(everything())
    ip("link", "set", "port0", "down")
    ip("link", "set", "port0", "name", "new0")
    ip("link", "set", "new0", "up")
    here.name = "new0"
    assert put_back(here, state).residue == ()
    settle()
    assert relabelled(everything()) == before


def relabelled(view: dict[str, Any]) -> dict[str, Any]:
    """With the new name, and without the labels that the kernel itself changes on a rename."""
    found = {}
    for command, rows in view.items():
        plain = [json.loads(row.replace("port0", "new0")) for row in rows]
        found[command] = sorted(
            json.dumps(without(row, {"label", "altnames"}), sort_keys=True) for row in plain
        )
    return found


def test_what_has_expired_meanwhile_stays_away_and_is_told(here: Here) -> None:
    began = time.monotonic()
    batch(
        "address add 10.4.0.2/24 dev port0\n"
        "address add 2001:db8:4::2/64 dev port0 valid_lft 900 preferred_lft 800 nodad\n"
        "address add 2001:db8:5::2/64 dev port0 nodad\n"
        "-6 route add 2001:db8:300::/48 via 2001:db8:5::1 expires 600\n"
    )
    settle()
    state = here.capture(PORT)
    down_and_up()
    here.ahead = 700
    done = put_back(here, state)
    assert done.residue == ()
    assert [text.split()[0] for text in done.expired] == ["2001:db8:300::/48"]
    (left,) = [
        one
        for one in json.loads(ip("-j", "-6", "address", "show", "dev", "port0"))[0]["addr_info"]
        if one["local"] == "2001:db8:4::2"
    ]
    passed = time.monotonic() - began
    assert 200 - passed - 2 < left["valid_life_time"] <= 200  # which counts whole seconds
    here.ahead = 1000
    down_and_up()
    assert len(put_back(here, state).expired) == 2


def test_somebody_elses_work_is_kept_and_told(here: Here) -> None:
    batch("address add 10.4.0.2/24 dev port0\nroute add 192.0.2.0/24 via 10.4.0.1\n")
    settle()
    state = here.capture(PORT)
    down_and_up()
    ip("address", "add", "10.5.0.2/24", "dev", "port0")
    ip("route", "add", "192.0.3.0/24", "via", "10.4.0.1")
    done = put_back(here, state)
    assert done.residue == ()
    assert any("192.0.3.0/24" in text for text in done.extra)
    assert "192.0.3.0/24" in ip("route")
    assert "192.0.2.0/24" in ip("route")


def test_what_cannot_come_back_is_listed_with_the_kernels_reason(here: Here) -> None:
    batch(
        "address add 10.4.0.2/24 dev port0\n"
        "route add 192.0.2.0/24 via 10.4.0.1 src 10.8.0.2\n"
        "route add 192.0.3.0/24 via 10.4.0.1\n"
    )
    settle()
    state = here.capture(PORT)
    down_and_up()
    ip("address", "del", "10.8.0.2/24", "dev", "other0")
    done = put_back(here, state, 0.5)
    (line,) = done.residue
    assert line.startswith("192.0.2.0/24 via 10.4.0.1 dev port0")
    assert "Invalid argument" in line
    assert "192.0.3.0/24" in ip("route")


def test_a_nexthop_number_taken_by_somebody_else_is_not_taken_back(here: Here) -> None:
    batch("address add 10.4.0.2/24 dev port0\nnexthop add id 10 via 10.4.0.20 dev port0\n")
    settle()
    state = here.capture(PORT)
    down_and_up()
    ip("nexthop", "add", "id", "10", "via", "10.8.0.20", "dev", "other0")
    done = put_back(here, state, 0.5)
    assert len(done.residue) == 1
    assert "10.8.0.20" in ip("nexthop")


def test_a_route_whose_gateway_was_not_reachable_any_more(here: Here) -> None:
    """The kernel keeps it when the way to its gateway goes, and makes no such route."""
    batch(
        "address add 10.1.0.2/24 dev port0\naddress add 2001:db8:1::2/64 dev port0 nodad\n"
        "route add 192.0.2.0/24 via 10.1.0.1\n"
        "route add 192.0.3.0/24 via 10.1.0.1 table 100 metric 5\n"
        "-6 route add 2001:db8:9::/48 via 2001:db8:1::1\n"
        "-6 route add 2001:db8:a::/48 nexthop via 2001:db8:1::1 nexthop via 2001:db8:1::2:1\n"
        "address del 10.1.0.2/24 dev port0\naddress del 2001:db8:1::2/64 dev port0\n"
    )
    settle()
    before = everything()
    state = here.capture(PORT)
    down_and_up()
    done = put_back(here, state, 0.3)
    assert (done.residue, done.extra, done.lost) == ((), (), ())
    settle()
    assert everything() == before


def test_the_route_of_an_address_that_was_set_last_is_waited_for(here: Here) -> None:
    """The kernel makes it a while after it has taken the address, which it may be busy for."""
    batch("address add fe80::77/64 dev port0 nodad")
    settle()
    state, before = here.capture(PORT), everything()

    class Busy(Here):
        def pause(self, seconds: float) -> None:
            batch("address del fe80::77/64 dev port0\naddress add fe80::77/64 dev port0 nodad")
            settle()

    ip("-6", "route", "del", "local", "fe80::77", "dev", "port0", "table", "local")
    assert put_back(Busy(here.rtnl, here.name), state, patience=0).residue == ()
    assert everything() == before


def test_one_that_never_comes_is_residue(here: Here) -> None:
    batch("address add fe80::77/64 dev port0 nodad")
    settle()
    state = here.capture(PORT)
    ip("-6", "route", "del", "local", "fe80::77", "dev", "port0", "table", "local")
    (residue,) = put_back(here, state, patience=0).residue
    assert "local fe80::77/128" in residue


def test_a_route_that_somebody_had_deleted_stays_away_without_a_carrier_too(here: Here) -> None:
    """Addresses are tentative then for ever, and what comes with them is missing to the end."""
    batch("""
        address add 10.1.0.2/24 dev port0
        route del 10.1.0.0/24 dev port0 proto kernel
        address add 2001:db8:1::2/64 dev port0
    """)
    settle()
    state = here.capture(PORT)
    batch("""
        link set port0 down
        link set wire0 down
        link set port0 up
    """)
    assert "10.1.0.0/24" in ip("-4", "route"), "the kernel makes it again"
    put_back(here, state, patience=0.3)
    assert ip("-4", "route", "show", "dev", "port0") == ""
