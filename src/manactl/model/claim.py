"""What the journals say of a claimed port, as `status` shows it."""

from pathlib import Path
from typing import NamedTuple

from manactl.model.port import ClaimInfo, Note, PortId


class ClaimSummary(NamedTuple):
    """One port of one journal, as `status` shows it."""

    port: PortId
    claim: ClaimInfo
    phase: str  # claimed | interrupted
    same_boot: bool
    path: Path
    next_step: Note | None = None  # what the operator should know or do, where it is not obvious
    ifindex: int | None = None  # of the netdev when it was claimed
    names: tuple[str, ...] = ()  # of the netdev when it was claimed, altnames included

    @property
    def to_recover(self) -> bool:
        """Whether `manactl recover` has anything to do with it."""
        return self.phase == "interrupted" or not self.same_boot
