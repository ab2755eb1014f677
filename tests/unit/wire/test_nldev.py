"""The nldev numbers against the kernel's header, and answers put together by its layout."""

from __future__ import annotations

import errno
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from manactl.wire import nldev
from manactl.wire.attrs import attr, attr_str, attr_u32, nest
from manactl.wire.netlink import NetlinkSocket
from manactl.wire.nldev import ATTRS, COMMANDS, Nldev, RdmaDevice, Resource
from tests.unit.wire import datagrams

HEADER = Path("/usr/include/rdma/rdma_netlink.h")


def enum_of(name: str = "", first: str = "") -> dict[str, int]:
    """An enum of the header by its name or first member, numbered as a C compiler would."""
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    found = re.search(rf"enum {name}\s*\{{(\s*{first}.*?)\}};", text, re.DOTALL)
    assert found
    numbers: dict[str, int] = {}
    following = 0
    for entry in filter(None, (part.strip() for part in found[1].split(","))):
        word, _, value = (part.strip() for part in entry.partition("="))
        following = numbers[value] if value in numbers else int(value or following)
        numbers[word] = following
        following += 1
    return numbers


@pytest.mark.skipif(not HEADER.exists(), reason="linux-libc-dev is not installed")
def test_numbers_are_the_kernels() -> None:
    commands = enum_of("rdma_nldev_command")
    assert {name: commands[f"RDMA_NLDEV_CMD_{name}"] for name in COMMANDS} == COMMANDS
    attrs = enum_of("rdma_nldev_attr")
    assert {name: attrs[f"RDMA_NLDEV_ATTR_{name}"] for name in ATTRS} == ATTRS
    assert attrs["RDMA_NLDEV_SYS_ATTR_NETNS_MODE"] == nldev.SYS_ATTR_NETNS_MODE
    assert enum_of(first="RDMA_NL_IWCM")["RDMA_NL_NLDEV"] == nldev.RDMA_NL_NLDEV


class Kernel:
    """Answers prepared for the exchanges to come, which count from 1."""

    def __init__(self) -> None:
        self.far, self.near = datagrams.pair()
        self._seq = 0

    def dump(self, *bodies: bytes) -> None:
        self._seq += 1
        packets = b"".join(self._packet(0x1400, 2, body) for body in bodies)
        datagrams.send(self.far, packets + self._packet(3, 2, struct.pack("=i", 0)))

    def answer(self, code: int, *bodies: bytes) -> None:
        self._seq += 1
        packets = b"".join(self._packet(0x1400, 0, body) for body in bodies)
        error = struct.pack("=iIHHII", -code, 20, 0, 0, self._seq, 0)
        datagrams.send(self.far, packets + self._packet(2, 0x100, error))

    def _packet(self, kind: int, flags: int, body: bytes) -> bytes:
        return struct.pack("=IHHII", 16 + len(body), kind, flags, self._seq, 0) + body


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    made = Kernel()
    monkeypatch.setattr(
        nldev,
        "NetlinkSocket",
        lambda family: NetlinkSocket(family, opener=lambda _family: datagrams.ours(made.near)),
    )
    yield made
    made.far.close()
    made.near.close()


def u64(kind: str, value: int) -> bytes:
    return attr(ATTRS[kind], struct.pack("=Q", value))


def table(kind: str, *entries: bytes) -> bytes:
    return nest(ATTRS[kind], *(nest(1, entry) for entry in entries))


def test_devices(kernel: Kernel) -> None:
    roce = (
        attr_u32(ATTRS["DEV_INDEX"], 0)
        + attr_str(ATTRS["DEV_NAME"], "mana_0")
        + attr_u32(ATTRS["PORT_INDEX"], 2)
        + u64("NODE_GUID", 0x02155DFFFE000001)
        + attr_str(ATTRS["DEV_PROTOCOL"], "roce")
    )
    raw = (
        attr_u32(ATTRS["DEV_INDEX"], 3)
        + attr_str(ATTRS["DEV_NAME"], "manae_0")
        + attr_u32(ATTRS["PORT_INDEX"], 2)
        + u64("NODE_GUID", 0)
    )
    kernel.dump(roce, raw)
    with Nldev() as client:
        assert client.devices() == [
            RdmaDevice(0, "mana_0", 2, 0x02155DFFFE000001, "roce"),
            RdmaDevice(3, "manae_0", 2, 0, None),
        ]


def test_resources_tell_the_kernels_from_users(kernel: Kernel) -> None:
    pid = attr_u32(ATTRS["RES_PID"], 77)
    kernel.dump(
        table(
            "RES_PD",
            attr_str(ATTRS["RES_KERN_NAME"], "ib_core") + u64("RES_USECNT", 2),
            pid + u64("RES_USECNT", 1),
            u64("RES_USECNT", 0),  # a creator that is gone has no pid
            pid,
        )
    )
    with Nldev() as client:
        assert client.pds(3) == [
            Resource(kernel=True, pid=None, users=2, module="ib_core"),
            Resource(kernel=False, pid=77, users=1),
            Resource(kernel=False, pid=None, users=0),
            Resource(kernel=False, pid=77, users=None),
        ]


def test_each_table_is_asked_of_the_device(kernel: Kernel) -> None:
    kernel.dump(table("RES_CTX", b""))
    kernel.dump(table("RES_CQ", u64("RES_USECNT", 2)))
    kernel.dump()
    with Nldev() as client:
        assert len(client.contexts(9)) == 1
        assert [cq.users for cq in client.cqs(9)] == [2]
        assert client.pds(9) == []
    for command in ("RES_CTX_GET", "RES_CQ_GET", "RES_PD_GET"):
        _, kind, flags, _, _ = struct.unpack_from("=IHHII", request := kernel.far.recv(4096))
        assert (kind, flags) == (0x1400 + COMMANDS[command], 0x301)
        assert request[16:] == attr_u32(1, 9)


def test_summary(kernel: Kernel) -> None:
    def entry(name: str, count: int) -> bytes:
        return attr_str(ATTRS["RES_SUMMARY_ENTRY_NAME"], name) + u64(
            "RES_SUMMARY_ENTRY_CURR", count
        )

    kernel.answer(0, table("RES_SUMMARY", entry("qp", 1), entry("ctx", 2)))
    with Nldev() as client:
        assert client.summary(3) == {"qp": 1, "ctx": 2}


@pytest.mark.parametrize(("code", "tracked"), [(errno.EAGAIN, True), (errno.ENOENT, False)])
def test_raw_queue_pair_by_the_refusal(kernel: Kernel, code: int, tracked: bool) -> None:
    kernel.answer(code)
    with Nldev() as client:
        assert client.raw_qp_tracked(3) is tracked


@pytest.mark.parametrize("code", [0, errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP])
def test_any_other_answer_is_no_answer(kernel: Kernel, code: int) -> None:
    kernel.answer(code)
    with Nldev() as client, pytest.raises(OSError) as caught:  # noqa: PT011 - compared below
        client.raw_qp_tracked(3)
    assert caught.value.errno == (code or errno.EPROTO), os.strerror(code)


@pytest.mark.parametrize(("value", "mode"), [(1, "shared"), (0, "exclusive")])
def test_netns_mode(kernel: Kernel, value: int, mode: str) -> None:
    kernel.answer(0, attr(nldev.SYS_ATTR_NETNS_MODE, bytes([value])))
    with Nldev() as client:
        assert client.netns_mode() == mode


def test_a_kernel_that_tells_no_netns_mode(kernel: Kernel) -> None:
    kernel.answer(0)
    with Nldev() as client:
        assert client.netns_mode() is None
