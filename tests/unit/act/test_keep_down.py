"""Whoever sets a claimed port up, it is set down again; what a release sets up stays up.

The claims are real ones of the fake machine, and their journals are files.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

from manactl.act.keep_down import AGAIN_FROM, AGAIN_TO, MISSED_FOR, Journals, Keeper, moments
from manactl.errors import Busy
from manactl.journal import file as journal
from manactl.journal import lock
from manactl.look.link_changes import LinkChange
from manactl.model.claim import NetnsId
from manactl.model.hold import (
    Apart,
    Attempt,
    Cause,
    Opened,
    Opener,
    Outcome,
    Target,
    Trouble,
    Unasked,
)
from manactl.model.port import Holder
from tests.unit.host import (
    NOW,
    FakeHost,
    FakeSystem,
    Fate,
    Killed,
    claim,
    furnished,
    paired,
    release,
    two_ports,
)
from tests.unit.kernel import Kernel, Nic, Synthetic
from tests.unit.wording import Coded, says, wording

IP = Opener(Holder(77, "ip", "/bin/ip", 0, "cron.service", None, None), False, 1.0)
WORKER = Opener(Holder(9, "kworker/0:1", None, 0, None, None, None), True, 1.0)


class Scene:
    """A hold on a fake machine, which is told what a kernel would announce."""

    def __init__(
        self, path: Path, kernel: Kernel, only: frozenset[tuple[str, int]] | None = None
    ) -> None:
        self.path, self.kernel = path, kernel
        self.host = FakeHost(kernel)
        self.system = FakeSystem(self.host)
        self.told: list[Attempt] = []
        self.signs: list[float] = []
        self.journals = Journals(path, self.host.boot_id(), self.host.netns())
        self.keeper = Keeper(
            self.journals,
            self.system,
            self.told.append,
            moments(path),
            watched=self.has_our_driver,
            alive=lambda: self.signs.append(self.kernel.clock),
            only=only,
            clock=lambda: NOW,
        )

    def has_our_driver(self, parent: str) -> bool:
        here = {nic.pci for nic in self.kernel.nics}
        return parent in here | {twin.uuid for twin in self.kernel.synthetics}

    def up(self, one: Nic | Synthetic, *openers: Opener) -> None:
        """Somebody sets it up."""
        if isinstance(one, Nic):
            self.kernel.set_up(one, True)
        else:
            self.kernel.set_synthetic(one, True)
        self.opened(*openers)

    def opened(self, *openers: Opener, failed: bool = False) -> None:
        """By each of them, one after the other."""
        for opener in openers:
            over = Opened(opener.thread, opener.at + 0.001, failed)
            self.keeper.opened([opener, over])

    def announce(self, *ones: Nic | Synthetic, went_up: bool = True, up: bool = True) -> None:
        self.keeper.changed(
            [
                LinkChange(
                    one.ifindex, one.name, up, went_up and up,
                    one.pci if isinstance(one, Nic) else one.uuid, went_up and not up,
                )
                for one in ones
            ],
            self.system.monotonic(),
        )  # fmt: skip

    def stories(self) -> list[tuple[str, str, str]]:
        return [(one.netdev, str(one.outcome), str(one.cause)) for one in self.told]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """eth1 is claimed."""
    one = Scene(tmp_path, furnished())
    claim(tmp_path, one.host)
    one.keeper.reload()
    return one


def test_what_somebody_sets_up_is_set_down_and_told(scene: Scene) -> None:
    (nic,) = scene.kernel.nics
    scene.up(nic, IP)
    assert nic.up
    scene.announce(nic)
    assert not nic.up
    (told,) = scene.told
    assert (told.netdev, told.outcome, told.cause) == ("eth1", Outcome.SET_DOWN, Cause.PROCESS)
    assert (told.openers, told.error, told.time) == ((IP,), None, NOW)
    assert told.target == Target(scene.keeper.targets[0].port, "eth1")
    assert told.ms is not None
    assert told.asked_ms is not None
    assert told.ms >= told.asked_ms


def test_the_request_comes_after_one_look_and_before_any_question(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound is in milliseconds on a slow machine: nothing else may come before."""
    (nic,) = scene.kernel.nics
    asked: list[str] = []
    for name in ("netdev", "synthetic", "set_up"):
        method = getattr(scene.system, name)

        def noted(*words: object, _name: str = name, _method: Any = method) -> object:
            asked.append(_name)
            return _method(*words)

        monkeypatch.setattr(scene.system, name, noted)
    scene.up(nic, IP)
    scene.announce(nic)
    assert asked == ["netdev", "set_up"]


