"""`manactl explain` knows the lines that the real programs print when the real drivers refuse."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest

from manactl.explain.find import find
from manactl.explain.topic import Kind
from tests.lab.build import KERNELS
from tests.lab.rodata import messages
from tests.lab.scene import becomes, manactl, names_every_port, up
from tests.lab.users import GUEST, User, user
from tests.lab.vm import Vm
from tests.lab.walk import rdma_devices
from tests.unit.explain.test_messages import printed
from tests.unit.wording import wording

NO_NET_RAW = ("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw")
FOUR_KIB = (
    *("prlimit", "--memlock=4096:4096", "setpriv", "--reuid=65534", "--regid=65534"),
    *("--clear-groups", "--inh-caps=-all,+net_raw", "--ambient-caps=+net_raw"),
)


def on(*kernels: str) -> pytest.MarkDecorator:
    """Run the test once for each of these kernels."""
    params = [
        pytest.param(k, marks=pytest.mark.xdist_group(f"linux-{k}"), id=k)
        for k in dict.fromkeys(kernels)
    ]
    return pytest.mark.parametrize("kernel", params, indirect=True)


every_kernel = on(*KERNELS)
oldest_and_newest = on(KERNELS[0], KERNELS[-1])
newest = on(KERNELS[-1])


def said_by_testpmd(vm: Vm, mac: str, before: tuple[str, ...] = (), *, huge: bool = False) -> str:
    """All that testpmd says; it ends at the end of its input, and with 0, whatever has failed."""
    argv = ["dpdk-testpmd", "--lcores", "(0,1)@0", "-m", "512", "--iova-mode=va", "--no-telemetry"]
    argv += [] if huge else ["--no-huge"]
    argv += ["-a", f"{vm.pci},mac={mac}", "--", "--txq=1", "--rxq=1", "--txd=128", "--rxd=128"]
    ran = vm.run([*before, *argv, "--total-num-mbufs=4096"], check=False, timeout=300)
    return str(ran.out + ran.err)


def mac_of(vm: Vm, port: int) -> str:
    return str(vm.run(["cat", f"/sys/class/net/{vm.netdevs[port]}/address"]).out.strip())


def line_with(said: str, part: str) -> str:
    lines = [line for line in said.splitlines() if part in line]
    assert len(lines) == 1, said
    return lines[0]


def is_about(line: str, name: str, number: int | None = None) -> None:
    """The line has this topic alone, which knows what the line's errno means."""
    found = find(line)
    assert [topic.name for topic in found.topics] == [name], line
    if number is not None:
        assert found.errno == number, line
        assert number in {*found.topics[0].by_errno, found.topics[0].errno}, line


def refused(vm: Vm, before: tuple[str, ...], *commands: str) -> dict[str, Any]:
    """What the last of the commands to a program of raw queue pairs is refused with."""
    process = vm.spawn([*before, "python3", f"{GUEST}/rawqp.py"])
    try:
        program = User(process, "rawqp")
        program.wait_for("ready")
        for command in commands[:-1]:
            program.ask(command, "created")
        return program.ask(commands[-1], "refused")
    finally:
        process.kill()


@oldest_and_newest
def test_dpdk_on_a_port_that_is_up(vm: Vm) -> None:
    up(vm, 2)
    said = said_by_testpmd(vm, mac_of(vm, 2))
    line = line_with(said, "failed to start tx queues")
    ran = manactl(vm, "explain", "--json", *line.split())
    assert ran.rc == 0, ran.err
    document = json.loads(ran.out)
    assert document["errno"] == (errno.EBUSY if names_every_port(vm) else errno.ENODEV)
    (topic,) = document["topics"]
    assert topic["name"] == "dpdk-tx-queues"
    assert topic["with_errno"]
    with wording:
        assert "another owner" in topic["with_errno"]
    is_about(line_with(said, "Failed to create qp"), "dpdk-tx-queues")
    is_about(line_with(said, "Fail to start port"), "dpdk-tx-queues", document["errno"])
    is_about(line_with(said, "Not all ports"), "dpdk-tx-queues")
    is_about(line_with(said, "promiscuous"), "dpdk-promiscuous")


