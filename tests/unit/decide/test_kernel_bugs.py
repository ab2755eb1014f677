"""A raw QP whose end crashes the kernel, and a vport without an owner that counts as taken."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from manactl.decide import kernel_bugs
from manactl.errors import NotRestored, Refused
from manactl.model.port import Evidence, Holder, PortId, PortStatus, Upper
from tests.unit.decide.scene import STATUS
from tests.unit.fakes import PORT
from tests.unit.host import FakeHost, claim, furnished, release
from tests.unit.wording import Coded, says, wording

LOST = STATUS._replace(eqs_lost=True, evidence=(Evidence("debugfs", "EQs", False),))
BOTH = ("7870:00:00.0:1", "7870:00:00.0:2")


@pytest.mark.parametrize(
    ("raw_qp", "eqs", "lost"),
    [
        (True, False, True),
        (True, True, False),
        (True, None, False),  # this driver shows no event queues of a vport: none to lose
        (False, False, False),
        (False, True, False),
        (False, None, False),
    ],
)
def test_event_queues_are_lost_where_a_raw_qp_has_none(
    raw_qp: bool, eqs: bool | None, lost: bool
) -> None:
    assert kernel_bugs.eqs_lost(raw_qp=raw_qp, eqs=eqs) is lost


@pytest.mark.parametrize(
    ("candidates", "own"), [((), True), (BOTH[:1], True), (BOTH, False), (BOTH[1:], False)]
)
def test_whose_event_queues_are_lost_is_said_where_it_is_known(
    candidates: tuple[str, ...], own: bool
) -> None:
    assert kernel_bugs.is_own(LOST._replace(candidates=candidates)) is own
    words = kernel_bugs.lost_eqs(own)
    with wording:
        assert words.startswith("KERNEL BUG: ")
        assert ("this port's" in words, "a down port's" in words) == (own, not own)
        assert "Do not stop the program until you can reboot" in words


@pytest.mark.parametrize("ports", [[LOST], [STATUS, LOST], [LOST, STATUS]])
def test_a_release_does_not_wait_for_the_crash(ports: list[PortStatus]) -> None:
    kernel_bugs.refuse_release([])
    kernel_bugs.refuse_release([STATUS])
    with pytest.raises(
        Refused,
        match=says("nobody was signalled: KERNEL BUG: this port's"),
        check=Coded("kernel-bug"),
    ) as caught:
        kernel_bugs.refuse_release(ports)
    refused = caught.value
    assert (refused.exit_code, refused.code) == (3, "kernel-bug")
    assert refused.evidence == LOST.evidence
    with wording:
        assert "the journal stays open" in (refused.hint or "")


BOND, TEAM = Upper("bond0", "bond"), Upper("team0", "team")


@pytest.mark.parametrize(
    ("upper", "vport_eqs", "bond"),
    [
        (BOND, True, "bond0"),
        (BOND, False, "bond0"),  # there may be a raw QP later, and be none now
        (BOND, None, None),
        (TEAM, True, None),
        (Upper("x", None), True, None),
        (None, True, None),
    ],
)
def test_a_bond_can_do_harm_where_each_vport_has_event_queues(
    upper: Upper | None, vport_eqs: bool | None, bond: str | None
) -> None:
    port = STATUS._replace(upper=upper, vport_eqs=vport_eqs)
    assert kernel_bugs.endangered_by_bond(port) == bond


@pytest.mark.wording
def test_the_danger_of_a_bond_names_what_to_leave_alone() -> None:
    words = kernel_bugs.bond_danger("eth1", "bond0")
    assert "a raw QP has eth1" in words
    assert "do not delete bond0 or change its MTU, nor move eth1" in words


class Seen:
    """What is seen of a port: its holders, and whether all evidence says that it is free."""

    def __init__(self, holders: int, free: bool) -> None:
        self._holders, self._free = holders, free

    def holders(self, port: PortId) -> tuple[Holder, ...]:
        assert port == PORT
        return (Holder(4211, None, None, None, None, None, None),) * self._holders

    def seems_free(self, port: PortId) -> bool:
        assert port == PORT
        return self._free


@pytest.mark.parametrize(
    ("holders", "free", "leaked"),
    [(0, True, True), (1, True, False), (0, False, False), (1, False, False)],
)
def test_a_vport_is_leaked_when_nothing_at_all_has_it(
    holders: int, free: bool, leaked: bool
) -> None:
    assert kernel_bugs.vport_leaked(Seen(holders, free), PORT) is leaked


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EBUSY, "the driver's use count is wrong"),
        (errno.ENODEV, "the driver's use count is wrong"),
        (errno.ETIMEDOUT, "the device does not answer its driver"),
        (errno.EPROTO, "the device does not answer its driver"),
        (errno.EIO, "the device does not answer its driver"),
        (errno.ENOMEM, None),
        (None, None),
    ],
)
def test_what_helps_a_netdev_that_is_not_set_up_goes_by_the_errno(
    number: int | None, words: str | None
) -> None:
    remedy = kernel_bugs.opening_remedy(number, PORT)
    assert (remedy is None) is (words is None)
    if remedy is not None and words is not None:
        with wording:
            assert words in remedy
        assert remedy.endswith(kernel_bugs.reload_driver(PORT))


def test_the_driver_is_reloaded_for_all_ports_of_the_function() -> None:
    words = kernel_bugs.reload_driver(PORT)
    assert PORT.pci in words
    with wording:
        assert words.endswith(": modprobe -r mana_ib mana && modprobe mana_ib")


def test_a_leaked_vport_is_no_live_holder_to_a_release(tmp_path: Path) -> None:
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    kernel.nics[0].leaked = True
    with pytest.raises(
        NotRestored, match=says(r"KERNEL BUG: .* use count"), check=Coded("kernel-bug")
    ) as caught:
        release(tmp_path, FakeHost(kernel))
    assert caught.value.code == "kernel-bug"
    assert "manactl release" in (caught.value.hint or "")
