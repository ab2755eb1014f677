"""A random walk over everything that changes a port's owner, with a judge beside it.

Nothing here knows how manactl finds its answers: the judge compares `status --json` with the NIC's
record of who programmed each vport, and with which programs the walk itself has running.
"""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from jsonschema.protocols import Validator

from tests.lab.judge import judge
from tests.lab.scene import Row, names_every_port, owners
from tests.lab.users import User, eventually, user
from tests.lab.vm import Vm

AWAY = "walk-away"  # the network namespace that netdevs are moved to
BOND = "walk-bond"
MOST_RAW, MOST_RNIC = 3, 1  # programs at a time
SETTLE = 20.0  # s for the vports to stop changing hands after an action

Action = Callable[[], str]


@dataclass
class Raw:
    """One raw-QP program: the ports of its queue pairs by id, and the processes that share them."""

    user: User
    end: contextlib.ExitStack
    pid: int
    qps: dict[int, int] = field(default_factory=dict)
    children: dict[int, bool] = field(default_factory=dict)  # whether it has the device open
    netns: str | None = None  # None: the first network namespace
    opened: bool = False
    parent_lives: bool = True

    @property
    def pids(self) -> set[int]:
        return {*self.children, *([self.pid] if self.parent_lives else [])}

    @property
    def holders(self) -> set[int]:
        found = {pid for pid, shares in self.children.items() if shares}
        return found | ({self.pid} if self.opened and self.parent_lives else set())


@dataclass
class Other:
    """A program whose inside is of no interest: testpmd, or a user of the RNIC."""

    user: User
    end: contextlib.ExitStack
    pid: int
    pairs: list[int] = field(default_factory=list)


