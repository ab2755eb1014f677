"""Who owns a port, as `status` tells it, beside the NIC's own record of who programmed it."""

from __future__ import annotations

import pytest

from tests.lab.scene import (
    AS_NOBODY,
    becomes,
    down,
    names_every_port,
    owners,
    report,
    status,
    up,
)
from tests.lab.users import eventually, user
from tests.lab.vm import Vm

REPORT_KEYS = {"schema", "time", "kernel", "privileged", "missing", "ports"}
PORT_KEYS = {
    *("netdev", "ifindex", "netns", "altnames", "pci", "port", "mac", "permanent_mac", "upper"),
    *("rdma", "admin", "operstate", "carrier", "owner", "candidates", "certainty", "holders"),
    *("evidence", "drift", "notes", "claim"),
}
HOLDER_KEYS = {"pid", "comm", "exe", "uid", "unit", "container", "since"}


def undecided(rows: dict[int, dict[str, object]], *ports: int) -> None:
    """All of `ports`, and no other, may be the one that the raw QP has."""
    expected = sorted(f"{rows[port]['pci']}:{port}" for port in ports)
    for port in ports:
        assert rows[port]["owner"] == "unknown"
        assert sorted(rows[port]["candidates"]) == expected  # type: ignore[call-overload]


def pids(row: dict[str, object]) -> list[int]:
    return [holder["pid"] for holder in row["holders"]]  # type: ignore[attr-defined]


def test_the_document_has_the_promised_keys(vm: Vm) -> None:
    down(vm, 1)
    up(vm, 2)
    with user(vm, "rawqp") as holder:
        pid = holder.wait_for("ready")["pid"]
        holder.ask("create 1", "created")
        document = report(vm)
        holder.ask("quit", "leaving")
    assert document["schema"] == "manactl.status/1"
    assert set(document) >= REPORT_KEYS
    assert document["privileged"] is True
    assert document["kernel"] == vm.run(["uname", "-r"]).out.strip()
    for row in document["ports"]:
        assert set(row) >= PORT_KEYS
        assert {"source", "fact", "value"} == set(row["evidence"][0])
        assert row["netdev"] == vm.netdevs[row["port"]]
        assert row["rdma"]["port"] == row["port"]
    (row,) = [row for row in document["ports"] if row["port"] == 1]
    (seen,) = row["holders"]
    assert set(seen) >= HOLDER_KEYS
    assert (seen["pid"], seen["comm"], seen["uid"]) == (pid, "python3", 0)


def test_a_netdev_that_is_up_owns_its_port(vm: Vm) -> None:
    up(vm, 1, 2)
    rows = status(vm)
    for row in rows.values():
        assert (row["owner"], row["certainty"], row["admin"]) == ("ethernet", "proven", "up")
        assert row["carrier"] is True


def test_down_and_unused_is_free(vm: Vm) -> None:
    down(vm, 1, 2)
    up(vm, 1)
    rows = status(vm)
    assert rows[1]["owner"] == "ethernet"
    assert (rows[2]["owner"], rows[2]["certainty"]) == ("free", "proven")
    down(vm, 1)
    rows = status(vm)
    assert [rows[port]["owner"] for port in (1, 2)] == ["free", "free"]


def test_a_context_without_a_queue_pair_takes_nothing(vm: Vm) -> None:
    down(vm, 1, 2)
    with user(vm, "rawqp") as holder:
        holder.wait_for("ready")
        holder.ask("open", "opened")
        rows = status(vm)
        assert [rows[port]["owner"] for port in (1, 2)] == ["free", "free"]


def test_the_only_port_that_can_have_the_raw_qp_has_it(vm: Vm) -> None:
    up(vm, 1)
    down(vm, 2)
    with user(vm, "rawqp") as holder:
        pid = holder.wait_for("ready")["pid"]
        holder.ask("create 2", "created")
        rows = status(vm)
        assert rows[1]["owner"] == "ethernet"
        assert rows[2]["owner"] == "raw-qp"
        assert pids(rows[2]) == [pid]
        holder.ask("destroy 1", "destroyed")
        assert status(vm)[2]["owner"] == "free"


def test_several_ports_down_name_the_port_or_the_candidates(vm: Vm) -> None:
    down(vm, 1, 2)
    with user(vm, "rawqp") as holder:
        pid = holder.wait_for("ready")["pid"]
        holder.ask("create 2", "created")
        rows = status(vm)
        if names_every_port(vm):
            assert [rows[port]["owner"] for port in (1, 2)] == ["free", "raw-qp"]
            assert pids(rows[2]) == [pid]
        else:
            undecided(rows, 1, 2)


def test_the_first_of_two_raw_qps_gone_the_second_still_owns(vm: Vm) -> None:
    """restrack follows only one raw QP of a device and then says that there is none."""
    down(vm, 1, 2)
    with user(vm, "rawqp") as holder:
        pid = holder.wait_for("ready")["pid"]
        holder.ask("create 1", "created")
        holder.ask("create 2", "created")
        assert owners(vm) == {1: "raw-qp", 2: "raw-qp"}
        status(vm)
        holder.ask("destroy 1", "destroyed")
        rows = status(vm)
        if names_every_port(vm):
            assert [rows[port]["owner"] for port in (1, 2)] == ["free", "raw-qp"]
        else:
            undecided(rows, 1, 2)
        up(vm, 1)
        rows = status(vm)
        assert rows[1]["owner"] == "ethernet"
        assert rows[2]["owner"] == "raw-qp"
        assert pids(rows[2]) == [pid]


