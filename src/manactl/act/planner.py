"""From what was seen to a plan: which steps, and what they mean (plan_words.py says that). Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from manactl.act import plan_words
from manactl.act.persist import LeaveDown
from manactl.act.plan import KeepState, Plan, ProveFree, SetAdmin, SetSynthetic, Step
from manactl.act.plan_words import Seen
from manactl.act.uio import BindUio
from manactl.act.unmanage import Unmanage
from manactl.decide import refusal_words, unmanageable
from manactl.decide.refusal import Refusal
from manactl.model.port import PortId, PortStatus
from manactl.model.value import NONE
from manactl.netstate import losses, snapshot
from manactl.netstate.left_down import LeftDown
from manactl.netstate.snapshot import Fact, PortState
from manactl.netstate.surroundings import Listener, Surroundings


def claim(
    ports: Sequence[tuple[PortStatus, PortState, Surroundings]],
    waived: Sequence[Refusal] = (),
    refusals: Sequence[Refusal] = (),
    uio: Collection[PortId] = (),
    overrides: Mapping[PortId, str | None] = NONE,
    *,
    confirm_within: float | None = None,
    persist: bool = False,
) -> Plan:
    """Take each port's netdev down and prove that its vport is free, port after port.

    A port that is down already stays as it is, and stays down at release. A plan with `refusals`
    is for showing only.

    First comes what may wait for long and touches nothing, the proof of ports that are down. What
    is on the others is held against the kernel before any of them goes down, since they share
    routes and nexthops, and before a network manager lets go of them.
    """
    waits: list[Step] = []
    keeps: list[Step] = []
    unmanaged: list[Step] = []
    acts: list[Step] = []
    drops: list[tuple[list[Fact], dict[int, str]]] = []
    listeners: list[Listener] = []
    seen = [Seen(*each, each[0].id in uio) for each in ports]
    for port in seen:
        status, state, around, to_uio = port
        touched = state.in_use or to_uio
        if touched:
            keeps.append(KeepState(state))
            unmanaged += _kept_off(status, state, around, persist=persist)
            acts += _set_down(status, state)
        if to_uio:
            acts += _to_uio(status, overrides.get(status.id))
        if touched and port.alone is None:
            drops.append((_dropped(state, to_uio=to_uio), state.names))
        if state.in_use and port.alone is None:
            listeners += around.listeners or ()
        (acts if touched else waits).extend(_proof(status))
    others = [(port.status.id, text) for port in seen for text in plan_words.others(port)]
    lost = [line for port in seen for line in plan_words.lost(port)]
    notes = [line for port in seen for line in plan_words.notes(port, persist=persist)]
    return Plan(
        "claim",
        tuple(status.id for status, _, _ in ports),
        (*waits, *keeps, *unmanaged, *acts),
        stops=(
            *(line for port in seen for line in plan_words.stops(port)),
            *map(plan_words.allowed, waived),
        ),
        dropped=tuple(drops),
        restores=tuple(line for port in seen for line in plan_words.restores(port)),
        lost=(*lost, *(text for _, text in others)),
        others=tuple(others),
        notes=(*notes, *plan_words.until_confirmed(confirm_within)),
        waived=tuple(map(refusal_words.to_json, waived)),
        refusals=tuple(map(refusal_words.to_json, refusals)),
        listeners=tuple(map(refusal_words.listener_json, listeners)),
    )


def _kept_off(
    status: PortStatus, state: PortState, around: Surroundings, *, persist: bool
) -> list[Step]:
    """What has the managers let go, and then what keeps them off from boot on."""
    wanted = unmanageable.wanted(status, around)
    steps: list[Step] = [Unmanage(status.id, unmanaged) for unmanaged in wanted]
    if persist:
        kept = [
            LeftDown(status.id, state.main, replace(unmanaged, beside=())) for unmanaged in wanted
        ]
        steps += map(LeaveDown, kept)
    return steps


def _to_uio(status: PortStatus, override: str | None) -> list[Step]:
    pair = status.pair
    if pair is None or pair.vmbus is None:
        return []
    return [BindUio(status.id, pair.vmbus, pair.netdev, override)]


def _dropped(state: PortState, *, to_uio: bool) -> list[Fact]:
    """What the kernel forgets: of a netdev that is destroyed all of it."""
    if to_uio:
        return state.that(lambda fact: not snapshot.derived(fact))
    return losses.dropped(state)


def _proof(status: PortStatus) -> list[Step]:
    rdma = status.rdma
    return [] if rdma is None else [ProveFree(status.id, rdma.device, rdma.port)]


def _set_down(status: PortStatus, state: PortState) -> list[Step]:
    """The VF first, so that undoing it comes last: it finds what hv_netvsc made of it."""
    leaves = tuple(fact.body for fact in losses.autojoined(state))
    above = state.synthetic
    uuid = above.id if above is not None else status.pair and status.pair.vmbus
    vf = SetAdmin(
        status.id,
        state.ifname,
        up=False,
        was=state.up,
        had_carrier=state.carrier,
        leaves=leaves,
        vmbus=uuid,
    )
    if above is None or above.id is None or not above.up:
        return [vf]
    return [
        replace(vf, leaves=()),
        SetSynthetic(status.id, above.id, above.name, above.carrier, leaves),
    ]
