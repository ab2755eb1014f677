"""The machine that this process runs on."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from manactl.act.host import CAP_NET_ADMIN, CAP_NET_RAW, LiveHost
from manactl.act.terminate import LiveProcesses
from manactl.errors import Unsupported
from manactl.journal import file as journal
from manactl.model.claim import NetnsId
from tests.unit.wording import says, wording


def test_it_is_this_machine() -> None:
    host = LiveHost()
    assert host.boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert host.who()["uid"] == os.getuid()
    assert host.look().kernel == os.uname().release
    assert isinstance(host.processes, LiveProcesses)
    assert host.monotonic() <= host.monotonic()
    audit = host.audit("claim", ["eth1"])
    assert (audit.fields["verb"], audit.fields["asked"]) == ("claim", ["eth1"])
    status = Path("/proc/self/status").read_text()
    (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")]
    assert host.capabilities() == int(mask, 16)


def test_it_knows_its_namespaces() -> None:
    host = LiveHost()
    inode = int(os.readlink("/proc/self/ns/user").split("[")[1].rstrip("]"))
    assert host.in_user_namespace() is (inode != 0xEFFFFFFD)  # PROC_USER_INIT_INO
    found = host.find_netns(host.netns())
    assert found is not None
    assert found.inode == host.netns().inode
    assert host.find_netns(NetnsId(1, 1)) is None


def test_it_sleeps_as_long_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    LiveHost().pause(2.5)
    assert slept == [2.5]


def test_capabilities_are_the_kernels() -> None:
    """include/uapi/linux/capability.h"""
    assert (CAP_NET_ADMIN, CAP_NET_RAW) == (12, 13)


def test_a_system_pauses_as_it_is_told() -> None:
    pauses: list[float] = []
    with LiveHost().system(pauses.append) as system:
        system.pause(3.5)
    assert pauses == [3.5]


def test_a_proc_without_sysctls_is_a_place_where_nothing_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a unit with ProcSubset=pid: which boot this is cannot be read there."""
    real = journal.read_boot_id
    monkeypatch.setattr(journal, "read_boot_id", lambda: real(tmp_path))
    with pytest.raises(Unsupported, match=says("boot_id cannot be read: No such file")) as caught:
        LiveHost().boot_id()
    with wording:
        assert "ProcSubset=all" in (caught.value.hint or "")
