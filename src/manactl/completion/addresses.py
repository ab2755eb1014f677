"""An address that identifies a netdev to people, and whether a default route goes through it.

rtnetlink may wait for RTNL behind a driver that hangs (dumps do up to 6.8), so a child process
asks, and what has not come in time is left out. look/rtnetlink.py, by which the guards read the
same, keeps whole states of ports: importing it would make a completion 1.25 times as long. The
child imports what it needs itself, while the parent goes on.
"""

import _socket

from manactl.look.forked import Child
from manactl.model.named_tuple import NamedTuple

WAIT = 0.3  # s; a person waits for the answer


class AddressFacts(NamedTuple):
    """Of one interface."""

    address: str | None = None  # the first that others can reach, IPv4 before IPv6
    default_route: bool = False  # in whatever table and family, as the guard of that name counts


class Addresses:
    """Asked for early, collected late; only once."""

    def __init__(self, wait: float = WAIT) -> None:
        self._wait = wait
        self._child = Child(read)

    def collect(self) -> dict[int, AddressFacts]:
        """By ifindex; nothing when the kernel did not answer."""
        answer = self._child.collect(self._wait)
        if not isinstance(answer, dict):
            return {}
        return {index: AddressFacts(*facts) for index, facts in answer.items()}


def read() -> dict[int, tuple[str | None, bool]]:
    """AddressFacts by ifindex, as plain tuples; may wait for RTNL."""
    from manactl.wire import rtmsg as rt  # noqa: PLC0415 - for the child alone
    from manactl.wire.netlink import NETLINK_ROUTE, NetlinkSocket  # noqa: PLC0415

    address: dict[int, str] = {}
    default: set[int] = set()
    with NetlinkSocket(NETLINK_ROUTE) as sock:
        for family in (_socket.AF_INET, _socket.AF_INET6):
            for message in sock.dump(rt.RTM_GETADDR, rt.IfAddrMsg(family).pack()):
                index, text = _address(message.body)
                if text is not None:
                    address.setdefault(index, text)
            # Strict checking takes the type for a filter, which keeps the table `local` away.
            wanted = rt.RtMsg(family, type=rt.RTN_UNICAST).pack()
            for message in sock.dump(rt.RTM_GETROUTE, wanted):
                head = rt.RtMsg.of(message.body)
                if head.dst_len == 0 and head.type == rt.RTN_UNICAST:
                    default |= rt.route_ifindexes(message.body)
    return {index: (address.get(index), index in default) for index in {*address, *default}}


def _address(body: bytes) -> tuple[int, str | None]:
    from manactl.wire import rtmsg as rt  # noqa: PLC0415

    family, _, flags, scope, index = rt.IfAddrMsg.of(body)
    attrs = rt.split(body, rt.IFADDR.size)
    flags = rt.number(attrs, rt.IFA_FLAGS) or flags
    raw = rt.value(attrs, rt.IFA_LOCAL) or rt.value(attrs, rt.IFA_ADDRESS)
    unusable = rt.IFA_F_TENTATIVE | rt.IFA_F_DADFAILED
    if scope != rt.RT_SCOPE_UNIVERSE or raw is None or flags & unusable:
        return index, None
    if family == _socket.AF_INET6 and flags & rt.IFA_F_TEMPORARY:
        return index, None
    return index, _socket.inet_ntop(family, raw)
