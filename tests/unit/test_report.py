"""The whole look at recorded machines, and at what becomes of it when parts cannot be read."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Mapping
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from manactl.look.links import LinkFacts
from manactl.look.netns import NetdevInNetns
from manactl.model.port import (
    Certainty,
    Evidence,
    Missing,
    Netdev,
    Owner,
    RdmaPort,
    RdmaUse,
    Source,
    Upper,
)
from manactl.report import resolve
from manactl.wire.nldev import ATTRS
from tests.unit.machine import PCI, FakeRdma, Machine, Make, noted
from tests.unit.test_shapes import claim_of
from tests.unit.wording import wording

KERNELS = ["6.12", "6.18", "7"]


def owners(machine: Machine) -> list[tuple[Owner, Certainty]]:
    return [(port.owner, port.certainty) for port in machine.look().ports]


def nldev(machine: Machine) -> FakeRdma:
    assert machine.rdma is not None
    return machine.rdma


@pytest.mark.parametrize("kernel", KERNELS)
def test_idle_ports_are_free(make: Make, kernel: str) -> None:
    machine = make(f"{kernel}-idle")
    report = machine.look()
    assert [(port.owner, port.certainty) for port in report.ports] == [
        (Owner.FREE, Certainty.PROVEN)
    ] * 2
    first, second = report.ports
    assert (first.id.pci, first.id.port, second.id.port) == (PCI, 1, 2)
    assert first.netdev is not None
    assert first.netdev.name == "eth0"
    assert first.id.permanent_mac == first.netdev.mac == "02:15:5d:00:00:01"
    device = "mana_0" if kernel == "6.12" else "manae_0"
    others = () if kernel == "6.12" else ("mana_0/1",)
    assert first.rdma == RdmaPort(device, 1, others)
    assert second.rdma == RdmaPort(device, 2, ())
    assert {item.source for item in report.missing} == ({"debugfs"} if kernel == "6.12" else set())


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_raw_qp_and_its_holder_are_found(make: Make, kernel: str) -> None:
    machine = make(f"{kernel}-raw-qp-on-port-2")
    machine.holder(4211, cgroup="0::/system.slice/fwd.service\n")
    first, second = machine.look().ports
    assert (first.owner, first.certainty) == (Owner.ETHERNET, Certainty.PROVEN)
    assert (second.owner, second.certainty) == (Owner.RAW_QP, Certainty.PROVEN)
    assert first.holders == ()
    (holder,) = second.holders
    assert (holder.pid, holder.comm, holder.uid) == (4211, "testpmd", 1000)
    assert (holder.exe, holder.unit) == ("/usr/bin/testpmd", "fwd.service")
    assert holder.since is not None
    assert holder.since.timestamp() == 1700000005
    assert noted(second)["rdma-link-down"] == ("mana_0" if kernel == "6.12" else "manae_0", 2)
    assert ("proc", [4211]) in [(item.source, item.value) for item in second.evidence]


@pytest.mark.parametrize("kernel", KERNELS)
def test_more_contexts_than_descriptors_are_a_holder_that_is_not_visible(
    make: Make, kernel: str
) -> None:
    machine = make(f"{kernel}-raw-qp-on-port-2")
    machine.holder(4211)
    assert machine.rdma
    (raw,) = (one for one in machine.rdma.recorded if one["raw_qp_tracked"])
    raw["contexts"] += [one for one in raw["contexts"] if not one["kernel"]]
    first, second = machine.look().ports
    assert noted(second)["contexts-unseen"] == (2, 1)
    assert "contexts-unseen" not in noted(first)
    machine.holder(4212)  # shared or its own: enough descriptors for all contexts
    _, second = machine.look().ports
    assert "contexts-unseen" not in noted(second)


@pytest.mark.parametrize("kernel", KERNELS)
def test_without_a_visible_holder_that_is_said(make: Make, kernel: str) -> None:
    _, second = make(f"{kernel}-raw-qp-on-port-2").look().ports
    assert second.holders == ()
    assert "holder-unseen" in noted(second)


@pytest.mark.parametrize("kernel", KERNELS)
def test_without_debugfs_and_with_both_down_the_ports_are_candidates(
    make: Make, kernel: str
) -> None:
    machine = make(f"{kernel}-raw-qp-on-port-2")
    machine.remove(machine.path("/sys/kernel/debug"))
    machine.path("/sys/kernel/debug").mkdir()
    machine.pci("net/eth0/flags").write_text("0x1002\n")
    machine.holder(7)
    report = machine.look()
    for port in report.ports:
        assert port.owner is Owner.UNKNOWN
        assert port.candidates == (f"{PCI}:1", f"{PCI}:2")
        assert [holder.pid for holder in port.holders] == [7]
        assert noted(port)["candidates"] == ("eth0", "eth1")
    with wording:
        assert ("debugfs", "not mounted") in [(item.source, item.why) for item in report.missing]
    machine.path("/sys/kernel/debug").rmdir()
    (why,) = [item.why for item in machine.look().missing if item.source == "debugfs"]
    with wording:
        assert "does not offer it" in why


REFUSALS = [
    OSError(errno.EPERM, "Operation not permitted"),
    OSError(errno.EOPNOTSUPP, "Operation not supported"),
    ValueError("attribute at 0: length 3 of 8"),
    KeyError(ATTRS["DEV_INDEX"]),
]


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("state", ["idle", "raw-qp-on-port-2"])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    "broken",
    [
        ["devices"],
        ["raw_qp_tracked"],
        ["contexts"],
        ["contexts", "pds"],
        ["contexts", "pds", "cqs"],
        ["raw_qp_tracked", "contexts", "pds", "cqs", "summary"],
    ],
    ids="+".join,
)
def test_what_nldev_refuses_is_missing_and_never_makes_a_lie(
    make: Make, kernel: str, state: str, broken: list[str], error: Exception
) -> None:
    machine = make(f"{kernel}-{state}")
    nldev(machine).fail = dict.fromkeys(broken, error)
    report = machine.look()
    assert "nldev" in {item.source for item in report.missing}
    truth = [Owner.FREE] * 2 if state == "idle" else [Owner.ETHERNET, Owner.RAW_QP]
    for port, owner in zip(report.ports, truth, strict=True):
        assert port.owner in (owner, Owner.UNKNOWN)
        if port.owner is Owner.UNKNOWN and owner is Owner.RAW_QP:
            assert str(port.id) in port.candidates
    assert report.ports[0].rdma is not None


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_netdev_elsewhere_is_a_port_all_the_same(make: Make, kernel: str) -> None:
    machine = make(f"{kernel}-idle")
    machine.remove(machine.pci("net/eth1"))
    _, second = machine.look().ports
    assert (second.id.port, second.netdev) == (2, None)
    assert second.id.permanent_mac is None
    assert second.label == f"{PCI}:2"
    # 7.x shows that the vport has no queues; before, it may be up in another namespace.
    assert second.owner is (Owner.FREE if kernel == "7" else Owner.UNKNOWN)
    assert ("netdev-not-here" in noted(second)) is (kernel == "7")
    assert ("netdev-not-here-maybe-up" in noted(second)) is (kernel != "7")


@pytest.mark.parametrize("flags", [0x1002, 0x1003], ids=["down", "up"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_netdev_found_in_another_namespace_is_evidence(
    make: Make, kernel: str, flags: int
) -> None:
    machine = make(f"{kernel}-idle")
    machine.remove(machine.pci("net/eth1"))
    # The name and the index are those of another netdev here.
    netdev = Netdev("eth0", 2, flags, "down", None, "02:15:5d:00:00:02", "02:15:5d:00:00:02")
    machine.netns.found[1] = NetdevInNetns("blue", netdev)
    machine.links.answers = {2: LinkFacts("eth0", ("mine",), None, "02:15:5d:00:00:01", None)}
    if flags & 1 and kernel != "6.12":
        for made in ("EQs", "RX-0") if kernel == "7" else ("RX-0",):
            (vport,) = machine.path("/sys/kernel/debug/mana").glob("*/vport1")
            (vport / made).mkdir()
    report = machine.look()
    first, second = report.ports
    assert (second.netns, second.label) == ("blue", f"{PCI}:2")
    assert second.owner is (Owner.ETHERNET if flags & 1 else Owner.FREE)
    assert second.certainty is Certainty.PROVEN
    assert second.id.permanent_mac == "02:15:5d:00:00:02"
    assert second.netdev is not None
    assert second.netdev.altnames is None
    assert noted(second)["netdev-in-netns"] == ("eth0", "blue")
    assert [port.id for port in resolve(report, ["eth0"])] == [first.id]


def test_namespaces_that_cannot_be_searched_are_missing(make: Make) -> None:
    machine = make("6.18-idle")
    machine.remove(machine.pci("net/eth1"))
    machine.netns.fail = PermissionError(errno.EPERM, "Operation not permitted")
    report = machine.look()
    with wording:
        assert ("netns", "other network namespaces: Operation not permitted") in [
            (item.source, item.why) for item in report.missing
        ]
    assert report.ports[1].owner is Owner.UNKNOWN
    assert report.ports[1].netns is None


NETDEVS = {
    number: Netdev(f"eth{number}", 2 + number, flags, "down", None, None, f"02:15:5d:00:00:0{n}")
    for number, n, flags in [(0, 1, 0x1003), (1, 2, 0x1002)]
}


@pytest.mark.parametrize("busy", [False, True], ids=["", "busy"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_sysfs_of_another_namespace_is_not_believed_to_be_here(
    make: Make, kernel: str, busy: bool
) -> None:
    """`nsenter --net` keeps the caller's /sys; eth1 is where we are now, and looks so too."""
    machine = make(f"{kernel}-raw-qp-on-port-2")
    machine.links.here = {"eth1"}
    machine.netns.found = {0: NetdevInNetns("blue", NETDEVS[0]), 1: NetdevInNetns("", NETDEVS[1])}
    if busy:
        machine.links.answers = None
    report = machine.look()
    first, second = report.ports
    assert (first.netns, second.netns) == ("blue", None)
    assert (first.label, second.label) == (f"{PCI}:1", "eth1")
    assert [port.owner for port in report.ports] == [Owner.ETHERNET, Owner.RAW_QP]
    assert "sysfs" in {item.source for item in report.missing}


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_link_with_the_name_and_the_index_of_the_port_is_not_the_port(
    make: Make, kernel: str
) -> None:
    machine = make(f"{kernel}-raw-qp-on-port-2")
    machine.netns.fail = PermissionError(errno.EPERM, "Operation not permitted")
    machine.links.answers = {2: LinkFacts("eth0", (), True, "02:00:00:00:00:77", "veth", "")}
    first, second = machine.look().ports
    assert (first.netdev, second.netdev) == (None, None)
    assert [first.owner, second.owner] == [Owner.ETHERNET, Owner.RAW_QP]  # by the flags in sysfs


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_netdev_that_our_sysfs_does_not_show_may_be_here(make: Make, kernel: str) -> None:
    machine = make(f"{kernel}-raw-qp-on-port-2")
    machine.remove(machine.pci("net/eth1"))
    machine.netns.found = {1: NetdevInNetns("", NETDEVS[1])}
    machine.links.answers = {3: LinkFacts("eth1", ("mine",), None, None, None, PCI)}
    second = machine.look().ports[1]
    assert (second.netns, second.label, second.owner) == (None, "eth1", Owner.RAW_QP)
    assert second.netdev is not None
    assert second.netdev.altnames == ("mine",)


