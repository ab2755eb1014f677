"""A plan in words: what a claim stops, what release restores, what nobody can, and what to know.

The steps of a plan are made in planner.py and release.py, and nothing there depends on these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from manactl.act import residue_words
from manactl.act.outcome_words import end_or_wait, named
from manactl.act.plan import PATIENCE
from manactl.decide import daemon_words, port_notes, port_words, refusal_words, unmanageable
from manactl.decide.refusal import Refusal
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import Holder, PortStatus
from manactl.netstate import loss_words, losses, snapshot
from manactl.netstate.members import BridgeState
from manactl.netstate.snapshot import Fact, Kind, PortState, devices_of
from manactl.netstate.surroundings import Surroundings


class Seen(NamedTuple):
    """One port of a claim as it was seen. `to_uio`: its synthetic netdev is to be destroyed."""

    status: PortStatus
    state: PortState
    around: Surroundings
    to_uio: bool = False

    @property
    def alone(self) -> str | None:
        """The synthetic netdev that stays up, and goes on without the port that goes down."""
        pair = self.status.pair
        return pair.netdev if pair and self.state.in_use and self.state.alone else None


def stops(port: Seen) -> list[str]:
    """Traffic and users that stop."""
    _, state, around, _ = port
    name = state.main
    if port.alone is not None:
        return [
            f"the fast path of {port.alone}: its traffic takes the synthetic path; its addresses, "
            "routes and connections stay"
        ]
    if not state.in_use:
        return []
    return [
        f"all traffic of the kernel over {name} ({_carries(state)})",
        *_forwards_later(state),
        *(f"with it that of {upper}" for upper in around.carried),
        *_bound(around),
        *_listening(name, around),
        *_sent_by_others(name, around),
    ]


def allowed(refusal: Refusal) -> str:
    return f"{refusal.label}: {refusal_words.message(refusal)} (allowed: {refusal.code})"


def restores(port: Seen) -> list[str]:
    """What release restores."""
    status, state, around, to_uio = port
    if port.alone is not None:
        return [set_up_below(state.main, port.alone)]
    if not (state.in_use or to_uio):
        return []
    first = [set_up(state.main), *_given_back(status, around)] if state.in_use else []
    return [*first, *restored(state), *_leaning(state, to_uio=to_uio)]


def lost(port: Seen) -> list[str]:
    """What the port's snapshot has, and nobody can restore."""
    alone = port.alone is not None
    return not_restored(port.state) if _is_touched(port) and not alone else []


def others(port: Seen) -> list[str]:
    """What nobody can restore that no snapshot has."""
    status, state, around, to_uio = port
    found = _destroyed(state, around) if to_uio else []
    return found + (_not_ours(status, around) if state.in_use and port.alone is None else [])


def notes(port: Seen, *, persist: bool) -> list[str]:
    """What to know besides. `persist`: the port is to stay down at boot."""
    status, state, around, to_uio = port
    name = state.main
    found = [_DESTROYED.format(name=name)] if to_uio else []
    if port.alone is not None:
        found += _kept_up(name, port.alone)
    elif state.in_use:
        found += _elsewhere(around) + _name_servers(name, around)
        if state.synthetic is not None and state.synthetic.up and not to_uio:
            found.append(_BOTH_DOWN.format(name=name, vf=state.ifname))
    elif to_uio:
        found.append(f"{name} is down already, and stays down at release")
    else:
        found.append(f"{name} is down already: nothing to restore, it stays down at release")
    if status.pair is not None and not to_uio:
        found.append(port_words.deaf(state.ifname, status.pair.netdev))
    found += _at_boot(status, state, around) if persist else []
    return [*found, *_daemons(around, name), *_below_a_bond(status)]


def _is_touched(port: Seen) -> bool:
    return port.state.in_use or port.to_uio


# --- of a release --------------------------------------------------------------------------


def set_up(name: str) -> str:
    return f"{name} set up, its carrier awaited"


def set_up_below(name: str, synthetic: str) -> str:
    return f"{name} set up; {synthetic} takes it again as its fast path"


def made_again(name: str) -> str:
    return f"{name} made again"


def given_back(manager: str, names: str) -> str:
    return f"{names} given back to {manager}, which configures it again"


def given_back_at_boot(manager: str, names: str) -> str:
    return f"{names} given back to {manager}, at boot, too"


