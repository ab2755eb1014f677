"""A release or a recovery from the words of the command line to the closed journal.

The same for a claim that stands and for one that died on the way: what its journal says was
begun is undone, newest first, and compared with what was there before. They differ in what they
choose: `release` what it is told, `recover` all that was interrupted and nothing that stands.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from manactl.act import await_free, transition
from manactl.act import terminate as ending
from manactl.act.claim import close_stale, need_net_admin
from manactl.act.host import Host, HostSystem
from manactl.act.plan import Plan, SetAdmin, Step, Undone, steps_from_json
from manactl.act.signals import Interruptible, StopRequested
from manactl.act.transition import PutBack
from manactl.decide import kernel_bugs
from manactl.errors import (
    Busy,
    Denied,
    Interrupted,
    ManactlError,
    NotRestored,
    Refused,
    RolledBack,
    Unsupported,
    UsageError,
)
from manactl.journal import file as journal
from manactl.journal import lock
from manactl.journal.file import Journal, JournalError
from manactl.model.claim import ClaimSummary
from manactl.model.port import Holder, Owner, PortId, Report
from manactl.netstate.snapshot import Kind, port_to_json
from manactl.report import resolve


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked. `wait`: how long a holder is waited for; only when given, a lock too.

    `recover`: everything that was interrupted, whatever `words` and `everything` say.
    `terminate`: end holders. `say` hears what is waited for, `show` gets each plan before
    anything is done.
    """

    state_dir: Path
    signals: Interruptible
    words: Sequence[str] = ()
    everything: bool = False
    dry_run: bool = False
    wait: float | None = None
    recover: bool = False
    terminate: bool = False
    say: Callable[[str], None] = lambda line: None
    show: Callable[[Plan], None] = lambda plan: None

    @property
    def verb(self) -> str:
        return "recover" if self.recover else "release"


@dataclass(frozen=True, slots=True)
class Released:
    """One port that is back, or needed nothing. `outcome`: restored, left-down, history,
    not-claimed."""

    port: PortId
    netdev: str
    outcome: str
    recovered: bool = False
    counts: Mapping[Kind, int] = field(default_factory=dict)
    expired: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    up_ms: float | None = None
    carrier: bool | None = None
    down_for_s: float | None = None


@dataclass(slots=True)
class Outcome:
    """What a release has come to. With a dry run, the plan instead."""

    ports: list[Released] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    terminated: list[Holder] = field(default_factory=list)


def release(wish: Wish, host: Host) -> Outcome:
    """Put the ports back. Errors of one claim do not keep another from being released; the
    worst is raised in the end."""
    with host.audit(wish.verb, wish.words) as audit, wish.signals.told():
        audit.quiet = wish.dry_run
        claims, unreadable = _claims(wish.state_dir, host)
        if not wish.dry_run:
            _put_away(wish.state_dir)
        outcome = Outcome()
        chosen = _choose(wish, host, claims, outcome)
        failures = _block(wish, chosen, unreadable, outcome)
        if not chosen and failures:
            raise _worst(failures)
        if not chosen:
            audit.quiet = audit.quiet or not wish.words
            return outcome
        audit.fields["ports"] = [str(one.port) for one in chosen]
        if any(one.same_boot for one in chosen) and not wish.dry_run:
            need_net_admin(host, wish.verb)
        try:
            _each(wish, host, chosen, claims, outcome, failures)
        finally:
            audit.fields["terminated"] = [one.pid for one in outcome.terminated] or None
        return outcome


def _put_away(state_dir: Path) -> None:
    """Move journals to the history whose release died when its last port was back already."""
    for content in journal.finished(state_dir):
        pcis = {port["pci"] for port in content.header["ports"]}
        # A living release in that same moment has the lock, and puts its journal away itself.
        with contextlib.suppress(Busy), lock.functions(state_dir, pcis):
            if not content.path.exists():
                continue
            with Journal.open(content.path) as log:
                failed = transition.close(log, "released", already=content.phase == "closed")
            if failed:
                raise NotRestored(
                    f"the port is back, but its journal {content.path} cannot be closed: {failed}",
                    hint="mend the cause, then `manactl recover` tries again",
                    code="journal",
                )


