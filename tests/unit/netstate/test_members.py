"""What a port is in a bridge with STP, or in an 802.3ad bond."""

from __future__ import annotations

import json
import struct

import pytest

from manactl.netstate import members
from manactl.netstate.members import BridgeState, Member
from manactl.wire.if_link import IfLink


def attr(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def link(name: str, *info: tuple[int, bytes]) -> IfLink:
    head = struct.pack("=BBHiII", 0, 0, 1, 5, 1, 0) + attr(3, name.encode() + b"\0")
    return IfLink(head + attr(18, b"".join(attr(*one) for one in info)))


def port(kind: str, data: bytes) -> IfLink:
    return link("eth1", (4, kind.encode() + b"\0"), (5, data))


def bridge(stp: int, delay: int = 1500) -> IfLink:
    data = attr(1, struct.pack("=I", delay)) + attr(5, struct.pack("=I", stp))
    return link("br0", (1, b"bridge\0"), (2, data))


def bond(mode: int, rate: int = 0, **settings: int) -> IfLink:
    data = attr(1, bytes([mode])) + attr(21, bytes([rate]))
    numbers = {"miimon": 3, "updelay": 4, "arp_interval": 7}
    for name, value in settings.items():
        data += attr(numbers[name], struct.pack("=I", value))
    return link("bond0", (1, b"bond\0"), (2, data))


def slave(link_state: int, *, lacp: int = 0, carrier: int = 1) -> IfLink:
    """`link_state`: BOND_LINK_UP, _FAIL, _DOWN, _BACK."""
    data = attr(2, bytes([link_state])) + attr(7, bytes([lacp]))
    head = (
        struct.pack("=BBHiII", 0, 0, 1, 5, 1, 0) + attr(3, b"eth1\0") + attr(33, bytes([carrier]))
    )
    return IfLink(head + attr(18, attr(4, b"bond\0") + attr(5, data)))


@pytest.mark.parametrize(
    ("state", "word"),
    [(0, "disabled"), (1, "listening"), (2, "learning"), (3, "forwarding"), (4, "blocking")],
)
def test_a_port_of_a_bridge_with_stp(state: int, word: str) -> None:
    here = port("bridge", attr(1, bytes([state])))
    assert members.of(here, bridge(1)) == Member("br0", "bridge", word, state == 3, 30.0)
    assert members.of(here, bridge(1, 400)) == Member("br0", "bridge", word, state == 3, 8.0)
    by_program = members.of(here, bridge(2))
    assert by_program is not None
    assert by_program.within is None
    free = members.of(here, bridge(0))
    assert free is not None
    assert free.forwards is (state in (0, 3))  # else a program blocks it, by MRP say
    assert free.within == (0.0 if free.forwards else None)


@pytest.mark.parametrize(("state", "forwards"), [(0x3D, True), (0x1D, False), (0x0D, False)])
def test_a_port_of_an_8023ad_bond(state: int, forwards: bool) -> None:
    here = port("bond", attr(7, bytes([state])))
    word = "forwarding" if forwards else "negotiating"
    assert members.of(here, bond(4)) == Member("bond0", "bond", word, forwards, 30.0, "lacp")
    assert members.of(here, bond(4, 1)) == Member("bond0", "bond", word, forwards, 1.0, "lacp")
    assert members.of(here, bond(1)) is None
    slow = members.of(here, bond(4, miimon=100, updelay=5000))
    assert slow is not None
    assert slow.within == 35.0


@pytest.mark.parametrize("mode", [0, 1, 2, 5, 6])
def test_a_bond_waits_for_its_updelay(mode: int) -> None:
    delayed = bond(mode, miimon=100, updelay=8000)
    for link_state in (0, 1):  # one that is failing is used for its downdelay
        assert members.of(slave(link_state), delayed) == Member(
            "bond0", "bond", "forwarding", True, 8.0, "updelay"
        )
    back = Member("bond0", "bond", "updelay", False, 8.0, "updelay")
    assert members.of(slave(3), delayed) == back
    assert members.of(slave(2), delayed) == back._replace(state="down")
    # Without a carrier no delay ends.
    gone = members.of(slave(2, carrier=0), delayed)
    assert gone == back._replace(state="down", within=None)
    # Nothing is delayed where nothing is polled.
    assert members.of(slave(3), bond(mode, miimon=0, updelay=8000)) is None
    assert members.of(slave(2), bond(mode, miimon=100)) is None


def test_an_8023ad_bond_waits_for_its_updelay_first() -> None:
    delayed = bond(4, 1, miimon=100, updelay=2000)
    assert members.of(slave(3, lacp=0x3D), delayed) == Member(
        "bond0", "bond", "updelay", False, 3.0, "lacp"
    )


def test_a_bond_that_probes_waits_for_an_answer() -> None:
    probing = bond(1, arp_interval=100)
    answered = Member("bond0", "bond", "forwarding", True, None, "arp")
    assert members.of(slave(0), probing) == answered
    assert members.of(slave(2), probing) == answered._replace(state="unanswered", forwards=False)
    assert members.of(slave(2, carrier=0), probing) == answered._replace(
        state="down", forwards=False
    )


def numbered(
    name: str, index: int, *info: tuple[int, bytes], up: bool = True, carrier: int = 1,
    master: int = 0,
) -> IfLink:  # fmt: skip
    head = struct.pack("=BBHiII", 0, 0, 1, index, up, 0) + attr(3, name.encode() + b"\0")
    head += attr(33, bytes([carrier])) + (attr(10, struct.pack("=I", master)) if master else b"")
    return IfLink(head + attr(18, b"".join(attr(*one) for one in info)))


def of_br0(state: int, *, up: bool = True, carrier: int = 1) -> IfLink:
    data = attr(1, bytes([state]))
    return numbered("eth1", 5, (4, b"bridge\0"), (5, data), up=up, carrier=carrier, master=9)


def br0(stp: int = 0, *, up: bool = True) -> IfLink:
    return numbered("br0", 9, (1, b"bridge\0"), (2, attr(5, struct.pack("=I", stp))), up=up)


@pytest.mark.parametrize("state", range(5))
def test_what_somebody_has_set_of_a_port_without_stp(state: int) -> None:
    (found,) = members.bridge_states([of_br0(state), br0()])
    assert found == BridgeState(5, "br0", state, True)
    assert (found.is_set, found.settable) == (state != 3, state != 4)
    for links in (  # the kernel itself has disabled it
        [of_br0(state, up=False), br0()],
        [of_br0(state, carrier=0), br0()],
        [of_br0(state), br0(up=False)],
    ):
        (found,) = members.bridge_states(links)
        assert not found.is_set


def test_where_a_protocol_decides_no_state_is_set() -> None:
    assert members.bridge_states([of_br0(0), br0(1)]) == ()
    assert members.bridge_states([of_br0(0), br0(2)]) == ()
    assert members.bridge_states([of_br0(0)]) == ()
    slave_of_bond = numbered("eth1", 5, (4, b"bond\0"), master=9)
    assert members.bridge_states([slave_of_bond, bond(4)]) == ()


def test_others_forward_at_once() -> None:
    assert members.of(port("vrf", b""), link("red", (1, b"vrf\0"))) is None
    assert members.of(port("bridge", attr(1, b"\1")), bond(4)) is None


def test_what_forwarded_and_does_not_yet() -> None:
    was, now = (
        Member("br0", "bridge", "forwarding", True, 30.0),
        Member("br0", "bridge", "learning", False, 30.0),
    )
    assert members.settling(was, now) == now
    for pair in ((was, was), (now, now), (None, now), (was, None), (was, now._replace(master="b"))):
        assert members.settling(*pair) is None


def test_it_survives_json() -> None:
    for within, by, active in ((30.0, "", False), (None, "arp", True)):
        one = Member("br0", "bridge", "learning", False, within, by, active)
        assert Member.from_json(json.loads(json.dumps(one.to_json()))) == one


@pytest.mark.parametrize("state", [-1, 5, 999])
def test_a_state_that_no_bridge_has_is_not_believed(state: int) -> None:
    one = BridgeState(5, "br0", 0, True)
    assert BridgeState.from_json(json.loads(json.dumps(one._asdict()))) == one
    with pytest.raises(ValueError, match=str(state)):
        BridgeState.from_json({**one._asdict(), "state": state})
