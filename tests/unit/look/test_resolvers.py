"""Name servers that are reached over the port alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from manactl.look import resolvers
from manactl.netstate.surroundings import NameServer
from tests.unit.look.kernel import FakeRtnl, link

LINKS = [link(2, "eth0"), link(3, "eth1")]
WAYS = {"10.1.0.0/24": {3}, "2001:db8:1::/64": {3}, "0.0.0.0/0": {2}, "127.0.0.0/8": {3}}


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def found(root: Path, rtnl: FakeRtnl, left: dict[int, str]) -> tuple[NameServer, ...]:
    return resolvers.through({3}, left, rtnl, etc=root / "etc", run=root / "run")


def test_name_servers_by_where_they_lead(tmp_path: Path) -> None:
    conf = write(
        tmp_path / "etc/resolv.conf",
        "# nameserver 10.1.0.7\nsearch x\nnameserver 127.0.0.53\nnameserver 192.0.2.53\n"
        "nameserver 10.1.0.53\nnameserver 2001:db8:1::53\nnameserver nonsense\nnameserver\n",
    )
    rtnl = FakeRtnl(LINKS, ways=WAYS)
    assert found(tmp_path, rtnl, {}) == (
        NameServer("10.1.0.53", str(conf)), NameServer("2001:db8:1::53", str(conf)),
    )  # fmt: skip


def test_what_another_netdev_leads_to_is_not_lost(tmp_path: Path) -> None:
    write(tmp_path / "etc/resolv.conf", "nameserver 10.1.0.53\n")
    rtnl = FakeRtnl(LINKS, ways={"10.1.0.0/24": {3}, "10.1.0.0/16": {2}})
    assert found(tmp_path, rtnl, {2: "eth0"}) == ()
    assert len(found(tmp_path, rtnl, {})) == 1


@pytest.mark.parametrize(
    ("servers", "addresses"),
    [
        ("10.1.0.53 192.0.2.53", ["10.1.0.53"]),
        ("10.1.0.53:5353#dns.example", ["10.1.0.53"]),
        ("[2001:db8:1::53]:853#dns.example", ["2001:db8:1::53"]),
        ("2001:db8:1::53", ["2001:db8:1::53"]),
    ],
)
def test_those_of_systemd_resolved(tmp_path: Path, servers: str, addresses: list[str]) -> None:
    write(tmp_path / "etc/resolv.conf", "nameserver 127.0.0.53\n")
    write(tmp_path / "run/systemd/resolve/resolv.conf", "nameserver 10.1.0.9\n")
    write(tmp_path / "run/systemd/resolve/netif/3", f"# private\nLLMNR=yes\nSERVERS={servers}\n")
    names = [one.address for one in found(tmp_path, FakeRtnl(LINKS, ways=WAYS), {})]
    assert names == ["10.1.0.9", *addresses]


def test_one_on_an_interface_that_is_not_here(tmp_path: Path) -> None:
    write(tmp_path / "etc/resolv.conf", "nameserver fe80::53%nothing0\n")
    assert found(tmp_path, FakeRtnl(LINKS, ways={"fe80::/64": {3}}), {}) == ()


@pytest.mark.parametrize("name", ["etc/resolv.conf", "run/systemd/resolve/netif/3"])
def test_a_file_that_cannot_be_read_is_not_empty(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        found(tmp_path, FakeRtnl(LINKS, ways=WAYS), {})


def test_without_a_file_there_is_none(tmp_path: Path) -> None:
    assert found(tmp_path, FakeRtnl(LINKS, ways=WAYS), {}) == ()
