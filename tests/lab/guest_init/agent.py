"""The lab's hand in the guest: first process, runs what the host asks over virtio-serial.

One frame, either way: the lengths of a JSON header and of a binary body (two big-endian u32), then
both. Requests carry an "id" that answers repeat; a program's output and end are answered under the
id of the request that started it. Stdlib only, one thread, no state but the running programs.
"""

import errno
import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time

CONTROL = "manactl.agent"
KMSG = "manactl.kmsg"
SHELL = "manactl.shell"
FRAME = struct.Struct("!II")
CHUNK = 65536
PF_KTHREAD = 0x00200000  # include/linux/sched.h
KILL_AFTER = 1.0  # seconds between a polite and a forced end of a program that timed out


def port_path(name, patience=20.0):
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


class Program:
    """A started program: its pipes, what is left to write to it, when to kill it."""

    def __init__(self, ident, head, stdin):
        self.ident = ident
        self.stream = head.get("stream", False)
        self.kept = {"out": [], "err": []}
        self.pending = bytearray(stdin)
        self.close_stdin = not self.stream
        self.timed_out = False
        self.status = None
        timeout = head.get("timeout")
        self.deadline = time.monotonic() + timeout if timeout else None
        env = dict(os.environ)
        env.update(head.get("env") or {})
        stdin_fd = subprocess.PIPE if stdin or self.stream else subprocess.DEVNULL
        self.popen = subprocess.Popen(
            head["argv"],
            stdin=stdin_fd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=head.get("cwd") or "/root",
            env=env,
            start_new_session=True,
            bufsize=0,
        )
        self.pid = self.popen.pid
        self.pipes = {self.popen.stdout.fileno(): "out", self.popen.stderr.fileno(): "err"}
        self.stdin = self.popen.stdin.fileno() if self.popen.stdin else None
        if self.stdin is not None:
            os.set_blocking(self.stdin, False)

    def signal(self, number, group=True):
        try:
            if group:
                os.killpg(self.pid, number)
            elif self.status is None:
                os.kill(self.pid, number)
        except ProcessLookupError:
            pass


