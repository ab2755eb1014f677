"""Refusals in words: that they say what was found, and that JSON keeps its shape."""

from __future__ import annotations

import dataclasses

import pytest

from manactl.decide import refusal as why
from manactl.decide import refusal_words, waivers
from manactl.decide.codes import BARRED, Bar, Code
from manactl.decide.refusal import Refusal, Source, Unread
from manactl.decide.unmanageable import Obstacle
from manactl.model.port import Evidence, Holder
from manactl.netstate.surroundings import (
    UNTOLD,
    Connection,
    FabricRoute,
    Forwarded,
    IpsecTunnel,
    Manager,
    PacketSocket,
    Process,
    RdmaUser,
    RemoteStorage,
    SshSession,
)
from tests.unit.decide.scene import AWAY, BOND, IDLE, PROBER, TCP4, TCP6, UDP4, VLAN
from tests.unit.fakes import PORT
from tests.unit.wording import wording

REPLACE = dataclasses.replace
SESSION = SshSession("10.9.9.9", "10.0.0.2", True, "SSH_CONNECTION of pid 70")
NFS = REPLACE(TCP4, peer_port=2049, processes=())
IMDS = "169.254.169.254"
SEEN = (Evidence("debugfs", "EQs", True),)
TESTPMD = Holder(4211, "testpmd", None, 0, "fwd.service", None, None)


def of(code: str, facts: why.Facts) -> Refusal:
    return Refusal(Code(code), PORT, "eth1", facts)


def tcp(one: Connection, survives: str) -> dict[str, object]:
    return {
        "local": f"{one.local} 5000",
        "peer": f"{one.peer} {one.peer_port}",
        "netns": one.netns,
        "processes": [{"pid": 77, "comm": "prober"}] if one.processes else [],
        "survives": survives,
    }


