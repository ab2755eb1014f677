"""Claims and releases over a kernel in memory that fails, or whose manactl dies, at any point."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manactl.act import plan
from manactl.act.plan import steps_from_json
from manactl.errors import Busy, Interrupted, ManactlError, NotRestored, Refused, RolledBack
from manactl.journal import file as journal
from manactl.model.port import PortId
from manactl.netstate.snapshot import Accepted, Fact, PortState, Request
from manactl.wire.uverbs import ProofOutcome
from tests.unit.fakes import PORT, address, neighbour, nexthop, route
from tests.unit.host import (
    RICH,
    FakeHost,
    FakeProof,
    FakeSystem,
    Fate,
    Killed,
    claim,
    furnish,
    furnished,
    release,
    two_ports,
)
from tests.unit.kernel import Kernel, Message, same_thing

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
    found: list[tuple[Fact, Message]] = []
    for fact in facts:
        message = Message.parse(str(fact.kind), fact.body)
        if not any(same_thing(message, one) or _one_prefix(message, one) for _, one in found):
            found.append((fact, message))
    return [fact for fact, _ in found]


def _one_prefix(one: Message, other: Message) -> bool:
    """Two routes of a prefix, table and metric, whose order is another matter."""
    both = [(m.head[0], m.head[1], m.attrs.get(1), m.attrs.get(15), m.attrs.get(6))
            for m in (one, other)]  # fmt: skip
    return one.kind == other.kind == "route" and both[0] == both[1]


NETWORKS = st.lists(ADDRESSES | ROUTES | OTHERS, max_size=12).map(_distinct)


def _furnished(facts: Sequence[Fact]) -> Kernel:
    kernel = Kernel()
    furnish(kernel, kernel.nics[0], facts)
    return kernel


def total_operations(facts: Sequence[Fact], *, releasing: bool) -> int:
    with tempfile.TemporaryDirectory() as directory:
        kernel = _furnished(facts)
        host = FakeHost(kernel)
        claim(Path(directory), host)
        if releasing:
            host = FakeHost(kernel)
            release(Path(directory), host)
        return host.fate.operations


def nothing_open(state_dir: Path) -> bool:
    return journal.list_claims(state_dir, "boot-1").claims == [] and journal.paths(state_dir) == []


def test_a_claim_takes_the_port_down_and_a_release_brings_all_back(tmp_path: Path) -> None:
    kernel = furnished()
    before = kernel.picture()
    done = claim(tmp_path, FakeHost(kernel))
    assert done.facts[PORT]["prove-free"]["proven"] is True
    assert not kernel.nics[0].up
    (one,) = journal.list_claims(tmp_path, "boot-1").claims
    assert (one.phase, one.port, one.claim.proven) == ("claimed", PORT, True)
    assert [port.outcome for port in release(tmp_path, FakeHost(kernel)).ports] == ["restored"]
    assert kernel.picture() == before
    assert kernel.links == [("eth1", "down"), ("eth1", "up")]
    assert nothing_open(tmp_path)
    assert len(list((tmp_path / "history").iterdir())) == 1


@settings(max_examples=60)
@given(NETWORKS, st.data())
def test_a_claim_that_dies_anywhere_is_put_back(facts: list[Fact], data: st.DataObject) -> None:
    dies_at = data.draw(st.integers(1, total_operations(facts, releasing=False)))
    half = data.draw(st.booleans())
    with tempfile.TemporaryDirectory() as directory:
        kernel = _furnished(facts)
        before = kernel.picture()
        with contextlib.suppress(Killed):
            claim(Path(directory), FakeHost(kernel, Fate(dies_at=dies_at, half=half)))
        release(Path(directory), FakeHost(kernel))
        assert kernel.picture() == before
        assert nothing_open(Path(directory))


@settings(max_examples=60)
@given(NETWORKS, st.data())
def test_a_release_that_dies_anywhere_is_finished_by_the_next(
    facts: list[Fact], data: st.DataObject
) -> None:
    dies_at = data.draw(st.integers(1, total_operations(facts, releasing=True)))
    half = data.draw(st.booleans())
    with tempfile.TemporaryDirectory() as directory:
        kernel = _furnished(facts)
        before = kernel.picture()
        claim(Path(directory), FakeHost(kernel))
        with contextlib.suppress(Killed):
            release(Path(directory), FakeHost(kernel, Fate(dies_at=dies_at, half=half)))
        release(Path(directory), FakeHost(kernel))
        assert kernel.picture() == before
        assert nothing_open(Path(directory))


@settings(max_examples=60)
@given(NETWORKS, st.data())
def test_a_claim_that_fails_anywhere_is_unwound_or_says_what_is_left(
    facts: list[Fact], data: st.DataObject
) -> None:
    fails_at = data.draw(st.integers(1, total_operations(facts, releasing=False)))
    with tempfile.TemporaryDirectory() as directory:
        kernel = _furnished(facts)
        before = kernel.picture()
        with pytest.raises((RolledBack, NotRestored, Refused)):
            claim(Path(directory), FakeHost(kernel, Fate(fails_at=fails_at)))
        release(Path(directory), FakeHost(kernel))
        assert kernel.picture() == before
        assert nothing_open(Path(directory))


def operations_of_two(state_dir: Path, *, releasing: bool) -> int:
    kernel = two_ports()
    host = FakeHost(kernel)
    claim(state_dir, host, "eth1", "eth2")
    claimed = host.fate.operations
    host = FakeHost(kernel)
    release(state_dir, host)
    return host.fate.operations if releasing else claimed


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("releasing", [False, True])
def test_two_ports_survive_a_death_at_every_operation(
    tmp_path: Path, releasing: bool, half: bool
) -> None:
    for dies_at in range(1, operations_of_two(tmp_path / "count", releasing=releasing) + 1):
        state_dir = tmp_path / str(dies_at)
        kernel = two_ports()
        before = kernel.picture()
        fate = Fate(dies_at=dies_at, half=half)
        if releasing:
            claim(state_dir, FakeHost(kernel), "eth1", "eth2")
        words = () if releasing else ("eth1", "eth2")
        with pytest.raises(Killed):
            (release if releasing else claim)(state_dir, FakeHost(kernel, fate), *words)
        recovered = release(state_dir, FakeHost(kernel), recover=True).ports
        if kernel.picture() != before:  # a whole claim, or a release that had not begun
            assert recovered == []
            release(state_dir, FakeHost(kernel))
        assert kernel.picture() == before
        assert nothing_open(state_dir)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_operation_of_a_claim_is_all_or_nothing(
    tmp_path: Path, number: int, default_signals: None
) -> None:
    total = operations_of_two(tmp_path / "count", releasing=False)
    codes = []
    for at in range(1, total):
        state_dir = tmp_path / str(at)
        kernel = two_ports()
        before = kernel.picture()
        host = FakeHost(kernel, Fate(at={at: lambda: os.kill(os.getpid(), number)}))
        with pytest.raises((RolledBack, Interrupted)) as caught:
            claim(state_dir, host, "eth1", "eth2")
        codes.append(caught.value.exit_code)
        assert signal.Signals(number).name in caught.value.message
        assert kernel.picture() == before
        assert nothing_open(state_dir)
        for path in (state_dir / "history").glob("*"):
            assert journal.read(path).phase == "closed"
    assert codes == sorted(codes, reverse=True)  # 130 until something was begun, then 4
    assert set(codes) == {130, 4}
    # With the record of it on disk the claim stands.
    kernel = two_ports()
    host = FakeHost(kernel, Fate(at={total: lambda: os.kill(os.getpid(), number)}))
    claim(tmp_path / "whole", host, "eth1", "eth2")
    assert [nic.up for nic in kernel.nics] == [False, False]
    (path,) = journal.paths(tmp_path / "whole")
    assert journal.read(path).phase == "claimed"


def test_a_signal_at_any_operation_of_a_release_stops_it_at_most_before_it_begins(
    tmp_path: Path, default_signals: None
) -> None:
    for at in range(1, operations_of_two(tmp_path / "count", releasing=True) + 1):
        state_dir = tmp_path / str(at)
        kernel = two_ports()
        before = kernel.picture()
        claim(state_dir, FakeHost(kernel), "eth1", "eth2")
        down = kernel.picture()
        host = FakeHost(kernel, Fate(at={at: lambda: os.kill(os.getpid(), signal.SIGTERM)}))
        try:
            release(state_dir, host)
        except Interrupted:
            assert kernel.picture() == down
            release(state_dir, FakeHost(kernel))
        assert kernel.picture() == before
        assert nothing_open(state_dir)


def test_a_signal_after_the_claim_stands_does_not_deny_it(
    tmp_path: Path, default_signals: None
) -> None:
    class Signalled(FakeSystem):
        def __exit__(self, *error: object) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            super().__exit__(*error)

    host = FakeHost(furnished())
    host.systems = Signalled
    assert [port.id for port in claim(tmp_path, host).ports] == [PORT]
    (one,) = journal.list_claims(tmp_path, "boot-1").claims
    assert one.phase == "claimed"


@pytest.fixture
def default_signals() -> Any:
    """What ran us may ignore some (nohup does), and then manactl rightly ignores them, too."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    yield
    for number, handler in before.items():
        assert signal.getsignal(number) is signal.default_int_handler
        signal.signal(number, handler)


