"""The devices stacked on a port, from one dump of all links of this network namespace."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from manactl.model.port import IFF_UP
from manactl.netstate.snapshot import Setting
from manactl.netstate.uppers import (
    IFLA_BOND_ACTIVE_SLAVE,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    VLAN,
    UpperState,
)
from manactl.wire import rtmsg as rt
from manactl.wire.attrs import as_int, as_str, parse_attrs

_IFLA_IFNAME, _IFLA_LINK, _IFLA_MASTER, _IFLA_CARRIER, _IFLA_LINK_NETNSID = 3, 5, 10, 33, 37
_IFLA_VLAN_ID, _IFLA_VLAN_FLAGS, _IFLA_VLAN_PROTOCOL = 1, 2, 5
_VLAN_FLAG_LOOSE_BINDING = 0x4
_PROTOCOLS = {0x8100: "802.1Q", 0x88A8: "802.1ad"}
# IFLA_LINK is the other end here, or where a tunnel sends: nothing that stands on the device.
BESIDE = frozenset({"veth", "netkit", "gre", "gretap", "erspan", "ipip", "sit", "vti", "vti6",
                     "ip6tnl", "ip6gre", "ip6gretap", "ip6erspan", "xfrm"})  # fmt: skip

# NETDEV_UP sets it to the device's MTU (addrconf_notify()); nothing else of the trees
# net/{ipv4,ipv6}/{conf,neigh} changes.
CHANGING = (("net/ipv6/conf", "mtu"),)


class StackedLink(NamedTuple):
    """A link as far as stacking goes."""

    ifindex: int
    name: str
    kind: str
    up: bool
    carrier: bool
    link: int | None  # what it stands on; None also for what is in another namespace
    abroad: tuple[int, int] | None  # ifindex and namespace id of what it stands on there
    master: int | None
    id: str | None
    follows: bool
    active: int | None


def parse(body: bytes) -> StackedLink:
    """One RTM_NEWLINK message. ValueError when it is broken."""
    _, _, _, ifindex, flags, _ = rt.IFINFO.unpack_from(body)
    attrs = parse_attrs(body, rt.IFINFO.size)
    info = parse_attrs(attrs.get(IFLA_LINKINFO, b""))
    kind = as_str(info.get(IFLA_INFO_KIND, b""))
    data = parse_attrs(info.get(IFLA_INFO_DATA, b""))
    link = as_int(attrs[_IFLA_LINK]) if _IFLA_LINK in attrs else None
    abroad = None
    if link is not None and _IFLA_LINK_NETNSID in attrs:
        abroad = link, int.from_bytes(attrs[_IFLA_LINK_NETNSID], sys.byteorder, signed=True)
    ident, follows, active = None, False, None
    if kind == VLAN:
        number = int.from_bytes(data.get(_IFLA_VLAN_PROTOCOL, b"\x81\0"), "big")
        ident = f"{_PROTOCOLS.get(number, hex(number))} {as_int(data.get(_IFLA_VLAN_ID, b''))}"
        follows = not as_int(data.get(_IFLA_VLAN_FLAGS, b"")[:4]) & _VLAN_FLAG_LOOSE_BINDING
    elif kind == "bond" and IFLA_BOND_ACTIVE_SLAVE in data:
        active = as_int(data[IFLA_BOND_ACTIVE_SLAVE])
    return StackedLink(
        ifindex,
        as_str(attrs.get(_IFLA_IFNAME, b"")),
        kind,
        bool(flags & IFF_UP),
        bool(as_int(attrs.get(_IFLA_CARRIER, b"\0"))),
        None if kind in BESIDE or abroad else link,
        abroad,
        as_int(attrs[_IFLA_MASTER]) if _IFLA_MASTER in attrs else None,
        ident,
        follows,
        active,
    )


def uppers(links: Iterable[StackedLink], ifindex: int) -> tuple[UpperState, ...]:
    """What stands on that link, directly or not, from the bottom up."""
    every = list(links)
    by_index = {one.ifindex: one for one in every}
    seen = {ifindex}
    order: list[UpperState] = []
    row = [ifindex]
    while row:
        below, row = row, []
        for lower in below:
            on_it = [one for one in every if one.link == lower]
            master = by_index[lower].master if lower in by_index else None
            if master in by_index:
                on_it.append(by_index[master])
            for one in sorted(on_it):
                if one.ifindex not in seen:
                    seen.add(one.ifindex)
                    row.append(one.ifindex)
                    order.append(_state(one, lower))
    return tuple(order)


def _state(one: StackedLink, lower: int) -> UpperState:
    return UpperState(
        one.name,
        one.ifindex,
        one.kind,
        lower,
        one.id,
        one.up,
        one.carrier,
        one.follows,
        one.active,
    )


def settings(
    devices: Collection[tuple[int, str]], proc: Path = Path("/proc/sys")
) -> tuple[Setting, ...]:
    """The sysctls of those devices that going down and up changes. Where IPv6 is off: none."""
    found = []
    for ifindex, name in devices:
        for tree, key in CHANGING:
            try:
                value = (proc / tree / name / key).read_text().strip()
            except FileNotFoundError:
                continue
            found.append(Setting(ifindex, tree, key, value))
    return tuple(found)


def put_setting(path: str, value: str, proc: Path = Path("/proc/sys")) -> None:
    """Write one sysctl. OSError when the kernel refuses."""
    (proc / path).write_text(value)
