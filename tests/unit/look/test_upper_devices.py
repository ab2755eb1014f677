"""The uppers of a port, from the links of a namespace."""

from __future__ import annotations

import dataclasses
import errno
import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from manactl.look import sockets, upper_devices
from manactl.look.pyroute2_links import DecodedLink
from manactl.look.upper_devices import Standing, grow, in_other_netns, reach, stacked
from manactl.netstate.surroundings import Connection, Stacked
from manactl.wire.tunnels import Outer, Tunnel
from manactl.wire.xfrm import Net, Policy
from tests.unit.fakes import nexthop
from tests.unit.look import kernel
from tests.unit.look.kernel import FakeRtnl, address, route
from tests.unit.wording import wording

PORT = 3
ALL = Standing(True, True)
KEPT = Standing(True, False)  # loses its traffic and keeps its addresses
ASIDE = Standing(False, False)


def link(
    index: int, kind: str = "", *, below: int | None = None, nsid: int | None = None,
    master: int | None = None, works: bool = True, up: bool | None = None, loose: bool = False,
) -> DecodedLink:  # fmt: skip
    near, far = (below, None) if nsid is None else (None, (below or 0, nsid))
    return kernel.link(
        index, f"if{index}", kind, on=near, far=far, master=master,
        up=works if up is None else up, carrier=works, follows=not loose,
    )  # fmt: skip


def standing(*links: DecodedLink) -> dict[int, Standing]:
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


def test_a_vlan_with_loose_binding_keeps_its_addresses() -> None:
    assert standing(link(PORT), link(6, "vlan", below=PORT, loose=True)) == {6: KEPT}


@pytest.mark.parametrize("kind", ["bond", "team"])
@pytest.mark.parametrize(
    ("works", "up", "expected"),
    [(True, True, ASIDE), (False, False, KEPT), (False, True, KEPT), (True, False, KEPT)],
)
def test_a_bond_with_another_member_that_works_carries_on(
    kind: str, works: bool, up: bool, expected: Standing
) -> None:
    links = (
        link(PORT, master=10),
        link(4, master=10, works=works, up=up),
        link(10, kind),
        link(11, "vlan", below=10),
    )
    assert standing(*links) == {10: expected, 11: expected}


def test_members_of_another_bond_do_not_help() -> None:
    links = (link(PORT, master=10), link(4, master=12), link(10, "bond"), link(12, "bond"))
    assert standing(*links) == {10: KEPT}


def test_a_bond_of_ports_that_all_go_is_lost() -> None:
    links = (link(PORT, master=10), link(4, master=10), link(10, "bond"))
    assert grow(links, {PORT: ALL, 4: ALL}, {})[10] == KEPT


def test_a_bond_on_a_vlan_of_a_bond_that_carries_on_carries_on() -> None:
    """What is below it loses nothing, so neither does what is above."""
    links = (
        link(PORT, master=10), link(4, master=10), link(10, "bond"),
        link(11, "vlan", below=10, master=12), link(12, "bridge"),
    )  # fmt: skip
    assert standing(*links) == {10: ASIDE, 11: ASIDE, 12: ASIDE}


def test_a_bridge_is_lost_and_a_vrf_is_not_its_members() -> None:
    assert standing(link(PORT, master=10), link(4, master=10), link(10, "bridge")) == {10: KEPT}
    assert standing(link(PORT, master=10), link(10, "vrf")) == {10: ASIDE}


def test_a_master_that_is_in_no_list_is_no_upper() -> None:
    """A bridge port's master may be gone by now, or in another namespace."""
    assert standing(link(PORT, master=10)) == {}


def test_numbers_of_other_namespaces_are_not_ours() -> None:
    far = link(6, "vlan", below=PORT, nsid=2)
    assert standing(link(PORT), far) == {}
    assert grow([far], {}, {2: {PORT: ALL}}) == {6: ALL}
    assert grow([far], {}, {1: {PORT: ALL}}) == {}
    assert grow([far], {}, {2: {4: ALL}}) == {}
    assert grow([link(6, "macvlan", below=PORT, nsid=2)], {}, {2: {PORT: ALL}}) == {6: KEPT}
    assert grow([far], {}, {2: {PORT: ASIDE}}) == {6: ASIDE}