def refusing(outcome: str, *, times: int = 99) -> Callable[..., FakeSystem]:
    """A kernel whose first proofs come out so."""

    class Refusing(FakeSystem):
        left = times

        def prove_free(self, port: PortId) -> FakeProof:
            if Refusing.left:
                Refusing.left -= 1
                return FakeProof(ProofOutcome(outcome), 16)
            return super().prove_free(port)

    return Refusing


def test_a_failed_proof_unwinds_with_code_4(tmp_path: Path) -> None:
    kernel = furnished()
    before = kernel.picture()
    host = FakeHost(kernel)
    host.systems = refusing("cannot")
    with pytest.raises(RolledBack, match="reports the fake kernel"):
        claim(tmp_path, host)
    assert kernel.picture() == before
    assert kernel.links == [("eth1", "down"), ("eth1", "up")]
    assert nothing_open(tmp_path)


def test_a_vport_that_is_taken_for_a_moment_is_looked_at_again(tmp_path: Path) -> None:
    host = FakeHost(furnished())
    host.systems = refusing("taken", times=2)
    assert claim(tmp_path, host).facts[PORT]["prove-free"]["tries"] == 3


@pytest.mark.parametrize(("wait", "least", "most"), [(None, 2.0, 4.0), (6.0, 6.0, 8.0)])
def test_a_vport_that_stays_taken_is_not_waited_for_beyond_wait(
    tmp_path: Path, wait: float | None, least: float, most: float
) -> None:
    kernel = furnished()
    before = kernel.picture()
    host = FakeHost(kernel)
    host.systems = refusing("taken")
    start = kernel.clock
    with pytest.raises(RolledBack):
        claim(tmp_path, host, wait=wait)
    assert kernel.picture() == before
    assert least <= kernel.clock - start < most