class Agent:
    def __init__(self):
        self.poll = select.epoll()
        self.fd = os.open(port_path(CONTROL), os.O_RDWR)
        self.kmsg_out = os.open(port_path(KMSG), os.O_WRONLY)
        self.kmsg = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        self.inbox = bytearray()
        self.programs = {}  # id -> Program
        self.owners = {}  # file descriptor -> Program
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

    def write(self, data):
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.fd, view) :]
            except BlockingIOError:
                select.select([], [self.fd], [], 5)

    def send(self, ident, head, body=b""):
        text = json.dumps({"id": ident, **head}).encode()
        self.write(FRAME.pack(len(text), len(body)) + text + body)

    def receive(self):
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

    def request(self, head, body):
        ident = head["id"]
        try:
            answer, data = getattr(self, "do_" + head["op"])(head, body)
        except OSError as e:
            answer, data = {"error": e.strerror or str(e), "errno": e.errno}, b""
        except Exception as e:  # the host must hear of it; it is its request
            answer, data = {"error": f"{type(e).__name__}: {e}"}, b""
        if answer is not None:
            self.send(ident, answer, data)

    def do_ping(self, head, body):
        return {"pid": os.getpid(), "release": os.uname().release}, body

    def do_run(self, head, body):
        program = Program(head["id"], head, body)
        self.programs[program.ident] = program
        for fd in program.pipes:
            os.set_blocking(fd, False)
            self.owners[fd] = program
            self.poll.register(fd, select.EPOLLIN)
        if program.stdin is not None:
            self.owners[program.stdin] = program
            self.feed(program)
        return ({"started": program.pid}, b"") if program.stream else (None, b"")

    def do_stdin(self, head, body):
        program = self.programs.get(head["program"])
        if program is None or program.stdin is None:
            raise BrokenPipeError(errno.EPIPE, "the program's standard input is closed")
        program.pending += body
        program.close_stdin = head.get("close", False)
        self.feed(program)
        return {}, b""

    def do_signal(self, head, body):
        program = self.programs.get(head["program"])
        if program is not None:
            program.signal(head["signal"], head.get("group", True))
        return {"there": program is not None}, b""

    def do_put(self, head, body):
        path = head["path"]
        os.makedirs(os.path.dirname(path) or "/", exist_ok=True)
        with open(path, "ab" if head.get("append") else "wb") as file:
            file.write(body)
        os.chmod(path, head.get("mode", 0o644))
        return {}, b""

    def do_get(self, head, body):
        with open(head["path"], "rb") as file:
            file.seek(head.get("offset", 0))
            data = file.read(head.get("size", 1 << 20))
        return {}, data

    def do_mark(self, head, body):
        """Send all kernel messages so far, then a line that says so."""
        self.forward_kmsg()
        self.kmsg_write(f"mark {head['token']}\n".encode())
        return {}, b""

    def do_sweep(self, head, body):
        """Kill every user process but this one, and name them."""
        killed = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    state, _, *rest = file.read().rpartition(b")")[2].split()
                if int(rest[4]) & PF_KTHREAD or state in b"XZ":
                    continue
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    words = file.read().rstrip(b"\0").replace(b"\0", b" ")
                os.kill(int(entry), signal.SIGKILL)
                killed.append(f"{entry} {words.decode(errors='replace')}")
            except (FileNotFoundError, ProcessLookupError):
                pass
        return {"killed": killed}, b""

    def do_shell(self, head, body):
        """A login shell on the shell port, for a person; one at a time."""
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                fd = os.open(port_path(SHELL), os.O_RDWR)
                shell(fd, head)
            finally:
                os._exit(1)
        return {"pid": pid}, b""

    # -- events

    def feed(self, program):
        """Write what the program takes of its pending input; close when done and asked to."""
        fd = program.stdin
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
            self.owners.pop(fd, None)
            program.popen.stdin.close()
            program.stdin = None

    def poll_out(self, fd):
        try:
            self.poll.register(fd, select.EPOLLOUT)
        except FileExistsError:
            pass

    def poll_off(self, fd):
        try:
            self.poll.unregister(fd)
        except (FileNotFoundError, ValueError, OSError):
            pass

    def drain(self, program, fd):
        """Read an output pipe to its end or till empty."""
        name = program.pipes[fd]
        while True:
            try:
                data = os.read(fd, CHUNK)
            except BlockingIOError:
                return
            if not data:
                self.drop_pipe(program, fd)
                return
            if program.stream:
                self.send(program.ident, {"stream": name}, data)
            else:
                program.kept[name].append(data)

    def drop_pipe(self, program, fd):
        self.poll_off(fd)
        self.owners.pop(fd, None)
        name = program.pipes.pop(fd)
        (program.popen.stdout if name == "out" else program.popen.stderr).close()
        self.finish(program)

    def reap(self):
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

    def finish(self, program):
        """Answer for a program that is dead and whose output has come to its end.

        A child that it left behind may hold the pipes: its output is not waited for.
        """
        if program.status is None or program.ident not in self.programs:
            return
        for fd in list(program.pipes):
            try:
                self.last_words(program, fd)
            except OSError:
                pass
        del self.programs[program.ident]
        if program.stdin is not None:
            self.poll_off(program.stdin)
            self.owners.pop(program.stdin, None)
            program.popen.stdin.close()
            program.stdin = None
        out, err = (b"".join(program.kept[k]) for k in ("out", "err"))
        head = {"rc": program.status, "out": len(out), "timed_out": program.timed_out}
        self.send(program.ident, head, out + err)

    def last_words(self, program, fd):
        name = program.pipes[fd]
        while True:
            try:
                data = os.read(fd, CHUNK)
            except BlockingIOError:
                break
            if not data:
                break
            if program.stream:
                self.send(program.ident, {"stream": name}, data)
            else:
                program.kept[name].append(data)
        self.poll_off(fd)
        self.owners.pop(fd, None)
        del program.pipes[fd]
        (program.popen.stdout if name == "out" else program.popen.stderr).close()

    def expire(self):
        """Kill the groups of programs that are out of time; how long until the next one is."""
        now = time.monotonic()
        nearest = None
        for program in list(self.programs.values()):
            if program.deadline is None:
                continue
            if program.deadline <= now:
                program.signal(signal.SIGKILL if program.timed_out else signal.SIGTERM)
                program.timed_out = True
                program.deadline = now + KILL_AFTER
            left = program.deadline - now
            nearest = left if nearest is None else min(nearest, left)
        return nearest

    def forward_kmsg(self):
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

    def kmsg_write(self, data):
        view = memoryview(data)
        while view:
            view = view[os.write(self.kmsg_out, view) :]

    def serve(self):
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
                        self.drain(program, fd)


def shell(port, head):
    """Join a login shell on a pseudo terminal to the port until either ends."""
    import pty

    pid, master = pty.fork()
    if pid == 0:
        os.environ.update(
            TERM=head.get("term", "linux"), PYTHONPATH="/manactl/src", PS1="\\h:\\w\\$ "
        )
        os.chdir("/root")
        os.execvp("bash", ["bash", "--rcfile", "/lab/bashrc", "-i"])
    size = struct.pack("HHHH", head.get("rows", 24), head.get("columns", 80), 0, 0)
    fcntl.ioctl(master, termios.TIOCSWINSZ, size)
    while True:
        ready, _, _ = select.select([port, master], [], [])
        try:
            if master in ready:
                data = os.read(master, CHUNK)
                if not data:
                    break
                while data:
                    data = data[os.write(port, data) :]
            if port in ready:
                data = os.read(port, CHUNK)
                if not data:
                    os.kill(pid, signal.SIGHUP)
                    break
                os.write(master, data)
        except OSError:
            break
    os.write(port, b"\r\n[the shell ended]\r\n\0")
    os._exit(0)


if __name__ == "__main__":
    # What tests start is found by PATH and must not inherit -I: only we run isolated.
    os.environ["PYTHONPATH"] = "/manactl/src:/manactl"
    sys.exit(Agent().serve())