def test_what_is_known_is_kept() -> None:
    known = {PORT: ALL, 6: ASIDE}
    assert grow([link(PORT), link(6, "vlan", below=PORT)], known, {}) == known
    assert grow([], known, {}) == known


def test_what_is_not_carried_is_not_looked_for() -> None:
    vlan = Stacked("vlan7", 6, "vlan", None, True, True, ("10.7.0.2", "fd07::2"))
    bond = Stacked("bond0", 10, "bond", None, False, False, ("10.8.0.2",))
    mv = Stacked("mv0", 8, "macvlan", None, True, False, ("fd08::2",))
    found = reach([vlan, bond, mv], PORT, ["10.0.0.2", "fd00::2"])
    assert found.ifindexes == {PORT, 6, 8}
    assert found.addresses == packed("10.0.0.2", "fd00::2", "10.7.0.2", "fd07::2", "fd08::2")
    assert found.going == packed("fd00::2", "fd07::2")  # that of the macvlan stays
    assert reach([mv]) == ({8}, packed("fd08::2"), set())


def packed(*addresses: str) -> set[bytes]:
    return {socket.inet_pton(socket.AF_INET6 if ":" in a else socket.AF_INET, a) for a in addresses}


# --- with addresses and routes ----------------------------------------------------------------


def test_uppers_have_their_addresses_and_default_routes() -> None:
    rtnl = FakeRtnl(
        [],
        having=[
            address(9, "10.7.0.2"), address(9, "fe80::9", scope=253), address(10, "10.8.0.2"),
            address(4, "10.4.0.2"),
        ],
        routing=[
            route(9, "0.0.0.0/0"), route(9, "10.7.0.0/24"), route(4, "0.0.0.0/0"),
            route(10, "::/0"),
        ],
    )  # fmt: skip
    links = [
        kernel.link(4, "eth4"),
        kernel.link(10, "bond0", "bond"),
        kernel.link(9, "vlan7", "vlan"),
        kernel.link(11, "odd"),
    ]
    found = {9: ALL, 10: ASIDE, 11: KEPT, 12: ALL}  # 12 is gone by now
    first, second, third = stacked(links, found, rtnl, "blue")
    assert (first.name, first.ifindex, first.kind, first.netns) == ("vlan7", 9, "vlan", "blue")
    assert (first.carried, first.closes) == (True, True)
    assert first.addresses == ("10.7.0.2", "fe80::9")
    assert first.reachable == ("10.7.0.2",)
    (default,) = first.default_routes
    assert {"default", "vlan7"} <= set(default.split())
    assert (second.name, second.carried, second.addresses) == ("bond0", False, ("10.8.0.2",))
    assert len(second.default_routes) == 1
    assert third == Stacked("odd", 11, None, "blue", True, False)


def test_nexthop_objects_of_an_upper_are_noted() -> None:
    links = [kernel.link(9, "mv0", "macvlan"), kernel.link(10, "mv1", "macvlan")]
    rtnl = FakeRtnl([], objects=[nexthop(5, 10).body, nexthop(6, 4).body])
    first, second = stacked(links, {9: KEPT, 10: KEPT}, rtnl, "blue")
    assert (first.nexthops, second.nexthops) == (False, True)


def test_halves_of_a_default_route_on_two_uppers_are_one_together() -> None:
    links = [kernel.link(9, "vlan7", "vlan"), kernel.link(10, "vlan8", "vlan")]
    rtnl = FakeRtnl([], routing=[route(9, "0.0.0.0/1"), route(10, "128.0.0.0/1")])
    first, second = stacked(links, {9: ALL, 10: ALL}, rtnl, None)
    assert [len(one.default_routes) for one in (first, second)] == [1, 1]
    first, second = stacked(links, {9: ALL, 10: ASIDE}, rtnl, None)
    assert first.default_routes == second.default_routes == ()


def test_without_uppers_neither_addresses_nor_routes_are_read() -> None:
    rtnl = FakeRtnl([], failing={name: AssertionError() for name in ("addresses", "routes")})
    assert stacked([kernel.link(4, "eth4")], {3: ALL}, rtnl, None) == []


