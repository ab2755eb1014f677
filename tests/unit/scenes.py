"""What manactl decides in many situations, without a word of what it says: see scrambled.py."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from manactl.act import confirm as confirming
from manactl.act import exec_mode
from manactl.act import terminate as ending
from manactl.act.boot_files import BootFiles
from manactl.act.confirm import ConfirmRequest
from manactl.act.released import ReleaseRequest
from manactl.act.signals import SignalGate
from manactl.cli.main import main as command_line
from manactl.decide import guards, waivers
from manactl.decide.codes import NEVER, WAIVABLE
from manactl.errors import ManactlError
from manactl.journal import file as journal
from manactl.journal import history
from manactl.look import boot_files
from manactl.model.port import PortId, PortStatus, Report
from manactl.model.record import Reason
from manactl.netstate.left_down import LeftDown
from manactl.netstate.surroundings import NOTHING_READ, Surroundings
from manactl.netstate.unmanaged import NETWORK_MANAGER, NETWORKD, Unmanaged, UnmanagedLink
from manactl.render.document import port_document
from tests.unit.act.test_guardian import Told
from tests.unit.act.test_keep_down import IP, WORKER
from tests.unit.act.test_keep_down import Scene as Held
from tests.unit.act.test_persist import reboot
from tests.unit.act.test_unmanage import managed
from tests.unit.cli.test_claim_release import other_boot, standing
from tests.unit.decide.scene import QUIET, STATUS
from tests.unit.host import FakeHost, Fate, Followed, claim, furnished, paired, release
from tests.unit.kernel import Kernel, Nic
from tests.unit.machine import PCI, Machine
from tests.unit.test_shapes import HIDE, claim_of, rc_users

KERNELS = ("6.12", "6.18", "7")
STATES = ("idle", "raw-qp-on-port-2")
ALL = [PortId(PCI, number, None) for number in (1, 2)]


def failed(attempt: Callable[[], Any]) -> Any:
    """What an attempt comes to: its value, or what is stable of its error."""
    try:
        return attempt()
    except ManactlError as error:
        return [type(error).__name__, error.exit_code, error.code]
    except OSError as error:
        return [type(error).__name__, error.errno]


def others_user(machine: Machine) -> None:
    """Another process has the raw device open, and is not visible."""
    assert machine.rdma is not None
    for device in machine.rdma.recorded:
        device["contexts"] += [dict(one, pid=99) for one in device["contexts"] if not one["kernel"]]


def child(machine: Machine) -> None:
    machine.holder(4212)


def rc_user(machine: Machine) -> None:
    rc_users(machine, 2)


def both_down(machine: Machine) -> None:
    machine.pci("net/eth0/flags").write_text("0x1002\n")


def half_open(machine: Machine) -> None:
    machine.pci("net/eth0/flags").write_text("0x1003\n")
    for queue in machine.path("/sys/kernel/debug").glob("mana/*/vport0/RX-*"):
        machine.remove(queue)


def opening(machine: Machine) -> None:
    machine.pci("net/eth0/flags").write_text("0x1002\n")
    for vport in machine.path("/sys/kernel/debug").glob("mana/*/vport0"):
        (vport / "EQs").mkdir(exist_ok=True)
        for queue in vport.glob("RX-*"):
            machine.remove(queue)


def lost_eqs(machine: Machine) -> None:
    for vport in machine.path("/sys/kernel/debug").glob("mana/*/vport1/EQs"):
        machine.remove(vport)


def in_reset(machine: Machine) -> None:
    for auxiliary in machine.path(f"/sys/bus/pci/devices/{PCI}").glob("mana.*"):
        machine.remove(auxiliary)


def creating(machine: Machine) -> None:
    machine.write("/proc/41/stat", "41 (testpmd) D 1 1\n")
    machine.write("/proc/41/stack", "[<0>] mana_ib_create_qp+0x1/0x2 [mana_ib]\n")


def below_a_bond(machine: Machine) -> None:
    machine.write("/sys/class/net/bond0/uevent", "DEVTYPE=bond\nINTERFACE=bond0\n")
    machine.pci("net/eth1/master").symlink_to("../../../../../virtual/net/bond0")


CHANGES: tuple[tuple[Callable[[Machine], None], ...], ...] = (
    (), (child,), (others_user,), (child, others_user), (rc_user,), (child, rc_user), (both_down,),
    (both_down, child), (half_open,), (opening,), (lost_eqs,), (lost_eqs, both_down), (in_reset,),
    (creating,), (below_a_bond,), *((hide,) for hide in HIDE),
)  # fmt: skip


def port(status: PortStatus) -> dict[str, Any]:
    """Everything about a port but words."""
    return {
        "owner": status.owner,
        "certainty": status.certainty,
        "candidates": status.candidates,
        "holders": [holder.pid for holder in status.holders],
        "upper": status.upper and status.upper.kind,
        "claimed": status.claim is not None,
        "in_reset": status.in_reset,
        "eqs_lost": status.eqs_lost,
        "drift": [note.code for note in status.drift],
        "notes": [note.code for note in status.notes],
        "reasons": status.reasons,
    }


def looks() -> Iterator[tuple[str, Report]]:
    """Every recorded machine under every change, and the unchanged ones with claims."""
    for kernel in KERNELS:
        for state in STATES:
            for changes in CHANGES if state != "idle" else CHANGES[:1]:
                with tempfile.TemporaryDirectory() as base:
                    machine = Machine(Path(base) / "machine", f"{kernel}-{state}")
                    machine.holder(4211)
                    for change in changes:
                        change(machine)
                    name = "+".join([kernel, state, *(change.__name__ for change in changes)])
                    yield name, machine.look()
                    if not changes:
                        claims = [claim_of(1), claim_of(2, phase="interrupted")]
                        yield f"{name}+claimed", machine.look(claims=claims)


def chosen(report: Report, ports: Collection[PortId]) -> Any:
    """Who would get SIGTERM."""
    return failed(lambda: [one.pid for one in ending.holders_to_end(report, ports)])


def surroundings() -> Iterator[Surroundings]:
    yield QUIET
    yield NOTHING_READ
    for one in dataclasses.fields(Surroundings):
        yield dataclasses.replace(QUIET, **{one.name: None})


def refused(status: PortStatus, around: Surroundings, allow: Collection[str]) -> Any:
    found = guards.refusals(status, around)
    codes = [one.code for one in found]

    def judged() -> list[str]:
        if standing := waivers.standing(found, allow):
            raise waivers.refused(standing, allow)
        return [str(code) for code in codes]

    return codes, failed(judged)


CONDITIONS: dict[str, Callable[[Nic], None]] = {
    "free": lambda nic: None,
    "held": lambda nic: nic.holders.append(4211),
    "leaked": lambda nic: setattr(nic, "leaked", True),
}


def after(state_dir: Path, kernel: Kernel) -> list[Any]:
    """The machine and the journals when all is over."""
    left = [one.phase for one in journal.list_claims(state_dir, "boot-1").claims]
    return [kernel.nics[0].up, len(kernel.messages), left]


def claims_that_fail() -> Iterator[Any]:
    """A claim whose every operation fails in turn, on ports in every condition, and its end."""
    for name, condition in CONDITIONS.items():
        for fails_at in (None, *range(1, 12)):
            with tempfile.TemporaryDirectory() as base:
                kernel = furnished()
                if name != "free":
                    kernel.set_up(kernel.nics[0], False)
                condition(kernel.nics[0])
                host = FakeHost(kernel, Fate(fails_at=fails_at))
                end = failed(lambda at=base, on=host: bool(claim(Path(at), on)))
                yield name, fails_at, end, after(Path(base), kernel)


def releases_that_fail() -> Iterator[Any]:
    """The same for releases, of ports that are free, held, and nobody's but for a kernel bug."""
    for name, condition in CONDITIONS.items():
        for fails_at in (None, *range(1, 12)):
            with tempfile.TemporaryDirectory() as base:
                kernel = furnished()
                claim(Path(base), FakeHost(kernel))
                condition(kernel.nics[0])
                host = FakeHost(kernel, Fate(fails_at=fails_at))
                end = failed(lambda at=base, on=host: _release(Path(at), on))
                yield name, fails_at, end, after(Path(base), kernel)


