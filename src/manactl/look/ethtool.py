"""What ethtool shows and sets, of a netdev of this network namespace.

By generic netlink; what that sets only on late kernels (RSS) by SIOCETHTOOL.
"""

from __future__ import annotations

import _socket
import array
import contextlib
import fcntl
import struct
from collections.abc import Iterator
from dataclasses import replace

from manactl.look.text_files import LACKS, passing_over
from manactl.netstate.ethtool_settings import FLOWS, Command, Ethtool
from manactl.netstate.link_settings import LinkSettings
from manactl.wire import ethtool
from manactl.wire import genetlink as genl
from manactl.wire.ethtool import GROUPS
from manactl.wire.netlink import NetlinkSocket

# include/uapi/linux/{sockios,ethtool}.h
_SIOCETHTOOL = 0x8946
_GRXFH, _SRXFH, _GRSSH, _SRSSH = 0x29, 0x2A, 0x46, 0x47
_IFREQ = struct.Struct("=16sQ16x")
_RXFH = struct.Struct("=IIIIB3xI")  # command, context, sizes of table and key, function
_RXNFC_SIZE, _FIELDS_AT = 192, 8  # struct ethtool_rxnfc: command, flow type, data
_NO_CHANGE = 0xFFFFFFFF  # ETH_RXFH_INDIR_NO_CHANGE: the driver has no table


def read(ifindex: int, name: str) -> Ethtool:
    """All that there is; what the driver does not have, or cannot tell now, is left out."""
    groups = {}
    with contextlib.suppress(KeyError), passing_over(), NetlinkSocket(genl.NETLINK_GENERIC) as sock:
        number = _family(sock)
        for group, how in GROUPS.items():
            with contextlib.suppress(ValueError), passing_over():
                answers = sock.request(number, 0, ethtool.question(how, ifindex))
                groups[group] = ethtool.values(how, answers[0].body)
    with contextlib.closing(_ioctl_socket()) as sock:
        return Ethtool(groups, _rss(sock, name), dict(_hashed(sock, name)))


def added(settings: LinkSettings, ifindex: int) -> LinkSettings:
    """Settings of a netdev, with what ethtool shows."""
    name = next((name for name, index in settings.names.items() if index == ifindex), None)
    return settings if name is None else replace(settings, ethtool=read(ifindex, name))


def put(ifindex: int, name: str, command: Command) -> None:
    """OSError when the driver refuses, or cannot do it while the netdev is down."""
    if command.group:
        group = GROUPS[command.group]
        with NetlinkSocket(genl.NETLINK_GENERIC) as sock:
            body = ethtool.request(group, ifindex, command.values)
            sock.request(_family(sock), 0, body)
        return
    with contextlib.closing(_ioctl_socket()) as sock:
        if command.rss is not None:
            _ioctl(sock, name, bytearray(struct.pack("=I", _SRSSH) + command.rss))
        else:
            asked = struct.pack("=IIQ", _SRXFH, command.flow, command.fields)
            _ioctl(sock, name, bytearray(asked.ljust(_RXNFC_SIZE, b"\0")))


def _family(sock: NetlinkSocket) -> int:
    (answer,) = sock.request(genl.GENL_ID_CTRL, 0, genl.family(ethtool.FAMILY))
    return genl.family_id(answer.body)


def _ioctl_socket() -> _socket.socket:
    return _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)


def _ioctl(sock: _socket.socket, name: str, data: bytearray) -> bytes:
    there = array.array("B", data)
    where = there.buffer_info()[0]
    fcntl.ioctl(sock, _SIOCETHTOOL, _IFREQ.pack(name.encode("utf-8", "surrogateescape"), where))
    return there.tobytes()


def _rss(sock: _socket.socket, name: str) -> bytes | None:
    try:
        asked = _ioctl(sock, name, bytearray(_RXFH.pack(_GRSSH, 0, 0, 0, 0, 0)))
        _, _, table, key, _, _ = _RXFH.unpack(asked)
        if table in (0, _NO_CHANGE):
            return None
        head = _RXFH.pack(_GRSSH, 0, table, key, 0, 0)
        return _ioctl(sock, name, bytearray(head + bytes(4 * table + key)))[4:]
    except OSError as error:
        if error.errno in LACKS:
            raise
        return None


def _hashed(sock: _socket.socket, name: str) -> Iterator[tuple[int, int]]:
    for flow in FLOWS:
        asked = struct.pack("=IIQ", _GRXFH, flow, 0).ljust(_RXNFC_SIZE, b"\0")
        with passing_over():
            told = _ioctl(sock, name, bytearray(asked))
            yield flow, struct.unpack_from("=Q", told, _FIELDS_AT)[0]
