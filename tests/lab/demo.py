"""`make demo`: manactl's main job on the real drivers, as a person would see it.

Boots a guest with an emulated NIC, types a session into a terminal there, and holds every line
that the session shows against the NIC's own record of who programmed which vport. Then the same
with hv_netvsc above the ports, as on Azure, against the record of the emulated host too. Exits 1
when one differs.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.lab import cache
from tests.lab.build import WITHOUT_HEADERS
from tests.lab.errors import LabError
from tests.lab.scene import Row, becomes, names_every_port, owners, report
from tests.lab.users import GUEST, Unexpected, User, eventually, user
from tests.lab.vm import CommandFailed, Vm

COLUMNS = 80
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
OWNER_WORDS = {"ethernet", "raw-qp", "free", "unknown"}
BUSY, REFUSED = 6, 3


def plain(text: str) -> str:
    """What the terminal shows, without colours."""
    return ANSI.sub("", text)


def claims_of_status(text: str, names: dict[int, str]) -> dict[int, set[str]]:
    """The owner words in the line of each named port, as the terminal showed it."""
    found: dict[int, set[str]] = {}
    for line in plain(text).splitlines():
        words = re.findall(r"[\w.@:-]+", line)
        for port, name in names.items():
            if words and words[0] == name:
                found[port] = OWNER_WORDS & set(words)
    return found


class Session:
    """Types into the guest's terminal, shows what comes, keeps it, and checks it."""

    def __init__(self, vm: Vm) -> None:
        self.vm = vm
        self.names = vm.twins if vm.paired else vm.netdevs  # what people call the ports
        self.shown: list[str] = []
        self.parts: dict[str, list[str]] = {}  # of what was shown, for pictures
        self.checked = 0
        self.differences: list[str] = []
        self.colour = sys.stdout.isatty()
        self.every_port_told = names_every_port(vm)

    def tell(self, text: str) -> None:
        """A word of the narrator."""
        print(f"\n\x1b[2m-- {text}\x1b[0m" if self.colour else f"\n-- {text}", flush=True)

    def show(self, text: str) -> None:
        self.shown.append(text)
        print(text if self.colour else plain(text), flush=True)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What is shown inside is a picture of that name."""
        before = len(self.shown)
        yield
        self.parts[name] = self.shown[before:]

    def prompt(self, line: str) -> None:
        """A command line as it is typed; a long one goes on after a backslash."""
        lines = textwrap.wrap(line, COLUMNS - 4, break_long_words=False, break_on_hyphens=False)
        self.show("\x1b[1m# " + " \\\n    ".join(lines) + "\x1b[0m")

    def type(self, line: str, *, expect: int = 0) -> str:
        """Run a command line on a terminal of the guest; its exit status is part of the story."""
        self.prompt(line)
        argv = line.split()
        if argv[0] == "manactl":
            argv = ["env", "PYTHONPATH=/manactl/src", "python3", "-m", *argv]
        terminal = ["python3", f"{GUEST}/terminal.py", str(COLUMNS)]
        result = self.vm.run([*terminal, *argv], check=False, timeout=120)
        if text := (result.out + result.err).rstrip():
            self.show(text)
        self.check(f"exit status of `{line}`", result.rc, expect)
        return str(result.out)

    def check(self, what: str, said: object, truth: object) -> None:
        self.checked += 1
        if said != truth:
            self.differences.append(f"{what}: shown {said!r}, true {truth!r}")
            print(f"DIFFERENT: {self.differences[-1]}", flush=True)

    def status(self, story: dict[int, str]) -> dict[int, Row]:
        """Show `manactl status` of the ports of the story; both it and the NIC must agree."""
        names = {port: self.names[port] for port in story}
        truth = owners(self.vm)
        text = self.type("manactl status " + " ".join(names.values()))
        said = claims_of_status(text, names)
        rows = {row["port"]: row for row in report(self.vm)["ports"]}
        self.check("the NIC while status looked", owners(self.vm), truth)
        for port, owner in story.items():
            self.check(f"the NIC's record of {names[port]}", truth[port], owner)
            word = truth[port]
            if rows[port]["owner"] == "unknown" and not self.every_port_told:
                word = "unknown"  # kernels before 7 do not tell on which of several ports it is
            self.check(f"the line of {names[port]}", said.get(port), {word})
            self.check(f"the JSON of {names[port]}", rows[port]["owner"], word)
        return rows

    def programmed(self, since: int) -> list[tuple[int, str]]:
        """(port, owner) of each vport given to somebody, by the NIC's record."""
        return [
            (event["port"], event["owner"])
            for event in self.vm.nic.history(since)
            if event["event"] == "vport-configured"
        ]

    def now(self) -> int:
        return self.vm.nic.sequence()

    def join(self, other: Session) -> None:
        """Go on with another session."""
        self.shown += other.shown
        self.parts |= other.parts
        self.checked += other.checked
        self.differences += other.differences


