"""What surrounds a port, read from trees and answers made for it."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from manactl.look import (
    conntrack,
    netdevs,
    redirects,
    sockets,
    surroundings,
    tunnels,
    upper_devices,
)
from manactl.look.bus import Bus
from manactl.look.fabric import ADDRESSES
from manactl.look.surroundings import Sources, gather
from manactl.look.upper_devices import Found, View
from manactl.model.port import RdmaPort
from manactl.netstate.snapshot import PortState
from manactl.netstate.surroundings import (
    NOTHING_READ,
    Connection,
    FabricRoute,
    Forwarded,
    IpsecTunnel,
    Manager,
    PacketSocket,
    Process,
    RdmaUser,
    RemoteStorage,
    SshSession,
    Stacked,
    Surroundings,
    Tracking,
    TunnelWay,
)
from manactl.netstate.uppers import UpperState
from manactl.wire import rtmsg as rt
from manactl.wire.attrs import attr_u32
from manactl.wire.inet_diag import TcpSocket
from manactl.wire.nldev import Nldev, RdmaDevice, Resource
from manactl.wire.tunnels import Outer, Tunnel
from manactl.wire.xfrm import Net, Policy
from tests.unit.decide.scene import STATE, STATUS
from tests.unit.look.kernel import FakeRtnl, address, link, route
from tests.unit.wire.test_conntrack import entry as conntrack_entry
from tests.unit.wording import wording

NM = Process(11, "NetworkManager")
PROC_NET_PACKET = "sk RefCnt Type Proto Iface R Rmem User Inode\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def proc(tmp_path: Path) -> Callable[..., Path]:
    def make(*processes: Process) -> Path:
        for one in processes:
            write(tmp_path / f"proc/{one.pid}/comm", one.comm + "\n")
        (tmp_path / "proc/self").mkdir(parents=True, exist_ok=True)
        return tmp_path / "proc"

    return make


# --- all of it --------------------------------------------------------------------------------


def packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def tcp(local: str, peer: str, inode: int, state: int = 1) -> TcpSocket:
    return TcpSocket(state, packed(local), 5000, packed(peer), 22, 0, inode, 0)


class FakeNldev:
    """Two devices, or one for everything."""

    def __init__(
        self,
        pds: list[Resource],
        qps: int = 0,
        raw: bool = False,
        ethernet: list[Resource] | None = None,
    ) -> None:
        self._pds, self._qps, self._raw = {0: pds, 1: ethernet or []}, qps, raw

    def devices(self) -> list[RdmaDevice]:
        return [RdmaDevice(0, "mana_0", 2, 1, "roce"), RdmaDevice(1, "manae_0", 2, 0, None)]

    def summary(self, index: int) -> dict[str, int]:
        assert index == 0
        return {"pd": 1, "qp": self._qps}

    def contexts(self, index: int) -> list[Resource]:
        raise AssertionError("a context alone is no user")

    def cqs(self, index: int) -> list[Resource]:
        raise AssertionError("not asked")

    def pds(self, index: int) -> list[Resource]:
        return self._pds[index]

    def raw_qp_tracked(self, index: int) -> bool:
        assert index == 0
        return self._raw


def _no_bus(_words: Sequence[str]) -> str:
    raise OSError(errno.EIO, "it has none, says the bus")


@dataclass
class Scene:
    """A machine with a VLAN on the port, and something for every guard."""

    root: Path
    rtnl: FakeRtnl
    sockets: list[TcpSocket]
    away: list[View]
    users: list[Resource]
    searched: list[Found] = field(default_factory=list)
    tunnels: list[Tunnel] = field(default_factory=list)
    others: dict[str, list[TcpSocket]] = field(default_factory=dict)
    redirects: dict[int, set[int]] = field(default_factory=lambda: {3: set()})
    failing: dict[str, Exception] = field(default_factory=dict)
    state: PortState = STATE
    policies: list[Policy] = field(default_factory=list)
    chains: dict[int, tuple[str, ...]] = field(default_factory=dict)
    bus: Callable[[Sequence[str]], str] = _no_bus
    entries: list[bytes] = field(default_factory=list)  # of connection tracking

    def _policies(self) -> list[Policy]:
        if error := self.failing.get("policies"):
            raise error
        return self.policies

    def _nftables(self, ifindex: int, sys: Path) -> tuple[str, ...]:
        if error := self.failing.get("nftables"):
            raise error
        assert sys == self.root / "sys"
        return self.chains.get(ifindex, ())

    def _tcp(self, program: bytes) -> list[TcpSocket]:
        """The kernel's filter is not the matter here: every question gets all of them."""
        if error := self.failing.get("tcp"):
            raise error
        return self.sockets

    def _of(self, what: str) -> Callable[[bytes], list[TcpSocket]]:
        def ask(program: bytes) -> list[TcpSocket]:
            if error := self.failing.get(what):
                raise error
            return self.others.get(what, [])

        return ask

    def _tracked(self) -> list[bytes]:
        if error := self.failing.get("conntrack"):
            raise error
        return self.entries

    def _redirecting(self, names: Mapping[int, str], ifindex: int) -> tuple[str, ...]:
        if error := self.failing.get("redirecting"):
            raise error
        return tuple(name for index, name in names.items() if index in self.redirects[ifindex])

    def _elsewhere(self, found: Found) -> list[View]:
        if error := self.failing.get("elsewhere"):
            raise error
        self.searched.append(found)
        return self.away

    def _tunnels(self) -> list[Tunnel]:
        if error := self.failing.get("tunnels"):
            raise error
        return self.tunnels

    @contextlib.contextmanager
    def _nldev(self) -> Iterator[FakeNldev]:
        if error := self.failing.get("nldev"):
            raise error
        yield FakeNldev(self.users)

    def read(self, claimed: tuple[int, ...] = (3,), **port: Any) -> Surroundings:
        status = STATUS._replace(rdma=RdmaPort("manae_0", 1, ("mana_0/1",)), **port)
        sources = Sources(
            self.root / "proc", self.root / "run", self.root / "sys",
            self.rtnl.stack, self._tcp, self._elsewhere, self._nldev, self._tunnels,
            self._of("udp"), self._of("unconnected"), self._of("listening"), self._tracked,
            self._redirecting,
            lib=self.root / "lib", etc=self.root / "etc", policies=self._policies,
            nftables=self._nftables, bus=Bus(self.bus),
        )  # fmt: skip
        return gather(status, self.state, claimed, self.rtnl, sources)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    me = os.getpid()
    write(tmp_path / "proc/self/net/dev", "")
    write(tmp_path / "proc/filesystems", "nodev\tsysfs\n\text4\n")
    write(
        tmp_path / "proc/self/net/packet",
        PROC_NET_PACKET
        + "0 3 3 0003 3 1 0 0 900\n0 3 3 0003 9 1 0 0 901\n0 3 3 0003 4 1 0 0 902\n",
    )
    for pid, comm, inodes in ((70, "dhclient", (900,)), (71, "curl", (801,)), (11, NM.comm, ())):
        write(tmp_path / f"proc/{pid}/comm", comm + "\n")
        (tmp_path / f"proc/{pid}/fd").mkdir()
        for number, inode in enumerate(inodes):
            (tmp_path / f"proc/{pid}/fd/{number}").symlink_to(f"socket:[{inode}]")
    write(tmp_path / f"proc/{me}/environ", "SSH_CONNECTION=10.9.9.9 50022 10.0.0.2 22\0")
    write(tmp_path / f"proc/{me}/stat", f"{me} (x) S 0 1 1")
    write(tmp_path / "proc/consoles", "ttyS0 -W- (EC p a) 4:64\n")
    write(tmp_path / "proc/sys/net/netfilter/nf_conntrack_count", "1\n")
    write(tmp_path / "run/NetworkManager/devices/3", "managed=true\n")
    write(tmp_path / "run/NetworkManager/devices/9", "managed=false\n")
    write(tmp_path / "sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n")
    rtnl = FakeRtnl(
        links=[
            link(1, "lo"), link(2, "eth0"), link(3, "eth1"), link(4, "eth2"),
            link(9, "vlan7", "vlan", on=3),
        ],
        having=[
            address(1, "127.0.0.1", scope=254), address(2, "192.0.2.2"), address(3, "10.0.0.2"),
            address(4, "fe80::4", scope=253), address(9, "10.7.0.2"),
            address(9, "fe80::9", scope=253),
        ],
        routing=[route(9, "0.0.0.0/0"), route(9, "10.7.0.0/24"), route(2, "0.0.0.0/0")],
        ways={"10.0.0.0/8": {3}, "168.63.129.16/32": {9}, "0.0.0.0/0": {2}},
        host_routes={"168.63.129.16"},
        xdp={3: 2},
    )  # fmt: skip
    mine = [
        tcp("10.0.0.2", "10.9.9.9", 801),
        tcp("10.7.0.2", "10.7.0.9", 0, state=8),
        tcp("192.0.2.2", "203.0.113.1", 803),
        tcp("192.0.2.2", "10.1.1.1", 804),
    ]
    upper = Stacked("mv0", 2, "macvlan", "blue", True, False)
    far = Connection("10.5.5.5", 1, "10.5.5.9", 2, "established", 805, (), "blue")
    away = [View((upper,), (far,), (PacketSocket(906, (), "mv0 in blue"),))]
    return Scene(tmp_path, rtnl, mine, away, [Resource(False, 71, 2)])


