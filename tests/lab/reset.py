"""Between two tests: put a guest back to how it booted, and see that it is.

Cleaning is one thing, checking another: what cleaning does not know shows as a difference to the
inventory taken after boot, and then the next test gets a new VM.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import Any

from . import kmsg
from .errors import LabError
from .vm import Vm

SETTLE = 20.0  # seconds for the driver and the NIC to let go of what a killed program held

# A program costs the emulated CPU more than what it does: few of them, and lines are made here.
_INVENTORY = """
ip -o -force -batch - <<END
link
addr
neigh show nud permanent
nexthop
END
for family in -4 -6; do
    ip -o $family -force -batch - <<END
rule
route show table all
END
done
for d in /run/netns/*; do [ -e $d ] && echo netns ${d##*/}; done
for d in /var/lib/manactl /run/manactl /etc/manactl /run/lock/manactl; do
    [ -d $d ] && find $d -mindepth 1 -printf 'file %p\\n'
done
for m in mana mana_ib ib_uverbs; do [ -d /sys/module/$m ] && echo module $m; done
for d in /sys/class/infiniband/*; do [ -e $d ] && echo rdma ${d##*/}; done
read taint < /proc/sys/kernel/tainted; echo taint $taint
rdma system 2>/dev/null
while read -r what where rest; do
    case $where in /proc|/sys/kernel/debug) echo mount $where $rest;; esac
done < /proc/mounts
exit 0
"""
# Numbers that differ each time, and what comes and goes by itself.
_VOLATILE = re.compile(r"^\d+: | qlen \d+| qdisc [a-z_]+|valid_lft.*| privileged.*")

# Below systemd: who is started, and every file by which a unit or a manager could be told to.
_CONFIGURED = (
    "/run/systemd/network /run/systemd/transient /run/systemd/system /run/systemd/system.control "
    "/etc/systemd/network /run/NetworkManager/conf.d /run/NetworkManager/system-connections "
    "/etc/NetworkManager/conf.d /etc/NetworkManager/system-connections /etc/netplan /run/netplan "
    "/run/udev/rules.d /etc/udev/rules.d /etc/cloud /run/cloud-init /var/lib/cloud "
    "/etc/network/interfaces.d"
)
_UNITS = f"""
systemctl list-units --all --plain --no-legend --type=service,socket,timer,scope,path \\
    --state=active,activating,deactivating,failed | sed 's/ .*//; s/^/unit /'
find /etc/systemd/system {_CONFIGURED} \\( -type f -o -type l \\) 2>/dev/null | sed 's/^/file /'
"""
# The managers are stopped as they were at boot: what they still do would go on meanwhile.
_STOP = f"""
systemctl --no-block cancel 2>/dev/null
for unit in $(systemctl list-units --all --plain --no-legend \\
        --state=active,activating,failed --type=service,socket,timer,scope,path | sed 's/ .*//'); do
    grep -qxF "unit $unit" /run/lab.boot || echo $unit
done | xargs -r systemctl stop
gone=$(find /etc/systemd/system {_CONFIGURED} \\( -type f -o -type l \\) 2>/dev/null |
    sed 's/^/file /' | grep -vxF -f /run/lab.boot | cut -d' ' -f2-)
echo "$gone" | xargs -r rm -f
rm -rf /run/NetworkManager/devices /run/NetworkManager/no-stub-resolv.conf /var/lib/NetworkManager \\
    /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
systemctl daemon-reload; systemctl reset-failed; udevadm control --reload
case "$gone" in  # netplan's have NetworkManager leave a netdev alone, which udev's database keeps
    *udev/rules.d*) udevadm trigger --subsystem-match=net ;;