def test_a_netdev_that_moves_while_it_is_looked_at_does_not_discredit_sysfs(make: Make) -> None:
    machine = make("7-idle")
    collect, netns = machine.links.collect, machine.netns

    def moved() -> Mapping[int, LinkFacts] | None:
        if machine.pci("net/eth1").exists():
            machine.remove(machine.pci("net/eth1"))
            netns.found = {1: NetdevInNetns("blue", NETDEVS[1])}
        return collect()

    machine.links.collect = moved  # type: ignore[method-assign]
    report = machine.look()
    assert [port.netns for port in report.ports] == [None, "blue"]
    assert report.missing == ()


def test_a_busy_kernel_costs_altnames_and_nothing_else(make: Make) -> None:
    machine = make("7-raw-qp-on-port-2")
    machine.links.answers = None
    report = machine.look()
    assert [port.owner for port in report.ports] == [Owner.ETHERNET, Owner.RAW_QP]
    netdev = report.ports[0].netdev
    assert netdev is not None
    assert (netdev.altnames, netdev.carrier) == (None, True)
    assert netdev.permanent_mac == "02:15:5d:00:00:01"
    with wording:
        assert any("RTNL" in item.why for item in report.missing if item.source == "rtnetlink")


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_device_in_reset_is_not_owned_by_its_flags(make: Make, kernel: str) -> None:
    """The driver takes the RDMA devices and debugfs away, closes the netdev and keeps IFF_UP."""
    machine = make(f"{kernel}-raw-qp-on-port-2")
    machine.remove(machine.pci("infiniband"))
    machine.remove(machine.pci("infiniband_verbs"))
    for child in machine.path(f"/sys/bus/pci/devices/{PCI}").glob("mana.*"):
        machine.remove(child)
    machine.remove(machine.path("/sys/kernel/debug"))
    machine.path("/sys/kernel/debug").mkdir()
    first, second = machine.look().ports
    assert (first.owner, first.certainty) == (Owner.UNKNOWN, Certainty.UNKNOWN)
    assert {"in-transition", "owner-unknown"} <= set(noted(first))
    assert second.owner is Owner.FREE  # with the RDMA device its queue pairs have gone