@oldest_and_newest
def test_the_tools_on_a_port_that_a_raw_qp_has(vm: Vm) -> None:
    name = vm.netdevs[2]
    since = vm.dmesg_mark()
    with user(vm, "rawqp") as holder:
        holder.wait_for("ready")
        holder.ask("create 2", "created")
        becomes(vm, 2, "raw-qp")
        opened = vm.run(["ip", "link", "set", name, "up"], check=False)
        is_about(opened.err.strip(), "open-refused", errno.EBUSY)
        listed = vm.run(["rdma", "resource", "show", "qp"], check=False)
        is_about(listed.err.strip(), "rdma-res-qp", None)
        link = line_with(vm.run(["rdma", "link"]).out, f"{rdma_devices(vm)['raw']}/2 ")
        is_about(link, "rdma-link-down")
        states = vm.run("ibv_devinfo | grep state:").out.splitlines()
        is_about(states[0], "rdma-link-down")
        if names_every_port(vm):
            is_about(vm.wait_kmsg("Failed to create vPort", since).text, "open-refused", 16)
            is_about(vm.wait_kmsg("mana_open failed", since).text, "open-refused", 16)
            channels = vm.run(["ethtool", "-L", name, "combined", "1"], check=False)
            is_about(channels.err.strip(), "ethtool-busy")
        is_about(vm.wait_kmsg(r"vPort \d+ PD", since).text, "vport-given")
        holder.ask("quit", "leaving")


@newest
def test_what_a_raw_qp_is_refused_with(vm: Vm) -> None:
    said = refused(vm, NO_NET_RAW, "create 2")
    assert (said["where"], said["errno"]) == ("CREATE_QP", errno.EPERM)
    assert "CAP_NET_RAW" in find(said["name"]).topics[0].means
    said = refused(vm, FOUR_KIB, "create 2")
    assert said["errno"] == errno.ENOMEM
    assert "RLIMIT_MEMLOCK" in find(said["name"]).topics[0].means
    vm.run("echo module mana_ib +p >/sys/kernel/debug/dynamic_debug/control")
    since = vm.dmesg_mark()
    said = refused(vm, (), "create 1", "share 1 2")
    vm.run("echo module mana_ib -p >/sys/kernel/debug/dynamic_debug/control")
    assert (said["where"], said["errno"]) == ("CREATE_QP", errno.EINVAL)
    with wording:
        assert "one protection domain for two ports" in find(said["name"]).topics[0].means
    is_about(vm.wait_kmsg("PD already bound", since).text, "pd-of-another-port")


@newest
def test_what_dpdk_and_libmana_say_before_they_ask_the_kernel(vm: Vm) -> None:
    mac = mac_of(vm, 2)
    said = said_by_testpmd(vm, mac, NO_NET_RAW)
    is_about(line_with(said, "failed to start tx queues"), "dpdk-tx-queues", errno.EPERM)
    said = said_by_testpmd(vm, mac, huge=True)
    is_about(line_with(said, "hugepage information"), "dpdk-hugepages")
    is_about(line_with(said, "Cannot init EAL"), "dpdk-hugepages")
    said = said_by_testpmd(vm, "02:00:00:00:00:01")
    is_about(line_with(said, "No probed"), "dpdk-no-port")
    argv = ["python3", f"{GUEST}/parentdomain.py", rdma_devices(vm)["rnic"]]
    ran = vm.run(argv, env={"VERBS_LOG_LEVEL": "4", "VERBS_LOG_FILE": "/tmp/verbs.log"})
    assert json.loads(ran.out)["errno"] == errno.EINVAL
    is_about(line_with(vm.get("/tmp/verbs.log").decode(), "parent domain"), "parent-domain")


MODULES = {
    "mana": "net/ethernet/microsoft/mana/mana.ko",
    "mana_ib": "infiniband/hw/mana/mana_ib.ko",
    "hv_netvsc": "net/hyperv/hv_netvsc.ko",
}
LIBRARIES = {"net_mana": "dpdk/pmds-*/librte_net_mana.so.*.*", "libmana": "libmana.so.1.*"}


def unknown(source: str, binary: bytes) -> list[str]:
    """What the program can print and no topic is about."""
    templates = messages(binary)
    assert len(templates) > 30, "the search found too little"
    return [
        template
        for template in templates
        if all(topic.kind is Kind.ERRNO for topic in find(printed(source, template)).topics)
    ]


@every_kernel
def test_every_message_of_these_drivers_is_known(vm: Vm) -> None:
    """Of the binaries as they are in the guest: another version may print something else."""
    release = vm.run(["uname", "-r"]).out.strip()
    for source, path in MODULES.items():
        module = vm.get(f"/usr/lib/modules/{release}/kernel/drivers/{path}")
        assert unknown(source, module) == [], f"{source}: say what it means in explain/"


@newest
def test_every_message_of_these_libraries_is_known(vm: Vm) -> None:
    for source, pattern in LIBRARIES.items():
        path = vm.run(f"readlink -f /usr/lib/x86_64-linux-gnu/{pattern} | head -1").out.strip()
        assert unknown(source, vm.get(path)) == [], f"{source}: say what it means in explain/"
