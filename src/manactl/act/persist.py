"""Leaving a port down at every boot: the step of `claim --persist`, and its end.

The step comes after the one by which the manager of these files lets go, and is undone before it:
the manager reads its files when it gets the netdevs back. After a reboot neither that nor a journal
is left; then `give_back` ends it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from manactl.act import plan_words, residue_words, step_words
from manactl.act.boot_files import NotTold
from manactl.act.plan import Plan, StepFailed, System, Undone
from manactl.act.restore import Lost, Restored
from manactl.act.unmanage import SETTLES
from manactl.errors import NotRestored, strerror
from manactl.escape import command
from manactl.look import boot_files
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import PortId
from manactl.model.record import StepKind
from manactl.model.value import Value
from manactl.netstate.left_down import LeftDown
from manactl.netstate.losses import Cause
from manactl.netstate.unmanaged import NETWORK_MANAGER, NETWORKD, Unmanaged
from manactl.poll import until

READ_AGAIN = {NETWORKD: ("networkctl", "reload"), NETWORK_MANAGER: ("nmcli", "general", "reload")}


class LeaveDown(Value):
    """Half done like done: undoing removes what is there."""

    KIND: ClassVar = StepKind.LEAVE_DOWN
    undoes: ClassVar[bool] = True
    makes_usable: ClassVar[bool] = False
    kept: LeftDown

    @property
    def kind(self) -> str:
        return self.KIND

    @property
    def port(self) -> PortId:
        return self.kept.port

    @property
    def files(self) -> list[str]:
        unmanaged = self.kept.unmanaged
        return boot_files.paths(unmanaged.manager, unmanaged.key, len(unmanaged.links))

    @property
    def title(self) -> str:
        unmanaged = self.kept.unmanaged
        return step_words.leave_down(unmanaged.manager, unmanaged.names)

    @property
    def undo_title(self) -> str:
        unmanaged = self.kept.unmanaged
        return step_words.leave_down_undone(unmanaged.manager, unmanaged.names)

    def describe(self) -> str:
        unmanaged = self.kept.unmanaged
        return step_words.leave_down_described(unmanaged.manager, unmanaged.names, self.files)

    def do(self, system: System, wait: float) -> Mapping[str, object]:
        try:
            system.write_boot_files(self.kept)
        except OSError as error:
            raise self._failed(self.title, error) from error
        return {"files": self.files}

    def undo(self, system: System) -> Undone:
        try:
            left = system.remove_boot_files(self.kept)
        except OSError as error:
            raise self._failed(self.undo_title, error) from error
        return Undone(Restored(lost=_lost(self.kept, left)))

    def _failed(self, what: str, error: OSError) -> StepFailed:
        where = f" ({error.filename})" if error.filename else ""
        return StepFailed(
            f"{what}: {strerror(error)}{where}",
            hint=step_words.FILE_THERE if error.errno == errno.EEXIST else step_words.NOT_WRITABLE,
        )

    def holds(self, system: System) -> bool:
        return system.has_boot_files(self.kept)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            **self.kept.to_json(),
            "files": self.files,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LeaveDown:
        return cls(LeftDown.from_json(data))


class GivenBack(NamedTuple):
    """A manager was given a port again that it left alone since the boot, unless it is not `done`;
    `lost`: what is still not as it was without --persist."""

    kept: LeftDown
    done: bool
    lost: tuple[Lost, ...]


def plan(kept: LeftDown) -> Plan:
    """For a dry run: how a port that is left down since the boot is given back."""
    return Plan(
        "release",
        (kept.port,),
        (),
        restores=(plan_words.given_back_at_boot(kept.unmanaged.manager, kept.unmanaged.names),),
        notes=(plan_words.left_down_by(kept.name, LeaveDown(kept).files),),
    )


def give_back(system: System, kept: LeftDown) -> GivenBack:
    """Remove the files of a port that are left from a claim of an earlier boot, and await what the
    manager makes of the port. OSError when that failed; what was not done is found again."""
    unmanaged = system.found_again(kept.unmanaged)  # other netdevs have their numbers now
    runs, left = system.lift_boot_files(kept, unmanaged)
    lost = _lost(kept, left)
    if not left:
        lost += _undone(unmanaged, kept, system, runs=runs)
    return GivenBack(kept, not left, lost)


def not_given_back(kept: LeftDown, error: OSError) -> NotRestored:
    """The message of a give_back() that failed, of which the claim's own release is no part."""
    files, manager = LeaveDown(kept).files, kept.unmanaged.manager
    again = command("manactl", "release", names=[kept.name])
    why = strerror(error)
    if isinstance(error, NotTold):
        return NotRestored(
            f"{kept.name}: released as far as it was claimed, and the files that left it down at "
            f"boot are out of force ({', '.join(files)}), but {manager} was not told: {why}",
            hint=f"run `{command(*READ_AGAIN[manager])}`; `{again}` tells it, too, and clears up",
            code="persist",
        )
    return NotRestored(
        f"{kept.name}: released as far as it was claimed, but could not remove "
        f"{error.filename or ', '.join(files)}, so it may be left down at boot: {why}",
        hint=f"fix the cause, then `{again}` tries again",
        code="persist",
    )


def _undone(
    unmanaged: Unmanaged, kept: LeftDown, system: System, *, runs: bool
) -> tuple[Lost, ...]:
    """What the manager has not made of the port, once it was told: of its netdevs that are here, as
    `unmanaged` has them."""
    if len(unmanaged.links) < len(kept.unmanaged.links):
        names = kept.unmanaged.names
        why = residue_words.netdev_changed(unmanaged.manager, names)
    elif not runs:
        why = residue_words.not_started(unmanaged.manager, unmanaged.names)
    elif until(system, lambda: not system.unsettled(unmanaged), SETTLES):
        return ()
    else:
        left = system.unsettled(unmanaged)
        why = residue_words.not_configured_since_boot(unmanaged.manager, left, SETTLES)
    return (Lost(Cause.MANAGER, why),)


def _lost(kept: LeftDown, left: Iterable[str]) -> tuple[Lost, ...]:
    manager = kept.unmanaged.manager
    again = command(*READ_AGAIN[manager])
    return tuple(
        Lost(
            Cause.CHANGED,
            residue_words.file_changed(path, manager, f"{command('rm', path)} && {again}"),
            path,
        )
        for path in left
    )