def _nothing_here(machine: Machine) -> None:
    """Netdevs and RDMA devices are in other namespaces, and debugfs cannot be read."""
    for part in ("net", "infiniband"):
        machine.remove(machine.pci(part))
    machine.remove(machine.path("/sys/kernel/debug"))


def test_a_function_that_has_no_port_is_mentioned(make: Make) -> None:
    machine = make("7-idle")
    _nothing_here(machine)
    report = machine.look()
    assert report.ports == ()
    # The driver has made what mana_ib binds to, so the netdevs are somewhere.
    with wording:
        (told,) = [item.why for item in report.missing if item.why.startswith(f"{PCI} is bound")]
        assert "no netdev of it can be seen from here" in told
        assert "on the host" in told
    for child in machine.path(f"/sys/bus/pci/devices/{PCI}").glob("mana.*"):
        machine.remove(child)
    report = machine.look()
    assert report.ports == ()
    with wording:
        (told,) = [item.why for item in report.missing if item.why.startswith(f"{PCI} is bound")]
        assert "has no port: the driver is setting it up" in told


@pytest.mark.parametrize("kernel", KERNELS)
def test_ports_of_which_nothing_is_here_are_found_where_they_are(make: Make, kernel: str) -> None:
    """Nothing here tells how many ports there are."""
    machine = make(f"{kernel}-raw-qp-on-port-2")
    _nothing_here(machine)
    machine.netns.found = {n: NetdevInNetns("blue", NETDEVS[n]) for n in (0, 1)}
    first, second = machine.look().ports
    assert (first.netns, first.owner) == ("blue", Owner.ETHERNET)
    assert (second.netns, second.owner) == ("blue", Owner.UNKNOWN)
    assert machine.look().missing
    machine.netns.fail = PermissionError(errno.EPERM, "only root may look into all of them")
    report = machine.look()
    assert report.ports == ()
    assert "netns" in {item.source for item in report.missing}