# --- other namespaces -------------------------------------------------------------------------


def test_only_root_may_look_into_other_namespaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upper_devices.os, "geteuid", lambda: 1000)
    with pytest.raises(PermissionError) as caught:
        in_other_netns({PORT: ALL}, str(tmp_path), str(tmp_path))
    assert caught.value.errno == errno.EPERM


def test_an_upper_in_words_and_whether_release_restores_it() -> None:
    vlan = Stacked("vlan7", 6, "vlan", None, True, True)
    assert str(vlan) == "vlan7 (vlan)"
    assert str(dataclasses.replace(vlan, kind=None)) == "vlan7"
    away = dataclasses.replace(vlan, netns="blue")
    with wording:
        assert str(away) == "vlan7 (vlan) in the network namespace blue"
    assert vlan.restorable
    assert not away.restorable
    assert not dataclasses.replace(vlan, kind=None).restorable


def test_what_cannot_be_read_in_another_namespace_is_unknown_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    for module, name in (
        (upper_devices.conntrack, "read"), (upper_devices.conntrack, "forwarded"),
        (upper_devices.mounts, "storage"), (upper_devices.ipsec, "live"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, fails)
    world: Any = object.__new__(upper_devices._World)
    world.rtnl, world.links, world.name = None, [], "blue"
    reach: Any = SimpleNamespace(ifindexes=frozenset())
    assert world._tracked() is None
    assert world._forwarded(reach, None) is None
    assert world._forwarded(reach, object()) is None
    assert world._storage(reach) is None
    assert world._ipsec(reach) is None


@pytest.mark.parametrize("some", [True, False])
def test_only_policies_of_another_namespace_keep_routes_from_telling(
    monkeypatch: pytest.MonkeyPatch, some: bool
) -> None:
    """Without any, the kernel can leave out the sockets there that cannot use the port."""
    net = Net(bytes(4), 0)
    policies = [Policy(0, net, net, False, 0, (Outer(bytes(4), bytes(4)),))] if some else []
    monkeypatch.setattr(upper_devices.ipsec, "live", lambda: policies)
    world: Any = object.__new__(upper_devices._World)
    world.rtnl, world.name = FakeRtnl([]), "blue"
    found = world._ipsec(sockets.Reach(frozenset(), frozenset()))
    assert (len(found), world.rtnl.ipsec is not None) == (int(some), some)


def test_something_there_may_stand_on_a_link_of_another_namespace() -> None:
    near, far = Tunnel(9, "gre1", "gre"), Tunnel(8, "gre2", "gre", nsid=1)
    wg, above = Tunnel(7, "wg0", "wireguard"), SimpleNamespace(far_lower=True)
    for tunnels, links, tun, home, borders in (
        ([near], [], False, False, False), ([near, far], [], False, False, True),
        ([], [], True, False, True), ([near, wg], [], False, False, True),
        ([near], [above], False, False, True),
        ([near, wg], [], False, True, False), ([near], [above], False, True, True),
    ):  # fmt: skip
        world: Any = SimpleNamespace(tunnels=tunnels, links=links, has_tun=tun, is_home=home)
        assert upper_devices._World.borders.fget(world) is borders  # type: ignore[attr-defined]


@pytest.mark.parametrize("protocol", ["sctp", "raw"])
def test_what_was_read_by_proc_comes_back_as_it_was(protocol: str) -> None:
    ends = ("2001:db8::2", 7, "2001:db8::9", 9)
    one = Connection(*ends, "established", 77, (), None, address_goes=True, protocol=protocol)
    listening = (protocol, "2001:db8::2", 7, 78)
    found: dict[str, Any] = {
        "by_proc": [upper_devices._plain_connection(one)], "waiting_by_proc": [listening],
        "tcp": [], "udp": [], "listening": [], "unconnected": [], "packets": [], "forwarded": [],
        "ipsec": [], "storage": [], "tracking": 1,
    }  # fmt: skip
    view = upper_devices._view([], found, "blue")
    assert view.sockets == (dataclasses.replace(one, netns="blue"),)
    (waits,) = view.listeners
    assert (waits.protocol, waits.address, waits.port, waits.inode, waits.netns) == (
        *listening, "blue",
    )  # fmt: skip
