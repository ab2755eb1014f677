"""Guards: what they refuse, that they say it all, and that not knowing never passes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from manactl.decide import guards, waivers
from manactl.decide.guards import GUARDS, Guard
from manactl.decide.waivers import Refusal
from manactl.errors import Refused
from manactl.model.port import Certainty, Netdev, Owner, PortStatus, RdmaPort
from manactl.netstate.snapshot import PortState
from manactl.netstate.surroundings import (
    NOTHING_READ,
    Connection,
    FabricRoute,
    Manager,
    PacketSocket,
    Process,
    RdmaUser,
    SshSession,
    Stacked,
    Surroundings,
)
from tests.unit.fakes import PORT, address, route

STATUS = PortStatus(
    id=PORT,
    netdev=Netdev("eth1", 3, 0x1003, "up", True, None, None),
    netns=None,
    upper=None,
    rdma=RdmaPort("manae_0", 1),
    owner=Owner.ETHERNET,
    certainty=Certainty.PROVEN,
)
FACTS = (address("10.0.0.2", 24), address("2001:db8::2", 64))
STATE = PortState(PORT, 3, "eth1", True, True, 1000.0, FACTS)
QUIET = Surroundings(
    state=STATE,
    uppers=(),
    elsewhere=(),
    xdp=False,
    connections=(),
    packet_sockets=(),
    ssh=(),
    others=("eth0",),
    managers=(),
    rdma_users=(),
    fabric=FabricRoute(False, False, True),
)
PROBER = Process(77, "prober")
TCP4 = Connection("10.0.0.2", 5000, "10.0.0.9", 22, "established", 1, (PROBER,))
TCP6 = Connection(
    "2001:db8::2", 5000, "2001:db8::9", 22, "established", 2, (PROBER,), address_goes=True
)
VLAN = Stacked(
    "vlan7",
    9,
    "vlan",
    None,
    True,
    True,
    ("10.7.0.2", "fe80::7"),
    ("10.7.0.2",),
    ("default dev vlan7",),
)
IDLE = dataclasses.replace(VLAN, addresses=(), reachable=(), default_routes=())
AWAY = dataclasses.replace(IDLE, name="mv0", kind="macvlan", netns="blue")
BOND = dataclasses.replace(VLAN, name="bond0", kind="bond", carried=False)
BARE = PortState(PORT, 3, "eth1", True, True, 1000.0, ())


def state(*more: Any, **changes: Any) -> PortState:
    return dataclasses.replace(STATE, facts=(*FACTS, *more), **changes)


def codes(around: Surroundings) -> list[str]:
    return [refusal.code for refusal in guards.refusals(STATUS, around)]


def test_a_quiet_port_is_not_refused() -> None:
    assert codes(QUIET) == []


@pytest.mark.parametrize(
    ("change", "code", "word"),
    [
        ({"ssh": (SshSession("10.9.9.9", "10.0.0.2", False, "env"),)}, "ssh-session", "10.9.9.9"),
        ({"ssh": (SshSession("10.9.9.9", "10.8.0.2", True, "env"),)}, "ssh-session", "10.9.9.9"),
        ({"ssh": (SshSession("nonsense", "", None, "env"),)}, "ssh-session", "nonsense"),
        ({"state": state(route("0.0.0.0", 0, via="10.0.0.1"))}, "default-route", "default"),
        ({"state": state(route("::", 0, via="fe80::1", table=77))}, "default-route", "77"),
        ({"others": ()}, "last-port", "10.0.0.2"),
        ({"connections": (TCP4,)}, "tcp-established", "pid 77 prober"),
        ({"connections": (TCP6,)}, "tcp-established", "2001:db8::9"),
        ({"fabric": FabricRoute(True, False, True)}, "azure-fabric", "168.63.129.16"),
        ({"fabric": FabricRoute(True, True, False)}, "azure-fabric", "168.63.129.16"),
        ({"rdma_users": (RdmaUser("mana_0", "2 QPs", (PROBER,)),)}, "rdma-users", "mana_0"),
        ({"uppers": (IDLE, BOND)}, "upper", "vlan7 (vlan), bond0 (bond)"),
        ({"elsewhere": (AWAY,)}, "upper", "mv0 (macvlan) in the network namespace blue"),
        ({"xdp": True}, "xdp", "XDP"),
        ({"packet_sockets": (PacketSocket(9, (PROBER,)),)}, "packet-sockets", "pid 77 prober"),
        ({"managers": (Manager("networkd", PROBER, True, "x"),)}, "manager", "networkd"),
        ({"managers": (Manager("networkd", PROBER, None, "x"),)}, "manager", "does not say"),
    ],
)
def test_each_guard_refuses_alone_and_shows_why(
    change: dict[str, Any], code: str, word: str
) -> None:
    (refusal,) = guards.refusals(STATUS, dataclasses.replace(QUIET, **change))
    assert refusal.code == code
    assert word in refusal.message
    assert refusal.evidence


@pytest.mark.parametrize("processes", [(), (PROBER,)])
def test_connections_to_storage_are_storage_whoever_has_them(processes: tuple[Process]) -> None:
    nfs = Connection("10.0.0.2", 800, "10.0.0.9", 2049, "established", 1, processes)
    found = guards.refusals(STATUS, dataclasses.replace(QUIET, connections=(nfs,)))
    assert [one.code for one in found] == ["tcp-established", "storage"]
    assert ("pid 77 prober" if processes else "the kernel") in found[1].message


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"uppers": (VLAN,)}, ["default-route", "upper"]),
        ({"uppers": (VLAN,), "state": BARE, "others": ()}, ["default-route", "last-port", "upper"]),
        ({"uppers": (BOND,), "state": BARE, "others": ()}, ["upper"]),  # another member carries on
        (
            {"uppers": (VLAN,), "ssh": (SshSession("10.9.9.9", "10.7.0.2", False, "env"),)},
            ["ssh-session", "default-route", "upper"],
        ),
        (
            {"uppers": (BOND,), "ssh": (SshSession("10.9.9.9", "10.7.0.2", False, "env"),)},
            ["upper"],
        ),
    ],
)
def test_what_sits_on_the_port_counts_as_the_port(change: dict[str, Any], found: list[str]) -> None:
    assert codes(dataclasses.replace(QUIET, **change)) == found


def test_a_connection_says_whether_it_will_survive() -> None:
    def said(*connections: Connection) -> Refusal:
        (refusal,) = guards.refusals(STATUS, dataclasses.replace(QUIET, connections=connections))
        return refusal

    assert "survive unless a side gives up" in said(TCP4).message
    assert "if their IPv6 address is back in time" in said(TCP6).message
    both = said(TCP4, TCP6)
    assert "1 survive unless" in both.message
    assert both.message.count(str(TCP6)) == 2
    survives = [dict(e.value)["survives"] for e in both.evidence]  # type: ignore[call-overload]
    assert survives == ["yes", "if its address is back in time"]


def test_a_connection_in_another_namespace_says_where() -> None:
    away = dataclasses.replace(TCP4, local="10.5.5.5", netns="blue")
    (refusal,) = guards.refusals(STATUS, dataclasses.replace(QUIET, connections=(away,)))
    assert "in the network namespace blue" in refusal.message


def test_what_the_driver_is_in_the_middle_of_cannot_be_waived() -> None:
    (refusal,) = guards.refusals(STATUS._replace(in_reset=True), QUIET)
    assert (refusal.code, refusal.waiver) == ("in-reset", "it can never be waived")
    unread = dataclasses.replace(NOTHING_READ)
    alone = guards.refusals(STATUS._replace(in_reset=True), unread)
    assert [one.code for one in alone] == ["in-reset"]


@pytest.mark.parametrize(
    ("candidates", "whose"), [((), "this port's"), (("7870:00:00.0:1", "7870:00:00.0:2"), "a down")]
)
def test_a_port_whose_raw_qp_would_crash_the_kernel(candidates: tuple[str], whose: str) -> None:
    port = STATUS._replace(eqs_lost=True, candidates=candidates)
    (refusal,) = guards.refusals(port, QUIET)
    assert (refusal.code, refusal.waiver) == ("kernel-bug", "it can never be waived")
    assert whose in refusal.message


@pytest.mark.parametrize(
    "change",
    [
        {"state": state(route("10.9.0.0", 16, via="10.0.0.1"))},
        {"connections": (dataclasses.replace(TCP4, peer="10.0.0.2"),)},  # stays inside
        {"fabric": FabricRoute(True, False, False)},  # a default route, not on Azure
        {"managers": (Manager("networkd", PROBER, False, "x"),)},
        {"ssh": (SshSession("10.9.9.9", "10.8.0.2", False, "env"),)},
        {"state": dataclasses.replace(STATE, facts=()), "others": ()},  # nothing to lose
        {"state": state(up=False), "others": (), "connections": (TCP4,)},
    ],
)
def test_what_is_no_reason_does_not_refuse(change: dict[str, Any]) -> None:
    assert codes(dataclasses.replace(QUIET, **change)) == []


@pytest.mark.parametrize(
    "source", [f.name for f in dataclasses.fields(Surroundings) if f.name != "state"]
)
def test_what_could_not_be_read_refuses(source: str) -> None:
    found = guards.refusals(STATUS, dataclasses.replace(QUIET, **{source: None}))
    assert found
    assert all("could not be read" in refusal.message for refusal in found)


OF_THE_PORT_ALONE = {guards.guard_in_reset, guards.guard_kernel_bug}


@pytest.mark.parametrize("guard", [one for one in GUARDS if one not in OF_THE_PORT_ALONE])
def test_no_guard_passes_when_nothing_was_read(guard: Guard) -> None:
    assert guard(STATUS, NOTHING_READ) is not None


def test_a_netdev_elsewhere_is_refused_and_nothing_else_is_guessed() -> None:
    away = STATUS._replace(netdev=None)
    assert [r.code for r in guards.refusals(away, NOTHING_READ)] == ["foreign-netns"]
    named = STATUS._replace(netns="peer")
    assert "foreign-netns" in [r.code for r in guards.refusals(named, QUIET)]


def refusal(code: str) -> Refusal:
    return Refusal(code, "eth1", f"about {code}", ())


def test_every_refusal_is_told() -> None:
    hard = dataclasses.replace(refusal("xdp"), lasting="it would not come back")
    with pytest.raises(Refused) as caught:
        waivers.judge([hard, refusal("tcp-established"), refusal("upper")], ())
    error = caught.value
    assert error.exit_code == 3
    for code in ("xdp", "tcp-established", "upper"):
        assert f"{code}: eth1: about {code}" in error.message
    assert "--allow tcp-established" in (error.hint or "")
    assert "--allow upper" in (error.hint or "")
    assert "--allow xdp" not in (error.hint or "")
    assert [e.fact for e in error.evidence] == ["xdp", "tcp-established", "upper"]


def test_the_code_of_a_lone_refusal_is_the_code_of_the_document() -> None:
    with pytest.raises(Refused) as caught:
        waivers.judge([refusal("tcp-established")], ())
    assert caught.value.code == "tcp-established"


def test_waivers_take_effect_one_by_one() -> None:
    found = [refusal("tcp-established"), refusal("packet-sockets")]
    waived = waivers.judge(found, {"tcp-established", "packet-sockets", "manager"})
    assert waived == tuple(found)
    with pytest.raises(Refused) as caught:
        waivers.judge(found, {"tcp-established"})
    assert "about tcp-established" not in caught.value.message
    assert "about packet-sockets" in caught.value.message


@pytest.mark.parametrize("code", ["ssh-session", "default-route", "last-port"])
def test_a_waiver_that_needs_a_way_back_says_which(code: str) -> None:
    why = f"--allow {code} has no effect: it can be waived only for a claim that ends by itself"
    with pytest.raises(Refused) as caught:
        waivers.judge([refusal(code)], {code})
    assert why in caught.value.message
    assert "--confirm-within" in caught.value.message
    assert f"--allow {code}" not in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"uppers": (IDLE, BOND)}, None),
        ({"uppers": (dataclasses.replace(BOND, kind="team"),)}, "could not put back bond0 (team)"),
        ({"uppers": (dataclasses.replace(BOND, kind=None),)}, "could not put back bond0"),
        ({"elsewhere": (AWAY,)}, "could not put back mv0 (macvlan) in the network namespace blue"),
        ({"uppers": None}, "nobody knows"),
        ({"elsewhere": None}, "could not put back what is there"),
    ],
)
def test_an_upper_can_be_waived_where_release_puts_it_back(
    change: dict[str, Any], why: str | None
) -> None:
    around = dataclasses.replace(QUIET, **change)
    found = [one for one in guards.refusals(STATUS, around) if one.code == "upper"]
    if why is None:
        assert waivers.judge(found, {"upper"}) == tuple(found)
        return
    with pytest.raises(Refused, match="upper") as caught:
        waivers.judge(found, {"upper"})
    assert why in caught.value.message


@pytest.mark.parametrize("code", waivers.NEVER)
def test_what_can_never_be_waived_says_so(code: str) -> None:
    with pytest.raises(Refused) as caught:
        waivers.judge([refusal(code)], {code})
    assert f"{code}: it can never be waived" in (caught.value.hint or "")


def test_every_guard_has_a_code_of_the_contract() -> None:
    """Whatever a guard says is waivable or never so; none is neither."""
    said = {
        no.code
        for guard in GUARDS
        if (no := guard(STATUS._replace(in_reset=True, eqs_lost=True), NOTHING_READ))
    }
    assert said | {"foreign-netns"} == {*waivers.WAIVABLE, *waivers.NEVER}
