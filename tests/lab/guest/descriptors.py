"""A process with many open descriptors, as a busy server has them.

    python3 descriptors.py COUNT

Says `ready` and sleeps. A third each of sockets, files and device nodes.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.lab.guest.lines import tell


def main(arguments: list[str]) -> None:
    count = int(arguments[0])
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, count + 100))
    held: list[object] = []
    for number in range(count):
        if number % 3 == 0:
            held.append(socket.socket(socket.AF_UNIX))
        else:
            held.append(os.open((__file__, os.devnull)[number % 3 - 1], os.O_RDONLY))
    tell("ready", pid=os.getpid(), open=len(held))
    while True:
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1:])
