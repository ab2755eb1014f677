"""The step that gives the VMBus device of a pair to uio_hv_generic, for DPDK's netvsc PMD.

Its netdev, the synthetic one, is destroyed with all that stands on it; undoing gives the device
back to hv_netvsc, which makes another, and act/recreate.py makes that as the old one was.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Mapping
from typing import Any, ClassVar

from manactl.act import step_words
from manactl.act.plan import REPLUG, StepFailed, System, Undone, awaited
from manactl.errors import errno_name, strerror
from manactl.escape import called
from manactl.look.netdevs_of import NetdevNow, Unread
from manactl.look.vmbus import NETVSC, UIO
from manactl.model.port import Evidence, PortId
from manactl.model.record import StepKind
from manactl.model.value import Value
from manactl.netstate import snapshot
from manactl.netstate.snapshot import Request
from manactl.poll import until
from manactl.wire import if_link


class BindUio(Value):
    """Half done like done: the driver that has the device tells what is left to undo.

    `override`: the only driver that may have it, as it was before (driver_override); None: any.
    """

    KIND: ClassVar = StepKind.BIND_UIO
    undoes: ClassVar[bool] = True
    makes_usable: ClassVar[bool] = True
    port: PortId
    vmbus: str
    name: str
    override: str | None = None

    @property
    def kind(self) -> str:
        return self.KIND

    @property
    def title(self) -> str:
        return step_words.bind_uio(self.name)

    @property
    def undo_title(self) -> str:
        return step_words.bind_uio_undone(self.name)

    def describe(self) -> str:
        return step_words.bind_uio_described(self.name, self.vmbus)

    def do(self, system: System, wait: float) -> Mapping[str, object]:
        try:
            system.open_uio()
            if system.vmbus_driver(self.vmbus) == NETVSC:
                system.unbind_vmbus(self.vmbus, NETVSC)
            if system.vmbus_driver(self.vmbus) != UIO:
                system.bind_vmbus(self.vmbus, UIO)
            self._override_as_it_was(system)
        except OSError as error:
            raise self._failed(system, f"{self.title} failed", error) from error
        if not self.holds(system):
            raise StepFailed(f"{UIO} does not keep {self.name}'s VMBus device {self.vmbus}")
        return {"boottime": system.boottime()}

    def undo(self, system: System) -> Undone:
        holders = system.uio_holders(self.vmbus)
        if holders or system.uio_open(self.vmbus):
            pids = ", ".join(f"pid {one.pid} {called(one.comm)}" for one in holders)
            raise StepFailed(
                f"{self.undo_title}: {pids or 'a process not visible from here'} has its uio device "
                "open",
                hint="end it, then `manactl recover`",
                taken=True,
            )
        try:
            if system.vmbus_driver(self.vmbus) == UIO:
                system.unbind_vmbus(self.vmbus, UIO)
            system.close_uio()
            if system.vmbus_driver(self.vmbus) is None:
                system.bind_vmbus(self.vmbus, NETVSC)
            self._override_as_it_was(system)
        except OSError as error:
            raise self._failed(system, f"{self.undo_title} failed", error) from error
        now = awaited(system, lambda: system.synthetic(self.vmbus))
        if isinstance(now, Unread):
            raise self._failed(
                system, f"{self.undo_title}: its netdev could not be looked at", now.error
            )
        if now is None:
            raise StepFailed(
                f"VMBus device {self.vmbus} has no netdev here after it was given back to {NETVSC}",
                hint="see the kernel log (hv_netvsc), then `manactl recover`",
            )
        self._rename(system)
        if isinstance(system.netdev(self.port), NetdevNow):
            # Only below the synthetic netdev is it told what stood on that; prove_path() says if not.
            until(system, lambda: system.pair_now(self.port, self.vmbus).enslaved, REPLUG)
        return Undone()

    def _rename(self, system: System) -> None:
        """Give the new netdev its name before the device of another pair is given back: the kernel
        would give that one the name which this one has now, and each would have the other's."""
        now = system.synthetic(self.vmbus)
        with contextlib.suppress(OSError):  # recreate.set_up() tries again, and says so
            if (
                isinstance(now, NetdevNow)
                and now.name != self.name not in system.settings(now.ifindex).names
            ):
                body = if_link.rename(now.ifindex, self.name)
                system.send(Request(if_link.RTM_NEWLINK, 0, body))

    def _override_as_it_was(self, system: System) -> None:
        if system.vmbus_override(self.vmbus) != self.override:
            system.set_vmbus_override(self.vmbus, self.override)

    def _failed(self, system: System, what: str, error: OSError) -> StepFailed:
        return StepFailed(
            f"{what}: {strerror(error)}",
            hint=step_words.TAKEN_BACK if self._is_gone(system) else step_words.SEE_KERNEL_LOG,
            evidence=[Evidence("sysfs", self.vmbus, errno_name(error))],
        )

    def _is_gone(self, system: System) -> bool:
        """A driver that does not take the device is ENODEV, too."""
        try:
            system.vmbus_driver(self.vmbus)
        except OSError as error:
            return error.errno == errno.ENODEV
        return False

    def holds(self, system: System) -> bool:
        try:
            return system.vmbus_driver(self.vmbus) == UIO
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise self._failed(
                    system, f"{self.name}'s VMBus device could not be looked at", error
                ) from error
            return False

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "port": snapshot.port_to_json(self.port),
            "vmbus": self.vmbus,
            "name": self.name,
            **({} if self.override is None else {"override": self.override}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BindUio:
        return cls(
            snapshot.port_from_json(data["port"]),
            str(data["vmbus"]),
            str(data["name"]),
            data.get("override"),
        )
