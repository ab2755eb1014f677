"""The facts of `doctor --facts`, found on recorded machines and by an RDMA subsystem in memory."""

from __future__ import annotations

import errno
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from manactl.doctor import kernel_facts, probe
from manactl.doctor.machine import Shape
from manactl.look.raw_qp_probe import Proof
from manactl.look.sysfs import Roots
from manactl.model.port import Certainty, Netdev, Owner, PortId, PortStatus, RdmaPort
from manactl.wire.nldev import RdmaDevice
from manactl.wire.uverbs import ProofOutcome
from tests.unit.doctor.fit import machine
from tests.unit.machine import PCI, FakeRdma, Machine

SHAPES = {"6.12": Shape.NOTHING, "6.18": Shape.SHARED_EQS, "7": Shape.VPORT_EQS}
KERNELS = ("6.12", "6.18", "7")


class Subsystem(FakeRdma):
    """nldev as probe opens it; a dump of queue pairs is refused, as in the lab."""

    refuses: int | None = errno.EOPNOTSUPP

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def dump_queue_pairs(self, index: int) -> int:
        if self.refuses is not None:
            raise OSError(self.refuses, "refused")
        return sum(
            one["summary"]["qp"] for one in self.recorded if one["device"]["dev_index"] == index
        )


class Scene:
    """A recorded machine and what probe is to know of it."""

    def __init__(self, base: Path, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files = Machine(base, f"{kernel}-idle")
        assert self.files.rdma is not None
        self.nldev = Subsystem(self.files.rdma.recorded)
        self.machine = machine(shape=SHAPES[kernel], rdma_netns="shared")
        monkeypatch.setattr(probe, "Nldev", lambda: self.nldev)

    def found(self) -> dict[str, str | None]:
        roots = Roots(str(self.files.path("/sys")), str(self.files.path("/proc")))
        return probe.passive(self.machine, roots)


@pytest.mark.wording
@pytest.mark.parametrize("number", range(3))
def test_a_recorded_kernel_is_the_one_of_the_lab(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Scene(tmp_path, KERNELS[number], monkeypatch).found()
    lab = {f.code: f.lab[number] for f in kernel_facts.FACTS if f.lab is not None}
    # Without a queue pair of its own 6.12 has nothing to dump; idle, no PD or CQ is in use there.
    unseen = {"qp-dump", "pd-users", "cq-users"} if number == 0 else {"pd-users", "cq-users"}
    expected = {c: v for c, v in lab.items() if c not in {"raw-qp-up", "raw-qp-down"} | unseen}
    here = {code: value for code, value in found.items() if value is not None}
    auxiliary = "mana.rdma" if number == 0 else "mana.eth mana.rdma"
    assert here == expected | {"auxiliary": auxiliary, "dev-port": "0 1"}


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(tmp_path, "7", monkeypatch)


def test_users_are_told_only_where_every_object_has_them(scene: Scene) -> None:
    full = {"kernel": True, "pid": None, "users": 2}
    scene.nldev.recorded[0] |= {"pds": [full], "cqs": [full, full | {"users": None}]}
    found = scene.found()
    assert (found["pd-users"], found["cq-users"]) == ("yes", "no")


def test_a_dump_that_works_counts_its_entries(scene: Scene) -> None:
    scene.nldev.refuses = None
    assert scene.found()["qp-dump"] == "1 entries"
    scene.nldev.refuses = errno.EPERM
    assert scene.found()["qp-dump"] == "EPERM"


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (True, "EAGAIN"),
        (False, "ENOENT"),
        (OSError(errno.EPROTO, "odd"), "EPROTO"),
        (OSError(errno.EOPNOTSUPP, "no"), "EOPNOTSUPP"),
        (OSError("no number"), "None"),
    ],
)
def test_queue_pair_zero(scene: Scene, answer: bool | OSError, word: str) -> None:
    if isinstance(answer, OSError):
        scene.nldev.fail["raw_qp_tracked"] = answer
    else:
        scene.nldev.recorded[0]["raw_qp_tracked"] = answer
    assert scene.found()["qp-zero"] == word


ALL_KINDS = ("qp", "pd", "cq", "ctx")


