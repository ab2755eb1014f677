"""Where a tunnel device sends, by its IFLA_INFO_DATA. What other interfaces know is not here.

Numbers: include/uapi/linux/{if_link,if_tunnel,xfrm}.h.
"""

from __future__ import annotations

import _socket

from manactl.model.named_tuple import NamedTuple
from manactl.wire.attrs import as_int, parse_attrs
from manactl.wire.if_link import IfLink

NETLINK_XFRM = 6
TUN = "tun"  # the kind of a device whose packets go through a program
PPP = "ppp"
# Those that send by sockets of a program, to peers that it tells them.
OF_SOCKETS = frozenset({"ovpn", "ovpn-dco", "ovpn-dco-v2", "gtp"})
XFRM_MSG_GETSA = 0x12
XFRMA_SET_MARK, XFRMA_IF_ID = 29, 31
_SA_DADDR, _SA_SADDR, _SA_FAMILY, _SA_SIZE = 56, 80, 212, 224  # in struct xfrm_usersa_info


class _Attrs(NamedTuple):
    """Which attribute of a kind has what; `remote6` and `local6` only where they differ."""

    link: int = 0
    local: int = 0
    remote: int = 0
    local6: int = 0
    remote6: int = 0
    mark: int = 0
    metadata: int = 0  # the endpoints come with each packet
    if_id: int = 0


_GRE = _Attrs(link=1, local=6, remote=7, metadata=18, mark=20)
_IPTUN = _Attrs(link=1, local=2, remote=3, metadata=19, mark=20)
_VTI = _Attrs(link=1, local=4, remote=5, mark=6)
KINDS = {
    "vxlan": _Attrs(link=3, local=4, remote=2, local6=17, remote6=16, metadata=25),
    "geneve": _Attrs(remote=2, remote6=7, metadata=6),
    **dict.fromkeys(("gre", "gretap", "erspan", "ip6gre", "ip6gretap", "ip6erspan"), _GRE),
    **dict.fromkeys(("ipip", "sit", "ip6tnl"), _IPTUN),
    **dict.fromkeys(("vti", "vti6"), _VTI),
    "xfrm": _Attrs(link=1, metadata=3, if_id=2),
    "wireguard": _Attrs(),
    "bareudp": _Attrs(),
}


class Outer(NamedTuple):
    """How a packet around others goes: to whom, from which address, with which mark, and by which
    interface where the address is link-local."""

    remote: bytes
    local: bytes = b""
    mark: int = 0
    zone: int = 0


class Tunnel(NamedTuple):
    """A tunnel device. `under` is the interface that its packets are bound to, or 0; `nsid` the
    number of the namespace that they are in, where that is another one."""

    ifindex: int
    name: str
    kind: str
    under: int = 0
    nsid: int | None = None
    outers: tuple[Outer, ...] = ()
    metadata: bool = False
    if_id: int = 0
    mark: int = 0
    local: bytes = b""
    by: str = ""  # the program that sends them, of a TUN or TAP device
    unseen: bool = False  # that program is not visible


def tunnel(link: IfLink) -> Tunnel | None:
    """None for what is no tunnel."""
    kind = link.kind or ""
    if kind in OF_SOCKETS:
        return Tunnel(link.ifindex, link.name, kind, metadata=True)
    which = KINDS.get(kind)
    if which is None:
        return None
    data = link.data
    local = _address(data, which.local) or _address(data, which.local6)
    remote = _address(data, which.remote) or _address(data, which.remote6)
    mark = as_int(data.get(which.mark, b"")) if which.mark else 0
    raw = data.get(which.metadata) if which.metadata else None
    metadata = raw is not None and (not raw or as_int(raw) != 0)  # a flag, or a number
    return Tunnel(
        link.ifindex, link.name, kind,
        as_int(data.get(which.link, b"")) if which.link else 0,
        link.lower_netnsid,
        (Outer(remote, local, mark),) if remote else (),
        metadata or kind == "bareudp",
        as_int(data.get(which.if_id, b"")) if which.if_id else 0,
        mark,
        local,
    )  # fmt: skip


def _address(data: dict[int, bytes], kind: int) -> bytes:
    """Empty when there is none, or the address is that of nobody."""
    raw = data.get(kind, b"") if kind else b""
    return raw if any(raw) else b""


class Association(NamedTuple):
    """An IPsec SA that belongs to an xfrm interface."""

    if_id: int
    outer: Outer


def association(body: bytes) -> Association:
    """One message of a dump of SAs. The mark is what its packets get."""
    size = 4 if as_int(body[_SA_FAMILY : _SA_FAMILY + 2]) == _socket.AF_INET else 16
    attrs = parse_attrs(body, _SA_SIZE)
    return Association(
        as_int(attrs.get(XFRMA_IF_ID, b"")),
        Outer(
            body[_SA_DADDR : _SA_DADDR + size],
            body[_SA_SADDR : _SA_SADDR + size],
            as_int(attrs.get(XFRMA_SET_MARK, b"")),
        ),
    )