CASES: list[tuple[str, why.Facts, list[str], list[tuple[str, str, object]]]] = [
    ("foreign-netns", why.NotHere("eth7", "blue"), ["blue"], [("sysfs", "netdev", "eth7")]),
    (
        "foreign-netns",
        why.MadeElsewhere("eth0"),
        ["destroys eth0", "initial", "--synthetic=down"],
        [("sysfs", "netdev", "eth0")],
    ),
    ("foreign-netns", why.NotHere(None, None), ["unplugged"], [("sysfs", "netdev", None)]),
    (
        "in-reset",
        why.InReset(SEEN),
        ["--wait", "servicing by the host"],
        [("sysfs", "auxiliary devices of the function", []), ("debugfs", "EQs", True)],
    ),
    ("kernel-bug", why.EqsLost(True, SEEN), ["this port's MTU"], [("debugfs", "EQs", True)]),
    ("kernel-bug", why.EqsLost(False, SEEN), ["a down port's MTU"], [("debugfs", "EQs", True)]),
    (
        "ssh-session",
        why.SshSessions((why.Session(SESSION, None), why.Session(SESSION, VLAN))),
        ["10.9.9.9 to 10.0.0.2, 10.9.9.9 to 10.0.0.2 on vlan7 (vlan)"],
        [("env", "SSH_CONNECTION of pid 70", "10.9.9.9 10.0.0.2")] * 2,
    ),
    (
        "ssh-session",
        why.SshSessions(
            (
                why.Session(SshSession(UNTOLD, UNTOLD, None, "SSH_CONNECTION of pid 70"), None),
                why.Session(SshSession(UNTOLD, "10.0.0.2", None, "pid 9 mosh", own=False), None),
            )
        ),
        [
            "is not known: SSH_CONNECTION of pid 70 could not",
            "an unknown client to 10.0.0.2 (pid 9",
        ],
        [("env", "SSH_CONNECTION of pid 70", "? ?"), ("env", "pid 9 mosh", "? 10.0.0.2")],
    ),
    (
        "default-route",
        why.DefaultRoutes((why.DefaultRoute("default a", None), why.DefaultRoute("b", "blue"))),
        ["default a, b in the network namespace blue"],
        [
            ("rtnetlink", "route", "default a"),
            ("rtnetlink", "route", "b in the network namespace blue"),
        ],
    ),
    (
        "last-port",
        why.LastPort((why.Reachable("10.0.0.2", None), why.Reachable("10.7.0.2", VLAN))),
        ["10.0.0.2, 10.7.0.2 on vlan7 (vlan)"],
        [("rtnetlink", "other netdevs with a global address", [])],
    ),
    (
        "tcp-established",
        why.Connections((TCP4,)),
        ["1 live TCP connection:", "10.0.0.2:5000 - 10.0.0.9:22 (pid 77 prober)"],
        [("sock_diag", "established", tcp(TCP4, "yes"))],
    ),
    (
        "tcp-established",
        why.Connections((TCP6, REPLACE(TCP4, netns="blue", processes=(), state="close-wait"))),
        [
            "2 live TCP connections:",
            "[2001:db8::2]:5000 - [2001:db8::9]:22",
            "in the network namespace blue (no visible process",
        ],
        [
            ("sock_diag", "established", tcp(TCP6, "if its address is back in time")),
            (
                "sock_diag",
                "close-wait",
                tcp(REPLACE(TCP4, netns="blue", processes=()), "yes"),
            ),
        ],
    ),
    (
        "tcp-established",
        why.Connections((REPLACE(TCP4, inode=0, processes=(), state="fin-wait-1"),)),
        [
            "10.0.0.2:5000 - 10.0.0.9:22 "
            "(closed by its program; the kernel still waits for the other end)"
        ],
        [("sock_diag", "fin-wait-1", tcp(REPLACE(TCP4, processes=()), "yes"))],
    ),
    (
        "storage",
        why.Storage((NFS, REPLACE(TCP4, peer_port=3260))),
        ["NFS at 10.0.0.9 (the kernel), iSCSI at 10.0.0.9 (pid 77 prober)"],
        [
            ("sock_diag", "NFS", "10.0.0.2:5000 - 10.0.0.9:2049"),
            ("sock_diag", "iSCSI", "10.0.0.2:5000 - 10.0.0.9:3260"),
        ],
    ),
    (
        "storage",
        why.Storage(
            (NFS,),
            (
                RemoteStorage("NFS", "10.0.0.9", "/data"),
                RemoteStorage("AFS", None, "/afs", "blue"),
                RemoteStorage("AoE", None, "etherd/e1.2"),
            ),
        ),
        [
            "over it: NFS at 10.0.0.9 (/data), AFS at a server that is not known "
            "(/afs in the network namespace blue), AoE (etherd/e1.2)"
        ],
        [
            ("sock_diag", "NFS", "10.0.0.2:5000 - 10.0.0.9:2049"),
            (
                "proc",
                "NFS",
                {"kind": "NFS", "address": "10.0.0.9", "where": "/data", "netns": None},
            ),
            ("proc", "AFS", {"kind": "AFS", "address": None, "where": "/afs", "netns": "blue"}),
            (
                "proc",
                "AoE",
                {"kind": "AoE", "address": None, "where": "etherd/e1.2", "netns": None},
            ),
        ],
    ),
    (
        "azure-fabric",
        why.Fabric((FabricRoute(True, True, True), FabricRoute(True, True, True, IMDS))),
        ["Azure's wire server 168.63.129.16, Azure's metadata service (IMDS) 169.254.169.254"],
        [
            ("rtnetlink", "route to 168.63.129.16", "eth1"),
            ("rtnetlink", "route to 169.254.169.254", "eth1"),
        ],
    ),
    (
        "rdma-users",
        why.RdmaUsers((RdmaUser("mana_0", "2 QPs", (PROBER,)), RdmaUser("manae_0", "nvme"))),
        ["2 QPs on mana_0 (pid 77 prober), nvme on manae_0;"],
        [
            ("nldev", "mana_0", {"what": "2 QPs", "pids": [77]}),
            ("nldev", "manae_0", {"what": "nvme", "pids": []}),
        ],
    ),
    (
        "upper",
        why.Uppers((IDLE, BOND, AWAY, REPLACE(IDLE, kind=None))),
        ["vlan7 (vlan), bond0 (bond), mv0 (macvlan) in the network namespace blue, vlan7"],
        [
            ("rtnetlink", "upper", "vlan7 (vlan)"),
            ("rtnetlink", "upper", "bond0 (bond)"),
            ("rtnetlink", "upper", "mv0 (macvlan) in the network namespace blue"),
            ("rtnetlink", "upper", "vlan7"),
        ],
    ),
    ("xdp", why.Xdp(), ["XDP"], [("rtnetlink", "IFLA_XDP", True)]),
    (
        "packet-sockets",
        why.PacketSockets((PacketSocket(9, (PROBER,)), PacketSocket(10, (PROBER,), "vlan7"))),
        ["pid 77 prober, pid 77 prober (on vlan7);"],
        [
            ("proc", "net/packet", {"inode": 9, "netdev": None, "pids": [77]}),
            ("proc", "net/packet", {"inode": 10, "netdev": "vlan7", "pids": [77]}),
        ],
    ),
    (
        "packet-sockets",
        why.PacketSockets((PacketSocket(9),)),
        ["not visible;"],
        [("proc", "net/packet", {"inode": 9, "netdev": None, "pids": []})],
    ),
    (
        "manager",
        why.Managers(
            (Manager("nm", PROBER, True, "/a"), Manager("nd", PROBER, None, "/b")), (None, None)
        ),
        ["nm (pid 77 prober), nd (pid 77 prober), which does not report whether it does;"],
        [("run", "/a", True), ("run", "/b", None)],
    ),
    (
        "manager",
        why.Managers(
            (
                Manager("nm", PROBER, True, "/a", "eth1", 3, silent="timed out"),
                Manager("nd", PROBER, True, "/b", "eth1", 3),
                Manager("ne", PROBER, True, "/b", "eth1", 3),
            ),
            (Obstacle.SILENT, Obstacle.MEMBER, Obstacle.DOWN),
        ),
        [
            "nm (pid 77 prober), which does not answer (timed out), ",
            "nd (pid 77 prober), which has it in a bond, bridge, team or VRF, ",
            "ne (pid 77 prober), which would open it",
        ],
        [
            ("run", "/a", True),
            ("run", "/b", True),
            ("run", "/b", True),
            ("dbus", "nm", "timed out"),
        ],
    ),
    (
        "sockets",
        why.Sockets((UDP4, REPLACE(TCP6, protocol="sctp", state="association", processes=()))),
        ["udp 10.0.0.2:5000 - 10.0.0.9:443 (pid 77 prober), sctp [2001:db8::2]:5000"],
        [
            ("sock_diag", "established", {"protocol": "udp", **tcp(UDP4, "yes")}),
            (
                "proc",
                "association",
                {
                    "protocol": "sctp",
                    **tcp(REPLACE(TCP6, processes=()), "if its address is back in time"),
                },
            ),
        ],
    ),
    (
        "ssh-session",
        why.SshSessions(
            (why.Session(REPLACE(SESSION, own=False, found_in="logind session 7"), None),), (TCP4,)
        ),
        [
            "remote logins run over it: 10.9.9.9 to 10.0.0.2 (logind session 7), "
            "10.0.0.2:5000 - 10.0.0.9:22 (pid 77 prober)"
        ],
        [
            ("env", "logind session 7", "10.9.9.9 10.0.0.2"),
            ("sock_diag", "established", tcp(TCP4, "yes")),
        ],
    ),
    (
        "forwarding",
        why.Forwarding((Forwarded("172.17.0.2", 1, "tcp to 10.1.0.9:7000"),)),
        ["1 forwarded connection of 172.17.0.2 use", "1 of 172.17.0.2 (tcp to 10.1.0.9:7000);"],
        [
            (
                "conntrack",
                "forwarded",
                {
                    "source": "172.17.0.2",
                    "connections": 1,
                    "example": "tcp to 10.1.0.9:7000",
                    "netns": None,
                },
            )
        ],
    ),
    (
        "forwarding",
        why.Forwarding((Forwarded("a", 2, "x"), Forwarded("b", 1, "y", "blue"))),
        ["3 forwarded connections of 2 addresses", "1 of b (y) in the network namespace blue"],
        [
            (
                "conntrack",
                "forwarded",
                {"source": source, "connections": n, "example": example, "netns": netns},
            )
            for source, n, example, netns in (("a", 2, "x", None), ("b", 1, "y", "blue"))
        ],
    ),
    *(
        (
            "forwarding",
            why.Forwarding(flows, (IpsecTunnel("10.2.0.0/16", "10.3.0.0/16", "10.1.0.9"),)),
            [*words, "tunnels that leave by it (10.2.0.0/16 to 10.3.0.0/16 by 10.1.0.9)"],
            [
                *(("conntrack", "forwarded", flow._asdict()) for flow in flows),
                (
                    "xfrm",
                    "policy",
                    {
                        "source": "10.2.0.0/16",
                        "destination": "10.3.0.0/16",
                        "endpoint": "10.1.0.9",
                        "netns": None,
                    },
                ),
            ],
        )
        for flows, words in (
            ((), ["IPsec puts packets into"]),
            ((Forwarded("a", 2, "x"),), ["2 forwarded connections of a", "masqueraded. IPsec"]),
        )
    ),
    (
        "manager",
        why.Managers((Manager("ifupdown", None, True, "/c"),), (Obstacle.NO_WAY,)),
        ["controls it: ifupdown; it may"],
        [("run", "/c", True)],
    ),
    ("unsupported", why.NoRdmaDevice(), ["no RDMA device"], []),
    (
        "unsupported",
        why.NoRdmaDevice(True, ("manae_0",)),
        ["not in this network namespace (manae_0)"],
        [("sysfs", "RDMA device elsewhere", "manae_0")],
    ),
    ("unsupported", why.NoRdmaDevice(True), ["not in this network namespace:"], []),
    (
        "holder",
        why.HeldBy((TESTPMD, TESTPMD._replace(pid=9, comm=None))),
        ["(pid 4211 testpmd, pid 9 ?)"],
        [
            ("proc", "holder", {"pid": 4211, "comm": "testpmd", "unit": "fwd.service"}),
            ("proc", "holder", {"pid": 9, "comm": None, "unit": "fwd.service"}),
        ],
    ),
    ("holder", why.HeldBy(()), ["a raw QP has the vport already"], []),
    ("denied", why.OwnerUnprovable(SEEN), ["CAP_NET_RAW"], [("debugfs", "EQs", True)]),
    ("busy", why.InTransition(("up", "no EQs"), SEEN), ["up; no EQs"], [("debugfs", "EQs", True)]),
    (
        "busy",
        why.Unjoined("000d", "eth0"),
        ["the VF of eth0", "not joined"],
        [("sysfs", "netdev of VMBus device 000d", "eth0")],
    ),
    (
        "busy",
        why.Unjoined("000d", None),
        ["the VF of VMBus device 000d"],
        [("sysfs", "netdev of VMBus device 000d", None)],
    ),
]


