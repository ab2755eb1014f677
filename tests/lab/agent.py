"""The host's end of the agent in the guest: requests out, answers and programs' output in.

A reader thread takes frames off the socket, so that output of background programs never blocks
the guest; whoever waits does so on a condition, with a deadline, and hears of a lost guest at once.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .errors import LabError, LostVm

_FRAME = struct.Struct("!II")
GRACE = 90.0  # seconds beyond a program's own time-out before a silent guest counts as lost
_PIECE = 1 << 20  # of a file that is copied


class GuestError(LabError):
    """The agent answered that it could not do what was asked (no such program, no such file)."""

    def __init__(self, text: str, errno: int | None) -> None:
        self.errno = errno
        super().__init__(text)


class CommandFailed(AssertionError):
    """A program in the guest ended otherwise than the test relied on: the test's failure."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a program in the guest ended. `rc` is negative for a signal, as in subprocess."""

    argv: list[str]
    rc: int
    out_bytes: bytes
    err_bytes: bytes
    timed_out: bool

    @property
    def out(self) -> str:
        return self.out_bytes.decode(errors="replace")

    @property
    def err(self) -> str:
        return self.err_bytes.decode(errors="replace")

    def json(self) -> Any:
        return json.loads(self.out_bytes)

    def check(self) -> Result:
        if self.timed_out or self.rc != 0:
            how = "ran out of time" if self.timed_out else f"ended with {self.rc}"
            raise CommandFailed(
                f"in the guest, {' '.join(self.argv)} {how}\n"
                f"--- stdout ---\n{self.out}\n--- stderr ---\n{self.err}"
            )
        return self


@dataclass
class _Reply:
    done: bool = False
    head: dict[str, Any] = field(default_factory=dict)
    body: bytes = b""


class Client:
    """One connection to one agent. Thread safe."""

    def __init__(self, sock: socket.socket, lost: Callable[[str], LostVm]) -> None:
        self._sock = sock
        self._lost = lost
        self._send_lock = threading.Lock()
        self.news = threading.Condition()
        self._replies: dict[int, _Reply] = {}
        self._processes: dict[int, Process] = {}
        self._next = 1
        self.hello = ""
        self.closed = False
        threading.Thread(target=self._read, name="agent", daemon=True).start()

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self._sock.recv(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)

    def _read(self) -> None:
        try:
            while True:
                nhead, nbody = _FRAME.unpack(self._exactly(_FRAME.size))
                head = json.loads(self._exactly(nhead))
                self._take(head, self._exactly(nbody))
        except (OSError, EOFError):
            with self.news:
                self.closed = True
                self.news.notify_all()

    def _take(self, head: dict[str, Any], body: bytes) -> None:
        ident = head["id"]
        with self.news:
            if "hello" in head:
                self.hello = head["hello"]
            elif ident in self._processes and ("stream" in head or "rc" in head):
                self._processes[ident].take(head, body)
                if "rc" in head:
                    del self._processes[ident]
            elif ident in self._replies:
                reply = self._replies[ident]
                reply.done, reply.head, reply.body = True, head, body
            self.news.notify_all()

    def wait(self, ready: Callable[[], bool], timeout: float) -> bool:
        """Wait, with `news` held, until ready() or the time is over; LostVm when it cannot be."""
        deadline = time.monotonic() + timeout
        while not ready():
            if self.closed:
                raise self._lost("the agent's channel closed")
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self.news.wait(left)
        return True

    def _send(self, head: dict[str, Any], body: bytes) -> None:
        text = json.dumps(head).encode()
        try:
            with self._send_lock:
                self._sock.sendall(_FRAME.pack(len(text), len(body)) + text + body)
        except OSError as e:
            raise self._lost(f"the agent's channel broke: {e.strerror}") from None

    def request(
        self,
        op: str,
        body: bytes = b"",
        *,
        patience: float = GRACE,
        process: Process | None = None,
        **head: Any,
    ) -> tuple[dict[str, Any], bytes]:
        """Ask, and wait for the answer; GuestError when it says so."""
        with self.news:
            ident = self._next
            self._next += 1
            reply = self._replies[ident] = _Reply()
            if process is not None:
                process.ident = ident
                self._processes[ident] = process
        try:
            self._send({"id": ident, "op": op, **head}, body)
            with self.news:
                if not self.wait(lambda: reply.done, patience):
                    raise self._lost(f"no answer to {op!r} within {patience:.0f} s")
        finally:
            with self.news:
                del self._replies[ident]
        if "error" in reply.head:
            with self.news:
                self._processes.pop(ident, None)
            raise GuestError(f"{op}: {reply.head['error']}", reply.head.get("errno"))
        return reply.head, reply.body

    def run(self, argv: list[str], stdin: bytes, timeout: float, **more: Any) -> Result:
        head, body = self.request(
            "run", stdin, patience=timeout + GRACE, argv=argv, timeout=timeout, **more
        )
        cut = head["out"]
        return Result(argv, head["rc"], body[:cut], body[cut:], head["timed_out"])

    def spawn(self, argv: list[str], **more: Any) -> Process:
        process = Process(self, argv)
        head, _ = self.request("run", argv=argv, stream=True, process=process, **more)
        process.pid = head["started"]
        return process

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        for start in range(0, max(len(data), 1), _PIECE):
            piece = data[start : start + _PIECE]
            self.request("put", piece, path=path, mode=mode, append=start > 0)

    def get(self, path: str) -> bytes:
        """A whole file, also one of unknown size as in /proc or /sys."""
        data = bytearray()
        while True:
            _, piece = self.request("get", path=path, offset=len(data), size=_PIECE)
            data += piece
            if not piece or len(piece) < _PIECE:
                return bytes(data)

    def close(self) -> None:
        self.closed = True
        self._sock.close()


