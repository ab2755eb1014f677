"""`claim` from its request to the journal, on a machine in memory."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import errno
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

from manactl.act import claim as claiming
from manactl.act.signals import SignalGate
from manactl.decide.codes import Code
from manactl.errors import (
    Busy,
    Denied,
    Interrupted,
    ManactlError,
    NotRestored,
    Refused,
    RolledBack,
    Unsupported,
    UsageError,
)
from manactl.journal import file as journal
from manactl.journal import lock
from manactl.look.netdevs_of import Unread
from manactl.model.claim import ClaimSummary, NetnsId
from manactl.model.port import PortId, Report
from manactl.netstate.snapshot import PortState, Rows
from manactl.render.outcome_document import claim_document
from tests.unit import schema
from tests.unit.fakes import PORT, address, archived, route
from tests.unit.host import (
    NET_ADMIN,
    NET_RAW,
    OTHER_FUNCTION,
    FakeHost,
    FakeSystem,
    Fate,
    Killed,
    claim,
    furnished,
    release,
    two_ports,
)
from tests.unit.kernel import Kernel
from tests.unit.wording import Coded, read, says, wording

ETH2 = PortId("7870:00:00.0", 2, "00:0d:3a:aa:00:11")


def claims(state_dir: Path) -> list[tuple[int, str]]:
    return [(one.port.port, one.phase) for one in journal.list_claims(state_dir, "boot-1").claims]


def untouched(kernel: Kernel, state_dir: Path) -> bool:
    """Neither a netdev nor a journal."""
    return kernel.links == [] and journal.paths(state_dir) == []


def test_what_is_written_down(tmp_path: Path) -> None:
    kernel = furnished()
    host = FakeHost(kernel)
    host.around[1] = {"xdp": True}
    done = claim(tmp_path, host, allow=["xdp", "storage"])
    assert done.journal is not None
    content = journal.read(done.journal)
    header = content.header
    assert header["boot_id"] == "boot-1"
    assert header["by"] == {"uid": 0, "sudo_user": "operator", "loginuid": 1000}
    assert header["mode"] == "claim"
    assert header["ports"] == [
        {
            "pci": PORT.pci,
            "port": 1,
            "permanent_mac": PORT.permanent_mac,
            "netdev": "eth1",
            "ifindex": 3,
            "altnames": [],
        }
    ]
    assert header["waived"] == ["xdp"]
    assert [one["code"] for one in header["plan"]["waived"]] == ["xdp"]
    assert len(header["snapshot"]) == 1
    assert len(header["snapshot"][0]["facts"]["text"]) == len(list(furnished().of(kernel.nics[0])))
    assert [r["event"] for r in content.records] == ["doing", "done"] * 3 + ["claimed"]
    assert content.records[-1]["ports"] == [{"pci": PORT.pci, "port": 1, "proven": True}]
    assert host.warmed == [PORT]
    assert host.open_systems == 0


def test_the_document_tells_what_happened(tmp_path: Path) -> None:
    class Slow(FakeSystem):
        def set_admin(self, port: PortId, up: bool) -> None:
            self.kernel.clock += 0.25
            super().set_admin(port, up)

    host = FakeHost(two_ports())
    host.systems = Slow
    claim(tmp_path, FakeHost(host.kernel), "eth2")
    done = claim(tmp_path, host, "eth1", "eth2")
    document = json.loads(json.dumps(claim_document(done)))
    schema.strict(document)
    new, old = document["ports"]
    assert (new["netdev"], new["already"], new["was"], new["proven"]) == ("eth1", False, "up", True)
    assert new["down_ms"] == 250.0
    assert new["proof"]["outcome"] == "free"
    assert new["kept"] == {"addresses": 5, "routes": 8, "nexthops": 1, "neighbours": 2}
    assert (old["netdev"], old["already"], old["proven"]) == ("eth2", True, True)
    assert (old["was"], old["down_ms"], old["kept"]) == (None, None, None)
    assert document["already"] is False
    assert document["claimed"] is True
    assert document["release"] == "manactl release eth1 eth2"
    assert document["journal"] == str(done.journal)


def test_an_unproven_claim_says_so_wherever_it_is_shown(tmp_path: Path) -> None:
    host = FakeHost(furnished())
    host.mask = NET_ADMIN
    done = claim(tmp_path, host)
    assert done.proven(PORT) is False
    again = claim(tmp_path, FakeHost(host.kernel))
    (port,) = claim_document(again)["ports"]  # type: ignore[misc]
    assert port["proven"] is False
    assert claim_document(again)["already"] is True


# --- several ports ------------------------------------------------------------------------------


def test_two_ports_are_one_claim_and_come_back_in_reverse(tmp_path: Path) -> None:
    kernel = two_ports()
    before = kernel.picture()
    claim(tmp_path, FakeHost(kernel), "eth1", "eth2")
    assert claims(tmp_path) == [(1, "claimed"), (2, "claimed")]
    assert len(journal.paths(tmp_path)) == 1
    release(tmp_path, FakeHost(kernel))
    assert kernel.links == [
        ("eth1", "down"), ("eth2", "down"), ("eth2", "up"), ("eth1", "up"),
    ]  # fmt: skip
    assert kernel.picture() == before


def test_what_was_waived_is_written_down_in_one_order(tmp_path: Path) -> None:
    """Whatever Python's order of a set is in that process."""
    host = FakeHost(furnished())
    host.around[1] = {"xdp": True}
    request = claiming.ClaimRequest(tmp_path, ("eth1",), allow=["xdp"])
    with (
        host.alive(),
        SignalGate() as signals,
        claiming.prepare(request, host, signals) as prepared,
    ):
        (one,) = prepared.refusals
        many = tuple(dataclasses.replace(one, code=code) for code in [*Code, *Code])
        assert prepared.plan is not None
        header = claiming.header(dataclasses.replace(prepared, refusals=many), prepared.plan)
    assert header["waived"] == sorted(Code)


