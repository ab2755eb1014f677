"""`manactl claim ... -- COMMAND`, over a machine in memory and with real children."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import click
import pytest

from manactl.act import exec_mode, guardian
from manactl.cli.claim import claim
from manactl.cli.main import main
from manactl.errors import ManactlError, RolledBack, UsageError
from manactl.journal import history
from manactl.render import atomic_file, outcome, outcome_document
from tests.conftest import lacking
from tests.unit import schema
from tests.unit.act.test_guardian import Guarded
from tests.unit.cli.shell import Shell
from tests.unit.host import FakeHost, FakeSystem, furnished, two_ports
from tests.unit.wording import says, wording


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> Guarded:
    made = Guarded()
    monkeypatch.setattr(guardian, "start", lambda *_: made)
    return made


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path / "state", capsys)


def run(shell: Shell, host: FakeHost, *words: str) -> int:
    """Exit code of a line; what it prints stays in `shell`."""
    shell.run(claim, host, *words)
    return shell.code


def test_the_ports_are_claimed_while_the_command_runs_and_back_after(
    shell: Shell, guard: Guarded, tmp_path: Path
) -> None:
    kernel = two_ports()
    seen, report = tmp_path / "seen", tmp_path / "report"
    script = f'echo "$MANACTL_NETDEV"; ls {shell.state_dir}/claims > {seen}; exit 7'
    line = ("--raw-qp", "eth1", "--raw-qp", "eth2", "--report", str(report))
    assert run(shell, FakeHost(kernel), *line, "--", "sh", "-c", script) == 7
    assert seen.read_text().endswith(".journal\n")
    assert [nic.up for nic in kernel.nics] == [True, True]
    assert shell.lines == []  # standard output is the command's; it has a descriptor of its own
    with wording:
        assert [note.partition(":")[0] for note in shell.notes] == [
            "eth1 is claimed", "eth2 is claimed", "eth1 released", "eth2 released",
        ]  # fmt: skip
    assert [said[0] for said in guard.said] == ["arm", "watch", "gone"]
    document: dict[str, Any] = json.loads(report.read_text())
    schema.strict(document)
    assert (document["exit"], document["status"], document["signal"]) == (7, 7, None)
    assert document["command"][0] == "sh"
    assert [port["netdev"] for port in document["claim"]["ports"]] == ["eth1", "eth2"]
    assert [port["outcome"] for port in document["release"]["ports"]] == ["restored"] * 2
    assert document["error"] is None
    (one, other) = history.read(shell.state_dir).claims
    assert (one.mode, other.mode) == ("exec", "exec")


def test_a_refusal_is_the_story_and_nothing_runs(
    shell: Shell, guard: Guarded, tmp_path: Path
) -> None:
    host = FakeHost(furnished())
    host.around[1] = {"xdp": True}
    report, ran = tmp_path / "report", tmp_path / "ran"
    with pytest.raises(ManactlError) as caught:
        run(shell, host, "--raw-qp", "eth1", "--report", str(report), "--", "touch", str(ran))
    assert caught.value.exit_code == 3
    assert not ran.exists()
    document: dict[str, Any] = json.loads(report.read_text())
    schema.strict(document)
    assert (document["exit"], document["error"]["exit"], document["error"]["code"]) == (
        125, 3, "xdp",
    )  # fmt: skip
    assert document["claim"] is document["release"] is None


@pytest.mark.parametrize(("word", "code"), [("nosuch-command", 127), ("/etc/passwd", 126)])
def test_a_mistyped_command_touches_nothing(
    word: str, code: int, shell: Shell, guard: Guarded
) -> None:
    kernel = furnished()
    assert run(shell, FakeHost(kernel), "--raw-qp", "eth1", "--", word) == code
    with wording:
        assert "nothing was touched" in shell.notes[0]
    assert kernel.links == []
    assert guard.said == []


def test_a_command_that_turns_out_to_be_none_gives_the_port_back(
    shell: Shell, guard: Guarded, tmp_path: Path
) -> None:
    kernel = furnished()
    program = tmp_path / "program"
    program.write_text("#!/nonexistent\n")
    program.chmod(0o755)
    assert run(shell, FakeHost(kernel), "--raw-qp", "eth1", "--", str(program)) == 127
    assert kernel.nics[0].up
    assert shell.notes[-1].endswith("program: No such file or directory")


def test_a_signal_that_is_too_late_for_the_claim_starts_nothing(
    shell: Shell, guard: Guarded, tmp_path: Path
) -> None:
    class Late(FakeSystem):
        """Somebody sends a signal when the claim is made, and its report is not."""

        def __exit__(self, *error: object) -> None:
            super().__exit__(*error)
            self.host.systems = FakeSystem
            os.kill(os.getpid(), signal.SIGTERM)

    kernel = furnished()
    host = FakeHost(kernel)
    ran = tmp_path / "ran"
    host.systems = Late
    assert run(shell, host, "--raw-qp", "eth1", "--", "touch", str(ran)) == 143
    assert not ran.exists()
    assert kernel.nics[0].up


def test_a_guardian_that_is_lost_gives_the_port_back(
    shell: Shell, guard: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(pid: int) -> None:
        raise guardian._no_guardian("it has ended")

    monkeypatch.setattr(guard, "watch", lost)
    kernel = furnished()
    ran = tmp_path / "ran"
    with pytest.raises(ManactlError) as caught:
        run(shell, FakeHost(kernel), "--raw-qp", "eth1", "--", "touch", str(ran))
    assert caught.value.code == "guardian"
    assert not ran.exists()
    assert kernel.nics[0].up


@pytest.mark.parametrize(
    "limit", [("pipe2", errno.EMFILE, 1), ("pipe2", errno.EMFILE, 2), ("fork", errno.EAGAIN, 1)]
)
def test_a_command_that_no_process_can_be_had_for_gives_the_port_back(
    shell: Shell,
    guard: Guarded,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: tuple[str, int, int],
) -> None:
    """When the claim is made, the limit of the unit is reached."""
    call, number, nth = limit
    real = getattr(os, call)
    calls: list[str] = []

    def limited(*words: int) -> object:
        calls.append(call)
        if len(calls) == nth:
            raise OSError(number, os.strerror(number))
        return real(*words)

    monkeypatch.setattr(exec_mode, "os", _Os({call: limited}))
    kernel = furnished()
    report, ran = tmp_path / "report", tmp_path / "ran"
    before = os.listdir("/proc/self/fd")
    with pytest.raises(
        RolledBack, match=says(r"touch was not started: .*; the claim was released")
    ):
        run(
            shell, FakeHost(kernel), "--raw-qp", "eth1", "--report", str(report),
            "--", "touch", str(ran),
        )  # fmt: skip
    assert len(calls) == nth
    assert os.listdir("/proc/self/fd") == before
    assert not ran.exists()
    assert kernel.nics[0].up
    assert list((shell.state_dir / "claims").iterdir()) == []
    document: dict[str, Any] = json.loads(report.read_text())
    schema.strict(document)
    assert (document["exit"], document["error"]["exit"]) == (125, 4)
    assert [port["outcome"] for port in document["release"]["ports"]] == ["restored"]


class _Os:
    """The module os for one user of it, but for some calls."""

    def __init__(self, instead: dict[str, object]) -> None:
        self.__dict__.update(instead)

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)


def test_what_may_cut_the_operator_off_can_be_waived_with_a_command(
    shell: Shell, guard: Guarded
) -> None:
    host = FakeHost(furnished())
    host.other_ways = []
    with pytest.raises(ManactlError) as caught:
        run(shell, host, "--raw-qp", "eth1", "--", "true")
    assert "--allow last-port" in (caught.value.hint or "")
    assert run(shell, host, "--raw-qp", "eth1", "--allow", "last-port", "--", "true") == 0
    with pytest.raises(ManactlError) as caught:
        run(shell, host, "--raw-qp", "eth1", "--allow", "last-port")
    with wording:
        assert "-- COMMAND" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--raw-qp", "eth1", "--"], "no command"),
        (["--", "eth1"], "--raw-qp PORT"),
        (["--raw-qp", "eth1", "--json", "--", "true"], "--report"),
        (["--raw-qp", "eth1", "--nosuch", "--", "true"], "--nosuch"),
        (["--raw-qp", "eth1", "--allow", "nosuch", "--", "true"], "nosuch"),
    ],
)
def test_a_wrong_line_with_a_command_ends_with_125(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["claim", *words]) == 125
    with wording:
        assert said in capsys.readouterr().err


def test_a_report_is_about_a_command(shell: Shell) -> None:
    with pytest.raises(UsageError):
        shell.run(claim, FakeHost(furnished()), "--raw-qp", "eth1", "--report", "x")


def test_a_dry_run_with_a_command_shows_the_plan_alone(
    shell: Shell, guard: Guarded, tmp_path: Path
) -> None:
    kernel = furnished()
    ran = tmp_path / "ran"
    assert (
        run(shell, FakeHost(kernel), "--raw-qp", "eth1", "--dry-run", "--", "touch", str(ran)) == 0
    )
    assert shell.lines[0] == "Plan:"
    assert (kernel.links, ran.exists(), guard.said) == ([], False, [])


def test_a_report_that_cannot_be_written_fails_nothing(
    shell: Shell, guard: Guarded, tmp_path: Path
) -> None:
    """Its directory goes while the command runs."""
    (tmp_path / "d").mkdir()
    line = ("--raw-qp", "eth1", "--report", f"{tmp_path}/d/report")
    assert run(shell, FakeHost(furnished()), *line, "--", "rmdir", f"{tmp_path}/d") == 0
    with wording:
        assert any("the report is not written" in note for note in shell.notes)


def test_a_disk_that_is_full_leaves_the_last_report_whole(
    shell: Shell, guard: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(number: int, mode: int) -> None:
        if os.readlink(f"/proc/self/fd/{number}").startswith(str(tmp_path / "reports")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(number, mode)

    real = os.fchmod
    monkeypatch.setattr(os, "fchmod", full)
    (tmp_path / "reports").mkdir()
    report = tmp_path / "reports/report"
    report.write_text("the last one")
    line = ("--raw-qp", "eth1", "--report", str(report))
    assert run(shell, FakeHost(furnished()), *line, "--", "sh", "-c", "exit 7") == 7
    assert report.read_text() == "the last one"
    assert os.listdir(tmp_path / "reports") == ["report"]
    assert any("No space left" in note for note in shell.notes)


@pytest.mark.parametrize("what", ["fifo", "device", "directory", "no directory"])
def test_a_report_that_can_be_no_file_is_refused_before_anything_is_done(
    shell: Shell, guard: Guarded, tmp_path: Path, what: str
) -> None:
    path = {"device": "/dev/null", "no directory": "/nonexistent/report"}.get(
        what, str(tmp_path / "there")
    )
    if what == "fifo":
        os.mkfifo(path)
    elif what == "directory":
        Path(path).mkdir()
    kernel = furnished()
    ran = tmp_path / "ran"
    line = ("--raw-qp", "eth1", "--report", path)
    with pytest.raises(click.ClickException if what == "directory" else UsageError):
        run(shell, FakeHost(kernel), *line, "--", "touch", str(ran))
    assert (kernel.links, ran.exists(), guard.said) == ([], False, [])


def test_a_report_without_a_descriptor_left_fails_nothing(
    shell: Shell, guard: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(atomic_file, "write", fails)
    line = ("--raw-qp", "eth1", "--report", str(tmp_path / "report"))
    assert run(shell, FakeHost(furnished()), *line, "--", "true") == 0
    with wording:
        assert "Too many open files; the report is not written" in shell.notes[-1]


def test_a_report_that_becomes_a_pipe_is_not_waited_for(
    shell: Shell, guard: Guarded, tmp_path: Path
) -> None:
    report = tmp_path / "report"
    line = ("--raw-qp", "eth1", "--report", str(report))
    assert run(shell, FakeHost(furnished()), *line, "--", "mkfifo", str(report)) == 0
    with wording:
        assert any("not a regular file; the report is not written" in note for note in shell.notes)
    assert report.is_fifo()


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_link_that_others_may_have_planted_is_not_followed(
    shell: Shell, guard: Guarded, tmp_path: Path, when: str
) -> None:
    if os.geteuid() != 0:
        lacking("netns", "only root can give links away")
    victim, shared = tmp_path / "victim", tmp_path / "shared"
    victim.write_text("precious")
    shared.mkdir()
    shared.chmod(0o777)
    plant = f"ln -s {victim} {shared}/report && chown -h 65534 {shared}/report"
    line = ("--raw-qp", "eth1", "--report", f"{shared}/report", "--", "sh", "-c")
    kernel = furnished()
    if when == "before":
        assert os.system(plant) == 0
        with pytest.raises(UsageError, match=says("symbolic link of uid 65534")):
            run(shell, FakeHost(kernel), *line, "true")
        assert kernel.links == []
    else:
        assert run(shell, FakeHost(kernel), *line, plant) == 0
        with wording:
            assert any("the report is not written" in note for note in shell.notes)
    assert victim.read_text() == "precious"


def test_the_report_is_as_hidden_as_any_file(shell: Shell, guard: Guarded, tmp_path: Path) -> None:
    report = tmp_path / "report"
    line = ("--raw-qp", "eth1", "--report", str(report), "--", "echo", "\udcff")
    before = os.umask(0o027)
    try:
        assert run(shell, FakeHost(furnished()), *line) == 0
    finally:
        os.umask(before)
    assert report.stat().st_mode & 0o777 == 0o640
    assert json.loads(report.read_text())["command"] == ["echo", "\\xff"]


@pytest.mark.usefixtures("guard")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("place", ["document", "lines", "environment"])
def test_a_signal_between_the_claim_and_the_command_is_told_as_it_was(
    shell: Shell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    place: str,
) -> None:
    """^C there was "interrupted; nothing was changed", with the port claimed; SIGTERM said nothing."""
    module, name = {
        "document": (outcome_document, "claim_document"),
        "lines": (outcome, "claim_lines"),
        "environment": (exec_mode, "environment"),
    }[place]
    real = getattr(module, name)

    def signalled(*args: Any, **more: Any) -> Any:
        os.kill(os.getpid(), number)
        return real(*args, **more)

    monkeypatch.setattr(module, name, signalled)
    before = signal.signal(number, signal.SIG_DFL)
    try:
        kernel, ran = furnished(), tmp_path / "ran"
        report = tmp_path / "report"
        line = ("--raw-qp", "eth1", "--report", str(report), "--", "touch", str(ran))
        assert run(shell, FakeHost(kernel), *line) == 128 + number
    finally:
        signal.signal(number, before)
    assert not ran.exists()
    assert kernel.nics[0].up
    with wording:
        assert [note.partition(":")[0] for note in shell.notes] == [
            "eth1 is claimed",
            "eth1 released",
        ]
    document = json.loads(report.read_text())
    assert (document["exit"], document["signal"]) == (128 + number, number)
    assert [port["outcome"] for port in document["release"]["ports"]] == ["restored"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_between_the_command_and_the_release_keeps_neither(
    shell: Shell, guard: Guarded, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    real = exec_mode.run

    def signalled(*args: Any) -> Any:
        ended = real(*args)
        os.kill(os.getpid(), number)
        return ended

    monkeypatch.setattr(exec_mode, "run", signalled)
    before = signal.signal(number, signal.SIG_DFL)
    try:
        kernel = furnished()
        assert run(shell, FakeHost(kernel), "--raw-qp", "eth1", "--", "sh", "-c", "exit 7") == 7
    finally:
        signal.signal(number, before)
    assert kernel.nics[0].up
    assert shell.notes[-1].startswith("eth1 released")
