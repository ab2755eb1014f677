"""What cannot be seen from here takes certainty away, and never adds any."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.lab.scene import AS_NOBODY, agrees, down, manactl, names_every_port, owners, report, up
from tests.lab.test_doctor import found
from tests.lab.users import eventually, user
from tests.lab.vm import Vm
from tests.lab.walk import rdma_devices
from tests.unit.wording import wording

POD = "pod"
TWO_DEVICES = pytest.mark.parametrize(
    "kernel", [pytest.param(k, marks=pytest.mark.xdist_group(f"linux-{k}")) for k in ("6.18", "7")]
)


@pytest.fixture
def pod(vm: Vm) -> Iterator[str]:
    """A network namespace, while each RDMA device belongs to one of them."""
    vm.run(f"set -e; rdma system set netns exclusive; ip netns add {POD}")
    yield POD
    vm.run(f"ip netns del {POD}", check=False)
    eventually(
        lambda: vm.run("rdma system set netns shared", check=False).rc == 0, 30, "no namespace left"
    )


def missing(vm: Vm) -> dict[str, str]:
    """What could not be read, by its source."""
    return {one["source"]: one["why"] for one in report(vm)["missing"]}


def judged(vm: Vm) -> dict[int, dict[str, object]]:
    """Every port's row, none of which contradicts the NIC's record."""
    rows = {row["port"]: row for row in report(vm)["ports"]}
    for number, truth in owners(vm).items():
        agrees(rows[number], truth)
    return rows


def test_a_raw_qp_in_a_pod_that_has_the_raw_device(vm: Vm, pod: str) -> None:
    """The netdevs have stayed here, and so has the RNIC's device, which is idle. When the pod's
    name is gone, the namespace lives on by the program in it."""
    device = rdma_devices(vm)["raw"]
    up(vm, 1)
    down(vm, 2)
    vm.run(["rdma", "dev", "set", device, "netns", pod])
    assert judged(vm)[2]["owner"] == "unknown"
    with contextlib.ExitStack() as end:
        holder = end.enter_context(user(vm, "rawqp", device, netns=pod))
        pid = holder.wait_for("ready")["pid"]
        holder.ask("create 2", "created")
        for _ in ("named", "nameless"):
            rows = judged(vm)
            assert (rows[1]["owner"], rows[1]["certainty"]) == ("ethernet", "proven")
            seen = ("raw-qp", "inferred") if names_every_port(vm) else ("unknown", "unknown")
            assert (rows[2]["owner"], rows[2]["certainty"]) == seen
            assert rows[2]["rdma"] is None
            assert [one["pid"] for one in rows[2]["holders"]] == [pid]  # type: ignore[attr-defined]
            unread = missing(vm)["nldev"]
            assert f"({device}" in unread
            claim = manactl(vm, "claim", "--raw-qp", vm.netdevs[2], "--json")
            assert (claim.rc, claim.json()["code"]) == (8, "unsupported")
            assert f"({device})" in claim.json()["message"]
            assert "rdma dev set" in claim.err
            assert "modprobe" not in claim.err
            with wording:
                assert unread.startswith(f"raw-QP device in another network namespace ({device}")
                assert f"is not in this network namespace ({device})" in claim.err
            mend = found(vm)["rdma-netns"]
            assert (mend["level"], device in mend["what"]) == ("mend", True)
            if vm.run(["ip", "netns", "list"]).out:
                vm.run(["ip", "netns", "del", pod])
        holder.ask("destroy 1", "destroyed")
        assert judged(vm)[2]["owner"] == "unknown"
    # The last process of the namespace has gone, and the device has come back by itself.
    eventually(lambda: report(vm)["ports"][0]["rdma"] is not None, 30, "the device to come back")
    row = judged(vm)[2]
    assert (row["owner"], row["certainty"]) == ("free", "proven")


def test_a_port_of_which_nothing_is_here_is_found_in_the_pod(vm: Vm, pod: str) -> None:
    """Netdev and device for raw QPs are in the pod, and debugfs is not mounted: nothing here
    tells that there is a second port. In the pod nobody tells of those that are here."""
    device = rdma_devices(vm)["raw"]
    up(vm, 1)
    down(vm, 2)
    name = vm.netdevs[2]
    vm.run(f"ip link set {name} netns {pod}; rdma dev set {device} netns {pod}")
    vm.run("umount /sys/kernel/debug")
    rows = judged(vm)
    assert (rows[1]["netdev"], rows[1]["netns"]) == (vm.netdevs[1], None)
    assert (rows[2]["netdev"], rows[2]["netns"]) == (name, pod)
    vm.run(["ip", "link", "set", vm.netdevs[1], "netns", pod])
    assert [row["netns"] for row in judged(vm).values()] == [pod, pod]
    vm.run("ip netns add other")
    # A process that can look into no other namespace, as in a container.
    alone = ("ip", "netns", "exec", "other", "unshare", "--pid", "--fork", "--mount-proc", "sh",
             "-c", 'umount -l /run/netns 2>/dev/null; mount -t tmpfs none /run; exec "$@"', "sh")  # fmt: skip
    document = report(vm, prefix=alone)
    assert document["ports"] == []
    assert document["missing"] != []
    with wording:
        told = "\n".join(one["why"] for one in document["missing"])
        assert "no netdev of it can be seen from here" in told
    vm.run("ip netns del other; mount -t debugfs none /sys/kernel/debug")


@TWO_DEVICES
def test_the_rnics_device_in_a_pod_is_not_missed_for_raw_qps(vm: Vm, pod: str) -> None:
    """Its users cannot be seen, which refuses a claim until it is waived."""
    devices = rdma_devices(vm)
    down(vm, 1, 2)
    vm.run(["rdma", "dev", "set", devices["rnic"], "netns", pod])
    row = judged(vm)[2]
    assert (row["owner"], row["certainty"]) == ("free", "proven")
    assert row["rdma"] == {"device": devices["raw"], "port": 2, "others": []}
    finding = found(vm)["rdma-netns"]
    assert finding["level"] == "mend"
    name = vm.netdevs[2]
    refused = manactl(vm, "claim", "--raw-qp", name, "--json")
    assert (refused.rc, refused.json()["code"]) == (3, "rdma-users")
    assert manactl(vm, "claim", "--raw-qp", name, "--allow", "rdma-users").rc == 0
    assert manactl(vm, "release").rc == 0
    for mend in finding["mend"][:-1]:  # what it proposes is what helps
        vm.run(mend.replace("NETNS", pod))
    assert "rdma-netns" not in found(vm) or found(vm)["rdma-netns"]["level"] == "advice"


def test_hidden_processes_are_missing(vm: Vm) -> None:
    """An ordinary user is told that there may be holders he cannot see, whatever /proc lists."""
    down(vm, 2)
    with user(vm, "rawqp") as holder:
        pid = holder.wait_for("ready")["pid"]
        holder.ask("create 2", "created")
        for hidepid, why in ((0, "descriptors of"), (1, "descriptors of"), (2, "are hidden"),
                             (4, "are hidden")):  # fmt: skip
            vm.run(f"mount -o remount,hidepid={hidepid} /proc")
            for prefix in (AS_NOBODY, ("unshare", "-Ur"), ()):
                document = report(vm, prefix=prefix)
                told = [one["why"] for one in document["missing"] if one["source"] == "proc"]
                row = document["ports"][1]
                agrees(row, "raw-qp")
                if prefix == AS_NOBODY:
                    assert len(told) == 1, told
                    with wording:
                        assert why in told[0]
                    assert document["privileged"] is False
                    assert row["holders"] == []
                elif not prefix:
                    assert (told, document["privileged"]) == ([], True)
                    assert [one["pid"] for one in row["holders"]] == [pid]
        vm.run("mount -o remount,hidepid=0 /proc")


def test_root_of_a_user_namespace_is_not_root(vm: Vm) -> None:
    down(vm, 1, 2)
    for prefix in (("unshare", "-Ur"), (*AS_NOBODY, "unshare", "-Ur"), ("unshare", "-Urm")):
        assert report(vm, prefix=prefix)["privileged"] is False
        before = vm.run("ip -br link").out
        result = manactl(vm, "claim", "--raw-qp", vm.netdevs[1], prefix=prefix)
        assert result.rc == 7, result.err
        assert "CAP_NET_ADMIN" in result.err
        with wording:
            said = "CAP_NET_ADMIN in the user namespace that owns this network namespace"
            assert said in result.err
        assert vm.run("ip -br link").out == before
    assert report(vm)["privileged"] is True
    # In a user namespace with a network namespace of its own: no port is there to be claimed.
    result = manactl(vm, "claim", "--raw-qp", vm.netdevs[1], prefix=("unshare", "-Urn"))
    assert result.rc in (2, 3, 7), result.err


@pytest.mark.parametrize("how", ["off", "no-mount"])
def test_a_kernel_that_does_not_offer_debugfs(make_vm: Callable[..., Vm], how: str) -> None:
    vm = make_vm("7", append=f"debugfs={how}")
    assert vm.run("mount -t debugfs none /sys/kernel/debug", check=False).rc != 0
    down(vm, 2)
    up(vm, 1)
    unread = missing(vm)["debugfs"]
    with wording:
        assert unread == "this kernel does not offer it (debugfs=off or no-mount)"
    rows = judged(vm)
    assert [rows[port]["owner"] for port in (1, 2)] == ["ethernet", "free"]
    with user(vm, "rawqp") as holder:
        holder.wait_for("ready")
        holder.ask("create 2", "created")
        assert judged(vm)[2]["owner"] == "raw-qp"
    down(vm, 1)
    name = vm.netdevs[2]
    eventually(lambda: owners(vm)[2] == "free", 30, "the holder to end")
    claim = manactl(vm, "claim", "--raw-qp", name, "--json")
    assert (claim.rc, '"proven": true' in claim.out) == (0, True)
    assert manactl(vm, "release").rc == 0
    finding = found(vm)["debugfs"]
    assert (finding["level"], finding["mend"]) == ("advice", [])
