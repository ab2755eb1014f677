"""What hangs on no port, and yet goes when networkd takes a netdev back: policy rules, and nexthops
and routes without a device. It deletes all that it has not made (link_drop_foreign_config() and
the like in systemd's src/network), as long as networkd.conf(5) does not say otherwise. Pure.
"""

from __future__ import annotations

import base64
import enum
from collections.abc import Iterable, Mapping
from typing import Any

from manactl.model.named_tuple import NamedTuple
from manactl.netstate import describe, diff
from manactl.netstate.requests import Request
from manactl.netstate.snapshot import Fact, nexthop_id
from manactl.netstate.snapshot import Kind as FactKind
from manactl.wire import rtmsg as rt
from manactl.wire.netlink import NLM_F_CREATE, NLM_F_EXCL

_DEVICELESS = frozenset({rt.RTN_BLACKHOLE, rt.RTN_UNREACHABLE, rt.RTN_PROHIBIT, rt.RTN_THROW})


class Kind(enum.StrEnum):
    """In the order in which they are made again."""

    NEXTHOP = "nexthop"
    ROUTE = "route"
    RULE = "rule"


class Beside(NamedTuple):
    """One of them, as the kernel has dumped it."""

    kind: Kind
    body: bytes

    def to_json(self) -> dict[str, str]:
        return {"kind": str(self.kind), "message": base64.b64encode(self.body).decode()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Beside:
        return cls(Kind(data["kind"]), base64.b64decode(data["message"], validate=True))


def select(
    rules: Iterable[bytes], nexthops: Iterable[bytes], routes: Iterable[bytes]
) -> tuple[Beside, ...]:
    """Those of the dumps, but for the kernel's own."""
    found = [
        Beside(Kind.NEXTHOP, body)
        for body in nexthops
        if rt.value(rt.split(body, rt.NHMSG.size), rt.NHA_OIF) is None
    ]
    ids = {nexthop_id(Fact(FactKind.NEXTHOP, one.body)) for one in found}
    found += [
        Beside(Kind.ROUTE, body)
        for body in routes
        if body[rt.PROTOCOL_AT] != rt.RTPROT_KERNEL and _without_device(body, ids)
    ]
    found += [Beside(Kind.RULE, body) for body in rules if _maker(body) != rt.RTPROT_KERNEL]
    return tuple(found)


def _without_device(route: bytes, nexthops: set[int]) -> bool:
    if route[rt.TYPE_AT] in _DEVICELESS:
        return True
    by = rt.value(rt.split(route, rt.RTMSG.size), rt.RTA_NH_ID) if nexthops else None
    return by is not None and int.from_bytes(by, "little") in nexthops


def _maker(rule: bytes) -> int:
    made_by = rt.value(rt.split(rule, rt.RULE.size), rt.FRA_PROTOCOL)
    return made_by[0] if made_by else 0


def without(found: Iterable[Beside], facts: Iterable[Fact]) -> tuple[Beside, ...]:
    """Those that no snapshot has already: a group that the port is in belongs to that."""
    known = {(str(fact.kind), fact.body) for fact in facts}
    return tuple(one for one in found if (str(one.kind), one.body) not in known)


def missing(was: Iterable[Beside], now: Iterable[Beside]) -> list[Beside]:
    """What was there and is not, each once, singles before the groups of them."""
    there = {_identity(one) for one in now}
    found: dict[object, Beside] = {}
    for one in was:
        if (what := _identity(one)) not in there:
            found.setdefault(what, one)
    order = list(Kind)
    return sorted(found.values(), key=lambda one: (order.index(one.kind), _is_group(one)))


def _is_group(one: Beside) -> bool:
    return one.kind is Kind.NEXTHOP and rt.value(rt.split(one.body, rt.NHMSG.size), 2) is not None


def _identity(one: Beside) -> object:
    if one.kind is Kind.RULE:
        return (one.kind, _rule(one.body))
    return (one.kind, diff.identity(Fact(FactKind(one.kind), one.body), ()))


def _rule(body: bytes) -> bytes:
    *head, flags = rt.RULE.unpack_from(body)
    return rt.RULE.pack(*head, flags & rt.FIB_RULE_INVERT) + body[rt.RULE.size :]


def request(one: Beside) -> Request:
    """What makes it again; EEXIST where somebody else has put something in its place."""
    flags = NLM_F_CREATE | NLM_F_EXCL
    if one.kind is Kind.RULE:
        return Request(rt.RTM_NEWRULE, flags, _rule(one.body))
    if one.kind is Kind.NEXTHOP:
        return Request(rt.RTM_NEWNEXTHOP, flags, rt.nexthop(one.body, (), ()))
    made = rt.RouteRequests((), (), 0)(Fact(FactKind.ROUTE, one.body).shape)
    return Request(rt.RTM_NEWROUTE, flags, made or one.body)


def text(one: Beside) -> str:
    """For people: as `ip` calls it."""
    if one.kind is not Kind.RULE:
        return describe.text(str(one.kind), one.body, {})
    family = "IPv6" if rt.is_ipv6(one.body) else "IPv4"
    number = rt.value(rt.split(one.body, rt.RULE.size), rt.FRA_PRIORITY) or b"\0"
    return f"{family} policy rule {int.from_bytes(number, 'little')}"