VLAN7 = Stacked(
    "vlan7", 9, "vlan", None, True, True, ("10.7.0.2", "fe80::9"), ("10.7.0.2",),
    ("default dev vlan7 proto static",),
)  # fmt: skip
CURL, DHCLIENT = Process(71, "curl"), Process(70, "dhclient")


def test_everything_is_gathered(scene: Scene) -> None:
    found = scene.read()
    assert scene.searched == [{3: (True, True), 9: (True, True)}]
    assert found.state is STATE
    assert found.uppers == (VLAN7,)
    assert found.elsewhere == scene.away[0].stacked
    assert found.xdp is True
    assert found.connections == (
        Connection("10.0.0.2", 5000, "10.9.9.9", 22, "established", 801, (CURL,)),
        Connection("10.7.0.2", 5000, "10.7.0.9", 22, "close-wait", 0),
        Connection("192.0.2.2", 5000, "10.1.1.1", 22, "established", 804),
        scene.away[0].tcp[0],
    )
    assert found.packet_sockets == (
        PacketSocket(900, (DHCLIENT,)),
        PacketSocket(901, (), "vlan7"),
        PacketSocket(906, (), "mv0 in blue"),
    )
    where = f"SSH_CONNECTION of pid {os.getpid()}"
    with wording:
        assert found.ssh == (SshSession("10.9.9.9", "10.0.0.2", True, where),)
    assert found.others == ("eth0",)
    devices = scene.root / "run/NetworkManager/devices"
    assert found.managers == (
        Manager(
            "NetworkManager",
            NM,
            True,
            str(devices / "3"),
            "eth1",
            3,
            silent="it has none, says the bus",
        ),
        Manager("NetworkManager", NM, False, str(devices / "9"), "vlan7", 9),
    )
    with wording:
        assert found.rdma_users == (RdmaUser("mana_0", "1 protection domain in use", (CURL,)),)
    assert found.fabric == (
        FabricRoute(through_port=True, host_route=True, on_azure=True, remaining="eth0"),
        FabricRoute(False, False, on_azure=True, address="169.254.169.254"),
    )