@pytest.mark.parametrize("how", ["announced", "looked", "again"])
def test_nothing_is_told_before_all_ports_are_down(tmp_path: Path, how: str) -> None:
    """Telling may take a while: a logger that takes nothing, a terminal that is stopped."""
    scene = Scene(tmp_path, two_ports())
    claim(tmp_path, scene.host, "eth1", "eth2")
    scene.keeper.reload()
    up: list[list[str]] = []
    scene.keeper._tell = lambda _: up.append([nic.name for nic in scene.kernel.nics if nic.up])
    for nic in scene.kernel.nics:
        scene.up(nic, IP)
    if how == "looked":
        scene.keeper.look()
    elif how == "announced":
        scene.announce(*scene.kernel.nics)
    else:
        with lock.moment(tmp_path, scene.kernel.nics[0].pci):
            scene.announce(*scene.kernel.nics)
        scene.keeper.again()
    assert up == [[], []]


@pytest.mark.parametrize("how", ["announced", "looked", "again"])
def test_between_ports_that_are_slow_it_shows_that_it_lives(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, two_ports())
    claim(tmp_path, scene.host, "eth1", "eth2")
    scene.keeper.reload()
    for nic in scene.kernel.nics:
        scene.up(nic, IP)
    if how == "again":
        with lock.moment(tmp_path, scene.kernel.nics[0].pci):
            scene.announce(*scene.kernel.nics)
    set_up = scene.system.set_up

    def slow(ifindex: int, up: bool) -> None:
        scene.kernel.clock += 200.0
        set_up(ifindex, up)

    monkeypatch.setattr(scene.system, "set_up", slow)
    start = scene.kernel.clock
    if how == "looked":
        scene.keeper.look()
    elif how == "announced":
        scene.announce(*scene.kernel.nics)
    else:
        scene.keeper.again()
    assert scene.signs == [start + 200.0, start + 400.0]


def test_each_attempt_has_its_own_openers(scene: Scene) -> None:
    (nic,) = scene.kernel.nics
    other = Opener(replace_pid(IP.process, 78), False, 2.0)
    scene.up(nic, IP)
    scene.announce(nic)
    scene.up(nic, other)
    scene.announce(nic)
    scene.up(nic)
    scene.announce(nic)
    assert [one.openers for one in scene.told] == [(IP,), (other,), ()]
    assert [one.cause for one in scene.told] == [Cause.PROCESS, Cause.PROCESS, Cause.UNKNOWN]


def test_who_was_refused_by_the_kernel_is_not_named(scene: Scene) -> None:
    (nic,) = scene.kernel.nics
    scene.opened(IP, failed=True)  # a raw queue pair had the vport
    other = Opener(replace_pid(IP.process, 78), False, 2.0)
    scene.up(nic, other)
    scene.announce(nic)
    assert [one.openers for one in scene.told] == [(other,)]


@pytest.mark.parametrize("returned", [False, True])
def test_who_is_about_to_open_one_port_is_not_forgotten_with_another(
    tmp_path: Path, returned: bool
) -> None:
    """Between an announcement and when it is read the next open may begin, and return."""
    scene = Scene(tmp_path, two_ports())
    claim(tmp_path, scene.host, "eth1")
    scene.keeper.reload()
    one, other = scene.kernel.nics
    next_one = Opener(replace_pid(WORKER.process, 10), True, 1.2, thread=10)
    scene.opened(WORKER)
    scene.keeper.opened([next_one])
    if returned:
        scene.keeper.opened([Opened(10, 1.3)])
    scene.announce(other)
    scene.kernel.set_up(one, True)
    if not returned:
        scene.keeper.opened([Opened(10, 1.3)])
    scene.announce(one)
    assert [(told.netdev, told.openers) for told in scene.told] == [("eth1", (next_one,))]


@pytest.mark.parametrize("parent", ["virtio0", "0000:03:00.0", None])
def test_a_netdev_of_another_driver_takes_no_opener(scene: Scene, parent: str | None) -> None:
    (nic,) = scene.kernel.nics
    scene.up(nic, IP)
    scene.keeper.changed([LinkChange(99, "ens3", True, True, parent)], scene.system.monotonic())
    scene.announce(nic)
    assert [one.openers for one in scene.told] == [(IP,)]


def test_who_was_not_asked_takes_an_announcement_and_no_name(tmp_path: Path) -> None:
    scene = Scene(tmp_path, two_ports())
    claim(tmp_path, scene.host, "eth1", "eth2")
    scene.keeper.reload()
    one, other = scene.kernel.nics
    scene.up(one)
    scene.keeper.opened([Unasked(5, 1.0), Opened(5, 1.001)])
    scene.up(other, IP)
    scene.announce(one)
    scene.announce(other)
    assert [(told.netdev, told.openers) for told in scene.told] == [("eth1", ()), ("eth2", (IP,))]


