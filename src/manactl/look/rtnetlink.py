"""The network state of a port by rtnetlink: read as it is, changed by prepared messages.

A request that changes something runs to its end inside sendmsg(), under RTNL and uninterruptible:
while the driver waits for its NIC, so do we.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Collection
from typing import Self

from manactl.look import stacked_links
from manactl.model.port import IFF_UP, PortId
from manactl.netstate.snapshot import Dumps, PortState, Request, select
from manactl.wire import rtmsg as rt
from manactl.wire.attrs import as_int, as_str, attr, attr_u32, parse_attrs
from manactl.wire.netlink import NETLINK_ROUTE, NetlinkSocket

_IFLA_IFNAME, _IFLA_CARRIER, _IFLA_XDP, _IFLA_PERM_ADDRESS, _IFLA_EXT_MASK = 3, 33, 43, 54, 29
_RTM_NEWNSID, _RTM_GETNSID = 88, 90
_NETNSA_NSID, _NETNSA_FD = 1, 3
_RTA_SRC, _RTA_MARK = 2, 16
_IFLA_XDP_ATTACHED = 2
_RTEXT_FILTER_SKIP_STATS = 1 << 3
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_RTM_F_FIB_MATCH = 0x2000
_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL, errno.ENODEV)


class Link:
    """One interface by RTM_GETLINK."""

    def __init__(self, body: bytes) -> None:
        _, _, _, self.ifindex, self.flags, _ = rt.IFINFO.unpack_from(body)
        attrs = parse_attrs(body, rt.IFINFO.size)
        self.name = as_str(attrs.get(_IFLA_IFNAME, b""))
        mac = attrs.get(_IFLA_PERM_ADDRESS)
        self.permanent_mac = None if mac is None else mac.hex(":")
        self.carrier = bool(as_int(attrs.get(_IFLA_CARRIER, b"\0")))
        xdp = parse_attrs(attrs.get(_IFLA_XDP, b""))
        self.xdp_mode = as_int(xdp.get(_IFLA_XDP_ATTACHED, b"\0"))

    @property
    def up(self) -> bool:
        return bool(self.flags & IFF_UP)


class Rtnl:
    """One rtnetlink socket, for the network namespace it is opened in."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(NETLINK_ROUTE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def link(self, ifindex: int) -> Link:
        """OSError(ENODEV) when there is no such interface."""
        mask = attr_u32(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
        body = rt.IFINFO.pack(0, 0, 0, ifindex, 0, 0) + mask
        for message in self._socket.request(rt.RTM_GETLINK, 0, body):
            if message.type == rt.RTM_NEWLINK:
                return Link(message.body)
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    def nsid(self, namespace: int) -> int | None:
        """The number by which this namespace calls the one of that descriptor, if it has one."""
        body = bytes(4) + attr_u32(_NETNSA_FD, namespace)
        for message in self._socket.request(_RTM_GETNSID, 0, body):
            if message.type == _RTM_NEWNSID:
                number = as_int(parse_attrs(message.body, 4)[_NETNSA_NSID])
                return None if number == 0xFFFFFFFF else number
        return None

    def set_up(self, ifindex: int, up: bool) -> None:
        """Set or clear IFF_UP; returns when the driver's open or stop function has."""
        body = rt.IFINFO.pack(0, 0, 0, ifindex, IFF_UP if up else 0, IFF_UP)
        self._socket.request(rt.RTM_NEWLINK, 0, body)

    def send(self, request: Request) -> None:
        self._socket.request(request.type, request.flags, request.body)

    def dumps(self) -> Dumps:
        """All tables that can refer to a port, of this namespace."""
        addresses: list[bytes] = []
        routes: list[bytes] = []
        neighbours: list[bytes] = []
        for family in _FAMILIES:
            addresses += self._dump(rt.RTM_GETADDR, rt.IFADDR.pack(family, 0, 0, 0, 0))
            routes += self._dump(rt.RTM_GETROUTE, rt.RTMSG.pack(family, *[0] * 8))
            for flags in (0, rt.NTF_PROXY):
                body = rt.NDMSG.pack(family, 0, 0, 0, 0, flags, 0)
                neighbours += self._dump(rt.RTM_GETNEIGH, body)
        return Dumps(addresses, self._nexthops(), routes, neighbours)

    def _nexthops(self) -> list[bytes]:
        try:
            return self._dump(rt.RTM_GETNEXTHOP, rt.NHMSG.pack(0, 0, 0, 0, 0))
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):  # kernels before 5.3
                return []
            raise

    def _dump(self, kind: int, body: bytes) -> list[bytes]:
        return [message.body for message in self._socket.dump(kind, body)]

    def capture(
        self, port: PortId, ifindex: int, taken: float, nexthops: Collection[int] = ()
    ) -> PortState:
        """Everything that refers to the interface now, and the nexthops of those ids.

        `taken` is the CLOCK_BOOTTIME to note.
        """
        link = self.link(ifindex)
        uppers = stacked_links.uppers(self.stack(), ifindex)
        devices = [(ifindex, link.name), *((one.ifindex, one.name) for one in uppers)]
        facts = select(self.dumps(), {index for index, _ in devices}, nexthops)
        settings = stacked_links.settings(devices)
        return PortState(
            port, ifindex, link.name, link.up, link.carrier, taken, facts, uppers, settings
        )

    def stack(self) -> list[stacked_links.StackedLink]:
        """All interfaces of this namespace, as far as stacking goes."""
        mask = attr_u32(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
        bodies = self._dump(rt.RTM_GETLINK, rt.IFINFO.pack(0, 0, 0, 0, 0, 0) + mask)
        return [stacked_links.parse(body) for body in bodies]

    def addresses(self) -> list[bytes]:
        """The addresses of all interfaces, as message bodies."""
        found: list[bytes] = []
        for family in _FAMILIES:
            found += self._dump(rt.RTM_GETADDR, rt.IFADDR.pack(family, 0, 0, 0, 0))
        return found

    def routes(self) -> list[bytes]:
        """The routes of all tables, as message bodies."""
        found: list[bytes] = []
        for family in _FAMILIES:
            found += self._dump(rt.RTM_GETROUTE, rt.RTMSG.pack(family, *[0] * 8))
        return found

    def way_to(
        self, address: bytes, source: bytes = b"", more: bytes = b"", *, entry: bool = True
    ) -> bytes | None:
        """The route that packets to that address take, or None when there is none.

        Of a route with several ways `entry` tells them all, else the one that is taken now.
        `more` are attributes that narrow the question.
        """
        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
        flags = _RTM_F_FIB_MATCH if entry else 0
        lengths = len(address) * 8, len(source) * 8
        body = rt.RTMSG.pack(family, *lengths, 0, 0, 0, 0, 0, flags) + attr(rt.RTA_DST, address)
        body += attr(_RTA_SRC, source) if source else b""
        try:
            answers = self._socket.request(rt.RTM_GETROUTE, 0, body + more)
        except OSError as error:
            if error.errno in _NO_WAY:
                return None
            raise
        return next((m.body for m in answers if m.type == rt.RTM_NEWROUTE), None)

    def leaves_by(
        self, address: bytes, *, source: bytes = b"", bound: int = 0, mark: int = 0
    ) -> set[int]:
        """The interfaces by which packets to that address leave, none of what stays here.

        OSError when the kernel does not look it up (an address that cannot be one of a peer).
        """
        narrow = attr_u32(rt.RTA_OIF, bound) if bound else b""
        narrow += attr_u32(_RTA_MARK, mark) if mark else b""
        source = source if len(source) == len(address) else b""
        route = self.way_to(address, source, narrow)
        if route is None and source:
            source = b""  # it may be no address of ours, as of a transparent proxy
            route = self.way_to(address, source, narrow)
        if route is None or rt.RTMSG.unpack_from(route)[7] == rt.RTN_LOCAL:
            return set()
        out = rt.route_ifindexes(route)
        if not out:  # by a nexthop object, without net.ipv4.nexthop_compat_mode
            route = self.way_to(address, source, narrow, entry=False)
            out = set() if route is None else rt.route_ifindexes(route)
        return out


def ntop(address: bytes) -> str:
    """Binary address to text, IPv4-mapped IPv6 as IPv4."""
    if len(address) == 16 and address[:12] == bytes(10) + b"\xff\xff":
        address = address[12:]
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, address)
