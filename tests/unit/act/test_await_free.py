"""Ports that a raw QP has: waiting for its end, or asking for it."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from manactl.act import await_free
from manactl.act.progress import Silent
from manactl.errors import (
    Busy,
    NotRestored,
    Refused,
)
from manactl.journal import file as journal
from manactl.journal import lock
from manactl.model.claim import ClaimSummary
from manactl.model.port import Evidence, Holder, Owner, PortId, Report
from tests.unit import schema
from tests.unit.fakes import PORT
from tests.unit.host import (
    FakeHost,
    FakeProof,
    FakeSystem,
    Followed,
    claim,
    furnished,
    release,
    two_ports,
)
from tests.unit.kernel import Kernel
from tests.unit.wording import OWN_WORDS, Coded, says, wording


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
    with wording:
        assert "not visible" in (caught.value.hint or "")


def test_a_leaked_vport_is_no_live_holder(tmp_path: Path) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    kernel.nics[0].leaked = True
    with pytest.raises(NotRestored, match=says("use count"), check=Coded("kernel-bug")) as caught:
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
    with wording:
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
    with pytest.raises(Busy, match=says("nobody was signalled"), check=Coded("holder")):
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
    with pytest.raises(
        Busy, match=says("SIGTERM was sent to pid 4211"), check=Coded("holder")
    ) as caught:
        release(tmp_path, host, terminate=True)
    assert "kill -9 4211" in (caught.value.hint or "")
    assert "systemctl stop fwd.service" in (caught.value.hint or "")
    assert 10.0 <= kernel.clock - start < 16.0
    assert host.audits[0].fields["terminated"] == [4211]
    assert claims(tmp_path) == [(1, "claimed")]


def also_at_work(state_dir: Path, stack: contextlib.ExitStack) -> None:
    """Another manactl has the second lock of the function."""
    stack.enter_context(lock.moment(state_dir, PORT.pci))


@pytest.mark.parametrize("words", [("eth1",), ()])
def test_that_nothing_was_touched_is_not_said_once_somebody_was_signalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    kernel, _ = claimed_and_held(tmp_path)
    host = FakeHost(kernel)
    monkeypatch.setattr(lock, "_MOMENT", 0.0)
    with contextlib.ExitStack() as stack:
        host.at_sigterm = lambda: also_at_work(tmp_path, stack)
        with pytest.raises(Busy) as caught:
            release(tmp_path, host, *words, terminate=True)
    assert kernel.killed == [4211]
    with wording:
        assert re.fullmatch(
            r"another manactl is at work on 7870:00:00\.0: .*, since .*; SIGTERM was sent to pid 4211 "
            r"dpdk-testpmd, and no port was changed",
            caught.value.message,
        )
        assert Evidence("proc", "SIGTERM sent to", 4211) in caught.value.evidence
    assert caught.value.code == "locked"
    assert claims(tmp_path) == [(1, "claimed")]


def test_without_a_signal_nothing_was_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel, _ = claimed_and_held(tmp_path)
    kernel.nics[0].holders.clear()
    monkeypatch.setattr(lock, "_MOMENT", 0.0)
    with (
        lock.moment(tmp_path, PORT.pci),
        pytest.raises(
            Busy, match=says(r"; nothing was touched$"), check=Coded("locked", untouched=True)
        ),
    ):
        release(tmp_path, FakeHost(kernel), terminate=True)


def test_what_cannot_be_read_after_a_signal_is_told_with_it(
    tmp_path: Path,
) -> None:
    kernel, _ = claimed_and_held(tmp_path)
    host = FakeHost(kernel)
    host.at_sigterm = lambda: setattr(host, "unread", OSError(errno.EMFILE, "no descriptors"))
    with pytest.raises(NotRestored) as caught:
        release(tmp_path, host, terminate=True)
    with wording:
        assert caught.value.message.endswith(
            "could not be read: no descriptors; SIGTERM was sent to pid 4211 dpdk-testpmd, and no port "
            "was changed"
        )


def test_terminate_of_nothing_held_signals_nobody(tmp_path: Path) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    done = release(tmp_path, FakeHost(kernel), terminate=True)
    assert (kernel.killed, done.terminated) == ([], [])


def test_a_dry_run_tells_who_would_be_signalled(tmp_path: Path) -> None:
    kernel, _ = claimed_and_held(tmp_path)
    picture = kernel.picture()
    (plan,) = release(tmp_path, FakeHost(kernel), terminate=True, dry_run=True).plans
    with wording:
        assert any("SIGTERM" in note and "4211" in note for note in plan.notes)
    schema.strict(json.loads(json.dumps(plan.to_json())))
    assert kernel.killed == []
    assert kernel.picture() == picture
    (waits,) = release(tmp_path, FakeHost(kernel), dry_run=True).plans
    (note,) = waits.notes
    assert "4211" in note
    with wording:
        assert note == (
            "a raw QP still has the vport of eth1 (pid 4211 dpdk-testpmd); nothing is released before "
            "that has ended: end the holder and release again, or wait for it: manactl release "
            "--wait 60 eth1"
        )
    assert kernel.picture() == picture


# --- one stage alone ------------------------------------------------------------------------

ETH2 = PortId("7870:00:00.0", 2, "00:0d:3a:aa:00:11")
PROOF = Evidence("uverbs", "CREATE_QP", "EBUSY")


class Showing(FakeSystem):
    """Proofs with the evidence that a real one has."""

    def prove_free(self, port: PortId) -> FakeProof:
        return dataclasses.replace(super().prove_free(port), evidence=(PROOF,))


def down(*holders: int, second: int | None = None) -> FakeHost:
    """Both ports down; the first with these holders, the second with that one."""
    kernel = two_ports()
    for nic in kernel.nics:
        kernel.set_up(nic, False)
    kernel.links.clear()
    kernel.nics[0].holders = list(holders)
    kernel.nics[1].holders = [] if second is None else [second]
    host = FakeHost(kernel)
    host.systems = Showing
    return host


def made(host: FakeHost) -> FakeSystem:
    return host.system(lambda _: None)


def test_a_port_that_is_up_does_not_hide_a_holder_of_the_next() -> None:
    host = down(second=77)
    host.kernel.set_up(host.kernel.nics[0], True)
    with pytest.raises(
        Busy,
        match=says(r"eth2 cannot be released: .* \(pid 77 dpdk-testpmd\)"),
        check=Coded("holder"),
    ):
        await_free.require_free(made(host), [PORT, ETH2], 0.0)


def test_a_netdev_that_cannot_be_looked_at_is_neither_up_nor_gone() -> None:
    host = down()
    host.unread = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    with pytest.raises(NotRestored, match=says("could not be read: Too many open files")) as caught:
        await_free.require_free(made(host), [PORT], 0.0)
    with wording:
        assert "nothing was changed" in caught.value.message
    assert caught.value.code != "no-netdev"


def test_who_holds_it_is_named_with_the_evidence_and_the_way_on() -> None:
    with pytest.raises(Busy) as caught:
        await_free.require_free(made(down(4211)), [PORT], 0.0)
    assert caught.value.code == "holder"
    with wording:
        assert caught.value.hint == (
            "end the holder and release again, or wait for it: manactl release --wait 60 eth1"
        )
        assert [(e.source, e.fact) for e in caught.value.evidence] == [
            ("uverbs", "CREATE_QP"), ("proc", "holder"),
        ]  # fmt: skip


def test_a_netdev_that_was_set_up_meanwhile_has_its_vport() -> None:
    """The proof finds the vport taken, by the netdev itself: the port is not held."""
    host = down(4211)

    def ends() -> None:
        host.kernel.nics[0].holders = []
        host.kernel.set_up(host.kernel.nics[0], True)

    host.at_pause = ends
    await_free.require_free(made(host), [PORT], 0.0)
    assert host.kernel.nics[0].up


def test_what_cannot_be_proven_is_for_the_kernel_to_refuse() -> None:
    host = down(4211)
    host.mask = 0
    await_free.require_free(made(host), [PORT], 5.0)
    assert host.pauses == []


def test_several_ports_share_the_wait() -> None:
    """The second has what the first has left of it, and one more attempt at least."""
    host = down(4211, second=77)
    start = host.kernel.clock

    def first_ends() -> None:
        if host.kernel.clock >= start + 5.0:
            host.kernel.nics[0].holders = []

    host.at_pause = first_ends
    with pytest.raises(Busy, match="eth2"):
        await_free.require_free(made(host), [PORT, ETH2], 8.0)
    assert start + 8.0 <= host.kernel.clock < start + 10.0


def test_a_port_without_its_netdev_is_not_restored() -> None:
    host = down()
    host.kernel.nics[0].present = False
    with pytest.raises(
        NotRestored,
        match=says("no netdev here; nothing was changed"),
        check=Coded("no-netdev", untouched=True),
    ) as caught:
        await_free.require_free(made(host), [PORT], 0.0)
    assert caught.value.code == "no-netdev"
    with wording:
        assert "another network namespace" in (caught.value.hint or "")


def test_a_leaked_vport_is_shown_with_what_was_seen() -> None:
    host = down()
    host.kernel.nics[0].leaked = True
    with pytest.raises(NotRestored) as caught:
        await_free.require_free(made(host), [PORT], 0.0)
    assert caught.value.code == "kernel-bug"
    assert caught.value.evidence == (PROOF,)


@pytest.mark.parametrize(("lets_go_after", "free"), [(1.6, True), (4.0, False)])
def test_without_wait_a_program_that_is_just_ending_gets_two_seconds(
    lets_go_after: float, free: bool
) -> None:
    host = down(4211)
    start = host.kernel.clock

    def ends() -> None:
        if host.kernel.clock >= start + lets_go_after:
            host.kernel.nics[0].holders = []

    host.at_pause = ends
    if free:
        await_free.await_free(made(host), [PORT], Silent(), wait=None)
    else:
        with pytest.raises(Busy):
            await_free.await_free(made(host), [PORT], Silent(), wait=None)


def slow_first_look(host: FakeHost, seconds: float) -> float:
    """Let the first pause take that long; when it begins."""
    start = host.kernel.clock

    def later() -> None:
        if len(host.pauses) == 1:
            host.kernel.clock += seconds

    host.at_pause = later
    return start


def test_the_first_look_counts_as_waiting() -> None:
    host = down(4211)
    start = slow_first_look(host, 5.0)
    follower = Followed()
    with pytest.raises(Busy):
        await_free.await_free(made(host), [PORT], follower, wait=20.0)
    assert start + 20.0 <= host.kernel.clock < start + 22.0
    with wording:
        assert follower.waits == [("pid 4211 dpdk-testpmd to end", 20.0)]


def test_waiting_for_nobody_that_can_be_seen() -> None:
    class Blind(Showing):
        def holders(self, port: PortId) -> tuple[Holder, ...]:
            return ()

        def seems_free(self, port: PortId) -> bool:
            return False

    host = down(4211)
    host.systems = Blind
    follower = Followed()
    with pytest.raises(Busy):
        await_free.await_free(made(host), [PORT], follower, wait=3.0)
    with wording:
        assert follower.waits == [("a holder to end", 3.0)]


def test_a_vport_that_is_free_at_once_is_not_waited_for() -> None:
    host, follower = down(), Followed()
    await_free.await_free(made(host), [PORT], follower, wait=30.0)
    assert (follower.waits, host.pauses) == ([], [])


@pytest.mark.parametrize(("wait", "within"), [(None, (10.0, 13.0)), (4.0, (4.0, 7.0))])
def test_who_ignores_sigterm_is_waited_for_as_long_as_asked(
    wait: float | None, within: tuple[float, float]
) -> None:
    host = down(4211)
    host.kernel.stubborn.add(4211)
    start = slow_first_look(host, 1.0)
    sent: list[Holder] = []
    with pytest.raises(Busy) as caught:
        await_free.terminate(host, made(host), [PORT], sent, Silent(), wait=wait)
    assert [one.pid for one in sent] == [4211]
    least, most = within
    took = host.kernel.clock - start
    assert least <= took < most + 2.0
    waited = re.search(r"and ([\d.]+) s were waited for", caught.value.message)
    if OWN_WORDS:
        assert waited
        assert float(waited[1]) == pytest.approx(took, abs=0.01)


def test_a_program_that_has_ended_keeps_its_vport_for_a_moment() -> None:
    """However short the wait was, the kernel gets its two seconds to clean up."""
    host = down(4211)
    host.kernel.stubborn.add(4211)
    start = host.kernel.clock

    def ends() -> None:
        if host.kernel.clock >= start + 1.8:
            host.kernel.nics[0].holders = []

    host.at_pause = ends
    sent: list[Holder] = []
    await_free.terminate(host, made(host), [PORT], sent, Silent(), wait=0.5)
    assert [one.pid for one in sent] == [4211]


# --- who would be signalled -----------------------------------------------------------------


class Reporting(FakeHost):
    """What a look finds is changed by the test."""

    changes: Mapping[int, Mapping[str, Any]] = {}

    def look(self, claims: Sequence[ClaimSummary] = ()) -> Report:
        report = super().look(claims)
        return report._replace(
            ports=tuple(row._replace(**self.changes.get(row.id.port, {})) for row in report.ports)
        )


def would(changes: Mapping[int, Mapping[str, Any]], *holders: int, second: int = 0) -> list[str]:
    host = Reporting(down(*holders, second=second or None).kernel)
    host.changes = changes
    return await_free.would_end(host, [PORT])


def test_who_would_be_signalled() -> None:
    with wording:
        assert would({}, 4211) == ["SIGTERM to pid 4211 dpdk-testpmd"]
    assert would({}) == []
    assert would({}, second=77) == []  # of another port


def test_a_candidate_would_be_signalled_too() -> None:
    maybe = {"owner": Owner.UNKNOWN, "candidates": (f"{PORT.pci}:1",)}
    with wording:
        assert would({1: maybe}, 4211) == ["SIGTERM to pid 4211 dpdk-testpmd"]
    assert would({1: {"owner": Owner.UNKNOWN}}, 4211) == []


@pytest.mark.wording
def test_why_nobody_would_be_signalled() -> None:
    (why,) = would({1: {"holders": ()}}, 4211)
    assert "whoever holds eth1 cannot be seen from here; nobody was signalled" in why