def _release(state_dir: Path, host: FakeHost, **more: Any) -> Any:
    return [port.outcome for port in release(state_dir, host, **more).ports]


def persistent_claims() -> Iterator[Any]:
    """Ports that stay down at boot: what is written, who is told, and what release makes of it."""
    for change in (None, "edited", "stopped"):
        for claimed_again in (False, True):
            with tempfile.TemporaryDirectory() as base:
                kernel, manager = managed()
                claim(Path(base), FakeHost(kernel), persist=True)
                host = reboot(kernel, manager)
                recovered = _release(Path(base), host, recover=True)
                if claimed_again:
                    claim(Path(base), host)
                manager.running = change != "stopped"
                manager.edited = set(manager.boot_files) if change == "edited" else set()
                found = failed(lambda at=base, on=host: release(Path(at), on, "eth1").ports)
                ports = [
                    [port.outcome, port.given_back, [one.cause for one in port.lost]]
                    for port in found
                ]
                yield change, claimed_again, recovered, ports, after(Path(base), kernel)
    for manager_name in (NETWORKD, NETWORK_MANAGER):
        for edited in (False, True):
            with tempfile.TemporaryDirectory() as base:
                files = BootFiles(Path(base))
                link = UnmanagedLink("eth1", 3, "00:0d:3a:aa:00:10", "mana", True)
                kept = LeftDown(PortId(PCI, 1, None), "eth1", Unmanaged(manager_name, "k", (link,)))
                files.write(kept)
                (path,) = files.paths(kept)
                path.write_text(path.read_text() + "# mine\n" * edited)
                there = [LeftDown.from_json(one.said) == kept for one in boot_files.find(base)]
                yield manager_name, there, len(files.remove(kept)), path.exists()