class World:
    """The guest as the walk has arranged it; a context manager that puts it all back."""

    def __init__(self, vm: Vm, rng: random.Random) -> None:
        self.vm = vm
        self.rng = rng
        self.first_names = vm.netdevs
        self.names = dict(self.first_names)
        self.macs = {v["index"] + 1: v["mac"] for v in vm.nic.state()["vports"]}
        self.pci = vm.pci
        self.bond = BOND
        self.elsewhere = AWAY
        self.away: set[int] = set()
        self.bonded: set[int] = set()
        self.exclusive = False  # each RDMA device belongs to one network namespace
        self.rdma_away: set[str] = set()  # those that are in AWAY
        self.debugfs = True  # mounted
        self.hidepid = 0
        self.raws: list[Raw] = []
        self.rnics: list[Other] = []
        self.testpmd: Other | None = None
        self.testpmds = 0
        self.renames = 0
        self.owners = owners(vm)
        self.tells_every_port = names_every_port(vm)
        self.devices = rdma_devices(vm)
        self.bonding = self._bond()
        self.looks, self.end_of_looks = self._start("looks")
        self.looks.wait_for("ready")

    def __enter__(self) -> World:
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.ExitStack() as undo:
            undo.callback(self._show_all)
            if self.bonding:
                undo.callback(self.vm.run, ["ip", "link", "del", BOND], check=False)
            for port, name in self.first_names.items():
                undo.callback(self._put_back, port, name)
            programs: list[Raw | Other] = [*self.raws, *self.rnics]
            programs += [self.testpmd] if self.testpmd else []
            for program in programs:
                undo.callback(program.end.close)
            undo.callback(self.end_of_looks.close)

    def _show_all(self) -> None:
        if not self.debugfs:
            self.toggle_debugfs()
        if self.hidepid:
            self.hide_processes()
        for device in sorted(self.rdma_away):
            self.move_rdma(device)
        if self.exclusive:
            self._without_namespaces("shared")

    def _put_back(self, port: int, name: str) -> None:
        if port in self.bonded:
            self.link(port, "nomaster")
        if port in self.away:
            self.link(port, "netns", "1")
            self.away.remove(port)
        self.link(port, "down")
        if self.names[port] != name:
            self.link(port, "name", name)

    def _bond(self) -> bool:
        """A bond for one port; the driver cannot change MAC addresses, so the bond takes its."""
        make = (
            f"modprobe bonding && ip link add {BOND} type bond mode active-backup fail_over_mac 1"
        )
        return bool(self.vm.run(make, check=False).rc == 0)

    def status(self) -> Row:
        """`status --json`, in a process of its own."""
        fact = self.looks.ask("look", "looked")
        assert fact["rc"] == 0, fact["err"]
        document: Row = json.loads(fact["out"])
        return document

    def link(self, port: int, *words: str) -> str:
        """`ip link set` of the port wherever it is; "" or the complaint."""
        where = ["-n", AWAY] if port in self.away else []
        argv = ["ip", *where, "link", "set", self.names[port], *words]
        result = self.vm.run(argv, check=False)
        return "" if result.rc == 0 else f" ({result.err.strip()})"

    # -- what the judge asks

    def master(self, port: int) -> str | None:
        """The netdev that the port's is enslaved to."""
        return self.bond if port in self.bonded else None

    def agrees_above(self, port: int, upper: Row) -> None:
        """What status says of the master must be so."""

    # -- which actions are possible now

    def actions(self) -> Iterator[tuple[float, Action]]:
        """What can be done next, with weights."""
        yield 2, self.set_up
        yield 3, self.set_down
        yield 0.7, self.rename
        yield 0.8, self.move
        if self.away:
            yield 1.5, self.bring_back
        if self.bonding:
            yield 0.6, self.release if self.bonded else self.enslave
        yield 0.5, self.toggle_debugfs
        yield 0.3, self.hide_processes
        if not self.exclusive:
            yield 0.8, self.go_exclusive
        else:
            yield 0.3, self.go_shared
            if self.testpmd is None:
                yield 3 if self.rdma_away else 1.5, self.move_some_rdma
        if len(self.raws) < MOST_RAW:
            yield 2, self.start_raw
        if any(raw.parent_lives for raw in self.raws):
            yield 8 if "free" in self.owners.values() else 0.7, self.create
            yield 0.8, self.fork
        if any(raw.qps and raw.parent_lives for raw in self.raws):
            yield 4, self.destroy
        if self.raws:
            yield 1.2, self.kill
            yield 0.8, self.quit
        if len(self.rnics) < MOST_RNIC:
            if self.devices["rnic"] not in self.rdma_away:
                yield 1, self.start_rnic
        else:
            yield 3 if self.owners[1] == "ethernet" else 0.3, self.connect
            yield 0.5, self.stop_rnic
        if self.testpmd is not None:
            yield 3, self.stop_testpmd
        elif self.testpmds < 1 and self._fit_for_testpmd():
            yield 0.6, self.start_testpmd

    def step(self) -> str:
        """Do something; what was done."""
        weights, actions = zip(*self.actions(), strict=True)
        (action,) = self.rng.choices(actions, weights)
        done: str = action()
        self.settle()
        return done

    def settle(self) -> None:
        """Wait until the NIC has nothing to do about owners any more."""
        deadline, pause = time.monotonic() + SETTLE, 0.02
        while (now := owners(self.vm)) != self.owners:
            self.owners = now
            assert time.monotonic() < deadline, f"the owners keep changing: {now}"
            time.sleep(pause)

    # -- netdevs

    def _port(self) -> int:
        return self.rng.choice(sorted(self.names))

    def set_up(self) -> str:
        port = self._port()
        return f"port {port} up{self.link(port, 'up')}"

    def set_down(self) -> str:
        port = self._port()
        return f"port {port} down{self.link(port, 'down')}"

    def rename(self) -> str:
        port = self._port()
        self.renames += 1
        name = f"walk{self.renames}p{port}"
        if trouble := self.link(port, "name", name):
            return f"port {port} not renamed{trouble}"
        self.names[port] = name
        return f"port {port} renamed to {name}"

    def move(self) -> str:
        self.vm.run(f"ip netns list | grep -q {AWAY} || ip netns add {AWAY}")
        port = self.rng.choice(sorted(set(self.names) - self.away or self.names))
        if port in self.bonded and self.owners[port] == "raw-qp":
            # The bond would set its member's MTU, and crash the 7.x kernel with the raw QP's end.
            return self.release()
        trouble = self.link(port, "netns", "1" if port in self.away else AWAY)
        if not trouble:
            self.away ^= {port}
            self.bonded.discard(port)  # a device that leaves its namespace leaves its master
        return f"port {port} moved to{'' if port in self.away else ' or from'} {AWAY}{trouble}"

    def bring_back(self) -> str:
        port = self.rng.choice(sorted(self.away))
        trouble = self.link(port, "netns", "1")
        assert not trouble, trouble
        self.away.remove(port)
        return f"port {port} moved back"

    def enslave(self) -> str:
        port = self.rng.choice(sorted(set(self.names) - self.away or self.names))
        self.link(port, "down")
        trouble = self.link(port, "master", BOND)
        if not trouble:
            self.bonded.add(port)
        return f"port {port} enslaved{trouble}"

    def release(self) -> str:
        port = self.bonded.pop()
        return f"port {port} released from its bond{self.link(port, 'nomaster')}"

    # -- raw queue pairs

    def start_raw(self) -> str:
        """Where its device is; while that is seen everywhere, in the first namespace."""
        netns = AWAY if self.devices["raw"] in self.rdma_away else None
        program, end = self._start("rawqp", self.devices["raw"], netns=netns)
        pid = program.wait_for("ready")["pid"]
        self.raws.append(Raw(program, end, pid, netns=netns))
        return f"raw-QP program {pid} started in {netns or 'the first namespace'}"

    def create(self) -> str:
        raw = self.rng.choice([raw for raw in self.raws if raw.parent_lives])
        free = [port for port, owner in self.owners.items() if owner == "free"]
        port = self.rng.choice(free) if free and self.rng.random() < 0.95 else self._port()
        raw.user.say(f"create {port}")
        fact = raw.user.hear()
        raw.opened = raw.opened or fact.get("where") != "open"
        if fact["event"] != "created":
            return f"{raw.pid} refused port {port}: {fact['where']} {fact['name']}"
        raw.qps[fact["id"]] = port
        return f"{raw.pid} made a raw QP on port {port}"

    def destroy(self) -> str:
        raw = self.rng.choice([raw for raw in self.raws if raw.qps and raw.parent_lives])
        number = self.rng.choice(sorted(raw.qps))
        raw.user.ask(f"destroy {number}", "destroyed")
        return f"{raw.pid} destroyed its raw QP on port {raw.qps.pop(number)}"

    def fork(self) -> str:
        raw = self.rng.choice([raw for raw in self.raws if raw.parent_lives])
        child = raw.user.ask("fork", "forked")["pid"]
        raw.children[child] = raw.opened
        return f"{raw.pid} forked {child}"

    def kill(self) -> str:
        """One process of a program dies: the parent with children alive, or a child."""
        raw = self.rng.choice(self.raws)
        pid = self.rng.choice(sorted(raw.pids))
        self.vm.run(["kill", "-9", str(pid)])
        self._gone(pid)
        if pid == raw.pid:
            raw.parent_lives = False
        else:
            del raw.children[pid]
        self._forget(raw)
        return f"{pid} killed, of {raw.pid}'s family"

    def quit(self) -> str:
        raw = self.rng.choice(self.raws)
        if not raw.parent_lives:
            for pid in raw.pids:
                self.vm.run(["kill", "-9", str(pid)])
                self._gone(pid)
            raw.children.clear()
        else:
            how = self.rng.choice(["quit", "exit"])
            raw.user.ask(how, "leaving")
            self._gone(raw.pid)
            raw.parent_lives = False
        self._forget(raw)
        return f"{raw.pid} left"

    def _forget(self, raw: Raw) -> None:
        if not raw.pids:
            raw.end.close()
            self.raws.remove(raw)

    # -- other programs

    def start_rnic(self) -> str:
        program, end = self._start("rnic", self.devices["rnic"])
        fact = program.wait_for("ready")
        self.rnics.append(Other(program, end, fact["pid"]))
        return f"RNIC program {fact['pid']} started with {fact['made']}"

    def connect(self) -> str:
        """RC queue pairs to RTS, or gone again; without an address on port 1 it is refused."""
        other = self.rng.choice(self.rnics)
        if other.pairs and self.rng.random() < 0.5:
            number = other.pairs.pop(self.rng.randrange(len(other.pairs)))
            other.user.ask(f"drop {number}", "dropped")
            return f"{other.pid} dropped RC pair {number}"
        other.user.say("pair 1")
        fact = other.user.hear()
        if fact["event"] != "paired":
            return f"{other.pid} could not connect RC queue pairs: {fact['failure']}"
        assert fact["states"] == [fact["rts"]] * 2
        other.pairs.append(fact["id"])
        return f"{other.pid} has a pair of RC queue pairs in RTS"

    def stop_rnic(self) -> str:
        other = self.rnics.pop()
        other.end.close()
        self._gone(other.pid)
        return f"RNIC program {other.pid} killed"

    def _fit_for_testpmd(self) -> list[int]:
        if self.rdma_away:
            return []
        return [
            port
            for port, owner in self.owners.items()
            if owner == "free" and port not in self.away | self.bonded
        ]

    def start_testpmd(self) -> str:
        port = self.rng.choice(self._fit_for_testpmd())
        self.testpmds += 1
        program, end = self._start("testpmd", self.pci, self.macs[port])
        fact = program.hear(240)
        if fact["event"] != "ready":
            end.close()
            return f"testpmd did not start on port {port}: {fact['output'][-300:]}"
        self.testpmd = Other(program, end, fact["pid"])
        return f"testpmd {fact['pid']} runs on port {port}"

    def stop_testpmd(self) -> str:
        assert self.testpmd is not None
        how = self.rng.choice(["quit", "kill"])
        self.testpmd.user.ask(how, "ended", 120)
        self.testpmd.end.close()
        pid, self.testpmd = self.testpmd.pid, None
        self._gone(pid)
        return f"testpmd {pid} ended by {how}"

    def _start(
        self, name: str, *words: str, netns: str | None = None
    ) -> tuple[User, contextlib.ExitStack]:
        end = contextlib.ExitStack()
        return end.enter_context(user(self.vm, name, *words, netns=netns)), end

    # -- what can be seen

    def toggle_debugfs(self) -> str:
        self.debugfs = not self.debugfs
        place = "/sys/kernel/debug"
        self.vm.run(f"mount -t debugfs none {place}" if self.debugfs else f"umount {place}")
        return f"debugfs {'mounted' if self.debugfs else 'unmounted'}"

    def hide_processes(self) -> str:
        self.hidepid = 0 if self.hidepid else 2
        self.vm.run(f"mount -o remount,hidepid={self.hidepid} /proc")
        return f"/proc remounted with hidepid={self.hidepid}"

    def go_exclusive(self) -> str:
        if trouble := self._without_namespaces("exclusive"):
            return f"RDMA namespaces not exclusive: {trouble}"
        self.exclusive = True
        return "RDMA namespaces exclusive"

    def go_shared(self) -> str:
        if trouble := self._without_namespaces("shared"):
            return f"RDMA namespaces not shared: {trouble}"
        self.exclusive = False
        return "RDMA namespaces shared"

    def _without_namespaces(self, mode: str) -> str:
        """Change how RDMA devices belong to namespaces, which only the first one may be there for."""
        if self.away or self.rdma_away or any(raw.netns for raw in self.raws):
            return f"{AWAY} is in use"
        self.vm.run(f"ip netns list | grep -q {AWAY} && ip netns del {AWAY}", check=False)
        done = f"rdma system set netns {mode}"
        eventually(lambda: self.vm.run(done, check=False).rc == 0, 30, done)
        return ""

    def move_some_rdma(self) -> str:
        """Either device, to the other namespace or back; what was open on it goes."""
        return self.move_rdma(self.rng.choice(sorted(set(self.devices.values()))))

    def move_rdma(self, device: str) -> str:
        self.vm.run(f"ip netns list | grep -q {AWAY} || ip netns add {AWAY}")
        while self.rnics and device == self.devices["rnic"]:
            self.stop_rnic()  # libibverbs is not prepared for it
        away = device in self.rdma_away
        there = ["ip", "netns", "exec", AWAY] if away else []
        target = "../../proc/1/ns/net" if away else AWAY  # a name in /run/netns
        self.vm.run([*there, "rdma", "dev", "set", device, "netns", target])
        self.rdma_away ^= {device}
        if device == self.devices["raw"]:
            for raw in self.raws:
                raw.qps.clear()
        return f"{device} moved {'back' if away else f'to {AWAY}'}"

    def _gone(self, pid: int) -> None:
        """Wait until the process has let go of everything; its parent may never reap it."""
        script = f"[ -e /proc/{pid} ] && ! grep -q '^State:.*[ZX] ' /proc/{pid}/status"
        eventually(
            lambda: self.vm.run(script, check=False).rc != 0, 60, f"process {pid} to be dead"
        )


