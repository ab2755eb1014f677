"""Signals at any act, holders that are waited for or ended, and what the documents count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from signal import SIGINT, SIGTERM

import pytest

from tests.lab.site import PATIENCE, Site, on, refused, site
from tests.lab.users import User, eventually, user
from tests.lab.vm import Vm
from tests.unit.wording import wording

pytestmark = on(0)
MARK = {"0": 0}  # signal 0 is none: the acts are watched, and nothing else


@pytest.fixture
def here(vm: Vm) -> Iterator[Site]:
    with site(vm) as made:
        yield made


def test_a_signal_at_any_act_of_a_claim(here: Site) -> None:
    """Before the journal announces anything: 130. Then all is put back. After the last record the
    claim stands, whatever comes while it is reported."""
    before = here.view()
    claim = ("claim", "--raw-qp", here.second, "--json")
    acts = here.well(*claim, signals=MARK).acts
    here.well("release")
    down = acts.index("rtnetlink 16 down")
    announced = [n for n, act in enumerate(acts) if act.startswith("write") and "(journal)" in act]
    first, last, told = announced[0], announced[-1], len(acts) - 1
    assert first < down < last < told
    assert "stdout" in acts[told]
    codes = {}
    for number, name in (
        (0, SIGINT), (first - 1, SIGTERM), (down, SIGTERM), (last, SIGINT), (told, SIGINT),
        (told, SIGTERM),
    ):  # fmt: skip
        ran = here.run(*claim, signals={str(number): int(name)})
        story = f"{name.name} at act {number}, {acts[number]}: {ran}"
        codes[number] = ran.rc
        if ran.rc == 0:
            assert ran.document["claimed"] is True, story
            assert here.owners()[2] == "free", story
            assert len(here.journals()) == 1, story
            assert here.status()[2]["drift"] == [], story
            here.well("release")
        else:
            refused(ran, ran.rc, "interrupted" if ran.rc == 130 else "rolled-back")
            assert number < told, story
            assert name.name in ran.err, story
            with wording:
                assert f"interrupted by {name.name}" in ran.err, story
        assert here.journals() == {}, story
        here.same(before)
    assert [codes[n] for n in (0, first - 1)] == [130, 130]
    assert codes[down] == 4
    assert codes[last] in (0, 4)
    assert codes[told] == 0


def test_a_signal_at_any_act_of_a_release(here: Site) -> None:
    before = here.view()
    here.claim(here.second)
    acts = here.well("release", "--json", signals=MARK).acts
    first = next(n for n, act in enumerate(acts) if act.startswith("write") and "(journal)" in act)
    assert first < acts.index("rtnetlink 16 up")
    for number, code in ((0, 130), (first, 0), (len(acts) - 1, 0)):
        here.claim(here.second)
        data = here.journals()
        ran = here.run("release", "--json", signals={str(number): int(SIGINT)})
        story = f"SIGINT at act {number}, {acts[number]}: {ran}"
        assert ran.rc == code, story
        if code == 130:
            refused(ran, 130, "interrupted")
            assert here.journals() == data, story
            assert here.owners()[2] == "free", story
            here.well("release")
        else:
            assert ran.port["outcome"] == "restored", story
        assert here.journals() == {}, story
        here.same(before)


def held(here: Site, stack: ExitStack, port: int, *, stubborn: bool = False) -> tuple[User, int]:
    """A program with a raw QP on the port; a stubborn one does not hear SIGTERM."""
    program = "ignoring" if stubborn else "rawqp"
    argv = ["env", "--ignore-signal=TERM"] if stubborn else []
    process = here.vm.spawn([*argv, "python3", "/manactl/tests/lab/guest/rawqp.py"])
    stack.callback(process.kill)
    holder = User(process, program)
    pid = int(holder.wait_for("ready")["pid"])
    holder.ask(f"create {port}", "created")
    return holder, pid


def alive(here: Site, pid: int) -> bool:
    return bool(here.vm.run(["test", "-e", f"/proc/{pid}/exe"], check=False).rc == 0)


def test_an_interrupt_ends_the_release_of_all(here: Site) -> None:
    """While the first holder is waited for: the second is not touched any more."""
    here.claim(here.first)
    here.claim(here.second)
    data = here.journals()
    with ExitStack() as stack:
        # Where the kernel does not tell whose they are, one program alone may be signalled.
        holder, pid = held(here, stack, 1, stubborn=True)
        holder.ask("create 2", "created")
        releasing = here.start("release", "--all", "--terminate", "--wait", "600", "--json")
        here.says(releasing, f"SIGTERM sent to pid {pid}", names=f"{pid}")
        here.signal(releasing, SIGINT)
        ran = refused(here.end(releasing), 130, "interrupted")
        assert "SIGINT" in ran.document["message"]
        with wording:
            assert ran.err.count("SIGTERM sent to") == 1
            assert "interrupted by SIGINT" in ran.document["message"]
        assert here.journals() == data
        assert here.owners() == {1: "raw-qp", 2: "raw-qp"}
        assert alive(here, pid)


def test_an_interrupt_after_the_first_of_several_releases(here: Site) -> None:
    """The first is back, and is reported; the second, whose holder is waited for, stays as it is."""
    here.claim(here.first)
    here.claim(here.second)
    kept = sorted(here.journals())[1]
    data = here.journals()[kept]
    with ExitStack() as stack:
        holder, pid = held(here, stack, 2)
        releasing = here.start("release", "--all", "--wait", "600", "--json")
        here.becomes(1, "ethernet")
        here.says(releasing, "waiting up to 600 s", names="600")
        assert here.owners() == {1: "ethernet", 2: "raw-qp"}
        here.signal(releasing, SIGINT)
        ran = refused(here.end(releasing), 130, "interrupted")
        assert [row["netdev"] for row in ran.document["released"]] == [here.first]
        with wording:
            message = ran.document["message"]
            assert "nothing was changed" not in message
            assert f"{here.first} was released" in message
        assert here.journals() == {kept: data}
        assert here.owners() == {1: "ethernet", 2: "raw-qp"}
        assert alive(here, pid)
        holder.ask("quit", "leaving")
    here.becomes(2, "free")
    here.well("release")


def test_a_claim_waits_for_a_vport_that_is_taken(here: Site) -> None:
    """The kernel of before 7 does not tell which of two ports has the raw QP: the proof does."""
    here.sh(f"ip link set {here.first} down; ip link set {here.second} down")
    before = here.view()
    with ExitStack() as stack:
        holder, pid = held(here, stack, 2)
        claim = ("claim", "--raw-qp", here.second)
        ran = here.run(*claim, "--json")
        refused(ran, 6, "busy")
        assert f"pid {pid} python3" in ran.err
        waiting = here.start(*claim, "--json", "--wait", "600")
        eventually(here.journals, PATIENCE, "the claim that waits to have begun")
        refused(here.run(*claim, "--json", "--wait", "0"), 6, "locked")
        assert here.said(waiting)["rc"] is None
        assert here.owners() == {1: "free", 2: "raw-qp"}
        holder.ask("quit", "leaving")
        ran = here.end(waiting)
    assert ran.rc == 0, str(ran)
    assert (ran.port["proven"], ran.port["was"]) == (True, "down")
    assert ran.port["proof"]["tries"] > 1
    here.well("release")
    here.same(before)


def test_holders_that_cannot_be_told_are_not_signalled(here: Site) -> None:
    """One that only another pid namespace shows, alone or beside one that is seen, and one that
    may have RC queue pairs alone, on a kernel whose one device serves both: all of them live on
    and have heard nothing."""
    here.claim(here.first, here.second)
    words = ("release", "--terminate", "--wait", "2", "--json")
    with ExitStack() as stack:
        mine = hearing(here, stack, 2)
        inside = a_pid_namespace(here, stack)
        ran = refused(here.run_with(inside, *words), 6, "holder")
        with wording:
            assert "cannot be seen from here" in ran.document["message"]
        other = hearing(here, stack, 1, *inside)
        ran = refused(here.run_with(inside, *words), 6, "holder")
        with wording:
            assert "a holder of" in ran.document["message"]
            assert "cannot be seen from here" in ran.document["message"]
        assert here.owners() == {1: "raw-qp", 2: "raw-qp"}
        for one in (mine, other):
            assert one.ask("report", "report")["heard"] == []
        other.process.stdin_write(b"quit\n")
        here.becomes(1, "free")
        here.well("release", here.first)
        with user(here.vm, "rnic", here.status()[2]["rdma"]["device"]) as third:
            third.wait_for("ready")
            ran = refused(here.run(*words), 6, "holder")
            with wording:
                assert "RC or UD" in ran.document["message"]
                assert "SIGTERM sent" not in ran.err
            assert mine.ask("report", "report")["heard"] == []
            third.ask("quit", "leaving")
        assert here.owners() == {1: "ethernet", 2: "raw-qp"}
        ran = here.well(*words)
        assert mine.wait_for("heard")["signal"] == SIGTERM
        assert [one["comm"] for one in ran.document["terminated"]] == ["python3"]
    assert here.owners() == {1: "ethernet", 2: "ethernet"}


def hearing(here: Site, stack: ExitStack, port: int, *prefix: str) -> User:
    argv = [*prefix, "python3", "/manactl/tests/lab/guest/heard.py", str(port)]
    process = here.vm.spawn(argv)
    stack.callback(process.kill)
    one = User(process, "heard")
    one.wait_for("ready")
    return one


def a_pid_namespace(here: Site, stack: ExitStack) -> tuple[str, ...]:
    """What runs a program in a new pid namespace, with its own /proc."""
    script = "echo ready; exec cat"
    init = here.vm.spawn(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc",
                          "sh", "-c", script])  # fmt: skip
    stack.callback(init.kill)
    init.read_until("ready")
    (pid,) = here.sh(f"cat /proc/{init.pid}/task/{init.pid}/children").split()
    return ("nsenter", f"--target={pid}", "--pid", "--mount")
