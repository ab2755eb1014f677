"""`status` for people, on recorded machines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from manactl.model.port import ClaimInfo, Note, Report, Upper
from manactl.render.status import below, plain
from tests.unit.machine import PCI, Machine
from tests.unit.wording import wording

KERNELS = ["6.12", "6.18", "7"]
UUID = "f8615163-0000-1000-2000-000d3aaa0010"


def shown(report: Report, *, verbose: bool = False) -> str:
    return "\n".join(plain(report, report.ports, verbose=verbose))


@pytest.mark.wording
def test_table_and_explanation(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "7-raw-qp-on-port-2")
    machine.holder(4211, "dpdk-testpmd")
    assert shown(machine.look()) == (
        "PORT  OWNER     CERTAINTY  RDMA       LINK  HELD BY            CLAIM\n"
        "eth0  ethernet  proven     manae_0/1  up    -                  -\n"
        "eth1  raw-qp    proven     manae_0/2  down  dpdk-testpmd 4211  -\n"
        "\n"
        "eth1: `rdma link` shows manae_0/2 DOWN although it works: that state is the netdev's, "
        "not the raw QP's\n"
        "eth1: no claim covers it: when the raw QP ends, the port stays down until it is set up "
        "by hand"
    )


@pytest.mark.parametrize("kernel", KERNELS)
def test_nothing_to_explain_is_a_table_alone(tmp_path: Path, kernel: str) -> None:
    """What an old kernel does not show is no line either, as long as the owners are proven."""
    lines = shown(Machine(tmp_path, f"{kernel}-idle").look()).splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["eth0", "free", "proven"],
        ["eth1", "free", "proven"],
    ]


def test_what_was_not_read_is_said_where_an_owner_is_not_proven(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "6.12-raw-qp-on-port-2")
    machine.pci("net/eth0/flags").write_text("0x1002\n")
    lines = shown(machine.look()).splitlines()
    assert [line.split()[:3] for line in lines[1:3]] == [
        ["eth0", "unknown", "-"],
        ["eth1", "unknown", "-"],
    ]
    (why,) = [line for line in lines if line.startswith("eth0, eth1: ")]
    with wording:
        assert "any of these" in why
        assert any(line.startswith("not read: debugfs: ") for line in lines)


def test_several_holders_are_counted_and_named(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "7-raw-qp-on-port-2")
    for pid in (7, 8, 9):
        machine.holder(pid, f"app{pid}")
    text = shown(machine.look())
    assert "app7 7 +2" in text
    with wording:
        assert "app7 7, app8 8, app9 9: " in text


@pytest.mark.wording
def test_a_busy_kernel_is_said_although_all_owners_are_proven(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "7-idle")
    machine.links.answers = None
    assert "not read: rtnetlink: " in shown(machine.look())


@pytest.mark.wording
def test_verbose_shows_identity_evidence_and_sources(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "7-raw-qp-on-port-2")
    machine.holder(7, cgroup="0::/system.slice/fwd.service\n")
    text = shown(machine.look(), verbose=True)
    for words in (
        "eth1  raw-qp, proven: the vport is in use, and not by the netdev",
        f"PCI address, port: {PCI}, 2",
        "permanent 02:15:5d:00:00:02",
        "holder   testpmd 7, /usr/bin/testpmd, uid 1000, fwd.service, since 2023-11-14T22:13:25Z",
        "sysfs    flags = 0x1002",
        "debugfs  EQs = true",
        "debugfs  RX = false",
        "nldev    manae_0: users of completion queues = 2",
        "proc     processes with the uverbs device open = [7]",
    ):
        assert words in text


def test_claims_and_drift_are_shown(tmp_path: Path) -> None:
    report = Machine(tmp_path, "7-raw-qp-on-port-2").look()
    since = datetime(2026, 11, 22, 12, tzinfo=UTC)
    info = ClaimInfo(since, {"uid": 0, "sudo_user": "operator"}, "claim", None, True, None)
    port = report.ports[0]._replace(claim=info, drift=(Note("drift-up"),))
    report = report._replace(ports=(port,))
    text = shown(report)
    assert text.splitlines()[1].endswith("  claimed")
    with wording:
        assert "eth0: drift: claimed, yet its netdev is up" in text
        assert "claim    claim since 2026-11-22T12:00:00Z by operator, proven free then" in shown(
            report, verbose=True
        )


@pytest.mark.wording
@pytest.mark.parametrize("mode", ["down", "keep", "uio"])
def test_verbose_shows_what_became_of_a_pair_and_the_uuid_for_dpdk(
    tmp_path: Path, mode: str
) -> None:
    """The UUID above all where the synthetic netdev, and its directory in sysfs, are gone."""
    report = Machine(tmp_path, "7-idle").look()
    info = ClaimInfo(report.time, {"uid": 0}, "claim", None, True, mode)
    upper = Upper("eth9", "netvsc", UUID, on_uio=mode == "uio")
    port = report.ports[1]._replace(claim=info, upper=upper)
    report = report._replace(ports=(port,))
    lines = shown(report, verbose=True).splitlines()
    (claim,) = [line for line in lines if line.startswith("  claim ")]
    assert claim.endswith(f", proven free then, --synthetic={mode}")
    uio = mode == "uio"
    assert f"  synthetic netdev: eth9{', gone until release' if uio else ''}" in lines
    assert f"  VMBus device: {UUID}{', of uio_hv_generic' if uio else ''}" in lines
    narrow = below(report, [port], verbose=True, width=80)
    assert max(len(line.text) for line in narrow) <= 80


@pytest.mark.wording
def test_a_command_under_the_table_stays_on_one_line(tmp_path: Path) -> None:
    report = Machine(tmp_path, "7-idle").look()
    port = report.ports[1]._replace(drift=(Note("recover-closes"),))
    for width in range(40, 120):
        lines = [line.text for line in below(report, [port], verbose=False, width=width)]
        assert sum("`manactl recover`" in line for line in lines) == 1, lines
        assert max(map(len, lines)) <= width


def test_the_time_that_is_left_to_confirm_a_claim_is_shown(tmp_path: Path) -> None:
    report = Machine(tmp_path, "7-idle").look()

    def at(seconds: float | None) -> str:
        by = None if seconds is None else report.time + timedelta(seconds=seconds)
        claim = ClaimInfo(report.time, {"uid": 0}, "claim", by, True, None)
        return shown(report._replace(ports=(report.ports[1]._replace(claim=claim),)))

    with wording:
        assert at(95.2).splitlines()[-1] == "eth1: 95 s are left to confirm its claim"
    assert "left to confirm" not in at(-3) + at(None)


@pytest.mark.wording
def test_no_port_is_said(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "7-idle")
    machine.remove(machine.path("/sys"))
    assert shown(machine.look()) == "no MANA port here"


def test_a_pair_is_one_line_with_both_names(tmp_path: Path) -> None:
    report = Machine(tmp_path, "7-idle").look()
    pair = report.ports[0]._replace(upper=Upper("lan0", "netvsc", "000d3aaa", None, False))
    first = shown(report._replace(ports=(pair,))).splitlines()[1]
    assert first.split()[0] == "lan0(eth0)"
    bond = pair._replace(upper=Upper("bond0", "bond"))
    assert shown(report._replace(ports=(bond,))).splitlines()[1].split()[0] == "eth0"
