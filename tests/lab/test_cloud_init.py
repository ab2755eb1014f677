"""A pair that cloud-init has configured, by its own generator and by netplan, as on Azure's images."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.lab.managed import PATIENCE, PREFIXES, Networkd, addresses
from tests.lab.scene import becomes
from tests.lab.test_managed_claims import Scene, View
from tests.lab.test_pairs import serviced
from tests.lab.users import GUEST, eventually
from tests.lab.vm import Vm

SECOND = "10.9.0.5"
FILES = "/etc/netplan /run/systemd/network /run/udev/rules.d"


class CloudInit(Networkd):
    """networkd with the files that netplan makes of cloud-init's."""

    def configure(self, device: str, way: str) -> None:
        assert way == "dhcp", "that is what cloud-init has for Azure"
        self.vm.run(["python3", f"{GUEST}/azure_config.py", self.vm.address(device), SECOND])
        self.start()
        self.reload()


@pytest.fixture
def served(booted_pair: Vm) -> Iterator[Vm]:
    """The second pair's synthetic netdev serves DHCP. It stays in this namespace: kernels 7.2 and
    7.3 hang when a VF appears while its synthetic netdev is in another one."""
    vm, device = booted_pair, booted_pair.twins[2]
    vm.run(f"""
        ethtool -K {device} tx off; ip link set {device} up; ip addr add 10.9.0.1/24 dev {device}
    """)
    words = f"dnsmasq -k -u root -i {device} --bind-dynamic --port=0 --dhcp-leasefile=/tmp/leases"
    words += " --dhcp-range=10.9.0.100,10.9.0.150,3600s --dhcp-option=3"
    words += " --dhcp-option=121,10.77.0.0/16,10.9.0.1"
    server = vm.spawn(f"exec {words}")
    yield vm
    server.kill()


@pytest.mark.soak
@pytest.mark.parametrize("synthetic", ["down", "uio"])
def test_what_cloud_init_has_configured_survives(served: Vm, synthetic: str) -> None:
    vm = served
    scene = Scene(vm, "networkd", "dhcp", vm.twins[1], manager=CloudInit)
    eventually(lambda: SECOND in addresses(vm, scene.device), PATIENCE, SECOND)
    assert any(one.startswith(PREFIXES["dhcp"]) for one in addresses(vm, scene.device))
    written = files(vm)
    assert "50-cloud-init.yaml" in written
    assert f"10-netplan-{scene.device}.network" in written
    scene.before = scene.view()
    scene.site.well("claim", "--raw-qp", scene.device, "--synthetic", synthetic)
    becomes(vm, 1, "free")
    if synthetic == "down":
        shown = vm.run("netplan status -a").out
        print(shown)
        assert f"{scene.device} ethernet DOWN" in shown
    scene.restarted()
    vm.run("netplan generate; systemctl daemon-reload")
    serviced(vm)
    vm.run(["udevadm", "settle"])
    scene.manager.reload()
    if synthetic == "down":
        eventually(scene.looked, PATIENCE, "the manager to look at it")
    becomes(vm, 1, "free")
    lost = scene.site.well("release", "--json", scene.device).port["lost"]
    becomes(vm, 1, "ethernet")
    causes = {one["cause"] for one in lost}
    assert causes <= {"not-kept", "order"}, lost  # the VF was serviced
    scene.comes_back(alike=in_any_order if "order" in causes else lambda view: view)
    assert files(vm) == written


def in_any_order(view: View) -> View:
    """Without the order of IPv4 addresses, and the sources of the kernel's own routes that follow from
    it: networkd has kept the address of the lease, and dropped and set again that of the file, which
    comes second then. It was first, and release says so."""
    found = dict(view)
    rows = [json.loads(row) for row in view["address show"]]
    for row in rows:
        ipv4 = [{**one, "secondary": None} for one in row["addr_info"] if one["family"] == "inet"]
        ipv6 = [one for one in row["addr_info"] if one["family"] != "inet"]
        row["addr_info"] = [*sorted(ipv4, key=lambda one: one["local"]), *ipv6]
    found["address show"] = [json.dumps(row, sort_keys=True) for row in rows]
    routes = [json.loads(row) for row in view["-4 route show table all"]]
    own = [row for row in routes if (row.get("table"), row["protocol"]) == ("local", "kernel")]
    for row in own:
        row["prefsrc"] = None
    others = [json.dumps(row, sort_keys=True) for row in routes if row not in own]
    found["-4 route show table all"] = [
        *sorted(json.dumps(row, sort_keys=True) for row in own), *others,
    ]  # fmt: skip
    return found


def files(vm: Vm) -> str:
    """What cloud-init and netplan have written, by name and contents."""
    return str(vm.run(f"find {FILES} -type f | sort | xargs sha256sum").out)
