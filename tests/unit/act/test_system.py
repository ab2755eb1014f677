"""The running kernel: ports are found by what they are, not by what they are called."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from sys import modules
from typing import Any, NamedTuple

import pytest

from manactl.act import system as live
from manactl.act.boot_files import BootFiles
from manactl.act.plan import PairNow
from manactl.act.system import LiveSystem, capabilities, who
from manactl.look import (
    boot_files,
    raw_qp_probe,
    stacked_links,
    surroundings,
    user_namespace,
    vmbus,
)
from manactl.look.boot_files import BootFile
from manactl.look.netdevs_of import NetdevNow
from manactl.look.pairs import Frames
from manactl.model.port import Certainty, Missing, Owner, PortStatus, Report, Source
from manactl.netstate.blueprints import Blueprint
from manactl.netstate.left_down import LeftDown
from manactl.netstate.link_settings import LinkSettings
from manactl.netstate.snapshot import Request
from manactl.netstate.unmanaged import NETWORKD, Unmanaged, UnmanagedLink
from manactl.wire.uverbs import ProofOutcome
from tests.unit.decide.scene import QUIET, STATE, STATUS
from tests.unit.fakes import PORT
from tests.unit.host import NOW, FakeHost, two_ports
from tests.unit.look import test_found_again
from tests.unit.wording import says, wording


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
    with pytest.raises(OSError, match=says("no netdev here")):
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
    with wording:
        assert proof.message.startswith("manae_0 is not a MANA Ethernet device"), (
            "what /dev/null says"
        )
    function = sys / "bus/pci/devices/7870:00:00.0"
    (function / "infiniband/manae_0").rename(function / "infiniband/fabric")
    (entry / "ibdev").write_text("fabric\n")
    proof = system.prove_free(PORT)
    with wording:
        assert proof.message.startswith("fabric is not a MANA Ethernet device")


@pytest.mark.wording
def test_devices_whose_names_were_swapped_are_told_apart_by_what_they_are(
    system: LiveSystem, sys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The RNIC of the function is called manae_0 now; it alone has a node GUID."""
    monkeypatch.setitem(modules, "pyverbs", None)
    rdma_device(sys, "manae_0", 9, node="uverbs0", guid="7c1e:52ff:fe00:0001")
    rdma_device(sys, "mana_0", 3, node="uverbs1")
    assert system.prove_free(PORT).message.startswith("mana_0 is not")


@pytest.mark.wording
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
    opened = []
    open_device = raw_qp_probe.open_device

    def noted(*where: Any) -> raw_qp_probe.Device:
        opened.append(where[:2])
        return open_device(*where)

    monkeypatch.setattr(raw_qp_probe, "open_device", noted)
    proof = system.prove_free(PORT)
    assert opened == [(PORT.pci, "manae_0")]
    assert (proof.where, proof.errno) == ("open", errno.ENXIO)
    with wording:
        assert "another device's by now" in proof.message


def test_without_an_rdma_device_nothing_can_be_proven(system: LiveSystem) -> None:
    proof = system.prove_free(PORT._replace(port=2))
    assert (proof.outcome, proof.errno) == (ProofOutcome.CANNOT, errno.ENODEV)
    with wording:
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
        (Owner.FREE, Certainty.PROVEN, Source.DEBUGFS, True),
        (Owner.FREE, Certainty.INFERRED, Source.DEBUGFS, False),
        (Owner.RAW_QP, Certainty.PROVEN, Source.DEBUGFS, False),
        (Owner.FREE, Certainty.PROVEN, Source.MANA, False),  # somebody waits in the driver
    ],
)
def test_free_is_believed_on_proof_while_nobody_is_in_the_driver(
    sys: Path, owner: Owner, certainty: Certainty, source: Source, free: bool
) -> None:
    other = PortStatus(PORT._replace(port=2), None, None, None, None, Owner.FREE, Certainty.PROVEN)
    port = PortStatus(PORT, None, None, None, None, owner, certainty)
    report = Report(NOW, "7", True, (Missing(source, "why"),), (other, port))
    with LiveSystem(lambda: report, sys=sys) as system:
        assert system.seems_free(PORT) is free


