"""What surrounds a port, read from trees and answers made for it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from manactl.look import surroundings
from manactl.model.port import RdmaPort
from manactl.netstate.surroundings import Manager, Process
from manactl.wire.nldev import RdmaDevice, Resource

NM = Process(11, "NetworkManager")
NETWORKD = Process(12, "systemd-network")


@pytest.fixture
def proc(tmp_path: Path) -> Callable[..., Path]:
    def make(*processes: Process) -> Path:
        for one in processes:
            (tmp_path / "proc" / str(one.pid)).mkdir(parents=True)
            (tmp_path / "proc" / str(one.pid) / "comm").write_text(one.comm + "\n")
        (tmp_path / "proc" / "self").mkdir(parents=True, exist_ok=True)
        return tmp_path / "proc"

    return make


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("text", "managed"),
    [
        ("[device]\nmanaged=true\n", True),
        ("[device]\nmanaged=false\n", False),
        ("[device]\nmanaged=0\n", False),
        ("[device]\nnm-owned=false\n", None),
        (None, None),
    ],
)
def test_network_manager(
    proc: Callable[..., Path], tmp_path: Path, text: str | None, managed: bool | None
) -> None:
    run = tmp_path / "run"
    path = run / "NetworkManager/devices/3"
    if text is not None:
        write(path, text)
    (found,) = surroundings.managers({3}, run, proc(NM))
    assert found == Manager("NetworkManager", NM, managed, str(path))


@pytest.mark.parametrize(
    ("state", "managed"), [("configured", True), ("unmanaged", False), ("pending", True)]
)
def test_networkd(proc: Callable[..., Path], tmp_path: Path, state: str, managed: bool) -> None:
    run = tmp_path / "run"
    write(
        run / "systemd/netif/links/3",
        f"# This is private data. Do not parse.\nADMIN_STATE={state}\n",
    )
    (found,) = surroundings.managers({3}, run, proc(NETWORKD))
    assert (found.name, found.managed) == ("systemd-networkd", managed)
    (other,) = surroundings.managers({4}, run, proc())
    assert other.managed is None


def test_a_manager_that_does_not_run_manages_nothing(
    proc: Callable[..., Path], tmp_path: Path
) -> None:
    write(tmp_path / "run/NetworkManager/devices/3", "managed=true\n")
    assert surroundings.managers({3}, tmp_path / "run", proc(Process(9, "sshd"))) == ()


class NoRoutes:
    """An rtnetlink that knows one way, and an interface it leads to."""

    def leaves_by(self, address: bytes) -> set[int]:
        return {3} if address == socket.inet_aton("10.9.9.9") else set()


def test_ssh_is_found_in_an_ancestor_since_sudo_clears_the_environment(tmp_path: Path) -> None:
    me = os.getpid()
    write(tmp_path / f"{me}/environ", "PATH=/bin\0")
    write(tmp_path / f"{me}/stat", f"{me} (odd ) name) S 70 1 1")
    write(tmp_path / "70/environ", "A=b\0SSH_CONNECTION=10.9.9.9 50022 10.0.0.2 22\0")
    write(tmp_path / "70/stat", "70 (bash) S 1 1 1")
    write(tmp_path / "1/environ", "")
    write(tmp_path / "1/stat", "1 (init) S 0 1 1")
    (found,) = surroundings.ssh_sessions({3}, NoRoutes(), tmp_path)  # type: ignore[arg-type]
    assert (found.client, found.server, found.through_port) == ("10.9.9.9", "10.0.0.2", True)
    assert "pid 70" in found.found_in
    (elsewhere,) = surroundings.ssh_sessions({4}, NoRoutes(), tmp_path)  # type: ignore[arg-type]
    assert elsewhere.through_port is False


def test_an_ssh_connection_that_is_no_address_is_not_believed_to_be_elsewhere(
    tmp_path: Path,
) -> None:
    me = os.getpid()
    write(tmp_path / f"{me}/environ", "SSH_CONNECTION=UNKNOWN 0 UNKNOWN 0\0")
    write(tmp_path / f"{me}/stat", f"{me} (x) S 0 1 1")
    (found,) = surroundings.ssh_sessions({3}, NoRoutes(), tmp_path)  # type: ignore[arg-type]
    assert found.through_port is None


class FakeNldev:
    """Two devices, or one for everything."""

    def __init__(self, pds: list[Resource], qps: int = 0, raw: bool = False) -> None:
        self._pds, self._qps, self._raw = pds, qps, raw

    def devices(self) -> list[RdmaDevice]:
        return [RdmaDevice(0, "mana_0", 2, 1, "roce"), RdmaDevice(1, "manae_0", 2, 0, None)]

    def summary(self, index: int) -> dict[str, int]:
        return {"qp": self._qps}

    def contexts(self, index: int) -> list[Resource]:
        raise AssertionError("a context alone is no user")

    def cqs(self, index: int) -> list[Resource]:
        raise AssertionError("not asked")

    def pds(self, index: int) -> list[Resource]:
        return self._pds if index == 0 else []

    def raw_qp_tracked(self, index: int) -> bool:
        return self._raw


SPLIT, COMBINED = RdmaPort("manae_0", 1, ("mana_0/1",)), RdmaPort("mana_0", 1)
KERNEL = Resource(True, None, 1)


def test_an_rnic_has_users_when_a_protection_domain_is_in_use() -> None:
    idle, used = Resource(False, 77, 0), Resource(False, os.getpid(), 2)
    assert surroundings._rdma_users(SPLIT, FakeNldev([KERNEL, idle])) == ()
    (found,) = surroundings._rdma_users(SPLIT, FakeNldev([KERNEL, idle, used]))
    assert found.device == "mana_0"
    assert [p.pid for p in found.processes] == [os.getpid()]


@pytest.mark.parametrize("device", [SPLIT, COMBINED])
def test_storage_over_rdma_is_a_user_in_the_kernel(device: RdmaPort) -> None:
    core = Resource(True, None, 1, "ib_core")
    nvme, idle = Resource(True, None, 3, "nvme_rdma"), Resource(True, None, 0, "rpcrdma")
    assert surroundings._rdma_users(device, FakeNldev([core, idle], 1)) == ()
    (found,) = surroundings._rdma_users(device, FakeNldev([core, nvme, idle], 4))
    assert (found.device, found.what) == ("mana_0", "nvme_rdma in the kernel")


def test_a_kernel_that_does_not_tell_counts_as_users() -> None:
    assert surroundings._rdma_users(SPLIT, FakeNldev([Resource(False, 77, None)])) != ()


@pytest.mark.parametrize(
    ("qps", "raw", "users"), [(1, False, 0), (2, True, 0), (2, False, 1), (4, True, 2)]
)
def test_on_a_combined_device_raw_and_kernel_queue_pairs_are_no_users(
    qps: int, raw: bool, users: int
) -> None:
    found = surroundings._rdma_users(COMBINED, FakeNldev([KERNEL], qps, raw))
    assert [one.what.split()[0] for one in found] == ([str(users)] if users else [])