@pytest.mark.parametrize("refused", [1, 2])
def test_a_guard_that_refuses_one_of_two_ports_refuses_both(tmp_path: Path, refused: int) -> None:
    kernel = two_ports()
    host = FakeHost(kernel)
    host.around[refused] = {"xdp": True}
    with pytest.raises(Refused) as caught:
        claim(tmp_path, host, "eth1", "eth2")
    assert (caught.value.exit_code, caught.value.code) == (3, "xdp")
    assert f"eth{refused}" in caught.value.message.splitlines()[1]
    assert untouched(kernel, tmp_path)
    done = claim(tmp_path, host, "eth1", "eth2", allow=["xdp"])
    assert [one.label for one in done.waived] == [f"eth{refused}"]


def test_ports_of_one_claim_are_no_way_out_for_each_other(tmp_path: Path) -> None:
    kernel = two_ports()
    host = FakeHost(kernel)
    host.other_ways = []
    with pytest.raises(Refused) as caught:
        claim(tmp_path, host, "eth1", "eth2", allow=["last-port"])
    assert [e.fact for e in caught.value.evidence] == ["last-port", "last-port"]
    assert untouched(kernel, tmp_path)
    claim(tmp_path, host, "eth1")


def test_a_port_that_is_claimed_is_no_way_out_any_more(tmp_path: Path) -> None:
    kernel = two_ports()
    host = FakeHost(kernel)
    host.other_ways = []
    claim(tmp_path, host, "eth1")
    with pytest.raises(Refused) as caught:
        claim(tmp_path, host, "eth2")
    assert caught.value.code == "last-port"
    assert kernel.nic("eth2").up


def test_a_port_named_twice_is_claimed_once(tmp_path: Path) -> None:
    kernel = furnished()
    done = claim(tmp_path, FakeHost(kernel), "eth1", str(PORT), "00:0D:3A:AA:00:10")
    assert [port.id for port in done.ports] == [PORT]
    assert kernel.links == [("eth1", "down")]