def test_a_child_that_shares_the_descriptor_is_the_holder(vm: Vm) -> None:
    up(vm, 1)
    down(vm, 2)
    with user(vm, "rawqp") as holder:
        parent = holder.wait_for("ready")["pid"]
        holder.ask("create 2", "created")
        child = holder.ask("fork", "forked")["pid"]
        assert sorted(pids(status(vm)[2])) == sorted([parent, child])
        holder.ask("exit", "leaving")
        eventually(lambda: vm.run(["test", "-e", f"/proc/{parent}"], check=False).rc != 0)
        rows = status(vm)
        assert rows[2]["owner"] == "raw-qp"
        assert pids(rows[2]) == [child]
        vm.run(["kill", "-9", str(child)])
        becomes(vm, 2, "free")
        assert eventually(lambda: status(vm)[2]["owner"]) == "free"


def test_a_killed_holder_leaves_the_port_free(vm: Vm) -> None:
    up(vm, 1)
    down(vm, 2)
    with user(vm, "rawqp") as holder:
        pid = holder.wait_for("ready")["pid"]
        holder.ask("create 2", "created")
        assert status(vm)[2]["owner"] == "raw-qp"
        vm.run(["kill", "-9", str(pid)])
        becomes(vm, 2, "free")
    eventually(lambda: vm.run(["test", "-e", f"/proc/{pid}"], check=False).rc != 0)
    rows = status(vm)
    assert (rows[2]["owner"], rows[2]["holders"]) == ("free", [])


def test_two_programs_each_with_its_port(vm: Vm) -> None:
    down(vm, 1, 2)
    with user(vm, "rawqp") as first, user(vm, "rawqp") as second:
        here = first.wait_for("ready")["pid"]
        there = second.wait_for("ready")["pid"]
        first.ask("create 1", "created")
        second.ask("create 2", "created")
        rows = status(vm)
        for row in rows.values():
            assert row["owner"] == ("raw-qp" if names_every_port(vm) else "unknown")
            assert sorted(pids(row)) == sorted([here, there])


def test_without_debugfs_it_degrades_and_never_lies(vm: Vm) -> None:
    vm.run("umount /sys/kernel/debug")
    try:
        up(vm, 1)
        down(vm, 2)
        with user(vm, "rawqp") as holder:
            holder.wait_for("ready")
            holder.ask("create 2", "created")
            assert status(vm)[2]["owner"] == "raw-qp"
            down(vm, 1)
            undecided(status(vm), 1, 2)
        becomes(vm, 2, "free")
        missing = {entry["source"] for entry in report(vm)["missing"]}
        assert "debugfs" in missing
        rows = status(vm)
        assert [rows[port]["owner"] for port in (1, 2)] == ["free", "free"]
    finally:
        vm.run("mount -t debugfs none /sys/kernel/debug")


def test_an_ordinary_user_sees_the_owner_too(vm: Vm) -> None:
    up(vm, 1)
    down(vm, 2)
    with user(vm, "rawqp") as holder:
        holder.wait_for("ready")
        holder.ask("create 2", "created")
        document = report(vm, prefix=AS_NOBODY)
        assert document["privileged"] is False
        assert document["missing"]
        rows = status(vm, prefix=AS_NOBODY)
        assert [rows[port]["owner"] for port in (1, 2)] == ["ethernet", "raw-qp"]
        assert rows[2]["holders"] == []  # whose descriptors these are, only root can see
    becomes(vm, 2, "free")
    assert eventually(lambda: status(vm, prefix=AS_NOBODY)[2]["owner"]) == "free"


@pytest.mark.parametrize("state", ["up", "down"])
def test_a_netdev_in_another_namespace_is_not_a_free_port(vm: Vm, state: str) -> None:
    name = vm.netdevs[2]
    vm.run(["ip", "netns", "add", "away"])
    try:
        vm.run(["ip", "link", "set", name, "netns", "away"])
        vm.run(["ip", "-n", "away", "link", "set", name, state])
        up(vm, 1)
        row = status(vm)[2]
        assert (row["netdev"], row["netns"]) == (name, "away")
        assert row["owner"] == ("ethernet" if state == "up" else "free")
    finally:
        vm.run(["ip", "-n", "away", "link", "set", name, "down"])
        vm.run(["ip", "-n", "away", "link", "set", name, "netns", "1"])
        vm.run(["ip", "netns", "del", "away"])


def test_a_user_of_the_rnic_owns_no_vport(vm: Vm) -> None:
    up(vm, 1)
    rdma = status(vm)[1]["rdma"]
    device = rdma["others"][0].partition("/")[0] if rdma["others"] else rdma["device"]
    with user(vm, "rnic", device) as other:
        made = other.wait_for("ready")["made"]
        assert "pd" in made
        down(vm, 1, 2)
        rows = status(vm)
        for row in rows.values():
            assert row["owner"] != "raw-qp"
        if rdma["others"]:  # the RNIC is a device of its own: its users say nothing of vports
            assert [rows[port]["owner"] for port in (1, 2)] == ["free", "free"]
