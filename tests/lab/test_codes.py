"""Every exit code of claim and release, end to end, with the one JSON document that goes with it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.lab.notes import ANY, noted
from tests.lab.scene import AS_NOBODY, requested
from tests.lab.site import CLAIMS, PATIENCE, STATE, Run, Site, on, refused, site
from tests.lab.users import eventually, user
from tests.lab.vm import Vm
from tests.unit.wording import wording

middle, newest = on(1), on(-1)
WITHOUT_NET_ADMIN = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
FAILS = 0xC0000001  # a status of the NIC


@pytest.fixture
def here(vm: Vm) -> Iterator[Site]:
    with site(vm) as made:
        yield made


@middle
def test_words_that_are_wrong(here: Site) -> None:
    with here.untouched():
        for words in (
            ("--raw-qp", "nosuch"),
            ("--raw-qp", here.second, "--allow", "nosuch"),
            ("--raw-qp", here.second, "--allow", "foreign-netns"),
            ("--raw-qp", here.second, "--wait", "long"),
            (here.second,),
        ):
            here.fails(2, "usage", "claim", *words)
        here.fails(2, "usage", "release", "nosuch")
        assert here.well("release", "--json").document["ports"] == []
    here.claim(here.first)
    here.claim(here.second)
    with here.untouched():
        ran = here.fails(2, "usage", "release")
        assert f"{here.first}, {here.second}" in ran.err
        here.fails(2, "usage", "release", "--all", here.second)
    here.well("release", "--all")


@middle
def test_what_is_not_allowed_to_whoever_asks(here: Site) -> None:
    claim = ("claim", "--raw-qp", here.second, "--json")
    people = (AS_NOBODY, WITHOUT_NET_ADMIN)
    with here.untouched():
        for who in people:
            ran = refused(here.run_with(who, *claim), 7, "denied")
            assert "CAP_NET_ADMIN" in ran.document["message"]
    here.claim(here.second)
    with here.untouched():
        nobody, weak = (
            refused(here.run_with(who, "release", "--json"), 7, "denied") for who in people
        )
        assert STATE in nobody.document["message"]
        with wording:
            assert f"{STATE} is not readable" in nobody.document["message"]
        assert "CAP_NET_ADMIN" in weak.document["message"]
        refused(here.run_with(AS_NOBODY, *claim), 7, "denied")
        # Who may look may see what would be done.
        for words in (claim, ("release", "--json")):
            assert here.run_with(WITHOUT_NET_ADMIN, *words, "--dry-run").rc == 0
    here.well("release")


@middle
def test_a_machine_without_the_drivers(here: Site) -> None:
    vm, before = here.vm, here.view()
    here.claim(here.second)
    here.sh("rmmod mana_ib")  # modprobe would take mana with it
    with here.untouched():
        ran = here.fails(8, "unsupported", "claim", "--raw-qp", here.first)
        assert "modprobe mana_ib" in ran.document["hint"]
    assert here.well("release", "--json").port["outcome"] == "restored"
    here.same(before)
    here.sh("modprobe mana_ib")
    eventually(lambda: here.sh("ls /sys/class/infiniband"), PATIENCE, "the RDMA devices")
    here.claim(here.second)
    ((name, data),) = here.journals().items()
    driver = "/sys/bus/pci/drivers/mana"
    pci = vm.pci
    here.sh(f"echo {pci} > {driver}/unbind")
    here.fails(8, "unsupported", "claim", "--raw-qp", here.second)
    assert here.well("status", "--json").document["ports"] == []
    ran = here.fails(5, "no-netdev", "release")
    assert f"{pci}:2" in ran.document["message"]
    assert here.journals() == {name: data}
    here.sh(f"echo {pci} > {driver}/bind")
    there = f"ls /sys/bus/pci/devices/{pci}/infiniband"
    eventually(lambda: vm.run(there, check=False).out, PATIENCE, "the RDMA devices")
    assert here.well("release", "--json").port["outcome"] == "restored"
    assert here.owners() == {1: "free", 2: "ethernet"}
    assert here.journals() == {}


@newest
def test_a_nic_that_refuses(here: Site) -> None:
    """The proof alone, and then the undo as well: drivers before 7 keep the vport's use count."""
    vm, before = here.vm, here.view()
    claim = ("claim", "--raw-qp", here.second)
    vm.nic.fault("MANA_CONFIG_VPORT_TX", status=FAILS)
    ran = here.fails(4, "rolled-back", *claim)
    with wording:
        assert "Everything is restored and verified" in ran.document["message"]
    assert here.journals() == {}
    here.same(before)
    here.claim(here.first)
    vm.nic.fault("MANA_CONFIG_VPORT_TX", status=FAILS, times=2)
    ran = here.fails(5, "residue", *claim)
    assert here.second in ran.document["message"]
    with wording:
        assert f"setting {here.second} up failed" in ran.document["message"]
    assert len(here.journals()) == 2
    assert here.owners() == {1: "free", 2: "free"}
    row = here.status()[2]
    open_ones = (("claim-interrupted", ANY), ("not-restored", ANY, ANY))
    assert any(noted(row["notes"], *one) for one in open_ones), row
    with here.untouched():
        here.fails(5, "interrupted-claim", *claim)
        here.fails(5, "interrupted-claim", *claim, "--raw-qp", here.first)
    assert here.well("recover", "--json").port["outcome"] == "restored"
    assert here.owners() == {1: "free", 2: "ethernet"}
    assert len(here.journals()) == 1
    here.well("release")
    here.same(before)


