"""Ports below a master, on this host's kernel; tests/lab/test_networks.py has them on three others.

Kinds of device that this kernel has not are named as skipped ("uppers").
"""

from __future__ import annotations

import subprocess

import pytest

from manactl.netstate.snapshot import PortState
from tests.conftest import lacking
from tests.lab import networks, stacks
from tests.netns.port import PORT, Here, batch, ip, put_back

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("netns")]

KINDS = {"vlan": "link port0 type vlan id 9", "macvlan": "link port0 type macvlan",
         "vrf": "type vrf table 9", "bond": "type bond", "bridge": "type bridge"}  # fmt: skip


def has(kind: str) -> bool:
    """Whether this kernel can make such a device."""
    words = ["ip", "link", "add", "name", "try0", *KINDS[kind].split()]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        return False
    ip("link", "del", "try0")
    return True


@pytest.fixture
def stack(here: Here, request: pytest.FixtureRequest) -> Here:
    for kind in stacks.STACKS[request.param][2]:
        if not has(kind):
            lacking("uppers", f"this kernel has no {kind}; the lab's have")
    batch("address flush dev other0\n")
    script = stacks.script(request.param, "port0", "other0")
    subprocess.run(["sh", "-c", script], check=True)
    return here


def view() -> dict[str, list[str]]:
    def read() -> str:
        return subprocess.run(
            ["sh", "-c", networks.reading()], check=True, capture_output=True, text=True
        ).stdout

    return networks.settle(read)


@pytest.mark.parametrize("stack", sorted(stacks.STACKS), indirect=True)
def test_it_is_as_it_was(stack: Here) -> None:
    before = view()
    state = PortState.from_json(stack.capture(PORT).to_json())
    assert state.uppers
    ip("link", "set", "port0", "down")
    ip("link", "set", "port0", "up")
    done = put_back(stack, state, 10.0)
    assert (done.residue, done.extra) == ((), ())
    assert not (found := networks.differences(before, view())), "\n".join(found)


def test_every_kind_of_upper_of_a_random_network_is_there(here: Here) -> None:
    """test_networks.py draws with what there is."""
    missing = [kind for kind in ("vlan", "macvlan") if not has(kind)]
    if missing:
        lacking("uppers", f"this kernel has no {', '.join(missing)}; the lab's have")
