"""Run with TERM ROWS COLUMNS: a shell on a pseudo terminal, joined to the host's shell port."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios

from tests.lab.guest_init.agent import CHUNK, port_path

PORT = "manactl.shell"
BASHRC = "/manactl/tests/lab/guest_init/bashrc"


def join(port: int, master: int, pid: int) -> None:
    """Copy both ways until the shell or the host ends."""
    while True:
        ready, _, _ = select.select([port, master], [], [])
        try:
            if master in ready:
                data = os.read(master, CHUNK)
                while data:
                    data = data[os.write(port, data) :]
            if port in ready:
                typed = os.read(port, CHUNK)
                if not typed:
                    os.kill(pid, signal.SIGHUP)
                    return
                os.write(master, typed)
        except OSError:  # EIO: nobody has the terminal open any more
            return


def main() -> None:
    term, rows, columns = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    pid, master = pty.fork()
    if pid == 0:
        os.environ["TERM"] = term
        os.chdir("/root")
        os.execvp("bash", ["bash", "--rcfile", BASHRC, "-i"])
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    port = os.open(port_path(PORT), os.O_RDWR)
    join(port, master, pid)
    os.write(port, b"\r\n[the shell ended]\r\n\0")


if __name__ == "__main__":
    main()
