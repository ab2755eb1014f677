"""A netdev that was re-created: its name, what stood on it, what stays and what is said of it.

The kernel here knows devices alone; with addresses and everything else tests/netns/test_recreate.py.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from manactl.act import plan_words, recreate, residue_words
from manactl.act.plan import System
from manactl.look.netdevs_of import NetdevNow, Unread
from manactl.model.port import PortId
from manactl.netstate import link_settings
from manactl.netstate.blueprints import Blueprint
from manactl.netstate.ethtool_settings import Command, Ethtool
from manactl.netstate.link_settings import LinkSettings
from manactl.netstate.losses import Cause
from manactl.netstate.snapshot import Kind, PortState, Request
from manactl.netstate.uppers import UpperState
from manactl.wire.ethtool import Values
from tests.unit.decide.scene import QUIET, STATUS
from tests.unit.wording import wording

PORT = PortId("7870:00:00.0", 1, None)
IFNAME, LINK, ALIAS, LINKINFO, KIND = 3, 5, 20, 18, 1
NEWLINKPROP, DELLINKPROP, PROP_LIST, ALT_IFNAME = 108, 109, 52, 53


def attr(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def attrs(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at < len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


@dataclass
class Device:
    name: str
    ifindex: int
    kind: str = ""
    lower: int = 0
    alias: bytes = b""
    hop_limit: str = "64"
    rx: bytes = b"\0\2\0\0"
    carrier: bool = True
    up: bool = True
    altnames: tuple[str, ...] = ()
    threaded: str = "0"


@dataclass
class Machine:
    """What plan.System asks of links; `refuse` are errnos by the text of a name or alias."""

    devices: list[Device]
    refuse: dict[bytes, int] = field(default_factory=dict)
    up: bool = False  # ethtool sets something then alone
    made: list[str] = field(default_factory=list)  # devices that were to be made

    def at(self, ifindex: int) -> Device:
        return next(one for one in self.devices if one.ifindex == ifindex)

    def netdev(self, port: PortId) -> NetdevNow | None:
        port_now = next((one for one in self.devices if not one.kind), None)
        return port_now and NetdevNow(port_now.name, port_now.ifindex, self.up)

    def synthetic(self, uuid: str) -> NetdevNow | None:
        return None

    def settings(self, ifindex: int) -> LinkSettings:
        one = self.at(ifindex)
        return LinkSettings(
            attributes={ALIAS: one.alias} if one.alias else {},
            sysctls={
                ("net/ipv6/conf", "hop_limit"): one.hop_limit,
                (link_settings.SYSFS, "threaded"): one.threaded,
            },
            ethtool=Ethtool({"rings": Values({6: one.rx}, {})}),
            names={
                **{one.name: one.ifindex for one in self.devices},
                **{name: one.ifindex for one in self.devices for name in one.altnames},
            },
            altnames=one.altnames,
        )

    def uppers(self, port: PortId) -> tuple[UpperState, ...]:
        return tuple(upper(one) for one in self.devices if one.kind)

    def send(self, request: Request) -> None:
        index = struct.unpack_from("=i", request.body, 4)[0]
        asked = attrs(request.body[16:])
        if request.flags:
            self.made.append(asked[IFNAME].rstrip(b"\0").decode())
        for text in (asked.get(IFNAME, b""), asked.get(ALIAS, b"")):
            if text in self.refuse:
                raise OSError(self.refuse[text], os.strerror(self.refuse[text]))
        there = [one for one in self.devices if one.ifindex == index]
        if request.type in (NEWLINKPROP, DELLINKPROP):
            text = attrs(asked[PROP_LIST])[ALT_IFNAME]
            if text in self.refuse:
                raise OSError(self.refuse[text], os.strerror(self.refuse[text]))
            name = text.rstrip(b"\0").decode()
            self._name(there[0], name, add=request.type == NEWLINKPROP)
            return
        if not request.flags:
            there[0].alias = asked.get(ALIAS, there[0].alias)
            there[0].name = asked.get(IFNAME, there[0].name.encode()).rstrip(b"\0").decode()
            return
        name = asked[IFNAME].rstrip(b"\0").decode()
        if there or name in {one.name for one in self.devices}:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        kind = attrs(asked[LINKINFO])[KIND].rstrip(b"\0").decode()
        lower = struct.unpack("=I", asked[LINK])[0]
        self.devices.append(Device(name, index or 100 + len(self.devices), kind, lower))

    def _name(self, one: Device, name: str, *, add: bool) -> None:
        taken = {name for one in self.devices for name in (one.name, *one.altnames)}
        if add and name in taken:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        if not add and name not in one.altnames:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        left = tuple(other for other in one.altnames if other != name)
        one.altnames = (*left, name) if add else left

    def set_ethtool(self, ifindex: int, name: str, command: Command) -> None:
        assert self.at(ifindex).name == name
        if not self.up:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        self.at(ifindex).rx = command.values.numbers[6]

    def set_sysctl(self, path: str, value: str) -> None:
        tree, name, key = path.rsplit("/", 2)
        device = next(one for one in self.devices if one.name == name)
        if (tree, key) == (link_settings.SYSFS, "threaded"):
            if not self.up:  # MANA has no NAPI before (modify_napi_threaded())
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            device.threaded = value
            return
        assert (tree, key) == ("net/ipv6/conf", "hop_limit")
        device.hop_limit = value


def upper(one: Device) -> UpperState:
    return UpperState(one.name, one.ifindex, one.kind, one.lower, None, one.up, one.carrier, False)


def snapshot(machine: Machine) -> PortState:
    port, *stack = machine.devices
    plans = []
    for one in stack:
        info = attr(KIND, one.kind.encode() + b"\0")
        body = struct.pack("=BxHiII", 0, 1, one.ifindex, 0, 0)
        body += attr(IFNAME, one.name.encode() + b"\0") + attr(LINK, struct.pack("=I", one.lower))
        plans.append(
            Blueprint(one.ifindex, machine.settings(one.ifindex), body + attr(LINKINFO, info))
        )
    link, uppers = machine.settings(port.ifindex), tuple(map(upper, stack))
    state = PortState(
        PORT, port.ifindex, port.name, True, True, 1.0, (), uppers, link=link,
        blueprints=tuple(plans),
    )  # fmt: skip
    return PortState.from_json(json.loads(json.dumps(state.to_json())))


def stacked() -> Machine:
    return Machine([
        Device("eth1", 3, alias=b"wan\0"),
        Device("m5", 5, "macvlan", 3, b"five\0", "33"),
        Device("m6", 6, "macvlan", 5),
    ])  # fmt: skip


def replugged(machine: Machine, **new: Any) -> Machine:
    return Machine([replace(Device("eth1", 7), **new)])


def set_up(state: PortState, machine: Machine) -> recreate.Restored:
    return recreate.set_up(state, cast(System, machine))


def test_it_gets_its_name_and_settings_and_what_stood_on_it_from_the_bottom_up() -> None:
    was = stacked()
    now = replugged(was, name="eth0")
    done = set_up(snapshot(was), now)
    assert now.devices == [
        replace(was.devices[0], ifindex=7), replace(was.devices[1], lower=7), was.devices[2],
    ]  # fmt: skip
    assert (done.residue, done.counts) == ((), {Kind.UPPER: 2, Kind.SETTING: 3})
    (lost,) = done.lost
    with wording:
        assert lost.text.startswith("eth1 was re-created (ifindex 3 -> 7): sockets")


def test_whether_it_was_recreated_is_not_known_of_what_cannot_be_looked_at() -> None:
    class Blind(Machine):
        def netdev(self, port: PortId) -> Unread:
            return Unread(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))

    with pytest.raises(OSError, match="Too many open files"):
        recreate.is_needed(snapshot(stacked()), cast(System, Blind([])))


def test_again_it_has_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    state, now = snapshot(stacked()), replugged(stacked())
    looks = 0

    def look() -> list[object]:
        nonlocal looks
        looks += 1
        return []

    set_up(state, now)
    with monkeypatch.context() as patch:
        patch.setattr(recreate._Recreated, "changes", lambda _: look())
        assert set_up(state, now).counts == {}
    assert looks == 2, "once for what there is to do, and once for what is left"
    assert set_up(state, now).counts == {}
    assert recreate.residue(state, cast(System, now)) == []


def test_a_name_that_another_has_is_left_to_it() -> None:
    now = replugged(stacked(), name="eth0")
    now.devices.append(Device("eth1", 9, "dummy"))
    done = set_up(snapshot(stacked()), now)
    assert done.residue == ()
    with wording:
        assert [one.text for one in done.lost][1:] == [
            "the name eth1: it is called eth0 (another netdev has that name now)"
        ]
    assert [one.name for one in now.devices[:2]] == ["eth0", "eth1"]


def test_a_name_that_the_kernel_refuses_is_told() -> None:
    now = replugged(stacked(), name="eth0")
    now.refuse = {b"eth1\0": errno.EBUSY}
    done = set_up(snapshot(stacked()), now)
    assert done.residue == ()
    with wording:
        assert [one.text for one in done.lost][1:] == [
            "the name eth1: it is called eth0 (Device or resource busy)"
        ]


UUID = "000d3aaa-0010-000d-3aaa-0010000d3aaa"


class Paired(Machine):
    """Its second device is the synthetic netdev above the first."""

    def synthetic(self, uuid: str) -> NetdevNow | None:
        found = next((one for one in self.devices if one.kind == "netvsc"), None)
        return found and NetdevNow(found.name, found.ifindex, False)


def of_pair(machine: Machine) -> PortState:
    state = snapshot(machine)
    above = state.uppers[0]._replace(id=UUID)
    return replace(state, uppers=(above, *state.uppers[1:]))


@pytest.mark.parametrize(
    ("vf", "above"),
    [
        (Device("eth1", 103), Device("wan", 5, "netvsc", 3, altnames=("enx0", "sh", "slot7"))),
        (Device("eth1", 3, altnames=("slot7", "enx0")), Device("wan", 105, "netvsc", 3)),
        (Device("eth1", 3, altnames=("slot7", "wan")), Device("eth9", 105, "netvsc", 3)),
    ],
)
def test_names_that_udev_gave_the_other_of_the_pair_come_back(vf: Device, above: Device) -> None:
    """Both have the same MAC address, after which udev names them. During a claim one of them was
    made again, and the other got what was free then, or had it already."""
    was = Paired([Device("eth1", 3, altnames=("slot7",)),
                  Device("wan", 5, "netvsc", 3, altnames=("enx0", "sh"))])  # fmt: skip
    now = Paired([replace(vf), replace(above)])
    assert set_up(of_pair(was), now).residue == ()
    assert [(one.name, {*one.altnames}) for one in now.devices] == [
        ("eth1", {"slot7"}), ("wan", {"enx0", "sh"}),
    ]  # fmt: skip


def test_a_name_that_the_other_of_the_pair_cannot_give_up_is_told() -> None:
    was = Paired([Device("eth1", 3, altnames=("slot7",)), Device("wan", 5, "netvsc", 3)])
    above = Device("wan", 5, "netvsc", 3, altnames=("slot7",))
    now = Paired([Device("eth1", 103), above], refuse={b"slot7\0": errno.EPERM})
    done = set_up(of_pair(was), now)
    assert done.residue == ()
    with wording:
        assert "altname slot7 (another netdev has that name now)" in [o.text for o in done.lost]
    assert above.altnames == ("slot7",)


@pytest.mark.parametrize("kind", [30, 61, 0])
@pytest.mark.parametrize("vf", [3, 103])
def test_a_vf_that_goes_on_receiving_everything_is_told(kind: int, vf: int) -> None:
    """hv_netvsc has made it promiscuous, or receive all multicast, and goes; a new VF is not."""
    state = of_pair(Paired([Device("eth1", 3), Device("wan", 5, "netvsc", 3)]))
    (plan,) = state.blueprints
    body = plan.body + attr(kind, struct.pack("=I", 1)) if kind else plan.body
    state = replace(state, blueprints=(plan._replace(body=body),))
    now = Paired([Device("eth1", vf), Device("wan", 105, "netvsc", vf)])
    numbered = 2 if vf == 103 else 1
    told = [one.text for one in set_up(state, now).lost][numbered:]
    assert len(told) == (1 if kind and vf == 3 else 0)
    assert all("eth1" in text and "wan" in text for text in told)
    stays = residue_words.stays_promiscuous("eth1", "wan")
    around = plan_words.Seen(STATUS, replace(state, up=True), QUIET, to_uio=True)
    assert (stays in plan_words.others(around)) is bool(kind)


def test_an_altname_that_a_stranger_has_now_is_left_to_it() -> None:
    was = Machine([Device("eth1", 3, altnames=("wan",))])
    now = replugged(was)
    now.devices.append(Device("dummy0", 9, "dummy", altnames=("wan",)))
    done = set_up(snapshot(was), now)
    assert done.residue == ()
    with wording:
        assert [one.text for one in done.lost][1:] == [
            "altname wan (another netdev has that name now)"
        ]
    assert now.devices[1].altnames == ("wan",)


@pytest.mark.parametrize("away", ["vf", "above"])
def test_of_a_pair_of_which_one_is_away_the_other_leaves_a_strangers_name_to_it(away: str) -> None:
    was = Paired([Device("eth1", 3), Device("wan", 5, "netvsc", 3)])
    here = Device("eth7", 103) if away == "above" else Device("eth9", 105, "netvsc", 3)
    stranger = Device("eth1" if away == "above" else "wan", 9, "dummy")
    now = Paired([here, stranger])
    work = recreate._Recreated(of_pair(was), cast(System, now))
    work.rename()
    assert [one.name for one in now.devices] == [here.name, stranger.name]
    assert list(work._unnamed) == [3 if away == "above" else 5]


def test_an_altname_that_is_its_name_now_is_one_of_its_names() -> None:
    """udev has named it by that one; it has no name of before to get back, as that is taken."""
    was = Machine([Device("eth1", 3, altnames=("enx0",))])
    now = replugged(was, name="enx0")
    now.devices.append(Device("eth1", 9, "dummy"))
    assert set_up(snapshot(was), now).residue == ()
    assert now.devices[0].name == "enx0"


def test_a_number_that_another_has_is_left_to_it() -> None:
    now = replugged(stacked())
    now.devices.append(Device("other", 5, "dummy"))
    assert set_up(snapshot(stacked()), now).residue == ()
    made = {one.name: one for one in now.devices}
    assert (made["m5"].ifindex, made["m5"].alias) == (102, b"five\0")
    assert made["m6"].lower == 102


def test_what_the_kernel_refuses_is_residue_with_what_stands_on_it_left_out() -> None:
    now = replugged(stacked())
    now.refuse = {b"m5\0": errno.EOPNOTSUPP, b"wan\0": errno.EINVAL}
    done = set_up(snapshot(stacked()), now)
    with wording:
        assert done.residue == (
            "macvlan m5: not made again (Operation not supported)", "alias wan (Invalid argument)",
        )  # fmt: skip
    assert len(now.devices) == 1
    assert Kind.UPPER not in done.counts
    assert now.made.count("m5") == 1, "its number is not the reason"
    now.refuse = {}
    state = snapshot(stacked())
    with wording:
        assert recreate.residue(state, cast(System, now)) == ["alias wan (it does not stay so)"]
    assert set_up(state, now).residue == ()


def test_what_came_back_is_counted_whatever_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = link_settings.changes

    def alike(*of: Any) -> list[link_settings.Change]:
        return [one._replace(text="word") for one in changes(*of)]

    monkeypatch.setattr(link_settings, "changes", alike)
    now = replugged(stacked(), hop_limit="1")
    now.refuse = {b"wan\0": errno.EINVAL}
    done = set_up(snapshot(stacked()), now)
    assert done.counts == {Kind.UPPER: 2, Kind.SETTING: 3}  # of the four all but the alias
    assert done.residue == ("word (Invalid argument)",)


@pytest.mark.wording
def test_the_keys_of_macsec_are_lost() -> None:
    was = Machine([Device("eth1", 3), Device("ms0", 5, "macsec", 3)])
    done = set_up(snapshot(was), replugged(was))
    assert [one.text for one in done.lost[1:]] == ["keys of macsec ms0 (they cannot be read)"]


def test_what_can_be_set_only_while_it_is_up_comes_last() -> None:
    was = stacked()
    was.devices[0].rx = b"\0\4\0\0"
    state, now = snapshot(was), replugged(was)
    done = set_up(state, now)
    assert (done.residue, len(done.lost)) == ((), 1)
    (lost,) = recreate.finish(state, cast(System, now))
    assert lost.text == "rings: rx 1024 (Operation not supported)"
    now.up = True
    assert recreate.finish(state, cast(System, now)) == ()
    assert now.devices[0].rx == was.devices[0].rx
    assert recreate.finish(state, cast(System, was)) == ()  # it is the same netdev


def test_what_sysfs_has_of_a_netdev_is_lost_only_when_it_is_not_taken_up_either() -> None:
    was = Machine([Device("eth1", 3, threaded="1")])
    state, now = snapshot(was), replugged(was)
    (numbered,) = set_up(state, now).lost
    assert "threaded" not in numbered.text
    (lost,) = recreate.finish(state, cast(System, now))
    assert (lost.cause, "threaded" in lost.text) == (Cause.NOT_KEPT, True)
    now.up = True
    assert recreate.finish(state, cast(System, now)) == ()
    assert now.devices[0].threaded == "1"


@dataclass
class Queues(Machine):
    """A driver that fills a table in itself whenever the number of its channels changes."""

    channels: int = 3
    rss: bytes = b"of 3"
    refused: bool = False  # the number of channels
    commands: list[str] = field(default_factory=list)

    def settings(self, ifindex: int) -> LinkSettings:
        groups = {"channels": Values({9: struct.pack("=I", self.channels)}, {})}
        return LinkSettings(ethtool=Ethtool(groups, self.rss))

    def set_ethtool(self, ifindex: int, name: str, command: Command) -> None:
        self.commands.append(command.group or "rss")
        if command.rss is not None:
            self.rss = command.rss
        elif self.refused:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        else:
            self.channels = int.from_bytes(command.values.numbers[9], sys.byteorder)
            self.rss = b"of %d" % self.channels


@pytest.mark.parametrize("act", [set_up, recreate.finish])
def test_a_table_that_the_number_of_channels_brings_back_is_not_set(
    act: Callable[..., object],
) -> None:
    state = snapshot(Queues([Device("eth1", 3)], channels=2, rss=b"of 2"))
    now = Queues([Device("eth1", 7)], up=True)
    act(state, now)
    assert (now.channels, now.rss, now.commands) == (2, b"of 2", ["channels"])
    state = snapshot(Queues([Device("eth1", 3)], channels=2, rss=b"mine"))
    now = Queues([Device("eth1", 7)], up=True)
    act(state, now)
    assert (now.channels, now.rss, now.commands) == (2, b"mine", ["channels", "rss"])


def test_a_table_comes_back_though_the_number_of_channels_does_not() -> None:
    state = snapshot(Queues([Device("eth1", 3)], channels=2, rss=b"mine"))
    now = Queues([Device("eth1", 7)], up=True, refused=True)
    (lost,) = recreate.finish(state, cast(System, now))
    assert (now.channels, now.rss) == (3, b"mine")
    assert lost.cause is Cause.NOT_KEPT


def test_a_carrier_that_a_lower_has_left_behind_is_lost_with_it() -> None:
    """eth1 was up once, and is down: m5 and m6 have the carrier of that time still."""
    was, now = stacked(), replugged(stacked())
    state = snapshot(was)
    set_up(state, now)
    assert recreate.finish(state, cast(System, now)) == ()
    for one in now.devices:
        one.carrier = False
    (lost,) = recreate.finish(state, cast(System, now))
    assert "m5, m6" in lost.text
    with wording:
        assert "eth1 is down" in lost.text
    for one in was.devices:
        one.up = False
    assert recreate.finish(snapshot(was), cast(System, now)) == ()  # nobody has set them up
    for one in was.devices:
        one.up, one.carrier = True, False
    assert recreate.finish(snapshot(was), cast(System, now)) == ()  # they had none
    for one in now.devices:
        one.up = False
    assert recreate.finish(state, cast(System, now)) == ()  # they are down, and have none


def test_what_waits_for_the_carrier_of_a_netdev_that_is_up_is_not_lost() -> None:
    state, now = snapshot(stacked()), replugged(stacked())
    set_up(state, now)
    now.up = True
    for one in now.devices:
        one.carrier = False
    assert recreate.finish(state, cast(System, now)) == ()


def test_of_a_netdev_that_stayed_nothing_is_missing() -> None:
    state = snapshot(stacked())
    now = Machine([Device("eth1", 3)])
    assert recreate.residue(state, cast(System, now)) == []


def test_a_snapshot_without_plans_makes_nothing() -> None:
    """It could not be read, or is of an earlier version."""
    now = replugged(stacked())
    done = set_up(replace(snapshot(stacked()), blueprints=(), link=None), now)
    assert (done.counts, done.residue) == ({}, ())
    assert len(now.devices) == 1


def u32(number: int) -> bytes:
    return struct.pack("=I", number)


def gre(name: str, ifindex: int, lower: int) -> Blueprint:
    data = attr(1, u32(lower)) + attr(7, bytes([10, 0, 0, 9]))
    info = attr(KIND, b"gre\0") + attr(2, data)
    body = struct.pack("=BxHiII", 0, 1, ifindex, 0, 0) + attr(IFNAME, name.encode() + b"\0")
    body += attr(LINK, u32(lower)) + attr(4, u32(1476)) + attr(LINKINFO, info)
    return Blueprint(ifindex, LinkSettings(), body)


@dataclass
class Tunnels(Machine):
    """Where tunnels send by, by their ifindex."""

    ends: dict[int, int] = field(default_factory=dict)
    takes: bool = True

    def send(self, request: Request) -> None:
        index = struct.unpack_from("=i", request.body, 4)[0]
        if request.flags or index not in self.ends:
            super().send(request)
            return
        if not self.takes:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        data = attrs(attrs(attrs(request.body[16:])[LINKINFO])[2])
        assert data[7] == bytes([10, 0, 0, 9]), "a driver forgets what it is not told"
        self.ends[index] = struct.unpack("=I", data[1])[0]

    def settings(self, ifindex: int) -> LinkSettings:
        found = super().settings(ifindex)
        return replace(found, names={**found.names, **{f"g{n}": n for n in self.ends}})

    def blueprints(self, port: PortId) -> tuple[Blueprint, ...]:
        there = {one.ifindex for one in self.devices}
        return tuple(gre(f"g{n}", n, to) for n, to in self.ends.items() if to in there)


def tunnelled(state: PortState, **ends: int) -> PortState:
    more = [gre(name, int(name[1:]), to) for name, to in ends.items()]
    state = replace(state, blueprints=(*state.blueprints, *more))
    return PortState.from_json(json.loads(json.dumps(state.to_json())))


def test_tunnels_send_by_the_new_netdev_and_what_stands_on_it() -> None:
    """One that somebody has removed, or made again himself, is left alone."""
    state = tunnelled(snapshot(stacked()), g20=3, g21=5, g22=3, g23=3)
    machine = Tunnels(replugged(stacked()).devices, ends={20: 3, 21: 5, 22: 7})
    told = set_up(state, machine)
    assert machine.ends == {20: 7, 21: 5, 22: 7}
    assert told.residue == ()
    assert not any("g2" in lost.text for lost in told.lost)


def test_a_tunnel_whose_driver_does_not_take_it_is_lost() -> None:
    state = tunnelled(snapshot(stacked()), g20=3)
    machine = Tunnels(replugged(stacked()).devices, ends={20: 3}, takes=False)
    told = set_up(state, machine)
    assert told.residue == ()
    (lost,) = [lost for lost in told.lost if "g20" in lost.text]
    assert lost.cause is Cause.NOT_KEPT


@dataclass
class Ports(Machine):
    """Several ports, by the ifindex that each has now. The kernel fills in a `%d`."""

    indexes: dict[int, int] = field(default_factory=dict)

    def netdev(self, port: PortId) -> NetdevNow | None:
        one = self.at(self.indexes[port.port])
        return NetdevNow(one.name, one.ifindex, self.up)

    def send(self, request: Request) -> None:
        index = struct.unpack_from("=i", request.body, 4)[0]
        name = attrs(request.body[16:])[IFNAME].rstrip(b"\0").decode()
        name = name.replace("%d", str(index))
        if name in {one.name for one in self.devices}:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        self.at(index).name = name


def ports(*names: str) -> tuple[list[PortState], list[Device]]:
    """Ports 1 and on that had the indexes 1 and on, and have 11 and on now; with these names now."""
    states = [
        PortState(PortId(PORT.pci, n, None), n, f"eth{n}", True, True, 1.0, (), link=LinkSettings())
        for n in range(1, len(names) + 1)
    ]
    return states, [Device(name, 10 + n) for n, name in enumerate(names, 1)]


@pytest.mark.parametrize(
    ("now", "then"),
    [
        (("eth2", "eth1"), ("eth1", "eth2")),
        (("eth2", "eth3", "eth1"), ("eth1", "eth2", "eth3")),
        (("eth2", "eth7"), ("eth1", "eth2")),
        (("eth1", "eth7"), ("eth1", "eth7")),  # nobody has what it wants: set_up() does that
    ],
)
def test_netdevs_that_have_each_others_names_get_their_own(
    now: tuple[str, ...], then: tuple[str, ...]
) -> None:
    states, devices = ports(*now)
    machine = Ports(devices, indexes={n: 10 + n for n in range(1, len(now) + 1)})
    recreate.untangle(states, cast(System, machine))
    assert tuple(one.name for one in machine.devices) == then


def test_a_name_that_a_stranger_has_is_left_to_it_by_all() -> None:
    states, devices = ports("eth2", "eth9")
    devices.append(Device("eth1", 99))
    machine = Ports(devices, indexes={1: 11, 2: 12})
    recreate.untangle(states, cast(System, machine))
    assert [one.name for one in machine.devices] == ["manactl11", "eth2", "eth1"]
    recreate._Recreated(states[0], cast(System, machine)).rename()
    assert [one.name for one in machine.devices] == ["eth11", "eth2", "eth1"]


@pytest.mark.parametrize("name", ["manactl", "manactl0x", "wan0"])
def test_a_name_that_somebody_else_gave_stays_where_the_old_one_is_taken(name: str) -> None:
    states, devices = ports(name)
    machine = Ports([*devices, Device("eth1", 99)], indexes={1: 11})
    recreate._Recreated(states[0], cast(System, machine)).rename()
    assert [one.name for one in machine.devices] == [name, "eth1"]
