"""The running kernel, as steps meet it: sources opened when first needed, ports looked up again."""

from __future__ import annotations

import errno
import functools
import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from manactl.act import network_managers, vmbus_binding
from manactl.act.boot_files import BootFiles
from manactl.act.plan import PairNow
from manactl.look import (
    boot_files,
    ethtool,
    netdevs_of,
    pairs,
    procfs,
    rdma,
    source_words,
    stacked_links,
    surroundings,
    user_namespace,
    vmbus,
)
from manactl.look.found_again import found_again
from manactl.look.netdevs_of import Found, here
from manactl.look.raw_qp_probe import Proof, open_device, prove_free
from manactl.look.rtnetlink import Rtnl
from manactl.look.sysfs import Roots, master_of
from manactl.look.text_files import fields, read, rows
from manactl.model.port import (
    Certainty,
    Holder,
    OddFile,
    Owner,
    PortId,
    PortStatus,
    Report,
    Source,
)
from manactl.netstate.beside import Beside
from manactl.netstate.blueprints import Blueprint
from manactl.netstate.ethtool_settings import Command
from manactl.netstate.left_down import LeftDown
from manactl.netstate.link_settings import LinkSettings
from manactl.netstate.requests import Filled
from manactl.netstate.snapshot import Fact, Kind, PortState, Request, Rows
from manactl.netstate.surroundings import Surroundings
from manactl.netstate.unmanaged import Unmanaged
from manactl.netstate.uppers import UpperState
from manactl.wire import rtmsg as rt
from manactl.wire.if_link import IfLink
from manactl.wire.uverbs import ProofOutcome as Outcome

CAP_NET_ADMIN, CAP_NET_RAW = 12, 13
_RENAMES = 3  # devices that lose their name between the look and the open, in a row


