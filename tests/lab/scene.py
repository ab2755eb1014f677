"""What the scenario tests share: status as data, the NIC's word beside it, and the ports' names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from tests.lab.agent import Result
from tests.lab.users import eventually, resident
from tests.lab.vm import TIMEOUT, Vm

Row = dict[str, Any]
SOURCE = "/manactl/src"
# What 7.x may warn of in a reset cycle on a slow host: the driver no longer waits for answers when
# it gives its own objects back. The RDMA core does not expect that to fail, and the device, which
# never heard of it, may still complete a frame into a CQ that the driver has forgotten.
OF_A_RESET = (
    r"WARNING: .*mana_gd_process_eq_events.*",
    r"WARNING: .*ib_dealloc_pd_user.*",
    r"WARNING: .*ib_mad_port_close.*",
    r"WARNING: .*rdma_restrack_clean.*",
    r"WARNING: .*uverbs_destroy_ufile_hw.*",
)
AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all")


def manactl(vm: Vm, *words: str, prefix: Iterable[str] = (), path: str = "") -> Any:
    """Run manactl, perhaps with something before it (setpriv, ip netns exec) or from another
    `path`; never raises for its code.

    With neither, or with variables alone, in a guest of many tests, it is a fork of a process that
    has it loaded.
    """
    before = list(prefix)
    argv = [*before, "env", f"PYTHONPATH={path or SOURCE}", "python3", "-m", "manactl", *words]
    variables = _variables(before)
    if not vm.pooled or path or variables is None:
        return vm.run(argv, check=False)
    order = json.dumps({"argv": words, "env": variables})
    ran = resident(vm, "runs").ask(f"run {order}", "ran", TIMEOUT)
    return Result(argv, ran["rc"], ran["out"].encode(), ran["err"].encode(), timed_out=False)


def _variables(prefix: list[str]) -> dict[str, str] | None:
    """What a prefix of `env NAME=VALUE ...` sets; None for another one."""
    if not prefix:
        return {}
    command, *assignments = prefix
    if command != "env" or not assignments or not all("=" in word for word in assignments):
        return None
    return dict(word.split("=", 1) for word in assignments)


def report(vm: Vm, *words: str, prefix: Iterable[str] = ()) -> Row:
    """`status --json`, parsed."""
    result = manactl(vm, "status", "--json", *words, prefix=prefix)
    assert result.rc == 0, result.err
    document: Row = json.loads(result.out)
    return document


def status(vm: Vm, prefix: Iterable[str] = ()) -> dict[int, Row]:
    """Every port's row by port number, after the NIC's record has been heard on each of them."""
    before = owners(vm)
    rows = {row["port"]: row for row in report(vm, prefix=prefix)["ports"]}
    assert owners(vm) == before, "the ports changed hands while status looked"
    assert sorted(rows) == sorted(before)
    for number, row in rows.items():
        agrees(row, before[number])
    return rows


def owners(vm: Vm) -> dict[int, str]:
    """The NIC's record: who programmed each vport, in manactl's words."""
    return {v["index"] + 1: v["owner"] or "free" for v in vm.nic.state()["vports"]}


def agrees(row: Row, truth: str) -> None:
    """A row may say that it does not know; it may not say anything but the NIC's record."""
    port = f"{row['pci']}:{row['port']}"
    if row["owner"] == "unknown":
        assert row["certainty"] == "unknown", row
        if truth == "raw-qp":
            assert port in row["candidates"], row
    else:
        assert row["owner"] == truth, row
        assert row["certainty"] in {"proven", "inferred"}, row
        assert row["candidates"] == [], row
    if row["owner"] == "ethernet":
        assert row["admin"] in {"up", None}, row


def names_every_port(vm: Vm) -> bool:
    """Whether this kernel's vports have event queues of their own to be seen (7.x).

    6.18 has a directory for each vport as well, but one `EQs` for the whole function.
    """
    found = vm.run("cd /sys/kernel/debug/mana && ls -d */vport0 && ! ls -d */EQs", check=False)
    return bool(found.rc == 0)


def up(vm: Vm, *ports: int) -> None:
    for port in ports:
        vm.run(["ip", "link", "set", vm.netdevs[port], "up"])


def down(vm: Vm, *ports: int) -> None:
    for port in ports:
        vm.run(["ip", "link", "set", vm.netdevs[port], "down"])


def becomes(vm: Vm, port: int, owner: str) -> None:
    """Wait until the NIC's record says that `owner` has the port."""
    eventually(lambda: owners(vm)[port] == owner, what=f"port {port} to become {owner}")


def requested(vm: Vm, ended: Callable[[], object], seconds: float = 120) -> None:
    """Wait until the NIC has the request that its fault is for. Who has the driver make it may end
    without (`ended` says with what): a command that refused would look like a slow host."""

    def known() -> bool:
        return vm.nic.faults()[0]["hits"] > 0 or ended() is not None

    eventually(known, seconds, "the driver's request")
    assert vm.nic.faults()[0]["hits"], f"the NIC was never asked: {ended()}"
