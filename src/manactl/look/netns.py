"""Ports whose netdev lives in another network namespace, found there without a lock of the driver.

sysfs shows the netdevs of the namespace that it was mounted in. So a child process enters one
namespace after the other, mounts a sysfs of its own over /sys, where nobody else sees it, and
reads the same files as here. Only root may do that.
"""

import _socket  # `socket` makes enums, which no other part of status needs
import contextlib
import errno
import functools
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from manactl.look import sysfs
from manactl.look.forked import Child
from manactl.look.sysfs import Roots
from manactl.look.text_files import LACKS, lines, names
from manactl.model.claim import NetnsId
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import Netdev

if TYPE_CHECKING:
    import ctypes

CLONE_NEWNET, CLONE_NEWNS = 0x40000000, 0x00020000  # include/uapi/linux/sched.h
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8  # include/uapi/linux/mount.h
MS_REC, MS_PRIVATE = 1 << 14, 1 << 18
MNT_DETACH = 2

NAMED = "/run/netns"  # where `ip netns` keeps them
WAIT = 2.0  # s; a namespace takes less than a millisecond
_LONGEST = 15.0  # s, while the child that searches is seen to run
_MOUNT_ROOT, _MOUNT_POINT = 3, 4  # of /proc/PID/mountinfo, which has spaces and the like in octal
_OCTAL = r"\\([0-7]{3})"
SO_NETNS_COOKIE = 71  # include/uapi/asm-generic/socket.h


class NetdevInNetns(NamedTuple):
    """A port's netdev and the namespace that it is in: its `ip netns` name, or a path to it.

    An empty name is our own: found there, but not in the /sys that we were given.
    """

    netns: str
    netdev: Netdev
    inode: int | None = None  # of the namespace


class Namespace(NamedTuple):
    """Where to find a network namespace, and which it was when it was listed."""

    name: str
    path: str
    inode: int


class NetnsSource(Protocol):
    """Answers where the netdevs of a function are that our /sys does not show."""

    def find(self, pci: str, dev_ports: Collection[int] | None) -> Mapping[int, NetdevInNetns]:
        """By dev_port those of `dev_ports` that were found, None for all that there are; OSError
        when the search could not be made."""


def own(proc: str = "/proc") -> NetnsId:
    """The network namespace that this process is in."""
    cookie = None
    with contextlib.suppress(OSError):
        any_one = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        try:
            answer = any_one.getsockopt(_socket.SOL_SOCKET, SO_NETNS_COOKIE, 8)
        finally:
            any_one.close()
        cookie = int.from_bytes(answer, sys.byteorder)
    return NetnsId(_inode(f"{proc}/self/ns/net"), cookie)


def find(wanted: NetnsId, proc: str = "/proc", named: str = NAMED) -> Namespace | None:
    """That namespace, where a name, a process or a mount leads to it. Only root finds all."""
    for place in namespaces(proc, named):
        if place.inode != wanted.inode:
            continue
        # Another one may have got the number; what cannot be entered is taken for it.
        cookie = Child(functools.partial(_cookie_of, place)).collect(WAIT, _LONGEST)
        if not isinstance(cookie, int) or wanted.is_same(NetnsId(place.inode, cookie)):
            return place
    return None


def _cookie_of(place: Namespace) -> int | None:
    os.close(enter(place))
    return own().cookie


class OtherNamespaces:
    """NetnsSource that searches every namespace with a name, a process or a mount."""

    def __init__(self, roots: Roots, named: str = NAMED, wait: float = WAIT) -> None:
        self._roots = roots
        self._named = named
        self._wait = wait

    def find(self, pci: str, dev_ports: Collection[int] | None) -> Mapping[int, NetdevInNetns]:
        if os.geteuid():
            raise PermissionError(errno.EPERM, "only root may look into all of them")
        places = list(namespaces(self._roots.proc, self._named))
        wanted = None if dev_ports is None else set(dev_ports)
        answer = Child(lambda: _search(places, pci, wanted)).collect(
            self._wait, max(self._wait, _LONGEST)
        )
        if not isinstance(answer, dict):
            raise TimeoutError(errno.ETIMEDOUT, "the search did not end in time")
        if answer["error"]:
            raise OSError(answer["error"], os.strerror(answer["error"]))
        return {
            dev_port: NetdevInNetns(netns, Netdev(*fields), inode)
            for dev_port, (netns, inode, fields) in answer["found"].items()
        }


