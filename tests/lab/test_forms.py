"""The forms of `status` on the real drivers: watched, scraped, described by the schema."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pyte
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.lab.build import KERNELS
from tests.lab.notes import noted
from tests.lab.scene import becomes, down, names_every_port, owners, report, up
from tests.lab.users import GUEST, User, eventually, user
from tests.lab.vm import Process, Vm
from tests.unit import schema
from tests.unit.wording import wording

WATCH = "python3 -m manactl status --watch"


class Screen:
    """A watch on a terminal of the guest, and what a person sees there."""

    def __init__(self, vm: Vm, columns: int = 80, rows: int = 24) -> None:
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._fed = 0
        command = f"stty cols {columns} rows {rows}; exec {WATCH}"
        self.process: Process = vm.spawn(["script", "-q", "-f", "-c", command, "/dev/null"])

    @property
    def text(self) -> str:
        raw = self.process.out.encode()
        self._stream.feed(raw[self._fed :])
        self._fed = len(raw)
        return "\n".join(line.rstrip() for line in self._screen.display)

    def row(self, name: str) -> str:
        """The row of a port, mark included; "" while there is none."""
        rows = (line for line in self.text.splitlines() if re.match(rf"[* ] {name} ", line))
        return next(rows, "")

    def shows(self, name: str, *words: str) -> str:
        """Wait until the row of `name` has these words; return all of the screen."""

        def there() -> bool:
            cells = self.row(name).split()
            return all(word in cells for word in words) and bool(cells)

        eventually(there, 60, f"{words} in the row of {name}")
        return self.text


@pytest.fixture
def screen(vm: Vm) -> Iterator[Screen]:
    down(vm, 1, 2)
    made = Screen(vm)
    yield made
    made.process.kill()


def test_a_watch_on_a_terminal_shows_each_change_and_marks_it(vm: Vm, screen: Screen) -> None:
    first, second = vm.netdevs[1], vm.netdevs[2]
    text = screen.shows(first, "free")
    assert "*" not in text
    up(vm, 1)
    screen.shows(first, "*", "ethernet", "up")
    assert not screen.row(second).startswith("*")
    with user(vm, "rawqp") as holder:
        pid = holder.wait_for("ready")["pid"]
        holder.ask("create 2", "created")
        # Port 1 is up, so every kernel can tell whose the queue pair is.
        text = screen.shows(second, "*", "raw-qp", "python3", str(pid))
        with wording:
            assert f"{second}: held by python3 {pid}" in text
        holder.ask("quit", "leaving")
    becomes(vm, 2, "free")
    text = screen.shows(second, "*", "free")
    assert "python3" not in screen.row(second)
    with wording:
        assert f"{second}: no longer held by python3 {pid}" in text
    screen.process.stdin_write(b"q")
    assert screen.process.wait().rc == 0


def test_a_piped_watch_tells_each_change_as_a_document(vm: Vm) -> None:
    down(vm, 1, 2)
    process = vm.spawn(["sh", "-c", f"exec {WATCH} --json"])
    try:
        documents = Documents(process)
        documents.until(1, "free")
        up(vm, 1)
        documents.until(1, "ethernet")
        with user(vm, "rawqp") as holder:
            holder.wait_for("ready")
            holder.ask("create 2", "created")
            assert documents.until(2, "raw-qp")["holders"]
            holder.ask("quit", "leaving")
        documents.until(2, "free")
    finally:
        process.kill()


def test_a_watch_goes_on_while_the_driver_waits_for_its_device(vm: Vm) -> None:
    """RTNL is held by a close that takes long: the watch says so meanwhile, and sees its end."""
    up(vm, 1)
    down(vm, 2)
    process = vm.spawn(["sh", "-c", f"exec {WATCH} --json"])
    try:
        documents = Documents(process)
        documents.until(1, "ethernet")
        vm.nic.fault("MANA_CONFIG_VPORT_RX", delay=25)
        closing = vm.spawn(["ip", "link", "set", vm.netdevs[1], "down"])
        while "rtnetlink" not in documents.missing:
            documents.until(1, "ethernet")
        assert closing.poll() is None, "nothing hung any more: this proves nothing"
        assert closing.wait().rc == 0
        documents.until(1, "free")
        while "rtnetlink" in documents.missing:
            documents.until(1, "free")
    finally:
        process.kill()


class Documents:
    """JSON lines; each is held against the schema, and differs from the one before."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._last: Any = None

    @property
    def missing(self) -> set[str]:
        """The sources that the last document says were not read."""
        return {entry["source"] for entry in self._last["missing"]}

    def until(self, port: int, owner: str) -> dict[str, Any]:
        """Documents up to the first in which `owner` has the port; the port's row of that one."""
        while True:
            document = json.loads(self._process.read_until("\n", 60))
            schema.strict(document)
            time = document.pop("time")
            assert document != self._last, time
            self._last = document
            (row,) = [row for row in document["ports"] if row["port"] == port]
            if row["owner"] == owner:
                return dict(row)


