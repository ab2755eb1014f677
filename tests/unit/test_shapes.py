"""Kernels that show less than those recorded: features hidden one by one, and by two."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from manactl.journal.interrupted import BEFORE_BOOT
from manactl.look.netns import NetdevInNetns, own
from manactl.model.claim import ClaimSummary, NetnsId, Phase
from manactl.model.port import (
    ClaimInfo,
    Missing,
    Netdev,
    Note,
    Owner,
    PortId,
    PortStatus,
    Report,
    Source,
)
from tests.unit.machine import PCI, Machine, noted
from tests.unit.wording import wording

KERNELS = ["6.12", "6.18", "7"]
STATES = {
    "idle": [Owner.FREE, Owner.FREE],
    "raw-qp-on-port-2": [Owner.ETHERNET, Owner.RAW_QP],
}


def no_debugfs(machine: Machine) -> None:
    machine.remove(machine.path("/sys/kernel/debug"))
    machine.path("/sys/kernel/debug").mkdir()


def no_receive_queues_in_debugfs(machine: Machine) -> None:
    """As a driver would look that names its directories in another way."""
    for queue in machine.path("/sys/kernel/debug").glob("mana/*/vport*/RX-*"):
        queue.rename(queue.with_name(f"rx{queue.name[3:]}"))


def no_users(machine: Machine) -> None:
    """Before 5.x nldev does not tell how often an object is used."""
    assert machine.rdma is not None
    for device in machine.rdma.recorded:
        for one in (*device["contexts"], *device["pds"], *device["cqs"]):
            one["users"] = None


def queue_pair_0_is_refused(machine: Machine) -> None:
    assert machine.rdma is not None
    machine.rdma.fail["raw_qp_tracked"] = OSError(errno.EINVAL, "Invalid argument")


def queue_pair_0_is_not_found(machine: Machine) -> None:
    """The table has lost it to another one of that number, which has gone."""
    assert machine.rdma is not None
    for device in machine.rdma.recorded:
        device["summary"]["qp"] -= device["raw_qp_tracked"]
        device["raw_qp_tracked"] = False


def no_contexts(machine: Machine) -> None:
    assert machine.rdma is not None
    machine.rdma.fail["contexts"] = OSError(errno.EOPNOTSUPP, "Operation not supported")


def no_summary(machine: Machine) -> None:
    assert machine.rdma is not None
    machine.rdma.fail["summary"] = OSError(errno.EPERM, "Operation not permitted")


def no_protocols(machine: Machine) -> None:
    """RDMA_NLDEV_ATTR_DEV_PROTOCOL came with 5.1."""
    assert machine.rdma is not None
    for device in machine.rdma.recorded:
        device["device"]["protocol"] = None


def no_rdma_devices(machine: Machine) -> None:
    """They are in another network namespace (rdma system set netns exclusive)."""
    assert machine.rdma is not None
    machine.remove(machine.pci("infiniband"))
    machine.rdma.recorded = []


def no_flags(machine: Machine) -> None:
    for name in ("eth0", "eth1"):
        machine.pci(f"net/{name}/flags").unlink()


def no_netdevs(machine: Machine) -> None:
    machine.remove(machine.pci("net"))
    machine.netns.fail = PermissionError(errno.EPERM, "Operation not permitted")


HIDE: list[Callable[[Machine], None]] = [
    no_debugfs,
    no_users,
    queue_pair_0_is_refused,
    queue_pair_0_is_not_found,
    no_contexts,
    no_summary,
    no_protocols,
    no_rdma_devices,
    no_flags,
    no_netdevs,
]


UNDECIDED = [Owner.UNKNOWN, Owner.UNKNOWN]
SECOND_OPEN = [Owner.ETHERNET, Owner.UNKNOWN]
RAW = "raw-qp-on-port-2"
# Where one source less leaves something open; everywhere else the whole truth is still found.
SEEN: dict[tuple[str, str, Callable[[Machine], None]], list[Owner]] = {
    # With no RDMA device to be seen, only event queues for each vport show a raw QP or none.
    **{(kernel, "idle", no_rdma_devices): UNDECIDED for kernel in KERNELS},
    ("6.12", RAW, no_rdma_devices): SECOND_OPEN,
    ("6.18", RAW, no_rdma_devices): SECOND_OPEN,
    # Without debugfs, or with the netdev's queues there alone, a netdev not seen may be up.
    ("6.12", "idle", no_flags): UNDECIDED,
    ("6.12", "idle", no_netdevs): UNDECIDED,
    ("6.18", "idle", no_flags): UNDECIDED,
    ("6.18", "idle", no_netdevs): UNDECIDED,
    ("6.12", RAW, no_flags): UNDECIDED,
    ("6.12", RAW, no_netdevs): UNDECIDED,
    # The one queue pair of the device for all kinds may be of another kind.
    ("6.12", RAW, queue_pair_0_is_refused): SECOND_OPEN,
}


def agrees(report: Report, truth: list[Owner]) -> None:
    """No lie, no port left out, and a raw QP whose port is not known is a candidate's."""
    assert [port.id.port for port in report.ports] == list(range(1, len(truth) + 1))
    for port, owner in zip(report.ports, truth, strict=True):
        if port.owner is not Owner.UNKNOWN:
            assert port.owner is owner, port.reasons
        elif owner is Owner.RAW_QP:
            assert str(port.id) in port.candidates


