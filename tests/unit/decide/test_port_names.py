"""Every word that means a port, and words that mean none or several."""

from __future__ import annotations

import pytest

from manactl.decide.port_names import names, resolve
from manactl.errors import UsageError
from manactl.look.links import LinkFacts
from manactl.model.port import Netdev, RdmaPort, Report, Upper
from tests.unit.decide.scene import STATUS
from tests.unit.machine import PCI, Machine, Make
from tests.unit.test_shapes import NOW
from tests.unit.wording import says, wording


def named(machine: Machine, *words: str) -> list[str]:
    return [port.label for port in resolve(machine.look(), words)]


def test_every_way_to_name_a_port(make: Make) -> None:
    machine = make("7-idle")
    machine.links.answers = {3: LinkFacts("eth1", ("data",), None, None, None)}
    words = ["eth1", "data", f"{PCI}:2", "02:15:5D:00:00:02", "manae_0/2"]
    assert named(machine, *words) == ["eth1"]
    assert named(machine, "mana_0/1", "eth1", "eth0") == ["eth0", "eth1"]


@pytest.mark.parametrize("word", ["eth7", "ETH1", "", f"{PCI}:3", "manae_0/3", "manae_0", "1"])
def test_an_unknown_name_lists_the_ports(make: Make, word: str) -> None:
    with pytest.raises(UsageError, match=says("names no port")) as caught:
        named(make("7-idle"), "eth0", word)
    assert caught.value.hint is not None
    assert "eth0" in caught.value.hint
    assert "manae_0/2" in caught.value.hint


def test_a_master_of_two_ports_is_ambiguous(make: Make) -> None:
    machine = make("7-idle")
    for port in ("eth0", "eth1"):
        machine.pci(f"net/{port}/master").symlink_to("../../../../../virtual/net/bond0")
    with pytest.raises(UsageError, match=says("ambiguous: eth0, eth1")):
        named(machine, "bond0")


def test_the_names_of_a_port_the_best_first() -> None:
    netdev = Netdev("eth1", 3, 0, None, None, None, None, altnames=("data", "left"), master="bond0")
    rdma = RdmaPort("manae_0", 1, ("mana_0/1",))
    upper = Upper("bond0", "bond", altnames=("wan",))
    port = STATUS._replace(netdev=netdev, rdma=rdma, upper=upper)
    always = [str(port.id), str(port.id.permanent_mac), "manae_0/1", "mana_0/1"]
    assert list(names(port)) == ["eth1", "data", "left", "bond0", "wan", *always]
    assert list(names(port._replace(netns="blue"))) == always
    assert list(names(port._replace(netdev=None))) == always
    bare = port._replace(netdev=None, rdma=None, id=port.id._replace(permanent_mac=None))
    assert list(names(bare)) == [str(port.id)]


def test_case_counts_in_names_and_not_in_addresses() -> None:
    netdev = Netdev("eth1", 3, 0, None, None, None, None)
    pci = STATUS.id._replace(pci="7870:00:0a.0", permanent_mac="00:0d:3a:aa:00:10")
    report = Report(NOW, "7", True, (), (STATUS._replace(netdev=netdev, id=pci),))
    for word in ("eth1", "7870:00:0A.0:1", "00:0D:3A:AA:00:10", "manae_0/1"):
        assert resolve(report, [word]) == list(report.ports), word
    for word in ("Eth1", "MANAE_0/1"):
        with pytest.raises(UsageError):
            resolve(report, [word])


def test_a_machine_without_ports_says_so() -> None:
    with pytest.raises(UsageError, match=says("names no port")) as caught:
        resolve(Report(NOW, "7", True), ["eth1"])
    with wording:
        assert caught.value.hint == "there is no MANA port here"
    assert caught.value.exit_code == 2


def test_an_unknown_name_lists_every_port_on_a_line_of_its_own(make: Make) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(make("7-idle").look(), ["nothing"])
    with wording:
        assert (caught.value.hint or "").splitlines() == [
            "the ports are:",
            f"  eth0  {PCI}:1  02:15:5d:00:00:01  manae_0/1  mana_0/1",
            f"  eth1  {PCI}:2  02:15:5d:00:00:02  manae_0/2",
        ]


def test_a_claimed_port_goes_by_what_it_was_called_where_nothing_is_called_that_now() -> None:
    """The host has taken the synthetic netdev of a pair back, and `manactl status eth1` is typed."""
    there = Netdev("eth3", 3, 0, None, None, None, None)
    one = STATUS._replace(netdev=there, claimed_names=("eth3", "eth1", "wan"))
    other = one._replace(
        netdev=there._replace(name="eth4"),
        id=one.id._replace(port=7),
        claimed_names=("eth4", "wan"),
    )
    report = Report(NOW, "7.3.4", privileged=True, ports=(one, other))
    assert resolve(report, ["eth1"]) == resolve(report, ["eth3", "eth1"]) == [one]
    with pytest.raises(UsageError, match=says("ambiguous: eth3, eth4")):
        resolve(report, ["wan"])
    now = other._replace(netdev=there._replace(name="eth1"))
    assert resolve(report._replace(ports=(one, now)), ["eth1"]) == [now]
