"""What is not as it was before a claim, in words: a line for each thing, with the reason.

Residue is what another attempt may restore; what is lost is its maker's alone to bring back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from manactl.act.step_words import up_or_down
from manactl.escape import command, link
from manactl.netstate import snapshot
from manactl.netstate.loss_words import WHY
from manactl.netstate.losses import Cause
from manactl.netstate.members import BridgeState
from manactl.netstate.snapshot import Fact

# Why something is not there, where the kernel has not refused it.
NOT_KEPT = "it does not stay so"
CHANGED_BACK = "it is changed back"
MTU_LOWERED = "the MTU of the netdev was lowered while the port was claimed, left as it is"
GONE = "it is gone"
MISSING = "missing"
OF_PROGRAM = "only the program that had set it can set it again"
SOURCE_TENTATIVE = "its source is in duplicate address detection"
NAME_TAKEN = "another netdev has that name now"


def because(what: str, why: str) -> str:
    return f"{what} ({why})"


def failed(what: str, why: object) -> str:
    return f"{what}: {why}"


# --- facts and uppers ----------------------------------------------------------------------


def upper_gone(upper: str, facts: int) -> str:
    return because(upper, f"{GONE}, with {facts} addresses, routes or the like")


def upper_not(upper: str, up: bool, why: str) -> str:
    return because(f"{upper} {up_or_down(up)}", why)


def bridge_state(was: BridgeState, names: Mapping[int, str], now: BridgeState, why: str) -> str:
    name = names.get(was.ifindex, str(was.ifindex))
    what = f"state {was.word} of {name} in {was.master}"
    if not now.running:  # then it is disabled in any case, which says nothing
        return because(what, f"it lasts only when {was.master} is up, and {name} with carrier")
    return because(f"{what}: now {now.word}", why)


def active_slave(slave: str, bond: str, now: str, why: str) -> str:
    return because(f"active slave {slave} of {bond}: now {now}", why)


def sysctl(path: str, value: str, why: str) -> str:
    return because(f"sysctl {path} = {value}", why)


def there_is(instead: Fact, fact: Fact, names: Mapping[int, str]) -> str:
    """Why a fact is missing where another has its place."""
    there = snapshot.describe(instead, names)
    if there == snapshot.describe(fact, names):
        there = f"the same with other settings: {snapshot.settings_of(instead)}"
    return f"there is instead: {there}"


def device_gone(name: str, other: str | None) -> str:
    """`other` has the ifindex of what was called `name`."""
    return f"{name} is gone" + (f", {other} has its number now" if other else "")


def other_nexthop(number: int | None, there: str) -> str:
    return f"nexthop id {number} is not what it was: {there}"


def sourceless(route: str) -> str:
    return f"the source address of route {route}: the kernel does not tell it from others like it"


def orphaned(route: str) -> str:
    return (
        f"route {route}: it is not as it was, since its source address is not on the port any more"
    )


# --- a netdev that was re-created -----------------------------------------------------------


# What nobody makes again for a new netdev, beside sockets, XDP programs and BPF filters.
BY_NUMBER = (
    "multicast groups that programs have joined, nftables rules with iif or oif, chains of its "
    "ingress or egress and flowtables, settings of a single NAPI, static link-layer addresses, IPv6 "
    "address labels, and in a bridge its backup port and the options of single VLANs"
)


def numbered(name: str, was: int, now: int) -> str:
    return (
        f"{name} was re-created (ifindex {was} -> {now}): sockets, filters and programs (XDP) that "
        "were bound to the old one by its number are not, nor is what else knew it by its number or "
        f"hung on it: {BY_NUMBER}"
    )


def stays_promiscuous(vf: str, name: str) -> str:
    return (
        f"{vf} goes on receiving everything, as it did for {name}, which was promiscuous or received "
        "all multicast (a member of a bridge, a macvlan above it): hv_netvsc does not take that back "
        f"from a VF as it goes. It ends when the driver of {vf} is bound again"
    )


def destroyed_above(vmbus: str, name: str | None) -> str:
    """Of the synthetic netdev of a claim that was to leave it up; `name`: of the one there now."""
    what = (
        f"VMBus device {vmbus} has no netdev any more"
        if name is None
        else f"{name}, the netdev of VMBus device {vmbus}, is not the one it was"
    )
    return (
        f"{what}: the host took the device back, or it was unbound. What was on it is gone with it, "
        "and --synthetic=keep saves nothing of it. See whether its addresses and routes are there"
    )


def lowered_above(name: str) -> str:
    """Of the synthetic netdev of a claim that was to leave it up, and which is down."""
    return (
        f"{name} is down, and was up before the claim: somebody has set it down, it was in another "
        "network namespace, or it was re-created. --synthetic=keep saves nothing of it. Set it up, and "
        "see whether its addresses and routes are there: "
        f"{command('ip', 'link', 'set', *link(name), 'up')}"
    )


def unnamed(name: str, now: str, why: str) -> str:
    return because(f"the name {name}: it is called {now}", why)


def unbound(tunnel: str, why: str) -> str:
    return because(f"{tunnel} sends by the netdev that was destroyed, and is to be made again", why)


def silent(names: Sequence[str], lower: str) -> str:
    return (
        f"the carrier of {', '.join(names)}: {lower} is down, as it was, and was not up since it "
        "was made (the old one was: what is stacked on it had kept the carrier of that time)"
    )


def macsec_keys(name: str) -> str:
    return because(f"keys of macsec {name}", "they cannot be read")


def not_made(upper: str, why: str) -> str:
    return because(f"{upper}: not made again", why)


# --- settings, leases, managers -------------------------------------------------------------


def settings_unread(name: str, why: str | None) -> str:
    return f"settings of {name}: not compared, {why}"


def settings_of(name: str) -> str:
    return f"the settings of {name}"


def last_settings_of(name: str) -> str:
    return f"the last settings of {name}"


def data_path_of(name: str) -> str:
    return f"the data path of {name}"


def setting_changed(change: str) -> str:
    return because(change, WHY[Cause.CHANGED])


def other_lease(address: str) -> str:
    return because(address, "its manager has another one now")


def not_running(manager: str, names: str) -> str:
    return f"{manager} does not run any more and has not configured {names} again"


def not_configured(manager: str, names: Sequence[str], within: float) -> str:
    return f"{manager} has not configured {', '.join(names)} again within {within:.0f} s"


def not_known_configured(manager: str, names: str, why: str) -> str:
    return f"whether {manager} has configured {names} again is not known: {why}"


def not_known_deleted(manager: str, why: str) -> str:
    return f"what {manager} has deleted is not known: {why}"


def addr_gen_mode(netdev: str, mode: str, why: str) -> str:
    return because(f"{netdev}: addr_gen_mode = {mode}", why)


# --- a port that was left down at boot ------------------------------------------------------


def file_changed(path: str, manager: str, end: str) -> str:
    return (
        f"{path}: somebody has changed it since, so it is left, and {manager} still goes by it; to "
        f"end that: {end}"
    )


def netdev_changed(manager: str, names: str) -> str:
    return f"{names} is not here as it was: {manager} configures what comes"


def not_started(manager: str, names: str) -> str:
    return f"{manager} does not run; it configures {names} when it is started"


def not_configured_since_boot(manager: str, names: Sequence[str], within: float) -> str:
    return f"{manager} has not configured {', '.join(names)} within {within:.0f} s"


# --- without undoing (recover --accept) -----------------------------------------------------


def other_nic(mac: str | None, port: object) -> str:
    return f"another NIC ({mac}) is in the place of port {port}"


def of_namespace(port: object, namespace: str) -> str:
    return f"port {port} was claimed in the {namespace}"


def no_netdev(port: object) -> str:
    return f"port {port} has no netdev here"


def unmanaged(manager: str, names: str) -> str:
    return f"{manager} leaves {names} alone, by files in /run"


def admin(name: str, up: bool, was: bool) -> str:
    return f"{name} is {up_or_down(up)} ({up_or_down(was)} before the claim)"
