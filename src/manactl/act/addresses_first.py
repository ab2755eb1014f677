"""IPv6 addresses that come back with the very step that sets their netdev up, before anything is looked
at: connections wait for them, and IFF_UP alone brings none back (addrconf_ifdown()).

Only where that cannot be wrong; all else is restore.py's, which looks first and compares at last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from manactl.act.plan import SetAdmin, SetSynthetic, Step
from manactl.act.restore import Prepared
from manactl.look.netdevs_of import Found, NetdevNow
from manactl.model.port import PortId
from manactl.netstate import diff, losses, snapshot
from manactl.netstate.requests import Request
from manactl.netstate.snapshot import Fact, Kind, PortState
from manactl.wire import rtmsg as rt


class Netdevs(Protocol):
    """What of the system is looked at."""

    def boottime(self) -> float: ...
    def netdev(self, port: PortId) -> Found: ...
    def synthetic(self, uuid: str) -> Found: ...
    def addresses(self, ifindex: int) -> Sequence[Fact]: ...


def with_addresses(
    steps: Iterable[Step], prepared: Iterable[Prepared], but: Collection[PortId], system: Netdevs
) -> Iterator[Step]:
    """The steps, and of those that set netdevs up each with the requests for the addresses that were
    on it, as it is asked for: what came before it may have waited for a carrier. `but`: ports that
    managers get back, and configure first."""
    kept = {one.state.port: one for one in prepared if one.state.port not in but}
    for step in steps:
        yield _with(step, kept.get(step.port), system)


def _with(step: Step, kept: Prepared | None, system: Netdevs) -> Step:
    if kept is None or not isinstance(step, SetAdmin | SetSynthetic):
        return step
    # Where that fails they come after a look, as all else does, and a snapshot that makes no sense
    # is told of then.
    with contextlib.suppress(Exception):
        if isinstance(step, SetSynthetic):
            now = system.synthetic(step.vmbus)
        else:
            now = system.netdev(step.port)
        if isinstance(now, NetdevNow) and not now.up:
            elapsed = int(system.boottime() - kept.state.taken)
            facts = _lasting(kept.state, now.ifindex, elapsed)
            if facts and not any(map(_is_ordered, system.addresses(now.ifindex))):
                asked = tuple(_requests(facts, kept.state, elapsed))
                kept.at_once = facts
                return replace(step, addresses=asked)
    return step


def _lasting(state: PortState, ifindex: int, elapsed: int) -> tuple[Fact, ...]:
    """The addresses of a netdev that are for us to set, in the order of the snapshot, youngest first;
    none if one of them needs more than a request. Nor those that are younger than one which only a
    look shows to be for us: they would have to go away again, since it comes before them."""
    found: list[Fact] = []
    for fact in state.of(Kind.ADDRESS):
        if snapshot.devices_of(fact) != {ifindex} or not _is_ordered(fact):
            continue
        if snapshot.expired(fact, elapsed):
            continue
        if diff.passing(fact):
            if _may_be_ours(fact):
                found.clear()
            continue
        if losses.is_autojoin(fact) or snapshot.is_tentative(fact):
            return ()
        found.append(fact)
    return tuple(found)


def _may_be_ours(passing: Fact) -> bool:
    """Whether somebody may have set it with `mngtmpaddr`: a kernel before 5.18 tells of none whether
    a router has sent it (IFA_PROTO)."""
    proto = rt.number(rt.split(passing.body, rt.IFADDR.size), rt.IFA_PROTO)
    return not (snapshot.is_temporary(passing) or proto in rt.IFAPROT_OF_KERNEL)


def _is_ordered(fact: Fact) -> bool:
    """An IPv6 address among which the kernel puts the youngest first (ipv6_link_dev_addr())."""
    return snapshot.is_ipv6_address(fact) and not snapshot.is_link_scope(fact)


def _requests(facts: Iterable[Fact], state: PortState, elapsed: int) -> Iterable[Request]:
    missing = diff.in_order([diff.MissingFact(fact, None) for fact in facts])
    for one in missing:
        yield from diff.requests(one, state, state.devices, elapsed)
