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

What each row's reason reads as stands in decide/port_words.py.
"""

import enum
import math
from collections.abc import Callable, Iterable

from manactl.decide import kernel_bugs
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import Certainty, Owner, Reason


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
    changing: bool = False  # a task is in the driver, creating a queue pair
    in_reset: bool = False  # the driver has taken down, or not made, what mana_ib binds to
    elsewhere: bool = False  # it is not in this network namespace: nothing of it is known


class PortFacts(NamedTuple):
    """What is known of one port. None: could not be read, or this kernel does not report it."""

    port: int
    admin_up: bool | None = None  # None also when the netdev is not in this network namespace
    eqs: bool | None = None  # debugfs: the vport has event queues of its own
    rx: bool | None = None  # debugfs: the vport has the netdev's receive queues


class Raw(enum.Enum):
    """Is there a raw queue pair on the device?"""

    NONE = enum.auto()
    NONE_INFERRED = enum.auto()
    SOME = enum.auto()
    SOME_INFERRED = enum.auto()
    UNKNOWN = enum.auto()

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
    """The owner of one port and the row that decided it; `candidates` are port numbers.

    A second reason is the row of the device, where the port's own leaves it at that.
    """

    owner: Owner
    certainty: Certainty
    reasons: tuple[Reason, ...]
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
DEVICE_RULES: tuple[tuple[Callable[[DeviceFacts], bool], Raw, Reason], ...] = (
    (lambda d: d.absent,
     Raw.NONE, "no-rdma-driver"),
    (lambda d: d.elsewhere,
     Raw.UNKNOWN, "raw-device-elsewhere"),
    (lambda d: d.raw_qp_tracked is True,
     Raw.SOME, "raw-qp-exists"),
    (lambda d: d.contexts == 0,
     Raw.NONE, "no-context"),
    (lambda d: d.pd_users == 0,
     Raw.NONE, "pds-empty"),
    (lambda d: d.cq_users == 0,
     Raw.NONE, "cqs-unused"),
    (lambda d: not d.combined and (d.cq_users or 0) > 0,
     Raw.SOME_INFERRED, "cqs-of-raw-users"),
    (lambda d: d.combined and (_untracked(d) or 0) > 0,
     Raw.SOME_INFERRED, "cqs-unlisted-qp"),
    (lambda d: d.combined and d.raw_qp_tracked is False and _untracked(d) == 0,
     Raw.NONE_INFERRED, "cqs-explained"),
    (lambda d: True,
     Raw.UNKNOWN, "raw-qp-unread"),
)


class Row(NamedTuple):
    """What a row decides. No owner leaves the port open: it may be the one that has the device's
    raw queue pair. `in_transition`: flags and queues disagree, the driver is in the middle of it.
    """

    owner: Owner | None
    certainty: Certainty | None
    reason: Reason
    in_transition: bool = False


# admin_up, rx, eqs: "y" yes, "n" no, "-" not known, "." any; raw: the test on the device's answer.
PORT_RULES: tuple[tuple[str, str, str, Callable[[Raw], bool], Row], ...] = (
    # up  rx   eqs  raw on device               owner           certainty  reason  in transition
    ("y", "n", "y", lambda raw: not raw.none,
     Row(None, None, "up-without-rx", True)),
    ("y", "n", "y", lambda raw: True,
     Row(Owner.ETHERNET, Certainty.INFERRED, "up-without-rx-no-raw-qp", True)),
    ("y", "n", ".", lambda raw: True,
     Row(Owner.UNKNOWN, Certainty.UNKNOWN, "up-without-queues", True)),
    ("y", ".", ".", lambda raw: True,
     Row(Owner.ETHERNET, Certainty.PROVEN, "netdev-up")),
    (".", "y", ".", lambda raw: True,
     Row(Owner.ETHERNET, Certainty.PROVEN, "netdev-rx")),
    (".", "n", "y", lambda raw: raw.none,
     Row(Owner.ETHERNET, Certainty.INFERRED, "netdev-opening")),
    (".", "n", "y", lambda raw: raw is Raw.SOME,
     Row(Owner.RAW_QP, Certainty.PROVEN, "eqs-not-netdev")),
    (".", "n", "y", lambda raw: True,
     Row(Owner.RAW_QP, Certainty.INFERRED, "eqs-not-netdev")),
    (".", "n", "n", lambda raw: raw.none,
     Row(Owner.FREE, Certainty.PROVEN, "no-eqs")),
    ("n", ".", ".", lambda raw: raw is Raw.NONE,
     Row(Owner.FREE, Certainty.PROVEN, "netdev-down")),
    ("n", ".", ".", lambda raw: raw.none,
     Row(Owner.FREE, Certainty.INFERRED, "netdev-down-inferred")),
    ("-", ".", ".", lambda raw: raw.none,
     Row(Owner.UNKNOWN, Certainty.UNKNOWN, "netdev-unseen")),
    (".", ".", ".", lambda raw: True,
     Row(None, None, "may-have-raw-qp")),
)
# fmt: on
# A reset closes the netdevs that are up and leaves their flags as they are.
_IN_RESET = Row(Owner.UNKNOWN, Certainty.UNKNOWN, "in-reset", True)
# A raw queue pair takes the vport first, and is counted and shown by the kernel last.
_BEING_TAKEN = Row(None, None, "being-taken")
_QP_BEING_CREATED = Row(None, None, "qp-being-created")


def raw_on_device(device: DeviceFacts) -> tuple[Raw, Reason]:
    """Whether a raw queue pair exists on the function's device, and the row that decided it."""
    return next((raw, why) for fits, raw, why in DEVICE_RULES if fits(device))


