"""The guest's kernel messages as the agent streams them, and which of them are bad news."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

# What the kernel says when it caught itself in a fault. Stalls are switched off on the command
# line, since an emulated CPU on a busy host stalls without any fault of the kernel.
TROUBLE = re.compile(
    r"^(?:WARNING: |BUG: |kernel BUG at |Oops: |general protection fault|"
    r"Unable to handle|UBSAN: |KASAN: |KFENCE: |list_(?:add|del) corruption|refcount_t: |"
    r"unregister_netdevice: waiting for|INFO: task .* blocked for more than|"
    r"Kernel panic|double fault|stack segment|invalid opcode|divide error|"
    r"possible recursive locking|DMA-API: |Bad page |page allocation failure)"
)
_RECORD = re.compile(rb"(\d+),(\d+),(\d+),[^;\n]*;(.*)")


@dataclass(frozen=True, slots=True)
class Line:
    """One record of /dev/kmsg; `at` in seconds since the guest's boot."""

    seq: int
    at: float
    text: str

    @property
    def bad(self) -> bool:
        return bool(TROUBLE.search(self.text))

    def __str__(self) -> str:
        return f"[{self.at:12.6f}] {self.text}"


def parse(record: bytes) -> Line | None:
    """A line of the stream; None for the continuation lines that name the device."""
    match = _RECORD.fullmatch(record)
    if match is None:
        return None
    text = match[4].decode(errors="replace")
    return Line(int(match[2]), int(match[3]) / 1e6, text)


class Stream:
    """All kernel messages since boot, growing as they arrive."""

    def __init__(self, sock: socket.socket) -> None:
        self.lines: list[Line] = []
        self._marks: set[str] = set()
        self._news = threading.Condition()
        self._sock = sock
        threading.Thread(target=self._read, name="kmsg", daemon=True).start()

    def _read(self) -> None:
        rest = b""
        try:
            while data := self._sock.recv(65536):
                *records, rest = (rest + data).split(b"\n")
                with self._news:
                    for record in records:
                        self._take(record)
                    self._news.notify_all()
        except OSError:
            pass

    def _take(self, record: bytes) -> None:
        if record.startswith(b"mark "):
            self._marks.add(record[5:].decode())
        elif (line := parse(record)) is not None:
            self.lines.append(line)

    def wait_mark(self, token: str, timeout: float) -> bool:
        """Wait until the agent's mark `token` came by: all before it is in `lines`."""
        with self._news:
            return self._news.wait_for(lambda: token in self._marks, timeout)

    def wait_for(self, found: Callable[[Line], bool], since: int, timeout: float) -> Line | None:
        """The first line from index `since` on for which found() holds."""
        with self._news:
            self._news.wait_for(lambda: any(map(found, self.lines[since:])), timeout)
            return next(filter(found, self.lines[since:]), None)

    def close(self) -> None:
        self._sock.close()


def unexpected(lines: Iterable[Line], declared: Iterable[str]) -> tuple[list[Line], list[str]]:
    """(bad lines that nobody declared, declarations that did not come true).

    A declaration is a regular expression for a whole line.
    """
    patterns = {text: re.compile(text) for text in declared}
    missing = dict.fromkeys(patterns)
    bad = []
    for line in lines:
        hits = [text for text, pattern in patterns.items() if pattern.fullmatch(line.text)]
        for text in hits:
            missing.pop(text, None)
        if line.bad and not hits:
            bad.append(line)
    return bad, list(missing)
