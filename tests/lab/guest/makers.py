"""Makes what only its maker can make again; of the standard library alone, in a guest or a netns.

python3 makers.py anycast DEVICE ADDRESS   joins an IPv6 anycast address, and stays
python3 makers.py bpf DEVICE NETWORK/LENGTH   adds an IPv4 route with `encap bpf`, and ends
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import struct
import sys

IPV6_JOIN_ANYCAST = 27
_BPF, _BPF_PROG_LOAD, _LWT_XMIT = 321, 5, 12
_RTM_NEWROUTE, _RTM_NEWNEXTHOP = 24, 104


def join(device: str, address: str) -> socket.socket:
    """A socket that is a member of that anycast address while it is open."""
    program = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    index = struct.pack("=I", socket.if_nametoindex(device))
    where = socket.inet_pton(socket.AF_INET6, address) + index
    program.setsockopt(socket.IPPROTO_IPV6, IPV6_JOIN_ANYCAST, where)
    return program


def bpf_program() -> int:
    """A descriptor of a BPF program of type LWT_XMIT: r0 = 0; exit."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(struct.pack("=BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0))
    licence = ctypes.create_string_buffer(b"GPL")
    words = struct.pack("=IIQQ", _LWT_XMIT, 2, ctypes.addressof(code), ctypes.addressof(licence))
    asked = ctypes.create_string_buffer(words.ljust(128, b"\0"), 128)
    fd = libc.syscall(_BPF, _BPF_PROG_LOAD, asked, 128)
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(fd)


def attr(kind: int, data: bytes) -> bytes:
    length = 4 + len(data)
    return struct.pack("=HH", length, kind) + data + bytes(-length % 4)


def _encap_bpf(fd: int, kind: int, encap: int) -> bytes:
    """The two attributes of `encap bpf xmit`."""
    program = attr(3, attr(1, struct.pack("=I", fd)) + attr(2, b"two\0"))
    return attr(kind, struct.pack("=H", 6)) + attr(encap | 0x8000, program)


def _ask(kind: int, body: bytes) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.send(struct.pack("=IHHII", 16 + len(body), kind, 0x405, 1, 0) + body)
        error = struct.unpack_from("=i", sock.recv(4096), 16)[0]
        if error:
            raise OSError(-error, os.strerror(-error))


def bpf_route(device: str, network: str) -> None:
    to, _, length = network.partition("/")
    index = struct.pack("=I", socket.if_nametoindex(device))
    head = struct.pack("=BBBBBBBBI", socket.AF_INET, int(length), 0, 0, 254, 4, 253, 1, 0)
    fd = bpf_program()
    _ask(
        _RTM_NEWROUTE,
        head + attr(1, socket.inet_aton(to)) + attr(4, index) + _encap_bpf(fd, 21, 22),
    )
    os.close(fd)


def bpf_nexthop(device: str, number: int, gateway: str) -> None:
    index = struct.pack("=I", socket.if_nametoindex(device))
    head = struct.pack("=BBBBI", socket.AF_INET, 0, 4, 0, 0)
    way = attr(1, struct.pack("=I", number)) + attr(5, index) + attr(6, socket.inet_aton(gateway))
    fd = bpf_program()
    _ask(_RTM_NEWNEXTHOP, head + way + _encap_bpf(fd, 7, 8))
    os.close(fd)


if __name__ == "__main__":
    if sys.argv[1] == "bpf":
        bpf_route(*sys.argv[2:])
        sys.exit(0)
    _member = join(*sys.argv[2:])
    print(json.dumps({"event": "joined"}), flush=True)
    sys.stdin.read()
