"""Processes, from /proc: what stat says of one, and which hold a uverbs character device."""

import contextlib
import os
import re
import stat
from collections.abc import Collection, Iterator
from datetime import UTC, datetime

from manactl.look.text_files import GONE, LACKS, integer, lines, rows, target, text
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import Holder

# Compiled when first used.
_CONTAINER = r"(?:^|[/:_-])([0-9a-f]{64})(?:\.scope)?(?=/|$)"
_UNIT = r"[^/]+\.(?:service|scope|socket|mount|swap)$"
OWN_MOUNTS = "/proc/self/mountinfo"
_USER_MANAGER = r"user@(\d+)\.service"
_PTRACE = 1 << 19  # CAP_SYS_PTRACE
_DELETED = " (deleted)"  # what the kernel puts after a path that may be another file's by now
# What answers for a file out of the kernel's own memory or disks. The server of any other (FUSE,
# NFS), and of what an overlay is made of, may take for ever.
_OWN = frozenset(
    ("devtmpfs", "tmpfs", "ramfs", "rootfs", "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs")
)


# The numbers of fields in proc_pid_stat(5), where the state is the third.
_STATE, _PPID, _FLAGS, _THREADS, _STARTTIME = 3, 4, 9, 20, 22


class Stat:
    """One line of /proc/PID/stat, or of a task's (do_task_stat()). None for a field that it does
    not have: the task has ended, or somebody hides it.

    Of a thousand tasks, status asks for the state alone: fields are made when they are asked for.
    """

    __slots__ = ("_fields", "comm")

    def __init__(self, line: str) -> None:
        # comm, in parentheses, may itself have spaces and parentheses.
        head, end, rest = line.rpartition(")")
        self.comm = head.partition("(")[2]
        self._fields = rest.split(" ", _STARTTIME - _STATE + 2)[1:] if end else []

    @property
    def state(self) -> str | None:
        """One letter: R, S, D (waits and cannot be interrupted), Z, X, I (at rest), ..."""
        return self._fields[0] if self._fields else None

    @property
    def ppid(self) -> int | None:
        return self._number(_PPID)

    @property
    def flags(self) -> int | None:
        """PF_ of include/linux/sched.h."""
        return self._number(_FLAGS)

    @property
    def threads(self) -> int | None:
        return self._number(_THREADS)

    @property
    def starttime(self) -> int | None:
        """In clock ticks after boot: with the pid it is that process, and no later one."""
        return self._number(_STARTTIME)

    def _number(self, field: int) -> int | None:
        try:
            return int(self._fields[field - _STATE])
        except (IndexError, ValueError):
            return None


def stat_of(task: str) -> Stat:
    """What stat says of a task, by its directory: /proc/PID, or /proc/PID/task/TID."""
    return Stat(text(f"{task}/stat") or "")


class Holders(NamedTuple):
    """Who holds each device (by st_rdev). `hidden`: descriptors that we may not look at;
    `unlisted`: not even the processes are shown; `empty`: no process at all.

    `descriptors` counts what was found, of which several may be one open file.
    """

    of: dict[int, tuple[Holder, ...]]
    hidden: bool
    descriptors: dict[int, int]
    unlisted: bool = False
    empty: bool = False


def holders(proc: str, rdevs: Collection[int]) -> Holders:
    """Search every process for descriptors of `rdevs`; processes may end meanwhile.

    OSError when there is no descriptor or memory to search with: then nobody knows.
    """
    pids: dict[int, list[int]] = {rdev: [] for rdev in rdevs}
    counts = dict.fromkeys(rdevs, 0)
    mounts = _mounts(OWN_MOUNTS) if rdevs else {}
    others: set[tuple[int, str]] = set()
    entries = os.listdir(proc) if rdevs else []
    unlisted = bool(rdevs) and _unlisted(proc, entries)
    hidden = unlisted
    for entry in entries:
        if not entry.isdecimal():
            continue
        try:
            found, unseen = _devices(f"{proc}/{entry}", mounts, pids.keys(), others)
        except OSError as error:
            if error.errno in LACKS:
                raise
            # Whatever else keeps us from looking than that it has ended.
            hidden = hidden or not isinstance(error, GONE)
            continue
        hidden = hidden or unseen
        for rdev in set(found):
            pids[rdev].append(int(entry))
            counts[rdev] += found.count(rdev)
    boot = _boot_time(proc)
    described = {pid: describe(proc, pid, boot) for of in pids.values() for pid in of}
    return Holders(
        of={rdev: tuple(described[pid] for pid in sorted(of)) for rdev, of in pids.items()},
        hidden=hidden,
        descriptors=counts,
        unlisted=unlisted,
        empty=unlisted and not any(map(str.isdecimal, entries)),
    )


