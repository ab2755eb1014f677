"""Plans and their steps. A step knows how to be done, undone, checked, described and written down.

Undoing needs nothing but what the step's JSON holds, since another process may have to do it,
and may be repeated: a half-done step is undone like a done one.
"""

from __future__ import annotations

import contextlib
import errno
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, replace
from typing import Any, ClassVar, Protocol

from manactl.act import residue_words, restore, step_words
from manactl.act.proof import ProofLike, attempt_proof
from manactl.act.restore import Lost, Prepared, Restored
from manactl.act.step_words import up_or_down
from manactl.decide import kernel_bugs
from manactl.errors import ManactlError, errno_name, strerror
from manactl.escape import command, link
from manactl.journal.shape import NewerError
from manactl.look.netdevs_of import Found, NetdevNow, Unread
from manactl.look.pairs import Frames
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import Evidence, Holder, OddFile, PortId
from manactl.model.record import StepKind
from manactl.model.value import NONE, Value
from manactl.netstate import diff, link_settings, snapshot
from manactl.netstate.beside import Beside
from manactl.netstate.blueprints import Blueprint
from manactl.netstate.ethtool_settings import Command
from manactl.netstate.left_down import LeftDown
from manactl.netstate.link_settings import LinkSettings
from manactl.netstate.losses import Cause
from manactl.netstate.snapshot import Fact, PortState, Request, describe_all
from manactl.netstate.unmanaged import Unmanaged
from manactl.netstate.uppers import UpperState
from manactl.poll import until
from manactl.wire import rtmsg as rt
from manactl.wire.uverbs import ProofOutcome

SCHEMA = "manactl.plan/1"
READ_BACK = 5.0  # s for the kernel to show what it has acknowledged
CARRIER = 10.0  # s for a link that had carrier to have it again
REPLUG = 5.0  # s for a netdev to come back whose driver is just being bound again
PATH_SEEN = 2.0  # s for frames to show which path they take
PATIENCE = 5.0  # s for link-local addresses and the kernel's own routes to come back


class PairNow(NamedTuple):
    """A port and a synthetic netdev: whether the port is below it, and the frames that have passed
    (None: unknown)."""

    enslaved: bool
    frames: Frames | None


class System(restore.Network, Protocol):
    """The kernel as steps meet it. Ports are looked up again in every call, and so are synthetic
    netdevs, by their VMBus UUID."""

    def boottime(self) -> float: ...
    def netdev(self, port: PortId) -> Found: ...
    def carrier(self, port: PortId) -> bool: ...
    def set_admin(self, port: PortId, up: bool) -> None: ...
    def addresses(self, ifindex: int) -> Sequence[Fact]: ...
    def synthetic(self, uuid: str) -> Found: ...
    def set_synthetic(self, uuid: str, up: bool) -> None: ...
    def synthetic_carrier(self, uuid: str) -> bool: ...
    def vmbus_driver(self, uuid: str) -> str | None: ...
    def open_uio(self) -> None: ...
    def close_uio(self) -> None: ...
    def bind_vmbus(self, uuid: str, driver: str) -> None: ...
    def vmbus_override(self, uuid: str) -> str | None: ...
    def set_vmbus_override(self, uuid: str, driver: str | None) -> None: ...
    def unbind_vmbus(self, uuid: str, driver: str) -> None: ...
    def uio_holders(self, uuid: str) -> tuple[Holder, ...]: ...
    def uio_open(self, uuid: str) -> bool: ...
    def unmanage(self, unmanaged: Unmanaged) -> None: ...
    def give_back(self, unmanaged: Unmanaged) -> bool: ...
    def beside(self) -> tuple[Beside, ...]: ...
    def is_unmanaged(self, unmanaged: Unmanaged) -> bool: ...
    def unsettled(self, unmanaged: Unmanaged) -> tuple[str, ...]: ...
    def boot_files(self) -> tuple[LeftDown, ...]: ...
    def odd_boot_files(self) -> tuple[OddFile, ...]: ...
    def write_boot_files(self, kept: LeftDown) -> None: ...
    def has_boot_files(self, kept: LeftDown) -> bool: ...
    def remove_boot_files(self, kept: LeftDown) -> tuple[str, ...]: ...
    def lift_boot_files(
        self, kept: LeftDown, unmanaged: Unmanaged
    ) -> tuple[bool, tuple[str, ...]]: ...
    def found_again(self, unmanaged: Unmanaged) -> Unmanaged: ...
    def pair_now(self, port: PortId, uuid: str) -> PairNow: ...
    def link_settings(self, port: PortId) -> LinkSettings: ...
    def settings(self, ifindex: int) -> LinkSettings: ...
    def set_ethtool(self, ifindex: int, name: str, command: Command) -> None: ...
    def uppers(self, port: PortId) -> tuple[UpperState, ...]: ...
    def blueprints(self, port: PortId) -> tuple[Blueprint, ...]: ...
    def prove_free(self, port: PortId) -> ProofLike: ...
    def holders(self, port: PortId) -> tuple[Holder, ...]: ...
    def seems_free(self, port: PortId) -> bool: ...
    def in_reset(self, port: PortId) -> bool: ...