@pytest.mark.parametrize(
    "kernel",
    [pytest.param(KERNELS[-1], marks=pytest.mark.xdist_group(f"linux-{KERNELS[-1]}"))],
    indirect=True,
)
def test_a_watch_costs_next_to_nothing_while_nothing_happens(vm: Vm) -> None:
    """Of the time that several more looks take it uses a small part of the processor's."""
    down(vm, 1, 2)
    process = vm.spawn(["sh", "-c", f"exec {WATCH} --json"])
    try:
        process.read_until("\n")
        first, before = reads(vm, process.pid), spent(vm, process.pid)
        eventually(lambda: reads(vm, process.pid) > 2 * first, 120, "looks that read much more")
        after = spent(vm, process.pid)
    finally:
        process.kill()
    used, passed = after[0] - before[0], after[1] - before[1]
    print(f"{first} reads before, {used:.2f} of {passed:.2f} s")
    # By design a twentieth, also where a look takes long.
    assert used < passed / 8


def reads(vm: Vm, pid: int) -> int:
    """How many system calls to read a process has made: each look makes some, waiting none."""
    text = vm.get(f"/proc/{pid}/io").decode()
    return int(text.partition("\nsyscr:")[2].split()[0])


def spent(vm: Vm, pid: int) -> tuple[float, float]:
    """Seconds that a process and its children have used, and how old the machine is."""
    fields = vm.get(f"/proc/{pid}/stat").decode().rpartition(")")[2].split()
    ticks = sum(int(field) for field in fields[11:15])
    return ticks / 100, float(vm.get("/proc/uptime").decode().split()[0])


def test_the_metrics_file_is_what_the_nic_says(vm: Vm) -> None:
    down(vm, 1, 2)
    up(vm, 1)
    with user(vm, "rawqp") as holder:
        holder.wait_for("ready")
        holder.ask("create 2", "created")
        words = ["--format", "prometheus", "--output", "/run/manactl.prom"]
        assert vm.manactl("status", *words).rc == 0
        truth = owners(vm)
        holder.ask("quit", "leaving")
    text = vm.get("/run/manactl.prom").decode()
    found = {family.name: family for family in text_string_to_metric_families(text)}
    told = {
        int(sample.labels["port"]): sample.labels["owner"]
        for sample in found["manactl_port_owner"].samples
        if sample.value
    }
    assert told == truth == {1: "ethernet", 2: "raw-qp"}
    (held,) = [s for s in found["manactl_port_holders"].samples if s.labels["port"] == "2"]
    assert held.value == 1
    names = {s.labels["port"]: s.labels["netdev"] for s in found["manactl_port_info"].samples}
    assert names == {str(port): name for port, name in vm.netdevs.items()}
    assert vm.run("stat -c %a /run/manactl.prom").out.strip() == "644"
    assert vm.run("ls -A /run | grep manactl").out.split() == ["manactl.prom"]
    vm.run("rm /run/manactl.prom")


