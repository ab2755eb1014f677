"""What manactl knows about ports at one instant. Plain frozen values: no I/O, no decisions.

Names are the kernel's and iproute2's. A value that could not be read is None, which is never
the same as empty, zero or false.

Every `status` pays for what is defined here, so these are tuples with names, several times cheaper
to define than dataclasses, and annotations are types, not strings that typing would compile.
Reasons and notes are code words for the same reason: an enum of as many costs as much as a look
at /proc. What they read as stands in decide/port_words.py.
"""

import enum
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from manactl.model.named_tuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

IFF_UP = 0x1  # include/uapi/linux/if.h
DOWN, KEEP, UIO = "down", "keep", "uio"  # --synthetic: what a claim does to the netdev of hv_netvsc


class Owner(enum.StrEnum):
    """Who has the vport (mana_cfg_vport() in the kernel lets in one at a time)."""

    ETHERNET = "ethernet"
    RAW_QP = "raw-qp"
    FREE = "free"
    UNKNOWN = "unknown"  # evidence missing: guards treat it as taken, never as free


class Certainty(enum.StrEnum):
    """How sure the owner is: proven by the kernel's own rules, inferred, or not known."""

    PROVEN = "proven"
    INFERRED = "inferred"
    UNKNOWN = "unknown"


# Why a port has its owner: the rows of the tables in decide/ownership.py.
Reason = Literal[
    "no-rdma-driver", "raw-qp-exists", "no-context", "pds-empty", "cqs-unused", "cqs-of-raw-users",
    "cqs-unlisted-qp", "cqs-explained", "raw-qp-unread", "raw-device-elsewhere",
    "up-without-rx", "up-without-rx-no-raw-qp", "up-without-queues", "netdev-up", "netdev-rx",
    "netdev-opening", "eqs-not-netdev", "no-eqs", "netdev-down", "netdev-down-inferred",
    "netdev-unseen", "may-have-raw-qp", "in-reset", "being-taken", "qp-being-created",
    "eqs-of-others", "only-port-left",
]  # fmt: skip

# What is worth explaining about a port; drift is where it is not as its claim left it.
NoteCode = Literal[
    "kept-changing", "in-transition", "eqs-lost", "netdev-in-netns", "netdev-not-here",
    "netdev-not-here-maybe-up", "candidates", "owner-unknown", "upper", "upper-of-kind", "slow-path",
    "unjoined",
    "bond-danger", "rdma-elsewhere", "rdma-link-down", "holder-unseen", "holder-hidden", "holders-of-port",
    "holders-of-ports", "other-qps", "contexts-unseen", "contexts-hidden", "unclaimed",
    "drift-another-nic", "drift-no-netdev", "drift-moved", "drift-recreated", "drift-up",
    "drift-synthetic-up", "drift-vf-up", "drift-unpaired", "drift-not-uio",
    "drift-synthetic-recreated", "drift-synthetic-down",
    "claimed-elsewhere",
    "before-boot", "at-work", "claim-interrupted", "release-interrupted", "not-restored",
    "recover-closes", "recover-sets-up", "recover-gives-back", "unmanaged",
    "unconfirmed", "overdue", "unguarded", "orphaned", "left-down", "hold-keeps-down",
]  # fmt: skip


class Note(NamedTuple):
    """Something worth explaining: what, and whatever its sentence names (a part may be a Note)."""

    code: NoteCode
    names: tuple[object, ...] = ()


class Evidence(NamedTuple):
    """One fact and the kernel interface it came from. For people: nothing is decided on it."""

    source: str  # sysfs, debugfs, nldev, proc, journal, rtnetlink, sock_diag, verbs, env
    fact: str
    value: object  # JSON scalars, lists or dicts only


class Source(enum.StrEnum):
    """What was to be read and could not be, as `missing` names it."""

    SYSFS = "sysfs"
    DEBUGFS = "debugfs"
    NLDEV = "nldev"
    RTNETLINK = "rtnetlink"
    PROC = "proc"
    NETNS = "netns"  # other network namespaces
    MANA = "mana"  # a task waits in the driver, and what it is about to change is not known
    JOURNAL = "journal"
    BOOT_FILES = "boot-files"  # of `claim --persist`


class Missing(NamedTuple):
    """A source that could not be read, and why."""

    source: Source
    why: str  # for people: nothing is decided on it


class PortId(NamedTuple):
    """Identity of a port across renames, re-probes and reboots; never ifname or ifindex."""

    pci: str  # "7870:00:00.0"
    port: int  # 1-based, as RDMA counts; the netdev's dev_port is one less
    permanent_mac: str | None  # None when the netdev could not be seen

    @property
    def key(self) -> tuple[str, int]:
        """What identifies a port even where a netdev, and so its MAC, could not be seen."""
        return self.pci, self.port

    @staticmethod
    def key_of(data: "Mapping[str, Any]") -> tuple[str, int]:
        """The same of a port as journals and documents have it. KeyError when it is none."""
        return data["pci"], data["port"]

    def __str__(self) -> str:
        return f"{self.pci}:{self.port}"

    def is_another(self, other: "PortId") -> bool:
        """Whether another NIC is, or was, in this place. Not while a MAC address is unknown."""
        known = self.permanent_mac is not None and other.permanent_mac is not None
        return known and self.permanent_mac != other.permanent_mac