def test_a_connection_in_an_ipsec_tunnel_leaves_by_the_ports_tunnel(scene: Scene) -> None:
    """Its own addresses lead elsewhere: 192.0.2.2 is eth0's, and so is the way to its peer."""
    net = Net(packed("203.0.113.0"), 24)
    here, far = Net(packed("192.0.2.0"), 24), packed("10.0.0.9")
    scene.policies = [Policy(0, here, net, False, 0, (Outer(far),))]
    found = scene.read()
    assert found.ipsec == (IpsecTunnel("192.0.2.0/24", "203.0.113.0/24", "10.0.0.9"),)
    assert found.connections is not None
    assert 803 in {one.inode for one in found.connections}
    pods = IpsecTunnel("10.2.0.0/16", "10.3.0.0/16", "10.1.0.9", "blue")
    scene.away = [scene.away[0]._replace(ipsec=(pods,))]
    assert scene.read().ipsec == (*found.ipsec, pods)
    scene.away = [scene.away[0]._replace(ipsec=None)]
    assert scene.read().ipsec is None
    scene.away = [scene.away[0]._replace(ipsec=())]
    scene.policies = [Policy(0, here, net, False, 0, (Outer(packed("192.0.2.9")),))]
    found = scene.read()
    assert found.ipsec == ()
    assert 803 not in {one.inode for one in found.connections or ()}


def test_a_login_that_a_proxy_passes_on(scene: Scene) -> None:
    """The proxy's connection takes the port: it is the login's."""
    me = os.getpid()
    write(scene.root / f"proc/{me}/environ", "SSH_CONNECTION=127.0.0.1 5000 127.0.0.1 22\0")
    here = packed("127.0.0.1")
    inside = [
        TcpSocket(1, here, 5000, here, 22, 0, 810, 0),
        TcpSocket(1, here, 22, here, 5000, 0, 811, 0),
    ]
    scene.rtnl.ways = {"127.0.0.0/8": set(), **scene.rtnl.ways}
    scene.sockets += inside
    scene.others["listening"] = [TcpSocket(10, bytes(4), 22, bytes(4), 0, 0, 812, 0)]
    for pid, comm, inode in ((71, "curl", 810), (72, "sshd", 811)):
        write(scene.root / f"proc/{pid}/comm", comm + "\n")
        (scene.root / f"proc/{pid}/fd").mkdir(exist_ok=True)
        (scene.root / f"proc/{pid}/fd/9").symlink_to(f"socket:[{inode}]")
    found = scene.read()
    (session,) = found.ssh or ()
    assert session.through_port is True
    assert [one.inode for one in found.connections or () if one.login] == [801]
    (scene.root / "proc/71/fd/0").unlink()  # it has another connection, if any
    (session,) = scene.read().ssh or ()
    assert session.through_port is False
    scene.failing["udp"] = OSError("invalid")  # it may have one of these
    (session,) = scene.read().ssh or ()
    assert session.through_port is None
    del scene.failing["udp"]
    (scene.root / "proc/71/fd/9").unlink()
    (session,) = scene.read().ssh or ()
    assert session.through_port is None


def test_who_is_in_one_bridge_with_the_port(scene: Scene) -> None:
    scene.rtnl.links = [
        link(1, "lo"), link(2, "eth0"), link(3, "eth1", master=10), link(10, "br0", "bridge"),
        link(11, "veth7", "veth", master=10), link(12, "veth8", "veth", master=10, up=False),
        link(13, "veth9", "veth", master=14), link(14, "br1", "bridge"),
    ]  # fmt: skip
    assert scene.read().bridged == ("veth7",)


def test_name_servers_over_the_port_alone(scene: Scene) -> None:
    write(scene.root / "etc/resolv.conf", "nameserver 10.1.1.1\n")
    scene.rtnl.ways = {"10.0.0.0/8": {3}}
    (one,) = scene.read().name_servers or ()
    assert one.address == "10.1.1.1"


def test_what_is_mounted_or_attached_over_the_port(scene: Scene) -> None:
    write(scene.root / "proc/filesystems", "nodev\tnfs4\n")
    place = scene.root / "proc/71"
    (place / "ns").mkdir()
    for one in (place, scene.root / "proc/self"):
        (one / "ns").mkdir(exist_ok=True)
        (one / "ns/net").symlink_to("net:[1]")
    (place / "ns/mnt").symlink_to("mnt:[1]")
    (place / "root").symlink_to("/")
    write(place / "mountinfo", "41 22 0:40 / /data rw - nfs4 srv:/x rw,addr=10.1.1.9\n")
    for pid in (70, 11, os.getpid()):  # they have ended since
        assert not (scene.root / f"proc/{pid}/ns").exists()
    write(scene.root / "sys/class/nvme/nvme1/transport", "tcp\n")
    write(scene.root / "sys/class/nvme/nvme1/address", "traddr=10.1.1.8,trsvcid=4420\n")
    write(scene.root / "sys/block/etherd!e1.2/netif", "vlan7\n")
    (scene.root / "sys/module/aoe").mkdir(parents=True)
    mine = (
        RemoteStorage("NFS", "10.1.1.9", "/data"),
        RemoteStorage("NVMe/TCP", "10.1.1.8", "nvme1"),
        RemoteStorage("AoE", None, "etherd/e1.2"),
    )
    assert scene.read().storage == mine
    theirs = RemoteStorage("SMB", "10.5.5.9", "/pod", "blue")
    scene.away = [scene.away[0]._replace(storage=(theirs,))]
    assert scene.read().storage == (*mine, theirs)
    scene.away = [scene.away[0]._replace(storage=None)]
    assert scene.read().storage is None


def test_chains_of_nftables_that_send_by_the_port(scene: Scene) -> None:
    scene.chains = {3: ("netdev t c",), 2: ("netdev t d",)}
    assert scene.read().nftables == ("netdev t c",)