def left_down_by(name: str, files: Sequence[str]) -> str:
    return f"{name} is left down at boot by {', '.join(files)}"


def left_down(name: str) -> str:
    return f"{name} was down before the claim and is left as it is"


def untouched(name: str) -> str:
    return f"{name} had not been set down yet: nothing is changed"


def before_last_boot(files: Sequence[str]) -> str:
    """`files`: what leaves ports down at boot, and is given back."""
    closes = "only the journal is closed"
    if files:
        closes = f"the journal is closed, and {', '.join(files)} given back"
    return f"claimed before the last boot: {closes}"


def would_end(holders: str) -> str:
    return f"SIGTERM to {holders}"


def still_held(name: str, holders: Sequence[Holder]) -> str:
    return _not_before(f"a raw QP still has the vport of {name}", name, holders)


def still_open(name: str, holders: Sequence[Holder]) -> str:
    return _not_before(f"the uio device of {name} is still open", name, holders)


def _not_before(what: str, name: str, holders: Sequence[Holder]) -> str:
    way = end_or_wait([name], holders)
    return f"{what}{named(holders)}; nothing is released before that has ended: {way}"


# --- line by line --------------------------------------------------------------------------

_UNTIL = {
    "lacp": "its partner has answered (LACP)",
    "updelay": "its updelay is over",
    "arp": "its ARP probes are answered",
}
_DESTROYED = (
    "{name} is destroyed with all that is stacked on it (--synthetic=uio), and made again at release, "
    "under another ifindex"
)
_UNTIL_CONFIRMED = (
    "all of it is released automatically {seconds:g} s after it has begun, unless `manactl confirm` comes "
    "before",
    "while a raw QP has a port then, its release waits for the holder to end: nobody is ended",
)
_BOTH_DOWN = (
    "{name} and its VF {vf} are both down (--synthetic=down): host servicing does not open the VF "
    "again; --synthetic=keep would leave the traffic of {name} on the synthetic path"
)
_NOTHING_AT_BOOT = (
    "--persist: no network manager sets {name} up at boot, so there is nothing to write"
)
_NOT_TOLD = (
    "--persist: nothing is written for {name}: what manages it is not kept off it, so it may be set "
    "up at boot"
)


def _at_boot(status: PortStatus, state: PortState, around: Surroundings) -> list[str]:
    """What --persist does not do."""
    if unmanageable.wanted(status, around):
        return []
    managed = any(one.managed is not False for one in around.managers or ())
    return [(_NOT_TOLD if managed else _NOTHING_AT_BOOT).format(name=state.main)]


def until_confirmed(within: float | None) -> list[str]:
    return [] if within is None else [line.format(seconds=within) for line in _UNTIL_CONFIRMED]


def _leaning(state: PortState, *, to_uio: bool) -> list[str]:
    """Routes elsewhere that go with the addresses of a netdev which is destroyed."""
    if not (to_uio and state.leaning):
        return []
    count = snapshot.counted(len(state.leaning), Kind.ROUTE)
    return [f"{count} of other netdevs that have an address of {state.main} as source"]


def _given_back(status: PortStatus, around: Surroundings) -> list[str]:
    return [
        f"what {one.manager} configures on {one.names}: by itself, first; then what is missing"
        for one in unmanageable.wanted(status, around)
    ]


def _destroyed(state: PortState, around: Surroundings) -> list[str]:
    """What nobody can make again once the synthetic netdev was destroyed."""
    name = state.main
    found = [
        f"sockets that are bound to {name} by its number, XDP programs and BPF filters on it",
        f"what else knows {name} by its number or hangs on it: {residue_words.BY_NUMBER}",
        *(
            residue_words.stays_promiscuous(state.ifname, name)
            for one in state.blueprints
            if state.synthetic and one.ifindex == state.synthetic.ifindex and one.receives_all
        ),
        *(residue_words.macsec_keys(one.name) for one in state.uppers if one.kind == "macsec"),
    ]
    found += [
        f"what sends by {name} of {one}: its rules lose it, and are made again by whoever made them"
        for one in (*(around.redirecting or ()), *(around.nftables or ()))
    ]
    found += [
        f"the end of {one.name} (xfrm) at {name}: it sends nothing until it is made again"
        for one in state.blueprints
        if one.bound_to is not None and one.kind == "xfrm"
    ]
    return found + [
        f"{one.name} in {one.netns}, which is stacked on {name}: it is destroyed and not made again"
        for one in around.elsewhere or ()
        if one.carried
    ]


