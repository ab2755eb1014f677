"""Reads what `doctor` judges. Passive: nothing is loaded, opened for writing or created.

What cannot be read becomes None; a directory that is not there is an answer, not a failure.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import resource
import stat
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from manactl.act.system import capabilities
from manactl.doctor.machine import (
    Away,
    Function,
    HugePages,
    Journals,
    Machine,
    Module,
    PciManager,
    Shape,
    Uverbs,
)
from manactl.errors import ManactlError, strerror
from manactl.journal.file import list_claims
from manactl.look import (
    boot_files,
    debugfs,
    ibverbs,
    managers,
    sysfs,
    unmanaged_links,
    user_namespace,
    vmbus,
)
from manactl.look.bus import Bus
from manactl.look.sysfs import Roots
from manactl.look.text_files import fields, lines, names, text, unescaped
from manactl.model.claim import Phase
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import Owner, Report, Source
from manactl.netstate.surroundings import Daemon
from manactl.wire.nldev import Nldev

MODULES = ("mana", "mana_ib", "ib_uverbs")
_LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib")
_PROVIDER = re.compile(r"libmana-rdmav\d+\.so")
_LIBRARY = re.compile(r"libmana\.so\.\d+\.\d+\.(\d+)\.\d+")

T = TypeVar("T")


class Places(NamedTuple):
    """Where to look."""

    roots: Roots = Roots()
    dev: str = "/dev"
    run: str = "/run"
    modules: str = "/lib/modules"
    libraries: tuple[str, ...] = _LIBRARIES
    verbs: str = "/etc/libibverbs.d"
    state: str = "/var/lib/manactl"
    lib: str = "/var/lib"
    etc: str = "/etc"
    bus: Bus = Bus()


def read(
    report: Report,
    rdma_netns: str | None,
    places: Places = Places(),  # noqa: B008
    listed: Callable[[], tuple[str, ...] | None] = ibverbs.listed,
) -> Machine:
    """Everything at once. `report` is what `status` has found; `rdma_netns` the answer of nldev."""
    sys, proc = places.roots
    functions = tuple(_functions(report, places.roots))
    files = tuple(_hugepage_files(places))
    managing, daemons = _managers(report, places)
    return Machine(
        kernel=report.kernel,
        functions=functions,
        modules={name: _module(name, report.kernel, places) for name in MODULES},
        debugfs=_or_none(lambda: debugfs.mounted(sys, proc)),
        shape=_or_none(lambda: _shape(places.roots)) if sysfs.functions(places.roots) else None,
        lockdown=_lockdown(text(f"{sys}/kernel/security/lockdown")),
        rdma_netns=rdma_netns,
        uverbs=tuple(_uverbs(places, functions)),
        provider=_provider(places.libraries),
        rdma_core=_rdma_core(places.libraries),
        announced=_or_none(lambda: _announced(places.verbs)),
        listed=listed() if functions else None,
        pyverbs=_importable("pyverbs.device"),
        capabilities=capabilities(),
        memlock=resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
        hugepages=tuple(_hugepages(sys)),
        hugetlbfs=tuple(_mounts(proc, "hugetlbfs")),
        hugepage_files=files,
        iommu_groups=len(names(f"{sys}/kernel/iommu_groups")),
        managers=managing,
        systemd=_systemd(managing),
        own_user_namespace=not user_namespace.is_initial(proc),
        daemons=daemons,
        uio_vmbus=_uio(sys),
        netvsc=any(nic.driver == vmbus.NETVSC for nic in vmbus.nics(places.roots)),
        journals=_journals(Path(places.state)),
        state_dir=_state_dir(Path(places.state), proc),
        unmanned=tuple(p.label for p in report.ports if p.owner is Owner.RAW_QP and not p.claim),
        in_other_netns=tuple(
            Away(str(p.id), p.netns, p.netdev and p.netdev.name)
            for p in report.ports
            if p.netns is not None
        ),
        odd_files=boot_files.of_no_use((port.id for port in report.ports), places.etc),
        waiting=waiting(report),
    )


def waiting(report: Report) -> tuple[str, ...]:
    """Who waits in the drivers at this moment. The drivers' own work waits, too, for a moment,
    whenever it asks the device for its counters."""
    return tuple(m.why for m in report.missing if m.source in (Source.MANA, Source.RTNETLINK))


def rdma_netns(sys: str = "/sys") -> str | None:
    """ "shared" or "exclusive"; None without RDMA, whose module asking would load."""
    if not os.path.isdir(f"{sys}/class/infiniband"):
        return None
    with contextlib.suppress(OSError), Nldev() as nldev:
        return nldev.netns_mode()
    return None


def _or_none(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except OSError:
        return None


def _functions(report: Report, roots: Roots) -> Iterator[Function]:
    for pci in sysfs.functions(roots):
        seen = sysfs.function(roots, pci)
        ports = sum(port.id.pci == pci for port in report.ports)
        rdma = tuple(node.name for node in seen.rdma)
        away = tuple(node.name for node in seen.elsewhere)
        yield Function(pci, "mana", ports, rdma, seen.rdma_driver, away, seen.auxiliary)
    for pci, driver in sysfs.unbound(roots):
        yield Function(pci, driver, 0, (), False)


def _module(name: str, release: str, places: Places) -> Module:
    if os.path.isdir(f"{places.roots.sys}/module/{name}"):
        return Module.LOADED
    base = f"{places.modules}/{release}"
    # Both files list paths, one a line; that of modules.dep goes on behind a colon.
    for listing, state in (("modules.builtin", Module.LOADED), ("modules.dep", Module.INSTALLED)):
        for line in lines(f"{base}/{listing}"):
            stem = line.partition(":")[0].rpartition("/")[2].partition(".ko")[0]
            if stem.replace("-", "_") == name:
                return state
    return Module.ABSENT


def _shape(roots: Roots) -> Shape | None:
    """What the driver shows in debugfs; None where there is nothing mounted to look at."""
    base = f"{roots.sys}/kernel/debug"
    if not os.listdir(base):
        return None
    functions = _listing(f"{base}/mana")
    if not functions:
        return Shape.NOTHING
    inside = [name for function in functions for name in _listing(f"{base}/mana/{function}")]
    return Shape.SHARED_EQS if "EQs" in inside else Shape.VPORT_EQS


def _listing(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _lockdown(words: str | None) -> str | None:
    """The chosen word of "none [integrity] confidentiality"; no file is a kernel without it."""
    found = re.search(r"\[(\w+)\]", words or "")
    return found[1] if found else None


def _uverbs(places: Places, functions: Iterable[Function]) -> Iterator[Uverbs]:
    for function in functions:
        verbs = f"{places.roots.sys}/bus/pci/devices/{function.pci}/infiniband_verbs"
        for node in sorted(names(verbs)):
            path = f"{places.dev}/infiniband/{node}"
            device = text(f"{verbs}/{node}/ibdev") or "?"
            try:
                info = os.stat(path)
            except OSError:
                yield Uverbs(path, device, None)
                continue
            usable = stat.S_ISCHR(info.st_mode) and os.access(path, os.R_OK | os.W_OK)
            yield Uverbs(path, device, stat.S_IMODE(info.st_mode), info.st_uid, usable)


def _library_names(libraries: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(directory, name) of what lies in the library directories and one level below."""
    for top in libraries:
        below = [entry for entry in names(top) if "-linux-" in entry]
        for base in (top, *(f"{top}/{entry}" for entry in below)):
            for name in names(base):
                yield base, name
            for name in names(f"{base}/libibverbs"):
                yield f"{base}/libibverbs", name


