"""Ports that were in a pod's network namespace: what is claimed there stays there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.notes import ANY, noted
from tests.lab.scene import down, manactl, report
from tests.lab.users import eventually
from tests.lab.vm import Vm
from tests.unit.wording import wording

IN_POD = ("ip", "netns", "exec", "pod")


def here(vm: Vm) -> str:
    """All addresses and routes of the first network namespace, and which links are up."""
    script = "ip -o addr; ip route show table all; ip -6 route show table all; ip -br link"
    shown: str = vm.run(f"({script}) | sed 's/valid_lft.*//; s/expires [^ ]*//'").out
    return shown


@pytest.fixture
def pod(vm: Vm) -> Iterator[str]:
    """Port 2 in a pod, up, with an address that the host has itself and a route; its name."""
    down(vm, 1, 2)
    name = vm.netdevs[2]
    vm.run(
        f"""set -e; ip netns add pod; ip link set {name} netns pod
        ip addr add 10.0.0.4/24 dev {vm.netdevs[1]}
        ip -n pod link add other type dummy; ip -n pod addr add 10.99.0.1/24 dev other
        ip -n pod link set other up  # the pod stays reachable
        ip -n pod link set lo up; ip -n pod link set {name} up
        ip -n pod addr add 10.0.0.4/24 dev {name}
        ip -n pod addr add 2001:db8:7::4/64 dev {name} nodad
        ip -n pod route add 192.0.2.0/24 via 10.0.0.1"""
    )
    yield name
    vm.run("ip netns del pod", check=False)


def dies(vm: Vm, name: str) -> None:
    """The namespace ends, and its netdev comes back by itself."""
    vm.run("ip netns del pod")
    eventually(lambda: vm.run(f"[ -e /sys/class/net/{name} ]", check=False).rc == 0, 30, "it")


def refused(vm: Vm, *words: str) -> str:
    before = here(vm)
    result = manactl(vm, *words)
    assert result.rc == 5, result.err
    assert here(vm) == before
    shown: str = result.err
    return shown


def test_nothing_of_a_pod_that_has_died_gets_into_the_host(vm: Vm, pod: str) -> None:
    assert manactl(vm, "claim", "--raw-qp", pod, prefix=IN_POD).rc == 0
    dies(vm, pod)
    (row,) = [row for row in report(vm)["ports"] if row["port"] == 2]
    assert row["claim"] is not None
    assert noted(row["drift"], "claimed-elsewhere", ANY)
    for words in (("release",), ("release", pod), ("release", "--dry-run")):
        told = refused(vm, *words)
        with wording:
            assert "which is gone" in told
        for fact in ("10.0.0.4/24", "192.0.2.0/24 via 10.0.0.1", "2001:db8:7::4/64"):
            assert fact in told
        assert "manactl recover --accept" in told
    again = manactl(vm, "claim", "--raw-qp", pod)
    assert (again.rc, "recover --accept" in again.err) == (6, True)
    before = here(vm)
    accepted = manactl(vm, "recover", "--accept", pod)
    assert (accepted.rc, here(vm)) == (0, before)
    assert "192.0.2.0/24 via 10.0.0.1" in accepted.out
    assert manactl(vm, "claim", "--raw-qp", pod).rc == 0
    assert manactl(vm, "release").rc == 0


def test_a_release_that_died_with_its_pod_is_not_recovered_here(vm: Vm, pod: str) -> None:
    assert manactl(vm, "claim", "--raw-qp", pod, prefix=IN_POD).rc == 0
    script = "ip netns exec pod env PYTHONPATH=/manactl/src python3 -m manactl release"
    vm.nic.fault("MANA_CONFIG_VPORT_TX", held=True, skip=1)  # the first one is the proof's
    process = vm.spawn(["sh", "-c", f"exec {script}"])
    eventually(lambda: "undoing" in vm.run("cat /var/lib/manactl/claims/*").out, 60, "the open")
    process.signal(9)
    assert vm.nic.let_go() == 1
    process.wait(60)
    dies(vm, pod)
    told = refused(vm, "recover")
    assert "manactl recover --accept" in told
    with wording:
        assert "which is gone" in told


def test_a_pod_that_lives_is_where_its_claim_is_released(vm: Vm, pod: str) -> None:
    assert manactl(vm, "claim", "--raw-qp", pod, prefix=IN_POD).rc == 0
    told = refused(vm, "release")
    assert "ip netns exec pod manactl release" in told
    accept = refused(vm, "recover", "--accept", f"{vm.pci}:2")
    assert "ip netns exec pod" in accept
    with wording:
        assert "run it there: ip netns exec pod manactl release" in told
        assert "run it there" in accept
    vm.run(["ip", "-n", "pod", "link", "set", pod, "netns", "1"])
    assert "netns pod" in refused(vm, "release")
    vm.run(["ip", "link", "set", pod, "netns", "pod"])
    assert manactl(vm, "release", prefix=IN_POD).rc == 0
    shown = vm.run(["ip", "-n", "pod", "route"]).out
    assert "192.0.2.0/24 via 10.0.0.1" in shown


def test_the_next_pod_with_the_number_of_the_last_is_another_one(vm: Vm, pod: str) -> None:
    """The kernel gives the number of an inode away again; not so the cookie."""
    assert manactl(vm, "claim", "--raw-qp", pod, prefix=IN_POD).rc == 0
    inode = vm.run("stat -Lc %i /run/netns/pod").out
    dies(vm, pod)
    eventually(
        lambda: (
            vm.run("ip netns del pod; ip netns add pod; stat -Lc %i /run/netns/pod").out == inode
        ),
        30,
        "a namespace with the same number",
    )
    vm.run(["ip", "link", "set", pod, "netns", "pod"])
    result = manactl(vm, "release", prefix=IN_POD)
    assert result.rc == 5
    assert "manactl recover --accept" in result.err
    with wording:
        assert "which is gone" in result.err
    assert vm.run(["ip", "-n", "pod", "-o", "addr", "show", "dev", pod]).out == ""
