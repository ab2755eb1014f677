"""What rtnetlink adds, by answers made as the kernel makes them."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from manactl.look import links
from manactl.look.links import LinkFacts, RtnetlinkLinks, is_same
from manactl.model.port import Netdev
from tests.unit.machine import PCI, Make


def test_rtnetlink_adds_what_sysfs_does_not_tell(make: Make) -> None:
    machine = make("7-raw-qp-on-port-2")
    machine.pci("net/eth0/addr_assign_type").write_text("3\n")
    machine.links.answers = {
        2: LinkFacts("eth0", ("enP1", "data"), False, "02:15:5d:00:00:99", None),
        3: LinkFacts("renamed", ("new",), True, "02:15:5d:00:00:02", None),  # since sysfs was read
    }
    first, second = machine.look().ports
    assert machine.links.asked == {2, 3}
    assert first.netdev is not None
    assert second.netdev is not None
    assert first.netdev.altnames == ("enP1", "data")
    assert first.netdev.carrier is False
    assert first.id.permanent_mac == "02:15:5d:00:00:99"
    assert second.netdev.altnames is None
    assert second.netdev.carrier is None  # down: there is no telling
    assert second.id.permanent_mac == "02:15:5d:00:00:02"


def attribute(kind: int, payload: bytes) -> bytes:
    """struct nlattr as include/uapi/linux/netlink.h has it, padded to four."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


LO = 1


def test_a_link_is_read_from_the_kernel() -> None:
    """The loopback device is in every network namespace, and has nothing of a port's."""
    found = links.read_links([LO, 0x7FFFFFF0])
    assert list(found) == [LO]
    link = LinkFacts(*found[LO])
    assert (link.name, link.altnames, link.permanent_mac) == ("lo", (), None)
    assert (link.kind, link.parent) == (None, None)
    assert RtnetlinkLinks().index("lo") == LO
    assert RtnetlinkLinks().index("no-such-netdev") is None


def test_links_are_asked_for_early_and_collected_once() -> None:
    source = RtnetlinkLinks(wait=60.0)
    assert source.collect() == {}
    source.ask({LO})
    collected = source.collect()
    assert collected is not None
    assert [type(link) for link in collected.values()] == [LinkFacts]
    assert collected[LO].name == "lo"
    assert source.collect() == {}


class Silent:
    """A child that has not answered in time, as when RTNL is held."""

    def __init__(self, ask: Callable[[], object]) -> None:
        self.waited: list[tuple[float, float]] = []

    def collect(self, wait: float, longest: float) -> None:
        self.waited.append((wait, longest))


def test_a_kernel_that_does_not_answer_is_not_one_without_links(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(links, "Child", Silent)
    source = RtnetlinkLinks(wait=0.25, longest=0.75)
    source.ask({LO})
    child = source._child
    assert source.collect() is None
    assert isinstance(child, Silent)
    assert child.waited == [(0.25, 0.75)]


class Answers:
    """A netlink socket whose links are given; `gone` answers that there is none."""

    def __init__(self, of: dict[int, bytes]) -> None:
        self.of = of
        self.requests: list[tuple[int, bytes]] = []

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def request(self, kind: int, *, body: bytes) -> list[tuple[int, bytes]]:
        self.requests.append((kind, body))
        (index,) = struct.unpack_from("=i", body, 4)
        if index not in self.of:
            raise OSError(19, "No such device")
        return [(16, bytes(16) + self.of[index])]


def asked(monkeypatch: pytest.MonkeyPatch, **of: bytes) -> dict[int, LinkFacts]:
    answers = Answers({int(index[1:]): body for index, body in of.items()})
    monkeypatch.setattr(links, "NetlinkSocket", lambda protocol: answers if protocol == 0 else None)
    found = links.read_links([3, 4, 5])
    assert [kind for kind, _ in answers.requests] == [18] * 3  # RTM_GETLINK
    # IFLA_EXT_MASK: RTEXT_FILTER_SKIP_STATS
    assert all(body[16:] == attribute(29, b"\x08\0\0\0") for _, body in answers.requests)
    return {index: LinkFacts(*fields) for index, fields in found.items()}


def test_every_attribute_of_a_link_has_its_field(monkeypatch: pytest.MonkeyPatch) -> None:
    names = attribute(53, b"data\0") + attribute(1, b"no\0") + attribute(53, b"left\0")
    full = (
        attribute(3, b"eth1\0") + attribute(33, b"\1") + attribute(18, attribute(1, b"bond\0"))
        + attribute(52, names) + attribute(54, bytes.fromhex("02155d000001"))
        + attribute(56, b"0000:01:00.0\0")
    )  # fmt: skip
    found = asked(monkeypatch, _4=full, _5=attribute(3, b"lo\0") + attribute(33, b"\0"))
    assert found == {
        4: LinkFacts("eth1", ("data", "left"), True, "02:15:5d:00:00:01", "bond", "0000:01:00.0"),
        5: LinkFacts("lo", (), False, None, None, None),
    }


def test_a_link_that_does_not_tell_its_carrier_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, _3=attribute(3, b"x\0"))[3].carrier is None


MAC, OTHER = "02:15:5d:00:00:01", "02:15:5d:00:00:02"
NETDEV = Netdev("eth1", 3, 0x1003, "up", True, MAC, MAC)


@pytest.mark.parametrize(
    ("netdev", "link", "same"),
    [
        (NETDEV, None, False),
        (NETDEV, LinkFacts("eth1", (), None, None, None, None), True),
        (NETDEV, LinkFacts("eth9", (), None, None, None, None), False),
        (NETDEV, LinkFacts("eth9", (), None, MAC, None, None), True),  # just renamed
        (NETDEV, LinkFacts("eth9", (), None, None, None, PCI), True),
        (NETDEV, LinkFacts("eth1", (), None, OTHER, None, None), False),
        (NETDEV, LinkFacts("eth1", (), None, None, None, "0000:09:00.0"), False),
        (NETDEV, LinkFacts("eth1", (), None, OTHER, None, PCI), False),
        (NETDEV, LinkFacts("eth1", (), None, MAC, None, "0000:09:00.0"), False),
        (NETDEV._replace(permanent_mac=None), LinkFacts("eth1", (), None, OTHER, None), True),
        (NETDEV._replace(permanent_mac=None), LinkFacts("eth9", (), None, OTHER, None), False),
    ],
)
def test_a_link_is_the_port_by_what_both_tell(
    netdev: Netdev, link: LinkFacts | None, same: bool
) -> None:
    assert is_same(netdev, PCI, link) is same
