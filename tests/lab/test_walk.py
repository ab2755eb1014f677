"""`status --json` after every step of a random walk never contradicts the NIC's own record.

The seed is printed, and MANACTL_SEED=N walks the same way again.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable

import pytest

from tests.lab.build import KERNELS
from tests.lab.image import CHECKOUT
from tests.lab.scene import Row
from tests.lab.vm import Vm
from tests.lab.walk import walk

STEPS = {"7": 40}  # on kernels that tell the owner of every port; elsewhere:
FEWER = 15
LONG = 300


@pytest.fixture
def schema() -> Row:
    loaded: Row = json.loads((CHECKOUT / "src/manactl/status.schema.json").read_text())
    return loaded


@pytest.fixture
def seed() -> int:
    given = os.environ.get("MANACTL_SEED")
    found = int(given) if given else random.SystemRandom().randrange(1 << 31)
    print(f"MANACTL_SEED={found}")
    return found


def test_walk(vm: Vm, kernel: str, seed: int, schema: Row) -> None:
    walk(vm, STEPS.get(kernel, FEWER), seed, schema)


@pytest.mark.soak
@pytest.mark.parametrize("ports", [1, 2, 64])
@pytest.mark.parametrize(
    "version",
    [pytest.param(k, marks=pytest.mark.xdist_group(f"linux-{k}"), id=k) for k in KERNELS],
)
def test_long_walk(
    make_vm: Callable[..., Vm], version: str, ports: int, seed: int, schema: Row
) -> None:
    machine = make_vm(version, ports=ports, mem=4096 if ports > 4 else 1536)
    walk(machine, LONG, seed, schema)
