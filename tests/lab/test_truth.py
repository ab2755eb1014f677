"""What surrounds a port, told apart: elsewhere, drifted, half done, hidden, in reset, other users."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator

import pytest

from manactl.decide.port_words import note
from manactl.model.port import Note
from tests.lab.notes import ANY, is_note, noted
from tests.lab.scene import (
    AS_NOBODY,
    OF_A_RESET,
    Row,
    becomes,
    down,
    manactl,
    names_every_port,
    owners,
    report,
    requested,
    status,
    up,
)
from tests.lab.users import eventually, user
from tests.lab.vm import Vm
from tests.unit.wording import wording

IN_A_PID_NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc")


@contextlib.contextmanager
def moved(vm: Vm, port: int, where: str) -> Iterator[str]:
    """The port's netdev in the namespace `where`, a name or a pid; its name there."""
    name = vm.netdevs[port]
    ip = ["nsenter", f"--net=/proc/{where}/ns/net", "ip"] if where.isdecimal() else []
    ip = ip or ["ip", "-n", where]
    vm.run(["ip", "link", "set", name, "netns", where])
    try:
        yield name
    finally:
        vm.run([*ip, "link", "set", name, "down"])
        vm.run([*ip, "link", "set", name, "netns", "1"])


def test_a_netdev_elsewhere_is_found_and_believed(vm: Vm) -> None:
    up(vm, 1)
    vm.run(["ip", "netns", "add", "blue"])
    with moved(vm, 2, "blue") as name:
        row = status(vm)[2]
        assert (row["netns"], row["netdev"], row["admin"]) == ("blue", name, "down")
        assert (row["owner"], row["certainty"]) == ("free", "proven")
        assert noted(row["notes"], "netdev-in-netns", name, "blue")
        vm.run(["ip", "-n", "blue", "link", "set", name, "up"])
        row = status(vm)[2]
        assert (row["owner"], row["certainty"], row["netns"]) == ("ethernet", "proven", "blue")

        rows = status(vm, prefix=("ip", "netns", "exec", "blue"))
        assert (rows[2]["netns"], rows[2]["owner"]) == (None, "ethernet")
        assert (rows[1]["netns"], rows[1]["owner"]) == ("/proc/1/ns/net", "ethernet")

        # With the /sys of the namespace that it was called from.
        rows = status(vm, prefix=("nsenter", "--net=/run/netns/blue"))
        assert (rows[2]["netns"], rows[2]["netdev"], rows[2]["owner"]) == (None, name, "ethernet")
        assert (rows[1]["netns"], rows[1]["owner"]) == ("/proc/1/ns/net", "ethernet")

        document = report(vm, prefix=AS_NOBODY)
        (row,) = [row for row in document["ports"] if row["port"] == 2]
        assert (row["netdev"], row["netns"], row["owner"]) == (None, None, "unknown")
        assert "netns" in {entry["source"] for entry in document["missing"]}


def test_a_namespace_without_a_name_is_found_by_its_process(vm: Vm) -> None:
    up(vm, 1)
    container = vm.spawn(["unshare", "--net", "sh", "-c", "echo $$; exec sleep 600"])
    pid = container.read_until("\n", 60).strip()
    with moved(vm, 2, pid):
        row = status(vm)[2]
        assert row["netns"] == f"/proc/{pid}/ns/net"
        with user(vm, "rawqp") as holder:
            holder.wait_for("ready")
            holder.ask("create 2", "created")
            assert status(vm)[2]["owner"] == "raw-qp"
        becomes(vm, 2, "free")
    container.kill()


def test_drift_is_what_the_claim_did_not_do(vm: Vm) -> None:
    up(vm, 1, 2)
    name = vm.netdevs[2]
    result = manactl(vm, "claim", "--raw-qp", name, "--allow", "last-port")
    assert result.rc == 0, result.err
    row = status(vm)[2]
    assert (row["owner"], row["drift"]) == ("free", [])
    assert row["claim"] is not None
    vm.run(["ip", "netns", "add", "blue"])
    with moved(vm, 2, "blue"):
        (drift,) = status(vm)[2]["drift"]
        assert is_note(drift, "drift-moved", "blue")
    up(vm, 2)
    (drift,) = status(vm)[2]["drift"]
    assert is_note(drift, "drift-up")


def test_a_raw_qp_without_a_claim_has_a_note_and_no_drift(vm: Vm) -> None:
    up(vm, 1)
    down(vm, 2)
    with user(vm, "rawqp") as holder:
        pid = holder.wait_for("ready")["pid"]
        holder.ask("create 2", "created")
        row = status(vm)[2]
        assert (row["drift"], row["claim"]) == ([], None)
        assert noted(row["notes"], "unclaimed")
        assert [one["pid"] for one in row["holders"]] == [pid]

        row = status(vm, prefix=IN_A_PID_NAMESPACE)[2]
        assert (row["owner"], row["holders"]) == ("raw-qp", [])
        assert noted(row["notes"], "holder-unseen")


