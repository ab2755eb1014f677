"""A machine made of files: what tests/data recorded of a real kernel, to be changed and read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from manactl.look.links import LinkFacts
from manactl.look.netns import NetdevInNetns
from manactl.model.port import NoteCode, PortStatus, Report
from manactl.report import Roots, look
from manactl.wire.nldev import RdmaDevice, Resource

DATA = Path(__file__).parents[1] / "data"
PCI = "0000:01:00.0"
NULL = os.stat("/dev/null").st_rdev


def noted(port: PortStatus) -> dict[NoteCode, tuple[object, ...]]:
    """The codes of a port's notes, each with what it names."""
    return {note.code: note.names for note in port.notes}


class FakeRdma:
    """RdmaNetlink with recorded answers; `fail` makes methods raise, `on_ask` runs before each."""

    def __init__(self, recorded: list[dict[str, Any]]) -> None:
        self.recorded = recorded
        self.fail: dict[str, Exception] = {}
        self.on_ask: list[Any] = []

    def _answer(self, what: str, index: int) -> Any:
        for hook in self.on_ask:
            hook(what)
        if what in self.fail:
            raise self.fail[what]
        return next(one[what] for one in self.recorded if one["device"]["dev_index"] == index)

    def devices(self) -> list[RdmaDevice]:
        if "devices" in self.fail:
            raise self.fail["devices"]
        return [RdmaDevice(**one["device"]) for one in self.recorded]

    def summary(self, index: int) -> dict[str, int]:
        return dict(self._answer("summary", index))

    def contexts(self, index: int) -> list[Resource]:
        return [Resource(**one) for one in self._answer("contexts", index)]

    def pds(self, index: int) -> list[Resource]:
        return [Resource(**one) for one in self._answer("pds", index)]

    def cqs(self, index: int) -> list[Resource]:
        return [Resource(**one) for one in self._answer("cqs", index)]

    def raw_qp_tracked(self, index: int) -> bool:
        return bool(self._answer("raw_qp_tracked", index))


@dataclass
class FakeLinks:
    """LinkSource that knows the machine's netdevs, and prepared answers beside and above these.

    None is a kernel that does not answer; `here` are the names in this network namespace, when
    these are not those of sysfs.
    """

    sys: Path
    answers: Mapping[int, LinkFacts] | None = field(default_factory=dict)
    asked: set[int] = field(default_factory=set)
    here: Collection[str] | None = None

    @property
    def net(self) -> Path:
        return self.sys / f"bus/pci/devices/{PCI}/net"

    def ask(self, ifindexes: Iterable[int]) -> None:
        self.asked = set(ifindexes)

    def collect(self) -> Mapping[int, LinkFacts] | None:
        if self.answers is None:
            return None
        known = {}
        for path in self.net.glob("*/ifindex"):
            name = path.parent.name
            if self.here is None or name in self.here:
                carrier = (path.parent / "operstate").read_text() == "up\n"
                known[int(path.read_text())] = LinkFacts(name, (), carrier, None, None, PCI)
        return {**known, **self.answers}

    def index(self, name: str) -> int | None:
        if self.here is not None and name not in self.here:
            return None
        for base in (self.net, self.sys / "class/net"):
            if (base / name / "ifindex").exists():
                return int((base / name / "ifindex").read_text())
        return None


@dataclass
class FakeNetns:
    """NetnsSource with prepared finds, by dev_port; `fail` is raised instead."""

    found: dict[int, NetdevInNetns] = field(default_factory=dict)
    fail: OSError | None = None
    searched: list[Collection[int] | None] = field(default_factory=list)

    def find(self, pci: str, dev_ports: Collection[int] | None) -> Mapping[int, NetdevInNetns]:
        assert pci == PCI
        self.searched.append(dev_ports)
        if self.fail:
            raise self.fail
        if dev_ports is None:
            return self.found
        return {port: where for port, where in self.found.items() if port in dev_ports}


class Machine:
    """A recorded machine under a directory of its own; change its files, then look()."""

    def __init__(self, base: Path, recording: str) -> None:
        self.base = base
        recorded = json.loads((DATA / f"{recording}.json").read_text())
        for path, content in recorded["tree"].items():
            place = self.path(path)
            if isinstance(content, dict):
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(content["link"])
            elif content is None:
                place.mkdir(parents=True, exist_ok=True)
            else:
                self.write(path, content)
        self.path("/proc/1/fd").mkdir(parents=True)
        self.write("/proc/stat", "btime 1700000000\n")
        self.rdma: FakeRdma | None = FakeRdma(recorded["nldev"])
        self.links = FakeLinks(self.path("/sys"))
        self.netns = FakeNetns()
        # The node of the raw device, so that a descriptor of /dev/null is one of it.
        node = "mana_0" if recording.startswith("6.12") else "manae_0"
        for ibdev in self.path(f"/sys/bus/pci/devices/{PCI}/infiniband_verbs").glob("*/ibdev"):
            if ibdev.read_text().strip() == node:
                (ibdev.parent / "dev").write_text(f"{os.major(NULL)}:{os.minor(NULL)}\n")

    def path(self, path: str) -> Path:
        return self.base / path.lstrip("/")

    def pci(self, inside: str) -> Path:
        return self.path(f"/sys/bus/pci/devices/{PCI}/{inside}")

    def write(self, path: str, content: str) -> None:
        place = self.path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode("utf-8", "surrogateescape"))

    def remove(self, path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()

    def holder(self, pid: int, comm: str = "testpmd", cgroup: str = "0::/\n") -> None:
        """A process with the raw device open."""
        base = f"/proc/{pid}"
        self.write(f"{base}/comm", comm + "\n")
        self.write(f"{base}/cgroup", cgroup)
        self.write(f"{base}/status", f"Name:\t{comm}\nUid:\t1000\t0\t0\t0\n")
        after = " ".join(["S", *("0" for _ in range(18)), str(5 * os.sysconf("SC_CLK_TCK")), "0"])
        self.write(f"{base}/stat", f"{pid} ({comm}) {after}\n")
        self.path(f"{base}/fd").mkdir()
        self.path(f"{base}/fd/0").symlink_to("socket:[17]")
        self.path(f"{base}/fd/3").symlink_to("/dev/null")
        self.path(f"{base}/exe").symlink_to("/usr/bin/testpmd")

    def look(self, **more: Any) -> Report:
        roots = Roots(sys=str(self.path("/sys")), proc=str(self.path("/proc")))
        return look(roots, netlink=self.rdma, links=self.links, netns=self.netns, **more)


Make = Callable[[str], Machine]  # by the name of the recording
