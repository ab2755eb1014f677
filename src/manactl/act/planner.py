"""From what was seen to a plan: which steps, and in words what they mean. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from manactl.act.plan import KeepState, Plan, ProveFree, SetAdmin, Step, tally
from manactl.decide import port_notes, port_words, refusal_words
from manactl.decide.refusal import Refusal
from manactl.model.port import PortStatus
from manactl.netstate import snapshot, uppers
from manactl.netstate.snapshot import Fact, Kind, PortState, devices_of
from manactl.netstate.surroundings import Surroundings
from manactl.wire import rtmsg as rt

_LOST = "connections that are masqueraded through it (the kernel forgets them with the link)"


def claim(
    ports: Sequence[tuple[PortStatus, PortState, Surroundings]],
    waived: Sequence[Refusal] = (),
    refusals: Sequence[Refusal] = (),
) -> Plan:
    """Take each port's netdev down and prove that its vport is free, port after port.

    A port that is down already stays as it is, and stays down at release. A plan with `refusals`
    is for showing only.
    """
    steps: list[Step] = []
    stops, drops, restores, lost, notes = [], [], [], [], []
    for status, state, around in ports:
        name = state.ifname
        if state.up:
            steps.append(KeepState(state))
            steps.append(SetAdmin(status.id, name, False, True, state.carrier))
            stops.append(f"all traffic of the kernel over {name} ({_carries(state)})")
            stops += [f"with it that of {one}" for one in around.carried]
            drops += [snapshot.describe(fact, state.names) for fact in dropped(state)]
            restores.append(f"{name} set up, its carrier awaited")
            restores += _restored(state)
            lost.append(_LOST.replace("it", name, 1))
            lost += _temporary(state)
            lost += _not_ours(around)
        else:
            notes.append(f"{name} is down already: nothing to put back, it stays down at release")
        if status.rdma is not None:
            steps.append(ProveFree(status.id, status.rdma.device, status.rdma.port))
        if danger := port_notes.below_a_bond(status):
            notes.append(port_words.note(danger))
    stops += [f"{r.label}: {refusal_words.message(r)} (allowed: {r.code})" for r in waived]
    return Plan(
        "claim",
        tuple(status.id for status, _, _ in ports),
        tuple(steps),
        tuple(stops),
        tuple(drops),
        tuple(restores),
        tuple(lost),
        tuple(notes),
        tuple(map(refusal_words.to_json, waived)),
        tuple(map(refusal_words.to_json, refusals)),
    )


def dropped(state: PortState) -> list[Fact]:
    """What the kernel forgets when the port goes down, but for routes that are part of an address.

    A device that is closed keeps its IPv4 addresses alone (fib_netdev_event() takes only their
    routes). One that loses its carrier loses its nexthop objects (nexthop_flush_dev()).
    """
    closed, silent = _gone(state)
    ids = {_id(fact) for fact in state.of(Kind.NEXTHOP) if devices_of(fact) & (closed | silent)}

    def goes(fact: Fact) -> bool:
        devices = devices_of(fact)
        if fact.kind is Kind.ADDRESS:
            return snapshot.is_ipv6(fact) and not devices.isdisjoint(closed)
        if fact.kind is Kind.NEXTHOP:
            return _id(fact) in ids or not ids.isdisjoint(rt.group_members(fact.body))
        if fact.kind is Kind.ROUTE and (
            by := rt.number(rt.split(fact.body, rt.RTMSG.size), rt.RTA_NH_ID)
        ):
            return by in ids
        if fact.kind is Kind.ROUTE and len(devices) > 1:
            return devices <= closed  # a multipath route only loses a way for a while
        return not devices.isdisjoint(closed)

    return [fact for fact in state.facts if goes(fact) and not snapshot.derived(fact)]


def _id(nexthop: Fact) -> int | None:
    return rt.number(rt.split(nexthop.body, rt.NHMSG.size), rt.NHA_ID)


def _gone(state: PortState) -> tuple[set[int], set[int]]:
    """The devices that the kernel closes with the port, itself included, and those on them that
    lose their carrier alone."""
    closed: set[int] = {state.ifindex}
    silent: set[int] = set()
    for upper in state.uppers:  # from the bottom up
        if upper.lower in closed and upper.follows:
            closed.add(upper.ifindex)
        elif upper.lower in closed | silent and upper.kind in uppers.LINKED:
            silent.add(upper.ifindex)
    return closed, silent


def _not_ours(around: Surroundings) -> list[str]:
    """What nobody can put back but its owner."""
    found = [
        f"packet sockets{f' on {one.netdev}' if one.netdev else ''}"
        f" ({', '.join(map(str, one.processes)) or 'of a process that is not visible'}): they get "
        "ENETDOWN or fall silent until their program opens them again"
        for one in around.packet_sockets or ()
    ]
    return found + [
        f"whatever the kernel drops of {one}: put it back there" for one in around.elsewhere or ()
    ]


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
    if state.uppers:
        count = snapshot.counted(len(state.uppers), Kind.UPPER)
        found.append(f"{count}, each up or down as it was, with all of the above on them")
    return found


def _temporary(state: PortState) -> list[str]:
    names = state.names
    return [
        f"{snapshot.describe(fact, names)} (temporary: the kernel makes new ones)"
        for fact in state.facts
        if snapshot.is_temporary(fact)
    ]


_BRIEF = 6  # lines of a list that a real run shows


def text(plan: Plan, *, brief: bool = False) -> list[str]:
    """The plan for people. `brief`: of long lists the beginning, for who acts on it."""
    undone = plan.verb != "claim"
    tell = _undone if undone else (lambda step: step.describe())
    steps = [words for step in plan.steps if (words := tell(step))]
    title = "Plan, were it not refused:" if plan.refusals else "Plan:"
    lines = [title] if steps else []
    lines += [f"  {n}. {words}" for n, words in enumerate(steps, 1)]
    for heading, items in (
        ("Stops:", plan.stops),
        ("The kernel drops:", plan.drops),
        ("Put back:" if undone else "Release puts back:", plan.restores),
        ("Cannot be put back:", plan.lost),
        ("Notes:", plan.notes),
    ):
        shown = items[:_BRIEF] if brief and len(items) > _BRIEF + 1 else items
        if items:
            lines += [heading, *(f"  {item}" for item in shown)]
        if len(items) > len(shown):
            lines.append(f"  and {len(items) - len(shown)} more (--dry-run shows all)")
    return lines


def _undone(step: Step) -> str:
    """What undoing a step does; nothing for one that leaves nothing behind."""
    if isinstance(step, SetAdmin):
        return f"set {step.name} {'up and await its carrier' if step.was else 'down'}"
    if isinstance(step, KeepState):
        return f"put back what referred to {step.state.ifname} ({tally(step.state)}), and compare"
    return ""
