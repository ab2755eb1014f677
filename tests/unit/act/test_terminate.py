"""Who is signalled, and who is not."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from manactl.act import terminate as ending
from manactl.errors import Busy
from manactl.model.port import (
    Certainty,
    Evidence,
    Holder,
    Owner,
    PortId,
    PortStatus,
    RdmaPort,
    RdmaUse,
    Report,
)
from tests.unit.test_shapes import NOW
from tests.unit.wording import Coded, read, says, wording

PCI = "7870:00:00.0"


def holder(pid: int, comm: str = "dpdk-testpmd", unit: str | None = None) -> Holder:
    return Holder(pid, comm, None, 0, unit, None, None)


def port(
    number: int,
    owner: Owner = Owner.RAW_QP,
    holders: tuple[Holder, ...] = (),
    candidates: tuple[str, ...] = (),
    use: RdmaUse | None = None,
) -> PortStatus:
    """A port of a device with a context for each of its holders, unless `use` says otherwise."""
    return PortStatus(
        PortId(PCI, number, None), None, None, None, RdmaPort("manae_0", number), owner,
        Certainty.PROVEN, candidates, holders, (Evidence("nldev", "pd", 1),),
        rdma_use=use or RdmaUse(len(holders), tuple(one.pid for one in holders), 0),
    )  # fmt: skip


def chosen(*ports: PortStatus, release: tuple[int, ...] = (1,)) -> list[int]:
    report = Report(NOW, "7", True, (), ports)
    wanted = [PortId(PCI, number, None) for number in release]
    return [one.pid for one in ending.holders_to_end(report, wanted)]


ONE = (holder(4211),)
TWO = (holder(4211), holder(4212))


def test_the_holder_of_the_port_is_chosen() -> None:
    assert chosen(port(1, holders=ONE), port(2, Owner.ETHERNET)) == [4211]


def test_a_program_and_its_children_are_chosen() -> None:
    parent = RdmaUse(1, (4211,), 0)
    assert chosen(port(1, holders=TWO, use=parent), port(2, Owner.FREE)) == [4211, 4212]


def test_the_only_holder_is_chosen_whatever_else_it_has() -> None:
    assert chosen(port(1, holders=ONE), port(2, holders=ONE)) == [4211]


def test_holders_of_two_ports_are_told_apart_by_nobody() -> None:
    with pytest.raises(
        Busy, match=says(r"some may use 7870:00:00\.0:2"), check=Coded("holder")
    ) as caught:
        chosen(port(1, holders=TWO), port(2, holders=TWO))
    with wording:
        assert "nobody was signalled" in caught.value.message
    assert caught.value.exit_code == 6
    assert chosen(port(1, holders=TWO), port(2, holders=TWO), release=(1, 2)) == [4211, 4212]


def test_a_candidate_counts_as_used() -> None:
    other = port(2, Owner.UNKNOWN, TWO, candidates=(f"{PCI}:1", f"{PCI}:2"))
    with pytest.raises(Busy, match=says("some may use"), check=Coded("holder")):
        chosen(port(1, holders=TWO), other)


@pytest.mark.parametrize(("other_qps", "sure"), [(0, True), (3, False), (None, False)])
def test_users_of_other_kinds_on_the_same_device_are_no_holders(
    other_qps: int | None, sure: bool
) -> None:
    use = RdmaUse(2, (4211, 4212), other_qps)
    if sure:
        assert chosen(port(1, holders=TWO, use=use)) == [4211, 4212]
    else:
        with pytest.raises(Busy, match=says("RC or UD"), check=Coded("holder")):
            chosen(port(1, holders=TWO, use=use))
    assert chosen(port(1, holders=ONE, use=use._replace(creators=(4211,)))) == [4211]


@pytest.mark.parametrize(
    ("use", "sure"),
    [
        (RdmaUse(1, (4211,), 0), True),
        (RdmaUse(2, (4211,), 0), True),  # it opened the device twice
        (RdmaUse(1, (99,), 0), True),  # its parent opened the device, and closed it
        (RdmaUse(1, None, 0), True),  # so did one that has ended
        (RdmaUse(2, None, 0), False),
        (RdmaUse(2, (4211, 99), 0), False),
        (RdmaUse(None, None, 0), False),
        (RdmaUse(None, (4211,), 0), True),
    ],
)
def test_who_cannot_be_seen_is_not_guessed_at(use: RdmaUse, sure: bool) -> None:
    if sure:
        assert chosen(port(1, holders=ONE, use=use)) == [4211]
        return
    with pytest.raises(Busy, match=says("cannot be seen"), check=Coded("holder")) as caught:
        chosen(port(1, holders=ONE, use=use))
    assert (caught.value.exit_code, caught.value.code) == (6, "holder")
    assert caught.value.evidence


@pytest.mark.parametrize("found", [port(1), port(1, Owner.FREE), port(1, Owner.ETHERNET, ONE)])
def test_without_a_holder_of_a_raw_qp_there_is_nobody_to_end(found: PortStatus) -> None:
    with pytest.raises(Busy, match=says(r"whoever holds .* cannot be seen"), check=Coded("holder")):
        chosen(found)


@dataclass
class FakeProcesses:
    """Processes whose numbers are given again: `gone` have ended, though /proc shows the pid."""

    gone: set[int] = field(default_factory=set)
    forbidden: set[int] = field(default_factory=set)
    stubborn: set[int] = field(default_factory=set)
    signalled: list[int] = field(default_factory=list)
    opened: list[int] = field(default_factory=list)

    def open(self, pid: int) -> int:
        self.opened.append(pid)
        return pid

    def terminate(self, fd: int) -> None:
        if fd in self.forbidden:
            raise PermissionError
        self.signalled.append(fd)
        if fd not in self.stubborn:
            self.gone.add(fd)

    def ended(self, fd: int, within: float) -> bool:
        return fd in self.gone

    def close(self, fd: int) -> None:
        self.opened.remove(fd)


def end(
    holders: tuple[Holder, ...], processes: FakeProcesses, again: tuple[Holder, ...] | None = None
) -> tuple[list[int], list[str]]:
    sent: list[Holder] = []
    said: list[str] = []
    still = holders if again is None else again
    ending.terminate(holders, lambda: still, sent, 0.0, said.append, processes=processes)
    assert processes.opened == []
    return [one.pid for one in sent], said


def test_everybody_is_signalled_and_told() -> None:
    processes = FakeProcesses()
    sent, said = end((holder(4211, unit="fwd.service"), holder(4212)), processes)
    assert sent == processes.signalled == [4211, 4212]
    with wording:
        assert said[0] == "SIGTERM sent to pid 4211 dpdk-testpmd, of fwd.service; waiting up to 0 s"


def test_a_number_given_again_is_not_signalled() -> None:
    """The process that held the port has ended since; another one has its number now."""
    processes = FakeProcesses(gone={4211})
    assert end(ONE, processes)[0] == []
    assert processes.signalled == []


def test_who_let_go_meanwhile_is_not_signalled() -> None:
    processes = FakeProcesses()
    assert end(TWO, processes, again=(holder(4212),))[0] == [4212]
    assert processes.signalled == [4212]


@pytest.mark.parametrize("who", ["init", "manactl"])
def test_init_and_manactl_itself_are_never_signalled(who: str) -> None:
    processes = FakeProcesses()
    sent, said = end((holder(1 if who == "init" else os.getpid(), who),), processes)
    assert sent == processes.signalled == []
    with wording:
        assert "is not signalled" in said[0]


def test_who_may_not_be_signalled_is_told() -> None:
    sent, said = end(ONE, FakeProcesses(forbidden={4211}))
    assert sent == []
    with wording:
        assert said == ["not allowed to signal pid 4211 dpdk-testpmd"]


def test_after_the_wait_the_way_on_is_told() -> None:
    busy = Busy("eth1 cannot be released", code="holder")
    told = ending.not_ended(busy, [holder(4211, unit="fwd.service")], 10.0)
    with wording:
        assert "SIGTERM was sent to pid 4211 dpdk-testpmd and 10 s were waited for" in told.message
        assert "kill -9 4211. manactl never does" in (told.hint or "")
    assert "systemctl stop fwd.service" in (told.hint or "")


def test_what_users_call_their_units_is_no_command() -> None:
    busy = Busy("eth1 cannot be released", code="holder")
    theirs = holder(4211, unit="stop x;touch $HOME;.service")._replace(manager=1000)
    ours = holder(4212, unit="fwd.service")
    hint = ending.not_ended(busy, [theirs, ours], 10.0).hint or ""
    with wording:
        assert hint.splitlines()[1:] == [
            "if its service starts it again: "
            "systemctl --user -M1000@ stop 'stop x;touch $HOME;.service'",
            "if its service starts it again: systemctl stop fwd.service",
        ]
    assert ending.not_ended(busy, [], 10.0) is busy


def test_a_real_process_ends_and_is_waited_for() -> None:
    ready = "import signal, sys; print(flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", ready], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        sent: list[Holder] = []
        mine = [holder(child.pid, "python3")]
        ending.terminate(mine, lambda: mine, sent, 60.0, [].append)
        assert sent == mine
        assert child.wait(0) == -signal.SIGTERM


def test_ports_of_another_function_have_processes_of_their_own() -> None:
    far = port(1, holders=(holder(7), holder(8)))
    far = far._replace(id=PortId("7870:00:01.0", 1, None))
    assert chosen(port(1, holders=TWO), far) == [4211, 4212]


def test_a_holder_of_two_ports_is_chosen_once() -> None:
    both = (port(1, holders=TWO), port(2, holders=TWO[::-1]))
    assert chosen(*both, release=(1, 2)) == [4211, 4212]


def test_a_candidate_port_is_ended_like_one_that_is_known() -> None:
    candidate = port(1, Owner.UNKNOWN, ONE, candidates=(f"{PCI}:1",))
    assert chosen(candidate) == [4211]
    with pytest.raises(
        Busy, match=says(r"whoever holds 7870:00:00\.0:1 cannot"), check=Coded("holder")
    ):
        chosen(candidate._replace(candidates=()))


def test_of_two_ports_one_with_an_invisible_holder_is_enough_to_refuse() -> None:
    seen = port(1, holders=ONE)
    unseen = port(2, holders=ONE, use=RdmaUse(2, None, 0))
    for ports in ((seen, unseen), (unseen, seen)):
        with pytest.raises(
            Busy, match=says(r"a holder of 7870:00:00\.0:2 cannot be seen"), check=Coded("holder")
        ):
            chosen(*ports, release=(1, 2))


def test_a_refusal_names_who_it_is_about_and_what_to_do() -> None:
    with pytest.raises(Busy) as caught:
        chosen(port(1, holders=(holder(7), holder(8, "b"))), port(2, holders=TWO))
    with wording:
        assert "pid 7 dpdk-testpmd, pid 8 b: some may use" in caught.value.message
        assert "end the right program yourself" in (caught.value.hint or "")
    assert caught.value.evidence == (Evidence("nldev", "pd", 1),)
    nameless = Holder(9, None, None, None, None, None, None)
    assert ending.named([nameless]) == "pid 9 ?"


@dataclass
class World:
    """Processes as the kernel has them: a number is another process's once its own has ended."""

    running: dict[int, str]
    fds: dict[int, str] = field(default_factory=dict)  # by descriptor: who it was opened for
    signalled: list[str] = field(default_factory=list)
    waits: list[tuple[str, float]] = field(default_factory=list)
    clock: float = 0.0
    needs: float = 0.0  # s that a process takes to end

    def open(self, pid: int) -> int:
        if pid not in self.running:
            raise ProcessLookupError
        fd = 100 + len(self.fds)
        self.fds[fd] = self.running[pid]
        return fd

    def terminate(self, fd: int) -> None:
        if self.fds[fd] not in self.running.values():
            raise ProcessLookupError
        self.signalled.append(self.fds[fd])

    def ended(self, fd: int, within: float) -> bool:
        assert within >= 0.0
        if within:
            self.waits.append((self.fds[fd], within))
            self.clock += min(self.needs, within)
        return self.fds[fd] not in self.running.values()

    def close(self, fd: int) -> None:
        del self.fds[fd]


