"""The random walk on netvsc pairs: what the host, hv_netvsc and the driver of the VMBus device do.

The judge has one record more, that of the emulated host: which path each guest asked for.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.lab.scene import Row
from tests.lab.users import eventually
from tests.lab.vm import Vm
from tests.lab.vmbus.host import CLASS, Host, Nic
from tests.lab.walk import AWAY, Action, World, rdma_devices

NETVSC, UIO = "hv_netvsc", "uio_hv_generic"
BUS = "/sys/bus/vmbus/drivers"
DEBUGFS = "/sys/kernel/debug"
RECORD = "/run/record"  # the host's, where the walk hides it from nobody
MANA = "/sys/bus/pci/drivers/mana"


class PairWorld(World):
    """Ports below synthetic netdevs; a netdev moves with its VF, since the kernel moves both."""

    def __init__(self, vm: Vm, rng: random.Random) -> None:
        self.twins = vm.twins
        vm.run(f"mkdir {RECORD} && mount -t debugfs none {RECORD}")
        self.host = Host(self._read, self._write)
        super().__init__(vm, rng)
        self.uuids = {port: self.nic(port).uuid for port in self.names}
        self.drivers: dict[int, str | None] = dict.fromkeys(self.names, NETVSC)
        vm.run(["modprobe", UIO])

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        self.vm.run(f"umount {RECORD} && rmdir {RECORD}")

    def _read(self, path: str) -> bytes:
        return self.vm.get(path.replace(DEBUGFS, RECORD))

    def _write(self, path: str, text: str) -> None:
        put = ["sh", "-c", 'printf %s "$2" > "$1"', "sh", path.replace(DEBUGFS, RECORD), text]
        self.vm.run(put)

    def nic(self, port: int) -> Nic:
        return self.host.nic(self.macs[port])

    def _bond(self) -> bool:
        return False  # a VF has its master already

    def _put_back(self, port: int, name: str) -> None:
        if port in self.away:
            self._move(port, "1")
        if self.drivers[port] != NETVSC:
            self.give(port, NETVSC)
        self.host.set(self.macs[port], link=1)
        self._twin(port, "down")
        self.link(port, "down")
        self._call({self.names[port]: name})

    # -- what the judge asks

    def master(self, port: int) -> str | None:
        return self.twins[port] if self.drivers[port] == NETVSC else None

    def agrees_above(self, port: int, upper: Row) -> None:
        known = {
            "netdev": self.twins[port],
            "kind": "netvsc",
            "vmbus": self.uuids[port],
            "admin": "up" if self._up(self.twins[port], away=port in self.away) else "down",
        }
        for key, so in known.items():  # sysfs shows netdevs of this network namespace alone
            assert upper[key] == so or (port in self.away and upper[key] is None), (key, upper)
        assert upper["data_path"] in {self.nic(port).path, None}, upper

    def _up(self, netdev: str, *, away: bool = False) -> bool:
        """IFF_UP."""
        where = ["ip", "netns", "exec", AWAY] if away else []
        return bool(int(self.vm.run([*where, "cat", f"/sys/class/net/{netdev}/flags"]).out, 16) & 1)

    # -- actions

    def actions(self) -> Iterator[tuple[float, Action]]:
        yield from super().actions()
        yield 3, self.twin_up
        yield 2, self.twin_down
        yield 1, self.switch_driver
        yield 0.5, self.reassociate
        yield 0.4, self.switch_link
        if not (self.raws or self.rnics or self.testpmd or self.away or self.rdma_away):
            yield 1.5, self.service

    def _fit_for_testpmd(self) -> list[int]:
        """Not beside a uio device: DPDK's netvsc PMD takes that too, and wants hugepages for it."""
        return [] if UIO in self.drivers.values() else super()._fit_for_testpmd()

    def _above(self) -> list[int]:
        return sorted(port for port, driver in self.drivers.items() if driver == NETVSC)

    def _twin(self, port: int, *words: str) -> str:
        where = ["-n", AWAY] if port in self.away else []
        result = self.vm.run(["ip", *where, "link", "set", self.twins[port], *words], check=False)
        return "" if result.rc == 0 else f" ({result.err.strip()})"

    def _call(self, names: dict[str, str]) -> None:
        """Give new netdevs their old names, which others of the new may have."""
        todo = [(now, name) for now, name in names.items() if now != name]
        steps = [(now, f"new-{name}") for now, name in todo]
        steps += [(f"new-{name}", name) for _, name in todo]
        for now, name in steps:
            self.vm.run(["ip", "link", "set", now, "name", name])

    def twin_up(self) -> str:
        port = self.rng.choice(self._above() or [0])
        return f"twin of port {port} up{self._twin(port, 'up')}" if port else "no twin to set up"

    def twin_down(self) -> str:
        port = self.rng.choice(self._above() or [0])
        return f"twin of port {port} down{self._twin(port, 'down')}" if port else "no twin"

    def move(self) -> str:
        self.vm.run(f"ip netns list | grep -q {AWAY} || ip netns add {AWAY}")
        here = [port for port in self._above() if port not in self.away]
        if not here:
            return "no twin to move"
        port = self.rng.choice(here)
        self._move(port, AWAY)
        return f"port {port} and its twin moved to {AWAY}"

    def bring_back(self) -> str:
        port = self.rng.choice(sorted(self.away))
        self._move(port, "1")
        return f"port {port} and its twin moved back"

    def _move(self, port: int, netns: str) -> None:
        """The synthetic netdev; hv_netvsc moves the VF after it (netvsc_event_set_vf_ns())."""
        trouble = self._twin(port, "netns", netns)
        assert not trouble, trouble
        self.away ^= {port}
        where = ["ip", "netns", "exec", AWAY] if port in self.away else []
        path = f"/sys/class/net/{self.names[port]}/master"
        eventually(
            lambda: self.vm.run([*where, "test", "-e", path], check=False).rc == 0,
            what=f"the VF of port {port} to follow",
        )

    def switch_driver(self) -> str:
        """Another driver for a VMBus device, or none."""
        here = sorted(set(self.names) - self.away)
        if not here:
            return "no VMBus device here"
        port = self.rng.choice(here)
        choices = [None, UIO, NETVSC, NETVSC]
        driver = self.rng.choice([one for one in choices if one != self.drivers[port]])
        self.give(port, driver)
        return f"the VMBus device of port {port} given to {driver or 'no driver'}"

    def give(self, port: int, driver: str | None) -> None:
        uuid, old = self.uuids[port], self.drivers[port]
        if old is not None:
            self.vm.run(f"echo {uuid} > {BUS}/{old}/unbind")
        self.drivers[port] = None
        if driver == UIO:
            # An id takes all devices that have no driver.
            self.vm.run(f"echo {CLASS} > {BUS}/{UIO}/new_id; echo {CLASS} > {BUS}/{UIO}/remove_id")
            for other, bound in self.drivers.items():
                self.drivers[other] = bound or UIO
        elif driver == NETVSC:
            self.vm.run(f"echo {uuid} > {BUS}/{NETVSC}/bind")
            self.drivers[port] = NETVSC
            name = self.vm.run(f"ls /sys/bus/vmbus/devices/{uuid}/net").out.strip()
            self._call({name: self.twins[port]})
            path = f"/sys/class/net/{self.names[port]}/master"
            eventually(
                lambda: self.vm.run(["test", "-e", path], check=False).rc == 0,
                what=f"port {port} to be below its twin",
            )

    def reassociate(self) -> str:
        """Both at once: a VF that is opened in between waits for the host with RTNL held."""
        port = self._port()
        for associated in (0, 1):
            self.host.set(self.macs[port], associated=associated)
        return f"the host withdrew and announced the VF of port {port}"

    def switch_link(self) -> str:
        port = self._port()
        up = not self.nic(port).link
        self.host.set(self.macs[port], link=up)
        return f"the host's link of port {port} is {'up' if up else 'down'}"

    def service(self) -> str:
        """The VFs go and come back, as with host servicing; hv_netvsc opens those whose twin is up."""
        self.vm.run(f"echo {self.pci} > {MANA}/unbind; echo {self.pci} > {MANA}/bind")
        eventually(lambda: len(self.vm.netdevs) == len(self.names), what="the netdevs")
        self.names = dict(self.first_names)
        self._call({name: self.names[port] for port, name in self.vm.netdevs.items()})
        eventually(lambda: len(rdma_devices(self.vm)) == 2, what="the RDMA devices")
        self.devices = rdma_devices(self.vm)
        for port in self._above():
            if self._up(self.twins[port]):
                vf = self.names[port]
                eventually(lambda vf=vf: self._up(vf), what=f"hv_netvsc to open {vf}")
        return "the VFs went and came back"
