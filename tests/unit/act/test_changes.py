"""Other programs change a port between the look at it and the first act: nothing of it is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from manactl.errors import Busy, Interrupted, ManactlError, Refused
from manactl.journal import file as journal
from manactl.model.port import PortId, PortStatus
from manactl.netstate.snapshot import Fact, PortState, Rows
from manactl.netstate.surroundings import Surroundings
from tests.unit.fakes import address, neighbour, nexthop, route
from tests.unit.host import (
    FakeHost,
    FakeSystem,
    Fate,
    Followed,
    Killed,
    claim,
    furnished,
    release,
    two_ports,
)
from tests.unit.kernel import FOREVER, Kernel, Message
from tests.unit.wording import Coded, read, says, wording

ADDED = [
    address("10.77.0.2", 24),
    address("2001:db8:77::2", 64),
    route("10.77.0.0", 16, via="10.0.0.77"),
    neighbour("10.0.0.77"),
    nexthop(77),
]


class Watched(FakeSystem):
    """Other programs act after the capture of a number, or while the guards look."""

    after_capture: Callable[[int], object] = staticmethod(lambda _: None)
    while_guarding: Callable[[int], object] = staticmethod(lambda _: None)
    captures = 0
    guarded = 0

    def capture(
        self,
        port: PortId,
        nexthops: Collection[int] = (),
        rows: Rows = None,
        *,
        alone: bool = False,
    ) -> PortState:
        state = super().capture(port, nexthops, rows, alone=alone)
        self.captures += 1
        self.after_capture(self.captures)
        return state

    def surroundings(
        self, port: PortStatus, state: PortState | None, claimed: Collection[int]
    ) -> Surroundings:
        found = super().surroundings(port, state, claimed)
        self.guarded += 1
        self.while_guarding(self.guarded)
        return found


def watched(
    kernel: Kernel,
    after_capture: Callable[[int], object] = lambda _: None,
    while_guarding: Callable[[int], object] = lambda _: None,
) -> tuple[FakeHost, list[Watched]]:
    host, made = FakeHost(kernel), list[Watched]()

    def system(of: FakeHost) -> Watched:
        one = Watched(of)
        one.after_capture, one.while_guarding = after_capture, while_guarding  # type: ignore[method-assign]
        made.append(one)
        return one

    host.systems = system
    return host, made


def add(kernel: Kernel, fact: Fact) -> None:
    kernel.add(str(fact.kind), fact.body)


def remove(kernel: Kernel, fact: Fact) -> None:
    kernel._delete(Message.parse(str(fact.kind), fact.body))


def once(number: int, act: Callable[[], object]) -> Callable[[int], object]:
    return lambda now: act() if now == number else None


def nothing_happened(kernel: Kernel, state_dir: Path) -> bool:
    return kernel.links == [] and journal.paths(state_dir) == []


def passes(kernel: Kernel, seconds: int) -> None:
    """Time, and with it the lifetimes of addresses."""
    kernel.clock += seconds
    for number, one in enumerate(kernel.messages):
        times = one.attrs.get(6, b"") if one.kind == "address" else b""
        left = int.from_bytes(times[4:8], "little")
        if times and left != FOREVER:
            times = (left - seconds).to_bytes(4, "little") * 2 + times[8:]
            kernel.messages[number] = one._replace(attrs={**one.attrs, 6: times})


@pytest.mark.parametrize("fact", ADDED, ids=lambda fact: str(fact.kind))
@pytest.mark.parametrize("capture", [1, 2], ids=["judged", "written"])
def test_what_a_daemon_adds_meanwhile_comes_back(tmp_path: Path, fact: Fact, capture: int) -> None:
    """After the guards' capture, and after the last one before the journal is written."""
    kernel = furnished()
    host, _ = watched(kernel, once(capture, lambda: add(kernel, fact)))
    claim(tmp_path, host)
    assert kernel.links == [("eth1", "down")]
    wanted = furnished()
    add(wanted, fact)
    release(tmp_path, FakeHost(kernel))
    assert kernel.picture() == wanted.picture()


