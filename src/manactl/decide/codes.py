"""The codes of refusals, each with the failure it ends in and with what `--allow` can do about it.

Completion reads this, so it needs no more than the errors.
"""

from __future__ import annotations

import enum

from manactl.errors import Busy, Denied, ManactlError, Refused, Unsupported


class Code(enum.StrEnum):
    """The stable word of a refusal, in `--allow` and in JSON."""

    # Guards, in the order in which they are asked.
    FOREIGN_NETNS = "foreign-netns"
    IN_RESET = "in-reset"
    KERNEL_BUG = "kernel-bug"
    SSH_SESSION = "ssh-session"
    DEFAULT_ROUTE = "default-route"
    LAST_PORT = "last-port"
    TCP_ESTABLISHED = "tcp-established"
    STORAGE = "storage"
    AZURE_FABRIC = "azure-fabric"
    RDMA_USERS = "rdma-users"
    UPPER = "upper"
    XDP = "xdp"
    PACKET_SOCKETS = "packet-sockets"
    MANAGER = "manager"
    SOCKETS = "sockets"
    FORWARDING = "forwarding"
    # Not a guard's, and never to be waived: the port cannot be claimed as it is.
    UNSUPPORTED = "unsupported"
    HOLDER = "holder"
    DENIED = "denied"
    IN_TRANSITION = "busy"

    @property
    def error(self) -> type[ManactlError]:
        """The failure that a command ends with, and with it the exit code."""
        return _ERRORS.get(self, Refused)

    @property
    def is_guard(self) -> bool:
        return self not in _ERRORS


_ERRORS: dict[Code, type[ManactlError]] = {
    Code.UNSUPPORTED: Unsupported,
    Code.HOLDER: Busy,
    Code.DENIED: Denied,
    Code.IN_TRANSITION: Busy,
}

NEVER = (Code.FOREIGN_NETNS, Code.IN_RESET, Code.KERNEL_BUG)
# Losing one of these can cut the operator off: a waiver needs a claim that ends by itself.
NEEDS_CONFIRM = (Code.SSH_SESSION, Code.DEFAULT_ROUTE, Code.LAST_PORT)
WAIVABLE = tuple(code for code in Code if code.is_guard and code not in NEVER)


class Bar(enum.Enum):
    """Why --allow does not help."""

    NEVER = enum.auto()
    NEEDS_CONFIRM = enum.auto()
    UPPERS_UNKNOWN = enum.auto()
    NAMESPACES_UNKNOWN = enum.auto()
    NOT_RESTORABLE = enum.auto()


BARRED = {
    Bar.NEVER: "it can never be waived",
    Bar.NEEDS_CONFIRM: "it can be waived only for a claim that ends by itself: with "
    "--confirm-within SECONDS, or with a command to run (-- COMMAND)",
    Bar.UPPERS_UNKNOWN: "it cannot be waived: what release would have to restore is not known",
    Bar.NAMESPACES_UNKNOWN: "it cannot be waived: release cannot restore in another namespace",
    Bar.NOT_RESTORABLE: "it cannot be waived: release could not restore all of them",
}


def bar_of(code: Code) -> Bar | None:
    """Why no refusal with that code can be waived; None when it depends on the facts at most."""
    if code not in WAIVABLE:
        return Bar.NEVER
    return Bar.NEEDS_CONFIRM if code in NEEDS_CONFIRM else None
