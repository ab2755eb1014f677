"""Which netdev of sysfs is which link of our namespace."""

from __future__ import annotations

import pytest

from manactl.look.links import LinkFacts, RtnetlinkLinks, is_same
from manactl.model.port import Netdev

PCI = "7870:00:00.0"
MAC = "00:0d:3a:aa:00:10"


def netdev(permanent_mac: str | None = MAC) -> Netdev:
    values = dict.fromkeys(Netdev._fields)
    values |= {"name": "eth1", "ifindex": 3, "permanent_mac": permanent_mac}
    return Netdev(**values)  # type: ignore[arg-type]


def facts(name: str = "eth1", mac: str | None = MAC, parent: str | None = PCI) -> LinkFacts:
    return LinkFacts(name, (), True, mac, None, parent)


@pytest.mark.parametrize(
    ("link", "same"),
    [
        (facts(), True),
        (None, False),
        (facts(name="renamed"), True),
        (facts(parent="7870:00:00.1"), False),
        (facts(mac="00:0d:3a:aa:00:99"), False),
        (facts(mac=None), True),
        (facts(mac=None, parent=None), True),
        (facts(name="renamed", mac=None, parent=None), False),
        (facts(name="renamed", mac=None), True),
    ],
)
def test_the_same_link(link: LinkFacts | None, same: bool) -> None:
    assert is_same(netdev(), PCI, link) is same


def test_a_mac_address_that_sysfs_has_not_does_not_count() -> None:
    assert is_same(netdev(None), PCI, facts(mac="00:0d:3a:aa:00:99"))
    assert not is_same(netdev(None), PCI, facts(name="x", mac=MAC, parent=None))


def test_nothing_asked_is_nothing_found() -> None:
    source = RtnetlinkLinks()
    assert source.collect() == {}
    assert source.index("lo") == 1
    assert source.index("no such device") is None