def test_a_second_port_that_fails_brings_the_first_back(tmp_path: Path) -> None:
    class Thief(FakeSystem):
        def set_admin(self, port: PortId, up: bool) -> None:
            super().set_admin(port, up)
            if port.port == 2 and not up:
                self.here(port).holders = [77]

    kernel = two_ports()
    host = FakeHost(kernel)
    host.systems = Thief
    with pytest.raises(Busy, match="pid 77") as caught:
        claim(tmp_path, host, "eth1", "eth2")
    assert kernel.nic("eth1").up
    assert not kernel.nic("eth2").up
    assert "eth2" in caught.value.message
    kernel.nic("eth2").holders = []
    release(tmp_path, FakeHost(kernel), recover=True)
    assert kernel.nic("eth2").up


# --- what is claimed already, or was --------------------------------------------------------


def test_claiming_twice_changes_nothing(tmp_path: Path) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    done = claim(tmp_path, FakeHost(kernel))
    assert (done.plan, done.ports) == (None, ())
    assert [port.id for port, _ in done.already] == [PORT]
    assert kernel.links == [("eth1", "down")]
    assert len(journal.paths(tmp_path)) == 1


def test_a_claimed_port_beside_a_new_one_is_left_alone(tmp_path: Path) -> None:
    kernel = two_ports()
    claim(tmp_path, FakeHost(kernel), "eth1")
    done = claim(tmp_path, FakeHost(kernel), "eth1", "eth2")
    assert [port.id for port in done.ports] == [ETH2]
    assert [port.id for port, _ in done.already] == [PORT]
    assert kernel.links == [("eth1", "down"), ("eth2", "down")]
    assert len(journal.paths(tmp_path)) == 2


def test_a_journal_of_another_function_that_cannot_be_read_stops_no_claim(tmp_path: Path) -> None:
    """From it only the order among equal routes would be known."""
    kernel = furnished()
    kernel.nics.append(copy.deepcopy(OTHER_FUNCTION))
    other = claim(tmp_path, FakeHost(kernel), "eth5").journal
    assert other is not None
    other.write_bytes(b"not a journal\n" + other.read_bytes())
    done = claim(tmp_path, FakeHost(kernel), "eth1")
    assert [port.id for port in done.ports] == [PORT]
    assert not kernel.nic("eth1").up


def test_a_journal_of_this_function_that_cannot_be_read_stops_the_claim(tmp_path: Path) -> None:
    """Of another port of it, too: what that journal would undo is not known."""
    kernel = two_ports()
    other = claim(tmp_path, FakeHost(kernel), "eth2").journal
    assert other is not None
    other.write_bytes(b"not a journal\n" + other.read_bytes())
    with pytest.raises(journal.JournalError):
        claim(tmp_path, FakeHost(kernel), "eth1")
    assert kernel.nic("eth1").up
    assert journal.paths(tmp_path) == [other]


def test_a_claim_over_an_interrupted_one_is_refused(tmp_path: Path) -> None:
    kernel = furnished()
    with pytest.raises(Killed):
        claim(tmp_path, FakeHost(kernel, Fate(dies_at=8, half=True)))
    links = list(kernel.links)
    with pytest.raises(
        NotRestored, match=says("interrupted"), check=Coded("interrupted-claim")
    ) as caught:
        claim(tmp_path, FakeHost(kernel))
    assert (caught.value.exit_code, caught.value.code) == (5, "interrupted-claim")
    assert read(caught.value.evidence) == [("journal", "interrupted")]
    assert "manactl recover" in (caught.value.hint or "")
    assert kernel.links == links
    assert claims(tmp_path) == [(1, "interrupted")]


def test_a_claim_over_one_that_drifted_is_refused(tmp_path: Path) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    kernel.set_up(kernel.nics[0], True)
    with pytest.raises(Busy, match=says("set it up again"), check=Coded("drift")) as caught:
        claim(tmp_path, FakeHost(kernel))
    assert (caught.value.exit_code, caught.value.code) == (6, "drift")
    assert "manactl release eth1" in (caught.value.hint or "")
    assert claims(tmp_path) == [(1, "claimed")]


