"""A command that runs with the claimed ports, and the release when its last holder is gone.

The command is a child in our own process group, with our terminal: ^C, ^Z and a change of the
window reach it as they reach any program that a shell has started. Signals that are sent to this
process alone are passed on, and it stops when its child is stopped by the terminal, so that the
shell's job control works. Its end is reported as the shell would (timeout(1) does the same).
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from manactl import inherited
from manactl.act import progress_words
from manactl.act import release as releasing
from manactl.act.claim import ClaimResult
from manactl.act.host import Host
from manactl.act.progress import Progress
from manactl.act.release_when_free import Policy, release_when_free
from manactl.act.released import ReleaseRequest, ReleaseResult
from manactl.act.signals import SignalGate, StopRequested
from manactl.act.uio import BindUio
from manactl.errors import (
    NOT_EXECUTABLE,
    NOT_FOUND,
    Busy,
    Interrupted,
    RolledBack,
    strerror,
)
from manactl.model.port import PortId, PortStatus

SI_KERNEL = 0x80  # include/uapi/asm-generic/siginfo.h: by the terminal, which tells the whole group
_STOPPING = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
FORWARDED = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2,
    signal.SIGALRM, signal.SIGCONT, signal.SIGWINCH, *_STOPPING,
)  # fmt: skip
_HANDLED = frozenset({*FORWARDED, signal.SIGCHLD})
# s. The kernel may give SIGCHLD to another thread, which does not block it, and there it is ignored.
_LOOK_AGAIN = 2.0
_POLICY = Policy(first=0.1, busy_most=5.0)
_GO = b"g"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: `status` is its exit status, or None when `signal` ended it.

    `failed`: why it could not be executed at all.
    """

    status: int | None
    signal: int | None = None
    failed: str | None = None

    @property
    def code(self) -> int:
        """The exit code that a shell would report."""
        return 128 + (self.signal or 0) if self.status is None else self.status


def environment(result: ClaimResult, inherited: Mapping[str, str]) -> dict[str, str]:
    """The command's environment: ours, and what it needs to know of the claimed ports.

    Each variable has a word for each port, in the order in which they were asked for; "-" stands
    for what a port does not have. MANACTL_EAL are arguments for DPDK.
    """
    ports = result.ports
    return {
        **inherited,
        "MANACTL_NETDEV": _words(port.netdev.name if port.netdev else None for port in ports),
        "MANACTL_PCI": _words(port.id.pci for port in ports),
        "MANACTL_MAC": _words(port.id.permanent_mac for port in ports),
        "MANACTL_RDMA": _words(
            f"{port.rdma.device}/{port.rdma.port}" if port.rdma else None for port in ports
        ),
        "MANACTL_UPPER": _words(port.pair.netdev if port.pair else None for port in ports),
        "MANACTL_VMBUS": _words(port.pair.vmbus if port.pair else None for port in ports),
        "MANACTL_EAL": " ".join(_eal(result)),
    }


def _words(values: Iterable[str | None]) -> str:
    return " ".join(value or "-" for value in values)


def _eal(result: ClaimResult) -> list[str]:
    """`-a PCI,mac=MAC[,mac=MAC]` for each function, `-a UUID` for each VMBus device of uio."""
    macs: dict[str, list[str]] = {}
    for port in result.ports:
        macs.setdefault(port.id.pci, []).append(f",mac={port.id.permanent_mac}")
    words = [word for pci, found in macs.items() for word in ("-a", pci + "".join(found))]
    for port in result.ports:
        if port.pair and _is_on_uio(result, port):
            words += ["-a", str(port.pair.vmbus)]
    return words


def _is_on_uio(result: ClaimResult, port: PortStatus) -> bool:
    return BindUio.KIND in result.facts.get(port.id, {})


def found(command: str, path: str) -> int:
    """0 when the command can be executed, else the exit code of a shell: nothing is claimed for a
    word that was mistyped."""
    places = [""] if "/" in command else path.split(os.pathsep)
    there = [os.path.join(place or ".", command) if place else command for place in places]
    files = [name for name in there if os.path.isfile(name)]
    if any(os.access(name, os.X_OK) for name in files):
        return 0
    return NOT_EXECUTABLE if files else NOT_FOUND