@pytest.mark.parametrize("resetting", [False, True])
def test_a_device_in_reset_is_that_of_the_port(sys: Path, resetting: bool) -> None:
    other = PortStatus(
        PORT._replace(pci="7870:00:00.9"), None, None, None, None, Owner.FREE, Certainty.PROVEN,
        in_reset=not resetting,
    )  # fmt: skip
    port = PortStatus(PORT, None, None, None, None, Owner.UNKNOWN, Certainty.UNKNOWN)
    report = Report(NOW, "7", True, (), (other, port._replace(in_reset=resetting)))
    with LiveSystem(lambda: report, sys=sys) as system:
        assert system.in_reset(PORT) is resetting


def test_a_boot_file_that_says_too_little_is_passed_over(
    sys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"port": {"pci": "a", "port": 1, "permanent_mac": None}}
    whole = {**said, "name": "eth1", "manager": "NetworkManager", "key": "k", "links": [],
             "beside": []}  # fmt: skip
    path = "/etc/NetworkManager/conf.d/f"
    strange = {**said, "name": "eth1", "manager": "NetworkManager", "key": "k", "links": ["eth1"]}
    said_by_each = (said, strange, whole, whole)
    files = [BootFile(path, "a", 1, None, one, False) for one in said_by_each]
    monkeypatch.setattr(boot_files, "find", lambda: tuple(files))
    with LiveSystem(lambda: Report(NOW, "7", True, (), ()), sys=sys) as system:
        (found,) = system.boot_files()
    assert found.name == "eth1"


def test_who_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "operator")
    said = who()
    assert (said["uid"], said["sudo_user"]) == (os.getuid(), "operator")
    login = said["loginuid"]
    assert login is None or isinstance(login, int)
    assert login != 0xFFFFFFFF


# --- what is handed on ----------------------------------------------------------------------


def proc_file(monkeypatch: pytest.MonkeyPatch, path: str, text: str | None) -> None:
    """What a file of /proc says; None: it is not there."""
    real = live.read

    def read(asked: str | os.PathLike[str]) -> str:
        if str(asked) != path:
            return real(asked)
        if text is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return text

    monkeypatch.setattr(live, "read", read)


@pytest.mark.parametrize(
    ("text", "login"), [("1000", 1000), ("4294967295", None), ("", None), (None, None)]
)
def test_the_login_uid(
    monkeypatch: pytest.MonkeyPatch, text: str | None, login: int | None
) -> None:
    proc_file(monkeypatch, "/proc/self/loginuid", text)
    monkeypatch.delenv("SUDO_USER", raising=False)
    assert who() == {"uid": os.getuid(), "sudo_user": None, "loginuid": login}


def test_capabilities_are_the_effective_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    status = "Name:\tx\nCapPrm:\t00000000000000ff\nCapEff:\t0000000000003000\nCapBnd:\t0f\n"
    proc_file(monkeypatch, "/proc/self/status", status)
    assert capabilities() == 0x3000
    proc_file(monkeypatch, "/proc/self/status", "Name:\tx\n")
    assert capabilities() == 0


@pytest.mark.parametrize(("owns", "left"), [(True, 0x1000), (False, 0)])
def test_root_of_a_user_namespace_has_what_belongs_to_it(
    monkeypatch: pytest.MonkeyPatch, owns: bool, left: int
) -> None:
    proc_file(monkeypatch, "/proc/self/status", "CapEff:\t000001ffffffffff\n")
    monkeypatch.setattr(user_namespace, "is_initial", lambda: False)
    monkeypatch.setattr(user_namespace, "owns_netns", lambda: owns)
    assert capabilities() == left


def test_a_netdev_that_is_just_going_hides_no_other(system: LiveSystem, sys: Path) -> None:
    """One whose files are half gone, one that is another NIC's, and then the one that is meant."""
    netdev(sys, "a0", 0, 20, "0x1003")
    (sys / "bus/pci/devices/7870:00:00.0/net/a0/flags").write_text("")
    netdev(sys, "b0", 0, 21, "0x1003")
    system.rtnl.links[21] = Link("00:0d:3a:cc:00:01")  # type: ignore[attr-defined]
    netdev(sys, "c0", 0, 22, "0x1003")  # rtnetlink does not know it any more
    assert system.netdev(PORT) == NetdevNow("eth1", 3, True)


@pytest.mark.parametrize(("flags", "up"), [("0x1", True), ("0x1002", False), ("0x11", True)])
def test_up_is_one_bit_of_the_flags(system: LiveSystem, sys: Path, flags: str, up: bool) -> None:
    (sys / "bus/pci/devices/7870:00:00.0/net/eth1/flags").write_text(f"{flags}\n")
    assert system.netdev(PORT) == NetdevNow("eth1", 3, up)


