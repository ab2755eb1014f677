"""`manactl hold`."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import sys
from typing import TYPE_CHECKING, TypeVar

import click

from manactl.cli.app import App
from manactl.cli.params import CLAIMED
from manactl.errors import Busy, Refused
from manactl.signal_pipe import piped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from manactl.act.host import Host
    from manactl.act.keep_down import Keeper
    from manactl.act.service import Service
    from manactl.look.file_events import FileEvents
    from manactl.look.link_changes import LinkChanges
    from manactl.look.netdev_opens import NetdevOpens
    from manactl.model.hold import Apart, Attempt, Storm, Target

_T = TypeVar("_T")

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_QUIET = 0.05  # s: records of a journal come in bursts, and one look serves a burst
_UNREAD_FROM, _UNREAD_TO = 1.0, 30.0  # s until what could not be read is read again
_LATER = 1.0  # s until a reader that has not read is offered it again
_UNSAID = 20  # warnings that are kept for it
_NOTICE, _DAEMON = 5, 3  # RFC 5424


@click.command(short_help="Keep claimed ports down, whoever sets them up.")
@click.argument("words", nargs=-1, metavar="[PORT]...", type=CLAIMED)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a line.")
@click.pass_obj
def hold(app: App, words: tuple[str, ...], as_json: bool) -> None:
    """Keep each claimed PORT down (all claims without PORT, later ones too) until a signal ends it.

    Whenever somebody sets the netdev of such a port up, or the synthetic netdev that its claim has
    set down, it is set down again at once, and one line tells when, which, and by whom. What a
    release sets up stays up. Where nothing is claimed it waits.
    """
    from manactl.act import keep_down  # noqa: PLC0415 - not for --help
    from manactl.act.privilege import need_net_admin  # noqa: PLC0415
    from manactl.act.service import Service  # noqa: PLC0415
    from manactl.journal import state_dir  # noqa: PLC0415
    from manactl.look.file_events import FileEvents  # noqa: PLC0415
    from manactl.look.link_changes import LinkChanges  # noqa: PLC0415
    from manactl.look.netdev_opens import NetdevOpens  # noqa: PLC0415

    app.unfailing = True  # ports are kept down, whether or not anybody reads of it
    host = app.host
    need_net_admin(host, "hold")
    state_dir.prepare(app.state_dir)
    only = _keys(app, host, words) if words else None
    journals = keep_down.Journals(app.state_dir, host.boot_id(), host.netns())
    service = Service()
    teller = Teller(service, host.monotonic, as_json=as_json)
    with (
        piped(_ending()) as signalled,
        _watching("links", LinkChanges) as changes,
        NetdevOpens() as opens,
        _watching("claims", lambda: FileEvents(app.state_dir / "claims")) as files,
        host.system(host.pause) as system,
    ):
        keeper = keep_down.Keeper(
            journals, system, teller.attempt, keep_down.moments(app.state_dir), only=only
        )
        loop = Loop(keeper, teller, service, host.monotonic)

        def opened() -> None:
            keeper.opened(opens.read())

        def on_changes() -> None:
            announced(keeper, changes, opens, host.monotonic)
            before = opens.descriptors
            if opens.renew():  # after all that is urgent: it may take a while
                for fd in before:
                    loop.off(fd)
                watched()

        def watched() -> None:
            for fd in opens.descriptors:
                loop.on(fd, opened)
            for text in unknown(opens):
                teller.warn(f"{text}; ports are kept down all the same")

        loop.on(signalled, lambda: loop.signalled(signalled))
        watched()
        loop.on(changes.fd, on_changes)
        loop.on(files.fd, lambda: loop.written(files, app.state_dir / "claims"))
        loop.run()


def announced(
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


def unknown(opens: NetdevOpens) -> Iterator[str]:
    """Whose openers will not be named, and why."""
    if opens.refused is not None:
        yield f"who sets a port up will not be known: {opens.refused}"
    for function in opens.missing:
        yield (
            "who sets up some netdevs will not be known: this kernel has no function "
            f"{function} that can be watched"
        )


class Loop:
    """Waits for events and obeys them, until a signal ends it."""

    def __init__(
        self, keeper: Keeper, teller: Teller, service: Service, clock: Callable[[], float]
    ) -> None:
        self._keeper, self._teller, self._service = keeper, teller, service
        self._clock = clock
        self._handlers: dict[int, Callable[[], None]] = {}
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

    def written(self, files: FileEvents, directory: Path) -> None:
        """Journals were written: look at them soon."""
        files.drain()
        if not directory.is_dir():
            raise Refused(
                f"state directory {directory}: it was removed, so claims cannot be seen any more; "
                "from now on no port is kept down",
                hint="start `manactl hold` again: that makes the directory anew",
                code="state-dir",
            )
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
            if again_at is not None and self._clock() >= again_at:
                self._keeper.again()
                again_at = None
            if self._reload_at is not None and self._clock() >= self._reload_at:
                self._reload()
            self._teller.problems(self._keeper.apart, self._keeper.unlocked)
        self._service.stopping()
        self._teller.sums(everything=True)

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


class Teller:
    """Prints each event, and writes it to the system log; waits for no reader, nor for the logger.

    What a reader does not take in time goes to the system log in any case, and is counted; a warning
    is printed later.
    """

    def __init__(
        self,
        service: Service,
        clock: Callable[[], float],
        *,
        as_json: bool,
    ) -> None:
        from manactl.cli.outlet import Outlet  # noqa: PLC0415 - not for --help
        from manactl.decide.storm import Telling  # noqa: PLC0415

        self._service, self._clock, self._as_json = service, clock, as_json
        self._out, self._err = Outlet("stdout"), Outlet("stderr")
        self._telling = Telling(clock)
        self._warned: frozenset[str] = frozenset()
        self._untaken = 0  # lines, by the reader of standard output
        self._unsaid: list[str] = []  # warnings, by that of standard error
        self._forgotten = 0  # more of them
        self._unlogged = 0  # lines, by the logger
        self._logs = not _is_journal()
        self._lost = False  # standard output; that was told

    def attempt(self, attempt: Attempt) -> None:
        event = self._telling.add(attempt)
        if event is not None:
            self._tell(event)

    def sums(self, *, everything: bool = False) -> None:
        """Of the attempts that were not told one by one, what is due."""
        for storm in self._telling.due(everything=everything):
            self._tell(storm)
        self._catch_up()

    @property
    def next_due(self) -> float | None:
        """When there is something to tell, by the clock."""
        due = self._telling.next_due
        owed = self._untaken or self._unsaid or self._forgotten
        if not (owed or self._out.owes or self._err.owes):
            return due
        later = self._clock() + _LATER
        return later if due is None else min(due, later)

    def holding(self, targets: Sequence[Target], apart: Apart, *, first: bool) -> None:
        """What is kept down from now on."""
        from datetime import UTC, datetime  # noqa: PLC0415 - not for --help

        from manactl.render import hold as render  # noqa: PLC0415

        now, text = datetime.now(UTC), render.holding(targets, apart)
        line = f"{render.stamp(now)} {text}"
        if self._as_json:
            line = render.dumps(render.holding_document(now, targets, apart))
        if not self._print(line):
            self._log(text)
        (self._service.ready if first else self._service.status)(text)

    def problems(self, apart: Apart, unlocked: Mapping[str, str]) -> None:
        """Claims that are not kept down, and why: each once for as long as it lasts. `unlocked`: the
        functions whose lock cannot be had, with the reason."""
        from manactl.render import hold as render  # noqa: PLC0415 - loaded already

        found = render.problems(apart, unlocked)
        for text in found:
            if text not in self._warned:
                self.warn(text)
        self._warned = frozenset(found)

    def _tell(self, event: Attempt | Storm) -> None:
        from manactl.render import hold as render  # noqa: PLC0415

        document = self._as_json
        line = render.dumps(render.document(event)) if document else render.line(event)
        if not self._print(line) or self._logs:
            self._log(render.words(event))

    def warn(self, text: str) -> None:
        """A warning on standard error, as soon as that takes it."""
        self._catch_up()
        if not self._unsaid and self._err.say(f"manactl: {text}", fold=True):
            return
        self._log(text)
        if len(self._unsaid) < _UNSAID:
            self._unsaid.append(text)
        else:
            self._forgotten += 1

    def _catch_up(self) -> None:
        """Say what was not taken before."""
        self._out.flush()
        self._err.flush()
        while self._unsaid and self._err.say(f"manactl: {self._unsaid[0]}", fold=True):
            del self._unsaid[0]
        more = f"manactl: {self._forgotten} more warnings are in the system log only"
        if self._forgotten and not self._unsaid and self._err.say(more, fold=True):
            self._forgotten = 0
        if self._err.lost is not None:
            self._unsaid, self._forgotten = [], 0
        if self._out.lost is not None:
            self._untaken = 0
        if self._untaken and self._out.takes:
            lost, self._untaken = self._untaken, 0
            self.warn(f"the reader of standard output did not take {lost} lines")

    def _log(self, text: str) -> None:
        from manactl.act.audit import to_syslog  # noqa: PLC0415 - loaded already

        before = [f"hold: {self._unlogged} lines before this one are missing"]
        lines = [*(before if self._unlogged else ()), f"hold: {text}"]
        taken = to_syslog(lines, _NOTICE, _DAEMON, patience=0)
        self._unlogged = 0 if taken else self._unlogged + 1

    def _print(self, text: str) -> bool:
        """Whether standard output has taken it."""
        self._catch_up()
        if self._out.say(text):
            return True
        error = self._out.lost
        if error is None:
            self._untaken += 1
        elif not self._lost:
            self._lost = self._logs = True
            why = f"standard output: {error.strerror or error}"
            self._log(f"{why}; from now on only the system log tells")
            if not isinstance(error, BrokenPipeError):
                self.warn(why)
        return False


def _watching(what: str, begin: Callable[[], _T]) -> _T:
    """What tells of events. Busy where the kernel has no room for one more now."""
    try:
        return begin()
    except OSError as error:
        hint = "without that nothing would be heard: fix the cause, then start it again"
        if error.errno == errno.EMFILE:
            hint = (
                "the inotify instances of this user (sysctl fs.inotify.max_user_instances) or the "
                "open files of this process (ulimit -n) are used up: raise that, then start it again"
            )
        if error.errno == errno.ENOSPC:
            hint = (
                "the inotify watches of this user (sysctl fs.inotify.max_user_watches) are used "
                "up: raise that, then start it again"
            )
        raise Busy(
            f"{what} cannot be watched: {error.strerror or error}; nothing was touched, and no port "
            "is kept down",
            hint=hint,
        ) from error


def _is_journal() -> bool:
    """Whether standard output goes to systemd's journal: what is printed stands there already."""
    with contextlib.suppress(OSError, ValueError):
        info = os.fstat(sys.stdout.fileno())
        return os.environ.get("JOURNAL_STREAM") == f"{info.st_dev}:{info.st_ino}"
    return False


def _keys(app: App, host: Host, words: Sequence[str]) -> frozenset[tuple[str, int]]:
    """The ports that are named, whatever they are called later. UsageError for an unknown one."""
    from manactl.act.choose import choose, open_claims  # noqa: PLC0415 - only with PORT

    claims = open_claims(app.state_dir, host).claims
    chosen = choose(claims, host, words, everything=False)
    ports = [claim.port for claim in chosen.claims] + [port.id for port in chosen.unclaimed]
    return frozenset(port.key for port in ports)


def _ending() -> list[signal.Signals]:
    """The signals that end it. What is ignored stays so, as with nohup."""
    return [one for one in _ENDING if signal.getsignal(one) is not signal.SIG_IGN]
