"""AF_XDP sockets, by messages as xsk_diag_fill() writes them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from manactl.look import xsk
from tests.unit.look.kernel import attr

HEAD = "protocol  size sockets  memory press maxhdr  slab module     cl co di\n"
ROW = "XDP       1024      {}      -1   NI       0   no   kernel      n  n  n\n"


def process(root: Path, count: int | None) -> Path:
    (root / "net").mkdir()
    rows = HEAD + (ROW.format(count) if count is not None else "") + "TCP 1 2 3\n"
    (root / "net/protocols").write_text(rows)
    return root


def sock(ifindex: int) -> bytes:
    head = struct.pack("=BBHIII", 44, 3, 0, 801, 0, 0)
    return head + attr(1, struct.pack("=II", ifindex, 0)) + attr(2, bytes(4))


@pytest.mark.parametrize(("ifindex", "found"), [(3, True), (4, False)])
def test_by_the_netdev_that_one_is_bound_to(tmp_path: Path, ifindex: int, found: bool) -> None:
    unbound = struct.pack("=BBHIII", 44, 3, 0, 802, 0, 0)
    answer = [unbound, sock(ifindex)]
    assert xsk.are_on({3}, lambda: answer, process(tmp_path, 1)) is found


@pytest.mark.parametrize("count", [0, None])
def test_where_there_is_none_nobody_is_asked(tmp_path: Path, count: int | None) -> None:
    def never() -> list[bytes]:
        raise AssertionError("that would load a module")

    assert xsk.are_on({3}, never, process(tmp_path, count)) is False


def test_without_proc_net_nobody_can_know(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        xsk.are_on({3}, list, tmp_path)
    (tmp_path / "net").mkdir()
    (tmp_path / "net/dev").touch()
    assert xsk.are_on({3}, list, tmp_path) is False


def test_what_the_kernel_cannot_tell_is_an_error(tmp_path: Path) -> None:
    def refused() -> list[bytes]:
        raise FileNotFoundError("no xsk_diag in this kernel")

    with pytest.raises(FileNotFoundError):
        xsk.are_on({3}, refused, process(tmp_path, 2))
