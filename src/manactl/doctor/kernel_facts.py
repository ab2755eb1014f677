"""The facts about the kernel that manactl's decisions rest on, as found here and as in the lab.

The lab's are those of Debian's cloud kernels on an emulated NIC. They have not been compared with a
real NIC yet; `manactl doctor --facts` does that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KERNELS = ("6.12", "6.18", "7.x")


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing a kernel does. `lab` is what each of KERNELS does there; None: depends."""

    code: str
    what: str
    lab: tuple[str, str, str] | None


FACTS: tuple[Fact, ...] = (
    Fact("rdma-devices", "RDMA devices of a function", ("1", "2", "2")),
    Fact(
        "raw-device",
        "the device for raw QPs: node GUID, protocol that nldev names",
        ("nonzero, roce", "zero, none", "zero, none"),
    ),
    Fact("debugfs", "what mana shows in debugfs", ("nothing", "shared-eqs", "vport-eqs")),
    Fact("debugfs-name", "how debugfs names a function", ("-", "slot", "pci")),
    Fact(
        "qp-dump",
        "nldev RES_QP_GET, dump of a device that has a QP (rdma res show qp)",
        ("EOPNOTSUPP",) * 3,
    ),
    Fact("qp-zero", "nldev RES_QP_GET of queue pair 0, no raw QP", ("ENOENT",) * 3),
    Fact("pd-users", "nldev reports the users of a protection domain", ("yes",) * 3),
    Fact("cq-users", "nldev reports the users of a completion queue", ("yes",) * 3),
    Fact("summary", "nldev RES_GET lists tracked objects by kind", ("yes",) * 3),
    Fact("netns", "RDMA network namespaces", ("shared",) * 3),
    Fact("auxiliary", "auxiliary devices of a function", None),
    Fact("dev-port", "dev_port of the netdevs, in order of the RDMA ports", None),
    Fact("raw-qp-up", "raw QP on a port whose netdev is up", ("ENODEV", "ENODEV", "EBUSY")),
    Fact("raw-qp-down", "raw QP on a port that is down and free", ("made",) * 3),
)


@dataclass(frozen=True, slots=True)
class Row:
    """A fact as found on this machine; `here` is None where it could not be seen."""

    fact: Fact
    here: str | None

    @property
    def like(self) -> tuple[str, ...]:
        """The kernels of the lab that do the same."""
        if self.here is None or self.fact.lab is None:
            return ()
        return tuple(k for k, lab in zip(KERNELS, self.fact.lab, strict=True) if lab == self.here)

    def to_json(self) -> dict[str, Any]:
        lab = None if self.fact.lab is None else dict(zip(KERNELS, self.fact.lab, strict=True))
        return {
            "code": self.fact.code,
            "what": self.fact.what,
            "here": self.here,
            "lab": lab,
            "like": list(self.like),
        }


def rows(found: Mapping[str, str | None]) -> list[Row]:
    """The table, in its order. What was not asked for is left out; usually that is the probe."""
    return [Row(fact, found[fact.code]) for fact in FACTS if fact.code in found]


def verdict(table: Sequence[Row]) -> str:
    """Which kernel of the lab this one is like, or how it is like none of them."""
    compared = [row for row in table if row.fact.lab is not None and row.here is not None]
    if not compared:
        return "nothing could be compared with the lab"
    for kernel in KERNELS:
        if all(kernel in row.like for row in compared):
            return f"like {kernel} in the lab, in all of {len(compared)} facts that could be seen"
    odd = [row.fact.code for row in compared if not row.like]
    if odd:
        return f"like no kernel of the lab: {', '.join(odd)}"
    return "a mixture of the lab's kernels"
