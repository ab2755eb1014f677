"""Plans applied to a kernel in memory that fails or a process that dies at any point."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manactl.act import plan, transition
from manactl.act.plan import KeepState, Plan, ProveFree, SetAdmin, Step, steps_from_json
from manactl.errors import Busy, Interrupted, ManactlError, NotRestored, Refused, RolledBack
from manactl.journal import file as journal
from manactl.journal.file import Journal
from manactl.model.port import PortId
from manactl.netstate.snapshot import Fact, port_to_json
from tests.unit import fakes
from tests.unit.fakes import PORT, FakeSystem, Kernel, Killed, address, neighbour, nexthop, route


def furnished(facts: Sequence[Fact] = ()) -> Kernel:
    """A port as it looks with those facts on it: with the kernel's own beside them."""
    kernel = Kernel([], up=False)
    kernel.set_admin(True)
    for fact in facts:
        kernel.facts.append(fact)
        kernel._connect(fact)
    kernel.links.clear()
    return kernel


RICH = (
    address("10.0.0.2", 24),
    address("10.0.9.9", 32, flags=0x200),
    address("2001:db8::2", 64),
    address("2001:db8:1::2", 64, valid=900),
    route("0.0.0.0", 0, via="10.0.0.1", proto=16),
    route("10.9.0.0", 16, via="10.0.0.9", table=100),
    route("2001:db8:9::", 48, via="2001:db8::1", metric=1024, expires=900),
    nexthop(10),
    route("192.0.2.0", 24, nhid=10),
    neighbour("10.0.0.50"),
    neighbour("10.0.0.60", proxy=True),
)

ADDRESSES = st.builds(
    lambda n, length, flags: address(f"10.{n}.0.2", length, flags=flags),
    st.integers(1, 200), st.integers(8, 32), st.sampled_from([0, 0x200]),
) | st.builds(
    lambda n, flags, valid: address(f"2001:db8:{n:x}::2", 64, flags=flags, valid=valid),
    st.integers(1, 200), st.sampled_from([0, 0x02, 0x200, 0x202]),
    st.sampled_from([0xFFFFFFFF, 5000]),
)  # fmt: skip
ROUTES = st.builds(
    lambda n, table, proto, metric: route(
        f"172.16.{n}.0", 24, via="10.0.0.1", table=table, proto=proto, metric=metric
    ),
    st.integers(0, 200), st.sampled_from([254, 100, 4000]), st.sampled_from([3, 4, 16, 199]),
    st.sampled_from([0, 10]),
)  # fmt: skip
OTHERS = st.builds(nexthop, st.integers(1, 50)) | st.builds(
    lambda n, proxy: neighbour(f"10.0.1.{n}", proxy=proxy), st.integers(1, 200), st.booleans()
)


def _distinct(facts: list[Fact]) -> list[Fact]:
    place = (fakes.rt.Place(3, "eth1"),)
    return list({fakes.diff.key(fact, place): fact for fact in facts}.values())


NETWORKS = st.lists(ADDRESSES | ROUTES | OTHERS, max_size=12).map(_distinct)


def planned(system: FakeSystem) -> Plan:
    now = system.netdev(PORT)
    assert now is not None
    steps: list[Step] = []
    if now.up:
        steps = [
            KeepState(FakeSystem(system.kernel).capture(PORT)),
            SetAdmin(PORT, now.name, False, True, True),
        ]
    return Plan("claim", (PORT,), (*steps, ProveFree(PORT, "manae_0", 1)))


class DyingJournal(Journal):
    """A journal whose process may die before a record reached the disk, or just after."""

    system: FakeSystem

    def append(self, event: str, **more: object) -> None:
        dying = self.system.tick()
        super().append(event, **more)
        if dying:
            raise Killed

    def archive(self) -> None:
        dying = self.system.tick()
        super().archive()
        if dying:
            raise Killed


def header(made: Plan) -> dict[str, Any]:
    return {
        "boot_id": journal.read_boot_id(),
        "time": journal.stamp(),
        "mode": "claim",
        "by": {"uid": 0},
        "ports": [{**port_to_json(port), "netdev": "eth1"} for port in made.ports],
        "plan": made.to_json(),
        "snapshot": [state.to_json() for state in made.states],
    }


def create(state_dir: Path, made: Plan, system: FakeSystem) -> Journal:
    log = DyingJournal.create(state_dir, header(made), made.ports)
    assert isinstance(log, DyingJournal)
    log.system = system
    return log


