"""testpmd forwards frames between claimed ports; the NIC counts and compares each of them."""

from __future__ import annotations

import contextlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.lab.build import KERNELS
from tests.lab.nic.course import MAGIC, made
from tests.lab.scene import becomes, manactl, owners, up
from tests.lab.users import User, eventually, user
from tests.lab.vm import Vm

OUTSIDE = "02:00:00:00:00:aa"  # nobody's: whoever forwards has to send it all the same
SAMPLE = 1500  # frames each way
MANY = 100_000
PORT = 6767
DATAGRAMS = 20
SENDER = """
import socket, sys
to, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
family = socket.AF_INET6 if ":" in to else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as udp:
    for number in range(count):
        udp.sendto(bytes(range(number, number + 7 * number % 200)), (to, port))
"""
OFFLOADED = (
    "port stop all",
    *(f"csum set {layer} hw 0" for layer in ("ip", "udp", "tcp")),
    "port start all",
    "set fwd csum",
)


def macs(vm: Vm) -> list[str]:
    return [port["mac"] for port in vm.nic.state()["vports"]]


def silent(vm: Vm, port: int) -> None:
    """Up, and sends nothing by itself: what it floods would go round between the other ports."""
    vm.run(f"echo 1 >/proc/sys/net/ipv6/conf/{vm.netdevs[port]}/disable_ipv6")
    up(vm, port)


@contextmanager
def tapped(vm: Vm, netdev: str) -> Iterator[User]:
    with user(vm, "tapped", netdev, MAGIC.hex(), str(PORT)) as tap:
        tap.wait_for("ready")
        yield tap


def hears(tap: User, **expected: int) -> None:
    """Wait until a tap has heard that much; more or other is a failure."""
    heard: Counter[str] = Counter()

    def enough() -> bool:
        heard.update({k: v for k, v in tap.ask("report", "tapped").items() if k in expected})
        return all(heard[name] >= count for name, count in expected.items())

    with contextlib.suppress(AssertionError):  # the comparison tells more
        eventually(enough, what="frames")
    assert dict(heard) == expected


def datagrams(vm: Vm, to: str, netns: str = "") -> None:
    """From a UDP socket, whose checksums are left to the hardware where it says that it can."""
    prefix = ["ip", "netns", "exec", netns] if netns else []
    vm.run([*prefix, "python3", "-c", SENDER, to, str(PORT), str(DATAGRAMS)])


@contextmanager
def forwarding(vm: Vm, ports: tuple[int, ...], mode: str, to: str) -> Iterator[User]:
    """The ports are claimed and testpmd forwards over two queues of each; released at the end."""
    names, addresses, pci = vm.netdevs, macs(vm), vm.pci
    claimed = manactl(vm, "claim", *(w for port in ports for w in ("--raw-qp", names[port])))
    assert claimed.rc == 0, claimed.err
    peers = [f"--eth-peer={number},{to}" for number in range(len(ports))]
    words = [pci, ",".join(addresses[port - 1] for port in ports), mode, "", "--rxq=2", "--txq=2"]
    with user(vm, "testpmd", *words, *peers) as testpmd:
        testpmd.wait_for("ready", 180)
        testpmd.ask("start", "started")
        yield testpmd
        assert testpmd.ask("quit", "ended")["status"] == 0
    for port in ports:
        becomes(vm, port, "free")
    released = manactl(vm, "release", "--all")
    assert released.rc == 0, released.err


def ran(vm: Vm, seconds: float = 60) -> list[dict[str, Any]]:
    """Wait for the courses; a frame that is lost keeps them from their end."""
    eventually(lambda: all(c["done"] for c in vm.nic.courses()), seconds, str(vm.nic.courses()))
    return vm.nic.courses()


def exact(courses: list[dict[str, Any]], count: int) -> None:
    for course in courses:
        found = [course[name] for name in ("seen", "altered", "strange", "reordered")]
        assert found == [count, 0, 0, 0], course


@pytest.mark.parametrize("mode", ["io", pytest.param("mac", marks=pytest.mark.soak)])
def test_two_claimed_ports_forward_to_each_other(vm: Vm, seed: int, mode: str) -> None:
    """Multiple queues by RSS, suppressed completions, and buffers in user memory."""
    since = vm.nic.sequence()
    with forwarding(vm, (1, 2), mode, OUTSIDE):
        assert owners(vm) == {1: "raw-qp", 2: "raw-qp"}
        assert [port["rqs"] for port in vm.nic.state()["vports"]] == [2, 2]
        pages = {mr["page_size"] for mr in vm.nic.objects()["mr"] if mr["kind"] == "GVA"}
        listed = {event.get("name") for event in vm.nic.history(since)}
        assert pages - {4096} or "DMA_REGION_ADD_PAGES" in listed  # as the kernel found its memory
        for into, out_of in ((1, 2), (2, 1)):
            rewritten = mode == "mac"
            vm.nic.course(into, out_of, OUTSIDE, SAMPLE, seed + into, rewritten=rewritten)
        exact(ran(vm), SAMPLE)