@pytest.mark.parametrize("kernel", KERNELS)
def test_one_port_here_is_not_taken_for_all(make: Make, kernel: str) -> None:
    machine = make(f"{kernel}-idle")
    machine.remove(machine.pci("net/eth1"))
    machine.remove(machine.pci("infiniband"))
    machine.remove(machine.path("/sys/kernel/debug"))
    machine.netns.found = {1: NetdevInNetns("blue", NETDEVS[1]), 0: NetdevInNetns("", NETDEVS[0])}
    first, second = machine.look().ports
    assert (first.netns, first.label) == (None, "eth0")
    assert (second.netns, second.id.port) == ("blue", 2)


@pytest.mark.parametrize(
    "hidden", ["/sys/kernel/debug", f"/sys/bus/pci/devices/{PCI}/infiniband"], ids=os.path.basename
)
def test_no_namespace_is_searched_where_all_ports_are_known_and_here(
    make: Make, hidden: str
) -> None:
    machine = make("7-idle")
    machine.remove(machine.path(hidden))
    machine.look()
    assert machine.netns.searched == []


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_queue_pair_in_the_making_leaves_no_port_free(make: Make, kernel: str) -> None:
    """The kernel counts and shows it when it is made; the vport is taken before."""
    machine = make(f"{kernel}-idle")
    machine.write("/proc/41/stat", "41 (testpmd) D 1 1\n")
    stack = (
        "[<0>] mana_hwc_send_request+0x2/0x3 [mana]\n[<0>] mana_ib_create_qp+0x1/0x2 [mana_ib]\n"
    )
    machine.write("/proc/41/stack", stack)
    for port in machine.look().ports:
        assert port.owner is Owner.UNKNOWN
        assert port.candidates == (f"{PCI}:1", f"{PCI}:2")
    machine.write("/proc/41/stack", stack.replace("create", "destroy"))
    assert owners(machine) == [(Owner.FREE, Certainty.PROVEN)] * 2


def test_a_port_that_changes_is_looked_at_again(make: Make) -> None:
    """The netdev comes up while nldev is read: what is reported fits together."""
    machine = make("7-idle")
    asked: list[str] = []

    def open_once(what: str) -> None:
        asked.append(what)
        if len(asked) == 1:
            machine.pci("net/eth0/flags").write_text("0x1003\n")
            for made in ("EQs", "RX-0"):
                machine.path(f"/sys/kernel/debug/mana/{PCI}/vport0/{made}").mkdir()

    nldev(machine).on_ask.append(open_once)
    first, _ = machine.look().ports
    assert (first.owner, first.certainty) == (Owner.ETHERNET, Certainty.PROVEN)
    assert asked.count("pds") == 2


def test_a_port_that_never_rests_is_reported_as_such(make: Make) -> None:
    machine = make("7-idle")
    flags = machine.pci("net/eth0/flags")

    def change(what: str) -> None:
        if what == "pds":  # once a look
            flags.write_text("0x1003\n" if "2" in flags.read_text() else "0x1002\n")

    nldev(machine).on_ask.append(change)
    first, _ = machine.look().ports
    assert "kept-changing" in noted(first)


def test_no_mana_at_all(tmp_path: Path, make: Make) -> None:
    machine = make("7-idle")
    machine.remove(machine.path("/sys"))
    report = machine.look()
    assert report.ports == ()
    assert report.missing == ()
    assert report.kernel == os.uname().release
    assert machine.links.asked == set()


def whys(machine: Machine, source: str, **more: Any) -> list[str]:
    return [item.why for item in machine.look(**more).missing if item.source == source]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_port_carries_what_is_known_of_its_device_as_numbers(make: Make, kernel: str) -> None:
    machine = make(f"{kernel}-raw-qp-on-port-2")
    machine.holder(4211)
    first, second = machine.look().ports
    (raw,) = (one for one in nldev(machine).recorded if one["raw_qp_tracked"])
    (creator,) = (one["pid"] for one in raw["contexts"] if not one["kernel"])
    assert first.rdma_use == second.rdma_use == RdmaUse(1, (creator,), 0)
    assert [port.vport_eqs for port in (first, second)] == (
        [True, True] if kernel == "7" else [None] * 2
    )
    assert first.reasons == ("netdev-up",)
    assert second.reasons[-1] == "raw-qp-exists" or second.reasons == ("eqs-not-netdev",)


@pytest.mark.wording
def test_the_evidence_of_a_port_is_listed_by_source(make: Make) -> None:
    machine = make("7-raw-qp-on-port-2")
    machine.holder(4211)
    first, second = machine.look().ports
    own = [entry for entry in first.evidence if entry.source != "nldev"]
    assert own == [
        Evidence("sysfs", "flags", "0x1003"),
        Evidence("debugfs", "EQs", True),
        Evidence("debugfs", "RX", True),
    ]
    own = [entry for entry in second.evidence if entry.source != "nldev"]
    assert own == [
        Evidence("sysfs", "flags", "0x1002"),
        Evidence("debugfs", "EQs", True),
        Evidence("debugfs", "RX", False),
        Evidence("proc", "processes with the uverbs device open", [4211]),
    ]


