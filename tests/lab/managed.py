"""Network managers in a guest with systemd, and what they get their addresses from.

`segment()` puts the second port into a namespace with a router: dnsmasq answers DHCP there and sends
router advertisements. `Networkd` and `NetworkManager` are configured as an administrator would, are
asked through their own tools, and are said to do what makes them look at a device again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.lab.users import eventually
from tests.lab.vm import Vm

PATIENCE = 120  # s for what takes a manager two on a quiet host
NETNS = "router"
# How a port gets its addresses; the router is the same for all, and never the default one.
WAYS = ("static", "dhcp", "ra")
PREFIXES = {"static": ("10.9.0.2", "2001:db8:9::2"), "dhcp": ("10.9.0.1",), "ra": ("2001:db8:a:",),
            "both": ("10.9.0.1", "2001:db8:a:")}  # fmt: skip
_SPARE = """
modprobe dummy numdummies=0; ip link add spare type dummy; ip link set spare up
ip addr add 198.51.100.1/24 dev spare
"""


@contextlib.contextmanager
def segment(vm: Vm, *, lease: int = 3600) -> Iterator[None]:
    """The second port (of a pair its synthetic netdev, which its VF follows) is a router's."""
    device = vm.twins[2] if vm.paired else vm.netdevs[2]
    run = f"ip netns exec {NETNS}"
    # The NIC passes on unfinished checksums, and DHCP clients look at them: the kernel does them.
    vm.run(f"""
        ip netns add {NETNS} && ip link set {device} netns {NETNS} &&
        {run} ethtool -K {device} tx off && ip -n {NETNS} link set lo up &&
        ip -n {NETNS} addr add 10.9.0.1/24 dev {device} &&
        ip -n {NETNS} addr add 2001:db8:9::1/64 dev {device} nodad &&
        ip -n {NETNS} addr add 2001:db8:a::1/64 dev {device} nodad &&
        ip -n {NETNS} link set {device} up
    """)
    words = f"dnsmasq -k -u root -i {device} --bind-dynamic --port=0 --log-dhcp --log-facility=-"
    words += f" --dhcp-leasefile=/tmp/leases --dhcp-range=10.9.0.100,10.9.0.150,{lease}s"
    words += " --dhcp-option=3 --dhcp-option=121,10.77.0.0/16,10.9.0.1"
    words += f" --enable-ra --dhcp-range=2001:db8:a::,ra-only,64,{lease}s --ra-param={device},10,0"
    server = vm.spawn(f"exec {run} {words}")
    try:
        yield
    finally:
        server.kill()


def spare(vm: Vm) -> None:
    """A third device with an address, so that the port is not the last; no manager's."""
    vm.run(_SPARE)


class Manager(Protocol):
    """What the tests say to either manager, and ask of it."""

    name: str  # as in Vm(systemd=...)
    unit: str

    def configure(self, device: str, way: str) -> None:
        """Write the configuration of a device that gets its addresses this `way`, and load it."""

    def state(self, device: str) -> str:
        """One word of the manager's own."""

    def has_it(self, device: str) -> bool:
        """Whether the manager manages the device, and is done with it."""

    def reload(self) -> None: ...

    def again(self, device: str) -> None:
        """Have it configure the device from the start."""


@dataclass
class _Common:
    vm: Vm
    name: str = field(init=False)
    unit: str = field(init=False)

    def start(self) -> None:
        self.vm.run(["systemctl", "start", self.unit])

    def restart(self) -> None:
        self.vm.run(["systemctl", "restart", self.unit])

    def stop(self) -> None:
        self.vm.run(["systemctl", "stop", self.unit])


