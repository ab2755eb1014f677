"""What `manactl claim` prints, over a machine in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from manactl.cli.claim import claim
from manactl.cli.release import release
from manactl.errors import ManactlError, Refused
from tests.unit.cli.shell import Shell
from tests.unit.host import (
    NET_ADMIN,
    FakeHost,
    FakeSystem,
    furnished,
    two_ports,
)
from tests.unit.host import claim as claimed
from tests.unit.kernel import Kernel
from tests.unit.wording import wording

SRC = str(Path(__file__).parents[3] / "src")


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, capsys)


@pytest.mark.wording
def test_two_ports_have_one_last_line_with_the_next_command(shell: Shell) -> None:
    shell.run(claim, FakeHost(two_ports()), "--raw-qp", "eth1", "--raw-qp", "eth2")
    assert shell.lines[-1].endswith("When done: manactl release eth1 eth2")
    assert sum("When done" in line for line in shell.lines) == 1


@pytest.mark.wording
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
    with wording:
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
    with wording:
        assert "Release restores:" in shell.lines
        assert shell.lines.index("Release restores:") < shell.lines.index(
            "ok      set eth1 down (0.0 ms)"
        )


def test_a_dry_run_shows_the_plan_and_that_nothing_was_touched(shell: Shell) -> None:
    host = FakeHost(furnished())
    shell.run(claim, host, "--raw-qp", "eth1", "--dry-run")
    assert shell.lines[0] == "Plan:"
    with wording:
        assert shell.lines[-1] == "Nothing was touched (dry run)."
    assert not any(line.startswith("ok") for line in shell.lines)
    shell.run(claim, host, "--raw-qp", "eth1", "--dry-run", "--json")
    assert shell.document["schema"] == "manactl.plan/1"
    host.around[1] = {"xdp": True}
    with pytest.raises(Refused):
        shell.run(claim, host, "--raw-qp", "eth1", "--dry-run")
    with wording:
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
    with wording:
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


@pytest.mark.wording
def test_a_port_that_was_down_stays_down(shell: Shell) -> None:
    kernel = Kernel()
    shell.run(claim, FakeHost(kernel), "--raw-qp", "eth1", "-v")
    assert "  eth1 is down already: nothing to restore, it stays down at release" in shell.lines
    shell.run(release, FakeHost(kernel))
    assert shell.lines == ["eth1 released: it was down before the claim and is left as it is"]


def test_rich_is_loaded_on_a_terminal_alone(shell: Shell) -> None:
    before = set(sys.modules)
    shell.run(claim, FakeHost(furnished()), "--raw-qp", "eth1")
    assert "rich" not in set(sys.modules) - before


def test_a_claim_imports_nothing_that_only_some_need() -> None:
    script = (
        "import sys, click; before = set(sys.modules)\n"
        "import manactl.cli.claim, manactl.act.claim, manactl.act.system\n"
        "print(*(set(sys.modules) - before))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": SRC},
    )
    dear = {"_hashlib", "subprocess", "rich", "pyroute2", "pyverbs", "traceback", "textwrap"}
    assert not dear.intersection(run.stdout.split())
