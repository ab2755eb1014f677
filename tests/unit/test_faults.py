"""System calls that fail, and signals, at any call of a command: the code is the deed's, nothing is
left half done, and nothing that could not be looked at counts as looked at."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest

from manactl.act import audit, guardian
from manactl.act import host as hosts
from manactl.act import signals as interruption
from manactl.cli import main as module
from manactl.cli.main import main
from manactl.errors import LACKS
from manactl.journal import file as journal
from manactl.journal.file import Journal
from manactl.look import debugfs
from manactl.look.links import LinkFacts
from manactl.model.port import Owner, Report
from tests.unit.act.test_guardian import Guarded
from tests.unit.cli.test_hold import Ends
from tests.unit.cli.test_main import SRC
from tests.unit.faults import ERRNOS, PLACES, Calls, Fault, some, some_signals
from tests.unit.host import FakeHost, FakeSystem, Fate, Killed, claim, furnished, release
from tests.unit.kernel import Kernel
from tests.unit.machine import FakeLinks, Machine, Make
from tests.unit.wording import OWN_WORDS, wording

DEAD = -1
UNTOUCHED = (
    "nothing was touched",
    "nothing was changed",
    "no port was touched",
    "no port was changed",
)


class Dead(BaseException):
    """A signal where nobody listens, before a deed or after it."""


def dies(number: int, _frame: object) -> None:
    raise Dead(number)


class Careful(FakeSystem):
    """Says whether anything was asked of the kernel."""

    def set_admin(self, port: Any, up: bool) -> None:
        self.host.touched = True  # type: ignore[attr-defined]
        super().set_admin(port, up)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No system log, and the default of every signal."""
    monkeypatch.setattr(audit, "SYSLOG", "/nonexistent/log")
    monkeypatch.setattr(guardian, "start", lambda *_: Guarded(pid=os.getpid()))
    before = {number: signal.getsignal(number) for number in interruption.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Ran:
    def __init__(
        self,
        words: tuple[str, ...],
        state: Path,
        kernel: Kernel,
        faults: tuple[Fault, ...],
        host: FakeHost | None = None,
    ) -> None:
        host = host or FakeHost(kernel)
        host.systems = Careful
        host.touched = False  # type: ignore[attr-defined]
        self.calls = Calls()
        self.faults = faults
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(hosts, "LiveHost", lambda: host)
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            for number in interruption.SIGNALS:
                signal.signal(number, dies)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self.code = DEAD
            with contextlib.suppress(Dead), self.calls.watched(*faults):
                self.code = main(["--state-dir", str(state), *words])
        self.out, self.err = out.getvalue(), err.getvalue()
        self.touched = host.touched  # type: ignore[attr-defined]

    def __str__(self) -> str:
        names = [self.calls.names[one.at] for one in self.faults if one.at < len(self.calls.names)]
        return f"{list(map(str, self.faults))} {names}: {self.code}\n{self.out}{self.err}"


def left(state: Path) -> list[str]:
    claims, unreadable = journal.list_claims(state, "boot-1")
    assert not unreadable
    return [str(one.phase) for one in claims]


def names(state: Path) -> list[str]:
    """The journals that are not in the history."""
    claims = state / "claims"
    found = sorted(os.listdir(claims)) if claims.is_dir() else []
    return [name for name in found if not name.startswith(".")]


def unclosed(told: str) -> bool:
    """Whether a journal may be where it was; only words tell."""
    return not OWN_WORDS or "were not closed" in told


class Case:
    """A machine and a state directory on which one command meets faults."""

    words: tuple[str, ...] = ()

    def __init__(self, state: Path) -> None:
        self.state = state
        self.kernel = furnished()
        self.before = self.kernel.picture()
        self.prepare()
        self.names = names(state)

    def prepare(self) -> None:
        """What was done before."""

    def run(self, *faults: Fault) -> Ran:
        ran = Ran(self.words, self.state, self.kernel, faults)
        told = ran.out + ran.err
        assert "bug" not in told, ran
        assert "Traceback" not in told, ran
        assert ran.code in (DEAD, 0, 3, 4, 5, 6, 7, 8, 130), ran
        idle = ran.code in (3, 6, 7, 130) and not unclosed(told)
        if idle or any(word in told for word in UNTOUCHED):
            assert not ran.touched, ran
        if "nothing was changed" in told:
            assert names(self.state) == self.names, ran
        self.judge(ran)
        release(self.state, FakeHost(self.kernel))
        assert self.kernel.picture() == self.before, ran
        assert left(self.state) == [], ran
        return ran

    def judge(self, ran: Ran) -> None:
        raise NotImplementedError


class Claim(Case):
    """Done, or not: then all is as it was, or the journal is there and says it."""

    words = ("claim", "--raw-qp", "eth1")

    def judge(self, ran: Ran) -> None:
        phases = left(self.state)
        if ran.code == 0 or (ran.code == DEAD and ran.touched):
            assert phases == ["claimed"], ran
            assert not self.kernel.nics[0].up, ran
            return
        if "claimed" in phases:  # a record that could not be taken back: recover would let it stand
            assert ran.code == 5, ran
            assert "manactl release eth1" in ran.err, ran
        if ran.code != 5:
            assert phases == [], ran
            assert self.kernel.picture() == self.before, ran


class Unconfirmed(Claim):
    words = ("claim", "--raw-qp", "eth1", "--confirm-within", "60", "--json")

    def judge(self, ran: Ran) -> None:
        super().judge(ran)
        if ran.code != DEAD:
            assert json.loads(ran.out)["schema"].startswith("manactl."), ran


class AfterBoot(Claim):
    """The journal of an earlier boot is in the way, and is closed first."""

    def prepare(self) -> None:
        claim(self.state, FakeHost(furnished(), boot="boot-0"))

    def judge(self, ran: Ran) -> None:
        if names(self.state) == self.names:
            assert ran.code, ran
            assert not ran.touched, ran
            release(self.state, FakeHost(self.kernel))
        elif ran.code not in (0, 5):
            assert "nothing was changed" not in ran.out + ran.err, ran
        super().judge(ran)


class Confirm(Case):
    words = ("confirm",)

    def prepare(self) -> None:
        claim(self.state, FakeHost(self.kernel), guard=Guarded(pid=os.getpid()), confirm_within=60)

    def judge(self, ran: Ran) -> None:
        (path,) = journal.paths(self.state)
        waits = journal.read(path).waiting is not None
        assert not ran.touched, ran
        if ran.code == 0:
            assert not waits, ran
        elif not waits:
            assert ran.code in (DEAD, 5), ran
            assert "nothing was changed" not in ran.out + ran.err, ran


class Release(Case):
    words = ("release",)

    def prepare(self) -> None:
        claim(self.state, FakeHost(self.kernel))

    def judge(self, ran: Ran) -> None:
        if ran.code == 0:
            assert left(self.state) == [], ran
            assert self.kernel.picture() == self.before, ran
        elif ran.code != DEAD and not unclosed(ran.err):
            assert names(self.state) == self.names, ran


class Recover(Release):
    words = ("recover", "--json")

    def prepare(self) -> None:
        with contextlib.suppress(Killed):
            claim(self.state, FakeHost(self.kernel, Fate(dies_at=9)))
        assert left(self.state) == ["interrupted"]


class Finished(Release):
    """A release that died when all was back: its journal is put away by the next command."""

    def prepare(self) -> None:
        log = claim(self.state, FakeHost(self.kernel)).journal
        assert log is not None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Journal, "archive", lambda _: None)
            release(self.state, FakeHost(self.kernel))
        assert names(self.state) == [log.name]

    def judge(self, ran: Ran) -> None:
        assert not ran.touched, ran
        if ran.code and names(self.state) != self.names:
            assert "nothing was changed" not in ran.out + ran.err, ran


