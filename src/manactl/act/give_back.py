"""Giving ports back to the managers that have left them alone since the boot (`claim --persist`).

A claim that stands undoes its own files (persist.py): these are of a claim from before a reboot.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from manactl.act import persist, progress_words
from manactl.act.choose import open_claims
from manactl.act.host import HostSystem
from manactl.act.persist import LeaveDown
from manactl.act.privilege import need_net_admin
from manactl.act.released import Outcome, ReleasedPort, ReleaseResult, Run
from manactl.decide.port_words import odd_file
from manactl.errors import Busy, ManactlError, worst
from manactl.escape import command
from manactl.journal import lock
from manactl.model.port import PortId
from manactl.netstate.left_down import LeftDown

_TAKES_BACK = frozenset(
    {Outcome.NOT_CLAIMED, Outcome.HISTORY, Outcome.RESTORED, Outcome.LEFT_DOWN, Outcome.UNTOUCHED}
)


def give_back(run: Run, named: Collection[tuple[str, int]]) -> None:
    """Give the `named` ports that were released, or not claimed, back to the managers that leave them
    alone since the boot (`claim --persist`); with --all every such port. Others whose journal was
    closed with theirs stay down.

    What this claim has written was undone with it: here are the files of a claim from before a
    reboot. A recovery leaves them, since the boot itself makes one.
    """
    request, result = run.request, run.result
    if request.recover or request.only is not None:
        return
    ports = {
        one.port.key: one
        for one in result.ports
        if one.port.key in named and one.outcome in _TAKES_BACK
    }
    with run.host.system(run.signals.pause) as system:
        for file in system.odd_boot_files():
            run.progress.noted(progress_words.odd_file(odd_file(file)))
        if request.dry_run:
            result.plans += map(persist.plan, _would_give_back(run, system, named))
            return
        kept = _left_down(run, system, None if request.everything else ports)
        if not kept:
            return
        need_net_admin(run.host, request.verb)
        failures: list[ManactlError] = []
        with (
            _locked(run, kept, ports),
            run.signals.step(progress_words.give_back(_netdevs(kept))),
        ):
            still = _left_down(run, system, {one.port.key for one in kept})
            for gone in kept:
                if gone not in still and _has_claim(run, gone.port):
                    run.progress.noted(progress_words.claimed_meanwhile(gone.name))
            for one in still:
                try:
                    _note_given_back(result, persist.give_back(system, one), ports)
                except OSError as error:
                    failures.append(persist.not_given_back(one, error))
    if failures:
        raise worst(failures)


def _note_given_back(
    result: ReleaseResult, one: persist.GivenBack, ports: dict[tuple[str, int], ReleasedPort]
) -> None:
    was = ports.get(one.kept.port.key)
    now = was or ReleasedPort(one.kept.port, one.kept.name, Outcome.NOT_CLAIMED)
    if one.done and now.outcome in {Outcome.NOT_CLAIMED, Outcome.HISTORY}:
        now = replace(now, outcome=Outcome.GIVEN_BACK)
    to = one.kept.unmanaged.manager if one.done else None
    told = {loss.file for loss in now.lost if loss.file}  # by the claim's own undoing
    lost = tuple(loss for loss in one.lost if loss.file not in told)
    now = replace(now, given_back=to, lost=(*now.lost, *lost))
    result.ports[:] = [port for port in result.ports if port is not was] + [now]
    ports[one.kept.port.key] = now


def _netdevs(kept: Iterable[LeftDown]) -> str:
    return ", ".join(dict.fromkeys(one.name for one in kept))


def _would_give_back(
    run: Run, system: HostSystem, named: Collection[tuple[str, int]]
) -> list[LeftDown]:
    """For a dry run: what would be left down at boot still, once what is planned was done."""
    plans = run.result.plans
    planned = {port.key for plan in plans for port in plan.ports}
    ports = {one.port.key for one in run.result.ports if one.outcome in _TAKES_BACK} | planned
    steps = [step for plan in plans for step in plan.steps]
    removed = [file for step in steps if isinstance(step, LeaveDown) for file in step.files]
    return [
        one
        for one in system.boot_files()
        if (one.port.key in ports and one.port.key in named)
        or (run.request.everything and not _has_claim(run, one.port))
        if not set(LeaveDown(one).files).issubset(removed)
    ]


@contextlib.contextmanager
def _locked(
    run: Run, kept: Sequence[LeftDown], ports: Mapping[tuple[str, int], ReleasedPort]
) -> Iterator[None]:
    """Under the locks of these ports, signals are ignored: else it would be said that nothing was
    changed. While the locks are waited for nothing is half done."""
    pcis = {one.port.pci for one in kept}
    run.signals.listen()
    try:
        with contextlib.ExitStack() as stack:
            try:
                wait = run.request.wait or 0.0
                stack.enter_context(lock.functions(run.request.state_dir, pcis, wait=wait))
            except Busy as busy:
                raise _still_left_down(kept, ports, busy) from busy
            run.signals.ignore()
            yield
    finally:
        run.signals.ignore()


def _still_left_down(
    kept: Sequence[LeftDown], ports: Mapping[tuple[str, int], ReleasedPort], busy: Busy
) -> Busy:
    """Where another manactl is at work: with what this one has done before, if it has."""
    mine = [ports[one.port.key] for one in kept if one.port.key in ports]
    done = dict.fromkeys(one.netdev for one in mine if one.outcome is not Outcome.NOT_CLAIMED)
    if not done:
        return busy
    files = ", ".join(file for one in kept for file in LeaveDown(one).files)
    return Busy(
        f"{', '.join(done)} {'was' if len(done) == 1 else 'were'} released, but not given back: "
        f"{busy.story}. What leaves {_netdevs(kept)} down at boot remains: {files}",
        hint=f"when it is done: `{command('manactl', 'release', names=done)}` (--wait SECONDS waits for it)",
        evidence=busy.evidence,
        code=busy.code,
    )


def _left_down(
    run: Run, system: HostSystem, ports: Collection[tuple[str, int]] | None
) -> list[LeftDown]:
    """What is left down at boot of these ports, or of all: but what a claim has, or may have."""
    return [
        one
        for one in system.boot_files()
        if (ports is None or one.port.key in ports) and not _has_claim(run, one.port)
    ]


def _has_claim(run: Run, port: PortId) -> bool:
    """Whether a claim of the port is open still, or may be: its journal cannot be read."""
    claims, unreadable = open_claims(run.request.state_dir, run.host)
    return any(claim.port.key == port.key for claim in claims) or any(
        bad.concerns(port.pci) for bad in unreadable
    )