@pytest.mark.parametrize(
    "hidden",
    [*((hide,) for hide in HIDE), *itertools.combinations(HIDE, 2)],
    ids=lambda hidden: "+".join(hide.__name__ for hide in hidden),
)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_less_to_see_is_less_to_say_and_no_lie(
    tmp_path: Path, kernel: str, state: str, hidden: tuple[Callable[[Machine], None], ...]
) -> None:
    if {no_flags, no_netdevs} <= set(hidden):
        hidden = (no_netdevs,)
    machine = Machine(tmp_path / "machine", f"{kernel}-{state}")
    for hide in hidden:
        hide(machine)
    report = machine.look()
    if kernel == "6.12" and {no_rdma_devices, no_netdevs} <= set(hidden):
        assert report.ports == ()  # nothing is left that shows how many there are
        with wording:
            assert any("no netdev of it can be seen" in item.why for item in report.missing)
        return
    agrees(report, STATES[state])
    if len(hidden) == 1:
        found = [port.owner for port in report.ports]
        assert found == SEEN.get((kernel, state, hidden[0]), STATES[state])


@pytest.mark.parametrize("kernel", KERNELS)
def test_queues_of_other_names_take_no_port_from_ethernet(tmp_path: Path, kernel: str) -> None:
    machine = Machine(tmp_path / "machine", f"{kernel}-raw-qp-on-port-2")
    no_receive_queues_in_debugfs(machine)
    first, second = machine.look().ports
    # The netdev is up: where debugfs shows that, too, it seems to be in transition now.
    shown = kernel != "6.12"
    assert first.owner is (Owner.UNKNOWN if shown else Owner.ETHERNET)
    assert second.owner in {Owner.RAW_QP, Owner.UNKNOWN}
    assert second.owner is Owner.RAW_QP or str(second.id) in second.candidates


def rc_users(machine: Machine, pairs: int) -> str:
    """Put queue pairs of a user on the device that has the kernel's own GSI queue pair."""
    assert machine.rdma is not None
    device = next(one for one in machine.rdma.recorded if one["device"]["protocol"])
    device["contexts"].append({"kernel": False, "pid": 77, "users": 1})
    device["pds"].append({"kernel": False, "pid": 77, "users": pairs})
    device["cqs"].append({"kernel": False, "pid": 77, "users": 2 * pairs})
    device["summary"]["qp"] += pairs
    return str(device["device"]["name"])


@pytest.mark.parametrize("kernel", KERNELS)
def test_other_queue_pairs_take_nothing_and_are_explained(tmp_path: Path, kernel: str) -> None:
    machine = Machine(tmp_path / "machine", f"{kernel}-idle")
    assert not [note for port in machine.look().ports for note in port.notes]
    name = rc_users(machine, 2)
    first, second = machine.look().ports
    assert first.owner is second.owner is Owner.FREE
    assert noted(first) == {"other-qps": (name, 2)}
    # The RNIC of kernels with two devices has one port.
    assert bool(second.notes) is (kernel == "6.12")


