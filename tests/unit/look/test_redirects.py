"""Packets that others send by a port, on a machine in memory."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from manactl.look.redirects import chains, netconsole, nftables, redirecting
from manactl.look.source_words import SHARED_BLOCK
from tests.unit.look.kernel import attr
from tests.unit.wire.test_nft import device, expression, fwd, rule
from tests.unit.wire.test_tc import MATCHALL_ACT, filter_, mirred, table

ACTION, QDISC, FILTER = 50, 38, 46
NAMES = {2: "eth0", 3: "eth1", 4: "eth2"}


class Answer(NamedTuple):
    type: int
    body: bytes


class Kernel:
    """mirred actions by their targets, qdiscs, and filters by device and parent."""

    def __init__(self, *targets: int, filters: dict[tuple[int, int], int] | None = None) -> None:
        self.targets = targets
        self.filters = filters or {}
        self.asked: list[int] = []

    def dump(self, kind: int, body: bytes = b"") -> list[Any]:
        self.asked.append(kind)
        if kind == ACTION:
            return [Answer(48, bytes(4) + attr(1, table(*map(mirred, self.targets))))]
        if kind == QDISC:
            return [Answer(36, struct.pack("=IiIII", 0, 4, 0x10000, 0xFFFFFFFF, 0))]
        _, index, _, parent, _ = struct.unpack("=IiIII", body)
        if parent == 0xFFFF0000:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        to = self.filters.get((index, parent))
        return (
            [Answer(44, filter_(index, "matchall", MATCHALL_ACT, table(mirred(to))))] if to else []
        )


class Ruleset:
    def __init__(self, *bodies: bytes) -> None:
        self.bodies = bodies

    def dump(self, kind: int, body: bytes = b"") -> list[Any]:
        assert (kind, body) == (0xA07, bytes(4))
        return [Answer(0xA06, one) for one in self.bodies]


def test_chains_that_send_by_the_port_or_by_one_that_a_map_tells() -> None:
    there, elsewhere = rule(5, device(3), fwd()), rule(2, device(4), fwd())
    by_map = rule(10, expression("lookup"), fwd())
    assert chains(Ruleset(there, elsewhere, there, by_map), 3) == ("netdev t c", "ip6 t c")
    assert chains(Ruleset(elsewhere), 3) == ()


def test_nobody_is_asked_where_there_are_no_nftables(tmp_path: Path) -> None:
    assert nftables(3, tmp_path) == ()


def test_without_such_an_action_no_filter_is_looked_at() -> None:
    for kernel in (Kernel(), Kernel(4)):
        assert redirecting(kernel, NAMES, 3) == ()
        assert kernel.asked == [ACTION]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({(2, 0xFFFFFFF2): 3}, ("eth0",)),  # clsact ingress
        ({(2, 0xFFFFFFF3): 3, (4, 0): 3}, ("eth0", "eth2")),
        ({(4, 0x10000): 3}, ("eth2",)),  # at a qdisc
        ({(2, 0x10000): 3}, (SHARED_BLOCK,)),  # a place that the other does not have
        ({(3, 0xFFFFFFF2): 3}, ()),  # its own
        ({(2, 0xFFFFFFF2): 4}, (SHARED_BLOCK,)),
        ({}, (SHARED_BLOCK,)),  # a filter has it, and none of a device
    ],
)
def test_devices_whose_filters_send_by_the_port(
    filters: dict[tuple[int, int], int], found: tuple[str, ...]
) -> None:
    assert redirecting(Kernel(3, 4, filters=filters), NAMES, 3) == found


@pytest.mark.parametrize(
    ("consoles", "targets", "sent"),
    [
        (None, {}, None),
        ("tty0 -WU (EC  p  ) 4:1\n", {}, False),
        ("tty0 -WU (EC  p  ) 4:1\nnetcon0 -W- (E  p  )\n", None, None),
        ("netcon_ext0 -W- (E  p  )\n", {"a": ("eth0", "1"), "b": ("eth1", "1")}, True),
        ("netcon0 -W- (E  p  )\n", {"b": ("eth1", "0")}, False),
        ("netcon0 -W- (E  p  )\n", {"b": ("eth10", "1")}, False),
    ],
)
def test_kernel_messages(
    tmp_path: Path,
    consoles: str | None,
    targets: dict[str, tuple[str, str]] | None,
    sent: bool | None,
) -> None:
    if consoles is not None:
        (tmp_path / "consoles").write_text(consoles)
    place = tmp_path / "kernel/config/netconsole"
    if targets is not None:
        place.mkdir(parents=True)
    for name, (netdev, enabled) in (targets or {}).items():
        (place / name).mkdir()
        (place / name / "dev_name").write_text(netdev + "\n")
        (place / name / "enabled").write_text(enabled + "\n")
    assert netconsole("eth1", tmp_path, tmp_path) is sent