def busy_names(ran: Run, pid: int) -> None:
    (evidence,) = ran.document["evidence"]
    assert evidence["value"]["pid"] == pid


@middle
def test_another_manactl_has_the_lock(here: Site) -> None:
    vm, before = here.vm, here.view()
    vm.nic.fault("MANA_CONFIG_VPORT_RX", held=True)
    first = here.start("claim", "--raw-qp", here.first, "--json")
    requested(vm, lambda: here.ended(first))
    here.says(first, "not done after 2 s")
    waiting = here.start("claim", "--raw-qp", here.second, "--json", "--wait", "600")
    releasing = here.start("release", here.first, "--json", "--wait", "600")
    ran = here.fails(6, "locked", "claim", "--raw-qp", here.second)
    busy_names(ran, first)
    busy_names(here.fails(6, "locked", "release", here.first), first)
    for pid in (first, waiting, releasing):
        assert here.said(pid)["rc"] is None, here.said(pid)
    assert here.owners()[2] == "ethernet"
    assert vm.nic.let_go() == 1
    for pid in (first, waiting, releasing):
        ran = here.end(pid)
        assert ran.rc == 0, str(ran)
        json.loads(ran.out)
    assert here.owners()[2] == "free"
    here.well("release", "--all")
    assert here.journals() == {}
    here.same(before)


@middle
def test_a_driver_in_transition(here: Site) -> None:
    """A close that waits for the NIC when the receive queues have gone already."""
    vm = here.vm
    vm.nic.fault("MANA_DESTROY_WQ_OBJ", held=True, skip=2)
    closing = vm.spawn(["ip", "link", "set", here.second, "down"])
    requested(vm, closing.ended)
    claim = ("claim", "--raw-qp", here.second)
    ran = here.fails(6, "busy", *claim)
    with wording:
        assert "in transition" in ran.document["message"]
    assert here.journals() == {}
    waiting = here.start(*claim, "--json", "--wait", "600")
    here.locks(waiting)
    here.fails(6, "locked", *claim)  # by the one that waits
    assert closing.poll() is None
    assert here.said(waiting)["rc"] is None
    assert vm.nic.let_go() == 1
    ran = here.end(waiting)
    assert ran.rc == 0, str(ran)
    assert ran.port["was"] == "down"
    assert here.owners()[2] == "free"
    here.well("release")


@middle
def test_a_holder_keeps_a_port_from_claim_and_release(here: Site) -> None:
    here.claim(here.second)
    data = here.journals()
    with user(here.vm, "rawqp") as holder:
        pid = holder.wait_for("ready")["pid"]
        holder.ask("create 2", "created")
        ran = here.fails(6, "holder", "release", "--wait", "1")
        assert {"pid": pid, "comm": "python3"}.items() <= holders(ran)[0].items()
        assert here.journals() == data
        assert here.owners()[2] == "raw-qp"
        here.vm.run(f"mv {CLAIMS} /root/claims")  # as if nobody had claimed it
        ran = here.fails(6, "holder", "claim", "--raw-qp", here.second)
        assert holders(ran)[0]["pid"] == pid
        here.vm.run(f"rmdir {CLAIMS}; mv /root/claims {CLAIMS}")
        holder.ask("quit", "leaving")
    here.becomes(2, "free")
    here.well("release")


def holders(ran: Run) -> list[dict[str, object]]:
    return [e["value"] for e in ran.document["evidence"] if e["fact"] == "holder"]
