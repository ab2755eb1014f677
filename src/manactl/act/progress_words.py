"""What is being done, in words: the phases that a report of a stuck step names, and what is noted
while it goes on."""

from __future__ import annotations

from collections.abc import Sequence

# --- phases --------------------------------------------------------------------------------


def look(names: str) -> str:
    return f"look at {names}"


def look_again(names: str) -> str:
    return f"look at {names} again"


def look_releasable(names: str) -> str:
    return f"look whether {names} can be released"


def look_missing(names: str) -> str:
    return f"look at what is missing on {names}"


def see_path(name: str) -> str:
    return f"see that {name} carries the traffic again"


def set_up_recreated(name: str) -> str:
    return f"set {name} up again, as the old netdev was"


def give_back(names: str) -> str:
    return f"give {names} back"


def await_forwarding(names: str) -> str:
    return f"wait until {names} forwards"


def await_holders(holders: str) -> str:
    return f"{holders or 'a holder'} to end"


# --- notes ---------------------------------------------------------------------------------


def changed_meanwhile(names: str, change: str) -> str:
    return f"{names}: changed meanwhile ({change}); judged again"


def no_netdev_any_more(name: str) -> str:
    return f"{name} has no netdev here any more"


def awaits_forwarding(names: str, within: float) -> str:
    return f"waiting up to {within:g} s until {names} forwards again"


def drifted(name: str, drift: Sequence[str], release: str) -> str:
    """A claim that stands, on a port that is not as it left it. `release`: the command."""
    return (
        f"{name}: {'; '.join(drift)}. The claim stands, so it is left alone: `{release}` ends it "
        "and restores what it kept (with --dry-run: shows that), `manactl hold` keeps the port "
        "down"
    )


def odd_file(what: str) -> str:
    return f"{what}; it is left as it is: see `manactl doctor`"


def claimed_meanwhile(name: str) -> str:
    return (
        f"{name} was claimed in the meantime, so it is not given back: its files are the claim's "
        "now"
    )


def released_later(why: str) -> str:
    return f"{why}; released as soon as it can be"


def not_allowed_to_signal(holder: str) -> str:
    return f"not allowed to signal {holder}"


def not_signalled(holder: str) -> str:
    return f"{holder} is not signalled: end what it holds yourself"


def signalled(holder: str, unit: str | None, within: float) -> str:
    of = f", of {unit}" if unit else ""
    return f"SIGTERM sent to {holder}{of}; waiting up to {within:g} s"


# --- signals, and steps that do not end ----------------------------------------------------

# What will come of a signal that arrives inside a system call.
STOPPING = "will stop when the current system call returns"
UNDOING = "will undo when the current system call returns"
FINISHING = "ignored, since the change under way has to be finished"


def heard(signal: str, reply: str) -> str:
    return f"{signal}: {reply}"


def not_done(what: str, seconds: float, why: str) -> str:
    return f"{what}: not done after {seconds:.0f} s: {why}; still waiting"


def in_driver(function: str) -> str:
    return f"the driver waits for the device to answer ({function})"


def behind(process: str, function: str) -> str:
    return (
        f"{process} has the kernel's network lock (RTNL) and waits in the driver for the device "
        f"to answer ({function})"
    )


def in_kernel(function: str) -> str:
    return f"the kernel is in {function}"


IN_A_CALL = "a system call does not return, usually because the driver waits for the device"


# --- the guardian of a claim, in the system log and in systemd's list -----------------------

GUARDIAN = "guardian of a claim (manactl)"
GUARDIAN_FAILED = "the guardian of a claim failed"
GUARDIAN_AGAIN = "the guardian tries again"
GUARDIAN_ENDED = "it has ended"
