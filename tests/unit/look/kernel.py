"""Links, addresses and routes of a machine in memory, as rtnetlink reports them."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from manactl.look.pyroute2_links import DecodedLink
from manactl.wire.rtmsg import RTMSG, split
from manactl.wire.tunnels import Outer


def attr(kind: int, payload: bytes) -> bytes:
    """struct rtattr and its padding."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def link(
    index: int, name: str, kind: str = "", *, on: int | None = None, far: tuple[int, int] | None = None,
    master: int | None = None, up: bool = True, carrier: bool = True, follows: bool = True,
) -> DecodedLink:  # fmt: skip
    """A link on another one here (`on`), or on one of another namespace (`far`)."""
    return DecodedLink(index, name, kind, up, carrier, on, far, master, kind == "vlan" and follows)


def address(index: int, text: str, *, scope: int = 0) -> bytes:
    """RTM_NEWADDR: struct ifaddrmsg, IFA_ADDRESS (1) and IFA_LOCAL (2)."""
    ip = ipaddress.ip_address(text)
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    head = struct.pack("=BBBBI", family, 24, 0x80, scope, index)
    return head + attr(1, ip.packed) + (attr(2, ip.packed) if ip.version == 4 else b"")


def route(index: int, to: str, *, table: int = 254) -> bytes:
    """RTM_NEWROUTE: struct rtmsg of a unicast route, RTA_DST (1), RTA_OIF (4), RTA_TABLE (15)."""
    net = ipaddress.ip_network(to)
    family = socket.AF_INET if net.version == 4 else socket.AF_INET6
    head = struct.pack("=BBBBBBBBI", family, net.prefixlen, 0, 0, table, 4, 0, 1, 0)
    dst = attr(1, net.network_address.packed) if net.prefixlen else b""
    return head + dst + attr(4, struct.pack("=I", index)) + attr(15, struct.pack("=I", table))


def local(to: str, *, table: int = 255, kind: int = 2) -> bytes:
    """A local route (RTN_LOCAL), or one of another type, over the loopback interface."""
    body = route(1, to, table=table)
    return body[:7] + bytes([kind]) + body[8:]


def rule(family: int = socket.AF_INET, source: str = "", **asks: bytes) -> bytes:
    """RTM_NEWRULE: struct fib_rule_hdr, FRA_SRC (2) and other attributes by `a` and their number."""
    net = ipaddress.ip_network(source) if source else None
    head = struct.pack("=BBBBBBBBI", family, 0, net.prefixlen if net else 0, 0, 254, 0, 0, 1, 0)
    first = attr(2, net.network_address.packed) if net else b""
    return head + first + b"".join(attr(int(kind[1:]), value) for kind, value in asks.items())


@dataclass
class Link:
    ifindex: int
    xdp_mode: int
    kind: str = ""
    master: int | None = None
    mac: str | None = None


@dataclass
class FakeRtnl:
    """`ways`: by which interface packets to a network leave; `failing`: methods that fail."""

    links: list[DecodedLink]
    having: list[bytes] = field(default_factory=list)
    routing: list[bytes] = field(default_factory=list)
    ways: dict[str, set[int]] = field(default_factory=dict)
    host_routes: set[str] = field(default_factory=set)
    xdp: dict[int, int] = field(default_factory=dict)
    failing: dict[str, Exception] = field(default_factory=dict)
    ruling: list[bytes] = field(default_factory=list)  # rules, as message bodies
    objects: list[bytes] = field(default_factory=list)
    near: list[bytes] = field(default_factory=list)
    tables: dict[int, int] = field(default_factory=dict)  # of the routes over an interface
    asked: list[tuple[str, int]] = field(default_factory=list)
    ipsec: Callable[[bytes, bytes], Sequence[Outer]] | None = None
    # The ways to addresses of questions with a mark or more, and of those bound to an interface.
    narrow: dict[tuple[int, bytes], dict[str, set[int]]] = field(default_factory=dict)
    bound_ways: dict[int, dict[str, set[int]]] = field(default_factory=dict)
    asked_more: list[tuple[bytes, int, bytes]] = field(default_factory=list)

    def _may(self, what: str) -> None:
        if error := self.failing.get(what):
            raise error

    def stack(self) -> list[DecodedLink]:
        """Of another source, which sees the same machine."""
        self._may("stack")
        return self.links

    def addresses(self) -> list[bytes]:
        self._may("addresses")
        return self.having

    def routes(self) -> list[bytes]:
        self._may("routes")
        return self.routing

    def nexthops(self) -> list[bytes]:
        self._may("nexthops")
        return self.objects

    def link(self, ifindex: int) -> Link:
        self._may("link")
        if ifindex not in {one.ifindex for one in self.links}:
            raise OSError(errno.ENODEV, "No such device")
        (one,) = [one for one in self.links if one.ifindex == ifindex]
        return Link(ifindex, self.xdp.get(ifindex, 0), one.kind, one.master)

    def vrf_of(self, ifindex: int) -> int:
        masters = {one.ifindex: one.master for one in self.links}
        kinds = {one.ifindex: one.kind for one in self.links}
        master = masters.get(ifindex) or 0
        if kinds.get(ifindex) == "vrf":
            return ifindex
        return master if kinds.get(master) == "vrf" else 0

    def rules(self) -> list[bytes]:
        self._may("rules")
        return self.ruling

    def rules_ask(self) -> frozenset[int]:
        return frozenset(a.type for body in self.rules() for a in split(body, RTMSG.size))

    def way_to(
        self, address: bytes, source: bytes = b"", more: bytes = b"", *, entry: bool = True
    ) -> bytes | None:
        """Of all `ways`, asked with RTA_OIF (4) only those over that interface."""
        self._may("way_to")
        ip = ipaddress.ip_address(address)
        out = self.leaves_by(address)
        if more:
            length, kind, by = struct.unpack("=HHI", more)
            assert (length, kind) == (8, 4)
            all_ways = [out for net, out in self.ways.items() if ip in ipaddress.ip_network(net)]
            out = {by} if any(by in one for one in all_ways) else set()
        if not out:
            return None
        table = self.tables.get(min(out), 254)
        return route(
            min(out), f"{ip}/32" if str(ip) in self.host_routes else "0.0.0.0/0", table=table
        )

    def neighbours(self) -> list[bytes]:
        self._may("neighbours")
        return self.near

    def routed_by(
        self, address: bytes, *, source: bytes = b"", mark: int = 0, flow: bytes = b""
    ) -> set[int]:
        self.asked_more.append((source, mark, flow))
        if (mark, flow) in self.narrow:
            return self.narrow[mark, flow].get(str(ipaddress.ip_address(address)), set())
        return self._out(address)

    def leaves_by(
        self,
        address: bytes,
        *,
        source: bytes = b"",
        bound: int = 0,
        mark: int = 0,
        flow: bytes = b"",
    ) -> set[int]:
        self._may("leaves_by")
        ip = ipaddress.ip_address(address)
        self.asked.append((str(ip), mark))
        if bound in self.bound_ways:
            return self.bound_ways[bound].get(str(ip), set())
        if bound:
            return {bound}
        if (mark, flow) in self.narrow:
            return self.narrow[mark, flow].get(str(ip), set())
        if self.ipsec and (outers := self.ipsec(address, source)):
            return set().union(*(self._out(one.remote) for one in outers))
        return self._out(address)

    def _out(self, address: bytes) -> set[int]:
        ip = ipaddress.ip_address(address)
        for network, out in self.ways.items():
            if ip in ipaddress.ip_network(network):
                return out
        return set()
