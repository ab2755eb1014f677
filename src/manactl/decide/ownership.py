"""From evidence to owner: two tables, read from top to bottom, the first row that fits decides.

A vport has one owner at a time (mana_cfg_vport() in the kernel): the Ethernet netdev while it is
up, or one protection domain with raw queue pairs. What can be seen without touching anything:

- IFF_UP of the netdev: set only while the netdev owns the vport (it is cleared after the close);
- debugfs `vportN/EQs` (7.x): there while the vport has an owner of either kind, and `vportN/RX-*`
  while that owner is Ethernet. Older kernels keep the EQs per function: that says nothing;
- the RDMA device that raw queue pairs are made on, as nldev shows it: whether one exists at all,
  but never on which port.

DEVICE_RULES settles the last question for a function, PORT_RULES then each port, and
`decide()` closes by elimination: a raw queue pair that only one port can have is that port's.
"""

import enum
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from manactl.model.port import Certainty, Owner


class DeviceFacts(NamedTuple):
    """What is known of a function's device for raw queue pairs. None: could not be read."""

    absent: bool = False  # no RDMA driver is bound: no raw queue pair is possible
    combined: bool = False  # the device serves RC and UD too (kernels with one RDMA device)
    raw_qp_tracked: bool | None = None  # the kernel's table has a queue pair 0
    contexts: int | None = None  # open user contexts
    pd_users: int | None = None  # objects in all user protection domains
    cq_users: int | None = None  # uses of all user completion queues
    user_qps: int | None = None  # tracked queue pairs of users, a tracked raw one included
    busy_pds: int | None = None  # user protection domains with users
    changing: bool = False  # somebody waits for a queue pair that is being created
    in_reset: bool = False  # the driver has taken down, or not made, what mana_ib binds to


class PortFacts(NamedTuple):
    """What is known of one port. None: could not be read, or is not told by this kernel."""

    port: int
    admin_up: bool | None = None  # None also when the netdev is not in this network namespace
    eqs: bool | None = None  # debugfs: the vport has event queues of its own
    rx: bool | None = None  # debugfs: the vport has the netdev's receive queues


class Raw(enum.Enum):
    """Is there a raw queue pair on the device?"""

    NONE = "none"
    NONE_INFERRED = "none, inferred"
    SOME = "some"
    SOME_INFERRED = "some, inferred"
    UNKNOWN = "unknown"

    @property
    def none(self) -> bool:
        return self in (Raw.NONE, Raw.NONE_INFERRED)

    @property
    def some(self) -> bool:
        return self in (Raw.SOME, Raw.SOME_INFERRED)

    @property
    def certainty(self) -> Certainty:
        if self is Raw.UNKNOWN:
            return Certainty.UNKNOWN
        return Certainty.PROVEN if self in (Raw.NONE, Raw.SOME) else Certainty.INFERRED


class Decision(NamedTuple):
    """The owner of one port and the row that said so; `candidates` are port numbers."""

    owner: Owner
    certainty: Certainty
    reason: str
    candidates: tuple[int, ...] = ()
    in_transition: bool = False  # flags and debugfs disagree: the driver is in the middle of it
    eqs_lost: bool = False  # a raw queue pair exists that no vport's event queues account for


def _untracked(device: DeviceFacts) -> int | None:
    """Uses of completion queues beyond two for each tracked queue pair.

    A raw queue pair uses two and escapes the table when another one is, or was, in it; a tracked
    RC queue pair accounts for its own two. A receive work queue of a raw user counts one.
    """
    if device.cq_users is None or device.user_qps is None:
        return None
    return device.cq_users - 2 * device.user_qps


