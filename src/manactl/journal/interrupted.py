"""What a journal that is neither finished nor undone means. Cheap: `status` asks."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from manactl.look.text_files import fields, read, rows
from manactl.model.port import Note, PortId
from manactl.model.record import Event, StepKind

BEFORE_BOOT = Note("before-boot")
# What tells how far it came. Residue that was accepted was another port's.
_LATEST = (Event.RESIDUE, Event.RELEASING, Event.ACCEPTED)


def next_step(
    header: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    port: PortId,
    state_dir: Path,
) -> Note:
    """What happened to a port whose journal is open, and what `manactl recover` will do."""
    if (pid := at_work(state_dir, port.pci)) is not None:
        return Note("at-work", (pid, port.pci))
    will = _recovery(header, records, port)
    last = next((r for r in reversed(records) if r["event"] in _LATEST), None)
    if last is not None and last["event"] == Event.RESIDUE:
        return Note("not-restored", ("; ".join(map(str, last.get("lines", ()))), will))
    claimed = any(record["event"] == Event.CLAIMED for record in records)
    return Note("release-interrupted" if claimed else "claim-interrupted", (will,))


def _recovery(
    header: Mapping[str, Any], records: Iterable[Mapping[str, Any]], port: PortId
) -> Note:
    begun = {record.get("step") for record in records if record["event"] == Event.DOING}
    steps = [
        step
        for number, step in enumerate(header["plan"].get("steps", ()))
        if number in begun and PortId.key_of(step["port"]) == port.key
    ]
    kinds = (StepKind.SET_SYNTHETIC, StepKind.SET_ADMIN)
    changes = [step for kind in kinds for step in steps if step["kind"] == kind]
    change = changes[0] if changes else None
    if change is None:
        unmanaged = unmanaged_by(steps, port)
        return (
            Note("recover-gives-back", (", ".join(unmanaged),))
            if unmanaged
            else Note("recover-closes")
        )
    kept = next((step.get("kept") for step in steps if step["kind"] == StepKind.KEEP_STATE), None)
    return Note("recover-sets-up", (change["name"], "what refers to it" if kept is None else kept))


def unmanaged_by(steps: Iterable[Mapping[str, Any]], port: PortId) -> tuple[str, ...]:
    """The network managers that let go of the port, by these steps of a plan."""
    return tuple(
        str(step["manager"])
        for step in steps
        if step["kind"] == StepKind.UNMANAGE and PortId.key_of(step["port"]) == port.key
    )


def at_work(state_dir: Path, pci: str, proc: Path = Path("/proc")) -> int | None:
    """The pid of the manactl that has the lock of this function; None when it is not locked.

    By /proc/locks: trying the lock would take it for a moment, and another manactl that wants it
    then would end with exit code 6.
    """
    path = state_dir / "locks" / f"{pci}.lock"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        info = path.stat()
        device = f"{os.major(info.st_dev):02x}:{os.minor(info.st_dev):02x}:{info.st_ino}"
        pid = int(json.loads(path.read_bytes())["pid"])
        for line in rows(read(proc / "locks")):
            words = fields(line)  # "1: FLOCK ADVISORY WRITE 1234 fd:01:5678 0 EOF"
            if len(words) < 6 or words[1] != "FLOCK":
                continue
            # A file system may show another device number here than stat() does (btrfs).
            same_file = words[5].rpartition(":")[2] == str(info.st_ino)
            if words[5] == device or (same_file and words[4] == str(pid)):
                return pid
    return None
