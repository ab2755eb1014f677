"""Running a command with claimed ports: real children, over a machine in memory."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from manactl.act import exec_mode
from manactl.act.exec_mode import Ended
from manactl.act.released import Outcome, ReleaseRequest
from manactl.act.signals import SignalGate
from manactl.errors import Busy, RolledBack
from tests.unit.act.test_guardian import Told
from tests.unit.host import FakeHost, Followed, claim, furnished, paired, release, two_ports
from tests.unit.kernel import Kernel
from tests.unit.wording import Coded, says, wording

ENV = dict(os.environ)


def nothing(_pid: int) -> None:
    pass


def shell(script: str, started: Callable[[int], None] = nothing) -> Ended:
    return exec_mode.run(["sh", "-c", script], ENV, started)


# --- the command --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "ended", "code"),
    [
        ("exit 0", Ended(0), 0),
        ("exit 7", Ended(7), 7),
        ("exit 125", Ended(125), 125),
        ("kill -TERM $$", Ended(None, 15), 143),
        ("kill -KILL $$", Ended(None, 9), 137),
    ],
)
def test_a_command_ends_as_a_shell_would_say(script: str, ended: Ended, code: int) -> None:
    assert shell(script) == ended
    assert ended.code == code


def test_it_begins_only_when_the_guardian_knows_it(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    pids: list[int] = []

    def started(pid: int) -> None:
        pids.append(pid)
        assert not mark.exists()

    assert shell(f"echo $$ > {mark}", started) == Ended(0)
    assert mark.read_text() == f"{pids[0]}\n"
    mark.unlink()

    def lost(pid: int) -> None:
        pids.append(pid)
        raise RolledBack("no guardian")

    with pytest.raises(RolledBack):
        shell(f"echo $$ > {mark}", lost)
    assert not mark.exists()
    with pytest.raises(ChildProcessError):
        os.waitpid(pids[1], os.WNOHANG)  # no zombie


BESIDE_A_THREAD = """
import os, signal, threading
from manactl.act import exec_mode
threading.Thread(target=threading.Event().wait, daemon=True).start()
mask = signal.pthread_sigmask(signal.SIG_BLOCK, exec_mode._HANDLED)
child = exec_mode._Child(["sh", "-c", "exit 7"], os.environ, mask)
child.go()
os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
print(child.follow())
"""


def test_an_end_that_was_told_to_another_thread_is_seen() -> None:
    """SIGCHLD is sent to the process; a thread that does not block it ignores it for all."""
    argv = [sys.executable, "-c", BESIDE_A_THREAD]
    env = ENV | {"PYTHONPATH": str(Path(exec_mode.__file__).parents[2])}
    ran = subprocess.run(argv, env=env, text=True, capture_output=True, timeout=60, check=True)
    assert ran.stdout == f"{Ended(7)}\n"


@pytest.mark.parametrize(
    ("content", "mode", "code"),
    [("#!/nonexistent\n", 0o755, 127), ("\0not a program", 0o755, 126)],
)
def test_what_cannot_be_executed_says_why(
    content: str, mode: int, code: int, tmp_path: Path
) -> None:
    path = tmp_path / "program"
    path.write_text(content)
    path.chmod(mode)
    ended = exec_mode.run([str(path)], ENV, nothing)
    assert ended.code == code
    assert ended.failed


def test_the_command_is_looked_for_first(tmp_path: Path) -> None:
    program, text = tmp_path / "program", tmp_path / "text"
    program.touch(0o755)
    text.touch(0o644)
    (tmp_path / "folder").mkdir()
    path = f"/nonexistent{os.pathsep}{tmp_path}"
    assert exec_mode.found("program", path) == 0
    assert exec_mode.found(str(program), "") == 0
    assert exec_mode.found("text", path) == exec_mode.found(str(text), path) == 126
    for word in ("none", "folder", f"{tmp_path}/none"):
        assert exec_mode.found(word, path) == 127


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT, signal.SIGUSR2,
        signal.SIGALRM, signal.SIGQUIT, signal.SIGCONT, signal.SIGWINCH, signal.SIGTSTP,
        signal.SIGTTIN, signal.SIGTTOU,
    ],
)  # fmt: skip
def test_a_signal_that_was_sent_to_us_is_passed_on(number: signal.Signals) -> None:
    """The shell tells when it is ready by sending one to its parent, which comes back to it.

    The parent is a process of one thread, as manactl is: the kernel may give a signal to any.
    """
    script = f"""
        trap 'exit 3' {number.name[3:]}
        kill -{number.name[3:]} $PPID
        i=0; while [ $((i += 1)) -lt 600 ]; do sleep 0.1; done  # one that is lost is no hang
    """
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            signal.signal(number, signal.SIG_DFL)  # in the background a shell has some ignored
            ended = shell(script)
            code = ended.code if not signal.sigpending() else 71
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        pytest.fail("it was stopped, and the command was not told")
    assert os.waitstatus_to_exitcode(status) == 3


def test_a_terminal_that_hangs_up_ends_all_that_run_on_it(tmp_path: Path) -> None:
    """The kernel tells the leader of the session alone, which is what runs the command here, and
    waits for those of the command that live on."""
    lives, answer = tmp_path / "lives", os.pipe()
    os.mkfifo(lives)
    pid, terminal = pty.fork()
    if pid == 0:
        os.write(answer[1], bytes([shell(f"sleep 1000 > {lives} & wait").code]))
        while True:
            signal.pause()
    with open(lives) as pipe:  # open when the background process has it open, too
        os.close(terminal)
        assert os.read(answer[0], 1) == bytes([128 + signal.SIGHUP])
        ended, _, _ = select.select([pipe], [], [], 10)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert ended


def test_a_terminal_that_hangs_up_is_passed_on_by_who_does_not_lead_its_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel tells a group, and the command's may be another by then."""
    waits = signal.sigtimedwait
    told: list[Any] = [SimpleNamespace(si_signo=signal.SIGHUP, si_code=exec_mode.SI_KERNEL)]
    monkeypatch.setattr(signal, "sigtimedwait", lambda *args: told.pop() if told else waits(*args))
    monkeypatch.setattr(os, "getsid", lambda _: -1)
    assert shell("exec sleep 60") == Ended(None, signal.SIGHUP)


