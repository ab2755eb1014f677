"""Plans: what they say will happen, and that their JSON is what its schema says."""

from __future__ import annotations

import dataclasses
import json
import socket
import struct
from typing import Any

import pytest

from manactl.act import planner
from manactl.act.claim import ClaimResult
from manactl.act.plan import KeepState, Plan, ProveFree, SetAdmin
from manactl.decide import refusal as why
from manactl.decide.codes import Code
from manactl.decide.refusal import Refusal
from manactl.model.port import RdmaPort
from manactl.netstate.snapshot import Fact, Kind, PortState
from manactl.netstate.surroundings import (
    PacketSocket,
    Surroundings,
    TunnelWay,
)
from manactl.netstate.uppers import UpperState
from manactl.render.outcome_document import claim_document
from manactl.wire import rtmsg as rt
from tests.unit import schema
from tests.unit.decide.scene import AWAY, PROBER, QUIET, STATE, STATUS, TCP4, VLAN
from tests.unit.fakes import PORT, address, neighbour, nexthop, route
from tests.unit.wording import wording

WAIVED = Refusal(
    Code.TCP_ESTABLISHED,
    PORT,
    "eth1",
    why.Connections((dataclasses.replace(TCP4, peer="10.1.0.9"),)),
)


def upper(index: int, kind: str, lower: int, *, follows: bool = False) -> UpperState:
    return UpperState(f"{kind}{index}", index, kind, lower, None, True, True, follows)


def plan(state: PortState = STATE, around: Surroundings = QUIET, **more: Any) -> Plan:
    return planner.claim([(STATUS, state, around)], **more)


def dropped(*facts: Any, uppers: tuple[UpperState, ...] = ()) -> list[str]:
    return list(plan(dataclasses.replace(STATE, facts=facts, uppers=uppers)).drops)


def test_of_a_closed_device_only_ipv4_addresses_stay() -> None:
    said = dropped(
        address("10.0.0.2", 24),
        address("2001:db8::2", 64),
        route("10.9.0.0", 16, via="10.0.0.9"),
        neighbour("10.0.0.50"),
        nexthop(10),
        route("192.0.2.0", 24, nhid=10),
    )
    assert [line.split()[0] for line in said] == [
        "inet6", "10.9.0.0/16", "neighbour", "nexthop", "192.0.2.0/24",
    ]  # fmt: skip


def test_a_vlan_is_closed_with_the_port_and_a_macvlan_only_falls_silent() -> None:
    vlan, quiet = upper(7, "vlan", 3, follows=True), upper(8, "macvlan", 3)
    inner = upper(9, "macvlan", 7)
    facts = [
        one
        for index in (7, 8, 9)
        for one in (
            address(f"2001:db8:{index}::2", 64, index),
            route(f"10.{index}.0.0", 16, index, via="10.0.0.9"),
            nexthop(index, index),
            route(f"192.0.{index}.0", 24, index, nhid=index),
        )
    ]
    said = dropped(*facts, uppers=(vlan, quiet, inner))
    assert [line for line in said if "inet6" in line] == ["inet6 2001:db8:7::2/64 dev vlan7"]
    assert [line.split()[0] for line in said if line.startswith("10.")] == ["10.7.0.0/16"]
    assert [line.split()[2] for line in said if line.startswith("nexthop")] == ["7", "8", "9"]
    assert sum(line.startswith("192.0.") for line in said) == 3


def test_what_is_on_a_bond_is_not_dropped_with_a_member() -> None:
    bond = upper(10, "bond", 3)
    assert dropped(address("2001:db8::2", 64, 10), route("10.9.0.0", 16, 10), uppers=(bond,)) == []


def test_a_group_that_loses_a_member_is_told() -> None:
    assert dropped(nexthop(10), nexthop(11, 4), nexthop(12, None, (10, 11))) == [
        "nexthop id 10 dev eth1", "nexthop id 12 group 10/11",
    ]  # fmt: skip