def test_without_cap_net_raw_a_claim_stands_unproven(tmp_path: Path) -> None:
    host = FakeHost(furnished())
    host.systems = refusing("denied")
    assert claim(tmp_path, host).facts[PORT]["prove-free"]["proven"] is False
    (one,) = journal.list_claims(tmp_path, "boot-1").claims
    assert one.phase == "claimed"
    assert one.claim.proven is False


class Thief(FakeSystem):
    """A raw QP takes the vport as soon as the netdev is down."""

    def set_admin(self, port: PortId, up: bool) -> None:
        super().set_admin(port, up)
        if not up:
            self.here(port).holders = [4211]


def test_a_raw_qp_that_slips_in_is_named_and_the_journal_stays_open(tmp_path: Path) -> None:
    kernel = furnished()
    before = kernel.picture()
    host = FakeHost(kernel)
    host.systems = Thief
    with pytest.raises(Busy, match="pid 4211 dpdk-testpmd") as caught:
        claim(tmp_path, host, wait=0.5)
    assert "recover" in (caught.value.hint or "")
    assert caught.value.code == "holder"
    assert any(e.value == {"pid": 4211, "comm": "dpdk-testpmd", "unit": "fwd.service"}
               for e in caught.value.evidence)  # fmt: skip
    (one,) = journal.list_claims(tmp_path, "boot-1").claims
    assert one.phase == "interrupted"
    with pytest.raises(Busy, match="pid 4211"):
        release(tmp_path, FakeHost(kernel))
    assert not kernel.nics[0].up
    kernel.nics[0].holders = []
    release(tmp_path, FakeHost(kernel))
    assert kernel.picture() == before


class Stranger(FakeSystem):
    """Something sets the netdev up again at once, every time."""

    def set_admin(self, port: PortId, up: bool) -> None:
        super().set_admin(port, up)
        self.kernel.set_up(self.here(port), True)