@pytest.mark.parametrize("words", [("eth1",), ("eth2",), ("eth1", "eth2")])
def test_a_netdev_that_cannot_be_looked_at_is_not_claimed_without_its_snapshot(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    """Nor is it said of one that is claimed already that somebody has set it up."""
    kernel = two_ports()
    claim(tmp_path, FakeHost(kernel), "eth1")
    before, links = claims(tmp_path), list(kernel.links)
    host = FakeHost(kernel)
    host.unread = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    with pytest.raises(RolledBack) as caught:
        claim(tmp_path, host, "eth2", *words)
    with wording:
        assert "could not be looked at: Too many open files; nothing was touched" in str(
            caught.value
        )
    assert (claims(tmp_path), kernel.links) == (before, links)


def test_one_that_is_claimed_already_cannot_be_looked_at_right_before_the_act(
    tmp_path: Path,
) -> None:
    class Blind(FakeSystem):
        def netdev(self, port: PortId) -> Any:
            unread = Unread(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
            return unread if port == PORT else super().netdev(port)

    kernel = two_ports()
    claim(tmp_path, FakeHost(kernel), "eth1")
    host = FakeHost(kernel)
    host.systems = Blind
    with pytest.raises(RolledBack) as caught:
        claim(tmp_path, host, "eth1", "eth2")
    assert read(caught.value.evidence) == [("sysfs", "EMFILE")]
    assert kernel.nic("eth2").up


def test_a_journal_of_another_boot_is_closed_by_the_next_claim(tmp_path: Path) -> None:
    kernel = furnished()
    old = claim(tmp_path, FakeHost(kernel)).journal
    kernel.set_up(kernel.nics[0], True)
    kernel.links.clear()
    later = FakeHost(kernel, boot="boot-2")
    assert claim(tmp_path, later, dry_run=True).plan is not None
    assert [old] == journal.paths(tmp_path)
    done = claim(tmp_path, later)
    assert old is not None
    closed = journal.read(archived(old))
    assert closed.records[-1]["how"] == "reboot"
    assert [done.journal] == journal.paths(tmp_path)
    assert kernel.links == [("eth1", "down")]


def test_a_signal_while_an_old_journal_is_closed_ends_the_claim_right_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    closes = claiming.close_stale

    def interrupted(path: Path, boot_id: str) -> None:
        signal.raise_signal(signal.SIGTERM)
        closes(path, boot_id)

    class NotLookedAt(FakeSystem):
        def capture(self, *_: Any, **__: Any) -> PortState:
            raise AssertionError("the look goes on")

    monkeypatch.setattr(claiming, "close_stale", interrupted)
    host = FakeHost(kernel, boot="boot-2")
    host.systems = NotLookedAt
    with pytest.raises(Interrupted):
        claim(tmp_path, host)
    assert journal.paths(tmp_path) == [], "it was closed all the same"


def test_the_claim_of_a_nic_that_was_replaced_is_not_that_of_its_successor(tmp_path: Path) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    kernel.nics[0].mac = "00:0d:3a:cc:00:01"
    with pytest.raises(Busy, match="00:0d:3a:aa:00:10") as caught:
        claim(tmp_path, FakeHost(kernel))
    assert (caught.value.exit_code, caught.value.code) == (6, "drift")
    assert kernel.links == [("eth1", "down")]
    with pytest.raises(NotRestored, match=says("no netdev"), check=Coded("no-netdev")):
        release(tmp_path, FakeHost(kernel))
    assert kernel.links == [("eth1", "down")]
    kernel.nics[0].mac = "00:0d:3a:aa:00:10"
    release(tmp_path, FakeHost(kernel))
    assert kernel.nics[0].up


# --- what cannot be claimed -----------------------------------------------------------------


def _no_port(host: FakeHost) -> None:
    host.kernel.nics.clear()


def _set(**values: Any) -> Callable[[FakeHost], None]:
    def change(host: FakeHost) -> None:
        for name, value in values.items():
            setattr(host.kernel.nics[0], name, value)

    return change


def _down_and(**values: Any) -> Callable[[FakeHost], None]:
    def change(host: FakeHost) -> None:
        host.kernel.set_up(host.kernel.nics[0], False)
        host.kernel.links.clear()
        _set(**values)(host)

    return change


def _powerless(mask: int, *, blind: bool = False) -> Callable[[FakeHost], None]:
    def change(host: FakeHost) -> None:
        host.mask, host.blind = mask, blind

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_no_port, (Unsupported, "unsupported", "no MANA")),
        (_set(rdma=None), (Unsupported, "unsupported", "no RDMA device")),
        (_powerless(NET_RAW), (Denied, "denied", "CAP_NET_ADMIN")),
        (_powerless(NET_ADMIN, blind=True), (Denied, "denied", "CAP_NET_RAW")),
        (_powerless(NET_ADMIN | NET_RAW, blind=True), (Busy, "busy", "in transition")),
        (_down_and(holders=[4211]), (Busy, "holder", "pid 4211 dpdk-testpmd")),
        (_set(resetting=True), (Refused, "in-reset", "in-reset")),
        (_set(eqs_lost=True), (Refused, "kernel-bug", "kernel-bug")),
        (_set(present=False), (Refused, "foreign-netns", "foreign-netns")),
    ],
)
@pytest.mark.parametrize("ports", [("7870:00:00.0:1",), ("eth2", "7870:00:00.0:1")])
def test_what_cannot_be_claimed_ends_with_its_code_and_touches_nothing(
    tmp_path: Path,
    change: Callable[[FakeHost], None],
    expected: tuple[type[ManactlError], str, str],
    ports: tuple[str, ...],
) -> None:
    error, code, words = expected
    kernel = two_ports()
    host = FakeHost(kernel)
    change(host)
    before = kernel.picture()
    with pytest.raises(ManactlError, match=says(words)) as caught:
        claim(tmp_path, host, *ports)
    assert type(caught.value) is error
    assert caught.value.code == code
    with wording:
        assert "touched" in f"{caught.value.message} {caught.value.hint}" or error is Unsupported
    assert kernel.picture() == before
    assert journal.paths(tmp_path) == []