@pytest.mark.parametrize(("code", "facts", "words", "evidence"), CASES)
def test_a_refusal_says_what_was_found(
    code: str,
    facts: why.Facts,
    words: list[str],
    evidence: list[tuple[str, str, object]],
) -> None:
    refusal = of(code, facts)
    message = refusal_words.message(refusal)
    with wording:
        assert all(word in message for word in words), message
    assert not message.endswith(".")
    with wording:
        assert list(refusal_words.evidence(refusal)) == [Evidence(*piece) for piece in evidence]
        assert refusal_words.to_json(refusal) == {
            "code": code,
            "port": "eth1",
            "message": message,
            "waivable": refusal.bar is None,
            "evidence": [{"source": s, "fact": f, "value": v} for s, f, v in evidence],
        }


@pytest.mark.wording
def test_a_session_of_which_the_client_alone_is_known() -> None:
    session = REPLACE(SESSION, own=False, server="", found_in="logind session 7")
    facts = why.SshSessions((why.Session(session, None),))
    assert refusal_words.message(of("ssh-session", facts)) == (
        "remote logins run over it: 10.9.9.9 (logind session 7)"
    )


@pytest.mark.wording
def test_a_session_from_a_container_says_so() -> None:
    session = REPLACE(SESSION, through_port=None, guest=True)
    facts = why.SshSessions((why.Session(session, None),))
    assert "from a container or VM of this host" in refusal_words.message(of("ssh-session", facts))


