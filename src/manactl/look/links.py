"""What only rtnetlink knows of links, without ever waiting for RTNL.

A driver that hangs in the kernel holds RTNL, and then every RTM_GETLINK waits, uninterruptibly
on some kernels. So a child process asks; if it has not answered in time it is left behind, and
that it did not is worth knowing: something in the kernel is busy.
"""

import _socket
import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from manactl.look.forked import Child
from manactl.model.port import Netdev
from manactl.wire.attrs import as_int, as_str, attr_u32, iter_attrs, parse_attrs
from manactl.wire.netlink import NETLINK_ROUTE, NetlinkSocket

RTM_GETLINK = 18
IFLA_IFNAME, IFLA_LINKINFO, IFLA_EXT_MASK, IFLA_CARRIER = 3, 18, 29, 33
IFLA_PROP_LIST, IFLA_ALT_IFNAME, IFLA_PERM_ADDRESS = 52, 53, 54
IFLA_PARENT_DEV_NAME = 56  # from Linux 5.14 on
IFLA_INFO_KIND = 1
RTEXT_FILTER_SKIP_STATS = 1 << 3

WAIT = 0.5  # s, beyond what the caller does meanwhile


class LinkFacts(NamedTuple):
    """One link as rtnetlink shows it."""

    name: str
    altnames: tuple[str, ...]
    carrier: bool | None
    permanent_mac: str | None
    kind: str | None
    parent: str | None = None  # the device that it belongs to, a PCI address for a port


class LinkSource(Protocol):
    """Answers about links, asked for early and collected late."""

    def ask(self, ifindexes: Iterable[int]) -> None:
        """Start asking."""

    def collect(self) -> Mapping[int, LinkFacts] | None:
        """The links that exist, or None when the kernel does not answer in time."""

    def index(self, name: str) -> int | None:
        """The ifindex that a name has in our network namespace; takes no lock."""


class RtnetlinkLinks:
    """LinkSource that asks in a child process."""

    def __init__(self, wait: float = WAIT) -> None:
        self._wait = wait
        self._child: Child | None = None

    def ask(self, ifindexes: Iterable[int]) -> None:
        indexes = sorted(ifindexes)
        self._child = Child(lambda: read_links(indexes))

    def collect(self) -> Mapping[int, LinkFacts] | None:
        if self._child is None:
            return {}
        child, self._child = self._child, None
        answer = child.collect(self._wait)
        if not isinstance(answer, dict):
            return None
        return {index: LinkFacts(*fields) for index, fields in answer.items()}

    def index(self, name: str) -> int | None:
        try:
            return _socket.if_nametoindex(name)  # SIOCGIFINDEX
        except OSError:
            return None


def read_links(ifindexes: Iterable[int]) -> dict[int, tuple[object, ...]]:
    """LinkFacts by ifindex, as plain tuples; waits for RTNL, and skips links that are gone."""
    found: dict[int, tuple[object, ...]] = {}
    with NetlinkSocket(NETLINK_ROUTE) as sock:
        for index in ifindexes:
            body = struct.pack("=BxHiII", 0, 0, index, 0, 0)
            try:
                answers = sock.request(
                    RTM_GETLINK, body=body + attr_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
                )
            except OSError:
                continue
            for _, answer in answers:
                found[index] = _facts(parse_attrs(answer, len(body)))
    return found


def _facts(attrs: dict[int, bytes]) -> tuple[object, ...]:
    carrier = attrs.get(IFLA_CARRIER)
    permanent = attrs.get(IFLA_PERM_ADDRESS)
    parent = attrs.get(IFLA_PARENT_DEV_NAME)
    kind = parse_attrs(attrs.get(IFLA_LINKINFO, b"")).get(IFLA_INFO_KIND)
    return (
        as_str(attrs[IFLA_IFNAME]),
        tuple(
            as_str(name)
            for which, name in iter_attrs(attrs.get(IFLA_PROP_LIST, b""))
            if which == IFLA_ALT_IFNAME
        ),
        None if carrier is None else bool(as_int(carrier)),
        permanent.hex(":") if permanent else None,
        None if kind is None else as_str(kind),
        None if parent is None else as_str(parent),
    )


def is_same(netdev: Netdev, pci: str, link: LinkFacts | None) -> bool:
    """Whether a netdev of sysfs is the link that has its index in our network namespace."""
    if link is None:
        return False
    tells = [(link.parent, pci), (link.permanent_mac, netdev.permanent_mac)]
    known = [(there, here) for there, here in tells if there is not None and here is not None]
    # A rename may just have come between the two, so the name counts only where nothing else does.
    return all(there == here for there, here in known or [(link.name, netdev.name)])
