"""RC queue pairs carry data whatever owns the vports: raw QPs and claims limit them in nothing.

What a claim of the port below them does is in its plan (the guard `rdma-users`): the port reads
DOWN, and its global IPv6 addresses leave the adapter.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab.scene import becomes, manactl, up
from tests.lab.users import User, eventually, user
from tests.lab.vm import Vm
from tests.unit.wording import wording

DEVICE = "mana_0"
MESSAGES = 40
GLOBAL = "fd010000000000000000000000000001"


@pytest.fixture
def addressed(vm: Vm) -> Vm:
    """Both ports up, the first with addresses of both families in its RDMA port."""
    up(vm, 1, 2)
    name, other = vm.netdevs[1], vm.netdevs[2]
    vm.run(f"ip addr add 10.1.0.1/24 dev {name}; ip -6 addr add fd01::1/64 dev {name} nodad")
    vm.run(f"ip addr add 10.2.0.1/24 dev {other}")  # neither is the last port with an address
    eventually(lambda: GLOBAL in vm.nic.state()["gids"], what="the address in the adapter")
    return vm


def index_of(vm: Vm, address: str) -> str:
    """The index of a GID, given in hex."""
    show = f"cd /sys/class/infiniband/{DEVICE}/ports/1/gids; grep -n . *"
    for line in vm.run(show).out.splitlines():
        index, _, text = line.split(":", 2)
        if text.replace(":", "") == address:
            return index
    raise LookupError(address)


@contextmanager
def talking(vm: Vm) -> Iterator[User]:
    with user(vm, "rnic", DEVICE) as program:
        assert program.wait_for("ready", 60)["failure"] is None
        yield program
        program.ask("quit", "leaving")


def test_pingpong(addressed: Vm) -> None:
    """rdma-core's own program, over IPv4, that waits for events and verifies what it got."""
    words = f"-d {DEVICE} -i 1 -g {index_of(addressed, '0' * 20 + 'ffff0a010001')} -n 300 -e -c"
    server = addressed.spawn(f"ibv_rc_pingpong {words}")
    eventually(lambda: addressed.run("ss -Htln sport = 18515").out, what="the server")
    client = addressed.run(f"ibv_rc_pingpong {words} 127.0.0.1")
    server.read_until("300 iters", 60)
    for said in (server.out, client.out):
        assert "invalid data" not in said
        assert "GID ::ffff:10.1.0.1" in said


def carried(vm: Vm) -> int:
    """The bytes that RC queue pairs have sent so far, by the NIC's count."""
    return sum(qp["out"] for qp in vm.nic.objects()["qp"])


def goes_on(vm: Vm) -> None:
    """Data flows now, not only before and after."""
    before = carried(vm)
    eventually(lambda: carried(vm) > before, what="more bytes than before")


@contextmanager
def chatting(vm: Vm) -> Iterator[None]:
    """Messages between two queue pairs of the first port, all the while, each of them compared."""
    with talking(vm) as program:
        pair = program.ask(f"pair 1 {index_of(vm, GLOBAL)}", "paired")["id"]
        program.ask(f"chat {pair}", "chatting")
        goes_on(vm)
        yield
        goes_on(vm)
        said = program.ask("hush", "hushed")
        assert (said["right"], said["failure"]) == (said["turns"], "")
        assert said["turns"] > MESSAGES


def one_device_for_all(vm: Vm) -> bool:
    """6.12: there are RC queue pairs, and no interface tells of which port."""
    return bool(vm.run("rdma link show manae_0/1", check=False).rc)


def test_data_flows_while_the_other_port_is_claimed_and_used(addressed: Vm) -> None:
    vm = addressed
    claim = ["claim", "--raw-qp", vm.netdevs[2]]
    with chatting(vm):
        gids = vm.nic.state()["gids"]
        if one_device_for_all(vm):
            refused = manactl(vm, *claim, "--json")
            assert (refused.rc, refused.json()["code"]) == (3, "rdma-users")
            with wording:
                assert "which port they use is not visible" in refused.err
            claim += ["--allow", "rdma-users"]
        claimed = manactl(vm, *claim)
        assert claimed.rc == 0, claimed.err
        with user(vm, "rawqp") as raw:
            raw.wait_for("ready")
            raw.ask("create 2", "created")
            goes_on(vm)
            raw.ask("quit", "leaving")
        becomes(vm, 2, "free")
        goes_on(vm)
        released = manactl(vm, "release")
        assert released.rc == 0, released.err
        assert vm.nic.state()["gids"] == gids


def test_a_claim_of_their_own_port_takes_their_address(addressed: Vm) -> None:
    """It is refused, and when the loss is accepted the queue pairs stay and the address comes back.

    That data flows meanwhile holds for this NIC, which does not look at addresses.
    """
    vm = addressed
    with chatting(vm):
        refused = manactl(vm, "claim", "--raw-qp", vm.netdevs[1], "--json")
        assert (refused.rc, refused.json()["code"]) == (3, "rdma-users")
        claimed = manactl(vm, "claim", "--raw-qp", vm.netdevs[1], "--allow", "rdma-users")
        assert claimed.rc == 0, claimed.err
        goes_on(vm)
        assert GLOBAL not in vm.nic.state()["gids"]
        released = manactl(vm, "release")
        assert released.rc == 0, released.err
        eventually(lambda: GLOBAL in vm.nic.state()["gids"], what="the address in the adapter")
