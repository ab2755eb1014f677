"""Storage that is reached over a port though no process has a socket for it: file systems that are
mounted from servers, disks behind NVMe/TCP, iSCSI, RBD and AoE. The kernel connects when somebody
reads or writes, so an idle one has no connection that could be found.

A server's address is in the mount's options or in sysfs; the kernel is asked where it leads.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from manactl.look.rtnetlink import ntop
from manactl.look.sockets import Reach
from manactl.look.ssh import end
from manactl.look.text_files import fields, lines, read, rows, text, unescaped
from manactl.model.named_tuple import NamedTuple
from manactl.netstate.surroundings import RemoteStorage

_NFS = frozenset({"nfs", "nfs4"})
# The type of a file system, and what people call it.
_KINDS = {
    "nfs": "NFS", "nfs4": "NFS", "cifs": "SMB", "smb3": "SMB", "ceph": "Ceph", "9p": "9P",
    "lustre": "Lustre", "afs": "AFS", "pvfs2": "OrangeFS", "beegfs": "BeeGFS",
}  # fmt: skip
_ENDED = (errno.ENOENT, errno.ESRCH, errno.EINVAL)  # of a process that ends
_NID = re.compile(r"([^@,]+)@(?:tcp|o2ib)\d*")  # of LNet
_MON = re.compile(r"(\[[0-9A-Fa-f:.]+\]|\d+(?:\.\d+){3})(?::\d+)?")  # of Ceph
_LNET_ELSEWHERE = re.compile(r"@(?:lo|gni|kfi|ptlf)\d*")


class Ways(Protocol):
    """What is asked of rtnetlink."""

    def leaves_by(self, address: bytes, *, source: bytes = b"", bound: int = 0) -> set[int]: ...


class Server(NamedTuple):
    """Where storage is reached: the server's address as it is written, our own one where it is
    bound to it. No address: it is not known. `netdev`: what it is bound to; AoE has nothing else."""

    kind: str
    address: str | None
    where: str  # the mount point, or the disk
    source: str = ""
    netdev: str = ""


def storage(
    reach: Reach,
    rtnl: Ways,
    proc: Path = Path("/proc"),
    sys: Path = Path("/sys"),
    *,
    names: Collection[str] = (),
    netns: str | None = None,
) -> list[RemoteStorage]:
    """What of this network namespace is reached over the port, or may be: a server whose address is
    not known counts. `names` are the port's and its uppers'. Disks are those of whoever has the
    disk's driver, so they are looked up in the first namespace alone.

    OSError or ValueError where a table cannot be read.
    """
    # A child that has entered the namespace has brought the mounts of another one.
    servers = list(mounted(proc, without=() if netns is None else (os.getpid(),)))
    if netns is None:
        servers += disks(sys)
    known: dict[tuple[str | None, str], bool] = {}
    found = []
    for one in servers:
        asked = one.address, one.source
        if one.netdev in names:
            through = True
        elif one.netdev and one.address is None:
            through = False
        elif asked in known:
            through = known[asked]
        else:
            through = known[asked] = _through(*asked, reach, rtnl)
        if through:
            found.append(RemoteStorage(one.kind, one.address, one.where, netns))
    return list(dict.fromkeys(found))


def _through(address: str | None, source: str, reach: Reach, rtnl: Ways) -> bool:
    there, here = end(address or ""), end(source)
    if there is None or there.zone is None:
        return True  # it is not known
    if here is not None and here.address.packed in reach.addresses:
        return True
    own = b"" if here is None else here.address.packed
    try:
        out = rtnl.leaves_by(there.address.packed, source=own, bound=there.zone)
    except OSError:
        return True
    return not out.isdisjoint(reach.ifindexes)


# --- file systems -----------------------------------------------------------------------------


def mounted(proc: Path = Path("/proc"), without: Collection[int] = ()) -> Iterator[Server]:
    """The servers of the file systems that are mounted in this network namespace: in all mount
    namespaces that have a process in it. Where the kernel knows none of their types nothing is
    read."""
    types = {fields(line)[-1] for line in rows(read(proc / "filesystems"))}
    if types.isdisjoint(_KINDS):
        return
    seen = set()
    for table in _tables(proc, without):
        for line in rows(table):
            for one in _servers(line, proc):
                if one not in seen:
                    seen.add(one)
                    yield one
    if not types.isdisjoint(_NFS):
        # The list has link-local addresses without their zone.
        yield from _nfs_clients(proc, {(one.address or "").partition("%")[0] for one in seen})


def _tables(proc: Path, without: Collection[int]) -> Iterator[str]:
    """The mount tables, one of each mount namespace and root in it: a process whose root was changed
    sees what is below that alone (show_mountinfo()). Not by way of the processes `without`."""
    mine = os.readlink(proc / "self/ns/net")
    done: set[tuple[str, str]] = set()
    places = (one for one in proc.iterdir() if one.name.isdigit())
    for place in places:
        if int(place.name) in without:
            continue
        try:
            if os.readlink(place / "ns/net") != mine:
                continue
            seen = os.readlink(place / "ns/mnt"), os.readlink(place / "root")
            if seen not in done:
                done.add(seen)
                yield read(place / "mountinfo")
        except OSError as error:
            if error.errno not in _ENDED:
                raise


def _servers(line: str, proc: Path) -> list[Server]:
    """Those of one line of mountinfo (show_mountinfo()); none of what is mounted from here."""
    before, _, after = line.partition(" - ")
    words, rest = fields(before), fields(after)
    if len(words) < 5 or len(rest) < 2 or rest[0] not in _KINDS:
        return []
    kind, source = rest[0], unescaped(rest[1])
    pairs = (pair.partition("=")[::2] for pair in ",".join(rest[2:]).split(","))
    options = {key: unescaped(value) for key, value in pairs}
    addresses, own = _addresses(kind, source, options, proc)
    where = unescaped(words[4])
    return [Server(_KINDS[kind], one, where, own) for one in addresses]


def _addresses(
    kind: str, source: str, options: dict[str, str], proc: Path
) -> tuple[Iterable[str | None], str]:
    """The servers' addresses, and our own one where it is bound. None: one that is not known."""
    found: list[str] = []
    match kind:
        case "nfs" | "nfs4":
            found = [options.get("addr", "")]
        case "cifs" | "smb3":
            return [options.get("addr") or None], options.get("srcaddr", "")
        case "ceph":  # until 5.17 the monitors are in the source
            found = _monitors(options.get("mon_addr", "") or source.partition(":/")[0])
        case "9p":
            if options.get("trans", "") not in ("tcp", "rdma"):
                return [], ""  # of a hypervisor, or a program's descriptors
            found = [source]
        case "lustre":
            if _LNET_ELSEWHERE.search(source) and not _NID.search(source):
                return [], ""
            found = [one.lstrip(":") for one in _NID.findall(source)]
            found = [one.rpartition("/")[2] for one in found]
        case "afs":
            found = _afs(proc)
    return (one or None for one in found or [""]), ""


