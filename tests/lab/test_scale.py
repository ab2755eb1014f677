"""Many ports on a function, and several functions: the answers stay right."""

from __future__ import annotations

import json
from collections.abc import Callable

import jsonschema
import pytest

from tests.lab.image import CHECKOUT
from tests.lab.scene import agrees, down, owners, report, status, up
from tests.lab.users import eventually, user
from tests.lab.vm import Vm

pytestmark = pytest.mark.xdist_group("linux-7")


def test_a_function_with_64_ports(make_vm: Callable[..., Vm]) -> None:
    vm = make_vm("7", ports=64, mem=3072)
    assert len(vm.netdevs) == 64
    up(vm, 1, 17, 64)
    with user(vm, "rawqp") as holder:
        pid = holder.wait_for("ready")["pid"]
        for port in (2, 33, 63):
            holder.ask(f"create {port}", "created")
        rows = status(vm)
        assert len(rows) == 64
        assert {port for port, row in rows.items() if row["owner"] == "ethernet"} == {1, 17, 64}
        taken = {port for port, row in rows.items() if row["owner"] == "raw-qp"}
        assert taken == {2, 33, 63}
        for port in taken:
            assert [entry["pid"] for entry in rows[port]["holders"]] == [pid]
        assert all(row["certainty"] == "proven" for row in rows.values())
        holder.ask("destroy 2", "destroyed")
        rows = status(vm)
        assert [rows[port]["owner"] for port in (2, 33, 63)] == ["raw-qp", "free", "raw-qp"]
        holder.ask("quit", "leaving")
    down(vm, 1, 17, 64)
    eventually(lambda: set(owners(vm).values()) == {"free"}, what="every port to be free")
    assert {row["owner"] for row in status(vm).values()} == {"free"}


def test_two_functions(make_vm: Callable[..., Vm]) -> None:
    vm = make_vm("7", functions=2)
    first, second = vm.pcis
    names: dict[str, str] = {}
    for pci in (first, second):
        script = (
            f"cd /sys/bus/pci/devices/{pci}/net && for n in *; do cat $n/dev_port; echo $n; done"
        )
        words = vm.run(script).out.split()
        names |= {
            f"{pci}:{int(port) + 1}": name for port, name in zip(*[iter(words)] * 2, strict=True)
        }
    assert len(names) == 4
    vm.run(["ip", "link", "set", names[f"{first}:1"], "up"])
    vm.run(["ip", "link", "set", names[f"{second}:2"], "up"])
    with user(vm, "rawqp", raw_device(vm, second)) as holder:
        pid = holder.wait_for("ready")["pid"]
        holder.ask("create 1", "created")
        document = report(vm)
        rows = {f"{row['pci']}:{row['port']}": row for row in document["ports"]}
        assert {port: row["netdev"] for port, row in rows.items()} == names
        for pci, nic in zip((first, second), vm.nics, strict=True):
            for vport in nic.state()["vports"]:
                row = rows[f"{pci}:{vport['index'] + 1}"]
                agrees(row, vport["owner"] or "free")
                assert row["certainty"] == "proven", row
        assert {port: row["owner"] for port, row in rows.items()} == {
            f"{first}:1": "ethernet",
            f"{first}:2": "free",
            f"{second}:1": "raw-qp",
            f"{second}:2": "ethernet",
        }
        assert [entry["pid"] for entry in rows[f"{second}:1"]["holders"]] == [pid]
        jsonschema.validate(
            document, json.loads((CHECKOUT / "src/manactl/schemas/status.schema.json").read_text())
        )
        holder.ask("quit", "leaving")


def raw_device(vm: Vm, pci: str) -> str:
    """The function's device for raw queue pairs: the one without node GUID."""
    found = vm.run(f"cd /sys/bus/pci/devices/{pci}/infiniband && grep -l '^[0:]*$' */node_guid").out
    return found.partition("/")[0]
