"""Claims and releases of a pair: the port is the VF of a synthetic netdev, which has the addresses.

The fake kernel has its own idea of hv_netvsc: a synthetic netdev opens and closes its VF, and logs
a VF that does not open.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from manactl.act.await_free import PATIENCE
from manactl.act.plan import SetAdmin, SetSynthetic
from manactl.act.released import ReleaseResult
from manactl.errors import Busy, NotRestored, RolledBack, UsageError
from manactl.journal import file as journal
from manactl.model.port import IFF_UP, PortId, Report
from manactl.netstate.blueprints import Blueprint
from manactl.netstate.link_settings import LinkSettings
from manactl.netstate.losses import Cause
from manactl.render.outcome import release_lines
from manactl.wire.if_link import IfInfoMsg
from tests.unit.host import FakeHost, FakeSystem, Fate, Killed, claim, furnished, paired, release
from tests.unit.kernel import UUID, Kernel, meaning
from tests.unit.wording import Coded, says, wording

MODES = ["down", "keep"]


def host(kernel: Kernel, fate: Fate | None = None) -> FakeHost:
    return FakeHost(kernel, fate)


def above(kernel: Kernel) -> list[str]:
    """What is on the synthetic netdev."""
    mine = {kernel.synthetics[0].ifindex}
    return sorted(repr(meaning(one, {})) for one in kernel.messages if one.device in mine)


def test_down_takes_both_and_release_brings_both_back(tmp_path: Path) -> None:
    kernel = paired()
    (twin,), (vf,) = kernel.synthetics, kernel.nics
    before = kernel.picture()
    result = claim(tmp_path, host(kernel), "eth0")
    assert kernel.links == [("eth1", "down"), ("eth0", "down")]
    assert result.proven(result.ports[0].id)
    assert result.ports[0].label == "eth0", "what was typed"
    released = release(tmp_path, host(kernel), "eth0")
    assert [one.netdev for one in released.ports] == ["eth0"]
    assert released.ports[0].carrier is True
    assert (twin.up, vf.up, twin.path) == (True, True, "vf")
    assert kernel.picture() == before


def test_keep_takes_the_vf_alone(tmp_path: Path) -> None:
    kernel = paired()
    before, above_before = kernel.picture(), above(kernel)
    claim(tmp_path, host(kernel), synthetic="keep")
    assert kernel.links == [("eth1", "down")]
    assert above(kernel) == above_before, "addresses and routes stay"
    ups = kernel.picture()[0]
    assert ups == ((1, False), (0x41, True))
    release(tmp_path, host(kernel))
    assert kernel.picture() == before


def test_what_is_changed_on_a_kept_netdev_meanwhile_stays(tmp_path: Path) -> None:
    kernel = paired()
    claim(tmp_path, host(kernel), synthetic="keep")
    gone = next(m for m in kernel.messages if m.kind == "address" and m.device == 40)
    kernel.messages.remove(gone)
    left = above(kernel)
    release(tmp_path, host(kernel))
    assert above(kernel) == left


def kept_and_set_down(state_dir: Path, was: bool) -> Kernel:
    """A pair claimed with --synthetic=keep, whose twin, up before or not, is down by now."""

    class Planned(FakeSystem):
        def blueprints(self, port: PortId) -> tuple[Blueprint, ...]:
            body = IfInfoMsg(ifindex=40, flags=IFF_UP * was).pack()
            return (Blueprint(40, LinkSettings(), body),)

    kernel = paired()
    one = host(kernel)
    one.systems = Planned
    claim(state_dir, one, synthetic="keep")
    kernel.set_synthetic(kernel.synthetics[0], False)
    return kernel


@pytest.mark.parametrize("was", [True, False])
def test_a_kept_netdev_that_is_down_at_release_is_told(tmp_path: Path, was: bool) -> None:
    """Nothing of it was saved, and it may have been set down on purpose: it is left so."""
    kernel = kept_and_set_down(tmp_path, was)
    (port,) = release(tmp_path, host(kernel)).ports
    assert not kernel.synthetics[0].up
    told = [(lost.cause, "eth0" in lost.text) for lost in port.lost]
    assert told == ([(Cause.NOT_KEPT, True)] if was else [])
    assert port.lowered == ("eth0" if was else None)
    line = release_lines(ReleaseResult([port]), verb="release", dry_run=False)[0]
    with wording:
        assert ("its VF is up" in line) is was


@pytest.mark.parametrize("was", [True, False])
def test_a_kept_netdev_that_the_host_re_created_and_is_down_is_told(
    tmp_path: Path, was: bool
) -> None:
    """One that was down before the claim is not told to have been set down."""
    kernel = kept_and_set_down(tmp_path, was)
    kernel.synthetics[0].ifindex = 77
    (port,) = release(tmp_path, host(kernel)).ports
    assert [lost.cause for lost in port.lost] == [Cause.NOT_KEPT] * (1 + was)
    assert port.lowered == ("eth0" if was else None)


def test_a_vf_that_was_down_is_down_again(tmp_path: Path) -> None:
    kernel = paired()
    kernel.set_up(kernel.nics[0], False)
    before = kernel.picture()
    claim(tmp_path, host(kernel), "eth0")
    assert not kernel.synthetics[0].up
    release(tmp_path, host(kernel))
    assert kernel.picture() == before


def test_a_pair_that_was_down_stays_down(tmp_path: Path) -> None:
    kernel = paired(up=False)
    claim(tmp_path, host(kernel))
    release(tmp_path, host(kernel))
    assert kernel.links == []


def test_a_vf_that_is_up_below_a_netdev_that_is_down(tmp_path: Path) -> None:
    """As after hv_netvsc was bound again."""
    kernel = paired(up=False)
    kernel.set_up(kernel.nics[0], True)
    before = kernel.picture()
    claim(tmp_path, host(kernel))
    assert kernel.picture()[0] == ((1, False), (0x41, False))
    release(tmp_path, host(kernel))
    assert kernel.picture() == before


def test_the_header_identifies_the_pair(tmp_path: Path) -> None:
    kernel = paired()
    result = claim(tmp_path, host(kernel), "eth0")
    assert result.journal is not None
    header = journal.read(result.journal).header
    (port,) = header["ports"]
    keys = ("netdev", "vf", "upper", "upper_ifindex", "upper_up", "vmbus", "synthetic")
    shown = {key: port[key] for key in keys}
    assert shown == {
        "netdev": "eth0",
        "vf": "eth1",
        "upper": "eth0",
        "upper_ifindex": 40,
        "upper_up": True,
        "vmbus": UUID,
        "synthetic": "down",
    }
    (summary,) = journal.list_claims(tmp_path, "boot-1").claims
    assert (summary.claim.synthetic, summary.upper_ifindex) == ("down", 40)
    assert {"eth0", "eth1"} <= set(summary.names)


def test_steps_are_undone_from_their_json(tmp_path: Path) -> None:
    kernel = paired()
    result = claim(tmp_path, host(kernel))
    assert result.plan is not None
    kinds = [step["kind"] for step in json.loads(json.dumps(result.plan.to_json()))["steps"]]
    assert kinds == ["keep-state", "set-admin", "set-synthetic", "prove-free"]
    kernel.rename(kernel.synthetics[0], "lan7", 77)
    release(tmp_path, host(kernel))
    assert kernel.synthetics[0].up, "found by its UUID"


@pytest.mark.parametrize("word", ["eth0", "eth1"])
@pytest.mark.parametrize("claimed", ["eth0", "eth1"])
def test_a_pair_is_called_what_it_was_called_by_whoever_asks(
    tmp_path: Path, word: str, claimed: str
) -> None:
    kernel = paired()
    claim(tmp_path, host(kernel), claimed)
    kernel.rename(kernel.nics[0], "eth9", 33)
    now = {"eth0": "eth0", "eth1": "eth9"}[word]
    assert [one.netdev for one in release(tmp_path, host(kernel), word).ports] == [now]


def test_a_stranger_that_sets_the_synthetic_netdev_up_is_found_out(tmp_path: Path) -> None:
    class Stranger(FakeSystem):
        def set_synthetic(self, uuid: str, up: bool) -> None:
            super().set_synthetic(uuid, up)
            if not up:
                self.kernel.set_synthetic(self.kernel.synthetics[0], True)

    kernel = paired()
    before = kernel.picture()
    one = host(kernel)
    one.systems = Stranger
    with pytest.raises(RolledBack, match=says("eth0 does not stay down")):
        claim(tmp_path, one)
    assert kernel.picture() == before


@pytest.mark.parametrize("mode", MODES)
def test_a_holder_that_comes_late_leaves_the_slow_path_said(tmp_path: Path, mode: str) -> None:
    """hv_netvsc only logs that its VF did not open: the addresses are back, and it is not well."""

    class Raced(FakeSystem):
        def seems_free(self, port: object) -> bool:
            return True

        def set_admin(self, port: object, up: bool) -> None:
            self.kernel.nics[0].holders = [4211] if up else []
            super().set_admin(port, up)  # type: ignore[arg-type]

        def set_synthetic(self, uuid: str, up: bool) -> None:
            self.kernel.nics[0].holders = [4211] if up else []
            super().set_synthetic(uuid, up)

    kernel = paired()
    before, above_before = kernel.picture(), above(kernel)
    claim(tmp_path, host(kernel), synthetic=mode)
    late = host(kernel)
    late.systems = Raced
    with pytest.raises(NotRestored, match="setting eth1 up failed") as caught:
        release(tmp_path, late)
    assert "slow synthetic path" not in caught.value.message, "it follows from the failure"
    assert kernel.picture()[0] == ((1, False), (0x41, True))
    assert above(kernel) == above_before
    kernel.nics[0].holders = []
    release(tmp_path, host(kernel), recover=True)
    assert kernel.picture() == before


def test_frames_on_the_slow_path_are_not_passed_over(tmp_path: Path) -> None:
    kernel = paired()
    claim(tmp_path, host(kernel))
    kernel.synthetics[0].asks = False
    with pytest.raises(
        NotRestored, match=says("slow synthetic path"), check=Coded("residue")
    ) as caught:
        release(tmp_path, host(kernel))
    assert "ip link set eth1 up" in (caught.value.hint or "")
    kernel.synthetics[0].asks = True
    release(tmp_path, host(kernel), recover=True)
    assert kernel.synthetics[0].path == "vf"


def test_a_vf_that_was_not_taken_again_is_told(tmp_path: Path) -> None:
    kernel = paired()
    claim(tmp_path, host(kernel))
    kernel.synthetics[0].enslaves = False
    with pytest.raises(NotRestored, match=says("goes on without eth1"), check=Coded("residue")):
        release(tmp_path, host(kernel))


def test_a_pair_on_which_nobody_sends_is_believed(tmp_path: Path) -> None:
    kernel = paired()
    for quiet, path in ((True, None), (False, "vf")):
        kernel.synthetics[0].quiet = quiet
        claim(tmp_path, host(kernel))
        (port,) = release(tmp_path, host(kernel)).ports
        assert (kernel.synthetics[0].up, port.data_path) == (True, path)


@pytest.mark.parametrize("mode", MODES)
def test_host_servicing_meanwhile(tmp_path: Path, mode: str) -> None:
    kernel = paired()
    before = kernel.picture()
    claim(tmp_path, host(kernel), synthetic=mode)
    kernel.service(kernel.nics[0], 21)
    assert kernel.nics[0].up is (mode == "keep"), "hv_netvsc opens it where it is up itself"
    release(tmp_path, host(kernel))
    assert kernel.picture() == before


@pytest.mark.parametrize("mode", ["down", "keep"])
def test_a_setting_of_the_synthetic_netdev_that_is_changed_is_told(
    tmp_path: Path, mode: str
) -> None:
    """Of one that is kept nothing was saved: it is its users' all the time."""

    class Planned(FakeSystem):
        def blueprints(self, port: PortId) -> tuple[Blueprint, ...]:
            return (Blueprint(40, LinkSettings(altnames=("wan",))),)

    kernel = paired()
    one = host(kernel)
    one.systems = Planned
    claim(tmp_path, one, synthetic=mode)
    (port,) = release(tmp_path, host(kernel)).ports
    told = [(lost.cause, "eth0" in lost.text, "wan" in lost.text) for lost in port.lost]
    assert told == ([(Cause.CHANGED, True, True)] if mode == "down" else [])


