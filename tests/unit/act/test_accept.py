"""`recover --accept`: the journal is closed with what is missing, and nothing is set."""

from __future__ import annotations

import contextlib
import copy
import errno
import json
import os
import shutil
import signal
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from manactl.act import release as releasing
from manactl.act.progress import Silent
from manactl.act.released import ReleaseResult
from manactl.act.signals import SignalGate
from manactl.errors import Busy, Interrupted, ManactlError, NotRestored, Refused, UsageError
from manactl.journal import file as journal
from manactl.model.port import PortId
from manactl.netstate.snapshot import PortState, Request, Rows
from manactl.render.outcome import release_lines
from manactl.render.outcome_document import release_document
from tests.unit import schema
from tests.unit.act.test_interruption import Calls, default_signals, journals
from tests.unit.act.test_release import claims, two_functions
from tests.unit.fakes import address, nexthop
from tests.unit.host import (
    NET_RAW,
    FakeHost,
    FakeSystem,
    Fate,
    Killed,
    claim,
    furnished,
    release,
    two_ports,
)
from tests.unit.kernel import NEXTHOP, Kernel
from tests.unit.wording import Coded, says, wording

__all__ = ["default_signals"]  # a fixture

PLACE = "7870:00:00.0:1"
STRANGER = nexthop(10, 4)  # the id of ours, on eth2


class ReadOnly(FakeSystem):
    """Whatever would change something."""

    def _asked(self, *_: object) -> Any:
        raise AssertionError("the kernel was asked to change something")

    set_admin = send = set_sysctl = prove_free = _asked


def reading(kernel: Kernel, fate: Fate | None = None) -> FakeHost:
    host = FakeHost(kernel, fate)
    host.systems = ReadOnly
    return host


def accept(state_dir: Path, host: FakeHost, *words: str, **more: Any) -> ReleaseResult:
    return release(state_dir, host, *words, recover=True, accept=True, **more)


def picture(kernel: Kernel) -> tuple[object, ...]:
    return kernel.picture(), list(kernel.links), dict(kernel.sysctls), list(kernel.killed)


def history(state_dir: Path) -> list[journal.Content]:
    return [journal.read(path) for path in sorted((state_dir / "history").iterdir())]


class Prepared:
    """A machine and its state directory, as often as they are needed."""

    def __init__(self, make: Callable[[Path], Kernel], place: Path) -> None:
        self._place = place / "prepared"
        self._kernel = make(self._place)

    def at(self, state_dir: Path) -> Kernel:
        shutil.copytree(self._place, state_dir)
        return copy.deepcopy(self._kernel)


@contextlib.contextmanager
def unchanged(kernel: Kernel) -> Any:
    before = picture(kernel)
    yield
    assert picture(kernel) == before


def reused(state_dir: Path) -> Kernel:
    """eth1 was claimed and released, but somebody has its nexthop's id."""
    kernel = two_ports()
    claim(state_dir, FakeHost(kernel), "eth1")
    kernel.add(NEXTHOP, STRANGER.body)
    with pytest.raises(NotRestored):
        release(state_dir, FakeHost(kernel), "eth1")
    assert claims(state_dir) == [(1, "interrupted")]
    return kernel


def dies_down(state_dir: Path, kernel: Kernel, name: str = "eth1") -> None:
    """A claim that is killed right after it has set the netdev down."""
    with pytest.raises(Killed):
        claim(state_dir, FakeHost(kernel, Fate(dies_at=9, half=True)), name)
    assert not kernel.nic(name).up


# --- what is accepted -----------------------------------------------------------------------


