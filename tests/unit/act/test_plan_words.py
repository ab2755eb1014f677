"""What plans say will happen."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from manactl.act import plan_words, planner
from manactl.act.plan import Plan, SetAdmin
from manactl.model.port import PortId, Upper
from manactl.netstate.members import BridgeState, Member
from manactl.netstate.snapshot import Accepted, PortState
from manactl.netstate.surroundings import (
    Daemon,
    Does,
    FabricRoute,
    Listener,
    Manager,
    NameServer,
    Process,
    Stacked,
    Surroundings,
)
from manactl.netstate.uppers import UpperState
from tests.unit import schema
from tests.unit.decide.scene import PROBER, QUIET, STATE, STATUS, VLAN
from tests.unit.fakes import PORT, address, route
from tests.unit.wording import wording


def plan(state: PortState = STATE, around: Surroundings = QUIET, **more: Any) -> Plan:
    return planner.claim([(STATUS, state, around)], **more)


def test_who_listens_at_the_port_is_named() -> None:
    web = Listener("tcp", "10.0.0.2", 443, 1, (PROBER,))
    dns = Listener("udp", "2001:db8::2", 53, 2, (), "blue")
    made = plan(around=dataclasses.replace(QUIET, listeners=(web, dns)))
    with wording:
        assert "listening on it: tcp 10.0.0.2:443 (pid 77 prober)" in made.stops
        assert (
            "listening on it: udp [2001:db8::2]:53 in the network namespace blue (no visible process)"
            in made.stops
        )
    document = json.loads(json.dumps(made.to_json()))
    schema.strict(document)
    prober = {"pid": 77, "comm": "prober"}
    assert document["listeners"] == [
        {
            "protocol": "tcp",
            "address": "10.0.0.2",
            "port": 443,
            "netns": None,
            "processes": [prober],
        },
        {"protocol": "udp", "address": "2001:db8::2", "port": 53, "netns": "blue", "processes": []},
    ]
    closed = plan(
        dataclasses.replace(STATE, up=False), dataclasses.replace(QUIET, listeners=(web, dns))
    )
    assert closed.listeners == (), "nobody is served by a port that is down"
    unread = plan(around=dataclasses.replace(QUIET, listeners=None))
    with wording:
        assert "whoever listens at the addresses of eth1: that could not be read" in unread.stops


@pytest.mark.wording
def test_the_way_that_remains_to_azures_addresses_is_a_note() -> None:
    stays = FabricRoute(True, True, False, "169.254.169.254", "eth0")
    aside = FabricRoute(True, False, False, remaining="eth0")  # nobody wants it there
    made = plan(around=dataclasses.replace(QUIET, fabric=(stays, aside)))
    assert made.notes == (
        "packets to Azure's metadata service (IMDS) 169.254.169.254 leave by eth0 meanwhile",
    )


@pytest.mark.wording
def test_name_servers_and_whoever_is_in_one_bridge_with_the_port_are_named() -> None:
    server = NameServer("10.1.0.53", "/etc/resolv.conf")
    around = dataclasses.replace(QUIET, name_servers=(server,), bridged=("veth7",))
    made = plan(around=around)
    assert "what veth7 sends through its bridge by eth1" in made.stops
    assert any(
        note.startswith("the name server 10.1.0.53 (/etc/resolv.conf) is reached over eth1 alone")
        for note in made.notes
    )
    unread = plan(around=dataclasses.replace(QUIET, name_servers=None, bridged=None))
    assert any("name servers" in note and "not be read" in note for note in unread.notes)
    assert any("bridge" in stop and "not be read" in stop for stop in unread.stops)


def test_what_no_socket_and_no_route_sends_is_named() -> None:
    made = plan(around=dataclasses.replace(QUIET, redirecting=("eth0", "ifb0"), netconsole=True))
    for line in (
        "packets of eth0 that tc filters send by eth1",
        "packets of ifb0 that tc filters send by eth1",
        "kernel messages that are sent by eth1 (netconsole)",
    ):
        with wording:
            assert line in made.stops
    routed = plan(around=dataclasses.replace(QUIET, untracked=True)).stops
    with wording:
        assert "what others send through this machine by eth1: nothing here tracks it" in routed
    unread = plan(around=dataclasses.replace(QUIET, redirecting=None, netconsole=None)).stops
    with wording:
        assert "what tc filters of other devices redirect to eth1: that could not be read" in unread
        assert "kernel messages (netconsole), should they be sent by eth1" in unread
    chained = plan(around=dataclasses.replace(QUIET, nftables=("netdev t c",))).stops
    with wording:
        assert "packets that the nftables chain netdev t c sends by eth1" in chained
    unread = plan(around=dataclasses.replace(QUIET, nftables=None)).stops
    with wording:
        assert "what nftables rules send by eth1 (fwd, dup): that could not be read" in unread
    words = ("netconsole", "tc filters", "nftables")
    assert not any(word in line for line in plan().stops for word in words)


@pytest.mark.parametrize("uio", [(), (PORT,)])
@pytest.mark.parametrize("unread", [*sorted(vars(QUIET).keys() - {"state"}), None])
def test_a_plan_can_be_made_whatever_could_not_be_read(
    unread: str | None, uio: tuple[PortId, ...]
) -> None:
    names = vars(QUIET).keys() - {"state"} if unread is None else {unread}
    made = plan(around=dataclasses.replace(QUIET, **dict.fromkeys(names)), uio=uio)
    assert made.drops


def test_a_port_without_addresses_carries_none() -> None:
    bare = dataclasses.replace(STATE, facts=(address("fe80::2", 64),), carrier=False)
    made = plan(bare)
    with wording:
        assert made.stops == ("all traffic of the kernel over eth1 (it has no global address)",)
    assert made.steps[1] == SetAdmin(PORT, "eth1", up=False, was=True, had_carrier=False)


def test_what_is_bound_to_the_carrier_stops_with_it() -> None:
    networkd = Manager("systemd-networkd", None, True, "/x", "eth1", 3, bound=("eth5",))
    around = dataclasses.replace(QUIET, managers=(networkd,))
    (line,) = (line for line in plan(around=around).stops if "eth5" in line)
    with wording:
        assert line.startswith("with it eth5, which systemd-networkd sets down")
    assert plan().stops == plan(around=dataclasses.replace(QUIET, managers=None)).stops


@pytest.mark.parametrize("elsewhere", [None, (), (dataclasses.replace(VLAN, netns="blue"),)])
def test_what_a_destroyed_netdev_takes_with_it(elsewhere: tuple[Stacked, ...] | None) -> None:
    """Also where nobody could look into other namespaces: a guard refuses then, unless waived."""
    around = dataclasses.replace(QUIET, elsewhere=elsewhere)
    found = plan_words.others(plan_words.Seen(STATUS, STATE, around, to_uio=True))
    with wording:
        assert any("XDP programs and BPF filters on it" in line for line in found)
        told = [line for line in found if "destroyed and not made again" in line]
        assert told == [
            f"{VLAN.name} in blue, which is stacked on {STATE.main}: it is destroyed and not made again"
            for _ in elsewhere or ()
        ]


def test_who_may_interfere_is_named_but_for_managers_which_the_guard_names() -> None:
    zebra, wicked = Process(7, "zebra"), Process(8, "wickedd")
    daemons = (Daemon("FRR", Does.ROUTES, (zebra,)), Daemon("wicked", Does.LINKS, (wicked,)))
    around = dataclasses.replace(QUIET, daemons=daemons)
    frr, free = plan(around=around).notes
    with wording:
        assert frr.startswith("FRR (pid 7 zebra): it notices when eth1 goes down")
        assert free.startswith("wicked (pid 8 wickedd): it may set eth1 up again")
    down = plan(dataclasses.replace(STATE, up=False), around=around).notes
    assert {frr, free} < set(down)
    mine = Manager("wicked", wicked, True, "/run/wicked/state-3.xml")
    assert plan(around=dataclasses.replace(around, managers=(mine,))).notes == (frr,)
    leaves = dataclasses.replace(mine, managed=False)
    assert plan(around=dataclasses.replace(around, managers=(leaves,))).notes == (frr, free)
    unknown = dataclasses.replace(QUIET, daemons=None, managers=None)
    assert plan(around=unknown).notes == ()


def test_below_a_bond_its_danger_is_noted() -> None:
    netdev = STATUS.netdev
    assert netdev is not None
    member = STATUS._replace(
        netdev=netdev._replace(master="bond0"), upper=Upper("bond0", "bond"), vport_eqs=True
    )
    (note,) = planner.claim([(member, STATE, QUIET)]).notes
    assert "bond0" in note
    assert plan().notes == ()


@pytest.mark.parametrize(
    ("solicits", "asked"),
    [(True, "the kernel asks the router for it"), (False, "no request is sent")],
)
def test_what_a_router_has_to_bring_back_is_told(solicits: bool, asked: str) -> None:
    accepted = Accepted(
        3, default=True, prefixes=True, addresses=True, routes=64, solicits=solicits
    )
    facts = (
        address("2001:db8::2", 64),
        address("2001:db8:aa::2", 64, valid=900, proto=2),
        route("2001:db8:aa::", 64, proto=2, expires=900),
        route("::", 0, via="fe80::9", proto=9, expires=900),
    )
    lines = plan(dataclasses.replace(STATE, facts=facts, accepted=(accepted,))).restores
    with wording:
        assert [line for line in lines if "address" in line or "route" in line] == [
            "1 address (with flags, labels and what remains of their lifetimes, IPv6 without another "
            "duplicate address detection)",
            f"1 address, 2 routes of eth1 from IPv6 router advertisements ({asked}): what has not come "
            "after 5 s comes with the next router advertisement",
        ]
    deaf = plan(dataclasses.replace(STATE, facts=facts)).restores
    assert not any("advertisement" in line for line in deaf)


@pytest.mark.wording
@pytest.mark.parametrize(
    ("member", "told"),
    [
        (Member("br0", "bridge", "forwarding", True, 30.0),
         "eth1 in br0, after release too, until it has listened and learned (STP): up to 30 s more"),
        (Member("br0", "bridge", "forwarding", True, None),
         "eth1 in br0, after release too, until it has listened and learned (STP)"),
        (Member("bond0", "bond", "forwarding", True, 1.0),
         "eth1 in bond0, after release too, until its partner has answered (LACP): up to 1 s more"),
        (Member("br0", "bridge", "blocking", False, 30.0), None),
        (None, None),
    ],
)  # fmt: skip
def test_what_comes_to_the_outage_after_release(member: Member | None, told: str | None) -> None:
    stops = plan(dataclasses.replace(STATE, member=member)).stops
    assert [text for text in stops if "after release" in text] == ([told] if told else [])


@pytest.mark.wording
def test_states_in_a_bridge_that_the_kernel_forgets() -> None:
    disabled = BridgeState(STATE.ifindex, "br0", 0, True)

    def lines(one: BridgeState) -> tuple[list[str], list[str]]:
        made = plan(dataclasses.replace(STATE, bridge_states=(one,)))
        both = made.restores, made.lost
        listed = [[text for text in some if "in br0" in text] for some in both]
        return listed[0], listed[1]

    assert lines(disabled) == (
        ["state disabled of eth1 in br0, as soon as it has carrier: it forwards for a moment before"],
        [],
    )  # fmt: skip
    assert lines(disabled._replace(state=4)) == (
        [],
        [
            "state blocking of eth1 in br0 (only the program that had set it can set it again): it "
            "forwards after release"
        ],
    )
    for one in (
        disabled._replace(state=3), disabled._replace(running=False), disabled._replace(ifindex=99),
    ):  # fmt: skip
        assert lines(one) == ([], [])


@pytest.mark.wording
def test_groups_that_a_bridge_forgets_with_the_carrier() -> None:
    bridge = UpperState("br0", 50, "bridge", STATE.ifindex, None, True, True, False)
    above = UpperState("br1", 52, "bridge", 51, None, True, True, False)
    aside = UpperState("bond0", 51, "bond", STATE.ifindex, None, True, True, False)
    lost = plan(dataclasses.replace(STATE, uppers=(bridge, aside))).lost
    assert [text for text in lost if "multicast" in text] == [
        "multicast groups of eth1 in br0 that are not permanent: they are learned again, and one "
        "that somebody has added (temp) is not"
    ]
    # A bond goes on by another member: so does what a bridge has of it.
    alone = plan(dataclasses.replace(STATE, uppers=(aside, above))).lost
    assert not [text for text in alone if "multicast" in text and "eth1" in text]


@pytest.mark.wording
def test_a_release_says_what_it_does_to_each_netdev() -> None:
    assert (
        plan_words.set_up_below("eth1", "eth0")
        == "eth1 set up; eth0 takes it again as its fast path"
    )
    assert plan_words.given_back("nm", "eth1") == (
        "eth1 given back to nm, which configures it again"
    )
    assert plan_words.given_back_at_boot("nm", "eth1") == "eth1 given back to nm, at boot, too"
    assert plan_words.left_down_by("eth1", ["/etc/a", "/etc/b"]) == (
        "eth1 is left down at boot by /etc/a, /etc/b"
    )


@pytest.mark.wording
@pytest.mark.parametrize(
    ("files", "closes"),
    [
        ([], "only the journal is closed"),
        (["eth1", "eth2"], "the journal is closed, and eth1, eth2 given back"),
    ],
)
def test_of_an_earlier_boot_it_says_what_is_left_to_do(files: list[str], closes: str) -> None:
    assert plan_words.before_last_boot(files) == f"claimed before the last boot: {closes}"