def test_descriptors_are_opened_before_the_second_look() -> None:
    """The holder ends after the look that still shows it, and its number is given to another."""
    world = World({4211: "testpmd"})

    def again() -> tuple[Holder, ...]:
        world.running[4211] = "innocent"
        return ONE

    sent: list[Holder] = []
    ending.terminate(ONE, again, sent, 1.0, [].append, processes=world)
    assert (world.signalled, sent, world.waits, world.fds) == ([], [], [], {})


def test_a_holder_that_ends_between_the_look_and_the_signal_is_no_failure() -> None:
    class Racing(World):
        def terminate(self, fd: int) -> None:
            self.running.pop(4211, None)
            super().terminate(fd)

    world = Racing({4211: "testpmd", 4212: "worker"})
    sent: list[Holder] = []
    said: list[str] = []
    ending.terminate(TWO, lambda: TWO, sent, 1.0, said.append, processes=world)
    assert world.signalled == ["worker"]
    assert [one.pid for one in sent] == [4212]
    assert len(said) == 1


def test_a_holder_that_has_gone_already_costs_nothing() -> None:
    world = World({4212: "worker"})
    sent: list[Holder] = []
    ending.terminate(TWO, lambda: TWO, sent, 1.0, [].append, processes=world)
    assert world.signalled == ["worker"]


