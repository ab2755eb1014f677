"""What `doctor` finds of drivers, their devices and debugfs: code, level, command, and of what."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from manactl.doctor import drivers
from manactl.doctor.finding import Finding, Level
from manactl.doctor.machine import Away, Machine, Module, Shape
from manactl.look.debugfs import Mount
from tests.unit.doctor.fit import FUNCTION, LOADED, NODE, machine
from tests.unit.wording import wording

A, B = "7870:00:00.0", "7871:00:00.0"
OTHER = replace(FUNCTION, pci=B)
Brief = list[tuple[str, str, tuple[str, ...]]]


def brief(found: Iterable[Finding]) -> Brief:
    """(code, level, commands) of each finding."""
    return [(one.code, str(one.level), one.fix) for one in found]


def check(rule: Callable[[Machine], Iterable[Finding]], **change: Any) -> Brief:
    return brief(rule(machine(**change)))


@pytest.mark.parametrize(
    ("bound", "module", "commands"),
    [
        ("vfio-pci", Module.LOADED, ("unbind", "bind")),
        ("vfio-pci", Module.INSTALLED, ("unbind", "modprobe")),
        (None, Module.LOADED, ("bind",)),
        (None, Module.ABSENT, ("modprobe",)),
    ],
)
def test_a_function_that_mana_does_not_have(
    bound: str | None, module: Module, commands: tuple[str, ...]
) -> None:
    lines = {
        "unbind": f"echo {B} > /sys/bus/pci/drivers/{bound}/unbind",
        "bind": f"echo {B} > /sys/bus/pci/drivers/mana/bind",
        "modprobe": "modprobe mana",
    }
    functions = (FUNCTION, replace(OTHER, driver=bound, ports=0))
    found = check(drivers.driver, functions=functions, modules=LOADED | {"mana": module})
    assert found == [
        ("driver", "mend", tuple(lines[name] for name in commands)),
        ("driver", "fine", ()),  # of the first function
    ]


def test_a_bound_function_without_a_port_is_a_finding_for_each() -> None:
    functions = (replace(FUNCTION, ports=0), OTHER, replace(OTHER, pci="7872:00:00.0", ports=0))
    assert check(drivers.driver, functions=functions) == [
        ("no-port", "mend", ("journalctl -k -g mana", f"echo 1 > /sys/bus/pci/devices/{pci}/reset"))
        for pci in (A, "7872:00:00.0")
    ]


def test_a_driver_that_is_ready_is_not_reset_because_its_netdevs_are_elsewhere() -> None:
    functions = (replace(FUNCTION, ports=0, set_up=True),)
    ((code, level, mend),) = check(drivers.driver, functions=functions)
    assert (code, level) == ("no-port", "mend")
    with wording:
        assert mend[0].startswith("manactl status")
    assert not any("reset" in command for command in mend)


def test_functions_and_ports_are_counted() -> None:
    (one,) = drivers.driver(machine())
    (two,) = drivers.driver(machine(functions=(FUNCTION, OTHER)))
    assert "1 function with 2 ports" in one.what
    assert "2 functions with 4 ports" in two.what


NOT_SERVED = replace(OTHER, rdma=(), rdma_served=False)
LOAD_IB = ("modprobe mana_ib", "echo mana_ib > /etc/modules-load.d/mana_ib.conf")


@pytest.mark.parametrize(
    ("module", "commands"),
    [(Module.LOADED, ("journalctl -k -g mana_ib",)), (Module.INSTALLED, LOAD_IB)],
)
def test_a_function_that_mana_ib_does_not_serve(module: Module, commands: tuple[str, ...]) -> None:
    functions, modules = (FUNCTION, NOT_SERVED), LOADED | {"mana_ib": module}
    (found,) = drivers.mana_ib(machine(functions=functions, modules=modules))
    assert brief([found]) == [("mana-ib", "mend", commands)]
    assert B in found.what
    assert A not in found.what


def test_a_kernel_without_mana_ib_names_the_package_of_that_kernel() -> None:
    modules = LOADED | {"mana_ib": Module.ABSENT}
    (found,) = drivers.mana_ib(machine(functions=(NOT_SERVED,), modules=modules))
    assert (found.code, found.level) == ("mana-ib", Level.FIX)
    with wording:
        assert found.fix[0].startswith("apt install linux-modules-extra-7.3.4 ")
    assert found.fix[1:] == ("modprobe mana_ib",)


@pytest.mark.parametrize(
    ("functions", "found"),
    [
        ((FUNCTION, OTHER), [("mana-ib", "fine", ())]),
        ((replace(NOT_SERVED, driver="vfio-pci"),), []),  # a finding of the driver alone
        ((FUNCTION, replace(NOT_SERVED, driver=None)), [("mana-ib", "fine", ())]),
        ((), []),
    ],
)
def test_mana_ib_is_asked_of_what_mana_has(functions: Any, found: Brief) -> None:
    assert check(drivers.mana_ib, functions=functions) == found


NO_UVERBS = (
    "ib-uverbs",
    "mend",
    ("modprobe ib_uverbs", "echo ib_uverbs > /etc/modules-load.d/ib_uverbs.conf"),
)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, [("ib-uverbs", "fine", ())]),
        ({"uverbs": ()}, [NO_UVERBS]),
        ({"modules": LOADED | {"ib_uverbs": Module.INSTALLED}}, [NO_UVERBS]),
        ({"functions": (replace(FUNCTION, rdma=()),), "uverbs": ()}, []),
        (
            {"uverbs": (replace(NODE, mode=None), replace(NODE, path="/dev/x", mode=0o600))},
            [
                ("uverbs-node", "mend", ("udevadm trigger --subsystem-match=infiniband_verbs",)),
                ("uverbs-access", "advice", ("chmod 0666 /dev/x",)),
            ],
        ),
    ],
)
def test_uverbs_devices(change: dict[str, Any], found: Brief) -> None:
    assert check(drivers.ib_uverbs, **change) == found


@pytest.mark.parametrize("mode", [0o666, 0o606, 0o777])
def test_nodes_that_others_may_open_are_fine(mode: int) -> None:
    assert check(drivers.ib_uverbs, uverbs=(replace(NODE, mode=mode),))[0][1] == "fine"


@pytest.mark.parametrize("mode", [0o660, 0o664, 0o662, 0])
def test_nodes_that_others_may_not_read_and_write_are_not(mode: int) -> None:
    nodes = [replace(NODE, mode=mode, usable=usable) for usable in (True, False)]
    (mine,), (closed,) = (drivers.ib_uverbs(machine(uverbs=(node,))) for node in nodes)
    assert (mine.code, closed.code) == ("uverbs-access", "uverbs-access")
    with wording:
        assert f" {mode:04o}: " in mine.what
        assert mine.what != closed.what


@pytest.mark.parametrize(
    ("mode", "hidden", "level"),
    [
        ("shared", False, "fine"),
        ("exclusive", False, "advice"),
        (None, False, None),
        ("exclusive", True, "mend"),
        (None, True, "mend"),
    ],
)
def test_rdma_namespaces(mode: str | None, hidden: bool, level: str | None) -> None:
    functions = (FUNCTION, replace(OTHER, rdma=() if hidden else ("x",)))
    found = check(drivers.rdma_netns, functions=functions, rdma_netns=mode)
    assert [one[:2] for one in found] == ([] if level is None else [("rdma-netns", level)])
    if level in ("mend", "advice"):
        assert found[0][2][-1] == "rdma system set netns shared"


@pytest.mark.parametrize("mode", ["shared", "exclusive", None])
def test_one_rdma_device_elsewhere_is_to_be_mended(mode: str | None) -> None:
    """The other one of the function being here hides nothing."""
    part = replace(OTHER, rdma=("mana_1",), rdma_elsewhere=("manae_1",))
    (found,) = drivers.rdma_netns(machine(functions=(FUNCTION, part), rdma_netns=mode))
    assert (found.code, found.level) == ("rdma-netns", Level.FIX)
    with wording:
        assert found.what == f"in another network namespace: manae_1 of {B}"
        assert found.fix[1] == "ip netns exec NETNS rdma dev set manae_1 netns first"


def test_devices_that_mana_ib_has_not_made_are_not_elsewhere() -> None:
    assert [one[1] for one in check(drivers.rdma_netns, functions=(NOT_SERVED,))] == ["fine"]


def test_a_pair_in_another_namespace_hangs_kernels_of_that_generation() -> None:
    def codes(**more: Any) -> list[str]:
        return [one[0] for one in check(drivers.kernel_bugs, **more)]

    away: dict[str, Any] = {
        "netvsc": True,
        "in_other_netns": (Away("7870:00:00.0:1", "blue", "eth1"),),
    }
    assert "kernel-bug-netns" in codes(shape=Shape.VPORT_EQS, **away)
    assert "kernel-bug-netns" not in codes(shape=Shape.SHARED_EQS, **away)
    assert "kernel-bug-netns" not in codes(shape=Shape.VPORT_EQS, **{**away, "netvsc": False})
    assert "kernel-bug-netns" not in codes(shape=Shape.VPORT_EQS, netvsc=True)


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        (Shape.VPORT_EQS, [("kernel-bug-mtu", "advice"), ("generation", "fine")]),
        (Shape.SHARED_EQS, [("generation", "advice"), ("kernel-bug-open", "advice")]),
        (Shape.NOTHING, [("generation", "advice"), ("kernel-bug-open", "advice")]),
        (None, []),
    ],
)
def test_the_bugs_of_a_driver_go_by_what_it_shows(shape: Shape | None, found: list[Any]) -> None:
    assert [one[:2] for one in check(drivers.kernel_bugs, shape=shape)] == found


@pytest.mark.parametrize(
    ("debugfs", "lockdown", "found"),
    [
        (Mount.MOUNTED, None, []),
        (Mount.MOUNTED, "none", []),
        (Mount.MOUNTED, "integrity", [("lockdown", "fine", ())]),
        (None, "integrity", [("debugfs", "unseen", ()), ("lockdown", "fine", ())]),
        (
            Mount.NOT_MOUNTED,
            None,
            [("debugfs", "advice", ("mount -t debugfs none /sys/kernel/debug",))],
        ),
        (Mount.NOT_OFFERED, None, [("debugfs", "advice", ())]),  # nothing can be mounted
    ],
)
def test_debugfs(debugfs: Mount | None, lockdown: str | None, found: Brief) -> None:
    assert check(drivers.debugfs, debugfs=debugfs, lockdown=lockdown) == found


def test_each_who_waits_is_a_finding() -> None:
    assert check(drivers.waiting) == []
    found = list(drivers.waiting(machine(waiting=("pid 7 waits", "pid 8 waits"))))
    assert brief(found) == [("driver-busy", "mend", ("manactl status -v",))] * 2
    assert [one.why for one in found] == ["pid 7 waits", "pid 8 waits"]