def test_a_stranger_that_sets_it_up_again_ends_the_claim_with_code_4(tmp_path: Path) -> None:
    kernel = furnished()
    before = kernel.picture()
    host = FakeHost(kernel)
    host.systems = Stranger
    with pytest.raises(RolledBack, match="another program sets it"):
        claim(tmp_path, host)
    assert kernel.picture() == before


def test_a_stranger_after_the_proof_is_noticed(tmp_path: Path) -> None:
    class Late(FakeSystem):
        def prove_free(self, port: PortId) -> FakeProof:
            proof = super().prove_free(port)
            self.kernel.set_up(self.here(port), True)
            return proof

    kernel = furnished()
    before = kernel.picture()
    host = FakeHost(kernel)
    host.systems = Late
    with pytest.raises(RolledBack, match="another program has undone it: set eth1 down"):
        claim(tmp_path, host)
    assert kernel.picture() == before


def test_a_port_that_was_down_is_proven_and_left_alone(tmp_path: Path) -> None:
    kernel = Kernel()
    kernel.add("address", address("10.0.0.2", 24).body)
    before = kernel.picture()
    done = claim(tmp_path, FakeHost(kernel))
    assert list(done.facts[PORT]) == ["prove-free"]
    assert [one.outcome for one in release(tmp_path, FakeHost(kernel)).ports] == ["left-down"]
    assert kernel.links == []
    assert kernel.picture() == before


def test_a_rename_and_a_new_ifindex_do_not_matter(tmp_path: Path) -> None:
    kernel = furnished()
    before = kernel.picture()
    claim(tmp_path, FakeHost(kernel))
    kernel.rename(kernel.nics[0], "enP1s0", 17)
    assert [one.netdev for one in release(tmp_path, FakeHost(kernel)).ports] == ["enP1s0"]
    assert kernel.picture() == before
    labels = [m.attrs[3] for m in kernel.messages if m.kind == "address" and 3 in m.attrs]
    assert set(labels) == {b"enP1s0\0"}


def unplugging(seconds: float) -> Callable[..., FakeSystem]:
    """The device is taken out as soon as the netdev is down, and comes back after a while."""

    class Replugged(FakeSystem):
        back_at: float | None = None

        def set_admin(self, port: PortId, up: bool) -> None:
            super().set_admin(port, up)
            if not up:
                self.kernel.unplug(self.here(port))
                self.back_at = self.kernel.clock + seconds

        def prove_free(self, port: PortId) -> FakeProof:
            return FakeProof(ProofOutcome.CANNOT, 19)

        def nic(self, port: PortId) -> Any:
            one = self.kernel.nics[0]
            if self.back_at is not None and self.kernel.clock >= self.back_at:
                self.kernel.replug(one, "eth7", 19)
                self.back_at = None
            return super().nic(port)

    return Replugged


def test_a_replug_between_two_steps_is_waited_for_and_put_back(tmp_path: Path) -> None:
    """All that was on the netdev is gone with it, and comes back on the new one."""
    kernel = furnished()
    before = kernel.picture()
    host = FakeHost(kernel)
    host.systems = unplugging(2.0)
    with pytest.raises(RolledBack):
        claim(tmp_path, host)
    assert kernel.nics[0].name == "eth7"
    assert kernel.picture() == before
    assert nothing_open(tmp_path)


def test_a_port_that_stays_away_is_recovered_when_it_is_back(tmp_path: Path) -> None:
    kernel = furnished()
    before = kernel.picture()
    host = FakeHost(kernel)
    host.systems = unplugging(60.0)
    with pytest.raises(NotRestored, match="no netdev here") as caught:
        claim(tmp_path, host)
    assert caught.value.exit_code == 5
    kernel.replug(kernel.nics[0], "eth1", 3)
    release(tmp_path, FakeHost(kernel))
    assert kernel.picture() == before


def test_a_port_without_netdev_keeps_its_journal_open(tmp_path: Path) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    kernel.nics[0].present = False
    with pytest.raises(ManactlError, match="no netdev"):
        release(tmp_path, FakeHost(kernel))
    assert len(journal.list_claims(tmp_path, "boot-1").claims) == 1


