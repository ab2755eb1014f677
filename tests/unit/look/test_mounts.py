"""Storage that is reached over a port, by mount tables and sysfs of machines in memory.

The lines are as the kernel writes them (show_mountinfo(), the file systems' show_options()).
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from manactl.look import mounts
from manactl.look.sockets import Reach
from manactl.netstate.surroundings import RemoteStorage
from tests.unit.look.kernel import FakeRtnl
from tests.unit.wire.test_conntrack import packed

# The port's net, and all others by another netdev.
WAYS = {"10.1.0.0/24": {3}, "2001:db8:1::/64": {3}, "0.0.0.0/0": {2}, "::/0": {2}}
REACH = Reach(frozenset({3}), frozenset({packed("10.1.0.4")}))
TYPES = ("sysfs", "nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "lustre", "afs")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def process(
    root: Path, pid: int, *mounted: str, net: str = "net:[1]", mnt: str = "mnt:[1]", top: str = "/"
) -> None:
    place = root / "proc" / str(pid)
    (place / "ns").mkdir(parents=True)
    os.symlink(net, place / "ns/net")
    os.symlink(mnt, place / "ns/mnt")
    os.symlink(top, place / "root")
    write(place / "mountinfo", "22 1 0:1 / / rw - ext4 /dev/sda1 rw\n" + "\n".join(mounted) + "\n")


def machine(root: Path, *types: str) -> None:
    write(root / "proc/filesystems", "".join(f"nodev\t{one}\n" for one in types) + "\text4\n")
    (root / "proc/self/ns").mkdir(parents=True)
    os.symlink("net:[1]", root / "proc/self/ns/net")


def read(root: Path, netns: str | None = None, *names: str) -> list[RemoteStorage]:
    return mounts.storage(
        REACH, FakeRtnl([], ways=WAYS), root / "proc", root / "sys", names=names, netns=netns
    )


def line(words: str, where: str = "/mnt") -> str:
    return f"41 22 0:40 / {where} rw,relatime shared:9 - {words}"


NFS = "nfs4 srv:/data rw,vers=4.2,proto=tcp,clientaddr={own},local_lock=none,addr={there}"
OVER = [
    (NFS.format(own="10.1.0.4", there="10.1.0.9"), "NFS", "10.1.0.9"),
    ("nfs srv:/data rw,vers=3,mountaddr=10.1.0.9,mountproto=udp,addr=10.1.0.9", "NFS", "10.1.0.9"),
    (NFS.format(own="2001:db8:1::4", there="2001:db8:1::9"), "NFS", "2001:db8:1::9"),
    (r"cifs //srv/a\040share rw,vers=3.1.1,username=x,addr=10.1.0.9", "SMB", "10.1.0.9"),
    ("smb3 //srv/x rw,srcaddr=10.1.0.4,addr=192.0.2.9", "SMB", "192.0.2.9"),
    ("ceph 192.0.2.1:6789,10.1.0.9:6789:/ rw,name=admin,acl", "Ceph", "10.1.0.9"),
    ("ceph a@fsid.fs=/ rw,name=a,mon_addr=192.0.2.1:3300/10.1.0.9:3300", "Ceph", "10.1.0.9"),
    ("ceph [2001:db8:1::9]:6789:/ rw,name=admin", "Ceph", "2001:db8:1::9"),
    ("9p 10.1.0.9 rw,access=client,trans=tcp,port=564", "9P", "10.1.0.9"),
    ("lustre 192.0.2.1@o2ib,10.1.0.9@tcp1:192.0.2.2@tcp:/fs rw,checksum", "Lustre", "10.1.0.9"),
    ("nfs4 srv:/data rw,proto=rdma,addr=10.1.0.9", "NFS", "10.1.0.9"),
    # Who the server is cannot be known.
    ("lustre mgs1@tcp:/fs rw", "Lustre", "mgs1"),
    ("nfs4 srv:/data rw", "NFS", None),
    ("afs #cell:root.cell rw", "AFS", None),
]  # fmt: skip


@pytest.mark.parametrize(("words", "kind", "address"), OVER)
def test_a_file_system_from_a_server_behind_the_port(
    tmp_path: Path, words: str, kind: str, address: str | None
) -> None:
    machine(tmp_path, *TYPES)
    process(tmp_path, 1, line(words, r"/mnt\040of\040x"))
    assert read(tmp_path) == [RemoteStorage(kind, address, "/mnt of x")]


@pytest.mark.parametrize(
    "words",
    [
        NFS.format(own="10.1.0.4", there="192.0.2.9"),
        "cifs //srv/x rw,addr=192.0.2.9",
        "ceph 192.0.2.1:6789:/ rw",
        "9p hostshare rw,trans=virtio",
        "9p none rw,trans=fd,rfd=3,wfd=3",
        "9p 192.0.2.9 rw,trans=tcp",
        "lustre 192.0.2.1@tcp:/fs rw",
        "lustre 0@lo:/fs rw",
        "tmpfs tmpfs rw,addr=10.1.0.9",
        "fuse.sshfs a@10.1.0.9: rw",  # a process has its sockets
        "nfs4 here:/x rw,addr=127.0.0.1",
    ],
)
def test_what_is_not_reached_over_the_port(tmp_path: Path, words: str) -> None:
    machine(tmp_path, *TYPES)
    process(tmp_path, 1, line(words))
    rtnl = FakeRtnl([], ways={"127.0.0.0/8": set(), **WAYS})
    assert mounts.storage(REACH, rtnl, tmp_path / "proc", tmp_path / "sys") == []


def test_mounts_of_all_mount_namespaces_of_this_network_namespace(tmp_path: Path) -> None:
    """A container with the host's network, and none with its own; each table once."""
    machine(tmp_path, *TYPES)
    of = {n: line(NFS.format(own="x", there=f"10.1.0.{n}"), f"/m{n}") for n in (7, 8, 9)}
    process(tmp_path, 1)
    process(tmp_path, 2, of[7], mnt="mnt:[2]")
    process(tmp_path, 3, of[8], mnt="mnt:[2]")  # the same namespace: read by way of one of them
    process(tmp_path, 4, of[9], mnt="mnt:[3]", net="net:[2]")
    assert [one.where for one in read(tmp_path)] in (["/m7"], ["/m8"])


