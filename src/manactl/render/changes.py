"""What is different between two looks, in the words of the table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from manactl.decide import port_words
from manactl.escape import called, escape
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import Owner, PortStatus
from manactl.render.status import NOBODY, link

Key = tuple[str, int]


class Change(NamedTuple):
    """One difference; all text is escaped."""

    key: Key
    port: str
    text: str

    def __str__(self) -> str:
        return f"{self.port}: {self.text}"


def key(port: PortStatus) -> Key:
    """What stays the same of a port whatever happens to its names."""
    return port.id.key


def changes(before: Sequence[PortStatus], after: Sequence[PortStatus]) -> Iterator[Change]:
    """In the order of `after`, ports that are gone last."""
    old = {key(port): port for port in before}
    for port in after:
        was = old.pop(key(port), None)
        if was is None:
            yield Change(key(port), escape(port.label), f"new, owner {port.owner}")
            continue
        for text in _differences(was, port):
            yield Change(key(port), escape(port.label), text)
    for gone in old.values():
        yield Change(key(gone), escape(gone.label), "gone")


def _differences(was: PortStatus, now: PortStatus) -> Iterator[str]:
    if was.label != now.label:
        yield f"was {escape(was.label)}"
    for name, old, new in zip(_NAMES, _values(was), _values(now), strict=True):
        if old != new:
            yield f"{name} {escape(old)} -> {escape(new)}"
    yield from _holders(was, now)
    came = [port_words.note(about) for about in now.drift if about not in was.drift]
    went = [port_words.note(about) for about in was.drift if about not in now.drift]
    yield from (f"drift: {escape(text)}" for text in came)
    yield from (f"no drift any more: {escape(text)}" for text in went)


_NAMES = ("owner", "link", "upper", "network namespace", "RDMA", "claim")


def _values(port: PortStatus) -> tuple[str, ...]:
    certainty = "" if port.owner is Owner.UNKNOWN else f" ({port.certainty})"
    return (
        f"{port.owner}{certainty}",
        link(port),
        port.upper.netdev if port.upper else NOBODY,
        port.netns or NOBODY,
        f"{port.rdma.device}/{port.rdma.port}" if port.rdma else NOBODY,
        _claim(port),
    )


def _claim(port: PortStatus) -> str:
    return NOBODY if port.claim is None else f"claimed ({port.claim.mode})"


def _holders(was: PortStatus, now: PortStatus) -> Iterator[str]:
    # A pid that was given to another process is another holder, which its start time shows.
    old = {(holder.pid, holder.since): holder for holder in was.holders}
    new = {(holder.pid, holder.since): holder for holder in now.holders}
    for who, holder in new.items():
        if who not in old:
            yield f"held by {called(holder.comm)} {holder.pid}"
    for who, holder in old.items():
        if who not in new:
            yield f"no longer held by {called(holder.comm)} {holder.pid}"
