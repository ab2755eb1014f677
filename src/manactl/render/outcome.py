"""What claim, release and recover have come to, for people: last, and with the next command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from manactl.act.claim import ClaimResult
from manactl.act.released import Outcome, ReleasedPort, ReleaseResult
from manactl.act.uio import BindUio
from manactl.decide import port_words
from manactl.escape import command, link
from manactl.model.port import PortStatus
from manactl.model.record import Mode
from manactl.netstate.losses import Cause
from manactl.netstate.members import Member
from manactl.netstate.snapshot import counted

DRY_RUN = "Nothing was touched (dry run)."
_WITH_COMMAND = " It is of a command that manactl runs, and is released when that ends."
# What it is called, where it is no loss.
_LOST = {
    Cause.TAKEN_OVER: "settled",
    Cause.MANAGER: "not done",
    Cause.REMOVED: "left out",
}


def claim_lines(result: ClaimResult, *, dry_run: bool, command_follows: bool = False) -> list[str]:
    lines = [
        f"{port.label} is claimed already, since {summary.claim.since:%Y-%m-%d %H:%M:%S} UTC."
        + (_goes_back([port.label], by) if (by := summary.claim.confirm_by) else "")
        + (_WITH_COMMAND if summary.claim.mode == Mode.EXEC and not summary.forsaken else "")
        for port, summary in result.already
    ]
    if dry_run:
        return [*lines, DRY_RUN]
    lines += [_claimed(result, port) for port in result.ports]
    deaf = [line for port in result.ports for line in _deaf(result, port)]
    if command_follows:
        return [*lines, *deaf]
    labels = [port.label for port in (*result.ports, *(p for p, _ in result.already))]
    lines[-1] += f" When done: {command('manactl', 'release', names=labels)}"
    if result.persist:
        lines += [_at_boot(result, port) for port in result.ports]
    if result.confirm_by is not None:
        lines.append(_goes_back([port.label for port in result.ports], result.confirm_by).strip())
    return [*lines, *deaf]


def _at_boot(result: ClaimResult, port: PortStatus) -> str:
    if result.left_down_at_boot(port.id):
        return f"{port.label} is left down at every boot, too, until it is released."
    return (
        f"Nothing was written for the boot (--persist): no network manager could be told to leave "
        f"{port.label} down."
    )


def _goes_back(labels: Sequence[str], when: datetime) -> str:
    return (
        f" Not confirmed yet: it is released automatically at {when:%H:%M:%S} UTC. To keep it: "
        f"{command('manactl', 'confirm', names=labels)}"
    )


def _claimed(result: ClaimResult, port: PortStatus) -> str:
    where = f"{port.rdma.device} port {port.rdma.port}" if port.rdma else str(port.id)
    how = _of_pair(result, port)
    if result.proven(port.id):
        return f"{port.label} is claimed{how}: its vport is free for raw QPs on {where}, proven."
    return (
        f"{port.label} is claimed{how}, but not proven: without CAP_NET_RAW no test QP could be "
        f"created on {where}."
    )


def _of_pair(result: ClaimResult, port: PortStatus) -> str:
    """What became of the synthetic netdev."""
    state = result.states.get(port.id)
    if state is None or port.pair is None:
        return ""
    if BindUio.KIND in result.facts.get(port.id, {}):
        return (
            f" ({port.pair.netdev} is gone until release, its VMBus device is uio_hv_generic's: "
            "--synthetic=uio)"
        )
    if state.alone:
        return f" ({port.pair.netdev} stays up on the synthetic path: --synthetic=keep)"
    return f" ({port.pair.netdev} and its VF {state.ifname} are down: --synthetic=down)"


def _deaf(result: ClaimResult, port: PortStatus) -> list[str]:
    """What a raw QP on a pair does not get, unless DPDK's netvsc PMD has the synthetic netdev."""
    if port.pair is None or port.netdev is None or BindUio.KIND in result.facts.get(port.id, {}):
        return []
    said = port_words.deaf(port.netdev.name, port.pair.netdev)
    return [f"{said[0].upper()}{said[1:]}."]