def test_a_carrier_that_is_there(system: LiveSystem) -> None:
    assert system.carrier(PORT) is True


def test_clocks_are_the_kernels(system: LiveSystem) -> None:
    assert time.monotonic() <= system.monotonic() <= time.monotonic()
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= system.boottime() <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_a_capture_is_of_the_netdev_of_now_with_the_clock_that_runs_in_suspend(
    system: LiveSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, ...]] = []

    def capture(*args: object, alone: bool) -> object:
        asked.append((*args, alone))
        return STATE

    monkeypatch.setattr(system.rtnl, "capture", capture, raising=False)
    monkeypatch.setattr(system, "boottime", lambda: 4711.0)
    assert system.capture(PORT, {10}) is STATE
    assert system.capture(PORT, alone=True) is STATE
    assert asked == [(PORT, 3, 4711.0, {10}, None, False), (PORT, 3, 4711.0, (), None, True)]


def test_requests_and_settings_are_passed_on(
    system: LiveSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[object] = []
    monkeypatch.setattr(system.rtnl, "send", sent.append, raising=False)
    request = Request(24, 0x400, b"body")
    system.send(request)
    assert sent == [request]
    put: list[tuple[str, str]] = []
    monkeypatch.setattr(stacked_links, "put_setting", lambda *args: put.append(args))
    system.set_sysctl("ipv6/conf/eth1/forwarding", "1")
    assert put == [("ipv6/conf/eth1/forwarding", "1")]


def test_surroundings_are_those_of_this_port(
    system: LiveSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, ...]] = []

    def gather(*args: object) -> object:
        asked.append(args)
        return QUIET

    monkeypatch.setattr(surroundings, "gather", gather)
    assert system.surroundings(STATUS, STATE, [3]) is QUIET
    assert asked == [(STATUS, STATE, [3], system.rtnl)]


