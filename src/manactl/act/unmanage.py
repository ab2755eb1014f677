"""The step that has a network manager let go of the netdevs of a port while it is claimed.

It comes after the snapshot and before the port goes down. Undoing comes when the port is up again:
the manager configures again what it owns, and deletes what others have made; what is missing then
comes back from the snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from manactl.act import residue_words, step_words
from manactl.act.plan import StepFailed, System, Undone, ms
from manactl.act.restore import Lost, Restored
from manactl.errors import strerror
from manactl.model.port import Evidence, PortId
from manactl.model.record import StepKind
from manactl.model.value import Value
from manactl.netstate import beside, link_settings, snapshot
from manactl.netstate.beside import Beside
from manactl.netstate.losses import Cause
from manactl.netstate.unmanaged import NETWORKD, Unmanaged
from manactl.poll import until

SETTLES = 30.0  # s for a manager to configure a netdev again, DHCP included


class Unmanage(Value):
    """Half done like done: undoing removes what is there, and tells the manager in any case."""

    KIND: ClassVar = StepKind.UNMANAGE
    undoes: ClassVar[bool] = True
    makes_usable: ClassVar[bool] = False
    port: PortId
    unmanaged: Unmanaged

    @property
    def kind(self) -> str:
        return self.KIND

    @property
    def title(self) -> str:
        return step_words.unmanage(self.unmanaged.manager, self.unmanaged.names)

    @property
    def undo_title(self) -> str:
        return step_words.unmanage_undone(self.unmanaged.manager, self.unmanaged.names)

    def describe(self) -> str:
        return step_words.unmanage_described(self.unmanaged.manager, self.unmanaged.names, SETTLES)

    def do(self, system: System, wait: float) -> Mapping[str, object]:
        try:
            system.unmanage(self.unmanaged)
        except OSError as error:
            raise self._failed(self.title, error) from error
        return {}

    def undo(self, system: System) -> Undone:
        start = system.monotonic()
        try:
            # With what has come since the claim: it would delete that, too.
            kept = self._kept(system)
            runs = system.give_back(self.unmanaged)
        except OSError as error:
            raise self._failed(self.undo_title, error) from error
        left = self._await(system, runs=runs)
        facts: dict[str, object] = {"manager": self.unmanaged.manager, "manager_ms": None}
        if left is None:
            facts["manager_ms"] = ms(system.monotonic() - start)
        again, residue = _put_back(kept, system)
        if again:
            facts["put_back"] = again
        residue = (*residue, *_modes_put_back(self.unmanaged, system))
        # No second attempt of ours would change what it has not done.
        lost = () if left is None else (Lost(Cause.MANAGER, left),)
        return Undone(Restored(residue=residue, lost=lost), facts)

    def _kept(self, system: System) -> tuple[Beside, ...]:
        """What is put back when it is missing, in the manager's way or not: of old or of now."""
        if self.unmanaged.manager != NETWORKD:
            return ()
        return (*self.unmanaged.beside, *system.beside())

    def _await(self, system: System, *, runs: bool) -> str | None:
        """Until the manager has configured everything again; what it has not, in words."""
        if not runs:
            return residue_words.not_running(self.unmanaged.manager, self.unmanaged.names)
        try:
            if until(system, lambda: not system.unsettled(self.unmanaged), SETTLES):
                return None
            left = system.unsettled(self.unmanaged)
        except OSError as error:  # what it has deleted is put back all the same
            return residue_words.not_known_configured(
                self.unmanaged.manager, self.unmanaged.names, strerror(error)
            )
        return residue_words.not_configured(self.unmanaged.manager, left, SETTLES)

    def _failed(self, what: str, error: OSError) -> StepFailed:
        where = f" ({error.filename})" if error.filename else ""
        return StepFailed(
            f"{what}: {strerror(error)}{where}",
            hint=f"see its messages: journalctl -b -t {self.unmanaged.manager}",
            evidence=[Evidence("dbus", self.unmanaged.manager, strerror(error))],
        )

    def holds(self, system: System) -> bool:
        return system.is_unmanaged(self.unmanaged)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "port": snapshot.port_to_json(self.port),
            **self.unmanaged.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Unmanage:
        return cls(snapshot.port_from_json(data["port"]), Unmanaged.from_json(data))


def _modes_put_back(unmanaged: Unmanaged, system: System) -> tuple[str, ...]:
    """Set addr_gen_mode as it was; where it could not be, the reason.

    NetworkManager sets it to the kernel's default on what it does not manage when it starts, and
    sets it again only where it activates a profile.
    """
    residue = []
    for link in unmanaged.links:
        was = link.addr_gen_mode
        if was is None or not was.isdecimal():
            continue
        try:
            now = system.settings(link.ifindex).sysctls.get(link_settings.ADDR_GEN_MODE)
        except OSError:
            continue  # it is gone; one that was re-created has got all its settings already
        if now is not None and now != was:
            try:
                system.send(link_settings.addr_gen_mode(link.ifindex, int(was)))
            except OSError as error:
                residue.append(residue_words.addr_gen_mode(link.name, was, strerror(error)))
    return tuple(residue)


def _put_back(kept: Sequence[Beside], system: System) -> tuple[list[str], tuple[str, ...]]:
    """Make again what is missing; what was made, and what was not with the reason of each."""
    made, residue = [], []
    try:
        missing = beside.missing(kept, system.beside()) if kept else ()
    except OSError as error:
        return [], (residue_words.not_known_deleted(NETWORKD, strerror(error)),)
    for one in missing:
        try:
            system.send(beside.request(one))
        except OSError as error:
            residue.append(residue_words.because(beside.text(one), strerror(error)))
        else:
            made.append(beside.text(one))
    return made, tuple(residue)
