"""The guardian of a claim that ends by itself: a process outside the session that releases it.

It is started before anything is changed and knows the claim by its journal. It acts when the
manactl that claimed (the runner) is gone and the claim is not, once the command has ended that the
runner had started; or when nobody has confirmed the claim in time. A closed terminal, or SIGKILL
of the session's whole process group, does not reach it. When it is killed, too, the journal is an
interrupted claim's or a standing one's, as ever: `recover` or `release`.

It ends nobody: while a raw QP has the port, a claim that was not confirmed waits for the holder.

Runner and guardian talk over a pair of sockets. The guardian acknowledges each message, so what the
runner does next is covered; the end of the runner is the end of the stream.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from traceback import format_exc
from typing import Any, Protocol, Self

from manactl.act import own_scope, progress_words
from manactl.act import release as releasing
from manactl.act.audit import to_syslog
from manactl.act.host import Host
from manactl.act.progress import Silent
from manactl.act.release_when_free import Policy, release_when_free
from manactl.act.released import ReleaseRequest
from manactl.act.signals import SignalGate
from manactl.errors import ManactlError, NotRestored, RolledBack, strerror
from manactl.journal import file as journal
from manactl.journal import lock, unconfirmed
from manactl.journal.file import JournalError
from manactl.look import boot_timer
from manactl.look.file_events import FileEvents
from manactl.model.claim import Phase
from manactl.model.record import Reason

_ANSWER = own_scope.AT_MOST + 5.0  # s in which the guardian answers
_MESSAGE = 65536  # bytes
_LOG_ERR, _DAEMON = 3, 3  # RFC 5424
_IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGPIPE)
_POLICY = Policy(first=0.4, busy_most=15.0, else_most=300.0, not_restored=(2.0, 10.0, 60.0))
_LOOKS, _LOOK_AGAIN = 60, 1.0  # at a journal that cannot be read; s
_SYNCED = 30.0  # s for a record to be on the disk


class Guard(Protocol):
    """The runner's end."""

    @property
    def pid(self) -> int: ...
    @property
    def started(self) -> int | None: ...
    def arm(self, path: Path, deadline: float | None) -> None: ...
    def watch(self, pid: int) -> None: ...
    def leave(self) -> None: ...


class LiveGuard:
    """A guardian that runs; a context manager, whose end it takes for the runner's."""

    def __init__(self, sock: socket.socket, pid: int) -> None:
        self._sock = sock
        self.pid = pid
        self.started = unconfirmed.started(pid)

    def arm(self, path: Path, deadline: float | None) -> None:
        """From now on the guardian ends the claim of this journal when the runner is gone, and at
        `deadline` seconds of CLOCK_BOOTTIME unless it is confirmed."""
        self._tell({"arm": str(path), "deadline": deadline})

    def watch(self, pid: int) -> None:
        """Have it wait for this process, too, which was started for the claim."""
        self._tell({"watch": pid})

    def leave(self) -> None:
        """The runner may go: once the journal says that the port is claimed, only the deadline
        counts. RolledBack when that is past already."""
        self._tell({"leave": True})

    def _tell(self, message: Mapping[str, object]) -> None:
        try:
            self._sock.sendall(json.dumps(message).encode())
            answer = self._sock.recv(_MESSAGE)
            said = json.loads(answer) if answer else {"failed": progress_words.GUARDIAN_ENDED}
        except OSError as error:
            said = {"failed": strerror(error)}
        if said.get("late"):
            raise RolledBack(
                "the time to confirm it was over before it was made",
                hint="give it more time: --confirm-within SECONDS",
                code="guardian",
            )
        if said["failed"] is not None:
            raise _no_guardian(str(said["failed"]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()


def _no_guardian(why: str) -> RolledBack:
    return RolledBack(
        f"the guardian, the process that is to end the claim, cannot do its work: {why}; "
        "no port is claimed",
        hint="fix the cause, or claim without it and release by hand",
        code="guardian",
    )


def start(state_dir: Path, host: Host) -> LiveGuard:
    """Start the guardian of a claim that is to come. It ends with us until it is armed.

    To be called while this process has one thread and no descriptors that matter: the guardian is
    a fork of it, and closes all that it inherits. RolledBack when it cannot be started.
    """
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.ExitStack() as failing:
            failing.enter_context(ours)
            with theirs:
                # A signal whose handler ran in the child would have it go on as a second runner.
                mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
                try:
                    child = os.fork()
                    if child == 0:
                        _second_fork(ours, theirs, state_dir, host)
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                os.waitpid(child, 0)
            ours.settimeout(_ANSWER)
            if not (first := ours.recv(_MESSAGE)):
                raise _no_guardian("it ended at once (the system log says why)")
            pid = int(json.loads(first)["pid"])
            failing.pop_all()
        return LiveGuard(ours, pid)
    except (OSError, ValueError) as error:
        raise _no_guardian(str(error)) from error


def _second_fork(ours: socket.socket, theirs: socket.socket, state_dir: Path, host: Host) -> None:
    """In the child: a session of its own, and in it a process that is nobody's child."""
    try:
        ours.close()
        os.setsid()
        if os.fork() == 0:
            _detach(theirs.fileno())
            own_scope.enter(f"manactl-guard-{os.getpid()}.scope", progress_words.GUARDIAN)
            theirs.sendall(json.dumps({"pid": os.getpid()}).encode())
            Watch(theirs, state_dir, host).run()
    except BaseException:  # noqa: BLE001 - nothing of the runner may run here
        to_syslog([progress_words.GUARDIAN_FAILED, *format_exc().splitlines()], _LOG_ERR, _DAEMON)
    finally:
        os._exit(0)


def _detach(keep: int) -> None:
    """Leave everything of the runner but one descriptor: a reader of its output must see the end."""
    for ignored in _IGNORED:
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.closerange(3, keep)
    os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))
    os.chdir("/")
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text("manactl-guard")


