"""A NIC that does not answer: the driver waits with the network lock held, and status does not."""

from __future__ import annotations

from contextlib import ExitStack

from tests.lab.scene import AS_NOBODY, agrees, down, owners, report, requested, up
from tests.lab.site import PATIENCE, on, site
from tests.lab.users import eventually, user
from tests.lab.vm import Vm
from tests.unit.wording import wording

RELOAD = "modprobe -r mana_ib mana && modprobe mana && modprobe mana_ib"
FACTS = ("netdev", "ifindex", "pci", "port", "mac", "permanent_mac", "rdma", "owner", "certainty")


def patient(vm: Vm) -> None:
    """The driver waits for answers until we let go of them: half a minute, its own choice, may be
    too short to look at it on a loaded host."""
    vm.worn = True
    vm.nic.timeout(10 * 60 * 1000)
    vm.run(RELOAD)


def test_a_close_that_hangs_hides_no_port(vm: Vm) -> None:
    patient(vm)
    up(vm, 1)
    down(vm, 2)
    calm = report(vm)
    vm.nic.fault("MANA_CONFIG_VPORT_RX", held=True)
    closing = vm.spawn(["ip", "link", "set", vm.netdevs[1], "down"])
    requested(vm, closing.ended)
    busy = report(vm)
    assert closing.poll() is None, "nothing hung any more: this proves nothing"
    assert owners(vm) == {1: "ethernet", 2: "free"}
    for was, row in zip(calm["ports"], busy["ports"], strict=True):
        assert {key: row[key] for key in FACTS} == {key: was[key] for key in FACTS}
    said = {entry["source"]: entry["why"] for entry in busy["missing"]}
    assert said.keys() >= {"rtnetlink", "mana"}
    with wording:
        assert "mana_hwc_send_request" in said["mana"]
        assert "RTNL" in said["rtnetlink"]
        assert "ip " in said["mana"]

    for_nobody = report(vm, prefix=AS_NOBODY)
    assert closing.poll() is None, "nothing hung any more: this proves nothing"
    assert [row["owner"] for row in for_nobody["ports"]] == ["ethernet", "free"]
    assert "rtnetlink" in {entry["source"] for entry in for_nobody["missing"]}
    assert vm.nic.let_go() == 1
    assert closing.wait(PATIENCE).rc == 0


def test_a_raw_qp_that_is_being_made_leaves_no_port_proven_free(vm: Vm) -> None:
    """The vport is taken before the kernel counts the queue pair, which it does at the end."""
    patient(vm)
    up(vm, 1)
    down(vm, 2)
    vm.nic.fault("MANA_CREATE_WQ_OBJ", held=True)
    with user(vm, "rawqp") as maker:
        maker.wait_for("ready")
        maker.say("create 2")
        requested(vm, maker.process.ended)
        document = report(vm)
        assert owners(vm) == {1: "ethernet", 2: "raw-qp"}, "nothing hung any more"
        assert vm.nic.let_go() == 1
        maker.wait_for("created")
    rows = {row["port"]: row for row in document["ports"]}
    for port, truth in ((1, "ethernet"), (2, "raw-qp")):
        agrees(rows[port], truth)
    said = {entry["source"]: entry["why"] for entry in document["missing"]}
    assert "mana" in said
    with wording:
        assert "mana_hwc_send_request" in said["mana"]


def attempts(vm: Vm, since: int) -> int:
    """Each opens the device and makes a protection domain."""
    names = [str(event.get("name")) for event in vm.nic.history(since)]
    return sum("CREATE_PD" in request for request in names)


@on(-1)
def test_a_release_that_waits_finds_the_rdma_device_by_its_new_name(vm: Vm) -> None:
    """It does not take the vport for free because the device of the old name is gone."""
    with site(vm) as here, ExitStack() as stack:
        before = here.view()
        here.claim(here.first)
        name = {row["port"]: row["rdma"]["device"] for row in report(vm)["ports"]}[1]
        holder = stack.enter_context(user(vm, "rawqp"))
        holder.wait_for("ready")
        holder.ask("create 1", "created")
        began = vm.nic.sequence()
        releasing = here.start("release", "--wait", "600", "--json")
        eventually(lambda: attempts(vm, began), PATIENCE, "a first attempt at the vport")
        here.says(releasing, "waiting up to 600 s", names="600")
        here.sh(f"rdma dev set {name} name fabric7")
        stack.callback(here.sh, f"rdma dev set fabric7 name {name}")
        since = vm.nic.sequence()

        def tried_twice() -> bool:
            return attempts(vm, since) > 1 or here.said(releasing)["rc"] is not None

        eventually(tried_twice, PATIENCE, "two more attempts at the vport")
        now = here.said(releasing)
        assert now["rc"] is None, now
        assert here.owners()[1] == "raw-qp"
        holder.ask("quit", "leaving")
        ran = here.end(releasing)
        assert (ran.rc, ran.port["outcome"]) == (0, "restored"), str(ran)
        here.same(before)