def claim(
    state_dir: Path, system: FakeSystem, wait: float = 1.0
) -> dict[PortId, dict[str, object]]:
    made = planned(system)
    with transition.Interruptible() as signals:
        log, said = transition.apply(
            made.steps,
            system,
            lambda: create(state_dir, made, system),
            signals=signals,
            wait=wait,
            who="eth1",
        )
    assert isinstance(log, Journal)
    log.close()
    return said


def release(state_dir: Path, system: FakeSystem) -> transition.PutBack | None:
    """What `manactl release` does with the only journal; None when there is none to work on."""
    paths = journal.paths(state_dir)
    if not paths:
        return None
    log = DyingJournal.open(paths[0])
    assert isinstance(log, DyingJournal)
    log.system = system
    with contextlib.closing(log), transition.Interruptible() as signals:
        signals.ignore()
        content = log.content
        begun = {r["step"] for r in content.records if r["event"] == "doing"}
        steps = steps_from_json(content.header["plan"], content.header["snapshot"])
        mine = [step for n, step in enumerate(steps) if n in begun]
        changed = [PORT] if any(isinstance(s, SetAdmin) for s in mine) else []
        transition.await_free(system, changed, 1.0, known=lambda port: False)
        return transition.release(mine, system, log, [PORT], last=True)


def same(kernel: Kernel, before: tuple[bool, list[tuple[object, ...]]]) -> bool:
    return (kernel.up, kernel.identities()) == before


def picture(kernel: Kernel) -> tuple[bool, list[tuple[object, ...]]]:
    return kernel.up, kernel.identities()


def total_operations(facts: Sequence[Fact], *, releasing: bool) -> int:
    with tempfile.TemporaryDirectory() as directory:
        kernel = furnished(facts)
        system = FakeSystem(kernel)
        claim(Path(directory), system)
        if releasing:
            system = FakeSystem(kernel)
            release(Path(directory), system)
        return system.operations


def test_a_claim_takes_the_port_down_and_a_release_brings_all_back(tmp_path: Path) -> None:
    kernel = furnished(RICH)
    before = picture(kernel)
    said = claim(tmp_path, FakeSystem(kernel))
    assert said[PORT]["prove-free"]["proven"] is True  # type: ignore[index]
    assert not kernel.up
    (one,) = journal.list_claims(tmp_path)
    assert (one.phase, one.port, one.claim.proven) == ("claimed", PORT, True)
    back = release(tmp_path, FakeSystem(kernel))
    assert back is not None
    assert back.clean
    assert same(kernel, before)
    assert journal.list_claims(tmp_path) == []
    assert len(list((tmp_path / "history").iterdir())) == 1


@settings(max_examples=60, deadline=None)
@given(NETWORKS, st.data())
def test_a_claim_that_dies_anywhere_is_put_back(facts: list[Fact], data: st.DataObject) -> None:
    dies_at = data.draw(st.integers(1, total_operations(facts, releasing=False)))
    half = data.draw(st.booleans())
    with tempfile.TemporaryDirectory() as directory:
        kernel = furnished(facts)
        before = picture(kernel)
        with contextlib.suppress(Killed):
            claim(Path(directory), FakeSystem(kernel, dies_at=dies_at, half=half))
        release(Path(directory), FakeSystem(kernel))
        assert same(kernel, before)
        assert journal.list_claims(directory) == []


@settings(max_examples=60, deadline=None)
@given(NETWORKS, st.data())
def test_a_release_that_dies_anywhere_is_finished_by_the_next(
    facts: list[Fact], data: st.DataObject
) -> None:
    dies_at = data.draw(st.integers(1, total_operations(facts, releasing=True)))
    half = data.draw(st.booleans())
    with tempfile.TemporaryDirectory() as directory:
        kernel = furnished(facts)
        before = picture(kernel)
        claim(Path(directory), FakeSystem(kernel))
        with contextlib.suppress(Killed):
            release(Path(directory), FakeSystem(kernel, dies_at=dies_at, half=half))
        release(Path(directory), FakeSystem(kernel))
        assert same(kernel, before)
        assert journal.list_claims(directory) == []


@settings(max_examples=60, deadline=None)
@given(NETWORKS, st.data())
def test_a_claim_that_fails_anywhere_is_unwound_or_says_what_is_left(
    facts: list[Fact], data: st.DataObject
) -> None:
    fails_at = data.draw(st.integers(1, total_operations(facts, releasing=False)))
    with tempfile.TemporaryDirectory() as directory:
        kernel = furnished(facts)
        before = picture(kernel)
        with contextlib.suppress(RolledBack, NotRestored, Refused):
            claim(Path(directory), FakeSystem(kernel, fails_at=fails_at))
            raise AssertionError("it should have failed")
        release(Path(directory), FakeSystem(kernel))
        assert same(kernel, before)


