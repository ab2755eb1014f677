"""Signals during a claim or release, and reports about a step that is stuck in the kernel.

Setting a netdev down or up runs inside sendmsg(), and no signal is handled there while the driver
waits for its device. So a thread watches: it reports what is being waited for, and that ^C came.

Once something is about to be changed a signal is only remembered. It takes effect where nothing is
half done: between two steps, and while a step pauses before it looks again.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

from manactl.act import outcome_words, progress_words
from manactl.errors import Interrupted
from manactl.escape import called
from manactl.look.blocked_tasks import in_drivers, waiting
from manactl.look.procfs import stat_of
from manactl.look.text_files import text

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 2.0  # s that a step may take without a report
AGAIN = 10.0  # s between two reports
_SLICE = 0.1  # s: a signal that another thread was given ends no sleep of this one

Report = Callable[[str], None]
_lasting: dict[int, Any] = {}  # handlers of signals that are ignored until the end


class StopRequested(KeyboardInterrupt):
    """A signal asked to stop. Not an Exception: nothing may take it for a failed step."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.name = signal.Signals(number).name


class SignalGate:
    """Turns the first SIGINT, SIGTERM or SIGHUP into StopRequested; later ones change nothing.

    Meant to be held until the outcome has been reported: a signal that comes after the last act
    must not turn a completed claim into a report that nothing was changed. `lasting`: once anything
    was changed, signals stay ignored until restore(). `report` gets a line about a step that is
    stuck; without it nothing is reported.
    """

    def __init__(
        self, report: Report | None = None, *, patience: float = PATIENCE, lasting: bool = False
    ) -> None:
        self._mode = "looking"
        self._lasting = lasting
        self._pending: int | None = None
        self._before: dict[int, Any] = {}
        self._watch = None if report is None else StuckStepReporter(report, patience=patience)

    def acting(self) -> None:
        """From now on a signal is remembered, and raises StopRequested at the next boundary."""
        self._mode = "acting"
        if self._watch is not None:
            self._watch.reply = progress_words.UNDOING

    def ignore(self) -> None:
        """From now on signals are ignored: unwinding must not be interrupted."""
        self._mode = "ignoring"
        if self._watch is not None:
            self._watch.reply = progress_words.FINISHING

    def listen(self) -> None:
        """From now on a signal raises at once again: nothing is half done. A signal that came
        meanwhile raises StopRequested now."""
        self._mode = "looking"
        if self._watch is not None:
            self._watch.reply = progress_words.STOPPING
        if self._pending is not None:
            self._stop(self._pending, None)

    def boundary(self) -> None:
        """Nothing is half done here: StopRequested when a signal has come."""
        if self._pending is not None and self._mode == "acting":
            self._mode = "ignoring"
            if self._watch is not None:
                self._watch.took(self._pending)
            raise StopRequested(self._pending)

    def settled(self) -> None:
        """No step follows: the thread that watches them ends, for a fork() to come."""
        if self._watch is not None:
            self._watch.close()

    @property
    def late(self) -> int | None:
        """A signal that came when nothing could be stopped any more, and was only remembered."""
        return self._pending

    def pause(self, seconds: float) -> None:
        """Sleep, a boundary all the while."""
        deadline = time.monotonic() + seconds
        self.boundary()
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE))
            self.boundary()

    def __enter__(self) -> SignalGate:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, a background job
                self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        if self._lasting and self._mode != "looking":
            _lasting.update(self._before)
        self._mode = "ignoring"
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if number in _lasting else handler)
        if self._watch is not None:
            self._watch.close()

    @contextlib.contextmanager
    def as_interrupted(self, done: Sequence[str] = ()) -> Iterator[None]:
        """A signal before the first act ends in Interrupted, whose code is 130. `done`: what was
        done all the same, as journals that were put away; it may grow meanwhile."""
        try:
            yield
        except StopRequested as stop:
            raise Interrupted(outcome_words.interrupted_having(stop.name, done)) from stop

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        """A block that may get stuck in the kernel; `what` names it in reports."""
        if self._watch is None:
            yield
            return
        with self._watch.over(what, self._before):
            yield

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if self._mode == "looking":
            self._mode = "ignoring"
            raise StopRequested(number)
        self._pending = number


def restore() -> None:
    """Install the handlers again that were there before something was changed."""
    while _lasting:
        signal.signal(*_lasting.popitem())