def test_without_a_netdev_or_its_state_nothing_is_read(scene: Scene) -> None:
    scene.rtnl.failing = {name: AssertionError(name) for name in ("stack", "link", "way_to")}
    assert scene.read(netdev=None) == NOTHING_READ
    assert gather(STATUS, None, (), scene.rtnl) == NOTHING_READ


def test_users_of_an_rdma_device_elsewhere_are_not_known(scene: Scene) -> None:
    assert scene.read(rdma_elsewhere=("mana_0",)).rdma_users is None


def test_a_quiet_machine_is_empty_and_not_unknown(scene: Scene) -> None:
    scene.rtnl = FakeRtnl([link(1, "lo"), link(3, "eth1")], ways={"0.0.0.0/0": {3}})
    scene.sockets, scene.away, scene.users = [], [], []
    write(scene.root / "proc/self/net/packet", PROC_NET_PACKET)
    write(scene.root / f"proc/{os.getpid()}/environ", "")
    write(scene.root / "proc/11/comm", "sleep")
    (scene.root / "sys/class/dmi/id/chassis_asset_tag").unlink()
    assert scene.read() == Surroundings(
        STATE, (), (), False, (), (), (), (), (), (),
        tuple(FabricRoute(True, False, False, one) for one in ADDRESSES), (), (), (), False, (),
        False,
    )  # fmt: skip


UNREADABLE = {
    "stack": {"uppers", "elsewhere", "others", "redirecting", "bridged"},
    "tunnels": {"uppers", "elsewhere", "others"},
    "addresses": {"uppers", "others", "forwarded", "ssh"},
    "routes": {"uppers", "steered"},
    "link": {"xdp", "rdma_users"},
    "way_to": {"fabric"},
    "leaves_by": {"connections", "fabric"},
    "tcp": {"connections"},
    "udp": {"sockets"},
    "conntrack": {"forwarded"},
    "redirecting": {"redirecting"},
    "policies": {"ipsec"},
    "nftables": {"nftables"},
    "unconnected": {"listeners"},
    "listening": {"listeners"},
    "elsewhere": {"elsewhere"},
    "nldev": {"rdma_users"},
}


def test_without_connection_tracking_ways_of_connections_are_not_known(scene: Scene) -> None:
    assert scene.read().tracking is Tracking.READ
    scene.failing["conntrack"] = PermissionError()
    assert scene.read().tracking is Tracking.NO_PEERS
    scene.rtnl.ruling = [rt.RtMsg(2).pack() + attr_u32(rt.FRA_FWMARK, 7)]
    assert scene.read().tracking is Tracking.NO_MARKS
    scene.rtnl.failing["rules"] = OSError()
    assert scene.read().tracking is Tracking.NO_MARKS
    scene.rtnl.failing.clear()
    scene.failing.clear()
    assert scene.read().tracking is Tracking.READ
    scene.away = [scene.away[0]._replace(tracking=Tracking.NO_PEERS)]  # another namespace's
    assert scene.read().tracking is Tracking.NO_PEERS


def test_without_connection_tracking_a_login_from_here_may_be_passed_on_over_the_port(
    scene: Scene,
) -> None:
    """Its relay's connection may go elsewhere than to its peer."""
    environ = scene.root / f"proc/{os.getpid()}/environ"
    environ.write_text("SSH_CONNECTION=127.0.0.1 50022 127.0.0.1 22\0")
    assert [one.through_port for one in scene.read().ssh or ()] == [False]
    scene.failing["conntrack"] = PermissionError()
    assert [one.through_port for one in scene.read().ssh or ()] == [None]


def test_a_login_from_a_container_that_is_reached_over_the_port(scene: Scene) -> None:
    """Its own connection stays within the host."""
    environ = scene.root / f"proc/{os.getpid()}/environ"
    environ.write_text("SSH_CONNECTION=172.17.0.2 50022 172.17.0.1 22\0")
    scene.rtnl.links.append(link(8, "br0", "bridge"))
    scene.rtnl.having.append(address(8, "172.17.0.1"))
    scene.rtnl.ways = {"172.17.0.0/16": {8}, **scene.rtnl.ways}

    def seen() -> list[tuple[bool | None, bool]]:
        return [(one.through_port, one.guest) for one in scene.read().ssh or ()]

    assert seen() == [(False, False)]
    published = ("10.9.9.9", "10.0.0.2", "172.17.0.2", "10.9.9.9")
    scene.entries.append(conntrack_entry(*published))
    assert seen() == [(None, True)]
    scene.entries.clear()
    assert seen() == [(False, False)]
    scene.failing["udp"] = PermissionError()  # a program may pass it on by that
    assert seen() == [(None, True)]
    del scene.failing["udp"]
    scene.failing["conntrack"] = PermissionError()
    assert seen() == [(None, True)]
    scene.rtnl.links[-1] = link(8, "eth3")  # others are behind it
    assert seen() == [(False, False)]


def unknown(found: Surroundings) -> set[str]:
    return {f.name for f in dataclasses.fields(found) if getattr(found, f.name) is None}


@pytest.mark.parametrize("source", UNREADABLE)
@pytest.mark.parametrize("error", [PermissionError(), ValueError(), KeyError(), IndexError()])
def test_what_cannot_be_read_is_unknown_and_the_rest_is_known(
    scene: Scene, source: str, error: Exception
) -> None:
    if source == "leaves_by" and not isinstance(error, OSError):
        error = OSError("invalid")  # an address that is none is another matter
    failing = scene.rtnl.failing if hasattr(FakeRtnl, source) else scene.failing
    failing[source] = error
    found = scene.read()
    assert unknown(found) == UNREADABLE[source]
    assert found.managers is not None
    assert "3" in {Path(one.source).name for one in found.managers}


