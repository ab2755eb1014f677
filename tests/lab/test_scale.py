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


MANY = 100_000
BUSY = """
set -e
modprobe -a nf_tables nft_ct nf_conntrack_netlink
sysctl -qw net.netfilter.nf_conntrack_max=400000
ip link set {port} up; ip addr add 10.1.0.4/24 dev {port}
ip link add lan0 type dummy; ip link set lan0 up; ip addr add 10.0.0.4/24 dev lan0
ip route add local 10.77.0.0/16 dev lo; ip route add 10.88.0.0/16 dev lan0
nft add table ip t; nft add chain ip t c '{{ type filter hook forward priority 0; }}'
nft add rule ip t c ct state established accept
"""


@pytest.mark.soak
@pytest.mark.parametrize("what", ["sockets", "tracked"])
def test_a_claim_among_a_hundred_thousand_sockets_or_tracked_connections(
    make_vm: Callable[..., Vm], what: str
) -> None:
    """The guards see the few that use the port among those that do not. What it takes is printed
    beside what it takes without them."""
    vm = make_vm("7", mem=3072)
    port = vm.netdevs[1]
    vm.run(BUSY.format(port=port))
    claim = (
        "PYTHONPATH=/manactl/src busybox time -p python3 -m manactl claim --json --dry-run "
        f"--raw-qp {port}"
    )

    def refused() -> dict[str, dict[str, object]]:
        ran = vm.run(claim, check=False, timeout=900)
        print(what, " ".join(ran.err.split()[-6:]))
        return {one["fact"]: one["value"] for one in json.loads(ran.out).get("evidence", ())}

    assert refused().keys() & {"tcp-established", "forwarding"} == set()
    if what == "sockets":
        with user(vm, "thousands", "sockets", "10.77.0.1", str(MANY // 2)) as many:
            assert many.wait_for("ready", 1800)["sockets"] == MANY
            assert "tcp-established" not in refused()
            vm.run("ip rule add to 10.77.0.0/22 ipproto tcp dport 7001 lookup 77; "
                   f"ip route add 10.77.0.0/16 dev {port} table 77; ip rule del pref 0; "
                   "ip rule add pref 40000 lookup local")  # fmt: skip
            found = refused()["tcp-established"]["evidence"]
            assert isinstance(found, list)
            assert len(found) == MANY // 2 // 4
    else:
        for net, via, count in (
            ("10.88.0.0/16", "10.0.0.9", MANY),
            ("10.88.0.0/16", "10.1.0.9", 7),
        ):
            with user(vm, "thousands", "tracked", net, str(count), via) as many:
                assert many.wait_for("made", 1800)["entries"] == count
        flows = refused()["forwarding"]["evidence"]
        assert isinstance(flows, list)
        assert sum(flow["value"]["connections"] for flow in flows) == 7