class Process:
    """A program running in the background of the guest, its output arriving by itself."""

    def __init__(self, client: Client, argv: list[str]) -> None:
        self._client = client
        self.argv = argv
        self.ident = 0
        self.pid = 0
        self._out = bytearray()
        self._err = bytearray()
        self._read = 0  # how far read_until has come in _out
        self._rc: int | None = None
        self._timed_out = False

    def take(self, head: dict[str, Any], body: bytes) -> None:
        """What the reader thread has for this program; called with the client's lock held."""
        if "stream" in head:
            (self._out if head["stream"] == "out" else self._err).extend(body)
        else:
            self._rc, self._timed_out = head["rc"], head["timed_out"]

    @property
    def out(self) -> str:
        """Standard output so far."""
        return self._out.decode(errors="replace")

    @property
    def err(self) -> str:
        return self._err.decode(errors="replace")

    def poll(self) -> int | None:
        return self._rc

    def ended(self) -> Result | None:
        """With what it ended; None while it runs."""
        return None if self._rc is None else self.wait()

    def stdin_write(self, data: bytes | str, *, close: bool = False) -> None:
        body = data.encode() if isinstance(data, str) else data
        self._client.request("stdin", body, program=self.ident, close=close)

    def signal(self, number: int, *, group: bool = True) -> None:
        """Send a signal to the program's process group, or to the program alone."""
        self._client.request("signal", program=self.ident, signal=number, group=group)

    def kill(self) -> None:
        """kill -9 of the whole process group; returns when the program has ended."""
        if self._rc is None:
            self.signal(9)
            self.wait(60)

    def wait(self, timeout: float = 60) -> Result:
        with self._client.news:
            if not self._client.wait(lambda: self._rc is not None, timeout):
                raise CommandFailed(self._story(f"still ran after {timeout:.0f} s"))
            assert self._rc is not None
            return Result(self.argv, self._rc, bytes(self._out), bytes(self._err), self._timed_out)

    def read_until(self, text: str, timeout: float = 60) -> str:
        """Output from where the last call ended up to and with the first `text`."""
        want = text.encode()

        def there() -> bool:
            return want in self._out[self._read :] or self._rc is not None

        with self._client.news:
            self._client.wait(there, timeout)
            at = self._out.find(want, self._read)
            if at < 0:
                how = "ended" if self._rc is not None else f"ran for {timeout:.0f} s"
                raise CommandFailed(self._story(f"{how} without saying {text!r}"))
            start, self._read = self._read, at + len(want)
            return self._out[start : self._read].decode(errors="replace")

    def expect(self, pattern: str, timeout: float = 60) -> re.Match[str]:
        """The first match of `pattern` in all of the output."""
        with self._client.news:
            self._client.wait(
                lambda: bool(re.search(pattern, self.out)) or self._rc is not None, timeout
            )
            match = re.search(pattern, self.out)
            if match is None:
                raise CommandFailed(self._story(f"did not say {pattern!r}"))
            return match

    def _story(self, what: str) -> str:
        return (
            f"in the guest, {' '.join(self.argv)} {what} (exit code {self._rc})\n"
            f"--- stdout ---\n{self.out[-4000:]}\n--- stderr ---\n{self.err[-4000:]}"
        )
