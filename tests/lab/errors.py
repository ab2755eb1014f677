"""What can go wrong with the lab itself, as opposed to with what is tested in it.

LabError
  HostLacks       the host misses a program or a permission; the text says which
  MirrorUnknown   no Debian mirror can be derived from apt's configuration
  Unreachable     the mirror does not answer, after retries
  KernelGone      no kernel package of the wanted version prefix on the mirror
  HeadersGone     a kernel that is there, but no longer its header package: no VMBus on it
  LostVm          the guest died, hung or lost its agent: says nothing about the test
"""

from __future__ import annotations


class LabError(Exception):
    """The lab could not be built or run; never raised for a test's own failure."""


class HostLacks(LabError):
    """Something the host must provide is not there."""


class MirrorUnknown(LabError):
    """apt's configuration names no Debian mirror."""


class Unreachable(LabError):
    """The mirror could not be reached, or broke off, in every attempt."""


class KernelGone(LabError):
    """The mirror has no cloud kernel of this version prefix."""

    def __init__(self, prefix: str, available: list[str], mirror: str) -> None:
        self.prefix = prefix
        self.available = available
        there = ", ".join(available) or "none at all"
        super().__init__(
            f"no cloud kernel {prefix}* on {mirror}; versions there: {there}. "
            f"Choose another prefix, or a mirror that still has it (MANACTL_DEBIAN_MIRROR)."
        )


class HeadersGone(LabError):
    """The mirror has no header package for a kernel, so nothing can be built for it."""

    def __init__(self, package: str, mirror: str) -> None:
        super().__init__(
            f"no {package} on {mirror}: the VMBus cannot be built for this kernel. Choose another "
            f"one, or a mirror that still has the package (MANACTL_DEBIAN_MIRROR)."
        )


class LostVm(LabError):
    """The VM is gone (panic, QEMU exit, agent silent); carries the end of its console."""

    def __init__(self, why: str, console: str = "") -> None:
        self.why = why
        self.console = console
        tail = f"\n--- end of the guest's console ---\n{console}" if console else ""
        super().__init__(f"lost VM: {why}{tail}")