def _unlisted(proc: str, entries: Collection[str]) -> bool:
    """Whether processes of others are kept from us (hidepid=2, or 4).

    Every pid namespace has a process 1, which is another user's nearly always. Where it is not,
    the option has to tell.
    """
    if "1" not in entries:
        return True
    capabilities = _of_status(text(f"{proc}/self/status") or "", "CapEff") or ""
    if (integer(capabilities, 16) or 0) & _PTRACE:
        return False
    options = ""
    for line in lines(OWN_MOUNTS):
        words = line.split(" ")
        if words[4:5] == [proc]:
            options = words[-1]
    return bool(re.search(r"(?:^|,)hidepid=(?:2|4|invisible|ptraceable)(?:,|$)", options))


def _of_status(status: str, key: str) -> str | None:
    found = re.search(rf"^{key}:\s+(\S+)", status, re.MULTILINE)
    return found[1] if found else None


def describe(proc: str, pid: int, boot: int | None) -> Holder:
    """What /proc says of a process; None for whatever it does not say, or no longer."""
    base = f"{proc}/{pid}"
    cgroup = text(f"{base}/cgroup") or ""
    found = Holder(
        pid=pid,
        comm=text(f"{base}/comm"),
        exe=target(f"{base}/exe"),
        uid=_uid(text(f"{base}/status") or ""),
        unit=None,
        container=None,
        since=_since(stat_of(base), boot),
    )
    return placed(found, cgroup)


def placed(process: Holder, cgroup: str) -> Holder:
    """With the unit and the container that the lines of /proc/PID/cgroup tell."""
    return process._replace(
        unit=unit_of(cgroup), manager=manager_of(cgroup), container=container_of(cgroup)
    )


def unit_of(cgroup: str) -> str | None:
    """The systemd unit in /proc/PID/cgroup: the outermost, since what is below it may be named by
    whom it was delegated to; but below a user's manager, a unit of that."""
    return next((unit for _, unit in map(_unit, _paths(cgroup)) if unit), None)


def manager_of(cgroup: str) -> int | None:
    """The user whose manager has that unit; None for a unit of the system."""
    return next((manager for manager, unit in map(_unit, _paths(cgroup)) if unit), None)


def _unit(path: str) -> tuple[int | None, str | None]:
    """As cg_path_get_unit() and cg_path_get_user_unit() of systemd find them: slices, a unit."""
    parts = [part for part in path.split("/") if part]
    while parts and parts[0].endswith(".slice"):
        del parts[0]
    user = re.fullmatch(_USER_MANAGER, parts[0]) if parts else None
    if user and len(parts) > 1:
        return int(user[1]), _unit("/".join(parts[1:]))[1]
    return None, next((part for part in parts if re.fullmatch(_UNIT, part)), None)


def container_of(cgroup: str) -> str | None:
    """The innermost container's id: 64 hex digits for docker, podman, CRI-O and containerd."""
    for path in _paths(cgroup):
        if found := re.findall(_CONTAINER, path):
            return str(found[-1])
    return None


