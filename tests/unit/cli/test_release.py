"""What `manactl release` prints, over a machine in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from manactl.cli.release import release
from manactl.errors import Busy
from tests.unit.cli.shell import Shell
from tests.unit.host import (
    FakeHost,
    furnished,
    two_ports,
)
from tests.unit.host import claim as claimed


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, capsys)


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


def test_several_plans_are_one_document(shell: Shell) -> None:
    kernel = two_ports()
    claimed(shell.state_dir, FakeHost(kernel), "eth1")
    claimed(shell.state_dir, FakeHost(kernel), "eth2")
    shell.run(release, FakeHost(kernel), "--all", "--dry-run", "--json")
    plans = json.loads("\n".join(shell.lines))["plans"]
    assert [plan["verb"] for plan in plans] == ["release", "release"]