def test_a_leaked_vport_refuses_a_claim_of_a_port_that_is_down(tmp_path: Path) -> None:
    kernel = Kernel()
    kernel.nics[0].leaked = True
    with pytest.raises(Refused, match=says("use count"), check=Coded("kernel-bug")) as caught:
        claim(tmp_path, FakeHost(kernel))
    assert caught.value.code == "kernel-bug"
    assert "modprobe -r mana_ib mana" in (caught.value.hint or "")
    assert journal.paths(tmp_path) == []


def test_a_leaked_vport_is_found_out_only_by_a_proof(tmp_path: Path) -> None:
    """That of a port which is down is tried before any other port is set down."""
    kernel = two_ports()
    kernel.nic("eth2").leaked = True
    kernel.set_up(kernel.nic("eth2"), False)
    kernel.links.clear()
    before = kernel.picture()
    with pytest.raises(ManactlError, match=says("use count"), check=Coded("kernel-bug")) as caught:
        claim(tmp_path, FakeHost(kernel), "eth1", "eth2")
    assert (caught.value.exit_code, caught.value.code) == (3, "kernel-bug")
    with wording:
        assert "nothing was touched" in caught.value.message
    assert (kernel.picture(), kernel.links) == (before, [])
    assert journal.paths(tmp_path) == []


def test_an_unknown_port_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="eth9"):
        claim(tmp_path, FakeHost(furnished()), "eth9")


@pytest.mark.parametrize("blind", [False, True])
def test_a_port_that_is_down_needs_no_more_than_net_admin(tmp_path: Path, blind: bool) -> None:
    kernel = Kernel()
    host = FakeHost(kernel)
    host.blind = blind
    host.mask = NET_ADMIN | NET_RAW
    assert claim(tmp_path, host).proven(PORT)


