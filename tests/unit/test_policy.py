"""Guards: what they refuse, that they say it all, and that not knowing never passes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from manactl import policy
from manactl.errors import Refused
from manactl.model import Certainty, Netdev, Owner, PortStatus, RdmaPort
from manactl.policy import GUARDS, Refusal
from manactl.snapshot import PortState
from manactl.surroundings import (
    NOTHING_READ,
    Connection,
    FabricRoute,
    Manager,
    PacketSocket,
    Process,
    RdmaUser,
    SshSession,
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
TCP6 = Connection("2001:db8::2", 5000, "2001:db8::9", 22, "established", 2, (PROBER,))


def state(*more: Any, **changes: Any) -> PortState:
    return dataclasses.replace(STATE, facts=(*FACTS, *more), **changes)


def codes(around: Surroundings) -> list[str]:
    return [refusal.code for refusal in policy.refusals(STATUS, around)]


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
        ({"uppers": ("vlan7", "bond0")}, "upper", "vlan7, bond0"),
        ({"xdp": True}, "xdp", "XDP"),
        ({"packet_sockets": (PacketSocket(9, (PROBER,)),)}, "packet-sockets", "pid 77 prober"),
        ({"managers": (Manager("networkd", PROBER, True, "x"),)}, "manager", "networkd"),
        ({"managers": (Manager("networkd", PROBER, None, "x"),)}, "manager", "does not say"),
    ],
)
def test_each_guard_refuses_alone_and_shows_why(
    change: dict[str, Any], code: str, word: str
) -> None:
    (refusal,) = policy.refusals(STATUS, dataclasses.replace(QUIET, **change))
    assert refusal.code == code
    assert word in refusal.message
    assert refusal.evidence


def test_kernel_owned_connections_to_storage_are_storage_too() -> None:
    nfs = Connection("10.0.0.2", 800, "10.0.0.9", 2049, "established", 0)
    assert codes(dataclasses.replace(QUIET, connections=(nfs,))) == ["tcp-established", "storage"]


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
    found = policy.refusals(STATUS, dataclasses.replace(QUIET, **{source: None}))
    assert found
    assert all("could not be read" in refusal.message for refusal in found)


@pytest.mark.parametrize("guard", GUARDS)
def test_no_guard_passes_when_nothing_was_read(guard: policy.Guard) -> None:
    assert guard(STATUS, NOTHING_READ) is not None


def test_a_netdev_elsewhere_is_refused_and_nothing_else_is_guessed() -> None:
    away = STATUS._replace(netdev=None)
    assert [r.code for r in policy.refusals(away, NOTHING_READ)] == ["foreign-netns"]
    named = STATUS._replace(netns="peer")
    assert "foreign-netns" in [r.code for r in policy.refusals(named, QUIET)]


def refusal(code: str) -> Refusal:
    return Refusal(code, "eth1", f"about {code}", ())


def test_every_refusal_is_told() -> None:
    with pytest.raises(Refused) as caught:
        policy.judge([refusal("xdp"), refusal("tcp-established"), refusal("upper")], ())
    error = caught.value
    assert error.exit_code == 3
    for code in ("xdp", "tcp-established", "upper"):
        assert f"{code}: eth1: about {code}" in error.message
    assert "--allow tcp-established" in (error.hint or "")
    assert "--allow xdp" not in (error.hint or "")
    assert [e.fact for e in error.evidence] == ["xdp", "tcp-established", "upper"]


def test_the_code_of_a_lone_refusal_is_the_code_of_the_document() -> None:
    with pytest.raises(Refused) as caught:
        policy.judge([refusal("tcp-established")], ())
    assert caught.value.code == "tcp-established"


def test_waivers_take_effect_one_by_one() -> None:
    found = [refusal("tcp-established"), refusal("packet-sockets")]
    waived = policy.judge(found, {"tcp-established", "packet-sockets", "manager"})
    assert waived == tuple(found)
    with pytest.raises(Refused) as caught:
        policy.judge(found, {"tcp-established"})
    assert "about tcp-established" not in caught.value.message
    assert "about packet-sockets" in caught.value.message


@pytest.mark.parametrize(
    "code", ["ssh-session", "default-route", "last-port", "upper", "xdp", "foreign-netns"]
)
def test_what_cannot_be_waived_says_so(code: str) -> None:
    with pytest.raises(Refused, match=f"--allow {code}: it cannot be waived"):
        policy.judge([refusal(code)], {code})