class Oddity(enum.Enum):
    """What is odd about a file of `claim --persist` that can be read."""

    ABSENT = enum.auto()  # its port is not here
    NO_PORT = enum.auto()  # it does not say for which port it is
    NOT_UNDERSTOOD = enum.auto()  # a later version has written it, or somebody else


class OddFile(NamedTuple):
    """A file of `claim --persist` by its name, that cannot be used: nothing ends it but its removal.
    `manager` reads it. `why`: or the kernel's reason why it could not be read. `port`: what it is
    for is not here; None: it does not say."""

    path: str
    manager: str
    why: Oddity | str
    port: str | None = None


class Netdev(NamedTuple):
    """The Ethernet netdev of a port as sysfs and rtnetlink show it."""

    name: str
    ifindex: int
    flags: int | None
    operstate: str | None
    carrier: bool | None  # None while down (the kernel answers EINVAL) or while it would block
    mac: str | None
    permanent_mac: str | None
    altnames: tuple[str, ...] | None = None  # rtnetlink alone knows them, and may be busy
    master: str | None = None

    @property
    def admin_up(self) -> bool | None:
        """IFF_UP, or None when the flags could not be read."""
        return None if self.flags is None else bool(self.flags & IFF_UP)


class Upper(NamedTuple):
    """The master of a port's netdev (IFLA_MASTER)."""

    netdev: str
    kind: str | None  # netvsc, bond, bridge, team, vrf, ...
    vmbus: str | None = None
    data_path: str | None = None  # of a netvsc master: "vf" or "synthetic"
    up: bool | None = None  # IFF_UP of a netvsc master
    altnames: tuple[str, ...] | None = None  # as of a Netdev
    on_uio: bool = False  # it was one, and uio_hv_generic has its device: the journal's words


class RdmaPort(NamedTuple):
    """Where raw QPs for this port are created (a port number from 1), and its other RDMA devices."""

    device: str
    port: int
    others: tuple[str, ...] = ()  # "mana_0/1"


class RdmaUse(NamedTuple):
    """What is on the device that a port's raw QPs are made on. None: could not be read."""

    contexts: int | None = None  # open contexts of users
    creators: tuple[int, ...] | None = None  # the pids that opened them; None: not of all known
    other_qps: int | None = None  # RC, UC and UD queue pairs of users on the very same device


class Holder(NamedTuple):
    """A process that has the uverbs character device open."""

    pid: int
    comm: str | None
    exe: str | None
    uid: int | None
    unit: str | None
    container: str | None
    since: datetime | None
    manager: int | None = None  # the user whose systemd has the unit; None: the system's


class ClaimInfo(NamedTuple):
    """What the journal says about a claimed port."""

    since: datetime
    by: dict[str, object]  # uid, sudo_user, loginuid
    mode: str  # "claim" | "exec"
    confirm_by: datetime | None
    proven: bool
    synthetic: str | None


class PortStatus(NamedTuple):
    """One port: what it is, who owns its vport, and how we know."""

    id: PortId
    netdev: Netdev | None
    netns: str | None  # the other network namespace that `netdev` is in; None: this one
    upper: Upper | None
    rdma: RdmaPort | None
    owner: Owner
    certainty: Certainty
    candidates: tuple[str, ...] = ()  # PCI:port of ports that share an undecided raw QP
    holders: tuple[Holder, ...] = ()  # only where a raw QP has, or may have, the port
    evidence: tuple[Evidence, ...] = ()
    drift: tuple[Note, ...] = ()
    notes: tuple[Note, ...] = ()
    claim: ClaimInfo | None = None
    reasons: tuple[Reason, ...] = ()  # the row that decided, and the device's where it counts
    rdma_use: RdmaUse = RdmaUse()
    vport_eqs: bool | None = None  # whether the vport has event queues; None: not shown here
    in_reset: bool = False  # no auxiliary devices: a reset, or the driver could not set it up
    eqs_lost: bool = False  # a raw QP lives whose event queues debugfs no longer has: a kernel bug
    rdma_elsewhere: tuple[str, ...] = ()  # RDMA devices of its function in other namespaces
    raw_elsewhere: bool = False  # the device for raw QPs is, or may be, among them
    unjoined: str | None = None  # the VMBus device that it is to be the VF of, and is not yet
    called: str | None = None  # the name of its synthetic netdev, where that was asked for
    claimed_names: tuple[str, ...] = ()  # of its netdevs when it was claimed, in this boot

    @property
    def pair(self) -> Upper | None:
        """The synthetic netdev of hv_netvsc above it."""
        upper = self.upper
        return upper if upper is not None and upper.kind == "netvsc" and upper.vmbus else None

    @property
    def label(self) -> str:
        """The name to print: the netdev's, or PCI:port where there is none here.

        In another network namespace a name may be that of a different netdev here.
        """
        if self.called is not None:
            return self.called
        return self.netdev.name if self.netdev and self.netns is None else str(self.id)


class Report(NamedTuple):
    """Everything `status` shows, read once."""

    time: datetime  # UTC
    kernel: str
    privileged: bool  # could read what only root can
    missing: tuple[Missing, ...] = ()
    ports: tuple[PortStatus, ...] = ()
