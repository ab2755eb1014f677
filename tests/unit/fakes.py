"""A kernel in memory, as far as a port's network state goes, and ways for it to fail or die."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection
from dataclasses import dataclass, field

from manactl.act.plan import NetdevNow
from manactl.model.port import Evidence, Holder, PortId
from manactl.netstate import diff, snapshot
from manactl.netstate.snapshot import Fact, Kind, PortState, Request
from manactl.wire import rtmsg as rt
from manactl.wire.netlink import NLM_F_EXCL
from manactl.wire.rtmsg import Attr

PORT = PortId("7870:00:00.0", 1, "00:0d:3a:aa:00:10")


class Killed(BaseException):
    """kill -9: nothing of this process runs any more, unwinding neither."""


def u32(value: int) -> bytes:
    return struct.pack("=I", value)


def times(preferred: int = rt.FOREVER, valid: int = rt.FOREVER) -> bytes:
    return struct.pack("=IIII", preferred, valid, 12, 34)


def address(
    text: str, length: int, ifindex: int = 3, *, name: str = "eth1", flags: int = 0,
    valid: int = rt.FOREVER, proto: int | None = None,
) -> Fact:  # fmt: skip
    """As a dump has it: PERMANENT set, an old-style header, attributes in the kernel's order."""
    six = ":" in text
    raw = socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, text)
    flags |= 0x80 if valid == rt.FOREVER else 0
    attrs = [Attr(rt.IFA_ADDRESS, raw)]
    if not six:
        attrs += [Attr(rt.IFA_LOCAL, raw), Attr(rt.IFA_LABEL, name.encode() + b"\0")]
    attrs.append(Attr(rt.IFA_CACHEINFO, times(valid, valid)))
    attrs.append(Attr(rt.IFA_FLAGS, u32(flags)))
    if proto is not None:
        attrs.append(Attr(rt.IFA_PROTO, bytes([proto])))
    scope = 253 if text.startswith("fe80") else 0
    family = socket.AF_INET6 if six else socket.AF_INET
    head = rt.IFADDR.pack(family, length, flags & 0xFF, scope, ifindex)
    return Fact(Kind.ADDRESS, rt.join(head, attrs))


def route(
    text: str, length: int, ifindex: int = 3, *, via: str | None = None, table: int = 254,
    proto: int = 4, kind: int = rt.RTN_UNICAST, metric: int = 0, flags: int = 0,
    nhid: int | None = None, expires: int | None = None,
) -> Fact:  # fmt: skip
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    attrs = [Attr(rt.RTA_TABLE, u32(table))]
    if length:
        attrs.append(Attr(rt.RTA_DST, socket.inet_pton(family, text)))
    if metric:
        attrs.append(Attr(rt.RTA_PRIORITY, u32(metric)))
    if via:
        attrs.append(Attr(rt.RTA_GATEWAY, socket.inet_pton(family, via)))
    if nhid is not None:
        attrs.append(Attr(rt.RTA_NH_ID, u32(nhid)))
    attrs.append(Attr(rt.RTA_OIF, u32(ifindex)))
    if expires is not None:
        cache = struct.pack("=IIiIIIII", 0, 0, expires * 100, 0, 0, 0, 0, 0)
        attrs.append(Attr(rt.RTA_CACHEINFO, cache))
    attrs.append(Attr(999, b"unknown to us"))
    head = rt.RTMSG.pack(family, length, 0, 0, min(table, 252), proto, 0, kind, flags)
    return Fact(Kind.ROUTE, rt.join(head, attrs))


def neighbour(text: str, ifindex: int = 3, *, proxy: bool = False) -> Fact:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    attrs = [Attr(rt.NDA_DST, socket.inet_pton(family, text))]
    if not proxy:
        attrs += [Attr(rt.NDA_LLADDR, b"\x02\0\0\0\0\x50"), Attr(3, bytes(16))]
    state = 0 if proxy else rt.NUD_PERMANENT
    flags = rt.NTF_PROXY if proxy else 0
    return Fact(
        Kind.NEIGHBOUR, rt.join(rt.NDMSG.pack(family, 0, 0, ifindex, state, flags, 1), attrs)
    )