class StuckStepReporter:
    """A thread that watches the thread which made it. Started with the first step.

    While a step runs the watched thread blocks the signals, so that the kernel delivers them to
    this thread: the watched thread would not handle them before its system call ends. Python's own
    handler runs in the watched thread as usual, as soon as the system call has returned: a step
    must not sleep long at a time.

    Optional: where no thread or pipe can be made, steps run without it.
    """

    def __init__(self, report: Report, *, patience: float, proc: str = "/proc") -> None:
        self._send = report
        self._patience = patience
        self._proc = proc
        self._watched = threading.get_native_id()
        self._task: tuple[str, float] | None = None
        self._thread: threading.Thread | None = None
        self._ends = (-1, -1)
        self._mask: set[int] = set()
        self.reply = progress_words.STOPPING
        self._lock = threading.Lock()  # for both of these
        self._reported: set[int] = set()  # signals
        self._replies: dict[int, str] = {}  # to signals that took effect and are not reported yet

    def took(self, number: int) -> None:
        """This signal takes effect now: keep the reply to it, which may be another one by the time
        that the thread reports the signal."""
        with self._lock:
            if number not in self._reported:
                self._replies[number] = self.reply

    @contextlib.contextmanager
    def over(self, what: str, numbers: Any) -> Iterator[None]:
        """Watch until the block is left. `numbers` are the signals that are listened to."""
        if not self._start():
            yield
            return
        before = self._task
        self._task = (what, time.monotonic())
        self._poke()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        try:
            yield
        finally:
            self._task = before
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def close(self) -> None:
        """End the thread. Signals that came before have been reported."""
        if self._thread is None:
            return
        signal.set_wakeup_fd(-1)
        os.close(self._ends[1])
        self._thread.join()
        os.close(self._ends[0])
        self._thread = None
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _start(self) -> bool:
        """Whether it runs."""
        if self._thread is not None:
            return True
        try:
            ends = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return False
        thread = threading.Thread(target=self._run, name="stuck-step", daemon=True)
        self._ends = ends
        try:
            thread.start()
        except RuntimeError:  # no thread can be started
            os.close(ends[0])
            os.close(ends[1])
            return False
        self._mask = set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        signal.set_wakeup_fd(ends[1], warn_on_full_buffer=False)
        self._thread = thread
        return True

    def _poke(self) -> None:
        with contextlib.suppress(OSError):  # full: it is awake; no memory: it looks later
            os.write(self._ends[1], b"\0")

    def _run(self) -> None:
        reported: tuple[str, float] | None = None
        due = 0.0
        poll = select.poll()  # select() knows no descriptor above 1023
        poll.register(self._ends[0], select.POLLIN)
        while True:
            task = self._task
            if task is not reported:
                reported = task
                due = 0.0 if task is None else task[1] + self._patience
            left = None if task is None else max(0.0, due - time.monotonic())
            if poll.poll(None if left is None else left * 1000):
                try:
                    data = os.read(self._ends[0], 4096)
                except OSError:  # no memory
                    return
                if not data:
                    return
                self._heard(number for number in data if number)
            elif task is not None and task is self._task:
                due = time.monotonic() + AGAIN
                self._stuck(*task)

    def _heard(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            with self._lock:
                reply = self._replies.pop(number, None) or self.reply
                self._reported.add(number)
            self._report(progress_words.heard(signal.Signals(number).name, reply))

    def _stuck(self, what: str, since: float) -> None:
        try:
            why = stuck_in(self._watched, self._proc)
        except OSError:  # no descriptor to look with
            return
        if why is not None:
            self._report(progress_words.not_done(what, time.monotonic() - since, why))

    def _report(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # it cannot be printed; the step goes on
            self._send(line)


def stuck_in(thread: int, proc: str = "/proc") -> str | None:
    """Where in the kernel a thread of this process is, in words; None when it is not stuck."""
    base = f"{proc}/self/task/{thread}"
    stack = text(f"{base}/stack") or ""  # root's
    functions = in_drivers(stack)
    if functions:
        return progress_words.in_driver(functions[0])
    if stat_of(base).state != "D":
        return None
    others = [task for task in waiting(proc) if task.pid != os.getpid()]
    if others:
        task = others[0]
        return progress_words.behind(f"{called(task.comm)} (pid {task.pid})", task.function)
    if stack:
        return progress_words.in_kernel(stack.partition("] ")[2].partition("+")[0])
    return progress_words.IN_A_CALL