def replace_pid(holder: Holder, pid: int) -> Holder:
    return holder._replace(pid=pid)


def test_one_attempt_is_told_once_however_often_it_is_announced(scene: Scene) -> None:
    (nic,) = scene.kernel.nics
    scene.up(nic, IP)
    scene.announce(nic)
    scene.announce(nic, went_up=False)  # its carrier, an address: said while it was up
    scene.announce(nic, up=False)
    scene.keeper.look()
    assert scene.stories() == [("eth1", "set-down", "process")]


def test_what_is_up_is_set_down_though_its_announcement_was_lost(scene: Scene) -> None:
    (nic,) = scene.kernel.nics
    scene.up(nic)
    scene.keeper.look()
    assert not nic.up
    scene.announce(nic)  # it was only late: told already
    assert scene.stories() == [("eth1", "set-down", "found")]
    scene.up(nic)
    scene.announce(nic)
    assert scene.stories()[1:] == [("eth1", "set-down", "unknown")]


def test_what_a_look_finds_is_told_with_all_who_may_have_done_it(tmp_path: Path) -> None:
    """Nothing says whose open was of which port; who comes later is of another time."""
    scene = Scene(tmp_path, two_ports())
    claim(tmp_path, scene.host, "eth1", "eth2")
    scene.keeper.reload()
    one, two = scene.kernel.nics
    other = Opener(replace_pid(IP.process, 78), False, 2.0)
    scene.up(one, IP)
    scene.up(two, other)
    scene.keeper.look()
    scene.up(one)
    scene.keeper.look()
    assert [told.openers for told in scene.told] == [(IP, other), (IP, other), ()]


def test_another_hold_may_be_faster(scene: Scene) -> None:
    (nic,) = scene.kernel.nics
    scene.up(nic, IP)
    scene.kernel.set_up(nic, False)
    scene.announce(nic)
    assert scene.stories() == [("eth1", "down-already", "process")]
    assert scene.told[0].ms is None


def test_another_hold_is_faster_after_one_that_was_found(scene: Scene) -> None:
    (nic,) = scene.kernel.nics
    scene.up(nic)  # before there was anybody to hear it
    scene.keeper.look()
    scene.announce(nic, up=False)  # that it was set down
    scene.up(nic, IP)
    scene.kernel.set_up(nic, False)
    scene.announce(nic)
    assert scene.stories() == [("eth1", "set-down", "found"), ("eth1", "down-already", "process")]


def test_a_late_announcement_is_told_once_though_an_older_one_comes_before_it(scene: Scene) -> None:
    (nic,) = scene.kernel.nics
    scene.up(nic, IP)
    scene.announce(nic)
    scene.up(nic)
    scene.announce(nic, went_up=False)  # its carrier, which shows it up again
    scene.announce(nic, up=False)  # of the first
    scene.announce(nic)  # of the second, too late
    scene.announce(nic, up=False)
    assert scene.stories() == [("eth1", "set-down", "process"), ("eth1", "set-down", "found")]


@pytest.mark.parametrize("others", [("eth1", "eth2"), ("eth1",)], ids=["claimed", "not claimed"])
def test_what_happens_to_another_port_of_the_function_is_not_its_own(
    tmp_path: Path, others: tuple[str, ...]
) -> None:
    scene = Scene(tmp_path, two_ports())
    claim(tmp_path, scene.host, *others)
    scene.keeper.reload()
    one, other = scene.kernel.nics
    scene.up(one)
    scene.announce(one, went_up=False)  # its carrier, which shows it up before that is announced
    scene.announce(other, up=False)
    scene.announce(one)  # too late: told already
    assert scene.stories() == [("eth1", "set-down", "found")]


def test_what_is_announced_of_a_netdev_that_is_gone_is_not_of_the_one_recreated(
    scene: Scene,
) -> None:
    (nic,) = scene.kernel.nics
    scene.up(nic)
    scene.keeper.look()
    nic.ifindex = 33
    scene.up(nic, IP)
    scene.kernel.set_up(nic, False)  # another hold was faster
    scene.announce(nic)
    assert scene.stories() == [("eth1", "set-down", "found"), ("eth1", "down-already", "process")]