def test_a_process_with_another_root_does_not_hide_the_mounts_of_its_namespace(
    tmp_path: Path,
) -> None:
    machine(tmp_path, *TYPES)
    for pid in (1, 2, 3):
        process(tmp_path, pid, top="/var/empty")
    process(tmp_path, 4, line(NFS.format(own="x", there="10.1.0.9")))
    for pid in (5, 6, 7):
        process(tmp_path, pid, top="/var/empty")
    assert [one.address for one in read(tmp_path)] == ["10.1.0.9"]


def test_a_child_in_another_namespace_does_not_count_its_own_mounts(tmp_path: Path) -> None:
    machine(tmp_path, *TYPES)
    process(tmp_path, os.getpid(), line(NFS.format(own="x", there="10.1.0.7")))
    process(tmp_path, 99999999, line(NFS.format(own="x", there="10.1.0.8"), "/pod"), mnt="mnt:[9]")
    assert read(tmp_path, "pod") == [RemoteStorage("NFS", "10.1.0.8", "/pod", "pod")]


def test_servers_of_data_beside_that_of_the_mount(tmp_path: Path) -> None:
    machine(tmp_path, *TYPES)
    process(tmp_path, 1, line(NFS.format(own="x", there="192.0.2.9")))
    write(
        tmp_path / "proc/self/net/nfsfs/servers",
        "NV SERVER   PORT USE HOSTNAME\n"
        "v4 c0000209  801   2 192.0.2.9\nv4 0a010009  801   1 10.1.0.9\n",
    )
    assert read(tmp_path) == [RemoteStorage("NFS", "10.1.0.9", "10.1.0.9")]