@pytest.mark.parametrize("capture", [1, 2])
def test_what_a_daemon_removes_meanwhile_stays_away(tmp_path: Path, capture: int) -> None:
    gone = route("10.128.0.0", 9, via="10.0.0.1", proto=16)
    kernel = furnished()
    host, _ = watched(kernel, once(capture, lambda: remove(kernel, gone)))
    claim(tmp_path, host)
    wanted = furnished()
    remove(wanted, gone)
    release(tmp_path, FakeHost(kernel))
    assert kernel.picture() == wanted.picture()


def test_what_a_daemon_adds_while_the_guards_look_is_judged(tmp_path: Path) -> None:
    kernel = furnished()
    followed = Followed()
    host, made = watched(kernel, while_guarding=once(1, lambda: add(kernel, ADDED[2])))
    done = claim(tmp_path, host, progress=followed)
    assert [one.guarded for one in made] == [2]
    assert done.journal is not None
    (first, last) = [plan for _, plan in followed.plans]
    assert not any("10.77.0.0/16" in line for line in first.drops)
    assert any("10.77.0.0/16" in line for line in last.drops)
    assert journal.read(done.journal).header["plan"] == last.to_json(drops=False)
    assert len(followed.notes) == 1
    assert "added: 10.77.0.0/16" in followed.notes[0]


def test_a_guard_that_fires_by_then_refuses(tmp_path: Path) -> None:
    kernel = furnished()

    def meanwhile() -> None:
        add(kernel, ADDED[2])
        host.around[1] = {"xdp": True}

    host, _ = watched(kernel, while_guarding=once(1, meanwhile))
    with pytest.raises(Refused) as caught:
        claim(tmp_path, host)
    assert (caught.value.exit_code, caught.value.code) == (3, "xdp")
    assert nothing_happened(kernel, tmp_path)


def test_what_cannot_be_claimed_by_then_is_refused(tmp_path: Path) -> None:
    kernel = furnished()

    def meanwhile() -> None:
        kernel.set_up(kernel.nics[0], False)
        kernel.nics[0].holders = [4211]
        kernel.links.clear()

    host, _ = watched(kernel, once(1, meanwhile))
    with pytest.raises(Busy, match="pid 4211") as caught:
        claim(tmp_path, host)
    assert caught.value.code == "holder"
    assert nothing_happened(kernel, tmp_path)


@pytest.mark.parametrize("capture", [1, 2])
def test_nothing_is_judged_again_while_nothing_changes(tmp_path: Path, capture: int) -> None:
    """The clock goes on, and lifetimes with it: no change."""
    kernel = furnished()
    host, made = watched(kernel, once(capture, lambda: passes(kernel, 100)))
    followed = Followed()
    claim(tmp_path, host, progress=followed)
    assert [(one.captures, one.guarded) for one in made] == [(3, 1)]
    assert (len(followed.plans), followed.notes) == (1, [])


@pytest.mark.parametrize(("every", "routes", "told"), [(1, 1, 1), (2, 1, 1), (1, 12, 10)])
def test_a_port_that_keeps_changing_is_left_alone(
    tmp_path: Path, every: int, routes: int, told: int
) -> None:
    kernel = furnished()

    def change(capture: int) -> None:
        for number in range(routes if capture % every == 0 else 0):
            add(kernel, route(f"10.{77 + capture}.{number}.0", 24, via="10.0.0.77"))

    host, made = watched(kernel, change)
    with pytest.raises(Busy, match=says("keeps changing")) as caught:
        claim(tmp_path, host)
    assert caught.value.exit_code == 6
    with wording:
        assert "nothing was touched" in caught.value.message
        assert {e.fact for e in caught.value.evidence} == {"changed meanwhile"}
    assert [source for source, _ in read(caught.value.evidence)] == ["rtnetlink"] * told
    assert "added: 10." in str(caught.value.evidence[0].value)
    assert nothing_happened(kernel, tmp_path)
    assert made[0].guarded <= 5


