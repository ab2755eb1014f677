"""A netdev that is destroyed and made again, with random networks and settings on it and on what
stands on it: restored from the journal's JSON, `ip`, `tc` and `bridge` show what they showed.

VLANs, bonds, VRFs and ethtool need the lab's kernels (tests/lab/test_recreate.py).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from manactl.act import recreate, restore
from manactl.look import ethtool
from manactl.look.netdevs_of import NetdevNow
from manactl.look.rtnetlink import Rtnl
from manactl.model.port import IFF_UP, PortId
from manactl.netstate.blueprints import Blueprint
from manactl.netstate.ethtool_settings import Command, Ethtool
from manactl.netstate.link_settings import LinkSettings
from manactl.netstate.losses import Cause
from manactl.netstate.snapshot import PortState
from manactl.netstate.uppers import UpperState
from manactl.wire.ethtool import Values
from tests.lab import networks
from tests.netns.test_networks import PORTS, Both, kinds, settled, sh
from tests.unit.wording import wording

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("netns")]

SEED = os.environ.get("MANACTL_SEED", "20261126")
SOME, MANY = 30, 500
NAMES = (PORTS[0], "eth77")  # of the port, then that of a new one
PORT = PortId("0000:00:00.0", 1, None)
_ORDERLY = ("link show", "address show")  # devices have other numbers, and so another order


@dataclass
class Recreated(Both):
    """plan.System, as far as a netdev that was re-created needs it, on the first port."""

    def netdev(self, port: PortId) -> NetdevNow | None:
        link = next((one for one in self.rtnl.stack() if one.name in NAMES), None)
        return None if link is None else NetdevNow(link.name, link.ifindex, link.up)

    def synthetic(self, uuid: str) -> NetdevNow | None:
        raise AssertionError("there is none")

    def _ifindex(self) -> int:
        now = self.netdev(PORT)
        assert now is not None
        return now.ifindex

    def link_settings(self, port: PortId) -> LinkSettings:
        return self.settings(self._ifindex())

    def settings(self, ifindex: int) -> LinkSettings:
        return ethtool.added(self.rtnl.link_settings(ifindex), ifindex)

    def set_ethtool(self, ifindex: int, name: str, command: Command) -> None:
        ethtool.put(ifindex, name, command)

    def uppers(self, port: PortId) -> tuple[UpperState, ...]:
        return self.rtnl.uppers(self._ifindex())

    def blueprints(self, port: PortId) -> tuple[Blueprint, ...]:
        plans = self.rtnl.blueprints(self._ifindex())
        return tuple(p._replace(settings=ethtool.added(p.settings, p.ifindex)) for p in plans)

    def snapshot(self) -> PortState:
        """As it is in the journal."""
        state = replace(
            self.capture(PORT), link=self.link_settings(PORT), blueprints=self.blueprints(PORT)
        )
        return PortState.from_json(json.loads(json.dumps(state.to_json())))


@pytest.fixture
def here(netns: None) -> Iterator[Recreated]:
    for number, name in enumerate(PORTS):
        sh(f"ip link add {name} type veth peer name wire{number}; ip link set wire{number} up")
        sh(f"ip link set {name} up")
    sh("ip link set lo up")
    with Rtnl() as rtnl:
        yield Recreated(rtnl)


def destroyed(name: str) -> None:
    """The first port goes, and comes back as the driver would make it."""
    sh(
        f"ip link del {PORTS[0]}; ip link add {name} type veth peer name wire0\n"
        "ip link set wire0 up"
    )


def put_back(here: Recreated, state: PortState) -> tuple[restore.Restored, restore.Restored]:
    """In the order of transition.undo()."""
    first = recreate.set_up(state, here)  # type: ignore[arg-type]
    here.rtnl.set_up(here._ifindex(), True)
    (told,) = restore.restore_ports(here, [state], 5.0)
    return first, replace(told, lost=recreate.finish(state, here))  # type: ignore[arg-type]


TC = """(tc qdisc show dev {0}; tc class show dev {0}; tc filter show dev {0} {1}) |
sed 's/direct_packets_stat [0-9]*//'"""


def shown(names: list[str]) -> dict[str, list[str]]:
    """All of it, in no order of devices and without their numbers."""
    view = settled()
    for what in _ORDERLY:
        rows = [json.loads(row) for row in view[what]]
        view[what] = sorted(json.dumps(_of_link(row)) for row in rows)
    for name in names:
        view[f"tc {name}"] = [
            line
            for place in ("", "ingress", "egress")
            for line in sh(TC.format(name, place)).splitlines()
            if " 0: " not in line  # the kernel's own, which is there once it was up
        ]
    view["bridge"] = sorted(json.dumps(one) for one in json.loads(sh("bridge -j -d link") or "[]"))
    for one in view["bridge"]:
        assert "ifname" in one
    view["bridge"] = [json.dumps({**json.loads(o), "ifindex": 0}) for o in view["bridge"]]
    return view


def _of_link(row: dict[str, Any]) -> dict[str, Any]:
    without = {"ifindex", "link_index"} | (
        {"qdisc"} if "UP" not in row.get("flags", "UP") else set()
    )
    return {key: value for key, value in row.items() if key not in without}


class Drawn:
    """What comes on top of a random network: settings of links, traffic control, membership."""

    def __init__(self, seed: str, names: list[str]) -> None:
        self.rng = random.Random(seed)
        self.lines: list[str] = []
        for name in names:
            self._of(name)
        if self.rng.random() < 0.4:
            member = self.rng.choice(names)
            self.lines += [
                "ip link add br9 type bridge forward_delay 0; ip link set br9 up",
                f"ip link set {member} master br9",
                f"bridge link set dev {member} hairpin on cost 77 learning off isolated on",
                "ip addr add 10.99.9.1/24 dev br9; ip route add 192.0.9.0/24 via 10.99.9.2 dev br9",
            ]
        if self.rng.random() < 0.5:
            self.lines += [
                f"ip link add vx9 type vxlan id 77 dev {names[0]} remote 10.1.0.77 dstport 4789 "
                "ttl 9 tos 4 ageing 77 nolearning",
                "ip link set vx9 up; ip addr add 10.98.9.1/24 dev vx9",
            ]

    def _of(self, name: str) -> None:
        rng = self.rng
        choices = [
            f"ip link set {name} alias 'the {name}'", f"ip link set {name} txqueuelen 77",
            f"ip link set {name} mtu {rng.choice((1300, 1400, 1450))}",
            f"ip link property add dev {name} altname {name}-also altname {name}-too",
            f"ip link set {name} group 7", f"ip link set {name} allmulticast on",
            f"ip link set {name} promisc on", f"ip link set {name} arp off",
            f"ip link set {name} address 02:77:00:00:00:{rng.randint(1, 255):02x}",
        ]  # fmt: skip
        self.lines += [line for line in choices if rng.random() < 0.2]
        if rng.random() < 0.4:
            self.lines += [
                f"tc qdisc add dev {name} root handle 7: htb default 20",
                f"tc class add dev {name} parent 7: classid 7:1 htb rate 100mbit",
                f"tc class add dev {name} parent 7:1 classid 7:20 htb rate 10mbit ceil 50mbit",
                f"tc class add dev {name} parent 7:1 classid 7:30 htb rate 5mbit prio 3",
                f"tc qdisc add dev {name} parent 7:30 handle 70: htb default 5",
            ]
        if rng.random() < 0.3:
            self.lines.append(f"tc qdisc add dev {name} clsact")

    @property
    def script(self) -> str:
        return "\n".join(f"({line}) || true" for line in self.lines)


def check(here: Recreated, number: int) -> None:
    seed = f"{SEED} {number}"
    net = networks.Generator(seed, PORTS, kinds()).draw()
    names = [one.name for one in net.devices if _root(one).name == PORTS[0]]
    drawn = Drawn(seed, names)
    print(f"MANACTL_SEED={SEED}, network {number}\n{drawn.script}\n{net.script()}")
    # A MAC address that comes after the link-local address leaves one that cannot come again.
    sh(replace(net, sysctls=[], states=[], facts=[]).script())
    sh(drawn.script)
    sh(replace(net, links=[]).script())
    sh(f"ip link set {PORTS[0]} up")
    before = shown(names)
    state = here.snapshot()
    destroyed(random.Random(seed).choice(NAMES))
    first, told = put_back(here, state)
    assert (first.residue, told.residue) == ((), ())
    assert [one.cause for one in first.lost] == [Cause.NOT_KEPT]
    assert not (found := networks.differences(before, shown(names))), "\n".join(found)


def _root(device: networks.Device) -> networks.Device:
    return device if device.lower is None else _root(device.lower)


@pytest.mark.parametrize("number", range(SOME))
def test_it_comes_back_whole(here: Recreated, number: int) -> None:
    check(here, number)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(SOME, MANY))
def test_it_comes_back_whole_often(here: Recreated, number: int) -> None:
    check(here, number)


def test_its_uppers_have_the_numbers_that_they_had(here: Recreated) -> None:
    """Who is bound to one by its number goes on."""
    sh(f"ip link add m5 link {PORTS[0]} address 02:00:00:00:00:55 type macvlan mode private")
    was = json.loads(sh("ip -j link show m5"))[0]["ifindex"]
    state = here.snapshot()
    destroyed(PORTS[0])
    put_back(here, state)
    now = json.loads(sh("ip -j -d link show m5"))[0]
    assert (now["ifindex"], now["linkinfo"]["info_data"]["mode"]) == (was, "private")


def test_a_number_that_another_has_now_is_not_taken_from_it(here: Recreated) -> None:
    sh(f"ip link add m5 link {PORTS[0]} type macvlan")
    was = json.loads(sh("ip -j link show m5"))[0]["ifindex"]
    state = here.snapshot()
    destroyed(PORTS[0])
    sh(f"ip link add other0 index {was} type bridge")
    first, told = put_back(here, state)
    assert (first.residue, told.residue) == ((), ())
    assert json.loads(sh("ip -j link show other0"))[0]["ifindex"] == was
    assert json.loads(sh("ip -j link show m5"))[0]["ifindex"] != was


def test_what_another_device_has_the_name_of_is_not_made_and_said(here: Recreated) -> None:
    sh(f"ip link add m5 link {PORTS[0]} type macvlan; ip addr add 10.5.0.1/24 dev m5")
    state = here.snapshot()
    destroyed(PORTS[0])
    sh("ip link add m5 type bridge")
    first, told = put_back(here, state)
    (line,) = first.residue
    assert ("m5" in line, "File exists" in line) == (True, True)
    assert told.residue[0].startswith("macvlan m5 (")
    with wording:
        assert line == "macvlan m5: not made again (File exists)"
        assert told.residue[0].startswith("macvlan m5 (it is gone, with ")
    sh("ip link del m5")  # out of the way: the next attempt has it
    first, told = put_back(here, state)
    assert (first.residue, told.residue) == ((), ())
    assert "10.5.0.1/24" in sh("ip addr show dev m5")


def test_half_done_it_goes_on(here: Recreated) -> None:
    sh(
        f"ip link add m5 link {PORTS[0]} type macvlan; ip link set m5 mtu 1300 alias five\n"
        f"ip link add m6 link {PORTS[0]} type macvlan; ip link set {PORTS[0]} alias wan"
    )
    state = here.snapshot()
    destroyed(PORTS[0])
    sh(f"ip link add m5 link {PORTS[0]} type macvlan")  # and no more of it
    first, told = put_back(here, state)
    assert (first.residue, told.residue) == ((), ())
    now = json.loads(sh("ip -j link show m5"))[0]
    assert (now["mtu"], now["ifalias"]) == (1300, "five")
    assert put_back(here, state)[0].counts == {}
    assert subprocess.run(["ip", "link", "show", "m6"], check=False).returncode == 0


def test_down_it_is_set_up_before_it_is_up(here: Recreated) -> None:
    """As transition.undo() wants it: MTU and queues change while no packet flows."""
    sh(f"ip link set {PORTS[0]} alias wan")
    state = here.snapshot()
    destroyed(PORTS[0])
    recreate.set_up(state, here)  # type: ignore[arg-type]
    flags = here.rtnl.link(here._ifindex()).flags
    assert not flags & IFF_UP


def test_what_ethtool_has_set_comes_back(here: Recreated) -> None:
    """A veth has features and channels; the lab's NIC has more."""
    sh(
        f"ip link del {PORTS[0]}\n"
        f"ip link add {PORTS[0]} numrxqueues 4 numtxqueues 4 type veth peer name wire0"
    )

    def now() -> Ethtool:
        return here.link_settings(PORT).ethtool

    at = here._ifindex()
    bits = {"tx-checksum-ip-generic": False, "rx-gro": True}
    here.set_ethtool(at, PORTS[0], Command("", "features", Values({}, bits)))
    here.set_ethtool(at, PORTS[0], Command("", "channels", Values({6: u32(2), 7: u32(3)}, {})))
    had = now()
    assert had.groups["channels"].numbers[7] == u32(3)
    assert not had.groups["features"].bits["tx-checksum-ip-generic"]
    assert had.groups["features"].bits["rx-gro"]
    state = here.snapshot()
    assert state.link is not None
    assert state.link.ethtool == had
    sh(
        f"ip link del {PORTS[0]}\n"
        f"ip link add {PORTS[0]} numrxqueues 4 numtxqueues 4 type veth peer name wire0"
    )
    assert now() != had
    first, told = put_back(here, state)
    assert (now(), told.lost) == (had, ())
    assert first.residue == ()