@pytest.mark.parametrize("absent", [None, *ALL_KINDS])
def test_the_summary_lists_all_that_we_count(scene: Scene, absent: str | None) -> None:
    kinds = {kind: 0 for kind in ALL_KINDS if kind != absent}
    scene.nldev.recorded[0]["summary"] = kinds
    assert scene.found()["summary"] == ("yes" if absent is None else "no")


def test_devices_that_nldev_does_not_list_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may have gone since sysfs was read; of one device that is enough to tell the raw one."""
    scene = Scene(tmp_path, "6.12", monkeypatch)
    scene.nldev.recorded.clear()
    found = scene.found()
    assert (found["rdma-devices"], found["raw-device"], found["qp-dump"]) == ("1", None, None)


def test_without_the_rdma_subsystem_sysfs_is_still_told(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> Subsystem:
        raise OSError(errno.EPROTONOSUPPORT, "no such protocol")

    monkeypatch.setattr(probe, "Nldev", refused)
    assert set(scene.found()) == {
        *("rdma-devices", "debugfs", "debugfs-name", "netns", "auxiliary", "dev-port")
    }


def test_a_question_that_fails_leaves_the_others(scene: Scene) -> None:
    scene.nldev.fail["summary"] = ValueError("a new shape")
    found = scene.found()
    assert "summary" not in found
    assert (found["qp-zero"], found["qp-dump"]) == ("ENOENT", None)


@pytest.mark.parametrize(
    ("names", "word"), [((PCI,), "pci"), (("0",), "slot"), (("other",), "neither")]
)
def test_how_debugfs_names_the_function(scene: Scene, names: tuple[str, ...], word: str) -> None:
    base = scene.files.path("/sys/kernel/debug/mana")
    scene.files.remove(base)
    for name in names:
        (base / name).mkdir(parents=True)
    assert scene.found()["debugfs-name"] == word
    scene.machine = machine(shape=None)
    assert scene.found()["debugfs-name"] is None
    assert scene.found()["debugfs"] is None


@pytest.mark.parametrize(
    ("guid", "protocol", "word"),
    [(0, None, "zero, none"), (5, "roce", "nonzero, roce"), (None, "iwarp", "zero, iwarp")],
)
def test_the_kind_of_the_raw_device(guid: int | None, protocol: str | None, word: str) -> None:
    assert probe._kind(RdmaDevice(0, "x", 1, guid, protocol)) == word


def test_functions_that_differ_are_all_told() -> None:
    assert probe._same([]) is None
    assert probe._same(["2", "2"]) == "2"
    assert probe._same(["2", "1", "2"]) == "2; 1"


PORT = PortStatus(
    id=PortId(PCI, 2, None),
    netdev=Netdev("eth1", 3, 0x1002, "down", None, None, None),
    netns=None,
    upper=None,
    rdma=RdmaPort("manae_0", 2),
    owner=Owner.FREE,
    certainty=Certainty.PROVEN,
)
UP = PORT._replace(netdev=Netdev("eth1", 3, 0x1003, "up", True, None, None))


@pytest.mark.parametrize(
    ("port", "outcome", "number", "found"),
    [
        (PORT, ProofOutcome.FREE, None, {"raw-qp-down": "made"}),
        (UP, ProofOutcome.TAKEN, errno.EBUSY, {"raw-qp-up": "EBUSY"}),
        (UP, ProofOutcome.TAKEN, errno.ENODEV, {"raw-qp-up": "ENODEV"}),
        (PORT, ProofOutcome.CANNOT, None, {"raw-qp-down": None}),
    ],
)
def test_a_raw_qp_is_tried_where_the_port_is(
    monkeypatch: pytest.MonkeyPatch,
    port: PortStatus,
    outcome: ProofOutcome,
    number: int | None,
    found: dict[str, str | None],
) -> None:
    tried: list[tuple[str, str, int]] = []

    def prove(pci: str, device: str, rdma_port: int) -> Proof:
        tried.append((pci, device, rdma_port))
        return Proof(outcome, number, None, "uverbs", "")

    monkeypatch.setattr(probe, "prove_free", prove)
    assert probe.probed(port) == found
    assert tried == [("0000:01:00.0", "manae_0", 2)]
    assert probe.probed(port._replace(rdma=None)) == {}
    assert probe.probed(port._replace(netdev=None)) == {}
    assert len(tried) == 1
