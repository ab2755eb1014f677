"""Restoring a port's network state: look, make what is missing, look again.

In phases: uppers, facts, strays, active slaves, sysctls, states in bridges, and at last a look that
verifies. It is convergent: whatever part is there already, from an earlier attempt that died or from
a manager, is left alone, so running it again is always right. Several ports are restored together,
since a route or a nexthop group of one may need what is on another.
"""

from __future__ import annotations

import contextlib
import errno
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import KW_ONLY
from typing import Protocol

from manactl.act import residue_words as words
from manactl.errors import strerror
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import PortId
from manactl.model.uncollected import uncollected
from manactl.model.value import NONE, Value
from manactl.netstate import diff, leaning, loss_words, losses, members, plain, snapshot, uppers
from manactl.netstate.diff import Comparison, MissingFact, Obstacle
from manactl.netstate.leaning import Lacking
from manactl.netstate.losses import Cause, Loss
from manactl.netstate.members import BridgeState, Member
from manactl.netstate.plain import PlainRoutes
from manactl.netstate.requests import Filled
from manactl.netstate.snapshot import Fact, Kind, PortState, Request, Rows, Setting
from manactl.netstate.uppers import Inactive
from manactl.wire import rtmsg as rt

_PAUSE_FROM, _PAUSE_TO = 0.02, 0.25  # s, doubling
_OPENED = 1.0  # s for the kernel's deferred work that opens VLANs to have begun
_ROUTES_OF_ADDRESSES = 3.0  # s for its deferred work that makes them, after the last request


class Network(Protocol):
    """The part of the system that restoring needs."""

    def monotonic(self) -> float: ...
    def pause(self, seconds: float) -> None: ...
    def capture(
        self,
        port: PortId,
        nexthops: Collection[int] = (),
        rows: Rows = None,
        *,
        alone: bool = False,
    ) -> PortState: ...
    def send(self, request: Request) -> None: ...
    def send_all(self, requests: Sequence[Request]) -> list[OSError | None]: ...
    def send_alike(self, requests: Filled) -> None: ...
    def set_sysctl(self, path: str, value: str) -> None: ...


class Lost(NamedTuple):
    """What is lost: why, and in words. `file`: of ours, that somebody has changed and that is left."""

    cause: Cause
    text: str
    file: str | None = None


class Restored(Value):
    """What came back, and what did not (`residue`, with the reason of each).

    `extra` is what is there now and was not, as the commands that would remove it. `advertised` is
    a router's, and comes with its next advertisement. `lost` is nobody's to put back but its
    maker's, or was taken over: no second attempt would change that. `settling`: the port is up and
    forwarded in its master, which lets it forward a while later.
    """

    _: KW_ONLY
    counts: Mapping[Kind, int] = NONE
    residue: tuple[str, ...] = ()
    expired: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    advertised: tuple[str, ...] = ()
    lost: tuple[Lost, ...] = ()
    settling: Member | None = None


class Prepared:
    """What of the restoring of a snapshot follows from it alone. With a full table that takes longer
    than all else before the first request, so it is done before the port is up. Good for one
    restoring."""

    @uncollected()
    def __init__(self, state: PortState, many: int = plain.MANY) -> None:
        self.state = state
        self.nexthops = snapshot.nexthop_ids(state)
        routes = (*state.of(Kind.ROUTE), *state.leaning)
        self.rows = dict(zip(map(snapshot.route_key, routes), routes, strict=True))
        self.plain = PlainRoutes(state, many)
        self.at_once: Collection[Fact] = ()  # addresses that were asked for before the first look


@uncollected()
def restore_ports(
    network: Network,
    wanted: Sequence[PortState],
    patience: float,
    *,
    prepared: Iterable[Prepared] = (),
    many: int = plain.MANY,
) -> list[Restored]:
    """Make each `wanted` true again, with one result for each. What the kernel makes by itself, and
    what it still refuses because something else has to come first, gets `patience` seconds. Where
    there are `many` plain routes they are restored together (netstate/plain.py). `prepared`: of
    those states or others, which are left out."""
    deadline = network.monotonic() + patience
    pause = _PAUSE_FROM
    ready = {id(one.state): one for one in prepared}
    works = [
        _Restoration(network, ready.get(id(state)) or Prepared(state, many)) for state in wanted
    ]
    while True:
        late = network.monotonic() >= deadline
        progress = [work.step(late=late) for work in works]
        if late or all(work.done for work in works):
            break
        if not any(progress):  # nothing new was made: what comes now comes by itself
            network.pause(min(pause, max(0.0, deadline - network.monotonic())))
            pause = min(pause * 2, _PAUSE_TO)
    until = network.monotonic() + _ROUTES_OF_ADDRESSES
    while (left := [work for work in works if work.awaits]) and network.monotonic() < until:
        network.pause(pause)
        for work in left:
            work.verify()
    return [work.result() for work in works]