def test_every_kind_of_facts_is_among_those_above() -> None:
    assert {type(facts) for _, facts, *_ in CASES} | {Unread} == set(why.Facts.__args__)  # type: ignore[attr-defined]


UNREAD = {
    Source.SSH_SESSIONS: "env",
    Source.ROUTES: "rtnetlink",
    Source.OTHER_NETDEVS: "rtnetlink",
    Source.CONNECTIONS: "sock_diag",
    Source.FABRIC: "rtnetlink",
    Source.RDMA_USERS: "nldev",
    Source.UPPERS: "rtnetlink",
    Source.OTHER_NAMESPACES: "netns",
    Source.XDP: "rtnetlink",
    Source.PACKET_SOCKETS: "proc",
    Source.MANAGERS: "proc",
    Source.SOCKETS: "sock_diag",
    Source.FORWARDING: "conntrack",
    Source.TRACKING: "conntrack",
    Source.IPSEC: "xfrm",
    Source.STORAGE: "proc",
}


@pytest.mark.parametrize("source", Source)
def test_what_could_not_be_read_is_null_in_the_evidence(source: Source) -> None:
    refusal = of("upper", Unread(source))
    (piece,) = refusal_words.evidence(refusal)
    assert (piece.source, piece.value) == (UNREAD[source], None)
    with wording:
        assert refusal_words.message(refusal) == f"{piece.fact} could not be read"


