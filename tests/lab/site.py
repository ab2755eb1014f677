"""Two ports in use in a guest, manactl at hand there, and the judge of what it leaves behind.

manactl runs as forks of a process that has it loaded (guest/runs.py). The judge is `ip -j -d` and
the sysctl trees (networks.py), the NIC's record and the names and bytes of the journals.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.lab import networks
from tests.lab.build import KERNELS, WITHOUT_HEADERS
from tests.lab.scene import manactl, owners
from tests.lab.test_mainjob import Watch
from tests.lab.users import User, eventually, resident
from tests.lab.vm import Vm
from tests.unit import schema
from tests.unit.wording import OWN_WORDS

STATE = "/var/lib/manactl"
CLAIMS = f"{STATE}/claims"
PATIENCE = 120  # s for what a loaded host makes long
View = dict[str, list[str]]

# Both ports with addresses and routes of both families, without duplicate address detection, and
# a third netdev, so that none of them is the last.
SCENE = """
modprobe dummy numdummies=0; ip link add spare type dummy; ip link set spare up
ip addr add 198.51.100.1/24 dev spare
for n in 1 2; do
    [ $n = 1 ] && d={first} || d={second}
    echo 0 > /proc/sys/net/ipv6/conf/$d/accept_dad
    ip link set $d up
    ip addr add 10.0.$n.1/24 dev $d; ip addr add fd00:$n::1/64 dev $d nodad
    ip route add 10.$n.0.0/16 via 10.0.$n.254 table 7
    ip route add fd0$n::/32 via fd00:$n::fe dev $d
