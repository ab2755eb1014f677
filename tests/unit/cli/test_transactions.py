"""What claim, release and recover print, over a machine in memory."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import pytest

from manactl.cli.app import App
from manactl.cli.claim import claim
from manactl.cli.recover import recover
from manactl.cli.release import release
from manactl.errors import Busy, ManactlError, Refused
from tests.unit import schema
from tests.unit.host import (
    NET_ADMIN,
    FakeHost,
    FakeSystem,
    Fate,
    Killed,
    furnished,
    two_ports,
)
from tests.unit.host import claim as claimed
from tests.unit.kernel import Kernel


class Shell:
    """Runs commands; `lines` is what the last one printed, `notes` what it warned of."""

    def __init__(self, state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.state_dir = state_dir
        self.capsys = capsys
        self.lines: list[str] = []
        self.notes: list[str] = []

    def run(self, command: click.Command, host: FakeHost, *words: str) -> None:
        app = App(str(self.state_dir), host=host)
        try:
            with host.alive():
                command.main(list(words), obj=app, standalone_mode=False)
        finally:
            out, err = self.capsys.readouterr()
            self.lines, self.notes = out.splitlines(), err.splitlines()

    @property
    def document(self) -> dict[str, object]:
        found = json.loads("\n".join(self.lines))
        assert isinstance(found, dict)
        schema.strict(found)
        return found


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, capsys)


def test_a_claim_prints_a_line_a_step_and_one_last_line(shell: Shell) -> None:
    shell.run(claim, FakeHost(furnished()), "--raw-qp", "eth1")
    assert shell.lines == [
        "ok      save eth1's addresses and routes (0.0 ms)",
        "ok      set eth1 down (0.0 ms)",
        "ok      prove that the vport of manae_0 port 1 is free (0.0 ms)",
        "eth1 is claimed: its vport is free for raw QPs on manae_0 port 1, proven. "
        "When done: manactl release eth1",
    ]
    assert shell.notes == []


def test_two_ports_have_one_last_line_with_the_next_command(shell: Shell) -> None:
    shell.run(claim, FakeHost(two_ports()), "--raw-qp", "eth1", "--raw-qp", "eth2")
    assert shell.lines[-1].endswith("When done: manactl release eth1 eth2")
    assert sum("When done" in line for line in shell.lines) == 1


def test_a_claim_that_is_not_proven_says_so(shell: Shell) -> None:
    host = FakeHost(furnished())
    host.mask = NET_ADMIN
    shell.run(claim, host, "--raw-qp", "eth1")
    assert "not proven" in shell.lines[-1]
    assert "CAP_NET_RAW" in shell.lines[-1]


def test_a_port_that_is_claimed_already_is_reported_so(shell: Shell) -> None:
    kernel = furnished()
    claimed(shell.state_dir, FakeHost(kernel))
    shell.run(claim, FakeHost(kernel), "--raw-qp", "eth1")
    (line,) = shell.lines
    assert line.startswith("eth1 is claimed already, since 20")
    assert line.endswith("UTC. When done: manactl release eth1")
    shell.run(claim, FakeHost(kernel), "--raw-qp", "eth1", "--json")
    assert shell.document["already"] is True


@pytest.mark.parametrize("words", [(), ("-v",), ("--json",)])
def test_a_refusal_is_alone(shell: Shell, words: tuple[str, ...]) -> None:
    host = FakeHost(two_ports())
    host.around[2] = {"xdp": True}
    with pytest.raises(Refused):
        shell.run(claim, host, "--raw-qp", "eth1", "--raw-qp", "eth2", *words)
    assert shell.lines == []
    assert shell.notes == []


def test_the_whole_plan_is_shown_with_verbose(shell: Shell) -> None:
    shell.run(claim, FakeHost(furnished()), "--raw-qp", "eth1", "-v")
    assert shell.lines[0] == "Plan:"
    assert "Release restores:" in shell.lines
    assert shell.lines.index("Release restores:") < shell.lines.index(
        "ok      set eth1 down (0.0 ms)"
    )


def test_a_dry_run_shows_the_plan_and_that_nothing_was_touched(shell: Shell) -> None:
    host = FakeHost(furnished())
    shell.run(claim, host, "--raw-qp", "eth1", "--dry-run")
    assert shell.lines[0] == "Plan:"
    assert shell.lines[-1] == "Nothing was touched (dry run)."
    assert not any(line.startswith("ok") for line in shell.lines)
    shell.run(claim, host, "--raw-qp", "eth1", "--dry-run", "--json")
    assert shell.document["schema"] == "manactl.plan/1"
    host.around[1] = {"xdp": True}
    with pytest.raises(Refused):
        shell.run(claim, host, "--raw-qp", "eth1", "--dry-run")
    assert shell.lines[0] == "Plan, were it not refused:"
    assert host.kernel.links == []


def test_a_step_that_fails_is_marked_and_its_undoing_is_shown(shell: Shell) -> None:
    class Refusing(FakeSystem):
        def prove_free(self, port: object) -> object:  # type: ignore[override]
            raise OSError(5, "Input/output error")

    host = FakeHost(furnished())
    host.systems = Refusing
    with pytest.raises(ManactlError):
        shell.run(claim, host, "--raw-qp", "eth1")
    assert [line.partition(" (")[0] for line in shell.lines] == [
        "ok      save eth1's addresses and routes",
        "ok      set eth1 down",
        "failed  prove that the vport of manae_0 port 1 is free",
        "ok      set eth1 up",
        "ok      restore and verify eth1",
    ]


def test_with_json_there_is_the_document_alone(shell: Shell) -> None:
    kernel = furnished()
    shell.run(claim, FakeHost(kernel), "--raw-qp", "eth1", "--json")
    assert shell.document["schema"] == "manactl.claim/1"
    shell.run(release, FakeHost(kernel), "--json")
    assert shell.document["schema"] == "manactl.release/1"


def test_a_release_prints_a_line_a_step_and_the_outcome(shell: Shell) -> None:
    kernel = furnished()
    claimed(shell.state_dir, FakeHost(kernel))
    kernel.clock += 41.3
    shell.run(release, FakeHost(kernel), "eth1")
    steps = [line.partition(" (")[0] for line in shell.lines]
    assert steps[:2] == ["ok      set eth1 up", "ok      restore and verify eth1"]
    assert shell.lines[2:] == [
        "eth1 released: up (was down for 41.3 s), 2 addresses, 1 nexthop, 6 routes, 2 neighbours "
        "restored; verified against the snapshot"
    ]


@pytest.mark.parametrize("words", [(), ("-v",)])
def test_a_refused_release_prints_no_plan(shell: Shell, words: tuple[str, ...]) -> None:
    kernel = furnished()
    claimed(shell.state_dir, FakeHost(kernel))
    kernel.nics[0].holders = [4211]
    with pytest.raises(Busy):
        shell.run(release, FakeHost(kernel), *words)
    assert shell.lines == []


def test_a_release_with_verbose_shows_its_plan_first(shell: Shell) -> None:
    kernel = furnished()
    claimed(shell.state_dir, FakeHost(kernel))
    shell.run(release, FakeHost(kernel), "-v")
    assert shell.lines[:2] == ["Plan:", "  1. set eth1 up"]


def test_a_dry_run_of_a_release_shows_its_plan_and_touches_nothing(shell: Shell) -> None:
    kernel = furnished()
    claimed(shell.state_dir, FakeHost(kernel))
    shell.run(release, FakeHost(kernel), "--dry-run")
    assert shell.lines[:3] == [
        "Plan:",
        "  1. set eth1 up",
        "  2. restore and verify eth1 (5 addresses, 1 nexthop, 8 routes, 2 neighbours)",
    ]
    assert shell.lines[-1] == "Nothing was touched (dry run)."
    shell.run(release, FakeHost(kernel), "--dry-run", "--json")
    assert shell.document["schema"] == "manactl.plan/1"
    assert kernel.links == [("eth1", "down")]


def test_holders_that_are_waited_for_are_named_at_once(shell: Shell) -> None:
    kernel = furnished()
    claimed(shell.state_dir, FakeHost(kernel))
    kernel.nics[0].holders = [4211]
    with pytest.raises(Busy):
        shell.run(release, FakeHost(kernel), "--wait", "5")
    assert shell.notes == ["manactl: waiting up to 5 s for pid 4211 dpdk-testpmd to end"]


def test_what_was_interrupted_is_recovered(shell: Shell) -> None:
    kernel = furnished()
    with pytest.raises(Killed):
        claimed(shell.state_dir, FakeHost(kernel, Fate(dies_at=7, half=True)))
    shell.run(recover, FakeHost(kernel), "--dry-run")
    assert shell.lines[0] == "Plan:"
    shell.run(recover, FakeHost(kernel))
    assert shell.lines[-1].startswith("eth1 recovered: up")
    shell.run(recover, FakeHost(kernel))
    assert shell.lines == ["nothing to recover"]


def test_a_port_that_was_down_stays_down(shell: Shell) -> None:
    kernel = Kernel()
    shell.run(claim, FakeHost(kernel), "--raw-qp", "eth1", "-v")
    assert "  eth1 is down already: nothing to restore, it stays down at release" in shell.lines
    shell.run(release, FakeHost(kernel))
    assert shell.lines == ["eth1 released: it was down before the claim and stays down"]


def test_several_plans_are_one_document(shell: Shell) -> None:
    kernel = two_ports()
    claimed(shell.state_dir, FakeHost(kernel), "eth1")
    claimed(shell.state_dir, FakeHost(kernel), "eth2")
    shell.run(release, FakeHost(kernel), "--all", "--dry-run", "--json")
    plans = json.loads("\n".join(shell.lines))["plans"]
    assert [plan["verb"] for plan in plans] == ["release", "release"]


def test_rich_is_loaded_on_a_terminal_alone(shell: Shell) -> None:
    before = set(sys.modules)
    shell.run(claim, FakeHost(furnished()), "--raw-qp", "eth1")
    assert "rich" not in set(sys.modules) - before
