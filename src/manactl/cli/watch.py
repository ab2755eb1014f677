"""`status --watch`: look again when the kernel announces something, and every few seconds.

Links and RDMA devices are announced; a queue pair, a process or a claim is not, so there is a
slow tick as well. Announcements come in bursts, and one look serves a whole burst.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from manactl.cli.app import App
from manactl.cli.screen import Screen, signals
from manactl.decide.port_names import resolve
from manactl.escape import escape
from manactl.look.link_events import Monitor
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import PortStatus, Report
from manactl.render.changes import Change, Key, changes, key
from manactl.render.document import dumps, status_document, timestamp

TICK = 2.0  # s between two looks when nothing is announced
QUIET = 0.1  # s without a further announcement that end a burst
BURST = 0.5  # s after which a burst that does not end is looked at all the same
_SHARE = 20  # of all time, the part spent on looking is one in so many at most, ...
_SLOWEST = 8.0  # ... unless ticks would come slower than this, s
_RECENT = 12  # changes that a screen remembers; a quarter of its height is for them


class View(NamedTuple):
    """One look, and the ports of it that were asked for."""

    report: Report
    ports: Sequence[PortStatus]


class Outlet(Protocol):
    """Where views go. `show()` is called for every look and decides itself what is news."""

    def show(self, view: View) -> None:
        """Show what is new in `view`."""

    def inputs(self) -> dict[int, Callable[[], None]]:
        """Descriptors to wait for beside the kernel's, and what to do when one is readable."""


class Ended(Exception):
    """The user has seen enough."""


def watch(look: Callable[[], View], outlet: Outlet, *, rdma: bool, tick: float = TICK) -> None:
    """Look and show until the user ends it, by ^C or from the outlet.

    BrokenPipeError as soon as nobody reads standard output any more, even while nothing changes.
    """
    least = tick
    with contextlib.suppress(KeyboardInterrupt, Ended), Monitor(rdma=rdma) as monitor:
        pause = _Pause(monitor, outlet)
        outlet.show(look())  # not measured: it also loads what looking takes
        while True:
            pause(tick)
            before = _spent()
            view = look()
            _reap()
            outlet.show(view)
            tick = min(max(least, (_spent() - before) * _SHARE), max(least, _SLOWEST))


def _spent() -> float:
    """Seconds of processor time, of children too."""
    return sum(os.times()[:4])


class _Pause:
    """Waits until it is time to look again."""

    def __init__(self, monitor: Monitor, outlet: Outlet) -> None:
        self._monitor = monitor
        self._outlet = outlet

    def __call__(self, seconds: float) -> None:
        now = time.monotonic()
        until, burst_ends = now + seconds, None
        while now < until:
            ready = self._poll(until - now)
            now = time.monotonic()
            if ready.intersection(self._monitor.descriptors):
                self._monitor.drain()
                burst_ends = burst_ends or now + BURST
                until = min(now + QUIET, burst_ends)

    def _poll(self, seconds: float) -> set[int]:
        """The readable descriptors, those of the outlet served already."""
        inputs = self._outlet.inputs()
        poll = select.poll()
        for number in (*inputs, *self._monitor.descriptors):
            poll.register(number, select.POLLIN)
        with contextlib.suppress(OSError, ValueError):
            poll.register(sys.stdout.fileno(), 0)  # reports only that the reader has gone
        ready = dict(poll.poll(seconds * 1000))
        for number, serve in inputs.items():
            if number in ready:
                serve()
        if any(event & select.POLLERR for event in ready.values() if event):
            _check_reader()
        return set(ready)


def _check_reader() -> None:
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        raise BrokenPipeError