def test_a_nexthop_id_that_a_stranger_has(tmp_path: Path) -> None:
    kernel = reused(tmp_path)
    for attempt in (
        lambda: release(tmp_path, FakeHost(kernel), "eth1"),
        lambda: release(tmp_path, FakeHost(kernel), recover=True),
        lambda: claim(tmp_path, FakeHost(kernel), "eth1"),
    ):
        with pytest.raises(NotRestored) as caught:
            attempt()
        hint = caught.value.hint or ""
        with wording:
            assert hint.count("or, when it cannot be fixed: manactl recover --accept eth1") == 1
    host = reading(kernel)
    with unchanged(kernel):
        done = accept(tmp_path, host, "eth1")
    (port,) = done.ports
    assert (port.netdev, port.outcome) == ("eth1", "accepted")
    hop, route = sorted(port.residue)
    assert hop.startswith("192.0.2.0/24 nhid 10")
    with wording:
        assert "nexthop id 10 is not what it was" in hop
        assert "there is instead: nexthop id 10" in route
        assert release_lines(done, verb="recover", dry_run=False) == [
            "eth1 is accepted as it is: its claim is closed, and nothing was set",
            *(f"  not restored: {line}" for line in port.residue),
        ]

    assert claims(tmp_path) == []
    (closed,) = history(tmp_path)
    assert [one["event"] for one in closed.records[-2:]] == ["accepted", "closed"]
    assert closed.records[-2]["residue"] == list(port.residue)
    assert closed.records[-1]["how"] == "accepted"
    fields = host.audits[0].fields
    assert (fields["verb"], fields["exit"], fields["accepted"]) == ("recover", 0, [PLACE])
    assert fields["residue"] == [f"eth1: {line}" for line in port.residue]

    before = kernel.picture()
    claim(tmp_path, FakeHost(kernel), "eth1")
    release(tmp_path, FakeHost(kernel), "eth1")
    assert kernel.picture() == before


def test_what_is_missing_is_found_by_a_new_look(tmp_path: Path) -> None:
    kernel = reused(tmp_path)
    kernel.messages = [one for one in kernel.messages if one.u32(1) != 10 or one.kind != NEXTHOP]
    kernel.add(NEXTHOP, nexthop(10).body)
    kernel.send(21, 0, address("10.0.9.9", 32, flags=0x200).body)
    (port,) = accept(tmp_path, reading(kernel), "eth1").ports
    assert port.residue == (
        "inet 10.0.9.9/32 noprefixroute dev eth1 (missing)",
        "local 10.0.9.9/32 dev eth1 table local proto kernel (missing)",
        "192.0.2.0/24 nhid 10 proto static (missing)",
    )


def test_nothing_needs_to_be_missing(tmp_path: Path) -> None:
    kernel = furnished()
    with pytest.raises(Killed):
        claim(tmp_path, FakeHost(kernel, Fate(dies_at=7)))
    assert kernel.nics[0].up
    assert claims(tmp_path) == [(1, "interrupted")]
    kernel.add("address", address("10.7.0.2", 24).body)  # not of this claim
    kernel.send(21, 0, address("10.0.9.9", 32, flags=0x200).body)
    done = accept(tmp_path, reading(kernel), "eth1")
    assert done.ports[0].residue == ()
    (line,) = release_lines(done, verb="recover", dry_run=False)
    with wording:
        assert line.endswith("nothing was set; nothing is missing")
    assert claims(tmp_path) == []


def test_a_netdev_that_is_down_stays_down_and_that_is_residue(tmp_path: Path) -> None:
    kernel = furnished()
    dies_down(tmp_path, kernel)
    with unchanged(kernel):
        (port,) = accept(tmp_path, reading(kernel), "eth1").ports
    with wording:
        assert port.residue[0] == "eth1 is down (up before the claim)"
    assert any("10.128.0.0/9 via 10.0.0.1" in line for line in port.residue)
    assert claims(tmp_path) == []


def test_it_takes_no_capability(tmp_path: Path) -> None:
    kernel = reused(tmp_path)
    host = reading(kernel)
    host.mask = NET_RAW
    assert accept(tmp_path, host, "eth1").ports[0].outcome == "accepted"


@pytest.mark.parametrize("word", ["eth1", PLACE, "00:0D:3A:AA:00:10", "manae_0/1"])
def test_a_port_by_any_of_its_names(tmp_path: Path, word: str) -> None:
    kernel = reused(tmp_path)
    assert accept(tmp_path, reading(kernel), word).ports[0].outcome == "accepted"
    assert accept(tmp_path, reading(kernel), word).ports[0].outcome == "not-claimed"
    assert len(history(tmp_path)) == 1


def test_a_word_that_names_nothing(tmp_path: Path) -> None:
    kernel = reused(tmp_path)
    with pytest.raises(UsageError):
        accept(tmp_path, reading(kernel), "eth9", "eth1")
    assert claims(tmp_path) == [(1, "interrupted")]


# --- several ports --------------------------------------------------------------------------


