"""What it takes to make a device again that was destroyed with its lower. Pure.

unregister_netdevice() of a lower takes VLANs, macvlans, ipvlans, MACsec devices and VXLANs with it
(their notifiers see NETDEV_UNREGISTER); a bond, bridge, team or VRF only loses its member.

What is made again is the kernel's own description of it, IFLA_LINKINFO as it was dumped: attributes
that nobody here knows come back too. What a kind shows and does not take is left out by number.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Self

from manactl.model.named_tuple import NamedTuple
from manactl.netstate.link_settings import LinkSettings
from manactl.netstate.requests import Request
from manactl.netstate.uppers import NETVSC, UpperState
from manactl.wire import if_link
from manactl.wire import rtmsg as rt
from manactl.wire.attrs import NLA_TYPE_MASK, as_int, attr, attr_str, attr_u32, nest, parse_attrs
from manactl.wire.if_link import IfInfoMsg, IfLink
from manactl.wire.netlink import NLM_F_CREATE, NLM_F_EXCL

_MACVLANS = ("macvlan", "macvtap")
DYING = frozenset({"vlan", *_MACVLANS, "ipvlan", "ipvtap", "macsec", "vxlan"})
# Tunnels that send by the number of a netdev, and stay without it: their drivers look at no
# NETDEV_UNREGISTER of it (ip_tunnel_changelink() and the like set another).
BOUND = frozenset({"gre", "gretap", "erspan", "ipip", "sit", "vti", "vti6", "ip6tnl", "ip6gre",
                   "ip6gretap", "ip6erspan", "xfrm"})  # fmt: skip
_BOUND_LINK = 1  # IFLA_GRE_LINK, IFLA_IPTUN_LINK, IFLA_VTI_LINK, IFLA_XFRM_LINK
# These take the MAC address of their lower, and follow it, unless somebody gave them another.
_INHERIT = frozenset({"vlan", "ipvlan", "ipvtap", "macsec"})
_AS_IT_WAS = (if_link.IFLA_MTU, if_link.IFLA_NUM_TX_QUEUES, if_link.IFLA_NUM_RX_QUEUES)

# include/uapi/linux/if_link.h, enum macvlan_macaddr_mode
_MACADDR_MODE, _MACADDR_DATA, _MACADDR_COUNT, _MACADDR_SET = 3, 5, 6, 3
_BC_QUEUE_LEN_USED = 8
_MACSEC_PAD = 14
_VLAN_FLAGS = 0x1F  # REORDER_HDR, GVRP, LOOSE_BINDING, MVRP, BRIDGE_BINDING
_PROMISCUITY, _ALLMULTI = 30, 61  # IFLA_: how many want it, of whom a flag is one
_TTL_INHERIT, _REMCSUM = 28, (21, 22)
_SHOWN_ONLY = {
    **dict.fromkeys(_MACVLANS, frozenset({_MACADDR_DATA, _MACADDR_COUNT, _BC_QUEUE_LEN_USED})),
    "macsec": frozenset({_MACSEC_PAD}),
    "vlan": frozenset({if_link.IFLA_VLAN_FLAGS}),
}


class Blueprint(NamedTuple):
    """One device of a stack. `body` is its RTM_NEWLINK message; of a device that is not destroyed
    with its lower, nor is a synthetic netdev, it is empty, and `settings` has only what the loss of
    a member changes. A tunnel that is bound to one of them has no settings."""

    ifindex: int
    settings: LinkSettings
    body: bytes = b""

    def to_json(self) -> dict[str, Any]:
        return {
            "ifindex": self.ifindex,
            "settings": self.settings.to_json(),
            "message": base64.b64encode(self.body).decode(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            int(data["ifindex"]),
            LinkSettings.from_json(data["settings"]),
            base64.b64decode(data["message"], validate=True),
        )

    @property
    def name(self) -> str:
        return IfLink(self.body).name

    @property
    def kind(self) -> str | None:
        return IfLink(self.body).kind if self.body else None

    @property
    def is_synthetic_up(self) -> bool:
        """Whether it is a synthetic netdev, which has no kind, and was up."""
        return bool(self.body) and self.kind is None and IfLink(self.body).up

    @property
    def receives_all(self) -> bool:
        """Whether it was promiscuous, or received all multicast, for whatever reason."""
        raw = parse_attrs(self.body, if_link.IFINFO.size) if self.body else {}
        return any(as_int(raw.get(kind, b"")) for kind in (_PROMISCUITY, _ALLMULTI))

    @property
    def bound_to(self) -> int | None:
        """The ifindex that a tunnel sends by; None of another device."""
        link = IfLink(self.body) if self.body else None
        return link.lower if link is not None and link.kind in BOUND else None

    def bound(self, moved: Mapping[int, int]) -> Request:
        """What has the tunnel send by the new netdev. Its driver takes all settings or none."""
        link = IfLink(self.body)
        raw = parse_attrs(self.body, if_link.IFINFO.size)
        info = parse_attrs(raw[if_link.IFLA_LINKINFO])
        data = _data(link.kind or "", info.get(if_link.IFLA_INFO_DATA, b""), moved)
        kind = attr_str(if_link.IFLA_INFO_KIND, link.kind or "")
        body = IfInfoMsg(ifindex=self.ifindex).pack() + attr(
            if_link.IFLA_MTU, raw[if_link.IFLA_MTU]
        )
        body += nest(if_link.IFLA_LINKINFO, kind, nest(if_link.IFLA_INFO_DATA, *data))
        return Request(if_link.RTM_NEWLINK, 0, body)

    def request(self, moved: Mapping[int, int], *, ifindex: int = 0) -> Request:
        """What makes it again. `moved`: ifindexes of what it stands on, then to now. `ifindex` is
        asked for where it is given: programs that know it by its number go on."""
        link = IfLink(self.body)
        raw = parse_attrs(self.body, if_link.IFINFO.size)
        made = [attr_str(if_link.IFLA_IFNAME, link.name)]
        if link.kind != "vxlan" and link.lower:
            made.append(attr_u32(if_link.IFLA_LINK, moved.get(link.lower, link.lower)))
        address = self.settings.attributes.get(if_link.IFLA_ADDRESS)
        if address is not None:
            made.append(attr(if_link.IFLA_ADDRESS, address))
        made += [attr(kind, raw[kind]) for kind in _AS_IT_WAS if kind in raw]
        info = parse_attrs(raw[if_link.IFLA_LINKINFO])
        data = _data(link.kind or "", info.get(if_link.IFLA_INFO_DATA, b""), moved)
        kind = attr_str(if_link.IFLA_INFO_KIND, link.kind or "")
        made.append(nest(if_link.IFLA_LINKINFO, kind, nest(if_link.IFLA_INFO_DATA, *data)))
        body = IfInfoMsg(ifindex=ifindex).pack() + b"".join(made)
        return Request(if_link.RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


def _data(kind: str, shown: bytes, moved: Mapping[int, int]) -> Iterable[bytes]:
    """IFLA_INFO_DATA for a request, from what a dump has shown."""
    skip = _SHOWN_ONLY.get(kind, frozenset())
    if kind == "vlan":
        # No flags are not shown, and those that are with a mask of all ones, which is refused.
        raw = parse_attrs(shown).get(if_link.IFLA_VLAN_FLAGS, bytes(4))
        yield attr(if_link.IFLA_VLAN_FLAGS, raw[:4] + _VLAN_FLAGS.to_bytes(4, sys.byteorder))
    for whole, payload in rt.split(shown, 0):
        number = whole & NLA_TYPE_MASK
        if (kind == "vxlan" and number == if_link.IFLA_VXLAN_LINK) or (
            kind in BOUND and number == _BOUND_LINK
        ):
            lower = as_int(payload)
            yield attr_u32(number, moved.get(lower, lower))
        elif kind == "vxlan" and number == _TTL_INHERIT:  # shown as a number, taken as a flag
            yield attr(number, b"") if as_int(payload) else b""
        elif kind == "vxlan" and number in _REMCSUM and not as_int(payload):
            continue  # that it is there at all claims a bit of the header
        elif kind in _MACVLANS and number == _MACADDR_DATA and payload:
            yield attr_u32(_MACADDR_MODE, _MACADDR_SET)
            yield nest(number, payload)
        elif number not in skip:
            yield attr(whole, payload)


def dying(uppers: Iterable[UpperState], ifindex: int) -> frozenset[int]:
    """The devices that are destroyed with the one of that ifindex. `uppers` from the bottom up."""
    return _stacked(uppers, ifindex, DYING)


def mortal(uppers: Iterable[UpperState], ifindex: int) -> frozenset[int]:
    """The same, and the synthetic netdev above it, with what would be destroyed with that."""
    return _stacked(uppers, ifindex, DYING | {NETVSC})


def _stacked(uppers: Iterable[UpperState], ifindex: int, kinds: Collection[str]) -> frozenset[int]:
    gone = {ifindex}
    for upper in uppers:
        if upper.lower in gone and upper.kind in kinds:
            gone.add(upper.ifindex)
    return frozenset(gone - {ifindex})


def own_address(body: bytes, lower: bytes | None) -> bool:
    """Whether a device has a MAC address of its own, not that of its lower (`lower`, a message)."""
    link = IfLink(body)
    if link.kind not in _INHERIT or lower is None:
        return True
    return link.mac != IfLink(lower).mac