def test_all_that_refuses_is_told_at_once(tmp_path: Path) -> None:
    kernel = two_ports()
    host = FakeHost(kernel)
    host.around = {1: {"xdp": True, "uppers": None}, 2: {"connections": None}}
    with pytest.raises(Refused) as caught:
        claim(tmp_path, host, "eth1", "eth2", allow=["xdp"])
    codes = [e.fact for e in caught.value.evidence]
    assert "xdp" not in codes
    assert {"upper", "tcp-established"} <= set(codes)
    assert caught.value.code == "refused"


# --- dry runs -------------------------------------------------------------------------------


def test_a_dry_run_needs_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    kernel = furnished()
    host = FakeHost(kernel)
    host.mask = 0
    done = claim(tmp_path / "none", host, dry_run=True)
    assert done.plan is not None
    assert [step.kind for step in done.plan.steps] == ["keep-state", "set-admin", "prove-free"]
    assert done.journal is None
    assert kernel.links == []
    assert not (tmp_path / "none").exists()
    assert host.audits[0].quiet


def test_a_refused_dry_run_has_the_plan_in_its_document(tmp_path: Path) -> None:
    host = FakeHost(furnished())
    host.around[1] = {"xdp": True, "packet_sockets": None}
    with pytest.raises(Refused) as caught:
        claim(tmp_path, host, dry_run=True, allow=["xdp"])
    plan: Any = caught.value.more["plan"]
    schema.strict(json.loads(json.dumps(plan)))
    assert [one["code"] for one in plan["refusals"]] == ["packet-sockets"]
    assert [one["code"] for one in plan["waived"]] == ["xdp"]


# --- waiting and looking again --------------------------------------------------------------


@pytest.mark.parametrize("state", ["resetting", "eqs_lost"])
def test_what_may_be_over_in_a_moment_is_waited_for(tmp_path: Path, state: str) -> None:
    kernel = furnished()
    host = FakeHost(kernel)
    setattr(kernel.nics[0], state, True)

    def over() -> None:
        if kernel.clock > 1004.0:
            setattr(kernel.nics[0], state, False)

    host.at_pause = over
    with pytest.raises(Refused):
        claim(tmp_path, host)
    assert 1000.3 <= kernel.clock < 1001.0
    with pytest.raises(Refused):
        claim(tmp_path, host, wait=2.0)
    assert 1002.3 <= kernel.clock < 1003.0
    claim(tmp_path, host, wait=5.0)
    assert kernel.clock < 1005.0


def test_the_other_ports_are_not_waited_for(tmp_path: Path) -> None:
    kernel = two_ports()
    kernel.nic("eth2").eqs_lost = True
    host = FakeHost(kernel)
    claim(tmp_path, host, "eth1", wait=60.0)
    assert kernel.clock < 1001.0


def test_a_function_at_which_another_manactl_works_is_busy_at_once(tmp_path: Path) -> None:
    host = FakeHost(furnished())
    with lock.functions(tmp_path, [PORT.pci]), pytest.raises(Busy) as caught:
        claim(tmp_path, host)
    assert (caught.value.exit_code, caught.value.code) == (6, "locked")
    assert host.looks == 1
    assert host.kernel.links == []


def test_with_wait_another_manactl_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = furnished()
    with contextlib.ExitStack() as held:
        held.enter_context(lock.functions(tmp_path, [PORT.pci]))
        monkeypatch.setattr(time, "sleep", lambda _: held.close())
        claim(tmp_path, FakeHost(kernel), wait=30.0)
    assert kernel.links == [("eth1", "down")]


class Overtaken(FakeHost):
    """Something happens between the first look and the lock."""

    meanwhile: Callable[[], object]

    def look(self, claims: Sequence[ClaimSummary] = ()) -> Report:
        report = super().look(claims)
        if self.looks == 1:
            self.meanwhile()
        return report


def test_what_was_claimed_before_we_had_the_lock_is_claimed_already(tmp_path: Path) -> None:
    kernel = furnished()
    host = Overtaken(kernel)
    host.meanwhile = lambda: claim(tmp_path, FakeHost(kernel))
    assert [port.id for port, _ in claim(tmp_path, host).already] == [PORT]
    assert kernel.links == [("eth1", "down")]


