"""Which kernel messages fail a test."""

from __future__ import annotations

import socket

import pytest

from tests.lab.kmsg import Line, Stream, parse, unexpected


@pytest.mark.parametrize(
    "text",
    [
        "WARNING: CPU: 1 PID: 77 at drivers/net/x.c:3 f+0x1/0x2 [mana]",
        "WARNING: drivers/net/x.c:3 at f+0x1/0x2, CPU#1: ip/77",
        "BUG: kernel NULL pointer dereference, address: 0000000000000008",
        "kernel BUG at mm/slub.c:1!",
        "Oops: Oops: 0000 [#1] SMP NOPTI",
        "general protection fault, probably for non-canonical address 0x1: 0000 [#1]",
        "refcount_t: underflow; use-after-free.",
        "INFO: task ip:77 blocked for more than 120 seconds.",
        "unregister_netdevice: waiting for eth0 to become free. Usage count = 2",
        "UBSAN: array-index-out-of-bounds in x.c:1:2",
        "list_del corruption. prev->next should be x",
    ],
)
def test_faults(text: str) -> None:
    assert Line(1, 0.0, text).bad


@pytest.mark.parametrize(
    "text", ["mana 0000:01:00.0 eth0: Configured vPort 1 PD 3 DB 4", "eth0: WARNING: none", ""]
)
def test_what_is_none(text: str) -> None:
    assert not Line(1, 0.0, text).bad


def test_declared_lines_are_whole_lines_and_must_come() -> None:
    lines = [Line(1, 0.1, "WARNING: one at f+0x1"), Line(2, 0.2, "quiet")]
    assert unexpected(lines, []) == ([lines[0]], [])
    assert unexpected(lines, [r"WARNING: one at f\+0x1"]) == ([], [])
    assert unexpected(lines, ["WARNING: one"]) == ([lines[0]], ["WARNING: one"])
    assert unexpected(lines, ["WARNING: .*", "BUG: x"]) == ([], ["BUG: x"])


def test_records_of_the_device() -> None:
    line = parse(b"4,1234,5678901,-,caller=T1;eth0: a; b")
    assert line == Line(1234, 5.678901, "eth0: a; b")
    assert parse(b" SUBSYSTEM=pci") is None


def test_a_stream_cut_anywhere() -> None:
    ours, theirs = socket.socketpair()
    stream = Stream(ours)
    data = b"6,1,1000000,-;one\n SUBSYSTEM=net\n4,2,2000000,-;two\nmark done\n"
    for index in range(len(data)):
        theirs.sendall(data[index : index + 1])
    assert stream.wait_mark("done", 10)
    assert [line.text for line in stream.lines] == ["one", "two"]
    found = stream.wait_for(lambda line: line.text == "two", 1, 10)
    assert found is not None
    assert found.at == 2.0
    theirs.close()
    stream.close()