def _kept_up(vf: str, synthetic: str) -> list[str]:
    """What a claim with --synthetic=keep is good for, and what not."""
    return [
        f"{synthetic} stays up on the synthetic path (--synthetic=keep)",
        f"host servicing undoes it: hv_netvsc opens {vf} again 100 ms after it has come back, and "
        "takes the vport where no raw QP has it; --synthetic=down survives that",
    ]


def _forwards_later(state: PortState) -> list[str]:
    """What comes to the outage after release has set the port up."""
    member = state.member
    if member is None or not member.forwards or member.within == 0:
        return []
    how = "it has listened and learned (STP)"
    if member.kind == "bond":
        how = _UNTIL.get(member.by, _UNTIL["lacp"])
    name = state.main
    most = "" if member.within is None else f": up to {member.within:.0f} s more"
    return [f"{name} in {member.master}, after release too, until {how}{most}"]


def _bound(around: Surroundings) -> list[str]:
    """Other netdevs that a manager sets down, too; it sets them up again with the carrier."""
    return [
        f"with it {other}, which {manager.name} sets down without a carrier on {manager.netdev} "
        "(BindCarrier=), until release"
        for manager in around.managers or ()
        for other in manager.bound
    ]


def _listening(name: str, around: Surroundings) -> list[str]:
    """Whom nobody can reach, each with its process."""
    if around.listeners is None:
        return [f"whoever listens at the addresses of {name}: that could not be read"]
    return [f"listening on it: {refusal_words.listener(one)}" for one in around.listeners]


def _elsewhere(around: Surroundings) -> list[str]:
    """Azure's own addresses that another netdev leads to."""
    return [
        f"packets to {refusal_words.service(one.address)} {one.address} leave by "
        f"{one.remaining} meanwhile"
        for one in around.fabric or ()
        if one.matters and one.remaining is not None
    ]


def _name_servers(name: str, around: Surroundings) -> list[str]:
    """Without them programs wait for names, manactl's own release not."""
    if around.name_servers is None:
        return [f"whether name servers are reached over {name} alone could not be read"]
    return [
        f"the name server {one.address} ({one.source}) is reached over {name} alone: names that it "
        "is asked for are not found meanwhile"
        for one in around.name_servers
    ]


def _sent_by_others(name: str, around: Surroundings) -> list[str]:
    """Packets that no socket and no route send."""
    found = [f"what {one} sends through its bridge by {name}" for one in around.bridged or ()]
    if around.bridged is None:
        found.append(f"what others send through a bridge by {name}: that could not be read")
    if around.untracked is not False:
        found.append(f"what others send through this machine by {name}: nothing here tracks it")
    if around.redirecting is None:
        found.append(f"what tc filters of other devices redirect to {name}: that could not be read")
    found += [
        f"packets of {one} that tc filters send by {name}" for one in around.redirecting or ()
    ]
    if around.nftables is None:
        found.append(f"what nftables rules send by {name} (fwd, dup): that could not be read")
    found += [
        f"packets that the nftables chain {one} sends by {name}" for one in around.nftables or ()
    ]
    if around.netconsole is None:
        found.append(f"kernel messages (netconsole), should they be sent by {name}")
    elif around.netconsole:
        found.append(f"kernel messages that are sent by {name} (netconsole)")
    return found


def _not_ours(status: PortStatus, around: Surroundings) -> list[str]:
    """What nobody can restore but its owner."""
    found = [
        f"packet sockets{f' on {sock.netdev}' if sock.netdev else ''}"
        f" ({', '.join(map(str, sock.processes)) or 'of a process that is not visible'}): they get "
        "ENETDOWN or fall silent until their program opens them again"
        for sock in around.packet_sockets or ()
        if not unmanageable.of_unmanaged(sock.processes, status, around)
    ]
    return found + [
        f"what the kernel drops of {upper}: restore it there"
        for upper in around.elsewhere or ()
        if not upper.restorable
    ]


def _daemons(around: Surroundings, name: str) -> list[str]:
    """Who may interfere, but for managers of the port: the guard has those."""
    theirs = {m.name for m in around.managers or () if m.managed is not False}
    return [
        f"{daemon_words.who(daemon)}: {daemon_words.effect(daemon, name)}"
        for daemon in around.daemons or ()
        if daemon.name not in theirs
    ]


