"""Bringing a port's network state back: look, make what lacks, look again.

Convergent: whatever part is there already, from an earlier attempt that died or from a manager,
is left alone, so running it again is always right.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from manactl import replay, snapshot
from manactl.model import PortId
from manactl.replay import Lack
from manactl.snapshot import Fact, PortState, Request

_PAUSE_FROM, _PAUSE_TO = 0.02, 0.25  # s, doubling


class Network(Protocol):
    """The part of the system that restoring needs."""

    def monotonic(self) -> float: ...
    def pause(self, seconds: float) -> None: ...
    def capture(self, port: PortId, nexthops: Collection[int] = ()) -> PortState: ...
    def send(self, request: Request) -> None: ...


@dataclass(frozen=True, slots=True)
class Restored:
    """What came back, and what did not (`residue`, with the kernel's reason)."""

    counts: Mapping[snapshot.Kind, int] = field(default_factory=dict)
    residue: tuple[str, ...] = ()
    expired: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


def converge(network: Network, wanted: PortState, patience: float) -> Restored:
    """Make `wanted` true again. What the kernel makes by itself, and what it still refuses
    because something else has to come first, gets `patience` seconds."""
    deadline = network.monotonic() + patience
    ids = snapshot.nexthop_ids(wanted)
    pause = _PAUSE_FROM
    errors: dict[Fact, str] = {}
    sent: set[Fact] = set()
    first: list[Lack] | None = None
    while True:
        late = network.monotonic() >= deadline
        now = network.capture(wanted.port, ids)
        lacks = replay.lacking(wanted, now)
        first = lacks if first is None else first
        if not lacks:
            break
        todo = [one for one in lacks if not snapshot.derived(one.fact)]
        made = _send(network, wanted, now, todo if late else _ours(wanted, todo), errors)
        progress = not sent.issuperset(made)
        sent |= made
        if late:
            now = network.capture(wanted.port, ids)
            lacks = _really(replay.lacking(wanted, now), now)
            break
        if not progress:  # nothing new was made: what comes now comes by itself
            network.pause(min(pause, max(0.0, deadline - network.monotonic())))
            pause = min(pause * 2, _PAUSE_TO)
    return _summary(wanted, now, first, lacks, errors)


def _really(lacks: list[Lack], now: PortState) -> list[Lack]:
    """Without the routes that the kernel adds when duplicate address detection ends."""
    if not any(snapshot.is_tentative(fact) for fact in now.facts):
        return lacks
    return [one for one in lacks if not snapshot.derived(one.fact)]


def _ours(wanted: PortState, lacks: list[Lack]) -> list[Lack]:
    """Without what the kernel is about to make by itself."""
    return [
        one
        for one in lacks
        if one.instead is not None or not snapshot.made_by_kernel(one.fact, wanted)
    ]


def _send(
    network: Network,
    wanted: PortState,
    now: PortState,
    lacks: list[Lack],
    errors: dict[Fact, str],
) -> set[Fact]:
    """Send the requests for what lacks, in order; the facts that the kernel has taken."""
    elapsed = int(now.taken - wanted.taken)
    made = set()
    for lack in replay.in_order(lacks):
        for request in replay.requests(lack, wanted, now.place, elapsed):
            try:
                network.send(request)
            except OSError as error:
                errors[lack.fact] = error.strerror or str(error)
                # There already: the next look tells whether it is the same thing.
                if error.errno != errno.EEXIST:
                    break
            else:
                made.add(lack.fact)
    return made


def _summary(
    wanted: PortState,
    now: PortState,
    first: list[Lack],
    lacks: list[Lack],
    errors: Mapping[Fact, str],
) -> Restored:
    names = {wanted.ifindex: now.ifname}
    still = {lack.fact for lack in lacks}
    counts = Counter(
        lack.fact.kind
        for lack in first
        if lack.fact not in still and not snapshot.derived(lack.fact)
    )
    residue = []
    for fact, instead in lacks:
        why = errors.get(fact)
        if instead is not None:
            why = f"there is instead: {snapshot.describe(instead, {now.ifindex: now.ifname})}"
        text = snapshot.describe(fact, names)
        residue.append(f"{text} ({why or 'missing'})")
    elapsed = int(now.taken - wanted.taken)
    return Restored(
        counts,
        tuple(residue),
        tuple(
            snapshot.describe(fact, names)
            for fact in wanted.facts
            if snapshot.expired(fact, wanted, elapsed) and not snapshot.made_by_kernel(fact, wanted)
        ),
        tuple(
            snapshot.describe(fact, {now.ifindex: now.ifname})
            for fact in replay.surplus(wanted, now)
        ),
    )