def _provider(libraries: Iterable[str]) -> str:
    found = (f"{d}/{n}" for d, n in _library_names(libraries) if _PROVIDER.fullmatch(n))
    return next(found, "")


def _announced(directory: str) -> bool:
    """Whether a file names the provider, as `driver mana` or by its path."""
    found = (
        fields(line)
        for name in (os.listdir(directory) if os.path.isdir(directory) else ())
        if not name.startswith(".")
        for line in lines(f"{directory}/{name}")
    )
    return any(
        words[:1] == ["driver"] and words[1].rpartition("/")[2] in ("mana", "libmana")
        for words in found
        if len(words) == 2
    )


def _rdma_core(libraries: Iterable[str]) -> int | None:
    """rdma-core puts its version into the name: libmana.so.1.0.56.1 is from 56.1."""
    found = (_LIBRARY.fullmatch(name) for _, name in _library_names(libraries))
    return max((int(match[1]) for match in found if match), default=None)


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _hugepages(sys: str) -> Iterator[HugePages]:
    base = f"{sys}/kernel/mm/hugepages"
    for entry in sorted(names(base)):
        size = re.fullmatch(r"hugepages-(\d+)kB", entry)
        total, free = text(f"{base}/{entry}/nr_hugepages"), text(f"{base}/{entry}/free_hugepages")
        if size and total and free:
            yield HugePages(int(size[1]), int(total), int(free))


def _mounts(proc: str, kind: str) -> Iterator[str]:
    for line in lines(f"{proc}/mounts"):
        words = line.split(" ")
        if len(words) > 2 and words[2] == kind:
            yield unescaped(words[1])