def test_a_synthetic_netdev_that_cannot_be_looked_at_is_told(tmp_path: Path) -> None:
    class Planned(FakeSystem):
        def blueprints(self, port: PortId) -> tuple[Blueprint, ...]:
            return (Blueprint(40, LinkSettings()),)

    class Unreadable(FakeSystem):
        def settings(self, ifindex: int) -> LinkSettings:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    kernel = paired()
    one = host(kernel)
    one.systems = Planned
    claim(tmp_path, one, synthetic="down")
    two = host(kernel)
    two.systems = Unreadable
    (port,) = release(tmp_path, two).ports
    assert [(lost.cause, "eth0" in lost.text) for lost in port.lost] == [(Cause.CHANGED, True)]


@pytest.mark.parametrize("back", [False, True])
def test_a_kept_netdev_that_was_destroyed_meanwhile_is_told(tmp_path: Path, back: bool) -> None:
    """Its snapshot has nothing of what was on it, so nothing is missing by that."""

    class Planned(FakeSystem):
        def blueprints(self, port: PortId) -> tuple[Blueprint, ...]:
            return (Blueprint(40, LinkSettings()),)

    kernel = paired()
    (twin,) = kernel.synthetics
    for destroyed in (False, True):
        one = host(kernel)
        one.systems = Planned
        claim(tmp_path, one, synthetic="keep")
        if destroyed:
            kernel.unbind(twin)
            if back:
                kernel.bind(twin, "hv_netvsc")
        (port,) = release(tmp_path, host(kernel)).ports
        assert [loss.cause for loss in port.lost] == [Cause.NOT_KEPT] * destroyed
    with wording:
        assert (f"{twin.name}, the netdev of" if back else "has no netdev any more") in port.lost[
            0
        ].text


