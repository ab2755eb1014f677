"""From what was seen to a plan: which steps, and in words what they mean. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from manactl import snapshot
from manactl.model import PortStatus
from manactl.plan import KeepState, Plan, ProveFree, SetAdmin, Step, tally
from manactl.policy import Refusal
from manactl.snapshot import Fact, Kind, PortState

_LOST = "connections that are masqueraded through it (the kernel forgets them with the link)"


def claim(ports: Sequence[tuple[PortStatus, PortState]], waived: Iterable[Refusal] = ()) -> Plan:
    """Take each port's netdev down and prove that its vport is free, port after port.

    A port that is down already stays as it is, and stays down at release.
    """
    steps: list[Step] = []
    stops, drops, restores, lost, notes = [], [], [], [], []
    for status, state in ports:
        name = state.ifname
        if state.up:
            steps.append(KeepState(state))
            steps.append(SetAdmin(status.id, name, False, True, state.carrier))
            stops.append(f"all traffic of the kernel over {name} ({_carries(state)})")
            gone = [f for f in state.facts if _told(f)]
            drops += [snapshot.describe(f, {state.ifindex: name}) for f in gone]
            restores.append(f"{name} set up, its carrier awaited")
            restores += _restored(state)
            lost += [f"{_LOST.replace('it', name, 1)}"]
            lost += _temporary(state)
        else:
            notes.append(f"{name} is down already: nothing to put back, it stays down at release")
        if status.rdma is not None:
            steps.append(ProveFree(status.id, status.rdma.device, status.rdma.port))
    stops += [f"{r.port}: {r.message} (allowed: {r.code})" for r in waived]
    ids = tuple(status.id for status, _ in ports)
    return Plan(
        "claim", ids, tuple(steps), tuple(stops), tuple(drops), tuple(restores), tuple(lost),
        tuple(notes),
    )  # fmt: skip


def dropped_on_down(fact: Fact) -> bool:
    """Whether the kernel forgets this when the interface goes down.

    IPv4 addresses stay (fib_netdev_event() takes only their routes); everything else goes.
    """
    return fact.kind is not Kind.ADDRESS or snapshot.is_ipv6(fact)


def _told(fact: Fact) -> bool:
    """Whether people need to hear of it: not of the routes that are part of an address."""
    return dropped_on_down(fact) and not snapshot.derived(fact)


def _carries(state: PortState) -> str:
    found = snapshot.global_addresses(state.facts)
    return ", ".join(found) if found else "it has no global address"


def _restored(state: PortState) -> list[str]:
    ways = {
        Kind.ADDRESS: "with flags, labels and what remains of their lifetimes, IPv6 without "
        "another duplicate address detection",
        Kind.NEXTHOP: "with their groups, on other ports too",
        Kind.ROUTE: "of all tables and protocols, from the kernel's own bytes",
        Kind.NEIGHBOUR: "permanent and proxy entries",
    }
    found = []
    for kind, how in ways.items():
        facts = [f for f in state.of(kind) if not (snapshot.is_temporary(f) or snapshot.derived(f))]
        if facts:
            found.append(f"{snapshot.counted(len(facts), kind)} ({how})")
    return found


def _temporary(state: PortState) -> list[str]:
    names = {state.ifindex: state.ifname}
    return [
        f"{snapshot.describe(fact, names)} (temporary: the kernel makes new ones)"
        for fact in state.facts
        if snapshot.is_temporary(fact)
    ]


def short(plan: Plan) -> list[str]:
    """What a real run shows before it acts: one line per port and one for what is kept."""
    lines = []
    for step in plan.steps:
        if isinstance(step, SetAdmin):
            lines.append(f"plan: set {step.name} down")
        elif isinstance(step, KeepState):
            lines.append(f"kept of {step.state.ifname} for the way back: {tally(step.state)}")
    return [*lines, *plan.notes]


def text(plan: Plan, *, undone: bool = False) -> list[str]:
    """The whole plan for people; `undone`: its steps are to be undone, in the given order."""
    before = "undo: " if undone else ""
    lines = ["Steps:"] if plan.steps else []
    lines += [f"  {n}. {before}{step.describe()}" for n, step in enumerate(plan.steps, 1)]
    for title, items in (
        ("Stops:", plan.stops),
        ("The kernel drops:", plan.drops),
        ("Release puts back:", plan.restores),
        ("Cannot be put back:", plan.lost),
        ("Notes:", plan.notes),
    ):
        if items:
            lines += [title, *(f"  {item}" for item in items)]
    return lines
