"""Processes that hold a uverbs character device, from /proc."""

import os
import re
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from manactl.model.port import Holder

# Compiled when first used.
_CONTAINER = r"(?:^|[/:_-])([0-9a-f]{64})(?:\.scope)?(?=/|$)"
_UNIT = r"[^/]+\.(?:service|scope|socket|mount|swap)$"


class Holders(NamedTuple):
    """Who holds each device (by st_rdev). `hidden`: descriptors that we may not look at.

    `descriptors` counts what was found, of which several may be one open file.
    """

    of: dict[int, tuple[Holder, ...]]
    hidden: bool
    descriptors: dict[int, int]


def holders(proc: str, rdevs: Collection[int]) -> Holders:
    """Search every process for descriptors of `rdevs`; processes may end meanwhile."""
    pids: dict[int, list[int]] = {rdev: [] for rdev in rdevs}
    counts = dict.fromkeys(rdevs, 0)
    hidden = False
    for entry in os.listdir(proc) if rdevs else ():
        if not entry.isdecimal():
            continue
        try:
            found = [rdev for rdev in _devices(f"{proc}/{entry}/fd") if rdev in pids]
        except PermissionError:
            hidden = True
            continue
        except (FileNotFoundError, ProcessLookupError):
            continue
        for rdev in set(found):
            pids[rdev].append(int(entry))
            counts[rdev] += found.count(rdev)
    boot = _boot_time(proc)
    described = {pid: describe(proc, pid, boot) for of in pids.values() for pid in of}
    return Holders(
        of={rdev: tuple(described[pid] for pid in sorted(of)) for rdev, of in pids.items()},
        hidden=hidden,
        descriptors=counts,
    )


def describe(proc: str, pid: int, boot: int | None) -> Holder:
    """What /proc says of a process; None for whatever it does not say, or no longer."""
    base = f"{proc}/{pid}"
    cgroup = _text(f"{base}/cgroup") or ""
    return Holder(
        pid=pid,
        comm=_text(f"{base}/comm"),
        exe=_link(f"{base}/exe"),
        uid=_uid(_text(f"{base}/status") or ""),
        unit=unit_of(cgroup),
        container=container_of(cgroup),
        since=_since(_text(f"{base}/stat") or "", boot),
    )


def unit_of(cgroup: str) -> str | None:
    """The innermost systemd unit in /proc/PID/cgroup."""
    for path in _paths(cgroup):
        for part in reversed(path.split("/")):
            if re.fullmatch(_UNIT, part):
                return part
    return None


def container_of(cgroup: str) -> str | None:
    """The innermost container's id: 64 hex digits for docker, podman, CRI-O and containerd."""
    for path in _paths(cgroup):
        if found := re.findall(_CONTAINER, path):
            return str(found[-1])
    return None


def _devices(fd_dir: str) -> Iterator[int]:
    """st_rdev of the device nodes among a process's descriptors.

    Only links that can be device nodes are followed: stat() of a file on a network file system
    whose server is gone would never return.
    """
    directory = os.open(fd_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in os.listdir(directory):
            try:
                target = os.readlink(name, dir_fd=directory)
                if target.startswith("/dev/") or "uverbs" in target:
                    yield os.stat(name, dir_fd=directory).st_rdev
            except (FileNotFoundError, ProcessLookupError):
                continue
    finally:
        os.close(directory)


def _paths(cgroup: str) -> Iterator[str]:
    """Paths of a cgroup file, the unified or systemd hierarchy first."""
    lines = [line.split(":", 2) for line in cgroup.splitlines() if line.count(":") >= 2]
    lines.sort(key=lambda line: line[1] not in ("", "name=systemd"))
    return (line[2] for line in lines)


def _uid(status: str) -> int | None:
    """The real uid; the owner of /proc/PID is root's for a process that may not be traced."""
    found = re.search(r"^Uid:\s+(\d+)", status, re.MULTILINE)
    return int(found[1]) if found else None


def _since(stat: str, boot: int | None) -> datetime | None:
    """Start time: field 22 of /proc/PID/stat, in clock ticks after boot."""
    # comm, in parentheses, may itself contain spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    if boot is None or len(fields) < 20:
        return None
    started = boot + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return datetime.fromtimestamp(started, UTC)


def _boot_time(proc: str) -> int | None:
    found = re.search(r"^btime (\d+)", _text(f"{proc}/stat") or "", re.MULTILINE)
    return int(found[1]) if found else None


def _text(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8", "surrogateescape")
    except OSError:
        return None
    return text.removesuffix("\n")


def _link(path: str) -> str | None:
    try:
        return os.fsdecode(os.readlink(path))
    except OSError:
        return None