def _hugepage_files(places: Places) -> Iterator[str]:
    """Files that pin huge pages although the DPDK program that made them is gone.

    A living primary process holds a lock on its run-time `config` file (rte_eal_config_create());
    its pages are files named PREFIXmap_N.
    """
    proc = places.roots.proc
    locked = {
        field.rpartition(":")[2]
        for line in lines(f"{proc}/locks")
        for field in fields(line)
        if field.count(":") == 2
    }
    living = set()
    for prefix in names(f"{places.run}/dpdk"):
        with contextlib.suppress(OSError):
            inode = os.stat(f"{places.run}/dpdk/{prefix}/config").st_ino
            if str(inode) in locked:
                living.add(prefix)
    for mount in _mounts(proc, "hugetlbfs"):
        for name in sorted(names(mount)):
            made_by = re.fullmatch(r"(.+)map_\d+", name)
            if made_by and made_by[1] not in living:
                yield f"{mount}/{name}"


def _managers(
    report: Report, places: Places
) -> tuple[tuple[PciManager, ...] | None, tuple[Daemon, ...]]:
    """The managers of each port that is here, and who else runs."""
    roots = managers.Roots(
        Path(places.run), Path(places.roots.proc), Path(places.roots.sys), Path(places.lib),
        Path(places.etc),
    )  # fmt: skip
    found: list[PciManager] = []
    here = [port for port in report.ports if port.netdev is not None and port.netns is None]
    try:
        daemons = managers.find({}, roots).daemons
        for port in here:
            assert port.netdev is not None
            named = {port.netdev.ifindex: port.netdev.name}
            if port.pair is not None and port.pair.vmbus is not None:
                above = vmbus.nic(port.pair.vmbus, places.roots)
                if above is not None and above.ifindex is not None:
                    named[above.ifindex] = port.pair.netdev
            found += [
                PciManager(name, manager, _network_file(manager.source))
                for ifindex, name in named.items()
                for manager in unmanaged_links.asked(
                    managers.find({ifindex: name}, roots).managers, places.bus
                )
            ]
    except OSError:
        return None, ()
    return tuple(found), daemons


def _network_file(link: str) -> str | None:
    for line in lines(link):
        if line.startswith("NETWORK_FILE="):
            return line.partition("=")[2] or None
    return None


def _systemd(managers: Iterable[PciManager] | None) -> str | None:
    """systemd's version as it reports it ("257.6-1"), asked only where its networkd runs."""
    if not any(found.manager.name == "systemd-networkd" for found in managers or ()):
        return None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run(
            ["systemctl", "--version"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=5,
            check=False,
        )
        version = re.search(r"systemd (?:\d+ \((\S+)\)|(\d+))", answer.stdout)
        return (version[1] or version[2]) if version else None
    return None


def _uio(sys: str) -> tuple[str, ...] | None:
    base = f"{sys}/bus/vmbus/drivers/uio_hv_generic"
    if not os.path.isdir(base):
        return None
    return tuple(name for name in sorted(names(base)) if name.count("-") == 4)


def _journals(state: Path) -> Journals:
    try:
        claims, unreadable = list_claims(state)
    except OSError as error:
        return Journals(unread=f"{state}: {strerror(error)}")
    except ManactlError as error:
        return Journals(broken=error.message)
    here = [claim for claim in claims if claim.same_boot]
    return Journals(
        broken="; ".join(journal.error.message for journal in unreadable) or None,
        interrupted=tuple(str(claim.port) for claim in here if claim.phase is Phase.INTERRUPTED),
        stale=tuple(str(claim.port) for claim in claims if not claim.same_boot),
    )


def _state_dir(state: Path, proc: str) -> str | None:
    """Why a claim could not write its journal; the directory itself is made by the first claim."""
    if os.geteuid() != 0 or not user_namespace.is_initial(proc):
        return None  # a claim needs root: the check `privilege` reports that
    part = next((path for path in (state, *state.parents) if os.path.lexists(path)), Path("/"))
    try:
        info, room = part.stat(), os.statvfs(part)
    except OSError as error:
        return f"{part}: {strerror(error)}"
    if not stat.S_ISDIR(info.st_mode):
        return f"{part} is not a directory"
    if part == state and (info.st_uid != 0 or info.st_mode & 0o022):
        return f"{part} is not root's alone (mode {stat.S_IMODE(info.st_mode):o})"
    full = room.f_bavail == 0 or (room.f_files and room.f_favail == 0)
    if room.f_flag & os.ST_RDONLY or full:
        return f"{part} is on a file system that is {'full' if full else 'read-only'}"
    return None