@pytest.mark.parametrize(
    ("path", "lost"),
    [
        ("proc/self/net/dev", {"packet_sockets", "sockets", "listeners"}),  # no /proc/net of ours
        ("sys/class/dmi/id/chassis_asset_tag", set()),  # no DMI tables
    ],
)
def test_files_that_are_missing(scene: Scene, path: str, lost: set[str]) -> None:
    (scene.root / path).unlink()
    assert unknown(scene.read()) == lost


@pytest.mark.parametrize(
    ("path", "lost"),
    [
        ("proc/self/net/packet", {"packet_sockets"}),
        ("proc/11/comm", {"managers", "daemons"}),
        ("proc/filesystems", {"storage"}),
        ("sys/class/dmi/id/chassis_asset_tag", {"fabric"}),
    ],
)
def test_files_that_cannot_be_read(scene: Scene, path: str, lost: set[str]) -> None:
    """A directory in their place: root may read everything else."""
    (scene.root / path).unlink()
    (scene.root / path).mkdir()
    assert unknown(scene.read()) == lost


def test_sockets_whose_processes_cannot_be_searched_are_unknown(scene: Scene) -> None:
    """No process list: neither whose the sockets are, nor which managers run."""
    (scene.root / "proc").rename(scene.root / "elsewhere")
    assert unknown(scene.read()) == {
        "connections", "packet_sockets", "managers", "daemons", "sockets", "listeners", "ssh", "netconsole",
        "storage",
    }  # fmt: skip


