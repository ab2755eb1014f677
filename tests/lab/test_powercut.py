"""The power is cut at any flush of the disk that has the journals: what is left is enough.

A drive may lose whatever it was not told to flush. So the state directory is on a disk whose
writes are logged (blklog.py), and the disk as of each flush is looked at: is what the kernel was
changed by announced there, can it be recovered from, and does a machine that boots with it work?
"""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import blklog
from tests.lab.build import KERNELS
from tests.lab.furnished import Furnished, Shown, furnish
from tests.lab.notes import noted
from tests.lab.users import eventually
from tests.lab.vm import Vm

STATE = "/var/lib/manactl"
NEWEST = [pytest.param(KERNELS[-1], marks=pytest.mark.xdist_group(f"linux-{KERNELS[-1]}"))]
CUTS = 10  # of a whole run, each looked at by a machine that was booted since
DISKS = 20  # that one machine is given
# The acts that outlive manactl, and the record that has to be on the disk before.
ANNOUNCED = {
    "rtnetlink 16 down": ("doing", "set-admin"),
    "rtnetlink 16 up": ("undoing", "set-admin"),
    "rtnetlink 20": ("undoing", "keep-state"),
    "rtnetlink 24": ("undoing", "keep-state"),
    "rtnetlink 28": ("undoing", "keep-state"),
    "rtnetlink 104": ("undoing", "keep-state"),
}
# Where a claim and a release are killed while the disk forgets what it was not told to keep.
MOMENTS = (("claim", "rtnetlink 16 down"), ("release", "rtnetlink 16 up"), ("release", "rename"))
Files = dict[str, bytes]
Boots = Callable[[list[bytes]], Iterator[tuple[Vm, slice]]]


class Disk:
    """A logged disk in a running guest, which has the state directory on it while `mounted`."""

    def __init__(self, vm: Vm, work: Path) -> None:
        self.vm = vm
        self.path, self._log = vm.dir / "logged.img", vm.dir / "logged.log"
        self._work = work
        blklog.make_disk(self.path)
        self._log.touch()
        vm.run("modprobe virtio_blk && modprobe ext4")
        vm.qmp("blockdev-add", **blklog.nodes(self.path, self._log))
        vm.qmp("device_add", driver="virtio-blk-pci", bus="spare", drive="logged", id="logged")
        there = "[ -b /dev/vda1 ] && [ -b /dev/vda2 ]"
        eventually(lambda: vm.run(there, check=False).rc == 0, 60, "the disk to appear")
        self._base, self._since = self.path.read_bytes(), 0

    @contextlib.contextmanager
    def mounted(self) -> Iterator[None]:
        self._base = self.path.read_bytes()
        self._since = len(blklog.Log(self._log, b"").entries) if self._log.stat().st_size else 0
        self.vm.run(f"mkdir -p {STATE} && mount -t ext4 /dev/vda1 {STATE}")
        try:
            yield
        finally:
            self.vm.run(f"umount {STATE}")

    def log(self) -> blklog.Log:
        """What was written since it was last mounted."""
        return blklog.Log(self._log, self._base, self._since)

    def becomes(self, image: bytes) -> None:
        """Let it hold something else; only while it is not mounted, when the guest caches nothing."""
        with self.path.open("r+b") as file:
            file.write(image)

    def files(self, image: bytes) -> Files:
        return blklog.read_tree(image, self._work)


def journal(files: Files) -> bytes | None:
    """The one journal there is, in the history or not; None before there is one."""
    found = [name for name in files if Path(name).suffix == ".journal"]
    assert len(found) <= 1, f"one claim, several journals: {found}"
    return files[found[0]] if found else None


def is_open(files: Files) -> bool:
    return any(n.startswith("claims/") and not n.startswith("claims/.") for n in files)


def records(files: Files) -> list[dict[str, Any]]:
    """The whole lines of the journal but for the header, whose checksums manactl looks at."""
    lines = (journal(files) or b"").split(b"\n")[1:-1]
    return [json.loads(line.rpartition(b"\t")[0]) for line in lines]


def whole_run(one: Furnished, disk: Disk) -> tuple[blklog.Log, dict[int, Files]]:
    """A claim and a release: the log of the disk, and the files as of each flush."""
    with disk.mounted():
        for words in (one.claim, "release"):
            one.well("traced:/dev/vda2", words)
        log = disk.log()
    return log, {number: disk.files(log.disk(number)) for number in log.flushes}


def changes_of(act: str) -> list[str]:
    """Each change of those that went to the kernel at once ("rtnetlink 24+28")."""
    name, _, kinds = act.partition(" ")
    return [f"{name} {kind}" for kind in kinds.split("+")] if name == "rtnetlink" else [act]


def check_announced(log: blklog.Log, files: dict[int, Files]) -> None:
    """Nothing was changed, and no success told, that the disk could still have forgotten."""
    acts = [
        (number, act)
        for number, line in log.marks
        for act in changes_of(line)
        if act.startswith(("rtnetlink", "end"))
    ]
    assert {act for _, act in acts} == {*ANNOUNCED, "end"}, "the run did not do what it should"
    ends = iter(("claimed", "closed"))
    for number, act in acts:
        sure = files[log.sure_before(number)]
        said = {(record["event"], record.get("kind")) for record in records(sure)}
        assert (ANNOUNCED.get(act) or (next(ends), None)) in said, f"{act}: {said}"
    assert not is_open(files[log.flushes[-1]])


def check_whole(files: dict[int, Files]) -> None:
    """From one flush to the next the journal only grows, and it is never not there."""
    seen = [journal(files[number]) for number in sorted(files)]
    began = next(n for n, data in enumerate(seen) if data)
    assert all(data is None for data in seen[:began])
    for data, after in zip(seen[began:], seen[began + 1 :], strict=False):
        assert data, "the journal got lost, or lost its header"
        assert after, "the journal got lost, or lost its header"
        assert after.startswith(data)