def test_a_holder_that_came_before_we_had_the_lock_is_seen(tmp_path: Path) -> None:
    kernel = furnished()
    host = Overtaken(kernel)

    def taken() -> None:
        kernel.set_up(kernel.nics[0], False)
        kernel.nics[0].holders = [4211]

    host.meanwhile = taken
    with pytest.raises(Busy, match="pid 4211"):
        claim(tmp_path, host)
    assert journal.paths(tmp_path) == []


def test_a_port_that_went_before_we_had_the_lock_is_missed(tmp_path: Path) -> None:
    kernel = furnished()
    host = Overtaken(kernel)
    host.meanwhile = kernel.nics.clear
    with pytest.raises(Busy, match=says("not there any more")):
        claim(tmp_path, host)


def test_what_is_on_the_port_is_read_under_the_lock(tmp_path: Path) -> None:
    """An address that comes between the looks comes back, too."""
    kernel = furnished()
    host = Overtaken(kernel)
    host.meanwhile = lambda: kernel.add("address", address("2001:db8:77::2", 64).body)
    claim(tmp_path, host)
    release(tmp_path, FakeHost(kernel))
    late = socket.inet_pton(socket.AF_INET6, "2001:db8:77::2")
    assert any(m.attrs.get(1) == late for m in kernel.messages if m.kind == "address")


# --- signals before anything ----------------------------------------------------------------


def test_a_signal_while_looking_is_130(tmp_path: Path) -> None:
    kernel = furnished()
    host = FakeHost(kernel)
    host.at_look[1] = lambda: os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Interrupted, match="SIGINT") as caught:
        claim(tmp_path, host)
    assert caught.value.exit_code == 130
    assert untouched(kernel, tmp_path)


# --- the system log -------------------------------------------------------------------------


def test_the_system_log_gets_who_what_and_how(tmp_path: Path) -> None:
    host = FakeHost(two_ports())
    host.around[2] = {"xdp": True}
    claim(tmp_path, host, "eth1", "eth2", allow=["xdp", "storage"])
    fields = host.audits[0].fields
    assert not host.audits[0].quiet
    assert fields["verb"] == "claim"
    assert fields["asked"] == ["eth1", "eth2"]
    assert fields["ports"] == ["7870:00:00.0:1", "7870:00:00.0:2"]
    assert fields["allowed"] == ["storage", "xdp"]
    assert fields["waived"] == ["xdp"]
    assert fields["proven"] == {"7870:00:00.0:1": True, "7870:00:00.0:2": True}
    assert fields["exit"] == 0


def test_the_system_log_gets_refusals_too(tmp_path: Path) -> None:
    host = FakeHost(furnished())
    host.around[1] = {"xdp": True}
    with pytest.raises(Refused):
        claim(tmp_path, host)
    assert host.audits[0].fields["exit"] == 3
    assert not host.audits[0].quiet


# --- what cannot be read or closed ----------------------------------------------------------


def test_a_dump_that_fails_is_told_and_nothing_was_touched(tmp_path: Path) -> None:
    kernel = furnished()
    with pytest.raises(RolledBack, match=says("could not be read: Input/output error")) as caught:
        claim(tmp_path, FakeHost(kernel, Fate(fails_at=1)))
    with wording:
        assert "nothing was touched" in caught.value.message
        assert [e.fact for e in caught.value.evidence] == ["dump"]
    assert read(caught.value.evidence) == [("rtnetlink", "EIO")]
    assert untouched(kernel, tmp_path)


def test_a_port_in_a_reset_is_not_dumped_and_the_next_one_is(tmp_path: Path) -> None:
    kernel = two_ports()
    kernel.nic("eth1").resetting = True
    fate = Fate()
    with pytest.raises(Refused) as caught:
        claim(tmp_path, FakeHost(kernel, fate), "eth1", "eth2")
    assert [e.fact for e in caught.value.evidence] == ["in-reset"]
    assert fate.operations == 1  # one dump, of eth2