class StepFailed(ManactlError):
    """A step could not be done or undone. `taken`: because a raw QP has the vport."""

    exit_code = 4
    kind = "step"

    def __init__(self, message: str, *, taken: bool = False, **more: Any) -> None:
        super().__init__(message, **more)
        self.taken = taken


class StateChanged(StepFailed):
    """What is on a port is not what was written down of it any more; nothing was touched."""

    def __init__(self, changes: Sequence[str]) -> None:
        super().__init__("; ".join(changes))
        self.changes = tuple(changes)


def require_netdev(system: System, port: PortId) -> NetdevNow:
    """The port's netdev, waited for while the device is plugged in again, or cannot be looked at;
    else StepFailed."""
    now = awaited(system, lambda: system.netdev(port))
    if isinstance(now, Unread):
        raise _unread(f"the netdev of port {port}", now)
    if now is None:
        raise StepFailed(
            f"port {port} has no netdev here",
            hint="the device is unplugged, or its netdev is in another network namespace",
        )
    return now


def awaited(system: restore.Network, look: Callable[[], Found]) -> Found:
    """What is found once it is here, at most REPLUG seconds later; else what was found last."""
    found = look()
    if not isinstance(found, NetdevNow):
        until(system, lambda: isinstance(look(), NetdevNow), REPLUG)
        found = look()
    return found


def known(system: restore.Network, look: Callable[[], Found]) -> Found:
    """What is found, which is looked at again for READ_BACK seconds while it cannot be read."""
    found = look()
    if isinstance(found, Unread):
        until(system, lambda: not isinstance(look(), Unread), READ_BACK)
        found = look()
    return found


def _unread(what: str, found: Unread) -> StepFailed:
    """Whether it is gone is not known, so nothing is done as if it were."""
    return StepFailed(
        f"{what} could not be looked at: {found.why}",
        hint="fix the cause (open files, memory), then try again",
        evidence=[Evidence("sysfs", "netdev", errno_name(found.error))],
    )


class Undone(Value):
    """What undoing a step has restored; an empty `residue` means all of it."""

    restored: Restored = Restored()
    facts: Mapping[str, object] = NONE

    @property
    def residue(self) -> tuple[str, ...]:
        return self.restored.residue


class Step(Protocol):
    """One thing that a plan does.

    `title` says what in a few words, `undo_title` what undoing does, and describe() explains it to
    people. `undoes`: there is something to undo; `makes_usable`: until that is done, nothing can be
    put on the port's netdev.
    """

    undoes: ClassVar[bool]
    makes_usable: ClassVar[bool]

    @property
    def kind(self) -> str: ...
    @property
    def port(self) -> PortId: ...
    @property
    def title(self) -> str: ...
    @property
    def undo_title(self) -> str: ...
    def describe(self) -> str: ...
    def do(self, system: System, wait: float) -> Mapping[str, object]: ...
    def undo(self, system: System) -> Undone: ...
    def holds(self, system: System) -> bool: ...
    def to_json(self) -> dict[str, Any]: ...