# fmt: off
DEVICE_RULES: tuple[tuple[Callable[[DeviceFacts], bool], Raw, str], ...] = (
    (lambda d: d.absent,
     Raw.NONE, "no RDMA driver is bound to the function"),
    (lambda d: d.raw_qp_tracked is True,
     Raw.SOME, "a raw queue pair exists on the RDMA device"),
    (lambda d: d.contexts == 0,
     Raw.NONE, "nobody has the RDMA device open"),
    (lambda d: d.pd_users == 0,
     Raw.NONE, "all protection domains of the RDMA device are empty"),
    (lambda d: d.cq_users == 0,
     Raw.NONE, "no completion queue of the RDMA device is in use"),
    (lambda d: not d.combined and (d.cq_users or 0) > 0,
     Raw.SOME_INFERRED, "completion queues are in use on the device that only raw users have"),
    (lambda d: d.combined and (_untracked(d) or 0) > 0,
     Raw.SOME_INFERRED, "completion queues are used by a queue pair that the kernel does not list"),
    (lambda d: d.combined and d.raw_qp_tracked is False and _untracked(d) == 0,
     Raw.NONE_INFERRED, "all uses of completion queues are explained by other queue pairs"),
    (lambda d: True,
     Raw.UNKNOWN, "whether a raw queue pair exists could not be read"),
)

# admin_up, rx, eqs: "y" yes, "n" no, "-" not known, "." any; raw: the test on the device's answer.
# An owner of None leaves the port open: it may be the one that has the device's raw queue pair.
_UNDECIDED = "a raw queue pair may be on this port"
_OPENED = "the vport is in use and no raw queue pair exists: the netdev is being opened"
PORT_RULES: tuple[
    tuple[str, str, str, Callable[[Raw], bool], Owner | None, Certainty | None, str], ...
] = (
    # up  rx   eqs  raw on device           owner           certainty
    ("y", "n", "y", lambda raw: not raw.none, None, None,
     "the netdev is up without receive queues: the driver is in transition"),
    ("y", "n", "y", lambda raw: True, Owner.ETHERNET, Certainty.INFERRED,
     "the netdev is up, its receive queues are not: the driver is in transition"),
    ("y", "n", ".", lambda raw: True, Owner.UNKNOWN, Certainty.UNKNOWN,
     "the netdev is up, its queues are not: the driver is in transition, or the device in reset"),
    ("y", ".", ".", lambda raw: True, Owner.ETHERNET, Certainty.PROVEN,
     "the netdev is up"),
    (".", "y", ".", lambda raw: True, Owner.ETHERNET, Certainty.PROVEN,
     "the vport has the netdev's receive queues"),
    (".", "n", "y", lambda raw: raw.none, Owner.ETHERNET, Certainty.INFERRED,
     _OPENED),
    (".", "n", "y", lambda raw: raw is Raw.SOME, Owner.RAW_QP, Certainty.PROVEN,
     "the vport is in use, and not by the netdev"),
    (".", "n", "y", lambda raw: True, Owner.RAW_QP, Certainty.INFERRED,
     "the vport is in use, and not by the netdev"),
    (".", "n", "n", lambda raw: raw.none, Owner.FREE, Certainty.PROVEN,
     "the vport has no event queues, and no raw queue pair exists"),
    ("n", ".", ".", lambda raw: raw is Raw.NONE, Owner.FREE, Certainty.PROVEN,
     "the netdev is down, and no raw queue pair exists"),
    ("n", ".", ".", lambda raw: raw.none, Owner.FREE, Certainty.INFERRED,
     "the netdev is down, and no raw queue pair is left unexplained"),
    ("-", ".", ".", lambda raw: raw.none, Owner.UNKNOWN, Certainty.UNKNOWN,
     "the netdev is not visible from here and may be up elsewhere"),
    (".", ".", ".", lambda raw: True, None, None,
     _UNDECIDED),
)
# A reset closes the netdevs that are up and leaves their flags as they are.
_IN_RESET = (
    Owner.UNKNOWN,
    Certainty.UNKNOWN,
    "the driver is in transition: it resets the device, sets it up, or could not",
)
# A raw queue pair takes the vport first, and is counted and shown by the kernel last.
_TAKEN_NOW = (None, None, "the port is being taken, by the netdev or by a new queue pair")
_CHANGING = (None, None, "a queue pair is being created, and may have taken this port already")
# fmt: on


def raw_on_device(device: DeviceFacts) -> tuple[Raw, str]:
    """Whether a raw queue pair exists on the function's device, and the row that says so."""
    return next((raw, why) for fits, raw, why in DEVICE_RULES if fits(device))


