"""Links from what networkd describes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from manactl.look import networkd
from manactl.look.bus import Bus
from tests.unit.wording import says

ETH1 = {
    "Index": 3, "Name": "eth1", "Kind": "netvsc", "Driver": "hv_netvsc",
    "PermanentHardwareAddress": [0, 13, 58, 170, 0, 16],
    "AdministrativeState": "configured", "ActivationPolicy": "up",
    "NetworkFile": "/run/systemd/network/10-netplan-eth1.network",
    "NetworkFileDropins": ["/etc/a.conf", "/etc/b.conf"],
    "Addresses": [
        {"Family": 2, "Address": [10, 0, 0, 2], "PrefixLength": 24, "ConfigSource": "static"},
        {"Family": 2, "Address": [10, 0, 9, 9], "PrefixLength": 32, "ConfigSource": "foreign"},
        {"Family": 10, "Address": [32, 1, 13, 184, *[0] * 11, 2], "PrefixLength": 64,
         "ConfigSource": "DHCPv6"},
    ],
    "DHCPv4Client": {"Lease": None}, "DHCPv6Client": {"Lease": {"Timeout1USec": 1}, "DUID": [0]},
}  # fmt: skip
LO = {"Index": 1, "Name": "lo", "AdministrativeState": "unmanaged", "NetworkFileDropins": None}


def described(document: object) -> Bus:
    return Bus(lambda _: json.dumps({"type": "s", "data": [json.dumps(document)]}))


def test_links_with_their_files_in_order() -> None:
    found = networkd.links(described({"Interfaces": [LO, ETH1]}))
    assert set(found) == {1, 3}
    assert found[3] == networkd.NetworkdLink(
        3, "eth1", "configured", "/run/systemd/network/10-netplan-eth1.network",
        ("/etc/a.conf", "/etc/b.conf"), "up", "00:0d:3a:aa:00:10", "hv_netvsc",
        ("10.0.0.2/24", "2001:db8::2/64"), ("DHCPv6Client",),
    )  # fmt: skip
    assert found[3].files == (
        "/run/systemd/network/10-netplan-eth1.network", "/etc/a.conf", "/etc/b.conf",
    )  # fmt: skip
    assert (found[1].files, found[1].mac, found[1].state) == ((), None, "unmanaged")
    assert found[1].own is None, "an older networkd does not tell"


def test_drop_ins_that_networkd_does_not_tell_of_are_looked_for(tmp_path: Path) -> None:
    """systemd 252 has no such key."""
    places = [str(tmp_path / name) for name in ("etc", "run", "lib", "none")]
    for name in ("etc/20-mine", "run/10-first", "run/20-mine", "lib/30-last"):
        place, _, stem = name.partition("/")
        folder = tmp_path / place / "10-netplan-eth1.network.d"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{stem}.conf").touch()
        (folder / f"{stem}.conf.dpkg-old").touch()
    old = {key: value for key, value in ETH1.items() if key != "NetworkFileDropins"}
    found = networkd.links(described({"Interfaces": [LO, old]}), places)
    assert [str(Path(path).relative_to(tmp_path)) for path in found[3].drop_ins] == [
        f"{place}/10-netplan-eth1.network.d/{name}.conf"
        for place, name in [("run", "10-first"), ("etc", "20-mine"), ("lib", "30-last")]
    ]
    told = networkd.links(described({"Interfaces": [{**ETH1, "NetworkFileDropins": []}]}), places)
    assert told[3].drop_ins == ()


def test_a_folder_of_drop_ins_that_cannot_be_listed_is_no_empty_one(tmp_path: Path) -> None:
    (tmp_path / "10-netplan-eth1.network.d").touch()
    old = {key: value for key, value in ETH1.items() if key != "NetworkFileDropins"}
    with pytest.raises(NotADirectoryError):
        networkd.links(described({"Interfaces": [old]}), [str(tmp_path)])


@pytest.mark.parametrize(
    "document",
    [
        {}, [], {"Interfaces": [{}]}, {"Interfaces": None},
        {"Interfaces": [{**ETH1, "DHCPv4Client": [1]}]}, {"Interfaces": [{**ETH1, "Addresses": [1]}]},
    ],
)  # fmt: skip
def test_what_describes_no_links_is_an_error(document: object) -> None:
    with pytest.raises(OSError, match=says("does not describe its links")):
        networkd.links(described(document))


def test_links_that_are_bound_to_a_carrier(tmp_path: Path) -> None:
    for name, text in {
        "a": "[Network]\nBindCarrier=eth0 eth*\n",
        "b": "[Network]\nBindCarrier=wlan0\n",
        "c": "[Network]\nBindCarrier=eth1\n",
        "d": "[Network]\nBindCarrier=\n",
    }.items():
        (tmp_path / name).write_text(text)

    def link(index: int, *files: str) -> networkd.NetworkdLink:
        first, *more = (str(tmp_path / name) for name in files)
        return networkd.NetworkdLink(index, f"link{index}", "configured", first, tuple(more))

    eth1 = networkd.NetworkdLink(3, "eth1", "configured", str(tmp_path / "a"))
    others = [link(4, "a"), link(5, "b"), link(6, "b", "c"), link(7, "c", "d"), link(8, "gone")]
    assert networkd.bound_to(eth1, [eth1, *others]) == ("link4", "link6")


def test_a_reload_is_one_call() -> None:
    calls: list[list[str]] = []

    def run(words: object) -> str:
        calls.append(list(words))  # type: ignore[call-overload]
        return ""

    networkd.reload(Bus(run))
    assert [call[-1] for call in calls] == ["Reload"]