class KeepState(Value):
    """Remember what refers to the port. Doing it is having written it down; undoing restores.

    What somebody changed meanwhile, as while 100 000 routes were written, is noticed here. Between
    this look and the step that sets the port down there is only its record.
    """

    KIND: ClassVar = StepKind.KEEP_STATE
    undoes: ClassVar[bool] = True
    makes_usable: ClassVar[bool] = False
    state: PortState

    @property
    def kind(self) -> str:
        return self.KIND

    @property
    def port(self) -> PortId:
        return self.state.port

    @property
    def title(self) -> str:
        return step_words.keep_state(self.state.main)

    @property
    def undo_title(self) -> str:
        return step_words.restore(self.state.main)

    def describe(self) -> str:
        return step_words.keep_state_described(self.state.main, tally(self.state))

    def do(self, system: System, wait: float) -> Mapping[str, object]:
        try:
            now = system.capture(self.port, alone=self.state.alone)
        except OSError as error:
            raise StepFailed(
                f"{self.state.main} could not be read again: {strerror(error)}",
                hint="try again in a moment",
            ) from error
        if changed := diff.changes(self.state, now) or diff.renewed(self.state, now):
            raise StateChanged(changed)
        return {}

    def undo(self, system: System) -> Undone:
        require_netdev(system, self.port)
        (undone,) = restore_all([self], system)
        return undone

    def holds(self, system: System) -> bool:
        return True

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "port": snapshot.port_to_json(self.port),
            "kept": tally(self.state),
        }


def restore_all(
    kept: Sequence[KeepState], system: System, prepared: Iterable[Prepared] = ()
) -> list[Undone]:
    """Undo several at a time: what one port lacks may need what is on another."""
    states = [step.state for step in kept]
    found = restore.restore_ports(system, states, PATIENCE, prepared=prepared)
    return [
        Undone(replace(restored, lost=(*restored.lost, *_changed(step.state, system))))
        for step, restored in zip(kept, found, strict=True)
    ]


def _changed(state: PortState, system: System) -> list[Lost]:
    """Settings of the netdev that are not as they were, though it is the same, and those of the
    synthetic netdev above it: not ours to set."""
    now = system.netdev(state.port)
    if isinstance(now, Unread):
        return [Lost(Cause.CHANGED, residue_words.settings_unread(state.main, now.why))]
    if state.link is None or now is None or recreated(state, now):
        found = []  # recreate.set_up() reports of one that was re-created
    else:
        found = _changed_of(state.link, now, lambda: system.link_settings(state.port))
    return [*found, *_changed_above(state, system)]


def _changed_above(state: PortState, system: System) -> list[Lost]:
    above = state.synthetic
    plan = above and next((p for p in state.blueprints if p.ifindex == above.ifindex), None)
    if above is None or plan is None or state.alone or not above.id:
        return []
    now = system.synthetic(above.id)
    if isinstance(now, Unread):
        return [Lost(Cause.CHANGED, residue_words.settings_unread(above.name, now.why))]
    if now is None or now.ifindex != above.ifindex:
        return []
    ifindex = now.ifindex
    return _changed_of(plan.settings, now, lambda: system.settings(ifindex), f"{now.name}: ")


def _changed_of(
    was: LinkSettings, now: NetdevNow, look: Callable[[], LinkSettings], before: str = ""
) -> list[Lost]:
    try:
        settings = look()
    except OSError as error:
        return [Lost(Cause.CHANGED, residue_words.settings_unread(now.name, error.strerror))]
    return [
        Lost(Cause.CHANGED, residue_words.setting_changed(before + change.text))
        for change in link_settings.changed(was, settings, now.ifindex)
    ]


def recreated(state: PortState, now: NetdevNow) -> bool:
    """Whether the port's netdev is another one than the snapshot's, with the kernel's defaults."""
    return state.link is not None and now.ifindex != state.ifindex


