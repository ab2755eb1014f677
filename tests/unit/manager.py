"""A network manager in memory, with its own idea of what it does to a kernel.

It opens what it manages when it starts, or reads its files again and is left to it again; then it
configures that: its own addresses and routes are made, those that somebody else has made go.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from manactl.model.port import OddFile
from manactl.netstate.left_down import LeftDown
from manactl.netstate.snapshot import Fact
from manactl.netstate.surroundings import Manager, Process
from manactl.netstate.unmanaged import Unmanaged, UnmanagedLink
from tests.unit.kernel import ADDRESS, ROUTE, Kernel, Message, Nic, Synthetic, same_thing

MADE_BY_KERNEL = 2  # RTPROT_KERNEL


class FakeManager:
    """One for some netdevs by name, each with what it configures there."""

    def __init__(
        self, kernel: Kernel, name: str = "systemd-networkd", **own: Iterable[Fact]
    ) -> None:
        self.kernel = kernel
        self.name = name
        self.own = {netdev: [(str(f.kind), f.body) for f in facts] for netdev, facts in own.items()}
        self.running = True
        self.answers = True
        self.drops: tuple[str, ...] | None = ()  # addresses, as its netdev goes down
        self.needs = 0.0  # s to configure a netdev
        self.files: dict[str, Unmanaged] = {}
        self.boot_files: dict[str, LeftDown] = {}  # by the word in their names
        self.odd_files: list[OddFile] = []  # with names like ours, of no use
        self.edited: set[str] = set()  # words of those that somebody has changed
        self.left: set[str] = set()  # netdevs that it leaves alone since it has read its files
        self.done_at: dict[str, float] = {}
        kernel.managers.append(self)

    def start(self) -> None:
        """A restart: it reads its files, and opens and configures all else."""
        self.running = True
        self.left = self._unmanaged()
        if self.name == "NetworkManager":  # set_nm_ipv6ll() as a device becomes unmanaged
            for nic in self.kernel.nics:
                if nic.name in self.left:
                    nic.addr_gen_mode = "0"
        for name in self.own.keys() - self.left:
            self._take(name)

    def reload(self) -> None:
        """What it had to leave alone until now it takes back."""
        unmanaged = self._unmanaged()
        back, self.left = self.left - unmanaged, unmanaged
        for name in back:
            self._take(name)

    def _unmanaged(self) -> set[str]:
        unmanaged = [*self.files.values(), *(kept.unmanaged for kept in self.boot_files.values())]
        return {link.name for one in unmanaged for link in one.links}

    def _take(self, name: str) -> None:
        device = next((d for d in self.kernel.devices if d.name == name and d.present), None)
        if device is None:
            return
        with contextlib.suppress(OSError):  # a raw QP has it: it goes on without
            if isinstance(device, Synthetic):
                self.kernel.set_synthetic(device, True)
            else:
                self.kernel.set_up(device, True)
        if device.up:
            self._configure(device)
            self.done_at[name] = self.kernel.clock + self.needs

    def _configure(self, device: Nic | Synthetic) -> None:
        if self.name == "systemd-networkd":
            self.kernel.beside.clear()  # nothing of that is its own here
        mine = [Message.parse(kind, body) for kind, body in self.own[device.name]]
        for one in list(self.kernel.messages):
            foreign = one.kind in (ADDRESS, ROUTE) and one.device == device.ifindex
            made = one.kind == ROUTE and one.head[5] == MADE_BY_KERNEL
            link_local = one.kind == ADDRESS and one.head[3] == 253
            if foreign and not made and not link_local and one in self.kernel.messages:
                there = [m for m in mine if same_thing(m.on(device.ifindex, device.name), one)]
                if not there:
                    self.kernel.messages.remove(one)
        for one in mine:
            self.kernel.add(one.kind, one.on(device.ifindex, device.name).pack())

    def surroundings(self, netdevs: dict[int, str]) -> Iterable[Manager]:
        for ifindex, name in netdevs.items():
            if name in self.own and self.running:
                unmanaged = name in self.left
                mode = None
                if self.name == "NetworkManager":
                    nics = [nic for nic in self.kernel.nics if nic.name == name]
                    mode = nics[0].addr_gen_mode if nics else "0"
                link = UnmanagedLink(
                    name, ifindex, None, None, True, addr_gen_mode=mode, drops=self.drops
                )
                yield Manager(
                    self.name, Process(4321, self.name), not unmanaged, "/run/fake", name, ifindex,
                    link if self.answers else None, None if self.answers else "timed out",
                )  # fmt: skip

    def unsettled(self, unmanaged: Unmanaged) -> tuple[str, ...]:
        return tuple(
            link.name
            for link in unmanaged.links
            if self.done_at.get(link.name, float("inf")) > self.kernel.clock
        )
