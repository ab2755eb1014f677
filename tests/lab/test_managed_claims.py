"""Claims of ports that a network manager owns, without --allow: it lets go, and gets them back.

What is compared is all that `ip` shows, the manager's own view, and what is in /run for it. The
restarts in between would open a port that is managed; test_unmanaged.py has the kills.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.lab import networks
from tests.lab.managed import (
    MANAGERS,
    PATIENCE,
    WAYS,
    Networkd,
    NetworkManager,
    segment,
    settled,
    spare,
)
from tests.lab.scene import becomes
from tests.lab.site import Site
from tests.lab.test_pairs import serviced
from tests.lab.users import eventually, resident
from tests.lab.vm import Vm
from tests.unit.wording import wording

# Images for Azure have a udev rule for the VF that does the same.
VF_UNMANAGED = "[keyfile]\nunmanaged-devices=driver:mana\n"
View = dict[str, list[str]]
RUN = "find /run/systemd/network /run/NetworkManager/conf.d -type f 2>/dev/null; :"


class Scene:
    """One managed netdev with foreign state, and all that must be there again."""

    def __init__(
        self,
        vm: Vm,
        name: str,
        way: str,
        device: str,
        *,
        vf_conf: str = VF_UNMANAGED,
        manager: type[Networkd | NetworkManager] | None = None,
    ) -> None:
        self.vm, self.way, self.device = vm, way, device
        spare(vm)
        self.manager = (manager or MANAGERS[name])(vm)
        vm.put("/etc/NetworkManager/conf.d/vf.conf", vf_conf if vm.paired else "")
        self.manager.configure(device, way)
        settled(vm, self.manager, device, way)
        vm.run(f"ip addr add 192.0.2.77/32 dev {device}; ip route add 192.0.3.0/24 dev {device}")
        self.site = Site(vm, resident(vm, "runs"), device, device)
        self.before, self.run = self.view(), vm.run(RUN).out

    def view(self) -> View:
        read = networks.reading()
        return networks.numberless(
            networks.settle(lambda: self.vm.run(["sh", "-s"], input=read).out)
        )

    def restarted(self) -> None:
        """What makes a manager open a port that it has not let go."""
        self.manager.reload()
        self.manager.restart()

    def looked(self) -> bool:
        """Whether the manager has seen the netdev since, and lets it be."""
        if isinstance(self.manager, Networkd):
            link = self.manager.link(self.device)
            seen = link["AdministrativeState"] in {"configuring", "configured"}
            return seen and link["ActivationPolicy"] == "manual"
        return self.manager.state(self.device) == "unmanaged"

    def comes_back(self, alike: Callable[[View], View] = lambda view: view) -> None:
        """Wait for the manager, then for all that was there; nothing of manactl's is left. `alike`
        takes away what may differ."""
        settled(self.vm, self.manager, self.device, self.way)
        found: list[str] = []

        def as_before() -> bool:
            found[:] = networks.differences(alike(self.before), alike(self.view()))
            return not found

        with contextlib.suppress(AssertionError):
            eventually(as_before, 20)
        assert found == [], "\n".join(found)
        assert self.vm.run(RUN).out == self.run
        assert self.site.journals() == {}


@pytest.fixture
def routed(booted: Vm) -> Iterator[Vm]:
    with segment(booted):
        yield booted


@pytest.fixture
def routed_pair(booted_pair: Vm) -> Iterator[Vm]:
    with segment(booted_pair):
        yield booted_pair


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", sorted(MANAGERS))
def test_a_managed_port_stays_down_and_comes_back(routed: Vm, name: str, way: str) -> None:
    scene = Scene(routed, name, way, routed.netdevs[1])
    scene.site.claim(scene.device)
    becomes(routed, 1, "free")
    scene.restarted()
    eventually(scene.looked, PATIENCE, "the manager to look at it")
    becomes(routed, 1, "free")
    scene.site.well("release", scene.device)
    scene.comes_back()


@pytest.mark.soak
@pytest.mark.parametrize("name", sorted(MANAGERS))
def test_a_lease_is_awaited_where_a_router_advertisement_comes_first(routed: Vm, name: str) -> None:
    """Then networkd says "configured" before it has the lease, which may have another address; and
    what its own file says is not in the way of its letting go."""
    device = routed.netdevs[1]
    drop_in = f"/etc/systemd/network/10-{device}.network.d/more.conf"
    routed.put(drop_in, "[Link]\nRequiredForOnline=yes\n[Network]\nBindCarrier=spare\n")
    scene = Scene(routed, name, "both", device)
    scene.site.claim(device)
    becomes(routed, 1, "free")
    scene.restarted()
    eventually(scene.looked, PATIENCE, "the manager to look at it")
    if isinstance(scene.manager, Networkd):
        assert not scene.manager.link(device)["RequiredForOnline"]
    scene.site.well("release", device)
    if isinstance(scene.manager, Networkd):
        assert scene.manager.link(device)["DHCPv4Client"]["Lease"]
    scene.comes_back()


@pytest.mark.parametrize("name", sorted(MANAGERS))
def test_an_address_that_somebody_removes_meanwhile_is_left_out(routed: Vm, name: str) -> None:
    """It is none of the manager's, and another such one is there still: networkd itself drops its
    own as the port goes down. The dry run tells the same."""
    scene = Scene(routed, name, "static", routed.netdevs[1])
    routed.run(f"ip addr add 192.0.2.78/32 dev {scene.device}")
    scene.before = scene.view()
    scene.site.claim(scene.device)
    scene.restarted()
    eventually(scene.looked, PATIENCE, "the manager to look at it")
    routed.run(f"ip addr del 192.0.2.78/32 dev {scene.device}")
    plan = scene.site.well("release", "--dry-run", "--json", scene.device).document
    (lost,) = scene.site.well("release", "--json", scene.device).port["lost"]
    assert lost["cause"] == "removed"
    assert lost["text"] in plan["lost"]
    command = f"ip address add 192.0.2.78/32 dev {scene.device}"
    assert command in lost["text"]
    with wording:
        assert lost["text"].endswith(f"to set it: {command})")
    assert "192.0.2.78" not in routed.run(f"ip addr show dev {scene.device}").out
    routed.run(command)
    scene.comes_back()


@pytest.mark.parametrize("synthetic", ["down", "uio"])
@pytest.mark.parametrize(
    "way",
    [
        "dhcp",
        pytest.param("static", marks=pytest.mark.soak),
        pytest.param("ra", marks=pytest.mark.soak),
    ],
)
@pytest.mark.parametrize("name", sorted(MANAGERS))
def test_so_does_a_managed_pair(routed_pair: Vm, name: str, way: str, synthetic: str) -> None:
    claimed(Scene(routed_pair, name, way, routed_pair.twins[1]), synthetic)


@pytest.mark.parametrize("synthetic", ["down", pytest.param("uio", marks=pytest.mark.soak)])
def test_so_does_a_pair_whose_vf_is_managed_too(routed_pair: Vm, synthetic: str) -> None:
    """Without a profile for it. When NetworkManager starts, it sets addr_gen_mode to 0 on what it
    does not manage; on a VF that it gets back it does not set it again by itself."""
    port = routed_pair.netdevs[1]
    scene = Scene(routed_pair, "NetworkManager", "dhcp", routed_pair.twins[1], vf_conf="")
    mode = f"cat /proc/sys/net/ipv6/conf/{port}/addr_gen_mode"
    assert scene.manager.state(port) == "disconnected"
    assert routed_pair.run(mode).out == "1\n"
    claimed(scene, synthetic)
    assert routed_pair.run(mode).out == "1\n"


@pytest.mark.parametrize(
    ("name", "synthetic"),
    [
        ("networkd", "down"),
        ("NetworkManager", "uio"),
        pytest.param("networkd", "uio", marks=pytest.mark.soak),
        pytest.param("NetworkManager", "down", marks=pytest.mark.soak),
    ],
)
def test_a_vf_that_is_serviced_below_it_changes_nothing(
    booted_pair: Vm, name: str, synthetic: str
) -> None:
    """Without a router: in its namespace kernels 7.2 and 7.3 would hang (netvsc_register_vf()). udev
    names the new VF, with altnames by the MAC address that both netdevs have."""
    vm = booted_pair
    scene = Scene(vm, name, "static", vm.twins[1])
    scene.site.well("claim", "--raw-qp", scene.device, "--synthetic", synthetic)
    becomes(vm, 1, "free")
    serviced(vm)
    vm.run(["udevadm", "settle"])
    scene.restarted()
    if synthetic == "down":
        eventually(scene.looked, PATIENCE, "the manager to look at it")
    becomes(vm, 1, "free")
    scene.site.well("release", scene.device)
    becomes(vm, 1, "ethernet")
    scene.comes_back()


def claimed(scene: Scene, synthetic: str) -> None:
    """A claim, what makes the manager open what it has, and a release."""
    vm = scene.vm
    port = vm.netdevs[1]
    scene.site.well("claim", "--raw-qp", port, "--synthetic", synthetic)
    becomes(vm, 1, "free")
    scene.restarted()
    if synthetic == "down":  # else there is no such netdev
        eventually(scene.looked, PATIENCE, "the manager to look at it")
    becomes(vm, 1, "free")
    scene.site.well("release", port)
    scene.comes_back()