class SetAdmin(Value):
    """Set or clear IFF_UP. It outlives manactl, unlike a queue pair: hence the journal.

    `leaves` are autojoin addresses as the kernel's messages: removed before, the kernel leaves
    their groups; by IFF_UP alone it drops the addresses, stays a member and refuses them later.
    `vmbus`: the port is the VF of the synthetic netdev of that UUID. `addresses`: what is sent as
    soon as undoing has set it up, of which nobody asks here what came (addresses_first.py).
    """

    KIND: ClassVar = StepKind.SET_ADMIN
    undoes: ClassVar[bool] = True
    makes_usable: ClassVar[bool] = True
    port: PortId
    name: str
    _: KW_ONLY
    up: bool
    was: bool
    had_carrier: bool
    leaves: tuple[bytes, ...] = ()
    vmbus: str | None = None
    addresses: tuple[Request, ...] = ()

    @property
    def kind(self) -> str:
        return self.KIND

    @property
    def title(self) -> str:
        return step_words.set_admin(self.name, self.up)

    @property
    def undo_title(self) -> str:
        return step_words.set_admin(self.name, self.was)

    def describe(self) -> str:
        return step_words.set_admin_described(self.name, self.up, self.was)

    def do(self, system: System, wait: float) -> Mapping[str, object]:
        now = require_netdev(system, self.port)
        start = system.monotonic()
        _leave(system, self.leaves)
        if now.up is not self.up:
            _set_admin(system, self.port, now.name, self.up)
        # Another program that keeps setting it back must not be waited for longer than asked.
        until(system, lambda: self.holds(system), min(READ_BACK, wait))
        if not self.holds(system):
            raise _set_back(now.name, self.up)
        return {"ms": ms(system.monotonic() - start), "boottime": system.boottime()}

    def undo(self, system: System) -> Undone:
        now = require_netdev(system, self.port)
        start = system.monotonic()
        if now.up is not self.was:
            _set_admin(system, self.port, now.name, self.was)
            _put(system, self.addresses)
        until(system, lambda: require_netdev(system, self.port).up is self.was, READ_BACK)
        if require_netdev(system, self.port).up is not self.was:
            raise StepFailed(f"{now.name} does not stay {up_or_down(self.was)}")
        facts: dict[str, object] = {"ms": ms(system.monotonic() - start), "carrier": None}
        if self.was and self.had_carrier:
            facts["carrier"] = until(system, lambda: system.carrier(self.port), CARRIER)
        return Undone(facts=facts)

    def holds(self, system: System) -> bool:
        now = known(system, lambda: system.netdev(self.port))
        if isinstance(now, Unread):
            raise _unread(self.name, now)
        return now is not None and now.up is self.up

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "port": snapshot.port_to_json(self.port),
            "name": self.name,
            "up": self.up,
            "was": self.was,
            "had_carrier": self.had_carrier,
            **({} if self.vmbus is None else {"vmbus": self.vmbus}),
        }


class SetSynthetic(Value):
    """Set the synthetic netdev above a port down: hv_netvsc would open the port with it.

    It comes after the port's own SetAdmin and is undone before it: then hv_netvsc opens the port
    (netvsc_open()), whose failure it only logs, and SetAdmin finds it open, opens it or fails.
    """

    KIND: ClassVar = StepKind.SET_SYNTHETIC
    undoes: ClassVar[bool] = True
    makes_usable: ClassVar[bool] = True
    port: PortId
    vmbus: str
    name: str
    had_carrier: bool
    leaves: tuple[bytes, ...] = ()
    addresses: tuple[Request, ...] = ()  # as SetAdmin has them

    @property
    def kind(self) -> str:
        return self.KIND

    @property
    def title(self) -> str:
        return step_words.set_admin(self.name, False)

    @property
    def undo_title(self) -> str:
        return step_words.set_admin(self.name, True)

    def describe(self) -> str:
        return step_words.set_synthetic_described(self.name, self.vmbus)

    def do(self, system: System, wait: float) -> Mapping[str, object]:
        now = self._require(system)
        start = system.monotonic()
        _leave(system, self.leaves)
        if now.up:
            self._set(system, now.name, up=False)
        until(system, lambda: self.holds(system), min(READ_BACK, wait))
        if not self.holds(system):
            raise _set_back(now.name, False)
        return {"ms": ms(system.monotonic() - start), "boottime": system.boottime()}

    def undo(self, system: System) -> Undone:
        now = self._require(system)
        start = system.monotonic()
        if not now.up:
            self._set(system, now.name, up=True)
            _put(system, self.addresses)
        until(system, lambda: self._require(system).up, READ_BACK)
        if not self._require(system).up:
            raise StepFailed(f"{now.name} does not stay up")
        facts: dict[str, object] = {"ms": ms(system.monotonic() - start), "carrier": None}
        if self.had_carrier:
            facts["carrier"] = until(system, lambda: system.synthetic_carrier(self.vmbus), CARRIER)
        return Undone(facts=facts)

    def holds(self, system: System) -> bool:
        now = known(system, lambda: system.synthetic(self.vmbus))
        if isinstance(now, Unread):
            raise _unread(self.name, now)
        return now is None or not now.up  # destroyed it is not up, either

    def _require(self, system: System) -> NetdevNow:
        now = awaited(system, lambda: system.synthetic(self.vmbus))
        if isinstance(now, Unread):
            raise _unread(f"{self.name}, the netdev of VMBus device {self.vmbus},", now)
        if now is None:
            raise StepFailed(
                f"{self.name}, the netdev of VMBus device {self.vmbus}, is not here",
                hint=step_words.no_synthetic(self.vmbus),
            )
        return now

    def _set(self, system: System, name: str, *, up: bool) -> None:
        try:
            system.set_synthetic(self.vmbus, up)
        except OSError as error:
            raise StepFailed(
                f"setting {name} {up_or_down(up)} failed: {strerror(error)}",
                evidence=[Evidence("rtnetlink", f"set {up_or_down(up)}", errno_name(error))],
            ) from error

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "port": snapshot.port_to_json(self.port),
            "vmbus": self.vmbus,
            "name": self.name,
            "had_carrier": self.had_carrier,
        }


