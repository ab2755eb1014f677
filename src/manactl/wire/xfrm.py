"""IPsec policies (xfrm): which packets the kernel wraps, and to whom it sends them then.

Layouts and numbers: include/uapi/linux/xfrm.h.
"""

from __future__ import annotations

import _socket
import struct
from collections.abc import Iterator

from manactl.model.named_tuple import NamedTuple
from manactl.wire.attrs import as_int, parse_attrs
from manactl.wire.tunnels import Outer

XFRM_MSG_GETPOLICY = 0x15
XFRM_POLICY_OUT = 1
XFRM_MODE_TRANSPORT = 0
XFRMA_TMPL, XFRMA_SET_MARK, XFRMA_IF_ID = 5, 29, 31

# struct xfrm_selector: both addresses, two ports with masks, family, prefix lengths, protocol,
# ifindex, user; then in struct xfrm_userpolicy_info two sets of lifetimes.
_SELECTOR = struct.Struct("=16s16s4HHBBB3xiI")
_REST = struct.Struct("=IIBBBB")  # priority, index, direction, action, flags, share
_REST_AT, _SIZE = 152, 168
_TEMPLATE = struct.Struct("=16sIB3xH2x16sIBBBxIII")  # struct xfrm_user_tmpl


class Net(NamedTuple):
    """Addresses that begin with the same bits."""

    address: bytes
    length: int

    def __contains__(self, address: object) -> bool:
        if not isinstance(address, bytes) or len(address) != len(self.address):
            return False
        rest = len(address) * 8 - self.length
        one, other = (int.from_bytes(a, "big") >> rest for a in (address, self.address))
        return one == other


class Policy(NamedTuple):
    """What is to happen to outgoing packets from one net to another.

    `narrow`: only to those of one protocol, port, user or device. `outers`: the tunnels that they
    are put into, none for what is left as it is; `if_id`: an xfrm interface's.
    """

    priority: int
    source: Net
    destination: Net
    narrow: bool
    if_id: int
    outers: tuple[Outer, ...]

    def wants(self, source: bytes, destination: bytes) -> bool:
        """Whether it may be for these packets; no source: one that the kernel will choose."""
        return destination in self.destination and (not source or source in self.source)


def policy(body: bytes) -> Policy | None:
    """One message of a dump of policies; None for one that is not for outgoing packets. IndexError
    or struct.error when it is broken."""
    to, by, *ports, family, to_length, by_length, protocol, ifindex, user = _SELECTOR.unpack_from(
        body
    )
    priority, _, direction, _, _, _ = _REST.unpack_from(body, _REST_AT)
    if direction != XFRM_POLICY_OUT:
        return None
    size = 4 if family == _socket.AF_INET else 16
    attrs = parse_attrs(body, _SIZE)
    return Policy(
        priority,
        Net(by[:size], by_length),
        Net(to[:size], to_length),
        any((*ports, protocol, ifindex, user)),
        as_int(attrs.get(XFRMA_IF_ID, b"")),
        tuple(_tunnels(attrs.get(XFRMA_TMPL, b""), as_int(attrs.get(XFRMA_SET_MARK, b"")))),
    )


def _tunnels(templates: bytes, mark: int) -> Iterator[Outer]:
    """Those of the templates that put a packet into another: all modes but transport."""
    for at in range(0, len(templates) - _TEMPLATE.size + 1, _TEMPLATE.size):
        to, _, _, family, by, _, mode, *_ = _TEMPLATE.unpack_from(templates, at)
        if mode != XFRM_MODE_TRANSPORT:
            size = 4 if family == _socket.AF_INET else 16
            yield Outer(to[:size], by[:size] if any(by) else b"", mark)
