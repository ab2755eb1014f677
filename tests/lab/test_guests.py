"""The witnesses themselves: what the other tests conclude from them must be true of them."""

from __future__ import annotations

from contextlib import ExitStack

from tests.lab.scene import becomes, down, owners, up
from tests.lab.test_mainjob import echoes
from tests.lab.users import user
from tests.lab.vm import Vm


def pci_and_mac(vm: Vm, port: int) -> tuple[str, str]:
    return vm.pci, vm.get(f"/sys/class/net/{vm.netdevs[port]}/address").decode().strip()


def test_one_program_holds_raw_qps_on_several_ports(vm: Vm) -> None:
    down(vm, 1, 2)
    with user(vm, "rawqp") as holder:
        holder.wait_for("ready")
        assert holder.ask("create 1", "created")["id"] == 1
        assert owners(vm) == {1: "raw-qp", 2: "free"}
        assert holder.ask("create 2", "created")["id"] == 2
        assert owners(vm) == {1: "raw-qp", 2: "raw-qp"}
        holder.ask("destroy 1", "destroyed")
        assert owners(vm) == {1: "free", 2: "raw-qp"}
        holder.ask("create 1", "created")
        holder.ask("quit", "leaving")
    assert owners(vm) == {1: "free", 2: "free"}


def test_a_port_that_is_up_is_refused_to_it(vm: Vm) -> None:
    up(vm, 1)
    with user(vm, "rawqp") as holder:
        holder.wait_for("ready")
        fact = holder.ask("create 1", "refused")
        assert fact["where"] == "CREATE_QP"
        assert fact["name"] in {"EBUSY", "ENODEV"}
        fact = holder.ask("create 9", "refused")
        assert fact["name"] == "EINVAL"
        assert owners(vm)[1] == "ethernet"


def test_the_netdev_cannot_be_set_up_while_it_holds_the_port(vm: Vm) -> None:
    down(vm, 2)
    with user(vm, "rawqp") as holder:
        holder.wait_for("ready")
        holder.ask("create 2", "created")
        result = vm.run(["ip", "link", "set", vm.netdevs[2], "up"], check=False)
        assert result.rc != 0
        assert owners(vm)[2] == "raw-qp"
        holder.ask("destroy 1", "destroyed")
        up(vm, 2)
        assert owners(vm)[2] == "ethernet"


def test_a_forked_child_keeps_the_port_until_it_dies(vm: Vm) -> None:
    down(vm, 2)
    with user(vm, "rawqp") as holder:
        holder.wait_for("ready")
        holder.ask("create 2", "created")
        child = holder.ask("fork", "forked")["pid"]
        holder.ask("exit", "leaving")
        assert owners(vm)[2] == "raw-qp"
        vm.run(["kill", "-9", str(child)])
        becomes(vm, 2, "free")


def test_tcp_between_the_ports_is_watched(vm: Vm) -> None:
    name, peer = vm.netdevs[1], vm.netdevs[2]
    with ExitStack() as stack:
        vm.run(["ip", "netns", "add", "peer"])
        stack.callback(vm.run, ["ip", "netns", "del", "peer"])
        vm.run(["ip", "link", "set", peer, "netns", "peer"])
        stack.callback(vm.run, ["ip", "-n", "peer", "link", "set", peer, "netns", "1"])
        for host, where, last in ((name, [], 1), (peer, ["-n", "peer"], 2)):
            vm.run(["ip", *where, "addr", "add", f"10.1.0.{last}/24", "dev", host])
            vm.run(["ip", *where, "-6", "addr", "add", f"fd01::{last}/64", "dev", host, "nodad"])
            vm.run(["ip", *where, "link", "set", host, "up"])
        for address in ("10.1.0.2", "fd01::2"):
            serve = user(vm, "tcp", "serve", address, "7000", netns="peer")
            server = stack.enter_context(serve)
            server.wait_for("listening")
            prober = stack.enter_context(user(vm, "tcp", "probe", address, "7000"))
            prober.wait_for("connected")
            assert echoes(prober, 20)["failure"] is None
            down(vm, 1)  # the gap that a claim would tear
            fact = prober.ask("report", "report")
            while fact["silence_ms"] < 300:
                fact = prober.ask("report", "report")
            up(vm, 1)
            vm.run(["ip", "-6", "addr", "replace", "fd01::1/64", "dev", name, "nodad"])
            seen = fact["echoed"]
            assert echoes(prober, seen + 20)["failure"] is None
            assert prober.ask("quit", "quit")["longest_gap_ms"] >= 300


def test_testpmd_owns_its_port_and_leaves_it(vm: Vm) -> None:
    up(vm, 1)
    down(vm, 2)
    with user(vm, "testpmd", *pci_and_mac(vm, 2)) as testpmd:
        testpmd.wait_for("ready", 180)
        assert owners(vm) == {1: "ethernet", 2: "raw-qp"}
        testpmd.ask("start", "started")
        testpmd.ask("stop", "stopped")
        assert testpmd.ask("stats", "stats")["tx_errors"] == 0
        assert testpmd.ask("quit", "ended")["status"] == 0
    becomes(vm, 2, "free")


def test_testpmd_killed_frees_its_port(vm: Vm) -> None:
    down(vm, 2)
    with user(vm, "testpmd", vm.pci, "-") as testpmd:
        testpmd.wait_for("ready", 180)
        assert owners(vm) == {1: "raw-qp", 2: "raw-qp"}, "every port, without mac= (F13)"
        assert testpmd.ask("kill", "ended")["status"] == -9
    becomes(vm, 2, "free")
    becomes(vm, 1, "free")
    up(vm, 2)