def test_its_carrier_does_not_hide_that_it_went_up_while_another_hold_was_at_it(
    scene: Scene,
) -> None:
    """Its carrier is announced apart, when the other one has set it down already."""
    (nic,) = scene.kernel.nics
    scene.up(nic, IP)
    with lock.moment(scene.path, nic.pci):
        scene.announce(nic)
    assert scene.told == []
    scene.kernel.set_up(nic, False)
    scene.announce(nic, went_up=False)
    assert scene.stories() == [("eth1", "down-already", "process")]


def test_what_is_not_claimed_is_left_alone(tmp_path: Path) -> None:
    scene = Scene(tmp_path, two_ports())
    claim(tmp_path, scene.host)
    scene.keeper.reload()
    one, other = scene.kernel.nics
    assert other.up
    scene.announce(other)
    scene.keeper.look()
    assert (one.up, other.up, scene.told) == (False, True, [])


def test_only_the_ports_that_are_named_are_kept_down(tmp_path: Path) -> None:
    scene = Scene(tmp_path, two_ports(), only=frozenset({("7870:00:00.0", 2)}))
    claim(tmp_path, scene.host, "eth1", "eth2")
    scene.keeper.reload()
    one, other = scene.kernel.nics
    scene.up(one)
    scene.up(other)
    scene.announce(one, other)
    assert (one.up, other.up) == (True, False)


def test_another_nic_in_the_slot_is_left_alone(scene: Scene) -> None:
    (nic,) = scene.kernel.nics
    nic.mac = "00:0d:3a:ff:ff:ff"
    scene.up(nic)
    scene.announce(nic)
    scene.keeper.look()
    assert nic.up
    assert scene.told == []


def test_a_claim_that_comes_later_is_kept_down_and_one_that_goes_is_not(tmp_path: Path) -> None:
    scene = Scene(tmp_path, furnished())
    (nic,) = scene.kernel.nics
    assert scene.keeper.reload() is False
    claim(tmp_path, scene.host)
    assert scene.keeper.reload() is True
    assert [target.name for target in scene.keeper.targets] == ["eth1"]
    assert scene.keeper.reload() is False
    release(tmp_path, scene.host)
    assert nic.up
    scene.announce(nic)  # before the journals were read again
    assert nic.up
    assert scene.keeper.reload() is True
    assert (scene.keeper.targets, scene.told, nic.up) == ((), [], True)


def test_while_another_manactl_is_at_work_nothing_is_done(scene: Scene) -> None:
    (nic,) = scene.kernel.nics
    with lock.functions(scene.path, [nic.pci]):
        scene.up(nic, IP)
        scene.announce(nic)
        pauses = []
        for _ in range(6):
            pauses.append(scene.keeper.again_in)
            scene.keeper.again()
        assert (nic.up, scene.told) == (True, [])
    assert pauses[0] == AGAIN_FROM
    assert pauses[-1] == AGAIN_TO
    scene.keeper.again()
    assert (nic.up, scene.keeper.again_in) == (False, None)
    assert scene.stories() == [("eth1", "set-down", "process")]
    with lock.functions(scene.path, [nic.pci]):
        scene.up(nic)
        scene.announce(nic)
        assert scene.keeper.again_in == AGAIN_FROM, "from the start again"


@pytest.mark.parametrize("later", [1.0, 8.0])
def test_how_long_it_took_counts_from_when_it_was_announced_first(
    scene: Scene, later: float
) -> None:
    (nic,) = scene.kernel.nics
    with lock.functions(scene.path, [nic.pci]):
        scene.up(nic, IP)
        scene.announce(nic)
        scene.kernel.clock += 2.0
        scene.keeper.look()  # which nothing was announced of
        scene.kernel.clock += later
        scene.announce(nic)
        scene.kernel.clock += 0.5
    scene.keeper.again()
    assert [one.ms for one in scene.told] == [pytest.approx((2.5 + later) * 1000, abs=1.0)]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES, errno.EROFS])
