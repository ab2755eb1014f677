"""What `manactl release` prints, over a machine in memory."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from manactl.act import release as releasing
from manactl.act.plan import Step
from manactl.cli.main import main
from manactl.cli.release import release
from manactl.errors import Busy, ManactlError
from manactl.journal.file import Content
from manactl.model.port import PortId
from tests.unit import schema
from tests.unit.act.test_release import two_functions
from tests.unit.cli.shell import Shell
from tests.unit.host import (
    FakeHost,
    furnished,
    two_ports,
)
from tests.unit.host import claim as claimed
from tests.unit.wording import wording


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, capsys)


@pytest.mark.wording
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
    with wording:
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
    with wording:
        assert shell.notes == ["manactl: waiting up to 5 s for pid 4211 dpdk-testpmd to end"]


def test_several_plans_are_one_document(shell: Shell) -> None:
    kernel = two_ports()
    claimed(shell.state_dir, FakeHost(kernel), "eth1")
    claimed(shell.state_dir, FakeHost(kernel), "eth2")
    shell.run(release, FakeHost(kernel), "--all", "--dry-run", "--json")
    plans = json.loads("\n".join(shell.lines))["plans"]
    assert [plan["verb"] for plan in plans] == ["release", "release"]


def test_one_that_fails_hides_no_other_that_is_back(shell: Shell) -> None:
    """Each port has its own story: that eth5 is back was told by nothing but the steps."""
    kernel = two_functions()
    claimed(shell.state_dir, FakeHost(kernel), "eth1")
    claimed(shell.state_dir, FakeHost(kernel), "eth5")
    kernel.nic("eth1").holders = [4211]
    with pytest.raises(Busy) as caught:
        shell.run(release, FakeHost(kernel), "--all")
    assert caught.value.exit_code == 6
    assert [line for line in shell.lines if line.startswith("eth5 released: up")]
    assert not any(line.startswith("eth1 released") for line in shell.lines)


def test_with_json_the_error_has_the_ports_that_are_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = two_functions()
    claimed(tmp_path, FakeHost(kernel), "eth1")
    claimed(tmp_path, FakeHost(kernel), "eth5")
    kernel.nic("eth1").holders = [4211]
    host = FakeHost(kernel)
    monkeypatch.setattr("manactl.cli.app.App.host", property(lambda _: host))
    with host.alive():
        assert main(["--state-dir", str(tmp_path), "release", "--all", "--json"]) == 6
    document = json.loads(capsys.readouterr().out)
    schema.strict(document)
    assert document["schema"] == "manactl.error/1"
    assert [(port["netdev"], port["outcome"]) for port in document["released"]] == [
        ("eth5", "restored")
    ]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_a_fault_in_one_claim_keeps_no_other_from_being_released(
    shell: Shell, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = two_functions()
    claimed(shell.state_dir, FakeHost(kernel), "eth1")
    claimed(shell.state_dir, FakeHost(kernel), "eth5")
    real = releasing._steps

    def failing(content: Content, ports: Sequence[PortId]) -> list[Step]:
        if content.all_ports[0].pci == kernel.nic("eth1").pci:
            raise OSError(number, os.strerror(number))
        return real(content, ports)

    monkeypatch.setattr(releasing, "_steps", failing)
    with pytest.raises(ManactlError) as caught:
        shell.run(release, FakeHost(kernel), "--all")
    assert caught.value.exit_code == {errno.EMFILE: 6, errno.EIO: 5}[number]
    assert os.strerror(number) in caught.value.message
    assert kernel.nic("eth5").up
    assert [line for line in shell.lines if line.startswith("eth5 released: up")]