@uncollected()
def compare(network: Network, wanted: PortState) -> Restored:
    """What is not as it was, as one look shows it. Nothing is set."""
    work = _Restoration(network, Prepared(wanted))
    work.verify()
    return work.result()


class _Restoration:
    """The restoring of one port. A step is one look and what can be sent after it."""

    def __init__(self, network: Network, wanted: Prepared) -> None:
        self._network = network
        self._wanted = wanted.state
        self._ids = wanted.nexthops
        self._rows = wanted.rows
        self._plain = wanted.plain
        self._at_once = set(wanted.at_once)
        self._open_until = network.monotonic() + _OPENED
        self._closed: set[int] = set()  # ifindexes of uppers that were set down
        self._admin: set[int] = set()  # and of all whose admin state was set
        self._errors: dict[Hashable, OSError] = {}
        self._sent: set[Fact] = set()
        self._sourced: set[Fact] = set()  # routes of others that got their source back
        self._put: set[Setting] = set()
        self._held: set[BridgeState] = set()
        self._first: list[Fact] | None = None
        self._missing: list[MissingFact] = []
        self._lost: list[Loss] = []
        self._state: Comparison | None = None

    def step(self, *, late: bool) -> bool:
        """Look, and send what can be sent now; whether something was made that was not before.

        A `late` step sends everything that is missing, and verifies.
        """
        self._look(last=late)
        self.done = False
        if not late and self._opening():
            return False
        if self._restore_uppers() and not late:
            return True
        self._missing = missing = self._now.missing
        if self._first is None:
            absent_now = [one.fact for one in missing]
            put = {*self._at_once, *snapshot.connected_of(self._at_once, self._wanted)}
            self._first = [*absent_now, *self._now.advertised, *put.difference(absent_now)]
            if self._clear_the_way():
                return True
        absent = bool(missing or self._plain.absent)
        progress = self._restore_facts(late=late)
        if late or not absent:
            progress |= self._remove_strays()
        if not absent:
            progress |= self._reorder()
        if late or not absent:
            progress |= self._restore_sources()
        progress |= self._restore_active_slaves()
        progress |= self._restore_sysctls()
        progress |= self._restore_bridge_states()
        if late:
            self.verify()
        else:
            awaited = absent or self._now.advertised
            self.done = not (awaited or progress or self._is_wrong())
            if self.done:
                self._lost = self._losses()
        return progress

    @property
    def awaits(self) -> bool:
        """Whether the kernel has yet to make the routes of addresses that it has taken: a work queue
        does that, without duplicate address detection too (addrconf_dad_start())."""
        return bool(self._now.unrouted)

    def _look(self, *, last: bool) -> None:
        wanted = self._wanted
        now = self._network.capture(wanted.port, self._ids, self._rows, alone=wanted.alone)
        now, given = self._plain.apart(now, last=last)
        came_to_nothing = [f for f in given if snapshot.route_key(f) in self._plain.asked]
        self._sent.update(came_to_nothing)
        if self._first is not None:
            self._first += came_to_nothing
        self._state = Comparison(self._plain.wanted, now, None if given else self._state)

    @property
    def _now(self) -> Comparison:
        assert self._state is not None  # a step begins by looking
        return self._state

    # --- phases

    def _opening(self) -> bool:
        """Whether a VLAN that is to be down is about to be opened by the kernel."""
        if self._network.monotonic() >= self._open_until:
            return False
        matched, port = self._now.matched, self._now.now
        to_be_down = {pair.now.ifindex for pair in matched if pair.now and not pair.was.up}
        coming = uppers.unopened(matched, port.ifindex, port.up)
        return any(upper.ifindex in to_be_down - self._closed for upper in coming)

    def _restore_uppers(self) -> bool:
        changed = False
        below: dict[int, None] = {}  # the lowers of those that are set down
        for now, up, kind, body in uppers.changes(self._now.matched):
            if self._try(now.ifindex, Request(kind, 0, body)):
                changed = True
                self._admin.add(now.ifindex)
                if not up:
                    self._closed.add(now.ifindex)
                    below[now.lower] = None
        for lower in below:
            with contextlib.suppress(OSError):  # it has gone: the next look says so
                self._network.send(Request(*uppers.settle_filters(lower)))
        return changed

    def _clear_the_way(self) -> bool:
        """Remove IPv6 addresses that would come in the wrong order; once, before anything is made.
        Whether there were any."""
        removals = self._now.in_the_way
        for request in removals:
            self._try(request, request)
        return bool(removals)

    def _restore_facts(self, *, late: bool) -> bool:
        derived = snapshot.PerShape(snapshot.derived)
        todo = [one for one in self._missing if not derived(one.fact)]
        todo = todo if late else _without_coming(self._wanted, todo)
        plain_ones = bool(self._plain.absent)
        if plain_ones:
            # In the order of all: those that others need before those that need a gateway.
            near: list[MissingFact] = []
            far: list[MissingFact] = []
            for one in todo:
                (far if snapshot.rank(one.fact) >= snapshot.FAR else near).append(one)
            made = self._send(near, late=late)
            self._send_plain()
            made |= self._send(far, late=late)
        else:
            made = self._send(todo, late=late)
        progress = plain_ones or not self._sent.issuperset(made)
        self._sent |= made
        return progress

    def _send_plain(self) -> None:
        """Send the requests for the plain routes that are absent. What the kernel says against one
        is heard when it is asked for again: the next look shows which have not come."""
        with contextlib.suppress(OSError):
            self._network.send_alike(self._plain.ask(self._now.places, self._now.elapsed))

    def _send(self, missing: list[MissingFact], *, late: bool) -> set[Fact]:
        """Send the requests for what is missing, in order; the facts that the kernel has taken.

        Those that need a single one go together, as routes do, of which there may be many.
        """
        made: set[Fact] = set()
        together: list[tuple[Fact, Request]] = []
        for one in diff.in_order(missing):
            asked = self._now.requests(one)
            if len(asked) == 1 and not late:
                together.append((one.fact, asked[0]))
                continue
            made |= self._send_together(together)
            together = []
            for request in asked:
                if self._try(one.fact, request) or (late and self._reach(one.fact, request)):
                    made.add(one.fact)
                elif self._errors[one.fact].errno != errno.EEXIST:
                    # There already: the next look shows whether it is the same thing.
                    break
        return made | self._send_together(together)

    def _send_together(self, asked: Sequence[tuple[Fact, Request]]) -> set[Fact]:
        """The facts that the kernel has taken, of those with a request each. What it says against
        the others is heard when they are asked for one by one, at last."""
        said = self._network.send_all([request for _, request in asked]) if asked else []
        return {fact for (fact, _), error in zip(asked, said, strict=True) if error is None}

    def _reach(self, fact: Fact, request: Request) -> bool:
        """Make a route whose gateway was reachable once, when somebody made it, and was not any
        more before the claim: by a way to the gateway that is there for a moment."""
        if self._errors[fact].errno not in (errno.EHOSTUNREACH, errno.ENETUNREACH):
            return False
        ways = [way for way in diff.to_gateways(request) if self._try(way, way)]
        made = bool(ways) and self._try(fact, request)
        for way in ways:
            self._try(way, way._replace(type=rt.RTM_DELROUTE, flags=0))
        return made

    def _remove_strays(self) -> bool:
        return any([self._try(fact, request) for fact, request in self._now.strays])

    def _reorder(self) -> bool:
        """Put routes first or last in their rows. Each is away for a moment, in which packets take
        another of its row, as they do while it is in the wrong place."""
        moves = self._now.moves
        for fact, request in moves:
            self._try((fact, request.type), request)
        return bool(moves)

    def _sourceless(self) -> list[Lacking]:
        """The routes of others that lack an address of the port, which was away. One that has not
        come back, or is left out, is told itself: the kernel takes no route from it (EINVAL)."""
        if not self._wanted.leaning:
            return []
        now, there = self._now.now, self._addresses()
        recreated = now.ifindex != self._wanted.ifindex or any(
            pair.now is None or pair.now.ifindex != pair.was.ifindex for pair in self._now.matched
        )
        found = leaning.lacking(self._wanted.leaning, self._routes(), recreated=recreated)
        return [one for one in found if leaning.source(one.fact) in there]

    def _orphaned(self) -> list[Fact]:
        """Those whose source is not on the port any more, and is not missing either: somebody has
        moved it to another netdev, say, or its lifetime is over."""
        if not self._wanted.leaning:
            return []
        missing = {snapshot.target(f) for f, _ in self._missing if f.kind is Kind.ADDRESS}
        awaited = {snapshot.target(f) for f in self._now.advertised if f.kind is Kind.ADDRESS}
        there = self._addresses() | missing | awaited
        return leaning.orphaned(self._wanted.leaning, self._routes(), there)

    def _addresses(self) -> set[bytes | None]:
        return set(map(snapshot.target, self._now.now.of(Kind.ADDRESS)))

    def _routes(self) -> Collection[Fact]:
        now = self._now.now
        return {fact.body: fact for fact in (*now.rows, *now.of(Kind.ROUTE))}.values()

    def _restore_sources(self) -> bool:
        """Each with one call: a route that is removed for a moment must not stay away. An address
        in duplicate address detection is no source yet (ip6_route_info_create())."""
        made = set()
        tentative = set(map(snapshot.target, self._now.now.that(snapshot.is_tentative)))
        for fact, requests, undo in self._sourceless():
            if undo is not None and leaning.source(fact) in tentative:
                self._errors[fact] = OSError(errno.EADDRNOTAVAIL, words.SOURCE_TENTATIVE)
                continue
            said = self._network.send_all(requests) if requests else []
            errors = [error for error in said if error is not None]
            if errors:
                self._errors[fact] = errors[-1]
                if undo is not None and said[0] is None:
                    self._network.send_all([undo])
            elif said:
                self._errors.pop(fact, None)
                made.add(fact)
        progress = not self._sourced.issuperset(made)
        self._sourced |= made
        return progress

    def _restore_active_slaves(self) -> bool:
        changed = False
        for bond in self._inactive():
            if bond.slave > 0:
                request = Request(*uppers.activate(bond.now, bond.slave))
                changed |= self._try(bond.was, request)
        return changed

    def _inactive(self) -> list[Inactive]:
        return uppers.inactive(self._now.matched, self._now.moved)

    def _waits(self, bond: Inactive) -> bool:
        """Whether the bond refuses the port as its active slave for a while only: for its updelay,
        say (bond_option_active_slave_set() wants a slave whose link is up)."""
        now = self._now.now
        settling = members.settling(self._wanted.member, now.member)
        return (
            settling is not None
            and (settling.kind, settling.master) == ("bond", bond.now.name)
            and bond.slave == now.ifindex
        )

    def _restore_bridge_states(self) -> bool:
        """Of ports of bridges that somebody kept from forwarding: an ACK says nothing, since the
        kernel has such a port forward when it gets its carrier."""
        others = self._other_states()
        made = {was for was, at, _ in others if was.settable and self._try(was, was.request(at))}
        progress = not self._held.issuperset(made)
        self._held |= made
        return progress

    def _other_states(self) -> list[tuple[BridgeState, int, BridgeState]]:
        """Those that are in the same bridge, still without STP, and not as they were, each with what
        it is now. One that is not in it is told with the uppers."""
        there = {one.ifindex: one for one in self._now.now.bridge_states}
        moved = self._now.moved
        found = []
        for was in self._wanted.bridge_states:
            now = there.get(moved.get(was.ifindex, 0))
            if not was.is_set or now is None or now.master != was.master:
                continue
            if not now.running or now.state != was.state:
                found.append((was, now.ifindex, now))
        return found

    def _restore_sysctls(self) -> bool:
        changed = False
        for setting, path in self._other_settings():
            try:
                self._network.set_sysctl(path, setting.value)
            except OSError as error:
                self._errors[setting] = error
            else:
                self._errors.pop(setting, None)
                changed |= setting not in self._put
                self._put.add(setting)
        return changed

    def _other_settings(self) -> list[tuple[Setting, str]]:
        """The settings that are not as they were, and where they are now."""
        places = self._now.moved
        names = {place.ifindex: place.name for place in self._now.places}
        have = {(one.ifindex, one.tree, one.key): one.value for one in self._now.now.settings}
        found = []
        for setting in self._wanted.settings:
            ifindex = places[setting.ifindex]
            value = have.get((ifindex, setting.tree, setting.key), setting.value)
            if ifindex > 0 and value != setting.value:
                found.append((setting, f"{setting.tree}/{names[ifindex]}/{setting.key}"))
        return found

    def _is_too_large(self, setting: Setting) -> bool:
        """Whether it is the MTU of IPv6, and somebody has lowered that of the netdev below it: the
        kernel refuses it for nothing else (addrconf_sysctl_mtu())."""
        error = self._errors.get(setting)
        return setting.key == "mtu" and error is not None and error.errno == errno.EINVAL

    def _is_wrong(self) -> bool:
        """Whether something other than facts is not as it was, and can be set."""
        return bool(
            uppers.changes(self._now.matched)
            or self._inactive()
            or not all(self._is_too_large(setting) for setting, _ in self._other_settings())
            or any(was.settable for was, _, _ in self._other_states())
            or any(one.requests for one in self._sourceless())
        )

    def verify(self) -> None:
        """The last look. What the kernel is about to make is not missing."""
        self._look(last=True)
        coming = self._now.awaited
        missing = [one for one in self._now.missing if one.fact not in coming]
        self._lost = [*self._losses(), *filter(None, map(self._loss, missing))]
        lost = {loss.fact for loss in self._lost}
        gone = {snapshot.target(fact) for fact in lost if fact.kind is Kind.ADDRESS}
        self._missing = [
            one
            for one in missing
            if one.fact not in lost
            and not (snapshot.derived(one.fact) and snapshot.target(one.fact) in gone)
        ]

    def _losses(self) -> list[Loss]:
        return [*self._now.lost.values(), *self._now.misplaced]

    def _loss(self, missing: MissingFact) -> Loss | None:
        """What shows only now to be lost: the kernel has made no anycast route, or goes on being a
        member of a group."""
        if losses.is_anycast(missing.fact):
            return Loss(Cause.ANYCAST, missing.fact)
        error = self._errors.get(missing.fact)
        joined = error is not None and error.errno == errno.EADDRINUSE
        if joined and losses.is_autojoin(missing.fact):
            return Loss(Cause.JOINED, missing.fact)
        return None

    def _try(self, what: Hashable, request: Request) -> bool:
        try:
            self._network.send(request)
        except OSError as error:
            self._errors[what] = error
            return False
        self._errors.pop(what, None)
        return True

    # --- what came of it

    def result(self) -> Restored:
        state, wanted = self._now, self._wanted
        names = self._names()
        expired = [
            fact
            for fact in wanted.that(lambda fact: snapshot.expired(fact, state.elapsed))
            if not snapshot.made_by_kernel(fact, wanted) and fact not in state.of_router
        ]
        orphaned = snapshot.describe_all(self._orphaned(), names)
        return Restored(
            counts=self._counts(),
            residue=tuple(self._residue(names)),
            expired=tuple(snapshot.describe(fact, names) for fact in expired),
            extra=tuple(snapshot.removal(fact, state.now.names) for fact in state.surplus),
            advertised=tuple(snapshot.describe(fact, names) for fact in state.advertised),
            lost=(
                *(Lost(loss.cause, loss_words.text(loss, names)) for loss in self._lost),
                *(
                    Lost(Cause.CHANGED, words.sourceless(snapshot.describe(one.fact, names)))
                    for one in self._sourceless()
                    if not one.requests
                ),
                *(Lost(Cause.CHANGED, words.orphaned(text)) for text in orphaned),
                *(
                    Lost(Cause.CHANGED, words.bridge_state(was, names, now, words.OF_PROGRAM))
                    for was, _, now in self._other_states()
                    if not was.settable
                ),
                *(
                    Lost(Cause.CHANGED, words.sysctl(path, setting.value, words.MTU_LOWERED))
                    for setting, path in self._other_settings()
                    if self._is_too_large(setting)
                ),
            ),
            settling=self._settling(),
        )

    def _settling(self) -> Member | None:
        found = members.settling(self._wanted.member, self._now.now.member)
        if found is not None and any(map(self._waits, self._inactive())):
            return found._replace(active=True)
        return found

    def _counts(self) -> Mapping[Kind, int]:
        still = {one.fact for one in self._missing}.union(self._now.advertised)
        still |= {loss.fact for loss in self._lost}
        derived = snapshot.PerShape(snapshot.derived)
        found = Counter(
            fact.kind for fact in self._first or () if fact not in still and not derived(fact)
        )
        # In the order of the kinds, whatever of them came first.
        counts = Counter({kind: found[kind] for kind in Kind if found[kind]})
        if back := self._plain.back():
            counts[Kind.ROUTE] += back
        if again := self._sourced.difference(one.fact for one in self._sourceless()):
            counts[Kind.ROUTE] += len(again)
        if self._admin:
            counts[Kind.UPPER] = len(self._admin)
        if self._put:
            counts[Kind.SYSCTL] = len(self._put)
        return counts

    def _residue(self, names: Mapping[int, str]) -> Iterable[str]:
        """A line for each thing that is not as it was, with the reason."""
        for pair in self._now.matched:
            if pair.now is None:
                lost = len(self._now.on_upper(pair.was.ifindex))
                yield words.upper_gone(pair.was.describe(), lost)
            elif pair.now.up is not pair.was.up:
                yield words.upper_not(pair.now.describe(), pair.was.up, self._why(pair.now.ifindex))
        for bond in self._inactive():
            if self._waits(bond):
                continue
            slave = names.get(bond.slave) or names.get(bond.was.active or 0, str(bond.slave))
            is_now = names.get(bond.now.active or 0, "none")
            why = self._why(bond.was) if bond.slave > 0 else words.GONE
            yield words.active_slave(slave, bond.now.name, is_now, why)
        for one in self._missing:
            yield words.because(snapshot.describe(one.fact, names), self._why_missing(one, names))
        for fact, requests, _ in self._sourceless():
            if requests:
                yield words.because(snapshot.describe(fact, names), self._why(fact))
        for was, _, other in self._other_states():
            if was.settable:
                yield words.bridge_state(was, names, other, self._why(was))
        for setting, path in self._other_settings():
            if self._is_too_large(setting):
                continue
            yield words.sysctl(path, setting.value, self._why(setting, words.CHANGED_BACK))

    def _why(self, what: Hashable, otherwise: str = words.NOT_KEPT) -> str:
        """What the kernel has said against it."""
        error = self._errors.get(what)
        return otherwise if error is None else strerror(error)

    def _why_missing(self, missing: MissingFact, names: Mapping[int, str]) -> str:
        fact, instead = missing
        obstacle = self._now.obstacles.get(fact)
        if obstacle is not None and (
            obstacle.device is not None or obstacle.instead is not instead
        ):
            return self._why_kept_back(obstacle)
        if instead is None:
            return self._why(fact, words.NOT_KEPT if fact in self._sent else words.MISSING)
        return words.there_is(instead, fact, names)

    def _why_kept_back(self, obstacle: Obstacle) -> str:
        if obstacle.device is not None:
            device = obstacle.device
            other = self._now.now.name_of(device.ifindex)
            return words.device_gone(device.name, other)
        assert obstacle.instead is not None
        there = snapshot.describe(obstacle.instead, self._names_now())
        return words.other_nexthop(obstacle.nexthop, there)

    def _names(self) -> dict[int, str]:
        """Ifindexes of now and of then to names: the present one, or the last of what is gone."""
        state = self._now
        names = self._names_now()
        for was, now in zip(state.was, state.places, strict=True):
            names[was.ifindex] = now.name if now.ifindex > 0 else was.name
        return names

    def _names_now(self) -> dict[int, str]:
        now = self._now.now
        return {link.ifindex: link.name for link in now.links} | now.names


def _without_coming(wanted: PortState, missing: list[MissingFact]) -> list[MissingFact]:
    """Without what the kernel is about to make by itself, and without link-local addresses that
    were younger than one which it is about to make: it puts the youngest first."""
    may_be = snapshot.PerShape(lambda f: f.kind is Kind.ADDRESS or snapshot.by_kernel(f))
    coming = {
        one.fact
        for one in missing
        if one.instead is None and may_be(one.fact) and snapshot.made_by_kernel(one.fact, wanted)
    }
    links = {device for fact in coming for device in _link_local_of(fact)}
    return [
        one
        for one in missing
        if one.fact not in coming and links.isdisjoint(_link_local_of(one.fact))
    ]


def _link_local_of(fact: Fact) -> AbstractSet[int]:
    """The device of an IPv6 link-local address; nothing for any other fact."""
    if snapshot.is_ipv6_address(fact) and snapshot.is_link_scope(fact):
        return snapshot.devices_of(fact)
    return set()