def nexthop(number: int, ifindex: int | None = 3, group: tuple[int, ...] = ()) -> Fact:
    attrs = [Attr(rt.NHA_ID, u32(number))]
    if group:
        members = b"".join(struct.pack("=IBBH", one, 0, 0, 0) for one in group)
        attrs.append(Attr(rt.NHA_GROUP, members))
    elif ifindex is not None:
        attrs.append(Attr(rt.NHA_OIF, u32(ifindex)))
    family = 0 if group else socket.AF_INET
    return Fact(Kind.NEXTHOP, rt.join(rt.NHMSG.pack(family, 253, 4, 0, 0), attrs))


@dataclass(frozen=True)
class FakeProof:
    outcome: str
    errno: int | None = None
    message: str = "said the fake kernel"
    hint: str | None = None
    evidence: tuple[Evidence, ...] = ()


@dataclass
class Kernel:
    """What outlives every manactl: the port's facts and flags."""

    facts: list[Fact]
    up: bool = True
    ifindex: int = 3
    name: str = "eth1"
    present: bool = True
    held: bool = False  # a raw QP has the vport
    leaked: bool = False  # nobody has the vport, and the driver's count says otherwise
    clock: float = 1000.0
    links: list[str] = field(default_factory=list)  # every change of IFF_UP

    def set_admin(self, up: bool) -> None:
        if up and (self.held or self.leaked):
            raise OSError(errno.EBUSY, "Device or resource busy")
        if up is self.up:
            return
        self.up = up
        self.links.append("up" if up else "down")
        if up:
            self._regenerate()
        else:
            self.facts = [f for f in self.facts if f.kind is Kind.ADDRESS and f.body[0] == 2]

    def _regenerate(self) -> None:
        """The connected routes and the generated link-local address."""
        link_local = address("fe80::d", 64, self.ifindex, proto=rt.IFAPROT_KERNEL_LL)
        if not any(diff.key(f, self.places) == diff.key(link_local, self.places)
                   for f in self.facts):  # fmt: skip
            self.facts.append(link_local)
        for fact in list(self.facts):
            self._connect(fact)

    def _connect(self, fact: Fact) -> None:
        if fact.kind is Kind.ADDRESS and self.up:
            for made in connected(fact, self.ifindex):
                if diff.identity(made, self.places) not in self.identities():
                    self.facts.append(made)

    @property
    def places(self) -> rt.Places:
        return (rt.Place(self.ifindex, self.name),)

    def identities(self) -> list[tuple[object, ...]]:
        return sorted((diff.identity(fact, self.places) for fact in self.facts), key=repr)

    def send(self, request: Request) -> None:
        kinds = {rt.RTM_NEWADDR: Kind.ADDRESS, rt.RTM_NEWROUTE: Kind.ROUTE,
                 rt.RTM_NEWNEIGH: Kind.NEIGHBOUR, rt.RTM_NEWNEXTHOP: Kind.NEXTHOP}  # fmt: skip
        fact = Fact(kinds[request.type], request.body)
        if fact.kind is not Kind.ADDRESS and not self.up:
            raise OSError(errno.ENETDOWN, "Network is down")
        mine = diff.key(fact, self.places)
        exists = any(diff.key(f, self.places) == mine for f in self.facts)
        if exists and request.flags & NLM_F_EXCL:
            raise OSError(errno.EEXIST, "File exists")
        if fact.kind is Kind.ROUTE:
            if diff.identity(fact, self.places) in self.identities():
                raise OSError(errno.EEXIST, "File exists")
        else:
            self.facts = [f for f in self.facts if diff.key(f, self.places) != mine]
        self.facts.append(fact)
        self._connect(fact)

    def rename(self, name: str, ifindex: int) -> None:
        """The netdev comes back under another name and number, with what it carries."""
        old = PortState(PORT, self.ifindex, self.name, self.up, True, self.clock, ())
        now = (rt.Place(ifindex, name),)
        made = []
        for fact in self.facts:
            lack = diff.Lack(fact, None)
            made.append(Fact(fact.kind, diff.requests(lack, old, now, 0)[-1].body))
        self.facts, self.name, self.ifindex = made, name, ifindex


