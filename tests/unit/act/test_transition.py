"""Claims and releases over a kernel in memory that fails, or whose manactl dies, at any point."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import signal
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manactl.act import plan, restore, transition
from manactl.act.plan import steps_from_json
from manactl.act.signals import SignalGate
from manactl.act.transition import UndoResult, Workplace
from manactl.act.unmanage import Unmanage
from manactl.errors import Busy, Interrupted, ManactlError, NotRestored, Refused, RolledBack
from manactl.journal import file as journal
from manactl.look.netdevs_of import Unread
from manactl.model.port import Evidence, Holder, PortId
from manactl.netstate.snapshot import Accepted, Fact, PortState, Request, Rows
from manactl.netstate.unmanaged import Unmanaged, UnmanagedLink
from manactl.wire.uverbs import ProofOutcome
from tests.unit.fakes import PORT, address, neighbour, nexthop, route
from tests.unit.host import (
    RICH,
    FakeHost,
    FakeProof,
    FakeSystem,
    Fate,
    Followed,
    Killed,
    claim,
    furnish,
    furnished,
    release,
    two_ports,
)
from tests.unit.kernel import Kernel, Message, same_thing
from tests.unit.wording import Coded, read, says, wording

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


def test_no_address_waits_for_what_follows_from_the_snapshot_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    up: list[bool] = []

    class Prepared(restore.Prepared):
        def __init__(self, state: PortState, many: int = 1000) -> None:
            up.append(kernel.nics[0].up)
            super().__init__(state, many)

    monkeypatch.setattr(transition, "Prepared", Prepared)
    monkeypatch.setattr(restore, "Prepared", Prepared)
    release(tmp_path, FakeHost(kernel))
    assert up == [False]


def test_a_snapshot_that_makes_no_sense_keeps_no_port_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))

    def prepared(*_: object) -> NoReturn:
        raise ValueError("attribute at 12")

    monkeypatch.setattr(transition, "Prepared", prepared)
    monkeypatch.setattr(restore, "Prepared", prepared)
    with pytest.raises(NotRestored):
        release(tmp_path, FakeHost(kernel))
    assert kernel.nics[0].up
    assert not nothing_open(tmp_path)


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


def test_what_was_undone_is_told_where_the_holder_cannot_be_looked_up(tmp_path: Path) -> None:
    """A look that fails must not take the place of the story, which the operator needs."""

    class Blinding(Thief):
        def holders(self, port: PortId) -> tuple[Holder, ...]:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    kernel = furnished()
    host = FakeHost(kernel)
    host.systems = Blinding
    with pytest.raises(Busy, match="claiming eth1 failed") as caught:
        claim(tmp_path, host, wait=0.5)
    with wording:
        assert "Not restored while the holder is running" in caught.value.message
        assert "the journal stays open" in (caught.value.hint or "")


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
    with pytest.raises(RolledBack, match=says("another program sets it")):
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
    with pytest.raises(RolledBack, match=says("another program has undone it: set eth1 down")):
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
    kernel.nics[0].mtu = 4000
    before = kernel.picture()
    host = FakeHost(kernel)
    host.systems = unplugging(2.0)
    with pytest.raises(RolledBack):
        claim(tmp_path, host)
    assert (kernel.nics[0].name, kernel.nics[0].mtu) == ("eth7", 4000)
    assert kernel.picture() == before
    assert nothing_open(tmp_path)


def test_a_port_that_stays_away_is_recovered_when_it_is_back(tmp_path: Path) -> None:
    kernel = furnished()
    before = kernel.picture()
    host = FakeHost(kernel)
    host.systems = unplugging(60.0)
    with pytest.raises(NotRestored, match=says("no netdev here"), check=Coded("residue")) as caught:
        claim(tmp_path, host)
    assert caught.value.exit_code == 5
    kernel.replug(kernel.nics[0], "eth1", 3)
    release(tmp_path, FakeHost(kernel))
    assert kernel.picture() == before


def test_a_port_without_netdev_keeps_its_journal_open(tmp_path: Path) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    kernel.nics[0].present = False
    with pytest.raises(ManactlError, match=says("no netdev"), check=Coded("no-netdev")):
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
    with wording:
        assert word in (caught.value.hint or "")
    assert "10.0.0.2" not in caught.value.message  # not attempted, and listed as one step
    assert [source for source, _ in read(caught.value.evidence)].count("rtnetlink") == 2
    with wording:
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
    residue = [str(v) for source, v in read(caught.value.evidence) if source == "rtnetlink"]
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
    with pytest.raises(
        Refused,
        match=says(r"No space left.*nothing was touched"),
        check=Coded("state-dir", untouched=True),
    ):
        claim(tmp_path, FakeHost(kernel))
    assert kernel.links == []
    assert nothing_open(tmp_path)


def test_a_full_disk_stops_a_release_before_anything_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    FullDisk(monkeypatch, 0)
    with pytest.raises(
        Refused,
        match=says(r"No space left.*nothing was touched"),
        check=Coded("state-dir", untouched=True),
    ):
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
        with pytest.raises(
            NotRestored, match=says("could not be written: No space left"), check=Coded("residue")
        ) as caught:
            release(tmp_path, FakeHost(kernel))
    assert kernel.picture() == before
    with wording:
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
    with wording:
        assert first.startswith("claiming eth1, eth2 failed: could not prove that 7870:00:00.0:1")
        assert last == "Everything is restored and verified."
    (path,) = (tmp_path / "history").iterdir()
    records = journal.read(path).records
    assert [(r["event"], r.get("kind")) for r in records][-8:] == [
        ("unwinding", None), ("undoing", "prove-free"), ("undone", "prove-free"),
        # Addresses come with IFF_UP.
        ("undoing", "set-admin"), ("undoing", "keep-state"),
        ("undone", "set-admin"), ("undone", "keep-state"), ("closed", None),
    ]  # fmt: skip
    assert records[-1]["how"] == "unwound"
    (why,) = [r["why"] for r in records if r["event"] == "unwinding"]
    assert why in first


def test_a_failed_claim_tells_what_a_router_has_to_bring(tmp_path: Path) -> None:
    class Hearing(FakeSystem):
        def capture(
            self,
            port: PortId,
            nexthops: Collection[int] = (),
            rows: Rows = None,
            *,
            alone: bool = False,
        ) -> PortState:
            accepted = Accepted(
                self.here(port).ifindex, default=True, prefixes=True, addresses=True, routes=64
            )
            return dataclasses.replace(
                super().capture(port, nexthops, rows, alone=alone), accepted=(accepted,)
            )

        def prove_free(self, port: PortId) -> FakeProof:
            return FakeProof(ProofOutcome.CANNOT)

    kernel = two_ports()
    kernel.add("route", route("2001:db8:b::", 64, via="fe80::9", proto=9).body)
    host = FakeHost(kernel)
    host.systems = Hearing
    with pytest.raises(RolledBack) as caught:
        claim(tmp_path, host, "eth1")
    with wording:
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
    with wording:
        assert caught.value.message.splitlines() == [
            "eth1, eth2: not fully restored",
            "Not restored:",
            "  setting eth1 up failed: Cannot allocate memory",
            "  not attempted: restore and verify eth1",
            "All of eth2 is restored and verified.",
        ]
        assert "the journal stays open: fix the cause" in (caught.value.hint or "")
    assert kernel.nic("eth2").up


# --- what is reported of it -----------------------------------------------------------------

ETH2 = PortId("7870:00:00.0", 2, "00:0d:3a:aa:00:11")
SEEN = Evidence("uverbs", "CREATE_QP", "EBUSY")


class Deaf:
    """A journal that cannot be written, or not be put away."""

    path = Path("/state/claims/x.journal")

    def __init__(self, *, append: bool = True, archive: bool = True) -> None:
        self.works = {"append": append, "archive": archive}
        self.events: list[tuple[str, dict[str, object]]] = []

    def append(self, event: str, **more: object) -> None:
        if not self.works["append"]:
            raise OSError(28, "No space left on device")
        self.events.append((event, more))

    def archive(self) -> None:
        if not self.works["archive"]:
            raise OSError(30, "Read-only file system")
        self.events.append(("archived", {}))

    def discard(self, error: OSError | None) -> ManactlError | None:
        raise AssertionError("nobody asked")


def test_closing_a_journal_writes_how_and_puts_it_away() -> None:
    log = Deaf()
    assert transition.close(log, "released") is None
    assert log.events == [("closed", {"how": "released"}), ("archived", {})]
    log = Deaf()
    assert transition.close(log, "released", already=True) is None
    assert log.events == [("archived", {})]


def test_a_journal_that_cannot_be_closed_says_why() -> None:
    assert transition.close(Deaf(append=False), "released") == "No space left on device"
    assert transition.close(Deaf(archive=False), "released") == "Read-only file system"
    assert transition.put_away(Path("/nowhere/claims/x.journal")) == "No such file or directory"


def test_residue_comes_line_by_line_with_each_remedy_once() -> None:
    result = UndoResult(residue=["one", "two"], remedies=["do this", "do that", "do this"])
    error = transition.not_restored("the story", result, ["eth1", "eth2"], [SEEN])
    assert read(error.evidence) == read(
        (
            SEEN,
            Evidence("rtnetlink", "residue", "one"),
            Evidence("rtnetlink", "residue", "two"),
        )
    )
    with wording:
        assert error.message == "the story\nNot restored:\n  one\n  two"
        assert error.hint == (
            "do this\ndo that\nthe journal stays open: fix the cause, then `manactl recover` "
            "tries again; or, when it cannot be fixed: manactl recover --accept eth1 --accept eth2"
        )
        assert error.evidence == (
            SEEN, Evidence("rtnetlink", "residue", "one"), Evidence("rtnetlink", "residue", "two"),
        )  # fmt: skip
    assert (error.code, error.exit_code) == ("residue", 5)


def test_a_journal_alone_that_failed_is_no_residue() -> None:
    error = transition.not_restored("the story", UndoResult(log_failed="No space left"), ["eth1"])
    with wording:
        assert error.message.splitlines() == [
            "the story",
            "The journal could not be written: No space left.",
            "What was on the port is restored and verified.",
        ]
    assert error.evidence == ()
    with wording:
        assert error.hint == (
            "the journal stays open: fix the cause, then `manactl release eth1` tries again"
        )


@pytest.mark.wording
def test_residue_and_a_journal_that_failed_are_both_reported() -> None:
    error = transition.not_restored(
        "the story", UndoResult(residue=["one"], log_failed="full"), ["eth1"]
    )
    assert error.message.splitlines() == [
        "the story", "Not restored:", "  one", "The journal could not be written: full.",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("result", "clean"),
    [
        (UndoResult(), True),
        (UndoResult(residue=["one"]), False),
        (UndoResult(taken=[PORT]), False),
        (UndoResult(log_failed="full"), False),
        (UndoResult(remedies=["do this"]), True),
    ],
)
def test_clean_is_nothing_left(result: UndoResult, clean: bool) -> None:
    assert result.clean is clean


@pytest.mark.wording
def test_holders_are_evidence_with_what_is_known() -> None:
    known = Holder(7, "dpdk-testpmd", None, 0, "fwd.service", None, None)
    assert transition.holder_evidence([known]) == (
        Evidence("proc", "holder", {"pid": 7, "comm": "dpdk-testpmd", "unit": "fwd.service"}),
    )


@dataclass
class Scripted:
    """A step that fails, or not, while it is done or undone."""

    undoes: ClassVar[bool] = True
    makes_usable: ClassVar[bool] = True
    port: PortId = PORT
    title: str = "do it"
    undo_title: str = "undo it"
    kind: str = "scripted"
    doing: BaseException | None = None
    undoing: BaseException | None = None
    lasts: bool = True
    residue: tuple[str, ...] = ()

    def describe(self) -> str:
        return self.title

    def do(self, system: plan.System, wait: float) -> dict[str, object]:
        if self.doing is not None:
            raise self.doing
        return {"waited": wait}

    def undo(self, system: plan.System) -> plan.Undone:
        if self.undoing is not None:
            raise self.undoing
        return plan.Undone(plan.Restored(residue=self.residue), {"ms": 1.0})

    def holds(self, system: plan.System) -> bool:
        return self.lasts

    def to_json(self) -> dict[str, Any]:
        return {}


class Traceless(Scripted):
    undoes = False


class Beside(Scripted):
    makes_usable = False


@contextlib.contextmanager
def workplace(log: Deaf) -> Iterator[Workplace]:
    kernel = two_ports()
    host = FakeHost(kernel)
    with SignalGate() as signals:
        yield Workplace(host.system(signals.pause), log, signals, Followed())


def applied(*steps: Scripted, log: Deaf | None = None) -> BaseException:
    """What applying these steps raises."""
    with workplace(log or Deaf()) as work, pytest.raises(ManactlError) as caught:
        transition.apply(steps, work, wait=3.0, who="eth1")
    return caught.value


def test_applying_writes_before_and_after_each_step() -> None:
    log = Deaf()
    with workplace(log) as work:
        facts = transition.apply([Scripted(), Scripted(ETH2)], work, wait=3.0, who="eth1")
    assert facts == {PORT: {"scripted": {"waited": 3.0}}, ETH2: {"scripted": {"waited": 3.0}}}
    assert [event for event, _ in log.events] == ["doing", "done"] * 2 + ["claimed"]
    assert log.events[1][1] == {"step": 0, "kind": "scripted", "waited": 3.0}
    assert log.events[2][1] == {"step": 1, "kind": "scripted"}
    assert log.events[4][1] == {
        "ports": [
            {"pci": PORT.pci, "port": 1, "proven": False},
            {"pci": PORT.pci, "port": 2, "proven": False},
        ]
    }


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (plan.StepFailed("it is stuck", hint="shake it", evidence=[SEEN]), "it is stuck"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (OSError("no number"), "no number"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_the_reason_of_a_failure_is_told(failure: Exception, why: str) -> None:
    log = Deaf()
    error = applied(Scripted(doing=failure), log=log)
    assert isinstance(error, RolledBack)
    with wording:
        assert error.message == f"claiming eth1 failed: {why}\nEverything is restored and verified."
    known = isinstance(failure, plan.StepFailed)
    assert error.hint == ("shake it" if known else None)
    assert error.evidence == ((SEEN,) if known else ())
    assert error.__cause__ is failure
    assert ("unwinding", {"why": why}) in log.events
    assert log.events[-2:] == [("closed", {"how": "unwound"}), ("archived", {})]


def test_what_does_not_last_is_a_failure_with_a_hint() -> None:
    error = applied(Scripted(), Scripted(ETH2, title="set it", lasts=False))
    assert isinstance(error, RolledBack)
    with wording:
        assert "another program has undone it: set it" in error.message
        assert "network manager" in (error.hint or "")


def test_a_kernel_bug_that_touched_nothing_is_a_refusal() -> None:
    """Only proofs were begun: there was nothing to undo."""
    bug = plan.StepFailed("it leaks", hint="reload", evidence=[SEEN], code="kernel-bug")
    host = FakeHost(two_ports())

    class Buggy(FakeSystem):
        def prove_free(self, port: PortId) -> FakeProof:
            raise bug

    host.systems = Buggy
    prove = plan.ProveFree(PORT, "manae_0", 1)
    with SignalGate() as signals:
        work = Workplace(host.system(signals.pause), Deaf(), signals, Followed())
        with pytest.raises(Refused) as caught:
            transition.apply([prove], work, wait=0.0, who="eth1")
    error = caught.value
    with wording:
        assert (
            error.message == "refused to claim eth1; nothing was touched\n  kernel-bug: it leaks."
        )
    assert (error.hint, error.evidence, error.code) == ("reload", (SEEN,), "kernel-bug")
    other = applied(Scripted(doing=bug))
    assert isinstance(other, RolledBack)
    assert other.code == "kernel-bug"


def test_what_could_not_be_undone_is_residue() -> None:
    log = Deaf()
    first = Scripted(undo_title="undo the first", undoing=OSError(12, "Cannot allocate memory"))
    error = applied(first, Scripted(ETH2, doing=KeyError("x")), log=log)
    assert isinstance(error, NotRestored)
    with wording:
        assert error.message.splitlines() == [
            "claiming eth1 failed: KeyError: 'x'",
            "Not restored:",
            "  undo the first: Cannot allocate memory",
        ]
    assert log.events[-1] == (
        "residue", {"lines": ["undo the first: Cannot allocate memory"]},
    )  # fmt: skip


def test_after_a_step_that_could_not_be_undone_the_ports_others_are_not_attempted() -> None:
    newest = Scripted(undoing=plan.StepFailed("stuck", hint="shake it", taken=True))
    silent = Traceless()
    older = Scripted(undo_title="undo the older")
    other = Scripted(ETH2)
    log = Deaf()
    with workplace(log) as work:
        result = transition.undo([newest, silent, older, other], work)
    with wording:
        assert result.residue == ["stuck", "not attempted: undo the older"]
    assert (result.taken, result.remedies, result.clean) == ([PORT], ["shake it"], False)
    assert list(result.undone) == [ETH2]
    assert log.events == [
        ("undoing", {"kind": "scripted", "port": str(PORT)}),
        ("undoing", {"kind": "scripted", "port": str(ETH2)}),
        ("undone", {"kind": "scripted", "port": str(ETH2), "ms": 1.0}),
    ]


@pytest.mark.parametrize("away", ["unplugged", "unread", "failing"])
def test_a_port_that_goes_before_it_is_restored_keeps_no_other_from_that(away: str) -> None:
    """It was given back a moment ago, and is looked for again."""
    log = Deaf()
    with workplace(log) as work:
        system = work.system
        assert isinstance(system, FakeSystem)
        states = [system.capture(port) for port in (PORT, ETH2)]
        looks = system.netdev

        def netdev(port: PortId) -> Any:
            if port == ETH2 and away == "failing":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            unread = Unread(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
            return unread if port == ETH2 and away == "unread" else looks(port)

        system.netdev = netdev  # type: ignore[method-assign]
        system.kernel.nics[1].present = away != "unplugged"
        system.kernel.messages = []
        result = UndoResult()
        transition._restore([plan.KeepState(state) for state in states], (), work, result)
    assert list(result.undone) == [PORT]
    assert result.undone[PORT][0].restored.counts
    assert (result.troubled, len(result.residue)) == ({ETH2}, 1)
    with wording:
        assert {
            "unplugged": "has no netdev here",
            "unread": "Too many open files",
            "failing": "Input/output error",
        }[away] in result.residue[0]


def test_a_data_path_that_cannot_be_looked_at_is_told_and_all_else_is_restored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def breaks(*_: object) -> dict[str, object]:
        raise KeyError("frames")

    monkeypatch.setattr(plan, "prove_path", breaks)
    result = UndoResult()
    with workplace(Deaf()) as work:
        step = plan.SetAdmin(PORT, "eth1", up=False, was=True, had_carrier=True, vmbus="uuid")
        transition._prove_path(step, work, result)
    assert (result.troubled, len(result.residue), result.undone) == ({PORT}, 1, {})
    assert "KeyError: 'frames'" in result.residue[0]


def test_settings_that_break_are_told_and_what_hangs_on_them_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def breaks(*_: object) -> bool:
        raise KeyError("names")

    monkeypatch.setattr(transition.recreate, "is_needed", breaks)
    result = UndoResult()
    with workplace(Deaf()) as work:
        kept = plan.KeepState(work.system.capture(PORT))
        down = plan.SetAdmin(PORT, "eth1", up=False, was=True, had_carrier=True)
        transition._set_up_recreated([kept, down], work, result)
    assert (result.troubled, len(result.residue)) == ({PORT}, 1)
    assert "KeyError: 'names'" in result.residue[0]


def test_a_lease_that_cannot_be_compared_is_for_the_restore_to_tell() -> None:
    result = UndoResult()
    with workplace(Deaf()) as work:
        step = plan.KeepState(work.system.capture(PORT))
        assert isinstance(work.system, FakeSystem)
        work.system.kernel.nics[0].present = False
        assert transition._with_lease(step, work, result) is step
    assert (result.residue, result.undone) == ([], {})


def test_a_port_that_is_not_up_stays_unmanaged() -> None:
    link = UnmanagedLink("eth1", 3, None, None, True)
    unmanage = [Unmanage(port, Unmanaged("NetworkManager", "0", (link,))) for port in (PORT, ETH2)]
    result = UndoResult()
    with workplace(Deaf()) as work:
        back = transition._give_back(unmanage, {PORT, ETH2}, work, result)
    assert (back, result.troubled, len(result.residue)) == (set(), {PORT, ETH2}, 2)


def test_a_port_that_cannot_be_looked_up_is_called_what_it_is() -> None:
    class Failing(FakeSystem):
        def netdev(self, port: PortId) -> Any:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    host = FakeHost(two_ports())
    assert transition.name_of(FakeSystem(host), PORT) == "eth1"
    assert transition.name_of(Failing(host), PORT) == str(PORT)


def test_a_step_that_leaves_the_netdev_usable_keeps_no_other_from_being_undone() -> None:
    newest = Beside(undoing=plan.StepFailed("the file stays"))
    with workplace(Deaf()) as work:
        result = transition.undo([newest, Scripted()], work)
    assert result.residue == ["the file stays"]
    assert len(result.undone[PORT]) == 1


def test_a_journal_that_fails_stops_no_undoing() -> None:
    with workplace(Deaf(append=False)) as work:
        result = transition.undo([Scripted(), Scripted(ETH2, residue=("left",))], work)
    assert list(result.undone) == [PORT, ETH2]
    assert result.residue == ["left"]
    assert result.log_failed == "No space left on device"


def test_steps_are_followed_with_how_they_ended() -> None:
    with workplace(Deaf()) as work, contextlib.suppress(ManactlError):
        transition.apply([Scripted(doing=KeyError("x"))], work, wait=0.0, who="eth1")
    follower = work.progress
    assert isinstance(follower, Followed)
    assert follower.steps == [("do it", 0.0, True), ("undo it", 0.0, False)]


@pytest.mark.parametrize("closes", ["released", "accepted", None])
def test_releasing_closes_the_journal_with_its_last_port(closes: str | None) -> None:
    log = Deaf()
    steps = [Scripted(), Scripted(ETH2)]
    with workplace(log) as work:
        assert transition.release(steps, work, [PORT], closes=closes, by={"uid": 7}).clean
    assert log.events[0] == ("releasing", {"ports": [PORT._asdict()], "by": {"uid": 7}})
    assert [event for event, _ in log.events[1:4]] == ["undoing", "undone", "released"]
    assert log.events[3][1] == {"pci": PORT.pci, "port": 1}
    closed = [("closed", {"how": closes}), ("archived", {})]
    assert log.events[4:] == (closed if closes else [])


def test_a_release_with_residue_closes_nothing() -> None:
    log = Deaf()
    with workplace(log) as work:
        result = transition.release(
            [Scripted(residue=("left",))], work, [PORT], closes="released", by={}
        )
    assert not result.clean
    assert log.events[-1] == ("residue", {"lines": ["left"]})


def test_a_release_whose_journal_cannot_be_closed_is_not_clean() -> None:
    with workplace(Deaf(archive=False)) as work:
        result = transition.release([Scripted()], work, [PORT], closes="released", by={})
    assert result.log_failed == "Read-only file system"


def test_what_is_undone_is_undone_newest_first() -> None:
    log = Deaf()
    with workplace(log) as work:
        transition.release(
            [Scripted(kind="first"), Scripted(kind="second")], work, [PORT], closes=None, by={}
        )
    assert [more["kind"] for event, more in log.events if event == "undone"] == ["second", "first"]


# --- what cannot come back ------------------------------------------------------------------

JOINED = route("2001:db8::77", 128, table=255, proto=2, kind=4)  # RTN_ANYCAST
LOST = (
    "anycast 2001:db8::77/128 dev eth1 table local proto kernel (anycast: only its program can "
    "join again, after it has left)"
)


def test_what_is_lost_keeps_no_journal_open_and_is_in_the_history(tmp_path: Path) -> None:
    kernel = two_ports()
    kernel.add("route", JOINED.body)
    done = claim(tmp_path, FakeHost(kernel), "eth1")
    assert done.plan is not None
    with wording:
        assert LOST in done.plan.lost
    (port,) = release(tmp_path, FakeHost(kernel)).ports
    with wording:
        assert [one.text for one in port.lost] == [LOST]
    assert nothing_open(tmp_path)
    (path,) = (tmp_path / "history").iterdir()
    with wording:
        assert [r["lost"] for r in journal.read(path).records if "lost" in r] == [[LOST]]


def test_a_failed_claim_tells_what_is_lost(tmp_path: Path) -> None:
    class Failing(FakeSystem):
        def prove_free(self, port: PortId) -> FakeProof:
            return FakeProof(ProofOutcome.CANNOT)

    kernel = two_ports()
    kernel.add("route", JOINED.body)
    host = FakeHost(kernel)
    host.systems = Failing
    with pytest.raises(RolledBack) as caught:
        claim(tmp_path, host, "eth1")
    with wording:
        assert caught.value.message.splitlines()[1:] == [
            "All else is restored and verified.",
            f"  cannot be restored: {LOST}",
        ]
    assert nothing_open(tmp_path)