CASES: tuple[type[Case], ...] = (Claim, Unconfirmed, AfterBoot, Confirm, Release, Recover, Finished)
Some = Callable[[random.Random, int], tuple[Fault, ...]]


def fuzz(base: Path, made: type[Case], draw: Some, seed: str, count: int) -> Counter[int]:
    total = len(made(base / "whole").run().calls.names)
    rng = random.Random(f"{seed} {made.__name__}")
    return Counter(made(base / f"{number}").run(*draw(rng, total)).code for number in range(count))


@pytest.mark.parametrize("draw", [some, some_signals])
@pytest.mark.parametrize("made", CASES)
def test_faults_at_any_call(tmp_path: Path, made: type[Case], draw: Some) -> None:
    fuzz(tmp_path, made, draw, "few", 4)


@pytest.mark.soak
@pytest.mark.parametrize("draw", [some, some_signals])
@pytest.mark.parametrize("made", CASES)
def test_many_faults_at_any_call(tmp_path: Path, made: type[Case], draw: Some) -> None:
    found = fuzz(tmp_path, made, draw, "many", 1500)
    print(f"{made.__name__}, {draw.__name__}: {dict(found)}")


def each(base: Path, made: type[Case], calls: Collection[str], *faults: Fault) -> None:
    """Each of the faults at each of these calls, one at a time."""
    found = made(base / "whole").run().calls.names
    for at, name in enumerate(found):
        for number, fault in enumerate(faults if name in calls else ()):
            made(base / f"{at}-{number}").run(fault._replace(at=at))


