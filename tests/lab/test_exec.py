"""A claim with a command, ended in every way there is: the port and all on it come back.

The judge is `ip -j -d` (networks.py) and the NIC's record. The command is testpmd, or a holder of a
real raw queue pair (guest/rawqp.py, on the port that the environment names).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from signal import SIGKILL, SIGTERM

import pytest

from tests.lab.scene import owners
from tests.lab.site import PATIENCE, STATE, Site, on_each, site
from tests.lab.users import GUEST, eventually
from tests.lab.vm import Vm
from tests.unit import schema

pytestmark = on_each()

TWICE, OFTEN = 2, 50
# Takes what it needs from the environment, and ends with a line on its input.
TESTPMD = """
mkfifo /tmp/say
exec dpdk-testpmd --lcores '(0,1)@0' --no-huge -m 512 --iova-mode=va --no-telemetry $MANACTL_EAL \\
    -- --txq=1 --rxq=1 --txd=128 --rxd=128 --total-num-mbufs=4096 <> /tmp/say
"""
# Makes a queue pair on the claimed port and then waits; with a child that shares it when asked for.
HOLDER = f"""
rdma=${{MANACTL_RDMA##*/}}; echo $$ > /tmp/command
(echo create $rdma; eval "$1"; exec sleep 1000) | exec python3 {GUEST}/rawqp.py "${{MANACTL_RDMA%/*}}"
"""


@pytest.fixture
def here(vm: Vm) -> Iterator[Site]:
    with site(vm) as made:
        vm.put("/tmp/holder", HOLDER, 0o755)
        vm.put("/tmp/testpmd", TESTPMD, 0o755)
        yield made
        vm.run("rm -f /tmp/holder /tmp/testpmd /tmp/say /tmp/command /tmp/report")


class Exec:
    """`manactl claim ... -- COMMAND` under way, with the processes that belong to it."""

    def __init__(self, site: Site, *command: str, prefix: tuple[str, ...] = ()) -> None:
        self.site = site
        self.before = site.view()
        line = ("claim", "--raw-qp", site.second, "--report", "/tmp/report", "--", *command)
        self.process = site.vm.spawn([*prefix, "python3", "-m", "manactl", *line])

    def holds(self) -> None:
        """Until the command has its queue pair: the proof that the port was free had one before."""
        eventually(self._is_held, PATIENCE, "the port to be held")

    def _is_held(self) -> bool:
        vm = self.site.vm
        if owners(vm)[2] != "raw-qp":  # costs the guest nothing
            return False
        word = f'grep -q \'"event":"claimed"\' {STATE}/claims/*'
        claimed = vm.run(word, check=False).rc == 0
        # Asked again: what held it before the journal's word may have been the proof.
        return claimed and owners(vm)[2] == "raw-qp"

    def pids(self, what: str) -> list[str]:
        """Of manactl (`claim`), its guardian (`guard`), or the command's (`holder`)."""
        mine = {
            "runner": "pgrep -f '[-]m manactl claim' | while read p; do "
            "[ $(cat /proc/$p/comm) = manactl-guard ] || echo $p; done",
            "guard": "pgrep -x manactl-guard",
            "holder": "pgrep -f '[r]awqp.py|[s]leep 1000'; pgrep -x dpdk-testpmd",
        }[what]
        return str(self.site.vm.run(mine, check=False).out).split()

    def kill(self, number: int, *what: str) -> None:
        pids = [pid for one in what for pid in self.pids(one)]
        assert pids, what
        self.site.vm.run(["kill", f"-{int(number)}", *pids], check=False)

    def open(self) -> list[str]:
        """The names of journals."""
        return str(self.site.vm.run(f"ls {STATE}/claims", check=False).out).split()

    def is_back(self) -> None:
        """All is as it was, nobody is left, and the history says so."""
        site = self.site
        # Names alone: the guardian may move it away at any time.
        eventually(lambda: not self.open(), PATIENCE, "the journal to be closed")
        site.same(self.before)
        assert site.owners()[2] == "ethernet"
        eventually(lambda: not self.pids("guard"), PATIENCE, "the guardian to end")
        last = site.well("history", "--json").document["claims"][0]
        assert (last["mode"], last["ending"]) == ("exec", "released")

    def report(self) -> dict[str, object]:
        found = json.loads(self.site.vm.get("/tmp/report"))
        schema.strict(found)
        assert isinstance(found, dict)
        return found


def test_a_command_that_ends_by_itself(here: Site) -> None:
    run = Exec(here, "sh", "-c", "exit 7")
    assert run.process.wait(PATIENCE).rc == 7
    run.is_back()
    report = run.report()
    assert (report["exit"], report["status"], report["error"]) == (7, 7, None)


def by_itself(run: Exec) -> None:
    run.site.vm.run("echo > /tmp/say")


def terminated(run: Exec) -> None:
    run.kill(SIGTERM, "runner")  # which passes it on


def killed(run: Exec) -> None:
    run.kill(SIGKILL, "holder")


def without_manactl(run: Exec) -> None:
    """The command goes on when manactl is killed, and has its port."""
    run.kill(SIGKILL, "runner")
    assert len(run.open()) == 1
    assert run.site.owners()[2] == "raw-qp"
    run.kill(SIGKILL, "holder")


def both_killed(run: Exec) -> None:
    run.kill(SIGKILL, "runner", "holder")


def all_killed(run: Exec) -> None:
    """Nobody is left who would release it."""
    run.kill(SIGKILL, "guard", "runner", "holder")
    run.site.becomes(2, "free")
    assert len(run.open()) == 1
    run.site.well("recover")


def terminal_closed(run: Exec) -> None:
    """The terminal's other end goes with the program that has it."""
    run.site.vm.run("pkill -KILL -f '[t]erminal.py'")


WAYS = {
    way.__name__: way
    for way in (
        by_itself, terminated, killed, without_manactl, both_killed, all_killed, terminal_closed
    )
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_testpmd_however_it_ends(way: str, here: Site) -> None:
    ends(way, here, TWICE)


@pytest.mark.soak
@pytest.mark.parametrize("way", WAYS)
def test_testpmd_however_often_it_ends(way: str, here: Site) -> None:
    ends(way, here, OFTEN)


def ends(way: str, here: Site, times: int) -> None:
    terminal = ("python3", f"{GUEST}/terminal.py", "80") if way == "terminal_closed" else ()
    for _ in range(times):
        run = Exec(here, "sh", "/tmp/testpmd", prefix=terminal)
        run.holds()
        assert here.status()[2]["claim"]["mode"] == "exec"
        WAYS[way](run)
        run.is_back()
        ran = run.process.wait(PATIENCE)
        if way in ("by_itself", "terminated"):
            report = run.report()
            assert (ran.rc, report["exit"], report["error"]) == (0, 0, None)
        here.vm.run("rm /tmp/say")


def test_a_holder_that_outlives_the_command_and_manactl(here: Site) -> None:
    run = Exec(here, "sh", "/tmp/holder", "echo fork; echo exit")
    run.holds()
    # rawqp.py leaves a child that has its descriptors, and nothing of it is left but that.
    run.kill(SIGKILL, "runner")
    here.vm.run("kill -9 $(cat /tmp/command)", check=False)
    assert here.owners()[2] == "raw-qp"
    assert len(here.journals()) == 1
    run.kill(SIGKILL, "holder")
    run.is_back()


def test_without_its_guardian_there_is_release(here: Site) -> None:
    run = Exec(here, "sh", "/tmp/holder", ":")
    run.holds()
    run.kill(SIGKILL, "guard", "runner", "holder")
    here.becomes(2, "free")
    assert len(here.journals()) == 1
    here.well("release")
    run.is_back()


def test_nothing_is_left_of_a_command_that_is_not_there(here: Site) -> None:
    with here.untouched():
        ran = here.vm.manactl("claim", "--raw-qp", here.second, "--", "nosuch")
    assert ran.rc == 127
    assert here.vm.run(f"ls {STATE}/claims", check=False).out == ""