def _reap() -> None:
    """Collect children that a look left behind because the kernel did not answer them."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


class _Differs:
    """The ports of the last view, to tell what changed."""

    def __init__(self) -> None:
        self._ports: Sequence[PortStatus] | None = None

    def __call__(self, ports: Sequence[PortStatus]) -> list[Change]:
        found = [] if self._ports is None else list(changes(self._ports, ports))
        self._ports = ports
        return found


class Blocks:
    """A block of plain lines for each view that reads differently: time, changes, table."""

    def __init__(self, app: App, lines: Callable[[View], Sequence[str]]) -> None:
        self._app = app
        self._lines = lines
        self._last: Sequence[str] | None = None
        self._differs = _Differs()

    def show(self, view: View) -> None:
        lines = self._lines(view)
        news = self._differs(view.ports)
        if lines == self._last:
            return
        gap = [""] if self._last is not None else []
        self._last = lines
        stamp = timestamp(view.report.time)
        self._app.out(*gap, f"--- {stamp}", *(f"* {item}" for item in news), *lines)
        sys.stdout.flush()

    def inputs(self) -> dict[int, Callable[[], None]]:
        return {}


class JsonLines:
    """One document a line, for each view that differs in more than its time."""

    def __init__(self) -> None:
        self._last: object = None

    def show(self, view: View) -> None:
        document = status_document(view.report, view.ports)
        content = {name: value for name, value in document.items() if name != "time"}
        if content != self._last:
            self._last = content
            sys.stdout.write(dumps(document, indent=None) + "\n")
            sys.stdout.flush()

    def inputs(self) -> dict[int, Callable[[], None]]:
        return {}


class MetricsFile:
    """The exposition, written again for every view: its time stamp shows how fresh it is."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def show(self, view: View) -> None:
        from manactl.render import atomic_file  # noqa: PLC0415 - for this outlet alone
        from manactl.render.prometheus import exposition  # noqa: PLC0415

        atomic_file.write(self._path, exposition(view.report, view.ports))

    def inputs(self) -> dict[int, Callable[[], None]]:
        return {}


class Painting:
    """The table on a terminal. Ports changed last are marked, the latest changes listed below."""

    def __init__(
        self,
        screen: Screen,
        signalled: int,
        lines: Callable[[View, int, frozenset[Key]], Sequence[str]],
    ) -> None:
        self._screen = screen
        self._signalled = signalled
        self._lines = lines
        self._differs = _Differs()
        self._recent: deque[str] = deque(maxlen=_RECENT)
        self._marked: frozenset[Key] = frozenset()
        self._view: View | None = None

    def show(self, view: View) -> None:
        news = self._differs(view.ports)
        if news:
            self._marked = frozenset(item.key for item in news)
            self._recent += [f"{view.report.time:%H:%M:%S}  {item}" for item in news]
        self._view = view
        self._paint()

    def inputs(self) -> dict[int, Callable[[], None]]:
        keyboard = self._screen.keyboard
        more = {} if keyboard is None else {keyboard: self._key}
        return {self._signalled: self._signal, **more}

    def _paint(self) -> None:
        if self._view is None:
            return
        width, height = self._screen.size
        title = f"{escape(os.uname().nodename)}  {timestamp(self._view.report.time)}  q ends"
        recent = list(self._recent)[-max(height // 4, 1) :]
        recent = ["", "changes (* the last):", *recent] if recent else []
        body = list(self._lines(self._view, width, self._marked))
        room = max(height - 2 - len(recent), 1)
        if len(body) > room:
            cut = len(body) - room + 1
            body[room - 1 :] = [f"... {cut} more lines; name the ports to watch, or use more rows"]
        self._screen.paint([title, "", *body, *recent])

    def _key(self) -> None:
        keys = os.read(0, 64)
        if not keys or b"q" in keys.lower():
            raise Ended

    def _signal(self) -> None:
        if signal.SIGTSTP in os.read(self._signalled, 64):
            self._screen.suspend()
        self._paint()


def on_terminal(
    look: Callable[[], View],
    lines: Callable[[View, int, frozenset[Key]], Sequence[str]],
    *,
    rdma: bool,
    tick: float = TICK,
) -> None:
    """Watch on the terminal of standard output."""
    # The first look is before the screen is taken, so that an unknown PORT is reported as usual.
    first = [look()]
    with signals() as signalled, Screen() as screen:
        painting = Painting(screen, signalled, lines)
        watch(lambda: first.pop() if first else look(), painting, rdma=rdma, tick=tick)


class Chosen:
    """The ports that PORT words named at the first look, whatever they are called later."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self._keys: list[Key] | None = None

    def __call__(self, report: Report) -> View:
        """UsageError at the first look alone; a port that is gone later is just not there."""
        if not self._words:
            return View(report, report.ports)
        if self._keys is None:
            ports = resolve(report, self._words)
            self._keys = [key(port) for port in ports]
            return View(report, ports)
        here = {key(port): port for port in report.ports}
        return View(report, [here[chosen] for chosen in self._keys if chosen in here])
