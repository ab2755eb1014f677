"""The manual's examples, run: each does what its page shows, in the scene that its page names."""

from __future__ import annotations

import contextlib
import re
import signal

import pytest

from tests.man.pages import SCENES, Command, Example, differs, pages

from .agent import Result
from .build import KERNELS
from .scene import AS_NOBODY, becomes, owners, requested, up
from .users import GUEST, User, eventually, user
from .vm import Vm

pytestmark = pytest.mark.wording  # the pages show what is said

newest_kernel = pytest.mark.parametrize(
    "kernel",
    [pytest.param(KERNELS[-1], marks=pytest.mark.xdist_group(f"linux-{KERNELS[-1]}"))],
    indirect=True,
)
HERE = "/tmp/manual"
METRICS = "/var/lib/node_exporter"
FURNISH = f"""set -e
mkdir -p {METRICS}
ln -s $(command -v python3) {HERE}/dpdk-testpmd
ip addr add 10.1.0.4/24 dev eth0
ip route add default via 10.1.0.1
ip addr add 10.2.0.4/24 dev eth1
ip addr add fd00:2::4/64 dev eth1 nodad
ip route add 10.9.0.0/16 via 10.2.0.1
"""
ADDRESS = "fd00:2::4"
JOURNALS = "ls /var/lib/manactl/claims/*.journal"
# What manactl tells of itself where the host is slow.
_SLOW = re.compile(r"^manactl: .*: not done after \d+ s: .*\n", re.MULTILINE)
_LIKE = {"connected": "up", "held": "claimed", "interrupted": "claimed"}  # to the journals