def decide(device: DeviceFacts, ports: Iterable[PortFacts]) -> dict[int, Decision]:
    """The owner of every port of one function; all of its ports must be given."""
    raw, why = raw_on_device(device)
    every = tuple(ports)
    rows: dict[int, tuple[Owner | None, Certainty | None, str]] = {
        facts.port: _IN_RESET
        if device.in_reset and facts.admin_up is not False
        else _row(facts, raw)
        for facts in every
    }
    placed = sum(owner is Owner.RAW_QP for owner, _, _ in rows.values())
    if device.changing:
        rows |= {port: _CHANGING for port, row in rows.items() if row[0] is Owner.FREE}
    if device.changing or not (device.absent or device.contexts == 0):
        # Whoever has the device open may just be creating a raw queue pair.
        rows |= {port: _TAKEN_NOW for port, row in rows.items() if row[2] == _OPENED}
    decisions = {
        port: _decision(owner, certainty, reason)
        for port, (owner, certainty, reason) in rows.items()
        if owner is not None
    }
    still_open = [facts for facts in every if rows[facts.port][0] is None]
    if placed and raw.some and _room(device) <= placed and not device.changing:
        # debugfs shows where all of them are: a vport without event queues has none.
        for facts in [facts for facts in still_open if facts.eqs is False]:
            still_open.remove(facts)
            decisions[facts.port] = Decision(
                Owner.FREE,
                Certainty.PROVEN,
                "the vport has no event queues, and those of other ports explain every raw QP",
            )
    elif raw.some and not placed and len(still_open) == 1 and not device.changing:
        (last,) = still_open
        if not _transition(last):
            decisions[last.port] = _by_elimination(last, raw, why)
            return decisions
    numbers = tuple(facts.port for facts in still_open)
    for facts in still_open:
        reason = rows[facts.port][2]
        decisions[facts.port] = Decision(
            Owner.UNKNOWN,
            Certainty.UNKNOWN,
            f"{reason}: {why}" if reason == _UNDECIDED else reason,
            candidates=numbers,
            in_transition=_transition(facts),
            eqs_lost=raw.some and facts.eqs is False and not device.changing,
        )
    return decisions


def _room(device: DeviceFacts) -> float:
    """The number of ports that raw queue pairs can have at the most.

    Each port needs a protection domain of its own (mana_ib_cfg_vport() refuses a second port) and
    two uses of completion queues.
    """
    room = [] if device.busy_pds is None else [device.busy_pds]
    room += [] if device.cq_users is None else [device.cq_users // 2]
    return min(room, default=math.inf)


def _row(facts: PortFacts, raw: Raw) -> tuple[Owner | None, Certainty | None, str]:
    seen = (facts.admin_up, facts.rx, facts.eqs)
    for up, rx, eqs, fits, owner, certainty, reason in PORT_RULES:
        if all(map(_matches, (up, rx, eqs), seen)) and fits(raw):
            return owner, certainty, reason
    raise AssertionError("the last row fits everything")


def _matches(pattern: str, value: bool | None) -> bool:
    return pattern == "." or pattern == {True: "y", False: "n", None: "-"}[value]


def _transition(facts: PortFacts) -> bool:
    return facts.admin_up is True and facts.rx is False


def _decision(owner: Owner, certainty: Certainty | None, reason: str) -> Decision:
    assert certainty is not None, "a row with an owner has a certainty"
    return Decision(owner, certainty, reason, in_transition="in transition" in reason)


def _by_elimination(facts: PortFacts, raw: Raw, why: str) -> Decision:
    """The last open port has the raw queue pair that exists.

    A vport without event queues that has one all the same is known: a change of MTU or rings on
    the down netdev loses the directory in debugfs.
    """
    certainty = Certainty.INFERRED if facts.eqs is False else raw.certainty
    return Decision(
        Owner.RAW_QP,
        certainty,
        f"{why}, and no other port can have it",
        eqs_lost=facts.eqs is False,
    )
