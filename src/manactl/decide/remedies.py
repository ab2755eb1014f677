"""What to do about a netdev that the kernel does not set up."""

from __future__ import annotations

import errno

from manactl.decide import leaked_vport
from manactl.model.port import PortId


def of_opening(number: int | None, port: PortId) -> str | None:
    """By the errno of the refusal."""
    if number in (errno.EBUSY, errno.ENODEV):
        return (
            "a raw QP has the vport: see who with `manactl status -v`. If nobody has, the driver "
            f"counts wrong (up to 6.18): {leaked_vport.remedy(port)}"
        )
    if number in (errno.ETIMEDOUT, errno.EPROTO, errno.EIO):
        return (
            "the device does not answer its driver. From 7.x on that resets it, as a rule within a "
            'minute (the kernel log then says "MANA reset cycle completed"); else '
            f"{leaked_vport.remedy(port)}"
        )
    return None
