"""A QEMU with vfio-user: the host's own when new enough, else Debian's, unpacked in the cache.

vfio-user-pci is in QEMU from 10.1 on. An unpacked QEMU does not meet the host's libraries at all:
it is started through its own dynamic loader with its own library path, and finds its firmware by
-L. So it runs on an older host, from any place, without root.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import cache
from .debian import SUITE, Apt, unpack

NEEDED = (10, 1)
PACKAGES = ("qemu-system-x86",)
_RECIPE = 1  # part of the key: raise it when unpacking changes
_PROGRAM = "qemu-system-x86_64"


@dataclass(frozen=True, slots=True)
class Qemu:
    """How to start QEMU: the first words of its command line."""

    argv: tuple[str, ...]
    version: str


def host_version() -> tuple[int, ...] | None:
    """Version of the host's own QEMU for x86-64, None when there is none."""
    path = shutil.which(_PROGRAM)
    if path is None:
        return None
    text = subprocess.run([path, "--version"], check=False, text=True, capture_output=True).stdout
    match = re.search(r"version (\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


def ensure() -> Qemu:
    """The QEMU to use; downloads and unpacks it when needed."""
    named = os.environ.get("MANACTL_LAB_QEMU")
    if named:
        return Qemu((named,), "as named by MANACTL_LAB_QEMU")
    own = host_version()
    if own is not None and own >= NEEDED:
        return Qemu((_PROGRAM,), ".".join(map(str, own)))
    apt = Apt()
    suite = f"{SUITE}-backports"
    files = apt.closure(PACKAGES, suite)
    version = next(
        name.split("_")[1].removeprefix("1%3a")
        for name in files
        if name.startswith("qemu-system-x86_")
    )

    def build(into: Path) -> None:
        cache.say(f"unpacking QEMU {version} ({len(files)} packages)")
        debs = into / "debs"
        for deb in apt.fetch_closure(PACKAGES, suite, debs):
            unpack(deb, into)
        shutil.rmtree(debs)

    return _unpacked(cache.artefact("qemu", cache.key_of(_RECIPE, files), build), version)


def _unpacked(tree: Path, version: str) -> Qemu:
    lib = tree / "usr/lib/x86_64-linux-gnu"
    firmware = (tree / "usr/share/qemu", tree / "usr/share/seabios", tree / "usr/lib/ipxe/qemu")
    argv = [
        str(lib / "ld-linux-x86-64.so.2"),
        "--library-path",
        str(lib),
        str(tree / "usr/bin" / _PROGRAM),
    ]
    for place in firmware:
        argv += ["-L", str(place)]
    return Qemu(tuple(argv), version)