def both_interrupted(state_dir: Path) -> Kernel:
    """One journal, eth1 with residue and eth2 without."""
    kernel = two_ports()
    claim(state_dir, FakeHost(kernel), "eth1", "eth2")
    kernel.add(NEXTHOP, STRANGER.body)
    with pytest.raises(NotRestored) as caught:
        release(state_dir, FakeHost(kernel))
    assert "manactl recover --accept eth1 --accept eth2" in (caught.value.hint or "")
    assert claims(state_dir) == [(1, "interrupted"), (2, "interrupted")]
    return kernel


def test_one_of_two_ports_leaves_the_journal_to_the_other(tmp_path: Path) -> None:
    kernel = both_interrupted(tmp_path)
    with unchanged(kernel):
        done = accept(tmp_path, reading(kernel), "eth1")
    assert [port.netdev for port in done.ports] == ["eth1"]
    (left,) = journal.list_claims(tmp_path, "boot-1").claims
    assert (left.port.port, left.phase) == (2, "interrupted")
    assert left.next_step is not None
    assert left.next_step.code == "release-interrupted"  # the residue was not its own
    done = release(tmp_path, FakeHost(kernel), recover=True)
    assert [(port.netdev, port.outcome) for port in done.ports] == [("eth2", "restored")]
    (closed,) = history(tmp_path)
    assert closed.records[-1]["how"] == "accepted"


def test_both_of_two_ports_close_the_journal(tmp_path: Path) -> None:
    kernel = both_interrupted(tmp_path)
    done = accept(tmp_path, reading(kernel), "eth2", "eth1")
    assert [(port.netdev, len(port.residue)) for port in done.ports] == [("eth1", 2), ("eth2", 0)]
    assert len(history(tmp_path)) == 1


def test_what_stands_in_another_journal_keeps_no_other_open(tmp_path: Path) -> None:
    kernel = two_functions()
    claim(tmp_path, FakeHost(kernel), "eth5")
    dies_down(tmp_path, kernel)
    with unchanged(kernel), pytest.raises(Refused) as caught:
        accept(tmp_path, reading(kernel), "eth1", "eth5")
    with wording:
        assert "eth5 is claimed" in caught.value.message
    assert claims(tmp_path) == [(1, "claimed")]


# --- what is not to be accepted -------------------------------------------------------------


def test_a_claim_that_stands_is_to_be_released(tmp_path: Path) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    for more in ({}, {"dry_run": True}):
        with unchanged(kernel), pytest.raises(Refused) as caught:
            accept(tmp_path, reading(kernel), "eth1", **more)
        assert (caught.value.exit_code, caught.value.code) == (3, "claim-stands")
        assert "manactl release eth1" in (caught.value.hint or "")
    assert claims(tmp_path) == [(1, "claimed")]


def test_a_standing_claim_whose_netdev_is_in_another_namespace(tmp_path: Path) -> None:
    class Moved(FakeHost):
        def look(self, claims: Any = ()) -> Any:
            report = super().look(claims)
            return report._replace(ports=tuple(p._replace(netns="blue") for p in report.ports))

    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    kernel.nics[0].present = False
    host = Moved(kernel)
    host.systems = ReadOnly
    with pytest.raises(
        Refused, match=says("nothing was interrupted"), check=Coded("claim-stands")
    ) as caught:
        accept(tmp_path, host, PLACE)
    with wording:
        assert "the network namespace blue: move it back" in (caught.value.hint or "")
    assert claims(tmp_path) == [(1, "claimed")]


def held(kernel: Kernel, host: FakeHost) -> None:
    kernel.nics[0].holders = [4211]


def hidden(kernel: Kernel, host: FakeHost) -> None:
    host.blind = True


@pytest.mark.parametrize(("how", "words"), [(held, "pid 4211 dpdk-testpmd"), (hidden, "may have")])
def test_a_live_holder_keeps_the_claim(
    tmp_path: Path, how: Callable[[Kernel, FakeHost], None], words: str
) -> None:
    kernel = furnished()
    dies_down(tmp_path, kernel)
    host = reading(kernel)
    how(kernel, host)
    with unchanged(kernel), pytest.raises(Busy, match=says(words), check=Coded("holder")) as caught:
        accept(tmp_path, host, "eth1")
    assert (caught.value.exit_code, caught.value.code) == (6, "holder")
    assert "manactl release --terminate eth1" in (caught.value.hint or "")
    assert claims(tmp_path) == [(1, "interrupted")]