def test_the_schema_holds_in_every_state(vm: Vm) -> None:
    def holds() -> list[str]:
        document = report(vm)
        schema.strict(document)
        return [row["owner"] for row in document["ports"]]

    down(vm, 1, 2)
    assert holds() == ["free", "free"]
    up(vm, 1, 2)
    assert holds() == ["ethernet", "ethernet"]
    down(vm, 1, 2)
    with user(vm, "rawqp") as holder:
        holder.wait_for("ready")
        holder.ask("create 1", "created")
        named = ["raw-qp", "free"] if names_every_port(vm) else ["unknown", "unknown"]
        assert holds() == named  # the latter with candidates
        up(vm, 2)
        assert holds() == ["raw-qp", "ethernet"]
        holder.ask("quit", "leaving")
    becomes(vm, 1, "free")
    assert vm.manactl("claim", "--raw-qp", vm.netdevs[1]).rc == 0
    try:
        assert holds() == ["free", "ethernet"]
        (row,) = report(vm, vm.netdevs[1])["ports"]
        assert row["claim"]["mode"] == "claim"
    finally:
        assert vm.manactl("release").rc == 0
    schema.strict(report(vm, prefix=("setpriv", "--reuid=65534", "--clear-groups")))


@contextlib.contextmanager
def killed(process: Process) -> Iterator[None]:
    """Have it gone afterwards, whatever happens."""
    try:
        yield
    finally:
        process.kill()


def test_names_from_the_kernel_are_harmless(vm: Vm) -> None:
    """A process, a netdev and an altname that try to paint the terminal."""
    name = "[red]x[bold]"
    # A process is called what its executable is called.
    python = "/run/$(printf '\\033[2J\\342\\202')"
    vm.run(f'ln -s /usr/bin/python3 "{python}"')
    usual = vm.netdevs[2]
    vm.run(["ip", "link", "set", usual, "name", name])
    nasty = "\x1b[31m\u202e"
    try:
        vm.run(["ip", "link", "property", "add", "dev", name, "altname", nasty])
        up(vm, 1)
        process = vm.spawn(f'exec "{python}" {GUEST}/rawqp.py')
        with killed(process):
            holder = User(process, "rawqp")
            holder.wait_for("ready")
            holder.ask("create 2", "created")
            seen = [
                vm.manactl("status", *words).out
                for words in ([], ["-v"], ["--color", "always"], ["--format", "prometheus"])
            ]
            (row,) = report(vm, name)["ports"]
            error = vm.manactl("status", "no-such-port").err
            holder.ask("quit", "leaving")
    finally:
        vm.run(["ip", "link", "property", "del", "dev", name, "altname", nasty], check=False)
        vm.run(["ip", "link", "set", name, "name", usual])
        vm.run(f'rm -f "{python}"')
    for text in (*seen, error):
        plain = re.sub("\x1b\\[[0-9;]*m", "", text)
        assert all(char.isprintable() or char == "\n" for char in plain), repr(text)
    assert name in seen[0]
    assert "\\e[2J\\xe2\\x82" in seen[0]
    assert row["altnames"] == [nasty]
    assert row["holders"][0]["comm"] == "\\e[2J\\xe2\\x82"


def test_a_holder_in_another_pid_namespace(vm: Vm) -> None:
    """Seen from inside a pid namespace a port is never free because its holder is outside."""
    down(vm, 1)
    up(vm, 2)
    with user(vm, "rawqp") as holder:
        holder.wait_for("ready")
        holder.ask("create 1", "created")
        inside = ("unshare", "--pid", "--fork", "--mount-proc")
        (row, _) = report(vm, prefix=inside)["ports"]
        holder.ask("quit", "leaving")
    assert row["owner"] == "raw-qp"
    assert row["holders"] == []
    assert noted(row["notes"], "holder-unseen")
    assert row["certainty"] == "proven"