@pytest.mark.parametrize(
    ("number", "word"),
    [(110, "does not answer its driver"), (16, "use count is wrong"), (12, "recover")],
)
def test_a_netdev_that_cannot_be_set_up_comes_with_what_to_do(
    tmp_path: Path, number: int, word: str
) -> None:
    class Broken(FakeSystem):
        def set_admin(self, port: PortId, up: bool) -> None:
            if up:
                raise OSError(number, os.strerror(number))
            super().set_admin(port, up)

    kernel = furnished()
    before = kernel.picture()
    claim(tmp_path, FakeHost(kernel))
    host = FakeHost(kernel)
    host.systems = Broken
    with pytest.raises(NotRestored) as caught:
        release(tmp_path, host)
    assert os.strerror(number) in caught.value.message
    assert word in (caught.value.hint or "")
    assert "10.0.0.2" not in caught.value.message  # not attempted, and listed as one step
    assert len([e for e in caught.value.evidence if e.fact == "residue"]) == 2
    (one,) = journal.list_claims(tmp_path, "boot-1").claims
    assert one.phase == "interrupted"
    assert one.next_step is not None
    assert one.next_step.code == "not-restored"
    release(tmp_path, FakeHost(kernel))
    assert kernel.picture() == before
    assert nothing_open(tmp_path)


def test_what_the_kernel_refuses_for_good_is_listed(tmp_path: Path) -> None:
    kernel = furnished()
    before = kernel.picture()
    claim(tmp_path, FakeHost(kernel))

    class Stubborn(FakeSystem):
        def send(self, request: Request) -> None:
            if request.type == 28:  # RTM_NEWNEIGH
                raise OSError(22, "Invalid argument")
            super().send(request)

    host = FakeHost(kernel)
    host.systems = Stubborn
    with pytest.raises(NotRestored) as caught:
        release(tmp_path, host)
    residue = [str(e.value) for e in caught.value.evidence if e.fact == "residue"]
    assert len(residue) == 2
    assert all("Invalid argument" in line for line in residue)
    assert all(line in caught.value.message for line in residue)
    assert caught.value.exit_code == 5
    assert any("10.0.0.50" in line for line in residue)
    assert len(journal.list_claims(tmp_path, "boot-1").claims) == 1
    release(tmp_path, FakeHost(kernel))
    assert kernel.picture() == before
    assert nothing_open(tmp_path)


def test_a_release_refuses_while_a_raw_qp_lives(tmp_path: Path) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    kernel.nics[0].holders = [4211]
    start = kernel.clock
    with pytest.raises(Busy, match="pid 4211 dpdk-testpmd") as caught:
        release(tmp_path, FakeHost(kernel))
    assert caught.value.exit_code == 6
    assert kernel.links == [("eth1", "down")]
    assert 2.0 <= kernel.clock - start < 4.0
    (one,) = journal.list_claims(tmp_path, "boot-1").claims
    assert one.phase == "claimed"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_unwinds_and_a_second_one_does_not_stop_that(
    tmp_path: Path, number: signal.Signals, default_signals: None
) -> None:
    class Signalled(FakeSystem):
        def set_admin(self, port: PortId, up: bool) -> None:
            super().set_admin(port, up)
            os.kill(os.getpid(), number)

    kernel = furnished()
    before = kernel.picture()
    host = FakeHost(kernel)
    host.systems = Signalled
    with pytest.raises(RolledBack, match=number.name):
        claim(tmp_path, host)
    assert kernel.picture() == before
    assert nothing_open(tmp_path)


class FullDisk:
    """From some write on there is no room."""

    def __init__(self, patch: pytest.MonkeyPatch, after: int) -> None:
        self.left = after
        self.write = os.write
        patch.setattr(os, "write", self)

    def __call__(self, fd: int, data: Any) -> int:
        if b'"event"' in bytes(data):
            self.left -= 1
            if self.left < 0:
                raise OSError(28, "No space left on device")
        return self.write(fd, data)


def test_a_full_disk_stops_a_claim_before_anything_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FullDisk(monkeypatch, 0)
    kernel = furnished()
    with pytest.raises(Refused, match=r"No space left.*nothing was touched"):
        claim(tmp_path, FakeHost(kernel))
    assert kernel.links == []
    assert nothing_open(tmp_path)


