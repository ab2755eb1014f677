"""All links of this network namespace, for guards; decoded by pyroute2 only if there is a need.

Importing pyroute2 doubles the time of a claim, and a host whose links are all devices, of no
rtnetlink kind and without a master, has nothing that it decodes better.
"""

from __future__ import annotations

from collections.abc import Sequence

from manactl.look import pyroute2_links
from manactl.look.pyroute2_links import DecodedLink
from manactl.look.rtnetlink import Rtnl
from manactl.wire.if_link import IfLink


def links() -> Sequence[DecodedLink]:
    """OSError when the kernel does not list them, ValueError for a broken message."""
    with Rtnl() as rtnl:
        bare = [IfLink(body) for body in rtnl.links()]
    if all(is_plain(link) for link in bare):
        return [as_decoded(link) for link in bare]
    return pyroute2_links.links()


def is_plain(link: IfLink) -> bool:
    """Whether it is a device that nothing is stacked on by way of it, nor it on something."""
    return link.kind is None and link.lower is None and link.master is None


def as_decoded(link: IfLink) -> DecodedLink:
    """What pyroute2 would make of a plain link."""
    return DecodedLink(
        link.ifindex, link.name, "", link.up, bool(link.carrier), None, None, None, follows=False
    )
