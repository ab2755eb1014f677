"""Guards: what each refuses, and the nearest situation that it does not.

The codes and the numbers of storage ports are written out here: they are the contract's.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from manactl.decide import guards
from manactl.decide import refusal as why
from manactl.decide.codes import Code
from manactl.decide.refusal import Refusal, Source, Unread
from manactl.decide.unmanageable import Obstacle
from manactl.model.port import Evidence, PortStatus
from manactl.netstate.surroundings import (
    NOTHING_READ,
    Connection,
    FabricRoute,
    Forwarded,
    IpsecTunnel,
    Manager,
    PacketSocket,
    RdmaUser,
    RemoteStorage,
    SshSession,
    Stacked,
    Surroundings,
    Tracking,
    TunnelWay,
)
from tests.unit.decide.scene import (
    AWAY,
    BARE,
    BOND,
    IDLE,
    PROBER,
    QUIET,
    STATUS,
    TCP4,
    TCP6,
    UDP4,
    VLAN,
    around,
    state,
)
from tests.unit.fakes import PORT, address, route

REPLACE = dataclasses.replace
IN_ORDER = [
    "foreign-netns", "in-reset", "kernel-bug", "ssh-session", "default-route", "last-port",
    "tcp-established", "storage", "azure-fabric", "rdma-users", "upper", "xdp", "packet-sockets",
    "manager", "sockets", "forwarding",
]  # fmt: skip


def found(surroundings: Surroundings, port: PortStatus = STATUS) -> dict[str, why.Facts]:
    """The facts of every refusal by its code."""
    refusals = guards.refusals(port, surroundings)
    assert len({refusal.code for refusal in refusals}) == len(refusals)
    return {str(refusal.code): refusal.facts for refusal in refusals}


def ssh(
    server: str, through: bool | None, client: str = "10.9.9.9", where: str = "env"
) -> SshSession:
    return SshSession(client, server, through, where)


def test_a_quiet_port_is_not_refused() -> None:
    assert guards.refusals(STATUS, QUIET) == []


def test_a_refusal_names_its_port() -> None:
    (refusal,) = guards.refusals(STATUS, around(xdp=True))
    assert refusal == Refusal(Code.XDP, PORT, "eth1", why.Xdp())
    (refusal,) = guards.refusals(STATUS._replace(netdev=None), NOTHING_READ)
    assert (refusal.port, refusal.label) == (PORT, "7870:00:00.0:1")


# --- of the port itself -----------------------------------------------------------------------


def test_a_netdev_in_another_namespace_is_refused_and_nothing_else_is_guessed() -> None:
    away = STATUS._replace(netdev=None)
    assert found(NOTHING_READ, away) == {"foreign-netns": why.NotHere(None, None)}
    assert found(QUIET, away) == {"foreign-netns": why.NotHere(None, None)}
    assert found(around(xdp=True), away) == {"foreign-netns": why.NotHere(None, None)}
    named = STATUS._replace(netns="peer")
    assert found(NOTHING_READ, named) == {"foreign-netns": why.NotHere("eth1", "peer")}
    assert found(QUIET, named) == {"foreign-netns": why.NotHere("eth1", "peer")}


def test_a_netdev_that_has_gone_since_it_was_looked_at_is_not_here() -> None:
    assert found(around(state=None)) == {"foreign-netns": why.NotHere("eth1", None)}


def test_a_port_in_a_reset_is_refused_for_that_alone() -> None:
    evidence = (Evidence("sysfs", "auxiliary devices", []),)
    port = STATUS._replace(in_reset=True, evidence=evidence)
    refused: dict[str, why.Facts] = {"in-reset": why.InReset(evidence)}
    assert found(NOTHING_READ, port) == refused
    assert found(QUIET, port) == refused


@pytest.mark.parametrize(
    ("candidates", "own"),
    [
        ((), True),
        (("7870:00:00.0:1",), True),
        (("7870:00:00.0:2",), False),
        (("7870:00:00.0:1", "7870:00:00.0:2"), False),
    ],
)
def test_a_port_whose_raw_qp_would_crash_the_kernel(candidates: tuple[str], own: bool) -> None:
    evidence = (Evidence("debugfs", "EQs", False),)
    port = STATUS._replace(eqs_lost=True, candidates=candidates, evidence=evidence)
    assert found(QUIET, port) == {"kernel-bug": why.EqsLost(own, evidence)}
    both = port._replace(netns="peer")
    assert list(found(NOTHING_READ, both)) == ["foreign-netns", "kernel-bug"]


# --- ssh-session ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("session", "refused"),
    [
        (ssh("10.0.0.2", False), True),  # its address is the port's
        (ssh("2001:db8::2", False), True),
        (ssh("10.8.0.2", True), True),  # its packets leave by the port
        (ssh("", None, "nonsense"), True),  # nobody knows
        (ssh("10.8.0.2", False), False),
    ],
)
def test_an_ssh_session_over_the_port(session: SshSession, refused: bool) -> None:
    expected = {"ssh-session": why.SshSessions((why.Session(session, None),))}
    assert found(around(ssh=(session,))) == (expected if refused else {})


def test_of_several_ssh_sessions_those_over_the_port_refuse() -> None:
    aside, first, second = ssh("10.8.0.2", False), ssh("10.0.0.2", False), ssh("10.8.0.2", True)
    facts = found(around(ssh=(aside, first, second)))["ssh-session"]
    assert facts == why.SshSessions((why.Session(first, None), why.Session(second, None)))


@pytest.mark.parametrize(("upper", "refused"), [(VLAN, True), (BOND, False)])
def test_an_ssh_session_to_an_upper_that_is_lost(upper: Stacked, refused: bool) -> None:
    upper = REPLACE(upper, default_routes=())
    session = ssh("10.7.0.2", False)
    facts = found(around(uppers=(upper,), ssh=(session,)))
    assert ("ssh-session" in facts) is refused
    if refused:
        assert facts["ssh-session"] == why.SshSessions((why.Session(session, upper),))


def test_an_address_of_the_port_and_of_an_upper_is_the_ports() -> None:
    twin = REPLACE(IDLE, addresses=("10.0.0.2",))
    session = ssh("10.0.0.2", False)
    facts = found(around(uppers=(twin,), ssh=(session,)))
    assert facts["ssh-session"] == why.SshSessions((why.Session(session, None),))


LOGIN = REPLACE(TCP4, local_port=22, peer="10.0.0.77", login=True)


def test_a_remote_login_over_the_port_whoever_asks() -> None:
    for where in ("connections", "sockets"):
        facts = found(around(**{where: (TCP4, LOGIN)}))
        assert facts["ssh-session"] == why.SshSessions((), (LOGIN,))
    assert "ssh-session" not in found(around(connections=(TCP4,)))
    inside = REPLACE(LOGIN, peer="10.0.0.2")
    assert found(around(connections=(inside,))) == {}


def test_the_connection_of_a_session_that_is_known_is_not_told_twice() -> None:
    session = ssh("10.0.0.2", True, client="10.0.0.77")
    facts = found(around(ssh=(session,), connections=(LOGIN,)))
    assert facts["ssh-session"] == why.SshSessions((why.Session(session, None),))
    aside = ssh("10.0.0.2", True, client="10.0.0.78")
    facts = found(around(ssh=(aside,), connections=(LOGIN,)))
    assert facts["ssh-session"] == why.SshSessions((why.Session(aside, None),), (LOGIN,))


def test_a_session_with_a_zone_is_on_the_device_that_has_its_address() -> None:
    session = ssh("fe80::7%vlan7", True)
    vlan = REPLACE(VLAN, default_routes=())
    facts = found(around(uppers=(vlan,), ssh=(session,)))
    assert facts["ssh-session"] == why.SshSessions((why.Session(session, vlan),))
    elsewhere = ssh("fe80::7%eth0", False)
    assert "ssh-session" not in found(around(uppers=(vlan,), ssh=(elsewhere,)))


# --- default-route ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (route("0.0.0.0", 0, via="10.0.0.1"), {"10.0.0.1", "eth1"}),
        (route("::", 0, via="fe80::1", table=77), {"fe80::1", "eth1", "77"}),
        (route("0.0.0.0", 1, via="10.0.0.1"), None),
        (route("10.9.0.0", 16, via="10.0.0.1"), None),
        (route("0.0.0.0", 0, ifindex=4, via="10.0.0.1"), None),  # another port's
        (route("0.0.0.0", 0, kind=7), None),  # unreachable
    ],
)
def test_a_default_route_through_the_port(more: Any, words: set[str] | None) -> None:
    facts = found(around(state=state(more)))
    if words is None:
        assert facts == {}
    else:
        (only,) = facts
        refused = facts["default-route"]
        assert only == "default-route"
        assert isinstance(refused, why.DefaultRoutes)
        (one,) = refused.routes
        assert one.netns is None
        assert words <= set(one.text.split())


def test_routes_of_the_port_that_together_lead_to_everywhere() -> None:
    halves = route("0.0.0.0", 1, via="10.0.0.1"), route("128.0.0.0", 1, via="10.0.0.1")
    facts = found(around(state=state(*halves)))["default-route"]
    assert isinstance(facts, why.DefaultRoutes)
    assert [one.text.split()[0] for one in facts.routes] == ["0.0.0.0/1", "128.0.0.0/1"]


def test_default_routes_of_uppers_count_in_every_namespace() -> None:
    vlan = REPLACE(IDLE, default_routes=("default dev vlan7", "default dev vlan7 table 9"))
    away = REPLACE(AWAY, default_routes=("default dev mv0",))
    bond = REPLACE(BOND, default_routes=("default dev bond0",))
    facts = found(around(uppers=(vlan, bond), elsewhere=(away,)))
    assert facts["default-route"] == why.DefaultRoutes(
        (
            why.DefaultRoute("default dev vlan7", None),
            why.DefaultRoute("default dev vlan7 table 9", None),
            why.DefaultRoute("default dev mv0", "blue"),
        )
    )


# --- last-port --------------------------------------------------------------------------------


def test_the_last_port_with_a_global_address() -> None:
    both = (why.Reachable("10.0.0.2", None), why.Reachable("2001:db8::2", None))
    assert found(around(others=())) == {"last-port": why.LastPort(both)}
    assert found(around(others=("eth0",))) == {}


@pytest.mark.parametrize(
    "now",
    [
        state(up=False),
        BARE,
        REPLACE(BARE, facts=(address("fe80::2", 64),)),
        REPLACE(BARE, facts=(address("10.0.0.2", 24, ifindex=4),)),
    ],
)
def test_a_port_that_reaches_nobody_is_not_the_last(now: Any) -> None:
    assert "last-port" not in found(around(state=now, others=()))


@pytest.mark.parametrize(
    ("upper", "refused"),
    [
        (REPLACE(VLAN, default_routes=()), True),
        (REPLACE(VLAN, default_routes=(), reachable=()), False),  # link-local addresses alone
        (REPLACE(VLAN, default_routes=(), netns="blue"), False),  # another namespace's way
        (BOND, False),  # another member carries on
    ],
)
def test_an_upper_with_the_last_global_address(upper: Stacked, refused: bool) -> None:
    here = {"uppers" if upper.netns is None else "elsewhere": (upper,)}
    facts = found(around(state=BARE, others=(), **here))
    assert ("last-port" in facts) is refused
    if refused:
        assert facts["last-port"] == why.LastPort((why.Reachable("10.7.0.2", upper),))


def test_a_default_route_whose_first_segment_is_behind_the_port() -> None:
    text = "default encap seg6 dev eth0"
    expected = why.DefaultRoutes((why.DefaultRoute(text, None),))
    assert found(around(steered=(text,))) == {"default-route": expected}


# --- tcp-established, storage -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("tcp", "refused"),
    [
        (TCP4, True),
        (TCP6, True),
        (REPLACE(TCP4, local="10.5.5.5"), True),  # leaves by the port
        (REPLACE(TCP4, local="10.5.5.5", peer="10.0.0.2"), True),
        (REPLACE(TCP4, peer="10.0.0.2"), False),  # stays in this host
        (REPLACE(TCP6, peer="2001:db8::2"), True),  # so does this, but its address goes
        (REPLACE(TCP4, processes=()), True),
        (REPLACE(TCP4, state="close-wait"), True),
        (REPLACE(TCP4, state="syn-sent"), True),
    ],
)
def test_a_connection_over_the_port(tcp: Connection, refused: bool) -> None:
    expected = {"tcp-established": why.Connections((tcp,))} if refused else {}
    assert found(around(connections=(tcp,))) == expected
    assert found(around(connections=(tcp,), state=state(up=False))) == {}


def test_a_connection_between_addresses_of_the_port_and_of_an_upper_stays_in_the_host() -> None:
    inside = REPLACE(TCP4, peer="10.7.0.2")
    vlan = REPLACE(VLAN, default_routes=())
    assert "tcp-established" not in found(around(uppers=(vlan,), connections=(inside,)))
    bond = REPLACE(vlan, carried=False)
    assert "tcp-established" in found(around(uppers=(bond,), connections=(inside,)))


STORAGE = [2049, 3260, 445, 3300, 6789, 4420, 8009, 10809]


@pytest.mark.parametrize("number", STORAGE)
@pytest.mark.parametrize("processes", [(), (PROBER,)])
def test_storage_is_told_by_the_servers_port_whoever_has_the_connection(
    number: int, processes: tuple[Any, ...]
) -> None:
    tcp = REPLACE(TCP4, peer_port=number, processes=processes)
    assert found(around(connections=(TCP4, tcp))) == {
        "tcp-established": why.Connections((TCP4, tcp)),
        "storage": why.Storage((tcp,)),
    }


@pytest.mark.parametrize("number", sorted({n + d for n in STORAGE for d in (-1, 1)} | {22, 443}))
def test_other_ports_are_no_storage(number: int) -> None:
    tcp = REPLACE(TCP4, peer_port=number)
    assert list(found(around(connections=(tcp,)))) == ["tcp-established"]


@pytest.mark.parametrize("number", STORAGE)
def test_a_server_for_others_is_no_storage_of_ours(number: int) -> None:
    tcp = REPLACE(TCP4, local_port=number)
    assert list(found(around(connections=(tcp,)))) == ["tcp-established"]


def test_what_is_mounted_or_attached_is_storage_without_a_connection() -> None:
    nfs = RemoteStorage("NFS", "10.0.0.9", "/data")
    assert found(around(storage=(nfs,))) == {"storage": why.Storage((), (nfs,))}
    assert found(around(storage=(nfs,), state=state(up=False))) == {}


def test_storage_within_the_host_or_over_a_port_that_is_down_is_no_matter() -> None:
    inside = REPLACE(TCP4, peer="10.0.0.2", peer_port=2049)
    assert found(around(connections=(inside,))) == {}
    nfs = REPLACE(TCP4, peer_port=2049)
    assert found(around(connections=(nfs,), state=state(up=False))) == {}


# --- azure-fabric -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fabric", "refused"),
    [
        (FabricRoute(through_port=True, host_route=True, on_azure=True), True),
        (FabricRoute(through_port=True, host_route=True, on_azure=False), True),
        (FabricRoute(through_port=True, host_route=False, on_azure=True), True),
        (FabricRoute(through_port=True, host_route=False, on_azure=False), False),
        (FabricRoute(through_port=False, host_route=True, on_azure=True), False),
        (FabricRoute(True, True, True, "169.254.169.254"), True),
        (FabricRoute(True, True, True, remaining="eth0"), False),
    ],
)
def test_the_route_to_the_wire_server(fabric: FabricRoute, refused: bool) -> None:
    aside = FabricRoute(False, True, True, "169.254.169.254")
    expected = {"azure-fabric": why.Fabric((fabric,))} if refused else {}
    assert found(around(fabric=(fabric, aside))) == expected


# --- rdma-users, upper, xdp, packet-sockets, manager ------------------------------------------


def test_rdma_users() -> None:
    users = (RdmaUser("mana_0", "2 QPs", (PROBER,)), RdmaUser("manae_0", "nvme_rdma"))
    assert found(around(rdma_users=users)) == {"rdma-users": why.RdmaUsers(users)}


@pytest.mark.parametrize(
    ("here", "away"), [((IDLE,), ()), ((), (AWAY,)), ((IDLE, BOND), (AWAY,)), ((BOND,), ())]
)
def test_uppers_here_and_in_other_namespaces(here: Any, away: Any) -> None:
    assert found(around(uppers=here, elsewhere=away)) == {"upper": why.Uppers((*here, *away))}


def test_a_tunnel_is_an_upper_where_it_has_the_port_as_its_device() -> None:
    bound = REPLACE(IDLE, kind="vxlan", ways=(TunnelWay("10.1.0.9", "eth1", True),))
    routed = REPLACE(IDLE, kind="gre", ways=(TunnelWay("10.1.0.9", "eth1", False),))
    assert found(around(uppers=(routed,))) == {}
    assert found(around(uppers=(bound, routed))) == {"upper": why.Uppers((bound,))}


def test_an_xdp_program() -> None:
    assert found(around(xdp=True)) == {"xdp": why.Xdp()}


def test_packet_sockets_of_a_port_that_is_up() -> None:
    sockets = (PacketSocket(9, (PROBER,)), PacketSocket(10, (), "vlan7"))
    assert found(around(packet_sockets=sockets)) == {"packet-sockets": why.PacketSockets(sockets)}
    assert found(around(packet_sockets=sockets, state=state(up=False))) == {}


def test_a_manager_that_has_the_port_or_does_not_say() -> None:
    has, open_, lets_be = (Manager("networkd", PROBER, m, "x") for m in (True, None, False))
    assert found(around(managers=(lets_be,))) == {}
    facts = found(around(managers=(lets_be, has, open_)))
    assert facts == {"manager": why.Managers((has, open_), (Obstacle.NO_WAY, Obstacle.NO_WAY))}


@pytest.mark.parametrize(
    ("one", "refused"),
    [
        (UDP4, True),
        (REPLACE(UDP4, protocol="sctp", local="10.5.5.5"), True),
        (REPLACE(UDP4, peer="10.0.0.2"), False),  # stays in this host
    ],
)
def test_connected_sockets_that_are_not_tcps(one: Connection, refused: bool) -> None:
    expected = {"sockets": why.Sockets((one,))} if refused else {}
    assert found(around(sockets=(one,))) == expected
    assert found(around(sockets=(one,), state=state(up=False))) == {}


def test_connections_of_others() -> None:
    flows = (Forwarded("172.17.0.2", 1, "tcp to 10.1.0.9:7000"),)
    assert found(around(forwarded=flows)) == {"forwarding": why.Forwarding(flows)}
    tunnel = (IpsecTunnel("10.2.0.0/16", "10.3.0.0/16", "10.1.0.9"),)
    assert found(around(ipsec=tunnel)) == {"forwarding": why.Forwarding((), tunnel)}
    assert found(around(ipsec=tunnel, state=state(up=False))) == {}
    assert found(around(forwarded=flows, state=state(up=False))) == {}


# --- what could not be read -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "refused"),
    [
        ("uppers", {"upper": Source.UPPERS}),
        ("elsewhere", {"upper": Source.OTHER_NAMESPACES}),
        ("xdp", {"xdp": Source.XDP}),
        (
            "connections",
            {
                "ssh-session": Source.SSH_SESSIONS,
                "tcp-established": Source.CONNECTIONS,
                "storage": Source.CONNECTIONS,
            },
        ),
        ("sockets", {"sockets": Source.SOCKETS}),
        ("forwarded", {"forwarding": Source.FORWARDING}),
        ("ipsec", {"forwarding": Source.IPSEC}),
        ("nftables", {}),
        ("beside", {}),  # but where networkd has the port: test_unmanaged.py
        ("redirecting", {}),
        ("untracked", {}),
        ("netconsole", {}),
        ("listeners", {}),  # they are named, and refuse nothing
        ("packet_sockets", {"packet-sockets": Source.PACKET_SOCKETS}),
        ("ssh", {"ssh-session": Source.SSH_SESSIONS}),
        ("others", {"last-port": Source.OTHER_NETDEVS}),
        ("managers", {"manager": Source.MANAGERS}),
        ("rdma_users", {"rdma-users": Source.RDMA_USERS}),
        ("fabric", {"azure-fabric": Source.FABRIC}),
        ("storage", {"storage": Source.STORAGE}),
        ("steered", {"default-route": Source.ROUTES}),
        (
            "tracking",
            dict.fromkeys(
                ("ssh-session", "tcp-established", "storage", "sockets"), Source.TRACKING
            ),
        ),
    ],
)
def test_what_could_not_be_read_refuses(source: str, refused: dict[str, Source]) -> None:
    expected = {code: Unread(name) for code, name in refused.items()}
    assert found(around(**{source: None})) == expected


def test_every_source_is_among_those_above() -> None:
    mark = next(
        m
        for m in test_what_could_not_be_read_refuses.pytestmark  # type: ignore[attr-defined]
        if m.name == "parametrize"
    )
    names = {case[0] for case in mark.args[1]}
    noted = {"daemons", "name_servers", "bridged"}  # no guard asks for them: the plan names them
    assert names | {"state"} | noted == {field.name for field in dataclasses.fields(Surroundings)}


@pytest.mark.parametrize(
    ("tracking", "codes"),
    [
        (Tracking.READ, set()),
        (Tracking.NO_PEERS, {"tcp-established", "storage", "sockets"}),
        (Tracking.NO_MARKS, {"ssh-session", "tcp-established", "storage", "sockets"}),
    ],
)
def test_connections_that_only_connection_tracking_tells_of_are_unknown_without_it(
    tracking: Tracking, codes: set[str]
) -> None:
    expected = dict.fromkeys(codes, Unread(Source.TRACKING))
    assert found(around(tracking=tracking)) == expected
    assert found(around(tracking=tracking, state=state(up=False))) == {}
    # What is known all the same is told.
    facts = found(around(tracking=tracking, connections=(TCP4,), sockets=(UDP4,)))
    told = {
        "tcp-established": why.Connections((TCP4,)), "sockets": why.Sockets((UDP4,)),
    }  # fmt: skip
    assert facts == {**expected, **told}


def test_no_guard_passes_when_nothing_was_read() -> None:
    """But those that ask nothing of the surroundings."""
    silent = [guard for guard in guards.GUARDS if guard(STATUS, NOTHING_READ) is None]
    assert silent == [guards.guard_in_reset, guards.guard_kernel_bug]
    gone = around(state=None)
    with_state = {
        str(refusal.code) for guard in guards.GUARDS if (refusal := guard(STATUS, gone)) is not None
    }
    assert with_state == {
        "foreign-netns", "ssh-session", "default-route", "last-port", "tcp-established", "storage",
        "packet-sockets", "sockets", "forwarding",
    }  # fmt: skip


def test_everything_that_refuses_is_listed_in_the_order_of_the_contract() -> None:
    port = STATUS._replace(in_reset=True, eqs_lost=True, netns="peer")
    everything = around(
        state=state(route("0.0.0.0", 0, via="10.0.0.1")),
        uppers=(IDLE,),
        xdp=True,
        connections=(REPLACE(TCP4, peer_port=2049),),
        packet_sockets=(PacketSocket(9),),
        ssh=(ssh("10.0.0.2", True),),
        others=(),
        managers=(Manager("networkd", PROBER, True, "x"),),
        rdma_users=(RdmaUser("mana_0", "2 QPs"),),
        fabric=(FabricRoute(True, True, True),),
        sockets=(UDP4,),
        forwarded=(Forwarded("172.17.0.2", 1, "tcp"),),
    )
    assert list(found(everything, port)) == IN_ORDER
    assert list(found(everything)) == IN_ORDER[3:]
    assert [guard.__name__ for guard in guards.GUARDS] == [
        "guard_" + code.replace("-", "_") for code in IN_ORDER
    ]
