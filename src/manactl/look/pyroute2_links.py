"""All links of this network namespace, decoded by pyroute2: for commands that act, before they do.

The import costs 0.1 s and 25 MiB, so nothing that only shows imports it, and nothing imports it
while a port is down. Bytes that go back to the kernel never pass through here.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from typing import Any

from manactl.errors import Unsupported
from manactl.look.stacked_links import BESIDE
from manactl.model.named_tuple import NamedTuple
from manactl.model.port import IFF_UP
from manactl.wire.if_link import VLAN_FLAG_LOOSE_BINDING
from manactl.wire.netlink import NLM_F_DUMP_INTR

_TRIES = 10  # dumps, while links come and go in the middle of each


class DecodedLink(NamedTuple):
    """A link as far as guards ask. `lower` is the ifindex of what it is stacked on; `far_lower`
    is that and the namespace's number, where it is in another namespace. `follows`: the kernel
    sets it down with its lower."""

    ifindex: int
    name: str
    kind: str
    up: bool
    carrier: bool
    lower: int | None
    far_lower: tuple[int, int] | None
    master: int | None
    follows: bool


def links() -> list[DecodedLink]:
    """OSError when the kernel does not list them, or not twice the same."""
    for _ in range(_TRIES):
        messages = _dump()
        if messages is not None:
            return [decode(message) for message in messages]
    raise OSError(errno.EAGAIN, "links came or went during each of the dumps")


def _dump() -> list[Mapping[str, Any]] | None:
    """Every link, or None when the list changed meanwhile: 0.7 raises then, 0.9 leaves the flag.

    The socket is a new one each time, since one on which a dump was broken off answers EBUSY.
    """
    try:
        from pyroute2 import IPRoute
        from pyroute2.netlink.exceptions import (
            NetlinkDecodeError,
            NetlinkDumpInterrupted,
            NetlinkError,
        )
    except ImportError as error:
        raise Unsupported(
            f"{error}: what is stacked on a port cannot be read",
            hint="install it: apt install python3-pyroute2, or pip install pyroute2",
        ) from error
    try:
        with IPRoute() as netlink:
            messages = list(netlink.get_links())
    except NetlinkDumpInterrupted:
        return None
    except NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code)) from error
    except NetlinkDecodeError as error:
        raise OSError(errno.EBADMSG, f"a link that cannot be decoded: {error}") from error
    if any(message["header"]["flags"] & NLM_F_DUMP_INTR for message in messages):
        return None
    return messages


def decode(message: Mapping[str, Any]) -> DecodedLink:
    attrs = dict(_attrs(message))
    info = dict(_attrs(attrs.get("IFLA_LINKINFO", {})))
    kind = _text(info.get("IFLA_INFO_KIND", ""))
    lower = attrs.get("IFLA_LINK")
    far_lower = None
    if lower is not None and "IFLA_LINK_NETNSID" in attrs:
        far_lower, lower = (lower, attrs["IFLA_LINK_NETNSID"]), None
    return DecodedLink(
        message["index"],
        _text(attrs["IFLA_IFNAME"]),
        kind,
        bool(message["flags"] & IFF_UP),
        bool(attrs.get("IFLA_CARRIER", 0)),
        None if kind in BESIDE else lower,
        None if kind in BESIDE else far_lower,
        attrs.get("IFLA_MASTER"),
        kind == "vlan" and not _vlan_flags(info) & VLAN_FLAG_LOOSE_BINDING,
    )


def _vlan_flags(info: Mapping[str, Any]) -> int:
    data = dict(_attrs(info.get("IFLA_INFO_DATA", {})))
    flags: int = data.get("IFLA_VLAN_FLAGS", {}).get("flags", 0)
    return flags


def _attrs(message: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The attributes by name; pyroute2 lists them as pairs that are slices of a third."""
    for attr in message.get("attrs", ()):
        yield attr[0], attr[1]


def _text(name: str | bytes) -> str:
    """A name that is not UTF-8 comes as bytes."""
    return name if isinstance(name, str) else name.decode(errors="surrogateescape")