def test_a_failed_proof_unwinds_with_code_4(tmp_path: Path) -> None:
    kernel = furnished(RICH)
    before = picture(kernel)
    with pytest.raises(RolledBack, match="back as it was"):
        claim(tmp_path, FakeSystem(kernel, proofs=("cannot",)))
    assert same(kernel, before)
    assert kernel.links == ["down", "up"]
    assert journal.list_claims(tmp_path) == []


def test_a_vport_that_is_taken_for_a_moment_is_looked_at_again(tmp_path: Path) -> None:
    system = FakeSystem(furnished(RICH), proofs=("taken", "taken", "free"))
    said: Any = claim(tmp_path, system, wait=2.0)
    assert said[PORT]["prove-free"]["tries"] == 3


def test_a_vport_that_stays_taken_is_not_waited_for_beyond_wait(tmp_path: Path) -> None:
    kernel = furnished(RICH)
    before = picture(kernel)
    start = kernel.clock
    with pytest.raises(RolledBack):
        claim(tmp_path, FakeSystem(kernel, proofs=("taken",) * 99), wait=2.0)
    assert same(kernel, before)
    assert 2.0 <= kernel.clock - start < 4.0


def test_without_cap_net_raw_a_claim_stands_unproven(tmp_path: Path) -> None:
    said: Any = claim(tmp_path, FakeSystem(furnished(RICH), proofs=("denied",)))
    assert said[PORT]["prove-free"]["proven"] is False
    (one,) = journal.list_claims(tmp_path)
    assert one.phase == "claimed"
    assert one.claim.proven is False


class Thief(FakeSystem):
    """A raw QP takes the vport as soon as the netdev is down."""

    def set_admin(self, port: PortId, up: bool) -> None:
        super().set_admin(port, up)
        if not up:
            self.kernel.held = True


def test_a_raw_qp_that_slips_in_is_named_and_the_journal_stays_open(tmp_path: Path) -> None:
    kernel = furnished(RICH)
    before = picture(kernel)
    with pytest.raises(Busy, match="pid 4211 dpdk-testpmd") as caught:
        claim(tmp_path, Thief(kernel), wait=0.5)
    assert "recover" in (caught.value.hint or "")
    (one,) = journal.list_claims(tmp_path)
    assert one.phase == "interrupted"
    with pytest.raises(Busy, match="pid 4211"):
        release(tmp_path, FakeSystem(kernel))
    assert not kernel.up
    kernel.held = False
    release(tmp_path, FakeSystem(kernel))
    assert same(kernel, before)


class Stranger(FakeSystem):
    """Something sets the netdev up again at once, every time."""

    def set_admin(self, port: PortId, up: bool) -> None:
        super().set_admin(port, up)
        self.kernel.set_admin(True)


def test_a_stranger_that_sets_it_up_again_ends_the_claim_with_code_4(tmp_path: Path) -> None:
    kernel = furnished(())
    before = picture(kernel)
    with pytest.raises(RolledBack, match="something else sets it back"):
        claim(tmp_path, Stranger(kernel))
    assert same(kernel, before)


def test_a_release_refuses_while_a_raw_qp_lives(tmp_path: Path) -> None:
    kernel = furnished(RICH)
    claim(tmp_path, FakeSystem(kernel))
    kernel.held = True
    with pytest.raises(Busy, match="pid 4211 dpdk-testpmd"):
        release(tmp_path, FakeSystem(kernel))
    assert kernel.links == ["down"]
    (one,) = journal.list_claims(tmp_path)
    assert one.phase == "claimed"


def test_a_port_that_was_down_is_proven_and_left_alone(tmp_path: Path) -> None:
    kernel = Kernel([address("10.0.0.2", 24)], up=False)
    claim(tmp_path, FakeSystem(kernel))
    back = release(tmp_path, FakeSystem(kernel))
    assert back is not None
    assert back.clean
    assert kernel.links == []


def test_a_rename_and_a_new_ifindex_do_not_matter(tmp_path: Path) -> None:
    kernel = furnished(RICH)
    claim(tmp_path, FakeSystem(kernel))
    kernel.rename("enP1s0", 17)
    back = release(tmp_path, FakeSystem(kernel))
    assert back is not None
    assert back.clean
    other = furnished(RICH)
    other.rename("enP1s0", 17)
    assert kernel.identities() == other.identities()