def _block(
    wish: Wish,
    chosen: list[ClaimSummary],
    unreadable: Sequence[journal.UnreadableJournal],
    outcome: Outcome,
) -> list[ManactlError]:
    """The errors of the journals that cannot be read, of the named ports alone where there are
    any. What else is on their functions is taken out of `chosen` and `outcome`."""
    pcis = {claim.port.pci for claim in chosen} | {done.port.pci for done in outcome.ports}
    blocked = {pci for pci in pcis if any(bad.concerns(pci) for bad in unreadable)}
    chosen[:] = [claim for claim in chosen if claim.port.pci not in blocked]
    outcome.ports[:] = [done for done in outcome.ports if done.port.pci not in blocked]
    return [bad.error for bad in unreadable if not wish.words or any(map(bad.concerns, blocked))]


def _claims(state_dir: Path, host: Host) -> journal.Claims:
    try:
        return journal.list_claims(state_dir, host.boot_id())
    except PermissionError:
        raise Denied(
            f"{state_dir} is not readable; nothing was touched",
            hint="run it as root, for instance with sudo",
        ) from None


def _each(  # noqa: PLR0917
    wish: Wish,
    host: Host,
    chosen: Sequence[ClaimSummary],
    claims: Sequence[ClaimSummary],
    outcome: Outcome,
    failures: list[ManactlError],
) -> None:
    """One journal after the other, each under the locks of all its functions: it has one writer."""
    for path in dict.fromkeys(one.path for one in chosen):
        mine = [one for one in chosen if one.path == path]
        try:
            wish.signals.listen()
            if wish.dry_run:
                with contextlib.suppress(FileNotFoundError):  # just put away by another manactl
                    _plan(wish, host, path, [one.port for one in mine], outcome)
                continue
            pcis = {one.port.pci for one in claims if one.path == path}
            with lock.functions(wish.state_dir, pcis, wait=wish.wait or 0.0):
                # Another manactl may have finished while we waited for the lock, and what was
                # under way when it was chosen may be a claim now that stands.
                now = {(one.path, one.port): one for one in _claims(wish.state_dir, host).claims}
                still = [now[path, one.port] for one in mine if (path, one.port) in now]
                if wish.recover:
                    still = [one for one in still if one.to_recover]
                if still:
                    _release(wish, host, path, [one.port for one in still], outcome)
        except StopRequested as stop:
            failures.append(_interrupted(stop, outcome))
            break
        except ManactlError as error:
            failures.append(error)
    if failures:
        raise _worst(failures)


def _interrupted(stop: StopRequested, outcome: Outcome) -> Interrupted:
    """What had been done when the signal came; all the rest is as it was."""
    back = [one.netdev for one in outcome.ports if one.outcome != "not-claimed"]
    done = [f"SIGTERM was sent to {ending.named(outcome.terminated)}"] * bool(outcome.terminated)
    done += [f"{', '.join(back)} {'was' if len(back) == 1 else 'were'} released"] * bool(back)
    rest = "no other port" if back else "no port"
    changed = f"{rest} was changed" if done else "nothing was changed"
    return Interrupted("; ".join([f"interrupted by {stop.name}", *done, changed]))


# Worst first: what is not as it was, then what was refused or not begun.
_WORST = (NotRestored, RolledBack, Refused, Interrupted, Busy, Denied, Unsupported, UsageError)


def _worst(failures: Sequence[ManactlError]) -> ManactlError:
    """The failure whose code counts, with the messages of the others."""
    rank = {kind.exit_code: number for number, kind in enumerate(_WORST)}
    worst = min(failures, key=lambda error: rank.get(error.exit_code, -1))
    others = [error.message for error in failures if error is not worst]
    if others:
        worst.message = "\n".join([worst.message, *others])
    return worst