def test_an_owner_that_cannot_be_read_does_not_matter_to_a_netdev_that_is_up(
    tmp_path: Path,
) -> None:
    kernel = reused(tmp_path)
    host = reading(kernel)
    host.blind = True
    assert accept(tmp_path, host, "eth1").ports[0].outcome == "accepted"


def test_what_cannot_be_read_is_not_accepted(tmp_path: Path) -> None:
    class Blind(ReadOnly):
        def capture(
            self,
            port: PortId,
            nexthops: Collection[int] = (),
            rows: Rows = None,
            *,
            alone: bool = False,
        ) -> PortState:
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

    kernel = reused(tmp_path)
    host = FakeHost(kernel)
    host.systems = Blind
    with pytest.raises(NotRestored, match=says("No buffer space available; nothing was changed")):
        accept(tmp_path, host, "eth1")
    assert claims(tmp_path) == [(1, "interrupted")]


def test_a_netdev_that_cannot_be_looked_at_is_not_taken_for_gone(tmp_path: Path) -> None:
    """Its journal would be closed, and the port stay down without a claim that says so."""
    kernel = reused(tmp_path)
    host = reading(kernel)
    host.unread = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    with unchanged(kernel), pytest.raises(NotRestored) as caught:
        accept(tmp_path, host, PLACE)
    with wording:
        assert "could not be read: Too many open files; nothing was changed" in caught.value.message
        assert "the journal stays open" in (caught.value.hint or "")
    assert claims(tmp_path) == [(1, "interrupted")]
    assert journal.paths(tmp_path, "history") == []


def test_a_netdev_that_can_be_looked_at_again_in_time_is(tmp_path: Path) -> None:
    kernel = reused(tmp_path)
    host = reading(kernel)
    host.unread = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    host.at_pause = lambda: setattr(host, "unread", None)
    (port,) = accept(tmp_path, host, PLACE).ports
    assert port.netdev == "eth1"


# --- ports that are not there any more ------------------------------------------------------


@pytest.mark.parametrize("word", [PLACE, "00:0d:3a:aa:00:10"])
def test_a_netdev_that_is_gone_goes_by_what_was_recorded(tmp_path: Path, word: str) -> None:
    kernel = reused(tmp_path)
    (left,) = journal.paths(tmp_path)
    recorded = journal.read(left).residue
    assert len(recorded) == 2
    kernel.unplug(kernel.nic("eth1"))
    with pytest.raises(NotRestored) as caught:
        release(tmp_path, FakeHost(kernel), recover=True)
    assert f"manactl recover --accept {PLACE}" in (caught.value.hint or "")
    with unchanged(kernel):
        (port,) = accept(tmp_path, reading(kernel), word).ports
    assert port.netdev == PLACE
    with wording:
        assert port.residue == (f"port {PLACE} has no netdev here", *recorded)
    assert claims(tmp_path) == []


def test_a_netdev_that_comes_back_in_time_is_looked_at(tmp_path: Path) -> None:
    kernel = reused(tmp_path)
    nic = kernel.nic("eth1")
    kernel.unplug(nic)
    host = reading(kernel)
    host.at_pause = lambda: None if nic.present else kernel.replug(nic, "eth7", 9)
    (port,) = accept(tmp_path, host, PLACE).ports
    assert port.netdev == "eth7"
    with wording:
        assert "eth7 is down (up before the claim)" in port.residue


def test_a_standing_claim_whose_device_is_gone_has_lost_all_that_was_kept(tmp_path: Path) -> None:
    kernel = two_functions()
    claim(tmp_path, FakeHost(kernel), "eth1")
    gone = kernel.nics.pop(0)
    kernel.messages = [one for one in kernel.messages if one.device != gone.ifindex]
    (port,) = accept(tmp_path, reading(kernel), PLACE).ports
    with wording:
        assert port.residue[0] == f"port {PLACE} has no netdev here"
    assert any("10.128.0.0/9 via 10.0.0.1" in line for line in port.residue)
    assert any("inet6 2001:db8::2/64" in line for line in port.residue)
    assert claims(tmp_path) == []