def test_processes_that_cannot_be_searched(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def search(inodes: set[int], proc: Path) -> dict[int, tuple[Process, ...]]:
        assert inodes == {801, 804, 805, 900, 901, 906}  # 0 is the kernel's
        raise PermissionError

    monkeypatch.setattr(sockets, "owners_of", search)
    assert unknown(scene.read()) == {"connections", "packet_sockets", "sockets", "listeners"}


def test_without_sockets_nobody_looks_for_processes(scene: Scene) -> None:
    (scene.root / "proc").rename(scene.root / "elsewhere")
    scene.sockets, scene.away = [], []
    assert unknown(scene.read()) == {
        "packet_sockets", "managers", "daemons", "sockets", "ssh", "netconsole", "listeners", "storage",
    }  # fmt: skip


def test_a_fault_of_ours_is_not_taken_for_a_source_that_cannot_be_read(scene: Scene) -> None:
    scene.failing["tcp"] = TypeError()
    with pytest.raises(TypeError):
        scene.read()


def test_no_xdp_program_is_false(scene: Scene) -> None:
    scene.rtnl.xdp = {4: 2}
    assert scene.read().xdp is False


def test_a_synthetic_netdev_and_what_is_on_it_go_with_the_port(scene: Scene) -> None:
    scene.rtnl.links[2] = link(3, "eth1", master=12)
    scene.rtnl.links += [link(12, "eth9", "netvsc"), link(13, "vlan9", "vlan", on=12)]
    found = {one.name: (one.carried, one.closes) for one in scene.read().uppers or ()}
    assert found["eth9"] == (True, True)
    assert found["vlan9"][0]
    assert "eth9" not in [one.name for one in scene.read().carried], "it counts as the port itself"


def test_what_hangs_on_the_synthetic_netdev_hangs_on_the_port(scene: Scene) -> None:
    scene.rtnl.links[2] = link(3, "eth1", master=12)
    scene.rtnl.links += [link(12, "eth9", "netvsc"), link(20, "hsr0", "hsr")]
    above = UpperState("eth9", 12, "netvsc", 3, None, True, True, False)
    scene.state = dataclasses.replace(STATE, uppers=(*STATE.uppers, above))
    place = scene.root / "sys/class/net/eth9"
    write(place / "upper_hsr0/ifindex", "20\n")
    write(place / "ifindex", "12\n")
    scene.rtnl.xdp, scene.redirects = {12: 2}, {3: set(), 12: {2}}
    found = scene.read()
    assert "hsr0" in [one.name for one in found.uppers or ()]
    assert (found.xdp, found.redirecting) == (True, ("eth0",))


def test_a_synthetic_netdev_that_is_kept_goes_on(scene: Scene) -> None:
    scene.rtnl.links[2] = link(3, "eth1", master=12)
    scene.rtnl.links.append(link(12, "eth9", "netvsc"))
    scene.state = dataclasses.replace(STATE, alone=True)
    for claimed in ((3,), ()):
        assert [one.name for one in scene.read(claimed).uppers or ()] == ["vlan7"]


def test_an_upper_of_another_kind_is_left_though_the_synthetic_netdev_is_kept(
    scene: Scene,
) -> None:
    """Of the other ports of the claim, too, which may be in a bond."""
    scene.rtnl.links[2] = link(3, "eth1", master=12)
    scene.rtnl.links.append(link(12, "bond0", "bond"))
    scene.state = dataclasses.replace(STATE, alone=True)
    assert "bond0" in [one.name for one in scene.read().uppers or ()]


def test_managers_are_asked_about_uppers_too(scene: Scene) -> None:
    write(scene.root / "run/NetworkManager/devices/9", "managed=true\n")
    assert [one.managed for one in scene.read().managers or ()] == [True, True]


def test_what_leaves_by_an_upper_leaves_by_the_port(scene: Scene) -> None:
    server, _ = scene.read().fabric or ()
    assert server.through_port
    scene.rtnl.ways = {"0.0.0.0/0": {2}}
    server, _ = scene.read().fabric or ()
    assert server == FabricRoute(through_port=False, host_route=True, on_azure=True)


def test_a_port_of_the_same_claim_is_no_remaining_way(scene: Scene) -> None:
    server, _ = scene.read((3, 2)).fabric or ()
    assert (server.through_port, server.remaining) == (True, None)


def test_a_socket_on_an_upper_that_is_not_carried_is_not_the_ports(scene: Scene) -> None:
    """A VRF: its other members go on."""
    scene.rtnl.links[2] = link(3, "eth1", master=12)
    scene.rtnl.links.append(link(12, "vrf0", "vrf"))
    packet = PROC_NET_PACKET + "0 3 3 0003 12 1 0 0 903\n"
    write(scene.root / "proc/self/net/packet", packet)
    scene.away = []
    assert scene.read().packet_sockets == ()


def test_a_packet_socket_that_is_closed_before_its_process_is_looked_for_is_no_unseen_one(
    scene: Scene,
) -> None:
    """A manager's DHCP client opens some for seconds, and is asked in between."""

    def closes(words: Sequence[str]) -> str:
        write(scene.root / "proc/self/net/packet", PROC_NET_PACKET + "0 3 3 0003 3 1 0 0 907\n")
        return _no_bus(words)

    packet = PROC_NET_PACKET + "".join(f"0 3 3 0003 3 1 0 0 {inode}\n" for inode in (900, 901, 907))
    write(scene.root / "proc/self/net/packet", packet)
    scene.bus = closes
    assert scene.read().packet_sockets == (
        PacketSocket(900, (DHCLIENT,)),
        PacketSocket(907),  # a process that is not visible
        PacketSocket(906, (), "mv0 in blue"),
    )


def test_what_is_sent_by_others(scene: Scene) -> None:
    scene.redirects = {3: {2, 9}}
    write(scene.root / "proc/consoles", "netcon0 -W- (E  p  )\n")
    write(scene.root / "sys/kernel/config/netconsole/target1/dev_name", "eth1\n")
    write(scene.root / "sys/kernel/config/netconsole/target1/enabled", "1\n")
    found = scene.read()
    assert (found.redirecting, found.netconsole) == (("eth0", "vlan7"), True)


def test_connections_that_another_namespace_forwards(scene: Scene) -> None:
    flow = Forwarded("172.17.0.2", 2, "tcp to 10.1.0.9:7000", "blue")
    scene.away = [scene.away[0]._replace(forwarded=(flow,))]
    assert scene.read().forwarded == (flow,)
    scene.away = [scene.away[0]._replace(forwarded=None)]
    assert unknown(scene.read()) == {"forwarded"}


def test_tunnels_over_the_port_and_over_each_other_are_the_ports(scene: Scene) -> None:
    scene.rtnl.links += [
        link(20, "vx0", "vxlan"), link(21, "gre0", "gre"), link(22, "br0", "bridge"),
        link(23, "wg0", "wireguard"),
    ]  # fmt: skip
    scene.rtnl.links[-4] = link(20, "vx0", "vxlan", master=22)
    scene.rtnl.having += [address(21, "172.16.0.1"), address(23, "172.17.0.1")]
    scene.rtnl.routing.append(route(21, "0.0.0.0/0"))
    scene.rtnl.ways = {"10.0.0.0/8": {3}, "172.30.0.0/16": {22}, "0.0.0.0/0": {2}}
    scene.tunnels = [
        Tunnel(21, "gre0", "gre", outers=(Outer(packed("172.30.0.9")),)),
        Tunnel(20, "vx0", "vxlan", 3, outers=(Outer(packed("10.1.0.9")),)),
        Tunnel(23, "wg0", "wireguard", outers=(Outer(packed("192.0.2.9")),)),
    ]
    uppers = {one.name: one for one in scene.read().uppers or ()}
    assert set(uppers) == {"vlan7", "vx0", "gre0", "br0"}
    vx0, gre0 = uppers["vx0"], uppers["gre0"]
    assert vx0.ways == (TunnelWay("10.1.0.9", "eth1", True),)
    with wording:
        assert str(vx0) == "vx0 (vxlan, whose packets to 10.1.0.9 leave by eth1)"
    assert (vx0.carried, vx0.closes, vx0.routed) == (True, False, False)
    assert gre0.ways == (TunnelWay("172.30.0.9", "br0", False),)
    assert (gre0.addresses, len(gre0.default_routes), gre0.routed) == (("172.16.0.1",), 1, True)
    assert ways(scene, 3) == ("eth0", "wg0")


@pytest.mark.wording
def test_a_chain_of_tunnels_is_told_to_its_end(scene: Scene) -> None:
    scene.rtnl.links += [link(20, "wg0", "wireguard"), link(21, "gre0", "gre")]
    scene.rtnl.ways = {"10.1.0.0/16": {9}, "172.16.0.0/16": {20}}
    scene.tunnels = [
        Tunnel(21, "gre0", "gre", outers=(Outer(packed("172.16.0.9")),)),
        Tunnel(20, "wg0", "wireguard", outers=(Outer(packed("10.1.0.9")),)),
    ]
    (gre0,) = [one for one in scene.read().uppers or () if one.name == "gre0"]
    assert str(gre0) == (
        "gre0 (gre, whose packets to 172.16.0.9 leave by wg0, whose packets to 10.1.0.9 leave by "
        "vlan7)"
    )


def test_every_interface_of_the_open_vswitch_that_has_the_port(scene: Scene) -> None:
    scene.rtnl.links[2] = link(3, "eth1", master=20)
    scene.rtnl.links += [
        link(20, "ovs-system", "openvswitch", up=False), link(21, "br-ex", "openvswitch"),
        link(22, "br0", "bridge"),
    ]  # fmt: skip
    scene.rtnl.having.append(address(21, "192.0.2.21"))
    found = {one.name: one for one in scene.read().uppers or ()}
    assert set(found) == {"vlan7", "ovs-system", "br-ex"}
    assert (found["br-ex"].carried, found["br-ex"].addresses) == (True, ("192.0.2.21",))


def test_an_upper_that_only_sysfs_knows(scene: Scene) -> None:
    scene.rtnl.links += [link(20, "hsr0", "hsr"), link(21, "vlan9", "vlan", on=20)]
    scene.rtnl.having.append(address(20, "192.0.2.20"))
    place = scene.root / "sys/class/net/eth1"
    write(place / "upper_hsr0/ifindex", "20\n")
    write(place / "ifindex", "33\n")  # of another namespace's eth1
    assert [one.name for one in scene.read().uppers or ()] == ["vlan7"]
    write(place / "ifindex", "3\n")
    found = scene.read().uppers or ()
    assert [(one.name, one.carried) for one in found] == [
        ("vlan7", True), ("hsr0", True), ("vlan9", True),
    ]  # fmt: skip


# --- another way in ---------------------------------------------------------------------------


def ways(scene: Scene, *claimed: int) -> tuple[str, ...]:
    found = scene.read(claimed).others
    assert found is not None
    return found


def test_another_netdev_counts_when_it_is_up_with_carrier_and_a_global_address(
    scene: Scene,
) -> None:
    scene.rtnl.having.append(address(4, "2001:db8::4"))
    assert ways(scene, 3) == ("eth0", "eth2")
    scene.rtnl.links[1] = link(2, "eth0", up=False)
    assert ways(scene, 3) == ("eth2",)
    scene.rtnl.links[3] = link(4, "eth2", carrier=False)
    assert ways(scene, 3) == ()


@pytest.mark.parametrize(("scope", "counts"), [(0, True), (200, False), (253, False), (254, False)])
def test_only_addresses_of_global_scope_count(scene: Scene, scope: int, counts: bool) -> None:
    scene.rtnl.having = [address(4, "192.0.2.4", scope=scope)]
    assert ways(scene, 3) == (("eth2",) if counts else ())


def test_the_loopback_interface_is_no_way_in(scene: Scene) -> None:
    scene.rtnl.having = [address(1, "192.0.2.9")]
    assert ways(scene, 3) == ()


def test_ports_of_the_same_claim_and_their_uppers_are_no_way_in(scene: Scene) -> None:
    scene.rtnl.having = [address(4, "192.0.2.4"), address(10, "192.0.2.10")]
    scene.rtnl.links.append(link(10, "vlan8", "vlan", on=4))
    assert ways(scene, 3) == ("eth2", "vlan8")
    assert ways(scene, 3, 4) == ()
    scene.rtnl.having.append(address(3, "192.0.2.3"))
    assert ways(scene, 4) == ()  # the port itself counts as claimed


def test_a_bond_is_a_way_in_while_it_has_a_member_that_stays(scene: Scene) -> None:
    scene.rtnl.having = [address(12, "192.0.2.12")]
    scene.rtnl.links = [
        link(3, "eth1", master=12), link(4, "eth2", master=12), link(12, "bond0", "bond"),
    ]  # fmt: skip
    assert ways(scene, 3) == ("bond0",)
    assert ways(scene, 3, 4) == ()
    scene.rtnl.links[1] = link(4, "eth2", master=12, carrier=False)
    assert ways(scene, 3) == ()


# --- RDMA users -------------------------------------------------------------------------------

SPLIT, COMBINED = RdmaPort("manae_0", 1, ("mana_0/1",)), RdmaPort("mana_0", 1)
KERNEL = Resource(True, None, 1)


@pytest.fixture
def users(proc: Callable[..., Path]) -> Callable[..., tuple[RdmaUser, ...]]:
    def read(rdma: RdmaPort, nldev: FakeNldev) -> tuple[RdmaUser, ...]:
        root = proc(Process(77, "ib_send_bw"))
        return surroundings.rdma_users(rdma, lambda: contextlib.nullcontext(nldev), root)

    return read


def test_a_port_without_an_rdma_device_has_no_users(users: Callable[..., Any]) -> None:
    assert users(None, FakeNldev([Resource(False, 77, 2)])) == ()


def test_an_rnic_has_users_when_a_protection_domain_is_in_use(users: Callable[..., Any]) -> None:
    idle, used = Resource(False, 77, 0), Resource(False, 77, 2)
    assert users(SPLIT, FakeNldev([KERNEL, idle])) == ()
    ours = FakeNldev([KERNEL, idle], ethernet=[used])  # the device of raw QPs itself
    assert users(SPLIT, ours) == ()
    process = Process(77, "ib_send_bw")
    expected = RdmaUser("mana_0", "1 protection domain in use", (process,))
    with wording:
        assert users(SPLIT, FakeNldev([KERNEL, idle, used])) == (expected,)
    two = FakeNldev([used, Resource(False, 78, 1), Resource(False, None, 1), used])
    expected = RdmaUser("mana_0", "4 protection domains in use", (process, Process(78, "?")))
    with wording:
        assert users(SPLIT, two) == (expected,)


@pytest.mark.parametrize("device", [SPLIT, COMBINED])
def test_storage_over_rdma_is_a_user_in_the_kernel(
    users: Callable[..., Any], device: RdmaPort
) -> None:
    core = Resource(True, None, 1, "ib_core")
    nvme, idle = Resource(True, None, 3, "nvme_rdma"), Resource(True, None, 0, "rpcrdma")
    assert users(device, FakeNldev([core, idle], 1)) == ()
    (found,) = users(device, FakeNldev([core, nvme, idle], 4))
    with wording:
        assert found == RdmaUser("mana_0", "nvme_rdma in the kernel")
    (found,) = users(device, FakeNldev([core, nvme, Resource(True, None, 1, "rpcrdma")], 5))
    with wording:
        assert found.what == "nvme_rdma, rpcrdma in the kernel"


class SoftNldev(FakeNldev):
    """With an rxe or siw device, whose GUID is made of the MAC address of its netdev."""

    def devices(self) -> list[RdmaDevice]:
        return [
            *super().devices(),
            RdmaDevice(2, "rxe0", 1, 0x00155DFFFE000002, "roce"),  # 02:15:5d:00:00:02
            RdmaDevice(3, "siw9", 1, 0x00155DFFFE000009, "iwarp"),
        ]

    def pds(self, index: int) -> list[Resource]:
        core, mine = Resource(True, None, 1, "ib_core"), Resource(False, 71, 2)
        idle, unnamed = Resource(False, 72, 0), Resource(True, None, 1)
        theirs = [Resource(True, None, 1, module) for module in reversed(MODULES)]
        if index in (2, 3):
            return [core, mine, *theirs, idle, unnamed]
        return super().pds(index)


MODULES = ["ib_iser", "ib_srp", "nvme_rdma", "rpcrdma", "smc"]


def test_rdma_in_software_over_the_netdev(tmp_path: Path) -> None:
    write(tmp_path / "71/comm", "curl\n")
    device = RdmaPort("manae_0", 1, ("mana_0/1",))

    def users(*macs: str | None) -> tuple[RdmaUser, ...]:
        nldev = contextlib.nullcontext(SoftNldev([]))
        return surroundings.rdma_users(device, lambda: nldev, tmp_path, macs)

    with wording:
        assert users("02:15:5d:00:00:02", None) == (
            RdmaUser("rxe0", f"{', '.join(MODULES)} in the kernel, in software"),
            RdmaUser("rxe0", "1 protection domain in use, in software", (CURL,)),
        )
    assert users("02:15:5d:00:00:03") == ()


def test_users_are_listed_in_order(users: Callable[..., Any]) -> None:
    both = [Resource(False, 8, 1), Resource(False, 1, 1)]  # a set would have 8 first
    (found,) = users(SPLIT, FakeNldev(both))
    assert [process.pid for process in found.processes] == [1, 8]


def test_a_name_that_is_no_text_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    write(tmp_path / "77/comm", "")
    (tmp_path / "77/comm").write_bytes(b"x\xff\n")
    nldev = FakeNldev([Resource(False, 77, 1)])
    (found,) = surroundings.rdma_users(SPLIT, lambda: contextlib.nullcontext(nldev), tmp_path)
    assert found.processes == (Process(77, "x\udcff"),)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ESRCH])