def _devices(
    process: str,
    mounts: dict[int, tuple[str, bool]],
    wanted: Collection[int],
    others: set[tuple[int, str]],
) -> tuple[list[int], bool]:
    """st_rdev of the wanted device nodes among a process's descriptors; whether one was not looked
    at that may be a uverbs device.

    Only links that can be device nodes are followed, and only on file systems that answer by
    themselves: stat() of a file whose server is gone would never return. An error is that one
    descriptor's. `others` are the files, by mount and path, that this search has seen to be no
    wanted device: daemons have /dev/null open a thousand times.
    """
    found = []
    unseen = False
    more: dict[int, tuple[str, bool]] | None = None
    directory = os.open(f"{process}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in os.listdir(directory):
            try:
                target = os.readlink(name, dir_fd=directory)
                if not (target.startswith("/dev/") or "uverbs" in target):
                    continue
                number = _mount_id(f"{process}/fdinfo/{name}")
                if (number, target) in others:
                    continue
                if number not in mounts and more is None:
                    more = _mounts(f"{process}/mountinfo")  # another mount namespace
                kind, nodev = mounts.get(number) or (more or {}).get(number) or ("", False)
                if number >= 0 and kind not in _OWN:
                    # Where device nodes do not work none can have been opened.
                    unseen = unseen or ("uverbs" in target and not nodev)
                elif (rdev := _rdev(name, directory, number)) is None:
                    continue
                elif rdev in wanted:
                    found.append(rdev)
                elif number >= 0 and not target.endswith(_DELETED):
                    others.add((number, target))
            except OSError as error:
                if error.errno in LACKS:
                    raise
                # It may be closed by now; ESTALE and the like are of file systems without devices.
                unseen = unseen or isinstance(error, PermissionError)
    finally:
        os.close(directory)
    return found, unseen


def _rdev(name: str, directory: int, mount: int) -> int | None:
    """The device of a descriptor that was on this mount a moment ago; None if it is no such any
    more, or no device. The file is held first: then no other can take its number."""
    held = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=directory)
    try:
        if mount >= 0 and _mount_id(f"/proc/self/fdinfo/{held}") != mount:
            return None
        info = os.fstat(held)
        return info.st_rdev if stat.S_ISCHR(info.st_mode) else None
    finally:
        os.close(held)


def _mount_id(fdinfo: str) -> int:
    """-1 when it cannot be read. There may be thousands: hence without a file object."""
    try:
        file = os.open(fdinfo, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in LACKS:
            raise
        return -1
    try:
        data = os.read(file, 4096)
    except OSError as error:
        if error.errno in LACKS:
            raise
        return -1
    finally:
        os.close(file)
    number = data.partition(b"\nmnt_id:")[2].partition(b"\n")[0].strip(b" \t")
    return int(number) if number.isdigit() else -1


def _mounts(mountinfo: str) -> dict[int, tuple[str, bool]]:
    """By mount id: the file system's type, and whether device nodes do not work there."""
    found = {}
    for line in lines(mountinfo):
        words = line.split(" ")
        with contextlib.suppress(ValueError, IndexError):
            options = words[5].split(",")
            found[int(words[0])] = (words[words.index("-") + 1], "nodev" in options)
    return found


def _paths(cgroup: str) -> Iterator[str]:
    """Paths of a cgroup file, the unified or systemd hierarchy first."""
    found = [line.split(":", 2) for line in rows(cgroup) if line.count(":") >= 2]
    found.sort(key=lambda line: line[1] not in ("", "name=systemd"))
    return (line[2] for line in found)


def _uid(status: str) -> int | None:
    """The real uid; the owner of /proc/PID is root's for a process that may not be traced."""
    found = _of_status(status, "Uid")
    return integer(found or "")


def _since(stat: Stat, boot: int | None) -> datetime | None:
    if boot is None or stat.starttime is None:
        return None
    try:
        started = boot + stat.starttime / os.sysconf("SC_CLK_TCK")
        return datetime.fromtimestamp(started, UTC)
    except (OverflowError, ValueError, OSError):  # a file that is not the kernel's
        return None


def _boot_time(proc: str) -> int | None:
    found = re.search(r"^btime (\d+)", text(f"{proc}/stat") or "", re.MULTILINE)
    return integer(found[1]) if found else None