def rdma_devices(vm: Vm) -> dict[str, str]:
    """The devices that RC and raw queue pairs are made on: the one with a node GUID, and without."""
    script = "cd /sys/class/infiniband && for d in *; do echo $d $(cat $d/node_guid); done"
    guids: list[Any] = [line.split() for line in vm.run(script).out.splitlines()]
    zero = "0000:0000:0000:0000"
    rnic = [name for name, guid in guids if guid != zero] or [guids[0][0]]
    raw = [name for name, guid in guids if guid == zero] or rnic
    return {"rnic": rnic[0], "raw": raw[0]}


def walk(vm: Vm, steps: int, seed: int, schema: Validator, world_of: type[World] = World) -> None:
    """Take `steps` random steps and judge after each; on failure the way there is told."""
    history: list[str] = []
    with world_of(vm, random.Random(seed)) as world:
        try:
            judge(world, schema)
            for number in range(1, steps + 1):
                done = world.step()
                history.append(f"{number:4} {done:70} {_short(world.owners)}")
                print(history[-1], flush=True)
                judge(world, schema)
        except BaseException as error:
            tail = "\n".join(history[-60:])
            error.add_note(f"MANACTL_SEED={seed}; the way there:\n{tail}\nholders: {world.raws}")
            raise


def _short(truth: dict[int, str]) -> str:
    if len(truth) > 4:
        return " ".join(f"{port}:{owner}" for port, owner in truth.items() if owner != "free")
    return " ".join(truth.values())
