"""Which upper is which after a while, and what is to be set up or down, in which order."""

from __future__ import annotations

import struct

from manactl.look import stacked_links
from manactl.netstate.uppers import UpperState, activate, changes, inactive, pairs, unopened
from manactl.wire.attrs import attr, attr_str, attr_u32, nest
from manactl.wire.if_link import RTM_NEWLINK, IfInfoMsg

PORT = 3


def vlan(name: str, ifindex: int, number: int, lower: int = PORT, *, up: bool = True) -> UpperState:
    return UpperState(name, ifindex, "vlan", lower, f"802.1Q {number}", up, up, True)


def macvlan(name: str, ifindex: int, lower: int = PORT, *, up: bool = True) -> UpperState:
    return UpperState(name, ifindex, "macvlan", lower, None, up, up, False)


def test_a_vlan_is_known_by_its_number_and_a_macvlan_by_name_or_ifindex() -> None:
    wanted = [vlan("v10", 10, 10), macvlan("m1", 11), macvlan("m2", 12), vlan("v20", 13, 20, 12)]
    now = [
        vlan("other", 20, 10, 9),
        macvlan("renamed", 11, 9),
        macvlan("m2", 22, 9),
        vlan("v20", 23, 20, 22),
    ]
    found = pairs(wanted, now, PORT, 9)
    assert [pair.now and pair.now.ifindex for pair in found] == [20, 11, 22, 23]


def test_an_upper_that_is_gone_takes_what_stands_on_it_along() -> None:
    wanted = [vlan("v10", 10, 10), vlan("q", 11, 5, 10)]
    assert [p.now for p in pairs(wanted, [vlan("q", 11, 5, 99)], PORT, PORT)] == [None, None]


def test_another_kind_or_number_is_not_the_same() -> None:
    wanted = [vlan("x", 10, 10), macvlan("y", 11)]
    now = [vlan("x", 10, 11), vlan("y", 11, 12)]
    assert [p.now for p in pairs(wanted, now, PORT, PORT)] == [None, None]


def test_up_from_the_bottom_then_down_from_the_top() -> None:
    wanted = [
        vlan("a", 10, 1, up=False),
        vlan("b", 11, 2),
        vlan("c", 12, 3, 10, up=False),
        vlan("d", 13, 4, 11),
    ]
    now = [u._replace(up=not u.up) for u in wanted]
    found = changes(pairs(wanted, now, PORT, PORT))
    assert [(one.now.name, one.up) for one in found] == [
        ("b", True),
        ("d", True),
        ("c", False),
        ("a", False),
    ]
    assert found[0].body == struct.pack("=BBHiII", 0, 0, 0, 11, 1, 1)
    assert found[3].body == struct.pack("=BBHiII", 0, 0, 0, 10, 0, 1)


def test_what_the_kernel_has_yet_to_open_stands_on_something_that_is_up() -> None:
    down = [vlan("a", 10, 1, up=False), vlan("b", 11, 2, 10, up=False), macvlan("m", 12, up=False)]
    matched = pairs(down, down, PORT, PORT)
    assert [one.name for one in unopened(matched, PORT, True)] == ["a"]
    assert unopened(matched, PORT, False) == []


def test_a_bond_gets_its_active_slave_again() -> None:
    was = UpperState("bond0", 10, "bond", PORT, None, True, True, False, PORT)
    now = was._replace(lower=9, active=4)
    (found,) = inactive(pairs([was], [now], PORT, 9), {PORT: 9})
    assert found.slave == 9
    assert inactive(pairs([was], [now._replace(active=9)], PORT, 9), {PORT: 9}) == []
    kind, flags, body = activate(found.now, 9)
    assert (kind, flags) == (RTM_NEWLINK, 0)
    again = stacked_links.parse(body)
    assert (again.ifindex, again.kind, again.active) == (10, "bond", 9)


def test_uppers_survive_the_journal() -> None:
    one = UpperState("bond0", 10, "bond", PORT, None, True, False, False, 4)
    for upper in (one, vlan("v", 11, 7)):
        assert UpperState.from_json(upper.to_json()) == upper


def link(ifindex: int, name: str, kind: str, *attrs: bytes, data: bytes = b"") -> bytes:
    info = nest(18, attr_str(1, kind), nest(2, data))
    head = IfInfoMsg(type=1, ifindex=ifindex, flags=1).pack()
    return head + attr_str(3, name) + info + b"".join(attrs)