def test_warming_up_opens_the_device_and_closes_it(
    system: LiveSystem, sys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Opened:
        closed = 0

        def close(self) -> None:
            self.closed += 1

    device, asked = Opened(), []

    def opening(*args: object) -> Opened:
        asked.append(args)
        return device

    monkeypatch.setattr("manactl.act.system.open_device", opening)
    system.warm_up(PORT)
    assert asked == []  # it has none
    rdma_device(sys, "manae_0", 3)
    system.warm_up(PORT)
    assert asked == [("7870:00:00.0", "manae_0", [], str(sys), str(sys / "dev"))]
    assert device.closed == 1
    system.warm_up(PORT._replace(port=3))
    assert len(asked) == 1


def test_the_socket_is_closed_at_the_end(sys: Path) -> None:
    with LiveSystem(FakeHost(two_ports()).look, sys=sys) as system:
        system.rtnl.link(1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        system.rtnl.link(1)


UUID = "000d3aaa-0010-000d-3aaa-0010000d3aaa"


def pair(sys: Path, *, name: str = "eth0", flags: str = "0x1003") -> None:
    """`name` above eth1, with counters of both."""
    device = sys / "devices" / UUID
    net = device / "net" / name
    net.mkdir(parents=True)
    (device / "class_id").write_text("{f8615163-df3e-46c5-913f-f2d2f965ed0e}\n")
    (device / "subsystem").symlink_to("../../bus/vmbus")
    (net / "ifindex").write_text("40\n")
    (net / "flags").write_text(f"{flags}\n")
    (net / "device").symlink_to(f"../../../{UUID}")
    (sys / "bus/vmbus/devices").mkdir(parents=True)
    (sys / "bus/vmbus/devices" / UUID).symlink_to(f"../../../devices/{UUID}")
    vf = sys / "bus/pci/devices/7870:00:00.0/net/eth1"
    (vf / "master").symlink_to(f"../{name}")
    for path, count in ((vf, 3), (net, 10)):
        (path / "statistics").mkdir()
        for which in ("rx", "tx"):
            (path / "statistics" / f"{which}_packets").write_text(f"{count}\n")
    (sys / "class/net").mkdir(parents=True)
    (sys / "class/net" / name).symlink_to(net)
    (sys / "class/net/eth1").symlink_to(vf)


def test_a_synthetic_netdev_is_found_by_its_uuid(system: LiveSystem, sys: Path) -> None:
    assert system.synthetic(UUID) is None
    with pytest.raises(OSError, match=says("no netdev here")):
        system.set_synthetic(UUID, False)
    pair(sys, name="lan0")
    assert system.synthetic(UUID) == NetdevNow("lan0", 40, True)
    system.rtnl.links[40] = Link(None, carrier=True)  # type: ignore[attr-defined]
    system.set_synthetic(UUID, False)
    assert system.rtnl.set == [(40, False)]  # type: ignore[attr-defined]
    assert system.synthetic_carrier(UUID) is True
    (sys / f"devices/{UUID}/net/lan0/flags").unlink()
    assert system.synthetic(UUID) is None, "not known to be down"


def test_a_pair_as_it_is_now(system: LiveSystem, sys: Path) -> None:
    assert system.pair_now(PORT, UUID) == PairNow(False, None)
    pair(sys)
    assert system.pair_now(PORT, UUID) == PairNow(True, Frames(6, 10))
    assert system.pair_now(PORT, "another") == PairNow(False, None)
    assert system.pair_now(PORT._replace(port=7), UUID) == PairNow(False, None)
    (sys / "bus/pci/devices/7870:00:00.0/net/eth1/master").unlink()
    assert system.pair_now(PORT, UUID) == PairNow(False, Frames(6, 10))


# --- what is somebody else's work ---------------------------------------------------------------

UNMANAGED = Unmanaged(NETWORKD, "0", (UnmanagedLink("eth1", 3, None, None, True),))
KEPT = LeftDown(PORT, "eth1", UNMANAGED)


class Managers:
    """NetworkManagers that note what they are asked, and answer each time otherwise."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Unmanaged]] = []
        self.answers: list[object] = [True, False]

    def __getattr__(self, name: str) -> Any:
        def ask(unmanaged: Unmanaged) -> object:
            self.asked.append((name, unmanaged))
            return self.answers[len(self.asked) % 2]

        return ask


def test_managers_are_asked_and_their_answer_is_the_answer(system: Any) -> None:
    managers = system.__dict__["_network_managers"] = Managers()
    system.unmanage(UNMANAGED)
    assert [system.give_back(UNMANAGED) for _ in range(2)] == [True, False]
    assert [system.is_unmanaged(UNMANAGED) for _ in range(2)] == [True, False]
    managers.answers[:] = [("eth1",), ()]
    assert [system.unsettled(UNMANAGED) for _ in range(2)] == [("eth1",), ()]
    names = ["unmanage", *(["give_back"] * 2), *(["is_unmanaged"] * 2), *(["unsettled"] * 2)]
    assert managers.asked == [(name, UNMANAGED) for name in names]


def test_netdevs_are_found_again_by_what_drives_them(system: Any, sys: Path) -> None:
    for name, driver in (("eth1", "mana"), ("eth2", "virtio_net")):
        (sys / f"class/net/{name}/device").mkdir(parents=True)
        (sys / f"class/net/{name}/device/driver").symlink_to(f"/drivers/{driver}")
    mac = test_found_again.MAC
    links = [test_found_again.body("eth1", 3, mac), test_found_again.body("eth2", 4, mac)]
    system.rtnl.links = lambda: links
    was = Unmanaged(NETWORKD, "0", (UnmanagedLink("lan0", 9, mac, "virtio_net", True),))
    found = system.found_again(was)
    assert [(one.name, one.ifindex) for one in found.links] == [("eth2", 4)]
    assert found.manager == was.manager


def test_boot_files_are_written_found_lifted_and_removed(
    system: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "BootFiles", lambda: BootFiles(tmp_path / "etc"))
    managers = system.__dict__["_network_managers"] = Managers()
    assert system.has_boot_files(KEPT) is False
    system.write_boot_files(KEPT)
    assert system.has_boot_files(KEPT) is True
    (path,) = BootFiles(tmp_path / "etc").paths(KEPT)
    text = path.read_text()
    path.write_text(f"{text}# mine\n")
    assert system.remove_boot_files(KEPT) == (str(path),)
    path.write_text(text)
    assert system.remove_boot_files(KEPT) == ()
    assert system.has_boot_files(KEPT) is False
    system.write_boot_files(KEPT)
    assert [system.lift_boot_files(KEPT, UNMANAGED) for _ in range(2)] == [(False, ()), (True, ())]
    assert managers.asked == [("give_back", UNMANAGED)] * 2
    assert system.has_boot_files(KEPT) is False


def test_vmbus_devices_change_their_drivers(system: Any, sys: Path) -> None:
    uuid, bus = "000d3aaa-0010", sys / "bus/vmbus"
    for driver in ("hv_netvsc", "uio_hv_generic"):
        (bus / "drivers" / driver).mkdir(parents=True)
        for name in ("bind", "unbind", "new_id", "remove_id"):
            (bus / "drivers" / driver / name).write_text("")
    (bus / "devices" / uuid).mkdir(parents=True)
    (bus / "devices" / uuid / "class_id").write_text(f"{vmbus.NETWORK}\n")
    (bus / "devices" / uuid / "driver").symlink_to(bus / "drivers/hv_netvsc")
    assert system.vmbus_driver(uuid) == "hv_netvsc"
    system.unbind_vmbus(uuid, "hv_netvsc")
    system.open_uio()
    system.bind_vmbus(uuid, "uio_hv_generic")
    system.close_uio()
    written = {
        f"{path.parent.name}/{path.name}": path.read_text() for path in bus.glob("drivers/*/*")
    }
    assert {name: text for name, text in written.items() if text} == {
        "hv_netvsc/unbind": uuid,
        "uio_hv_generic/new_id": vmbus.NETWORK.strip("{}"),
        "uio_hv_generic/bind": uuid,
        "uio_hv_generic/remove_id": vmbus.NETWORK.strip("{}"),
    }


def test_who_has_the_uio_device_of_a_vmbus_device(
    system: Any, sys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid, rdev = "000d3aaa-0010", os.makedev(243, 5)
    assert (system.uio_holders(uuid), system.uio_open(uuid)) == ((), False)
    uio = sys / "bus/vmbus/devices" / uuid / "uio/uio5"
    uio.mkdir(parents=True)
    (uio / "dev").write_text("243:5\n")
    asked: list[object] = []

    class Held(NamedTuple):
        of: dict[int, tuple[str, ...]]

    def holders(proc: str, devices: list[int]) -> Held:
        asked.append((proc, devices))
        return Held({rdev: ("somebody",)})

    monkeypatch.setattr(live.procfs, "holders", holders)
    assert system.uio_holders(uuid) == ("somebody",)
    assert asked == [("/proc", [rdev])]
    assert not system.uio_open(uuid)
    for state, is_open in (("2", False), ("3", True)):
        (uio.parent.parent / "state").write_text(f"{state}\n")
        assert system.uio_open(uuid) is is_open


def test_what_is_asked_of_rtnetlink_and_ethtool_is_of_the_netdev_of_now(
    system: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, asked = Blueprint(9, LinkSettings()), list[object]()

    def answering(name: str, answer: object) -> Any:
        def ask(*args: object) -> object:
            asked.append((name, *args))
            return answer

        return ask

    rtnl = system.rtnl
    for name, answer in (
        ("uppers", ("upper",)), ("blueprints", [plan]), ("beside", ("rule",)),
        ("send_all", [None]), ("send_alike", None), ("link_settings", LinkSettings()),
    ):  # fmt: skip
        setattr(rtnl, name, answering(name, answer))
    more = LinkSettings(sysctls={("net/ipv6/conf", "hop_limit"): "9"})
    monkeypatch.setattr(live.ethtool, "added", answering("added", more))
    monkeypatch.setattr(live.ethtool, "put", answering("put", None))
    assert system.uppers(PORT) == ("upper",)
    assert system.blueprints(PORT) == (plan._replace(settings=more),)
    assert system.link_settings(PORT) is more
    assert system.beside() == ("rule",)
    assert system.send_all(["one"]) == [None]
    system.send_alike("alike")
    system.set_ethtool(3, "eth1", "rings")
    assert asked == [
        ("uppers", 3), ("blueprints", 3), ("added", LinkSettings(), 9), ("link_settings", 3),
        ("added", LinkSettings(), 3), ("beside",), ("send_all", ["one"]), ("send_alike", "alike"),
        ("put", 3, "eth1", "rings"),
    ]  # fmt: skip


def test_a_device_that_cannot_be_warmed_up_is_for_the_proof_to_report(
    system: LiveSystem, sys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ImportError("no pyverbs")

    monkeypatch.setattr(live, "open_device", fails)
    rdma_device(sys, "manae_0", 3)
    system.warm_up(PORT)
