"""What `manactl hold` keeps down, and what it tells of each attempt against that."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from manactl.model.named_tuple import NamedTuple
from manactl.model.port import Holder, PortId


class Target(NamedTuple):
    """A netdev to be kept down: of a claimed port, or with `vmbus` the synthetic one above it.

    `name` is what it was called when it was claimed. `above`: of a VF, the VMBus UUID of its
    synthetic netdev.
    """

    port: PortId
    name: str
    vmbus: str | None = None
    above: str | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why something cannot be read, or its lock not be had: `of` is a path or a function, `code` that
    of our error, `errno` the kernel's. One is the same as before whatever its `text` is now."""

    of: str
    code: str | None
    errno: int | None
    text: str = field(compare=False)


class Apart(NamedTuple):
    """Claims that are there and not kept down, or of which that is not known.

    `unread`: journals that cannot be read as they are now; `doubtful`: what they wanted to be down
    when they could be, which is left alone meanwhile. `unlisted`: why claims that are new
    cannot be seen. `elsewhere`: ports claimed in other network namespaces. `not_given`: claimed
    ports that are not among those that were given.
    """

    unread: tuple[Trouble, ...] = ()
    unlisted: Trouble | None = None
    elsewhere: tuple[PortId, ...] = ()
    not_given: tuple[PortId, ...] = ()
    doubtful: tuple[Target, ...] = ()


class Opener(NamedTuple):
    """Who was seen to begin to open a netdev. `kernel`: a thread of the kernel. `at`: s,
    CLOCK_MONOTONIC. `thread`: the one of the process that does it."""

    process: Holder
    kernel: bool
    at: float
    thread: int = 0


class Unasked(NamedTuple):
    """Somebody has begun to open a netdev, one of so many that nobody asked who."""

    thread: int
    at: float


class Opened(NamedTuple):
    """An open of that thread is over. `failed`: then the kernel announces nothing."""

    thread: int
    at: float
    failed: bool = False


OpenEvent = Opener | Unasked | Opened


class Cause(StrEnum):
    """Why a netdev was up."""

    PROCESS = "process"  # the openers say which
    NETVSC = "hv_netvsc"  # opened the VF that the host has given back, its synthetic netdev is up
    UNKNOWN = "unknown"  # the kernel does not tell
    FOUND = "found"  # it was up when it was looked at: nothing was announced, or that was lost


class Outcome(StrEnum):
    """What came of an attempt."""

    SET_DOWN = "set-down"
    ALREADY = "down-already"  # somebody else was faster
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A netdev that should be down was up.

    `ms`: from when we began to read the kernel's announcement (where there was none, from when we
    looked at the netdev) until it was down again, with all waiting for another manactl and every
    request that failed; `asked_ms`: until the kernel was asked for the one that did it. The rest is
    the driver's. `still`: it could not be set down before, and nobody has set it up since then.
    """

    time: datetime
    target: Target
    netdev: str
    outcome: Outcome
    cause: Cause
    openers: tuple[Opener, ...] = ()
    ms: float | None = None
    asked_ms: float | None = None
    error: str | None = None
    still: bool = False


@dataclass(frozen=True, slots=True)
class Storm:
    """Attempts with the same outcome that were not told one by one: how many since `since`, with the
    last of them."""

    time: datetime
    since: datetime
    count: int
    last: Attempt
