"""`manactl hold`."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

import click

from manactl.cli.app import App
from manactl.cli.params import CLAIMED
from manactl.errors import strerror

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from manactl.act.host import Host
    from manactl.act.service import Service
    from manactl.model.hold import Apart, Attempt, Storm, Target, Trouble

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
    from manactl.act import hold_loop  # noqa: PLC0415 - not for --help
    from manactl.act.privilege import need_net_admin  # noqa: PLC0415
    from manactl.act.service import Service  # noqa: PLC0415
    from manactl.journal import state_dir  # noqa: PLC0415

    app.unfailing = True  # ports are kept down, whether or not anybody reads of it
    host = app.host
    need_net_admin(host, "hold")
    state_dir.prepare(app.state_dir)
    only = _keys(app, host, words) if words else None
    service = Service()
    teller = Teller(service, host.monotonic, as_json=as_json)
    app.changed = "claimed ports stay as they are, down or not"
    hold_loop.run(app.state_dir, host, teller, service, only=only)


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
        self._warned: frozenset[Hashable] = frozenset()
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

        from manactl.journal.file import stamp  # noqa: PLC0415
        from manactl.render import hold as render  # noqa: PLC0415

        now, text = datetime.now(UTC), render.holding(targets, apart)
        line = f"{stamp(now)} {text}"
        if self._as_json:
            line = render.dumps(render.holding_document(now, targets, apart))
        if not self._print(line):
            self._log(text)
        (self._service.ready if first else self._service.status)(text)

    def problems(self, apart: Apart, unlocked: Mapping[str, Trouble]) -> None:
        """Claims that are not kept down, and why: each once for as long as it lasts. `unlocked`: the
        functions whose lock cannot be had."""
        from manactl.render import hold as render  # noqa: PLC0415 - loaded already

        found = render.problems(apart, unlocked)
        for what, text in found.items():
            if what not in self._warned:
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
            why = f"standard output: {strerror(error)}"
            self._log(f"{why}; from now on only the system log tells")
            if not isinstance(error, BrokenPipeError):
                self.warn(why)
        return False


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
