"""A guest with the emulated NIC: start it, run programs in it, hear when it is lost."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import image, qemu, qmp
from .agent import Client, CommandFailed, GuestError, Process, Result
from .errors import HostLacks, LabError, LostVm
from .kmsg import Line, Stream
from .nic.client import NicClient
from .vmbus import build as vmbus_build
from .vmbus.host import Host

__all__ = ["CommandFailed", "GuestError", "LostVm", "Process", "Result", "Vm"]

BOOT_TIMEOUT = 240.0  # seconds; 7 on a quiet host, many times that beside other VMs
TIMEOUT = 180.0  # a command of a second, on a host with ten times more to do than it can
# Loaded before the agent starts; the socket diagnosis modules come on demand.
BOOT_MODULES = ("mana", "mana_ib", "ib_uverbs")
_COMMAND_LINE = (
    "console=ttyS0 loglevel=5 panic=-1 random.trust_cpu=on "
    "nowatchdog rcupdate.rcu_cpu_stall_suppress=1 rcupdate.rcu_expedited=1 tsc=reliable"
)
# By what `systemd` says: what the command line adds. udev names the netdevs, as on a real machine.
_INIT = "rdinit=/init net.ifnames=0"
# Left out is what only costs time: caches made again, RDMA modules that nothing here uses, timers.
_SYSTEMD = (
    "rdinit=/usr/lib/systemd/systemd systemd.unit=lab.target systemd.show_status=no "
    "systemd.condition_needs_update=0 systemd.mask=rdma-load-modules@rdma.service "
    "systemd.mask=man-db.timer systemd.mask=fstrim.timer systemd.mask=dpkg-db-backup.timer "
    "systemd.mask=systemd-tmpfiles-clean.timer"
)
MANAGERS = {
    "networkd": "systemd-networkd.service",
    "NetworkManager": "NetworkManager.service",
}
# Left out is what makes an emulated CPU slower (a fifth in all, seen with Python and iproute2): a
# fifth level of page tables, access checks that change the translation, string instructions that
# "max" calls fast and that are emulated byte by byte, and state of AVX that is saved at a switch.
_CPU = "max,-avx,-avx2,-la57,-smap,-smep,-umip,-pku,-erms,-fsrm,-xsave"
_GUEST_PCI_ID = "1414:00ba"


class Vm:
    """One guest; a context manager. Its parts live in `dir` until it is closed.

    `kernel` is a version prefix; `nic=False` leaves the NIC out, `functions` says how many of it
    there are, each with its own process. Beside its `cpus` are `spare` ones, offline until a test
    wants them. `disks` are raw images, /dev/vda and on once virtio_blk is loaded. `pair` puts the
    first function's ports below hv_netvsc, as on Azure: the VMBus offers a NIC of each port's MAC
    address, and the twins are eth0 and on. `systemd` has systemd as init, with udev and D-Bus:
    "bare", or with the manager that it names ("networkd", "NetworkManager"), which has no
    configuration then but that in `files`. Not for use by several threads.
    """

    def __init__(
        self,
        kernel: str = "7",
        ports: int = 2,
        *,
        rnic: bool = True,
        macs: Sequence[str] | None = None,
        mem: int = 1536,
        nic: bool = True,
        functions: int = 1,
        cpus: int = 2,
        spare: int = 0,
        files: Mapping[str, bytes] | None = None,
        append: str = "",
        nic_args: Sequence[str] = (),
        disks: Sequence[Path] = (),
        pair: bool = False,
        systemd: str = "",
    ) -> None:
        self.prefix = kernel
        self.ports = ports if nic else 0
        self.rnic = rnic
        self._macs = macs or ()
        self._mem = mem
        self._functions = functions if nic else 0
        self.cpus = cpus
        self.spare = spare
        self._files = dict(files or {})
        self._append = append
        self._nic_args = list(nic_args)
        self._disks = list(disks)
        self.paired = pair
        assert systemd in {"", "bare", *MANAGERS}, systemd
        self.systemd = systemd
        self._programs: list[subprocess.Popen[bytes]] = []
        self._sockets: list[socket.socket] = []
        self.nics: list[NicClient] = []  # the account of each function
        self._agent: Client | None = None
        self._messages: Stream | None = None
        self.expected: list[str] = []
        self.tolerated: list[str] = []
        self._test_began = 0
        self.lost: LostVm | None = None
        self.worn = False  # not fit for another test
        self.pooled = False  # it serves many tests
        self.residents: dict[str, Process] = {}  # what the sweep between two tests spares
        self.release = ""
        self.dir = Path()

    # -- life

    def __enter__(self) -> Vm:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def start(self) -> Vm:
        """Boot, and return once the agent answers; a failure leaves nothing behind."""
        program = qemu.ensure()
        kernel = image.kernel(self.prefix)
        tree = image.tree(systemd=bool(self.systemd))
        if self.systemd:
            self._files = image.systemd_files() | self._files
        if self.paired:
            self._files |= vmbus_build.modules(kernel)
        _sweep_directories()
        self.dir = Path(tempfile.mkdtemp(prefix=f"manactl-vm-{os.getpid()}-"))
        try:
            self._start(program, kernel, tree)
        except BaseException:
            self.close(keep=self.lost is not None)
            raise
        return self

    def _start(self, program: qemu.Qemu, kernel: image.Kernel, tree: Path) -> None:
        for number in range(self._functions):
            self._start_nic(number)
        agent, messages = self._listen("agent"), self._listen("kmsg")
        initrd = self.dir / "initramfs.cpio"
        image.initramfs(kernel, tree, initrd, self._files)
        argv = [*program.argv, *self._arguments(kernel, initrd)]
        self._popen("qemu", argv)
        self._agent = Client(self._accept(agent), self._lose)
        self._messages = Stream(self._accept(messages))
        with self._agent.news:
            if not self._agent.wait(lambda: bool(self.agent.hello), BOOT_TIMEOUT):
                raise self._lose(f"no sign of the agent {BOOT_TIMEOUT:.0f} s after the start")
        self.release = self._agent.hello
        initrd.unlink()  # QEMU has read it: the memory is better used otherwise
        if self.paired:
            self.pair()

    def pair(self) -> None:
        """Offer a NIC for each port, then bring the VFs: their twins' names come first."""
        bus = next(path for path in self._files if path.endswith(("hv_vmbus.ko", "vmbus_lab.ko")))
        self.run(["insmod", f"/{bus}"])
        self.run(["modprobe", "hv_netvsc"])
        for mac in [port["mac"] for port in self.nic.state()["vports"]]:
            self.vmbus.offer(mac)
        self.run(["modprobe", "-a", *BOOT_MODULES])
        if self.systemd:
            self.run(["udevadm", "settle"])

    def _start_nic(self, number: int) -> None:
        name = _nic_name(number)
        control, path = self.dir / f"{name}.ctl", self.dir / f"{name}.sock"
        argv = [sys.executable, "-m", "tests.lab.nic", "--socket", str(path)]
        argv += ["--control", str(control), "--ports", str(self.ports)]
        argv += ["--rnic" if self.rnic else "--no-rnic", "--log", str(self.dir / f"{name}.log")]
        paths = [path, control]
        if self.paired and not number:
            paths.append(self.dir / "link.sock")
            argv += ["--link", str(paths[-1])]
        macs = self._macs
        if number:  # the NIC's own choice is the same for each
            macs = [f"02:15:5d:00:{number:02x}:{port:02x}" for port in range(1, self.ports + 1)]
        for mac in macs:
            argv += ["--mac", mac]
        server = self._popen(name, argv + self._nic_args, cwd=image.CHECKOUT)
        deadline, pause = time.monotonic() + 60, 0.01
        while not all(path.exists() for path in paths):
            if server.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"the NIC did not start:\n{self._tail(f'{name}.out')}")
            time.sleep(pause)  # it announces itself by its sockets alone
            pause = min(pause * 1.5, 0.2)
        self.nics.append(NicClient(control))

    def _popen(
        self, name: str, argv: list[str], cwd: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program that the kernel kills when we die, whatever we die of."""
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise HostLacks("setpriv (Debian: util-linux) is not here")
        with (self.dir / f"{name}.out").open("wb") as out:
            program = subprocess.Popen(
                [setpriv, "--pdeathsig", "KILL", *argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                start_new_session=True,
            )
        self._programs.append(program)
        return program

    def _listen(self, name: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        self._sockets.append(sock)
        sock.bind(str(self.dir / f"{name}.sock"))
        sock.listen(1)
        return sock

    def _accept(self, sock: socket.socket) -> socket.socket:
        """QEMU's end of a channel; QEMU connects to all of them before it starts the guest."""
        sock.settimeout(0.2)
        deadline = time.monotonic() + 60
        while True:
            try:
                accepted, _ = sock.accept()
            except TimeoutError:
                if self._programs[-1].poll() is not None or time.monotonic() > deadline:
                    raise self._lose("QEMU did not start") from None
            else:
                accepted.settimeout(None)
                self._sockets.append(accepted)
                return accepted

    def _arguments(self, kernel: image.Kernel, initrd: Path) -> list[str]:
        accel = os.environ.get("MANACTL_LAB_ACCEL", "tcg")
        if accel == "tcg":
            accel = "tcg,thread=multi"
        mem = f"{self._mem}M"
        modules = "" if self.paired else ",".join(BOOT_MODULES)
        append = f"{_COMMAND_LINE} {self._init()} lab.modules={modules} {self._append}".strip()
        if self.spare:  # no program runs on them either: several CPUs are slow to emulate
            append += f" maxcpus={self.cpus} isolcpus={self.cpus}-{self.cpus + self.spare - 1}"
        argv = ["-name", self.dir.name, "-accel", accel, "-machine", "q35,memory-backend=mem"]
        argv += ["-object", f"memory-backend-memfd,id=mem,size={mem},share=on", "-m", mem]
        argv += [
            "-cpu",
            _CPU,
            "-smp",
            str(self.cpus + self.spare),
            "-nodefaults",
            "-display",
            "none",
        ]
        argv += ["-no-reboot", "-net", "none"]
        argv += ["-kernel", str(kernel.vmlinuz), "-initrd", str(initrd), "-append", append]
        argv += ["-chardev", f"file,id=console,path={self.dir}/console.log"]
        argv += ["-serial", "chardev:console", "-device", "virtio-serial-pci"]
        argv += ["-qmp", f"unix:{self.dir}/qmp.sock,server=on,wait=off"]
        for name in ("agent", "kmsg"):
            argv += ["-chardev", f"socket,id={name},path={self.dir}/{name}.sock"]
            argv += ["-device", f"virtserialport,chardev={name},name=manactl.{name}"]
        argv += ["-chardev", f"socket,id=shell,path={self.dir}/shell.sock,server=on,wait=off"]
        argv += ["-device", "virtserialport,chardev=shell,name=manactl.shell"]
        for number in range(self._functions):
            nic = self.dir / f"{_nic_name(number)}.sock"
            device = f'{{"driver":"vfio-user-pci","bus":"rp{number}","id":"nic{number}",'
            device += f'"socket":{{"path":"{nic}","type":"unix"}}}}'
            # The root port gives the NIC a slot, which mana of 6.18 takes for granted.
            place = f"id=rp{number},slot={number + 1},chassis={number + 1}"
            argv += ["-device", f"pcie-root-port,{place}", "-device", device]
        if self.paired:  # on the root bus: slots have names, by which hv_netvsc pairs
            link = f'"socket":{{"path":"{self.dir}/link.sock","type":"unix"}}'
            argv += ["-device", f'{{"driver":"vfio-user-pci","id":"link",{link}}}']
        spare = self._functions + 1
        argv += ["-device", f"pcie-root-port,id=spare,slot={spare},chassis={spare}"]
        for number, disk in enumerate(self._disks):
            argv += ["-drive", f"if=none,id=disk{number},format=raw,file={disk}"]
            argv += ["-device", f"virtio-blk-pci,drive=disk{number}"]
        return argv

    def _init(self) -> str:
        """What the kernel's command line says of the first process."""
        if not self.systemd:
            return _INIT
        words = [_SYSTEMD]
        if self.systemd in MANAGERS:
            words.append(f"systemd.wants={MANAGERS[self.systemd]}")
        if self.paired:  # udev would load them before the twins are there
            words.append("modprobe.blacklist=mana,mana_ib")
        return " ".join(words)

    def close(self, *, keep: bool = False) -> None:
        """End everything that belongs to this VM; its directory too, but for `keep`."""
        for nic in self.nics:
            nic.close()
        self.nics.clear()
        for part in (self._agent, self._messages):
            if part is not None:
                part.close()
        for sock in self._sockets:
            sock.close()
        for program in reversed(self._programs):
            if program.poll() is None:
                program.kill()
            program.wait()
        self._programs.clear()
        if self.dir != Path() and not keep:
            shutil.rmtree(self.dir, ignore_errors=True)

    def _lose(self, why: str) -> LostVm:
        """The exception for a VM that is no more; the first reason counts."""
        if self.lost is None:
            self._let_die()
            names = [*(_nic_name(number) for number in range(self._functions)), "qemu"]
            for program, name in zip(self._programs, names, strict=False):
                code = program.poll()
                if code is not None:
                    why += f"; {name} ended with {code}: {self._tail(f'{name}.out', 5)}"
            self.lost = LostVm(why, self._tail("console.log"))
        return self.lost

    def _let_die(self) -> None:
        """A channel closes a moment before QEMU has ended; its exit code is worth that moment."""
        if self._programs and self._agent is not None and self._agent.closed:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._programs[-1].wait(5)

    def _tail(self, name: str, lines: int = 60) -> str:
        try:
            text = (self.dir / name).read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.replace("\r", "").splitlines()[-lines:])

    # -- parts

    @property
    def pid(self) -> int:
        """Process id of QEMU."""
        return self._programs[-1].pid

    @property
    def agent(self) -> Client:
        if self.lost is not None:
            raise self.lost
        assert self._agent is not None, "the VM is not started"
        return self._agent

    @property
    def nic(self) -> NicClient:
        """The NIC's own account of what the drivers did."""
        assert self.nics, "a VM without NIC"
        return self.nics[0]

    @property
    def vmbus(self) -> Host:
        """The host's side of the pairs; only with `pair`."""
        assert self.paired, "a VM without VMBus"

        def put(path: str, text: str) -> None:
            self.run(["sh", "-c", 'printf %s "$2" > "$1"', "sh", path, text])

        return Host(self.get, put)

    @property
    def nic_control(self) -> Path:
        """The NIC's control socket, which answers from outside as well."""
        return self.dir / "nic.ctl"

    @property
    def nic_log(self) -> Path:
        return self.dir / "nic.log"

    # -- programs and files

    def run(
        self,
        argv: Sequence[str] | str,
        *,
        input: bytes | str | None = None,
        timeout: float = TIMEOUT,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> Result:
        """Run a program (a string: by the shell) to its end; CommandFailed unless it succeeds.

        At `timeout` its process group gets SIGTERM, a second later SIGKILL.
        """
        words = ["sh", "-c", argv] if isinstance(argv, str) else [str(word) for word in argv]
        data = input.encode() if isinstance(input, str) else (input or b"")
        result = self.agent.run(words, data, timeout, env=dict(env or {}), cwd=cwd)
        return result.check() if check else result

    def spawn(
        self,
        argv: Sequence[str] | str,
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float | None = None,
    ) -> Process:
        """Start a program in the background; it is ended by the reset at the latest."""
        words = ["sh", "-c", argv] if isinstance(argv, str) else [str(word) for word in argv]
        return self.agent.spawn(words, env=dict(env or {}), cwd=cwd, timeout=timeout)

    def manactl(self, *args: str, **more: Any) -> Result:
        """Run manactl from the checkout, by default not minding its exit code."""
        more.setdefault("check", False)
        return self.run(["python3", "-m", "manactl", *args], **more)

    def sweep(self, timeout: float = 30) -> list[str]:
        """Kill every process but the agent and the residents; their command lines.

        Returns when they are gone.
        """
        deadline, pause = time.monotonic() + timeout, 0.02
        found: list[str] = []
        spare = [process.pid for process in self.residents.values()]
        while True:
            head, _ = self.agent.request("sweep", spare=spare)
            found += [line for line in head["killed"] if line not in found]
            if not head["killed"]:
                return found
            if time.monotonic() > deadline:
                raise self._lose(f"processes that cannot be killed: {head['killed']}")
            time.sleep(pause)  # dying takes the kernel a moment: queue pairs are torn down
            pause = min(pause * 2, 0.5)

    def put(self, path: str, data: bytes | str, mode: int = 0o644) -> None:
        self.agent.put(path, data.encode() if isinstance(data, str) else data, mode)

    def get(self, path: str) -> bytes:
        return self.agent.get(path)

    # -- kernel messages

    def dmesg_mark(self) -> int:
        """Where the kernel's messages are now, for kmsg(since)."""
        assert self._messages is not None
        token = os.urandom(8).hex()
        self.agent.request("mark", token=token)
        if not self._messages.wait_mark(token, 60):
            raise self._lose("the stream of kernel messages stopped")
        return len(self._messages.lines)

    def kmsg(self, since: int = 0) -> list[Line]:
        """Kernel messages from the mark `since` up to now."""
        until = self.dmesg_mark()
        assert self._messages is not None
        return self._messages.lines[since:until]

    def wait_kmsg(self, pattern: str, since: int = 0, timeout: float = 60) -> Line:
        """The first kernel message that `pattern` is found in; CommandFailed when none comes."""
        assert self._messages is not None
        found = self._messages.wait_for(
            lambda line: bool(re.search(pattern, line.text)), since, timeout
        )
        if found is None:
            raise CommandFailed(f"no kernel message {pattern!r} within {timeout:.0f} s")
        return found

    def expect_kmsg(self, *patterns: str) -> None:
        """Declare bad kernel lines (each a regular expression for the whole line) of this test.

        They must come, and the VM is not used again: a kernel that warned once may not do so twice.
        """
        self.expected += patterns

    def tolerate_kmsg(self, *patterns: str) -> None:
        """As expect_kmsg() for what depends on the speed of the host: they may come."""
        self.tolerated += patterns

    def begin_test(self) -> None:
        """From here on kernel messages count for the next test."""
        self.expected.clear()
        self.tolerated.clear()
        self._test_began = self.dmesg_mark()

    def kmsg_of_test(self) -> list[Line]:
        """Kernel messages since begin_test()."""
        return self.kmsg(self._test_began)

    # -- the device

    @property
    def pci(self) -> str:
        """PCI address of the NIC; of the first when there are several."""
        return next(iter(self.pcis), "")

    @property
    def pcis(self) -> list[str]:
        """PCI addresses of all functions, in the order of `nics`."""
        vendor, device = _GUEST_PCI_ID.split(":")
        script = (
            "cd /sys/bus/pci/devices; for d in *; do "
            f'[ "$(cat $d/vendor)$(cat $d/device)" = 0x{vendor}0x{device} ] && echo $d; done; :'
        )
        return sorted(self.run(script).out.split())

    @property
    def netdevs(self) -> dict[int, str]:
        """Port number (from 1) -> the netdev's name, of ports in the first network namespace."""
        script = "cd /sys/bus/pci/drivers/mana && for n in */net/*; do "
        script += 'echo "$(cat $n/dev_port) ${n##*/}"; done'
        found = {}
        for line in self.run(script, check=False).out.splitlines():
            number, _, name = line.rpartition(" ")
            if number and name != "*":  # else it went while it was looked at
                found[int(number) + 1] = name
        return dict(sorted(found.items()))

    @property
    def twins(self) -> dict[int, str]:
        """Port number (from 1) -> the hv_netvsc netdev of a port whose netdev is in `netdevs`."""
        ports = {self.address(name): number for number, name in self.netdevs.items()}
        script = "cd /sys/bus/vmbus/drivers/hv_netvsc && ls -d */net/* 2>/dev/null"
        names = [line.split("/")[2] for line in self.run(script, check=False).out.splitlines()]
        found = {ports[mac]: name for name in names if (mac := self.address(name)) in ports}
        return dict(sorted(found.items()))

    def address(self, netdev: str) -> str:
        """MAC address of a netdev in the first network namespace."""
        return self.get(f"/sys/class/net/{netdev}/address").decode().strip()

    def qmp(self, command: str, **arguments: Any) -> Any:
        """One QMP command, e.g. qmp("device_del", id="nic0")."""
        return qmp.execute(self.dir / "qmp.sock", command, arguments)


def _nic_name(number: int) -> str:
    return f"nic{number}" if number else "nic"


def _sweep_directories() -> None:
    """Remove what guests of killed test processes left; the kernel ended the guests themselves."""
    for path in Path(tempfile.gettempdir()).glob("manactl-vm-*"):
        pid = path.name.split("-")[2]
        if path.stat().st_uid == os.getuid() and not Path("/proc", pid).exists():
            shutil.rmtree(path, ignore_errors=True)
