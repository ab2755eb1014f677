"""`python3 -m tests.lab.build`: have QEMU, the kernels and the guest's tree in the cache.

Says what it uses. Done before the tests start, so that what goes wrong here is told once and by
name, and not by each test.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from . import bytecode, cache, image, qemu
from .debian import Apt
from .errors import LabError
from .vmbus import build as vmbus

# Kernels of which Debian has the image still and the headers no longer: no VMBus there.
WITHOUT_HEADERS = frozenset({"6.18"})
KERNELS = tuple(os.environ.get("MANACTL_LAB_KERNELS", "6.12,6.18,7").split(","))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.lab.build", description=__doc__)
    parser.add_argument("--kernel", action="append", help="version prefix; default: all three")
    parser.add_argument("--systemd", action="store_true", help="the tree that systemd boots too")
    parser.add_argument("--pairs", action="store_true", help="the VMBus for each of them too")
    arguments = parser.parse_args()
    wanted = arguments.kernel or KERNELS
    began = time.monotonic()
    try:
        emulator = qemu.ensure()
        apt = Apt()
        kernels = [image.kernel(prefix, apt) for prefix in wanted]
        image.tree(apt)
        bytecode.interpreter(apt)
        if arguments.systemd:
            image.tree(apt, systemd=True)
        for prefix, kernel in zip(wanted, kernels, strict=True):
            if arguments.pairs and prefix not in WITHOUT_HEADERS:
                vmbus.modules(kernel, apt)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    versions = ", ".join(kernel.version for kernel in kernels)
    spent = time.monotonic() - began
    cache.say(f"QEMU {emulator.version}; Linux {versions}; ready after {spent:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