def test_a_link_local_server_is_where_its_mount_says(tmp_path: Path) -> None:
    """On the interface of its zone, not on any that has a link-local net."""
    machine(tmp_path, *TYPES)
    process(tmp_path, 1, line(NFS.format(own="fe80::4%1", there="fe80::9%1")))
    write(
        tmp_path / "proc/self/net/nfsfs/servers",
        f"NV SERVER   PORT USE HOSTNAME\nv4 fe80{'0' * 27}9  801   1 fe80::9\n",
    )
    rtnl = FakeRtnl([], ways={"fe80::/64": {3}})
    assert mounts.storage(REACH, rtnl, tmp_path / "proc", tmp_path / "sys") == []


def test_servers_of_afs(tmp_path: Path) -> None:
    machine(tmp_path, *TYPES)
    process(tmp_path, 1, line("afs #cell:root.cell rw"))
    servers = tmp_path / "proc/self/net/afs/servers"
    head = "UUID REF ACT\nab 1 1\n  - info: fl=1 rtt=9 brk=0\n  - ALIST v=1 rsp=3 f=0\n"
    write(servers, head + "    [0] 192.0.2.7:7000*\n")
    assert read(tmp_path) == []
    write(servers, head + "    [0] 10.1.0.9:7000* rtt=1 err=0 p=2\n    [1] [2001:db8:1::9]:7000\n")
    assert [one.address for one in read(tmp_path)] == ["10.1.0.9", "2001:db8:1::9"]


def test_where_the_kernel_knows_no_such_file_system_nothing_is_read(tmp_path: Path) -> None:
    """Not even the list of processes."""
    write(tmp_path / "proc/filesystems", "nodev\tsysfs\n\text4\n")
    assert read(tmp_path) == []


def test_a_table_that_cannot_be_read_is_not_empty(tmp_path: Path) -> None:
    machine(tmp_path, *TYPES)
    process(tmp_path, 1)
    (tmp_path / "proc/1/mountinfo").unlink()
    (tmp_path / "proc/1/mountinfo").mkdir()
    with pytest.raises(IsADirectoryError):
        read(tmp_path)


@pytest.mark.parametrize("name", ["filesystems", "self/net/nfsfs/servers"])
def test_a_file_of_the_kernel_that_cannot_be_read_is_not_empty(tmp_path: Path, name: str) -> None:
    machine(tmp_path, *TYPES)
    (tmp_path / "proc" / name).unlink(missing_ok=True)
    (tmp_path / "proc" / name).mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        read(tmp_path)


@pytest.mark.parametrize("row", ["v4 (null) (null)   1 data", "v4", "v4 0a01  801   1 data"])
def test_a_server_of_data_that_is_not_understood_is_not_passed_over(
    tmp_path: Path, row: str
) -> None:
    machine(tmp_path, *TYPES)
    write(tmp_path / "proc/self/net/nfsfs/servers", f"NV SERVER   PORT USE HOSTNAME\n{row}\n")
    with pytest.raises((ValueError, OSError)):
        read(tmp_path)


def test_a_process_that_has_ended_is_passed_over(tmp_path: Path) -> None:
    machine(tmp_path, *TYPES)
    (tmp_path / "proc/7").mkdir()
    process(tmp_path, 8, line(NFS.format(own="x", there="10.1.0.9")))
    assert len(read(tmp_path)) == 1


def test_an_address_that_cannot_be_looked_up_counts(tmp_path: Path) -> None:
    machine(tmp_path, *TYPES)
    process(tmp_path, 1, line(NFS.format(own="x", there="10.1.0.9")))
    rtnl = FakeRtnl([], failing={"leaves_by": OSError(errno.EIO, "?")})
    assert len(mounts.storage(REACH, rtnl, tmp_path / "proc", tmp_path / "sys")) == 1


# --- disks ------------------------------------------------------------------------------------