def prove_path(vf: SetAdmin, system: System) -> Mapping[str, object]:
    """See that the frames of a pair take the VF again, which is up: its counters begin with its
    open, and what the synthetic netdev has sent is on either path. StepFailed when they do not."""
    assert vf.vmbus is not None
    uuid = vf.vmbus
    above = known(system, lambda: system.synthetic(uuid))
    if isinstance(above, Unread):
        raise _unread(f"the data path of {vf.name}", above)
    if above is None or not above.up:
        return {}  # it was down before the claim, too: no frames
    vf_name = require_netdev(system, vf.port).name
    down, up = (command("ip", "link", "set", *link(vf_name), way) for way in ("down", "up"))
    remedy = step_words.take_again(down, up)
    if not until(system, lambda: system.pair_now(vf.port, uuid).enslaved, REPLUG):
        raise StepFailed(
            f"{above.name} goes on without {vf_name}, by the slow synthetic path: hv_netvsc has "
            "not taken it as its VF again",
            hint=f"see the kernel log (hv_netvsc), and {remedy}",
        )
    before = system.pair_now(vf.port, uuid).frames
    until(system, lambda: _passed(system.pair_now(vf.port, uuid).frames), PATH_SEEN)
    after = system.pair_now(vf.port, uuid).frames
    if _passed(after):
        return {"data_path": "vf"}
    if before is not None and after is not None and after.sent > before.sent:
        raise StepFailed(
            f"the frames of {above.name} take the slow synthetic path, although {vf_name} is up",
            hint=remedy,
            evidence=[Evidence("sysfs", "frames on the VF, sent on both", list(after))],
        )
    return {"data_path": None}  # nobody sends: hv_netvsc has asked the host, which has answered


def _passed(frames: Frames | None) -> bool:
    return frames is not None and frames.vf > 0


def _leave(system: System, addresses: Iterable[bytes]) -> None:
    for address in addresses:
        with contextlib.suppress(OSError):  # then it is lost, which release reports
            system.send(Request(rt.RTM_DELADDR, 0, address))


def _put(system: System, addresses: Sequence[Request]) -> None:
    with contextlib.suppress(OSError):  # the next look shows what is there
        if addresses:
            system.send_all(addresses)


def _set_back(name: str, up: bool) -> StepFailed:
    return StepFailed(
        f"{name} does not stay {up_or_down(up)}: another program sets it {up_or_down(not up)}",
        hint=step_words.OTHER_PROGRAM,
        evidence=[Evidence("sysfs", "IFF_UP", not up)],
    )


