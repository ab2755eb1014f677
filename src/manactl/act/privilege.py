"""What this process may do, before anything is changed."""

from __future__ import annotations

from manactl.act.host import CAP_NET_ADMIN, Host
from manactl.errors import Denied
from manactl.model.port import Evidence


def need_net_admin(host: Host, verb: str) -> None:
    """Denied unless this process may change interfaces."""
    if not capable(host, CAP_NET_ADMIN):
        inside = host.in_user_namespace()
        needs = f"{verb} needs CAP_NET_ADMIN"
        raise Denied(
            f"{needs} in the user namespace that owns this network namespace" if inside else needs,
            untouched="nothing was touched",
            hint="root of a user namespace (a rootless container, `unshare -Ur`) is root of nothing "
            "else: run it outside"
            if inside
            else "run it as root, for instance with sudo",
            evidence=[
                Evidence("proc", "CapEff, what counts here", f"{host.capabilities():#x}"),
                Evidence("proc", "user namespace of its own", inside),
            ],
        )


def capable(host: Host, capability: int) -> bool:
    return bool(host.capabilities() >> capability & 1)