def _monitors(words: str) -> list[str]:
    return [one.strip("[]") for one in _MON.findall(words)]


def _afs(proc: Path) -> list[str]:
    """The servers that the kernel's AFS knows, of all cells."""
    listed = lines(proc / "self/net/afs/servers")
    words = [_without_port(word) for line in listed for word in fields(line)]
    return [word for word in words if end(word) is not None]


def _without_port(word: str) -> str:
    """%pISpc, with a mark behind it (afs_proc_servers_show())."""
    address, _, port = word.rpartition(":")
    return address.strip("[]") if port.rstrip("*!").isdecimal() else ""


def _nfs_clients(proc: Path, known: Collection[str]) -> Iterator[Server]:
    """Servers that NFS has beside those of mounts: of data (pNFS), of other paths
    (nfs_server_list_show())."""
    try:
        table = rows(read(proc / "self/net/nfsfs/servers"))[1:]
    except FileNotFoundError:
        return  # the module is not loaded
    for row in map(fields, table):
        _, raw, _, _, *name = row
        there = end(ntop(bytes.fromhex(raw)))
        if there is not None and str(there.address) not in known:
            yield Server("NFS", str(there.address), " ".join(name))


# --- disks ------------------------------------------------------------------------------------


def disks(sys: Path = Path("/sys")) -> Iterator[Server]:
    """Those behind NVMe/TCP, iSCSI, RBD and AoE. Of a driver that is not there nothing is read."""
    for place in _entries(sys / "class/nvme"):
        if text(str(place / "transport")) == "tcp":
            words = (text(str(place / "address")) or "").split(",")
            parts = dict(word.partition("=")[::2] for word in words)
            own = parts.get("host_traddr", "") or parts.get("src_addr", "")
            there, bound = parts.get("traddr") or None, parts.get("host_iface", "")
            yield Server("NVMe/TCP", there, place.name, own, bound if there else "")
    for place in _entries(sys / "class/iscsi_connection"):
        there = text(str(place / "persistent_address")) or text(str(place / "address"))
        own = text(str(place / "local_ipaddr")) or ""
        session = place.name.replace("connection", "session").partition(":")[0]
        target = text(str(sys / "class/iscsi_session" / session / "targetname"))
        # A name instead of an address is looked up by iscsid, when it connects.
        known = there if end(there or "") is not None else text(str(place / "address"))
        yield Server("iSCSI", known or None, target or place.name, "" if own == "(null)" else own)
    for place in _entries(sys / "bus/rbd/devices"):
        told = (text(str(place / "config_info")) or "").partition(" ")[0]
        for one in _monitors(told) or [""]:
            yield Server("Ceph", one or None, f"rbd{place.name}")
    if (sys / "module/aoe").exists():
        for place in _entries(sys / "block"):
            for netdev in (text(str(place / "netif")) or "").split(","):
                if netdev:
                    yield Server("AoE", None, place.name.replace("!", "/"), netdev=netdev)


def _entries(place: Path) -> list[Path]:
    try:
        return sorted(place.iterdir())
    except FileNotFoundError:
        return []