def test_what_a_crash_left_names_the_way_back(vm: Vm) -> None:
    """The claim is killed while the driver closes the netdev for it."""
    up(vm, 1, 2)
    vm.nic.fault("MANA_CONFIG_VPORT_RX", delay=5)
    words = ["claim", "--raw-qp", vm.netdevs[2], "--allow", "last-port"]
    claim = vm.spawn(["python3", "-m", "manactl", *words])
    requested(vm, claim.ended)
    vm.run(["kill", "-9", str(claim.pid)])
    claim.wait(60)
    becomes(vm, 2, "free")
    row = status(vm)[2]
    assert row["claim"] is not None
    assert row["drift"] == []
    assert noted(row["notes"], "claim-interrupted", note(Note("recover-sets-up", (ANY, ANY))))
    assert manactl(vm, "release").rc == 0
    row = status(vm)[2]
    assert (row["claim"], row["owner"]) == (None, "ethernet")


def test_users_of_other_queue_pairs_take_nothing_and_are_named(vm: Vm) -> None:
    up(vm, 1)
    down(vm, 2)
    with wording:  # the kernel's own GSI
        notes = [line for row in status(vm).values() for line in row["notes"]]
        assert not any("queue pair" in line for line in notes)
    rdma = status(vm)[1]["rdma"]
    device = rdma["others"][0].partition("/")[0] if rdma["others"] else rdma["device"]
    with user(vm, "rnic", device) as other:
        assert "qp" in other.wait_for("ready")["made"]
        rows = status(vm)
        assert [rows[port]["owner"] for port in (1, 2)] == ["ethernet", "free"]
        assert noted(rows[1]["notes"], "other-qps", device, 1)
        with user(vm, "rawqp") as holder:
            holder.wait_for("ready")
            holder.ask("create 2", "created")
            rows = status(vm)
            assert rows[2]["owner"] == "raw-qp"
            assert noted(rows[1]["notes"], "other-qps", device, 1)


def not_ended(vm: Vm, pids: list[int], *prefix: str) -> None:
    """`release --terminate` refuses for the sake of these processes, and they live on."""
    result = manactl(vm, "release", "--terminate", "--json", prefix=prefix)
    assert (result.rc, json.loads(result.out)["code"]) == (6, "holder"), result.err
    with wording:
        assert "nobody was signalled" in result.err
    vm.run(["kill", "-0", *map(str, pids)])


def test_only_who_is_sure_to_hold_the_port_is_ended(vm: Vm) -> None:
    """A holder in another pid namespace, and a process that may only have RC queue pairs."""
    up(vm, 1, 2)
    assert manactl(vm, "claim", "--raw-qp", vm.netdevs[2], "--allow", "last-port").rc == 0
    rdma = status(vm)[1]["rdma"]
    device = rdma["others"][0].partition("/")[0] if rdma["others"] else rdma["device"]
    with user(vm, "rawqp") as holder, user(vm, "rnic", device) as other:
        pid = holder.wait_for("ready")["pid"]
        ready = other.wait_for("ready")
        assert "qp" in ready["made"]
        bystander = ready["pid"]
        holder.ask("create 2", "created")
        not_ended(vm, [pid, bystander], *IN_A_PID_NAMESPACE)
        if device == rdma["device"]:
            not_ended(vm, [pid, bystander])
            holder.say("quit")
            becomes(vm, 2, "free")
            released = manactl(vm, "release", "--json")
        else:
            released = manactl(vm, "release", "--terminate", "--json")
            terminated = json.loads(released.out)["terminated"]
            assert [one["pid"] for one in terminated] == [pid]
        assert released.rc == 0, released.err
        vm.run(["kill", "-0", str(bystander)])
    assert owners(vm)[2] == "ethernet"


@pytest.fixture
def newest(make_vm: Callable[..., Vm]) -> Vm:
    """A guest to wreck, of the kernel whose faults the tests are about."""
    return make_vm("7")


def warned(row: Row) -> bool:
    """Of the crash that comes when a raw QP is destroyed, of this port or of another one."""
    return any(noted(row["notes"], "eqs-lost", own) for own in (True, False))