def test_the_stack_is_read_from_the_bottom_up_and_veth_peers_are_no_part_of_it() -> None:
    vlan_data = (
        attr(1, struct.pack("=H", 100)) + nest(2, struct.pack("=II", 4, 4)) + nest(5, b"\x88\xa8")
    )
    bodies = [
        link(3, "eth1", "", attr_u32(10, 20)),
        link(30, "q", "vlan", attr_u32(5, 20), data=vlan_data),
        link(20, "bond0", "bond", data=attr_u32(2, 3)),
        link(31, "wire", "veth", attr_u32(5, 3)),
        link(32, "away", "macvlan", attr_u32(5, 3), attr_u32(37, 0)),
        link(33, "m", "macvlan", attr_u32(5, 3)),
        link(34, "tunnel", "gre", attr_u32(5, 3)),
    ]
    links = [stacked_links.parse(body) for body in bodies]
    found = stacked_links.uppers(links, 3)
    assert [(u.name, u.kind, u.lower) for u in found] == [
        ("bond0", "bond", 3),
        ("m", "macvlan", 3),
        ("q", "vlan", 20),
    ]
    assert found[0].active == 3
    assert (found[2].id, found[2].follows) == ("802.1ad 100", False)
    assert links[4].far_lower == (3, 0)


MAC, NEW_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"


def test_an_ifindex_alone_is_not_enough_to_know_an_upper_by() -> None:
    was = macvlan("m1", 11)._replace(mac=MAC)
    for now, same in (
        (was._replace(name="renamed"), True),
        (was._replace(name="renamed", mac=NEW_MAC), False),
        (was._replace(mac=NEW_MAC), True),
        (was._replace(ifindex=44), True),
        (was._replace(ifindex=44, name="renamed"), False),
        (was._replace(lower=44), False),
    ):
        (pair,) = pairs([was], [now], PORT, PORT)
        assert (pair.now is not None) is same, now
    (pair,) = pairs([was._replace(mac=None)], [was._replace(name="renamed")], PORT, PORT)
    assert pair.now is not None  # a journal of an earlier version has no MAC address


def test_of_several_the_one_with_its_ifindex_is_the_same() -> None:
    was = vlan("v10", 10, 10)
    others = [was._replace(ifindex=30, name="x"), was._replace(ifindex=31), was._replace(name="y")]
    (pair,) = pairs([was], others, PORT, PORT)
    assert pair.now == others[2]
    (pair,) = pairs([was], others[:2], PORT, PORT)
    assert pair.now == others[1]
    both = pairs([was, was._replace(ifindex=31)], others[:2], PORT, PORT)
    assert [one.now and one.now.ifindex for one in both] == [31, 30]


def test_a_vrf_with_another_table_is_another_one() -> None:
    red = UpperState("red", 20, "vrf", PORT, None, True, True, False, None, 100)
    (pair,) = pairs([red], [red._replace(table=200)], PORT, PORT)
    assert pair.now is None
    (pair,) = pairs([red._replace(table=None)], [red], PORT, PORT)
    assert pair.now == red


def test_a_bond_whose_slave_is_not_known_by_another_number() -> None:
    was = UpperState("bond0", 10, "bond", PORT, None, True, True, False, 4)
    matched = pairs([was], [was._replace(active=None)], PORT, PORT)
    assert [one.slave for one in inactive(matched, {})] == [4]
    assert [one.slave for one in inactive(matched, {4: -4})] == [-4]
    assert inactive(pairs([was._replace(active=None)], [was], PORT, PORT), {}) == []
    assert inactive(pairs([was], [], PORT, PORT), {}) == []


def test_words() -> None:
    assert vlan("v1", 11, 7).describe() == "vlan v1 (802.1Q 7)"
    assert macvlan("m1", 11).describe() == "macvlan m1"


def test_a_synthetic_netdev_is_known_by_its_uuid_whatever_it_is_called() -> None:
    def synthetic(name: str, ifindex: int, uuid: str, mac: str | None = None) -> UpperState:
        return UpperState(name, ifindex, "netvsc", PORT, uuid, True, True, False, mac=mac)

    wanted = [synthetic("eth0", 2, "000d", "00:0d")]
    (found,) = pairs(wanted, [synthetic("eth7", 40, "000d")], PORT, PORT)
    assert found.now is not None, "bound again, and renamed"
    (found,) = pairs(wanted, [synthetic("eth0", 2, "beef", "00:0d")], PORT, PORT)
    assert found.now is None
