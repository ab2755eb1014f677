"""A netdev that was destroyed while it was claimed comes back whole: the new one gets its name and
settings, and what stood on it is made again, all while it is down.

It is convergent: what is there already, from an attempt that died or by somebody else, is left
alone. Everything comes from the snapshot, so another process can do it.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterable, Iterator, Mapping

from manactl.act import residue_words as words
from manactl.act.plan import System, recreated, require_netdev
from manactl.act.restore import Lost, Restored
from manactl.errors import strerror
from manactl.look.netdevs_of import NetdevNow, here
from manactl.model.named_tuple import NamedTuple
from manactl.netstate import blueprints, link_settings, uppers
from manactl.netstate.blueprints import Blueprint
from manactl.netstate.link_settings import LinkSettings
from manactl.netstate.losses import Cause
from manactl.netstate.snapshot import Kind, PortState, Request
from manactl.netstate.uppers import Pair, UpperState
from manactl.wire import if_link

# Writing one setting may change another (stable_secret sets addr_gen_mode; in a master a port has
# attributes that it had not before).
_PASSES = 4
# The kernel fills in the number. The second is what drivers ask for, where the one of before is taken.
_PARKED, _ANY = "manactl%d", "eth%d"


class _Todo(NamedTuple):
    """One setting of one device that is not as it was."""

    name: str
    ifindex: int
    text: str
    change: link_settings.Change

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two of them the same, however they are worded."""
        return self.ifindex, *self.change.key


def is_needed(state: PortState, system: System) -> bool:
    """Whether the netdev of the port is another one than the snapshot's, or the synthetic netdev
    above it."""
    return bool(_Recreated(state, system).bases)


def untangle(states: Iterable[PortState], system: System) -> None:
    """Give re-created netdevs their names where they have each other's: drivers give what is free
    to whichever comes first. What is left to do, set_up() does, or tells."""
    bases = [base for state in states for base in _Recreated(state, system).bases]
    wrong = [base for base in bases if base.now.name != base.name]
    wanted = {base.name for base in wrong}
    if parked := [base for base in wrong if base.now.name in wanted]:
        names = {base.now.name for base in parked}
        for base in parked:
            _name(base.now.ifindex, _PARKED, system)
        for base in wrong:
            if base in parked or base.name in names:
                _name(base.now.ifindex, base.name, system)


def _is_parked(name: str) -> bool:
    """Whether untangle() gave it this name, here or in a run that was killed."""
    before, _, after = _PARKED.partition("%d")
    number = name.removeprefix(before).removesuffix(after)
    return name != number and number.isdecimal()


def _name(ifindex: int, name: str, system: System) -> None:
    with contextlib.suppress(OSError):
        system.send(Request(if_link.RTM_NEWLINK, 0, if_link.rename(ifindex, name)))


def set_up(state: PortState, system: System) -> Restored:
    """Give a netdev that was re-created all that the old one had but addresses, routes and the
    like, while it is down."""
    work = _Recreated(state, system)
    work.rename()
    made = set(work.make_uppers())
    unbound = list(work.bind_tunnels())
    first = list(work.changes())
    left = work.put_all(first, lambda: list(work.changes()))
    still = {one.key for one in left}
    count = sum(one.key not in still for one in first)
    counts = {Kind.SETTING: count, Kind.UPPER: len(made)}
    return Restored(
        counts={kind: number for kind, number in counts.items() if number},
        residue=(*work.not_made(), *(work.why(one) for one in left if not one.change.may_be_lost)),
        lost=(*work.lost(left), *unbound),
    )


def residue(state: PortState, system: System) -> list[str]:
    """The settings that a netdev which was re-created has not, nor its uppers."""
    work = _Recreated(state, system)
    return [work.why(one) for one in work.changes() if not one.change.may_be_lost]


def finish(state: PortState, system: System) -> tuple[Lost, ...]:
    """Set what may need a netdev that is up; what has not come back of it."""
    work = _Recreated(state, system)

    def missing() -> list[_Todo]:
        return [one for one in work.changes() if one.change.may_need_up]

    left = work.put_all(missing(), missing)
    not_set = [Lost(Cause.NOT_KEPT, work.why(one)) for one in left]
    return (*not_set, *work.silent())


class _Base(NamedTuple):
    """A netdev that was re-created: what it was, and is. `settings`: None where not known."""

    ifindex: int
    name: str
    settings: LinkSettings | None
    now: NetdevNow


