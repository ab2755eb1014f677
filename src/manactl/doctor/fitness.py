"""Is this machine fit to hand a port to RDMA? Facts in, findings out. Pure.

Each check looks at one thing and reports one of four levels: fine, worth knowing, to be fixed, or
not visible from here. What is to be fixed keeps a claim from working.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from manactl.doctor import drivers, others, programs
from manactl.doctor.finding import Finding, Level
from manactl.doctor.machine import Machine

Check = Callable[[Machine], Iterable[Finding]]
CHECKS: tuple[Check, ...] = (
    drivers.driver,
    drivers.mana_ib,
    drivers.ib_uverbs,
    drivers.rdma_netns,
    drivers.waiting,
    others.leftovers,
    others.managers,
    programs.rdma_core,
    programs.pyverbs,
    programs.privilege,
    programs.memlock,
    programs.hugepages,
    programs.iommu,
    drivers.debugfs,
    drivers.kernel_bugs,
    others.in_other_netns,
)
_ORDER = (Level.FIX, Level.ADVICE, Level.UNSEEN, Level.FINE)


def findings(machine: Machine) -> list[Finding]:
    """Every finding, the worst first, otherwise in the order of the checks."""
    found = [finding for check in CHECKS for finding in check(machine)]
    return sorted(found, key=lambda finding: _ORDER.index(finding.level))


def fit(found: Iterable[Finding]) -> bool:
    """Whether nothing has to be fixed before a port can be handed over."""
    return all(finding.level is not Level.FIX for finding in found)
