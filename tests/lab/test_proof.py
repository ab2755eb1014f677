"""prove_free() on the real drivers: by pyverbs and by the character device."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lab.scene import AS_NOBODY, down, owners, up
from tests.lab.test_mainjob import HIDDEN_PYVERBS, NO_NET_RAW, Watch
from tests.lab.users import user
from tests.lab.vm import Vm
from tests.unit.wording import wording

PROGRAM = """
import json, logging, os, sys
from manactl.look.raw_qp_probe import prove_free
before = sorted(os.listdir("/proc/self/fd"))
device = sys.argv[1]
pci = os.path.basename(os.path.realpath(f"/sys/class/infiniband/{device}/device"))
proof = prove_free(pci, device, int(sys.argv[2]))
print(json.dumps({
    "outcome": proof.outcome, "errno": proof.errno, "where": proof.where, "via": proof.via,
    "message": proof.message, "hint": proof.hint,
    "fds": sorted(os.listdir("/proc/self/fd")) == before,
    "handlers": len(logging.getLogger().handlers),
}))
"""


@pytest.fixture(params=["pyverbs", "uverbs"])
def via(vm: Vm, request: pytest.FixtureRequest) -> str:
    vm.put("/tmp/hidden/pyverbs/__init__.py", HIDDEN_PYVERBS.encode())
    return str(request.param)


def prove(vm: Vm, via: str, device: str, port: int, *prefix: str) -> dict[str, Any]:
    path = "/manactl/src" if via == "pyverbs" else "/tmp/hidden:/manactl/src"
    argv = [*prefix, "env", f"PYTHONPATH={path}", "python3", "-c", PROGRAM, device, str(port)]
    proof: dict[str, Any] = json.loads(vm.run(argv).out)
    assert proof.pop("fds"), "a descriptor stayed open"
    assert proof.pop("handlers") == 0, "importing pyverbs left a log handler"
    return proof


def devices(vm: Vm) -> tuple[str, str | None]:
    """The device raw QPs belong to, by a program that asks each for its part id; and the RNIC."""
    with user(vm, "rawqp") as witness:
        ethernet = str(witness.wait_for("ready")["device"])
        witness.ask("quit", "leaving")
    others = set(vm.run("ls /sys/class/infiniband").out.split()) - {ethernet}
    return ethernet, others.pop() if others else None


def test_a_free_vport_is_proven_free_and_free_afterwards(vm: Vm, via: str) -> None:
    down(vm, 1, 2)
    device = devices(vm)[0]
    watch = Watch.start(vm)
    for port in (1, 2):
        proof = prove(vm, via, device, port)
        assert (proof["outcome"], proof["via"]) == ("free", via), proof
    assert watch.programmed() == [(1, "raw-qp"), (2, "raw-qp")]
    assert owners(vm) == {1: "free", 2: "free"}
    up(vm, 1, 2)


def test_an_owned_vport_is_taken(vm: Vm, via: str) -> None:
    up(vm, 1)
    down(vm, 2)
    device = devices(vm)[0]
    with user(vm, "rawqp") as holder:
        holder.wait_for("ready")
        holder.ask("create 2", "created")
        watch = Watch.start(vm)
        for port in (1, 2):
            proof = prove(vm, via, device, port)
            assert (proof["outcome"], proof["where"]) == ("taken", "CREATE_QP"), proof
            assert proof["errno"] in {16, 19}
        assert watch.programmed() == []
        assert owners(vm) == {1: "ethernet", 2: "raw-qp"}
        holder.ask("quit", "leaving")


def test_without_cap_net_raw_it_is_denied(vm: Vm, via: str) -> None:
    down(vm, 2)
    proof = prove(vm, via, devices(vm)[0], 2, *NO_NET_RAW)
    assert (proof["outcome"], proof["where"], proof["errno"]) == ("denied", "CREATE_QP", 1)
    assert "CAP_NET_RAW" in proof["message"]


@pytest.mark.parametrize(("limit", "where"), [(0, "CREATE_CQ"), (4096, "CREATE_QP")])
def test_too_little_locked_memory_is_told_from_taken(
    vm: Vm, via: str, limit: int, where: str
) -> None:
    down(vm, 2)
    device = devices(vm)[0]
    vm.run("chmod 666 /dev/infiniband/uverbs*")
    keep = ("--ambient-caps=+net_raw", "--inh-caps=+net_raw")
    nobody = [word for word in AS_NOBODY if not word.startswith("--inh-caps")]
    proof = prove(vm, via, device, 2, "prlimit", f"--memlock={limit}:{limit}", *nobody, *keep)
    assert (proof["outcome"], proof["where"]) == ("cannot", where), proof
    assert "RLIMIT_MEMLOCK" in proof["message"]
    assert proof["hint"]
    assert owners(vm)[2] == "free"


def test_an_ordinary_user_with_cap_net_raw_can_prove(vm: Vm, via: str) -> None:
    down(vm, 2)
    device = devices(vm)[0]
    vm.run("chmod 666 /dev/infiniband/uverbs*")
    keep = ("--ambient-caps=+net_raw", "--inh-caps=+net_raw")
    nobody = [word for word in AS_NOBODY if not word.startswith("--inh-caps")]
    assert prove(vm, via, device, 2, *nobody, *keep)["outcome"] == "free"


def test_the_rnic_is_refused_before_it_is_asked(vm: Vm, via: str) -> None:
    _, rnic = devices(vm)
    if rnic is None:
        assert not vm.release.startswith("7"), "7.x has an RDMA device of its own for the RNIC"
        return
    down(vm, 1)
    watch = Watch.start(vm)
    proof = prove(vm, via, rnic, 1)
    assert proof["outcome"] == "cannot"
    with wording:
        assert "RNIC" in proof["message"]
    assert watch.programmed() == []


def test_a_port_or_device_that_is_not_there(vm: Vm, via: str) -> None:
    device = devices(vm)[0]
    proof = prove(vm, via, device, 3)
    assert proof["outcome"] == "cannot"
    with wording:
        assert "ports are 1 to 2" in proof["message"]
    proof = prove(vm, via, "mana_77", 1)
    assert (proof["outcome"], proof["where"]) == ("cannot", "open")
