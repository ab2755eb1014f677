"""What sits on a port, from the links of a namespace."""

from __future__ import annotations

import pytest

from manactl.look.stacked_links import StackedLink, parse
from manactl.look.upper_devices import Standing, grow, reach
from manactl.netstate.surroundings import Stacked
from manactl.wire.attrs import attr_str, attr_u32, nest
from manactl.wire.if_link import IfInfoMsg

PORT = 3
ALL = Standing(True, True)
KEPT = Standing(True, False)  # loses its traffic and keeps its addresses
ASIDE = Standing(False, False)


def link(
    index: int, kind: str | None = None, *, below: int = 0, nsid: int | None = None,
    master: int = 0, works: bool = True,
) -> StackedLink:  # fmt: skip
    attrs = attr_str(3, f"if{index}") + attr_u32(33, int(works))
    attrs += attr_u32(5, below) if below else b""
    attrs += attr_u32(10, master) if master else b""
    attrs += attr_u32(37, nsid) if nsid is not None else b""
    attrs += nest(18, attr_str(1, kind)) if kind else b""
    return parse(IfInfoMsg(type=1, ifindex=index, flags=int(works)).pack() + attrs)


def standing(*links: StackedLink) -> dict[int, Standing]:
    found = grow(links, {PORT: ALL}, {})
    assert found.pop(PORT) == ALL
    return found


def test_vlans_and_macvlans_stand_on_each_other_in_whatever_order() -> None:
    assert standing(
        link(9, "vlan", below=8),
        link(8, "macvlan", below=6),
        link(7, "vlan", below=6),
        link(6, "vlan", below=PORT),
        link(5, "vlan", below=4),
        link(4),
        link(PORT),
    ) == {6: ALL, 7: ALL, 8: KEPT, 9: KEPT}


@pytest.mark.parametrize("kind", ["bond", "team"])
@pytest.mark.parametrize(("works", "expected"), [(True, ASIDE), (False, KEPT)])
def test_a_bond_with_another_member_that_works_carries_on(
    kind: str, works: bool, expected: Standing
) -> None:
    links = (
        link(PORT, master=10),
        link(4, master=10, works=works),
        link(10, kind),
        link(11, "vlan", below=10),
    )
    assert standing(*links) == {10: expected, 11: expected}


def test_a_bond_of_ports_that_all_go_is_lost() -> None:
    links = (link(PORT, master=10), link(4, master=10), link(10, "bond"))
    assert grow(links, {PORT: ALL, 4: ALL}, {})[10] == KEPT


def test_a_bridge_is_lost_and_a_vrf_is_not_its_members() -> None:
    assert standing(link(PORT, master=10), link(4, master=10), link(10, "bridge")) == {10: KEPT}
    assert standing(link(PORT, master=10), link(10, "vrf")) == {10: ASIDE}


def test_the_other_end_of_a_pair_is_not_on_it() -> None:
    assert standing(link(PORT, "veth", below=4), link(4, "veth", below=PORT)) == {}


def test_numbers_of_other_namespaces_are_not_ours() -> None:
    far = link(6, "vlan", below=PORT, nsid=2)
    assert standing(link(PORT), far) == {}
    assert grow([far], {}, {2: {PORT: ALL}}) == {6: ALL}
    assert grow([far], {}, {1: {PORT: ALL}}) == {}


def test_what_is_not_carried_is_not_looked_for() -> None:
    vlan = Stacked("vlan7", 6, "vlan", None, True, True, ("10.7.0.2", "fd07::2"))
    bond = Stacked("bond0", 10, "bond", None, False, False, ("10.8.0.2",))
    mv = Stacked("mv0", 8, "macvlan", None, True, False, ("fd08::2",))
    found = reach([vlan, bond, mv], PORT, ["10.0.0.2", "fd00::2"])
    assert found.ifindexes == {PORT, 6, 8}
    assert len(found.addresses) == 5
    assert {len(one) for one in found.going} == {16}
    assert len(found.going) == 2  # those of the macvlan stay
