"""Generic netlink: a family's number, and what of WireGuard's and L2TP's answers guards need.

Layouts and numbers: include/uapi/linux/{genetlink,wireguard,l2tp}.h.
"""

from __future__ import annotations

import _socket
import struct

from manactl.model.named_tuple import NamedTuple
from manactl.wire.attrs import as_int, as_str, attr_str, attr_u32, iter_attrs, parse_attrs

NETLINK_GENERIC = 16
GENL_ID_CTRL = 16
CTRL_CMD_GETFAMILY = 3
CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME = 1, 2

WG_CMD_GET_DEVICE = 0
WGDEVICE_A_IFINDEX, WGDEVICE_A_FWMARK, WGDEVICE_A_PEERS = 1, 7, 8
WGPEER_A_ENDPOINT = 4

L2TP_CMD_TUNNEL_GET, L2TP_CMD_SESSION_GET = 4, 8
L2TP_ATTR_IFNAME, L2TP_ATTR_CONN_ID = 8, 9
L2TP_ATTR_IP_SADDR, L2TP_ATTR_IP_DADDR = 24, 25
L2TP_ATTR_IP6_SADDR, L2TP_ATTR_IP6_DADDR = 31, 32

_GENL = struct.Struct("=BBxx")  # command, version


def command(number: int, payload: bytes = b"") -> bytes:
    """struct genlmsghdr and attributes."""
    return _GENL.pack(number, 1) + payload


def family(name: str) -> bytes:
    """The question for a family's number, to GENL_ID_CTRL."""
    return command(CTRL_CMD_GETFAMILY, attr_str(CTRL_ATTR_FAMILY_NAME, name))


def family_id(body: bytes) -> int:
    """KeyError when the answer has none."""
    return as_int(parse_attrs(body, _GENL.size)[CTRL_ATTR_FAMILY_ID])


class Peers(NamedTuple):
    """Where a WireGuard device sends: addresses, each with the zone of a link-local one; its mark."""

    endpoints: tuple[tuple[bytes, int], ...]
    mark: int


def wireguard(ifindex: int) -> bytes:
    return command(WG_CMD_GET_DEVICE, attr_u32(WGDEVICE_A_IFINDEX, ifindex))


def wireguard_peers(body: bytes) -> Peers:
    """One message of a device's dump; of many peers there are several."""
    attrs = parse_attrs(body, _GENL.size)
    found = []
    for _, peer in iter_attrs(attrs.get(WGDEVICE_A_PEERS, b"")):
        sockaddr = parse_attrs(peer).get(WGPEER_A_ENDPOINT, b"")
        if len(sockaddr) >= 16:
            found.append(_address(sockaddr))
    return Peers(tuple(found), as_int(attrs.get(WGDEVICE_A_FWMARK, b"")))


def _address(sockaddr: bytes) -> tuple[bytes, int]:
    """The address of a struct sockaddr_in or sockaddr_in6, and the latter's scope id."""
    if as_int(sockaddr[:2]) == _socket.AF_INET:
        return sockaddr[4:8], 0
    return sockaddr[8:24], as_int(sockaddr[24:28])


class L2tpTunnel(NamedTuple):
    """The ends of an L2TP tunnel; empty where it has none of its own."""

    id: int
    local: bytes
    remote: bytes


def l2tp_tunnel(body: bytes) -> L2tpTunnel:
    attrs = parse_attrs(body, _GENL.size)
    local = attrs.get(L2TP_ATTR_IP_SADDR) or attrs.get(L2TP_ATTR_IP6_SADDR) or b""
    remote = attrs.get(L2TP_ATTR_IP_DADDR) or attrs.get(L2TP_ATTR_IP6_DADDR) or b""
    return L2tpTunnel(as_int(attrs[L2TP_ATTR_CONN_ID]), local, remote)


def l2tp_session(body: bytes) -> tuple[str, int]:
    """The netdev of a session, if it has one, and its tunnel."""
    attrs = parse_attrs(body, _GENL.size)
    return as_str(attrs.get(L2TP_ATTR_IFNAME, b"")), as_int(attrs[L2TP_ATTR_CONN_ID])