def test_all_are_signalled_before_any_is_waited_for_and_the_wait_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World({4211: "testpmd", 4212: "worker"}, needs=4.0)
    monkeypatch.setattr(ending.time, "monotonic", lambda: 1000.0 + world.clock)
    sent: list[Holder] = []
    said: list[str] = []
    ending.terminate(TWO, lambda: TWO, sent, 5.0, said.append, processes=world)
    assert world.signalled == ["testpmd", "worker"]
    assert world.waits == [("testpmd", 5.0), ("worker", 1.0)]
    with wording:
        assert all(line.endswith("waiting up to 5 s") for line in said)
    world.needs = 9.0
    world.waits.clear()
    ending.terminate(TWO, lambda: TWO, sent, 5.0, said.append, processes=world)
    assert world.waits == [("testpmd", 5.0)]  # nothing is left for the second


def test_descriptors_are_closed_whatever_happens() -> None:
    world = World({4211: "testpmd", 4212: "worker"})

    def fails() -> tuple[Holder, ...]:
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        ending.terminate(TWO, fails, [], 1.0, [].append, processes=world)
    assert world.fds == {}


def test_the_evidence_of_an_end_that_failed_says_who_was_signalled() -> None:
    before = Evidence("verbs", "EBUSY", 16)
    busy = Busy("eth1 cannot be released", evidence=[before], code="holder")
    services = [holder(1), holder(2, unit="b.service"), holder(3, unit="a.service"),
                holder(4, unit="a.service"), holder(5, unit="session-3.scope")]  # fmt: skip
    told = ending.not_ended(busy, services, 2.5)
    assert told.code == "holder"
    with wording:
        assert told.message.startswith("eth1 cannot be released\nSIGTERM was sent to pid 1 ")
        assert "and 2.5 s were waited for" in told.message
        assert "kill -9 1 2 3 4 5." in (told.hint or "")
    assert (told.hint or "").endswith("systemctl stop a.service b.service")
    signalled = [Evidence("proc", "SIGTERM sent to", number) for number in range(1, 6)]
    assert read(told.evidence) == read((before, *signalled))
    with wording:
        assert told.evidence == (before, *signalled)
    plain = ending.not_ended(busy, services[:1], 2.5)
    assert "systemctl" not in (plain.hint or "")