def u32(number: int) -> bytes:
    return number.to_bytes(4, "little")


def test_a_vxlan_knows_again_where_to_send(here: Recreated) -> None:
    """Its own default goes by the number of the netdev, and comes with it."""
    sh(
        f"ip link add vx0 type vxlan id 42 dev {PORTS[0]} remote 10.0.0.8 dstport 4789\n"
        f"ip link add vx1 type vxlan id 43 dev {PORTS[0]} group 239.1.1.1 dstport 4790\n"
        "bridge fdb append 00:00:00:00:00:00 dev vx0 dst 10.0.0.9\n"
        f"bridge fdb append 00:00:00:00:00:00 dev vx0 dst 10.0.0.7 via {PORTS[0]}\n"
        "bridge fdb add 02:00:00:00:00:07 dev vx0 dst 10.0.0.7 port 4791 vni 44\n"
        "bridge fdb add 02:00:00:00:00:08 dev vx0 dst 10.0.0.8 static\n"
        "bridge fdb add 02:00:00:00:00:09 dev vx0 dst 10.0.0.9 dynamic"
    )
    state = here.snapshot()
    before = forwarding()
    assert len(before) == 7, before
    destroyed(NAMES[1])
    done = put_back(here, state)
    assert [(one.residue, [loss.text for loss in one.lost[1:]]) for one in done] == [((), [])] * 2
    assert forwarding() == [row for row in before if "02:00:00:00:00:09" not in row]


def forwarding() -> list[str]:
    rows = [
        row for name in ("vx0", "vx1") for row in sh(f"bridge fdb show dev {name}").splitlines()
    ]
    return sorted(row for row in rows if "self" in row)
