"""What goes wrong from outside: a NIC that keeps silent, full disks, strangers, crowds, replugs.

In each case the exit code is the contract's, nothing is half done, and the words say what to do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from signal import SIGINT, SIGTERM
from typing import Any

import pytest

from tests.lab.agent import Process
from tests.lab.build import KERNELS
from tests.lab.notes import ANY, noted
from tests.lab.scene import (
    OF_A_RESET,
    becomes,
    down,
    manactl,
    names_every_port,
    owners,
    requested,
    status,
    up,
)
from tests.lab.test_mainjob import settings, settle, silence
from tests.lab.users import User, eventually, user
from tests.lab.vm import Vm
from tests.unit.wording import OWN_WORDS, wording

CLAIMS = "/var/lib/manactl/claims"
RELOAD = "modprobe -r mana_ib mana && modprobe mana && modprobe mana_ib"
PATIENCE = 120  # s for what a loaded host makes long
ONLY = [pytest.param(KERNELS[-1], marks=pytest.mark.xdist_group(f"linux-{KERNELS[-1]}"))]
newest = pytest.mark.parametrize("kernel", ONLY, indirect=True)


@dataclass
class Scene:
    """Two ports up with addresses of both families, and a third netdev so that none is the last."""

    vm: Vm

    @property
    def name(self) -> str:
        return self.vm.netdevs[2]

    def furnish(self, *ports: int) -> None:
        for port in ports:
            name = self.vm.netdevs[port]
            self.vm.run(
                f"ip link set {name} up; ip addr add 10.0.{port}.1/24 dev {name}; "
                f"ip -6 addr add fd00:{port}::1/64 dev {name} nodad; "
                f"ip route add 10.{port}.0.0/16 via 10.0.{port}.254 table 7; "
                f"ip -6 route add fd0{port}::/32 via fd00:{port}::fe"
            )
        settle(self.vm)

    def view(self, *ports: int) -> list[dict[str, Any]]:
        return [settings(self.vm, port) for port in ports or (1, 2)]

    def start(self, *words: str) -> Process:
        """manactl in the background, as a program that is signalled alone."""
        return self.vm.spawn(["python3", "-m", "manactl", *words])

    def claim(self, *words: str) -> Any:
        return self.well("claim", "--raw-qp", self.name, *words)

    def well(self, *words: str) -> Any:
        result = manactl(self.vm, *words)
        assert result.rc == 0, f"{words}: {result.rc} {result.out}{result.err}"
        return result

    def journals(self) -> list[str]:
        return str(self.vm.run(f"ls -A {CLAIMS}", check=False).out).split()


@pytest.fixture
def scene(vm: Vm) -> Iterator[Scene]:
    yield from furnished(vm)


def furnished(vm: Vm) -> Iterator[Scene]:
    vm.run("modprobe dummy numdummies=0; ip link add spare type dummy; ip link set spare up")
    vm.run("ip addr add 198.51.100.1/24 dev spare")
    made = Scene(vm)
    made.furnish(1, 2)
    yield made
    vm.run("rmmod dummy", check=False)


def says(process: Process, text: str, *, names: str = "") -> None:
    """Wait until that is on its standard error; with other words, for what it `names`."""
    text = text if OWN_WORDS else names
    eventually(lambda: text in process.err or process.poll() is not None, PATIENCE, text)
    assert text in process.err, process.err + process.out


def end(process: Process) -> int | None:
    eventually(lambda: process.poll() is not None, PATIENCE, "the end of manactl")
    return process.poll()


STUCK = "not done after 2 s: the driver waits for the device to answer (mana_"


def test_a_stuck_step_says_so_and_hears_signals(scene: Scene) -> None:
    """The answer comes only when everything that must be said before it has been said."""
    vm, before = scene.vm, scene.view()
    vm.nic.fault("MANA_CONFIG_VPORT_RX", held=True)
    claiming = scene.start("claim", "--raw-qp", scene.name)
    requested(vm, claiming.ended)
    says(claiming, f"set {scene.name} down: {STUCK}", names="mana_")
    claiming.signal(SIGINT, group=False)
    says(claiming, "SIGINT: will undo when the current system call returns", names="SIGINT")
    assert claiming.poll() is None
    assert vm.nic.let_go() == 1
    assert end(claiming) == 4, claiming.err
    with wording:
        assert "interrupted by SIGINT\nEverything is restored and verified." in claiming.err
    assert scene.view() == before
    assert scene.journals() == []

    scene.claim()
    vm.nic.fault("MANA_CONFIG_VPORT_TX", held=True, skip=1)  # the first one is the proof's
    releasing = scene.start("release", "--json")
    requested(vm, releasing.ended)
    says(releasing, STUCK, names="mana_")
    releasing.signal(SIGTERM, group=False)
    ignored = "SIGTERM: ignored, since the change under way has to be finished"
    says(releasing, ignored, names="SIGTERM")
    assert vm.nic.let_go() == 1
    assert end(releasing) == 0, releasing.err
    (port,) = json.loads(releasing.out)["ports"]
    assert port["outcome"] == "restored"
    assert scene.view() == before


def test_an_open_that_the_device_refuses_leaves_the_journal_open(scene: Scene) -> None:
    """From 7.x on the next release succeeds. Drivers before leak the vport when an open fails
    half-way, and nobody but a reload of the driver gets it back: then the words say so."""
    vm = scene.vm
    (before,) = scene.view(2)
    scene.claim()
    # After the vport was configured, which each driver undoes; the first one is the proof's.
    vm.nic.fault("MANA_CREATE_WQ_OBJ", status=0xC0000001, skip=1)
    refused = manactl(vm, "release", "--json")
    assert (refused.rc, refused.json()["code"]) == (5, "residue"), refused.out + refused.err
    assert scene.name in refused.err
    assert "manactl recover" in refused.err
    with wording:
        assert f"setting {scene.name} up failed" in refused.err
    assert len(scene.journals()) == 1
    assert noted(status(vm)[2]["notes"], "not-restored", ANY, ANY)
    again = manactl(vm, "release")
    assert (again.rc == 0) is names_every_port(vm), again.err
    if again.rc != 0:
        assert again.rc in (5, 6), again.err
        assert "modprobe -r mana_ib mana" in again.err
        assert len(scene.journals()) == 1
        vm.nic.ask("clear-violations")  # the driver destroys what it never got: its own fault
        vm.run(RELOAD)
        scene.well("recover")
    assert settings(vm, 2) == before
    assert owners(vm)[2] == "ethernet"
    assert scene.journals() == []


@pytest.mark.parametrize(
    ("words", "fault", "skip"),
    [("claim", "MANA_CONFIG_VPORT_RX", 0), ("release", "MANA_CONFIG_VPORT_TX", 1)],
    ids=["down", "up"],
)
@newest
def test_a_request_that_is_never_answered(scene: Scene, words: str, fault: str, skip: int) -> None:
    """The driver gives up, and resets the device when it gets no answer again: from then on all
    can be put back. The time-out is 3 s here, half a minute on Azure."""
    vm = scene.vm
    vm.worn = True
    vm.tolerate_kmsg(*OF_A_RESET)
    vm.nic.timeout(3000)
    vm.run(RELOAD)
    scene.furnish(1, 2)
    (before,) = scene.view(2)
    if words == "release":
        scene.claim()
    mark = vm.dmesg_mark()
    vm.nic.fault(fault, lost=True, skip=skip)
    argv = ("claim", "--raw-qp", scene.name) if words == "claim" else (words,)
    silent = manactl(vm, *argv, "--json")
    with wording:
        assert STUCK in silent.err
    print(f"{words}: {silent.rc}\n{silent.err}")
    if silent.rc == 0:  # the driver was usable again in time
        (port,) = silent.json()["ports"]
        assert port["proven"] is True if words == "claim" else port["outcome"] == "restored"
    elif silent.rc == 4:  # usable again, but not in time for the proof
        assert words == "claim"
        assert silent.json()["code"] == "rolled-back"
        assert scene.journals() == []
        with wording:
            assert "Everything is restored and verified." in silent.err
    else:
        assert (silent.rc, silent.json()["code"]) == (5, "residue"), silent.err
        assert scene.name in silent.err
        assert "modprobe -r mana_ib mana" in silent.err
        with wording:
            assert f"setting {scene.name} up failed" in silent.err
        assert len(scene.journals()) == 1
    reset_by_the_driver(vm, mark)
    if words == "claim" and silent.rc == 0:
        becomes(vm, 2, "free")
        scene.well("release")
    elif silent.rc == 4:
        becomes(vm, 2, "ethernet")
    else:
        scene.well("recover")
    assert settings(vm, 2) == before
    assert owners(vm)[2] == "ethernet"
    assert scene.journals() == []


def reset_by_the_driver(vm: Vm, mark: int) -> None:
    """It does so when the counters, which it asks for every 2 s, do not come. After the first
    time-out it waits for 1 ms only, which this device may be quick enough for."""
    done = "MANA reset cycle completed"
    if not any(done in line.text for line in vm.kmsg(mark)):
        vm.nic.fault("MANA_QUERY_GF_STAT", lost=True)
        vm.wait_kmsg(done, since=mark, timeout=PATIENCE)
        vm.nic.clear_faults()


@newest
def test_a_state_directory_that_cannot_be_written_refuses_first(scene: Scene) -> None:
    vm = scene.vm
    vm.run("mkdir -p /mnt/small && mount -t tmpfs -o size=256k,mode=700 none /mnt/small")
    words = ("--state-dir", "/mnt/small/state")
    claim = (*words, "claim", "--raw-qp", scene.name)
    try:
        scene.well(*claim)
        vm.run("dd if=/dev/zero of=/mnt/small/fill bs=4k 2>/dev/null; :")
        scene.well(*words, "release")  # room for its records was reserved
        before = scene.view()
        with silence(vm):
            vm.run("dd if=/dev/zero of=/mnt/small/fill bs=4k 2>/dev/null; :")
            full = manactl(vm, *claim, "--json")
            vm.run("rm /mnt/small/fill; mount -o remount,ro /mnt/small")
            locked = manactl(vm, *claim, "--json")
        assert (full.rc, locked.rc) == (3, 3), full.err + locked.err
        assert [one.json()["code"] for one in (full, locked)] == ["state-dir"] * 2
        assert "No space left on device" in full.err
        assert "Read-only file system" in locked.err
        with wording:
            assert "No space left on device; nothing was touched" in full.err
            assert "make room there" in full.err
            assert "Read-only file system; nothing was touched" in locked.err
            assert "mount it writable" in locked.err
        vm.run("mount -o remount,rw /mnt/small; ls /mnt/small/state/claims/* && exit 1; :")
        assert scene.view() == before
    finally:
        vm.run("umount /mnt/small && rmdir /mnt/small")


@newest
def test_a_stranger_that_sets_the_netdev_up_makes_the_claim_fail(scene: Scene) -> None:
    vm, before = scene.vm, scene.view()
    with user(vm, "stranger", scene.name) as stranger:
        stranger.wait_for("started")
        failed = manactl(vm, "claim", "--raw-qp", scene.name, "--wait", "3", "--json")
        stranger.process.stdin_write(b"enough\n")
        heard = stranger.wait_for("ended", PATIENCE)
    assert (failed.rc, failed.json()["code"]) == (4, "rolled-back"), failed.out + failed.err
    with wording:
        assert "Everything is restored and verified" in failed.err
        assert "stop it first" in failed.err
    assert heard["taken"] > 1
    assert scene.view() == before
    assert scene.journals() == []
    assert owners(vm) == {1: "ethernet", 2: "ethernet"}


def crowd(scene: Scene, seconds: int) -> None:
    vm, before = scene.vm, scene.view()
    netdevs = [vm.netdevs[1], vm.netdevs[2]]
    with user(vm, "crowd", CLAIMS, "20", str(seconds), *netdevs) as program:
        told = program.wait_for("ended", seconds + 300)
    print(f"{seconds} s of 20 claims and releases at a time: {told['codes']}")
    assert told["doubled"] == []
    assert told["texts"] == {}
    assert {word.split()[0] for word in told["codes"]} == {"claim", "release"}
    assert told["codes"].get("claim 0", 0) > 0
    assert told["codes"].get("release 0", 0) > 0
    assert told["last"] == 0, told["said"]
    assert scene.view() == before
    assert scene.journals() == []


@newest
def test_twenty_claims_and_releases_at_a_time(scene: Scene) -> None:
    crowd(scene, 20)


@pytest.mark.soak
def test_twenty_claims_and_releases_at_a_time_for_long(scene: Scene) -> None:
    crowd(scene, 600)


DAMAGES = {
    "corrupted": "sed -i 's/eth1/eth9/' $J",
    "newer": r"""sed -i 's#manactl.journal/1#manactl.journal/2#' $J""",
    "symlinked": "mv $J /root/elsewhere; ln -s /root/elsewhere $J",
}


@newest
def test_a_journal_that_is_corrupt_or_not_trusted_changes_nothing(scene: Scene) -> None:
    vm, before = scene.vm, scene.view()
    scene.claim()
    (name,) = scene.journals()
    path = f"{CLAIMS}/{name}"
    vm.run(f"cp -p {path} /root/good")
    with silence(vm):
        for kind, damage in DAMAGES.items():
            vm.run(f"J={path}; {damage}")
            refused = manactl(vm, "release", "--json")
            assert refused.rc == 5, f"{kind}: {refused.out}{refused.err}"
            assert json.loads(refused.out)["code"] == "journal", kind
            with wording:
                assert "nothing was changed" in refused.err, kind
            assert name in refused.err, kind
            vm.run(f"rm -f {path} /root/elsewhere; cp -p /root/good {path}")
    assert owners(vm)[2] == "free"
    scene.well("release")
    assert scene.view() == before


def replug_by_driver(vm: Vm) -> None:
    pci = vm.pci
    vm.run(
        f"echo {pci} > /sys/bus/pci/drivers/mana/unbind; echo {pci} > /sys/bus/pci/drivers/mana/bind"
    )


@newest
def test_renamed_and_replugged_while_claimed(scene: Scene) -> None:
    vm = scene.vm
    (before,) = scene.view(2)
    was = scene.name
    scene.claim()
    vm.run(["ip", "link", "set", was, "name", "wan7"])
    replug_by_driver(vm)
    eventually(lambda: len(vm.netdevs) == 2, PATIENCE, "the ports to come back")
    now = scene.name
    devices = f"ls /sys/bus/pci/devices/{vm.pci}/infiniband"
    eventually(lambda: vm.run(devices, check=False).out, PATIENCE, "the RDMA device to come back")
    vm.run(["ip", "link", "set", now, "name", "wan8"])
    (released,) = scene.well("release", "--json").json()["ports"]
    # A netdev that was re-created gets the name of the old one, too.
    assert (released["outcome"], released["netdev"]) == ("restored", was)
    assert settings(vm, 2) == before
    down(vm, 2)


@newest
def test_several_ports_are_one_transaction(scene: Scene) -> None:
    vm, before = scene.vm, scene.view()
    both = ["--raw-qp", vm.netdevs[1], "--raw-qp", vm.netdevs[2]]
    vm.nic.fault("MANA_CONFIG_VPORT_TX", status=0xC0000001, skip=1)  # the second port's proof
    failed = manactl(vm, "claim", *both)
    assert failed.rc == 4, failed.out + failed.err
    assert scene.view() == before
    assert scene.journals() == []
    scene.well("claim", *both)
    assert owners(vm) == {1: "free", 2: "free"}
    assert len(scene.journals()) == 1
    scene.well("release")
    assert scene.view() == before


@newest
def test_release_ends_holders_when_asked_to(scene: Scene) -> None:
    vm, before = scene.vm, scene.view()
    scene.claim()
    with user(vm, "rawqp") as holder:
        pid = holder.wait_for("ready")["pid"]
        holder.ask("create 2", "created")
        child = holder.ask("fork", "forked")["pid"]
        plan = json.loads(scene.well("release", "--terminate", "--dry-run", "--json").out)
        (note,) = plan["notes"]
        assert f"pid {pid} python3, pid {child} python3" in note
        with wording:
            assert note == f"SIGTERM to pid {pid} python3, pid {child} python3"
        waiting = scene.start("release", "--wait", "60")
        says(waiting, f"pid {pid} python3", names=f"{pid}")
        says(waiting, "waiting up to 60 s", names="60")
        waiting.signal(SIGINT, group=False)
        assert end(waiting) == 130, waiting.err
        assert owners(vm)[2] == "raw-qp"
        result = scene.well("release", "--terminate", "--json")
    document = json.loads(result.out)
    assert {one["pid"] for one in document["terminated"]} == {pid, child}
    with wording:
        for one in (pid, child):
            assert f"SIGTERM sent to pid {one} python3" in result.err
    assert scene.view() == before


@contextmanager
def probing(scene: Scene, *addresses: str) -> Iterator[list[User]]:
    """TCP connections over port 2 to servers behind port 1, which is in a namespace."""
    vm, peer = scene.vm, scene.vm.netdevs[1]
    with ExitStack() as stack:
        vm.run(["ip", "netns", "add", "peer"])
        stack.callback(vm.run, ["ip", "netns", "del", "peer"])
        vm.run(["ip", "link", "set", peer, "netns", "peer"])
        stack.callback(vm.run, ["ip", "-n", "peer", "link", "set", peer, "netns", "1"])
        vm.run(["ip", "-n", "peer", "link", "set", peer, "up"])
        probers = []
        for address in addresses:
            length, more = ("64", ["nodad"]) if ":" in address else ("24", [])
            add = ["ip", "-n", "peer", "addr", "add", f"{address}/{length}", "dev", peer, *more]
            vm.run(add)
        for address in addresses:
            server = stack.enter_context(user(vm, "tcp", "serve", address, "7000", netns="peer"))
            server.wait_for("listening")
            prober = stack.enter_context(user(vm, "tcp", "probe", address, "7000"))
            prober.wait_for("connected")
            probers.append(prober)
        yield probers


def moving(prober: User) -> Callable[[], bool]:
    """Whether echoes have come since this was made."""
    start = prober.ask("report", "report")["echoed"]
    return lambda: bool(prober.ask("report", "report")["echoed"] > start + 10)


@newest
def test_tcp_connections_survive_claim_and_release(scene: Scene) -> None:
    vm = scene.vm
    with probing(scene, "10.0.2.9", "fd00:2::9") as probers:
        for prober in probers:
            eventually(moving(prober), PATIENCE, "echoes before the claim")
        scene.claim("--allow", "tcp-established")
        becomes(vm, 2, "free")
        result = scene.well("release", "--json")
        for prober in probers:
            eventually(moving(prober), PATIENCE, "echoes after the release")
        facts = [prober.ask("report", "report") for prober in probers]
        assert [fact["failure"] for fact in facts] == [None, None]
        (port,) = json.loads(result.out)["ports"]
        gaps = [fact["longest_gap_ms"] for fact in facts]
        print(
            f"Linux {vm.prefix}: down for {port['down_for_s']} s; gap of IPv4 and IPv6: {gaps} ms"
        )
        assert port["down_for_s"] > 0
        assert min(gaps) >= 1000 * port["down_for_s"] * 0.5
        for prober in probers:
            prober.ask("quit", "quit")
    up(vm, 1)
