"""Run a command on a pseudo-terminal of a given width and pass on what a person would see.

    python3 terminal.py COLUMNS COMMAND [ARG...]

Its exit status is the command's. Line ends are those of a file, not of a terminal.
"""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios


def main(columns: int, argv: list[str]) -> int:
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("=HHHH", 50, columns, 0, 0))
        os.environ.update(TERM="xterm-256color", COLUMNS=str(columns), LANG="C.UTF-8")
        os.execvp(argv[0], argv)
    shown = b""
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # EIO: the command and all its children are gone
            break
        if not data:
            break
        shown += data
    sys.stdout.buffer.write(shown.replace(b"\r\n", b"\n"))
    sys.stdout.flush()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
