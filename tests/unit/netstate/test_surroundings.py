"""What surrounds a port, as values."""

from __future__ import annotations

import dataclasses

import pytest

from manactl.netstate.surroundings import (
    NOTHING_READ,
    Connection,
    FabricRoute,
    PacketSocket,
    Process,
    RdmaUser,
    Stacked,
    Surroundings,
    TunnelWay,
)
from tests.unit.wording import wording

VLAN = Stacked("vlan7", 9, "vlan", None, True, True)


def test_processes_and_uppers_in_words() -> None:
    assert str(Process(4211, "testpmd")) == "pid 4211 testpmd"
    assert str(VLAN) == "vlan7 (vlan)"
    assert str(dataclasses.replace(VLAN, kind=None)) == "vlan7"
    assert str(dataclasses.replace(VLAN, kind="")) == "vlan7"
    away = dataclasses.replace(VLAN, netns="blue")
    with wording:
        assert str(away) == "vlan7 (vlan) in the network namespace blue"


@pytest.mark.parametrize(
    ("kind", "netns", "restorable"),
    [
        *((kind, None, True) for kind in ("vlan", "macvlan", "macvtap", "ipvlan", "ipvtap")),
        *(
            (kind, None, True)
            for kind in ("bond", "bridge", "vrf", "team", "openvswitch", "macsec")
        ),
        *((kind, None, False) for kind in ("batadv", "vxlan", "", None)),
        *((kind, "blue", False) for kind in ("vlan", "bond", "team")),
    ],
)
def test_which_uppers_release_restores(
    kind: str | None, netns: str | None, restorable: bool
) -> None:
    assert dataclasses.replace(VLAN, kind=kind, netns=netns).restorable is restorable


@pytest.mark.parametrize("kind", ["vlan", "macvlan", "ipvlan", "macsec", "team", "vxlan"])
def test_what_is_only_silent_in_another_namespace_keeps_what_it_has(kind: str) -> None:
    """But for nexthop objects, which go with its carrier (nexthop_flush_dev())."""
    away = dataclasses.replace(VLAN, kind=kind, netns="blue", closes=False)
    if kind == "vxlan":
        assert not away.restorable
        away = dataclasses.replace(away, ways=(TunnelWay("10.1.0.9", "eth1", True),))
    assert away.restorable
    assert not dataclasses.replace(away, closes=True).restorable
    assert not dataclasses.replace(away, nexthops=True).restorable
    assert dataclasses.replace(away, netns=None).restorable


@pytest.mark.parametrize(
    ("local", "peer", "ipv6", "text"),
    [
        ("10.0.0.2", "10.0.0.9", False, "10.0.0.2:5000 - 10.0.0.9:22"),
        ("fd00::2", "fd00::9", True, "[fd00::2]:5000 - [fd00::9]:22"),
    ],
)
def test_a_connection_in_words(local: str, peer: str, ipv6: bool, text: str) -> None:
    tcp = Connection(local, 5000, peer, 22, "established", 1)
    assert (str(tcp), tcp.is_ipv6) == (text, ipv6)


def test_a_connection_without_a_process_is_the_kernels() -> None:
    tcp = Connection("10.0.0.2", 5000, "10.0.0.9", 22, "established", 1)
    assert tcp.of_kernel
    assert not dataclasses.replace(tcp, processes=(Process(1, "x"),)).of_kernel


@pytest.mark.parametrize(
    ("state", "inode", "orphan"),
    [
        ("established", 0, False),
        ("syn-recv", 0, False),
        ("close-wait", 0, False),
        ("fin-wait-1", 0, True),
        ("fin-wait-1", 7, False),
        ("fin-wait-2", 0, True),
        ("last-ack", 0, True),
        ("closing", 0, True),
    ],
)
def test_an_orphan_is_closed_and_in_no_file(state: str, inode: int, *, orphan: bool) -> None:
    assert Connection("10.0.0.2", 5000, "10.0.0.9", 22, state, inode).is_orphan is orphan


def test_what_is_not_said_is_nothing() -> None:
    assert (VLAN.addresses, VLAN.reachable, VLAN.default_routes) == ((), (), ())
    tcp = Connection("10.0.0.2", 5000, "10.0.0.9", 22, "established", 1)
    assert (tcp.processes, tcp.netns, tcp.address_goes) == ((), None, False)
    assert (PacketSocket(1).processes, PacketSocket(1).netdev) == ((), None)
    assert RdmaUser("mana_0", "x").processes == ()


def test_uppers_of_all_namespaces_and_those_that_lose_their_traffic() -> None:
    bond = dataclasses.replace(VLAN, name="bond0", kind="bond", carried=False)
    away = dataclasses.replace(VLAN, name="mv0", netns="blue")
    around = dataclasses.replace(NOTHING_READ, uppers=(VLAN, bond), elsewhere=(away,))
    assert around.stacked == (VLAN, bond, away)
    assert around.carried == (VLAN, away)
    assert dataclasses.replace(around, elsewhere=None).stacked == (VLAN, bond)
    assert dataclasses.replace(around, uppers=None).carried == (away,)


def test_nothing_read_is_unknown_in_everything() -> None:
    assert {getattr(NOTHING_READ, field.name) for field in dataclasses.fields(Surroundings)} == {
        None
    }
    assert NOTHING_READ.stacked == NOTHING_READ.carried == ()


@pytest.mark.parametrize("value", [VLAN, NOTHING_READ, FabricRoute(True, True, True)])
def test_values_do_not_change(value: object) -> None:
    field = dataclasses.fields(value)[0].name  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, field, None)


@pytest.mark.wording
def test_a_tunnels_way_in_words() -> None:
    by = "pid 70 openvpn"
    assert [str(TunnelWay(*way)) for way in (
        ("10.1.0.9", "eth1", False), (None, "eth1", True), (None, None, False),
        ("10.1.0.9", "eth1", False, by), (None, None, False, by),
        (None, "eth1", False, "", "10.1.0.4"), (None, "eth1", False, by, "10.1.0.4"),
    )] == [
        "whose packets to 10.1.0.9 leave by eth1",
        "whose packets leave by eth1",
        "whose endpoints are known to its packets alone",
        "of pid 70 openvpn, whose packets to 10.1.0.9 leave by eth1",
        "of pid 70 openvpn, which may send to anybody",
        "whose own end 10.1.0.4 is an address of eth1",
        "of pid 70 openvpn, whose own end 10.1.0.4 is an address of eth1",
    ]  # fmt: skip