@pytest.mark.parametrize("word", ["eth1", PLACE, "00:0d:3a:aa:00:10", "00:0d:3a:cc:00:10"])
@pytest.mark.parametrize("busy", [False, True])
def test_another_nic_in_the_place_is_not_asked(tmp_path: Path, word: str, busy: bool) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    kernel.nics[0].mac = "00:0d:3a:cc:00:10"
    kernel.nics[0].holders = [4211] * busy
    with pytest.raises(Busy) as caught:
        claim(tmp_path, FakeHost(kernel))
    with wording:
        assert f"or, when it cannot be fixed: manactl recover --accept {PLACE}" in (
            caught.value.hint or ""
        )
    host = reading(kernel)
    with unchanged(kernel):
        (port,) = accept(tmp_path, host, word).ports
    assert host.pauses == []  # nothing to wait for
    with wording:
        assert port.residue[0] == f"another NIC (00:0d:3a:cc:00:10) is in the place of port {PLACE}"
    assert claims(tmp_path) == []
    if not busy:
        claim(tmp_path, FakeHost(kernel))


def test_another_nic_in_one_place_hides_no_port_in_another(tmp_path: Path) -> None:
    kernel = two_ports()
    claim(tmp_path, FakeHost(kernel), "eth1", "eth2")
    for nic in kernel.nics:
        nic.mac = nic.mac.replace("aa", "cc")
    done = accept(tmp_path, reading(kernel))
    assert [bool(port.residue) for port in done.ports] == [True, True]
    assert claims(tmp_path) == []


def test_a_claim_of_another_boot_is_history(tmp_path: Path) -> None:
    kernel = reused(tmp_path)
    later = reading(kernel)
    later.boot = "boot-2"
    (plan,) = accept(tmp_path, later, "eth1", dry_run=True).plans
    with wording:
        assert "only the journal is closed" in plan.notes[0]
    assert accept(tmp_path, later, "eth1").ports[0].outcome == "history"
    assert history(tmp_path)[0].records[-1]["how"] == "reboot"


# --- dry runs and documents -----------------------------------------------------------------


def test_a_dry_run_shows_the_residue_and_closes_nothing(tmp_path: Path) -> None:
    kernel = reused(tmp_path)
    (path,) = journal.paths(tmp_path)
    data = path.read_bytes()
    host = reading(kernel)
    with unchanged(kernel):
        done = accept(tmp_path, host, "eth1", dry_run=True)
    assert host.audits[0].quiet
    assert (done.ports[0].outcome, len(done.ports[0].residue), done.plans) == ("residue", 2, [])
    lines = release_lines(done, verb="recover", dry_run=True)
    with wording:
        assert lines[0] == "eth1 would be accepted as it is"
    assert len(lines) == 4
    assert path.read_bytes() == data
    assert accept(tmp_path, host, "eth1").ports[0].residue == done.ports[0].residue


def test_the_document_has_the_residue(tmp_path: Path) -> None:
    kernel = reused(tmp_path)
    done = accept(tmp_path, reading(kernel), "eth1")
    document: Any = json.loads(json.dumps(release_document(done, "recover")))
    schema.strict(document)
    assert document["schema"] == "manactl.recover/1"
    (port,) = document["ports"]
    assert (port["outcome"], port["recovered"], port["restored"]) == ("accepted", False, {})
    assert port["residue"] == list(done.ports[0].residue)


# --- what may come in between ---------------------------------------------------------------


def test_dying_anywhere_leaves_a_journal_that_can_be_read_and_the_kernel_alone(
    tmp_path: Path,
) -> None:
    prepared = Prepared(both_interrupted, tmp_path)
    whole = reading(prepared.at(tmp_path / "whole"))
    accept(tmp_path / "whole", whole, "eth1", "eth2")
    total = whole.fate.operations
    assert total >= 6  # two looks, three records and the move to the history
    for half in (False, True):
        for dies_at in range(1, total + 1):
            state_dir = tmp_path / f"{dies_at}-{half}"
            kernel = prepared.at(state_dir)
            with unchanged(kernel):
                with pytest.raises(Killed):
                    accept(state_dir, reading(kernel, Fate(dies_at=dies_at, half=half)),
                           "eth1", "eth2")  # fmt: skip
                assert journals(state_dir)
                accept(state_dir, reading(kernel), "eth1", "eth2")
            (closed,) = history(state_dir)
            assert claims(state_dir) == []
            assert closed.records[-1]["how"] == "accepted"
            assert journal.paths(state_dir) == []
            claim(state_dir, FakeHost(kernel), "eth1")


