"""Netdevs of an earlier boot: by MAC address and driver, or by name; never by number."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from manactl.look.found_again import found_again
from manactl.look.sysfs import Roots
from manactl.netstate.unmanaged import UnmanagedLink
from manactl.wire.attrs import attr
from manactl.wire.if_link import IFLA_ADDRESS, IFLA_IFNAME, IFLA_PERM_ADDRESS, IfLink

MAC, OTHER = "00:0d:3a:aa:00:10", "00:0d:3a:ff:ff:ff"


def body(name: str, ifindex: int, mac: str, *, permanent: bool = True) -> bytes:
    raw = bytes.fromhex(mac.replace(":", ""))
    head = struct.pack("=BxHiII", 0, 1, ifindex, 0, 0)
    said = attr(IFLA_IFNAME, name.encode() + b"\0") + attr(IFLA_ADDRESS, raw)
    return head + said + (attr(IFLA_PERM_ADDRESS, raw) if permanent else b"")


def link(name: str, ifindex: int, mac: str, *, permanent: bool = True) -> IfLink:
    return IfLink(body(name, ifindex, mac, permanent=permanent))


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    for name, driver in (("lan0", "virtio_net"), ("eth0", "hv_netvsc"), ("eth1", "mana")):
        (tmp_path / f"class/net/{name}/device").mkdir(parents=True)
        (tmp_path / f"class/net/{name}/device/driver").symlink_to(f"/drivers/{driver}")
    return Roots(str(tmp_path))


PAIR = (link("lan0", 3, OTHER), link("eth0", 4, MAC, permanent=False), link("eth1", 5, MAC))


@pytest.mark.parametrize(
    ("name", "mac", "driver", "found"),
    [
        ("eth1", MAC, "mana", ("eth1", 5)),  # its number is another's now
        ("wan0", MAC, "mana", ("eth1", 5)),  # and so may be its name
        ("lan0", MAC, "mana", ("eth1", 5)),
        ("eth0", MAC, "hv_netvsc", ("eth0", 4)),
        ("eth0", MAC.upper(), None, ("eth0", 4)),  # of two the one that is called so
        ("wan0", MAC, None, None),
        ("lan0", None, None, ("lan0", 3)),
        ("eth7", None, None, None),
        ("eth1", "00:0d:3a:aa:00:77", "mana", None),
        ("eth1", MAC, "mlx5_core", None),
    ],
)
def test_which_netdev_it_is(
    roots: Roots, name: str, mac: str | None, driver: str | None, found: tuple[str, int] | None
) -> None:
    wanted = UnmanagedLink(name, 3, mac, driver, True, "uuid", 8)
    got = found_again([wanted], PAIR, roots)
    assert [(one.name, one.ifindex) for one in got] == ([] if found is None else [found])
    assert all((one.mac, one.profile, one.ready) == (mac, "uuid", 8) for one in got)
