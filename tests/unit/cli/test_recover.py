"""What `manactl recover` prints, over a machine in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from manactl.cli.recover import recover
from manactl.model.claim import NetnsId
from tests.unit.act.test_release import two_functions
from tests.unit.cli.shell import Shell
from tests.unit.host import (
    FakeHost,
    Fate,
    Killed,
    furnished,
)
from tests.unit.host import claim as claimed
from tests.unit.wording import wording


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, capsys)


def test_what_was_interrupted_is_recovered(shell: Shell) -> None:
    kernel = furnished()
    with pytest.raises(Killed):
        claimed(shell.state_dir, FakeHost(kernel, Fate(dies_at=9, half=True)))
    shell.run(recover, FakeHost(kernel), "--dry-run")
    assert shell.lines[0] == "Plan:"
    shell.run(recover, FakeHost(kernel))
    assert shell.lines[-1].startswith("eth1 recovered: up")
    shell.run(recover, FakeHost(kernel))
    with wording:
        assert shell.lines == ["nothing to recover"]


def test_a_claim_that_stands_on_a_netdev_recreated_is_told_and_left(shell: Shell) -> None:
    """The host has taken the device away, and given it back: the driver sets nothing down."""
    kernel = furnished()
    claimed(shell.state_dir, FakeHost(kernel))
    shell.run(recover, FakeHost(kernel))
    assert shell.notes == []
    (nic,) = kernel.nics
    nic.ifindex = 33
    kernel.set_up(nic, True)
    for words in ([], ["--dry-run"]):
        shell.run(recover, FakeHost(kernel), *words)
        assert shell.code == 0
        with wording:
            assert shell.lines == ["nothing to recover"]
            assert shell.notes == [
                "manactl: eth1: claimed, yet the netdev was re-created (ifindex 3 -> 33); claimed, yet "
                "its netdev is up. The claim stands, so it is left alone: `manactl release eth1` ends it "
                "and restores what it kept (with --dry-run: shows that), `manactl hold` keeps the port "
                "down"
            ]
    assert nic.up
    shell.run(recover, FakeHost(kernel), "--json")
    assert shell.document["ports"] == []


def test_a_claim_of_another_namespace_is_not_compared_with_what_is_here(shell: Shell) -> None:
    kernel = furnished()
    claimed(shell.state_dir, FakeHost(kernel))
    kernel.set_up(kernel.nics[0], True)
    host = FakeHost(kernel)
    host.here = NetnsId(7, 7)
    shell.run(recover, host)
    assert shell.notes == []


def test_residue_is_accepted_by_name(shell: Shell) -> None:
    kernel = furnished()
    with pytest.raises(Killed):
        claimed(shell.state_dir, FakeHost(kernel, Fate(dies_at=9, half=True)))
    shell.run(recover, FakeHost(kernel), "--accept", "eth1", "--dry-run")
    with wording:
        assert shell.lines[0] == "eth1 would be accepted as it is"
        assert shell.lines[1] == "  not restored: eth1 is down (up before the claim)"
        assert shell.lines[-1] == "Nothing was touched (dry run)."
    shell.run(recover, FakeHost(kernel), "--accept", "eth1", "--dry-run", "--json")
    assert "plans" not in shell.document
    shell.run(recover, FakeHost(kernel), "--accept", "eth1", "--json")
    (port,) = shell.document["ports"]  # type: ignore[misc]
    assert (port["netdev"], port["outcome"]) == ("eth1", "accepted")
    with wording:
        assert port["residue"][0] == "eth1 is down (up before the claim)"
    shell.run(recover, FakeHost(kernel), "--accept", "eth1")
    with wording:
        assert shell.lines == ["eth1 is not claimed: nothing to do"]


def test_only_what_is_named_is_accepted_and_nothing_recovered(shell: Shell) -> None:
    kernel = two_functions()
    for name in ("eth1", "eth5"):
        with pytest.raises(Killed):
            claimed(shell.state_dir, FakeHost(kernel, Fate(dies_at=9, half=True)), name)
    links = list(kernel.links)
    shell.run(recover, FakeHost(kernel), "--accept", "eth5")
    with wording:
        assert shell.lines[0].startswith("eth5 is accepted as it is")
    assert not any(line.startswith("eth1") for line in shell.lines)
    assert kernel.links == links
    shell.run(recover, FakeHost(kernel))
    assert shell.lines[-1].startswith("eth1 recovered: up")