def test_the_kernel_tells_whether_a_process_has_ended() -> None:
    live = ending.LiveProcesses()
    wait = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", wait], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        child.stdout.readline()
        fd = live.open(child.pid)
        try:
            assert not live.ended(fd, 0.0)
            assert not live.ended(fd, 0.001)
            child.stdin.close()
            assert live.ended(fd, 60.0)
            assert live.ended(fd, 0.0)
        finally:
            live.close(fd)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


# --- what the kernel answers ----------------------------------------------------------------


class Vanishing(FakeProcesses):
    """The first process ends before it can be opened, the second before it is signalled."""

    def open(self, pid: int) -> int:
        if pid == 4211:
            raise ProcessLookupError
        return super().open(pid)

    def terminate(self, fd: int) -> None:
        if fd == 4212:
            raise ProcessLookupError
        super().terminate(fd)


def test_who_has_just_ended_keeps_nobody_else_from_being_signalled() -> None:
    processes = Vanishing()
    sent, said = end((holder(4211), holder(4212), holder(4213)), processes)
    assert sent == processes.signalled == [4213]
    with wording:
        assert said == ["SIGTERM sent to pid 4213 dpdk-testpmd; waiting up to 0 s"]


def test_who_may_not_be_signalled_keeps_nobody_else_from_it() -> None:
    sent, said = end(TWO, FakeProcesses(forbidden={4211}))
    assert sent == [4212]
    with wording:
        assert [line.split()[0] for line in said] == ["not", "SIGTERM"]