def test_a_synthetic_netdev_that_is_gone_is_residue_and_the_vf_comes_back(tmp_path: Path) -> None:
    kernel = paired()
    claim(tmp_path, host(kernel))
    kernel.synthetics[0].present = False
    with pytest.raises(
        NotRestored, match=says("eth0, the netdev of VMBus device"), check=Coded("residue")
    ) as caught:
        release(tmp_path, host(kernel))
    assert kernel.nics[0].up
    with wording:
        assert "the host may have taken its device away" in str(caught.value.hint)


@pytest.mark.parametrize("mode", MODES)
def test_claimed_twice_is_claimed_once_and_another_mode_is_refused(
    tmp_path: Path, mode: str
) -> None:
    kernel = paired()
    claim(tmp_path, host(kernel), synthetic=mode)
    assert claim(tmp_path, host(kernel)).already
    assert claim(tmp_path, host(kernel), synthetic=mode).already
    with pytest.raises(Busy, match=says(f"--synthetic={mode}"), check=Coded("drift")):
        claim(tmp_path, host(kernel), synthetic=MODES[mode == "down"])


def test_a_kept_synthetic_netdev_that_is_down_is_drift(tmp_path: Path) -> None:
    kernel = paired()
    claim(tmp_path, FakeHost(kernel), "eth0", synthetic="keep")
    claim(tmp_path, FakeHost(kernel), "eth0", synthetic="keep")
    (twin,) = kernel.synthetics
    twin.up = False
    with pytest.raises(Busy, match=says("eth0, which .* is down"), check=Coded("drift")):
        claim(tmp_path, FakeHost(kernel), "eth0", synthetic="keep")