def test_a_claimed_port_forwards_to_a_netdev_and_back(vm: Vm, seed: int) -> None:
    """What the other port's netdev gets is compared in the guest as well, checksums included."""
    silent(vm, 2)
    name, (first, second) = vm.netdevs[2], macs(vm)
    with forwarding(vm, (1,), "mac", second) as testpmd, tapped(vm, name) as tap:
        vm.nic.course(1, 1, second, SAMPLE, seed, rewritten=True)
        exact(ran(vm), SAMPLE)
        addresses = bytes.fromhex((second + first).replace(":", ""))
        frames = [addresses + frame[12:] for frame in made(seed, bytes(6), bytes(6), SAMPLE)]
        hears(tap, marked=SAMPLE, distinct=SAMPLE, sum=sum(map(zlib.crc32, frames)))
        with user(vm, "echoed", name, first, "50") as station:
            assert station.wait_for("echoed", 120)["count"] == 50
        # What the netdev's driver leaves to the NIC, then what DPDK's driver leaves to it.
        vm.run(f"ip addr add 10.77.0.2/24 dev {name}")
        vm.run(f"ip neigh add 10.77.0.1 lladdr {first} dev {name} nud permanent")
        datagrams(vm, "10.77.0.1")
        hears(tap, right=DATAGRAMS, wrong=0, none=0)
        testpmd.ask("stop", "stopped")
        said = "".join(testpmd.ask(f"type {line}", "said")["text"] for line in OFFLOADED)
        assert "UDP checksum offload is hw" in said
        testpmd.ask("start", "started")
        datagrams(vm, "10.77.0.1")
        hears(tap, right=DATAGRAMS, wrong=0, none=0)


def checked(vm: Vm, source: str, target: str) -> None:
    """UDP of both families from one netdev to the other's address; its checksums all are right."""
    mac = vm.address(target)
    vm.run(
        f"set -e; ip addr add 10.77.0.1/24 dev {source}; "
        f"ip -6 addr add fd77::1/64 dev {source} nodad; "
        f"ip neigh add 10.77.0.9 lladdr {mac} dev {source} nud permanent; "
        f"ip -6 neigh add fd77::9 lladdr {mac} dev {source} nud permanent"
    )
    with tapped(vm, target) as tap:
        datagrams(vm, "10.77.0.9")
        datagrams(vm, "fd77::9")
        hears(tap, right=2 * DATAGRAMS, wrong=0, none=0)
    vm.run(f"ip addr flush dev {source}; ip neigh flush dev {source} nud permanent")


def test_checksums_between_netdevs(vm: Vm) -> None:
    up(vm, 1, 2)
    before = vm.nic.state()["vports"][0]["tx_finished"]
    checked(vm, vm.netdevs[1], vm.netdevs[2])
    assert vm.nic.state()["vports"][0]["tx_finished"] >= before + 2 * DATAGRAMS


def test_checksums_on_the_paths_of_a_pair(pair: Vm) -> None:
    """From the VF or the synthetic netdev of one to either of the other."""
    names, twins = pair.netdevs, pair.twins
    for twin in twins.values():
        pair.run(["ip", "link", "set", twin, "up"])
    for way in (("up", "up"), ("up", "down"), ("down", "down"), ("down", "up")):
        for port, state in enumerate(way, 1):
            pair.run(["ip", "link", "set", names[port], state])
            path = "vf" if state == "up" else "synthetic"
            mac = pair.address(names[port])
            eventually(lambda m=mac, p=path: pair.nic.station(m)["path"] == p, what=f"path {path}")
        checked(pair, twins[1], twins[2])


@pytest.mark.soak
@pytest.mark.parametrize("prefix", KERNELS)
@pytest.mark.parametrize("mode", ["io", "mac"])
def test_a_hundred_thousand_frames(
    make_vm: Callable[..., Vm], seed: int, prefix: str, mode: str
) -> None:
    """Between two claimed ports, both ways at once, and on to the netdev of a third."""
    vm = make_vm(prefix, ports=3)
    silent(vm, 3)
    target = macs(vm)[2]
    statistic = f"/sys/class/net/{vm.netdevs[3]}/statistics/rx_packets"
    with forwarding(vm, (1, 2), mode, target):
        before = int(vm.get(statistic))
        for into, out_of in ((1, 2), (2, 1)):
            rewritten = mode == "mac"
            vm.nic.course(into, out_of, target, MANY // 2, seed + into, rewritten=rewritten)
        exact(ran(vm, 600), MANY // 2)
        (third,) = [port for port in vm.nic.state()["vports"] if port["index"] == 2]
        assert (third["rx_frames"], third["rx_no_wqe"], third["rx_truncated"]) == (MANY, 0, 0)
        eventually(lambda: int(vm.get(statistic)) == before + MANY, what="all in the netdev")
