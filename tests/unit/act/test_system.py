"""The running kernel: ports are found by what they are, not by what they are called."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from sys import modules
from typing import Any, NamedTuple

import pytest

from manactl.act.plan import NetdevNow
from manactl.act.system import LiveSystem, capabilities, who
from manactl.look import raw_qp_probe
from manactl.model.port import Certainty, Missing, Owner, PortStatus, Report
from manactl.wire.uverbs import ProofOutcome
from tests.unit.fakes import PORT
from tests.unit.host import NOW, FakeHost, two_ports


class Link(NamedTuple):
    permanent_mac: str | None
    carrier: bool = True


class Rtnetlink:
    """Links by ifindex, and what was asked of them."""

    def __init__(self) -> None:
        self.links = {3: Link(PORT.permanent_mac), 4: Link(None)}
        self.set: list[tuple[int, bool]] = []

    def link(self, ifindex: int) -> Link:
        if ifindex not in self.links:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return self.links[ifindex]

    def set_up(self, ifindex: int, up: bool) -> None:
        self.set.append((ifindex, up))

    def close(self) -> None:
        pass


@pytest.fixture
def sys(tmp_path: Path) -> Path:
    netdev(tmp_path, "eth1", 0, 3, "0x1003")
    netdev(tmp_path, "eth2", 1, 4, "0x1002")
    return tmp_path


def netdev(sys: Path, name: str, dev_port: int, ifindex: int, flags: str) -> None:
    path = sys / "bus/pci/devices/7870:00:00.0/net" / name
    path.mkdir(parents=True)
    (path / "dev_port").write_text(f"{dev_port}\n")
    (path / "ifindex").write_text(f"{ifindex}\n")
    (path / "flags").write_text(f"{flags}\n")


@pytest.fixture
def system(sys: Path) -> Iterator[Any]:
    with LiveSystem(FakeHost(two_ports()).look, sys=sys, dev=sys / "dev") as made:
        made.rtnl.close()
        made.rtnl = Rtnetlink()  # type: ignore[assignment]
        yield made


def test_a_netdev_is_found_by_pci_address_port_and_mac(system: LiveSystem) -> None:
    assert system.netdev(PORT) == NetdevNow("eth1", 3, True)
    assert system.netdev(PORT._replace(permanent_mac=None)) == NetdevNow("eth1", 3, True)
    assert system.netdev(PORT._replace(permanent_mac="00:0d:3a:cc:00:01")) is None
    assert system.netdev(PORT._replace(port=2, permanent_mac=None)) == NetdevNow("eth2", 4, False)
    assert system.netdev(PORT._replace(port=3)) is None
    assert system.netdev(PORT._replace(pci="7871:00:00.0")) is None


def test_a_netdev_that_is_just_going_is_not_there(system: LiveSystem, sys: Path) -> None:
    (sys / "bus/pci/devices/7870:00:00.0/net/eth1/ifindex").unlink()
    assert system.netdev(PORT) is None
    with pytest.raises(OSError, match="no netdev here"):
        system.set_admin(PORT, True)


def test_acts_go_to_the_ifindex_of_now(system: LiveSystem, sys: Path) -> None:
    (sys / "bus/pci/devices/7870:00:00.0/net/eth1/ifindex").write_text("17\n")
    system.rtnl.links[17] = Link(PORT.permanent_mac, carrier=False)  # type: ignore[attr-defined]
    system.set_admin(PORT, False)
    assert system.rtnl.set == [(17, False)]  # type: ignore[attr-defined]
    assert system.carrier(PORT) is False


def test_nobody_is_asked_for_a_mac_that_is_not_known(system: LiveSystem) -> None:
    """RTM_GETLINK waits for RTNL, which a driver may hold."""
    system.rtnl.links.clear()  # type: ignore[attr-defined]
    assert system.netdev(PORT._replace(permanent_mac=None)) == NetdevNow("eth1", 3, True)
    assert system.netdev(PORT) is None


def rdma_device(
    sys: Path, name: str, minor: int, *, node: str = "uverbs0", guid: str = "0"
) -> Path:
    """A device of the function; its node in /dev is /dev/null, which is 1:3."""
    function = sys / "bus/pci/devices/7870:00:00.0"
    ports = function / "infiniband" / name / "ports"
    for port in ("1", "2"):
        (ports / port).mkdir(parents=True)
    (ports.parent / "node_guid").write_text(f"{guid}\n")
    entry = function / "infiniband_verbs" / node
    entry.mkdir(parents=True)
    (entry / "ibdev").write_text(f"{name}\n")
    (entry / "dev").write_text(f"1:{minor}\n")
    (sys / "dev/infiniband").mkdir(parents=True, exist_ok=True)
    (sys / "dev/infiniband" / node).symlink_to("/dev/null")
    return entry


def test_the_raw_qp_device_is_looked_up_at_each_proof(
    system: LiveSystem, sys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`rdma dev set manae_0 name fabric` between two proofs, with its old name for another one:
    the node of the device that the function has now is opened, and no other."""
    monkeypatch.setitem(modules, "pyverbs", None)
    entry = rdma_device(sys, "manae_0", 3)
    proof = system.prove_free(PORT)
    assert (proof.where, proof.via) == (None, "uverbs")
    assert proof.message.startswith("manae_0 is not a MANA Ethernet device"), "what /dev/null says"
    function = sys / "bus/pci/devices/7870:00:00.0"
    (function / "infiniband/manae_0").rename(function / "infiniband/fabric")
    (entry / "ibdev").write_text("fabric\n")
    proof = system.prove_free(PORT)
    assert proof.message.startswith("fabric is not a MANA Ethernet device")