@pytest.mark.wording
def test_no_two_sources_have_the_same_words() -> None:
    words = [refusal_words.message(of("upper", Unread(source))) for source in Source]
    assert len(set(words)) == len(words)


@pytest.mark.parametrize(("count", "tail"), [(5, "5.0.0.5"), (6, "5.0.0.5 and 1 more")])
def test_of_a_long_list_the_beginning_is_spelled_out(count: int, tail: str) -> None:
    own = tuple(why.Reachable(f"{n}.0.0.{n}", None) for n in range(1, count + 1))
    assert refusal_words.message(of("last-port", why.LastPort(own))).endswith(tail)


def test_which_connections_survive() -> None:
    first = refusal_words.survival([TCP4])
    second = refusal_words.survival([TCP6, TCP6])
    third = refusal_words.survival([TCP4, TCP4, TCP6])
    with wording:
        assert "unless an end times out" in first
    assert "IPv6" not in first
    with wording:
        assert "if their IPv6 address is restored in time" in second
    assert "unless" not in second
    with wording:
        assert "2 survive unless" in third
        assert f"1 if their IPv6 address is restored in time: {TCP6}" in third
    assert str(TCP4) not in third


def test_processes_in_words() -> None:
    assert str(Process(4211, "testpmd")) == "pid 4211 testpmd"


# --- the failure of all refusals --------------------------------------------------------------