def test_who_runs_a_command_that_the_terminal_has_stopped_stops_with_it() -> None:
    """The shell above waits for that, to take the terminal back."""
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)  # with its parent in another group: one that is orphaned does not stop
        os._exit(shell("kill -TSTP $$; exit 3").code)
    try:
        deadline = time.monotonic() + 60
        while (found := os.waitpid(pid, os.WUNTRACED | os.WNOHANG)) == (0, 0):
            assert time.monotonic() < deadline, "it runs on"
            time.sleep(0.01)
        assert os.WIFSTOPPED(found[1])
        os.killpg(pid, signal.SIGCONT)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def test_signals_are_as_before_for_the_command_and_afterwards() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    mask = "import signal; print(sorted(signal.pthread_sigmask(0, ())), signal.getsignal(13))"
    read, write = os.pipe()
    os.set_inheritable(write, True)
    program = f"import os; os.dup2({write}, 1); import signal\n{mask}"
    assert exec_mode.run([sys.executable, "-c", program], ENV, nothing) == Ended(0)
    os.close(write)
    with open(read) as pipe:
        assert pipe.read().startswith("[]")
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


# --- what it is told ----------------------------------------------------------------------------


def told(tmp_path: Path, kernel: Kernel, *words: str, **more: object) -> dict[str, str]:
    result = claim(tmp_path, FakeHost(kernel), *words, command=("x",), guard=Told(), **more)
    env = exec_mode.environment(result, {"PATH": "/bin", "MANACTL_PCI": "stale"})
    assert env.pop("PATH") == "/bin"
    return env


def test_the_command_is_told_of_every_port_in_the_order_asked_for(tmp_path: Path) -> None:
    assert told(tmp_path, two_ports(), "eth2", "eth1") == {
        "MANACTL_NETDEV": "eth2 eth1",
        "MANACTL_PCI": "7870:00:00.0 7870:00:00.0",
        "MANACTL_MAC": "00:0d:3a:aa:00:11 00:0d:3a:aa:00:10",
        "MANACTL_RDMA": "manae_0/2 manae_0/1",
        "MANACTL_UPPER": "- -",
        "MANACTL_VMBUS": "- -",
        "MANACTL_EAL": "-a 7870:00:00.0,mac=00:0d:3a:aa:00:11,mac=00:0d:3a:aa:00:10",
    }


@pytest.mark.parametrize("mode", ["down", "keep", "uio"])
def test_of_a_pair_it_is_told_both(mode: str, tmp_path: Path) -> None:
    kernel = paired()
    (above,) = kernel.synthetics
    env = told(tmp_path, kernel, "eth1", synthetic=mode, allow=("upper",))
    assert (env["MANACTL_UPPER"], env["MANACTL_VMBUS"]) == (above.name, above.uuid)
    arguments = ["-a", "7870:00:00.0,mac=00:0d:3a:aa:00:10"]
    assert env["MANACTL_EAL"].split() == arguments + ["-a", above.uuid] * (mode == "uio")


