"""A kernel in memory, as far as ports, their addresses and their queue pairs go.

It has its own idea of all of it: messages are taken apart and made here, and what is "the same
address" is decided here, by include/uapi/linux/{if_addr,rtnetlink,neighbour,nexthop}.h and by what
`ip` shows, so that the product's idea of sameness is compared with another one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from manactl.netstate.link_settings import LinkSettings, Qdisc

if TYPE_CHECKING:
    from manactl.netstate.beside import Beside
    from tests.unit.manager import FakeManager

ADDRESS, ROUTE, NEIGHBOUR, NEXTHOP = "address", "route", "neighbour", "nexthop"
NEW = {20: ADDRESS, 24: ROUTE, 28: NEIGHBOUR, 104: NEXTHOP}
DEL = {21: ADDRESS, 25: ROUTE, 29: NEIGHBOUR, 105: NEXTHOP}
REPLACE, EXCL, CREATE = 0x100, 0x200, 0x400
HEADS = {ADDRESS: "=BBBBI", ROUTE: "=BBBBBBBBI", NEIGHBOUR: "=BBHiHBB", NEXTHOP: "=BBBBI"}
AF_INET, AF_INET6 = 2, 10
FOREVER = 0xFFFFFFFF
# IFA_F_NODAD, HOMEADDRESS, MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN: what `ip` can set.
SETTABLE = 0x02 | 0x10 | 0x100 | 0x200 | 0x400


class Message(NamedTuple):
    """One rtnetlink message, its attributes by type."""

    kind: str
    head: tuple[int, ...]
    attrs: dict[int, bytes]

    @classmethod
    def parse(cls, kind: str, body: bytes) -> Message:
        head = struct.unpack_from(HEADS[kind], body)
        attrs, at = {}, struct.calcsize(HEADS[kind])
        while at + 4 <= len(body):
            length, number = struct.unpack_from("=HH", body, at)
            assert 4 <= length <= len(body) - at, "a message that the kernel would refuse"
            attrs[number & 0x3FFF] = body[at + 4 : at + length]
            at += (length + 3) & ~3
        return cls(kind, head, attrs)

    def pack(self) -> bytes:
        parts = [struct.pack(HEADS[self.kind], *self.head)]
        for number, payload in self.attrs.items():
            parts.append(struct.pack("=HH", len(payload) + 4, number) + payload)
            parts.append(bytes(-len(payload) % 4))
        return b"".join(parts)

    def u32(self, number: int) -> int | None:
        return int.from_bytes(self.attrs[number], "little") if number in self.attrs else None

    @property
    def family(self) -> int:
        return self.head[0]

    @property
    def device(self) -> int | None:
        """The ifindex that the message names itself."""
        if self.kind == ADDRESS:
            return self.head[4]
        if self.kind == NEIGHBOUR:
            return self.head[3]
        return self.u32(4 if self.kind == ROUTE else 5)  # RTA_OIF, NHA_OIF

    def on(self, ifindex: int, name: str) -> Message:
        """The same, of a netdev with this number and name."""
        attrs = dict(self.attrs)
        head = list(self.head)
        if self.kind == ADDRESS:
            head[4] = ifindex
            if 3 in attrs:
                attrs[3] = name.encode() + b"\0"
        elif self.kind == NEIGHBOUR:
            head[3] = ifindex
        elif (number := 4 if self.kind == ROUTE else 5) in attrs:
            attrs[number] = struct.pack("=I", ifindex)
        return Message(self.kind, tuple(head), attrs)

    @property
    def members(self) -> set[int]:
        """The ids in NHA_GROUP."""
        group = self.attrs.get(2, b"") if self.kind == NEXTHOP else b""
        return {struct.unpack_from("=I", group, at)[0] for at in range(0, len(group), 8)}


def meaning(message: Message, names: dict[int, str]) -> tuple[object, ...]:
    """What an operator configured, in words that do not depend on ifindexes: equal for equal."""
    a = message.attrs
    on = names.get(message.device or -1, message.device)
    if message.kind == ADDRESS:
        family, length, flags, scope, _ = message.head
        flags = message.u32(8) or flags
        valid = struct.unpack_from("=II", a[6])[1] if 6 in a else FOREVER
        label = a.get(3, b"").rstrip(b"\0").decode()
        suffix = label.partition(":")[2]
        local = a.get(2, a.get(1))
        return (
            ADDRESS, on, family, length, scope, local, a.get(1), flags & SETTABLE,
            valid == FOREVER, suffix, a.get(9), a.get(11), a.get(4),
        )  # fmt: skip
    if message.kind == ROUTE:
        family, length, source, tos, _, proto, scope, kind, flags = message.head
        by_object = 30 in a
        cache = a.get(12)
        expires = 23 in a or bool(cache and struct.unpack_from("=i", cache, 8)[0])
        via = None if by_object else (on, a.get(5), a.get(18), a.get(9), flags & 0x6)
        return (
            ROUTE, family, length, source, tos, proto, scope, kind, a.get(1), message.u32(15),
            a.get(6), a.get(7), a.get(8), message.u32(30), via, expires, a.get(999),
        )  # fmt: skip
    if message.kind == NEIGHBOUR:
        family, _, _, _, state, flags, _ = message.head
        return (NEIGHBOUR, on, family, state, flags, a.get(1), a.get(2))
    family, _, proto, _, flags = message.head
    group = tuple(sorted(message.members))
    return (NEXTHOP, message.u32(1), family, proto, flags & 4, on, a.get(6), group)


def same_thing(one: Message, other: Message) -> bool:
    """Whether the kernel would take one for the other: EEXIST, or a replacement."""
    if one.kind != other.kind or one.family != other.family:
        return one.kind == other.kind == NEXTHOP and one.attrs[1] == other.attrs[1]
    if one.kind == ADDRESS:
        local = [m.attrs.get(2, m.attrs.get(1)) for m in (one, other)]
        return (
            local[0] == local[1]
            and one.attrs.get(1) == other.attrs.get(1)
            and (one.head[1], one.device) == (other.head[1], other.device)
        )
    if one.kind == NEXTHOP:
        return one.attrs[1] == other.attrs[1]
    if one.kind == NEIGHBOUR:
        proxy = (one.head[5] & 8) == (other.head[5] & 8)
        return proxy and one.device == other.device and one.attrs.get(1) == other.attrs.get(1)
    return meaning(one, {}) == meaning(other, {})


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type without its nested bit, and payload."""
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += (length + 3) & ~3