STOP = Fault(0, signal.SIGINT, signal=True)


@pytest.mark.parametrize("made", [AfterBoot, Confirm, Finished])
def test_a_signal_at_each_write(tmp_path: Path, made: type[Case]) -> None:
    each(tmp_path, made, ("rename", "write", "unlink"), STOP, STOP._replace(after=True))


@pytest.mark.parametrize("made", [Claim, Finished, Release])
def test_an_error_at_each_read_and_write(tmp_path: Path, made: type[Case]) -> None:
    each(tmp_path, made, ("read", "write", "fsync"), Fault(0, errno.EIO))


def test_a_journal_of_an_earlier_boot_that_may_not_be_opened_is_no_bug(tmp_path: Path) -> None:
    denied = Fault(0, errno.EACCES)
    each(tmp_path, AfterBoot, ("open", "fstat"), denied, denied._replace(lasts=True))


@pytest.mark.soak
@pytest.mark.parametrize("made", CASES)
def test_every_error_at_each_call(tmp_path: Path, made: type[Case]) -> None:
    every = [Fault(0, one, lasts=lasts) for one in ERRNOS for lasts in (False, True)]
    each(tmp_path, made, {name for _, name in PLACES}, *every)


def held(state: Path, *faults: Fault) -> Ran:
    """`manactl hold` of a claimed port that somebody has set up, ended as soon as that is down, or
    has been tried for a while: it keeps on, or says why not, and no journal is changed."""
    kernel = furnished()
    before = kernel.picture()
    claim(state, FakeHost(kernel))
    (path,) = journal.paths(state)
    written = path.read_bytes()
    kernel.set_up(kernel.nics[0], True)
    host = Ends(kernel)
    host.holding = True

    def over(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    was = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, 0.4, 0.1)
    try:
        ran = Ran(("hold",), state, kernel, faults, host)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, was)
    assert "bug" not in ran.out + ran.err, ran
    assert ran.code in (DEAD, 0, 3, 5, 6, 7, 130), ran
    assert journal.paths(state) == [path], ran
    assert path.read_bytes() == written, ran
    if any(word in ran.err for word in UNTOUCHED):
        assert kernel.nics[0].up, ran
    if ran.code == 0 and not faults:
        assert not kernel.nics[0].up, ran
    release(state, FakeHost(kernel))
    assert kernel.picture() == before, ran
    return ran


def fuzz_hold(base: Path, draw: Some, count: int) -> Counter[int]:
    total = len(held(base / "whole").calls.names)
    rng = random.Random("hold")
    return Counter(held(base / f"{n}", *draw(rng, total)).code for n in range(count))


@pytest.mark.parametrize("draw", [some, some_signals])
def test_faults_at_any_call_of_hold(tmp_path: Path, draw: Some) -> None:
    assert fuzz_hold(tmp_path, draw, 4)


def test_a_signal_when_hold_has_ended_does_not_deny_what_it_did(tmp_path: Path) -> None:
    names = held(tmp_path / "whole").calls.names
    first = Fault(names.index("pipe2") + 2, signal.SIGTERM, signal=True)
    total = len(held(tmp_path / "first", first).calls.names)
    found = {
        held(tmp_path / str(at), first, Fault(at, signal.SIGINT, signal=True)).code
        for at in range(total - 5, total)
    }
    assert found <= {0, 130}


@pytest.mark.soak
@pytest.mark.parametrize("draw", [some, some_signals])
def test_many_faults_at_any_call_of_hold(tmp_path: Path, draw: Some) -> None:
    print(dict(fuzz_hold(tmp_path, draw, 500)))


# Run alone: what a command loads when it needs it is loaded in a test's process by other tests.
LIMITED = """
import json, os, resource, sys
from pathlib import Path
from manactl.act import audit, host as hosts
from manactl.cli import main as module
from manactl.cli.main import main
from tests.unit import faults, host
at, state, *words = sys.argv[1:]
audit.SYSLOG = "/nonexistent/log"
kernel = host.furnished()
if words[0] == "release":
    host.claim(Path(state), host.FakeHost(kernel))
machine = host.FakeHost(kernel)
hosts.LiveHost = lambda: machine
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
class Calls(faults.Calls):
    def _meet(self, name, real):
        self.names.append(name)
        if len(self.names) == int(at) + 1:
            free = os.dup(0)
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, most))
        return real()
calls = Calls()
with calls.watched():
    code = main(["--state-dir", state, *words])
resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))
from manactl.journal.file import list_claims
phases = [str(one.phase) for one in list_claims(Path(state), "boot-1").claims]
print(json.dumps([code, phases, kernel.nics[0].up, len(calls.names)]), file=sys.__stderr__)
"""


