"""What `manactl history` prints, over a machine in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from manactl.cli.history import history
from manactl.errors import Denied, UsageError
from tests.unit.cli.shell import Shell
from tests.unit.host import FakeHost, furnished
from tests.unit.host import claim as claimed
from tests.unit.host import release as released
from tests.unit.kernel import Nic
from tests.unit.wording import says, wording


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, capsys)


def ended(shell: Shell) -> FakeHost:
    host = FakeHost(furnished())
    claimed(shell.state_dir, host)
    released(shell.state_dir, host)
    return host


def test_nothing_yet_and_then_a_claim_that_ended(shell: Shell) -> None:
    host = FakeHost(furnished())
    shell.run(history, host)
    with wording:
        assert shell.lines == ["no claim has ended yet"]
    claimed(shell.state_dir, host)
    shell.run(history, host)
    with wording:
        assert shell.lines == ["no claim has ended yet"], "it stands"
    released(shell.state_dir, host)
    shell.run(history, host)
    heading, line = shell.lines
    assert heading.split()[0] == "PORT"
    assert line.split()[0] == "eth1"
    assert " released " in line
    assert shell.notes == []


def test_who_claimed_and_who_released(shell: Shell) -> None:
    host = ended(shell)
    shell.run(history, host, "--json")
    (claim,) = shell.document["claims"]  # type: ignore[misc]
    assert (claim["netdev"], claim["ending"], claim["mode"]) == ("eth1", "released", "claim")
    assert claim["by"] == host.who()
    assert claim["ended_by"] == host.who()


def test_ports_by_their_names_of_now_and_of_then(shell: Shell) -> None:
    host = ended(shell)
    (nic,) = host.kernel.nics
    for word in ("eth1", nic.mac.upper(), f"{nic.pci}:1"):
        shell.run(history, host, word)
        assert len(shell.lines) == 2, word
    nic.name = "lan7"
    for words in (["eth1"], ["lan7"], ["lan7", "eth1"]):
        shell.run(history, host, *words)
        assert len(shell.lines) == 2, words
    with pytest.raises(UsageError, match=says("'eth9' names no port")):
        shell.run(history, host, "eth1", "eth9")


@pytest.mark.wording
def test_a_port_without_a_past(shell: Shell) -> None:
    host = ended(shell)
    host.kernel.nics.append(Nic(number=2, name="eth2", ifindex=4, mac="00:0d:3a:aa:00:11"))
    shell.run(history, host, "eth2")
    assert shell.lines == ["no claim has ended yet"]


def test_a_journal_that_cannot_be_read_is_told(shell: Shell) -> None:
    host = ended(shell)
    bad = shell.state_dir / "history" / "20260101T000000.000000Z-x-1.journal"
    bad.write_text("{}\t0\n")
    shell.run(history, host)
    assert len(shell.lines) == 2
    with wording:
        assert shell.notes[0].startswith(f"manactl: not read: {bad}: ")
    shell.run(history, host, "--json")
    assert shell.document["unreadable"][0]["journal"] == str(bad)  # type: ignore[index]
    assert shell.notes == []


def test_who_may_not_read_is_told_so(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: Path) -> None:
        raise PermissionError

    monkeypatch.setattr("manactl.journal.history.read", denied)
    with pytest.raises(Denied, match=says("is not readable")):
        shell.run(history, FakeHost(furnished()))