@dataclass
class Nic:
    """One port of the device: a vport with a netdev."""

    number: int = 1
    name: str = "eth1"
    ifindex: int = 3
    mac: str = "00:0d:3a:aa:00:10"
    pci: str = "7870:00:00.0"
    up: bool = False
    present: bool = True  # its netdev is here
    cable: bool = True
    rdma: str | None = "manae_0"
    master: tuple[str, str] | None = None  # name and kind
    resetting: bool = False
    eqs_lost: bool = False
    holders: list[int] = field(default_factory=list)  # pids with a raw QP
    leaked: bool = False  # nobody has the vport, and the driver's count says otherwise
    mtu: int = 1500
    alias: str = ""
    promisc: bool = False
    altnames: list[str] = field(default_factory=list)
    rp_filter: str = "0"
    addr_gen_mode: str = "0"
    prio: bool = False  # a root qdisc of that kind, by somebody

    frames: int = 0  # since it was opened

    @property
    def taken(self) -> bool:
        return bool(self.holders) or self.leaked


UUID = "000d3aaa-0010-000d-3aaa-0010000d3aaa"


@dataclass
class Synthetic:
    """The netdev of hv_netvsc above a port; `slow` counts the frames of its own path."""

    vf: Nic
    name: str = "eth0"
    ifindex: int = 40
    uuid: str = UUID
    up: bool = False
    cable: bool = True
    present: bool = True
    enslaves: bool = True  # the port is its VF: else hv_netvsc has not found it
    asks: bool = True  # the host is asked for the VF's path when that is opened
    quiet: bool = False  # nobody sends anything
    slow: int = 0
    driver: str | None = "hv_netvsc"  # of its VMBus device
    override: str | None = None  # the only driver that may have it
    offered: bool = True  # the host has that device
    opened: list[int] = field(default_factory=list)  # pids with its uio device
    unseen: bool = False  # a process of another pid namespace has it

    @property
    def number(self) -> int:
        return 0x40 + self.vf.number

    @property
    def path(self) -> str:
        """Where its frames go."""
        return "vf" if self.vf.up and self.enslaves and self.asks else "synthetic"

    def sends(self) -> None:
        """A frame, if it is up and anybody wants to send one."""
        if not self.up or self.quiet:
            return
        if self.path == "vf":
            self.vf.frames += 1
        else:
            self.slow += 1