def test_what_has_no_lock_for_now_is_set_down_as_soon_as_there_is_one(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (nic,) = scene.kernel.nics
    scene.up(nic, IP)
    opens = os.open

    def fails(path: Any, *words: Any, **more: Any) -> int:
        if str(path).endswith(".hold"):
            raise OSError(number, os.strerror(number))
        return opens(path, *words, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fails)
        scene.announce(nic)
        scene.keeper.again()
    assert (nic.up, scene.told) == (True, [])
    assert list(scene.keeper.unlocked) == [nic.pci]
    assert os.strerror(number) in scene.keeper.unlocked[nic.pci].text
    assert scene.keeper.again_in is not None
    scene.keeper.again()
    assert (nic.up, scene.keeper.unlocked, scene.keeper.again_in) == (False, {}, None)
    assert scene.stories() == [("eth1", "set-down", "process")]


def test_a_release_in_the_same_moment_wins(scene: Scene) -> None:
    """It is announced that the port is up while the release has not ended."""
    (nic,) = scene.kernel.nics

    def announced() -> None:
        scene.announce(nic, up=nic.up)
        scene.keeper.look()
        scene.keeper.again()

    # After each thing that it does, in the order of their numbers.
    fate = Fate(at=dict.fromkeys(range(1, 200), announced))
    host = FakeHost(scene.kernel, fate)
    with host.alive():
        release(scene.path, host)
    assert fate.operations > 5
    scene.keeper.again()
    scene.keeper.reload()
    assert (nic.up, scene.told, scene.keeper.again_in) == (True, [], None)


@pytest.mark.parametrize("terminate", [False, True])
def test_while_a_release_waits_for_a_holder_the_other_ports_are_kept_down(
    tmp_path: Path, terminate: bool
) -> None:
    scene = Scene(tmp_path, two_ports())
    claim(tmp_path, scene.host, "eth1", "eth2")
    scene.keeper.reload()
    one, other = scene.kernel.nics
    one.holders = [77]
    host = FakeHost(scene.kernel)

    def meanwhile() -> None:
        scene.up(other, IP)
        scene.announce(other)
        assert not other.up
        one.holders = []

    host.at_pause = host.at_sigterm = meanwhile
    release(tmp_path, host, "eth1", wait=30.0, terminate=terminate)
    assert (one.up, other.up) == (True, False)
    assert set(scene.stories()) == {("eth2", "set-down", "process")}


def test_while_a_claim_waits_the_other_ports_are_kept_down(tmp_path: Path) -> None:
    scene = Scene(tmp_path, two_ports())
    claim(tmp_path, scene.host, "eth1")
    scene.keeper.reload()
    one, other = scene.kernel.nics
    other.eqs_lost = True
    host = FakeHost(scene.kernel)

    def meanwhile() -> None:
        scene.up(one, IP)
        scene.announce(one)
        assert not one.up
        other.eqs_lost = False

    host.at_pause = meanwhile
    claim(tmp_path, host, "eth2", wait=60.0)
    assert (one.up, other.up) == (False, False)
    assert scene.stories() == [("eth1", "set-down", "process")]


def test_a_release_that_had_to_wait_for_a_hold_looks_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    (nic,) = scene.kernel.nics
    with contextlib.ExitStack() as moment:
        moment.enter_context(lock.moment(scene.path, nic.pci))

        since = []

        def taken(_: float) -> None:
            nic.holders = [77]
            since.append(scene.kernel.clock)
            moment.close()

        monkeypatch.setattr(time, "sleep", taken)
        with pytest.raises(Busy, match=says("a raw QP still has its vport"), check=Coded("holder")):
            release(scene.path, FakeHost(scene.kernel), wait=30.0)
    (then,) = since
    assert scene.kernel.clock - then < 1, "hold waits for us: no holder is waited for"
    assert [content.phase for content in map(journal.read, journal.paths(scene.path))] == [
        "claimed"
    ]


def test_a_claim_that_had_to_wait_for_a_hold_looks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = furnished()
    (nic,) = kernel.nics
    with lock.functions(tmp_path, [nic.pci]):
        pass
    with contextlib.ExitStack() as moment:
        moment.enter_context(lock.moment(tmp_path, nic.pci))

        def changed(_: float) -> None:
            nic.mtu = 1400
            moment.close()

        monkeypatch.setattr(time, "sleep", changed)
        claim(tmp_path, FakeHost(kernel))
    release(tmp_path, FakeHost(kernel))
    assert nic.mtu == 1400


def test_a_claim_that_was_interrupted_keeps_nothing_down(tmp_path: Path) -> None:
    scene = Scene(tmp_path, furnished())
    (nic,) = scene.kernel.nics
    host = FakeHost(scene.kernel, Fate(dies_at=4))
    with host.alive(), pytest.raises(Killed):
        claim(tmp_path, host)
    scene.keeper.reload()
    assert scene.keeper.targets == ()
    scene.kernel.set_up(nic, True)
    scene.announce(nic)
    assert nic.up


def test_what_cannot_be_set_down_is_tried_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    (nic,) = scene.kernel.nics

    def refuses(*_: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    scene.up(nic, IP)
    with monkeypatch.context() as patch:
        patch.setattr(scene.system, "set_up", refuses)
        scene.announce(nic)
        scene.keeper.again()
    assert [one.error for one in scene.told] == ["Device or resource busy"] * 2
    assert [one.still for one in scene.told] == [False, True], "nobody has set it up once more"
    assert scene.keeper.again_in is not None
    scene.keeper.again()
    assert scene.stories()[-1] == ("eth1", "set-down", "process")
    assert (nic.up, scene.keeper.again_in) == (False, None)
    assert not scene.told[-1].still
    scene.kernel.set_up(nic, True)
    with monkeypatch.context() as patch:
        patch.setattr(scene.system, "set_up", refuses)
        scene.keeper.look()
    assert (scene.told[-1].error, scene.told[-1].still) == ("Device or resource busy", False)


def test_who_sets_up_again_what_could_not_be_set_down_is_told(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    (nic,) = scene.kernel.nics

    def refuses(*_: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(scene.system, "set_up", refuses)
    scene.up(nic, IP)
    scene.announce(nic)
    scene.keeper.look()
    scene.announce(nic, went_up=False)  # its carrier
    scene.kernel.set_up(nic, False)
    scene.up(nic, IP)
    scene.announce(nic)
    assert [one.still for one in scene.told] == [False, True, True, False]


@pytest.mark.parametrize("announced", [True, False])
def test_what_could_not_be_looked_at_is_looked_at_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, announced: bool
) -> None:
    """Without descriptors it is not found, and nothing is announced when there are some again."""
    (nic,) = scene.kernel.nics
    scene.up(nic, IP)
    with monkeypatch.context() as patch:
        patch.setattr(scene.system, "netdev", lambda _: None)
        if announced:
            scene.announce(nic)
        else:
            scene.keeper.reload()
        assert scene.keeper.again_in == AGAIN_FROM
        scene.keeper.again()
    assert (nic.up, scene.told) == (True, [])
    assert scene.keeper.again_in is not None
    scene.keeper.again()
    assert (nic.up, scene.keeper.again_in) == (False, None)
    assert scene.stories() == [("eth1", "set-down", "process" if announced else "found")]


@pytest.mark.parametrize("trouble", ["no lock", "not found", "refused"])
def test_of_a_claim_that_has_ended_nothing_is_left_to_do(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    (nic,) = scene.kernel.nics

    def fails(*_: object, **_more: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        if trouble == "no lock":
            patch.setattr(lock, "_open", fails)
        elif trouble == "not found":
            patch.setattr(scene.system, "netdev", lambda _: None)
        else:
            patch.setattr(scene.system, "set_up", fails)
        scene.up(nic, IP)
        scene.announce(nic)
    assert scene.keeper.again_in is not None
    assert list(scene.keeper.unlocked) == ([nic.pci] if trouble == "no lock" else [])
    for path in journal.paths(scene.path):
        path.unlink()
    assert scene.keeper.reload() is True
    assert (scene.keeper.targets, scene.keeper.unlocked) == ((), {})
    assert scene.keeper.again_in is None
    assert nic.up


def test_what_is_gone_is_not_looked_for_for_ever(scene: Scene) -> None:
    (nic,) = scene.kernel.nics
    nic.present = False
    scene.keeper.look()
    scene.kernel.clock += MISSED_FOR - 1
    scene.keeper.again()
    assert scene.keeper.again_in is not None
    scene.kernel.clock += 1
    scene.keeper.again()
    assert (scene.keeper.again_in, scene.told) == (None, [])


# --- pairs


@pytest.fixture(params=["down", "keep"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    one = Scene(tmp_path, paired())
    claim(tmp_path, one.host, synthetic=request.param)
    one.keeper.reload()
    return one


@pytest.mark.parametrize("pair", ["down"], indirect=True)
def test_of_a_pair_that_is_down_both_are_kept_down(pair: Scene) -> None:
    (twin,), (vf,) = pair.kernel.synthetics, pair.kernel.nics
    pair.up(twin, IP, IP)  # hv_netvsc opens its VF with it
    assert (twin.up, vf.up) == (True, True)
    pair.announce(vf, twin)
    assert (twin.up, vf.up) == (False, False)
    assert pair.stories() == [("eth1", "set-down", "process"), ("eth0", "set-down", "process")]
    assert [one.target.vmbus for one in pair.told] == [None, twin.uuid]


@pytest.mark.parametrize("pair", ["down"], indirect=True)
def test_the_vf_is_announced_before_the_netdev_that_was_asked_for(pair: Scene) -> None:
    (twin,), (vf,) = pair.kernel.synthetics, pair.kernel.nics
    pair.up(twin, IP, IP)
    pair.announce(vf)
    pair.announce(twin)
    assert [(one.netdev, one.openers) for one in pair.told] == [("eth1", (IP,)), ("eth0", (IP,))]
    pair.up(twin)
    pair.announce(vf)
    assert pair.told[-1].openers == (), "that was another time"


@pytest.mark.parametrize("pair", ["keep"], indirect=True)
def test_a_synthetic_netdev_that_is_kept_stays_up(pair: Scene) -> None:
    (twin,), (vf,) = pair.kernel.synthetics, pair.kernel.nics
    pair.up(vf, IP)
    pair.announce(vf, twin)
    assert (twin.up, vf.up) == (True, False)
    assert pair.stories() == [("eth1", "set-down", "process")]


@pytest.mark.parametrize("pair", ["keep"], indirect=True)
@pytest.mark.parametrize("openers", [(), (WORKER,)])
@pytest.mark.parametrize("looked", ["", "come", "opened"])
def test_what_hv_netvsc_opens_after_servicing_is_told_as_that(
    pair: Scene, openers: tuple[Opener, ...], looked: str
) -> None:
    """Also where a look has found it before that was announced."""
    (vf,) = pair.kernel.nics
    pair.keeper.look()
    pair.kernel.service(vf, 33)
    if looked == "come":
        pair.kernel.set_up(vf, False)
        pair.keeper.look()
    pair.kernel.set_up(vf, True)
    pair.opened(*openers)
    if looked == "opened":
        pair.keeper.look()
    pair.announce(vf)
    assert not vf.up
    assert pair.stories() == [("eth1", "set-down", "hv_netvsc")]


@pytest.mark.parametrize("pair", ["keep"], indirect=True)
def test_who_opened_a_vf_that_cannot_be_looked_up_yet_is_named_with_what_follows(
    pair: Scene,
) -> None:
    (vf,) = pair.kernel.nics
    pair.keeper.look()
    pair.kernel.service(vf, 33)
    pair.kernel.set_up(vf, True)
    pair.opened(WORKER)
    vf.present = False
    pair.announce(vf)
    assert pair.told == []
    vf.present = True
    pair.announce(vf, went_up=False)
    assert pair.stories() == [("eth1", "set-down", "hv_netvsc")]
    assert pair.told[0].openers == (WORKER,)


@pytest.mark.parametrize("pair", ["keep"], indirect=True)
def test_of_the_workers_of_hv_netvsc_the_last_is_named(pair: Scene) -> None:
    """One of them has opened it; others come for VFs that nothing is announced of here."""
    (vf,) = pair.kernel.nics
    pair.keeper.look()
    pair.kernel.service(vf, 33)
    pair.kernel.set_up(vf, True)
    last = Opener(replace_pid(WORKER.process, 10), True, 2.0, thread=10)
    with lock.moment(pair.path, vf.pci):
        pair.opened(WORKER)
        pair.announce(vf)
        pair.opened(last)
        pair.announce(vf)
    pair.keeper.again()
    assert pair.stories() == [("eth1", "set-down", "hv_netvsc")]
    assert pair.told[0].openers == (last,)


@pytest.mark.parametrize("seen", ["announced", "looked at"])
@pytest.mark.parametrize("pair", ["keep"], indirect=True)
def test_what_was_missed_of_a_vf_that_went_again_is_of_another_time(pair: Scene, seen: str) -> None:
    (vf,) = pair.kernel.nics
    pair.keeper.look()
    vf.present = False
    pair.opened(WORKER)
    pair.announce(vf)
    pair.kernel.service(vf, 33)
    vf.present = True
    if seen == "announced":
        pair.announce(vf, up=False)  # it has come
    else:
        pair.kernel.set_up(vf, False)
        pair.keeper.look()
    last = Opener(replace_pid(IP.process, 10), False, 2.0)
    pair.up(vf, last)
    pair.announce(vf)
    assert [(told.cause, told.openers) for told in pair.told] == [(Cause.PROCESS, (last,))]


# --- journals


def targets(path: Path, host: FakeHost, boot: str | None = None, netns: int | None = None) -> int:
    own = host.netns()
    where = own if netns is None else NetnsId(netns, netns)
    return len(Journals(path, boot or host.boot_id(), where).targets())


def test_claims_of_another_boot_or_namespace_are_not_ours(scene: Scene) -> None:
    assert targets(scene.path, scene.host) == 1
    assert targets(scene.path, scene.host, boot="boot-2") == 0
    assert targets(scene.path, scene.host, netns=4711) == 0
    there = Journals(scene.path, scene.host.boot_id(), NetnsId(4711, 4711))
    assert there.targets() == ()
    assert [str(port) for port in there.elsewhere] == ["7870:00:00.0:1"]
    there.targets()
    assert [str(port) for port in there.elsewhere] == ["7870:00:00.0:1"], "though not read again"


def test_a_journal_that_cannot_be_read_is_told(scene: Scene) -> None:
    (path,) = journal.paths(scene.path)
    text = path.read_bytes()
    path.write_bytes(text.replace(b'"claimed"', b'"clamied"'))
    new = Journals(scene.path, scene.host.boot_id(), scene.host.netns())
    assert (new.targets(), list(new.unread)) == ((), [path])
    known = scene.keeper.targets
    assert known
    assert scene.journals.targets() == known, "what it was when it could be read"
    assert scene.journals.doubtful == frozenset(known)
    assert list(scene.journals.unread) == [path]
    with wording:
        assert "corrupt" in scene.journals.unread[path].text
    path.write_bytes(text)
    assert len(scene.journals.targets()) == 1
    assert (scene.journals.unread, scene.journals.doubtful) == ({}, frozenset())


def test_what_a_claim_wants_that_cannot_be_read_now_is_done_when_it_can(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    (nic,) = scene.kernel.nics
    (path,) = journal.paths(scene.path)
    os.utime(path, ns=(1, 1))  # written to
    scene.up(nic, IP)

    def fails(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(journal, "read", fails)
        assert scene.keeper.reload() is True
        assert [one.name for one in scene.keeper.targets] == ["eth1"]
        assert scene.keeper.apart == Apart(
            unread=(Trouble(str(path), None, errno.EMFILE, ""),), doubtful=scene.keeper.targets
        )
        scene.announce(nic)
        scene.keeper.again()
        assert (nic.up, scene.told) == (True, []), "a release may have begun"
        assert scene.keeper.again_in is not None
    scene.keeper.again()
    assert (nic.up, scene.keeper.again_in) == (False, None)
    assert scene.stories() == [("eth1", "set-down", "process")]
    assert scene.keeper.reload() is True
    assert scene.keeper.apart == Apart()


def test_a_claim_that_has_not_changed_is_kept_down_though_nothing_can_be_listed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    (nic,) = scene.kernel.nics

    def fails(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(journal, "paths", fails)
        scene.keeper.reload()
        assert [one.name for one in scene.keeper.targets] == ["eth1"]
        assert scene.keeper.apart == Apart(
            unlisted=Trouble(str(scene.path), None, errno.EACCES, "")
        )
        scene.up(nic, IP)
        scene.announce(nic)
        assert not nic.up
    release(scene.path, scene.host)
    with monkeypatch.context() as patch:
        patch.setattr(journal, "paths", fails)
        scene.announce(nic)
        scene.keeper.reload()
        assert (nic.up, scene.keeper.targets) == (True, ()), "its journal was put away"


def test_what_is_claimed_and_not_kept_down_is_known_as_that(tmp_path: Path) -> None:
    scene = Scene(tmp_path, two_ports(), only=frozenset({("7870:00:00.0", 2)}))
    claim(tmp_path, scene.host, "eth1")
    scene.keeper.reload()
    assert scene.keeper.targets == ()
    assert [str(port) for port in scene.keeper.apart.not_given] == ["7870:00:00.0:1"]
    assert not scene.keeper.apart.unread


def test_a_journal_is_read_again_only_when_it_has_changed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = []
    read = journal.read

    def counted(path: Path) -> journal.Content:
        count.append(path)
        return read(path)

    monkeypatch.setattr(journal, "read", counted)
    scene.journals.targets()
    assert count == []
    with contextlib.closing(journal.Journal.open(journal.paths(scene.path)[0])) as log:
        log.append("releasing", ports=[], by={})
    assert len(scene.journals.targets()) == 1, "releasing none of its ports"
    assert len(count) == 1


def test_without_a_directory_there_is_nothing(tmp_path: Path) -> None:
    none = Journals(tmp_path / "none", "boot-1", NetnsId(1, 1))
    assert (none.targets(), none.unread) == ((), {})


@pytest.mark.parametrize("away", ["gone", "unread"])
def test_a_journal_that_cannot_be_read_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    scene = Scene(tmp_path, two_ports())
    first = claim(tmp_path, scene.host, "eth1").journal
    claim(tmp_path, scene.host, "eth2")
    assert first is not None
    paths = sorted(journal.paths(tmp_path), key=lambda path: path != first)
    monkeypatch.setattr(journal, "paths", lambda _: paths)
    if away == "gone":
        first.unlink()
    else:
        first.write_bytes(b"not a journal\n" + first.read_bytes())
    assert [target.port.port for target in scene.journals.targets()] == [2]
