"""A machine in memory to run claim and release on: everything but the journal and the locks.

Faults come from outside: an operation on the kernel or on the disk that fails, a process that dies
of one, a signal at one, and whatever another program does at that moment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import select
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from manactl.act import claim as claiming
from manactl.act import release as releasing
from manactl.act.audit import Audit
from manactl.act.claim import ClaimResult
from manactl.act.guardian import Guard
from manactl.act.plan import PairNow, Plan
from manactl.act.progress import Progress, Silent
from manactl.act.released import ReleaseResult
from manactl.act.signals import SignalGate
from manactl.look.netdevs_of import Found, NetdevNow, Unread
from manactl.look.netns import Namespace
from manactl.look.pairs import Frames
from manactl.model.claim import ClaimSummary, NetnsId
from manactl.model.port import (
    Certainty,
    Evidence,
    Holder,
    Missing,
    Netdev,
    Note,
    OddFile,
    Owner,
    PortId,
    PortStatus,
    RdmaPort,
    RdmaUse,
    Report,
    Source,
    Upper,
)
from manactl.netstate.beside import Beside
from manactl.netstate.blueprints import Blueprint
from manactl.netstate.ethtool_settings import Command
from manactl.netstate.left_down import LeftDown
from manactl.netstate.link_settings import LinkSettings
from manactl.netstate.requests import Filled
from manactl.netstate.snapshot import Fact, Kind, PortState, Request, Rows
from manactl.netstate.surroundings import FabricRoute, Manager, Surroundings
from manactl.netstate.unmanaged import Unmanaged
from manactl.netstate.uppers import UpperState
from manactl.wire.uverbs import ProofOutcome
from tests.unit.fakes import address, neighbour, nexthop, refused, route
from tests.unit.kernel import Kernel, Message, Nic, Synthetic
from tests.unit.manager import FakeManager

ROOT = (1 << 41) - 1
NET_ADMIN, NET_RAW = 1 << 12, 1 << 13
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Killed(BaseException):
    """kill -9: nothing of this process runs any more, unwinding neither."""


@dataclass
class Fate:
    """What happens to one process at its operations, counted from 1: changes of the kernel, looks
    at a port's state, proofs, and records that go to the disk.

    Number `fails_at` fails; number `dies_at` kills, with its effect (`half`) or without. `at` runs
    something else after an operation, by its number.
    """

    fails_at: int | None = None
    dies_at: int | None = None
    half: bool = False
    at: dict[int, Callable[[], object]] = field(default_factory=dict)
    operations: int = 0

    @property
    def dead(self) -> bool:
        return self.dies_at is not None and self.operations >= self.dies_at

    @contextlib.contextmanager
    def operation(self) -> Iterator[None]:
        if self.dead:
            raise Killed
        self.operations += 1
        number = self.operations
        if number == self.fails_at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if self.dead and not self.half:
            raise Killed
        yield
        if self.dead:
            raise Killed
        if number in self.at:
            self.at[number]()


@dataclass(frozen=True)
class FakeProof:
    outcome: ProofOutcome
    errno: int | None = None
    message: str = "reports the fake kernel"
    hint: str | None = None
    evidence: tuple[Evidence, ...] = ()


class FakeSystem:
    """The kernel as steps meet it. Every override in a test is what another program does."""

    def __init__(self, host: FakeHost) -> None:
        self.host = host
        self.kernel = host.kernel
        self.boundary: Callable[[float], None] = lambda _: None  # what the host was given

    def __enter__(self) -> FakeSystem:
        self.host.open_systems += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.host.open_systems -= 1

    def monotonic(self) -> float:
        return self.kernel.clock

    def boottime(self) -> float:
        return self.kernel.clock

    def pause(self, seconds: float) -> None:
        self.host.pause(seconds)
        self.boundary(0.0)

    def nic(self, port: PortId) -> Nic | None:
        for one in self.kernel.nics:
            if (one.pci, one.number) == (port.pci, port.port) and one.present:
                return one if port.permanent_mac in (None, one.mac) else None
        return None

    def here(self, port: PortId) -> Nic:
        found = self.nic(port)
        if found is None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return found

    def netdev(self, port: PortId) -> Found:
        if self.host.unread is not None:
            return Unread(self.host.unread)
        one = self.nic(port)
        return None if one is None else NetdevNow(one.name, one.ifindex, one.up)

    def carrier(self, port: PortId) -> bool:
        one = self.here(port)
        return one.up and one.cable

    def set_admin(self, port: PortId, up: bool) -> None:
        with self.host.fate.operation():
            self.kernel.set_up(self.here(port), up)

    def set_up(self, ifindex: int, up: bool) -> None:
        with self.host.fate.operation():
            for nic in self.kernel.nics:
                if nic.present and nic.ifindex == ifindex:
                    return self.kernel.set_up(nic, up)
            for above in self.kernel.synthetics:
                if above.ifindex == ifindex:
                    return self.kernel.set_synthetic(above, up)
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    def capture(
        self,
        port: PortId,
        nexthops: Collection[int] = (),
        rows: Rows = None,
        *,
        alone: bool = False,
    ) -> PortState:
        with self.host.fate.operation():
            one = self.here(port)
            above = None if alone else self.kernel.above(one)
            messages = self.kernel.of(one, frozenset(nexthops), *([above] if above else []))
            facts = tuple(Fact(Kind(m.kind), m.pack()) for m in messages)
            clock = self.kernel.clock
            uppers = () if above is None else (_as_upper(above),)
            return PortState(
                port, one.ifindex, one.name, one.up, one.up and one.cable, clock, facts,
                uppers, alone=alone,
            )  # fmt: skip

    def addresses(self, ifindex: int) -> list[Fact]:
        every = (*self.kernel.nics, *self.kernel.synthetics)
        (one,) = [one for one in every if one.ifindex == ifindex]
        messages = self.kernel.of(one, frozenset())
        return [Fact(Kind(m.kind), m.pack()) for m in messages if m.kind == Kind.ADDRESS]

    def synthetic(self, uuid: str) -> Found:
        if self.host.unread is not None:
            return Unread(self.host.unread)
        one = self.kernel.synthetic(uuid)
        return None if one is None else NetdevNow(one.name, one.ifindex, one.up)

    def _there(self, uuid: str) -> Synthetic:
        one = self.kernel.synthetic(uuid)
        if one is None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return one

    def set_synthetic(self, uuid: str, up: bool) -> None:
        with self.host.fate.operation():
            self.kernel.set_synthetic(self._there(uuid), up)

    def synthetic_carrier(self, uuid: str) -> bool:
        one = self._there(uuid)
        return one.up and one.cable

    def pair_now(self, port: PortId, uuid: str) -> PairNow:
        above = self._there(uuid)
        above.sends()
        frames = Frames(above.vf.frames, above.vf.frames + above.slow)
        return PairNow(above.enslaves and above.vf is self.nic(port), frames)

    def _device(self, uuid: str) -> Synthetic:
        for one in self.kernel.synthetics:
            if one.uuid == uuid and one.offered:
                return one
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    def vmbus_driver(self, uuid: str) -> str | None:
        return self._device(uuid).driver

    def open_uio(self) -> None:
        with self.host.fate.operation():
            self.kernel.takes_network = True

    def close_uio(self) -> None:
        with self.host.fate.operation():
            on_uio = [one for one in self.kernel.synthetics if one.driver == "uio_hv_generic"]
            self.kernel.takes_network = bool(on_uio)

    def bind_vmbus(self, uuid: str, driver: str) -> None:
        with self.host.fate.operation():
            one = self._device(uuid)
            if one.override is not None:
                one.override = driver
            self.kernel.bind(one, driver)

    def vmbus_override(self, uuid: str) -> str | None:
        return self._device(uuid).override

    def set_vmbus_override(self, uuid: str, driver: str | None) -> None:
        with self.host.fate.operation():
            self._device(uuid).override = driver

    def unbind_vmbus(self, uuid: str, driver: str) -> None:
        with self.host.fate.operation():
            one = self._device(uuid)
            assert one.driver == driver
            self.kernel.unbind(one)

    def uio_holders(self, uuid: str) -> tuple[Holder, ...]:
        found = [one for one in self.kernel.synthetics if one.uuid == uuid]
        return tuple(
            Holder(pid, "dpdk-testpmd", None, 0, None, None, None)
            for one in found
            for pid in one.opened
        )

    def uio_open(self, uuid: str) -> bool:
        return any(one.opened or one.unseen for one in self.kernel.synthetics if one.uuid == uuid)

    def _manager(self, unmanaged: Unmanaged) -> FakeManager:
        return next(one for one in self.kernel.managers if one.name == unmanaged.manager)

    def unmanage(self, unmanaged: Unmanaged) -> None:
        manager = self._manager(unmanaged)
        with self.host.fate.operation():
            manager.files[unmanaged.key] = unmanaged
        with self.host.fate.operation():
            manager.reload()

    def give_back(self, unmanaged: Unmanaged) -> bool:
        manager = self._manager(unmanaged)
        with self.host.fate.operation():
            manager.files.pop(unmanaged.key, None)
        if manager.running:
            with self.host.fate.operation():
                manager.reload()
        return manager.running

    def beside(self) -> tuple[Beside, ...]:
        return tuple(self.kernel.beside)

    def is_unmanaged(self, unmanaged: Unmanaged) -> bool:
        return unmanaged.key in self._manager(unmanaged).files

    def unsettled(self, unmanaged: Unmanaged) -> tuple[str, ...]:
        return self._manager(unmanaged).unsettled(unmanaged)

    def boot_files(self) -> tuple[LeftDown, ...]:
        return tuple(one for m in self.kernel.managers for one in m.boot_files.values())

    def odd_boot_files(self) -> tuple[OddFile, ...]:
        return tuple(one for manager in self.kernel.managers for one in manager.odd_files)

    def write_boot_files(self, kept: LeftDown) -> None:
        with self.host.fate.operation():
            self._manager(kept.unmanaged).boot_files[kept.unmanaged.key] = kept

    def has_boot_files(self, kept: LeftDown) -> bool:
        return kept.unmanaged.key in self._manager(kept.unmanaged).boot_files

    def remove_boot_files(self, kept: LeftDown) -> tuple[str, ...]:
        manager = self._manager(kept.unmanaged)
        with self.host.fate.operation():
            if kept.unmanaged.key not in manager.edited:
                manager.boot_files.pop(kept.unmanaged.key, None)
        return tuple(f"/etc/{key}" for key in manager.edited & {kept.unmanaged.key})

    def lift_boot_files(self, kept: LeftDown, unmanaged: Unmanaged) -> tuple[bool, tuple[str, ...]]:
        left = self.remove_boot_files(kept)
        return self.give_back(unmanaged), left

    def found_again(self, unmanaged: Unmanaged) -> Unmanaged:
        here = {one.name: one.ifindex for one in self.kernel.devices if one.present}
        links = [
            dataclasses.replace(link, ifindex=here[link.name])
            for link in unmanaged.links
            if link.name in here
        ]
        return dataclasses.replace(unmanaged, links=tuple(links))

    def link_settings(self, port: PortId) -> LinkSettings:
        return self.kernel.settings_of(self.here(port))

    def settings(self, ifindex: int) -> LinkSettings:
        there = [one for one in self.kernel.devices if one.present]
        names = {one.name: one.ifindex for one in there}
        device = next((one for one in there if one.ifindex == ifindex), None)
        if device is None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        found = self.kernel.settings_of(device) if isinstance(device, Nic) else LinkSettings()
        return dataclasses.replace(found, names=names)

    def set_ethtool(self, ifindex: int, name: str, command: Command) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    def uppers(self, port: PortId) -> tuple[UpperState, ...]:
        above = self.kernel.above(self.here(port))
        return () if above is None else (_as_upper(above),)

    def blueprints(self, port: PortId) -> tuple[Blueprint, ...]:
        return ()

    def send(self, request: Request) -> None:
        with self.host.fate.operation():
            self.kernel.send(request.type, request.flags, request.body)

    def send_all(self, requests: Sequence[Request]) -> list[OSError | None]:
        return [refused(self.send, request) for request in requests]

    def send_alike(self, requests: Filled) -> None:
        self.send_all([*requests.each()])

    def set_sysctl(self, path: str, value: str) -> None:
        self.kernel.sysctls[path] = value
        tree, name, key = path.rsplit("/", 2)
        if (tree, key) == ("net/ipv4/conf", "rp_filter"):
            self.kernel.nic(name).rp_filter = value

    def prove_free(self, port: PortId) -> FakeProof:
        try:
            with self.host.fate.operation():
                return self._proof(port)
        except OSError as error:
            return FakeProof(ProofOutcome.CANNOT, error.errno)

    def _proof(self, port: PortId) -> FakeProof:
        one = self.here(port)
        if not (one.rdma and self.host.rdma_loaded):
            return FakeProof(ProofOutcome.CANNOT, errno.ENODEV)
        if not self.host.mask & NET_RAW:
            return FakeProof(ProofOutcome.DENIED, errno.EPERM)
        taken = one.up or one.taken
        return FakeProof(ProofOutcome.TAKEN, errno.EBUSY) if taken else FakeProof(ProofOutcome.FREE)

    def holders(self, port: PortId) -> tuple[Holder, ...]:
        return _holders(self.here(port)) if self.nic(port) else ()

    def seems_free(self, port: PortId) -> bool:
        one = self.nic(port)
        return one is not None and not one.up and not one.holders

    def in_reset(self, port: PortId) -> bool:
        return any(one.resetting for one in self.kernel.nics if one.pci == port.pci)

    def warm_up(self, port: PortId) -> None:
        self.host.warmed.append(port)

    def surroundings(
        self, port: PortStatus, state: PortState | None, claimed: Collection[int]
    ) -> Surroundings:
        """Nothing stacked and nobody connected; which other netdevs are a way out."""
        values: dict[str, Any] = {one.name: () for one in dataclasses.fields(Surroundings)}
        values |= {
            "state": state,
            "xdp": False,
            "netconsole": False,
            "untracked": False,
            "fabric": (FabricRoute(False, False, False),),
        }
        values["others"] = tuple(
            one.name
            for one in self.kernel.nics
            if one.up and one.cable and one.ifindex not in claimed and self._reachable(one)
        ) + tuple(self.host.other_ways)
        values["beside"] = tuple(self.kernel.beside)
        values["managers"] = tuple(self._managers(state)) if state is not None else None
        if state is None:
            values = dict.fromkeys(values)
        return dataclasses.replace(Surroundings(**values), **self.host.around.get(port.id.port, {}))

    def _managers(self, state: PortState) -> Iterator[Manager]:
        netdevs = {state.ifindex: state.ifname} | {one.ifindex: one.name for one in state.uppers}
        for manager in self.kernel.managers:
            yield from manager.surroundings(netdevs)

    def _reachable(self, nic: Nic) -> bool:
        return any(m.kind == "address" and m.head[3] == 0 for m in self.kernel.of(nic))


class FakeProcesses:
    """Processes by a descriptor: the pid plus a thousand."""

    def __init__(self, host: FakeHost) -> None:
        self.host = host
        self.opened: list[tuple[int, int]] = []  # pid, and how many looks there had been
        self.waits: list[list[int]] = []  # descriptors that were waited for
        self.descriptors: list[int] = []  # that are open

    def open(self, pid: int) -> int:
        self.opened.append((pid, self.host.looks))
        self.descriptors.append(pid + 1000)
        return pid + 1000

    def terminate(self, fd: int) -> None:
        pid = fd - 1000
        kernel = self.host.kernel
        kernel.killed.append(pid)
        if pid not in kernel.stubborn:
            for one in kernel.nics:
                one.holders = [holder for holder in one.holders if holder != pid]
        self.host.at_sigterm()

    def ended(self, fd: int, within: float) -> bool:
        held = any(fd - 1000 in one.holders for one in self.host.kernel.nics)
        if held:
            self.host.pause(within)
        return not held

    def first(self, fds: Collection[int], within: float | None) -> set[int]:
        """Descriptors above a thousand are processes here, all others are real."""
        self.waits.append(sorted(fds))
        real = [fd for fd in fds if fd < 1000]
        if found := set(select.select(real, [], [], 0)[0]):
            return found
        self.host.pause(within or 0.0)
        holding = {pid for one in self.host.kernel.nics for pid in one.holders}
        return {fd for fd in fds if fd > 1000 and fd - 1000 not in holding}

    def close(self, fd: int) -> None:
        self.descriptors.remove(fd)


class FakeHost:
    """The machine; one for each run of manactl, over a kernel that stays."""

    def __init__(self, kernel: Kernel, fate: Fate | None = None, boot: str = "boot-1") -> None:
        self.kernel = kernel
        self.fate = fate or Fate()
        self.boot = boot
        self.mask = ROOT
        self.uid = 0
        self.rootless = False
        self.blind = False  # nothing about owners can be read
        self.unread: OSError | None = None  # whether a netdev is there cannot be read
        self.rdma_loaded = True
        self.other_ways: list[str] = ["lan0"]
        self.around: dict[int, dict[str, Any]] = {}  # by port: surroundings that differ
        self.at_look: dict[int, Callable[[], object]] = {}  # before the look of that number
        self.at_pause: Callable[[], object] = lambda: None
        self.at_sigterm: Callable[[], object] = lambda: None
        self.looks = 0
        self.pauses: list[float] = []
        self.warmed: list[PortId] = []
        self.open_systems = 0
        self.systems: Callable[..., FakeSystem] = FakeSystem
        self.processes = FakeProcesses(self)
        self.audits: list[Audit] = []
        self.here = NetnsId(4026531840, 1)
        self.living: dict[NetnsId, Namespace] = {}

    def look(self, claims: Sequence[ClaimSummary] = ()) -> Report:
        self.looks += 1
        if act := self.at_look.get(self.looks):
            act()
        ports = tuple(self._on_uio(self._status(one), claims) for one in self.kernel.nics)
        missing = (Missing(Source.DEBUGFS, "only root may list it"),) if self.blind else ()
        return Report(NOW, "7.0-fake", not self.blind, missing, ports)

    def _on_uio(self, port: PortStatus, claims: Sequence[ClaimSummary]) -> PortStatus:
        on_uio = {one.uuid for one in self.kernel.synthetics if one.driver == "uio_hv_generic"}
        for claim in claims:
            if claim.port.key == port.id.key and claim.vmbus in on_uio and claim.upper:
                return port._replace(upper=Upper(claim.upper, "netvsc", claim.vmbus, on_uio=True))
        return port

    def _status(self, nic: Nic) -> PortStatus:
        owner, certainty = Owner.FREE, Certainty.PROVEN
        if nic.up:
            owner = Owner.ETHERNET
        elif nic.holders:
            owner = Owner.RAW_QP
        if self.blind or nic.resetting:
            owner, certainty = Owner.UNKNOWN, Certainty.UNKNOWN
        netdev = None
        if nic.present:
            flags = 0x1003 if nic.up else 0x1002
            netdev = Netdev(
                nic.name, nic.ifindex, flags, "up" if nic.up else "down",
                nic.cable if nic.up else None, nic.mac, nic.mac, (),
                above.name if (above := self.kernel.above(nic)) else nic.master and nic.master[0],
            )  # fmt: skip
        return PortStatus(
            id=PortId(nic.pci, nic.number, nic.mac if nic.present else None),
            netdev=netdev,
            netns=None,
            upper=self._upper(nic),
            unjoined=self._unjoined(nic),
            rdma=RdmaPort(nic.rdma, nic.number) if nic.rdma and self.rdma_loaded else None,
            owner=owner,
            certainty=certainty,
            holders=_holders(nic),
            evidence=(Evidence("fake", "owner", str(owner)),),
            notes=(Note("owner-unknown", ("may-have-raw-qp",)),) if owner is Owner.UNKNOWN else (),
            rdma_use=RdmaUse(len(nic.holders), tuple(nic.holders), 0),
            in_reset=nic.resetting,
            eqs_lost=nic.eqs_lost,
        )

    def _upper(self, nic: Nic) -> Upper | None:
        above = self.kernel.above(nic) or self.kernel.to_join(nic)
        if above is None:
            for one in self.kernel.synthetics:  # by the journal's word, as report.py has it
                if one.vf is nic and one.driver == "uio_hv_generic" and one.offered:
                    return Upper(one.name, "netvsc", one.uuid)
            return nic.master and Upper(*nic.master)
        path = above.path if above.up else None
        return Upper(above.name, "netvsc", above.uuid, path, above.up)

    def _unjoined(self, nic: Nic) -> str | None:
        above = self.kernel.to_join(nic)
        return above and above.uuid

    def system(self, pause: Callable[[float], None]) -> FakeSystem:
        system = self.systems(self)
        system.boundary = pause
        return system

    def capabilities(self) -> int:
        return self.mask

    def in_user_namespace(self) -> bool:
        return self.rootless

    def who(self) -> dict[str, object]:
        return {"uid": self.uid, "sudo_user": "operator", "loginuid": 1000}

    def boot_id(self) -> str:
        return self.boot

    def netns(self) -> NetnsId:
        return self.here

    def find_netns(self, wanted: NetnsId) -> Namespace | None:
        return next((place for one, place in self.living.items() if one.is_same(wanted)), None)

    def audit(self, verb: str, words: Sequence[str]) -> Audit:
        made = Audit(verb, self.who(), words, socket_path="/nonexistent/journald")
        self.audits.append(made)
        return made

    def monotonic(self) -> float:
        return self.kernel.clock

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.kernel.clock += max(seconds, 0.001)
        self.at_pause()

    @contextlib.contextmanager
    def alive(self) -> Iterator[None]:
        """While this process runs its writes to the disk are operations, too; locks are not."""
        write, rename, unlink = os.write, os.rename, os.unlink

        def writing(fd: int, data: Any) -> int:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return write(fd, data)
            with self.fate.operation():
                return write(fd, data)

        def renaming(*names: Any) -> None:
            with self.fate.operation():
                rename(*names)

        def unlinking(*names: Any, **more: Any) -> None:
            if self.fate.dead:
                raise Killed
            unlink(*names, **more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "write", writing)
            patch.setattr(os, "rename", renaming)
            patch.setattr(os, "unlink", unlinking)
            patch.setattr(os, "fsync", lambda _: None)  # the power stays on here
            yield
        assert self.processes.descriptors == []


def _as_upper(one: Synthetic) -> UpperState:
    return UpperState(
        one.name, one.ifindex, "netvsc", one.vf.ifindex, one.uuid, one.up, one.up and one.cable,
        follows=False, mac=one.vf.mac,
    )  # fmt: skip


def _holders(nic: Nic) -> tuple[Holder, ...]:
    return tuple(
        Holder(pid, "dpdk-testpmd", None, 0, "fwd.service", None, None) for pid in nic.holders
    )


RICH = (
    address("10.0.0.2", 24),
    address("10.0.9.9", 32, flags=0x200),
    address("2001:db8::2", 64),
    address("2001:db8:1::2", 64, valid=900),
    route("10.128.0.0", 9, via="10.0.0.1", proto=16),
    route("10.9.0.0", 16, via="10.0.0.9", table=100),
    route("2001:db8:9::", 48, via="2001:db8::1", metric=1024, expires=900),
    nexthop(10),
    route("192.0.2.0", 24, nhid=10),
    neighbour("10.0.0.50"),
    neighbour("10.0.0.60", proxy=True),
)


def furnish(kernel: Kernel, nic: Nic, facts: Iterable[Fact] = RICH) -> None:
    """Set the netdev up and put those facts on it, with the kernel's own beside them. They are
    written for eth1, ifindex 3."""
    kernel.set_up(nic, True)
    for fact in facts:
        message = Message.parse(str(fact.kind), fact.body)
        mine = nic.ifindex == 3 or message.device != 3
        kernel.add(message.kind, (message if mine else message.on(nic.ifindex, nic.name)).pack())
    kernel.links.clear()


def furnished(*facts: Fact) -> Kernel:
    """One port that is up, with those facts or with some of every kind."""
    kernel = Kernel()
    furnish(kernel, kernel.nics[0], facts or RICH)
    return kernel


ETH2 = Nic(2, "eth2", 4, "00:0d:3a:aa:00:11")
OTHER_FUNCTION = Nic(1, "eth5", 8, "00:0d:3a:bb:00:10", "7871:00:00.0", rdma="manae_1")


def two_ports() -> Kernel:
    """eth1 and eth2 of one function, both up; eth2 has an address of its own."""
    kernel = Kernel(Nic(), dataclasses.replace(ETH2, holders=[]))
    furnish(kernel, kernel.nics[0])
    furnish(
        kernel, kernel.nics[1], (address("10.2.0.2", 24), route("10.3.0.0", 16, via="10.2.0.9"))
    )
    return kernel


def paired(*, up: bool = True) -> Kernel:
    """eth1 as the VF of eth0, which is up and has something of every kind."""
    nic = Nic()
    above = Synthetic(nic)
    kernel = Kernel(nic, synthetics=[above])
    if up:
        kernel.set_synthetic(above, True)
        for fact in RICH:
            message = Message.parse(str(fact.kind), fact.body)
            mine = message.device == nic.ifindex
            made = message.on(above.ifindex, above.name) if mine else message
            kernel.add(made.kind, made.pack())
    kernel.links.clear()
    return kernel


class Followed(Silent):
    """Remembers what was reported."""

    def __init__(self) -> None:
        self.plans: list[tuple[str, Plan]] = []
        self.begun: list[str] = []
        self.steps: list[tuple[str, float, bool]] = []  # title, seconds, failed
        self.notes: list[str] = []
        self.waits: list[tuple[str, float]] = []

    def planned(self, title: str, plan: Plan) -> None:
        self.plans.append((title, plan))

    @contextlib.contextmanager
    def doing(self, title: str) -> Iterator[None]:
        self.begun.append(title)
        assert len(self.begun) == len(self.steps) + 1  # one at a time, and its end is reported
        yield

    def ended(self, title: str, seconds: float, *, failed: bool) -> None:
        self.steps.append((title, round(seconds, 3), failed))

    def noted(self, line: str) -> None:
        self.notes.append(line)

    @contextlib.contextmanager
    def waiting(self, what: str, seconds: float) -> Iterator[None]:
        self.waits.append((what, seconds))
        yield


def claim(
    state_dir: Path,
    host: FakeHost,
    *words: str,
    progress: Progress | None = None,
    guard: Guard | None = None,
    **more: Any,
) -> ClaimResult:
    """`manactl claim --raw-qp WORD...`."""
    request = claiming.ClaimRequest(state_dir, words or ("eth1",), **more)
    with (
        host.alive(),
        SignalGate() as signals,
        claiming.prepare(request, host, signals) as prepared,
    ):
        return claiming.execute(prepared, progress or Silent(), guard)


def release(
    state_dir: Path, host: FakeHost, *words: str, progress: Progress | None = None, **more: Any
) -> ReleaseResult:
    """`manactl release [WORD...]`, or with `recover` `manactl recover`."""
    request = releasing.ReleaseRequest(state_dir, words, **more)
    with host.alive(), SignalGate() as signals:
        return releasing.release(request, host, signals, progress or Silent())
