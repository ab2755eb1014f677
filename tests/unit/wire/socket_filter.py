"""The filter for sockets as the kernel checks it and runs it, by its rules."""

from __future__ import annotations

import ipaddress
import struct


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def audit(program: bytes) -> None:
    """inet_diag_bc_audit(): jumps go forward by whole words, and each is to an operation that is
    on the way of what holds, or to just behind the end."""
    at, starts = 0, set()
    while at < len(program):
        _, yes, _ = struct.unpack_from("=BBH", program, at)
        starts.add(at)
        assert yes >= 4
        assert yes % 4 == 0
        at += yes
    assert at == len(program)
    for start in starts:
        _, yes, no = struct.unpack_from("=BBH", program, start)
        assert no >= 4
        assert no % 4 == 0
        assert start + no in {*starts, len(program), len(program) + 4}


def holds(program: bytes, local: str, peer: str, bound: int = 0) -> bool:
    """inet_diag_bc_run(); `bound` is the ifindex that the socket is bound to."""
    at = 0
    while at < len(program):
        code, yes, no = struct.unpack_from("=BBH", program, at)
        if code == 1:  # INET_DIAG_BC_JMP never holds
            at += no
            continue
        if code == 9:  # INET_DIAG_BC_DEV_COND
            (ifindex,) = struct.unpack_from("=I", program, at + 4)
            at += yes if ifindex == bound else no
            continue
        family, length, port = struct.unpack_from("=BBxxi", program, at + 4)
        raw = program[at + 12 : at + yes]
        assert port == -1
        assert (family, len(raw)) in {(2, 4), (10, 16)}
        end = packed({7: local, 8: peer}[code])
        same = len(end) == len(raw) and _prefix(end, length) == _prefix(raw, length)
        at += yes if same else no
    return at == len(program)


def _prefix(raw: bytes, length: int) -> int:
    return int.from_bytes(raw, "big") >> (len(raw) * 8 - length)
