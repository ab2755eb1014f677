"""RTM_NEWLINK messages: what a link is, and the requests that set it up, down or active.

Layouts and numbers: include/uapi/linux/{rtnetlink,if_link,if_vlan,if_bonding}.h.
"""

import struct
import sys
from typing import Self

from manactl.model.named_tuple import NamedTuple
from manactl.model.port import IFF_UP
from manactl.wire.attrs import as_int, as_str, attr_str, attr_u32, iter_attrs, nest, parse_attrs

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWQDISC, RTM_GETQDISC = 36, 38
RTM_NEWLINKPROP, RTM_DELLINKPROP = 108, 109

IFF_RUNNING = 0x40  # include/uapi/linux/if.h
IFLA_ADDRESS, IFLA_IFNAME, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 5, 10, 18
IFLA_MTU, IFLA_PROTINFO, IFLA_TXQLEN, IFLA_IFALIAS, IFLA_GROUP = 4, 12, 13, 20, 27
IFLA_EXT_MASK, IFLA_CARRIER, IFLA_LINK_NETNSID, IFLA_XDP = 29, 33, 37, 43
IFLA_GSO_MAX_SEGS, IFLA_GSO_MAX_SIZE, IFLA_GRO_MAX_SIZE = 40, 41, 58
IFLA_GSO_IPV4_MAX_SIZE, IFLA_GRO_IPV4_MAX_SIZE = 63, 64
IFLA_PROP_LIST, IFLA_ALT_IFNAME, IFLA_PERM_ADDRESS = 52, 53, 54
IFLA_PARENT_DEV_NAME, IFLA_PARENT_DEV_BUS_NAME = 56, 57  # from Linux 5.14 on
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_BR_FORWARD_DELAY, IFLA_BR_STP_STATE, IFLA_BRPORT_STATE = 1, 5, 1
IFLA_BOND_MODE, IFLA_BOND_AD_LACP_RATE, IFLA_BOND_SLAVE_AD_ACTOR_OPER_PORT_STATE = 1, 21, 7
IFLA_XDP_ATTACHED = 2
IFLA_VLAN_ID, IFLA_VLAN_FLAGS, IFLA_VLAN_PROTOCOL = 1, 2, 5
IFLA_AF_SPEC, IFLA_INET6_ADDR_GEN_MODE, AF_INET6 = 26, 8, 10
IFLA_VXLAN_LINK = 3
IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES = 31, 32
IFLA_BOND_ACTIVE_SLAVE, IFLA_BOND_MIIMON, IFLA_BOND_UPDELAY, IFLA_BOND_ARP_INTERVAL = 2, 3, 4, 7
IFLA_BOND_SLAVE_MII_STATUS = 2
IFLA_VRF_TABLE = 1
VLAN_FLAG_LOOSE_BINDING = 0x4
RTEXT_FILTER_SKIP_STATS = 1 << 3

IFINFO = struct.Struct("=BxHiII")
TCMSG = struct.Struct("=BxxxiIII")  # struct tcmsg: family, ifindex, handle, parent, info
TCA_KIND, TCA_OPTIONS = 1, 2
TC_H_ROOT = 0xFFFFFFFF


class IfInfoMsg(NamedTuple):
    """struct ifinfomsg, the header of every link message."""

    family: int = 0
    type: int = 0
    ifindex: int = 0
    flags: int = 0
    change: int = 0

    def pack(self) -> bytes:
        return IFINFO.pack(*self)

    @classmethod
    def of(cls, body: bytes) -> Self:
        """struct.error when the body is shorter."""
        return cls._make(IFINFO.unpack_from(body))


class VlanInfo(NamedTuple):
    """What distinguishes VLANs of one lower device, and whether their IFF_UP follows its own
    (vlan_device_event())."""

    id: int
    protocol: int
    loose_binding: bool