def test_init_keeps_nobody_else_from_being_signalled() -> None:
    sent, said = end((holder(1, "init"), holder(4212)), FakeProcesses())
    assert sent == [4212]
    with wording:
        assert said[0] == "pid 1 init is not signalled: end what it holds yourself"


def test_everybody_is_waited_for_within_the_same_time() -> None:
    waits: list[tuple[int, float]] = []

    class Watched(FakeProcesses):
        def ended(self, fd: int, within: float) -> bool:
            waits.append((fd, within))
            return super().ended(fd, within)

    processes = Watched(stubborn={4211, 4212})
    ending.terminate(TWO, lambda: TWO, [], 3600.0, [].append, processes=processes)
    assert [fd for fd, within in waits if within == 0] == [4211, 4212]
    (first, most), (second, rest) = waits[-2:]
    assert (first, second) == (4211, 4212)
    assert 0 < rest <= most <= 3600.0


def test_only_who_was_signalled_is_waited_for() -> None:
    waits: list[int] = []

    class Watched(FakeProcesses):
        def ended(self, fd: int, within: float) -> bool:
            if within:
                waits.append(fd)
            return super().ended(fd, within)

    processes = Watched(forbidden={4211})
    ending.terminate(TWO, lambda: TWO, [], 3600.0, [].append, processes=processes)
    assert waits == [4212]


def test_a_holder_without_a_name() -> None:
    assert ending.named([holder(7, None), holder(8)]) == "pid 7 ?, pid 8 dpdk-testpmd"  # type: ignore[arg-type]
    assert ending.named([]) == ""


def test_who_cannot_be_told_comes_with_all_that_was_seen() -> None:
    with pytest.raises(Busy) as caught:
        chosen(port(1, holders=TWO), port(2, holders=TWO))
    assert caught.value.code == "holder"
    assert caught.value.evidence == (Evidence("nldev", "pd", 1),)
    assert "manactl status -v" in (caught.value.hint or "")


def test_a_port_that_is_not_reported_is_named_by_its_place() -> None:
    with pytest.raises(
        Busy, match=says(r"whoever holds 7870:00:00\.0:3 cannot be seen"), check=Coded("holder")
    ):
        chosen(port(1, holders=ONE), release=(3,))


def test_holders_of_another_function_do_not_matter() -> None:
    other = port(2, holders=TWO)
    other = other._replace(id=other.id._replace(pci="7871:00:00.0"))
    assert chosen(port(1, holders=TWO), other) == [4211, 4212]


def test_a_free_port_of_the_same_function_has_no_users() -> None:
    assert chosen(port(1, holders=TWO), port(2, Owner.FREE, TWO)) == [4211, 4212]


def test_a_candidate_is_chosen_as_an_owner_is() -> None:
    maybe = port(1, Owner.UNKNOWN, ONE, candidates=(f"{PCI}:1",))
    assert chosen(maybe) == [4211]


def test_any_of_the_ports_with_an_unseen_holder_is_named() -> None:
    blind = port(2, holders=ONE, use=RdmaUse(2, None, 0))
    with pytest.raises(
        Busy, match=says(r"a holder of 7870:00:00\.0:2 cannot be seen"), check=Coded("holder")
    ):
        chosen(port(1, holders=ONE), blind, release=(1, 2))


def test_after_the_wait_everything_is_in_the_error() -> None:
    seen = Evidence("uverbs", "CREATE_QP", "EBUSY")
    busy = Busy("eth1 cannot be released", code="holder", evidence=[seen])
    both = [holder(4211, unit="b.service"), holder(4212, unit="a.service"), holder(5)]
    error = ending.not_ended(busy, both, 2.5)
    assert error.code == "holder"
    assert read(error.evidence) == read(
        (
            seen,
            *(Evidence("proc", "SIGTERM sent to", pid) for pid in (4211, 4212, 5)),
        )
    )
    with wording:
        assert error.evidence == (
            seen,
            *(Evidence("proc", "SIGTERM sent to", pid) for pid in (4211, 4212, 5)),
        )
        assert error.message.endswith(
            "\nSIGTERM was sent to pid 4211 dpdk-testpmd, pid 4212 dpdk-testpmd, pid 5 dpdk-testpmd "
            "and 2.5 s were waited for"
        )
        assert error.hint == (
            "wait longer (--wait SECONDS), or end it yourself: kill -9 4211 4212 5. manactl never does"
            "\nif its service starts it again: systemctl stop a.service b.service"
        )


