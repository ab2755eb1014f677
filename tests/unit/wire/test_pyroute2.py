"""rtnetlink numbers and layouts, held against pyroute2's tables.

manactl replays the kernel's own bytes and does not use pyroute2 for it; that library has no
nexthop objects. As a second pair of eyes on the numbers it is as good as the kernel's headers.
"""

from __future__ import annotations

import struct

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from manactl.wire import if_link
from manactl.wire import rtmsg as rt

MESSAGES = [
    ("IFA_", ifaddrmsg),
    ("RTA_", rtmsg),
    ("NDA_", ndmsg),
]


def _theirs(message: type) -> dict[str, int]:
    """Attribute names to numbers; a map is numbered by position unless it says otherwise."""
    numbered = {}
    for position, entry in enumerate(message.nla_map):
        number, name = (entry[0], entry[1]) if isinstance(entry[0], int) else (position, entry[0])
        numbered[name] = number
    return numbered


@pytest.mark.parametrize(("prefix", "message"), MESSAGES)
def test_attribute_numbers(prefix: str, message: type) -> None:
    theirs = _theirs(message)
    ours = {
        name: value
        for name, value in vars(rt).items()
        if name.startswith(prefix) and isinstance(value, int) and not name.startswith("IFA_F_")
    }
    common = {name for name in ours if name in theirs}
    assert len(common) >= 3
    assert {name: ours[name] for name in common} == {name: theirs[name] for name in common}


@pytest.mark.parametrize(
    ("layout", "message"),
    [(rt.IFADDR, ifaddrmsg), (rt.RTMSG, rtmsg), (rt.NDMSG, ndmsg), (if_link.IFINFO, ifinfmsg)],
)
def test_fixed_headers(layout: struct.Struct, message: type) -> None:
    assert layout.size == struct.calcsize("=" + "".join(code for _, code in message.fields))