def test_a_raw_qp_that_debugfs_lost_is_not_a_free_port(newest: Vm) -> None:
    """A change of MTU on the down netdev loses the vport's EQs, and breaks the kernel later."""
    assert names_every_port(newest)
    down(newest, 1, 2)
    # Not ended here: the kernel crashes when the queue pair is destroyed.
    holder = newest.spawn(["python3", "/manactl/tests/lab/guest/rawqp.py"])
    holder.read_until("ready", 60)
    for port in (1, 2):
        holder.stdin_write(f"create {port}\n".encode())
        holder.read_until("created", 60)
    assert [row["owner"] for row in status(newest).values()] == ["raw-qp", "raw-qp"]
    newest.run(["ip", "link", "set", newest.netdevs[1], "mtu", "1400"])
    assert not newest.run("ls -d /sys/kernel/debug/mana/*/vport0/EQs", check=False).out
    rows = status(newest)
    assert rows[1]["owner"] == "unknown"
    assert rows[2]["owner"] == "raw-qp"
    assert warned(rows[1])
    result = manactl(newest, "claim", "--json", "--raw-qp", newest.netdevs[1])
    assert (result.rc, json.loads(result.out)["code"]) == (3, "kernel-bug"), result.err
    with wording:
        assert "Do not stop the program until you can reboot" in result.err


SETS_THE_MTU = {
    1: "ip link del bond1",
    2: "ip link set bond2 mtu 1400",
    3: "ip netns add away && ip link set {port} netns away",
}
HARMLESS = {4: "ip link set {port} nomaster"}


def test_a_bond_sets_the_mtu_of_its_member(make_vm: Callable[..., Vm]) -> None:
    """dev_set_mtu() asks whether that is another MTU; __dev_set_mtu() does not."""
    vm = make_vm("7", ports=4)
    vm.run("modprobe bonding")
    for port, name in vm.netdevs.items():
        vm.run(
            f"ip link add bond{port} type bond mode active-backup fail_over_mac 1 && "
            f"ip link set {name} down && ip link set {name} master bond{port}"
        )
    result = manactl(vm, "claim", "--dry-run", "--raw-qp", vm.netdevs[1], "--allow", "upper")
    assert result.rc == 0, result.err
    assert "bond1" in result.out
    with wording:
        assert "do not delete bond1" in result.out
    down(vm, *vm.netdevs)
    # Not ended here: the kernel crashes when a queue pair is destroyed.
    holder = vm.spawn(["python3", "/manactl/tests/lab/guest/rawqp.py"])
    holder.read_until("ready", 60)
    for port in vm.netdevs:
        holder.stdin_write(f"create {port}\n".encode())
        holder.read_until("created", 60)
    rows = status(vm)
    assert [row["owner"] for row in rows.values()] == ["raw-qp"] * 4
    assert all(noted(row["notes"], "bond-danger", ANY, f"bond{port}") for port, row in rows.items())
    for port, change in {**SETS_THE_MTU, **HARMLESS}.items():
        vm.run(change.format(port=vm.netdevs[port]))
    rows = status(vm)
    assert [row["owner"] for row in rows.values()] == ["unknown"] * 3 + ["raw-qp"]
    for port, row in rows.items():
        assert port not in SETS_THE_MTU or warned(row)
        with wording:
            assert any("KERNEL BUG: " in line for line in row["notes"]) is (port in SETS_THE_MTU)


def test_a_device_in_reset_is_owned_by_nobody(newest: Vm) -> None:
    """The driver closes the netdev and keeps IFF_UP for the ten seconds that the reset takes."""
    # It gives the kernel's own protection domain back when it no longer waits for answers.
    newest.tolerate_kmsg(*OF_A_RESET)
    up(newest, 1)
    down(newest, 2)
    newest.nic.fault("LIST_DEVICES", held=True)  # the reset does not end before we are done
    newest.nic.reset_request()
    becomes(newest, 1, "free")
    document = report(newest)
    rows = {row["port"]: row for row in document["ports"]}
    assert owners(newest) == {1: "free", 2: "free"}, "the reset was over: this proves nothing"
    assert (rows[1]["owner"], rows[1]["admin"], rows[1]["rdma"]) == ("unknown", "up", None)
    notes = rows[1]["notes"]
    assert noted(notes, "in-transition") or noted(notes, "owner-unknown", "in-reset")
    assert rows[2]["owner"] == "free"
    for port in (1, 2):
        result = manactl(newest, "claim", "--json", "--raw-qp", newest.netdevs[port])
        assert owners(newest) == {1: "free", 2: "free"}, "the reset was over: this proves nothing"
        assert (result.rc, json.loads(result.out)["code"]) == (3, "in-reset"), result.err
    eventually(newest.nic.let_go, what="the driver to ask for its devices")
    becomes(newest, 1, "ethernet")
    assert eventually(lambda: status(newest)[1]["owner"] == "ethernet")
