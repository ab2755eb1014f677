"""What `doctor` finds of managers, of what died half-way, and of other namespaces."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from manactl.doctor import others
from manactl.doctor.machine import Away, Journals, PciManager
from manactl.model.port import OddFile
from manactl.netstate.surroundings import Daemon, Does, Manager, Process
from manactl.netstate.unmanaged import NETWORK_MANAGER, NETWORKD, UnmanagedLink
from tests.unit.doctor.fit import machine
from tests.unit.doctor.test_drivers import Brief, brief, check
from tests.unit.wording import wording


def managed_by(name: str, managed: bool | None, file: str | None = None) -> PciManager:
    return PciManager("eth7", Manager(name, Process(7, name), managed, "/run/x"), file)


def drop_in(directory: str) -> tuple[str, ...]:
    return (
        f"mkdir -p {directory}",
        "printf '[Link]\\nActivationPolicy=manual\\nRequiredForOnline=no\\n"
        "[Network]\\nBindCarrier=\\nKeepConfiguration=yes\\n' "
        f"> {directory}/manactl.conf",
        "networkctl reload",
    )


@pytest.mark.parametrize(
    ("manager", "found"),
    [
        (managed_by("NetworkManager", False), ("fine", ())),
        (managed_by("NetworkManager", True), ("mend", ("nmcli device set eth7 managed no",))),
        (managed_by("NetworkManager", None), ("mend", ("nmcli device set eth7 managed no",))),
        (
            managed_by("systemd-networkd", True, "/run/systemd/network/10-azure.network"),
            ("mend", drop_in("/etc/systemd/network/10-azure.network.d")),
        ),
        (
            managed_by("systemd-networkd", True),
            ("mend", drop_in("/etc/systemd/network/FILE.network.d")),
        ),
        (managed_by("systemd-networkd", False), ("fine", ())),
    ],
)
def test_a_manager(manager: PciManager, found: tuple[str, tuple[str, ...]]) -> None:
    (one,) = others.managers(machine(managers=(manager,)))
    assert (one.code, str(one.level), one.fix) == ("manager", *found)
    assert manager.manager.name in one.what
    assert "eth7" in one.what


def test_a_manager_that_answers_lets_go_for_a_claim_and_silence_is_told() -> None:
    answers = managed_by("NetworkManager", True)
    link = UnmanagedLink("eth7", 7, None, None, True)
    answers = replace(answers, manager=replace(answers.manager, link=link))
    (one,) = others.managers(machine(managers=(answers,)))
    assert (str(one.level), one.fix) == ("fine", ())
    assert "NetworkManager manages eth7" in one.what
    silent = replace(answers, manager=replace(answers.manager, link=None, silent="timed out"))
    (one,) = others.managers(machine(managers=(silent,)))
    assert str(one.level) == "mend"
    with wording:
        assert one.why.endswith("it does not answer (timed out)")


def test_a_manager_that_does_not_say_is_doubted() -> None:
    (sure,) = others.managers(machine(managers=(managed_by("NetworkManager", True),)))
    (doubt,) = others.managers(machine(managers=(managed_by("NetworkManager", None),)))
    assert doubt.what.startswith(sure.what)
    assert doubt.what != sure.what


def test_every_manager_is_a_finding_and_none_is_none() -> None:
    pair = (managed_by("NetworkManager", False), managed_by("systemd-networkd", True))
    assert [one[1] for one in check(others.managers, managers=pair)] == ["fine", "mend"]
    assert check(others.managers, managers=()) == []
    assert check(others.managers, managers=None) == [("manager", "unseen", ())]


def test_who_manages_no_port_is_advice_and_named_once() -> None:
    wicked = Daemon("wicked", Does.LINKS, (Process(7, "wickedd"),))
    frr = Daemon("FRR", Does.ROUTES, (Process(8, "zebra"),))
    links, routes = others.managers(machine(daemons=(wicked, frr)))
    assert (links.code, str(links.level), links.fix) == ("manager", "advice", ())
    assert "wicked (pid 7 wickedd)" in links.what
    assert "FRR (pid 8 zebra)" in routes.what
    with wording:
        assert links.why != routes.why
    mine = managed_by("wicked", True)
    both = others.managers(machine(managers=(mine,), daemons=(wicked, frr)))
    assert [str(one.level) for one in both] == ["mend", "advice"]
    let_be = managed_by("wicked", False)
    assert len(list(others.managers(machine(managers=(let_be,), daemons=(wicked,))))) == 2


def test_a_timer_can_be_stopped() -> None:
    timer = Daemon("nm-cloud-setup", Does.ADDRESSES, ())
    (found,) = others.managers(machine(daemons=(timer,)))
    assert found.fix == ("systemctl stop nm-cloud-setup.timer",)


def test_an_agent_that_restarts_the_network_can_be_told_not_to() -> None:
    agent = Daemon("WALinuxAgent", Does.RESTARTS, (Process(40, "python3"),))
    (found,) = others.managers(machine(daemons=(agent,)))
    assert str(found.level) == "advice"
    with wording:
        assert "when the host name changes" in (found.why or "")
    assert "MonitorHostName=n" in found.fix[0]


@pytest.mark.parametrize(
    ("version", "old"),
    [
        (None, False),
        ("252.31-1~deb12u1", True),
        ("257.6-1", True),
        ("257.7-1", False),
        ("257.13-1", False),
        ("258", False),
        ("257", True),
    ],
)
def test_a_systemd_that_forgets(version: str | None, old: bool) -> None:
    finding = ("systemd", "advice", ("apt install --only-upgrade systemd",))
    assert check(others.managers, systemd=version) == [finding] * old


RECOVER = ("manactl recover",)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, []),
        ({"journals": Journals(interrupted=("a:1",))}, [("interrupted", "mend", RECOVER)]),
        ({"journals": Journals(stale=("a:1",))}, [("stale", "advice", RECOVER)]),
        (
            {"journals": Journals(interrupted=("a:1",), stale=("a:2",), broken="x", unread="y")},
            [
                ("journal", "mend", ("manactl explain journal",)),
                ("journal", "unseen", ()),
                ("interrupted", "mend", RECOVER),
                ("stale", "advice", RECOVER),
            ],
        ),
        ({"state_dir": "/var is full"}, [("state-dir", "mend", ())]),
        (
            {"odd_files": (OddFile("/etc/a b", NETWORKD, "x"),)},
            [("persist", "advice", ("rm '/etc/a b'", "networkctl reload"))],
        ),
        (
            {"odd_files": (OddFile("/etc/c", NETWORK_MANAGER, "x", "7870:00:00.0:1"),)},
            [("persist", "advice", ("rm /etc/c", "nmcli general reload"))],
        ),
        ({"unmanned": ("eth1",)}, [("unclaimed", "advice", ("manactl status -v",))]),
    ],
)
def test_what_died_half_way(change: dict[str, Any], found: Brief) -> None:
    assert check(others.leftovers, **change) == found


def test_the_finding_names_the_ports_and_the_reason() -> None:
    journals = Journals(interrupted=("a:1", "a:2"), stale=("b:1",), broken="torn", unread="denied")
    change = {"journals": journals, "unmanned": ("eth1", "eth2"), "state_dir": "/var is full"}
    broken, unread, died, stale, state, claimless = others.leftovers(machine(**change))
    assert broken.why == "torn"
    assert "denied" in unread.what
    assert "a:1, a:2" in died.what
    with wording:
        assert stale.what.startswith("b:1: ")
    assert state.what == "/var is full"
    with wording:
        assert claimless.what.startswith("eth1, eth2: ")


@pytest.mark.parametrize("bound", [(), ("f8615163-0000", "f8615163-0001")])
def test_uio_on_vmbus_takes_the_next_device_until_its_id_is_removed(bound: tuple[str, ...]) -> None:
    (one,) = others.leftovers(machine(uio_vmbus=bound))
    remove = "/sys/bus/vmbus/drivers/uio_hv_generic/remove_id"
    assert brief([one]) == [
        ("uio", "advice", (f"echo f8615163-df3e-46c5-913f-f2d2f965ed0e > {remove}",))
    ]
    assert ("f8615163-0000, f8615163-0001" in one.what) is bool(bound)


def test_a_port_in_another_namespace_is_claimed_from_there() -> None:
    assert check(others.in_other_netns) == []
    away = (
        Away("a:1", "blue", "eth2"),
        Away("a:2", "/proc/77/ns/net", "eth;2"),
        Away("a:3", "r d", None),
    )
    found = list(others.in_other_netns(machine(in_other_netns=away)))
    assert brief(found) == [
        ("foreign-netns", "advice", (command,))
        for command in (
            "ip netns exec blue manactl claim --raw-qp eth2",
            "ip netns exec NAME manactl claim --raw-qp 'eth;2'",
            "ip netns exec 'r d' manactl claim --raw-qp a:3",
        )
    ]
    assert [one.what.partition(")")[0] for one in found] == [
        "a:1 (blue", "a:2 (/proc/77/ns/net", "a:3 (r d",
    ]  # fmt: skip
