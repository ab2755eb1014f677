"""The lab's hand in the guest: first process, runs what the host asks over virtio-serial.

One frame, either way: the lengths of a JSON header and of a binary body (two big-endian u32), then
both. Requests carry an "id" that answers repeat; a program's output and end are answered under the
id of the request that started it. Stdlib only, one thread, no state but the running programs.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from typing import Any, NoReturn

Head = dict[str, Any]
Answer = tuple[Head | None, bytes]

CONTROL = "manactl.agent"
KMSG = "manactl.kmsg"
FRAME = struct.Struct("!II")
CHUNK = 65536
PF_KTHREAD = 0x00200000  # include/linux/sched.h
KILL_AFTER = 1.0  # seconds between a polite and a forced end of a program that timed out
# More seconds at a time are not counted: on a busy host a guest's clock was once seen to go on by
# minutes within one, and a program that had just begun ran out of time.
LEAP = 10.0


def port_path(name: str, patience: float = 20.0) -> str:
    """The device of the virtio-serial port `name`; without udev only sysfs knows names."""
    deadline = time.monotonic() + patience
    top = "/sys/class/virtio-ports"
    while True:
        for entry in os.listdir(top) if os.path.isdir(top) else []:
            with open(f"{top}/{entry}/name") as file:
                if file.read().strip() == name and os.path.exists(f"/dev/{entry}"):
                    return f"/dev/{entry}"
        if time.monotonic() > deadline:
            raise SystemExit(f"no virtio port {name}")
        time.sleep(0.01)


def cgroup(pid: str) -> bytes:
    with open(f"/proc/{pid}/cgroup", "rb") as file:
        return file.read()


class Clock:
    """Seconds that have passed, as far as anybody looked at least every LEAP seconds."""

    def __init__(self) -> None:
        self._passed = 0.0
        self._last = time.monotonic()

    def now(self) -> float:
        now = time.monotonic()
        self._passed += min(now - self._last, LEAP)
        self._last = now
        return self._passed


class Program:
    """A started program: its pipes, what is left to write to it, when to kill it."""

    def __init__(self, ident: int, head: Head, stdin: bytes, now: float) -> None:
        self.ident = ident
        self.stream = head.get("stream", False)
        self.kept: dict[str, list[bytes]] = {"out": [], "err": []}
        self.pending = bytearray(stdin)
        self.close_stdin = not self.stream
        self.timed_out = False
        self.status: int | None = None
        timeout = head.get("timeout")
        self.deadline = now + timeout if timeout else None
        env = dict(os.environ)
        env.update(head.get("env") or {})
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        self.pipes = {out: "out", err: "err"}
        self.stdin: int | None = None
        stdin_end = subprocess.DEVNULL
        if stdin or self.stream:
            stdin_end, self.stdin = os.pipe()
        try:
            self.popen = subprocess.Popen(
                head["argv"],
                stdin=stdin_end,
                stdout=out_end,
                stderr=err_end,
                cwd=head.get("cwd") or "/root",
                env=env,
                start_new_session=True,
            )
        except BaseException:
            self.close()
            raise
        finally:
            for fd in (out_end, err_end, *([stdin_end] if self.stdin else [])):
                os.close(fd)
        self.pid = self.popen.pid
        for fd in (*self.pipes, *([self.stdin] if self.stdin else [])):
            os.set_blocking(fd, False)

    def close(self) -> None:
        """Close our ends of its pipes."""
        for fd in (*self.pipes, *([self.stdin] if self.stdin else [])):
            os.close(fd)
        self.pipes.clear()
        self.stdin = None

    def signal(self, number: int, group: bool = True) -> None:
        try:
            if group:
                os.killpg(self.pid, number)
            elif self.status is None:
                os.kill(self.pid, number)
        except ProcessLookupError:
            pass


class Agent:
    """All of it: what came, what runs, what is to be said."""

    def __init__(self) -> None:
        self.poll = select.epoll()
        self.fd = os.open(port_path(CONTROL), os.O_RDWR)
        self.kmsg_out = os.open(port_path(KMSG), os.O_WRONLY)
        self.kmsg = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        self.inbox = bytearray()
        self.clock = Clock()
        self.programs: dict[int, Program] = {}
        self.owners: dict[int, Program] = {}  # by file descriptor
        self.wake, write = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        os.set_blocking(self.fd, False)
        for fd in (self.fd, self.wake, self.kmsg):
            self.poll.register(fd, select.EPOLLIN)

    # -- frames

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.fd, view) :]
            except BlockingIOError:
                select.select([], [self.fd], [], 5)

    def send(self, ident: int, head: Head, body: bytes = b"") -> None:
        text = json.dumps({"id": ident, **head}).encode()
        self.write(FRAME.pack(len(text), len(body)) + text + body)

    def receive(self) -> None:
        while True:
            try:
                data = os.read(self.fd, CHUNK)
            except BlockingIOError:
                break
            if not data:  # the host closed its end; it will come back or kill us
                select.select([], [], [], 0.05)
                break
            self.inbox += data
            if len(data) < CHUNK:
                break
        while len(self.inbox) >= FRAME.size:
            nhead, nbody = FRAME.unpack_from(self.inbox)
            total = FRAME.size + nhead + nbody
            if len(self.inbox) < total:
                break
            head = json.loads(self.inbox[FRAME.size : FRAME.size + nhead])
            body = bytes(self.inbox[FRAME.size + nhead : total])
            del self.inbox[:total]
            self.request(head, body)

    # -- requests

    def request(self, head: Head, body: bytes) -> None:
        ident = head["id"]
        try:
            answer, data = getattr(self, "do_" + head["op"])(head, body)
        except OSError as e:
            answer, data = {"error": e.strerror or str(e), "errno": e.errno}, b""
        except Exception as e:  # noqa: BLE001 - the host must hear of it; it is its request
            answer, data = {"error": f"{type(e).__name__}: {e}"}, b""
        if answer is not None:
            self.send(ident, answer, data)

    def do_ping(self, head: Head, body: bytes) -> Answer:
        return {"pid": os.getpid(), "release": os.uname().release}, body

    def do_run(self, head: Head, body: bytes) -> Answer:
        program = Program(head["id"], head, body, self.clock.now())
        self.programs[program.ident] = program
        for fd in program.pipes:
            self.owners[fd] = program
            self.poll.register(fd, select.EPOLLIN)
        if program.stdin is not None:
            self.owners[program.stdin] = program
            self.feed(program)
        return ({"started": program.pid}, b"") if program.stream else (None, b"")

    def do_stdin(self, head: Head, body: bytes) -> Answer:
        program = self.programs.get(head["program"])
        if program is None or program.stdin is None:
            raise BrokenPipeError(errno.EPIPE, "the program's standard input is closed")
        program.pending += body
        program.close_stdin = head.get("close", False)
        self.feed(program)
        return {}, b""

    def do_signal(self, head: Head, body: bytes) -> Answer:
        program = self.programs.get(head["program"])
        if program is not None:
            program.signal(head["signal"], head.get("group", True))
        return {"there": program is not None}, b""

    def do_put(self, head: Head, body: bytes) -> Answer:
        path = head["path"]
        os.makedirs(os.path.dirname(path) or "/", exist_ok=True)
        with open(path, "ab" if head.get("append") else "wb") as file:
            file.write(body)
        os.chmod(path, head.get("mode", 0o644))
        return {}, b""

    def do_get(self, head: Head, body: bytes) -> Answer:
        with open(head["path"], "rb") as file:
            file.seek(head.get("offset", 0))
            data = file.read(head.get("size", 1 << 20))
        return {}, data

    def do_mark(self, head: Head, body: bytes) -> Answer:
        """Send all kernel messages so far, then a line that says so."""
        self.forward_kmsg()
        self.kmsg_write(f"mark {head['token']}\n".encode())
        return {}, b""

    def do_sweep(self, head: Head, body: bytes) -> Answer:
        """Kill every user process but this one and those to `spare`, and name them.

        Below systemd only what we started: the rest is its own, and reset.py's.
        """
        killed = []
        spared = {os.getpid(), *head.get("spare", ())}
        group = None if os.getpid() == 1 else cgroup("self")
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) in spared:
                continue
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    state, _, *rest = file.read().rpartition(b")")[2].split()
                if int(rest[4]) & PF_KTHREAD or state in b"XZ":
                    continue
                if group is not None and cgroup(entry) != group:
                    continue
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    words = file.read().rstrip(b"\0").replace(b"\0", b" ")
                os.kill(int(entry), signal.SIGKILL)
                killed.append(f"{entry} {words.decode(errors='replace')}")
            except (FileNotFoundError, ProcessLookupError):
                pass
        return {"killed": killed}, b""

    def do_shell(self, head: Head, body: bytes) -> Answer:
        """A login shell on the shell port, for a person; one at a time."""
        words = [str(head[key]) for key in ("term", "rows", "columns")]
        argv = [sys.executable, "-S", "-m", "tests.lab.guest_init.shell", *words]
        subprocess.Popen(argv, start_new_session=True)
        return {}, b""

    # -- events

    def feed(self, program: Program) -> None:
        """Write what the program takes of its pending input; close when done and asked to."""
        fd = program.stdin
        if fd is None:
            return
        try:
            while program.pending:
                n = os.write(fd, program.pending[:CHUNK])
                del program.pending[:n]
        except BlockingIOError:
            self.poll_out(fd)
            return
        except BrokenPipeError:
            program.pending.clear()
            program.close_stdin = True
        self.poll_off(fd)
        if program.close_stdin:
            self.forget(fd)
            program.stdin = None

    def forget(self, fd: int) -> None:
        """Close a pipe's end and no longer look at it."""
        self.poll_off(fd)
        self.owners.pop(fd, None)
        os.close(fd)

    def poll_out(self, fd: int) -> None:
        with contextlib.suppress(FileExistsError):
            self.poll.register(fd, select.EPOLLOUT)

    def poll_off(self, fd: int) -> None:
        with contextlib.suppress(OSError):
            self.poll.unregister(fd)

    def drain(self, program: Program, fd: int) -> bool:
        """Take what an output pipe has; whether it came to its end."""
        name = program.pipes[fd]
        while True:
            try:
                data = os.read(fd, CHUNK)
            except BlockingIOError:
                return False
            if not data:
                return True
            if program.stream:
                self.send(program.ident, {"stream": name}, data)
            else:
                program.kept[name].append(data)

    def readable(self, program: Program, fd: int) -> None:
        if self.drain(program, fd):
            del program.pipes[fd]
            self.forget(fd)

    def reap(self) -> None:
        """Collect every dead child; as first process we inherit other people's orphans too."""
        try:
            while os.read(self.wake, 512):
                pass
        except BlockingIOError:
            pass
        ours = {p.pid: p for p in self.programs.values()}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            program = ours.get(pid)
            if program is not None:
                program.status = os.waitstatus_to_exitcode(status)
                program.popen.returncode = program.status
                self.finish(program)

    def finish(self, program: Program) -> None:
        """Answer for a program that has ended, with all that it said.

        A child that it left behind may hold the pipes: its output is not waited for, and it gets
        SIGPIPE when it writes.
        """
        for fd in list(program.pipes):
            self.drain(program, fd)
        for fd in (*program.pipes, *([program.stdin] if program.stdin else [])):
            self.poll_off(fd)
            self.owners.pop(fd, None)
        program.close()
        del self.programs[program.ident]
        out, err = (b"".join(program.kept[k]) for k in ("out", "err"))
        head = {"rc": program.status, "out": len(out), "timed_out": program.timed_out}
        self.send(program.ident, head, out + err)

    def expire(self) -> float | None:
        """Kill the groups of programs that are out of time; how long until the next one is."""
        now = self.clock.now()
        nearest = None
        for program in list(self.programs.values()):
            if program.deadline is None:
                continue
            if program.deadline <= now:
                program.signal(signal.SIGKILL if program.timed_out else signal.SIGTERM)
                program.timed_out = True
                program.deadline = now + KILL_AFTER
            nearest = min(nearest or LEAP / 2, program.deadline - now)
        return nearest

    def forward_kmsg(self) -> None:
        """Pass on kernel messages as the device gives them, one record a read."""
        while True:
            try:
                record = os.read(self.kmsg, 8192)
            except BlockingIOError:
                return
            except OSError as e:
                if e.errno == errno.EPIPE:  # the ring overtook us
                    self.kmsg_write(b"4,0,0,-;lab: kernel messages were lost here\n")
                    continue
                raise
            self.kmsg_write(record)

    def kmsg_write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.kmsg_out, view) :]

    def serve(self) -> NoReturn:
        self.send(0, {"hello": os.uname().release})
        while True:
            left = self.expire()
            try:
                events = self.poll.poll(left)
            except InterruptedError:
                continue
            for fd, _ in events:
                if fd == self.fd:
                    self.receive()
                elif fd == self.kmsg:
                    self.forward_kmsg()
                elif fd == self.wake:
                    self.reap()
                elif fd in self.owners:
                    program = self.owners[fd]
                    if fd == program.stdin:
                        self.feed(program)
                    elif fd in program.pipes:
                        self.readable(program, fd)


if __name__ == "__main__":
    # What tests start is found by PATH and must not inherit -I: only we run isolated.
    os.environ["PYTHONPATH"] = "/manactl/src:/manactl"
    sys.exit(Agent().serve())
