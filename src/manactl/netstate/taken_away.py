"""Addresses that somebody has taken from a netdev on purpose, while its manager left it alone. Pure.

The kernel keeps IPv4 addresses on a netdev that is down, and IPv6 ones where keep_addr_on_down is
set. Who removes one of several means that one; a manager, or `ip address flush`, removes all. A netdev
that was re-created has none of them, whoever has set one since; and with an address that is primary
the kernel removes the secondary ones of its network, unless promote_secondaries is set
(__inet_del_ifa()).
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from manactl.netstate import diff, leases, snapshot
from manactl.netstate.describe import adding
from manactl.netstate.loss_words import WHY
from manactl.netstate.losses import Cause
from manactl.netstate.snapshot import Fact, Kind, PortState, devices_of
from manactl.wire import rtmsg as rt

_KEEPS = ("net/ipv6/conf", "keep_addr_on_down")
_PROMOTES = ("net/ipv4/conf", "promote_secondaries")
_Key = tuple[int, bool, int, bytes | None]  # ifindex, IPv6, prefix length, address


def found(was: PortState, now: PortState, drops: Mapping[str, Collection[str]]) -> list[Fact]:
    """Those of these netdevs, by the names that they had, but for the addresses that their managers
    drop themselves ("10.0.0.2/24"). `now` is what is there while they are down still. What has a
    lifetime goes by itself, and is none of them."""
    moved, there = _moved(was, now), _there(now)
    primary = {_network(fact) for fact in now.of(Kind.ADDRESS) if not _is_secondary(fact)}
    gone: dict[tuple[int, bool], list[Fact]] = {}
    left = set()
    for fact in was.of(Kind.ADDRESS):
        ifindex, v6, _, _ = key = _key(fact, moved)
        (device,) = devices_of(fact)
        own = drops.get(was.names.get(device, ""))
        if own is None or _shown(fact) in own or not _stays(fact, was, device):
            continue
        if ifindex != device or (
            _is_secondary(fact) and not _promotes(was, device) and _network(fact) not in primary
        ):
            continue
        if key in there:
            left.add((ifindex, v6))
        elif not rt.address_is_limited(fact.body):
            gone.setdefault((ifindex, v6), []).append(fact)
    return [fact for place, facts in gone.items() if place in left for fact in facts]


def absent(addresses: Iterable[Fact], was: PortState, now: PortState) -> list[Fact]:
    """Those that are not there now."""
    moved, there = _moved(was, now), _there(now)
    return [fact for fact in addresses if _key(fact, moved) not in there]


def _moved(was: PortState, now: PortState) -> dict[int, int]:
    """The ifindexes that its devices had, to those that they have."""
    places = zip(was.devices, diff.aligned(was, now), strict=True)
    return {place.ifindex: is_now.ifindex for place, is_now in places}


def _there(now: PortState) -> set[_Key]:
    return {_key(fact, {}) for fact in now.of(Kind.ADDRESS)}


def with_routes(state: PortState, addresses: Collection[Fact]) -> list[Fact]:
    """These, and the routes that are from or to them, or are the kernel's own of their prefixes."""
    ends = {(device, snapshot.target(one)) for one in addresses for device in devices_of(one)}
    wanted = {*addresses}
    theirs = replace(state, facts=tuple(wanted))
    others = replace(state, facts=tuple(one for one in state.of(Kind.ADDRESS) if one not in wanted))
    return [
        fact
        for fact in state.facts
        if fact in wanted
        or (
            snapshot.by_kernel(fact)
            and snapshot.connected(fact, theirs)
            and not snapshot.connected(fact, others)
        )
        or (
            fact.kind is Kind.ROUTE
            and any(
                (device, end) in ends for device in devices_of(fact) for end in leases.ends(fact)
            )
        )
    ]


def text(address: Fact, state: PortState) -> str:
    """One line: what it was, and how it comes back."""
    names = state.names
    why, command = WHY[Cause.REMOVED], adding(address.kind, address.body, names)
    return f"{snapshot.describe(address, names)} ({why}; to set it: {command})"


def _shown(address: Fact) -> str:
    raw = snapshot.target(address) or b""
    family = socket.AF_INET6 if rt.is_ipv6(address.body) else socket.AF_INET
    return f"{socket.inet_ntop(family, raw)}/{rt.IfAddrMsg.of(address.body).prefixlen}"


def _key(address: Fact, moved: dict[int, int]) -> _Key:
    head = rt.IfAddrMsg.of(address.body)
    ifindex = moved.get(head.ifindex, head.ifindex)
    return ifindex, rt.is_ipv6(address.body), head.prefixlen, snapshot.target(address)


def _is_secondary(address: Fact) -> bool:
    """The same bit as IFA_F_TEMPORARY of IPv6."""
    flags = snapshot.address_flags(address)
    return not rt.is_ipv6(address.body) and bool(flags & rt.IFA_F_TEMPORARY)


def _network(address: Fact) -> tuple[int, int, int]:
    """Where it is, and what makes one secondary to another: mask and network (inet_ifa_match())."""
    head = rt.IfAddrMsg.of(address.body)
    raw = rt.value(rt.split(address.body, rt.IFADDR.size), rt.IFA_ADDRESS) or b""
    host = len(raw) * 8 - head.prefixlen
    return head.ifindex, head.prefixlen, int.from_bytes(raw, "big") >> max(host, 0)


def _promotes(was: PortState, device: int) -> bool:
    return _sysctl(was, device, _PROMOTES) > 0


def _stays(address: Fact, was: PortState, device: int) -> bool:
    """Whether the kernel keeps it on a netdev that is down."""
    if not rt.is_ipv6(address.body):
        return True
    if snapshot.is_link_scope(address):
        return False
    return _sysctl(was, device, _KEEPS) > 0


def _sysctl(was: PortState, device: int, key: tuple[str, str]) -> int:
    """0 where it is not known."""
    plans = {plan.ifindex: plan.settings for plan in was.blueprints}
    settings = was.link if device == was.ifindex else plans.get(device)
    value = settings.sysctls.get(key, "") if settings is not None else ""
    return int(value) if value.lstrip("-").isdecimal() else 0