def test_a_process_that_has_ended_has_no_name_and_one_that_cannot_be_looked_at_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fails(_path: Path) -> str:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(surroundings, "read", fails)
    nldev = FakeNldev([Resource(False, 77, 1)])
    lacks = number == errno.EMFILE
    with pytest.raises(OSError, match="open files") if lacks else contextlib.nullcontext():
        found = surroundings.rdma_users(SPLIT, lambda: contextlib.nullcontext(nldev), tmp_path)
        assert found is not None
        assert found[0].processes == (Process(77, "?"),)


def test_users_in_the_kernel_are_looked_for_on_both_devices(users: Callable[..., Any]) -> None:
    nvme = Resource(True, None, 3, "nvme_rdma")
    first, second = users(SPLIT, FakeNldev([nvme], ethernet=[nvme]))
    assert {first.device, second.device} == {"mana_0", "manae_0"}
    (found,) = users(SPLIT, FakeNldev([], ethernet=[nvme]))
    with wording:
        assert found == RdmaUser("manae_0", "nvme_rdma in the kernel")


def test_a_kernel_that_does_not_report_use_counts_as_users(users: Callable[..., Any]) -> None:
    assert users(SPLIT, FakeNldev([Resource(False, 77, None)])) != ()
    assert users(SPLIT, FakeNldev([Resource(True, None, None, "nvme_rdma")])) != ()
    (found,) = users(COMBINED, FakeNldev([Resource(True, None, None)], qps=2))
    with wording:
        assert found.what.split()[0] == "2"  # none of them is known to be the kernel's