def without_descriptors(at: int, state: Path, *words: str) -> int:
    """A command that gets no descriptor any more from a call on; the number of its calls."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(at), str(state), *words],
        env={"PYTHONPATH": f"{SRC}:{Path(SRC).parent}", "PATH": os.environ["PATH"]},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    story = f"{words} from {at}: {done.stdout}{done.stderr}"
    assert "bug" not in done.stdout + done.stderr, story
    *said, last = done.stderr.splitlines()
    code, phases, up, calls = json.loads(last)
    if "--json" in words:
        assert json.loads(done.stdout)["schema"].startswith("manactl."), story
    assert bool(said) or code == 0, story
    if words[0] == "claim":
        assert (code, phases, up) in [
            (0, ["claimed"], False), *((number, [], True) for number in (3, 5, 6))
        ], story  # fmt: skip
    elif code in (3, 6):
        assert (phases, up) == (["claimed"], False), story
    elif code == 0:
        assert (phases, up) == ([], True), story
    else:
        assert code == 5, story
    return int(calls)


@pytest.mark.parametrize(
    ("at", "words"),
    [(0, "claim --raw-qp eth1 --json"), (76, "claim --raw-qp eth1 --json"), (0, "release --json")],
)
def test_a_command_without_descriptors_says_what_it_has_not_done(
    tmp_path: Path, at: int, words: str
) -> None:
    """What was to be loaded to tell of a failure was an error of standard output: exit 0."""
    without_descriptors(at, tmp_path, *words.split())


def test_a_failure_that_cannot_be_told_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(module, "_report", fails)
    kernel = furnished()
    claim(tmp_path, FakeHost(kernel))
    monkeypatch.setattr(hosts, "LiveHost", lambda: FakeHost(kernel))
    assert main(["--state-dir", str(tmp_path), "release", "nosuch0"]) == 1
    assert not kernel.nics[0].up


@pytest.mark.soak
@pytest.mark.parametrize("words", ["claim --raw-qp eth1", "release"])
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_command_without_descriptors_from_any_call_on(
    tmp_path: Path, words: str, form: list[str]
) -> None:
    at = 0
    while without_descriptors(at, tmp_path / str(at), *words.split(), *form) > at:
        at += 1


class Links(FakeLinks):
    calls: Calls

    def collect(self) -> Mapping[int, LinkFacts] | None:
        with self.calls.quiet():
            return super().collect()

    def index(self, name: str) -> int | None:
        with self.calls.quiet():
            return super().index(name)


def looked(machine: Machine, calls: Calls, *faults: Fault) -> Report | None:
    """None where there was nothing to look with, which ends a command with 6."""
    try:
        with calls.watched(*faults):
            return machine.look()
    except OSError as error:
        if error.errno in LACKS:
            return None
        raise


def status_holds(make: Make, count: int | None) -> None:
    """Nobody who has a vport is overlooked because of a fault: it is seen, or not known, which is
    told; and a port that is not shown is one too."""
    machine = make("6.12-raw-qp-on-port-2")
    machine.holder(4211)
    calls = Calls()
    machine.links = Links(machine.path("/sys"))
    machine.links.calls = calls
    sane = looked(machine, calls)
    assert sane is not None
    every = [Fault(at, one) for at in range(len(calls.names)) for one in ERRNOS]
    for fault in every if count is None else random.Random("status").sample(every, count):
        found = looked(machine, calls, fault)
        ports = {port.id.key: port for port in (found.ports if found else ())}
        for was in sane.ports if found else ():
            now = ports.get(was.id.key)
            story = f"{fault} of {calls.names[fault.at]}: {was.id}"
            if now is None:
                assert found is not None
                assert set(found.missing) - set(sane.missing), story
            else:
                assert now.owner in (was.owner, Owner.UNKNOWN), story


def test_status_overlooks_nobody_when_calls_fail(make: Make) -> None:
    status_holds(make, 60)


def test_functions_that_are_not_listed_are_told(make: Make) -> None:
    machine = make("7-idle")
    found = looked(machine, Calls(), Fault(0, errno.EIO))
    assert found is not None
    assert not found.ports
    with wording:
        assert [one.why for one in found.missing] == ["the functions of mana: Input/output error"]


def test_debugfs_that_cannot_be_listed_is_told(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: str) -> NoReturn:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(debugfs, "mounted", fails)
    machine = make("6.12-raw-qp-on-port-2")
    assert ("debugfs", "Input/output error") in [
        (one.source, one.why) for one in machine.look().missing
    ]


@pytest.mark.soak
def test_status_overlooks_nobody_whatever_call_fails(make: Make) -> None:
    status_holds(make, None)