def test_a_claimed_port_that_is_not_there_is_missing(make: Make) -> None:
    machine = make("7-idle")
    assert whys(machine, "sysfs", claims=[claim_of(1), claim_of(2)]) == []
    gone = f"port {PCI}:7 is claimed, but not there now"
    with wording:
        assert whys(machine, "sysfs", claims=[claim_of(2), claim_of(7)]) == [gone]


def test_what_the_caller_could_not_read_comes_first_and_once(make: Make) -> None:
    machine = make("6.12-idle")
    journal = Missing(Source.JOURNAL, "Permission denied")
    found = machine.look(missing=[journal, journal]).missing
    assert found[0] == journal
    assert [item.source for item in found] == ["journal", "debugfs"]


@pytest.mark.parametrize(
    ("uid", "hidden", "privileged"),
    [(0, False, True), (0, True, False), (1000, False, False), (1000, True, False)],
)
def test_privileged_is_who_could_read_everything(
    make: Make, uid: int, hidden: bool, privileged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = make("7-raw-qp-on-port-2")
    machine.holder(4211)
    opened = os.open

    def refusing(path: str, *args: int, **more: int) -> int:
        if hidden and str(path).endswith("/4211/fd"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, *args, **more)

    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(os, "open", refusing)
    report = machine.look()
    assert report.privileged is privileged
    assert ("proc" in {item.source for item in report.missing}) is hidden
    second = report.ports[1]
    assert ("holder-hidden" in noted(second)) is hidden
    assert "holder-unseen" not in noted(second)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "only root may list it"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
    ],
)
def test_a_debugfs_that_cannot_be_read_leaves_queues_unknown(
    make: Make, error: OSError, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = make("7-idle")
    listdir = os.listdir

    def refusing(path: str) -> list[str]:
        if "/kernel/debug/mana" in str(path):
            raise error
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refusing)
    report = machine.look()
    with wording:
        assert [item.why for item in report.missing if item.source == "debugfs"] == [why]
    for port in report.ports:
        assert port.vport_eqs is None
        assert not [entry for entry in port.evidence if entry.source == "debugfs"]
        assert (port.owner, port.reasons) == (Owner.FREE, ("netdev-down",))


@pytest.mark.wording
def test_a_debugfs_without_the_driver_says_so(make: Make) -> None:
    machine = make("6.12-idle")
    machine.path("/sys/kernel/debug/tracing").mkdir(parents=True)
    assert whys(machine, "debugfs") == ["the mana driver of this kernel shows nothing there"]


class Unopened:
    """What takes nldev's place where it may not be opened, or cannot."""

    opened = 0

    def __init__(self) -> None:
        Unopened.opened += 1
        raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")