class ProveFree(Value):
    """Create and destroy a RAW_PACKET queue pair, which succeeds only on a free vport
    (mana_cfg_vport()). It ends with the process at the latest: there is nothing to undo."""

    KIND: ClassVar = StepKind.PROVE_FREE
    undoes: ClassVar[bool] = False
    makes_usable: ClassVar[bool] = False
    port: PortId
    device: str
    rdma_port: int

    @property
    def kind(self) -> str:
        return self.KIND

    @property
    def title(self) -> str:
        return step_words.prove_free(self.device, self.rdma_port)

    @property
    def undo_title(self) -> str:
        return ""

    def describe(self) -> str:
        return step_words.prove_free_described(self.device, self.rdma_port)

    def do(self, system: System, wait: float) -> Mapping[str, object]:
        proof, tries = attempt_proof(system, self.port, wait)
        found: dict[str, object] = {
            "proven": proof.outcome is ProofOutcome.FREE,
            "outcome": str(proof.outcome),
            "message": proof.message,
            "tries": tries,
        }
        if proof.outcome in (ProofOutcome.FREE, ProofOutcome.DENIED):
            return found
        if proof.outcome is ProofOutcome.TAKEN:
            raise self._taken(system, proof, tries)
        raise StepFailed(
            f"could not prove that {self.port} is free: {proof.message}",
            hint=proof.hint,
            evidence=proof.evidence,
        )

    def _taken(self, system: System, proof: ProofLike, tries: int) -> StepFailed:
        found = system.netdev(self.port)
        now = found if isinstance(found, NetdevNow) else None  # the port is taken in any case
        if now is not None and now.up:
            return StepFailed(
                f"another program set {now.name} up again during the claim",
                hint=step_words.OTHER_PROGRAM,
                evidence=[*proof.evidence, Evidence("sysfs", "IFF_UP", True)],
            )
        if kernel_bugs.vport_leaked(system, self.port):
            name = now.name if now else self.port
            return StepFailed(
                f"{name}: {kernel_bugs.LEAKED_VPORT}",
                hint=kernel_bugs.reload_driver(self.port),
                evidence=proof.evidence,
                code="kernel-bug",
            )
        return StepFailed(
            f"the vport of {self.port} is still taken after {tries} attempts: {proof.message}",
            hint="to see its holder: manactl status -v",
            evidence=proof.evidence,
            taken=True,
        )

    def undo(self, system: System) -> Undone:
        return Undone()

    def holds(self, system: System) -> bool:
        return True

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "port": snapshot.port_to_json(self.port),
            "device": self.device,
            "rdma_port": self.rdma_port,
        }


class Plan(Value):
    """The steps in order, and for people what they mean."""

    verb: str
    ports: tuple[PortId, ...]
    steps: tuple[Step, ...]
    _: KW_ONLY
    stops: tuple[str, ...] = ()  # traffic and users that stop
    dropped: tuple[tuple[Sequence[Fact], Mapping[int, str]], ...] = ()  # by the kernel, with names
    restores: tuple[str, ...] = ()  # what release restores
    lost: tuple[str, ...] = ()  # what cannot be restored
    others: tuple[tuple[PortId, str], ...] = ()  # of that, what no snapshot has: whose, and what
    notes: tuple[str, ...] = ()
    waived: tuple[Mapping[str, Any], ...] = ()  # refusals, as JSON has them
    refusals: tuple[Mapping[str, Any], ...] = ()  # not waived: such a plan is not executed
    listeners: tuple[Mapping[str, Any], ...] = ()  # who waits for others at an address that goes

    @property
    def states(self) -> tuple[PortState, ...]:
        return tuple(step.state for step in self.steps if isinstance(step, KeepState))

    @property
    def drops(self) -> tuple[str, ...]:
        """What the kernel drops, in words. Of a full table these take longer than all the rest, so
        they are made when somebody asks for them."""
        described = (describe_all(facts, names) for facts, names in self.dropped)
        return tuple(line for lines in described for line in lines)

    def _others(self) -> list[dict[str, Any]]:
        return [{"port": snapshot.port_to_json(port), "text": text} for port, text in self.others]

    def to_json(self, *, drops: bool = True) -> dict[str, Any]:
        """`drops`: with what the kernel drops, which a journal has in its snapshot. A journal has
        for each port what its snapshot does not tell."""
        return {
            "schema": SCHEMA,
            "verb": self.verb,
            "ports": [snapshot.port_to_json(port) for port in self.ports],
            "steps": [{**step.to_json(), "text": step.describe()} for step in self.steps],
            "stops": list(self.stops),
            **({"drops": list(self.drops)} if drops else {"others": self._others()}),
            "restores": list(self.restores),
            "lost": list(self.lost),
            "notes": list(self.notes),
            "waived": list(self.waived),
            "refusals": list(self.refusals),
            "listeners": list(self.listeners),
        }


