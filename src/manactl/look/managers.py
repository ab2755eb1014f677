"""Who manages links, addresses and routes here, and whether a port is among them.

Each manager writes down somewhere what it manages; where it does, that is asked, never its
configuration. Programs that write nothing down, or nothing of this port, are named all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from manactl.look.text_files import LACKS, read, rows
from manactl.model.value import Value
from manactl.netstate.surroundings import Daemon, Does, Manager, Process
from manactl.netstate.unmanaged import NETWORK_MANAGER, NETWORKD

# By the name of the process, which the kernel cuts at 15 characters.
_DAEMONS = {
    "wickedd": ("wicked", Does.LINKS),
    "dhcpcd": ("dhcpcd", Does.LINKS),
    "connmand": ("ConnMan", Does.LINKS),
    "cloud-netconfig": ("cloud-netconfig", Does.ADDRESSES),
    "keepalived": ("keepalived", Does.ROUTES),
    "zebra": ("FRR", Does.ROUTES),  # the one of its daemons that writes to the kernel
    "bird": ("BIRD", Does.ROUTES),
    "bird6": ("BIRD", Does.ROUTES),
    "charon": ("strongSwan", Does.ROUTES),
    "charon-systemd": ("strongSwan", Does.ROUTES),
    "flanneld": ("flannel", Does.ROUTES),
    "calico-node": ("Calico", Does.ROUTES),
    "cilium-agent": ("Cilium", Does.ROUTES),
    "kube-router": ("kube-router", Does.ROUTES),
}
# The agent of Azure's Linux images: comm is that of its Python. With this switch, which is off where
# the file has it not, EnvHandler.handle_hostname_update() calls restart_if().
_AGENT, _AGENT_CONF = "WALinuxAgent", "waagent.conf"
_AGENT_SWITCH = "Provisioning.MonitorHostName"
_AGENT_COMMS = ("python", "platform-python", "waagent")  # what its comm begins with
# Those that a timer starts: most of the time nothing of them runs.
_TIMERS = ("cloud-netconfig", "nm-cloud-setup")
_ENABLED = "systemd/system/timers.target.wants"
_SAYING = (
    "NetworkManager",
    "systemd-network",
)  # these two report of each link whether it is theirs


class Roots(Value):
    """Where to look."""

    run: Path = Path("/run")
    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    lib: Path = Path("/var/lib")
    etc: Path = Path("/etc")


class Found(Value):
    """The managers of a port and of its uppers, and who else changes links, addresses or routes."""

    managers: tuple[Manager, ...]
    daemons: tuple[Daemon, ...]


def find(netdevs: Mapping[int, str], roots: Roots = Roots()) -> Found:  # noqa: B008 - frozen
    """Of the netdevs by ifindex and name. OSError when the processes cannot be listed."""
    running = _running(roots.proc)
    managers = (
        manager
        for index in sorted(netdevs)
        for manager in _of(index, netdevs[index], running, roots)
    )
    return Found(tuple(managers), (*_daemons(running, roots.etc), *_agent(running, roots)))


def _running(proc: Path) -> dict[str, list[Process]]:
    """The processes of a name that is known here."""
    found: dict[str, list[Process]] = {}
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                comm = read(entry / "comm")
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended
            if comm in _DAEMONS or comm in _SAYING or comm.startswith(_AGENT_COMMS):
                found.setdefault(comm, []).append(Process(int(entry.name), comm))
    return {comm: sorted(all_, key=lambda one: one.pid) for comm, all_ in found.items()}


def _daemons(running: Mapping[str, list[Process]], etc: Path) -> Iterator[Daemon]:
    by_name: dict[tuple[str, Does], list[Process]] = {}
    for comm, what in _DAEMONS.items():
        if processes := running.get(comm):
            by_name.setdefault(what, []).extend(processes)
    for name in _TIMERS:
        if (etc / _ENABLED / f"{name}.timer").is_symlink():
            by_name.setdefault((name, Does.ADDRESSES), [])
    for (name, does), processes in by_name.items():
        yield Daemon(name, does, tuple(processes))


def _agent(running: Mapping[str, list[Process]], roots: Roots) -> Iterator[Daemon]:
    """WALinuxAgent, where it runs and watches the host name. A command line is memory of its process,
    and who reads it waits for whatever that process waits for: so of no others is it read."""
    value = _setting(roots.etc / _AGENT_CONF, _AGENT_SWITCH) or ""
    if value.lower() != "y":
        return
    found = []
    for comm, processes in running.items():
        for process in processes if comm.startswith(_AGENT_COMMS) else ():
            words = _text(roots.proc / f"{process.pid}/cmdline").split("\0")[:4]
            if any(Path(word).name == "waagent" for word in words):
                found.append(process)
    if found:
        yield Daemon(_AGENT, Does.RESTARTS, tuple(sorted(found, key=lambda one: one.pid)))


def _of(
    index: int, name: str, running: Mapping[str, list[Process]], roots: Roots
) -> Iterator[Manager]:
    """The managers of one netdev. Those two that report of every link are an open question while
    their file is missing, which is not a no."""
    run = roots.run
    if processes := running.get("NetworkManager"):
        path = run / f"NetworkManager/devices/{index}"
        value = _setting(path, "managed")
        managed = None if value is None else value not in ("false", "0")
        yield Manager(NETWORK_MANAGER, processes[0], managed, str(path), name, index)
    if processes := running.get("systemd-network"):
        path = run / f"systemd/netif/links/{index}"
        value = _setting(path, "ADMIN_STATE")
        managed = None if value is None else value != "unmanaged"
        yield Manager(NETWORKD, processes[0], managed, str(path), name, index)
    path = run / f"wicked/state-{index}.xml"  # written at `ifup`, for a later `ifdown`
    if (processes := running.get("wickedd")) and path.exists():
        yield Manager("wicked", processes[0], True, str(path), name, index)
    if found := _dhcpcd(name, running.get("dhcpcd", ()), roots):
        yield Manager("dhcpcd", found[1], True, str(found[0]), name, index)
    if processes := running.get("connmand"):
        mac = _text(roots.sys / f"class/net/{name}/address").strip().replace(":", "")
        if mac and (path := roots.lib / f"connman/ethernet_{mac}_cable").is_dir():
            yield Manager("ConnMan", processes[0], True, str(path), name, index)
    for path in (run / "network/ifstate", run / f"network/ifstate.{name}", run / "ifstate"):
        # ifupdown has no process. It writes "eth1=eth1", and a file of its own for each name, too.
        if _ifstate(path, name):
            yield Manager("ifupdown", None, True, str(path), name, index)
            break


def _dhcpcd(name: str, processes: Iterable[Process], roots: Roots) -> tuple[Path, Process] | None:
    """The file by which a dhcpcd that runs has this netdev: a pid file of its own, or, where one
    process serves all, a lease."""
    by_pid = {str(one.pid): one for one in processes}
    run, lib = roots.run, roots.lib
    own = (f"dhcpcd/{name}.pid", f"dhcpcd/{name}-4.pid", f"dhcpcd/{name}-6.pid")
    for pid_file in (*own, f"dhcpcd-{name}.pid"):  # the last is that of dhcpcd 8 and older
        if process := by_pid.get(_text(run / pid_file).strip()):
            return run / pid_file, process
    for pid_file, leases in (("dhcpcd/pid", "dhcpcd"), ("dhcpcd.pid", "dhcpcd5")):
        if process := by_pid.get(_text(run / pid_file).strip()):
            for lease in (f"{name}.lease", f"{name}.lease6"):
                if (path := lib / leases / lease).exists():
                    return path, process
    return None


def _ifstate(path: Path, name: str) -> bool:
    lines = _text(path).split("\n")
    return any(line.partition("=")[0].strip() == name for line in lines)


def _setting(path: Path, key: str) -> str | None:
    for line in rows(_text(path)):
        name, equals, value = line.partition("=")
        if equals and name.strip() == key:
            return value.strip()
    return None


def _text(path: Path) -> str:
    """What a file has; nothing when it cannot be read."""
    try:
        return read(path)
    except OSError as error:
        if error.errno in LACKS:
            raise
        return ""
