"""What the journals say of a claimed port, as `status` shows it."""

import enum
from typing import TYPE_CHECKING

from manactl.model.named_tuple import NamedTuple
from manactl.model.port import ClaimInfo, Note, PortId

if TYPE_CHECKING:
    from pathlib import Path


class Phase(enum.StrEnum):
    """How far a claim has come, by its records; of one port, or of a journal."""

    CLAIMED = "claimed"
    INTERRUPTED = "interrupted"  # begun, and neither finished nor undone
    CLOSED = "closed"


_INITIAL_INODE = 0xEFFFFFF9  # include/uapi/linux/nsfs.h; all others are above
_FIRST_COOKIE = 1


class NetnsId(NamedTuple):
    """Which network namespace it is, in this boot. None: this kernel does not tell.

    The number of its inode is given to another one when it is gone; the cookie (Linux 5.14) never.
    """

    inode: int | None
    cookie: int | None = None

    def is_same(self, other: "NetnsId") -> bool:
        """Whether both are one namespace, as far as that can be told."""
        if self.cookie is not None and other.cookie is not None:
            return self.cookie == other.cookie
        return self.inode is not None and self.inode == other.inode

    @property
    def is_initial(self) -> bool | None:
        """Whether it is the kernel's own, init_net: it gets the first cookie (net_ns_init()), and
        from Linux 6.19 on has an inode of its own instead (NET_NS_INIT_INO)."""
        if self.inode == _INITIAL_INODE:
            return True
        return None if self.cookie is None else self.cookie == _FIRST_COOKIE


class ClaimSummary(NamedTuple):
    """One port of one journal, as `status` shows it."""

    port: PortId
    claim: ClaimInfo
    phase: Phase  # not CLOSED
    same_boot: bool
    path: "Path"
    next_step: Note | None = None  # what the operator should know or do, where it is not obvious
    netns: NetnsId | None = None  # where it was claimed; None: by a manactl that did not note it
    ifindex: int | None = None  # of the netdev when it was claimed
    upper: str | None = None  # the synthetic netdev of a pair when it was claimed
    vmbus: str | None = None  # and its VMBus UUID
    upper_altnames: tuple[str, ...] | None = None
    upper_ifindex: int | None = None
    upper_up: bool | None = None
    names: tuple[str, ...] = ()  # of its netdevs when it was claimed, altnames included
    waits: Note | None = None  # for a confirmation, or for ever: what comes of it
    forsaken: bool = False  # it is due to be released, or will be, and whoever does that is gone

    @property
    def to_recover(self) -> bool:
        """Whether `manactl recover` has anything to do with it."""
        return self.phase is Phase.INTERRUPTED or not self.same_boot or self.forsaken

    def is_of(self, netns: NetnsId) -> bool:
        """Whether its snapshot may be of that network namespace."""
        return self.netns is None or self.netns.is_same(netns)
