"""Steps: what they are called, and that their JSON is enough to undo them."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from typing import Any

import pytest

from manactl.act import plan as planning
from manactl.act.persist import LeaveDown
from manactl.act.plan import (
    KeepState,
    PairNow,
    Plan,
    ProveFree,
    SetAdmin,
    SetSynthetic,
    Step,
    StepFailed,
    Undone,
    steps_from_json,
    tally,
)
from manactl.act.uio import BindUio
from manactl.act.unmanage import Unmanage
from manactl.look.netdevs_of import NetdevNow
from manactl.look.pairs import Frames
from manactl.model.port import Evidence, PortId
from manactl.netstate.losses import Cause
from manactl.netstate.snapshot import PortState, Request
from manactl.wire.uverbs import ProofOutcome
from tests.unit.decide.scene import STATE
from tests.unit.fakes import PORT, address, nexthop, route
from tests.unit.host import FakeHost, FakeProof, FakeSystem, furnished, paired
from tests.unit.kernel import UUID, Nic
from tests.unit.wording import Coded, read, says, wording

STEPS: tuple[Step, ...] = (
    KeepState(STATE),
    SetAdmin(PORT, "eth1", up=False, was=True, had_carrier=True),
    ProveFree(PORT, "manae_0", 1),
)
# As a journal of schema manactl.journal/1 has had them from the beginning.
WRITTEN = [
    {"kind": "keep-state", "port": PORT._asdict(), "kept": "2 addresses"},
    {"kind": "set-admin", "port": PORT._asdict(), "name": "eth1", "up": False, "was": True,
     "had_carrier": True},
    {"kind": "prove-free", "port": PORT._asdict(), "device": "manae_0", "rdma_port": 1},
]  # fmt: skip


@pytest.mark.wording
@pytest.mark.parametrize(
    ("step", "title", "undo", "description"),
    [
        (STEPS[0], "save eth1's addresses and routes", "restore and verify eth1",
         "save eth1's addresses and routes to the journal (2 addresses)"),
        (STEPS[1], "set eth1 down", "set eth1 up", "set eth1 down (release sets it up)"),
        (STEPS[2], "prove that the vport of manae_0 port 1 is free", "",
         "prove that the vport is free: create a raw QP on manae_0 port 1 and destroy it at once"),
        (SetSynthetic(PORT, UUID, "eth0", had_carrier=True), "set eth0 down", "set eth0 up",
         f"set eth0 down, the synthetic netdev of VMBus device {UUID} (release sets it up)"),
        (BindUio(PORT, UUID, "eth0"), "give eth0's VMBus device to uio_hv_generic",
         "give eth0's VMBus device back to hv_netvsc",
         f"give eth0's VMBus device to uio_hv_generic ({UUID}): eth0 is destroyed with all that is "
         "stacked on it (release gives the device back to hv_netvsc and makes all of it again)"),
    ],
)  # fmt: skip
def test_what_a_step_is_called(step: Step, title: str, undo: str, description: str) -> None:
    assert (step.title, step.undo_title, step.describe()) == (title, undo, description)


def test_only_what_changes_something_is_undone() -> None:
    assert [(step.undoes, step.makes_usable) for step in STEPS] == [
        (True, False), (True, True), (False, False),
    ]  # fmt: skip


def test_old_journals_are_read_and_new_ones_have_the_same_keys() -> None:
    plan = {"steps": [{**step, "text": "words of then"} for step in WRITTEN]}
    assert steps_from_json(plan, [STATE.to_json()]) == STEPS
    made = json.loads(json.dumps(Plan("claim", (PORT,), STEPS).to_json()))
    assert [{k: v for k, v in step.items() if k != "text"} for step in made["steps"]] == WRITTEN
    assert [step["text"] for step in made["steps"]] == [step.describe() for step in STEPS]


def test_a_step_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(ValueError, match="dance"):
        steps_from_json({"steps": [{"kind": "dance", "port": PORT._asdict()}]}, [])
    with pytest.raises(KeyError):
        steps_from_json({"steps": WRITTEN[:1]}, [])


def test_what_there_is_is_counted_without_what_the_kernel_makes() -> None:
    own = route("10.0.0.2", 32, table=255, proto=2, kind=2)
    facts = (*STATE.facts, nexthop(10), route("10.9.0.0", 16), route("10.8.0.0", 16), own)
    state = PortState(PORT, 3, "eth1", True, True, 0.0, facts)
    assert tally(state) == "2 addresses, 1 nexthop, 2 routes"
    assert tally(PortState(PORT, 3, "eth1", True, True, 0.0, ())) == "nothing"


# --- steps on a machine ---------------------------------------------------------------------

PROOF = Evidence("uverbs", "CREATE_QP", "EBUSY")


class Showing(FakeSystem):
    """Proofs with the evidence that a real one has."""

    def prove_free(self, port: PortId) -> FakeProof:
        return dataclasses.replace(super().prove_free(port), evidence=(PROOF,), hint="a remedy")


def machine(kind: type[FakeSystem] = Showing, *, up: bool = True) -> Any:
    """A system whose port is up or down, and has everything on it."""
    host = FakeHost(furnished())
    host.kernel.set_up(host.kernel.nics[0], up)
    host.kernel.links.clear()
    host.systems = kind
    return host.system(lambda _: None)


def nic(system: Any) -> Nic:
    return system.kernel.nics[0]  # type: ignore[no-any-return]


DOWN = SetAdmin(PORT, "eth1", up=False, was=True, had_carrier=True)
PROVE = ProveFree(PORT, "manae_0", 1)


def test_groups_are_left_before_the_port_goes_down() -> None:
    """Else the kernel stays a member, and refuses the addresses when they come back."""
    acts: list[object] = []

    class Watched(Showing):
        def send(self, request: Request) -> None:
            acts.append((request.type, nic(self).up))
            if len(acts) == 1:
                raise OSError(errno.EADDRNOTAVAIL, "somebody was first")
            super().send(request)

    system = machine(Watched)
    first, second = (address(f"2001:db8::{n}", 64) for n in (2, 3))
    step = dataclasses.replace(DOWN, leaves=(first.body, second.body))
    system.kernel.add("address", second.body)
    step.do(system, 5.0)
    assert acts == [(21, True), (21, True)]
    assert nic(system).up is False
    assert steps_from_json({"steps": [step.to_json()]}, []) == (DOWN,)  # undoing needs them not


def test_a_failed_step_has_code_4_and_nobody_holds_it() -> None:
    failure = StepFailed("it failed", hint="fix it")
    assert (failure.message, failure.hint, failure.taken) == ("it failed", "fix it", False)
    assert (failure.exit_code, failure.kind) == (4, "step")


def test_a_netdev_that_is_there_is_not_waited_for() -> None:
    system = machine()
    assert planning.require_netdev(system, PORT) == NetdevNow("eth1", 3, True)
    assert system.host.pauses == []


def test_a_netdev_that_is_just_plugged_in_again_is_waited_for() -> None:
    system = machine()
    nic(system).present = False

    def replugged() -> None:
        if system.kernel.clock > 1003.0:
            nic(system).present = True

    system.host.at_pause = replugged
    assert planning.require_netdev(system, PORT).name == "eth1"
    assert 1003.0 < system.kernel.clock < 1004.0


def test_a_synthetic_netdev_that_does_not_stay_up_or_cannot_be_looked_at_is_told() -> None:
    class Falling(FakeSystem):
        def set_synthetic(self, uuid: str, up: bool) -> None:
            pass

    host = FakeHost(paired(up=False))
    host.systems = Falling
    step = SetSynthetic(PORT, UUID, "eth0", had_carrier=True)
    with pytest.raises(StepFailed, match=says("eth0 does not stay up")):
        step.undo(host.system(lambda _: None))
    host.unread = EMFILE
    with pytest.raises(StepFailed) as caught:
        step.undo(host.system(lambda _: None))
    assert read(caught.value.evidence) == read((Evidence("sysfs", "netdev", "EMFILE"),))


def test_of_a_netdev_that_has_gone_again_no_setting_is_said_to_have_changed() -> None:
    system = machine()
    state = dataclasses.replace(system.capture(PORT), link=system.link_settings(PORT))
    assert planning._changed(state, system) == []
    nic(system).present = False
    assert planning._changed(state, system) == []


def test_a_netdev_that_stays_away_is_given_up_after_five_seconds() -> None:
    system = machine()
    nic(system).present = False
    with pytest.raises(StepFailed, match=says("has no netdev here")) as caught:
        planning.require_netdev(system, PORT)
    with wording:
        assert "another network namespace" in (caught.value.hint or "")
    assert 1005.0 <= system.kernel.clock < 1006.0


EMFILE = OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_a_netdev_that_cannot_be_looked_at_is_not_said_to_be_away() -> None:
    system = machine()
    system.host.unread = EMFILE
    with pytest.raises(StepFailed) as caught:
        planning.require_netdev(system, PORT)
    assert read(caught.value.evidence) == read((Evidence("sysfs", "netdev", "EMFILE"),))
    with wording:
        assert caught.value.message == (
            f"the netdev of port {PORT} could not be looked at: Too many open files"
        )
        assert caught.value.evidence == (Evidence("sysfs", "netdev", "EMFILE"),)
    assert 1005.0 <= system.kernel.clock < 1006.0, "the cause may pass"
    system.host.at_pause = lambda: setattr(system.host, "unread", None)
    assert planning.require_netdev(system, PORT).name == "eth1"


@pytest.mark.parametrize(
    "step", [DOWN, SetSynthetic(PORT, "f8615163-0000-1000-2000-000d3aaa0010", "eth0", True)]
)
def test_that_a_step_holds_is_not_said_of_what_cannot_be_looked_at(step: Step) -> None:
    system = machine(up=False)
    assert step.holds(system)
    system.host.unread = EMFILE
    with pytest.raises(StepFailed, match=says(r"eth. could not be looked at: Too many open files")):
        step.holds(system)


@pytest.mark.parametrize(
    "step", [DOWN, SetSynthetic(PORT, "f8615163-0000-1000-2000-000d3aaa0010", "eth0", True)]
)
def test_what_cannot_be_looked_at_for_a_moment_is_looked_at_again(step: Step) -> None:
    """No claim is undone for it."""
    system = machine(up=False)
    system.host.unread = EMFILE
    system.host.at_pause = lambda: setattr(system.host, "unread", None)
    assert step.holds(system)


def test_the_data_path_of_what_cannot_be_looked_at_is_not_known() -> None:
    system = machine()
    vf = dataclasses.replace(DOWN, vmbus="f8615163-0000-1000-2000-000d3aaa0010")
    assert planning.prove_path(vf, system) == {}, "no synthetic netdev: no frames"
    system.host.unread = EMFILE
    with pytest.raises(StepFailed, match=says("the data path of eth1 could not be looked at")):
        planning.prove_path(vf, system)


def test_what_is_to_undo_and_what_nothing_can_be_made_on_before() -> None:
    assert {
        step.KIND: (step.undoes, step.makes_usable)
        for step in (
            KeepState, SetAdmin, SetSynthetic, ProveFree, BindUio, Unmanage, LeaveDown
        )
    } == {
        "keep-state": (True, False),
        "set-admin": (True, True),
        "set-synthetic": (True, True),
        "prove-free": (False, False),
        "bind-uio": (True, True),
        "hold-manager": (True, False),
        "leave-down": (True, False),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        (None, Frames(0, 9), None),
        (Frames(0, 9), None, None),
        (Frames(0, 9), Frames(0, 9), None),
        (Frames(0, 9), Frames(1, 10), "vf"),
    ],
)
def test_a_path_is_told_by_frames_that_were_counted(
    before: Frames | None, after: Frames | None, path: str | None
) -> None:
    assert planning.prove_path(VF, counting(before, after)) == {"data_path": path}


def test_frames_on_the_slow_path_are_evidence() -> None:
    with pytest.raises(StepFailed) as caught:
        planning.prove_path(VF, counting(Frames(0, 9), Frames(0, 10)))
    assert read(caught.value.evidence) == [("sysfs", [0, 10])]
    assert "ip link set eth1 up" in (caught.value.hint or "")


VF = dataclasses.replace(DOWN, vmbus=UUID)


def counting(before: Frames | None, after: Frames | None) -> FakeSystem:
    """A pair on which so many frames have passed at first, and when it is looked at last."""

    class Counting(FakeSystem):
        def pair_now(self, port: PortId, uuid: str) -> PairNow:
            late = self.kernel.clock - start >= planning.PATH_SEEN
            return PairNow(True, after if late else before)

    kernel = paired()
    start = kernel.clock
    return Counting(FakeHost(kernel))


@pytest.mark.wording
def test_settings_that_cannot_be_compared_are_told() -> None:
    system = machine()
    system.host.unread = EMFILE
    (undone,) = planning.restore_all([KeepState(system.capture(PORT))], system)
    (lost,) = undone.restored.lost
    assert lost[:2] == (Cause.CHANGED, "settings of eth1: not compared, Too many open files")


def test_nobody_is_blamed_where_it_cannot_be_looked_whether_it_is_detached() -> None:
    """ENODEV is a vport that is taken, or a netdev that has gone: here nobody knows."""

    class Refusing(Showing):
        def set_admin(self, port: PortId, up: bool) -> None:
            self.host.unread = EMFILE
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    with pytest.raises(StepFailed) as caught:
        SetAdmin(PORT, "eth1", up=True, was=True, had_carrier=False).do(
            machine(Refusing, up=False), 1.0
        )
    assert not caught.value.taken


def test_setting_down_reports_how_long_it_took_and_when() -> None:
    class Slow(Showing):
        def set_admin(self, port: PortId, up: bool) -> None:
            self.kernel.clock += 1.5
            super().set_admin(port, up)

    system = machine(Slow)
    assert DOWN.do(system, 10.0) == {"ms": 1500.0, "boottime": 1001.5}
    assert system.kernel.links == [("eth1", "down")]
    assert system.host.pauses == []
    assert DOWN.do(system, 10.0) == {"ms": 0.0, "boottime": 1001.5}  # it is down already
    assert system.kernel.links == [("eth1", "down")]


class Disobedient(Showing):
    """Something sets the port back at once, until it gives up."""

    gives_up = 1e9

    def set_admin(self, port: PortId, up: bool) -> None:
        super().set_admin(port, up)
        self.wanted = up
        nic(self).up = not up

    def netdev(self, port: PortId) -> NetdevNow | None:
        if self.kernel.clock >= self.gives_up:
            nic(self).up = self.wanted
        return super().netdev(port)


@pytest.mark.parametrize(("wait", "took"), [(2.0, 2.0), (60.0, 5.0)])
def test_who_sets_it_up_again_is_waited_for_five_seconds_at_most(wait: float, took: float) -> None:
    system = machine(Disobedient)
    with pytest.raises(StepFailed) as caught:
        DOWN.do(system, wait)
    failure = caught.value
    assert read(failure.evidence) == read((Evidence("sysfs", "IFF_UP", True),))
    with wording:
        assert failure.message == "eth1 does not stay down: another program sets it up"
        assert "network manager" in (failure.hint or "")
        assert failure.evidence == (Evidence("sysfs", "IFF_UP", True),)
    assert took <= system.kernel.clock - 1000.0 < took + 0.5


def test_what_is_set_late_counts() -> None:
    system = machine(Disobedient)
    system.gives_up = 1001.0
    assert DOWN.do(system, 10.0)["ms"] >= 1000.0  # type: ignore[operator]
    system = machine(Disobedient, up=False)
    system.gives_up = 1003.0
    undone = DOWN.undo(system)
    assert undone.facts["ms"] >= 3000.0  # type: ignore[operator]
    assert undone.facts["carrier"] is True


def test_a_port_that_does_not_stay_up_is_not_restored() -> None:
    system = machine(Disobedient, up=False)
    with pytest.raises(StepFailed, match=says("eth1 does not stay up")):
        DOWN.undo(system)
    assert 5.0 <= system.kernel.clock - 1000.0 < 5.5


def test_setting_up_again_reports_the_carrier() -> None:
    system = machine(up=False)
    assert DOWN.undo(system) == Undone(facts={"ms": 0.0, "carrier": True})
    assert DOWN.undo(system).residue == ()
    assert system.kernel.links == [("eth1", "up")]


@pytest.mark.parametrize(
    ("was", "had_carrier", "carrier", "took"),
    [(True, True, False, 10.0), (True, False, None, 0.0), (False, True, None, 0.0)],
)
def test_a_carrier_is_awaited_where_it_was(
    was: bool, had_carrier: bool, carrier: bool | None, took: float
) -> None:
    system = machine(up=False)
    nic(system).cable = False
    step = SetAdmin(PORT, "eth1", up=False, was=was, had_carrier=had_carrier)
    assert step.undo(system).facts["carrier"] is carrier
    assert nic(system).up is was
    assert took <= system.kernel.clock - 1000.0 < took + 0.5


def test_setting_down_holds_while_the_netdev_is_here_and_down() -> None:
    system = machine(up=False)
    assert DOWN.holds(system)
    nic(system).up = True
    assert not DOWN.holds(system)
    nic(system).present = False
    assert not DOWN.holds(system)
    assert KeepState(STATE).holds(system)
    assert PROVE.holds(system)


@pytest.mark.parametrize(
    ("number", "up", "taken", "hint"),
    [
        (errno.EBUSY, True, True, "a raw QP has the vport"),
        (errno.ENODEV, True, True, "a raw QP has the vport"),
        (errno.EIO, True, False, "the device does not answer"),
        (errno.EPERM, True, False, None),
        (errno.EBUSY, False, False, None),
        (errno.EIO, False, False, None),
    ],
)
def test_what_the_kernel_refuses(number: int, up: bool, taken: bool, hint: str | None) -> None:
    class Refusing(Showing):
        def set_admin(self, port: PortId, up: bool) -> None:
            raise OSError(number, "the kernel's words")

    system = machine(Refusing, up=not up)
    with pytest.raises(StepFailed) as caught:
        SetAdmin(PORT, "eth1", up=up, was=up, had_carrier=False).do(system, 1.0)
    failure = caught.value
    word = "up" if up else "down"
    assert failure.message == f"setting eth1 {word} failed: the kernel's words"
    assert failure.taken is taken
    assert read(failure.evidence) == read(
        (Evidence("rtnetlink", f"set {word}", errno.errorcode[number]),)
    )
    with wording:
        assert failure.evidence == (Evidence("rtnetlink", f"set {word}", errno.errorcode[number]),)
    assert (failure.hint is None) is (hint is None)
    with wording:
        assert (hint or "") in (failure.hint or "")


@pytest.mark.parametrize("unplugged", [False, True])
@pytest.mark.parametrize(
    ("number", "hint"),
    [(errno.ENODEV, "the driver is resetting the device"), (errno.EBUSY, "a raw QP has the vport")],
)
def test_a_netdev_of_a_device_in_reset_is_held_by_nobody(
    number: int, hint: str, unplugged: bool
) -> None:
    """A detached netdev cannot be opened: the same error as for a taken vport up to 6.18. One may
    also go between the look for it and the request."""

    class Refusing(Showing):
        def set_admin(self, port: PortId, up: bool) -> None:
            nic(system).present = not unplugged
            raise OSError(number, "the kernel's words")

    system = machine(Refusing, up=False)
    nic(system).resetting = not unplugged
    with pytest.raises(StepFailed) as caught:
        SetAdmin(PORT, "eth1", up=True, was=True, had_carrier=False).do(system, 1.0)
    assert caught.value.taken is (number == errno.EBUSY)
    with wording:
        assert hint in (caught.value.hint or "")


def test_a_refusal_without_words_gets_those_of_its_number() -> None:
    class Mute(Showing):
        def set_admin(self, port: PortId, up: bool) -> None:
            error = OSError()
            error.errno = errno.EIO
            raise error

    with pytest.raises(StepFailed, match="setting eth1 down failed: Input/output error"):
        DOWN.do(machine(Mute), 1.0)


def test_keeping_a_state_does_nothing_and_undoing_restores_it() -> None:
    system = machine()
    before = system.kernel.picture()
    kept = KeepState(system.capture(PORT))
    assert kept.do(system, 0.0) == {}
    system.kernel.set_up(nic(system), False)
    system.kernel.set_up(nic(system), True)
    assert system.kernel.picture() != before
    assert kept.undo(system).residue == ()
    assert system.kernel.picture() == before
    nic(system).present = False
    with pytest.raises(StepFailed, match=says("no netdev")):
        kept.undo(system)


def test_what_restoring_could_not_is_residue() -> None:
    restored = planning.Restored(residue=("10.9.0.0/16",))
    assert Undone(restored).residue == ("10.9.0.0/16",)


# --- proving --------------------------------------------------------------------------------


def test_a_proof_that_succeeds_says_how() -> None:
    assert PROVE.do(machine(up=False), 0.0) == {
        "proven": True, "outcome": "free", "message": "reports the fake kernel", "tries": 1,
    }  # fmt: skip
    assert PROVE.undo(machine()) == Undone()


def test_a_proof_that_is_denied_proves_nothing() -> None:
    system = machine(up=False)
    system.host.mask = 0
    found = PROVE.do(system, 0.0)
    assert (found["proven"], found["outcome"]) == (False, "denied")


def test_a_proof_that_cannot_be_made_fails_with_its_reason() -> None:
    system = machine(up=False)
    system.host.rdma_loaded = False
    with pytest.raises(StepFailed, match=says(r"could not prove that .* is free")) as caught:
        PROVE.do(system, 0.0)
    assert caught.value.message.endswith("reports the fake kernel")
    assert (caught.value.hint, caught.value.evidence) == ("a remedy", (PROOF,))
    assert not caught.value.taken


def test_a_port_that_was_set_up_again_is_not_held() -> None:
    system = machine(up=True)
    with pytest.raises(StepFailed, match=says("another program set eth1 up again")) as caught:
        PROVE.do(system, 0.0)
    assert read(caught.value.evidence) == read((PROOF, Evidence("sysfs", "IFF_UP", True)))
    with wording:
        assert caught.value.evidence == (PROOF, Evidence("sysfs", "IFF_UP", True))
        assert "network manager" in (caught.value.hint or "")
    assert not caught.value.taken


@pytest.mark.parametrize("here", [True, False])
def test_a_leaked_vport_is_a_kernel_bug(here: bool) -> None:
    class Leaking(Showing):
        """Nobody has it; the proof says that it is taken all the same."""

        def prove_free(self, port: PortId) -> FakeProof:
            return FakeProof(ProofOutcome.TAKEN, errno.EBUSY, evidence=(PROOF,))

        def seems_free(self, port: PortId) -> bool:
            return True

    system = machine(Leaking, up=False)
    nic(system).present = here
    with pytest.raises(StepFailed, match=says("use count"), check=Coded("kernel-bug")) as caught:
        PROVE.do(system, 0.0)
    assert caught.value.message.startswith(f"{'eth1' if here else PORT}: ")
    assert (caught.value.code, caught.value.evidence) == ("kernel-bug", (PROOF,))
    assert "modprobe" in (caught.value.hint or "")
    assert not caught.value.taken


def test_a_vport_that_stays_taken_is_held() -> None:
    system = machine(up=False)
    nic(system).holders = [77]
    with pytest.raises(StepFailed, match=says("still taken after 2 attempts")) as caught:
        PROVE.do(system, 0.0)
    assert caught.value.taken
    assert caught.value.evidence == (PROOF,)
    assert "manactl status -v" in (caught.value.hint or "")