class Watch:
    """What the guardian does. `run` returns when the claim is over, or needs nobody any more."""

    def __init__(self, sock: socket.socket, state_dir: Path, host: Host) -> None:
        self._sock: socket.socket | None = sock
        self._state_dir = state_dir
        self._host = host
        self._path: Path | None = None
        self._journal: FileEvents | None = None
        self._process: int | None = None
        self._left = False
        self._late = False
        self._over = False
        self._why: Reason | None = None  # the claim is to be ended: the reason
        self._events: dict[int, Callable[[], None]] = {sock.fileno(): self._told}
        self._stack = contextlib.ExitStack()

    def run(self) -> None:
        with self._stack:
            while not self._over and self._why is None:
                ready = self._host.processes.first(self._events, None)
                for fd in list(self._events):  # in this order: the runner comes before the timer
                    if fd in ready and (handler := self._events.get(fd)):
                        handler()
            if self._why is not None and self._path is not None:
                self._end(self._path, self._why)

    # -- events

    def _told(self) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(_MESSAGE)
        except OSError:
            data = b""
        if not data:
            self._runner_gone()
            return
        answer: dict[str, object] = {"failed": None}
        try:
            answer["late"] = not self._obey(json.loads(data))
        except OSError as error:
            answer["failed"] = strerror(error)
        with contextlib.suppress(OSError):  # it has gone: the next event
            self._sock.sendall(json.dumps(answer).encode())

    def _obey(self, message: Mapping[str, Any]) -> bool:
        """Do what the runner asks for; False when it is too late for that."""
        if "arm" in message:
            path = Path(message["arm"])
            events = self._stack.enter_context(FileEvents(path))
            if message["deadline"] is not None:
                timer = boot_timer.at(message["deadline"])
                self._stack.callback(os.close, timer)
                self._events[timer] = lambda: self._too_late(timer)
            self._events[events.fd] = self._written
            self._path, self._journal = path, events
        elif "watch" in message:
            fd = self._host.processes.open(message["watch"])
            self._stack.callback(self._host.processes.close, fd)
            self._process = fd
            self._events[fd] = self._process_ended
        elif "leave" in message:
            self._left = not self._late
            return self._left
        return True

    def _runner_gone(self) -> None:
        assert self._sock is not None
        del self._events[self._sock.fileno()]
        self._sock = None
        if self._path is None:
            self._over = True
        elif self._process is None and not self._stands(self._path):
            self._why = Reason.ABANDONED

    def _stands(self, path: Path) -> bool:
        """Whether the runner has come to its end, and left the claim to be confirmed. Where that
        cannot be read, the deadline ends it at the latest."""
        if not self._left:
            return False
        for _ in range(_LOOKS):
            try:
                return journal.read(path).phase is Phase.CLAIMED
            except FileNotFoundError:
                return False
            except (JournalError, OSError):
                self._host.pause(_LOOK_AGAIN)
        return True

    def _process_ended(self) -> None:
        assert self._process is not None
        del self._events[self._process]
        self._process = None
        if self._sock is None:
            self._why = Reason.ABANDONED

    def _written(self) -> None:
        assert self._path is not None
        assert self._journal is not None
        self._journal.drain()
        if not self._path.exists() or (self._left and self._is_confirmed(self._path)):
            self._over = True

    def _is_confirmed(self, path: Path) -> bool:
        """Whether the record of it is on the disk: who writes it takes it back when it cannot be
        synced, and has the lock until then. Where it cannot be read it is looked at again when the
        time is over; what ends the claim reports it."""
        try:
            content = journal.read(path)
            if content.waiting is not None:
                return False
            pcis = {port.pci for port in content.all_ports}
            with lock.functions(self._state_dir, pcis, wait=_SYNCED):
                return journal.read(path).waiting is None
        except FileNotFoundError:
            return True
        except (ManactlError, OSError):
            return False

    def _too_late(self, timer: int) -> None:
        """The runner is told when it wants to leave; it undoes what it has done, as nobody has
        been told that the port is claimed."""
        del self._events[timer]
        self._late = True
        if self._left:
            self._why = Reason.EXPIRED

    # -- the end

    def _end(self, path: Path, why: Reason) -> None:
        """Release, as soon as the last holder lets go. A claim that is confirmed before that stays.

        The first refusal of a claim that was not confirmed in time is an entry in the system log.
        """
        expired = why is Reason.EXPIRED
        request = ReleaseRequest(
            self._state_dir, only=path, why=why, unconfirmed=expired, quiet=not expired
        )
        assert self._journal is not None
        events = self._journal

        def over() -> bool:
            events.drain()  # before the look: what is written after it ends the next wait
            return not path.exists() or (expired and self._is_confirmed(path))

        def attempt(request: ReleaseRequest) -> None:
            with SignalGate() as signals:
                releasing.release(request, self._host, signals, Silent())

        # Nobody else gives the port back, and there may be no other way to this machine. Of what
        # cannot be restored release() has told; of a journal that is gone there is nothing to say.
        with contextlib.suppress(FileNotFoundError, NotRestored):
            release_when_free(
                request,
                lambda: journal.read(path).ports,
                self._host,
                attempt,
                _POLICY,
                failed=_log,
                over=over,
                wake={events.fd} if expired else (),
            )


def _log(error: Exception) -> None:
    """An attempt that failed; of a ManactlError release() has told."""
    if not isinstance(error, ManactlError):
        to_syslog([progress_words.GUARDIAN_AGAIN, *format_exc().splitlines()], _LOG_ERR, _DAEMON)
