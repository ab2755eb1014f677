"""What a terminal of 80 columns shows of exec mode, of claims that wait to be confirmed, of hold and
of --persist: `python -m tests.unit.screens DIRECTORY` writes a file for each, to be looked at.

The machine is the one in memory; commands, renderers and the terminal are real.
"""

from __future__ import annotations

import fcntl
import os
import pty
import shlex
import struct
import sys
import tempfile
import termios
import traceback
from collections.abc import Callable
from pathlib import Path

from manactl.act import guardian, signals
from manactl.cli import main as command_line
from manactl.cli.app import App
from tests.unit.act.test_guardian import Guarded
from tests.unit.act.test_unmanage import managed
from tests.unit.cli.test_hold import Ends
from tests.unit.host import FakeHost, furnished, paired, two_ports
from tests.unit.kernel import Kernel

ROWS, COLUMNS = 50, 80


class Screen:
    """Types command lines and has them carried out."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir

    def run(self, host: FakeHost, line: str) -> None:
        print(f"# manactl {line}", flush=True)
        words = ["--state-dir", str(self.state_dir), *shlex.split(line)]
        with host.alive():
            code = command_line._run(App(host=host), words)
        signals.restore()  # as main() does at its end
        print(f"(exit {code})" if code else "", flush=True)


def exec_mode(screen: Screen) -> None:
    kernel = two_ports()
    screen.run(FakeHost(kernel), "claim --raw-qp eth1 --raw-qp eth2 -- printenv MANACTL_EAL")
    screen.run(FakeHost(kernel), "claim --raw-qp eth1 -- false")
    screen.run(FakeHost(kernel), "claim --raw-qp eth1 -- tsetpmd")
    screen.run(FakeHost(kernel), "history")


def confirmed(screen: Screen) -> None:
    kernel = furnished()
    screen.run(FakeHost(kernel), "claim --raw-qp eth1 --confirm-within 90 --dry-run")
    screen.run(FakeHost(kernel), "claim --raw-qp eth1 --confirm-within 90")
    screen.run(FakeHost(kernel), "confirm")
    screen.run(FakeHost(kernel), "confirm eth1")
    screen.run(FakeHost(kernel), "release")
    screen.run(FakeHost(kernel), "history")


def needs_a_way_back(screen: Screen) -> None:
    host = FakeHost(furnished())
    host.other_ways = []
    screen.run(host, "claim --raw-qp eth1")
    screen.run(host, "claim --raw-qp eth1 --allow last-port")


def persist(screen: Screen) -> None:
    kernel, _ = managed()
    screen.run(FakeHost(kernel), "claim --raw-qp eth1 --persist --dry-run")
    screen.run(FakeHost(kernel), "claim --raw-qp eth1 --persist")
    screen.run(FakeHost(kernel), "release --dry-run")
    screen.run(FakeHost(kernel), "release")
    screen.run(FakeHost(furnished()), "claim --raw-qp eth1 --persist --dry-run")


def hold(screen: Screen) -> None:
    _held(screen, furnished(), "")


def hold_of_a_pair(screen: Screen) -> None:
    _held(screen, paired(), " --synthetic down")


def _held(screen: Screen, kernel: Kernel, more: str) -> None:
    """Somebody has set the port up meanwhile; a signal ends the hold."""
    host = Ends(kernel)
    screen.run(host, f"claim --raw-qp eth1{more}")
    kernel.set_up(kernel.nics[0], True)
    host.holding = True
    screen.run(host, "hold")


SCREENS: tuple[Callable[[Screen], None], ...] = (
    exec_mode, confirmed, needs_a_way_back, persist, hold, hold_of_a_pair,
)  # fmt: skip


def shown(scene: Callable[[Screen], None]) -> bytes:
    """What the terminal of a process gets that plays this scene."""
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("=4H", ROWS, COLUMNS, 0, 0))
            os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
            os.environ.pop("NO_COLOR", None)
            guardian.start = lambda *_: Guarded()  # type: ignore[assignment]
            with tempfile.TemporaryDirectory() as base:
                scene(Screen(Path(base) / "state"))
        except BaseException:  # noqa: BLE001 - it is the child's last chance to say why
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(0)
    data = b""
    try:
        while part := os.read(terminal, 65536):
            data += part
    except OSError:
        pass  # EIO: the child has ended
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
    return data


def main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for scene in SCREENS:
        (directory / f"{scene.__name__}.ansi").write_bytes(shown(scene))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
