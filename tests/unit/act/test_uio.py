"""Claims with --synthetic=uio: the synthetic netdev is destroyed, and made again at release.

What stands on it comes back in tests/unit/act/test_recreate.py, tests/netns and the lab.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from pathlib import Path

import pytest

from manactl.act import step_words
from manactl.act.plan import StepFailed, steps_from_json
from manactl.act.uio import BindUio
from manactl.errors import Busy, NotRestored, Refused, RolledBack
from manactl.journal import file as journal
from manactl.journal import lock
from manactl.look.netdevs_of import Found, Unread
from manactl.model.claim import NetnsId
from manactl.render import outcome
from tests.unit.fakes import PORT
from tests.unit.host import FakeHost, FakeSystem, Fate, Followed, Killed, claim, paired, release
from tests.unit.kernel import UUID, Kernel
from tests.unit.wording import Coded, says, wording

UIO = "uio_hv_generic"


def claimed(tmp_path: Path, kernel: Kernel, fate: Fate | None = None) -> None:
    claim(tmp_path, FakeHost(kernel, fate), "eth0", synthetic="uio")


@pytest.mark.wording
def test_the_result_tells_that_the_device_went_to_uio(tmp_path: Path) -> None:
    result = claim(tmp_path, FakeHost(paired()), "eth0", synthetic="uio")
    (line,) = outcome.claim_lines(result, dry_run=False)
    assert "eth0 is gone until release" in line
    assert "--synthetic=uio" in line


def test_the_device_goes_to_uio_and_its_netdev_comes_back_whole(tmp_path: Path) -> None:
    kernel = paired()
    (twin,) = kernel.synthetics
    before = kernel.picture()
    claimed(tmp_path, kernel)
    assert (twin.driver, twin.present, kernel.nics[0].up) == (UIO, False, False)
    (port,) = release(tmp_path, FakeHost(kernel), "eth0").ports
    assert (twin.driver, twin.name, twin.ifindex, twin.path) == ("hv_netvsc", "eth0", 140, "vf")
    assert not kernel.takes_network
    assert kernel.picture() == before
    assert port.residue == ()
    with wording:
        assert [loss.text.split(":")[0] for loss in port.lost] == [
            "eth0 was re-created (ifindex 40 -> 140)"
        ]


@pytest.mark.parametrize("cookie", [17, None])
def test_it_is_refused_where_the_netdev_would_come_back_elsewhere(
    tmp_path: Path, cookie: int | None
) -> None:
    """hv_netvsc makes netdevs in the initial network namespace; which one it is may be unknown."""
    kernel = paired()
    before = kernel.picture()
    host = FakeHost(kernel)
    host.here = NetnsId(host.here.inode, cookie)
    for more in ({}, {"allow": ["foreign-netns"]}, {"dry_run": True}):
        with pytest.raises(Refused, match=says("--synthetic=down"), check=Coded("foreign-netns")):
            claim(tmp_path, host, "eth0", synthetic="uio", **more)
    assert (kernel.picture(), kernel.synthetics[0].ifindex) == (before, 40)
    assert journal.paths(tmp_path) == []
    claim(tmp_path, host, "eth0", synthetic="down")
    release(tmp_path, host)
    assert kernel.picture() == before


def test_a_pair_that_was_down_is_down_again(tmp_path: Path) -> None:
    kernel = paired()
    kernel.set_synthetic(kernel.synthetics[0], False)
    before = kernel.picture()
    (plan,) = [claim(tmp_path, FakeHost(kernel), "eth0", synthetic="uio", dry_run=True).plan]
    with wording:
        assert any("stays down at release" in note for note in plan.notes)
    assert not any("nothing to restore" in note for note in plan.notes)
    saved = [line for line in plan.restores if "address" in line]
    assert saved, "what is on it is destroyed with it"
    claimed(tmp_path, kernel)
    assert kernel.synthetics[0].driver == UIO
    (plan,) = release(tmp_path, FakeHost(kernel), dry_run=True).plans
    assert set(saved) <= set(plan.restores)
    result = release(tmp_path, FakeHost(kernel))
    assert kernel.picture() == before
    assert not result.ports[0].up
    text = "\n".join(outcome.release_lines(result, verb="release", dry_run=False))
    with wording:
        assert "eth0 released: down, as it was before the claim" in text


def test_who_has_the_uio_device_open_is_busy_and_nothing_is_touched(tmp_path: Path) -> None:
    kernel = paired()
    claimed(tmp_path, kernel)
    (twin,) = kernel.synthetics
    twin.opened = [4711]
    with pytest.raises(
        Busy,
        match=says(r"eth0 cannot be released: its uio device .*pid 4711"),
        check=Coded("holder"),
    ) as caught:
        release(tmp_path, FakeHost(kernel))
    assert [one.source for one in caught.value.evidence] == ["proc"]
    assert caught.value.hint
    assert twin.driver == UIO
    assert journal.paths(tmp_path)
    twin.opened = []
    release(tmp_path, FakeHost(kernel))
    assert journal.paths(tmp_path) == []


def test_a_dry_run_of_a_release_names_who_has_the_uio_device_open(tmp_path: Path) -> None:
    kernel = paired()
    claim(tmp_path, FakeHost(kernel), "eth0", synthetic="uio")
    (plan,) = release(tmp_path, FakeHost(kernel), dry_run=True).plans
    assert plan.notes == ()
    kernel.synthetics[0].opened = [4711]
    (plan,) = release(tmp_path, FakeHost(kernel), dry_run=True).plans
    (note,) = plan.notes
    assert "4711" in note
    with wording:
        assert note.startswith(
            "the uio device of eth0 is still open (pid 4711 dpdk-testpmd); nothing"
        )
    kernel.synthetics[0].opened, kernel.synthetics[0].unseen = [], True
    (plan,) = release(tmp_path, FakeHost(kernel), dry_run=True).plans
    (note,) = plan.notes
    with wording:
        assert "its holder is not visible from here" in note


def test_a_dry_run_names_who_has_a_uio_device_whose_channel_cannot_be_read(tmp_path: Path) -> None:
    class Blind(FakeSystem):
        def uio_open(self, uuid: str) -> bool:
            return False  # or not known: vmbus.is_open()

    kernel = paired()
    one = FakeHost(kernel)
    claim(tmp_path, one, "eth0", synthetic="uio")
    kernel.synthetics[0].opened = [4711]
    one.systems = Blind
    (plan,) = release(tmp_path, one, dry_run=True).plans
    (note,) = plan.notes
    assert "4711" in note


def test_who_has_it_open_and_is_not_seen_is_not_nobody(tmp_path: Path) -> None:
    """In another pid namespace, as a container has: the channel is open all the same."""
    kernel = paired()
    claimed(tmp_path, kernel)
    (twin,) = kernel.synthetics
    twin.unseen = True
    with pytest.raises(Busy, check=Coded("holder")) as caught:
        release(tmp_path, FakeHost(kernel))
    assert twin.driver == UIO
    with wording:
        assert "another pid namespace" in (caught.value.hint or "")
    failure = undone_by(FakeHost(kernel))
    assert (failure.taken, twin.driver) == (True, UIO)
    with wording:
        assert "not visible from here" in failure.message
    twin.unseen = False
    release(tmp_path, FakeHost(kernel))
    assert journal.paths(tmp_path) == []


def test_who_opens_the_uio_device_while_a_hold_is_waited_for_is_busy_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = paired()
    claimed(tmp_path, kernel)
    (twin,) = kernel.synthetics
    since = []
    with contextlib.ExitStack() as moment:
        moment.enter_context(lock.moment(tmp_path, PORT.pci))

        def opened(_: float) -> None:
            twin.opened = [4711]
            since.append(kernel.clock)
            moment.close()

        monkeypatch.setattr(time, "sleep", opened)
        with pytest.raises(Busy, match=says("its uio device .*pid 4711"), check=Coded("holder")):
            release(tmp_path, FakeHost(kernel))
    assert (since, twin.driver) == ([kernel.clock], UIO)


def test_a_device_that_the_host_has_taken_back_is_residue_until_it_is_there(tmp_path: Path) -> None:
    kernel = paired()
    before = kernel.picture()
    claimed(tmp_path, kernel)
    (twin,) = kernel.synthetics
    twin.offered = False
    with pytest.raises(
        NotRestored,
        match=says("give eth0's VMBus device back to hv_netvsc failed"),
        check=Coded("residue"),
    ) as no:
        release(tmp_path, FakeHost(kernel))
    with wording:
        for what in ("set eth0 up", step_words.restore("eth0")):
            assert f"  not attempted: {what}" in no.value.message.splitlines()
        assert "offers it again" in (no.value.hint or "")
    twin.offered, twin.driver = True, None
    release(tmp_path, FakeHost(kernel), recover=True)
    assert kernel.picture() == before


def test_a_driver_that_does_not_take_it_back_is_not_the_host(tmp_path: Path) -> None:
    """ENODEV is what a device that is gone answers, too."""
    kernel = paired()
    before = kernel.picture()
    claimed(tmp_path, kernel)

    class Overridden(FakeSystem):
        def bind_vmbus(self, uuid: str, driver: str) -> None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    host = FakeHost(kernel)
    host.systems = Overridden
    with pytest.raises(NotRestored, check=Coded("residue")) as no:
        release(tmp_path, host)
    with wording:
        assert "kernel log" in (no.value.hint or "")
        assert "offers it again" not in (no.value.hint or "")
    release(tmp_path, FakeHost(kernel), recover=True)
    assert kernel.picture() == before


def test_a_driver_that_does_not_take_it_puts_everything_back(tmp_path: Path) -> None:
    kernel = paired()
    before = kernel.picture()

    class Closed(FakeSystem):
        def bind_vmbus(self, uuid: str, driver: str) -> None:
            if driver == UIO:
                raise OSError(19, "No such device")
            super().bind_vmbus(uuid, driver)

    host = FakeHost(kernel)
    host.systems = Closed
    failed = says("give eth0's VMBus device to uio_hv_generic failed")
    with pytest.raises(RolledBack, match=failed) as no:
        claim(tmp_path, host, "eth0", synthetic="uio")
    with wording:
        assert "kernel log" in (no.value.hint or ""), "the host has not taken it back"
    assert kernel.picture() == before


def test_nobody_is_blamed_for_a_device_that_cannot_be_looked_at(tmp_path: Path) -> None:
    class Blind(FakeSystem):
        def vmbus_driver(self, uuid: str) -> str | None:
            if super().vmbus_driver(uuid) == "uio_hv_generic":
                raise OSError(24, "Too many open files")
            return super().vmbus_driver(uuid)

    kernel = paired()
    host = FakeHost(kernel)
    host.systems = Blind
    with pytest.raises(
        NotRestored,
        match=says("could not be looked at: Too many open files"),
        check=Coded("residue"),
    ):
        claim(tmp_path, host, synthetic="uio")
    release(tmp_path, FakeHost(kernel))


def test_a_device_that_is_gone_is_not_held(tmp_path: Path) -> None:
    class Gone(FakeSystem):
        def vmbus_driver(self, uuid: str) -> str | None:
            raise OSError(errno.ENODEV, "No such device")

    system = Gone(FakeHost(paired()))
    assert not BindUio(PORT, UUID, "eth0").holds(system)


def test_another_program_that_gives_it_back_is_found_out(tmp_path: Path) -> None:
    kernel = paired()

    class Undone(FakeSystem):
        def bind_vmbus(self, uuid: str, driver: str) -> None:
            super().bind_vmbus(uuid, "hv_netvsc")

    host = FakeHost(kernel)
    host.systems = Undone
    with pytest.raises(RolledBack, match=says("uio_hv_generic does not keep eth0's VMBus device")):
        claim(tmp_path, host, "eth0", synthetic="uio")


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("override", [None, "hv_netvsc", UIO])
def test_dying_at_any_operation_of_a_claim_or_a_release(
    tmp_path: Path, override: str | None, half: bool
) -> None:
    """`override`: the only driver that may have the device, as driverctl sets it."""
    for verb in (claimed, lambda path, kernel, fate: release(path, FakeHost(kernel, fate))):
        for number in range(1, 200):
            path = tmp_path / f"{verb.__name__}{number}"
            path.mkdir()
            kernel = paired()
            (twin,) = kernel.synthetics
            twin.override = override
            before = kernel.picture()
            if verb is not claimed:
                claimed(path, kernel)
            try:
                verb(path, kernel, Fate(dies_at=number, half=half))
            except Killed:
                release(path, FakeHost(kernel), recover=True)
                if journal.paths(path):
                    release(path, FakeHost(kernel))
                assert kernel.picture() == before, (verb, number)
                assert not kernel.takes_network
                assert twin.override == override
                continue
            break
        assert twin.override == override
        assert number > 10


def test_the_step_comes_back_from_its_json(tmp_path: Path) -> None:
    kernel = paired()
    claimed(tmp_path, kernel)
    header = json.loads(journal.paths(tmp_path)[0].read_bytes().splitlines()[0].split(b"\t")[0])
    steps = steps_from_json(header["plan"], header["snapshot"])
    (step,) = [one for one in steps if isinstance(one, BindUio)]
    assert (step.vmbus, step.name) == (UUID, "eth0")
    assert BindUio.from_json(step.to_json()) == step
    with wording:
        assert any("destroyed" in note for note in header["plan"]["notes"])
        assert not any("receives nothing" in note for note in header["plan"]["notes"])


def test_what_a_release_would_do(tmp_path: Path) -> None:
    kernel = paired()
    claimed(tmp_path, kernel)
    (plan,) = release(tmp_path, FakeHost(kernel), dry_run=True).plans
    with wording:
        assert list(plan.restores)[:2] == ["eth0 made again", "eth0 set up, its carrier awaited"]
    assert kernel.synthetics[0].driver == UIO


def test_another_program_has_given_it_back_and_set_it_up(tmp_path: Path) -> None:
    kernel = paired()
    before = kernel.picture()
    claimed(tmp_path, kernel)
    (twin,) = kernel.synthetics
    kernel.unbind(twin)
    kernel.bind(twin, "hv_netvsc")
    kernel.set_synthetic(twin, True)
    with pytest.raises(Busy, match=says("something has set it up again"), check=Coded("drift")):
        claim(tmp_path, FakeHost(kernel), "eth9", synthetic="uio")
    release(tmp_path, FakeHost(kernel))
    assert kernel.picture() == before


@pytest.mark.parametrize("driver", ["hv_netvsc", None])
def test_a_device_that_uio_has_not_any_more_is_not_claimed_already(
    tmp_path: Path, driver: str | None
) -> None:
    """Another program has given it back, or taken it for itself, and set nothing up."""
    kernel = paired()
    before = kernel.picture()
    claimed(tmp_path, kernel)
    recovered = FakeHost(kernel)
    for name in ("eth0", kernel.nics[0].name):  # it is as it was left
        (already,) = claim(tmp_path, recovered, name, synthetic="uio").already
        assert already[1].port.key == PORT.key
    told = Followed()
    release(tmp_path, recovered, progress=told, recover=True)
    assert (kernel.synthetics[0].driver, told.notes) == (UIO, []), "no drift"
    (twin,) = kernel.synthetics
    kernel.unbind(twin)
    if driver is not None:
        kernel.bind(twin, driver)
    name = kernel.nics[0].name
    with pytest.raises(Busy, match=says("uio_hv_generic no longer has"), check=Coded("drift")):
        claim(tmp_path, FakeHost(kernel), name)
    release(tmp_path, FakeHost(kernel))
    assert kernel.picture() == before


def undone_by(host: FakeHost) -> StepFailed:
    """What undoing the step alone fails with."""
    step = BindUio(PORT, UUID, "eth0")
    with pytest.raises(StepFailed) as caught:
        step.undo(host.system(lambda _: None))
    return caught.value


def test_a_device_that_somebody_opens_right_before_it_goes_back_is_left_with_him() -> None:
    kernel = paired()
    (twin,) = kernel.synthetics
    twin.driver, twin.opened = UIO, [4711]
    failure = undone_by(FakeHost(kernel))
    assert failure.taken
    assert "pid 4711" in failure.message
    assert twin.driver == UIO


def test_a_netdev_that_does_not_come_or_cannot_be_looked_at_is_told() -> None:
    class Missing(FakeSystem):
        def synthetic(self, uuid: str) -> Found:
            return None

    class Blind(FakeSystem):
        def synthetic(self, uuid: str) -> Found:
            return Unread(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))

    for kind, why in ((Missing, "has no netdev here"), (Blind, "Too many open files")):
        kernel = paired()
        kernel.synthetics[0].driver = UIO
        host = FakeHost(kernel)
        host.systems = kind
        failure = undone_by(host)
        assert not failure.taken
        assert kernel.synthetics[0].driver == "hv_netvsc"
        with wording:
            assert why in failure.message
