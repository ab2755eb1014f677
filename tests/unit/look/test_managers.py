"""Who manages a netdev, by the files that each manager writes, and who else runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from manactl.look import managers
from manactl.look.managers import Roots
from manactl.netstate.surroundings import Daemon, Does, Manager, Process

NM = Process(11, "NetworkManager")
NETWORKD = Process(12, "systemd-network")
WICKED, DHCPCD = Process(13, "wickedd"), Process(14, "dhcpcd")
CONNMAN, ZEBRA = Process(15, "connmand"), Process(16, "zebra")


class Machine:
    """Files of a machine, and its processes."""

    def __init__(self, base: Path) -> None:
        self.base = base
        (base / "proc/version").mkdir(parents=True)

    @property
    def roots(self) -> Roots:
        return Roots(*(self.base / name for name in ("run", "proc", "sys", "lib", "etc")))

    def runs(self, *processes: Process) -> None:
        for process in processes:
            self.write(f"proc/{process.pid}/comm", process.comm + "\n")

    def write(self, name: str, text: str = "") -> Path:
        path = self.base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def managers(self, netdevs: Mapping[int, str]) -> tuple[Manager, ...]:
        return managers.find(netdevs, self.roots).managers

    def of_eth1(self) -> tuple[Manager, ...]:
        return self.managers({3: "eth1"})

    @property
    def daemons(self) -> tuple[Daemon, ...]:
        return managers.find({3: "eth1"}, self.roots).daemons


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("text", "managed"),
    [
        ("[device]\nmanaged=true\n", True),
        ("[device]\nmanaged=false\n", False),
        ("[device]\nmanaged=0\n", False),
        ("[device]\n managed = false \n", False),
        ("[device]\nmanaged=1\n", True),
        ("[device]\nnm-owned=false\n", None),
        ("[device]\nmanaged\n", None),
        ("[device]\nunmanaged=false\n", None),
        (None, None),
    ],
)
def test_network_manager(machine: Machine, text: str | None, managed: bool | None) -> None:
    machine.runs(NM)
    path = machine.base / "run/NetworkManager/devices/3"
    if text is not None:
        machine.write("run/NetworkManager/devices/3", text)
    assert machine.of_eth1() == (Manager("NetworkManager", NM, managed, str(path), "eth1", 3),)


@pytest.mark.parametrize(
    ("state", "managed"),
    [
        ("configured", True),
        ("configuring", True),
        ("pending", True),
        ("failed", True),
        ("linger", True),
        ("initialized", True),
        ("unmanaged", False),
    ],
)
def test_networkd(machine: Machine, state: str, managed: bool) -> None:
    machine.runs(NETWORKD)
    path = machine.write(
        "run/systemd/netif/links/3",
        f"# This is private data. Do not parse.\nADMIN_STATE={state}\n",
    )
    assert machine.of_eth1() == (
        Manager("systemd-networkd", NETWORKD, managed, str(path), "eth1", 3),
    )
    (other,) = machine.managers({4: "eth2"})
    assert other.managed is None


def test_what_a_manager_writes_need_not_be_text(machine: Machine) -> None:
    machine.runs(NM)
    machine.write("run/NetworkManager/devices/3").write_bytes(b"name=\xff\nmanaged=false\n")
    (found,) = machine.of_eth1()
    assert found.managed is False


def test_both_managers_are_asked_about_every_netdev(machine: Machine) -> None:
    machine.runs(NM, NETWORKD)
    found = machine.managers({9: "vlan9", 3: "eth1"})
    assert [(one.name, one.process, Path(one.source).name) for one in found] == [
        ("NetworkManager", NM, "3"),
        ("systemd-networkd", NETWORKD, "3"),
        ("NetworkManager", NM, "9"),
        ("systemd-networkd", NETWORKD, "9"),
    ]


@pytest.mark.parametrize(
    "comm", ["sshd", "NetworkManager-d", "systemd-networ", "networkd", "wicked"]
)
def test_a_manager_that_does_not_run_manages_nothing(machine: Machine, comm: str) -> None:
    machine.runs(Process(9, comm))
    machine.write("run/NetworkManager/devices/3", "managed=true\n")
    machine.write("run/systemd/netif/links/3", "ADMIN_STATE=configured\n")
    machine.write("run/wicked/state-3.xml", "<client-state/>")
    machine.write("run/dhcpcd/pid", "9\n")
    machine.write("lib/dhcpcd/eth1.lease")
    machine.write("sys/class/net/eth1/address", "00:0d:3a:aa:00:10\n")
    (machine.base / "lib/connman/ethernet_000d3aaa0010_cable").mkdir(parents=True)
    assert machine.of_eth1() == ()
    assert machine.daemons == ()


def test_a_process_that_ends_meanwhile_is_no_manager(machine: Machine) -> None:
    machine.runs(NM)
    machine.write("proc/9/comm").write_bytes(b"\xff\n")
    (machine.base / "proc/10").mkdir()  # no comm any more
    (found,) = machine.of_eth1()
    assert found.process == NM


def test_without_a_list_of_processes_nothing_is_known(machine: Machine) -> None:
    with pytest.raises(FileNotFoundError):
        managers.find({3: "eth1"}, Roots(proc=machine.base / "no-proc"))


# --- those that write down only what is theirs ------------------------------------------------


def test_wicked_has_what_it_has_set_up(machine: Machine) -> None:
    machine.runs(WICKED)
    assert machine.of_eth1() == ()
    path = machine.write("run/wicked/state-3.xml", "<client-state/>")
    assert machine.of_eth1() == (Manager("wicked", WICKED, True, str(path), "eth1", 3),)
    assert machine.managers({4: "eth2"}) == ()


@pytest.mark.parametrize(
    "name", ["dhcpcd/eth1.pid", "dhcpcd/eth1-4.pid", "dhcpcd/eth1-6.pid", "dhcpcd-eth1.pid"]
)
def test_a_dhcpcd_of_the_netdev(machine: Machine, name: str) -> None:
    path = machine.write(f"run/{name}", "14\n")
    assert machine.of_eth1() == ()  # a pid file that was left
    machine.runs(Process(13, "dhcpcd"), DHCPCD)
    assert machine.of_eth1() == (Manager("dhcpcd", DHCPCD, True, str(path), "eth1", 3),)
    machine.write(f"run/{name}", "77\n")
    assert machine.of_eth1() == ()
    machine.write(f"run/{name}", "")
    assert machine.of_eth1() == ()


@pytest.mark.parametrize("lease", ["eth1.lease", "eth1.lease6"])
def test_a_dhcpcd_of_all_netdevs_has_those_with_a_lease(machine: Machine, lease: str) -> None:
    machine.runs(DHCPCD)
    machine.write("run/dhcpcd/pid", "14\n")
    machine.write("lib/dhcpcd/eth2.lease")
    assert machine.of_eth1() == ()
    path = machine.write(f"lib/dhcpcd/{lease}")
    assert machine.of_eth1() == (Manager("dhcpcd", DHCPCD, True, str(path), "eth1", 3),)
    machine.write("run/dhcpcd/pid", "15\n")  # another one, which does not run
    assert machine.of_eth1() == ()


def test_an_older_dhcpcd_of_all_netdevs_has_its_files_elsewhere(machine: Machine) -> None:
    machine.runs(DHCPCD)
    machine.write("run/dhcpcd.pid", "14\n")
    path = machine.write("lib/dhcpcd5/eth1.lease")
    assert machine.of_eth1() == (Manager("dhcpcd", DHCPCD, True, str(path), "eth1", 3),)


def test_connman_has_the_services_that_it_knows_by_their_mac(machine: Machine) -> None:
    machine.runs(CONNMAN)
    base = machine.base / "lib/connman"
    (base / "ethernet_000d3aaa0011_cable").mkdir(parents=True)
    (base / "ethernet__cable").mkdir()
    assert machine.of_eth1() == ()
    machine.write("sys/class/net/eth1/address", "00:0d:3a:aa:00:10\n")
    assert machine.of_eth1() == ()
    (base / "ethernet_000d3aaa0010_cable").mkdir()
    (found,) = machine.of_eth1()
    assert (found.name, found.process, found.managed) == ("ConnMan", CONNMAN, True)


@pytest.mark.parametrize(
    ("name", "text", "theirs"),
    [
        ("network/ifstate", "lo=lo\neth1=eth1\n", True),
        ("network/ifstate", "eth1=office\n", True),
        ("network/ifstate", "lo=lo\neth10=eth10\nveth1=eth1\n", False),
        ("network/ifstate", "", False),
        ("network/ifstate.eth1", "eth1=eth1\n", True),
        ("network/ifstate.eth1", "", False),  # after ifdown
        ("network/ifstate.eth2", "eth1=eth1\n", False),
        ("ifstate", "lo=lo 1\neth1=eth1 1\n", True),  # ifupdown-ng
    ],
)
def test_ifupdown_needs_no_process(machine: Machine, name: str, text: str, theirs: bool) -> None:
    path = machine.write(f"run/{name}", text)
    expected = (Manager("ifupdown", None, True, str(path), "eth1", 3),) if theirs else ()
    assert machine.of_eth1() == expected


def test_ifupdown_is_one_manager_whatever_it_writes(machine: Machine) -> None:
    machine.write("run/network/ifstate", "eth1=eth1\n")
    machine.write("run/network/ifstate.eth1", "eth1=eth1\n")
    assert [one.name for one in machine.of_eth1()] == ["ifupdown"]


def test_a_machine_may_have_several(machine: Machine) -> None:
    machine.runs(NETWORKD, WICKED)
    machine.write("run/systemd/netif/links/3", "ADMIN_STATE=unmanaged\n")
    machine.write("run/wicked/state-3.xml")
    machine.write("run/network/ifstate", "eth1=eth1\n")
    assert [(one.name, one.managed) for one in machine.of_eth1()] == [
        ("systemd-networkd", False),
        ("wicked", True),
        ("ifupdown", True),
    ]


# --- who else runs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("comm", "name", "does"),
    [
        ("wickedd", "wicked", Does.LINKS),
        ("dhcpcd", "dhcpcd", Does.LINKS),
        ("connmand", "ConnMan", Does.LINKS),
        ("cloud-netconfig", "cloud-netconfig", Does.ADDRESSES),
        ("keepalived", "keepalived", Does.ROUTES),
        ("zebra", "FRR", Does.ROUTES),
        ("bird", "BIRD", Does.ROUTES),
        ("bird6", "BIRD", Does.ROUTES),
        ("charon-systemd", "strongSwan", Does.ROUTES),
        ("flanneld", "flannel", Does.ROUTES),
        ("calico-node", "Calico", Does.ROUTES),
        ("cilium-agent", "Cilium", Does.ROUTES),
        ("kube-router", "kube-router", Does.ROUTES),
    ],
)
def test_a_program_is_known_by_its_name(machine: Machine, comm: str, name: str, does: Does) -> None:
    process = Process(40, comm)
    machine.runs(process, Process(41, "sleep"), Process(42, comm + "x"))
    assert machine.daemons == (Daemon(name, does, (process,)),)
    assert machine.of_eth1() == ()


def test_several_processes_are_one_program_in_the_order_of_their_pids(machine: Machine) -> None:
    bird, bird6, other = Process(5, "bird"), Process(3, "bird6"), Process(21, "bird")
    machine.runs(other, bird, bird6, ZEBRA)
    assert machine.daemons == (
        Daemon("FRR", Does.ROUTES, (ZEBRA,)),
        Daemon("BIRD", Does.ROUTES, (bird, other, bird6)),
    )


def test_cloud_netconfig_is_a_timer(machine: Machine) -> None:
    wants = machine.base / "etc/systemd/system/timers.target.wants"
    wants.mkdir(parents=True)
    assert machine.daemons == ()
    (wants / "cloud-netconfig.timer").symlink_to("/usr/lib/systemd/system/cloud-netconfig.timer")
    assert machine.daemons == (Daemon("cloud-netconfig", Does.ADDRESSES, ()),)
    script = Process(50, "cloud-netconfig")
    machine.runs(script)
    assert machine.daemons == (Daemon("cloud-netconfig", Does.ADDRESSES, (script,)),)


def test_a_timer_that_is_not_enabled_starts_nothing(machine: Machine) -> None:
    machine.write("etc/systemd/system/nm-cloud-setup.timer")
    assert machine.daemons == ()
    wants = machine.base / "etc/systemd/system/timers.target.wants"
    wants.mkdir()
    (wants / "nm-cloud-setup.timer").symlink_to("../nm-cloud-setup.timer")
    assert machine.daemons == (Daemon("nm-cloud-setup", Does.ADDRESSES, ()),)


def test_the_managers_that_report_are_no_daemons_besides(machine: Machine) -> None:
    machine.runs(NM, NETWORKD)
    assert machine.daemons == ()


def agent(machine: Machine, conf: str, *argv: str) -> None:
    machine.write("etc/waagent.conf", conf)
    machine.runs(Process(40, "python3"), Process(41, "sleep"), Process(42, "vi"))
    machine.write("proc/40/cmdline", "\0".join([*argv, ""]))
    machine.write("proc/41/cmdline", "sleep\0waagent.conf\0")
    machine.write("proc/42/cmdline", "vi\0/usr/sbin/waagent\0")


AGENT = ("/usr/bin/python3", "-u", "/usr/sbin/waagent", "-daemon")


def test_the_agent_that_watches_the_host_name(machine: Machine) -> None:
    agent(machine, "# x\nProvisioning.MonitorHostName=y\n", *AGENT)
    process = Process(40, "python3")
    assert machine.daemons == (Daemon("WALinuxAgent", Does.RESTARTS, (process,)),)


@pytest.mark.parametrize(
    ("conf", "argv"),
    [
        ("Provisioning.MonitorHostName=n\n", AGENT),
        ("#Provisioning.MonitorHostName=y\n", AGENT),
        ("", AGENT),
        ("Provisioning.MonitorHostName=y\n", ("/usr/bin/python3", "/usr/sbin/other")),
    ],
)
def test_else_it_restarts_nothing(machine: Machine, conf: str, argv: tuple[str, ...]) -> None:
    agent(machine, conf, *argv)
    assert machine.daemons == ()