class LiveSystem:
    """Implements host.HostSystem. `look` reads every port again."""

    def __init__(
        self,
        look: Callable[[], Report],
        *,
        sys: Path = Path("/sys"),
        dev: Path = Path("/dev"),
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._look = look
        self.pause = pause
        self._sys = sys
        self._dev = dev
        self.rtnl = Rtnl()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.rtnl.close()

    def monotonic(self) -> float:
        return time.monotonic()

    def boottime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def netdev(self, port: PortId) -> Found:
        return netdevs_of.of_port(port, self._permanent_mac, self._roots)

    def _permanent_mac(self, ifindex: int) -> str | None:
        return self.rtnl.link(ifindex).permanent_mac

    def _ifindex(self, port: PortId) -> int:
        now = here(self.netdev(port))
        if now is None:
            raise OSError(errno.ENODEV, f"port {port} has no netdev here")
        return now.ifindex

    def carrier(self, port: PortId) -> bool:
        return bool(self.rtnl.link(self._ifindex(port)).carrier)

    def set_admin(self, port: PortId, up: bool) -> None:
        self.set_up(self._ifindex(port), up)

    def set_up(self, ifindex: int, up: bool) -> None:
        """Of a netdev that was just looked up; OSError as from the kernel."""
        self.rtnl.set_up(ifindex, up)

    def addresses(self, ifindex: int) -> list[Fact]:
        """Those of a netdev that was just looked up."""
        bodies = self.rtnl.addresses()
        return [
            Fact(Kind.ADDRESS, body) for body in bodies if rt.IfAddrMsg.of(body).ifindex == ifindex
        ]

    def capture(
        self,
        port: PortId,
        nexthops: Collection[int] = (),
        rows: Rows = None,
        *,
        alone: bool = False,
    ) -> PortState:
        ifindex = self._ifindex(port)
        return self.rtnl.capture(port, ifindex, self.boottime(), nexthops, rows, alone=alone)

    def synthetic(self, uuid: str) -> Found:
        return netdevs_of.of_vmbus(uuid, self._roots)

    def _synthetic_ifindex(self, uuid: str) -> int:
        now = here(self.synthetic(uuid))
        if now is None:
            raise OSError(errno.ENODEV, f"VMBus device {uuid} has no netdev here")
        return now.ifindex

    def set_synthetic(self, uuid: str, up: bool) -> None:
        self.rtnl.set_up(self._synthetic_ifindex(uuid), up)

    def synthetic_carrier(self, uuid: str) -> bool:
        return bool(self.rtnl.link(self._synthetic_ifindex(uuid)).carrier)

    @property
    def _roots(self) -> Roots:
        return Roots(str(self._sys))

    def vmbus_driver(self, uuid: str) -> str | None:
        return vmbus_binding.driver_of(uuid, self._roots)

    def open_uio(self) -> None:
        vmbus_binding.open_uio(self._roots)

    def close_uio(self) -> None:
        vmbus_binding.close_uio(self._roots)

    def bind_vmbus(self, uuid: str, driver: str) -> None:
        vmbus_binding.bind(uuid, driver, self._roots)

    def vmbus_override(self, uuid: str) -> str | None:
        return vmbus_binding.override(uuid, self._roots)

    def set_vmbus_override(self, uuid: str, driver: str | None) -> None:
        vmbus_binding.set_override(uuid, driver, self._roots)

    def unbind_vmbus(self, uuid: str, driver: str) -> None:
        vmbus_binding.unbind(uuid, driver, self._roots)

    def uio_holders(self, uuid: str) -> tuple[Holder, ...]:
        rdev = vmbus.uio_rdev(uuid, self._roots)
        return () if rdev is None else procfs.holders("/proc", [rdev]).of[rdev]

    def uio_open(self, uuid: str) -> bool:
        """Whether a program has it open, be it one that is not seen from here."""
        on_uio = vmbus.uio_rdev(uuid, self._roots) is not None
        return on_uio and vmbus.is_open(uuid, self._roots) is True

    def pair_now(self, port: PortId, uuid: str) -> PairNow:
        roots = Roots(str(self._sys))
        vf, above = here(self.netdev(port)), here(self.synthetic(uuid))
        if vf is None or above is None:
            return PairNow(False, None)
        enslaved = vmbus.uuid_of(master_of(vf.name, roots) or "", roots) == uuid
        return PairNow(enslaved, pairs.frames(vf.name, above.name, roots))

    @functools.cached_property
    def _network_managers(self) -> network_managers.NetworkManagers:
        return network_managers.NetworkManagers(self.pause)

    def unmanage(self, unmanaged: Unmanaged) -> None:
        self._network_managers.unmanage(unmanaged)

    def give_back(self, unmanaged: Unmanaged) -> bool:
        return self._network_managers.give_back(unmanaged)

    def beside(self) -> tuple[Beside, ...]:
        return self.rtnl.beside()

    def is_unmanaged(self, unmanaged: Unmanaged) -> bool:
        return self._network_managers.is_unmanaged(unmanaged)

    def unsettled(self, unmanaged: Unmanaged) -> tuple[str, ...]:
        return self._network_managers.unsettled(unmanaged)

    def boot_files(self) -> tuple[LeftDown, ...]:
        files = map(boot_files.understood, boot_files.find())
        found = [kept for kept in files if kept is not None]
        return tuple({(kept.port, kept.unmanaged.manager): kept for kept in found}.values())

    def odd_boot_files(self) -> tuple[OddFile, ...]:
        return boot_files.odd()

    def write_boot_files(self, kept: LeftDown) -> None:
        BootFiles().write(kept)

    def has_boot_files(self, kept: LeftDown) -> bool:
        return BootFiles().are_there(kept)

    def remove_boot_files(self, kept: LeftDown) -> tuple[str, ...]:
        return BootFiles().remove(kept)

    def lift_boot_files(self, kept: LeftDown, unmanaged: Unmanaged) -> tuple[bool, tuple[str, ...]]:
        return BootFiles().lift(kept, lambda: self.give_back(unmanaged))

    def found_again(self, unmanaged: Unmanaged) -> Unmanaged:
        links = [IfLink(body) for body in self.rtnl.links()]
        return replace(unmanaged, links=found_again(unmanaged.links, links, Roots(str(self._sys))))

    def link_settings(self, port: PortId) -> LinkSettings:
        return self.settings(self._ifindex(port))

    def settings(self, ifindex: int) -> LinkSettings:
        return ethtool.added(self.rtnl.link_settings(ifindex), ifindex)

    def set_ethtool(self, ifindex: int, name: str, command: Command) -> None:
        ethtool.put(ifindex, name, command)

    def uppers(self, port: PortId) -> tuple[UpperState, ...]:
        return self.rtnl.uppers(self._ifindex(port))

    def blueprints(self, port: PortId) -> tuple[Blueprint, ...]:
        return tuple(
            plan._replace(settings=ethtool.added(plan.settings, plan.ifindex))
            for plan in self.rtnl.blueprints(self._ifindex(port))
        )

    def send(self, request: Request) -> None:
        self.rtnl.send(request)

    def send_all(self, requests: Sequence[Request]) -> list[OSError | None]:
        return self.rtnl.send_all(requests)

    def send_alike(self, requests: Filled) -> None:
        self.rtnl.send_alike(requests)

    def set_sysctl(self, path: str, value: str) -> None:
        stacked_links.put_setting(path, value)

    def prove_free(self, port: PortId) -> Proof:
        """By the device that is the function's now: names change, as after a reset."""
        message = source_words.no_rdma_device(port)
        proof = Proof(Outcome.CANNOT, errno.ENODEV, None, "uverbs", message)
        for _ in range(_RENAMES):
            name = self._raw_device(port)
            if name is None:  # none, or it was renamed while it was looked at
                continue
            proof = prove_free(port.pci, name, port.port, str(self._sys), str(self._dev))
            if proof.where != "open" or self._raw_device(port) == name:
                break
        return proof

    def _raw_device(self, port: PortId) -> str | None:
        """The device on which raw QPs of the port are made."""
        node = rdma.find_raw_device(port.pci, Roots(str(self._sys)))
        return node.name if node is not None and port.port in node.ports else None

    def warm_up(self, port: PortId) -> None:
        """Load what the proof needs while the port still works: imports are not downtime."""
        name = self._raw_device(port)
        if name is not None:
            try:
                open_device(port.pci, name, [], str(self._sys), str(self._dev)).close()
            except Exception:  # noqa: BLE001 - the proof itself will report it
                return

    def surroundings(
        self, port: PortStatus, state: PortState | None, claimed: Sequence[int]
    ) -> Surroundings:
        return surroundings.gather(port, state, claimed, self.rtnl)

    def holders(self, port: PortId) -> tuple[Holder, ...]:
        """Who has the port's raw-QP device open now."""
        return next((p.holders for p in self._look().ports if p.id.key == port.key), ())

    def seems_free(self, port: PortId) -> bool:
        """Whether there is proof of other kinds that nobody has the vport, and nobody waits in
        the driver, as an open of the netdev does."""
        report = self._look()
        waits = any(missing.source is Source.MANA for missing in report.missing)
        return not waits and any(
            (row.owner, row.certainty) == (Owner.FREE, Certainty.PROVEN)
            for row in report.ports
            if row.id.key == port.key
        )

    def in_reset(self, port: PortId) -> bool:
        """Whether the driver has taken down what mana_ib binds to: then netdevs are detached, too
        (mana_gd_suspend(), mana_detach())."""
        return any(row.in_reset for row in self._look().ports if row.id.key == port.key)


def capabilities() -> int:
    """The effective capabilities of this process that are good for anything here.

    In a user namespace of its own that is CAP_NET_ADMIN at the most. For raw QPs and locked memory
    the kernel asks the machine's own, but for raw QPs of later kernels in some cases, which a
    proof finds out.
    """
    mask = 0
    for line in rows(read("/proc/self/status")):
        if line.startswith("CapEff:"):
            mask = int(fields(line)[1], 16)
    if user_namespace.is_initial():
        return mask
    return mask & (1 << CAP_NET_ADMIN) if user_namespace.owns_netns() else 0


def who() -> dict[str, object]:
    """Who asked: the uid, whom sudo stood in for, and the login uid (None outside a session)."""
    try:
        login = int(read("/proc/self/loginuid"))
    except (OSError, ValueError):
        login = 0xFFFFFFFF
    return {
        "uid": os.getuid(),
        "sudo_user": os.environ.get("SUDO_USER"),
        "loginuid": None if login == 0xFFFFFFFF else login,
    }