@pytest.mark.parametrize("kernel", KERNELS)
def test_other_queue_pairs_beside_a_raw_one(tmp_path: Path, kernel: str) -> None:
    machine = Machine(tmp_path / "machine", f"{kernel}-raw-qp-on-port-2")
    name = rc_users(machine, 1)
    first, second = machine.look().ports
    assert (first.owner, second.owner) == (Owner.ETHERNET, Owner.RAW_QP)
    assert noted(first)["other-qps"] == (name, 1)


NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def claim_of(
    port: int, *, phase: str = "claimed", same_boot: bool = True, mac: str | None = None
) -> ClaimSummary:
    info = ClaimInfo(NOW, {"uid": 0}, "claim", None, True, None)
    more = Note("claim-interrupted", (Note("recover-closes"),)) if phase == "interrupted" else None
    more = more if same_boot else BEFORE_BOOT
    return ClaimSummary(
        PortId(PCI, port, mac), info, Phase(phase), same_boot, Path("x.journal"), more
    )


def second_port(machine: Machine, claim: ClaimSummary) -> PortStatus:
    return machine.look(claims=[claim]).ports[1]


def test_a_claim_that_is_as_it_was_left_has_no_drift(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", "7-raw-qp-on-port-2")
    port = second_port(machine, claim_of(2))
    assert port.claim is not None
    assert port.drift == ()
    assert "unclaimed" not in noted(port)


def test_drift_by_what_became_of_the_netdev(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", "7-idle")
    machine.pci("net/eth1/flags").write_text("0x1003\n")
    port = second_port(machine, claim_of(2))
    assert (port.drift, port.notes[-1]) == ((Note("drift-up"),), Note("hold-keeps-down"))
    machine.remove(machine.pci("net/eth1"))
    assert second_port(machine, claim_of(2)).drift == (Note("drift-no-netdev"),)
    netdev = Netdev("eth1", 3, 0x1002, "down", None, None, None)
    machine.netns.found[1] = NetdevInNetns("blue", netdev)
    assert second_port(machine, claim_of(2)).drift == (Note("drift-moved", ("blue",)),)


def test_a_claim_of_another_network_namespace(tmp_path: Path) -> None:
    """Its netdev is where it was claimed, or it has come here."""
    machine = Machine(tmp_path / "machine", "7-idle")
    of_pod = claim_of(2)._replace(netns=NetnsId(41, -1))
    told = Note("claimed-elsewhere", (41,))
    assert second_port(machine, of_pod).drift == (told,)
    begun = claim_of(2, phase="interrupted")._replace(netns=NetnsId(41, -1))
    port = second_port(machine, begun)
    assert (port.drift, port.notes[-1]) == ((), told)
    assert begun.next_step not in port.notes
    assert second_port(machine, claim_of(2)._replace(netns=own())).drift == ()
    machine.remove(machine.pci("net/eth1"))
    netdev = Netdev("eth1", 3, 0x1002, "down", None, None, None)
    machine.netns.found[1] = NetdevInNetns("blue", netdev, 41)
    port = second_port(machine, of_pod)
    assert (port.drift, port.notes[-1]) == ((), told)
    machine.netns.found[1] = NetdevInNetns("red", netdev, 42)
    assert second_port(machine, of_pod).drift == (Note("drift-moved", ("red",)),)


def test_another_nic_in_the_place_of_the_claimed_one_is_drift(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", "7-idle")
    mine = second_port(machine, claim_of(2)).id.permanent_mac
    assert mine is not None
    assert second_port(machine, claim_of(2, mac=mine)).drift == ()
    (other,) = second_port(machine, claim_of(2, mac="02:15:5d:00:99:99")).drift
    assert other == Note("drift-another-nic", ("02:15:5d:00:99:99",))


def test_an_interrupted_claim_and_one_before_the_boot_say_what_to_do(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", "7-idle")
    machine.pci("net/eth1/flags").write_text("0x1003\n")
    for claim in (claim_of(2, phase="interrupted"), claim_of(2, same_boot=False)):
        port = second_port(machine, claim)
        assert port.drift == ()
        assert claim.next_step in port.notes


def test_without_the_journal_nothing_is_said_of_claims(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", "7-raw-qp-on-port-2")
    assert "unclaimed" in noted(machine.look().ports[1])
    unread = [Missing(Source.JOURNAL, "Permission denied")]
    assert "unclaimed" not in noted(machine.look(missing=unread).ports[1])
