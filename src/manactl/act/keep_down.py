"""Keeps claimed ports down: whoever sets one up, it is set down again at once.

What is kept down is read from the journals: the netdev of each claimed port, and its synthetic
netdev where the claim has set that down. They are found as steps find them, by PCI address, port
and permanent MAC, and by VMBus UUID; a claim of another boot or network namespace, one that is
being made and one that is being undone keep nothing down.

Against a release in the same moment: a release has the second lock of its function from right before
it writes `releasing` until all is up again (journal/lock.py); while it waits for a holder before
that, it has the first alone, and nothing is held up here. Here the second lock is held over the
look at the journal, the look at the netdev, and the request that sets it down. So either the
release comes first, and the journal says so, or it waits until the request is done, and then sets
the netdev up itself. Where the lock is taken nothing is done; it is looked at again later.

What was announced is set down first: between the announcement and the request there are the lock,
the journal and one look, at sysfs one more (which driver has the device). Only who opened it is
asked before that, of /proc, where this is not known
yet: where the driver's open was seen in the same moment (look/netdev_opens.py), as such a process
ends soon. Why it came up, and what is said of it, is found out after the request.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from manactl.act.plan import ms
from manactl.decide import opened
from manactl.errors import ManactlError, strerror
from manactl.journal import file as journal
from manactl.journal import lock
from manactl.journal.file import Content
from manactl.look.link_changes import LinkChange
from manactl.look.netdevs_of import Found, NetdevNow
from manactl.model.claim import NetnsId, Phase
from manactl.model.hold import Apart, Attempt, Cause, Opener, OpenEvent, Outcome, Target, Trouble
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import DOWN, PortId

AGAIN_FROM, AGAIN_TO = 0.02, 0.25  # s until a port is looked at again that is being worked on
_LIVES_EVERY = 10.0  # s between two signs of life while several netdevs are set down
MISSED_FOR = 30.0  # s in which a netdev is looked for again that was not found
_REMEMBERED = 16  # openers of what could not be set down yet


class Netdevs(Protocol):
    """The part of system.LiveSystem that is needed here: looks as steps look, and a request by the
    index that a look gave."""

    def monotonic(self) -> float: ...
    def netdev(self, port: PortId) -> Found: ...
    def synthetic(self, uuid: str) -> Found: ...
    def set_up(self, ifindex: int, up: bool) -> None: ...


class _Known(NamedTuple):
    """A journal as it was read."""

    file: object  # what tells that it is the same
    targets: tuple[Target, ...]
    elsewhere: tuple[PortId, ...]


class _Announced(NamedTuple):
    """What the kernel has announced and is to be obeyed: the indexes of netdevs that went up, when
    that was read (None: nothing was announced), and who opened them."""

    went_up: frozenset[int] = frozenset()
    since: float | None = None
    openers: tuple[Opener, ...] = ()

    def after(self, before: _Announced | None) -> _Announced:
        """With what was announced before and is not done yet."""
        if before is None:
            return self
        return _Announced(
            before.went_up | self.went_up,
            self.since if before.since is None else before.since,
            (before.openers + self.openers)[-_REMEMBERED:],
        )


_NOTHING = _Announced()


class Journals:
    """What the journals want to be kept down. A file that has not changed is not read again: it
    may be large, and one of the same inode, size and time of modification is the same.

    What cannot be read is not unclaimed: what it wanted when it was read last stays a target. What
    it wants now is unknown (a release may have begun), so such a target is doubtful, and nothing is
    done to it until the file can be read.
    """

    def __init__(self, state_dir: Path, boot_id: str, netns: NetnsId) -> None:
        self._state_dir, self._boot_id, self._netns = state_dir, boot_id, netns
        self._read: dict[Path, _Known] = {}
        self.unread: dict[Path, Trouble] = {}
        self.unlisted: Trouble | None = None  # why new files are not seen
        self.doubtful: frozenset[Target] = frozenset()

    def targets(self) -> tuple[Target, ...]:
        """All of them now; a port first, then the synthetic netdev above it, as a claim does it."""
        found: dict[Path, _Known] = {}
        doubtful: set[Target] = set()
        self.unread, self.unlisted = {}, None
        try:
            paths = journal.paths(self._state_dir)
        except (OSError, ManactlError) as error:
            self.unlisted = _trouble(self._state_dir, error)
            paths = list(self._read)
        for path in paths:
            known = self._read.get(path)
            try:
                info = os.stat(path)
                now = (info.st_ino, info.st_size, info.st_mtime_ns)
                if known is None or known.file != now:
                    content = journal.read(path)
                    known = _Known(now, tuple(self._of(content)), tuple(self._elsewhere(content)))
            except FileNotFoundError:
                continue  # just put away
            except (OSError, ManactlError) as error:
                self.unread[path] = _trouble(path, error)
                if known is None:
                    continue
                doubtful.update(known.targets)
            found[path] = known
        self._read, self.doubtful = found, frozenset(doubtful)
        return self.wanted

    @property
    def wanted(self) -> tuple[Target, ...]:
        """What targets() has returned."""
        return tuple(target for known in self._read.values() for target in known.targets)

    @property
    def elsewhere(self) -> tuple[PortId, ...]:
        """What is claimed in other network namespaces."""
        return tuple(port for known in self._read.values() for port in known.elsewhere)

    def _elsewhere(self, content: Content) -> Iterator[PortId]:
        if content.netns is not None and not content.netns.is_same(self._netns):
            yield from self._claimed(content)

    def _claimed(self, content: Content) -> Iterator[PortId]:
        if content.boot_id == self._boot_id and content.phase is not Phase.CLOSED:
            yield from (port for port in content.ports if content.phase_of(port) is Phase.CLAIMED)

    def _of(self, content: Content) -> Iterator[Target]:
        if content.netns is not None and not content.netns.is_same(self._netns):
            return
        for port in self._claimed(content):
            then = content.port_entry(port)
            above = then.get("upper") if then.get("vmbus") else None
            own = then.get("vf") if above else then.get("netdev")
            yield Target(port, str(own or port), None, then.get("vmbus"))
            if above and then.get("synthetic") == DOWN:
                yield Target(port, str(above), str(then["vmbus"]))


class Keeper:
    """Sets down again what is up and should not be, and tells of each attempt. `watched`: whether
    the opens of the netdevs of a device, by its name, are seen. `alive` is called between two
    netdevs: each may take minutes, where its NIC does not answer."""

    def __init__(
        self,
        journals: Journals,
        system: Netdevs,
        tell: Callable[[Attempt], None],
        moment: Callable[[str], AbstractContextManager[bool]],
        *,
        watched: Callable[[str], bool],
        alive: Callable[[], None] = lambda: None,
        only: Collection[tuple[str, int]] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._journals, self._system, self._tell = journals, system, tell
        self._moment, self._only, self._clock = moment, only, clock
        self._watched, self._alive, self._lived = watched, alive, system.monotonic()
        self._openers = opened.Openers()
        self._indexes: dict[Target, int] = {}
        self._recreated: set[Target] = (
            set()
        )  # another netdev than before, and not told of since then
        # Not done yet, as a manactl was at work there, its journal could not be read, its lock could
        # not be had, or the kernel refused.
        self._later: dict[Target, _Announced] = {}
        self._coming: dict[Target, _Announced] = {}  # announced, but it could not be looked up yet
        # Not found when it was looked at, until when it is looked for again: it may be gone, or there
        # were no descriptors or memory to look with (EMFILE, ENOBUFS), and nothing announces that
        # there are again.
        self._missed: dict[Target, float] = {}
        self._ahead: set[Target] = set()  # set down, and that it was up not yet announced
        self._unread: dict[Target, int] = {}  # how often set down without having read of it
        self._failing: set[Target] = set()  # could not be set down; nobody has set it up since then
        self._again = AGAIN_FROM
        self._untold: list[Attempt] = []
        self.unlocked: dict[str, Trouble] = {}  # functions whose lock cannot be had
        self.targets: tuple[Target, ...] = ()
        self.apart = Apart()

    def reload(self) -> bool:
        """Read the journals again, and look at what they want to be down; whether that, or what is
        claimed apart from that, is not what it was."""
        before = self.targets, self.apart
        self.targets = self._wanted()
        self.apart = self._apart()
        self._later = {one: how for one, how in self._later.items() if one in self.targets}
        self._coming = {one: how for one, how in self._coming.items() if one in self.targets}
        self._missed = {one: end for one, end in self._missed.items() if one in self.targets}
        self._indexes = {one: n for one, n in self._indexes.items() if one in self.targets}
        self._unread = {one: n for one, n in self._unread.items() if one in self.targets}
        self._failing.intersection_update(self.targets)
        self._recreated.intersection_update(self.targets)
        pcis = {one.port.pci for one in self.targets}
        self.unlocked = {pci: why for pci, why in self.unlocked.items() if pci in pcis}
        self.look()
        return (self.targets, self.apart) != before

    def look(self) -> None:
        """Look at all of it: nothing may have been announced, or that was lost."""
        found = _NOTHING
        with self._batch():
            for target in self.targets:
                if self._is_up(target):
                    found = found._replace(openers=found.openers + self._openers.take())
                    self._check(target, found)
                self._live()

    def _live(self) -> None:
        if (now := self._system.monotonic()) - self._lived >= _LIVES_EVERY:
            self._lived = now
            self._alive()

    def _is_up(self, target: Target) -> bool:
        """Look at a netdev that nothing was announced of."""
        now = self._now(target)
        if now is None:
            return False
        self._is_numbered(target, now.ifindex)
        if not now.up:
            self._ahead.discard(target)
            self._failing.discard(target)
            self._coming.pop(target, None)
        return now.up

    def _is_numbered(self, target: Target, ifindex: int) -> None:
        """Note that a netdev was re-created: what is known of the one before is not of this one."""
        known = self._indexes.get(target)
        self._indexes[target] = ifindex
        if known not in (None, ifindex):
            self._recreated.add(target)
            self._unread.pop(target, None)
            self._ahead.discard(target)
            self._failing.discard(target)

    def opened(self, events: Iterable[OpenEvent]) -> None:
        """Who has begun to open a netdev, and which opens are over."""
        self._openers.add(events)

    def changed(self, changes: Sequence[LinkChange], received: float) -> None:
        """Obey the kernel's announcements; `received`: when the first was there to be read. Of all
        opens that they are of, opened() was told before."""
        went_up = frozenset(change.ifindex for change in changes if change.went_up)
        count = sum(change.went_up and self._is_watched(change.parent) for change in changes)
        announced = _Announced(went_up, received, self._openers.take(count))
        with self._batch():
            for target in self.targets:
                mine = [change for change in changes if self._may_be(change, target)]
                after = max((n for n, change in enumerate(mine, 1) if change.went_up), default=0)
                self._read_of(target, mine[:after])
                if self._indexes.get(target) in went_up:
                    self._failing.discard(target)
                if not all(change.up for change in mine):
                    self._coming.pop(target, None)  # that was another time
                if any(change.up for change in mine):
                    self._check(target, announced)
                self._read_of(target, mine[after:])
                self._live()

    def _is_watched(self, parent: str | None) -> bool:
        """Whether the opens of what belongs to that device are seen."""
        return parent is not None and self._watched(parent)

    def _read_of(self, target: Target, changes: Iterable[LinkChange]) -> None:
        """Once all that we have set down is announced, so is whatever it was up by."""
        own = self._indexes.get(target)
        read = sum(change.went_down for change in changes if change.ifindex == own)
        left = self._unread.get(target, 0) - read
        self._unread[target] = max(left, 0)
        if left <= 0:
            self._ahead.discard(target)

    @property
    def again_in(self) -> float | None:
        """Seconds until again() is to be called; None: not at all."""
        return self._again if self._later or self._missed else None

    def again(self) -> None:
        """Look at what another manactl was at work on, whose journal could not be read or whose lock
        could not be had, what could not be set down, or what was not found a short time ago."""
        self._again = min(2 * self._again, AGAIN_TO)
        with self._batch():
            for target in list(self._later):
                self._check(target, _NOTHING)
                self._live()
            clock = self._system.monotonic()
            for target in [one for one, end in self._missed.items() if end <= clock]:
                del self._missed[target]
            for target in list(self._missed):
                if self._is_up(target):
                    self._check(target, _NOTHING)
                self._live()

    @contextlib.contextmanager
    def _batch(self) -> Iterator[None]:
        """What is found in it is told at its end: no port waits while one is told of."""
        try:
            yield
        finally:
            if not (self._later or self._missed):
                self._again = AGAIN_FROM
            attempts, self._untold = self._untold, []
            for attempt in attempts:
                self._tell(attempt)

    def _wanted(self) -> tuple[Target, ...]:
        found = self._journals.targets()
        return tuple(one for one in found if self._is_given(one.port))

    def _is_given(self, port: PortId) -> bool:
        return self._only is None or port.key in self._only

    def _apart(self) -> Apart:
        """As of the last time that the journals were read."""
        journals = self._journals
        ports = dict.fromkeys(one.port for one in journals.wanted)
        return Apart(
            tuple(journals.unread.values()),
            journals.unlisted,
            tuple(port for port in journals.elsewhere if self._is_given(port)),
            tuple(port for port in ports if not self._is_given(port)),
            tuple(target for target in self.targets if target in journals.doubtful),
        )

    def _may_be(self, change: LinkChange, target: Target) -> bool:
        """By its index; a netdev that was re-created by the device that it belongs to, which it may
        share with the other ports of its function."""
        if change.ifindex in self._indexes.values():
            return change.ifindex == self._indexes.get(target)
        return change.parent == (target.vmbus or target.port.pci)

    def _now(self, target: Target) -> NetdevNow | None:
        """None where it was not found: it is just coming or going, or could not be looked at."""
        found = (
            self._system.netdev(target.port)
            if target.vmbus is None
            else self._system.synthetic(target.vmbus)
        )
        if not isinstance(found, NetdevNow):
            self._missed.setdefault(target, self._system.monotonic() + MISSED_FOR)
            return None
        self._missed.pop(target, None)
        return found

    def _check(self, target: Target, announced: _Announced) -> None:
        """Set it down, if it is up and the claim still wants it down."""
        announced = announced.after(self._later.pop(target, None) or self._coming.pop(target, None))
        if announced.since is None:
            announced = announced._replace(since=self._system.monotonic())
        with contextlib.ExitStack() as stack:
            if not self._locked(target.port.pci, stack):
                self._later[target] = announced
                return
            if target not in self._wanted():
                return
            if target in self._journals.doubtful:
                self._later[target] = announced
                return
            now = self._now(target)
            if now is None:
                self._coming[target] = announced
                return
            asked = self._system.monotonic()
            outcome, error = self._set_down(now)
        done = self._system.monotonic()
        self._is_numbered(target, now.ifindex)
        is_announced = now.ifindex in announced.went_up
        if outcome is Outcome.ALREADY and (not is_announced or target in self._ahead):
            self._ahead.discard(target)  # set down before its announcement was read: told already
            return
        still = outcome is Outcome.FAILED and target in self._failing
        if outcome is Outcome.FAILED:
            self._later[target] = announced
            self._failing.add(target)
        else:
            self._failing.discard(target)
        if outcome is Outcome.SET_DOWN:
            self._unread[target] = self._unread.get(target, 0) + 1
            if not is_announced:
                self._ahead.add(target)
        openers = announced.openers
        cause = opened.cause(
            openers,
            announced=is_announced,
            recreated=target in self._recreated,
            above_up=self._above_up(target),
        )
        self._recreated.discard(target)
        # One worker of hv_netvsc has opened it; those before it had not come so far.
        openers = openers[-1:] if cause is Cause.NETVSC else openers
        took = {}
        if outcome is Outcome.SET_DOWN:
            since = asked if announced.since is None else announced.since
            took = {"ms": ms(done - since), "asked_ms": ms(asked - since)}
        self._untold.append(
            Attempt(
                self._clock(), target, now.name, outcome, cause, _once(openers), error=error,
                still=still, **took,
            )
        )  # fmt: skip

    def _locked(self, pci: str, stack: contextlib.ExitStack) -> bool:
        """Whether nobody else is at work on the function, until the stack is left. Where the lock
        itself fails (too many open files, a disk error) nobody knows."""
        try:
            free = stack.enter_context(self._moment(pci))
        except ManactlError as error:
            self.unlocked[pci] = _trouble(pci, error)
            return False
        self.unlocked.pop(pci, None)
        return free

    def _above_up(self, target: Target) -> bool | None:
        """Whether the synthetic netdev above a VF is up; None: there is none, or that is not known."""
        above = None if target.above is None else self._system.synthetic(target.above)
        return above.up if isinstance(above, NetdevNow) else None

    def _set_down(self, now: NetdevNow) -> tuple[Outcome, str | None]:
        """It was looked up a moment ago, as each step looks its netdev up."""
        if not now.up:
            return Outcome.ALREADY, None
        try:
            self._system.set_up(now.ifindex, False)
        except OSError as error:
            return Outcome.FAILED, strerror(error)
        return Outcome.SET_DOWN, None


def _trouble(of: object, error: OSError | ManactlError) -> Trouble:
    code = error.code if isinstance(error, ManactlError) else None
    cause = error if isinstance(error, OSError) else error.__cause__
    return Trouble(str(of), code, cause.errno if isinstance(cause, OSError) else None, str(error))


def _once(openers: Iterable[Opener]) -> tuple[Opener, ...]:
    """Each process once: it opens a synthetic netdev and, in that, its VF."""
    return tuple({one.process.pid: one for one in openers}.values())


def moments(state_dir: Path) -> Callable[[str], AbstractContextManager[bool]]:
    """The second lock of functions, by PCI address."""
    return lambda pci: lock.moment(state_dir, pci)