def test_a_full_disk_stops_a_release_before_anything_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    FullDisk(monkeypatch, 0)
    with pytest.raises(Refused, match=r"No space left.*nothing was touched"):
        release(tmp_path, FakeHost(kernel))
    assert kernel.links == [("eth1", "down")]
    (one,) = journal.list_claims(tmp_path, "boot-1").claims
    assert one.phase == "claimed"


def test_a_disk_that_fills_up_during_a_release_keeps_no_port_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = furnished()
    before = kernel.picture()
    claim(tmp_path, FakeHost(kernel))
    with monkeypatch.context() as patch:
        FullDisk(patch, 2)
        with pytest.raises(NotRestored, match="could not be written: No space left") as caught:
            release(tmp_path, FakeHost(kernel))
    assert kernel.picture() == before
    assert "restored, but its journal is still open" in caught.value.message
    release(tmp_path, FakeHost(kernel))
    assert kernel.picture() == before
    assert nothing_open(tmp_path)


def test_steps_survive_their_json(tmp_path: Path) -> None:
    made = claim(tmp_path, FakeHost(furnished()), dry_run=True).plan
    assert made is not None
    again = steps_from_json(made.to_json(), [state.to_json() for state in made.states])
    assert again == made.steps
    assert [step.kind for step in again] == ["keep-state", "set-admin", "prove-free"]
    assert made.to_json()["schema"] == plan.SCHEMA


def test_the_rich_port_has_every_kind() -> None:
    assert {str(fact.kind) for fact in RICH} == {"address", "route", "nexthop", "neighbour"}


def test_the_story_of_a_failure_has_what_failed_and_whom(tmp_path: Path) -> None:
    host = FakeHost(two_ports())
    host.systems = refusing("cannot")
    with pytest.raises(RolledBack) as caught:
        claim(tmp_path, host, "eth1", "eth2")
    first, last = caught.value.message.splitlines()
    assert first.startswith("claiming eth1, eth2 failed: could not prove that 7870:00:00.0:1")
    assert last == "Everything is restored and verified."
    (path,) = (tmp_path / "history").iterdir()
    records = journal.read(path).records
    assert [r["event"] for r in records][-8:] == [
        "unwinding", "undoing", "undone", "undoing", "undone", "undoing", "undone", "closed",
    ]  # fmt: skip
    assert records[-1]["how"] == "unwound"
    (why,) = [r["why"] for r in records if r["event"] == "unwinding"]
    assert why in first


def test_a_failed_claim_tells_what_a_router_has_to_bring(tmp_path: Path) -> None:
    class Hearing(FakeSystem):
        def capture(self, port: PortId, nexthops: Collection[int] = ()) -> PortState:
            accepted = Accepted(
                self.here(port).ifindex, default=True, prefixes=True, addresses=True, routes=64
            )
            return dataclasses.replace(super().capture(port, nexthops), accepted=(accepted,))

        def prove_free(self, port: PortId) -> FakeProof:
            return FakeProof(ProofOutcome.CANNOT)

    kernel = two_ports()
    kernel.add("route", route("2001:db8:b::", 64, via="fe80::9", proto=9).body)
    host = FakeHost(kernel)
    host.systems = Hearing
    with pytest.raises(RolledBack) as caught:
        claim(tmp_path, host, "eth1")
    assert caught.value.message.splitlines()[1:] == [
        "Everything is restored and verified.",
        "  comes with the next router advertisement: 2001:db8:b::/64 via fe80::9 dev eth1 proto ra",
    ]
    assert nothing_open(tmp_path)


def test_a_port_that_could_not_be_opened_has_what_was_not_attempted(tmp_path: Path) -> None:
    class Broken(FakeSystem):
        def set_admin(self, port: PortId, up: bool) -> None:
            if up and port.port == 1:
                raise OSError(12, "Cannot allocate memory")
            super().set_admin(port, up)

    kernel = two_ports()
    claim(tmp_path, FakeHost(kernel), "eth1", "eth2")
    host = FakeHost(kernel)
    host.systems = Broken
    with pytest.raises(NotRestored) as caught:
        release(tmp_path, host)
    assert caught.value.message.splitlines() == [
        "eth1, eth2: not fully restored",
        "Not restored:",
        "  setting eth1 up failed: Cannot allocate memory",
        "  not attempted: restore and verify eth1",
    ]
    assert "the journal stays open: fix the cause" in (caught.value.hint or "")
    assert kernel.nic("eth2").up