class Replugged(FakeSystem):
    """The device is taken out as soon as the netdev is down, and comes back within `seconds`."""

    def __init__(self, kernel: Kernel, seconds: float) -> None:
        super().__init__(kernel, proofs=("cannot",))
        self.seconds = seconds
        self.back_at: float | None = None

    def set_admin(self, port: PortId, up: bool) -> None:
        super().set_admin(port, up)
        if not up:
            self.back_at = self.kernel.clock + self.seconds

    def netdev(self, port: PortId) -> plan.NetdevNow | None:
        if self.back_at is not None:
            self.kernel.present = self.kernel.clock >= self.back_at
            if self.kernel.present:
                self.back_at = None
                self.kernel.facts, self.kernel.ifindex, self.kernel.name = [], 19, "eth7"
        return super().netdev(port)


def test_a_replug_between_two_steps_is_waited_for_and_put_back(tmp_path: Path) -> None:
    """All that was on the netdev is gone with it, and comes back on the new one."""
    kernel = furnished(RICH)
    with pytest.raises(RolledBack):
        claim(tmp_path, Replugged(kernel, 2.0))
    other = furnished(RICH)
    other.rename("eth7", 19)
    assert (kernel.up, kernel.name) == (True, "eth7")
    assert kernel.identities() == other.identities()
    assert journal.list_claims(tmp_path) == []


def test_a_port_that_stays_away_is_recovered_when_it_is_back(tmp_path: Path) -> None:
    kernel = furnished(RICH)
    with pytest.raises(NotRestored, match="no netdev here"):
        claim(tmp_path, Replugged(kernel, 60.0))
    kernel.present = True
    kernel.facts = []
    release(tmp_path, FakeSystem(kernel))
    assert kernel.up
    assert kernel.identities() == furnished(RICH).identities()


def test_a_stranger_after_the_proof_is_noticed(tmp_path: Path) -> None:
    class Late(FakeSystem):
        def prove_free(self, port: PortId) -> fakes.FakeProof:
            proof = super().prove_free(port)
            self.kernel.set_admin(True)
            return proof

    kernel = furnished(())
    before = picture(kernel)
    with pytest.raises(RolledBack, match="this did not last: set eth1 down"):
        claim(tmp_path, Late(kernel))
    assert same(kernel, before)


def test_a_port_without_netdev_keeps_its_journal_open(tmp_path: Path) -> None:
    kernel = furnished(RICH)
    claim(tmp_path, FakeSystem(kernel))
    kernel.present = False
    with pytest.raises(ManactlError, match="no netdev"):
        release(tmp_path, FakeSystem(kernel))
    assert len(journal.list_claims(tmp_path)) == 1


@pytest.mark.parametrize(
    ("number", "word"),
    [(110, "does not answer its driver"), (16, "counts wrong"), (12, "mend the cause")],
)
def test_a_netdev_that_cannot_be_set_up_comes_with_what_to_do(
    tmp_path: Path, number: int, word: str
) -> None:
    class Broken(FakeSystem):
        def set_admin(self, port: PortId, up: bool) -> None:
            if up:
                raise OSError(number, os.strerror(number))
            super().set_admin(port, up)

    kernel = furnished(RICH)
    claim(tmp_path, FakeSystem(kernel))
    back = release(tmp_path, Broken(kernel))
    assert back is not None
    told = transition.not_restored("eth1 could not be put back fully.", back)
    assert os.strerror(number) in told.message
    assert word in (told.hint or "")
    (one,) = journal.list_claims(tmp_path)
    assert one.phase == "interrupted"
    assert one.next_step is not None
    assert one.next_step.code == "not-restored"
    release(tmp_path, FakeSystem(kernel))
    assert journal.list_claims(tmp_path) == []


def test_what_the_kernel_refuses_for_good_is_listed(tmp_path: Path) -> None:
    kernel = furnished(RICH)
    claim(tmp_path, FakeSystem(kernel))

    class Stubborn(FakeSystem):
        def send(self, request: fakes.Request) -> None:
            if request.type == fakes.rt.RTM_NEWNEIGH:
                raise OSError(22, "Invalid argument")
            super().send(request)

    back = release(tmp_path, Stubborn(kernel))
    assert back is not None
    assert len(back.residue) == 2
    assert all("Invalid argument" in line for line in back.residue)
    assert len(journal.list_claims(tmp_path)) == 1
    error = transition.not_restored("eth1", back)
    assert error.exit_code == 5
    assert "10.0.0.50" in error.message
    release(tmp_path, FakeSystem(kernel))
    assert journal.list_claims(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_unwinds_and_a_second_one_does_not_stop_that(
    tmp_path: Path, number: signal.Signals
) -> None:
    kernel = furnished(RICH)
    before = picture(kernel)

    class Signalled(FakeSystem):
        def set_admin(self, port: PortId, up: bool) -> None:
            super().set_admin(port, up)
            os.kill(os.getpid(), number)

    # What ran us may ignore it (nohup does), and then manactl rightly ignores it, too.
    inherited = signal.signal(number, signal.SIG_DFL)
    try:
        with pytest.raises(RolledBack, match=number.name):
            claim(tmp_path, Signalled(kernel))
        assert same(kernel, before)
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, inherited)


