"""Ports that a raw QP has: waiting for its end, or asking for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from manactl.errors import (
    Busy,
    NotRestored,
    Refused,
)
from manactl.journal import file as journal
from manactl.model.port import PortId
from tests.unit import schema
from tests.unit.host import (
    FakeHost,
    FakeSystem,
    Followed,
    claim,
    furnished,
    release,
    two_ports,
)
from tests.unit.kernel import Kernel


def claims(state_dir: Path) -> list[tuple[int, str]]:
    return [(one.port.port, one.phase) for one in journal.list_claims(state_dir, "boot-1").claims]


def claimed_and_held(state_dir: Path, *pids: int) -> tuple[Kernel, object]:
    kernel = furnished()
    before = kernel.picture()
    claim(state_dir, FakeHost(kernel))
    kernel.nics[0].holders = list(pids or [4211])
    return kernel, before


def test_with_wait_a_holder_may_end(tmp_path: Path) -> None:
    kernel, before = claimed_and_held(tmp_path)
    host = FakeHost(kernel)

    def ends() -> None:
        if kernel.clock > 1007.0:
            kernel.nics[0].holders = []

    host.at_pause = ends
    follower = Followed()
    release(tmp_path, host, wait=30.0, progress=follower)
    assert kernel.picture() == before
    assert 1007.0 < kernel.clock < 1010.0
    ((what, seconds),) = follower.waits
    assert "pid 4211 dpdk-testpmd" in what
    assert seconds == 30.0


def test_wait_ends_with_who_still_has_it(tmp_path: Path) -> None:
    kernel, _ = claimed_and_held(tmp_path)
    start = kernel.clock
    with pytest.raises(Busy, match="pid 4211"):
        release(tmp_path, FakeHost(kernel), wait=6.0)
    assert 6.0 <= kernel.clock - start < 9.0
    assert kernel.killed == []
    assert claims(tmp_path) == [(1, "claimed")]


def test_a_holder_that_cannot_be_seen_is_said_to_be_elsewhere(tmp_path: Path) -> None:
    class Blind(FakeSystem):
        def holders(self, port: PortId) -> tuple[Any, ...]:
            return ()

        def seems_free(self, port: PortId) -> bool:
            return False

    kernel, _ = claimed_and_held(tmp_path)
    host = FakeHost(kernel)
    host.systems = Blind
    with pytest.raises(Busy) as caught:
        release(tmp_path, host)
    assert "not visible" in (caught.value.hint or "")


def test_a_leaked_vport_is_no_live_holder(tmp_path: Path) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    kernel.nics[0].leaked = True
    with pytest.raises(NotRestored, match="use count") as caught:
        release(tmp_path, FakeHost(kernel))
    assert caught.value.code == "kernel-bug"
    assert "manactl release" in (caught.value.hint or "")
    assert claims(tmp_path) == [(1, "claimed")]


@pytest.mark.parametrize("terminate", [False, True])
def test_a_release_that_would_crash_the_kernel_is_refused(tmp_path: Path, terminate: bool) -> None:
    kernel, _ = claimed_and_held(tmp_path)
    kernel.nics[0].eqs_lost = True
    with pytest.raises(Refused) as caught:
        release(tmp_path, FakeHost(kernel), terminate=terminate, wait=5.0)
    assert (caught.value.exit_code, caught.value.code) == (3, "kernel-bug")
    assert kernel.killed == []
    assert kernel.clock < 1005.0
    assert claims(tmp_path) == [(1, "claimed")]


def test_another_ports_lost_event_queues_do_not_matter(tmp_path: Path) -> None:
    kernel = two_ports()
    claim(tmp_path, FakeHost(kernel), "eth1")
    kernel.nic("eth2").eqs_lost = True
    assert [port.netdev for port in release(tmp_path, FakeHost(kernel)).ports] == ["eth1"]


def test_terminate_sends_one_sigterm_and_releases(tmp_path: Path) -> None:
    kernel, before = claimed_and_held(tmp_path)
    host = FakeHost(kernel)
    follower = Followed()
    done = release(tmp_path, host, terminate=True, progress=follower)
    assert kernel.killed == [4211]
    assert [one.pid for one in done.terminated] == [4211]
    assert kernel.picture() == before
    assert host.audits[0].fields["terminated"] == [4211]
    assert "SIGTERM sent to pid 4211" in follower.notes[0]


def test_a_descriptor_is_opened_before_the_holder_is_looked_at_again(tmp_path: Path) -> None:
    """Else the pid may have become another program's between look and signal."""
    kernel, _ = claimed_and_held(tmp_path)
    host = FakeHost(kernel)
    looks: list[int] = []
    host.at_sigterm = lambda: looks.append(host.looks)
    release(tmp_path, host, terminate=True)
    ((pid, before),) = host.processes.opened
    assert pid == 4211
    assert looks == [before + 1]


