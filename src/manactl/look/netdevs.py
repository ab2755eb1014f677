"""All links of this network namespace, for guards; decoded by pyroute2 only if there is a need.

Importing pyroute2 takes two fifths of the time of a claim, and a host whose links are all devices,
of no rtnetlink kind or dummies and without a master, has nothing that it decodes better.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from manactl.look import pyroute2_links
from manactl.look.pyroute2_links import DecodedLink
from manactl.look.rtnetlink import Rtnl
from manactl.netstate.uppers import NETVSC
from manactl.wire.if_link import IfLink

# A dummy has no lower, and what is sent to it goes nowhere (drivers/net/dummy.c).
_PLAIN = (None, "dummy")


def links() -> Sequence[DecodedLink]:
    """OSError when the kernel does not list them, ValueError for a broken message."""
    with Rtnl() as rtnl:
        bare = [IfLink(body) for body in rtnl.links()]
    synthetic = {link.ifindex for link in bare if link.kind is None and link.vmbus}
    if all(is_plain(link, synthetic) for link in bare):
        found = [as_decoded(link) for link in bare]
    else:
        found = pyroute2_links.links()
    return [link._replace(kind=NETVSC) if link.ifindex in synthetic else link for link in found]


def is_plain(link: IfLink, synthetic: Collection[int] = ()) -> bool:
    """Whether it is a device that nothing is stacked on by way of it, nor it on something, but for
    the VF of a synthetic netdev."""
    alone = link.master is None or link.master in synthetic
    return link.kind in _PLAIN and link.lower is None and alone


def as_decoded(link: IfLink) -> DecodedLink:
    """What pyroute2 would make of a plain link."""
    carrier = bool(link.carrier)
    return DecodedLink(
        link.ifindex,
        link.name,
        link.kind or "",
        link.up,
        carrier,
        None,
        None,
        link.master,
        follows=False,
    )
