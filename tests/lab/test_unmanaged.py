"""Claims of a port that a real network manager has: it lets go, and gets the port back whole.

kill -9 at every act that has to do with the manager, as in test_crash.py; and what it does
meanwhile when it is restarted, reloaded or told to configure the port.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest

from tests.lab import managed
from tests.lab.furnished import Furnished, Shown
from tests.lab.notes import ANY, noted
from tests.lab.users import User, eventually, resident
from tests.lab.vm import Vm
from tests.unit.wording import wording

BOTH = pytest.mark.parametrize("name", list(managed.MANAGERS))
STRIDE = 4  # a kill with all that comes back costs ten seconds
# What somebody has added by hand: a manager deletes it when it takes the port back, and networkd
# the last five wherever they lead.
FOREIGN = """\
address add 10.9.0.201/24 dev {name}
address add 2001:db8:9::201/64 dev {name} nodad
route add 10.88.0.0/16 via 10.9.0.1
route add 2001:db8:88::/48 via 2001:db8:9::1
rule add from 10.9.0.201 lookup 88
-6 rule add from 2001:db8:9::201 lookup 88
nexthop add id 66 blackhole
route add blackhole 10.66.0.0/16
route add 10.67.0.0/16 nhid 66 table 67
"""
OURS = "find /run/systemd/network /run/NetworkManager/conf.d -name '*manactl*' 2>/dev/null; true"


class Managed(Furnished):
    """The first port, which a manager has configured, and somebody by hand."""

    def __init__(self, vm: Vm, program: User, manager: managed.Manager) -> None:
        super().__init__(vm, program, vm.netdevs[1])
        self.manager = manager

    def put_back(self, before: Shown, story: str) -> None:
        super().put_back(before, story)
        assert self.vm.run(OURS).out == "", story
        assert self.manager.has_it(self.name), story

    def is_up(self) -> bool:
        return "<UP" in self.vm.run(f"ip -o link show {self.name} | sed 's/<[^>]*,UP/<UP/'").out


@contextlib.contextmanager
def managed_port(vm: Vm, name: str, way: str = "static") -> Iterator[Managed]:
    device = vm.netdevs[1]
    manager = managed.MANAGERS[name](vm)
    with managed.segment(vm):
        managed.spare(vm)
        manager.configure(device, way)
        managed.settled(vm, manager, device, way)
        for line in FOREIGN.format(name=device).splitlines():
            vm.run(f"ip {line}")
        program = resident(vm, "crash")
        one = Managed(vm, program, manager)
        one.view()
        yield one
        for line in FOREIGN.format(name=device).splitlines()[4:]:
            vm.run(f"ip {line.replace(' add', ' del')}", check=False)


def around(acts: list[str]) -> list[int]:
    """The acts on files of ours below /run, with those before and after, by which the manager has
    been told or not."""
    mine = [number for number, act in enumerate(acts) if "/run/" in act and "manactl-" in act]
    assert mine, acts
    return list(range(mine[0] - 1, mine[-1] + 3))


@BOTH
def test_killed_while_it_lets_go_or_takes_back_all_comes_back(
    booted: Vm, name: str, seed: int
) -> None:
    kill(booted, name, seed % STRIDE, STRIDE)


@pytest.mark.soak
@BOTH
def test_killed_at_every_act_of_letting_go_all_comes_back(booted: Vm, name: str) -> None:
    kill(booted, name, 0, 1)


def kill(vm: Vm, name: str, first: int, stride: int) -> None:
    """At each of the acts, or some of them, recover, and compare."""
    with managed_port(vm, name) as one:
        before, _ = one.view()
        claim = one.well("traced", one.claim)["acts"]
        release = one.well("traced", "release")["acts"]
        one.put_back(before, "a whole claim and release")
        points = [("claim", n) for n in around(claim)] + [("release", n) for n in around(release)]
        picked = points[first::stride]
        for verb, number in picked:
            if verb == "release":
                one.well("whole", one.claim)
            told = one.run(f"before:{number}", one.claim if verb == "claim" else "release")
            assert told["killed"], f"{verb}, act {number}: {told}"
            one.put_back(before, f"{verb} killed before {number} {told['acts'][-1:]}")
        assert picked


@BOTH
def test_whatever_a_manager_is_told_meanwhile_the_port_stays_down(booted: Vm, name: str) -> None:
    with managed_port(booted, name) as one:
        before, _ = one.view()
        one.well("whole", one.claim)
        assert not one.is_up()
        one.manager.reload()
        booted.run(["systemctl", "restart", one.manager.unit])
        eventually(lambda: booted.run(f"systemctl is-active {one.manager.unit}").rc == 0)
        if name == "networkd":
            one.manager.again(one.name)
        assert not one.is_up()
        rows = booted.run("manactl status --json").json()["ports"]
        assert noted([line for row in rows for line in row["notes"]], "unmanaged", ANY)
        one.put_back(before, "restarted while it was unmanaged")


def test_a_manager_that_is_stopped_meanwhile_is_not_waited_for(booted: Vm) -> None:
    with managed_port(booted, "NetworkManager") as one:
        before, _ = one.view()
        one.well("whole", one.claim)
        booted.run(["systemctl", "stop", one.manager.unit])
        told = one.well("whole", "release --json")
        text = told["text"]  # with what was said on standard error
        (port,) = json.loads(text[text.index("{") : text.rindex("}") + 1])["ports"]
        assert "manager" in {lost["cause"] for lost in port["lost"]}
        with wording:
            assert "does not run any more" in told["text"]
        assert booted.run(OURS).out == ""
        shown, journals = one.view()
        assert shown[0] == before[0]  # the addresses; its policy rules, if any, are its own
        assert journals == []