def test_a_holder_that_is_in_doubt_by_then_is_not_signalled(tmp_path: Path) -> None:
    """Another program has come between the two looks: whose the raw QP of eth1 is nobody tells."""
    kernel = two_ports()
    claim(tmp_path, FakeHost(kernel), "eth1", "eth2")
    kernel.nic("eth1").holders = [4211]
    host = FakeHost(kernel)
    opened = host.processes.open

    def opening(pid: int) -> int:
        fd = opened(pid)
        kernel.nic("eth1").holders = [4211, 4212]
        kernel.nic("eth2").holders = [4212]
        return fd

    host.processes.open = opening  # type: ignore[method-assign]
    with pytest.raises(Busy, match="nobody was signalled"):
        release(tmp_path, host, "eth1", terminate=True)
    assert kernel.killed == []


def test_who_let_go_by_itself_is_not_signalled(tmp_path: Path) -> None:
    kernel, before = claimed_and_held(tmp_path)
    host = FakeHost(kernel)
    opened = host.processes.open

    def opening(pid: int) -> int:
        fd = opened(pid)
        kernel.nics[0].holders = []
        return fd

    host.processes.open = opening  # type: ignore[method-assign]
    done = release(tmp_path, host, terminate=True)
    assert kernel.killed == []
    assert done.terminated == []
    assert kernel.picture() == before


def test_a_holder_that_ignores_sigterm_is_left_and_named(tmp_path: Path) -> None:
    kernel, _ = claimed_and_held(tmp_path)
    kernel.stubborn.add(4211)
    host = FakeHost(kernel)
    start = kernel.clock
    with pytest.raises(Busy, match="SIGTERM was sent to pid 4211") as caught:
        release(tmp_path, host, terminate=True)
    assert "kill -9 4211" in (caught.value.hint or "")
    assert "systemctl stop fwd.service" in (caught.value.hint or "")
    assert 10.0 <= kernel.clock - start < 16.0
    assert host.audits[0].fields["terminated"] == [4211]
    assert claims(tmp_path) == [(1, "claimed")]


def test_terminate_of_nothing_held_signals_nobody(tmp_path: Path) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    done = release(tmp_path, FakeHost(kernel), terminate=True)
    assert (kernel.killed, done.terminated) == ([], [])


def test_a_dry_run_tells_who_would_be_signalled(tmp_path: Path) -> None:
    kernel, _ = claimed_and_held(tmp_path)
    picture = kernel.picture()
    (plan,) = release(tmp_path, FakeHost(kernel), terminate=True, dry_run=True).plans
    assert any("SIGTERM" in note and "4211" in note for note in plan.notes)
    schema.strict(json.loads(json.dumps(plan.to_json())))
    assert kernel.killed == []
    assert kernel.picture() == picture
    (silent,) = release(tmp_path, FakeHost(kernel), dry_run=True).plans
    assert not any("4211" in note for note in silent.notes)