def test_a_failure_of_the_disk_anywhere_is_reported_and_repaired_by_the_next_run(
    tmp_path: Path,
) -> None:
    prepared = Prepared(both_interrupted, tmp_path)
    whole = reading(prepared.at(tmp_path / "whole"))
    accept(tmp_path / "whole", whole, "eth1", "eth2")
    exits = []
    for fails_at in range(1, whole.fate.operations + 1):
        state_dir = tmp_path / str(fails_at)
        kernel = prepared.at(state_dir)
        host = reading(kernel, Fate(fails_at=fails_at))
        with unchanged(kernel):
            with pytest.raises(ManactlError) as caught:
                accept(state_dir, host, "eth1", "eth2")
            exits.append((caught.value.exit_code, caught.value.code))
            done = [port.port for port in journals(state_dir)[0].ports]
            logged = host.audits[0].fields.get("accepted", [])
            assert len(done) + len(logged if isinstance(logged, list) else []) == 2
            accept(state_dir, reading(kernel), "eth1", "eth2")
        assert claims(state_dir) == []
        assert history(state_dir)[0].records[-1]["how"] == "accepted"
    assert exits == [
        (5, "not-restored"),  # two looks
        (5, "not-restored"),
        (3, "state-dir"),  # the first record: nothing was changed
        (5, "journal"),
        (5, "journal"),
        (5, "journal"),
    ]


def test_a_signal_at_every_call_leaves_readable_journals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # the power stays on here
    prepared = Prepared(reused, tmp_path)
    calls = Calls(monkeypatch)

    def run(state_dir: Path, kernel: Kernel) -> None:
        request = releasing.ReleaseRequest(state_dir, ("eth1",), recover=True, accept=True)
        with SignalGate() as signals:
            releasing.release(request, reading(kernel), signals, Silent())

    kernel = prepared.at(tmp_path / "whole")
    calls.start({})
    run(tmp_path / "whole", kernel)
    names = list(calls.names)
    assert names.count("write") >= 2
    seen = set()
    for number in range(len(names)):
        for when in ("before", "after"):
            state_dir = tmp_path / f"{number}-{when}"
            calls.start({})
            kernel = prepared.at(state_dir)
            with unchanged(kernel):
                calls.start({number: (when, signal.SIGINT)})
                try:
                    run(state_dir, kernel)
                    seen.add("done")
                    assert claims(state_dir) == []
                except Interrupted:
                    seen.add("interrupted")
                    assert claims(state_dir) == [(1, "interrupted")]
                calls.start({})
                assert journals(state_dir)
                run(state_dir, kernel)
            assert claims(state_dir) == []
            assert journal.paths(state_dir) == []
    assert seen == {"done", "interrupted"}


def test_an_interrupt_says_what_was_accepted(tmp_path: Path) -> None:
    kernel = two_functions()
    for name in ("eth1", "eth5"):
        dies_down(tmp_path, kernel, name)
    host = reading(kernel)
    host.at_look[3] = lambda: os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Interrupted, match=says("eth1 was accepted; no other port was changed")):
        accept(tmp_path, host, "eth1", "eth5")
    assert claims(tmp_path) == [(1, "interrupted")]


def test_what_another_manactl_has_finished_meanwhile_is_left(tmp_path: Path) -> None:
    kernel = furnished()
    dies_down(tmp_path, kernel)
    host = reading(kernel)

    def meanwhile() -> None:
        host.at_look.clear()
        release(tmp_path, FakeHost(kernel), recover=True)

    host.at_look[1] = meanwhile  # before the lock
    assert accept(tmp_path, host, "eth1").ports == []
    assert kernel.nics[0].up


def test_without_a_state_directory_nothing_is_claimed(tmp_path: Path) -> None:
    host = reading(furnished())
    assert accept(tmp_path / "none", host, "eth1").ports[0].outcome == "not-claimed"
    assert not (tmp_path / "none").exists()


def test_what_the_kernel_refuses_for_ever(tmp_path: Path) -> None:
    """Neither release nor recover can finish."""

    class Stubborn(FakeSystem):
        def send(self, request: Request) -> None:
            if request.type == 28:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            super().send(request)

    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    host = FakeHost(kernel)
    host.systems = Stubborn
    for recover in (False, True):
        with pytest.raises(NotRestored, match=r"10\.0\.0\.50 .*Invalid argument"):
            release(tmp_path, host, recover=recover)
    (port,) = accept(tmp_path, reading(kernel), "eth1").ports
    with wording:
        assert [line.split()[:2] for line in port.residue] == [
            ["neighbour", "10.0.0.50"],
            ["proxy", "neighbour"],
        ]