done
"""


def on(number: int) -> pytest.MarkDecorator:
    """Run the test on one kernel alone, the one of this number (-1: the newest)."""
    return _on({KERNELS[min(number, len(KERNELS) - 1)]})


def on_each() -> pytest.MarkDecorator:
    """Run the test on every kernel."""
    return _on(set(KERNELS))


def on_oldest_and_newest() -> pytest.MarkDecorator:
    """Run the test on two kernels, for what the one between does as they do."""
    return _on({KERNELS[0], KERNELS[-1]})


def pairs_on_newest() -> pytest.MarkDecorator:
    """Run the test on pairs of the newest kernel; on those of others it is among the long ones."""
    marked = []
    for name in KERNELS:
        marks = [pytest.mark.xdist_group(f"pairs-{name}")]
        if name != KERNELS[-1]:
            marks.append(pytest.mark.soak)
        if name not in WITHOUT_HEADERS:
            marked.append(pytest.param(name, marks=marks, id=name))
    return pytest.mark.parametrize("pair", marked, indirect=True)


def _on(names: set[str]) -> pytest.MarkDecorator:
    marked = [
        pytest.param(name, marks=pytest.mark.xdist_group(f"linux-{name}"), id=name)
        for name in KERNELS
        if name in names
    ]
    return pytest.mark.parametrize("kernel", marked, indirect=True)


@dataclass(frozen=True)
class Run:
    """One run of manactl that has ended."""

    words: Sequence[str]
    pid: int
    rc: int
    out: str
    err: str
    acts: Sequence[str] = ()  # of a watched run

    @property
    def document(self) -> dict[str, Any]:
        """The one document on standard output, which is all that is there."""
        found: dict[str, Any] = json.loads(self.out)
        schema.strict(found)
        return found

    @property
    def port(self) -> dict[str, Any]:
        """The only port of the document."""
        (one,) = self.document["ports"]
        return dict(one)

    def __str__(self) -> str:
        return f"manactl {' '.join(self.words)}: {self.rc}\n{self.out}{self.err}"


class Site:
    """See above."""

    def __init__(self, vm: Vm, program: User, first: str, second: str) -> None:
        self.vm = vm
        self.first, self.second = first, second
        self._program = program
        self._words: dict[int, Sequence[str]] = {}

    # -- manactl

    def run(self, *words: str, **how: Any) -> Run:
        self._program.say("run " + json.dumps({"argv": words, **how}))
        return self._ran(words, 3 * PATIENCE)

    def well(self, *words: str, **how: Any) -> Run:
        ran = self.run(*words, **how)
        assert ran.rc == 0, str(ran)
        return ran

    def fails(self, code: int, name: str, *words: str, **how: Any) -> Run:
        """Run it with --json: it ends with `code`, and its one document is an error so named."""
        ran = self.run(*words, "--json", **how)
        return refused(ran, code, name)

    def start(self, *words: str, **how: Any) -> int:
        """In the background; its pid."""
        self._program.say("start " + json.dumps({"argv": words, **how}))
        pid = int(self._program.wait_for("started")["pid"])
        self._words[pid] = words
        return pid

    def said(self, pid: int) -> dict[str, Any]:
        """What it has printed so far; its "rc" is None while it runs."""
        return self._program.ask(f"said {pid}", "ran")

    def ended(self, pid: int) -> dict[str, Any] | None:
        """What it has printed, once it has ended."""
        said = self.said(pid)
        return None if said["rc"] is None else said

    def says(self, pid: int, text: str, *, names: str = "") -> None:
        """Wait until that is on its standard error. With other words (MANACTL_WORDS), for what it
        `names`: a number of its own, and without that for nothing."""
        text = text if OWN_WORDS else names

        def there() -> bool:
            now = self.said(pid)
            return text in now["err"] or now["rc"] is not None

        eventually(there, PATIENCE, text)
        now = self.said(pid)
        assert text in now["err"], now

    def locks(self, pid: int) -> None:
        """Wait until it has the lock of a function, which names it."""

        def there() -> bool:
            text = self.vm.run(f"cat {STATE}/locks/*.lock", check=False).out
            return f'"pid": {pid},' in text or self.said(pid)["rc"] is not None

        eventually(there, PATIENCE, "the lock to be taken")
        now = self.said(pid)
        assert now["rc"] is None, now

    def signal(self, pid: int, number: int) -> None:
        self._program.ask(f"signal {pid} {int(number)}", "signalled")

    def end(self, pid: int) -> Run:
        self._program.say(f"end {pid}")
        return self._ran(self._words[pid], PATIENCE)

    def _ran(self, words: Sequence[str], timeout: float) -> Run:
        fact = self._program.wait_for("ran", timeout)
        return Run(words, *(fact[key] for key in ("pid", "rc", "out", "err", "acts")))

    def run_with(self, prefix: Sequence[str], *words: str) -> Run:
        """As a program of its own, with something before it."""
        ran = manactl(self.vm, *words, prefix=prefix)
        return Run(words, 0, ran.rc, ran.out, ran.err)

    def claim(self, *names: str) -> Run:
        ports = [word for name in names for word in ("--raw-qp", name)]
        return self.well("claim", "--json", *ports)

    # -- what is there

    def sh(self, script: str) -> str:
        return str(self.vm.run(script).out)

    def view(self) -> View:
        return networks.settle(lambda: self.vm.run(["sh", "-s"], input=networks.reading()).out)

    def owners(self) -> dict[int, str]:
        return owners(self.vm)

    def journals(self) -> dict[str, bytes]:
        """The open journals by name; hidden ones have announced nothing."""
        found = self.vm.run(f"ls {CLAIMS}", check=False).out.split()
        return {name: self.vm.get(f"{CLAIMS}/{name}") for name in found}

    def status(self) -> dict[int, dict[str, Any]]:
        return {row["port"]: row for row in self.well("status", "--json").document["ports"]}

    def becomes(self, port: int, owner: str) -> None:
        eventually(lambda: self.owners()[port] == owner, PATIENCE, f"port {port} to be {owner}")

    def same(self, before: View) -> None:
        """All is as it was; what the kernel does late (a bond's monitor) is waited for."""
        found: list[str] = []

        def as_before() -> bool:
            found[:] = networks.differences(before, self.view())
            return not found

        with contextlib.suppress(AssertionError):
            eventually(as_before, 20)
        assert found == [], "\n".join(found)

    @contextlib.contextmanager
    def untouched(self) -> Iterator[None]:
        """Meanwhile nothing changes: not the network, not the journals; the NIC is asked nothing."""
        watch = Watch.start(self.vm)
        with self.untouched_but_proofs():
            yield
        asked = watch.requests()
        assert asked == set(), asked

    @contextlib.contextmanager
    def untouched_but_proofs(self) -> Iterator[None]:
        """The same, but that queue pairs may be made and destroyed, or be refused."""
        before, journals, had = self.view(), self.journals(), self.owners()
        yield
        assert self.owners() == had, f"was {had}, is {self.owners()}"
        assert self.journals() == journals, "the journals are not what they were"
        found = networks.differences(before, self.view())
        assert found == [], "\n".join(found)


def refused(ran: Run, code: int, name: str) -> Run:
    assert ran.rc == code, str(ran)
    document = ran.document
    assert (document["schema"], document["code"]) == ("manactl.error/1", name), str(ran)
    assert f"manactl: {document['message'].splitlines()[0]}" in ran.err
    return ran


@contextlib.contextmanager
def site(vm: Vm) -> Iterator[Site]:
    names = vm.netdevs[1], vm.netdevs[2]
    vm.run(SCENE.format(first=names[0], second=names[1]))
    yield Site(vm, resident(vm, "runs"), *names)
    again = "for d in /proc/sys/net/ipv6/conf/eth*; do echo 1 > $d/accept_dad; done"
    vm.run(f"{again}; rmmod dummy", check=False)


def rewritten(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A journal whose header `change` has edited, with checksums that are right again: each line
    is JSON, a tab, and 16 hex digits of the SHA-256 of the last line's digits and the text."""
    lines, before = [], ""
    for number, line in enumerate(data.splitlines()):
        text = line.rpartition(b"\t")[0]
        if number == 0:
            header = json.loads(text)
            change(header)
            text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
        before = hashlib.sha256(before.encode() + text).hexdigest()[:16]
        lines.append(text + b"\t" + before.encode() + b"\n")
    return b"".join(lines)
