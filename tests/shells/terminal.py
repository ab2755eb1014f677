"""A program on a pseudo-terminal: keys in, and the screen that a person would see."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping

import pyte

WAIT = 120.0  # s; only a program that never answers takes so long
_TICK = 0.05  # s


class _Screen(pyte.Screen):
    """Answers what programs ask a terminal, as a terminal does."""

    def __init__(self, columns: int, rows: int, answer: Callable[[bytes], None]) -> None:
        self._answer = answer
        super().__init__(columns, rows)

    def write_process_input(self, data: str) -> None:
        self._answer(data.encode())


class Terminal:
    """One program, its terminal and all that it has written there (`raw`)."""

    def __init__(
        self, argv: list[str], env: Mapping[str, str], cwd: str, columns: int = 100, rows: int = 60
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("=HHHH", rows, columns, 0, 0))
        try:
            self._process = subprocess.Popen(
                argv, stdin=slave, stdout=slave, stderr=slave, env=env, cwd=cwd
            )
        finally:
            os.close(slave)
        self._screen = _Screen(columns, rows, self._write)
        self._stream = pyte.ByteStream(self._screen)
        self.raw = b""

    def _write(self, data: bytes) -> None:
        os.write(self._master, data)

    def type(self, keys: str) -> None:
        self._write(keys.encode())

    @property
    def text(self) -> str:
        """What is on the screen, without the blanks around it."""
        lines = (line.rstrip() for line in self._screen.display)
        return "\n".join(lines).strip("\n")

    def until(self, true: Callable[[], bool], what: str) -> None:
        """Take in what the program writes until `true`."""
        deadline = time.monotonic() + WAIT
        while not true():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} did not come; the screen:\n{self.text}")
            if select.select([self._master], [], [], _TICK)[0]:
                try:
                    data = os.read(self._master, 65536)
                except OSError:  # EIO: nobody has the terminal open any more
                    raise EOFError(f"the program has ended; the screen:\n{self.text}") from None
                self.raw += data
                self._stream.feed(data)

    def shows(self, *words: str) -> str:
        """Wait until all of these are on the screen; return it."""
        self.until(lambda: all(word in self.text for word in words), f"{words} on the screen")
        return self.text

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)
