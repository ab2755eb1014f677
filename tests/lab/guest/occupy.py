"""Occupies a netdev in the ways that guards look for.

    python3 occupy.py packet NETDEV       binds a packet socket to it
    python3 occupy.py xdp NETDEV          attaches an XDP program that lets everything pass

Says `ready`, and ends with its standard input; the XDP program stays attached.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.lab.guest.lines import tell

SYS_BPF = 321  # x86-64
BPF_PROG_LOAD = 5
BPF_PROG_TYPE_XDP = 6
XDP_PASS = 2
RTM_NEWLINK, NLM_F_REQUEST_ACK = 16, 0x5
IFLA_XDP, IFLA_XDP_FD, NLA_F_NESTED = 43, 1, 0x8000
ETH_P_ALL = 3


def load() -> int:
    """A program of two instructions: r0 = XDP_PASS; exit."""
    code = struct.pack("<BBhi", 0xB7, 0, 0, XDP_PASS) + struct.pack("<BBhi", 0x95, 0, 0, 0)
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    # union bpf_attr: type, count, instructions, licence; the rest zero.
    words = (BPF_PROG_TYPE_XDP, 2, ctypes.addressof(instructions), ctypes.addressof(licence))
    attributes = ctypes.create_string_buffer(struct.pack("<IIQQ", *words), 128)
    libc = ctypes.CDLL(None, use_errno=True)
    fd = int(libc.syscall(SYS_BPF, BPF_PROG_LOAD, attributes, len(attributes)))
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return fd


def attach(name: str) -> None:
    inner = struct.pack("<HHi", 8, IFLA_XDP_FD, load())
    attribute = struct.pack("<HH", 4 + len(inner), IFLA_XDP | NLA_F_NESTED) + inner
    link = struct.pack("<BxHiII", 0, 0, socket.if_nametoindex(name), 0, 0)
    body = link + attribute
    head = struct.pack("<IHHII", 16 + len(body), RTM_NEWLINK, NLM_F_REQUEST_ACK, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        netlink.send(head + body)
        (error,) = struct.unpack_from("<i", netlink.recv(65536), 16)
    if error:
        raise OSError(-error, os.strerror(-error))


def main(what: str, name: str) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as packets:
        if what == "packet":
            packets.bind((name, ETH_P_ALL))
        else:
            attach(name)
        tell("ready", pid=os.getpid())
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
