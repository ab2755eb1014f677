"""IPsec by policies, without a device of its own: where its packets go, which a look-up of the
inner address does not tell (RTM_GETROUTE asks no policy).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from manactl.look import text_files
from manactl.look.rtnetlink import ntop
from manactl.look.sockets import Reach
from manactl.look.text_files import fields, rows
from manactl.netstate.surroundings import IpsecTunnel
from manactl.wire.netlink import NetlinkSocket
from manactl.wire.tunnels import NETLINK_XFRM, Outer
from manactl.wire.xfrm import XFRM_MSG_GETPOLICY, Net, Policy, policy


class Ways(Protocol):
    """Asked where packets go, whatever the policies are."""

    def routed_by(self, address: bytes, *, source: bytes = b"", mark: int = 0) -> set[int]: ...


def live(proc: Path = Path("/proc")) -> list[Policy]:
    """The policies for outgoing packets of this network namespace, in the order in which they are
    asked. OSError or ValueError when they cannot be read."""
    if not in_use(proc):
        return []
    with NetlinkSocket(NETLINK_XFRM, strict=False) as xfrm:
        return read(message.body for message in xfrm.dump(XFRM_MSG_GETPOLICY))


def in_use(proc: Path = Path("/proc")) -> bool:
    """Whether somebody can have made policies. To ask where nobody has would load a module."""
    base = proc / "self/net"
    listed = [fields(line) for line in rows(text_files.read(base / "netlink"))[1:]]
    asked = any(int(row[1]) == NETLINK_XFRM for row in listed)  # the kernel's own socket, at least
    return asked or (base / "pfkey").exists()


def read(bodies: Iterable[bytes]) -> list[Policy]:
    try:
        found = [one for one in map(policy, bodies) if one is not None and not one.if_id]
    except struct.error as error:
        raise ValueError(str(error)) from error
    return sorted(found, key=lambda one: one.priority)


def around(policies: Iterable[Policy], address: bytes, source: bytes) -> Sequence[Outer]:
    """The tunnels that packets to that address get into, as far as addresses tell: a policy that
    leaves packets of one protocol as they are counts for nothing."""
    for one in policies:
        if one.wants(source, address) and (one.outers or not one.narrow):
            return one.outers
    return ()


def through(
    policies: Iterable[Policy], reach: Reach, rtnl: Ways, netns: str | None = None
) -> tuple[IpsecTunnel, ...]:
    """The tunnels whose packets leave by the port, or whose own end is an address of it: their
    peers' packets come in by it."""
    found = []
    for one in policies:
        for outer in one.outers:
            out = rtnl.routed_by(outer.remote, source=outer.local, mark=outer.mark)
            ours = outer.local in reach.addresses
            if ours or not any(outer.remote) or not out.isdisjoint(reach.ifindexes):
                endpoint = ntop(outer.remote) if any(outer.remote) else None
                ends = _text(one.source), _text(one.destination)
                found.append(IpsecTunnel(*ends, endpoint, netns))
    return tuple(dict.fromkeys(found))


def _text(net: Net) -> str:
    return f"{ntop(net.address)}/{net.length}"
