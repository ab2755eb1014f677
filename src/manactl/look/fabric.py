"""How packets to Azure's own addresses leave, and how they would without the port."""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

from manactl.look.text_files import read
from manactl.netstate.surroundings import FabricRoute
from manactl.wire import rtmsg as rt
from manactl.wire.attrs import attr_u32

ADDRESSES = ("168.63.129.16", "169.254.169.254")  # wire server, instance metadata service
_AZURE_ASSET_TAG = "7783-7084-3265-9085-8269-3286-77"  # of every Azure VM, in its DMI tables
_OWN_ROUTE = 16  # bits of a prefix that is meant for such an address, and no part of a default
_UNUSABLE = rt.NUD_INCOMPLETE | rt.NUD_FAILED


class Ways(Protocol):
    """What is asked of rtnetlink."""

    def leaves_by(self, address: bytes) -> set[int]: ...
    def way_to(
        self, address: bytes, source: bytes = b"", more: bytes = b"", *, entry: bool = True
    ) -> bytes | None: ...
    def vrf_of(self, ifindex: int) -> int: ...
    def neighbours(self) -> list[bytes]: ...


def routes(
    ifindexes: Collection[int], left: Mapping[int, str], rtnl: Ways, sys: Path = Path("/sys")
) -> tuple[FabricRoute, ...]:
    """For each address; `left` are the netdevs that work without the port, their names by ifindex."""
    on_azure = _on_azure(sys)
    found = []
    for text in ADDRESSES:
        address = socket.inet_aton(text)
        route = rtnl.way_to(address)
        through = not rtnl.leaves_by(address).isdisjoint(ifindexes)
        found.append(
            FabricRoute(
                through_port=through,
                host_route=route is not None and rt.RtMsg.of(route).dst_len >= _OWN_ROUTE,
                on_azure=on_azure,
                address=text,
                remaining=_remaining(address, route, left, rtnl) if through and route else None,
            )
        )
    return tuple(found)


def _on_azure(sys: Path) -> bool:
    try:
        tag = read(sys / "class/dmi/id/chassis_asset_tag").strip(" ")
    except FileNotFoundError:  # no DMI tables, so not Azure
        return False
    return tag == _AZURE_ASSET_TAG


def remaining(address: bytes, left: Mapping[int, str], rtnl: Ways) -> str | None:
    """The netdev of `left` by which packets to that address leave when the port has gone."""
    route = rtnl.way_to(address)
    return None if route is None else _remaining(address, route, left, rtnl)


def _remaining(address: bytes, route: bytes, left: Mapping[int, str], rtnl: Ways) -> str | None:
    """The netdev by which packets leave when the port has gone: the kernel is asked for its routes
    over each of the others. Those of other tables than today's are for other packets."""
    tables = {_table(route), rt.RT_TABLE_MAIN, rt.RT_TABLE_DEFAULT}
    for index, name in left.items():
        bound = attr_u32(rt.RTA_OIF, index)
        way = rtnl.way_to(address, more=bound)
        if way is None or rt.RtMsg.of(way).type != rt.RTN_UNICAST or _table(way) not in tables:
            continue
        if not rt.route_ifindexes(way):  # as in Rtnl.routed_by()
            way = rtnl.way_to(address, more=bound, entry=False)
            if way is None:
                continue
        own = index in rt.route_ifindexes(way) and not rtnl.vrf_of(index)
        if own and _answers(way, index, rtnl):
            return name
    return None


def _table(route: bytes) -> int:
    table = rt.number(rt.split(route, rt.RTMSG.size), rt.RTA_TABLE)
    return rt.RtMsg.of(route).table if table is None else table


def _answers(way: bytes, ifindex: int, rtnl: Ways) -> bool:
    """False when the gateway is known not to answer."""
    gateways = {rt.value(rt.split(way, rt.RTMSG.size), rt.RTA_GATEWAY)}
    for hop in rt.hops(rt.value(rt.split(way, rt.RTMSG.size), rt.RTA_MULTIPATH) or b""):
        if hop.ifindex == ifindex:
            gateways.add(rt.value(rt.split(hop.rest, 0), rt.RTA_GATEWAY))
    for body in rtnl.neighbours():
        head = rt.NdMsg.of(body)
        to = rt.value(rt.split(body, rt.NDMSG.size), rt.NDA_DST)
        if head.ifindex == ifindex and to in gateways and head.state & _UNUSABLE:
            return False
    return True
