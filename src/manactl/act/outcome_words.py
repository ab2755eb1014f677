"""What came of a claim or a release, in words: parts of the messages that say how it ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from manactl.escape import called, command
from manactl.model.port import Holder

SET_UP_AGAIN = "something has set it up again since"


def not_on_uio(name: str | None) -> str:
    return f"uio_hv_generic no longer has the VMBus device of {name}"


def synthetic_is_down(name: str) -> str:
    return f"its synthetic netdev {name}, which --synthetic=keep had left up, is down"


def named(holders: Sequence[Holder]) -> str:
    """ " (pid 4211 dpdk-testpmd, ...)", or nothing when none is known."""
    words = [f"pid {holder.pid} {called(holder.comm)}" for holder in holders]
    return f" ({', '.join(words)})" if words else ""


def interrupted(signal: str) -> str:
    return f"interrupted by {signal}"


# --- residue -------------------------------------------------------------------------------


def items(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def not_restored(residue: Sequence[str], back: Sequence[str], log_failed: str | None) -> list[str]:
    """What is not as it was, line by line. `back`: netdevs that have everything again."""
    lines = ["Not restored:", *items(residue)] if residue else []
    if back:
        lines.append(f"All of {', '.join(back)} is restored and verified.")
    if log_failed:
        lines.append(f"The journal could not be written: {log_failed}.")
    if not residue:
        lines.append("What was on the port is restored and verified.")
    return lines


def restored(advertised: Iterable[str], lost: Sequence[str]) -> list[str]:
    """What is as it was after a failed claim, and what comes by itself or cannot be restored."""
    return [
        f"{'All else' if lost else 'Everything'} is restored and verified.",
        *(f"  comes with the next router advertisement: {one}" for one in advertised),
        *(f"  cannot be restored: {one}" for one in lost),
    ]


RECOVER_COMMAND = "manactl recover"


def again(way: str) -> str:
    """The end of a hint: what tries it once more. `way`: the command."""
    return f"the journal stays open: fix the cause, then `{way}` tries again"


def acceptance(ports: Iterable[str]) -> str:
    """The end of a hint: what to do about residue that stays."""
    return f"or, {acceptance_alone(ports)}"


def acceptance_alone(ports: Iterable[str]) -> str:
    words = [word for port in ports for word in ("--accept", port)]
    return f"when it cannot be fixed: {command('manactl', 'recover', *words)}"


# --- release, port by port -----------------------------------------------------------------


def not_released(ports: str) -> str:
    return f"{ports}: not released"


def not_waited_for(ports: str) -> str:
    return f"{ports}: released, but not waited for"


LOOK = "then look with `manactl status`"
RECOVER = "then `manactl recover` tries again: the journal stays open"
RELEASE = "then `manactl release` tries again"
BOOT_NOT_LOOKED_AT = "what leaves ports down at boot was not looked at to its end"


def stale_closed(journal: str) -> str:
    return f"{journal}, of an earlier boot, was closed"


def put_away(journal: str) -> str:
    return f"{journal}, with nothing left to undo, was closed"


def interrupted_having(signal: str, done: Sequence[str]) -> str:
    """`done`: what was done before it all the same, in sentences."""
    rest = "no port was changed" if done else "nothing was changed"
    return "; ".join([interrupted(signal), *done, rest])


NOT_CLOSED = "the journals of what is released were not closed"


def not_clean(names: str, *, residue: bool) -> str:
    return (
        f"{names}: {'not fully restored' if residue else 'restored, but its journal is still open'}"
    )


def released_before(names: Sequence[str]) -> str:
    """What is said in place of "nothing was changed" by what comes after all releases."""
    return f"{_were(names, 'released before')}, and no port is given back"


def interrupted_after(
    signal: str, terminated: str | None, names: Sequence[str], *, accepted: bool
) -> str:
    """What had been done when the signal came; all the rest is as it was."""
    done = [] if terminated is None else [f"SIGTERM was sent to {terminated}"]
    done += [_were(names, "accepted" if accepted else "released")] if names else []
    changed = f"{'no other port' if names else 'no port'} was changed" if done else NOTHING
    return "; ".join([interrupted(signal), *done, changed])


NOTHING = "nothing was changed"


def interrupted_confirming(signal: str, names: Sequence[str]) -> str:
    """A signal between two claims leaves the first confirmed, and the other as it is."""
    done = [f"confirmed: {', '.join(names)}"] if names else []
    left = "no other claim was changed" if names else NOTHING
    return "; ".join([interrupted(signal), *done, left])


def _were(names: Sequence[str], done: str) -> str:
    return f"{', '.join(names)} {'was' if len(names) == 1 else 'were'} {done}"


# --- holders -------------------------------------------------------------------------------


def end_or_wait(names: Iterable[str], holders: Sequence[Holder]) -> str:
    """What to do about the holders of these ports or synthetic netdevs, of which none may be seen."""
    unseen = "its holder is not visible from here: it may be in another pid namespace; "
    way = command("manactl", "release", "--wait", "60", names=names)
    return f"{'' if holders else unseen}end the holder and release again, or wait for it: {way}"


def end_yourself(pids: Iterable[int]) -> str:
    """After SIGTERM was not enough."""
    numbers = " ".join(map(str, pids))
    return (
        f"wait longer (--wait SECONDS), or end it yourself: kill -9 {numbers}. manactl never does"
    )


def if_service_restarts(stop: str) -> str:
    return f"if its service starts it again: {stop}"


def only_signalled(holders: str) -> str:
    return f"SIGTERM was sent to {holders}, and no port was changed"


def not_enough(story: str, holders: str, within: float, *, untouched: bool) -> str:
    rest = "; no port was changed" if untouched else ""
    return f"{story}{rest}\nSIGTERM was sent to {holders} and {within:g} s were waited for"


def holds(holders: str) -> str:
    return f"a raw QP still has its vport{holders}"


def may_hold(holders: str) -> str:
    return f"a raw QP may have its vport{holders}"


def release_instead(release: str) -> str:
    return f"release it instead: {release}"


def move_back_first(netns: str, release: str) -> str:
    return f"its netdev is in the network namespace {netns}: move it back, then {release}"


# --- a claim of another network namespace --------------------------------------------------


def namespace(name: str | int | None) -> str:
    return f"network namespace {name}"


def namespace_gone(inode: int | None) -> str:
    return f"network namespace {inode}, which is gone, or not visible here"


def of_namespace(names: str, called: str, facts: Sequence[str], shown: int) -> str:
    """A claim that is not undone here. `facts`: what it had written down, of which `shown` are."""
    lines = [
        f"{names}: claimed in the {called}; nothing of the claim is written into another one, and "
        "nothing was changed"
    ]
    if facts:
        lines.append("Not restored, what belonged to that namespace:")
        lines += items(facts[:shown])
    if len(facts) > shown:
        lines.append(f"  and {len(facts) - shown} more, all in the journal")
    return "\n".join(lines)


def set_up_by_hand(ports: Iterable[str]) -> str:
    return (
        "the journal stays open; set the port up here by hand where it is needed, and "
        f"{acceptance_alone(ports)}"
    )


def run_there(again: str, back: str) -> str:
    return f"run it there: {again}; a netdev that has left it must be moved back first: {back}"


def release_there(release: str) -> str:
    return f"release it there: {release}"


def mount_sys(again: str) -> str:
    """A shell's line: as `ip netns exec` does, for the netdevs in a /sys are those of where it was
    mounted."""
    return f"mount -t sysfs sysfs /sys && exec {again}"