def test_every_refusal_is_reported_with_its_own_remedy() -> None:
    found = [
        of("tcp-established", why.Connections((TCP4,))),
        of("storage", why.Storage((NFS,))),
        REPLACE(of("tcp-established", why.Connections((TCP6,))), label="eth2"),
        of("upper", why.Uppers((AWAY, IDLE))),
        of("default-route", why.DefaultRoutes((why.DefaultRoute("default", None),))),
        of("last-port", why.LastPort((why.Reachable("10.0.0.2", None),))),
        of("in-reset", why.InReset(())),
    ]
    error = waivers.refused(found, {"upper", "xdp", "last-port"})
    first, *lines = error.message.splitlines()
    with wording:
        assert first == "refused to claim eth1, eth2; nothing was touched"
    blind = [line for line in lines if line.startswith("    ")]
    assert [line for line in lines if line not in blind] == [
        f"  {one.code}: {one.label}: {refusal_words.message(one)}." for one in found
    ]
    with wording:
        assert [line.split()[:5] for line in blind] == [
            ["--allow", "upper", "has", "no", "effect:"],
            ["--allow", "last-port", "has", "no", "effect:"],
        ]
        assert "mv0 (macvlan) in the network namespace blue." in blind[0]
    assert "vlan7" not in blind[0]
    accept, *why_not = (error.hint or "").splitlines()
    words = "--allow default-route --allow last-port --allow storage --allow tcp-established"
    with wording:
        assert accept == (
            f"to accept the loss: {words} --confirm-within 120 (the claim is released automatically "
            f"unless `manactl confirm` comes in time), or with a command to run: {words} -- COMMAND"
        )
    assert [line.partition(":")[0] for line in why_not] == ["upper", "in-reset"]


@pytest.mark.wording
def test_a_loss_that_cuts_nobody_off_is_accepted_for_a_claim_that_stays() -> None:
    error = waivers.refused([of("storage", why.Storage((NFS,)))])
    assert error.hint == "to accept the loss: --allow storage"
    wanting = [of("ssh-session", why.SshSessions(()))]
    assert "--allow ssh-session --confirm-within" in (waivers.refused(wanting).hint or "")


def test_a_failure_that_no_waiver_changes_says_what_to_do_once() -> None:
    found = [of("holder", why.HeldBy(())), REPLACE(of("holder", why.HeldBy(())), label="eth2")]
    error = waivers.refused(found)
    assert error.hint is not None
    assert len(error.hint.splitlines()) == 1
    with wording:
        assert "end the holder" in error.hint
    assert "waived" not in error.message + error.hint


@pytest.mark.wording
@pytest.mark.parametrize(
    ("facts", "word"),
    [
        (why.NoRdmaDevice(), "modprobe mana_ib"),
        (why.NoRdmaDevice(True), "rdma dev set DEVICE netns first"),
        (why.OwnerUnprovable(()), "root"),
        (why.InTransition((), ()), "try again"),
        (why.Unjoined("000d", "eth0"), "dmesg"),
        (why.Unjoined("000d", None), "modprobe hv_netvsc"),
    ],
)
def test_what_to_do_about_a_port_that_cannot_be_claimed(facts: why.Facts, word: str) -> None:
    codes = {why.OwnerUnprovable: "denied", why.InTransition: "busy", why.Unjoined: "busy"}
    code = codes.get(type(facts), "unsupported")
    assert word in (waivers.refused([of(code, facts)]).hint or "")


def test_why_a_waiver_has_no_effect_in_words() -> None:
    assert refusal_words.barred(of("xdp", why.Xdp())) == ""
    unread = of("upper", Unread(Source.UPPERS))
    assert refusal_words.barred(unread) == BARRED[Bar.UPPERS_UNKNOWN]
    lost = of("upper", why.Uppers((AWAY, IDLE)))
    assert refusal_words.barred(lost).endswith(str(AWAY))