def test_a_synthetic_netdev_that_is_up_again_is_drift(tmp_path: Path) -> None:
    kernel = paired()
    claim(tmp_path, host(kernel))
    kernel.nics[0].holders = [4211]  # so the VF stays down
    kernel.set_synthetic(kernel.synthetics[0], True)
    kernel.nics[0].holders = []
    with pytest.raises(Busy, match=says("set it up again"), check=Coded("drift")):
        claim(tmp_path, host(kernel))


@pytest.mark.parametrize("mode", MODES)
def test_a_plain_port_has_no_synthetic_netdev(tmp_path: Path, mode: str) -> None:
    kernel = furnished()
    with pytest.raises(UsageError, match=says(f"--synthetic={mode}: eth1 is below no")):
        claim(tmp_path, host(kernel), synthetic=mode)
    assert kernel.links == []


def _survive(tmp_path: Path, mode: str, run: Callable[[Path, FakeHost], object], number: int,
             half: bool) -> bool:  # fmt: skip
    """Whether a run that dies at this operation died; then all is put back."""
    kernel = paired()
    before = kernel.picture()
    state_dir = tmp_path / f"{number}-{half}"
    if run is release:
        claim(state_dir, host(kernel), synthetic=mode)
    fate = Fate(dies_at=number, half=half)
    try:
        run(state_dir, host(kernel, fate))
    except Killed:
        pass
    else:
        return False
    release(state_dir, host(kernel), recover=True)
    if journal.list_claims(state_dir, "boot-1").claims:
        release(state_dir, host(kernel))
    assert kernel.picture() == before, (mode, number, half)
    return True


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_dying_at_any_operation_of_a_claim(tmp_path: Path, mode: str, half: bool) -> None:
    def run(path: Path, one: FakeHost) -> object:
        return claim(path, one, synthetic=mode)

    number = 1
    while _survive(tmp_path, mode, run, number, half):
        number += 1
    assert number > 10


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_dying_at_any_operation_of_a_release(tmp_path: Path, mode: str, half: bool) -> None:
    number = 1
    while _survive(tmp_path, mode, release, number, half):
        number += 1
    assert number > 10


