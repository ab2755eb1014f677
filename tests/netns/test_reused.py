"""Ids that somebody gave to something else while the port was down: nothing of ours may use it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from manactl.act.restore import Restored
from manactl.netstate.snapshot import PortState
from tests.netns.port import PORT, Here, batch, down_and_up, ip, put_back, settle
from tests.unit.wording import wording

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("netns")]


@pytest.fixture(autouse=True)
def without_dad(netns: None) -> None:
    """It would take two seconds each time."""
    Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")


def routes(prefix: str) -> list[str]:
    return ip("-o", "route", "show", prefix).splitlines()


def members(group: int) -> list[int]:
    found = subprocess.run(
        ["ip", "-j", "nexthop", "get", "id", str(group)], capture_output=True, check=False
    )
    return [one["id"] for row in json.loads(found.stdout or "[]") for one in row["group"]]


def restored(here: Here, state: PortState) -> Restored:
    return put_back(here, state, 0.3)


@pytest.fixture
def wide(here: Here) -> Here:
    """With a third interface, which belongs to somebody else."""
    batch(
        "link add third0 type veth peer name wire2\nlink set third0 up\nlink set wire2 up\n"
        "address add 10.9.0.2/24 dev third0\naddress add 10.1.0.2/24 dev port0\n"
        "address add 2001:db8:1::2/64 dev port0 nodad\n"
    )
    return here


def test_a_route_by_a_nexthop_that_is_somebody_elses_stays_away(wide: Here) -> None:
    batch(
        "nexthop add id 10 via 10.1.0.20 dev port0\nnexthop add id 11 via 10.1.0.21 dev port0\n"
        "nexthop add id 20 group 10/11\n"
        "route add 192.0.2.0/24 nhid 10\nroute add 192.0.3.0/24 nhid 20\n"
        "route add 192.0.4.0/24 nhid 11\n"
    )
    state = wide.capture(PORT)
    down_and_up()
    ip("nexthop", "add", "id", "10", "via", "10.8.0.20", "dev", "other0")
    done = restored(wide, state)
    assert routes("192.0.2.0/24") == []
    assert routes("192.0.3.0/24") == []
    assert members(20) == []
    assert len(routes("192.0.4.0/24")) == 1  # what does not depend on it is back
    theirs = "nexthop id 10 via 10.8.0.20 dev other0"
    lines = sorted(done.residue)
    assert [line.split(" (")[0] for line in lines] == [
        "192.0.2.0/24 nhid 10 proto boot",
        "192.0.3.0/24 nhid 20 proto boot",
        "nexthop id 10 via 10.1.0.20 dev port0",
        "nexthop id 20 group 10/11",
    ]
    assert all(line.endswith(f"{theirs})") for line in lines), lines
    with wording:
        why = f"(nexthop id 10 is not what it was: {theirs})"
        assert [line.endswith(why) for line in lines] == [True, True, False, True]
        assert lines[2].endswith(f"(there is instead: {theirs})")
    assert done.extra == ()
    ip("nexthop", "del", "id", "10")
    assert restored(wide, state).residue == ()
    assert members(20) == [10, 11]
    assert len(routes("192.0.2.0/24")) == len(routes("192.0.3.0/24")) == 1


def test_a_group_id_that_is_somebody_elses(wide: Here) -> None:
    batch(
        "nexthop add id 10 via 10.1.0.20 dev port0\nnexthop add id 12 via 10.8.0.20 dev other0\n"
        "nexthop add id 20 group 10\nroute add 192.0.3.0/24 nhid 20\n"
    )
    state = wide.capture(PORT)
    down_and_up()
    batch("nexthop add id 20 group 12\n")
    done = restored(wide, state)
    assert routes("192.0.3.0/24") == []
    assert members(20) == [12]
    assert len(done.residue) == 2
    assert {line.split()[0] for line in done.residue} == {"192.0.3.0/24", "nexthop"}
    with wording:
        assert any("nexthop id 20 is not what it was" in line for line in done.residue)


def test_a_member_on_another_device_that_leads_by_a_third_now(wide: Here) -> None:
    batch(
        "nexthop add id 10 via 10.1.0.20 dev port0\nnexthop add id 12 via 10.8.0.20 dev other0\n"
        "nexthop add id 20 group 10/12\nroute add 192.0.3.0/24 nhid 20\n"
    )
    state = wide.capture(PORT)
    down_and_up()
    ip("nexthop", "del", "id", "12")
    ip("nexthop", "add", "id", "12", "via", "10.9.0.20", "dev", "third0")
    done = restored(wide, state)
    assert (members(20), routes("192.0.3.0/24")) == ([], [])
    assert len(done.residue) == 2
    assert {line.split()[0] for line in done.residue} == {"192.0.3.0/24", "nexthop"}
    with wording:
        assert all("nexthop id 12 is not what it was" in line for line in done.residue)


def test_a_member_on_another_device_whose_gateway_its_owner_has_changed(wide: Here) -> None:
    """The group would have followed that."""
    batch(
        "nexthop add id 10 via 10.1.0.20 dev port0\nnexthop add id 12 via 10.8.0.20 dev other0\n"
        "nexthop add id 20 group 10/12\nroute add 192.0.3.0/24 nhid 20\n"
    )
    state = wide.capture(PORT)
    down_and_up()
    ip("nexthop", "replace", "id", "12", "via", "10.8.0.21", "dev", "other0")
    assert restored(wide, state).residue == ()
    assert members(20) == [10, 12]


def swap(index: int) -> None:
    """other0 goes, and a new device, somebody else's, gets its ifindex."""
    ip("link", "del", "other0")
    ip("link", "add", "new0", "index", str(index), "type", "veth", "peer", "name", "wire9")
    batch("link set new0 up\nlink set wire9 up\naddress add 10.8.0.2/24 dev new0\n")
    batch("address add 2001:db8:8::2/64 dev new0 nodad\n")
    settle()