def test_a_port_that_is_renamed_meanwhile_is_claimed_by_its_new_name(tmp_path: Path) -> None:
    kernel = furnished()
    nic = kernel.nics[0]
    host, _ = watched(kernel, once(1, lambda: kernel.rename(nic, "lan7", 17)))
    followed = Followed()
    done = claim(tmp_path, host, progress=followed)
    assert [port.label for port in done.ports] == ["lan7"]
    assert [title for title, _ in followed.plans] == ["claim eth1", "claim lan7"]
    assert done.journal is not None
    assert journal.read(done.journal).header["ports"][0]["netdev"] == "lan7"
    assert journal.read(done.journal).header["snapshot"][0]["ifindex"] == 17


def test_a_port_that_is_set_down_meanwhile_stays_down_at_release(tmp_path: Path) -> None:
    kernel = furnished()
    host, _ = watched(kernel, once(1, lambda: kernel.set_up(kernel.nics[0], False)))
    claim(tmp_path, host)
    (port,) = release(tmp_path, FakeHost(kernel)).ports
    assert (str(port.outcome), kernel.nics[0].up) == ("left-down", False)


@pytest.mark.parametrize("capture", [1, 2])
def test_a_port_that_goes_meanwhile_is_not_claimed(tmp_path: Path, capture: int) -> None:
    kernel = furnished()
    host, _ = watched(kernel, once(capture, lambda: kernel.unplug(kernel.nics[0])))
    with pytest.raises(ManactlError) as caught:
        claim(tmp_path, host)
    assert caught.value.exit_code in (3, 4)
    with wording:
        assert "nothing was touched" in caught.value.message
    assert nothing_happened(kernel, tmp_path)


def test_another_nic_in_its_place_is_not_claimed_in_its_stead(tmp_path: Path) -> None:
    kernel = furnished()
    host, _ = watched(kernel, once(1, lambda: setattr(kernel.nics[0], "mac", "00:0d:3a:cc:00:01")))
    with pytest.raises(Busy, match=says("another NIC"), check=Coded("drift")) as caught:
        claim(tmp_path, host)
    assert caught.value.code == "drift"
    assert nothing_happened(kernel, tmp_path)


@pytest.mark.parametrize("capture", [1, 2])
def test_a_lease_that_is_renewed_meanwhile_lasts_as_long_as_it_says(
    tmp_path: Path, capture: int
) -> None:
    """The snapshot of the guards has 900 s left, the later one a day."""
    kernel = furnished(address("10.0.0.2", 24, valid=900))

    def renew() -> None:
        (there,) = [one for one in kernel.messages if one.kind == "address" and one.family == 2]
        times = (86400).to_bytes(4, "little") * 2 + there.attrs[6][8:]
        at = kernel.messages.index(there)
        kernel.messages[at] = there._replace(attrs={**there.attrs, 6: times})

    host, _ = watched(kernel, once(capture, renew))
    done = claim(tmp_path, host)
    assert done.journal is not None
    (state,) = journal.read(done.journal).header["snapshot"]
    kept = [Message.parse(str(f.kind), f.body) for f in PortState.from_json(state).facts]
    (times,) = [one.attrs[6] for one in kept if one.kind == "address" and one.family == 2]
    assert int.from_bytes(times[:4], "little") == 86400


def test_a_claimed_port_that_is_set_up_while_another_is_judged_is_no_success(
    tmp_path: Path,
) -> None:
    kernel = two_ports()
    claim(tmp_path, FakeHost(kernel), "eth1")
    kernel.links.clear()
    host, _ = watched(kernel, once(1, lambda: kernel.set_up(kernel.nic("eth1"), True)))
    with pytest.raises(Busy, match=says("set it up again"), check=Coded("drift")) as caught:
        claim(tmp_path, host, "eth1", "eth2")
    assert caught.value.code == "drift"
    assert kernel.links == [("eth1", "up")]
    assert len(journal.paths(tmp_path)) == 1


