"""What cannot be seen from here takes certainty away, and never adds any."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.lab.scene import agrees, down, manactl, names_every_port, owners, report, up
from tests.lab.test_doctor import found
from tests.lab.users import eventually, user
from tests.lab.vm import Vm
from tests.lab.walk import rdma_devices

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


def missing(vm: Vm) -> str:
    return "\n".join(f"{one['source']}: {one['why']}" for one in report(vm)["missing"])


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
            assert f"nldev: raw-QP device in another network namespace ({device}" in missing(vm)
            claim = manactl(vm, "claim", "--raw-qp", vm.netdevs[2])
            assert claim.rc == 8
            assert f"is not in this network namespace ({device})" in claim.err
            assert "rdma dev set" in claim.err
            assert "modprobe" not in claim.err
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


@TWO_DEVICES
def test_the_rnics_device_in_a_pod_is_not_missed_for_raw_qps(vm: Vm, pod: str) -> None:
    """Its users cannot be seen, which refuses a claim until it is waived."""
    devices = rdma_devices(vm)
    down(vm, 1, 2)
    vm.run(["rdma", "dev", "set", devices["rnic"], "netns", pod])
    row = judged(vm)[2]
    assert (row["owner"], row["certainty"]) == ("free", "proven")
    assert row["rdma"] == {"device": devices["raw"], "port": 2, "others": []}
    assert found(vm)["rdma-netns"]["level"] == "mend"
    name = vm.netdevs[2]
    refused = manactl(vm, "claim", "--raw-qp", name)
    assert (refused.rc, "rdma-users" in refused.err) == (3, True)
    assert manactl(vm, "claim", "--raw-qp", name, "--allow", "rdma-users").rc == 0
    assert manactl(vm, "release").rc == 0