def test_what_nobody_else_can_put_back_is_listed() -> None:
    around = dataclasses.replace(
        QUIET,
        uppers=(VLAN,),
        elsewhere=(AWAY,),
        packet_sockets=(PacketSocket(9, (PROBER,), "vlan7"), PacketSocket(10)),
    )
    made = plan(around=around)
    lost = "\n".join(made.lost)
    with wording:
        assert "NAT (masquerade) connections through eth1: the kernel drops" in lost
        assert "packet sockets on vlan7 (pid 77 prober)" in lost
        assert "packet sockets (of a process that is not visible)" in lost
        assert "mv0 (macvlan) in the network namespace blue" in lost
    assert any("vlan7 (vlan)" in line for line in made.stops)


def test_nothing_of_a_tunnel_is_dropped() -> None:
    way = TunnelWay("10.1.0.9", "eth1", True)
    away = dataclasses.replace(AWAY, kind="vxlan", closes=False, ways=(way,))
    made = plan(around=dataclasses.replace(QUIET, elsewhere=(away,)))
    assert not any("mv0" in line for line in made.lost)


@pytest.mark.parametrize("up", [True, False])
def test_documents_are_as_their_schemas_say(up: bool) -> None:
    made = plan(
        dataclasses.replace(STATE, up=up),
        waived=[WAIVED],
        refusals=[dataclasses.replace(WAIVED, code=Code.UPPER)],
    )
    schema.strict(json.loads(json.dumps(made.to_json())))
    assert [one["code"] for one in made.to_json()["refusals"]] == ["upper"]
    proof = {"proven": True, "outcome": "free", "message": "x", "tries": 1}
    facts: dict[str, Any] = {"prove-free": proof, "set-admin": {"ms": 1.5, "boottime": 2.0}}
    done = ClaimResult(
        made, states={PORT: STATE}, facts={PORT: facts}, ports=(STATUS,), waived=(WAIVED,)
    )
    schema.strict(json.loads(json.dumps(claim_document(done))))


def multipath(text: str, *devices: int) -> Fact:
    """A route with a way over each of these devices: struct rtnexthop."""
    hops = b"".join(struct.pack("=HBBi", 8, 0, 0, device) for device in devices)
    attrs = [
        rt.Attr(rt.RTA_TABLE, struct.pack("=I", 254)),
        rt.Attr(rt.RTA_DST, socket.inet_aton(text)),
        rt.Attr(rt.RTA_MULTIPATH, hops),
    ]
    head = rt.RTMSG.pack(socket.AF_INET, 24, 0, 0, 254, 4, 0, rt.RTN_UNICAST, 0)
    return Fact(Kind.ROUTE, rt.join(head, attrs))


def test_a_route_with_a_way_elsewhere_is_not_dropped() -> None:
    """fib_sync_down_dev() takes a multipath route when its last way is dead."""
    vlan = upper(7, "vlan", 3, follows=True)
    said = dropped(
        multipath("10.1.0.0", 3, 4), multipath("10.2.0.0", 3, 7), multipath("10.3.0.0", 3),
        uppers=(vlan,),
    )  # fmt: skip
    assert [line.split()[0] for line in said] == ["10.2.0.0/24", "10.3.0.0/24"]


def test_what_is_on_another_port_stays_there() -> None:
    """A snapshot has nexthops and routes of others where a group ties them together."""
    assert dropped(
        nexthop(20, 4), route("192.0.2.0", 24, 4, nhid=20), neighbour("10.2.0.9", 4),
        address("2001:db8:2::2", 64, 4), nexthop(21, None, (20,)),
    ) == []  # fmt: skip


def test_a_vlan_that_does_not_follow_stays_open() -> None:
    loose = upper(7, "vlan", 3, follows=False)
    said = dropped(address("2001:db8:7::2", 64, 7), nexthop(10, 7), uppers=(loose,))
    assert said == ["nexthop id 10 dev vlan7"]
    unrelated = upper(7, "vlan", 4, follows=True)
    assert dropped(address("2001:db8:7::2", 64, 7), nexthop(10, 7), uppers=(unrelated,)) == []


