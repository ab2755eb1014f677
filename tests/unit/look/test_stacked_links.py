"""Which devices are stacked on a port, from the messages of all links, and their sysctls."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from pathlib import Path

import pytest

from manactl.look import stacked_links
from manactl.look.stacked_links import StackedLink, parse, put_setting, settings
from manactl.netstate.snapshot import Accepted, Setting
from manactl.netstate.uppers import UpperState

MAC = bytes.fromhex("020000000007")


def attr(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def u32(value: int) -> bytes:
    return struct.pack("=I", value)


def link(
    ifindex: int, name: str, kind: str = "", *, lower: int | None = None, master: int | None = None,
    data: bytes = b"", flags: int = 1, carrier: int = 1, more: bytes = b"",
) -> StackedLink:  # fmt: skip
    body = struct.pack("=BBHiII", 0, 0, 1, ifindex, flags, 0) + attr(3, name.encode() + b"\0")
    body += attr(33, bytes([carrier])) + attr(1, MAC) + more
    body += b"" if lower is None else attr(5, u32(lower))
    body += b"" if master is None else attr(10, u32(master))
    return parse(body + attr(18, attr(1, kind.encode() + b"\0") + attr(2, data)) if kind else body)


def test_what_a_link_is() -> None:
    data = attr(1, struct.pack("=H", 7)) + attr(5, b"\x81\0")
    assert link(9, "v9", "vlan", lower=3, data=data, carrier=0) == StackedLink(
        9, "v9", "vlan", True, False, 3, None, None, "802.1Q 7", True, None, None,
        "02:00:00:00:00:07",
    )  # fmt: skip
    odd = attr(1, struct.pack("=H", 7)) + attr(5, b"\x91\0") + attr(2, struct.pack("=II", 4, 4))
    assert link(9, "v9", "vlan", data=odd)[8:10] == ("0x9100 7", False)
    assert link(9, "eth1", flags=0x1002)[2:6] == ("", False, True, None)


def test_uppers_from_the_bottom_up_each_once() -> None:
    vlan = attr(1, struct.pack("=H", 7))
    links = [
        link(40, "red", "vrf", data=attr(1, u32(100))),
        link(30, "q", "vlan", lower=20, data=vlan),
        link(21, "m", "macvlan", lower=3),
        link(20, "bond0", "bond", master=40, data=attr(2, u32(4))),
        link(3, "eth1", master=20),
        link(4, "eth2", master=20),
        link(31, "on-eth2", "macvlan", lower=4),
        link(32, "on-m", "macvlan", lower=21),
    ]
    found = stacked_links.uppers(links, 3)
    assert [(u.name, u.lower) for u in found] == [
        ("bond0", 3), ("m", 3), ("q", 20), ("red", 20), ("on-m", 21),
    ]  # fmt: skip
    assert found[0] == UpperState(
        "bond0", 20, "bond", 3, None, True, True, False, 4, None, "02:00:00:00:00:07"
    )
    assert (found[3].table, found[2].follows) == (100, True)
    assert stacked_links.uppers(links, 77) == ()
    assert stacked_links.uppers([one for one in links if one.ifindex != 20], 3)[0].name == "m"


def test_what_stands_on_it_by_two_ways_is_told_once() -> None:
    links = [
        link(2, "br0", "bridge"),
        link(3, "eth1", master=2),
        link(9, "v9", "vlan", lower=3, master=2),
        link(12, "on-br", "macvlan", lower=2),
    ]
    found = stacked_links.uppers(links, 3)
    assert [(one.name, one.lower) for one in found] == [("br0", 3), ("v9", 3), ("on-br", 2)]


@pytest.mark.parametrize("kind", sorted(stacked_links.BESIDE))
def test_the_other_end_of_a_pair_is_not_stacked(kind: str) -> None:
    assert stacked_links.uppers([link(3, "eth1"), link(9, "x", kind, lower=3)], 3) == ()


def test_what_is_on_a_device_of_another_namespace_is_not_stacked_here() -> None:
    one = link(9, "x", "macvlan", lower=3, more=attr(37, struct.pack("=i", 5)))
    assert (one.link, one.far_lower) == (None, (3, 5))
    assert link(9, "x", "macvlan", more=attr(37, u32(5))).far_lower is None


def test_settings_are_read_and_written(tmp_path: Path) -> None:
    for name, value in (("eth1", "1400\n"), ("v9", "1280\n")):
        (tmp_path / f"net/ipv6/conf/{name}").mkdir(parents=True)
        (tmp_path / f"net/ipv6/conf/{name}/mtu").write_text(value)
    devices = [(3, "eth1"), (8, "without-ipv6"), (9, "v9")]
    assert settings(devices, tmp_path) == (
        Setting(3, "net/ipv6/conf", "mtu", "1400"),
        Setting(9, "net/ipv6/conf", "mtu", "1280"),
    )
    put_setting("net/ipv6/conf/v9/mtu", "1500", tmp_path)
    assert settings(devices, tmp_path)[1].value == "1500"


def test_settings_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    """Only a device without IPv6 has none."""
    (tmp_path / "net/ipv6/conf/eth1/mtu").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        settings([(3, "eth1")], tmp_path)


CONF = {
    "accept_ra": 1, "forwarding": 0, "disable_ipv6": 0, "accept_ra_defrtr": 1,
    "accept_ra_pinfo": 1, "autoconf": 1, "accept_ra_rt_info_max_plen": 64,
    "router_solicitations": -1,
}  # fmt: skip
ALL = Accepted(3, default=True, prefixes=True, addresses=True, routes=64)


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({}, ALL),
        ({"accept_ra": 0}, None),
        ({"accept_ra": 2}, ALL),
        ({"forwarding": 1}, None),
        ({"forwarding": 1, "accept_ra": 2}, ALL),
        ({"forwarding": 2}, None),
        ({"forwarding": 1, "accept_ra": 3}, None),
        ({"accept_ra": -1}, ALL),
        ({"disable_ipv6": 1}, None),
        ({"accept_ra_defrtr": 0}, ALL._replace(default=False)),
        ({"accept_ra_pinfo": 0}, ALL._replace(prefixes=False, addresses=False)),
        ({"autoconf": 0}, ALL._replace(addresses=False)),
        ({"accept_ra_rt_info_max_plen": 0}, ALL._replace(routes=0)),
        ({"accept_ra_rt_info_max_plen": None}, ALL._replace(routes=0)),
        ({"router_solicitations": 0}, ALL._replace(solicits=False)),
        ({"accept_ra": None}, None),
        ({"autoconf": "x"}, None),
    ],
)
def test_what_is_taken_from_a_router(
    more: dict[str, int | str | None], found: Accepted | None, tmp_path: Path
) -> None:
    (tmp_path / "net/ipv6/conf/eth1").mkdir(parents=True)
    for key, value in {**CONF, **more}.items():
        if value is not None:
            (tmp_path / "net/ipv6/conf/eth1" / key).write_text(f"{value}\n")
    devices = [(8, "without-ipv6"), (3, "eth1")]
    assert stacked_links.accepted(devices, tmp_path) == (() if found is None else (found,))


def test_every_sysctl_that_can_be_read_and_written(tmp_path: Path) -> None:
    conf = tmp_path / "net/ipv4/conf/eth1"
    conf.mkdir(parents=True)
    (conf / "rp_filter").write_text("2\n")
    (conf / "mc_forwarding").write_text("0\n")
    (conf / "mc_forwarding").chmod(0o444)
    (conf / "unreadable").mkdir()
    other = tmp_path / "net/ipv6/neigh/eth1"
    other.mkdir(parents=True)
    (other / "proxy_qlen").write_text("64\n")
    assert stacked_links.every_setting("eth1", tmp_path) == {
        ("net/ipv4/conf", "rp_filter"): "2",
        ("net/ipv6/neigh", "proxy_qlen"): "64",
    }


def test_what_sysfs_alone_has_of_a_netdev(tmp_path: Path) -> None:
    directory = tmp_path / "class/net/eth1"
    for queue in ("rx-0", "tx-0", "tx-1"):
        (directory / "queues" / queue).mkdir(parents=True)
    files = {
        "ifindex": "3", "threaded": "1", "gro_flush_timeout": "20000", "mtu": "1500",
        "queues/rx-0/rps_cpus": "3", "queues/tx-0/xps_cpus": "00000001,00000000",
        "queues/tx-0/traffic_class": "0",
    }  # fmt: skip
    for key, value in files.items():
        (directory / key).write_text(f"{value}\n")
    (directory / "queues/tx-1/xps_cpus").mkdir()  # one that is not in use cannot be read
    wanted = {
        "threaded": "1",
        "gro_flush_timeout": "20000",
        "queues/rx-0/rps_cpus": "3",
        "queues/tx-0/xps_cpus": "00000001,00000000",
    }
    found = stacked_links.of_queues("eth1", 3, tmp_path)
    assert found == {("class/net", key): value for key, value in wanted.items()}
    assert stacked_links.of_queues("eth1", 4, tmp_path) == {}, "of another network namespace"
    assert stacked_links.of_queues("eth2", 3, tmp_path) == {}
    (directory / "ifindex").write_text("\n")
    assert stacked_links.of_queues("eth1", 3, tmp_path) == {}, "not the kernel's: it makes no sense"
    put_setting("class/net/eth1/queues/rx-0/rps_cpus", "1", tmp_path / "proc", tmp_path)
    assert (directory / "queues/rx-0/rps_cpus").read_text() == "1"


UUID = "000d3aaa-0010-000d-3aaa-0010000d3aaa"
VMBUS = attr(56, UUID.encode() + b"\0") + attr(57, b"vmbus\0")


def pair() -> list[StackedLink]:
    vlan = attr(1, struct.pack("=H", 7))
    return [
        link(2, "eth0", more=VMBUS),
        link(3, "vf0", master=2, more=attr(56, b"7870:00:00.0\0") + attr(57, b"pci\0")),
        link(9, "v9", "vlan", lower=2, data=vlan),
    ]


def test_a_synthetic_netdev_is_an_upper_of_a_kind_of_ours() -> None:
    found = stacked_links.uppers(pair(), 3)
    assert [(one.name, one.kind, one.id, one.lower) for one in found] == [
        ("eth0", "netvsc", UUID, 3),
        ("v9", "vlan", "802.1Q 7", 2),
    ]


def test_one_that_is_kept_is_left_out_and_what_is_on_it() -> None:
    assert stacked_links.uppers(stacked_links.without_synthetic(pair(), 3), 3) == ()
    bond = [link(2, "bond0", "bond"), link(3, "vf0", master=2)]
    left = stacked_links.uppers(stacked_links.without_synthetic(bond, 3), 3)
    assert [one.name for one in left] == ["bond0"], "another master is no synthetic netdev"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES])
def test_no_descriptor_to_look_with_is_not_that_there_is_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fails(_path: Path) -> str:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(stacked_links, "read", fails)
    lacks = number == errno.EMFILE
    with pytest.raises(OSError, match="open files") if lacks else contextlib.nullcontext():
        assert stacked_links.accepted([(3, "eth1")], tmp_path) == ()
    with pytest.raises(OSError, match="open files") if lacks else contextlib.nullcontext():
        assert stacked_links.addr_gen_mode("eth1", tmp_path) is None