def test_journals_that_may_not_be_read_deny_a_claim_and_no_dry_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> object:
        raise PermissionError(13, "Permission denied")

    kernel = furnished()
    monkeypatch.setattr(journal, "list_claims", denied)
    with pytest.raises(Denied, match=says("not readable; nothing was touched")):
        claim(tmp_path, FakeHost(kernel))
    assert kernel.links == []
    done = claim(tmp_path, FakeHost(kernel), dry_run=True)
    assert [port.id for port in done.ports] == [PORT]
    assert done.already == ()


def test_an_old_journal_that_cannot_be_closed_stops_a_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    kernel.set_up(kernel.nics[0], True)
    kernel.links.clear()

    def refused(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    host = FakeHost(kernel, boot="boot-2")
    host.at_look[2] = lambda: monkeypatch.setattr(os, "rename", refused)
    with pytest.raises(
        NotRestored, match=says("could not be closed: Read-only"), check=Coded("journal")
    ) as caught:
        claim(tmp_path, host)
    assert (caught.value.code, caught.value.exit_code) == ("journal", 5)
    assert kernel.links == []


def test_what_was_neither_allowed_nor_waived_is_no_field_of_the_system_log(tmp_path: Path) -> None:
    host = FakeHost(furnished())
    claim(tmp_path, host)
    fields = host.audits[0].fields
    assert (fields["allowed"], fields["waived"]) == (None, None)


def test_a_reboot_frees_the_words_of_an_open_claim(tmp_path: Path) -> None:
    """A port that is covered, one from before the boot and a new one, all in one claim."""
    kernel = two_ports()
    claim(tmp_path, FakeHost(kernel), "eth2")
    kernel.set_up(kernel.nic("eth2"), True)
    later = FakeHost(kernel, boot="boot-2")
    claim(tmp_path, later, "eth1")
    done = claim(tmp_path, later, "eth1", "eth2")
    assert [port.id for port in done.ports] == [ETH2]
    assert [port.id for port, _ in done.already] == [PORT]


# --- routes of one row on two ports -------------------------------------------------------------

OURS, THEIRS = (route("192.0.2.0", 24, index, metric=5) for index in (3, 4))


class InOneRow(FakeSystem):
    """Each port that is up has a route in the row, eth2's first."""

    def capture(
        self,
        port: PortId,
        nexthops: Collection[int] = (),
        rows: Rows = None,
        *,
        alone: bool = False,
    ) -> PortState:
        state = super().capture(port, nexthops, rows, alone=alone)
        routes = {4: THEIRS, 3: OURS}
        up = [routes[nic.ifindex] for nic in reversed(self.kernel.nics) if nic.up]
        facts = (*state.facts, routes[state.ifindex])
        return dataclasses.replace(state, facts=facts, rows=tuple(up) if len(up) > 1 else ())


def test_a_claim_knows_what_another_has_taken_out_of_a_row(tmp_path: Path) -> None:
    host = FakeHost(two_ports())
    host.systems = InOneRow
    claim(tmp_path, host, "eth2")
    claim(tmp_path, host, "eth1")
    kept = {}
    for path in journal.paths(tmp_path):
        (state,) = journal.read(path).header["snapshot"]
        kept[state["ifname"]] = PortState.from_json(state).rows
    assert kept == {"eth1": (THEIRS, OURS), "eth2": (THEIRS, OURS)}


@pytest.mark.parametrize("change", ["boot", "netns"])
def test_other_claims_that_do_not_count_for_a_row(
    tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = two_ports()
    host = FakeHost(kernel)
    host.systems = InOneRow
    claim(tmp_path, host, "eth2")
    other = FakeHost(kernel)
    other.systems = InOneRow
    if change == "boot":
        monkeypatch.setattr(other, "boot_id", lambda: "boot-2")
    elif change == "netns":
        monkeypatch.setattr(other, "netns", lambda: NetnsId(1, 2))
    done = claim(tmp_path, other, "eth1")
    assert done.states[PORT].rows == ()