def test_a_signal_while_unwinding_is_ignored(tmp_path: Path) -> None:
    kernel = furnished(RICH)
    before = picture(kernel)

    class Signalled(FakeSystem):
        def set_admin(self, port: PortId, up: bool) -> None:
            if up:
                os.kill(os.getpid(), signal.SIGTERM)
            super().set_admin(port, up)

    with pytest.raises(RolledBack, match="said the fake kernel"):
        claim(tmp_path, Signalled(kernel, proofs=("cannot",)))
    assert same(kernel, before)


def test_a_signal_during_a_release_does_not_stop_it(tmp_path: Path) -> None:
    kernel = furnished(RICH)
    before = picture(kernel)
    claim(tmp_path, FakeSystem(kernel))

    class Signalled(FakeSystem):
        def set_admin(self, port: PortId, up: bool) -> None:
            os.kill(os.getpid(), signal.SIGHUP)
            super().set_admin(port, up)

    back = release(tmp_path, Signalled(kernel))
    assert back is not None
    assert back.clean
    assert same(kernel, before)


def test_a_signal_before_the_first_act_is_130(tmp_path: Path) -> None:
    kernel = furnished(RICH)
    system = FakeSystem(kernel)
    made = planned(system)

    def interrupted() -> Journal:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("unreachable: the signal comes first")

    with (
        pytest.raises(Interrupted),
        transition.Interruptible() as signals,
        signals.told(),
    ):
        transition.apply(made.steps, system, interrupted, signals=signals, wait=1.0, who="eth1")
    assert kernel.links == []


class FullDisk(DyingJournal):
    """No record can be written after the header."""

    def append(self, event: str, **more: object) -> None:
        raise OSError(28, "No space left on device")


def test_a_full_disk_stops_a_claim_before_anything_is_changed(tmp_path: Path) -> None:
    kernel = furnished(RICH)
    system = FakeSystem(kernel)
    made = planned(system)
    with (
        pytest.raises(Refused, match=r"No space left.*nothing was touched"),
        transition.Interruptible() as signals,
    ):
        transition.apply(
            made.steps,
            system,
            lambda: FullDisk.create(tmp_path, header(made), made.ports),
            signals=signals,
            wait=1.0,
            who="eth1",
        )
    assert kernel.links == []


def test_a_full_disk_stops_a_release_before_anything_is_changed(tmp_path: Path) -> None:
    kernel = furnished(RICH)
    claim(tmp_path, FakeSystem(kernel))
    made = planned(FakeSystem(kernel))
    with (
        FullDisk.open(journal.paths(tmp_path)[0]) as log,
        pytest.raises(Refused, match=r"No space left.*nothing was touched"),
    ):
        transition.release(made.steps, FakeSystem(kernel), log, [PORT], last=True)
    assert kernel.links == ["down"]
    (one,) = journal.list_claims(tmp_path)
    assert one.phase == "claimed"


def test_a_signal_between_the_journal_and_the_first_act_is_130(tmp_path: Path) -> None:
    class Signalled(DyingJournal):
        def append(self, event: str, **more: object) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    kernel = furnished(RICH)
    system = FakeSystem(kernel)
    made = planned(system)
    inherited = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with (
            pytest.raises(Interrupted),
            transition.Interruptible() as signals,
            signals.told(),
        ):
            transition.apply(
                made.steps, system,
                lambda: Signalled.create(tmp_path, header(made), made.ports),
                signals=signals, wait=1.0, who="eth1",
            )  # fmt: skip
    finally:
        signal.signal(signal.SIGTERM, inherited)
    assert kernel.links == []
    assert list((tmp_path / "claims").iterdir()) == []


def test_steps_survive_their_json() -> None:
    kernel = furnished(RICH)
    made = planned(FakeSystem(kernel))
    again = steps_from_json(made.to_json(), [state.to_json() for state in made.states])
    assert again == made.steps
    assert [step.kind for step in again] == ["keep-state", "set-admin", "prove-free"]
    assert made.to_json()["schema"] == plan.SCHEMA
