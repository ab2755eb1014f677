"""What only rtnetlink knows of links, without ever waiting for RTNL.

A driver that hangs in the kernel holds RTNL, and then every RTM_GETLINK waits, uninterruptibly
on some kernels. So a child process asks; if it has not answered in time it is left behind, and
that it did not is worth knowing: something in the kernel is busy.
"""

import _socket
from collections.abc import Iterable, Mapping
from typing import Protocol

from manactl.look.forked import Child
from manactl.look.text_files import LACKS, passing_over
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import Netdev
from manactl.wire.if_link import RTM_GETLINK, IfLink, get_link
from manactl.wire.netlink import NETLINK_ROUTE, NetlinkSocket

WAIT = 0.5  # s, beyond what the caller does meanwhile
_LONGEST = 2.0  # s, while the child that asks is seen to run


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

    def __init__(self, wait: float = WAIT, longest: float = _LONGEST) -> None:
        self._wait = wait
        self._longest = longest
        self._child: Child | None = None

    def ask(self, ifindexes: Iterable[int]) -> None:
        indexes = sorted(ifindexes)
        self._child = Child(lambda: read_links(indexes))

    def collect(self) -> Mapping[int, LinkFacts] | None:
        if self._child is None:
            return {}
        child, self._child = self._child, None
        answer = child.collect(self._wait, self._longest)
        if not isinstance(answer, dict):
            return None
        return {index: LinkFacts(*fields) for index, fields in answer.items()}

    def index(self, name: str) -> int | None:
        with passing_over():
            return _socket.if_nametoindex(name)  # SIOCGIFINDEX, of a socket of its own
        return None


def read_links(ifindexes: Iterable[int]) -> dict[int, tuple[object, ...]]:
    """LinkFacts by ifindex, as plain tuples; waits for RTNL, and skips links that are gone."""
    found: dict[int, tuple[object, ...]] = {}
    with NetlinkSocket(NETLINK_ROUTE) as sock:
        for index in ifindexes:
            try:
                answers = sock.request(RTM_GETLINK, body=get_link(index))
            except OSError as error:
                if error.errno in LACKS:
                    raise
                continue
            for _, answer in answers:
                link = IfLink(answer)
                found[index] = (
                    link.name,
                    link.altnames,
                    link.carrier,
                    link.permanent_mac,
                    link.kind,
                    link.parent,
                )
    return found


def is_same(netdev: Netdev, pci: str, link: LinkFacts | None) -> bool:
    """Whether a netdev of sysfs is the link that has its index in our network namespace."""
    if link is None:
        return False
    tells = [(link.parent, pci), (link.permanent_mac, netdev.permanent_mac)]
    known = [(there, here) for there, here in tells if there is not None and here is not None]
    # A rename may just have come between the two, so the name counts only where nothing else does.
    return all(there == here for there, here in known or [(link.name, netdev.name)])