def decide(device: DeviceFacts, ports: Iterable[PortFacts]) -> dict[int, Decision]:
    """The owner of every port of one function; all of its ports must be given."""
    raw, why = raw_on_device(device)
    every = tuple(ports)
    rows = {
        facts.port: _IN_RESET
        if device.in_reset and facts.admin_up is not False
        else _row(facts, raw)
        for facts in every
    }
    placed = sum(row.owner is Owner.RAW_QP for row in rows.values())
    if device.changing:
        rows |= {port: _QP_BEING_CREATED for port, row in rows.items() if row.owner is Owner.FREE}
    if device.changing or not (device.absent or device.contexts == 0):
        # Whoever has the device open may just be creating a raw queue pair.
        rows |= {port: _BEING_TAKEN for port, row in rows.items() if row.reason == "netdev-opening"}
    decisions = {
        port: _decision(row.owner, row) for port, row in rows.items() if row.owner is not None
    }
    still_open = [facts for facts in every if rows[facts.port].owner is None]
    if placed and raw.some and _room(device) <= placed and not device.changing:
        # debugfs shows where all of them are: a vport without event queues has none.
        for facts in [facts for facts in still_open if facts.eqs is False]:
            still_open.remove(facts)
            decisions[facts.port] = Decision(Owner.FREE, Certainty.PROVEN, ("eqs-of-others",))
    elif raw.some and not placed and len(still_open) == 1 and not device.changing:
        (last,) = still_open
        if not rows[last.port].in_transition:
            decisions[last.port] = _by_elimination(last, raw, why)
            return decisions
    numbers = tuple(facts.port for facts in still_open)
    for facts in still_open:
        row = rows[facts.port]
        decisions[facts.port] = Decision(
            Owner.UNKNOWN,
            Certainty.UNKNOWN,
            (row.reason, why) if row.reason == "may-have-raw-qp" else (row.reason,),
            candidates=numbers,
            in_transition=row.in_transition,
            eqs_lost=kernel_bugs.eqs_lost(raw_qp=raw.some and not device.changing, eqs=facts.eqs),
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


def _row(facts: PortFacts, raw: Raw) -> Row:
    seen = (facts.admin_up, facts.rx, facts.eqs)
    return next(
        row
        for up, rx, eqs, fits, row in PORT_RULES
        if all(map(_matches, (up, rx, eqs), seen)) and fits(raw)
    )


def _matches(pattern: str, value: bool | None) -> bool:
    return pattern == "." or pattern == {True: "y", False: "n", None: "-"}[value]


def _decision(owner: Owner, row: Row) -> Decision:
    assert row.certainty is not None, "a row with an owner has a certainty"
    return Decision(owner, row.certainty, (row.reason,), in_transition=row.in_transition)


def _by_elimination(facts: PortFacts, raw: Raw, why: Reason) -> Decision:
    """The last open port has the raw queue pair that exists.

    That its vport has no event queues does not disprove it: a change of MTU or rings on the down
    netdev loses their directory in debugfs (decide/kernel_bugs.py).
    """
    lost = kernel_bugs.eqs_lost(raw_qp=raw.some, eqs=facts.eqs)
    certainty = Certainty.INFERRED if lost else raw.certainty
    return Decision(Owner.RAW_QP, certainty, ("only-port-left", why), eqs_lost=lost)