@dataclass
class Networkd(_Common):
    """systemd-networkd with a .network file for each device, by MAC address and driver."""

    name = "networkd"
    unit = "systemd-networkd.service"

    def configure(self, device: str, way: str) -> None:
        driver = self.vm.run(f"ethtool -i {device} | sed -n 's/driver: //p'").out.strip()
        text = (
            f"[Match]\nPermanentMACAddress={self.vm.address(device)}\nDriver={driver}\n[Network]\n"
        )
        text = text.replace("Permanent", "") if driver == "hv_netvsc" else text
        text += {
            "static": "IPv6AcceptRA=no\nAddress=10.9.0.2/24\nAddress=2001:db8:9::2/64\n"
            "[Route]\nDestination=10.77.0.0/16\nGateway=10.9.0.1\n"
            "[Route]\nDestination=2001:db8:77::/48\nGateway=2001:db8:9::1\n",
            "dhcp": "IPv6AcceptRA=no\nDHCP=ipv4\n",
            "ra": "IPv6AcceptRA=yes\n",
            "both": "IPv6AcceptRA=yes\nDHCP=ipv4\n",
        }[way]
        self.vm.put(f"/etc/systemd/network/10-{device}.network", text)
        self.start()
        self.reload()

    def link(self, device: str) -> dict[str, Any]:
        """What `networkctl` says of it as JSON."""
        out = self.vm.run(["networkctl", "--json=short", "status", device]).out
        found: dict[str, Any] = json.loads(out)
        return found

    def state(self, device: str) -> str:
        return str(self.link(device)["AdministrativeState"])

    def has_it(self, device: str) -> bool:
        return self.state(device) == "configured"

    def reload(self) -> None:
        self.vm.run(["networkctl", "reload"])

    def again(self, device: str) -> None:
        self.vm.run(["networkctl", "reconfigure", device])


@dataclass
class NetworkManager(_Common):
    """NetworkManager with a keyfile for each device, by its name."""

    name = "NetworkManager"
    unit = "NetworkManager.service"

    def configure(self, device: str, way: str) -> None:
        text = f"[connection]\nid=lab-{device}\ntype=ethernet\ninterface-name={device}\n"
        text += {
            "static": "[ipv4]\nmethod=manual\naddress1=10.9.0.2/24\nroute1=10.77.0.0/16,10.9.0.1\n"
            "[ipv6]\nmethod=manual\naddress1=2001:db8:9::2/64\n"
            "route1=2001:db8:77::/48,2001:db8:9::1\n",
            "dhcp": "[ipv4]\nmethod=auto\n[ipv6]\nmethod=link-local\n",
            "ra": "[ipv4]\nmethod=disabled\n[ipv6]\nmethod=auto\naddr-gen-mode=eui64\n",
            "both": "[ipv4]\nmethod=auto\n[ipv6]\nmethod=auto\naddr-gen-mode=eui64\n",
        }[way]
        path = f"/etc/NetworkManager/system-connections/lab-{device}.nmconnection"
        self.vm.put(path, text, 0o600)
        self.start()
        self.vm.run(["nmcli", "connection", "reload"])
        self.again(device)

    def state(self, device: str) -> str:
        out = self.vm.run(["nmcli", "-g", "GENERAL.STATE", "device", "show", device]).out
        return str(out.strip().partition("(")[2].rstrip(")"))

    def has_it(self, device: str) -> bool:
        return self.state(device) == "connected"

    def reload(self) -> None:
        self.vm.run(["nmcli", "general", "reload"])

    def again(self, device: str) -> None:
        self.vm.run(["nmcli", "-w", "60", "device", "connect", device])


MANAGERS: dict[str, type[Networkd | NetworkManager]] = {
    "networkd": Networkd,
    "NetworkManager": NetworkManager,
}


def addresses(vm: Vm, device: str) -> list[str]:
    """The device's addresses but the link-local ones."""
    out = vm.run(f"ip -j addr show dev {device} scope global").out
    shown = (entry for row in json.loads(out) for entry in row.get("addr_info", ()))
    return sorted(entry["local"] for entry in shown if "local" in entry)


def settled(vm: Vm, manager: Manager, device: str, way: str) -> None:
    """Wait until the manager is done and the addresses of this `way` are there."""

    def there() -> bool:
        found = addresses(vm, device)
        wanted = PREFIXES[way]
        return manager.has_it(device) and all(
            any(address.startswith(prefix) for address in found) for prefix in wanted
        )

    eventually(there, PATIENCE, f"{manager.name} to configure {device} ({way})")
