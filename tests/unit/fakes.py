"""Addresses, routes, nexthops and neighbours as the kernel's dumps have them."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from pathlib import Path

from manactl.model.port import PortId
from manactl.netstate.snapshot import Fact, Kind, Request
from manactl.wire import rtmsg as rt
from manactl.wire.rtmsg import Attr

PORT = PortId("7870:00:00.0", 1, "00:0d:3a:aa:00:10")


def archived(path: Path) -> Path:
    """Where a journal of this name is in the history."""
    (found,) = (path.parent.parent / "history").glob(f"*-{path.name}")
    return found


def refused(send: Callable[[Request], None], request: Request) -> OSError | None:
    """What a kernel that takes one request at a time says against it."""
    try:
        send(request)
    except OSError as error:
        return error
    return None


def u32(value: int) -> bytes:
    return struct.pack("=I", value)


def times(preferred: int = rt.FOREVER, valid: int = rt.FOREVER) -> bytes:
    return struct.pack("=IIII", preferred, valid, 12, 34)


def address(
    text: str, length: int, ifindex: int = 3, *, name: str = "eth1", flags: int = 0,
    valid: int = rt.FOREVER, proto: int | None = None,
) -> Fact:  # fmt: skip
    """As a dump has it: PERMANENT set, an old-style header, attributes in the kernel's order."""
    six = ":" in text
    raw = socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, text)
    flags |= 0x80 if valid == rt.FOREVER else 0
    attrs = [Attr(rt.IFA_ADDRESS, raw)]
    if not six:
        attrs += [Attr(rt.IFA_LOCAL, raw), Attr(rt.IFA_LABEL, name.encode() + b"\0")]
    attrs.append(Attr(rt.IFA_CACHEINFO, times(valid, valid)))
    attrs.append(Attr(rt.IFA_FLAGS, u32(flags)))
    if proto is not None:
        attrs.append(Attr(rt.IFA_PROTO, bytes([proto])))
    scope = 253 if text.startswith("fe80") else 0
    family = socket.AF_INET6 if six else socket.AF_INET
    head = rt.IFADDR.pack(family, length, flags & 0xFF, scope, ifindex)
    return Fact(Kind.ADDRESS, rt.join(head, attrs))


def route(
    text: str, length: int, ifindex: int = 3, *, via: str | None = None, table: int = 254,
    proto: int = 4, kind: int = rt.RTN_UNICAST, metric: int = 0, flags: int = 0,
    nhid: int | None = None, expires: int | None = None,
) -> Fact:  # fmt: skip
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    attrs = [Attr(rt.RTA_TABLE, u32(table))]
    if length:
        attrs.append(Attr(rt.RTA_DST, socket.inet_pton(family, text)))
    if metric:
        attrs.append(Attr(rt.RTA_PRIORITY, u32(metric)))
    if via:
        attrs.append(Attr(rt.RTA_GATEWAY, socket.inet_pton(family, via)))
    if nhid is not None:
        attrs.append(Attr(rt.RTA_NH_ID, u32(nhid)))
    attrs.append(Attr(rt.RTA_OIF, u32(ifindex)))
    if expires is not None:
        cache = struct.pack("=IIiIIIII", 0, 0, expires * 100, 0, 0, 0, 0, 0)
        attrs.append(Attr(rt.RTA_CACHEINFO, cache))
    attrs.append(Attr(999, b"unknown to us"))
    head = rt.RTMSG.pack(family, length, 0, 0, min(table, 252), proto, 0, kind, flags)
    return Fact(Kind.ROUTE, rt.join(head, attrs))


def neighbour(text: str, ifindex: int = 3, *, proxy: bool = False) -> Fact:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    attrs = [Attr(rt.NDA_DST, socket.inet_pton(family, text))]
    if not proxy:
        attrs += [Attr(rt.NDA_LLADDR, b"\x02\0\0\0\0\x50"), Attr(3, bytes(16))]
    state = 0 if proxy else rt.NUD_PERMANENT
    flags = rt.NTF_PROXY if proxy else 0
    return Fact(
        Kind.NEIGHBOUR, rt.join(rt.NDMSG.pack(family, 0, 0, ifindex, state, flags, 1), attrs)
    )


def nexthop(number: int, ifindex: int | None = 3, group: tuple[int, ...] = ()) -> Fact:
    attrs = [Attr(rt.NHA_ID, u32(number))]
    if group:
        members = b"".join(struct.pack("=IBBH", one, 0, 0, 0) for one in group)
        attrs.append(Attr(rt.NHA_GROUP, members))
    elif ifindex is not None:
        attrs.append(Attr(rt.NHA_OIF, u32(ifindex)))
    family = 0 if group else socket.AF_INET
    return Fact(Kind.NEXTHOP, rt.join(rt.NHMSG.pack(family, 253, 4, 0, 0), attrs))
