"""What `manactl confirm` prints, and `claim --confirm-within`, over a machine in memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from manactl.act import guardian
from manactl.cli.claim import claim
from manactl.cli.confirm import confirm
from manactl.cli.main import main
from manactl.errors import NotRestored, Refused, UsageError
from manactl.journal import file as journal
from tests.unit.act.test_confirm import two_functions
from tests.unit.act.test_guardian import Guarded
from tests.unit.cli.shell import Shell
from tests.unit.host import FakeHost, furnished
from tests.unit.wording import says, wording


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> Guarded:
    made = Guarded(pid=os.getpid())
    monkeypatch.setattr(guardian, "start", lambda *_: made)
    return made


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, capsys)


LINE = ("--raw-qp", "eth1", "--confirm-within", "90")


def test_a_claim_says_when_it_goes_back_and_how_to_keep_it(shell: Shell, guard: Guarded) -> None:
    kernel = furnished()
    shell.run(claim, FakeHost(kernel), *LINE)
    claimed, back = shell.lines[-2:]
    with wording:
        assert claimed.endswith("proven. When done: manactl release eth1")
        assert back.startswith("Not confirmed yet: it is released automatically at ")
        assert back.endswith(" UTC. To keep it: manactl confirm eth1")
    assert [said[0] for said in guard.said] == ["arm", "leave", "gone"]

    shell.run(claim, FakeHost(kernel), "--raw-qp", "eth1")  # again, with no hurry
    with wording:
        assert "is claimed already" in shell.lines[0]
        assert "To keep it: manactl confirm eth1" in shell.lines[0]

    shell.run(confirm, FakeHost(kernel))
    with wording:
        assert shell.lines == ["eth1 is confirmed. When done: manactl release eth1"]
    shell.run(confirm, FakeHost(kernel), "eth1")
    with wording:
        assert shell.lines == ["eth1 is claimed and needs no confirmation: nothing to do"]
    shell.run(confirm, FakeHost(kernel))
    with wording:
        assert shell.lines == ["nothing waits to be confirmed"]
    shell.run(claim, FakeHost(kernel), "--raw-qp", "eth1")
    assert "confirm" not in shell.lines[0]


def test_what_is_confirmed_is_told_beside_a_journal_that_cannot_be_read(
    shell: Shell, guard: Guarded
) -> None:
    kernel = two_functions()
    shell.run(claim, FakeHost(kernel), *LINE)
    shell.run(claim, FakeHost(kernel), "--raw-qp", "eth5", "--confirm-within", "90")
    bad = next(path for path in journal.paths(shell.state_dir) if "7871" in path.name)
    bad.write_bytes(bad.read_bytes().replace(b'"claimed"', b'"clamied"'))
    with pytest.raises(NotRestored, match=bad.name):
        shell.run(confirm, FakeHost(kernel))
    with wording:
        assert shell.lines == ["eth1 is confirmed. When done: manactl release eth1"]


def test_its_document_says_so_too(shell: Shell, guard: Guarded) -> None:
    kernel = furnished()
    shell.run(claim, FakeHost(kernel), *LINE, "--json")
    assert str(shell.document["confirm_by"]).endswith("Z")
    assert guard.said


def test_any_other_claim_has_null(shell: Shell) -> None:
    shell.run(claim, FakeHost(furnished()), "--raw-qp", "eth1", "--json")
    assert shell.document["confirm_by"] is None


@pytest.mark.wording
def test_a_port_that_is_not_claimed_is_told(shell: Shell) -> None:
    shell.run(confirm, FakeHost(furnished()), "eth1")
    assert shell.lines == ["eth1 is not claimed: nothing to confirm"]


def test_a_dry_run_starts_no_guardian_and_tells_of_the_way_back(
    shell: Shell, guard: Guarded
) -> None:
    shell.run(claim, FakeHost(furnished()), *LINE, "--dry-run")
    assert guard.said == []
    with wording:
        assert any(
            "is released automatically 90 s after it has begun" in line for line in shell.lines
        )
        assert any("nobody is ended" in line for line in shell.lines)


@pytest.mark.parametrize("code", ["ssh-session", "default-route", "last-port"])
def test_what_may_cut_the_operator_off_needs_a_way_back(
    shell: Shell, guard: Guarded, code: str
) -> None:
    """With one it is waived, and its refusal is the line to type."""
    kernel = furnished()
    host = FakeHost(kernel)
    host.other_ways = []  # last-port
    host.around = {1: {"ssh": None}}  # ssh-session: not known
    allow = [word for one in ("ssh-session", "default-route", "last-port", "tcp-established",
                              "sockets", "forwarding", "storage") if one != code
             for word in ("--allow", one)]  # fmt: skip
    with pytest.raises(Refused) as caught:
        shell.run(claim, host, "--raw-qp", "eth1", *allow, "--allow", code)
    with wording:
        assert "--confirm-within 120" in (caught.value.hint or "")
    assert kernel.links == []
    shell.run(claim, host, *LINE, *allow, "--allow", code)
    assert not kernel.nics[0].up
    assert guard.said


def test_a_command_is_a_way_back_of_its_own(shell: Shell, guard: Guarded) -> None:
    with pytest.raises(UsageError, match=says("exclude each other")) as caught:
        shell.run(claim, FakeHost(furnished()), *LINE, "--", "sleep", "1")
    assert "timeout 90 sleep 1" in (caught.value.hint or "")
    assert guard.said == []


def test_nothing_to_confirm_without_a_state_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--state-dir", str(tmp_path / "none"), "confirm"]) == 0
    with wording:
        assert capsys.readouterr().out == "nothing waits to be confirmed\n"
    assert not (tmp_path / "none").exists()
