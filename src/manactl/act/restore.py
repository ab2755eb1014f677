"""Bringing a port's network state back: look, make what lacks, look again.

Convergent: whatever part is there already, from an earlier attempt that died or from a manager,
is left alone, so running it again is always right. Several ports come back together, since a
route or a nexthop group of one may need what is on another.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from manactl.model.port import PortId
from manactl.netstate import diff, snapshot, uppers
from manactl.netstate.diff import Lack
from manactl.netstate.snapshot import Fact, Kind, PortState, Request, Setting
from manactl.netstate.uppers import Pair, UpperState

_PAUSE_FROM, _PAUSE_TO = 0.02, 0.25  # s, doubling
_OPENED = 1.0  # s for the kernel's deferred work that opens VLANs to have begun


class Network(Protocol):
    """The part of the system that restoring needs."""

    def monotonic(self) -> float: ...
    def pause(self, seconds: float) -> None: ...
    def capture(self, port: PortId, nexthops: Collection[int] = ()) -> PortState: ...
    def send(self, request: Request) -> None: ...
    def set_sysctl(self, path: str, value: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Restored:
    """What came back, and what did not (`residue`, with the kernel's reason).

    `lacks` are the facts among the residue. `extra` is what is there now and was not, as the
    commands that would remove it.
    """

    counts: Mapping[Kind, int] = field(default_factory=dict)
    residue: tuple[str, ...] = ()
    expired: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    lacks: tuple[Fact, ...] = ()


def converge(network: Network, wanted: PortState, patience: float) -> Restored:
    """Make `wanted` true again. What the kernel makes by itself, and what it still refuses
    because something else has to come first, gets `patience` seconds."""
    return converge_all(network, [wanted], patience)[0]


def converge_all(network: Network, wanted: Sequence[PortState], patience: float) -> list[Restored]:
    """The same for several ports at a time, with one result for each."""
    deadline = network.monotonic() + patience
    pause = _PAUSE_FROM
    works = [_Work(network, one) for one in wanted]
    while True:
        late = network.monotonic() >= deadline
        progress = [work.step(late=late) for work in works]
        if late or all(work.done for work in works):
            break
        if not any(progress):  # nothing new was made: what comes now comes by itself
            network.pause(min(pause, max(0.0, deadline - network.monotonic())))
            pause = min(pause * 2, _PAUSE_TO)
    return [work.result() for work in works]


class _Work:
    """One port on its way back."""

    def __init__(self, network: Network, wanted: PortState) -> None:
        self._network = network
        self._wanted = wanted
        self._ids = snapshot.nexthop_ids(wanted)
        self._open_until = network.monotonic() + _OPENED
        self._closed: set[int] = set()
        self._admin: dict[int, UpperState] = {}  # those whose admin state was set
        self._errors: dict[object, str] = {}
        self._sent: set[Fact] = set()
        self._first: list[Lack] | None = None
        self._lacks: list[Lack] = []
        self._put: set[Setting] = set()
        self._look()
        self.done = False

    def _look(self) -> None:
        wanted = self._wanted
        self._now = now = self._network.capture(wanted.port, self._ids)
        self._matched = uppers.pairs(wanted.uppers, now.uppers, wanted.ifindex, now.ifindex)

    def step(self, *, late: bool) -> bool:
        """Look, and send what can be sent now; whether something was made that was not before.

        A `late` step sends everything that is missing, and looks again.
        """
        self._look()
        self.done = False
        if not late and self._opening():
            return False
        if self._set_uppers() and not late:
            return True
        self._lacks = lacks = diff.lacking(self._wanted, self._now)
        if self._first is None:
            self._first = lacks
            if removals := diff.in_the_way(self._wanted, self._now, lacks):
                for request in removals:
                    self._try(request, request)
                return True
        todo = [one for one in lacks if not snapshot.derived(one.fact)]
        made = self._send(todo if late else _ours(self._wanted, todo))
        progress = not self._sent.issuperset(made)
        self._sent |= made
        if not lacks:
            progress |= self._remove_strays()
        progress |= self._set_active() | self._set_sysctls()
        if late:
            self._look()
            lacks = diff.lacking(self._wanted, self._now)
            coming = diff.awaited(lacks, self._now)
            self._lacks = [one for one in lacks if one.fact not in coming]
        else:
            self.done = not (lacks or progress or self._wrong())
        return progress

    def _opening(self) -> bool:
        """Whether a VLAN that is to be down is about to be opened by the kernel."""
        if self._network.monotonic() >= self._open_until:
            return False
        wanted_down = {p.now.ifindex for p in self._matched if p.now and not p.was.up}
        coming = uppers.unopened(self._matched, self._now.ifindex, self._now.up)
        return any(u.ifindex in wanted_down - self._closed for u in coming)

    def _set_uppers(self) -> bool:
        changed = False
        for now, up, kind, body in uppers.changes(self._matched):
            if self._try(now.ifindex, Request(kind, 0, body)):
                changed = True
                self._admin[now.ifindex] = now
                if not up:
                    self._closed.add(now.ifindex)
        return changed

    def _set_active(self) -> bool:
        changed = False
        for was, bond, active in uppers.inactive(self._matched, self._moved()):
            request = Request(*uppers.activate(bond, active))
            changed |= self._try(("active", was.ifindex), request)
        return changed

    def _set_sysctls(self) -> bool:
        changed = False
        for one, path in self._other_settings():
            try:
                self._network.set_sysctl(path, one.value)
            except OSError as error:
                self._errors[one] = error.strerror or str(error)
            else:
                changed |= one not in self._put
                self._put.add(one)
        return changed

    def _other_settings(self) -> list[tuple[Setting, str]]:
        """The settings that are not as they were, and where they are now."""
        places = self._moved()
        names = {place.ifindex: place.name for place in diff.aligned(self._wanted, self._now)}
        have = {(one.ifindex, one.tree, one.key): one.value for one in self._now.settings}
        found = []
        for one in self._wanted.settings:
            ifindex = places[one.ifindex]
            value = have.get((ifindex, one.tree, one.key), one.value)
            if ifindex > 0 and value != one.value:
                found.append((one, f"{one.tree}/{names[ifindex]}/{one.key}"))
        return found

    def _moved(self) -> dict[int, int]:
        now = diff.aligned(self._wanted, self._now)
        return {a.ifindex: b.ifindex for a, b in zip(self._wanted.places, now, strict=True)}

    def _remove_strays(self) -> bool:
        strays = diff.strays(self._wanted, self._now)
        return any([self._try(fact, request) for fact, request in strays])

    def _wrong(self) -> bool:
        return bool(
            uppers.changes(self._matched)
            or uppers.inactive(self._matched, self._moved())
            or self._other_settings()
        )

    def _send(self, lacks: list[Lack]) -> set[Fact]:
        """Send the requests for what lacks, in order; the facts that the kernel has taken."""
        elapsed = int(self._now.taken - self._wanted.taken)
        places = diff.aligned(self._wanted, self._now)
        made = set()
        for lack in diff.in_order(lacks):
            for request in diff.requests(lack, self._wanted, places, elapsed):
                if self._try(lack.fact, request):
                    made.add(lack.fact)
                elif self._refused != errno.EEXIST:
                    # There already: the next look tells whether it is the same thing.
                    break
        return made

    def _try(self, what: object, request: Request) -> bool:
        try:
            self._network.send(request)
        except OSError as error:
            self._errors[what] = error.strerror or str(error)
            self._refused = error.errno
            return False
        return True

    def result(self) -> Restored:
        wanted, now = self._wanted, self._now
        names = dict(now.names)
        names.update(zip((p.ifindex for p in wanted.places), self._names(), strict=True))
        still = {lack.fact for lack in self._lacks}
        counts = Counter(
            lack.fact.kind
            for lack in self._first or ()
            if lack.fact not in still and not snapshot.derived(lack.fact)
        )
        if self._admin:
            counts[Kind.UPPER] = len(self._admin)
        if self._put:
            counts[Kind.SYSCTL] = len(self._put)
        residue = [self._missed(pair) for pair in self._matched if _is_wrong(pair)]
        for was, bond, active in uppers.inactive(self._matched, self._moved()):
            why = self._errors.get(("active", was.ifindex), "it does not stay so")
            is_now = names.get(bond.active or 0, "none")
            residue.append(
                f"active slave {names.get(active, active)} of {bond.name}: now {is_now} ({why})"
            )
        for fact, instead in self._lacks:
            why = self._errors.get(fact, "missing")
            if instead is not None:
                why = f"there is instead: {snapshot.describe(instead, now.names)}"
            residue.append(f"{snapshot.describe(fact, names)} ({why})")
        for one, path in self._other_settings():
            why = self._errors.get(one, "it is changed back")
            residue.append(f"sysctl {path} = {one.value} ({why})")
        elapsed = int(now.taken - wanted.taken)
        return Restored(
            counts,
            tuple(residue),
            tuple(
                snapshot.describe(fact, names)
                for fact in wanted.facts
                if snapshot.expired(fact, elapsed) and not snapshot.made_by_kernel(fact, wanted)
            ),
            tuple(snapshot.removal(fact, now.names) for fact in diff.surplus(wanted, now)),
            tuple(lack.fact for lack in self._lacks),
        )

    def _names(self) -> list[str]:
        """What the wanted devices are called now, or were when they are gone."""
        both = zip(self._wanted.places, diff.aligned(self._wanted, self._now), strict=True)
        return [now.name if now.ifindex > 0 else was.name for was, now in both]

    def _missed(self, pair: Pair) -> str:
        if pair.now is None:
            on_it = sum(pair.was.ifindex in snapshot.devices_of(f) for f in self._wanted.facts)
            return f"{pair.was.describe()} (it is gone, with {on_it} addresses, routes or the like)"
        why = self._errors.get(pair.now.ifindex, "it does not stay so")
        return f"{pair.now.describe()} {'up' if pair.was.up else 'down'} ({why})"


def _is_wrong(pair: Pair) -> bool:
    return pair.now is None or pair.now.up is not pair.was.up


def _ours(wanted: PortState, lacks: list[Lack]) -> list[Lack]:
    """Without what the kernel is about to make by itself, and without link-local addresses that
    were younger than one which it is about to make: it puts the youngest first."""
    coming = {
        one.fact
        for one in lacks
        if one.instead is None and snapshot.made_by_kernel(one.fact, wanted)
    }
    links = {device for fact in coming for device in _link_local_of(fact)}
    return [
        one
        for one in lacks
        if one.fact not in coming and links.isdisjoint(_link_local_of(one.fact))
    ]


def until(network: Network, done: Callable[[], object], within: float) -> bool:
    """Look until something is so, with growing pauses; False when it is not after that long."""
    deadline = network.monotonic() + within
    pause = 0.01
    while not done():
        if network.monotonic() >= deadline:
            return False
        network.pause(pause)
        pause = min(pause * 2, 0.2)
    return True


def _link_local_of(fact: Fact) -> set[int]:
    """The device of an IPv6 link-local address; nothing for any other fact."""
    if snapshot.is_ipv6_address(fact) and snapshot.is_link_scope(fact):
        return snapshot.devices_of(fact)
    return set()
