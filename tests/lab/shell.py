"""`make lab`: a shell in the guest, with the NIC's own record readable from another terminal."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import shutil
import signal
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from pathlib import Path

from . import cache
from .errors import LabError
from .image import CHECKOUT
from .vm import MANAGERS, Vm

_END = b"\0"  # what the agent sends last
_INTRODUCTION = """\
kernel {release}, {ports} port(s), guest {qemu} started in {dir}
  the NIC's log      tail -f {log}
  the NIC's record   python3 -m tests.lab.ask {control} state      (in {checkout};
                     also: history, violations, objects)
  console            {dir}/console.log
"""
_PAIRS = """\
  the VMBus's record in the guest: /sys/kernel/debug/vmbus_lab/{state,history,violations}
  the switch's paths: the NIC's record, with the question `stations`
  eth0 and on are hv_netvsc, the VFs follow. To try:
      ip link set eth0 up; ethtool -i eth0; cat /sys/kernel/debug/vmbus_lab/state
      echo set 0 muted=1 > /sys/kernel/debug/vmbus_lab/control   (more in tests/lab/vmbus/README.md)
"""


@contextlib.contextmanager
def raw_terminal() -> Iterator[None]:
    """Every key goes to the guest, ^C too; as it was afterwards. No change when not a terminal."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def bridge(channel: socket.socket) -> None:
    """Join the terminal and the guest's shell until the shell ends or the guest does."""
    sources: list[int | socket.socket] = [0, channel]
    while True:
        ready, _, _ = select.select(sources, [], [])
        if channel in ready:
            data = channel.recv(65536)
            os.write(1, data.removesuffix(_END))
            if not data or data.endswith(_END):
                return
        if 0 in ready:
            typed = os.read(0, 65536)
            if typed:
                channel.sendall(typed)
            else:  # ^D of a pipe: the shell in the guest reads it as its own
                channel.sendall(b"\x04")
                sources.remove(0)


def visit(vm: Vm) -> None:
    columns, rows = shutil.get_terminal_size()
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(str(vm.dir / "shell.sock"))
        term = os.environ.get("TERM", "linux")
        vm.agent.request("shell", rows=rows, columns=columns, term=term)
        with raw_terminal():
            bridge(channel)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.lab.shell", description=__doc__)
    parser.add_argument("--kernel", default="7", help="version prefix, as 6.12")
    parser.add_argument("--ports", type=int, default=2, help="1 to 4")
    parser.add_argument("--mac", action="append", help="permanent address, once per port")
    parser.add_argument("--no-rnic", dest="rnic", action="store_false", help="Ethernet only")
    parser.add_argument("--pair", action="store_true", help="hv_netvsc above each port")
    parser.add_argument("--systemd", default="", choices=("bare", *MANAGERS), help="as init")
    wanted = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        cache.say("booting; 10 to 20 seconds under CPU emulation")
        with Vm(
            wanted.kernel,
            wanted.ports,
            rnic=wanted.rnic,
            macs=wanted.mac,
            pair=wanted.pair,
            systemd=wanted.systemd,
        ) as vm:
            print(
                _INTRODUCTION.format(
                    release=vm.release,
                    ports=vm.ports,
                    qemu=vm.pid,
                    dir=vm.dir,
                    log=vm.nic_log,
                    control=vm.nic_control,
                    checkout=Path(CHECKOUT),
                )
                + (_PAIRS if wanted.pair else "")
            )
            visit(vm)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