class Stage:
    """The guest, in one scene after the other: eth0 has the default route, eth1 is claimed."""

    def __init__(self, vm: Vm) -> None:
        assert vm.netdevs == {1: "eth0", 2: "eth1"}
        self.vm = vm
        self.scene = "up"
        self._said: dict[tuple[str, str], str] = {}  # by scene and command that changes nothing
        self._others = contextlib.ExitStack()  # programs beside manactl
        self._path = f"{HERE}/bin:{vm.run('echo $PATH').out.strip()}"
        up(vm, 1, 2)
        vm.put(f"{HERE}/bin/manactl", b'#!/bin/sh\nexec python3 -m manactl "$@"\n', 0o755)
        vm.run(FURNISH)
        argv = ["ip", "-6", "-o", "addr", "show", "dev", "eth1", "scope", "link", "-tentative"]
        eventually(lambda: vm.run(argv).out, what="the link-local address of eth1")

    def close(self) -> None:
        self._others.close()
        self.vm.run(["rm", "-r", METRICS])

    def play(self, example: Example) -> list[str]:
        """Run an example; what is not as its page shows it."""
        assert example.scene is not None
        self.set(example.scene)
        wrong = []
        moved = False
        for command in example.commands:
            if said := self._compare(command, again=not (moved or command.changes)):
                wrong.append(f"{example.page}:{example.line}: {command.text}\n  {said}")
            moved = moved or command.changes
        now = "claimed" if self._run(JOURNALS).rc == 0 else "up"
        if now != _LIKE.get(self.scene, self.scene):
            self._now(now)
        return wrong

    def _compare(self, command: Command, *, again: bool) -> str | None:
        """What is wrong; `again`: what it said in this scene before will do."""
        key = (self.scene, command.text)
        said = self._said.get(key) if again else None
        if said is None:
            done = self._run(f"exec 2>&1\n{command.text}", root=command.root)
            if done.rc != command.exit:
                return f"exit status {done.rc}, not {command.exit}:\n{done.out}"
            said = _SLOW.sub("", done.out)
        if again:
            self._said[key] = said
        missing = differs(command.shown, said)
        return missing and f"does not show {missing!r}, but:\n{said}"

    def _run(self, text: str, *, root: bool = True) -> Result:
        env = {"PATH": self._path, "PYTHONPATH": "/manactl/src"}
        argv = ["sh", "-c", text]
        return self.vm.run(argv if root else [*AS_NOBODY, *argv], env=env, check=False)

    def _now(self, scene: str) -> None:
        self._others.close()
        self.scene = scene
        becomes(self.vm, 2, "ethernet" if scene in {"up", "connected"} else "free")

    def set(self, scene: str) -> None:
        """Get from any scene to any other."""
        if scene == self.scene:
            return
        if scene == "held" and self.scene != "claimed":
            self.set("claimed")
        if self.scene in {"claimed", "held", "interrupted"} and scene != "held":
            self._now("claimed")  # by its end a program has let go of the port
            assert self._run("manactl release eth1").rc == 0
        self._now("claimed" if scene == "held" else "up")
        getattr(self, f"_{scene}")()
        self.scene = scene

    def _up(self) -> None:
        pass

    def _claimed(self) -> None:
        done = self._run("manactl claim --raw-qp eth1")
        assert done.rc == 0, done.err
        becomes(self.vm, 2, "free")

    def _held(self) -> None:
        """As by DPDK, under its name; what DPDK itself does is tried elsewhere."""
        process = self.vm.spawn([f"{HERE}/dpdk-testpmd", f"{GUEST}/rawqp.py"])
        self._others.callback(process.kill)
        holder = User(process, "dpdk-testpmd")
        holder.wait_for("ready")
        holder.ask("create 2", "created")

    def _connected(self) -> None:
        enter = self._others.enter_context
        self._others.callback(self._no_connections)
        enter(user(self.vm, "tcp", "serve", ADDRESS, "7000")).wait_for("listening")
        enter(user(self.vm, "tcp", "probe", ADDRESS, "7000")).wait_for("connected")

    def _no_connections(self) -> None:
        """What ended programs had not sent yet the kernel goes on sending, with growing pauses while
        the netdev is down: connections that the next claim would refuse to break."""
        still = ["ss", "-Htn", "src", f"[{ADDRESS}]"]
        self.vm.run(["ss", "-K", *still[1:]])
        assert not (left := self.vm.run(still).out), left

    def _interrupted(self) -> None:
        """Killed while the kernel makes the queue pair of the proof, the netdev down already."""
        self.vm.nic.fault("MANA_CONFIG_VPORT_TX", held=True)
        argv = ["python3", "-m", "manactl", "claim", "--raw-qp", "eth1"]
        claim = self.vm.spawn(argv, env={"PYTHONPATH": "/manactl/src"})
        requested(self.vm, claim.ended)
        claim.signal(signal.SIGKILL)
        assert self.vm.nic.let_go() == 1
        assert claim.wait().rc == -signal.SIGKILL
        self.vm.nic.clear_faults()
        becomes(self.vm, 2, "free")


def first(examples: list[Example], scene: str) -> Example:
    """What to run next: a scene costs time to set, so what changes nothing comes first in each,
    and what is claimed is held before it is released."""

    def cost(example: Example) -> tuple[int, int]:
        assert example.scene is not None
        if example.scene == scene:
            return (2 if example.changes else 0, 0)
        near = (scene, example.scene) == ("claimed", "held")
        return (1 if near else 3, SCENES.index(example.scene))

    return min(examples, key=cost)


@newest_kernel
def test_every_example_does_what_its_page_shows(vm: Vm) -> None:
    examples = [one for page in pages() for one in page.examples if one.scene in SCENES]
    assert {example.scene for example in examples} == set(SCENES)
    wrong = []
    with contextlib.closing(Stage(vm)) as stage:
        while examples:
            example = first(examples, stage.scene)
            examples.remove(example)
            wrong += stage.play(example)
        metrics = vm.get(f"{METRICS}/manactl.prom").decode()
        stage.set("up")
    assert not wrong, "\n\n".join(wrong)
    assert 'manactl_port_owner{pci="0000:01:00.0",port="2",owner="ethernet"} 1' in metrics
    assert owners(vm) == {1: "ethernet", 2: "ethernet"}
