"""The ways to Azure's own addresses, on a machine in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from manactl.look import fabric
from manactl.netstate.surroundings import FabricRoute
from tests.unit.look.kernel import FakeRtnl, attr, link

SERVER, IMDS = "168.63.129.16", "169.254.169.254"
OTHER = link(4, "eth2")


def read(tmp_path: Path, rtnl: FakeRtnl, *left: Any) -> dict[str, FabricRoute]:
    return {
        one.address: one
        for one in fabric.routes({3}, {one.ifindex: one.name for one in left}, rtnl, tmp_path)
    }


@pytest.mark.parametrize(
    ("rtnl", "expected"),
    [
        (FakeRtnl([], ways={"0.0.0.0/0": {3}}), (True, False)),
        (FakeRtnl([], ways={"0.0.0.0/0": {2, 3}}), (True, False)),
        (FakeRtnl([], ways={"0.0.0.0/0": {2}}), (False, False)),
        (FakeRtnl([], ways={"0.0.0.0/0": {3}}, host_routes={SERVER, IMDS}), (True, True)),
        (FakeRtnl([], ways={"10.0.0.0/8": {3}}), (False, False)),  # no way at all
    ],
)
def test_the_routes(tmp_path: Path, rtnl: FakeRtnl, expected: tuple[bool, bool]) -> None:
    assert read(tmp_path, rtnl) == {
        address: FabricRoute(*expected, on_azure=False, address=address)
        for address in (SERVER, IMDS)
    }


def test_each_address_has_its_own_way(tmp_path: Path) -> None:
    rtnl = FakeRtnl([], ways={f"{IMDS}/32": {3}, "0.0.0.0/0": {2}})
    found = read(tmp_path, rtnl)
    assert (found[SERVER].through_port, found[IMDS].through_port) == (False, True)


@pytest.mark.parametrize(
    ("ways", "remaining"),
    [
        ({f"{SERVER}/32": {3}}, None),
        ({f"{SERVER}/32": {3}, "0.0.0.0/0": {4}}, "eth2"),
        ({f"{SERVER}/32": {3, 4}}, "eth2"),
        ({f"{SERVER}/32": {3}, "10.0.0.0/8": {4}}, None),
    ],
)
def test_what_remains_without_the_port(
    tmp_path: Path, ways: dict[str, set[int]], remaining: str | None
) -> None:
    assert read(tmp_path, FakeRtnl([OTHER], ways=ways), OTHER)[SERVER].remaining == remaining
    assert read(tmp_path, FakeRtnl([OTHER], ways=ways))[SERVER].remaining is None


def test_a_way_of_another_table_or_vrf_is_for_other_packets(tmp_path: Path) -> None:
    ways = {f"{SERVER}/32": {3}, "0.0.0.0/0": {4}}
    for table, remaining in ((77, None), (253, "eth2"), (254, "eth2")):
        rtnl = FakeRtnl([OTHER], ways=ways, tables={4: table})
        assert read(tmp_path, rtnl, OTHER)[SERVER].remaining == remaining
    both = FakeRtnl([OTHER], ways=ways, tables={3: 77, 4: 77})
    assert read(tmp_path, both, OTHER)[SERVER].remaining == "eth2"
    slave = link(4, "eth2", master=9)
    red = FakeRtnl([slave, link(9, "red", "vrf")], ways=ways)
    assert read(tmp_path, red, slave)[SERVER].remaining is None


@pytest.mark.parametrize(
    ("state", "index", "works"),
    [(0x20, 4, False), (0x01, 4, False), (0x02, 4, True), (0x04, 4, True), (0x20, 5, True)],
)
def test_a_gateway_that_does_not_answer_is_no_way(
    tmp_path: Path, state: int, index: int, works: bool
) -> None:
    class Via(FakeRtnl):
        def way_to(
            self, address: bytes, source: bytes = b"", more: bytes = b"", *, entry: bool = True
        ) -> bytes | None:
            route = super().way_to(address, source, more, entry=entry)
            return route and route + attr(5, b"\x0a\0\0\1")

    near = bytes([2, 0, 0, 0, index, 0, 0, 0, state, 0, 0, 0]) + attr(1, b"\x0a\0\0\1")
    rtnl = Via([OTHER], ways={f"{SERVER}/32": {3}, "0.0.0.0/0": {4}}, near=[near])
    found = read(tmp_path, rtnl, OTHER)[SERVER]
    assert found.remaining == ("eth2" if works else None)


@pytest.mark.parametrize(
    ("tag", "azure"),
    [
        ("7783-7084-3265-9085-8269-3286-77\n", True),
        ("7783-7084-3265-9085-8269-3286-78\n", False),
        ("\n", False),
    ],
)
def test_azure_is_known_by_its_asset_tag(tmp_path: Path, tag: str, azure: bool) -> None:
    path = tmp_path / "class/dmi/id/chassis_asset_tag"
    path.parent.mkdir(parents=True)
    path.write_text(tag)
    assert {one.on_azure for one in read(tmp_path, FakeRtnl([])).values()} == {azure}