def test_what_two_ports_share_is_no_change_by_others(tmp_path: Path) -> None:
    """The group has a nexthop on each: it loses that of eth1 when eth1 goes down."""
    kernel = two_ports()
    for fact in (nexthop(21), nexthop(22, 4), nexthop(23, group=(21, 22))):
        add(kernel, fact)
    before = kernel.picture()
    claim(tmp_path, FakeHost(kernel), "eth1", "eth2")
    release(tmp_path, FakeHost(kernel))
    assert kernel.picture() == before


# --- a claim that ends between the snapshot and the act --------------------------------------


def test_what_was_removed_after_a_claim_that_died_early_is_not_put_back(tmp_path: Path) -> None:
    """The snapshot is in the journal, and the port was never set down: nothing is to undo."""
    gone = route("10.128.0.0", 9, via="10.0.0.1", proto=16)
    kernel = furnished()
    number = dies_after_the_snapshot(tmp_path)
    with pytest.raises(Killed):
        claim(tmp_path, FakeHost(kernel, Fate(dies_at=number, half=True)))
    remove(kernel, gone)
    before = kernel.picture()
    (port,) = release(tmp_path, FakeHost(kernel), recover=True).ports
    assert (str(port.outcome), port.recovered) == ("untouched", True)
    assert (kernel.picture(), kernel.links) == (before, [])
    assert journal.paths(tmp_path) == []


def dies_after_the_snapshot(tmp_path: Path) -> int:
    """The number of the last operation before the record that announces the port's going down."""
    for number in range(1, 30):
        state_dir = tmp_path / f"try{number}"
        with pytest.raises(Killed):
            claim(state_dir, FakeHost(furnished(), Fate(dies_at=number, half=True)))
        for path in journal.paths(state_dir) if state_dir.exists() else []:
            if [r["event"] for r in journal.read(path).records] == ["doing", "done"]:
                return number
    raise AssertionError("no operation is the last before the act")


@pytest.mark.parametrize("capture", [2, 3])
def test_a_signal_before_the_act_leaves_what_others_have_done(tmp_path: Path, capture: int) -> None:
    gone = route("10.128.0.0", 9, via="10.0.0.1", proto=16)
    kernel = furnished()

    def meanwhile() -> None:
        remove(kernel, gone)
        os.kill(os.getpid(), signal.SIGTERM)

    host, _ = watched(kernel, once(capture, meanwhile))
    with pytest.raises(Interrupted) as caught:
        claim(tmp_path, host)
    assert caught.value.exit_code == 130
    wanted = furnished()
    remove(wanted, gone)
    assert kernel.picture() == wanted.picture()
    assert nothing_happened(kernel, tmp_path)


def test_a_port_that_cannot_be_read_again_is_left_alone(tmp_path: Path) -> None:
    kernel = furnished()
    capture = FakeSystem.capture
    for number in (2, 3):

        class Failing(FakeSystem):
            captures = 0
            fails = number

            def capture(
                self,
                port: PortId,
                nexthops: Collection[int] = (),
                rows: Rows = None,
                *,
                alone: bool = False,
            ) -> PortState:
                self.captures += 1
                if self.captures == self.fails:
                    raise OSError(5, "Input/output error")
                return capture(self, port, nexthops, rows, alone=alone)

        host = FakeHost(kernel)
        host.systems = Failing
        with pytest.raises(ManactlError, match="Input/output error") as caught:
            claim(tmp_path, host)
        assert caught.value.exit_code == 4
        with wording:
            assert "nothing was touched" in caught.value.message
        assert nothing_happened(kernel, tmp_path)
