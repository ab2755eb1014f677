"""Each finding of `doctor` provoked on the real drivers, and the kernel's facts compared."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.lab.scene import AS_NOBODY, Row, down, manactl, up
from tests.lab.users import eventually, user
from tests.lab.vm import Vm
from tests.unit.wording import wording

STATE = "/var/lib/manactl"
LIKE = {"6.12": "6.12", "6.18": "6.18", "7": "7.x"}


def doctor(vm: Vm, *words: str, prefix: tuple[str, ...] = ()) -> tuple[int, Row]:
    result = manactl(vm, "doctor", "--json", *words, prefix=prefix)
    document: Row = json.loads(result.out)
    return result.rc, document


def found(vm: Vm, *, prefix: tuple[str, ...] = ()) -> dict[str, Row]:
    """What is not fine, by code; the exit code must say whether anything has to be mended."""
    code, document = doctor(vm, prefix=prefix)
    bad = {one["code"]: one for one in document["findings"] if one["level"] != "fine"}
    must = any(one["level"] == "mend" for one in bad.values())
    assert (code, document["fit"]) == ((3, False) if must else (0, True)), document
    assert all(one["mend"] or one["level"] != "mend" or one["why"] for one in bad.values())
    return bad


class Machine:
    """A guest whose findings are provoked one after the other, and gone at the end."""

    def __init__(self, vm: Vm) -> None:
        self.vm = vm
        self.before = found(vm)

    def provoke(
        self, script: str, code: str, level: str, undo: str, prefix: tuple[str, ...] = ()
    ) -> Row:
        """The finding that `script` makes, which was not there at the start."""
        assert code not in self.before
        self.vm.run(f"set -e\n{script}")
        try:
            now = found(self.vm, prefix=prefix)
            assert now[code]["level"] == level, now
        finally:
            self.vm.run(f"set -e\n{undo}")
        return now[code]


@pytest.fixture
def fit(vm: Vm) -> Iterator[Machine]:
    """Both ports down, and huge pages as a machine for DPDK has them."""
    down(vm, 1, 2)
    pages = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
    vm.run(f"echo 8 > {pages}; mkdir -p /dev/hugepages; mount -t hugetlbfs x /dev/hugepages")
    machine = Machine(vm)
    yield machine
    assert found(vm) == machine.before
    vm.run(f"umount /dev/hugepages; echo 0 > {pages}")


def test_facts_are_those_of_the_lab(vm: Vm, kernel: str) -> None:
    up(vm, 1)
    down(vm, 2)
    words = ("--facts", vm.netdevs[1], vm.netdevs[2])
    code, document = doctor(vm, *words)
    assert code == 0
    seen = {one["code"]: one for one in document["facts"] if one["here"] is not None}
    assert [s for s in seen.values() if s["lab"] and LIKE[kernel] not in s["like"]] == []
    expected = {"raw-qp-up", "raw-qp-down", "qp-zero", "netns", "dev-port", "debugfs"}
    assert expected <= seen.keys()
    assert ("qp-dump" in seen) is (kernel != "6.12")  # which has no queue pair of its own
    shown = manactl(vm, "doctor", *words).out.splitlines()
    print(*shown, sep="\n")
    with wording:
        assert f"like {LIKE[kernel]} in the lab" in shown[0]


def test_what_the_kernel_side_lacks(fit: Machine) -> None:
    vm = fit.vm
    node = vm.run("ls /dev/infiniband/uverbs*").out.split()[0]
    busy = fit.provoke("rmmod mana_ib", "mana-ib", "mend", "modprobe mana_ib")
    assert busy["mend"][0] == "modprobe mana_ib"
    fit.provoke(f"mv {node} /tmp/node", "uverbs-node", "mend", f"mv /tmp/node {node}")
    fit.provoke(f"chmod 600 {node}", "uverbs-access", "advice", f"chmod 666 {node}")
    unbind = "/sys/bus/pci/drivers/mana/unbind"
    told = fit.provoke(
        f"echo {vm.pci} > {unbind}", "driver", "mend",
        f"echo {vm.pci} > /sys/bus/pci/drivers/mana/bind",
    )  # fmt: skip
    assert told["mend"][-1].endswith("/sys/bus/pci/drivers/mana/bind")
    remove = f"echo 1 > /sys/bus/pci/devices/{vm.pci}/remove"
    vm.run(remove)
    code, document = doctor(vm)
    assert (code, document["schema"], document["code"]) == (8, "manactl.error/1", "unsupported")
    vm.run("echo 1 > /sys/bus/pci/rescan")
    debugfs = "/sys/kernel/debug"
    fit.provoke(f"umount {debugfs}", "debugfs", "advice", f"mount -t debugfs debugfs {debugfs}")
    fit.provoke(
        "rdma system set netns exclusive", "rdma-netns", "advice",
        "rdma system set netns shared",
    )  # fmt: skip


NEWEST = pytest.mark.parametrize(
    "kernel", [pytest.param("7", marks=pytest.mark.xdist_group("linux-7"))]
)


@NEWEST
def test_what_programs_lack_and_leave(fit: Machine) -> None:
    vm = fit.vm
    pages = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
    fit.provoke(f"echo 0 > {pages}", "hugepages", "advice", f"echo 8 > {pages}")
    fit.provoke(
        "umount /dev/hugepages", "hugetlbfs", "advice", "mount -t hugetlbfs x /dev/hugepages"
    )
    left = "/dev/hugepages/rtemap_0"
    told = fit.provoke(f"truncate -s 2M {left}", "hugepage-files", "advice", f"rm {left}")
    assert told["mend"] == [f"rm {left}"]
    library = "/usr/lib/x86_64-linux-gnu/libibverbs"
    fit.provoke(f"mv {library} {library}.x", "rdma-core", "mend", f"mv {library}.x {library}")
    told_of = "/etc/libibverbs.d/mana.driver"
    quiet = fit.provoke(f"mv {told_of} /tmp/m", "rdma-core", "mend", f"mv /tmp/m {told_of}")
    with wording:
        assert "does not list" in quiet["what"]
    assert quiet["mend"][-1] == f"echo 'driver mana' > {told_of}"
    pyverbs = "/usr/lib/python3/dist-packages/pyverbs"
    back = f"mv {pyverbs}.x {pyverbs}"  # a process that has it loaded still finds it
    fit.provoke(f"mv {pyverbs} {pyverbs}.x", "pyverbs", "advice", back, prefix=("env",))
    poor = found(vm, prefix=("prlimit", "--memlock=65536", *AS_NOBODY))
    assert poor["memlock"]["level"] == "advice"
    assert poor["privilege"]["level"] == poor["debugfs"]["level"] == "unseen"


def test_a_driver_that_waits_for_its_device(fit: Machine) -> None:
    vm = fit.vm
    up(vm, 1)
    vm.nic.fault("MANA_CONFIG_VPORT_RX", held=True)
    closing = vm.spawn(["ip", "link", "set", vm.netdevs[1], "down"])
    busy = eventually(lambda: found(vm).get("driver-busy"), 60, "the driver to be busy")
    assert (busy["level"], busy["mend"]) == ("mend", ["manactl status -v"])
    assert vm.nic.let_go() == 1
    eventually(lambda: closing.poll() is not None, 60, "the end of ip")


@NEWEST
def test_what_claims_and_others_leave(fit: Machine) -> None:
    vm = fit.vm
    up(vm, 1)
    fit.provoke(f"mkdir -p {STATE} && chmod 777 {STATE}", "state-dir", "mend", f"chmod 700 {STATE}")
    journal = f"{STATE}/claims/1.journal"
    fit.provoke(
        f"mkdir -p {STATE}/claims; umask 077; echo x > {journal}", "journal", "mend",
        f"rm {journal}",
    )  # fmt: skip
    assert manactl(vm, "claim", "--raw-qp", vm.netdevs[1]).rc == 0
    # A claim that died before its last record: that record is cut off.
    cut = fit.provoke(
        f"sed -i.whole '/\"claimed\"/d' {STATE}/claims/*.journal", "interrupted", "mend",
        f"cd {STATE}/claims; for f in *.whole; do mv $f ${{f%.whole}}; done",
    )  # fmt: skip
    assert cut["mend"] == ["manactl recover"]
    assert manactl(vm, "release").rc == 0
    with user(vm, "rawqp") as program:
        program.wait_for("ready")
        program.ask("create 2", "created")
        assert vm.netdevs[2] in found(vm)["unclaimed"]["what"]
        program.ask("quit", "leaving")
    name = vm.netdevs[2]
    devices = "/run/NetworkManager/devices"
    managed = fit.provoke(
        f"mkdir -p {devices}; echo managed=true > {devices}/$(cat /sys/class/net/{name}/ifindex)\n"
        "cp /bin/sleep /tmp/NetworkManager; /tmp/NetworkManager 600 >/dev/null 2>&1 &",
        "manager", "mend", "pkill NetworkManager; rm -r /run/NetworkManager",
    )  # fmt: skip
    assert managed["mend"] == [f"nmcli device set {name} managed no"]
    away = fit.provoke(
        f"ip netns add doctor && ip link set {name} netns doctor", "foreign-netns", "advice",
        f"ip -n doctor link set {name} netns 1 && ip netns del doctor",
    )  # fmt: skip
    assert "doctor" in away["what"]
    assert away["mend"] == [f"ip netns exec doctor manactl claim --raw-qp {name}"]


def refusals(vm: Vm, *claim: str) -> set[str]:
    """The codes of the guards that refuse it."""
    return {one["fact"] for one in json.loads(manactl(vm, *claim, "--json").out)["evidence"]}


@NEWEST
def test_managers_and_daemons_by_their_names(vm: Vm) -> None:
    """Named wherever they run; a refusal only where their own record has the port."""
    up(vm, 1)
    name = vm.netdevs[1]
    programs = ("wickedd", "dhcpcd", "connmand", "keepalived", "zebra", "bird")
    words = ("wicked", "dhcpcd", "ConnMan", "keepalived", "FRR", "BIRD")
    vm.run(
        f"for n in {' '.join(programs)}; do cp /bin/sleep /tmp/$n; "
        "/tmp/$n 600 >/dev/null 2>&1 </dev/null & done"
    )
    pid = vm.run("pidof dhcpcd").out.strip()
    claim = ("claim", "--raw-qp", name, "--dry-run")
    try:
        _, document = doctor(vm)
        managers = [one for one in document["findings"] if one["code"] == "manager"]
        assert [one["level"] for one in managers] == ["advice"] * len(words)
        named = [one["what"] for one in managers]
        assert [word in what for word, what in zip(words, named, strict=True)] == [True] * 6
        planned = manactl(vm, *claim)
        assert planned.rc == 0, planned.err
        assert [word for word in words if word not in planned.out] == []

        vm.run(f"mkdir -p /run/dhcpcd && echo {pid} > /run/dhcpcd/{name}.pid")
        refused = manactl(vm, *claim)
        assert refused.rc == 3
        assert refusals(vm, *claim) == {"manager"}
        assert f"dhcpcd (pid {pid} dhcpcd)" in refused.err
        with wording:
            said = f"manager: {name}: a network manager controls it: dhcpcd (pid {pid} dhcpcd)"
            assert said in refused.err
        code, document = doctor(vm)
        (mine,) = (one for one in document["findings"] if one["level"] == "mend")
        assert (code, mine["code"]) == (3, "manager")
        assert all(word in mine["what"] for word in ("dhcpcd", name))
        with wording:
            assert mine["what"] == f"dhcpcd manages {name}"
        assert mine["mend"][0] == f"echo denyinterfaces {name} >> /etc/dhcpcd.conf"
        vm.run("rm -r /run/dhcpcd")
        vm.run(f"mkdir -p /run/network && echo {name}={name} > /run/network/ifstate")
        refused = manactl(vm, *claim)
        assert refused.rc == 3
        assert refusals(vm, *claim) == {"manager"}
        assert "ifupdown" in refused.err
        with wording:
            assert "controls it: ifupdown;" in refused.err
    finally:
        vm.run(f"killall {' '.join(programs)}; rm -rf /run/dhcpcd /run/network/ifstate; true")
