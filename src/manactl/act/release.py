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
from manactl.act.audit import Audit
from manactl.act.claim import close_stale, holders_of, need_net_admin
from manactl.act.plan import Plan, SetAdmin, Step, Undone, steps_from_json
from manactl.act.signals import Interruptible
from manactl.act.system import LiveSystem, who
from manactl.act.transition import PutBack
from manactl.decide import kernel_bugs
from manactl.errors import Busy, Denied, ManactlError, NotRestored, UsageError
from manactl.journal import file as journal
from manactl.journal import lock
from manactl.journal.file import Journal, JournalError
from manactl.model.claim import ClaimSummary
from manactl.model.port import Holder, Owner, PortId, Report
from manactl.netstate.snapshot import Kind, port_to_json
from manactl.report import look, resolve


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


def release(wish: Wish) -> Outcome:
    """Put the ports back. Errors of one claim do not keep another from being released; the
    worst is raised in the end."""
    with Audit(wish.verb, who(), wish.words) as audit, wish.signals.told():
        audit.quiet = wish.dry_run
        claims = _claims(wish.state_dir)
        if not wish.dry_run:
            _put_away(wish.state_dir)
        outcome = Outcome()
        chosen = _choose(wish, claims, outcome)
        if not chosen:
            audit.quiet = audit.quiet or not wish.words
            return outcome
        audit.fields["ports"] = [str(one.port) for one in chosen]
        if any(one.same_boot for one in chosen) and not wish.dry_run:
            need_net_admin(wish.verb)
        try:
            _each(wish, chosen, claims, outcome)
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


def _claims(state_dir: Path) -> list[ClaimSummary]:
    try:
        return journal.list_claims(state_dir)
    except PermissionError:
        raise Denied(
            f"{state_dir} is not readable; nothing was touched",
            hint="run it as root, for instance with sudo",
        ) from None


def _each(
    wish: Wish,
    chosen: Sequence[ClaimSummary],
    claims: Sequence[ClaimSummary],
    outcome: Outcome,
) -> None:
    """One journal after the other, each under the locks of all its functions: it has one writer."""
    failures: list[ManactlError] = []
    for path in dict.fromkeys(one.path for one in chosen):
        mine = [one for one in chosen if one.path == path]
        try:
            if wish.dry_run:
                with contextlib.suppress(FileNotFoundError):  # just put away by another manactl
                    _plan(wish, path, [one.port for one in mine], outcome)
                continue
            pcis = {one.port.pci for one in claims if one.path == path}
            with lock.functions(wish.state_dir, pcis, wait=wish.wait or 0.0):
                # Another manactl may have finished while we waited for the lock, and what was
                # under way when it was chosen may be a claim now that stands.
                now = {(one.path, one.port): one for one in _claims(wish.state_dir)}
                still = [now[path, one.port] for one in mine if (path, one.port) in now]
                if wish.recover:
                    still = [one for one in still if one.to_recover]
                if still:
                    _release(wish, path, [one.port for one in still], outcome)
        except ManactlError as error:
            failures.append(error)
    if failures:
        raise _worst(failures)


def _worst(failures: Sequence[ManactlError]) -> ManactlError:
    """Of the codes that can occur here, 5 (not put back) is worse than 6 (not begun)."""
    worst = min(failures, key=lambda error: error.exit_code)
    others = [error.message for error in failures if error is not worst]
    if others:
        worst.message = "\n".join([worst.message, *others])
    return worst


def _choose(wish: Wish, claims: Sequence[ClaimSummary], outcome: Outcome) -> list[ClaimSummary]:
    if wish.recover:
        return [one for one in claims if one.to_recover]
    if wish.everything or not (claims or wish.words):
        return list(claims)
    report = look()
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


def _plan(wish: Wish, path: Path, ports: list[PortId], outcome: Outcome) -> None:
    content = journal.read(path)
    if content.boot_id != journal.read_boot_id():
        note = "claimed before the last boot: only the journal is closed, nothing is changed"
        outcome.plans.append(Plan(wish.verb, content.ports, (), notes=(note,)))
        return
    outcome.plans.append(_planned(wish, content, ports))


def _planned(wish: Wish, content: journal.Content, ports: Sequence[PortId]) -> Plan:
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
        notes += await_free.would_end(ports)
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


def _release(wish: Wish, path: Path, ports: list[PortId], outcome: Outcome) -> None:
    with contextlib.closing(Journal.open(path)) as log:
        content = log.content
        names = _netdevs(content)
        if content.boot_id != journal.read_boot_id():
            left = content.ports
            close_stale(path)
            outcome.ports += [Released(port, names[port], "history") for port in left]
            return
        steps = _steps(content, ports)
        report = look()
        kernel_bugs.refuse_release([p for p in report.ports if p.id.key in _keys(ports)])
        rdma = {(p.id.pci, p.id.port): p.rdma for p in report.ports}
        wish.show(_planned(wish, content, ports))
        with LiveSystem(rdma, holders_of) as system:
            changed = [p for p in ports if any(isinstance(s, SetAdmin) for s in _of(steps, p))]
            with wish.signals.step(f"look whether {', '.join(names[p] for p in ports)} is free"):
                await_free.await_free(
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


def _now_called(system: LiveSystem, port: PortId, names: Mapping[PortId, str]) -> str:
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