TEMPORARY = address("2001:db8::99", 64, flags=0x01, valid=100)
LOADED = dataclasses.replace(
    STATE,
    facts=(
        address("10.0.0.2", 24),
        address("2001:db8::2", 64),
        TEMPORARY,
        nexthop(10),
        route("10.9.0.0", 16, via="10.0.0.9"),
        route("10.0.0.2", 32, table=255, proto=2, kind=2),
        neighbour("10.0.0.50"),
    ),
    uppers=(upper(7, "vlan", 3, follows=True),),
)
ETH2 = PORT._replace(port=2, permanent_mac="00:0d:3a:aa:00:11")
IDLE = dataclasses.replace(STATE, port=ETH2, ifname="eth2", ifindex=4, up=False, facts=())


def test_all_that_a_plan_tells() -> None:
    idle = STATUS._replace(id=ETH2, rdma=None)
    made = planner.claim(
        [(STATUS, LOADED, dataclasses.replace(QUIET, uppers=(VLAN,))), (idle, IDLE, QUIET)],
        waived=[WAIVED],
    )
    assert (made.verb, made.ports) == ("claim", (PORT, ETH2))
    assert made.steps == (
        KeepState(LOADED),
        SetAdmin(PORT, "eth1", up=False, was=True, had_carrier=True),
        ProveFree(PORT, "manae_0", 1),
    )
    with wording:
        assert made.stops[:2] == (
            "all traffic of the kernel over eth1 (10.0.0.2, 2001:db8::2, 2001:db8::99)",
            "with it that of vlan7 (vlan)",
        )
        assert made.stops[2].startswith("eth1: 1 live TCP connection: ")
    assert made.stops[2].endswith(" (allowed: tcp-established)")
    assert len(made.stops) == 3
    assert made.drops == (
        "inet6 2001:db8::2/64 dev eth1",
        "inet6 2001:db8::99/64 valid_lft 100sec dev eth1",
        "nexthop id 10 dev eth1",
        "10.9.0.0/16 via 10.0.0.9 dev eth1 proto static",
        "neighbour 10.0.0.50 lladdr 02:00:00:00:00:50 dev eth1 permanent",
    )
    with wording:
        assert made.restores == (
            "eth1 set up, its carrier awaited",
            "2 addresses (with flags, labels and what remains of their lifetimes, IPv6 without "
            "another duplicate address detection)",
            "1 nexthop (with their groups, on other ports too)",
            "1 route (of all tables and protocols, from the kernel's own bytes)",
            "1 neighbour (permanent, NOARP and proxy entries)",
            "1 upper, each up or down as it was, with all of the above on them",
        )
        assert made.lost == (
            "NAT (masquerade) connections through eth1: the kernel drops their conntrack entries",
            "inet6 2001:db8::99/64 valid_lft 100sec dev eth1 (temporary: the kernel makes new ones)",
        )
        assert made.notes == ("eth2 is down already: nothing to restore, it stays down at release",)
    assert [one["code"] for one in made.waived] == ["tcp-established"]
    assert made.refusals == ()


def test_a_port_that_is_down_is_proven_and_nothing_else() -> None:
    status = STATUS._replace(id=ETH2, rdma=RdmaPort("manae_0", 2))
    made = planner.claim([(status, IDLE, QUIET)])
    assert made.steps == (ProveFree(ETH2, "manae_0", 2),)
    assert (made.stops, made.drops, made.restores, made.lost) == ((), (), (), ())


def test_groups_that_are_left_and_facts_that_are_lost() -> None:
    group = address("ff05::1", 128, flags=rt.IFA_F_MCAUTOJOIN)
    joined = route("2001:db8::77", 128, table=255, proto=2, kind=rt.RTN_ANYCAST)
    mine, other = route("2001:db8:5::", 64), route("2001:db8:5::", 64, 9)
    state = dataclasses.replace(STATE, facts=(group, joined, mine), rows=(mine, other))
    made = plan(state)
    (down,) = [step for step in made.steps if isinstance(step, SetAdmin)]
    assert down.leaves == (group.body,)
    with wording:
        assert [text.split(" (")[1].split(":")[0] for text in made.lost[1:]] == ["anycast", "order"]
    assert any(text.startswith("1 address ") for text in made.restores)
    assert any(text.startswith("1 route ") for text in made.restores)  # the anycast one is not