def confirmed_claims() -> Iterator[Any]:
    """Claims that are released automatically: confirmed in time, too late, and by a dead guardian;
    and what a confirmation comes to then."""
    for late in (False, True):
        for ends in (None, Reason.EXPIRED, Reason.ABANDONED):
            with tempfile.TemporaryDirectory() as base:
                kernel = furnished()
                host = FakeHost(kernel)
                made = failed(
                    lambda at=base, on=host, too=late: bool(
                        claim(Path(at), on, guard=Told(late=too), confirm_within=60)
                    )
                )
                waits = [
                    one.claim.confirm_by is not None
                    for one in journal.list_claims(Path(base), "boot-1").claims
                ]
                for path in journal.paths(Path(base)) if ends else ():
                    release(Path(base), host, only=path, why=ends)
                confirmed = failed(lambda at=base, on=host: _confirm(Path(at), on))
                past = [
                    (one.ending, one.reason, one.confirmed_by is not None)
                    for one in history.read(Path(base)).claims
                ]
                yield late, ends, made, waits, confirmed, past, after(Path(base), kernel)


def _confirm(state_dir: Path, host: FakeHost) -> list[Any]:
    with SignalGate() as signals:
        found = confirming.confirm(ConfirmRequest(state_dir), host, signals)
    return [one.outcome for one in found]


def commands_with_ports() -> Iterator[Any]:
    """Exec mode: what its command is told, and the release when a holder has outlived it."""
    for pair in (None, "down", "keep", "uio"):
        for held in (False, True):
            with tempfile.TemporaryDirectory() as base:
                kernel = furnished() if pair is None else paired()
                host, notes = FakeHost(kernel), Followed()
                made = claim(Path(base), host, command=("x",), guard=Told(), synthetic=pair)
                told = exec_mode.environment(made, {})
                kernel.nics[0].holders = [77] * held
                host.blind = held
                start = kernel.clock
                host.at_pause = lambda on=kernel, then=start: (
                    on.clock > then + 20 and on.nics[0].holders.clear()
                )
                request = ReleaseRequest(Path(base), only=made.journal)
                with SignalGate() as signals:
                    ended = exec_mode.release(request, [made.ports[0].id], host, signals, notes)
                outcomes = [one.outcome for one in ended.ports]
                paused = len(host.pauses)
                yield pair, told, outcomes, len(notes.notes), paused, after(Path(base), kernel)