def test_only_a_service_is_started_again() -> None:
    busy = Busy("eth1 cannot be released", code="holder")
    hint = ending.not_ended(busy, [holder(7, unit="session-3.scope")], 1.0).hint or ""
    assert "\n" not in hint
    odd = ending.not_ended(busy, [holder(7, unit="-x.service")], 1.0).hint or ""
    assert odd.endswith("systemctl stop -- -x.service")


def test_a_process_that_goes_on_has_not_ended() -> None:
    processes = ending.LiveProcesses()
    ready = "import signal; print(flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", ready], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        fd = processes.open(child.pid)
        try:
            assert not processes.ended(fd, 0)
            assert not processes.ended(fd, 0.25)  # more than one slice
            processes.terminate(fd)
            assert processes.ended(fd, 60.0)
            assert processes.ended(fd, 0)
        finally:
            processes.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_the_first_of_several_is_awaited_as_long_as_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    processes = ending.LiveProcesses()
    with monkeypatch.context() as patch:
        poll = Poll()
        patch.setattr(ending.select, "poll", lambda: poll)
        for within in (2.5, None):
            processes.first({7}, within)
    assert (poll.asked, poll.watched) == ([2500, None], [7, 7])
    (one, one_end), (other, other_end) = os.pipe(), os.pipe()
    try:
        assert processes.first({one, other}, 0.0) == set()
        os.write(other_end, b"x")
        assert processes.first({one, other}, None) == {other}
        os.close(one_end)
        assert processes.first({one, other}, 60.0) == {one, other}
        assert processes.first({one}, None) == {one}
    finally:
        for fd in (one, other, other_end):
            os.close(fd)


class Signalled(BaseException):
    """A signal to manactl itself."""


def test_a_signal_right_after_sigterm_does_not_make_it_forgotten() -> None:
    class Interrupting(FakeProcesses):
        def terminate(self, fd: int) -> None:
            super().terminate(fd)
            raise Signalled

    processes, sent = Interrupting(), list[Holder]()
    with pytest.raises(Signalled):
        ending.terminate(ONE, lambda: ONE, sent, 0.0, [].append, processes=processes)
    assert [one.pid for one in sent] == processes.signalled == [4211]


def test_who_could_not_be_signalled_was_not() -> None:
    class Refusing(FakeProcesses):
        def terminate(self, fd: int) -> None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    sent: list[Holder] = []
    with pytest.raises(OSError, match="Invalid"):
        ending.terminate(ONE, lambda: ONE, sent, 0.0, [].append, processes=Refusing())
    assert sent == []


class Poll:
    """select.poll() of a process that ends in the fourth slice of a second."""

    def __init__(self) -> None:
        self.asked: list[float | None] = []
        self.watched: list[int] = []

    def register(self, fd: int, _events: int) -> None:
        assert fd == 7
        self.watched.append(fd)

    def poll(self, milliseconds: float | None) -> list[tuple[int, int]]:
        self.asked.append(milliseconds)
        return [(7, 1)] if len(self.asked) == 4 else []


@pytest.mark.parametrize(("within", "looks", "ended"), [(60.0, 4, True), (2.5, 3, False)])
def test_the_end_of_a_process_is_awaited_in_slices(
    monkeypatch: pytest.MonkeyPatch, within: float, looks: int, ended: bool
) -> None:
    poll, clock = Poll(), itertools.count()
    monkeypatch.setattr(ending.select, "poll", lambda: poll)
    monkeypatch.setattr(ending.time, "monotonic", lambda: float(next(clock)))
    assert ending.LiveProcesses().ended(7, within) is ended
    assert len(poll.asked) == looks
    assert all(asked is not None and 0 <= asked <= 1000 for asked in poll.asked)