def test_a_kernel_that_does_not_count_queue_pairs_leaves_users_unknown() -> None:
    class Silent(FakeNldev):
        def summary(self, index: int) -> dict[str, int]:
            return {"pd": 1}

    with pytest.raises(KeyError):
        surroundings.rdma_users(COMBINED, lambda: contextlib.nullcontext(Silent([KERNEL])))


def test_a_device_that_has_gone_leaves_users_unknown() -> None:
    gone = RdmaPort("mana_9", 1)
    with pytest.raises(KeyError):
        surroundings.rdma_users(gone, lambda: contextlib.nullcontext(FakeNldev([KERNEL])))


@pytest.mark.parametrize(
    ("qps", "raw", "users_left"), [(1, False, 0), (2, True, 0), (2, False, 1), (4, True, 2)]
)
def test_on_a_combined_device_raw_and_kernel_queue_pairs_are_no_users(
    users: Callable[..., Any], qps: int, raw: bool, users_left: int
) -> None:
    mine = [Resource(False, 77, 1), Resource(False, 78, 0)]
    found = users(COMBINED, FakeNldev([KERNEL, *mine], qps, raw))
    if users_left:
        what = f"{users_left} RC or UD queue pair{'s' * (users_left > 1)}"
        with wording:
            assert found == (RdmaUser("mana_0", what, (Process(77, "ib_send_bw"),)),)
    else:
        assert found == ()


def test_the_sources_are_this_machines() -> None:
    assert (
        Sources(
            Path("/proc"),
            Path("/run"),
            Path("/sys"),
            netdevs.links,
            sockets.tcp,
            upper_devices.in_other_netns,
            Nldev,
            tunnels.live,
            sockets.udp,
            sockets.unconnected,
            sockets.listening,
            conntrack.entries,
            redirects.live,
        )
        == surroundings.LIVE
    )