def furnish(vm: Vm) -> None:
    """Two ports in use on this host, and a third that stands for a neighbour on the wire."""
    first, second, third = (vm.netdevs[port] for port in (1, 2, 3))
    vm.run(["ip", "netns", "add", "neighbour"])
    vm.run(["ip", "link", "set", third, "netns", "neighbour"])
    for where, name, address in (
        ([], first, "10.1.0.4/24"),
        ([], second, "10.2.0.4/24"),
        (["-n", "neighbour"], third, "10.1.0.9/24"),
    ):
        vm.run(["ip", *where, "addr", "add", address, "dev", name])
        vm.run(["ip", *where, "link", "set", name, "up"])
    vm.run(["ip", "-6", "addr", "add", "fd02::4/64", "dev", second, "nodad"])
    vm.run(["ip", "route", "add", "10.99.0.0/16", "via", "10.2.0.1", "dev", second])


def addresses(session: Session, port: int) -> str:
    """What `ip` says of a port's addresses and routes."""
    name = session.vm.netdevs[port]
    shown = session.type(f"ip -br addr show dev {name}")
    shown += session.type(f"ip route show dev {name}")
    return " ".join(plain(shown).split())


def play(session: Session, prober: User) -> None:
    """The session."""
    vm = session.vm
    first, second = vm.netdevs[1], vm.netdevs[2]
    session.tell(f"Two ports of one NIC. A TCP connection runs over {first} to another host.")
    session.status({1: "ethernet", 2: "ethernet"})
    before = addresses(session, 2)

    session.tell(f"{first} carries that connection: it is not given away.")
    mark = session.now()
    with session.part("refusal"):
        said = session.type(f"manactl claim --raw-qp {first}", expect=REFUSED)
    session.check("the refusal names its guard", "tcp-established" in plain(said), True)
    session.check("vports programmed by the refused claim", session.programmed(mark), [])

    session.tell(f"What would it mean for {second}? The plan touches nothing.")
    with session.part("plan"):
        session.type(f"manactl claim --raw-qp {second} --dry-run")
    session.check("vports programmed by the dry run", session.programmed(mark), [])

    session.tell(f"{second} is: set down, and proven free by a raw QP made on that very vport.")
    session.type(f"manactl claim --raw-qp {second}")
    session.check("vports programmed by the claim", session.programmed(mark), [(2, "raw-qp")])
    row = session.status({1: "ethernet", 2: "free"})[2]

    session.tell(f"DPDK takes {second}.")
    testpmd_has_it(session, row)

    session.tell(f"testpmd is gone, so {second} goes back to the kernel.")
    with session.part("release"):
        session.type(f"manactl release {second}")
    session.check(f"addresses and routes of {second}", addresses(session, 2), before)
    session.status({1: "ethernet", 2: "ethernet"})

    fact = prober.ask("report", "report")
    session.check(f"the TCP connection over {first}", fact["failure"], None)
    gap = f"{fact['longest_gap_ms']} ms"
    session.tell(f"The connection over {first}: {fact['echoed']} echoes, longest gap {gap}.")


def testpmd_has_it(session: Session, row: Row) -> None:
    vm = session.vm
    with user(vm, "testpmd", row["pci"], row["permanent_mac"]) as testpmd:
        ready = testpmd.wait_for("ready", 180)
        session.prompt(" ".join(ready["argv"]))
        for line in str(ready["output"]).splitlines():
            if line.startswith(("Port 0", "EAL: Probe", "Checking link", "Done")):
                session.show(line)
        with session.part("status"):
            now = session.status({1: "ethernet", 2: "raw-qp"})[2]
        named = [(holder["pid"], holder["comm"]) for holder in now["holders"]]
        session.check("who holds it", named, [(ready["pid"], "dpdk-testpmd")])
        session.tell("While it lives, there is nothing to release.")
        said = plain(session.type(f"manactl release {vm.netdevs[2]}", expect=BUSY))
        session.check("the refusal names testpmd", "dpdk-testpmd" in said, True)
        session.check("the owner after it", owners(vm)[2], "raw-qp")
        testpmd.ask("quit", "ended")
    becomes(vm, 2, "free")