def namespaces(proc: str, named: str) -> Iterator[Namespace]:
    """Every network namespace once: our own, which is nameless, then those that have a name."""
    seen: set[int] = set()
    for name, path in [("", f"{proc}/self/ns/net"), *_places(proc, named)]:
        inode = _inode(path)
        if inode is not None and inode not in seen:
            seen.add(inode)
            yield Namespace(name, path, inode)


def _places(proc: str, named: str) -> Iterator[tuple[str, str]]:
    for name in sorted(names(named)):
        yield name, f"{named}/{name}"
    pids = sorted(int(entry) for entry in names(proc) if entry.isdecimal())
    for pid in pids:
        path = f"{proc}/{pid}/ns/net"
        yield path, path
    import re  # noqa: PLC0415 - only for a port whose netdev is not here

    for line in lines(f"{proc}/self/mountinfo"):  # those that Docker keeps, for one
        words = line.split(" ")
        if len(words) > _MOUNT_POINT and words[_MOUNT_ROOT].startswith("net:["):
            path = re.sub(_OCTAL, lambda code: chr(int(code[1], 8)), words[_MOUNT_POINT])
            yield path, path


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError as error:
        if error.errno in LACKS:
            raise
        return None


def _search(places: Collection[Namespace], pci: str, wanted: set[int] | None) -> dict[str, object]:
    """What the child finds, as plain values; `error` is an errno that ended the search."""
    found: dict[int, tuple[str, int, tuple[object, ...]]] = {}
    try:
        libc = _libc()
        _check(libc.unshare(CLONE_NEWNS))
        _check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
        # On top of itself no file system can be mounted, and /sys may be of one of the places.
        _check(libc.mount(b"tmpfs", b"/sys", b"tmpfs", 0, None))
        for place in places:
            try:
                _enter(libc, place)
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has gone since
            for port in sysfs.netdevs(Roots(), pci):
                if wanted is None or port.dev_port in wanted:
                    found[port.dev_port] = (place.name, place.inode, tuple(port.netdev))
            _check(libc.umount2(b"/sys", MNT_DETACH))
            if wanted is not None and len(found) == len(wanted):
                break
    except OSError as error:
        return {"error": error.errno or errno.EIO, "found": {}}
    return {"error": 0, "found": found}


def enter(place: Namespace) -> int:
    """Enter it, and return its descriptor. FileNotFoundError, ProcessLookupError: it has gone."""
    fd = os.open(place.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_ino != place.inode:  # another process has got the pid
            raise ProcessLookupError(errno.ESRCH, place.path)
        set_namespace(fd)
    except BaseException as error:
        os.close(fd)
        # `ip netns add` leaves a plain file where its mount is lost, or in another mount namespace.
        if isinstance(error, OSError) and error.errno == errno.EINVAL:
            raise ProcessLookupError(errno.ESRCH, place.path) from error
        raise
    return fd


def set_namespace(fd: int) -> None:
    _check(_libc().setns(fd, CLONE_NEWNET))


def _enter(libc: "ctypes.CDLL", place: Namespace) -> None:
    os.close(enter(place))
    flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
    _check(libc.mount(b"sysfs", b"/sys", b"sysfs", flags, None))


def _libc() -> "ctypes.CDLL":
    import ctypes  # noqa: PLC0415 - only for a port whose netdev is not here

    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    import ctypes  # noqa: PLC0415

    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