class Kernel:
    """What outlives every manactl."""

    def __init__(self, *nics: Nic, synthetics: Iterable[Synthetic] = ()) -> None:
        self.nics = list(nics) or [Nic()]
        self.synthetics = list(synthetics)
        self.log: list[str] = []
        self.managers: list[FakeManager] = []  # programs that configure its netdevs
        self.beside: list[Beside] = []  # policy rules and the like, of nobody's device
        self.takes_network = False  # uio_hv_generic: the class was written to its new_id
        self.messages: list[Message] = []
        self.clock = 1000.0
        self.links: list[tuple[str, str]] = []  # every change of IFF_UP, by manactl or not
        self.sysctls: dict[str, str] = {}
        self.killed: list[int] = []  # pids that got SIGTERM
        self.stubborn: set[int] = set()  # pids that do not end of it

    def nic(self, name: str) -> Nic:
        return next(one for one in self.nics if one.name == name)

    @property
    def names(self) -> dict[int, str]:
        """By what a message is told apart: its port, whatever the netdev is called."""
        return {one.ifindex: f"port {one.number}" for one in self.devices}

    @property
    def devices(self) -> list[Nic | Synthetic]:
        return [*self.nics, *self.synthetics]

    def above(self, nic: Nic) -> Synthetic | None:
        """The synthetic netdev that the port is the VF of."""
        return next((one for one in self.synthetics if one.vf is nic and one.enslaves), None)

    def to_join(self, nic: Nic) -> Synthetic | None:
        """The one that the port is to be the VF of, and is not."""
        mine = (one for one in self.synthetics if one.vf is nic and one.present and nic.present)
        return next((one for one in mine if not one.enslaves), None)

    def synthetic(self, uuid: str) -> Synthetic | None:
        return next((one for one in self.synthetics if one.uuid == uuid and one.present), None)

    def picture(self) -> tuple[object, ...]:
        """All that an operator could see, IPv6 addresses in their order, which counts."""
        shown = [meaning(one, self.names) for one in self.messages]
        six = [one for one in shown if one[0] == ADDRESS and one[2] == AF_INET6]
        orders = [[one for one in six if one[1:5:3] == key] for key in {o[1:5:3] for o in six}]
        ups = tuple(sorted((one.number, one.up) for one in self.devices))
        return (ups, sorted(map(repr, shown)), sorted(map(repr, orders)))

    # --- links ------------------------------------------------------------------------------

    def set_up(self, nic: Nic, up: bool) -> None:
        if up and nic.taken:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        if nic.up is up:
            return
        nic.up, nic.frames = up, 0
        self.links.append((nic.name, "up" if up else "down"))
        if up:
            self._open(nic)
        else:
            self._close(nic)

    def unbind(self, one: Synthetic) -> None:
        """netvsc_remove(): the netdev goes with everything on it; the VF stays as it is."""
        if one.driver == "hv_netvsc":
            one.present = one.enslaves = one.up = False
            self.messages = [m for m in self.messages if m.device != one.ifindex]
        one.driver = None

    def bind(self, one: Synthetic, driver: str) -> None:
        """netvsc_probe(): another netdev, which is down, and closes its VF."""
        if one.driver is not None or not one.offered:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        if one.override not in (None, driver):
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        if driver == "uio_hv_generic" and not self.takes_network:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        one.driver = driver
        if driver == "hv_netvsc":
            one.present = one.enslaves = True
            one.ifindex, one.name = one.ifindex + 100, "eth9"
            if one.vf.present:
                self.set_up(one.vf, False)

    def set_synthetic(self, one: Synthetic, up: bool) -> None:
        """netvsc_open() and netvsc_close(): the VF goes with it, and its failure is only logged."""
        if one.up is up:
            return
        one.up = up
        self.links.append((one.name, "up" if up else "down"))
        if up:
            self._open(one)
        if one.enslaves and one.vf.present:
            try:
                self.set_up(one.vf, up)
            except OSError as error:
                self.log.append(f"unable to open slave: {one.vf.name}: -{error.errno}")
        if not up:
            self._close(one)

    def service(self, nic: Nic, ifindex: int) -> None:
        """The host takes the VF away and brings it back, which hv_netvsc opens if it is up."""
        self.unplug(nic)
        self.replug(nic, nic.name, ifindex)
        above = self.above(nic)
        if above is not None and above.up:
            with contextlib.suppress(OSError):
                self.set_up(nic, True)

    def _close(self, nic: Nic | Synthetic) -> None:
        """fib_netdev_event(), addrconf_ifdown(), nexthop_flush_dev(): IPv4 addresses stay."""
        gone = {m.u32(1) for m in self.messages if m.kind == NEXTHOP and m.device == nic.ifindex}
        keep = []
        for one in self.messages:
            if one.kind == ADDRESS and one.family == AF_INET:
                keep.append(one)
            elif one.kind == NEXTHOP and one.members:
                left = one.members - gone
                if left == one.members:
                    keep.append(one)
                elif left:
                    group = b"".join(struct.pack("=IBBH", n, 0, 0, 0) for n in sorted(left))
                    keep.append(one._replace(attrs={**one.attrs, 2: group}))
            elif one.device != nic.ifindex and not (one.kind == ROUTE and one.u32(30) in gone):
                keep.append(one)
        groups = {m.u32(1) for m in self.messages if m.members} - {
            m.u32(1) for m in keep if m.members
        }
        self.messages = [m for m in keep if not (m.kind == ROUTE and m.u32(30) in groups)]

    def _open(self, nic: Nic | Synthetic) -> None:
        """The connected routes, and the generated link-local address."""
        raw = bytes.fromhex("fe80" + "00" * 13 + f"{nic.number:02x}")
        times = struct.pack("=IIII", FOREVER, FOREVER, 1, 1)
        attrs = {1: raw, 6: times, 8: struct.pack("=I", 0x80), 11: b"\3"}
        made = Message(ADDRESS, (AF_INET6, 64, 0x80, 253, nic.ifindex), attrs)
        if not any(same_thing(made, one) for one in self.messages):
            self._insert(made)
        for one in list(self.messages):
            if one.kind == ADDRESS and one.device == nic.ifindex:
                self._connect(one)

    def _connect(self, address: Message) -> None:
        family, length, flags, _, index = address.head
        raw = address.attrs.get(2, address.attrs.get(1, b""))
        bits = len(raw) * 8
        number = int.from_bytes(raw, "big") >> (bits - length) << (bits - length)
        flags = address.u32(8) or flags
        routes = [(raw, bits, 255, 2)]  # RT_TABLE_LOCAL, RTN_LOCAL
        if not flags & 0x200:
            routes.append((number.to_bytes(len(raw), "big"), length, 254, 1))
        for dst, size, table, kind in routes:
            head = (family, size, 0, 0, min(table, 252), 2, 0, kind, 0)
            attrs = {15: struct.pack("=I", table), 1: dst, 4: struct.pack("=I", index)}
            route = Message(ROUTE, head, attrs)
            if not any(same_thing(route, one) for one in self.messages):
                self.messages.append(route)

    def rename(self, nic: Nic | Synthetic, name: str, ifindex: int) -> None:
        """The netdev gets another name and number, with all that is on it."""
        was = nic.ifindex
        self.messages = [m.on(ifindex, name) if m.device == was else m for m in self.messages]
        nic.name, nic.ifindex = name, ifindex

    def unplug(self, nic: Nic) -> None:
        """The netdev goes with everything on it, and comes back as another one."""
        nic.present = False
        self.messages = [one for one in self.messages if one.device != nic.ifindex]

    def replug(self, nic: Nic, name: str, ifindex: int) -> None:
        nic.present, nic.up, nic.name, nic.ifindex = True, False, name, ifindex
        nic.mtu, nic.alias, nic.promisc, nic.altnames = 1500, "", False, []
        nic.rp_filter, nic.addr_gen_mode, nic.prio = "0", "0", False

    def settings_of(self, nic: Nic) -> LinkSettings:
        """What a dump and the sysctl trees show of the netdev itself."""
        attributes = {4: struct.pack("=I", nic.mtu), 20: nic.alias.encode() + b"\0"}
        return LinkSettings(
            0x1000 | 0x100 * nic.promisc,
            attributes if nic.alias else {4: attributes[4]},
            tuple(nic.altnames),
            sysctls={
                ("net/ipv4/conf", "rp_filter"): nic.rp_filter,
                ("net/ipv6/conf", "addr_gen_mode"): nic.addr_gen_mode,
            },
            qdiscs=(Qdisc(0x10000, 0xFFFFFFFF, "prio", None),) if nic.prio else (),
        )

    def _set_link(self, number: int, body: bytes) -> None:
        """do_setlink(), rtnl_newlinkprop(), tc_modify_qdisc()."""
        index = struct.unpack_from("=i", body, 4)[0]
        for one in self.synthetics:
            attrs = dict(_attributes(body[16:]))
            if one.ifindex == index and number == 16 and list(attrs) == [3]:
                one.name = attrs[3].rstrip(b"\0").decode()
                return
            if one.ifindex == index and number == 16:
                assert struct.unpack_from("=I", body, 12)[0] == 1, "no more than IFF_UP"
                self.set_synthetic(one, bool(struct.unpack_from("=I", body, 8)[0] & 1))
                return
        nic = next(one for one in self.nics if one.ifindex == index and one.present)
        if number == 36:
            nic.prio = True
            return
        _, _, _, _, flags, change = struct.unpack_from("=BBHiII", body)
        if change & 0x100:
            nic.promisc = bool(flags & 0x100)
        attrs = dict(_attributes(body[16:]))
        if 4 in attrs:
            mtu = struct.unpack("=I", attrs[4])[0]
            if mtu > 4000:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            nic.mtu = mtu
        if 20 in attrs:
            nic.alias = attrs[20].rstrip(b"\0").decode()
        if 26 in attrs:  # IFLA_AF_SPEC, AF_INET6, IFLA_INET6_ADDR_GEN_MODE
            ((family, spec),) = _attributes(attrs[26])
            ((kind, mode),) = _attributes(spec)
            assert (family & 0x3FFF, kind) == (10, 8)
            nic.addr_gen_mode = str(mode[0])
        if 52 in attrs:
            assert number == 108
            nic.altnames += [text.rstrip(b"\0").decode() for _, text in _attributes(attrs[52])]

    # --- what a request does ----------------------------------------------------------------

    def send(self, number: int, flags: int, body: bytes) -> None:
        assert not flags & 0xFF, "NLM_F_REQUEST and the like are the socket's"
        if number in DEL:
            self._delete(Message.parse(DEL[number], body))
            return
        if number == 32:  # RTM_NEWRULE
            self._add_rule(body)
            return
        if number in (16, 108, 36):
            self._set_link(number, body)
            return
        made = Message.parse(NEW[number], body)
        nic = next((one for one in self.devices if one.ifindex == made.device), None)
        if made.device is not None and nic is None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        if made.kind != ADDRESS and nic is not None and not nic.up:
            raise OSError(errno.ENETDOWN, os.strerror(errno.ENETDOWN))
        if made.kind == ROUTE and (by := made.u32(30)) is not None:
            made = self._by_object(made, by)
        if made.members - {m.u32(1) for m in self.messages if m.kind == NEXTHOP}:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        there = [one for one in self.messages if same_thing(one, made)]
        if there and (made.kind == ROUTE or flags & EXCL or not flags & REPLACE):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        if there:
            at = self.messages.index(there[0])
            self.messages[at] = self._shown(made)
        else:
            self._insert(self._shown(made))
        if made.kind == ADDRESS and nic is not None and nic.up:
            self._connect(made)

    def _add_rule(self, body: bytes) -> None:
        from manactl.netstate.beside import Beside, Kind  # noqa: PLC0415 - values only

        if any(one.body == body for one in self.beside):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        self.beside.append(Beside(Kind.RULE, body))

    def _by_object(self, route: Message, number: int) -> Message:
        """A dump shows the device of the nexthop, too; a request must not."""
        assert not {4, 5, 9}.intersection(route.attrs), "EINVAL: a nexthop id and a device"
        hops = [m for m in self.messages if m.kind == NEXTHOP and m.u32(1) == number]
        if not hops:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        out = hops[0].attrs.get(5)
        return route._replace(attrs=route.attrs if out is None else {**route.attrs, 4: out})

    def _shown(self, made: Message) -> Message:
        """As a dump shows it: with what the kernel adds."""
        if made.kind == ADDRESS:
            times = made.attrs.get(6, struct.pack("=IIII", FOREVER, FOREVER, 0, 0))
            valid = struct.unpack_from("=II", times)[1]
            flags = (made.u32(8) or made.head[2]) & SETTABLE
            flags |= 0x80 if valid == FOREVER else 0
            family, length, _, scope, index = made.head
            attrs = {**made.attrs, 6: times[:8] + struct.pack("=II", 12, 34)}
            attrs[8] = struct.pack("=I", flags)
            return Message(ADDRESS, (family, length, flags & 0xFF, scope, index), attrs)
        if made.kind == ROUTE and 23 in made.attrs:  # RTA_EXPIRES
            attrs = {n: a for n, a in made.attrs.items() if n != 23}
            left = (made.u32(23) or 0) * 100
            attrs[12] = struct.pack("=IIiIIIII", 0, 0, left, 0, 0, 0, 0, 0)
            return made._replace(attrs=attrs)
        if made.kind == NEIGHBOUR and not made.head[5] & 8:
            return made._replace(attrs={**made.attrs, 3: bytes(16)})
        return made

    def _insert(self, made: Message) -> None:
        """ipv6_link_dev_addr(): before the elders of its scope."""
        six = made.kind == ADDRESS and made.family == AF_INET6
        at = len(self.messages)
        if six:
            elders = [
                n for n, one in enumerate(self.messages)
                if one.kind == ADDRESS and one.family == AF_INET6
                and (one.device, one.head[3]) == (made.device, made.head[3])
            ]  # fmt: skip
            at = elders[0] if elders else at
        self.messages.insert(at, made)

    def _delete(self, message: Message) -> None:
        there = [one for one in self.messages if same_thing(one, message)]
        if not there:
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        self.messages.remove(there[0])
        if message.kind == ADDRESS:
            raw = message.attrs.get(2, message.attrs.get(1))
            self.messages = [
                m for m in self.messages
                if not (m.kind == ROUTE and m.head[7] == 2 and m.attrs.get(1) == raw)
            ]  # fmt: skip

    def add(self, kind: str, body: bytes) -> None:
        """As `ip` would: whatever is there already stays."""
        made = Message.parse(kind, body)
        if not any(same_thing(made, one) for one in self.messages):
            self._insert(made)
            nic = next((one for one in self.devices if one.ifindex == made.device), None)
            if kind == ADDRESS and nic is not None and nic.up:
                self._connect(made)

    def of(
        self, nic: Nic, nexthops: frozenset[int] = frozenset(), *more: Synthetic
    ) -> Iterator[Message]:
        """All that the kernel may drop when these netdevs go down, in the order of its dumps."""
        mine = {nic.ifindex, *(one.ifindex for one in more)}
        ids = {m.u32(1) for m in self.messages if m.kind == NEXTHOP and m.device in mine}
        ids |= {m.u32(1) for m in self.messages if m.members & ids}
        singles = [m for m in self.messages if m.kind == NEXTHOP and not m.members]
        groups = [m for m in self.messages if m.members]
        for one in self.messages:
            if one.kind == ADDRESS and one.device in mine:
                yield one
        for one in singles + groups:
            if one.u32(1) in ids or one.u32(1) in nexthops:
                yield one
        for one in self.messages:
            by = one.u32(30) if one.kind == ROUTE else None
            if one.kind == ROUTE and (one.device in mine or (by in ids and by)):
                yield one
        for one in self.messages:
            if one.kind == NEIGHBOUR and one.device in mine:
                yield one