def run(
    argv: Sequence[str],
    env: Mapping[str, str],
    started: Callable[[int], None],
    late: Callable[[], int | None] = lambda: None,
) -> Ended:
    """Run the command to its end. `started` gets its pid before it is executed; when that raises,
    it is not executed. RolledBack when no process could be had: nothing was started.

    `late`: a signal that came already, for which it is not started either. From then on signals
    are the command's.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    try:
        if (number := late()) is not None:
            return Ended(None, number)
        child = _Child(argv, env, before)
        try:
            started(child.pid)
        except BaseException:
            child.abandon()
            raise
        child.go()
        return child.follow()
    finally:
        while signal.sigtimedwait(_HANDLED, 0):
            pass  # meant for the command, which is gone
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Child:
    """The process of the command. It waits to be told before it executes anything."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], mask: Collection[int]) -> None:
        ends: list[int] = []
        try:
            ends += os.pipe2(os.O_CLOEXEC)
            ends += os.pipe2(os.O_CLOEXEC)
            self.pid = os.fork()
        except OSError as error:  # RLIMIT_NOFILE; pids.max, RLIMIT_NPROC
            for end in ends:
                os.close(end)
            raise _no_process(argv[0], error) from error
        wait, self._go, self._failed, failed = ends
        if self.pid == 0:
            os.close(self._go)
            _become(argv, env, mask, wait, failed)
        os.close(wait)
        os.close(failed)

    def go(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # it was killed: that is its end
            os.write(self._go, _GO)
        os.close(self._go)

    def abandon(self) -> None:
        """Have it end without executing anything."""
        os.close(self._go)
        os.close(self._failed)
        os.waitpid(self.pid, 0)

    def follow(self) -> Ended:
        """Pass signals on until it ends."""
        while True:
            told = signal.sigtimedwait(_HANDLED, _LOOK_AGAIN)
            if told is None or told.si_signo == signal.SIGCHLD:
                if (ended := self._changed()) is not None:
                    return ended
            elif told.si_code != SI_KERNEL:
                if told.si_pid != os.getpid():  # else it is ours to the group
                    self._tell(told.si_signo)
            elif told.si_signo == signal.SIGHUP:
                # A terminal that hangs up tells the session's leader alone, and the others when
                # that ends (disassociate_ctty()): but we wait for them.
                if os.getsid(0) == os.getpid():
                    os.killpg(os.getpgrp(), signal.SIGHUP)
                else:
                    self._tell(signal.SIGHUP)

    def _tell(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def _changed(self) -> Ended | None:
        """Its end, when it has ended. When the terminal has stopped it, stop as well."""
        flags = os.WEXITED | os.WSTOPPED | os.WNOHANG
        while (news := os.waitid(os.P_PID, self.pid, flags)) is not None:
            if news.si_code == os.CLD_STOPPED:
                if news.si_status in _STOPPING:
                    os.kill(os.getpid(), signal.SIGSTOP)
            elif news.si_code == os.CLD_EXITED:
                failed = self._why_not()
                return Ended(news.si_status, failed=failed)
            else:
                os.close(self._failed)
                return Ended(None, news.si_status)
        return None

    def _why_not(self) -> str | None:
        with open(self._failed, "rb") as pipe:
            number = pipe.read()
        return os.strerror(int(number)) if number else None


def _no_process(command: str, error: OSError) -> RolledBack:
    """For the caller to raise once the claim is released."""
    return RolledBack(
        f"{command} was not started: {strerror(error)}; the claim was released",
        hint="processes (pids.max of the unit or session, `ulimit -u`) or open files (`ulimit -n`) "
        "are limited; claim again when there is room",
    )


def _become(
    argv: Sequence[str], env: Mapping[str, str], mask: Collection[int], wait: int, failed: int
) -> NoReturn:
    """In the child: wait for the word, and execute."""
    code = NOT_FOUND
    try:
        if os.read(wait, 1) == _GO:
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
                signal.signal(number, signal.SIG_DFL)
            if inherited.sigchld_ignored:
                signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            for number in _HANDLED:  # what comes before the new program is there is meant for it
                if callable(signal.getsignal(number)):
                    signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.execvpe(argv[0], list(argv), dict(env))  # noqa: S606 - no shell, as asked
    except OSError as error:
        code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
        os.write(failed, str(error.errno).encode())
    finally:
        os._exit(code)


def release(
    request: ReleaseRequest,
    ports: Sequence[PortId],
    host: Host,
    signals: SignalGate,
    progress: Progress,
) -> ReleaseResult:
    """Release the claim of one journal (`request.only`, quiet) when the last holder of its ports is
    gone; nothing where somebody has released it already.

    A holder may outlive the command: the descriptor of a queue pair is shared by fork(). Busy when
    a signal ends the waiting; the guardian goes on then.
    """
    told = False

    def busy(error: Exception) -> None:
        nonlocal told
        assert isinstance(error, Busy)  # by this policy every other is raised
        if not told:
            progress.noted(progress_words.released_later(error.first_line))
        told = True

    try:
        result = release_when_free(
            request,
            lambda: ports,
            host,
            lambda one: releasing.release(one, host, signals, progress),
            _POLICY,
            failed=busy,
        )
    except (Interrupted, StopRequested) as stop:
        raise Busy(
            "interrupted before the port was free; the guardian releases the claim when it is",
            hint="`manactl status` shows the holders",
            code="holder",
        ) from stop
    assert result is not None  # only another attempt ends it
    return result
