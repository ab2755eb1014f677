"""The comments in files that manactl writes for network managers: for whoever finds one there."""

from __future__ import annotations


def while_claimed(names: str) -> str:
    return (
        f"# Written by manactl: {names} is claimed for RDMA. `manactl release` removes this file; "
        "a reboot does, too.\n"
    )


def at_boot(name: str, port: object) -> str:
    return (
        f"# Written by `manactl claim --persist`: {name} stays down at boot, for RDMA. "
        f"`manactl release {port}` removes this file."
    )
