"""Addresses that a release leaves out, since somebody has removed them on purpose meanwhile.

They are looked for while the port is down still, and written down with the release: a manager that
gets its netdev back may delete others, and a release that died is gone on with by what it saw.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from manactl.act.plan import KeepState, Step, System
from manactl.act.restore import Lost
from manactl.act.unmanage import Unmanage
from manactl.journal.file import Content, believed
from manactl.model.claim import Phase
from manactl.model.port import PortId
from manactl.model.record import Event
from manactl.netstate import taken_away
from manactl.netstate.losses import Cause
from manactl.netstate.snapshot import Fact, Kind, PortState

# By port, where they stand among the facts of its snapshot.
Places = Mapping[PortId, Sequence[int]]


def look(
    steps: Sequence[Step], ports: Collection[PortId], content: Content, system: System
) -> Places:
    """Those of ports that are about to be released; only a port with such an address is there.
    JournalError where an earlier release has noted what makes no sense."""
    found = {}
    for step in steps:
        if not isinstance(step, KeepState) or step.port not in ports or step.state.alone:
            continue
        with believed(content.path):
            places = _noted(content, step.state)
        if places is None:
            places = _seen(step.state, _left_alone(steps, step.port), content, system)
        if places:
            found[step.port] = places
    return found


def _noted(content: Content, state: PortState) -> Sequence[int] | None:
    """What an earlier release of the port has seen; None where none was begun."""
    key = {"pci": state.port.pci, "port": state.port.port}
    for record in content.records:
        if record["event"] == Event.RELEASING and _names(record.get("ports", [key]), key):
            mine = [one for one in record.get("taken_away", ()) if _names([one], key)]
            places = [int(place) for one in mine for place in one["facts"]]
            if any(place < 0 or state.facts[place].kind is not Kind.ADDRESS for place in places):
                raise ValueError("taken_away: no address")
            return places
    return None


def _names(ports: Iterable[Mapping[str, object]], key: Mapping[str, object]) -> bool:
    return any(key.items() <= one.items() for one in ports)


def _left_alone(steps: Iterable[Step], port: PortId) -> dict[str, Collection[str]]:
    """The netdevs that a manager leaves alone, with what it has dropped there itself; none of which
    that is not known."""
    mine = (step for step in steps if isinstance(step, Unmanage) and step.port == port)
    links = [link for step in mine for link in step.unmanaged.links]
    return {link.name: link.drops for link in links if link.drops is not None}


def _seen(
    state: PortState, netdevs: Mapping[str, Collection[str]], content: Content, system: System
) -> Sequence[int]:
    if not netdevs or content.phase_of(state.port) is not Phase.CLAIMED:
        return ()
    try:
        now = system.capture(state.port)
    except OSError:
        return ()  # its netdev is not here: the release says so
    places = {fact: place for place, fact in enumerate(state.facts)}
    return [places[fact] for fact in taken_away.found(state, now, netdevs)]


def to_json(places: Places) -> list[dict[str, object]]:
    """For the record of the release."""
    return [{"pci": port.pci, "port": port.port, "facts": list(at)} for port, at in places.items()]


def without(
    step: KeepState, places: Sequence[int], system: System
) -> tuple[KeepState, tuple[Lost, ...]]:
    """The step without those that are not there now either, and what is told of these: a manager
    has made again what it configures itself."""
    state = step.state
    addresses = at([state], step.port, places)
    try:
        now = system.capture(step.port)
    except OSError:
        return step, ()  # the restore says so
    gone = taken_away.absent(addresses, state, now)
    return KeepState(left(state, gone)), told(state, gone)


def rest(step: Step, removed: Places) -> Step:
    """The step without the addresses that its port has among those."""
    if not isinstance(step, KeepState) or step.port not in removed:
        return step
    return KeepState(left(step.state, at([step.state], step.port, removed[step.port])))


def at(states: Iterable[PortState], port: PortId, places: Iterable[int]) -> list[Fact]:
    """The addresses that stand there in the snapshot of the port."""
    state = next(one for one in states if one.port == port)
    return [state.facts[place] for place in places]


def left(state: PortState, addresses: Collection[Fact]) -> PortState:
    """The snapshot without these addresses and their routes."""
    if not addresses:
        return state
    out = {*taken_away.with_routes(state, addresses)}
    return replace(state, facts=tuple(fact for fact in state.facts if fact not in out))


def told(state: PortState, addresses: Iterable[Fact]) -> tuple[Lost, ...]:
    return tuple(Lost(Cause.REMOVED, taken_away.text(one, state)) for one in addresses)