def steps_from_json(
    plan: Mapping[str, Any], states: Iterable[Mapping[str, Any]]
) -> tuple[Step, ...]:
    """The steps of a journaled plan. KeyError or ValueError when it is not one."""
    by_port = {}
    for data in states:
        state = PortState.from_json(data)
        by_port[state.port] = state
    return tuple(_step(data, by_port) for data in plan["steps"])


def _step(data: Mapping[str, Any], states: Mapping[PortId, PortState]) -> Step:
    port = snapshot.port_from_json(data["port"])
    if data["kind"] == KeepState.KIND:
        return KeepState(states[port])
    if data["kind"] == SetAdmin.KIND:
        return SetAdmin(
            port,
            data["name"],
            up=data["up"],
            was=data["was"],
            had_carrier=data["had_carrier"],
            vmbus=data.get("vmbus"),
        )
    if data["kind"] == SetSynthetic.KIND:
        return SetSynthetic(port, data["vmbus"], data["name"], data["had_carrier"])
    if data["kind"] == ProveFree.KIND:
        return ProveFree(port, data["device"], data["rdma_port"])
    return _other_step(data)


def _other_step(data: Mapping[str, Any]) -> Step:
    """Steps of modules that rest on this one."""
    if data["kind"] == StepKind.BIND_UIO:
        from manactl.act.uio import BindUio  # noqa: PLC0415

        return BindUio.from_json(data)
    if data["kind"] == StepKind.UNMANAGE:
        from manactl.act.unmanage import Unmanage  # noqa: PLC0415

        return Unmanage.from_json(data)
    if data["kind"] == StepKind.LEAVE_DOWN:
        from manactl.act.persist import LeaveDown  # noqa: PLC0415

        return LeaveDown.from_json(data)
    raise NewerError(f"the step {data['kind']!r}")


def tally(state: PortState) -> str:
    """How much of each kind there is: "2 addresses, 5 routes"."""
    parts = []
    derived = Counter(fact.kind for fact in state.that(snapshot.derived))
    for kind in snapshot.Kind:
        if count := len(state.of(kind)) - derived[kind]:
            parts.append(snapshot.counted(count, kind))
    if state.stacked:
        parts.append(snapshot.counted(len(state.stacked), snapshot.Kind.UPPER))
    return ", ".join(parts) or "nothing"


def _set_admin(system: System, port: PortId, name: str, up: bool) -> None:
    try:
        system.set_admin(port, up)
    except OSError as error:
        # ENODEV is a vport that is taken, up to 6.18, and everywhere a netdev that is detached or
        # has just gone.
        # Where it could not be looked at nobody knows.
        now = system.netdev(port)
        detached = error.errno == errno.ENODEV and not isinstance(now, NetdevNow)
        gone = error.errno == errno.ENODEV and (now is None or system.in_reset(port))
        busy = up and not gone and not detached and error.errno in (errno.EBUSY, errno.ENODEV)
        remedy = kernel_bugs.opening_remedy(error.errno, port) if up else None
        raise StepFailed(
            f"setting {name} {up_or_down(up)} failed: {strerror(error)}",
            hint=step_words.IN_RESET if gone else remedy,
            evidence=[Evidence("rtnetlink", f"set {up_or_down(up)}", errno_name(error))],
            taken=busy,
        ) from error


def ms(seconds: float) -> float:
    """Milliseconds, as journals and documents have them."""
    return round(seconds * 1000, 1)