def test_the_number_of_another_device_is_a_new_ones(wide: Here) -> None:
    batch(
        "route add 192.0.5.0/24 nexthop via 10.1.0.5 nexthop via 10.8.0.5\n"
        "-6 route add 2001:db8:500::/48 nexthop via 2001:db8:1::5 nexthop via 2001:db8:8::5\n"
    )
    index = json.loads(ip("-j", "link", "show", "dev", "other0"))[0]["ifindex"]
    state = PortState.from_json(wide.capture(PORT).to_json())
    ip("link", "set", "port0", "down")
    swap(index)
    ip("link", "set", "port0", "up")
    done = restored(wide, state)
    assert routes("192.0.5.0/24") == []
    six = ip("-6", "route", "show", "2001:db8:500::/48")
    assert "2001:db8:1::5 dev port0" in six  # IPv6 has its members one by one
    assert "new0" not in six
    assert len(done.residue) == 2
    assert all("other0" in line and "new0" in line for line in done.residue)
    with wording:
        assert all("other0 is gone, new0 has its number now" in line for line in done.residue)


def test_another_device_that_has_a_new_name_is_the_same(wide: Here) -> None:
    batch("route add 192.0.5.0/24 nexthop via 10.1.0.5 nexthop via 10.8.0.5\n")
    state = PortState.from_json(wide.capture(PORT).to_json())
    down_and_up()
    batch("link set other0 down\nlink set other0 name renamed0\nlink set renamed0 up\n")
    assert restored(wide, state).residue == ()
    assert "dev renamed0" in ip("route", "show", "192.0.5.0/24")


def test_another_device_that_has_a_new_number_is_the_same(wide: Here) -> None:
    """As after its driver was bound again: name and MAC address are what they were."""
    ip("link", "set", "other0", "address", "02:00:00:00:00:08")
    batch("route add 192.0.5.0/24 nexthop via 10.1.0.5 nexthop via 10.8.0.5\n")
    state = PortState.from_json(wide.capture(PORT).to_json())
    ip("link", "set", "port0", "down")
    batch(
        "link del other0\n"
        "link add other0 index 77 address 02:00:00:00:00:08 type veth peer name wire9\n"
        "link set other0 up\nlink set wire9 up\naddress add 10.8.0.2/24 dev other0\n"
        "link set port0 up\n"
    )
    assert restored(wide, state).residue == ()
    assert "dev other0" in ip("route", "show", "192.0.5.0/24")


def test_the_number_of_an_upper_is_a_new_ones(wide: Here) -> None:
    batch("link add m1 link port0 type macvlan\nlink set m1 up\naddress add 10.5.0.2/24 dev m1\n")
    settle()
    state = PortState.from_json(wide.capture(PORT).to_json())
    index = json.loads(ip("-j", "link", "show", "dev", "m1"))[0]["ifindex"]
    ip("link", "set", "port0", "down")
    ip("link", "del", "m1")
    ip("link", "add", "guest0", "link", "port0", "index", str(index), "type", "macvlan")
    batch("link set port0 up\nlink set guest0 down\n")
    done = restored(wide, state)
    (line,) = done.residue
    assert line.startswith("macvlan m1 (")
    with wording:
        assert line.startswith("macvlan m1 (it is gone")
    shown = json.loads(ip("-j", "-d", "address", "show", "dev", "guest0"))[0]
    assert "UP" not in shown["flags"]
    assert shown["addr_info"] == []


def test_an_upper_that_was_renamed_is_the_same(wide: Here) -> None:
    batch("link add m1 link port0 type macvlan\nlink set m1 up\naddress add 10.5.0.2/24 dev m1\n")
    settle()
    state = PortState.from_json(wide.capture(PORT).to_json())
    down_and_up()
    batch("link set m1 down\nlink set m1 name m2\naddress flush dev m2\n")
    assert restored(wide, state).residue == ()
    assert "10.5.0.2/24" in ip("address", "show", "dev", "m2")