class _Recreated:
    """One port, of which a netdev was re-created: its own, or the synthetic one above it."""

    def __init__(self, state: PortState, system: System) -> None:
        self._state, self._system = state, system
        self._plans = {one.ifindex: one for one in state.blueprints}
        self._errors: dict[tuple[object, ...], str] = {}  # by the key of what was to be set
        self._unnamed: dict[int, str] = {}  # by the ifindex that it had: why it has another name
        self._unmade: dict[int, str] = {}  # by the ifindex that an upper had
        self.bases = list(self._found())
        gone = [blueprints.dying(state.uppers, base.ifindex) for base in self.bases]
        self._dying = frozenset[int]().union(*gone)

    def _found(self) -> Iterator[_Base]:
        state, system = self._state, self._system
        now = here(system.netdev(state.port))
        if now is not None and recreated(state, now):
            yield _Base(state.ifindex, state.ifname, state.link, now)
        above = state.synthetic
        now = here(system.synthetic(above.id)) if above is not None and above.id else None
        if above is not None and now is not None and now.ifindex != above.ifindex:
            plan = self._plans.get(above.ifindex)
            yield _Base(above.ifindex, above.name, plan and plan.settings, now)

    def rename(self) -> None:
        """The name that each had, unless another netdev has that now."""
        for base in self.bases:
            if base.now.name == base.name:
                continue
            holder = self._system.settings(base.now.ifindex).names.get(base.name)
            if holder is not None and not self._given_up(base.name, holder):
                self._unnamed[base.ifindex] = words.NAME_TAKEN
            else:
                try:
                    body = if_link.rename(base.now.ifindex, base.name)
                    self._system.send(Request(if_link.RTM_NEWLINK, 0, body))
                except OSError as error:
                    self._unnamed[base.ifindex] = strerror(error)
            if base.ifindex in self._unnamed and _is_parked(base.now.name):
                _name(base.now.ifindex, _ANY, self._system)
        self.bases = list(self._found())

    def _given_up(self, name: str, holder: int) -> bool:
        """Whether `holder` does not have that name any more: of an altname that a netdev of this
        port had not, it is taken. udev names the VF and the synthetic netdev by one MAC address or
        slot, and gives what is free to the one that appears first."""
        state, system = self._state, self._system
        above = state.synthetic
        plan = above and self._plans.get(above.ifindex)
        vf = here(system.netdev(state.port))
        now = here(system.synthetic(above.id)) if above is not None and above.id else None
        for one, was in ((vf, state.link), (now, plan and plan.settings)):
            if one and was and one.ifindex == holder and name not in was.altnames:
                try:
                    body = if_link.altname(holder, name)
                    system.send(Request(if_link.RTM_DELLINKPROP, 0, body))
                except OSError:
                    return False  # it is its name, or has just gone
                return True
        return False

    # --- what stood on it

    def make_uppers(self) -> Iterator[int]:
        """Make them from the bottom up; the ifindexes that those had which are there again."""
        tried: set[int] = set()
        while True:
            pairs = self._pairs()
            moved = self._moved(pairs)
            todo = [
                (pair.was, self._plans[pair.was.ifindex])
                for pair in pairs
                if pair.now is None
                and pair.was.ifindex in self._dying - tried
                and pair.was.ifindex in self._plans
                and pair.was.lower in moved
            ]
            if not todo:
                return
            for was, plan in todo:
                tried.add(was.ifindex)
                if self._make(was, plan, moved):
                    yield was.ifindex

    def _make(self, was: UpperState, plan: Blueprint, moved: Mapping[int, int]) -> bool:
        try:
            try:
                self._system.send(plan.request(moved, ifindex=was.ifindex))
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.EEXIST):
                    raise
                self._system.send(plan.request(moved))  # another has its number now
        except OSError as error:
            self._unmade[was.ifindex] = strerror(error)
            return False
        return True

    def bind_tunnels(self) -> Iterator[Lost]:
        """Have tunnels send by the new netdevs; those that their drivers leave bound to the old."""
        renewed = {base.ifindex for base in self.bases} | self._dying
        todo = [one for one in self._state.blueprints if one.bound_to in renewed]
        if not todo:
            return
        moved = self._moved(self._pairs())
        there = self._system.settings(self.bases[0].now.ifindex).names
        done = {one.ifindex for one in self._system.blueprints(self._state.port) if one.bound_to}
        for one in todo:
            if one.ifindex in done or there.get(one.name) != one.ifindex:
                continue  # somebody has done it, or has removed it or made another
            try:
                self._system.send(one.bound(moved))
            except OSError as error:
                yield Lost(Cause.NOT_KEPT, words.unbound(one.name, strerror(error)))

    def not_made(self) -> list[str]:
        """Those that could not be made, with the reason; what they carried is listed later."""
        return [
            words.not_made(pair.was.describe(), why)
            for pair in self._pairs()
            if pair.now is None and (why := self._unmade.get(pair.was.ifindex))
        ]

    def _pairs(self) -> list[Pair]:
        state = self._state
        now = require_netdev(self._system, state.port)
        there = self._system.uppers(state.port)
        return uppers.pairs(state.uppers, there, state.ifindex, now.ifindex)

    def _moved(self, pairs: list[Pair]) -> dict[int, int]:
        now = require_netdev(self._system, self._state.port)
        moved = {pair.was.ifindex: pair.now.ifindex for pair in pairs if pair.now is not None}
        return {self._state.ifindex: now.ifindex, **moved}

    def silent(self) -> Iterator[Lost]:
        """The uppers that are up and have no carrier any more, since their lower was never up.

        A device that stands on another takes its carrier when that is set up or down, or changes
        (netif_stacked_transfer_operstate()), and keeps it where the driver of the lower keeps its
        own: hv_netvsc does when it is closed.
        """
        pairs = self._pairs()
        for base in self.bases:
            if base.now.up:
                continue
            off, names = {base.ifindex}, []
            for was, now in pairs:
                if now is None or was.lower not in off or was.ifindex not in self._dying:
                    continue
                if was.up and was.carrier and now.up and not now.carrier:
                    off.add(was.ifindex)
                    names.append(now.name)
            if names:
                yield Lost(Cause.NOT_KEPT, words.silent(names, base.now.name))

    # --- settings

    def changes(self) -> Iterator[_Todo]:
        """What is not as it was on the netdevs and on all that stands on them, from the bottom up."""
        if not self.bases:
            return
        system = self._system
        renewed = {base.ifindex for base in self.bases}
        for base in self.bases:
            if base.settings is not None:
                have = system.settings(base.now.ifindex)
                yield from self._of(base.settings, have, base.now.name, base.now.ifindex)
        for pair in self._pairs():
            plan = self._plans.get(pair.was.ifindex)
            if pair.now is None or plan is None or pair.was.ifindex in renewed:
                continue
            was = plan.settings
            if pair.was.ifindex not in self._dying:
                was = link_settings.followed(was)
            have = system.settings(pair.now.ifindex)
            for one in self._of(was, have, pair.now.name, pair.now.ifindex):
                yield one._replace(text=f"{pair.now.name}: {one.text}")

    def _of(self, was: LinkSettings, now: LinkSettings, name: str, ifindex: int) -> Iterator[_Todo]:
        for change in link_settings.changes(was, now, ifindex):
            yield _Todo(name, ifindex, change.text, change)

    def put_all(self, left: list[_Todo], look: Callable[[], list[_Todo]]) -> list[_Todo]:
        """Set these, and what `look` finds then, while that helps. What is left."""
        for _ in range(_PASSES):
            for one in left:
                self._put(one)
            before, left = left, look()
            if left == before:
                break
        return left

    def _put(self, one: _Todo) -> None:
        command = one.change.ethtool
        if command is not None and command.rss is not None and one not in self.changes():
            return  # the number of channels has brought it back, or some of it
        try:
            if one.change.holder is not None and not self._given_up(
                one.change.altname, one.change.holder
            ):
                raise OSError(errno.EEXIST, words.NAME_TAKEN)
            if one.change.request is not None:
                self._system.send(one.change.request)
            elif one.change.sysctl is not None:
                tree, key, value = one.change.sysctl
                self._system.set_sysctl(f"{tree}/{one.name}/{key}", value)
            elif command is not None:
                self._system.set_ethtool(one.ifindex, one.name, command)
        except OSError as error:
            self._errors[one.key] = strerror(error)
        else:
            self._errors.pop(one.key, None)

    def why(self, one: _Todo) -> str:
        change = one.change
        cannot = change.request is None and change.sysctl is None and change.ethtool is None
        said = words.GONE if cannot else self._errors.get(one.key, words.NOT_KEPT)
        return words.because(one.text, said)

    def _has_marked_vf(self, base: _Base) -> bool:
        """Whether it is a synthetic netdev that had its VF receive everything, and that VF is still
        the same (netvsc_change_rx_flags() has nothing for the end)."""
        plan = self._plans.get(base.ifindex)
        same = all(one.ifindex != self._state.ifindex for one in self.bases)
        return plan is not None and plan.receives_all and same

    def lost(self, left: list[_Todo]) -> Iterator[Lost]:
        """What nobody but its maker can bring back."""
        state = self._state
        for base in self.bases:
            text = words.numbered(base.now.name, base.ifindex, base.now.ifindex)
            yield Lost(Cause.NOT_KEPT, text)
            if self._has_marked_vf(base):
                text = words.stays_promiscuous(state.ifname, base.name)
                yield Lost(Cause.NOT_KEPT, text)
            if why := self._unnamed.get(base.ifindex):
                yield Lost(Cause.NOT_KEPT, words.unnamed(base.name, base.now.name, why))
        for upper in state.uppers:
            if upper.kind == "macsec" and upper.ifindex in self._dying:
                yield Lost(Cause.NOT_KEPT, words.macsec_keys(upper.name))
        for one in left:
            if one.change.qdisc or one.change.bridging or one.change.holder is not None:
                yield Lost(Cause.NOT_KEPT, self.why(one))