class IfLink:
    """One link as RTM_NEWLINK shows it; attributes are decoded when asked for.

    None is what the kernel did not send. ValueError when the message is broken.
    """

    __slots__ = ("_attrs", "_info", "flags", "ifindex")

    def __init__(self, body: bytes) -> None:
        head = IfInfoMsg.of(body)
        self.ifindex, self.flags = head.ifindex, head.flags
        self._attrs = parse_attrs(body, IFINFO.size)
        self._info = parse_attrs(self._attrs.get(IFLA_LINKINFO, b""))

    @property
    def up(self) -> bool:
        return bool(self.flags & IFF_UP)

    @property
    def name(self) -> str:
        return as_str(self._attrs.get(IFLA_IFNAME, b""))

    @property
    def altnames(self) -> tuple[str, ...]:
        names = iter_attrs(self._attrs.get(IFLA_PROP_LIST, b""))
        return tuple(as_str(name) for which, name in names if which == IFLA_ALT_IFNAME)

    @property
    def mac(self) -> str | None:
        return self._mac(IFLA_ADDRESS)

    @property
    def permanent_mac(self) -> str | None:
        return self._mac(IFLA_PERM_ADDRESS)

    @property
    def carrier(self) -> bool | None:
        number = self._number(IFLA_CARRIER)
        return None if number is None else bool(number)

    @property
    def lower(self) -> int | None:
        """IFLA_LINK: what it is stacked on, its other end, or where a tunnel sends."""
        return self._number(IFLA_LINK)

    @property
    def lower_netnsid(self) -> int | None:
        """The number of the namespace that `lower` counts in, when that is another one."""
        raw = self._attrs.get(IFLA_LINK_NETNSID)
        return None if raw is None else int.from_bytes(raw, sys.byteorder, signed=True)

    @property
    def master(self) -> int | None:
        return self._number(IFLA_MASTER)

    @property
    def parent(self) -> str | None:
        """The device that it belongs to, a PCI address for a port."""
        raw = self._attrs.get(IFLA_PARENT_DEV_NAME)
        return None if raw is None else as_str(raw)

    @property
    def vmbus(self) -> str | None:
        """The UUID of the VMBus device that it belongs to: it is hv_netvsc's then."""
        bus = self._attrs.get(IFLA_PARENT_DEV_BUS_NAME)
        return self.parent if bus is not None and as_str(bus) == "vmbus" else None

    @property
    def kind(self) -> str | None:
        raw = self._info.get(IFLA_INFO_KIND)
        return None if raw is None else as_str(raw)

    @property
    def xdp_mode(self) -> int:
        """How an XDP program is attached; 0: none is."""
        xdp = parse_attrs(self._attrs.get(IFLA_XDP, b""))
        return as_int(xdp.get(IFLA_XDP_ATTACHED, b""))

    @property
    def vlan(self) -> VlanInfo | None:
        """None for what is no VLAN."""
        data = self._data("vlan")
        if data is None:
            return None
        flags = as_int(data.get(IFLA_VLAN_FLAGS, b"")[:4])  # struct ifla_vlan_flags: flags, mask
        return VlanInfo(
            as_int(data.get(IFLA_VLAN_ID, b"")),
            int.from_bytes(data.get(IFLA_VLAN_PROTOCOL, b"\x81\0"), "big"),
            bool(flags & VLAN_FLAG_LOOSE_BINDING),
        )

    @property
    def active_slave(self) -> int | None:
        """The ifindex of a bond's active slave; None: it has none, or is no bond."""
        raw = (self._data("bond") or {}).get(IFLA_BOND_ACTIVE_SLAVE)
        return None if raw is None else as_int(raw)

    @property
    def vrf_table(self) -> int | None:
        raw = (self._data("vrf") or {}).get(IFLA_VRF_TABLE)
        return None if raw is None else as_int(raw)

    @property
    def data(self) -> dict[int, bytes]:
        """IFLA_INFO_DATA, whose attributes mean something else in each kind."""
        return parse_attrs(self._info.get(IFLA_INFO_DATA, b""))

    @property
    def member_kind(self) -> str | None:
        """The kind of its master, as that shows what the link is in it."""
        raw = self._info.get(IFLA_INFO_SLAVE_KIND)
        return None if raw is None else as_str(raw)

    @property
    def member_data(self) -> dict[int, bytes]:
        return parse_attrs(self._info.get(IFLA_INFO_SLAVE_DATA, b""))

    @property
    def vxlan_link(self) -> int | None:
        """The ifindex of the netdev that a VXLAN was made with (`dev`), which IFLA_LINK has not."""
        raw = (self._data("vxlan") or {}).get(IFLA_VXLAN_LINK)
        return None if raw is None else as_int(raw)

    def _data(self, kind: str) -> dict[int, bytes] | None:
        return self.data if self.kind == kind else None

    def _number(self, kind: int) -> int | None:
        raw = self._attrs.get(kind)
        return None if raw is None else as_int(raw)

    def _mac(self, kind: int) -> str | None:
        raw = self._attrs.get(kind)
        return raw.hex(":") if raw else None


# --- bodies of requests --------------------------------------------------------------------


def get_link(ifindex: int = 0) -> bytes:
    """RTM_GETLINK, of one link or (in a dump) of all, without the counters."""
    mask = attr_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    return IfInfoMsg(ifindex=ifindex).pack() + mask


def set_admin(ifindex: int, up: bool) -> bytes:
    """RTM_NEWLINK that sets or clears IFF_UP."""
    return IfInfoMsg(ifindex=ifindex, flags=IFF_UP if up else 0, change=IFF_UP).pack()


def sync_rx_mode(ifindex: int) -> bytes:
    """RTM_NEWLINK that changes nothing, but has the kernel work out again which addresses the link
    has to receive (dev_set_rx_mode() in __dev_change_flags()). IFF_RUNNING cannot be set."""
    return IfInfoMsg(ifindex=ifindex, change=IFF_RUNNING).pack()


def rename(ifindex: int, name: str) -> bytes:
    """RTM_NEWLINK that gives a link another name."""
    return IfInfoMsg(ifindex=ifindex).pack() + attr_str(IFLA_IFNAME, name)


def altname(ifindex: int, name: str) -> bytes:
    """RTM_NEWLINKPROP or RTM_DELLINKPROP of one more name of a link."""
    names = nest(IFLA_PROP_LIST, attr_str(IFLA_ALT_IFNAME, name))
    return IfInfoMsg(ifindex=ifindex).pack() + names


def activate_slave(bond: int, slave: int) -> bytes:
    """RTM_NEWLINK that makes a slave the bond's active one."""
    data = nest(IFLA_INFO_DATA, attr_u32(IFLA_BOND_ACTIVE_SLAVE, slave))
    info = nest(IFLA_LINKINFO, attr_str(IFLA_INFO_KIND, "bond"), data)
    return IfInfoMsg(ifindex=bond).pack() + info
