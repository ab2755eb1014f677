"""What the host does to the adapter meanwhile: manactl ends in a state that it tells truly.

At three places: while a claim sets the netdev down, while a raw queue pair is held, and while a release
sets it up. The driver is stopped there by an answer that the NIC keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.lab.agent import Process
from tests.lab.scene import OF_A_RESET, becomes, owners, report, status
from tests.lab.test_faults import PATIENCE, Scene, end, furnished, newest
from tests.lab.test_mainjob import settings
from tests.lab.users import eventually, user
from tests.lab.vm import Vm

Happens = Callable[[Vm], Any]


@pytest.fixture
def scene(vm: Vm) -> Iterator[Scene]:
    yield from furnished(vm)


def small(vm: Vm) -> None:
    """Every event after which the ports are what they were; 6.12 knows none of them."""
    vm.nic.link(up=False)
    for name in ("hwc-timeout", "unknown-reconfig", "rdma-suspend"):
        assert vm.nic.service(name)
    vm.nic.link(up=True)
    assert vm.nic.service("rdma-resume")


def held(vm: Vm, since: int) -> None:
    """The driver waits for the answer that is kept."""
    waits = lambda: any(e["event"] == "answer-held" for e in vm.nic.history(since))  # noqa: E731
    eventually(waits, PATIENCE, "the driver to wait")


def claiming(scene: Scene) -> Process:
    since = scene.vm.nic.sequence()
    scene.vm.nic.fault("MANA_CONFIG_VPORT_RX", held=True)
    started = scene.start("claim", "--json", "--raw-qp", scene.name)
    held(scene.vm, since)
    return started


def releasing(scene: Scene) -> Process:
    since = scene.vm.nic.sequence()
    scene.vm.nic.fault("MANA_CONFIG_VPORT_TX", held=True, skip=1)  # the first is the proof's
    started = scene.start("release", "--json")
    held(scene.vm, since)
    return started


def test_events_that_leave_the_ports_as_they_are(scene: Scene) -> None:
    vm, before = scene.vm, scene.view()
    claim = claiming(scene)
    small(vm)
    assert vm.nic.let_go() == 1
    assert end(claim) == 0, claim.err
    with user(vm, "rawqp") as raw:
        raw.wait_for("ready")
        raw.ask("create 2", "created")
        small(vm)
        status(vm)
        assert owners(vm) == {1: "ethernet", 2: "raw-qp"}
        raw.ask("quit", "leaving")
    becomes(vm, 2, "free")
    release = releasing(scene)
    small(vm)
    assert vm.nic.let_go() == 1
    assert end(release) == 0, release.err
    status(vm)
    assert scene.view() == before
    assert scene.journals() == []


def taken_and_given(vm: Vm) -> None:
    """The PCI device goes and comes, as when the host revokes a VF: in an orderly way."""
    device = vm.pci
    going = vm.spawn(f"echo 1 > /sys/bus/pci/devices/{device}/remove")
    vm.nic.let_go()
    eventually(lambda: going.poll() is not None, PATIENCE, "the device to go")
    assert vm.pcis == []
    vm.run("echo 1 > /sys/bus/pci/rescan")


# Each takes the device from the driver; at a reconfiguration it removes the bridge above it, and scans
# again after ten seconds; a reset keeps the netdevs and takes as long.
HEAVY: dict[str, Happens] = {
    "fpga": lambda vm: vm.nic.service("fpga-reconfig"),
    "replug": taken_and_given,
    "reset": lambda vm: vm.nic.reset_request(),
}
IN_SHORT = {("replug", "claim"), ("reset", "claim"), ("fpga", "hold"), ("replug", "release")}


def back(scene: Scene, since: int) -> None:
    """The driver has the device again, and all that hangs on it is there."""
    vm = scene.vm
    is_back = lambda: any(e["event"] == "hwc-established" for e in vm.nic.history(since))  # noqa: E731
    eventually(is_back, PATIENCE, "the driver to come back")
    eventually(lambda: len(vm.netdevs) == 2, PATIENCE, "the ports to come back")
    devices = f"ls /sys/bus/pci/devices/{vm.pci}/infiniband"
    eventually(lambda: vm.run(devices, check=False).out, PATIENCE, "the RDMA device to come back")


def in_a_claim(scene: Scene, happens: Happens) -> None:
    """It stands, or is undone, or says that it could not be: then `recover` does it."""
    claim = claiming(scene)
    happens(scene.vm)
    scene.vm.nic.let_go()
    code = end(claim)
    assert code in {0, 4, 5}, claim.err
    assert bool(scene.journals()) == (code != 4)
    assert "Traceback" not in claim.err


def under_a_raw_queue_pair(scene: Scene, happens: Happens) -> None:
    """Its holder has lost it, and the claim stays."""
    vm = scene.vm
    scene.claim()
    with user(vm, "rawqp") as raw:
        raw.wait_for("ready")
        raw.ask("create 2", "created")
        happens(vm)
        becomes(vm, 2, "free")
        assert {row["owner"] for row in report(vm)["ports"]} <= {"free", "unknown"}
    assert scene.journals()


def in_a_release(scene: Scene, happens: Happens) -> None:
    scene.claim()
    release = releasing(scene)
    happens(scene.vm)
    scene.vm.nic.let_go()
    code = end(release)
    assert code in {0, 5, 6}, release.err
    assert bool(scene.journals()) == (code != 0)
    assert "Traceback" not in release.err


PLACES: dict[str, Callable[[Scene, Happens], None]] = {
    "claim": in_a_claim,
    "hold": under_a_raw_queue_pair,
    "release": in_a_release,
}


@newest
@pytest.mark.parametrize(
    ("event", "place"),
    [
        pytest.param(e, p, marks=() if (e, p) in IN_SHORT else pytest.mark.soak)
        for e in HEAVY
        for p in PLACES
    ],
)
def test_the_device_goes_and_comes(scene: Scene, event: str, place: str) -> None:
    """What manactl has written down is put back, on the netdev that was re-created as well."""
    vm, (_, before) = scene.vm, scene.view()
    if event == "reset":
        vm.tolerate_kmsg(*OF_A_RESET)
    since, mark = vm.nic.sequence(), vm.dmesg_mark()
    PLACES[place](scene, HEAVY[event])
    if event == "reset":
        vm.wait_kmsg("MANA reset cycle completed", since=mark, timeout=PATIENCE)
    back(scene, since)
    eventually(lambda: status(vm)[2]["owner"] != "unknown", PATIENCE, "the port to be settled")
    written_down = scene.journals()
    scene.well("recover")
    if scene.journals():  # the claim stands
        assert status(vm)[2]["owner"] == "free"
        scene.well("release")
    assert scene.journals() == []
    if written_down:
        assert status(vm)[2]["owner"] == "ethernet"
        assert settings(vm, 2) == before
