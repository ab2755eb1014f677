"""dpdk-testpmd on one port or more, driven by commands: the real owner of a raw QP.

    python3 testpmd.py PCI MAC[,MAC...] [FORWARDING_MODE [UUID [ARGUMENT...]]]

Says `ready` when testpmd has its ports started and prompts; then `start`, `stop`, `stats`, `quit`,
`type LINE` (whatever testpmd understands) and `kill` (SIGKILL). ARGUMENTs are testpmd's own and
replace those given here. testpmd runs on a pseudo-terminal, without which it would buffer its output;
it opens the port of the function whose permanent MAC is MAC, and creates on it a raw QP, an RSS
QP, work queues, completion queues and memory regions. With the UUID of a VMBus device, which
uio_hv_generic has, the port is netvsc's, and MANA's is its VF; that takes huge pages, since the host
is told physical addresses. PCI may be `-` then: netvsc without a VF. MAC may be `-`: without `mac=`
it opens every port of the function.
"""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.lab.guest.lines import obey, tell

PROMPT = "testpmd> "
START_SECONDS = 120
COMMANDS = ("start", "stop", "stats", "type", "quit", "kill")
COUNTER = re.compile(r"(RX-packets|TX-packets|RX-missed|RX-errors|TX-errors): *(\d+)")


def arguments_for(
    pci: str, mac: str, mode: str = "rxonly", uuid: str = "", *more: str
) -> list[str]:
    """Few, short queues, and no huge pages where they are not needed: the guest is small."""
    memory = ("-m", "256", "-a", uuid) if uuid else ("--no-huge", "-m", "512", "--iova-mode=va")
    ports = "" if mac == "-" else "".join(f",mac={one}" for one in mac.split(","))
    vf = ("--no-pci",) if pci == "-" else ("-a", f"{pci}{ports}")
    lcores = ("-l", "0,1") if (os.cpu_count() or 1) > 1 else ("--lcores", "(0,1)@0")
    return [
        *("dpdk-testpmd", *lcores, *memory, "--no-telemetry", *vf),
        *("--", "-i", f"--forward-mode={mode}"),
        *("--txq=1", "--rxq=1", "--txd=128", "--rxd=128", "--total-num-mbufs=4096"),
        *more,
    ]


class Testpmd:
    """The process and its terminal."""

    def __init__(self, argv: list[str]) -> None:
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execvp(argv[0], argv)
        self.output = ""

    def until_prompt(self, seconds: float) -> str:
        """Output up to the next prompt. Raises EOFError when testpmd ends, TimeoutError."""
        deadline = time.monotonic() + seconds
        while PROMPT not in self.output:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.terminal], [], [], left)[0]:
                raise TimeoutError
            try:
                data = os.read(self.terminal, 65536)
            except OSError:  # EIO: the other end of the terminal is closed
                data = b""
            if not data:
                raise EOFError
            self.output += data.decode(errors="replace").replace("\r", "")
        said, _, self.output = self.output.partition(PROMPT)
        return said

    def ask(self, line: str) -> str:
        os.write(self.terminal, f"{line}\n".encode())
        return self.until_prompt(30)

    def end(self) -> int:
        """Exit status, or minus the signal."""
        try:
            while True:
                self.until_prompt(30)
        except EOFError:
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class Driver:
    """The commands."""

    def __init__(self, testpmd: Testpmd) -> None:
        self.testpmd = testpmd

    def start(self) -> None:
        self.testpmd.ask("start")
        tell("started")

    def stop(self) -> None:
        self.testpmd.ask("stop")
        tell("stopped")

    def stats(self) -> None:
        found = COUNTER.findall(self.testpmd.ask("show port stats 0"))
        tell("stats", **{name.lower().replace("-", "_"): int(value) for name, value in found})

    def type(self, *words: str) -> None:
        tell("said", text=self.testpmd.ask(" ".join(words)))

    def quit(self) -> NoReturn:
        os.write(self.testpmd.terminal, b"quit\n")
        tell("ended", status=self.testpmd.end())
        sys.exit(0)

    def kill(self) -> NoReturn:
        os.kill(self.testpmd.pid, signal.SIGKILL)
        tell("ended", status=self.testpmd.end())
        sys.exit(0)


def main(arguments: list[str]) -> None:
    argv = arguments_for(*arguments)
    testpmd = Testpmd(argv)
    try:
        said = testpmd.until_prompt(START_SECONDS)
    except (EOFError, TimeoutError) as error:
        os.kill(testpmd.pid, signal.SIGKILL)
        why = "ended" if isinstance(error, EOFError) else f"no prompt in {START_SECONDS} s"
        tell("failed", why=why, output=testpmd.output[-3000:])
        sys.exit(1)
    tell("ready", pid=testpmd.pid, argv=argv, output=said[-3000:])
    driver = Driver(testpmd)
    obey({name: getattr(driver, name) for name in COMMANDS})
    driver.kill()


if __name__ == "__main__":
    main(sys.argv[1:])
