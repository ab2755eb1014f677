"""What a release is asked for, and what it comes to. Plain values."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY
from pathlib import Path

from manactl.act.host import Host
from manactl.act.plan import Plan
from manactl.act.progress import Progress
from manactl.act.restore import Lost
from manactl.act.signals import SignalGate
from manactl.model.port import Holder, PortId
from manactl.model.record import Reason
from manactl.model.value import NONE, Value
from manactl.netstate.members import Member
from manactl.netstate.snapshot import Kind


class ReleaseRequest(Value):
    """`wait`: how long a holder is waited for, in seconds; only when given, a lock too.

    `recover`: everything that was interrupted, whatever `words` and `everything` are.
    `accept`: with `recover`, leave the ports in `words` as they are, and close their journals.
    `terminate`: end holders.
    `only`: the claim of this journal, whatever `words` are, and with `unconfirmed` not once it is
    confirmed; `why`: the reason where nobody asked for its end; `quiet`: the system log gets no
    entry while it is busy.
    """

    state_dir: Path
    words: Sequence[str] = ()
    _: KW_ONLY
    everything: bool = False
    dry_run: bool = False
    wait: float | None = None
    recover: bool = False
    terminate: bool = False
    accept: bool = False
    only: Path | None = None
    unconfirmed: bool = False
    why: Reason | None = None
    quiet: bool = False

    @property
    def verb(self) -> str:
        return "recover" if self.recover else "release"


class Outcome(enum.StrEnum):
    """What came of one port."""

    RESTORED = "restored"
    LEFT_DOWN = "left-down"  # as it was before the claim
    UNTOUCHED = "untouched"  # the claim ended before the port was set down
    HISTORY = "history"  # claimed before the last boot: only the journal was closed
    NOT_CLAIMED = "not-claimed"
    ACCEPTED = "accepted"  # left as it is: only the journal was closed
    RESIDUE = "residue"  # the same with a dry run: nothing was closed
    GIVEN_BACK = "given-back"  # not claimed, but left down at boot: its manager has it again


class ReleasedPort(Value):
    """One port that is back, or needed nothing, or whose `residue` was accepted."""

    port: PortId
    netdev: str
    outcome: Outcome
    recovered: bool = False
    counts: Mapping[Kind, int] = NONE
    expired: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    advertised: tuple[str, ...] = ()
    lost: tuple[Lost, ...] = ()
    settling: Member | None = None
    up_ms: float | None = None
    carrier: bool | None = None
    down_for_s: float | None = None
    residue: tuple[str, ...] = ()
    given_back: str | None = None  # the manager that left it alone since the boot
    data_path: str | None = None  # "vf" when frames of a pair were seen there
    lowered: str | None = None  # the synthetic netdev that was to stay up, and is down
    up: bool = True  # a netdev that was destroyed is made again, and stays down if it was


class ReleaseResult:
    """What a release has come to. With a dry run, the plans instead."""

    def __init__(
        self,
        ports: Iterable[ReleasedPort] = (),
        plans: Iterable[Plan] = (),
        terminated: Iterable[Holder] = (),
    ) -> None:
        self.ports = [*ports]
        self.plans = [*plans]
        self.terminated = [*terminated]


class Run(Value):
    """One release under way."""

    request: ReleaseRequest
    host: Host
    signals: SignalGate
    progress: Progress
    result: ReleaseResult
