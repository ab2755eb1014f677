"""`manactl hold`: whoever sets a claimed port up, it is down again, and one line says who it was.

The judge is the NIC's record: who opened a vport, and that it was given back. manactl's own events
are held against that, and against the pids of those who did it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from typing import Any

import pytest

from tests.lab.scene import manactl, owners, status
from tests.lab.site import PATIENCE, Site, on_oldest_and_newest, pairs_on_newest, site
from tests.lab.test_pairs import SPARE, differing, nic_of, shown, takes
from tests.lab.users import eventually, resident, user
from tests.lab.vm import Vm
from tests.unit import schema
from tests.unit.wording import wording

KPROBES = "grep -c 'mana_open\\|netvsc_open' /sys/kernel/debug/kprobes/list"
# IFF_UP by SIOCSIFFLAGS, as ifconfig does it.
IOCTL = """
import fcntl, socket, struct, sys
name, sock = sys.argv[1].encode(), socket.socket()
flags = struct.unpack_from("=16xh", fcntl.ioctl(sock, 0x8913, struct.pack("=16sh22x", name, 0)))[0]
fcntl.ioctl(sock, 0x8914, struct.pack("=16sh22x", name, flags | 1))
"""


class Hold:
    """`manactl hold --json` under way."""

    def __init__(self, site: Site, *words: str) -> None:
        self.site = site
        self.pid = site.start("hold", "--json", *words)

    def events(self) -> list[dict[str, Any]]:
        """What it has told up to now."""
        whole = self.site.said(self.pid)["out"].rpartition("\n")[0]
        found = [json.loads(line) for line in whole.splitlines()]
        for one in found:
            schema.strict(one)
        return found

    def attempts(self) -> list[dict[str, Any]]:
        return [one for one in self.events() if one["event"] != "holding"]

    def keeps(self, *names: str) -> None:
        """Wait until it keeps these down."""

        eventually(lambda: self.kept()[-1:] == [list(names)], PATIENCE, f"{names} to be kept down")

    def kept(self) -> list[list[str]]:
        """What it kept down, in the order of time."""
        found = [one for one in self.events() if one["event"] == "holding"]
        return [[row["netdev"] for row in one["netdevs"]] for one in found]

    def tells(self, count: int) -> list[dict[str, Any]]:
        """Wait for so many attempts; they are all."""
        eventually(lambda: len(self.attempts()) >= count, PATIENCE, f"attempt {count} to be told")
        found = self.attempts()
        assert len(found) == count, found
        return found

    def ends(self, *, said: str = "") -> list[dict[str, Any]]:
        """By a signal; what it had told."""
        self.site.signal(self.pid, SIGTERM)
        ran = self.site.end(self.pid)
        assert (ran.rc, ran.err) == (0, said), str(ran)
        return [one for one in map(json.loads, ran.out.splitlines()) if one["event"] != "holding"]


def opens(vm: Vm, since: int, port: int = 2) -> list[str]:
    """What became of the vport since then: opened by whom, and given back."""
    found = []
    for event in vm.nic.history(since):
        if event.get("port") == port and event["event"] == "vport-configured":
            found.append(str(event["owner"]))
        elif event.get("port") == port and event["event"] == "vport-released":
            found.append("released")
    return found


def sets_up(vm: Vm, name: str, where: str = "") -> int:
    """Somebody sets it up with iproute2; the pid."""
    return int(vm.run(f"echo $$; exec ip {where} link set {name} up").out)


@pytest.fixture
def here(vm: Vm) -> Iterator[Site]:
    with site(vm) as made:
        yield made


@on_oldest_and_newest()
def test_who_sets_a_claimed_port_up_is_undone_and_named(here: Site) -> None:
    vm, name = here.vm, here.second
    before = here.view()
    hold = Hold(here)
    hold.keeps()
    here.claim(name)
    hold.keeps(name)
    since = vm.nic.sequence()
    by_netlink = sets_up(vm, name)
    hold.tells(1)
    by_ioctl = int(vm.run(["sh", "-c", 'echo $$; exec python3 - "$0"', name], input=IOCTL).out)
    told = hold.tells(2)
    assert opens(vm, since) == ["ethernet", "released"] * 2
    assert [one["event"] for one in told] == ["set-down"] * 2
    assert [one["cause"] for one in told] == ["process"] * 2
    found = [[(by["pid"], by["comm"], by["kernel"]) for by in one["by"]] for one in told]
    assert found == [[(by_netlink, "ip", False)], [(by_ioctl, "python3", False)]]
    assert {(one["netdev"], one["port"], one["pci"]) for one in told} == {(name, 2, vm.pci)}
    for one in told:
        print(f"asked after {one['asked_ms']} ms, down after {one['ms']} ms")

    vm.run(["ip", "link", "set", name, "name", "wan7"])  # who does that does not hide it
    here.signal(hold.pid, SIGSTOP)  # nor who has ended before anybody looks
    ended = sets_up(vm, "wan7")
    here.signal(hold.pid, SIGCONT)
    last = hold.tells(3)[2]
    assert (last["netdev"], last["cause"]) == ("wan7", "process")
    assert [(by["pid"], by["comm"]) for by in last["by"]] == [(ended, "ip")]
    vm.run(["ip", "link", "set", "wan7", "name", name])

    here.well("release")
    hold.keeps()
    assert here.owners() == {1: "ethernet", 2: "ethernet"}
    sets_up(vm, name)
    assert len(hold.ends()) == 3, "what is not claimed is nobody's business"
    here.same(before)


@on_oldest_and_newest()
def test_a_storm_is_told_in_few_lines_and_ends_with_the_port_down(here: Site) -> None:
    vm = here.vm
    here.claim(here.second)
    hold = Hold(here, here.second)
    hold.keeps(here.second)
    since = vm.nic.sequence()
    with user(vm, "stranger", here.second) as stranger:
        pid = stranger.wait_for("started")["pid"]
        eventually(lambda: len(opens(vm, since)) > 30, PATIENCE, "a storm")
        assert stranger.ask("end", "ended")["taken"]
    here.becomes(2, "free")
    told = hold.ends()
    happened = opens(vm, since)
    assert happened == ["ethernet", "released"] * (len(happened) // 2)
    assert sum(one["count"] for one in told) >= len(happened) // 2, "each is counted"
    singles = [one for one in told if one["event"] != "storm"]
    assert len(singles) <= 5 * (1 + len(told) - len(singles)), "five, then sums"
    assert len(told) < len(happened) // 2
    assert {by["pid"] for one in told for by in one["by"]} == {pid}
    assert here.owners()[2] == "free"
    here.well("release")


@on_oldest_and_newest()
def test_claims_and_releases_meanwhile_are_let_be(here: Site) -> None:
    vm, name = here.vm, here.second
    before = here.view()
    with_all, with_one = Hold(here), Hold(here, name)
    for hold in (with_all, with_one):
        hold.keeps()
    here.claim(name)
    here.well("release")
    # The open takes long, and the port is up for its upper half while the release is not done.
    here.claim(name)
    vm.nic.fault("MANA_CONFIG_VPORT_RX", delay=1.0)
    here.well("release")
    assert vm.nic.clear_faults() == 0
    assert here.owners()[2] == "ethernet"
    # A release that was killed when it had set the port up is undone by the next one.
    here.claim(name)
    acts = here.run("release", "--json", signals={}).acts
    here.claim(name)
    here.run("release", signals={str(2 * len(acts) // 3): int(SIGKILL)})
    assert here.journals()
    here.well("recover")
    assert here.owners()[2] == "ethernet"
    for hold in (with_all, with_one):
        hold.keeps()
        assert hold.ends() == []
    here.same(before)


@on_oldest_and_newest()
def test_killed_it_leaves_nothing_and_the_next_one_goes_on(here: Site) -> None:
    vm, name = here.vm, here.second
    before = here.view()
    here.claim(name)
    assert vm.run(KPROBES, check=False).out.strip() == "0"
    hold = Hold(here)
    hold.keeps(name)
    assert vm.run(KPROBES).out.strip() != "0", "it watches who opens a port"
    here.signal(hold.pid, SIGKILL)
    assert here.end(hold.pid).rc == -SIGKILL
    eventually(lambda: vm.run(KPROBES, check=False).out.strip() == "0", what="the kprobes")
    sets_up(vm, name)
    assert here.owners()[2] == "ethernet", "nobody keeps it down"
    one, other = Hold(here), Hold(here)
    for hold in (one, other):
        hold.keeps(name)
    here.becomes(2, "free")
    (first,) = [*one.attempts(), *other.attempts()]
    assert (first["event"], first["cause"], first["by"]) == ("set-down", "found", [])

    # Both see what comes next; one is faster.
    since = vm.nic.sequence()
    pid = sets_up(vm, name)
    eventually(lambda: len(one.attempts()) + len(other.attempts()) >= 3, PATIENCE, "both to tell")
    assert opens(vm, since) == ["ethernet", "released"]
    told = [*one.attempts(), *other.attempts()]
    told.remove(first)
    assert sorted(one["event"] for one in told) == ["down-already", "set-down"]
    assert [[by["pid"] for by in one["by"]] for one in told] == [[pid]] * 2
    for hold in (one, other):
        hold.ends()
    here.well("release")
    here.same(before)


@on_oldest_and_newest()
def test_a_raw_queue_pair_keeps_others_out_by_itself(here: Site) -> None:
    vm, name = here.vm, here.second
    here.claim(name)
    hold = Hold(here)
    hold.keeps(name)
    with user(vm, "rawqp") as holder:
        holder.wait_for("ready")
        holder.ask("create 2", "created")
        since = vm.nic.sequence()
        refused = vm.run(["ip", "link", "set", name, "up"], check=False)
        assert refused.rc != 0
        assert opens(vm, since) == []
        assert here.owners()[2] == "raw-qp"
        assert hold.attempts() == [], "nothing went up"
        holder.say("quit")
        here.becomes(2, "free")
    pid = sets_up(vm, name)
    (told,) = hold.tells(1)
    assert [by["pid"] for by in told["by"]] == [pid], "not the one that was refused"
    here.becomes(2, "free")
    hold.ends()
    here.well("release")


@on_oldest_and_newest()
def test_a_claim_that_ends_by_itself_is_let_go(here: Site) -> None:
    """Not confirmed in time, or with its command: a guardian releases it."""
    before = here.view()
    hold = Hold(here)
    hold.keeps()
    here.well("claim", "--raw-qp", here.second, "--confirm-within", "8")
    eventually(lambda: hold.kept() == [[], [here.second], []], PATIENCE, "it to go back")
    here.becomes(2, "ethernet")
    command = ("python3", "-c", "import time; time.sleep(3)")
    # The guardian may still be at work.
    ran = here.run("claim", "--raw-qp", here.second, "--wait", "100", "--", *command)
    assert ran.rc == 0, str(ran)
    eventually(
        lambda: hold.kept()[3:] == [[here.second], []], PATIENCE, "the guardian to release it"
    )
    assert hold.ends() == []
    here.same(before)


@on_oldest_and_newest()
def test_a_port_of_another_namespace_is_kept_down_there(here: Site) -> None:
    vm, name = here.vm, here.second
    vm.run(f"""
        ip netns add far; ip link set {name} netns far; ip -n far link set {name} up
        ip -n far link add spare type dummy; ip -n far link set spare up
        ip -n far addr add 198.51.100.2/24 dev spare
    """)
    inside = ("ip", "netns", "exec", "far")
    ran = here.run_with(inside, "claim", "--raw-qp", name)
    assert ran.rc == 0, str(ran)
    hold = Hold(here)
    hold.keeps()
    argv = [*inside, "env", "PYTHONPATH=/manactl/src", "python3", "-m", "manactl", "hold"]
    there = vm.spawn(argv)
    began = there.read_until("\n", PATIENCE)
    assert name in began
    since = vm.nic.sequence()
    pid = sets_up(vm, name, "-n far")
    told = there.read_until("\n", PATIENCE)
    assert (name in told, f"{pid}" in told) == (True, True)
    assert opens(vm, since) == ["ethernet", "released"]
    elsewhere = [one for event in hold.events() for one in event.get("elsewhere", ())]
    assert [(one["pci"], one["port"]) for one in elsewhere[-1:]] == [(vm.pci, 2)]
    with wording:
        assert f"keeping down {name}" in began
        assert f"was set up by ip (pid {pid}" in told
        said = f"port {vm.pci}:2 is claimed in another network namespace"
        assert said in here.said(hold.pid)["err"]
    here.signal(hold.pid, SIGTERM)
    ended = here.end(hold.pid)
    assert (ended.rc, [json.loads(line)["event"] for line in ended.out.splitlines()]) == (
        0,
        ["holding"],
    )
    vm.run(["kill", str(there.pid)])
    assert there.wait(PATIENCE).rc == 0
    assert here.run_with(inside, "release").rc == 0
    assert owners(vm)[2] == "ethernet"
    vm.run(f"ip -n far link set {name} down; ip -n far link set {name} netns 1; ip netns del far")


@on_oldest_and_newest()
def test_who_it_was_is_known_after_the_driver_was_reloaded(here: Site) -> None:
    """Its kprobes went with the module, and the netdev is another one."""
    vm, name = here.vm, here.second
    here.claim(name)
    hold = Hold(here)
    hold.keeps(name)
    vm.run("modprobe -r mana_ib mana && modprobe mana && modprobe mana_ib")
    eventually(lambda: vm.netdevs.keys() == {1, 2}, PATIENCE, "the netdevs")
    for count in (1, 2):
        pid = sets_up(vm, vm.netdevs[2])
        told = hold.tells(count)[-1]
        assert (told["event"], told["cause"]) == ("set-down", "process")
        assert [by["pid"] for by in told["by"]] == [pid]
    assert len(hold.ends()) == 2
    here.well("release")


# --- pairs


@pytest.fixture
def furnished(pair: Vm) -> Iterator[Site]:
    """Both twins up with addresses; the way out is another netdev."""
    vm = pair
    vm.run(SPARE)
    for port, twin in vm.twins.items():
        vm.run(f"echo 0 > /proc/sys/net/ipv6/conf/{twin}/accept_dad; ip link set {twin} up")
        takes(vm, port, "vf")
        vm.run(f"ip addr add 10.0.{port}.2/24 dev {twin}")
    yield Site(vm, resident(vm, "runs"), vm.twins[1], vm.twins[2])
    manactl(vm, "release", "--all")
    vm.run("ip link del spare; rmmod dummy", check=False)
    for twin in vm.twins.values():
        vm.run(f"echo 1 > /proc/sys/net/ipv6/conf/{twin}/accept_dad")


def serviced(vm: Vm) -> None:
    """The VFs go and come back."""
    drivers = "/sys/bus/pci/drivers/mana"
    vm.run(f"echo {vm.pci} > {drivers}/unbind; echo {vm.pci} > {drivers}/bind")
    eventually(lambda: vm.netdevs.keys() == {1, 2}, PATIENCE, "the VFs")
    devices = f"ls /sys/bus/pci/devices/{vm.pci}/infiniband"
    eventually(lambda: vm.run(devices, check=False).out, PATIENCE, "the RDMA devices")
    takes(vm, 1, "vf")


@pairs_on_newest()
def test_of_a_pair_that_is_down_both_are_kept_down(furnished: Site) -> None:
    vm, twin, vf = furnished.vm, furnished.second, furnished.vm.netdevs[2]
    before = shown(vm)
    furnished.well("claim", "--raw-qp", twin, "--synthetic=down", "--allow", "upper")
    hold = Hold(furnished)
    hold.keeps(vf, twin)
    since = vm.nic.sequence()
    pid = sets_up(vm, twin)
    told = hold.tells(2)
    assert [(one["netdev"], one["event"], one["cause"]) for one in told] == [
        (vf, "set-down", "process"),
        (twin, "set-down", "process"),
    ]
    assert [[by["pid"] for by in one["by"]] for one in told] == [[pid]] * 2
    assert [one["vmbus"] for one in told] == [None, nic_of(vm, 2).uuid]
    assert opens(vm, since) == ["ethernet", "released"]
    assert nic_of(vm, 2).path == "synthetic"
    serviced(vm)
    assert owners(vm)[2] == "free"
    pid = sets_up(vm, vm.netdevs[2])
    third = hold.tells(3)[2]
    assert (third["netdev"], [by["pid"] for by in third["by"]]) == (vm.netdevs[2], [pid])
    assert owners(vm)[2] == "free"
    assert status(vm)[2]["upper"]["admin"] == "down"
    furnished.well("release")
    takes(vm, 2, "vf")
    assert len(hold.ends()) == 3
    assert owners(vm) == {1: "ethernet", 2: "ethernet"}
    assert differing(shown(vm), before) == []


@pairs_on_newest()
def test_what_hv_netvsc_opens_after_servicing_is_told_as_that(furnished: Site) -> None:
    vm, twin, vf = furnished.vm, furnished.second, furnished.vm.netdevs[2]
    furnished.well("claim", "--raw-qp", twin, "--synthetic=keep")
    hold = Hold(furnished)
    hold.keeps(vf)
    since = vm.nic.sequence()
    serviced(vm)
    (told,) = hold.tells(1)
    assert (told["event"], told["cause"], told["netdev"]) == ("set-down", "hv_netvsc", vf)
    assert [by["kernel"] for by in told["by"]] == [True]
    assert opens(vm, since)[-2:] == ["ethernet", "released"]
    takes(vm, 2, "synthetic")
    assert status(vm)[2]["upper"]["admin"] == "up"
    furnished.well("release")
    takes(vm, 2, "vf")
    assert len(hold.ends()) == 1
    assert owners(vm) == {1: "ethernet", 2: "ethernet"}


@pairs_on_newest()
def test_below_a_device_that_uio_has_the_vf_is_kept_down(furnished: Site) -> None:
    vm, twin, vf = furnished.vm, furnished.second, furnished.vm.netdevs[2]
    furnished.well("claim", "--raw-qp", twin, "--synthetic=uio", "--allow", "upper")
    hold = Hold(furnished)
    hold.keeps(vf)
    since = vm.nic.sequence()
    pid = sets_up(vm, vf)
    (told,) = hold.tells(1)
    assert [by["pid"] for by in told["by"]] == [pid]
    assert opens(vm, since) == ["ethernet", "released"]
    furnished.well("release")
    takes(vm, 2, "vf")
    assert len(hold.ends()) == 1