def holds() -> Iterator[Any]:
    """What `manactl hold` sets down again, why it was up, and what it leaves alone."""
    for pair in (None, "down", "keep"):
        for broken in (False, True):
            with tempfile.TemporaryDirectory() as base:
                hold = Held(Path(base), furnished() if pair is None else paired())
                claim(Path(base), hold.host, synthetic=pair)
                hold.keeper.reload()
                (nic,) = hold.kernel.nics
                for opener in (IP, WORKER):
                    hold.up(nic, opener)
                    hold.announce(nic)
                for twin in hold.kernel.synthetics:
                    hold.up(twin, IP, IP)
                    hold.announce(nic, twin)
                if pair is not None:
                    hold.kernel.service(nic, 33)
                    hold.kernel.set_up(nic, True)
                    hold.announce(nic)
                if broken:
                    (path,) = journal.paths(Path(base))
                    path.write_bytes(path.read_bytes().replace(b'"claimed"', b'"clamied"'))
                hold.keeper.reload()
                hold.up(nic, IP)
                hold.announce(nic)
                apart = hold.keeper.apart
                left = [len(apart.unread), len(apart.doubtful), apart.unlisted is not None]
                yield pair, broken, hold.stories(), [one.still for one in hold.told], left


def pairs_that_fail() -> Iterator[Any]:
    """A claim of a pair whose every operation fails in turn, and the release of what was made."""
    for mode in ("keep", "down", "uio"):
        for fails_at in (None, *range(1, 16)):
            with tempfile.TemporaryDirectory() as base:
                kernel = paired()
                host = FakeHost(kernel, Fate(fails_at=fails_at))
                end = failed(
                    lambda at=base, on=host, to=mode: bool(claim(Path(at), on, synthetic=to))
                )
                claimed = after(Path(base), kernel)
                back = failed(
                    lambda at=base, on=kernel: [
                        (one.outcome, one.data_path, sorted(one.counts.items()))
                        for one in release(Path(at), FakeHost(on)).ports
                    ]
                )
                yield mode, fails_at, end, claimed, back, after(Path(base), kernel)


def commands() -> Iterator[Any]:
    """Command lines, the exit code of each, and whether it printed a document."""
    for made in (lambda _: None, other_boot, standing):
        for words in (["release"], ["recover"], ["release", "--all"], ["release", "--dry-run"],
                      ["recover", "--json"], ["status", "--json"], ["claim"],
                      ["claim", "--raw-qp", "eth1"], ["doctor", "--json"]):  # fmt: skip
            with tempfile.TemporaryDirectory() as base:
                made(Path(base))
                out = StringIO()
                with redirect_stdout(out), redirect_stderr(StringIO()):
                    code = command_line(["--state-dir", base, *words])
                yield words, code, out.getvalue().startswith("{")


def words(report: Report) -> Iterator[str]:
    """The sentences and labels in a report."""
    yield from (item.why for item in report.missing)
    for status in report.ports:
        document = port_document(status)
        yield from (document["reason"], *document["notes"], *document["drift"])
        yield from (entry.fact for entry in status.evidence)


def play() -> dict[str, Any]:
    """All of it. `decided` must be the same whatever the words are; `words` are some of these."""
    seen = list(looks())
    ends = {name: [chosen(report, of) for of in (ALL, ALL[:1], ALL[1:])] for name, report in seen}
    strange = [STATUS._replace(eqs_lost=True), STATUS._replace(in_reset=True),
               STATUS._replace(netdev=None), STATUS]  # fmt: skip
    ports = [port for _, report in seen for port in report.ports]
    every = [*WAIVABLE, *NEVER]
    return {
        "decided": {
            "looks": {name: [port(one) for one in report.ports] for name, report in seen},
            "missing": {
                name: [one.source for one in report.missing]
                for name, report in seen
                if report.missing
            },
            "terminate": ends,
            "guards": [
                [
                    refused(status, around, allow)
                    for around in surroundings()
                    for allow in ((), every)
                ]
                for status in strange
            ],
            "ports": [refused(status, QUIET, ()) for status in ports],
            "claims": list(claims_that_fail()),
            "releases": list(releases_that_fail()),
            "persistent": list(persistent_claims()),
            "confirmed": list(confirmed_claims()),
            "exec": list(commands_with_ports()),
            "holds": list(holds()),
            "pairs": list(pairs_that_fail()),
            "commands": list(commands()),
        },
        "words": sorted({text for _, report in seen for text in words(report)}),
    }