# --- the release --------------------------------------------------------------------------------


def ended(
    tmp_path: Path, kernel: Kernel, host: FakeHost, path: Path | None, notes: Followed
) -> list[Outcome]:
    assert path is not None
    request = ReleaseRequest(tmp_path, only=path, quiet=True)
    ports = [FakeHost(kernel).look().ports[0].id]
    with SignalGate() as signals:
        found = exec_mode.release(request, ports, host, signals, notes)
    return [port.outcome for port in found.ports]


def test_a_holder_that_outlives_the_command_is_waited_for(tmp_path: Path) -> None:
    kernel = furnished()
    nic = kernel.nics[0]
    path = claim(tmp_path, FakeHost(kernel), command=("x",), guard=Told()).journal
    nic.holders = [77]
    host = FakeHost(kernel)
    host.at_pause = lambda: len(host.pauses) > 5 and nic.holders.clear()
    assert ended(tmp_path, kernel, host, path, Followed()) == [Outcome.RESTORED]
    assert nic.up
    assert host.processes.waits[0] == [1077]
    assert host.pauses[:3] == [0.1, 0.2, 0.4]


def test_a_holder_that_cannot_be_seen_is_told_once_and_waited_for(tmp_path: Path) -> None:
    kernel = furnished()
    nic = kernel.nics[0]
    path = claim(tmp_path, FakeHost(kernel), command=("x",), guard=Told()).journal
    nic.holders = [77]
    host = FakeHost(kernel)
    host.blind = True
    start = kernel.clock
    host.at_pause = lambda: kernel.clock > start + 20 and nic.holders.clear()
    notes = Followed()
    assert ended(tmp_path, kernel, host, path, notes) == [Outcome.RESTORED]
    (note,) = notes.notes
    with wording:
        assert note.endswith("; released as soon as it can be")


def test_what_somebody_else_has_released_stays_so(tmp_path: Path) -> None:
    kernel = furnished()
    path = claim(tmp_path, FakeHost(kernel), command=("x",), guard=Told()).journal
    release(tmp_path, FakeHost(kernel))
    claim(tmp_path, FakeHost(kernel))
    assert ended(tmp_path, kernel, FakeHost(kernel), path, Followed()) == []
    assert not kernel.nics[0].up


def test_a_signal_leaves_the_rest_to_the_guardian(tmp_path: Path) -> None:
    kernel = furnished()
    path = claim(tmp_path, FakeHost(kernel), command=("x",), guard=Told()).journal
    kernel.nics[0].holders = [77]
    host = FakeHost(kernel)
    host.at_pause = lambda: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Busy, match=says("the guardian releases"), check=Coded("holder")):
        ended(tmp_path, kernel, host, path, Followed())
    assert path is not None
    assert path.exists()


def test_a_port_of_another_claim_is_not_shared(tmp_path: Path) -> None:
    kernel = two_ports()
    claim(tmp_path, FakeHost(kernel), "eth1")
    kernel.links.clear()
    with pytest.raises(Busy, match=says("claimed already"), check=Coded("claimed")) as caught:
        claim(tmp_path, FakeHost(kernel), "eth1", "eth2", command=("x",), guard=Told())
    assert caught.value.code == "claimed"
    assert "manactl release eth1" in (caught.value.hint or "")
    assert kernel.links == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_DFL, signal.SIG_IGN])
def test_a_signal_that_comes_before_the_command_is_executed_is_the_commands(
    tmp_path: Path, number: signal.Signals, handler: Any
) -> None:
    """A handler of ours swallowed it in the child, or made 127 of ^C. One that whoever started us
    ignores is ignored by the command, too (nohup)."""
    before = signal.signal(number, handler)
    try:
        ran = tmp_path / "ran"
        argv = ("touch", str(ran))
        ended = exec_mode.run(argv, os.environ, lambda pid: os.kill(pid, number))
    finally:
        signal.signal(number, before)
    if handler is signal.SIG_IGN:
        assert (ended, ran.exists()) == (Ended(0), True)
    else:
        assert (ended, ran.exists()) == (Ended(None, number), False)


def test_a_signal_that_came_before_starts_nothing(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    told: list[int] = []
    ended = exec_mode.run(("touch", str(ran)), os.environ, told.append, lambda: signal.SIGINT)
    assert (ended, told, ran.exists()) == (Ended(None, signal.SIGINT), [], False)