@pytest.mark.parametrize("there", [False, True])
def test_nldev_is_opened_only_where_it_is_loaded(
    make: Make, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening the socket would load ib_core."""
    monkeypatch.setattr("manactl.report.Nldev", Unopened)
    Unopened.opened = 0
    machine = make("7-idle")
    machine.rdma = None
    place = machine.path("/sys/class/infiniband")
    if there:
        place.mkdir(parents=True, exist_ok=True)
    elif place.exists():
        machine.remove(place)
    sockets = [why for why in whys(machine, "nldev") if why.startswith("socket: ")]
    with wording:
        assert sockets == (["socket: Protocol not supported"] if there else [])
    assert Unopened.opened == int(there)


@pytest.mark.parametrize(("contexts", "searched"), [([], False), (None, True)])
def test_a_device_that_nobody_has_open_is_not_searched_for(
    make: Make, contexts: list[object] | None, searched: bool
) -> None:
    machine = make("7-raw-qp-on-port-2")
    machine.holder(4211)
    (raw,) = (one for one in nldev(machine).recorded if one["raw_qp_tracked"])
    if contexts is None:
        nldev(machine).fail["contexts"] = OSError(errno.EPERM, "Operation not permitted")
    else:
        raw["contexts"] = contexts
    assert bool(machine.look().ports[1].holders) is searched


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_function_in_reset_says_so_of_every_port(make: Make, kernel: str) -> None:
    machine = make(f"{kernel}-idle")
    assert not any(port.in_reset for port in machine.look().ports)
    for auxiliary in machine.path(f"/sys/bus/pci/devices/{PCI}").glob("mana.*"):
        machine.remove(auxiliary)
    assert all(port.in_reset for port in machine.look().ports)


def test_event_queues_that_are_lost_are_a_ports_own_or_one_of_several(make: Make) -> None:
    machine = make("7-raw-qp-on-port-2")
    (eqs,) = machine.path("/sys/kernel/debug/mana").glob("*/vport1/EQs")
    machine.remove(eqs)
    first, second = machine.look().ports
    assert (first.eqs_lost, second.eqs_lost) == (False, True)
    assert (second.owner, second.certainty) == (Owner.RAW_QP, Certainty.INFERRED)
    assert noted(second)["eqs-lost"] == (True,)
    machine.pci("net/eth0/flags").write_text("0x1002\n")
    for vport in machine.path("/sys/kernel/debug/mana").glob("*/vport0"):
        machine.remove(vport)
        vport.mkdir()
    for port in machine.look().ports:
        assert port.eqs_lost
        assert port.owner is Owner.UNKNOWN
        assert noted(port)["eqs-lost"] == (False,)


def test_the_kind_of_an_upper_comes_from_rtnetlink_where_sysfs_has_none(make: Make) -> None:
    machine = make("7-idle")
    machine.write("/sys/class/net/team0/ifindex", "9\n")
    machine.pci("net/eth0/master").symlink_to("../../../../../virtual/net/team0")
    assert upper(machine) == ("team0", None)
    machine.links.answers = {9: LinkFacts("team0", (), None, None, "team"),
                             8: LinkFacts("x", (), None, None, "vrf")}  # fmt: skip
    assert upper(machine) == ("team0", "team")
    machine.write("/sys/class/net/team0/uevent", "DEVTYPE=bond\n")
    assert upper(machine) == ("team0", "bond")
    assert machine.look().ports[1].upper is None


def upper(machine: Machine) -> tuple[str, str | None]:
    above = machine.look().ports[0].upper
    assert above is not None
    return above.netdev, above.kind


def test_the_upper_in_another_namespace_is_named_without_a_kind(make: Make) -> None:
    machine = make("7-idle")
    machine.remove(machine.pci("net/eth1"))
    netdev = Netdev("eth1", 3, 0x1002, "down", None, None, None, master="bond0")
    machine.netns.found[1] = NetdevInNetns("blue", netdev)
    machine.write("/sys/class/net/bond0/uevent", "DEVTYPE=vlan\n")  # another one, here
    above = machine.look().ports[1].upper
    assert above is not None
    assert (above.netdev, above.kind, above.vmbus) == ("bond0", None, None)


def test_without_claims_read_no_claim_is_missed(make: Make) -> None:
    machine = make("7-raw-qp-on-port-2")
    interrupted = claim_of(2, phase="interrupted")
    second = machine.look(claims=[interrupted]).ports[1]
    assert second.claim == interrupted.claim
    assert second.notes[-1] == interrupted.next_step
    assert "unclaimed" not in noted(second)
    assert machine.look(claims=[interrupted]).ports[0].claim is None


def test_descriptors_are_counted_over_all_nodes_of_the_device(make: Make) -> None:
    machine = make("7-raw-qp-on-port-2")
    machine.holder(4211)
    (raw,) = (one for one in nldev(machine).recorded if one["raw_qp_tracked"])
    raw["contexts"] += [dict(one) for one in raw["contexts"] if not one["kernel"]] * 2
    assert noted(machine.look().ports[1])["contexts-unseen"] == (3, 1)
    machine.path("/proc/4211/fd/7").symlink_to("/dev/null")
    assert noted(machine.look().ports[1])["contexts-unseen"] == (3, 2)
    machine.path("/proc/4211/fd/8").symlink_to("/dev/null")
    assert "contexts-unseen" not in noted(machine.look().ports[1])


def test_the_time_of_a_report_is_in_utc(make: Make) -> None:
    assert make("7-idle").look().time.tzinfo is UTC


def test_a_proc_without_any_process_is_told_as_that(make: Make) -> None:
    machine = make("7-raw-qp-on-port-2")
    for place in machine.path("/proc").iterdir():
        if place.name.isdecimal():
            machine.remove(place)
    (why,) = [item.why for item in machine.look().missing if item.source == "proc"]
    with wording:
        assert why.startswith("/proc lists no process")


def test_processes_that_are_not_listed_are_missing(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    machine = make("7-raw-qp-on-port-2")
    assert machine.look().privileged
    machine.write("/proc/77/comm", "sh\n")
    machine.remove(machine.path("/proc/1"))
    report = machine.look()
    (why,) = [item.why for item in report.missing if item.source == "proc"]
    with wording:
        assert "hidepid" in why
    assert not report.privileged
    assert "holder-hidden" in noted(report.ports[1])


def test_root_of_a_user_namespace_is_not_privileged(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    machine = make("7-idle")
    assert machine.look().privileged
    machine.write("/proc/self/ns/user", "")
    assert not machine.look().privileged


UUID = "000d3aaa-0010-000d-3aaa-0010000d3aaa"


@pytest.fixture
def pair(make: Make) -> Machine:
    """eth0 is the VF of lan0, which is up."""
    machine = make("7-idle")
    device = f"/sys/devices/VMBUS/{UUID}"
    machine.write(f"{device}/class_id", "{f8615163-df3e-46c5-913f-f2d2f965ed0e}\n")
    machine.path(f"{device}/driver").symlink_to("../../../bus/vmbus/drivers/hv_netvsc")
    machine.path(f"{device}/subsystem").symlink_to("../../../bus/vmbus")
    for name, value in {"ifindex": "9\n", "flags": "0x1003\n", "address": "00:0d\n"}.items():
        machine.write(f"{device}/net/lan0/{name}", value)
    machine.path(f"{device}/net/lan0/device").symlink_to(f"../../../{UUID}")
    machine.path("/sys/class/net").mkdir(parents=True, exist_ok=True)
    machine.path("/sys/class/net/lan0").symlink_to(machine.path(f"{device}/net/lan0"))
    machine.path("/sys/bus/vmbus/devices").mkdir(parents=True)
    machine.path(f"/sys/bus/vmbus/devices/{UUID}").symlink_to(machine.path(device))
    machine.pci("net/eth0/master").symlink_to("../../../../../virtual/net/lan0")
    return machine


def test_a_pair_is_shown_with_its_device_and_path(pair: Machine) -> None:
    first, second = pair.look().ports
    assert first.upper == Upper("lan0", "netvsc", UUID, "synthetic", True)
    assert first.pair == first.upper
    assert second.pair is None
    assert noted(first)["slow-path"] == ("lan0",)
    shown = {(e.fact, e.value) for e in first.evidence}
    with wording:
        assert {("VMBus device of lan0", UUID), ("data path of lan0", "synthetic")} <= shown


def test_both_names_mean_the_port_and_the_one_that_was_typed_is_spoken_of(pair: Machine) -> None:
    report = pair.look()
    for word in ("eth0", "lan0"):
        (port,) = resolve(report, [word])
        assert (port.id.port, port.label) == (1, word)
    assert [port.label for port in resolve(report, ["lan0", "eth0"])] == ["lan0"]


def test_a_vf_that_is_not_joined_is_shown_below_its_netdev(pair: Machine) -> None:
    """hv_netvsc has not come to it yet: no master, and the MAC address of both is the same."""
    pair.pci("net/eth0/master").unlink()
    pair.write(f"/sys/devices/VMBUS/{UUID}/net/lan0/address", "02:15:5d:00:00:01\n")
    first, second = pair.look().ports
    assert (first.upper, first.unjoined) == (Upper("lan0", "netvsc", UUID, "synthetic", True), UUID)
    assert noted(first)["unjoined"] == ("lan0",)
    assert "slow-path" not in noted(first)
    assert (second.upper, second.unjoined) == (None, None)
    assert [port.label for port in resolve(pair.look(), ["lan0"])] == ["lan0"]


def test_one_without_a_netdev_above_it_is_known_by_the_uuid(pair: Machine) -> None:
    uuid = "02155d00-0001-0215-5d00-000102155d00"
    pair.pci("net/eth0/master").unlink()
    pair.write(f"/sys/devices/VMBUS/{uuid}/class_id", "{f8615163-df3e-46c5-913f-f2d2f965ed0e}\n")
    pair.path(f"/sys/bus/vmbus/devices/{uuid}").symlink_to(pair.path(f"/sys/devices/VMBUS/{uuid}"))
    first = pair.look().ports[0]
    assert (first.upper, first.unjoined) == (None, uuid)
    with wording:
        assert noted(first)["unjoined"] == (f"VMBus device {uuid}",)


def test_altnames_of_both_mean_the_port(pair: Machine) -> None:
    pair.links.answers = {
        2: LinkFacts("eth0", ("enx0",), None, None, None),
        9: LinkFacts("lan0", ("wan", "slot7"), None, None, None),
    }
    report = pair.look()
    assert report.ports[0].upper is not None
    assert report.ports[0].upper.altnames == ("wan", "slot7")
    for word, label in (("enx0", "eth0"), ("wan", "lan0"), ("slot7", "lan0")):
        (port,) = resolve(report, [word])
        assert (port.id.port, port.label) == (1, label)


def test_another_link_of_the_name_of_the_upper_does_not_lend_it_its_altnames(
    pair: Machine,
) -> None:
    pair.links.answers = {8: LinkFacts("lan0", ("wan",), None, None, None)}
    upper = pair.look().ports[0].upper
    assert upper is not None
    assert upper.altnames is None


def test_the_path_of_a_pair_that_is_down_is_no_path(pair: Machine) -> None:
    pair.write(f"/sys/devices/VMBUS/{UUID}/net/lan0/flags", "0x1002\n")
    assert pair.look().ports[0].upper == Upper("lan0", "netvsc", UUID, None, False)


def test_a_synthetic_netdev_that_is_another_one_than_was_claimed_is_drift(pair: Machine) -> None:
    claim = claim_of(1)._replace(vmbus=UUID, ifindex=None)
    claim = claim._replace(claim=claim.claim._replace(synthetic="keep"))
    for then, codes in ((None, []), (9, []), (8, ["drift-synthetic-recreated"])):
        found = pair.look(claims=[claim._replace(upper_ifindex=then)]).ports[0].drift
        assert [note.code for note in found if note.code.startswith("drift-syn")] == codes


@pytest.mark.parametrize("phase", ["claimed", "interrupted"])
@pytest.mark.parametrize("driver", ["uio_hv_generic", None, "gone"])
def test_a_pair_whose_synthetic_netdev_a_claim_destroyed_keeps_both_names(
    pair: Machine, driver: str | None, phase: str
) -> None:
    """Also when that claim was killed between the two drivers, or the host has the device back."""
    pair.pci("net/eth0/master").unlink()
    pair.remove(pair.path("/sys/class/net/lan0"))
    device = pair.path(f"/sys/devices/VMBUS/{UUID}")
    pair.remove(device / "net")
    (device / "driver").unlink()
    if driver == "gone":
        pair.remove(device)
    elif driver is not None:
        (device / "driver").symlink_to(f"../../../bus/vmbus/drivers/{driver}")
    claim = claim_of(1, phase=phase)._replace(vmbus=UUID, upper="lan0", upper_altnames=("wan",))
    claim = claim._replace(claim=claim.claim._replace(synthetic="uio"))
    report = pair.look(claims=[claim])
    upper = report.ports[0].upper
    assert upper is not None
    assert (upper.netdev, upper.vmbus, upper.on_uio) == ("lan0", UUID, driver == "uio_hv_generic")
    assert [port.label for port in resolve(report, ["wan"])] == ["lan0"]


@pytest.mark.parametrize(("phase", "noticed"), [("claimed", True), ("interrupted", False)])
def test_a_vf_waits_for_no_netdev_that_recover_will_bring(
    pair: Machine, phase: str, noticed: bool
) -> None:
    uuid = "02155d00-0001-0215-5d00-000102155d00"
    pair.pci("net/eth0/master").unlink()
    pair.write(f"/sys/devices/VMBUS/{uuid}/class_id", "{f8615163-df3e-46c5-913f-f2d2f965ed0e}\n")
    pair.path(f"/sys/bus/vmbus/devices/{uuid}").symlink_to(pair.path(f"/sys/devices/VMBUS/{uuid}"))
    claim = claim_of(1, phase=phase)._replace(vmbus=uuid, upper="lan0")
    port = pair.look(claims=[claim]).ports[0]
    assert port.unjoined == uuid
    assert ("unjoined" in noted(port)) is noticed


class _Lacking:
    """From a system call on, by its number, there are no descriptors any more; or just then."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int, *, lasting: bool) -> None:
        self.calls, self._at, self._lasting = 0, at, lasting
        for name in ("open", "listdir"):
            patch.setattr(os, name, self._wrapped(getattr(os, name)))

    def _wrapped(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            self.calls += 1
            if self.calls == self._at or (self._lasting and self.calls > self._at):
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return real(*args, **more)

        return call


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("scene", ["7-raw-qp-on-port-2", "6.12-raw-qp-on-port-2"])
def test_without_descriptors_a_port_is_unknown_or_as_it_is(
    make: Make, scene: str, lasting: bool
) -> None:
    """A lack of ours at every open and every listing of a look: no holder is passed over, and no
    port free or gone for it. Either the look fails, or what it could not read is told."""
    machine = make(scene)
    machine.holder(4211)
    truth = machine.look()
    with pytest.MonkeyPatch.context() as patch:
        counted = _Lacking(patch, 0, lasting=False)
        machine.look()
        total = counted.calls
    for at in range(1, total + 1, 1 if lasting else 3):
        with pytest.MonkeyPatch.context() as patch:
            _Lacking(patch, at, lasting=lasting)
            try:
                found = machine.look()
            except OSError:
                continue
        assert [port.id.key for port in found.ports] == [port.id.key for port in truth.ports], at
        for was, now in zip(truth.ports, found.ports, strict=True):
            assert now.owner in (was.owner, Owner.UNKNOWN), at
            if now.holders != was.holders:
                assert len(found.missing) > len(truth.missing), at


BITS = (
    b"\n", b"\0", b" ", b"(", b")", b"-", b":", b"\xe2\x80\xa8", b"\x85", b"\xff\xfe", b"9" * 400, b"-1",
    b"0x", b"/", b"net:[", b"nodev", b"\\040", b"\x0b", b"A" * 3000, b"1e9", b"mnt_id:", b"Uid:\t",
    b"btime ", b"[<0>] mana_x+", b"\xd9\xa3",
)  # fmt: skip


def garbled(machine: Machine, rng: random.Random) -> dict[Path, bytes]:
    """Some files of /proc and sysfs as no kernel writes them; what they had."""
    found = [Path(at) / name for at, _, names in os.walk(machine.base) for name in names]
    files = [path for path in found if path.is_file() and not path.is_symlink()]
    chosen = [path for path in files if rng.random() < (0.2 if "/proc/" in str(path) else 0.02)]
    before = {path: path.read_bytes() for path in chosen}
    for path, was in before.items():
        data = bytearray(was)
        for _ in range(rng.randint(1, 5)):
            at = rng.randrange(len(data) + 1)
            data[at : at + rng.choice([0, 1, 9])] = rng.choice(BITS)
        path.write_bytes(bytes(data) if rng.random() < 0.9 else b"")
    return before


def look_at_garbled(make: Make, scene: str, seeds: range) -> None:
    machine = make(scene)
    machine.holder(4211)
    machine.holder(4212, cgroup="0::/system.slice/fwd.service\n")
    machine.links = NoLinks()  # it reads some of the files itself
    for seed in seeds:
        before = garbled(machine, random.Random(seed))
        try:
            machine.look()
        except OSError:
            pass
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
        for path, was in before.items():
            path.write_bytes(was)


class NoLinks:
    """rtnetlink that does not answer."""

    def ask(self, ifindexes: object) -> None:
        pass

    def collect(self) -> None:
        return None

    def index(self, name: str) -> int | None:
        return None


SCENES = ["7-raw-qp-on-port-2", "6.12-raw-qp-on-port-2", "6.18-idle"]


@pytest.mark.parametrize("scene", SCENES)
def test_whatever_answers_for_the_files_of_the_kernel(make: Make, scene: str) -> None:
    look_at_garbled(make, scene, range(15))


@pytest.mark.soak
@pytest.mark.parametrize("scene", SCENES)
def test_thousands_of_garbled_files(make: Make, scene: str) -> None:
    look_at_garbled(make, scene, range(1000, 1500))