def play_pair(session: Session) -> None:
    """The session on Azure's kind of interface: a synthetic netdev, and the port below it."""
    vm = session.vm
    name, vf = vm.twins[2], vm.netdevs[2]
    mac = str(vm.nic.state()["vports"][1]["mac"])

    def path(wanted: str) -> None:
        """Hold the host's record against the story; the guest asks for the path a moment late."""
        eventually(lambda: vm.vmbus.nic(mac).path == wanted, what=f"the path of {name}")
        session.check(f"the host's record of {name}", vm.vmbus.nic(mac).path, wanted)

    session.tell(f"On Azure {name} has the addresses, and the port is its fast path, {vf}.")
    path("vf")
    session.status({1: "ethernet", 2: "ethernet"})
    before = session.type(f"ip -br addr show dev {name}")

    session.tell(f"Both go down, and the vport of {vf} is free.")
    session.type(f"manactl claim --raw-qp {name}")
    path("synthetic")
    row = session.status({1: "ethernet", 2: "free"})[2]
    session.check("the pair", (row["netdev"], row["upper"]["netdev"]), (vf, name))
    session.check("what was said of it", row["claim"]["synthetic"], "down")
    session.check(f"{name} is up", row["upper"]["admin"], "down")

    session.tell(f"Both come back, and {vf} carries the traffic again.")
    session.type(f"manactl release {name}")
    path("vf")
    session.status({1: "ethernet", 2: "ethernet"})
    session.check(f"addresses of {name}", session.type(f"ip -br addr show dev {name}"), before)

    session.tell(f"Or {name} stays up, on the slow path: nothing is lost but speed.")
    session.type(f"manactl claim --raw-qp {name} --synthetic=keep")
    path("synthetic")
    kept = session.status({1: "ethernet", 2: "free"})[2]
    session.check("the path that status shows", kept["upper"]["data_path"], "synthetic")
    session.check(f"addresses of {name}", session.type(f"ip -br addr show dev {name}"), before)
    session.type(f"manactl release {name}")
    path("vf")

    session.tell("Who had which port, when, and how that ended:")
    said = plain(session.type("manactl history"))
    session.check("claims that have ended", said.count("released"), 2)


def run_pair(kernel: str) -> Session:
    with Vm(kernel, ports=2, pair=True) as vm:
        session = Session(vm)
        session.tell(f"Linux {vm.release} with its own hv_netvsc above the ports.")
        for port, twin in vm.twins.items():
            vm.run(f"echo 0 > /proc/sys/net/ipv6/conf/{twin}/accept_dad")
            vm.run(f"ip link set {twin} up; ip addr add 10.{port}.0.4/24 dev {twin}")
        play_pair(session)
        session.check("rules of the NIC broken", vm.nic.violations(), [])
        session.check("rules of the VMBus broken", vm.vmbus.violations(), [])
        return session


def run(kernel: str) -> Session:
    with ExitStack() as stack:
        cache.say("booting the guest (10 to 30 s on an emulated CPU)")
        vm = stack.enter_context(Vm(kernel, ports=3))
        session = Session(vm)
        session.tell(f"Linux {vm.release} with its own mana drivers, on an emulated NIC.")
        furnish(vm)
        neighbour = user(vm, "tcp", "serve", "10.1.0.9", "7000", netns="neighbour")
        stack.enter_context(neighbour).wait_for("listening")
        prober = stack.enter_context(user(vm, "tcp", "probe", "10.1.0.9", "7000"))
        prober.wait_for("connected")
        play(session, prober)
        session.check("rules of the NIC broken", vm.nic.violations(), [])
        return session


def save_svg(shown: Iterable[str], path: Path) -> None:
    """What a terminal showed, as a picture."""
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    for text in shown:
        console.print(Text.from_ansi(text))
    svg = console.export_svg(title="manactl")
    # A picture that asks nobody else for a font.
    svg = re.sub(r"@font-face \{.*?\}\s*|<!-- Generated with Rich.*?-->\s*", "", svg, flags=re.S)
    path.write_text(svg.replace("Fira Code, monospace", "monospace"))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.lab.demo", description=__doc__)
    parser.add_argument("--kernel", default="7", metavar="PREFIX", help="6.12, 6.18 or 7 (default)")
    parser.add_argument("--record", type=Path, metavar="FILE.svg", help="save the session (rich)")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="save parts of it there")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        session = run(options.kernel)
        if all(kernel != options.kernel for kernel in WITHOUT_HEADERS):
            session.join(run_pair(options.kernel))
    except (LabError, CommandFailed, Unexpected) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    if options.record:
        save_svg(session.shown, options.record)
    for name, shown in session.parts.items() if options.pictures else ():
        save_svg(shown, options.pictures / f"{name}.svg")
    seconds = round(time.monotonic() - started)
    if session.differences:
        print(f"\n{len(session.differences)} of {session.checked} facts differ from the record:")
        print("\n".join(f"  {difference}" for difference in session.differences))
        return 1
    print(f"\n{session.checked} facts shown, all as the NIC recorded them ({seconds} s).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