esac
udevadm settle
exit 0
"""

_CLEAN = """
for ns in /run/netns/*; do
    [ -e $ns ] || continue
    ns=${ns##*/}
    # A VF below hv_netvsc follows its twin, and must not go first: 7.2 and 7.3 would hang.
    for n in $(ip netns exec $ns sh -c 'cd /sys/class/net; for n in */device; do n=${n%/*};
        [ -e $n/master/device ] || echo $n; done')
    do [ "$n" != '*' ] && ip -n $ns link set $n netns 1; done
    ip netns del $ns
done
for i in $(seq 50); do  # not before the last namespace is gone
    rdma system set netns shared 2>/dev/null && break
    [ -d /sys/module/ib_core ] || break
    sleep 0.2
done
set -- /sys/kernel/debug/*
[ ! -d /sys/kernel/debug ] || [ -e $1 ] || mount -t debugfs debugfs /sys/kernel/debug
grep -q '^[^ ]* /proc [^ ]* [^ ]*hidepid' /proc/mounts && mount -o remount,hidepid=0 /proc
for m in mana mana_ib ib_uverbs; do [ -d /sys/module/$m ] || modprobe $m; done
cd /sys/class/net
for n in *; do
    if [ $n = lo ]; then continue; fi
    if [ -e $n/device ]; then
        echo link set dev $n down
        [ -e $n/master ] && [ ! -e $n/master/device ] && echo link set dev $n nomaster
        echo addr flush dev $n
        read mtu < $n/mtu
        [ $mtu = 1500 ] || echo link set dev $n mtu 1500
    elif [ -d $n ]; then
        echo link del dev $n
    fi
done > /run/lab.reset
cd /
echo nexthop flush >> /run/lab.reset
ip -force -batch /run/lab.reset
for family in -4 -6; do
    ip $family -force -batch - <<END
route flush table all proto static
route flush table all proto boot
END
done
# What a program that ended had not sent yet, by which the next test's port would be in use.
while read -r what _ _ orphan count rest; do
    [ $what$orphan != TCP:orphan ] || [ $count = 0 ] ||
        ss -HtK state fin-wait-1 state fin-wait-2 state last-ack state closing > /dev/null
done < /proc/net/sockstat
rm -rf /run/lab.reset /var/lib/manactl /run/manactl /etc/manactl /run/lock/manactl
find /tmp /root /dev/shm -mindepth 1 -delete
exit 0
"""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a test must leave as it was: the guest's own view and the NIC's."""

    guest: frozenset[str]
    objects: dict[str, int] = field(default_factory=dict)
    owners: tuple[str | None, ...] = ()


class ResetFailed(LabError):
    """The guest could not be brought back to how it booted; it is not used again."""


def inventory(vm: Vm) -> Inventory:
    text = vm.run(_INVENTORY).out
    if vm.systemd:
        text += vm.run(_UNITS).out
    lines = frozenset(
        _VOLATILE.sub("", line).rstrip() for line in text.splitlines() if line.strip()
    )
    if not vm.ports:
        return Inventory(lines)
    state: dict[str, Any] = vm.nic.state()
    owners = tuple(vport["owner"] for vport in state["vports"])
    return Inventory(lines, dict(state["objects"]), owners)


def reset(vm: Vm, boot: Inventory) -> None:
    """Clean and compare; ResetFailed names every difference, LostVm when the guest is gone."""
    if vm.ports:
        vm.nic.clear_faults()
    if vm.paired:
        vm.vmbus.unmute()
        vm.nic.exceptions(True)
    vm.sweep()
    if vm.systemd:
        vm.put("/run/lab.boot", "\n".join(sorted(boot.guest)) + "\n")
        vm.run(_STOP)
    vm.run(_CLEAN, timeout=120)
    if vm.systemd:
        vm.run(["udevadm", "settle"])
    deadline, pause = time.monotonic() + SETTLE, 0.05
    while differences := _compare(boot, inventory(vm)):
        if time.monotonic() > deadline:
            raise ResetFailed("the guest is not as it booted:\n" + "\n".join(differences))
        time.sleep(pause)  # what dies late: testpmd's vport, a deleted namespace
        pause = min(pause * 2, 1.0)


def _compare(boot: Inventory, now: Inventory) -> list[str]:
    found = [f"+ {line}" for line in sorted(now.guest - boot.guest)]
    found += [f"- {line}" for line in sorted(boot.guest - now.guest)]
    for what in sorted(boot.objects.keys() | now.objects.keys()):
        before, after = boot.objects.get(what, 0), now.objects.get(what, 0)
        if before != after:
            found.append(f"the NIC has {after} of {what}, {before} after boot")
    for number, (was, owner) in enumerate(zip(boot.owners, now.owners, strict=True), 1):
        if was != owner:
            found.append(f"port {number} is programmed by {owner}, by {was} after boot")
    return found


def gave_up(vm: Vm) -> bool:
    """Whether the driver stopped waiting for an answer in this test; it waits for no later one."""
    return any(re.search(r"\bmana\b.*timed out", line.text) for line in vm.kmsg_of_test())


def trouble(vm: Vm) -> str:
    """What the kernel and the NIC hold against the test so far; empty when nothing."""
    lines = vm.kmsg_of_test()
    bad, missing = kmsg.unexpected(lines, [*vm.expected, *vm.tolerated])
    missing = [pattern for pattern in missing if pattern in vm.expected]
    parts = []
    if bad:
        start = lines.index(bad[0])
        context = "\n".join(str(line) for line in lines[start : start + 60])
        parts.append(
            f"the guest's kernel reported a fault that the test did not declare:\n{context}"
        )
    parts += [f"declared, but the kernel did not say it: {pattern}" for pattern in missing]
    if vm.ports:
        parts += [f"the NIC saw a violation: {v}" for v in vm.nic.violations()]
    if vm.paired:
        parts += [f"the VMBus saw a violation: {v.text}" for v in vm.vmbus.violations()]
    return "\n".join(parts)
