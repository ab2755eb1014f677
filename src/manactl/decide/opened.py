"""What made a netdev come up that a claim has set down, by what is known of it; pure."""

from __future__ import annotations

from collections.abc import Sequence

from manactl.model.hold import Cause, Opener


def cause(
    openers: Sequence[Opener], *, announced: bool, made_anew: bool, above_up: bool | None
) -> Cause:
    """`made_anew`: the VF is another netdev than the last time; `above_up`: its synthetic netdev is
    up (None: there is none).

    hv_netvsc opens a VF from a work queue 100 ms after it has come, where the synthetic netdev is
    up (netvsc_vf_setup(), __netvsc_vf_setup()). When a process opens the synthetic netdev,
    netvsc_open() opens the VF in that process.
    """
    if any(not opener.kernel for opener in openers):
        return Cause.PROCESS
    if above_up and (openers or made_anew):
        return Cause.NETVSC
    if openers:
        return Cause.PROCESS
    return Cause.UNKNOWN if announced else Cause.FOUND