def connected(fact: Fact, ifindex: int) -> list[Fact]:
    """The routes that come with an address, as fib_add_ifaddr() and addrconf make them."""
    family, length, _, _, _ = rt.IFADDR.unpack_from(fact.body)
    raw = rt.value(rt.split(fact.body, rt.IFADDR.size), rt.IFA_ADDRESS) or b""
    bits = len(raw) * 8
    number = int.from_bytes(raw, "big")
    net = (number >> (bits - length) << (bits - length)).to_bytes(len(raw), "big")
    text = socket.inet_ntop(family, raw)
    made = [route(text, bits, ifindex, table=255, proto=2, kind=rt.RTN_LOCAL)]
    if not snapshot.address_flags(fact) & rt.IFA_F_NOPREFIXROUTE:
        made.append(route(socket.inet_ntop(family, net), length, ifindex, proto=2))
    return made


class FakeSystem:
    """plan.System over a Kernel. Operation number `fails_at` fails; after `dies_at` operations
    everything raises Killed, the last one with (`half`) or without its effect."""

    def __init__(
        self, kernel: Kernel, *, fails_at: int | None = None, dies_at: int | None = None,
        half: bool = False, proofs: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.kernel = kernel
        self.operations = 0
        self._fails_at, self._dies_at, self._half = fails_at, dies_at, half
        self._proofs = list(proofs)

    def tick(self) -> bool:
        """Count an operation; True when it has its effect and the process dies of it."""
        self.operations += 1
        if self._dies_at is not None and self.operations >= self._dies_at:
            if self._half and self.operations == self._dies_at:
                return True
            raise Killed
        if self.operations == self._fails_at:
            raise OSError(errno.EIO, "Input/output error")
        return False

    def monotonic(self) -> float:
        return self.kernel.clock

    def boottime(self) -> float:
        return self.kernel.clock

    def pause(self, seconds: float) -> None:
        self.kernel.clock += max(seconds, 0.001)

    def netdev(self, port: PortId) -> NetdevNow | None:
        if not self.kernel.present:
            return None
        return NetdevNow(self.kernel.name, self.kernel.ifindex, self.kernel.up)

    def carrier(self, port: PortId) -> bool:
        return self.kernel.up

    def set_admin(self, port: PortId, up: bool) -> None:
        dying = self.tick()
        self.kernel.set_admin(up)
        if dying:
            raise Killed

    def capture(self, port: PortId, nexthops: Collection[int] = ()) -> PortState:
        if self.tick():
            raise Killed
        kernel = self.kernel
        facts = tuple(kernel.facts)
        return PortState(
            port, kernel.ifindex, kernel.name, kernel.up, kernel.up, kernel.clock, facts
        )

    def send(self, request: Request) -> None:
        dying = self.tick()
        self.kernel.send(request)
        if dying:
            raise Killed

    def set_sysctl(self, path: str, value: str) -> None:
        raise AssertionError(f"nothing here changes {path}")

    def prove_free(self, port: PortId) -> FakeProof:
        if self.tick():
            raise Killed
        if self._proofs:
            return FakeProof(self._proofs.pop(0), errno.EBUSY)
        taken = self.kernel.held or self.kernel.up or self.kernel.leaked
        return FakeProof("taken" if taken else "free")

    def seems_free(self, port: PortId) -> bool:
        return self.kernel.leaked

    def holders(self, port: PortId) -> tuple[Holder, ...]:
        if not self.kernel.held:
            return ()
        return (Holder(4211, "dpdk-testpmd", None, 0, None, None, None),)