def _choose(
    wish: Wish, host: Host, claims: Sequence[ClaimSummary], outcome: Outcome
) -> list[ClaimSummary]:
    if wish.recover:
        return [one for one in claims if one.to_recover]
    if wish.everything or not (claims or wish.words):
        return list(claims)
    report = host.look()
    if not wish.words:
        if len({one.path for one in claims}) > 1:
            listed = ", ".join(_label(one.port, report) for one in claims)
            raise UsageError(
                f"several claims: {listed}", hint="name the ports to release, or say --all"
            )
        return list(claims)
    chosen: dict[PortId, ClaimSummary] = {}
    for word in wish.words:
        mine = [one for one in claims if word.lower() in _names(one.port)]
        if not mine:
            ids = {(p.id.pci, p.id.port): p for p in resolve(report, [word])}
            mine = [one for one in claims if (one.port.pci, one.port.port) in ids]
            done = {(one.port.pci, one.port.port) for one in mine}
            for where, port in ids.items():
                if where not in done:
                    outcome.ports.append(Released(port.id, port.label, "not-claimed"))
        chosen.update({one.port: one for one in mine})
    return list(chosen.values())


def _names(port: PortId) -> tuple[str | None, ...]:
    """The words that name a port also when its netdev is gone."""
    return str(port), port.permanent_mac


def _label(port: PortId, report: Report) -> str:
    for one in report.ports:
        if (one.id.pci, one.id.port) == (port.pci, port.port):
            return one.label
    return str(port)


def _steps(content: journal.Content, ports: Sequence[PortId]) -> list[Step]:
    """The steps of these ports that were begun; JournalError when they make no sense."""
    begun = {r.get("step") for r in content.records if r["event"] == "doing"}
    try:
        steps = steps_from_json(content.header["plan"], content.header["snapshot"])
    except (KeyError, ValueError, TypeError) as error:
        raise JournalError(
            f"journal {content.path}: its plan cannot be read ({error}); nothing was changed",
            code="journal",
        ) from error
    return [step for n, step in enumerate(steps) if n in begun and step.port in ports]


def _plan(wish: Wish, host: Host, path: Path, ports: list[PortId], outcome: Outcome) -> None:
    content = journal.salvaged(path, host.boot_id()) or journal.read(path)
    if content.boot_id != host.boot_id():
        note = "claimed before the last boot: only the journal is closed, nothing is changed"
        outcome.plans.append(Plan(wish.verb, content.ports, (), notes=(note,)))
        return
    outcome.plans.append(_planned(wish, host, content, ports))


def _planned(wish: Wish, host: Host, content: journal.Content, ports: Sequence[PortId]) -> Plan:
    steps = _steps(content, ports)
    names = _netdevs(content)
    restores = []
    for step in reversed(steps):
        if isinstance(step, SetAdmin) and step.was:
            restores.append(f"{step.name} set up, its carrier awaited")
    plan = content.header["plan"]
    restores += plan.get("restores", []) if steps else []
    notes = [
        f"{names[p]} was down before the claim and stays down"
        for p in ports
        if not any(isinstance(step, SetAdmin) for step in steps if step.port == p)
    ]
    if wish.terminate and wish.dry_run:
        notes += await_free.would_end(host, ports)
    return Plan(
        wish.verb,
        tuple(ports),
        tuple(reversed(steps)),
        restores=tuple(dict.fromkeys(restores)),
        lost=tuple(plan.get("lost", [])) if steps else (),
        notes=tuple(notes),
    )


def _keys(ports: Sequence[PortId]) -> set[tuple[str, int]]:
    return {(port.pci, port.port) for port in ports}


def _netdevs(content: journal.Content) -> dict[PortId, str]:
    listed = content.header["ports"]
    return {PortId(p["pci"], p["port"], p["permanent_mac"]): p["netdev"] for p in listed}