def test_what_the_plan_says(tmp_path: Path) -> None:
    kernel = paired()
    down = claim(tmp_path, host(kernel), dry_run=True).plan
    keep = claim(tmp_path, host(kernel), dry_run=True, synthetic="keep").plan
    assert down is not None
    assert keep is not None
    assert [type(step) for step in down.steps][1:3] == [SetAdmin, SetSynthetic]
    with wording:
        assert any("--synthetic=down" in note for note in down.notes)
        for plan in (down, keep):
            assert [
                note for note in plan.notes if "a raw QP on eth1 can send, and receives" in note
            ]
        assert any("servicing undoes it" in note for note in keep.notes)
        assert "addresses, routes and connections stay" in keep.stops[0]
    assert keep.drops == ()


# --- a VF that hv_netvsc has not joined yet


def test_a_claim_waits_until_the_vf_is_joined(tmp_path: Path) -> None:
    kernel = paired()
    (twin,) = kernel.synthetics
    before = kernel.picture()
    twin.enslaves = False
    here = host(kernel)
    here.at_look = {4: lambda: setattr(twin, "enslaves", True)}
    claim(tmp_path, here)
    assert kernel.links == [("eth1", "down"), ("eth0", "down")]
    release(tmp_path, host(kernel))
    assert kernel.picture() == before


@pytest.mark.parametrize("synthetic", [None, "down", "keep", "uio"])
def test_it_never_claims_the_vf_alone(tmp_path: Path, synthetic: str | None) -> None:
    kernel = paired()
    kernel.synthetics[0].enslaves = False
    with pytest.raises(Busy, match=says("hv_netvsc has not joined it to")) as caught:
        claim(tmp_path, host(kernel), synthetic=synthetic)
    assert caught.value.hint is not None
    with wording:
        assert "dmesg" in caught.value.hint
    assert (kernel.links, [*tmp_path.glob("claims/*")]) == ([], [])


def test_nor_before_the_synthetic_netdev_is_there(tmp_path: Path) -> None:
    kernel = paired()
    kernel.synthetics[0].enslaves = False
    here = host(kernel)
    look = here.look

    def without() -> Report:
        report = look()
        return report._replace(ports=tuple(p._replace(upper=None) for p in report.ports))

    here.look = without  # type: ignore[method-assign]
    with pytest.raises(Busy, match=says(f"the VF of VMBus device {UUID}")) as caught:
        claim(tmp_path, here, synthetic="down")
    assert caught.value.hint is not None
    assert "modprobe hv_netvsc" in caught.value.hint
    assert kernel.links == []


def test_a_claim_that_is_to_wait_no_longer_does_not(tmp_path: Path) -> None:
    kernel = paired()
    kernel.synthetics[0].enslaves = False
    here, start = host(kernel), kernel.clock
    with pytest.raises(Busy):
        claim(tmp_path, here, wait=0.5)
    assert kernel.clock - start < PATIENCE
    with pytest.raises(Busy):
        claim(tmp_path, here)
    assert kernel.clock - start > PATIENCE
