"""The loop of `manactl hold`: what comes is obeyed at once, and what could not be done is tried again.

A look that an event asks for comes before the telling, and no telling may wait for a reader.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from manactl.act import hold_words, keep_down
from manactl.act.host import Host
from manactl.act.keep_down import Keeper
from manactl.act.service import Service
from manactl.errors import Busy, Refused, strerror
from manactl.look import file_events, link_changes, netdev_opens
from manactl.look.file_events import FileEvents
from manactl.look.link_changes import LinkChanges
from manactl.look.netdev_opens import NetdevOpens
from manactl.model.hold import Apart, Attempt, Target, Trouble
from manactl.signal_pipe import piped

_T = TypeVar("_T")

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_QUIET = 0.05  # s: records of a journal come in bursts, and one look serves a burst
_UNREAD_FROM, _UNREAD_TO = 1.0, 30.0  # s until what could not be read is read again


class Teller(Protocol):
    """Who tells of it. Nothing here may wait: ports are kept down meanwhile."""

    def attempt(self, attempt: Attempt) -> None: ...
    def warn(self, text: str) -> None: ...
    @property
    def next_due(self) -> float | None: ...
    def sums(self, *, everything: bool = False) -> None: ...
    def holding(self, targets: Sequence[Target], apart: Apart, *, first: bool) -> None: ...
    def problems(self, apart: Apart, unlocked: Mapping[str, Trouble]) -> None: ...


def run(
    state_dir: Path,
    host: Host,
    teller: Teller,
    service: Service,
    *,
    only: Collection[tuple[str, int]] | None = None,
) -> None:
    """Keep down what is claimed, of the ports `only` where they are given, until a signal ends it.
    The state directory is there. Busy when something cannot be watched: nothing was touched."""
    claims = state_dir / "claims"
    journals = keep_down.Journals(state_dir, host.boot_id(), host.netns())
    with (
        piped(_ending()) as signalled,
        _watching("links", link_changes.LinkChanges) as changes,
        netdev_opens.NetdevOpens() as opens,
        _watching("claims", lambda: file_events.FileEvents(claims)) as files,
        _watching("netdevs", lambda: host.system(host.pause)) as system,
    ):
        keeper = Keeper(
            journals,
            system,
            teller.attempt,
            keep_down.moments(state_dir),
            watched=link_changes.Parents(netdev_opens.DRIVERS.values()),
            alive=service.alive,
            only=only,
        )
        loop = Loop(keeper, teller, service, host.monotonic)

        def opened() -> None:
            keeper.opened(opens.read())

        def on_changes() -> None:
            _announced(keeper, changes, opens, host.monotonic)
            before = opens.descriptors
            if opens.renew():  # after all that is urgent: it may take a while
                for fd in before:
                    loop.off(fd)
                watched()

        def watched() -> None:
            for fd in opens.descriptors:
                loop.on(fd, opened)
            for text in _unknown(opens):
                teller.warn(text)

        loop.on(signalled, lambda: loop.signalled(signalled))
        watched()
        loop.on(changes.fd, on_changes)
        loop.watch(files)
        loop.run()


def _announced(
    keeper: Keeper, changes: LinkChanges, opens: NetdevOpens, clock: Callable[[], float]
) -> None:
    """Obey what the kernel has announced; where something of that was lost, look at everything."""
    received = clock()
    found = changes.read()
    # Who it was is known already, but where all came at once; then it has to be asked before the
    # process has ended, which it does as soon as the kernel has answered it.
    keeper.opened(opens.read())
    keeper.changed(found, received)
    if changes.lost:
        changes.lost = False
        keeper.look()


def _unknown(opens: NetdevOpens) -> Iterator[str]:
    """Whose openers will not be named, and why."""
    if opens.refused is not None:
        yield hold_words.openers_unknown(opens.refused)
    yield from map(hold_words.function_missing, opens.missing)


class Loop:
    """Waits for events and obeys them, until a signal ends it."""

    def __init__(
        self, keeper: Keeper, teller: Teller, service: Service, clock: Callable[[], float]
    ) -> None:
        self._keeper, self._teller, self._service = keeper, teller, service
        self._clock = clock
        self._handlers: dict[int, Callable[[], None]] = {}
        self._journals: FileEvents | None = None
        self._poll = select.poll()
        self._ended = False
        self._reload_at: float | None = None
        self._unread = _UNREAD_FROM
        self._alive_at = 0.0

    def on(self, fd: int, handler: Callable[[], None]) -> None:
        """What to do when a descriptor is readable; the first is served first."""
        self._handlers[fd] = handler
        self._poll.register(fd, select.POLLIN)

    def off(self, fd: int) -> None:
        del self._handlers[fd]
        self._poll.unregister(fd)

    def signalled(self, fd: int) -> None:
        self._ended = any(number in _ENDING for number in os.read(fd, 64))

    def watch(self, journals: FileEvents) -> None:
        """Obey what is written to the directory of the journals, and end without it."""
        self._journals = journals
        self.on(journals.fd, lambda: self._written(journals))

    def _written(self, files: FileEvents) -> None:
        """Journals were written: look at them soon."""
        files.drain()
        soon = self._clock() + _QUIET
        self._reload_at = soon if self._reload_at is None else min(soon, self._reload_at)

    def run(self) -> None:
        self._reload(first=True)
        again_at: float | None = None
        while not self._ended:
            self._teller.sums()
            if self._keeper.again_in is None:
                again_at = None
            elif again_at is None:
                again_at = self._clock() + self._keeper.again_in
            ready = dict(self._poll.poll(self._patience(again_at)))
            for fd, handler in list(self._handlers.items()):
                if fd in ready:
                    handler()
            self._require_directory()
            if again_at is not None and self._clock() >= again_at:
                self._keeper.again()
                again_at = None
            if self._reload_at is not None and self._clock() >= self._reload_at:
                self._reload()
            self._teller.problems(self._keeper.apart, self._keeper.unlocked)
        self._service.stopping()
        self._teller.sums(everything=True)

    def _require_directory(self) -> None:
        """Refused when the journals are not where they were: whatever comes there is not heard of,
        and without its journal nobody knows what a claim wants."""
        if self._journals is None or self._journals.in_place:
            return
        raise Refused(
            f"state directory {self._journals.path}: it was removed, moved or replaced, so claims "
            "cannot be seen any more; claimed ports are left as they are, down, and manactl cannot "
            "release them without their journals; from now on no port is kept down",
            hint="put the directory back from where it went, or set the ports up by hand (ip link "
            "set NETDEV up); then start `manactl hold` again",
            code="state-dir",
        )

    def _reload(self, *, first: bool = False) -> None:
        self._reload_at = None
        if self._keeper.reload() or first:
            self._teller.holding(self._keeper.targets, self._keeper.apart, first=first)
        apart = self._keeper.apart
        self._teller.problems(apart, self._keeper.unlocked)
        if apart.unread or apart.unlisted:  # the cause may pass, and nothing announces that
            self._reload_at = self._clock() + self._unread
            self._unread = min(2 * self._unread, _UNREAD_TO)
        else:
            self._unread = _UNREAD_FROM

    def _patience(self, again_at: float | None) -> float | None:
        """ms until there is something to do without an event; None: never."""
        now = self._clock()
        due = [again_at, self._reload_at, self._teller.next_due]
        if self._service.alive_every is not None:
            if now >= self._alive_at:
                self._service.alive()
                self._alive_at = now + self._service.alive_every
            due.append(self._alive_at)
        left = [max(moment - now, 0.0) for moment in due if moment is not None]
        return min(left) * 1000 + 1 if left else None


def _watching(what: str, begin: Callable[[], _T]) -> _T:
    """What tells of events. Busy where the kernel has no room for one more now."""
    try:
        return begin()
    except OSError as error:
        raise Busy(
            f"{what} cannot be watched: {strerror(error)}; nothing was touched, and no port "
            "is kept down",
            hint=hold_words.not_heard(error),
        ) from error


def _ending() -> list[signal.Signals]:
    """The signals that end it. What is ignored stays so, as with nohup."""
    return [one for one in _ENDING if signal.getsignal(one) is not signal.SIG_IGN]
