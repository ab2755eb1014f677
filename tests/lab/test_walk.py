"""`status --json` after every step of a random walk never contradicts the NIC's own record.

MANACTL_SEED=N walks the same way again.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator

from tests.lab.build import KERNELS
from tests.lab.image import CHECKOUT
from tests.lab.judge import judge
from tests.lab.pair_walk import PairWorld
from tests.lab.vm import Vm
from tests.lab.walk import World, walk

STEPS = 40
LONG = 300


@pytest.fixture
def schema() -> Validator:
    return Draft202012Validator(
        json.loads((CHECKOUT / "src/manactl/schemas/status.schema.json").read_text())
    )


def test_walk(vm: Vm, seed: int, schema: Validator) -> None:
    walk(vm, STEPS, seed, schema)


def test_walk_of_pairs(pair: Vm, seed: int, schema: Validator) -> None:
    walk(pair, STEPS, seed, schema, PairWorld)


@pytest.mark.parametrize("kernel", [pytest.param("7", marks=pytest.mark.xdist_group("linux-7"))])
def test_the_walk_knows_that_a_move_ends_a_bond(vm: Vm, kernel: str, schema: Validator) -> None:
    """Else the judge would want a master that the kernel has taken from the netdev."""
    with World(vm, random.Random(0)) as world:
        world.away = {2}  # leaves port 1 alone to choose from
        assert world.enslave() == "port 1 enslaved"
        assert world.move() == f"port 1 moved to {world.elsewhere}"
        world.away = {1}
        judge(world, schema)
        world.bring_back()
        judge(world, schema)


@pytest.mark.soak
@pytest.mark.parametrize("ports", [1, 2, 64])
@pytest.mark.parametrize(
    "version",
    [pytest.param(k, marks=pytest.mark.xdist_group(f"linux-{k}"), id=k) for k in KERNELS],
)
def test_long_walk(
    make_vm: Callable[..., Vm], version: str, ports: int, seed: int, schema: Validator
) -> None:
    machine = make_vm(version, ports=ports, mem=4096 if ports > 4 else 1536)
    walk(machine, LONG, seed, schema)


@pytest.mark.soak
def test_long_walk_of_pairs(pair: Vm, seed: int, schema: Validator) -> None:
    walk(pair, LONG, seed, schema, PairWorld)