def release_lines(result: ReleaseResult, *, verb: str, dry_run: bool) -> list[str]:
    if not (result.ports or result.plans):
        return ["nothing to recover" if verb == "recover" else "nothing is claimed"]
    lines = [line for port in result.ports for line in _released(port)]
    return [*lines, DRY_RUN] if dry_run else lines


def own_release_lines(result: ReleaseResult, ports: Sequence[PortStatus]) -> list[str]:
    """The end of a claim that had a command."""
    lines = release_lines(result, verb="release", dry_run=False)
    if result.ports:
        return lines
    names = ", ".join(port.label for port in ports)
    return [f"{names}: somebody else has released the claim"]


def _released(port: ReleasedPort) -> Iterator[str]:
    yield f"{port.netdev}{_outcome(port)}"
    if port.given_back is not None and port.outcome is not Outcome.GIVEN_BACK:
        yield f"  it was left down since the boot: {port.given_back} configures it, at boot, too"
    for text in port.residue:
        yield f"  not restored: {text}"
    for text in port.expired:
        yield f"  its lifetime ended meanwhile: {text}"
    for text in port.advertised:
        yield f"  comes with the next router advertisement: {text}"
    for loss in port.lost:
        yield f"  {_LOST.get(loss.cause, 'cannot be restored')}: {loss.text}"
    if port.settling is not None:
        yield f"  {port.netdev} {_settles(port.settling)}"
        if then := activation(port.netdev, port.settling):
            yield f"  when it does, to send by it as before: {then}"
    for text in port.extra:
        yield f"  added during the claim, kept; to remove: {text}"


def activation(netdev: str, member: Member) -> str | None:
    """The command that makes the port the active slave that it was, once its bond lets it."""
    if not member.active:
        return None
    return command(
        "ip", "link", "set", *link(member.master), "type", "bond", "active_slave", netdev
    )


_IN_BOND = {
    "negotiating": "waits for its LACP partner; {name} sends by it",
    "updelay": "waits for the updelay of {name}, which uses it",
    "unanswered": "waits for an answer to the ARP probes of {name}, which uses it then",
    "down": "is not up yet for {name}, which uses it when it is",
    "backup": "is in {name} again, not as the active slave",
}


def _settles(member: Member) -> str:
    how = "" if member.within is None else f" in up to {member.within:.0f} s"
    if member.kind == "bond":
        return f"{_IN_BOND[member.state].format(name=member.master)}{how}"
    return f"is {member.state}; {member.master} forwards{how or ' when its STP says so'}"


def _outcome(port: ReleasedPort) -> str:
    how = "recovered" if port.recovered else "released"
    rest = "" if port.residue else "; nothing is missing"
    match port.outcome:
        case Outcome.NOT_CLAIMED:
            words = " is not claimed: nothing to do"
        case Outcome.GIVEN_BACK:
            words = (
                f" is not claimed, and was left down since the boot: {port.given_back} configures "
                "it again, at boot, too"
            )
        case Outcome.HISTORY:
            words = (
                ": claimed before the last boot; the boot configuration has taken over, the "
                "journal is closed and nothing was changed"
            )
        case Outcome.ACCEPTED:
            words = f" is accepted as it is: its claim is closed, and nothing was set{rest}"
        case Outcome.RESIDUE:
            words = f" would be accepted as it is{rest}"
        case Outcome.UNTOUCHED:
            words = f" {how}: it had not been set down yet, nothing was changed"
        case Outcome.LEFT_DOWN:
            words = f" {how}: it was down before the claim and is left as it is"
        case Outcome.RESTORED:
            words = f" {how}: {_restored(port)}"
    return words


def _restored(port: ReleasedPort) -> str:
    kinds = [counted(count, kind) for kind, count in port.counts.items()]
    back = ", ".join(kinds) + " restored" if kinds else "nothing was missing"
    carrier = ", no carrier yet" if port.carrier is False else ""
    path = ", its traffic takes the VF" if port.data_path == "vf" else ""
    gap = "" if port.down_for_s is None else f" (was down for {port.down_for_s} s)"
    rest = "all else " if port.lost else ""
    state = f"up{carrier}{path}{gap}" if port.up else "down, as it was before the claim"
    if port.lowered is not None:
        state = f"its VF is up{carrier}{gap}, {port.lowered} is down"
    return f"{state}, {back}; {rest}verified against the snapshot"