def nvme(root: Path, name: str, transport: str, address: str) -> None:
    write(root / f"sys/class/nvme/{name}/transport", transport + "\n")
    write(root / f"sys/class/nvme/{name}/address", address + "\n")


def test_nvme_over_tcp_by_its_address_and_ours(tmp_path: Path) -> None:
    machine(tmp_path)
    nvme(tmp_path, "nvme0", "pcie", "0000:00:01.0")
    nvme(tmp_path, "nvme1", "tcp", "traddr=10.1.0.9,trsvcid=4420,src_addr=10.1.0.4")
    nvme(tmp_path, "nvme2", "tcp", "traddr=192.0.2.9,trsvcid=4420")
    nvme(tmp_path, "nvme3", "tcp", "traddr=192.0.2.9,trsvcid=4420,host_traddr=10.1.0.4")
    nvme(tmp_path, "nvme4", "tcp", "")
    assert [(one.kind, one.where) for one in read(tmp_path)] == [
        ("NVMe/TCP", name) for name in ("nvme1", "nvme3", "nvme4")
    ]


def test_nvme_over_tcp_that_is_bound_to_a_netdev(tmp_path: Path) -> None:
    """Whatever way leads there from elsewhere (nvme connect --host-iface)."""
    machine(tmp_path)
    nvme(tmp_path, "nvme1", "tcp", "traddr=192.0.2.9,trsvcid=4420,host_iface=eth1")
    nvme(tmp_path, "nvme2", "tcp", "traddr=192.0.2.9,trsvcid=4420,host_iface=eth0")
    nvme(tmp_path, "nvme3", "tcp", "trsvcid=4420,host_iface=eth0")
    assert [one.where for one in read(tmp_path, None, "eth1")] == ["nvme1", "nvme3"]


def test_iscsi_by_the_portal_that_it_logs_in_to(tmp_path: Path) -> None:
    machine(tmp_path)
    place = tmp_path / "sys/class/iscsi_connection"
    for number, portal, address in (
        (1, "10.1.0.9", "10.1.0.9"), (2, "192.0.2.9", "192.0.2.9"), (3, "san.example", "10.1.0.8"),
        (4, "san.example", ""),
    ):  # fmt: skip
        write(place / f"connection{number}:0/persistent_address", portal + "\n")
        write(place / f"connection{number}:0/address", address + "\n")
        write(place / f"connection{number}:0/local_ipaddr", "(null)\n")
        write(tmp_path / f"sys/class/iscsi_session/session{number}/targetname", f"iqn.{number}\n")
    assert read(tmp_path) == [
        RemoteStorage("iSCSI", "10.1.0.9", "iqn.1"),
        RemoteStorage("iSCSI", "10.1.0.8", "iqn.3"),
        RemoteStorage("iSCSI", None, "iqn.4"),
    ]


def test_rbd_by_its_monitors_and_aoe_by_its_netdevs(tmp_path: Path) -> None:
    machine(tmp_path)
    rbd = "192.0.2.1:6789,10.1.0.9:6789 name=admin,key=client.admin pool image -\n"
    write(tmp_path / "sys/bus/rbd/devices/0/config_info", rbd)
    write(tmp_path / "sys/block/etherd!e1.2/netif", "eth0,eth1\n")
    write(tmp_path / "sys/block/sda/size", "1\n")
    assert read(tmp_path, None, "eth1") == [RemoteStorage("Ceph", "10.1.0.9", "rbd0")]
    (tmp_path / "sys/module/aoe").mkdir(parents=True)
    assert read(tmp_path, None, "eth1")[1:] == [RemoteStorage("AoE", None, "etherd/e1.2")]
    assert len(read(tmp_path)) == 1


def test_disks_are_not_looked_up_again_in_other_namespaces(tmp_path: Path) -> None:
    machine(tmp_path)
    nvme(tmp_path, "nvme1", "tcp", "traddr=10.1.0.9,trsvcid=4420")
    assert read(tmp_path, "pod") == []