def test_devices_whose_names_were_swapped_are_told_apart_by_what_they_are(
    system: LiveSystem, sys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The RNIC of the function is called manae_0 now; it alone has a node GUID."""
    monkeypatch.setitem(modules, "pyverbs", None)
    rdma_device(sys, "manae_0", 9, node="uverbs0", guid="7c1e:52ff:fe00:0001")
    rdma_device(sys, "mana_0", 3, node="uverbs1")
    assert system.prove_free(PORT).message.startswith("mana_0 is not")


def test_a_device_that_is_renamed_between_the_look_and_the_open_is_looked_up_again(
    system: LiveSystem, sys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(modules, "pyverbs", None)
    entry = rdma_device(sys, "manae_0", 3)
    devices = sys / "bus/pci/devices/7870:00:00.0/infiniband"
    open_device = raw_qp_probe.open_device

    def renamed_first(pci: str, name: str, *more: Any) -> raw_qp_probe.Device:
        if name == "manae_0":
            (devices / name).rename(devices / "fabric")
            (entry / "ibdev").write_text("fabric\n")
        return open_device(pci, name, *more)

    monkeypatch.setattr(raw_qp_probe, "open_device", renamed_first)
    assert system.prove_free(PORT).message.startswith("fabric is not")


def test_a_device_that_cannot_be_opened_is_not_tried_for_ever(
    system: LiveSystem, sys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(modules, "pyverbs", None)
    rdma_device(sys, "manae_0", 9)
    proof = system.prove_free(PORT)
    assert (proof.where, proof.errno) == ("open", errno.ENXIO)
    assert "another device's by now" in proof.message


def test_without_an_rdma_device_nothing_can_be_proven(system: LiveSystem) -> None:
    proof = system.prove_free(PORT._replace(port=2))
    assert (proof.outcome, proof.errno) == (ProofOutcome.CANNOT, errno.ENODEV)
    assert "mana_ib" in proof.message
    system.warm_up(PORT)  # a device that is not there: the proof reports it later
    system.warm_up(PORT._replace(port=2))


def test_holders_are_those_of_the_port(sys: Path) -> None:
    kernel = two_ports()
    kernel.nic("eth2").holders = [77]
    with LiveSystem(FakeHost(kernel).look, sys=sys) as system:
        assert system.holders(PORT) == ()
        assert [one.pid for one in system.holders(PORT._replace(port=2))] == [77]
        assert system.holders(PORT._replace(port=9)) == ()


@pytest.mark.parametrize(
    ("owner", "certainty", "source", "free"),
    [
        (Owner.FREE, Certainty.PROVEN, "debugfs", True),
        (Owner.FREE, Certainty.INFERRED, "debugfs", False),
        (Owner.RAW_QP, Certainty.PROVEN, "debugfs", False),
        (Owner.FREE, Certainty.PROVEN, "mana", False),  # somebody waits in the driver
    ],
)
def test_free_is_believed_on_proof_while_nobody_is_in_the_driver(
    sys: Path, owner: Owner, certainty: Certainty, source: str, free: bool
) -> None:
    other = PortStatus(PORT._replace(port=2), None, None, None, None, Owner.FREE, Certainty.PROVEN)
    port = PortStatus(PORT, None, None, None, None, owner, certainty)
    report = Report(NOW, "7", True, (Missing(source, "why"),), (other, port))
    with LiveSystem(lambda: report, sys=sys) as system:
        assert system.seems_free(PORT) is free


def test_who_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "operator")
    said = who()
    assert (said["uid"], said["sudo_user"]) == (os.getuid(), "operator")
    login = said["loginuid"]
    assert login is None or isinstance(login, int)
    assert login != 0xFFFFFFFF
    assert capabilities() >= 0