def _release(wish: Wish, host: Host, path: Path, ports: list[PortId], outcome: Outcome) -> None:
    if journal.salvaged(path, host.boot_id()):
        close_stale(path)
        outcome.ports += [Released(port, str(port), "history") for port in ports]
        return
    with contextlib.closing(Journal.open(path)) as log:
        content = log.content
        names = _netdevs(content)
        if content.boot_id != host.boot_id():
            left = content.ports
            close_stale(path)
            outcome.ports += [Released(port, names[port], "history") for port in left]
            return
        steps = _steps(content, ports)
        report = host.look()
        kernel_bugs.refuse_release([p for p in report.ports if p.id.key in _keys(ports)])
        rdma = {(p.id.pci, p.id.port): p.rdma for p in report.ports}
        wish.show(_planned(wish, host, content, ports))
        with host.system(rdma, wish.signals.pause) as system:
            changed = [p for p in ports if any(isinstance(s, SetAdmin) for s in _of(steps, p))]
            with wish.signals.step(f"look whether {', '.join(names[p] for p in ports)} is free"):
                await_free.await_free(
                    host,
                    system,
                    [port for port in ports if _of(steps, port)],
                    {(p.id.pci, p.id.port) for p in report.ports if p.owner is Owner.FREE},
                    outcome.terminated,
                    wait=wish.wait,
                    terminate=wish.terminate,
                    say=wish.say,
                )
            down_for = {p: _down_for(content, steps, p, system.boottime()) for p in ports}
            last = set(content.ports) <= set(ports)
            wish.signals.ignore()
            back = transition.release(steps, system, log, ports, last=last, signals=wish.signals)
            labels = ", ".join(_now_called(system, port, names) for port in ports)
            if not back.clean:
                raise transition.not_restored(f"{labels} could not be put back fully.", back)
            for port in ports:
                name = _now_called(system, port, names)
                one = _released(port, name, back, changed=port in changed)
                recovered = content.phase_of(port) == "interrupted"
                outcome.ports.append(replace(one, recovered=recovered, down_for_s=down_for[port]))


def _of(steps: Sequence[Step], port: PortId) -> list[Step]:
    return [step for step in steps if step.port == port]


def _now_called(system: HostSystem, port: PortId, names: Mapping[PortId, str]) -> str:
    now = system.netdev(port)
    return names[port] if now is None else now.name


def _down_for(
    content: journal.Content, steps: Sequence[Step], port: PortId, now: float
) -> float | None:
    """Seconds since the netdev was set down, by the record of it."""
    number = next(
        (r["boottime"] for r in content.records if _is_down(r, content, port)),
        None,
    )
    return None if number is None else round(now - float(number), 1)


def _is_down(record: Mapping[str, Any], content: journal.Content, port: PortId) -> bool:
    if record["event"] != "done" or record.get("kind") != "set-admin":
        return False
    step = content.header["plan"]["steps"][record["step"]]
    return bool(step["port"]["pci"] == port.pci and step["port"]["port"] == port.port)


def _released(port: PortId, name: str, back: PutBack, *, changed: bool) -> Released:
    undone: list[Undone] = back.undone.get(port, [])
    counts: dict[Kind, int] = {}
    for one in undone:
        counts.update(one.restored.counts)
    facts: dict[str, Any] = {}
    for one in undone:
        facts.update(one.facts)
    return Released(
        port,
        name,
        "restored" if changed else "left-down",
        counts=counts,
        expired=tuple(text for one in undone for text in one.restored.expired),
        extra=tuple(text for one in undone for text in one.restored.extra),
        up_ms=facts.get("ms"),
        carrier=facts.get("carrier"),
    )


def document(outcome: Outcome, verb: str = "release") -> dict[str, object]:
    """`manactl.release/1`, or with the same keys `manactl.recover/1`."""
    return {
        "schema": f"manactl.{verb}/1",
        "time": journal.stamp(),
        "ports": [
            {
                "netdev": one.netdev,
                **port_to_json(one.port),
                "outcome": one.outcome,
                "recovered": one.recovered,
                "restored": {kind.plural: count for kind, count in one.counts.items()},
                "expired": list(one.expired),
                "extra": list(one.extra),
                "carrier": one.carrier,
                "up_ms": one.up_ms,
                "down_for_s": one.down_for_s,
            }
            for one in outcome.ports
        ],
        "terminated": [{"pid": one.pid, "comm": one.comm} for one in outcome.terminated],
    }
