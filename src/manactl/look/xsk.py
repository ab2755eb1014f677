"""AF_XDP sockets on a netdev: one that only sends needs no XDP program, which a link would tell.

Numbers: include/uapi/linux/xdp_diag.h.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from manactl.look.text_files import fields, read, rows
from manactl.wire.attrs import as_int, parse_attrs
from manactl.wire.inet_diag import SOCK_DIAG_BY_FAMILY
from manactl.wire.netlink import NETLINK_SOCK_DIAG, NetlinkSocket

_AF_XDP = 44
_XDP_SHOW_INFO, _XDP_DIAG_INFO = 1, 1
_REQUEST = struct.Struct("=BBHIIII")  # struct xdp_diag_req
_MESSAGE = 16  # bytes of struct xdp_diag_msg
_PROTOCOL = "XDP"  # as struct proto has it


def dump() -> list[bytes]:
    """The AF_XDP sockets of this network namespace. OSError where the kernel cannot tell."""
    with NetlinkSocket(NETLINK_SOCK_DIAG, strict=False) as netlink:
        body = _REQUEST.pack(_AF_XDP, 0, 0, 0, _XDP_SHOW_INFO, 0, 0)
        return [message.body for message in netlink.dump(SOCK_DIAG_BY_FAMILY, body)]


def are_on(
    ifindexes: Collection[int],
    ask: Callable[[], Iterable[bytes]] = dump,
    process: Path = Path("/proc/self"),
) -> bool:
    """Whether one is bound to one of these netdevs. Where there is none at all nobody is asked, which
    would load a module."""
    if not _any(process):
        return False
    found = (parse_attrs(body, _MESSAGE).get(_XDP_DIAG_INFO, b"") for body in ask())
    return any(as_int(info[:4]) in ifindexes for info in found if info)


def _any(process: Path) -> bool:
    """By the counts of /proc/net/protocols (proto_seq_printf())."""
    try:
        listed = rows(read(process / "net/protocols"))
    except FileNotFoundError:
        if not (process / "net/dev").exists():  # this is no /proc/net
            raise
        return False
    counts = [fields(row)[2] for row in listed if row.startswith(_PROTOCOL + " ")]
    return any(count != "0" for count in counts)
