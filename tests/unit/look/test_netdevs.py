"""Which links are read as they are, and which are left to pyroute2."""

from __future__ import annotations

import struct

import pytest

from manactl.look import netdevs, pyroute2_links
from manactl.look.pyroute2_links import DecodedLink
from manactl.wire.if_link import IfLink
from tests.unit.look.kernel import attr

NAME, LOWER, MASTER, LINKINFO, CARRIER = 3, 5, 10, 18, 33


def link(index: int, *attrs: bytes, up: bool = True, name: bytes = b"eth0") -> bytes:
    """The body of RTM_NEWLINK."""
    head = struct.pack("=BxHiII", 0, 1, index, 0x1000 | up, 0)
    return head + attr(NAME, name + b"\0") + b"".join(attrs)


def u32(kind: int, value: int) -> bytes:
    return attr(kind, struct.pack("=I", value))


KIND = attr(LINKINFO, attr(1, b"vxlan\0"))


class Kernel:
    """rtnetlink of a namespace with these links."""

    def __init__(self, *bodies: bytes) -> None:
        self.bodies = list(bodies)

    def __call__(self) -> Kernel:
        return self

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def links(self) -> list[bytes]:
        return self.bodies


DECODED = [DecodedLink(7, "decoded", "bond", True, True, None, None, None, False)]


@pytest.mark.parametrize("more", [KIND, u32(LOWER, 2), u32(MASTER, 4)])
def test_a_link_of_a_kind_or_with_a_lower_or_a_master_is_decoded(
    monkeypatch: pytest.MonkeyPatch, more: bytes
) -> None:
    monkeypatch.setattr(netdevs, "Rtnl", Kernel(link(2), link(3, more)))
    monkeypatch.setattr(pyroute2_links, "links", lambda: DECODED)
    assert netdevs.links() == DECODED


def test_devices_alone_are_read_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> list[DecodedLink]:
        raise AssertionError("pyroute2 is not needed")

    devices = [
        link(1, attr(CARRIER, b"\1"), name=b"lo"),
        link(2, up=False, name=b"a\xff"),
        link(3, attr(CARRIER, b"\0")),
        link(4, attr(LINKINFO, attr(1, b"dummy\0")), name=b"kube-ipvs0"),
    ]
    monkeypatch.setattr(netdevs, "Rtnl", Kernel(*devices))
    monkeypatch.setattr(pyroute2_links, "links", never)
    assert netdevs.links() == [
        DecodedLink(1, "lo", "", True, True, None, None, None, False),
        DecodedLink(2, "a\udcff", "", False, False, None, None, None, False),
        DecodedLink(3, "eth0", "", True, False, None, None, None, False),
        DecodedLink(4, "kube-ipvs0", "dummy", True, False, None, None, None, False),
    ]


def test_a_link_without_anything_of_these_is_plain() -> None:
    assert netdevs.is_plain(IfLink(link(2, attr(CARRIER, b"\1"), attr(LINKINFO, b""))))
    assert not netdevs.is_plain(IfLink(link(2, KIND)))


VMBUS = attr(56, b"000d3aaa-0010-000d-3aaa-0010000d3aaa\0") + attr(57, b"vmbus\0")


def test_a_pair_alone_is_read_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs no import of pyroute2, and its master is no other device's."""
    pair = Kernel(link(2, VMBUS), link(3, u32(MASTER, 2), name=b"vf0"))
    monkeypatch.setattr(netdevs, "Rtnl", pair)
    monkeypatch.setattr(pyroute2_links, "links", lambda: pytest.fail("not asked"))
    found = {one.name: (one.kind, one.master) for one in netdevs.links()}
    assert found == {"eth0": ("netvsc", None), "vf0": ("", 2)}


def test_a_synthetic_netdev_is_known_whoever_decodes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bond = link(4, attr(LINKINFO, attr(1, b"bond\0")))
    monkeypatch.setattr(netdevs, "Rtnl", Kernel(link(2, VMBUS, u32(MASTER, 4)), bond))
    eth0 = DecodedLink(2, "eth0", "", True, True, None, None, 4, False)
    monkeypatch.setattr(pyroute2_links, "links", lambda: [eth0, *DECODED])
    assert [one.kind for one in netdevs.links()] == ["netvsc", "bond"]