def _below_a_bond(status: PortStatus) -> list[str]:
    danger = port_notes.below_a_bond(status)
    return [port_words.note(danger)] if danger else []


def _carries(state: PortState) -> str:
    found = snapshot.global_addresses(state.facts)
    return ", ".join(found) if found else "it has no global address"


def restored(state: PortState) -> list[str]:
    """What release puts back on a port that was set down, from its snapshot alone."""
    found = []
    if state.synthetic is not None and state.synthetic.up:
        how = "set down again, as it was" if not state.up else "carries its traffic again"
        found.append(f"{state.ifname}, which hv_netvsc opens with it, {how}")
    found += [
        f"{_bridge_state(one, state)}, as soon as it has carrier: it forwards for a moment before"
        for one in _lost_states(state)
        if one.settable
    ]
    return found + _counted(state)


def _lost_states(state: PortState) -> list[BridgeState]:
    """What keeps it, or an upper, from forwarding, and is gone with the carrier."""
    closed, silent = losses.gone(state)
    return [one for one in state.bridge_states if one.is_set and one.ifindex in closed | silent]


def _groups(state: PortState) -> list[str]:
    """The MDB entries that are not permanent, which the kernel removes with the carrier
    (br_multicast_disable_port())."""
    closed, silent = losses.gone(state)
    return [
        f"multicast groups of {state.names[upper.lower]} in {upper.name} that are not permanent: "
        "they are learned again, and one that somebody has added (temp) is not"
        for upper in state.uppers
        if upper.kind == "bridge" and upper.lower in closed | silent
    ]


def _bridge_state(one: BridgeState, state: PortState) -> str:
    return f"state {one.word} of {state.names[one.ifindex]} in {one.master}"


def not_restored(state: PortState) -> list[str]:
    """What nobody can put back on such a port, from its snapshot alone."""
    return [
        f"NAT (masquerade) connections through {state.main}: the kernel drops their conntrack "
        "entries",
        *_temporary(state),
        *(
            f"{_bridge_state(one, state)} ({residue_words.OF_PROGRAM}): it forwards after release"
            for one in _lost_states(state)
            if not one.settable
        ),
        *_groups(state),
        *(loss_words.text(loss, state.names) for loss in losses.coming(state)),
    ]


def _counted(state: PortState) -> list[str]:
    ways = {
        Kind.ADDRESS: "with flags, labels and what remains of their lifetimes, IPv6 without "
        "another duplicate address detection",
        Kind.NEXTHOP: "with their groups, on other ports too",
        Kind.ROUTE: "of all tables and protocols, from the kernel's own bytes",
        Kind.NEIGHBOUR: "permanent, NOARP and proxy entries",
    }
    found = []
    advertised = snapshot.of_router(state, state.accepted)
    theirs = {*advertised, *losses.known(state)}
    theirs.update(state.that(lambda f: snapshot.is_temporary(f) or snapshot.derived(f)))
    not_ours = Counter(fact.kind for fact in theirs)
    for kind, how in ways.items():
        if number := len(state.of(kind)) - not_ours[kind]:
            found.append(f"{snapshot.counted(number, kind)} ({how})")
    if state.stacked:
        count = snapshot.counted(len(state.stacked), Kind.UPPER)
        found.append(f"{count}, each up or down as it was, with all of the above on them")
    return found + _advertised(state, advertised)


def _advertised(state: PortState, facts: Sequence[Fact]) -> list[str]:
    """What the router restores, for each device: the kernel's own facts cannot be made by us."""
    found = []
    for device in state.accepted:
        own = [fact for fact in facts if devices_of(fact) == {device.ifindex}]
        counts = [
            snapshot.counted(count, kind)
            for kind in Kind
            if (count := sum(fact.kind is kind for fact in own))
        ]
        if counts:
            asked = "the kernel asks the router for it" if device.solicits else "no request is sent"
            found.append(
                f"{', '.join(counts)} of {state.names[device.ifindex]} from IPv6 router "
                f"advertisements ({asked}): what has not come after {PATIENCE:.0f} s comes with "
                "the next router advertisement"
            )
    return found


def _temporary(state: PortState) -> list[str]:
    names = state.names
    return [
        f"{snapshot.describe(fact, names)} (temporary: the kernel makes new ones)"
        for fact in state.that(snapshot.is_temporary)
    ]
