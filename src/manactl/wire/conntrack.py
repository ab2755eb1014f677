"""Entries of connection tracking, decoded in bulk: there may be hundreds of thousands.

ctnetlink_fill_info() begins each message with the original tuple and the reply's, so the addresses
are at fixed places; what is not as expected is taken apart attribute by attribute. Numbers:
include/uapi/linux/netfilter/{nfnetlink,nfnetlink_conntrack,nf_conntrack_tcp,nf_conntrack_sctp}.h.
"""

from __future__ import annotations

import _socket
import struct

from manactl.model.named_tuple import NamedTuple
from manactl.wire.attrs import align, parse_attrs

CT_GET = (1 << 8) | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_PROTOINFO, CTA_MARK = 1, 2, 4, 8
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP_V4_SRC, CTA_IP_V4_DST, CTA_IP_V6_SRC, CTA_IP_V6_DST = 1, 2, 3, 4
CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT = 1, 2, 3
CTA_PROTOINFO_TCP, CTA_PROTOINFO_TCP_STATE = 1, 1
CTA_PROTOINFO_SCTP, CTA_PROTOINFO_SCTP_STATE = 3, 1
TCP_CONNTRACK_TIME_WAIT, TCP_CONNTRACK_CLOSE = 7, 8
SCTP_CONNTRACK_CLOSED = 1

_NFGEN = struct.Struct("=BBH")
_ATTR = struct.Struct("=HH")
_TYPE = 0x3FFF
_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp", 1: "icmp", 58: "icmp", 47: "gre", 50: "esp"}


class Ends(NamedTuple):
    """The addresses of an entry: its packets, and those of the answers. Where they differ in more
    than the direction they are translated."""

    source: bytes
    destination: bytes
    answers_from: bytes
    answers_to: bytes


class Flow(NamedTuple):
    """What one direction of an entry is known by, of TCP, UDP and SCTP."""

    protocol: int
    source: bytes
    port: int
    destination: bytes
    peer_port: int


def dump(family: int) -> bytes:
    """The body of a dump of one family's entries."""
    return _NFGEN.pack(family, 0, 0)


def ends(body: bytes) -> Ends | None:
    """None for an entry that has no addresses. ValueError for a broken one."""
    length, kind = _ATTR.unpack_from(body, 4)
    second = 4 + align(length)
    if kind & _TYPE != CTA_TUPLE_ORIG or second + 8 > len(body):
        return _taken_apart(body)
    size = 4 if body[0] == _socket.AF_INET else 16
    if _ATTR.unpack_from(body, second)[1] & _TYPE != CTA_TUPLE_REPLY:
        return _taken_apart(body)
    first, there = 4 + _ATTR.size, second + _ATTR.size
    if not (_fits(body, first, size) and _fits(body, there, size)):
        return _taken_apart(body)
    a, b = first + 8, there + 8
    c = size + 4
    return Ends(
        body[a : a + size], body[a + c : a + c + size],
        body[b : b + size], body[b + c : b + c + size],
    )  # fmt: skip


# The headers of the two addresses in CTA_TUPLE_IP.
_HEADS = {
    4: (_ATTR.pack(8, CTA_IP_V4_SRC), _ATTR.pack(8, CTA_IP_V4_DST)),
    16: (_ATTR.pack(20, CTA_IP_V6_SRC), _ATTR.pack(20, CTA_IP_V6_DST)),
}


def _fits(body: bytes, at: int, size: int) -> bool:
    source, destination = _HEADS[size]
    return (
        body[at + 4 : at + 8] == source
        and body[at + 8 + size : at + 12 + size] == destination
        and _ATTR.unpack_from(body, at)[1] & _TYPE == CTA_TUPLE_IP
    )


def _taken_apart(body: bytes) -> Ends | None:
    attrs = parse_attrs(body, _NFGEN.size)
    found: list[bytes] = []
    for kind in (CTA_TUPLE_ORIG, CTA_TUPLE_REPLY):
        ips = parse_attrs(parse_attrs(attrs.get(kind, b"")).get(CTA_TUPLE_IP, b""))
        found.append(ips.get(CTA_IP_V4_SRC) or ips.get(CTA_IP_V6_SRC) or b"")
        found.append(ips.get(CTA_IP_V4_DST) or ips.get(CTA_IP_V6_DST) or b"")
    return Ends(*found) if all(found) else None


class What(NamedTuple):
    """Protocol and ports of an entry, and whether it is over but for its timer."""

    protocol: str
    port: int
    peer_port: int
    over: bool


def what(body: bytes) -> What:
    attrs = parse_attrs(body, _NFGEN.size)
    proto = parse_attrs(parse_attrs(attrs.get(CTA_TUPLE_ORIG, b"")).get(CTA_TUPLE_PROTO, b""))
    number = int.from_bytes(proto.get(CTA_PROTO_NUM, b""), "big")
    info = parse_attrs(attrs.get(CTA_PROTOINFO, b""))
    tcp = parse_attrs(info.get(CTA_PROTOINFO_TCP, b"")).get(CTA_PROTOINFO_TCP_STATE, b"")
    sctp = parse_attrs(info.get(CTA_PROTOINFO_SCTP, b"")).get(CTA_PROTOINFO_SCTP_STATE, b"")
    return What(
        _PROTOCOLS.get(number, f"protocol {number}"),
        int.from_bytes(proto.get(CTA_PROTO_SRC_PORT, b""), "big"),
        int.from_bytes(proto.get(CTA_PROTO_DST_PORT, b""), "big"),
        int.from_bytes(tcp, "big") in (TCP_CONNTRACK_TIME_WAIT, TCP_CONNTRACK_CLOSE)
        or int.from_bytes(sctp, "big") == SCTP_CONNTRACK_CLOSED,
    )


def flows(body: bytes, sides: Ends) -> tuple[Flow, Flow]:
    """Its packets, and those of the answers."""
    attrs = parse_attrs(body, _NFGEN.size)
    first, there = (_protocol(attrs.get(kind, b"")) for kind in (CTA_TUPLE_ORIG, CTA_TUPLE_REPLY))
    return (
        Flow(first[0], sides.source, first[1], sides.destination, first[2]),
        Flow(there[0], sides.answers_from, there[1], sides.answers_to, there[2]),
    )


def mark(body: bytes) -> int:
    """The mark of the connection, which rules may give to its packets (CONNMARK)."""
    return int.from_bytes(parse_attrs(body, _NFGEN.size).get(CTA_MARK, b""), "big")


def _protocol(side: bytes) -> tuple[int, int, int]:
    proto = parse_attrs(parse_attrs(side).get(CTA_TUPLE_PROTO, b""))
    numbers = (CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT)
    number, port, peer_port = (int.from_bytes(proto.get(kind, b""), "big") for kind in numbers)
    return number, port, peer_port
