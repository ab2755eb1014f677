"""The running kernel, as steps meet it: sources opened when first needed, ports looked up again."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Self

from manactl.act.plan import NetdevNow
from manactl.look import stacked_links, surroundings
from manactl.look.raw_qp_probe import Proof, open_device, prove_free
from manactl.look.rtnetlink import Rtnl
from manactl.model.port import (
    IFF_UP,
    Certainty,
    Holder,
    Owner,
    PortId,
    PortStatus,
    RdmaPort,
    Report,
)
from manactl.netstate.snapshot import PortState, Request
from manactl.netstate.surroundings import Surroundings
from manactl.wire.uverbs import ProofOutcome as Outcome


class LiveSystem:
    """Implements host.HostSystem. `rdma` tells where each port's raw QPs are made, by PCI address
    and port; `look` reads every port again."""

    def __init__(
        self,
        rdma: Mapping[tuple[str, int], RdmaPort | None],
        look: Callable[[], Report],
        *,
        sys: Path = Path("/sys"),
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rdma = rdma
        self._look = look
        self.pause = pause
        self._sys = sys
        self.rtnl = Rtnl()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.rtnl.close()

    def monotonic(self) -> float:
        return time.monotonic()

    def boottime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def netdev(self, port: PortId) -> NetdevNow | None:
        """By PCI address and dev_port in sysfs, whose files take no lock that a driver may hold.

        The permanent MAC must fit too, unless it was never seen: another NIC may have been
        plugged into the slot.
        """
        for path in sorted((self._sys / "bus/pci/devices" / port.pci / "net").glob("*")):
            try:
                if int((path / "dev_port").read_text()) != port.port - 1:
                    continue
                ifindex = int((path / "ifindex").read_text())
                flags = int((path / "flags").read_text(), 16)
                if port.permanent_mac not in (None, self.rtnl.link(ifindex).permanent_mac):
                    continue
            except (OSError, ValueError):
                continue  # it went away, or is just being renamed: not this one, not now
            return NetdevNow(path.name, ifindex, bool(flags & IFF_UP))
        return None

    def _ifindex(self, port: PortId) -> int:
        now = self.netdev(port)
        if now is None:
            raise OSError(errno.ENODEV, f"port {port} has no netdev here")
        return now.ifindex

    def carrier(self, port: PortId) -> bool:
        return bool(self.rtnl.link(self._ifindex(port)).carrier)

    def set_admin(self, port: PortId, up: bool) -> None:
        self.rtnl.set_up(self._ifindex(port), up)

    def capture(self, port: PortId, nexthops: Collection[int] = ()) -> PortState:
        return self.rtnl.capture(port, self._ifindex(port), self.boottime(), nexthops)

    def send(self, request: Request) -> None:
        self.rtnl.send(request)

    def set_sysctl(self, path: str, value: str) -> None:
        stacked_links.put_setting(path, value)

    def prove_free(self, port: PortId) -> Proof:
        rdma = self._rdma.get(port.key)
        if rdma is None:
            message = f"port {port} has no RDMA device (is mana_ib loaded?)"
            return Proof(Outcome.CANNOT, errno.ENODEV, None, "uverbs", message)
        return prove_free(rdma.device, rdma.port)

    def warm_up(self, port: PortId) -> None:
        """Load what the proof needs while the port still works: imports are not downtime."""
        rdma = self._rdma.get(port.key)
        if rdma is not None:
            try:
                open_device(rdma.device, []).close()
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
        waits = any(missing.source == "mana" for missing in report.missing)
        return not waits and any(
            (row.owner, row.certainty) == (Owner.FREE, Certainty.PROVEN)
            for row in report.ports
            if row.id.key == port.key
        )


def capabilities() -> int:
    """The effective capability mask of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def who() -> dict[str, object]:
    """Who asked: the uid, whom sudo stood in for, and the login uid (None outside a session)."""
    try:
        login = int(Path("/proc/self/loginuid").read_text())
    except (OSError, ValueError):
        login = 0xFFFFFFFF
    return {
        "uid": os.getuid(),
        "sudo_user": os.environ.get("SUDO_USER"),
        "loginuid": None if login == 0xFFFFFFFF else login,
    }