def check_recovery(
    one: Furnished, disk: Disk, before: Shown, moments: list[tuple[str, int]]
) -> None:
    """Kill it before these acts, and recover by what the disk was sure to have kept then."""
    for verb, number in moments:
        with disk.mounted():
            if verb == "release":
                one.well("whole", one.claim)
            told = one.run(f"before:{number}:/dev/vda2", one.claim if verb == "claim" else verb)
            assert told["killed"], told
        log = disk.log()
        at = [n for n, _ in log.marks][-2]  # the last one is the end
        sure = log.sure_before(at)
        disk.becomes(log.disk(sure))
        with disk.mounted():
            story = f"{verb} killed before {told['acts'][-2:]}, the disk as of entry {sure}"
            one.put_back(before, story)


def check_boot(vm: Vm, left: list[Files]) -> None:
    """A machine boots after the power cut, with such a disk for its state directory."""
    places = [f"/mnt/{number}" for number in range(len(left))]
    script = "set -e; modprobe virtio_blk; modprobe ext4\n"
    for letter, place in zip("abcdefghijklmnopqrstuvwxyz", places, strict=False):
        script += f"mkdir -p {place}; mount -t ext4 /dev/vd{letter}1 {place}\n"
    vm.run(script)
    with furnish(vm) as one:
        one.without_dad()
        before, _ = one.view()
        for place, files in zip(places, left, strict=True):
            check_one(one, place, files)
        assert one.view()[0] == before, "closing journals of an earlier boot changed something"
        place, option = places[0], f"--state-dir {places[0]}"
        one.well("whole", f"{option} {one.claim}")
        one.well("whole", f"{option} release")
        assert one.view()[0] == before
        assert is_open(left_in(vm, place)) is False


def left_in(vm: Vm, place: str) -> Files:
    """The names that are there; nobody asks for what is in the files."""
    found = vm.run(f"cd {place} && find . -type f").out.split()
    return {name.removeprefix("./"): b"" for name in found}


def check_one(one: Furnished, place: str, files: Files) -> None:
    option = f"--state-dir {place}"
    row = status(one, option)
    over = {record["event"] for record in records(files)} & {"released", "closed"}
    if is_open(files) and not over:
        assert row["claim"] is not None, row
        assert noted(row["notes"], "before-boot"), row
    else:
        assert row["claim"] is None, row
    assert (row["owner"], row["drift"]) == ("ethernet", []), row
    one.well("whole", f"{option} recover")
    left = left_in(one.vm, place)
    assert not is_open(left), left
    assert sum(name.startswith("history/") for name in left) == bool(journal(files)), left


def status(one: Furnished, option: str) -> dict[str, Any]:
    """The row of the claimed port."""
    report = json.loads(one.well("whole", f"{option} status --json")["text"])
    row: dict[str, Any] = next(row for row in report["ports"] if row["port"] == 2)
    return row


@pytest.fixture
def furnished(vm: Vm) -> Iterator[Furnished]:
    with furnish(vm) as one:
        one.without_dad()
        yield one


@pytest.fixture
def boots(make_vm: Callable[..., Vm], kernel: str, tmp_path: Path) -> Boots:
    """Machines that were booted after these cuts, each with the disks of some of them."""

    def boot(cuts: list[bytes]) -> Iterator[tuple[Vm, slice]]:
        for start in range(0, len(cuts), DISKS):
            part = slice(start, start + DISKS)
            disks = []
            for number, image in enumerate(cuts[part]):
                disks.append(tmp_path / f"cut-{start + number}.img")
                disks[-1].write_bytes(image)
            yield make_vm(kernel, disks=disks), part

    return boot


def cut_everywhere(
    one: Furnished,
    work: Path,
    boots: Boots,
    pick: Callable[[list[int]], list[int]],
    moments: Callable[[dict[str, list[str]]], list[tuple[str, int]]],
) -> None:
    before, _ = one.view()
    disk = Disk(one.vm, work)
    log, files = whole_run(one, disk)
    check_announced(log, files)
    check_whole(files)
    acts: dict[str, list[str]] = {"claim": [], "release": []}
    verbs = iter(acts.values())
    mine = next(verbs)
    for _, act in log.marks:
        mine.append(act)
        mine = next(verbs, mine) if act == "end" else mine
    check_recovery(one, disk, before, moments(acts))
    picked = pick(log.flushes)
    images = [log.disk(number) for number in picked]
    for vm, part in boots(images):
        check_boot(vm, [files[number] for number in picked[part]])
    print(f"{len(log.flushes)} flushes, {len(picked)} of them booted from")


@pytest.mark.parametrize("kernel", NEWEST, indirect=True)
def test_power_cuts(furnished: Furnished, boots: Boots, tmp_path: Path, seed: int) -> None:
    def moments(acts: dict[str, list[str]]) -> list[tuple[str, int]]:
        found = []
        for verb, start in MOMENTS:
            which = next(n for n, act in enumerate(acts[verb]) if act.startswith(start))
            found.append((verb, which + 1))
        return found

    def pick(flushes: list[int]) -> list[int]:
        return sorted(random.Random(seed).sample(flushes, CUTS))

    cut_everywhere(furnished, tmp_path, boots, pick, moments)


@pytest.mark.soak
def test_every_power_cut(furnished: Furnished, boots: Boots, tmp_path: Path) -> None:
    def moments(acts: dict[str, list[str]]) -> list[tuple[str, int]]:
        return [(verb, n) for verb in acts for n, act in enumerate(acts[verb]) if act != "end"]

    cut_everywhere(furnished, tmp_path, boots, list, moments)
