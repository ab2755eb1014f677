"""The main job: a port goes to a raw-QP program and comes back as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.lab.scene import becomes, down, manactl, owners, status, up
from tests.lab.users import User, eventually, user
from tests.lab.vm import Vm
from tests.unit.wording import wording

NO_NET_RAW = ("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw")
HIDDEN_PYVERBS = "raise ModuleNotFoundError(\"No module named 'pyverbs'\", name='pyverbs')\n"
# What a request of the driver may be while nobody touches a port: it polls the counters.
POLLED = {"MANA_QUERY_GF_STAT", "MANA_QUERY_PHY_STAT", "MANA_QUERY_LINK_CONFIG"}


@pytest.fixture
def addressed(vm: Vm) -> Vm:
    """Both ports up with addresses of both families, and a route over the second."""
    up(vm, 1, 2)
    for port, name in vm.netdevs.items():
        vm.run(["ip", "addr", "add", f"10.0.{port}.1/24", "dev", name])
        vm.run(["ip", "-6", "addr", "add", f"fd00:{port}::1/64", "dev", name, "nodad"])
    second = vm.netdevs[2]
    vm.run(["ip", "route", "add", "10.9.0.0/16", "via", "10.0.2.254", "dev", second])
    vm.run(["ip", "-6", "route", "add", "fd09::/32", "via", "fd00:2::fe", "dev", second])
    settle(vm)
    return vm


def settle(vm: Vm) -> None:
    """Wait for the link-local addresses: their routes come when they are no longer tentative."""
    names = [name for port, name in vm.netdevs.items() if owners(vm)[port] == "ethernet"]
    for name in names:
        argv = ["ip", "-6", "-o", "addr", "show", "dev", name, "scope", "link", "-tentative"]
        eventually(lambda argv=argv: vm.run(argv).out, what=f"the link-local address of {name}")


def settings(vm: Vm, port: int) -> dict[str, Any]:
    """Addresses and routes of a port as `ip` tells them, without what time changes."""
    settle(vm)
    name = vm.netdevs[port]
    (link,) = json.loads(vm.run(["ip", "-j", "addr", "show", "dev", name]).out)
    found: dict[str, Any] = {"up": "UP" in link["flags"]}
    found["addresses"] = sorted(
        f"{entry['local']}/{entry['prefixlen']} {entry['scope']}" for entry in link["addr_info"]
    )
    for family in ("-4", "-6"):
        argv = ["ip", "-j", family, "route", "show", "table", "all", "dev", name]
        routes = json.loads(vm.run(argv).out or "[]")
        found[family] = sorted(
            json.dumps({k: v for k, v in route.items() if k not in {"flags", "expires"}})
            for route in routes
        )
    return found


@dataclass
class Watch:
    """What the NIC and rtnetlink heard since it was started."""

    vm: Vm
    since: int

    @classmethod
    def start(cls, vm: Vm) -> Watch:
        return cls(vm, vm.nic.sequence())

    def events(self) -> list[dict[str, Any]]:
        return self.vm.nic.history(self.since)

    def programmed(self) -> list[tuple[int, str]]:
        """(port, owner) for each time a vport was given to somebody."""
        return [
            (event["port"], event["owner"])
            for event in self.events()
            if event["event"] == "vport-configured"
        ]

    def requests(self) -> set[str]:
        """Names of the requests the driver sent, but for its polling."""
        names = {event.get("name", "") for event in self.events() if event["event"] == "request"}
        return names - POLLED


@contextmanager
def silence(vm: Vm) -> Iterator[None]:
    """Fails if anything in rtnetlink changes meanwhile."""

    def mark(address: str) -> None:
        vm.run(["ip", "route", "add", "unreachable", address])
        vm.run(["ip", "route", "del", "unreachable", address])

    def listening() -> bool:
        mark("192.0.2.1")
        return "192.0.2.1" in monitor.out

    monitor = vm.spawn(["ip", "monitor", "link", "address", "route"])
    try:
        eventually(listening, what="ip monitor to say something")
        mark("192.0.2.2")
        monitor.read_until("Deleted unreachable 192.0.2.2", 20)
        monitor.read_until("\n", 20)
        yield
        mark("192.0.2.3")
        heard = monitor.read_until("192.0.2.3", 20)
        assert heard.split() == ["unreachable", "192.0.2.3"]
    finally:
        monitor.kill()


def claim(vm: Vm, port: int, *words: str, **how: Any) -> Any:
    return manactl(vm, "claim", "--raw-qp", vm.netdevs[port], *words, **how)


def test_claim_proves_the_very_vport_and_release_brings_all_back(addressed: Vm) -> None:
    vm = addressed
    before = settings(vm, 2)
    other = settings(vm, 1)
    watch = Watch.start(vm)
    result = claim(vm, 2)
    assert result.rc == 0, result.err
    assert watch.programmed() == [(2, "raw-qp")]
    assert owners(vm) == {1: "ethernet", 2: "free"}
    row = status(vm)[2]
    assert (row["owner"], row["admin"], row["claim"]["proven"]) == ("free", "down", True)
    assert row["claim"]["mode"] == "claim"
    assert status(vm)[1]["claim"] is None
    again = manactl(vm, "release")
    assert again.rc == 0, again.err
    assert owners(vm) == {1: "ethernet", 2: "ethernet"}
    assert settings(vm, 2) == before
    assert settings(vm, 1) == other
    assert status(vm)[2]["claim"] is None
    nothing = manactl(vm, "release", "--json")
    assert (nothing.rc, nothing.json()["ports"]) == (0, [])
    with wording:
        nothing = manactl(vm, "release")
        assert "othing" in nothing.out + nothing.err


def test_claim_proves_without_pyverbs_too(addressed: Vm) -> None:
    vm = addressed
    vm.put("/tmp/hidden/pyverbs/__init__.py", HIDDEN_PYVERBS.encode())
    watch = Watch.start(vm)
    result = claim(vm, 2, path="/tmp/hidden:/manactl/src")
    assert result.rc == 0, result.err
    assert watch.programmed() == [(2, "raw-qp")]
    assert status(vm)[2]["claim"]["proven"] is True
    assert manactl(vm, "release").rc == 0
    vm.run("rm -r /tmp/hidden")


def test_claim_without_cap_net_raw_says_that_it_is_not_proven(addressed: Vm) -> None:
    vm = addressed
    watch = Watch.start(vm)
    result = claim(vm, 2, prefix=NO_NET_RAW)
    assert result.rc == 0, result.err
    with wording:
        assert "not proven" in result.out + result.err
        assert "CAP_NET_RAW" in result.out + result.err
    assert watch.programmed() == []
    assert status(vm)[2]["claim"]["proven"] is False
    assert manactl(vm, "release").rc == 0


def test_testpmd_on_the_claimed_port_then_tcp_over_it(addressed: Vm) -> None:
    vm = addressed
    row = status(vm)[2]
    assert claim(vm, 2).rc == 0
    with user(vm, "testpmd", row["pci"], row["permanent_mac"]) as testpmd:
        pid = testpmd.wait_for("ready", 180)["pid"]
        now = status(vm)[2]
        assert now["owner"] == "raw-qp"
        assert [(h["pid"], h["comm"]) for h in now["holders"]] == [(pid, "dpdk-testpmd")]
        refused = manactl(vm, "release")
        assert refused.rc == 6
        assert "dpdk-testpmd" in refused.err
        assert str(pid) in refused.err
        assert owners(vm)[2] == "raw-qp"
        testpmd.ask("quit", "ended")
    becomes(vm, 2, "free")
    released = manactl(vm, "release")
    assert released.rc == 0, released.err
    tcp_runs(vm)


def tcp_runs(vm: Vm) -> None:
    """Echoes over both ports, the first of them moved to a namespace of its own."""
    name = vm.netdevs[1]
    with ExitStack() as stack:
        vm.run(["ip", "netns", "add", "peer"])
        stack.callback(vm.run, ["ip", "netns", "del", "peer"])
        vm.run(["ip", "link", "set", name, "netns", "peer"])
        stack.callback(vm.run, ["ip", "-n", "peer", "link", "set", name, "netns", "1"])
        vm.run(["ip", "-n", "peer", "addr", "add", "10.0.2.2/24", "dev", name])
        vm.run(["ip", "-n", "peer", "link", "set", name, "up"])
        server = stack.enter_context(user(vm, "tcp", "serve", "10.0.2.2", "7000", netns="peer"))
        server.wait_for("listening")
        prober = stack.enter_context(user(vm, "tcp", "probe", "10.0.2.2", "7000"))
        prober.wait_for("connected")
        assert echoes(prober, 20)["failure"] is None
        prober.ask("quit", "quit")


def echoes(prober: User, wanted: int) -> dict[str, Any]:
    fact = prober.ask("report", "report")
    while fact["echoed"] < wanted and fact["failure"] is None and fact["silence_ms"] < 20_000:
        fact = prober.ask("report", "report")
    return fact


def test_a_port_whose_vport_is_taken_is_busy(addressed: Vm) -> None:
    vm = addressed
    down(vm, 2)
    with user(vm, "rawqp") as holder:
        pid = holder.wait_for("ready")["pid"]
        holder.ask("create 2", "created")
        watch = Watch.start(vm)
        result = claim(vm, 2)
        assert result.rc == 6, result.out + result.err
        assert str(pid) in result.err
        assert watch.programmed() == []
        assert owners(vm)[2] == "raw-qp"
        assert status(vm)[2]["claim"] is None
        holder.ask("quit", "leaving")


def test_a_port_that_was_down_stays_down(addressed: Vm) -> None:
    vm = addressed
    down(vm, 2)
    before = settings(vm, 2)
    assert claim(vm, 2).rc == 0
    result = manactl(vm, "release")
    assert result.rc == 0, result.err
    assert settings(vm, 2) == before
    assert owners(vm)[2] == "free"


def test_a_dry_run_changes_nothing(addressed: Vm) -> None:
    vm = addressed
    watch = Watch.start(vm)
    with silence(vm):
        result = claim(vm, 2, "--dry-run")
    assert result.rc == 0, result.err
    assert vm.netdevs[2] in result.out
    assert watch.programmed() == []
    assert watch.requests() == set()
    assert vm.run("ls /var/lib/manactl/*", check=False).rc != 0


def test_claim_with_a_bare_port_shows_the_right_line(vm: Vm) -> None:
    result = manactl(vm, "claim", vm.netdevs[2])
    assert result.rc == 2
    assert f"manactl claim --raw-qp {vm.netdevs[2]}" in result.err


def test_the_port_of_a_tcp_connection_is_refused_and_untouched(addressed: Vm) -> None:
    vm = addressed
    peer = vm.netdevs[2]
    with ExitStack() as stack:
        vm.run(["ip", "netns", "add", "peer"])
        stack.callback(vm.run, ["ip", "netns", "del", "peer"])
        vm.run(["ip", "link", "set", peer, "netns", "peer"])
        stack.callback(vm.run, ["ip", "-n", "peer", "link", "set", peer, "netns", "1"])
        vm.run(["ip", "-n", "peer", "addr", "add", "10.0.1.2/24", "dev", peer])
        vm.run(["ip", "-n", "peer", "link", "set", peer, "up"])
        server = stack.enter_context(user(vm, "tcp", "serve", "10.0.1.2", "7000", netns="peer"))
        server.wait_for("listening")
        prober = stack.enter_context(user(vm, "tcp", "probe", "10.0.1.2", "7000"))
        prober.wait_for("connected")
        settle(vm)
        watch = Watch.start(vm)
        with silence(vm):
            result = claim(vm, 1)
        assert result.rc == 3, result.out + result.err
        assert "tcp-established" in result.err
        assert watch.programmed() == []
        assert watch.requests() == set()
        assert prober.ask("report", "report")["failure"] is None
        document = json.loads(claim(vm, 1, "--json").out)
        assert document["schema"] == "manactl.error/1"
        assert "tcp-established" in {one["fact"] for one in document["evidence"]}
        assert {"code", "message", "hint", "evidence"} <= set(document)
        prober.ask("quit", "quit")


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("claim", "--help")])
def test_help_runs_from_the_checkout_and_loads_nothing_heavy(
    vm: Vm, words: tuple[str, ...]
) -> None:
    """On the distribution's own click, rich and pyverbs, with nothing installed."""
    ran = vm.run(["python3", "-X", "importtime", "-m", "manactl", *words])
    assert "manactl" in ran.out
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in ran.err.splitlines()}
    assert "click" in loaded
    assert not loaded & {"rich", "pyroute2", "pyverbs", "asyncio"}
