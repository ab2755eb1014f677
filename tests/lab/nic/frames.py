"""Frames: headers, checksums, cutting a large send, the receive hash. Pure functions on bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from tests.lab.nic.wire import queues
from tests.lab.nic.wire.queues import HashType

VLAN: Final = 0x8100
_IPV4, _IPV6 = 0x0800, 0x86DD
TCP: Final = 6
UDP: Final = 17
_EXTENSIONS = frozenset((0, 43, 60))  # hop-by-hop, routing, destination options
_FRAGMENT = 44
ETHERNET: Final = 14
TAG: Final = 4
_TCP_FIN_PSH, _TCP_CWR = 0x09, 0x80
_CHECKSUM_AT = {TCP: 16, UDP: 6}
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Headers:
    """Where the headers of an IP packet are; `end` is where its payload ends (before padding)."""

    version: int
    l3: int
    protocol: int
    l4: int
    end: int
    fragment: bool = False

    @property
    def addresses(self) -> slice:
        return (
            slice(self.l3 + 12, self.l3 + 20)
            if self.version == 4
            else slice(self.l3 + 8, self.l3 + 40)
        )


def parse(frame: bytes | bytearray, *, large: bool = False) -> Headers | None:
    """None if it is not IP, or too short for what it claims. `large`: lengths are not filled in."""
    if len(frame) < ETHERNET + 20:
        return None
    ethertype = _U16.unpack_from(frame, 12)[0]
    if ethertype == _IPV4:
        return _parse_ipv4(frame, large)
    return _parse_ipv6(frame, large) if ethertype == _IPV6 else None


def _parse_ipv4(frame: bytes | bytearray, large: bool) -> Headers | None:
    l3 = ETHERNET
    header = (frame[l3] & 0xF) * 4
    end = len(frame) if large else l3 + _U16.unpack_from(frame, l3 + 2)[0]
    fragment = bool(_U16.unpack_from(frame, l3 + 6)[0] & 0x3FFF)
    if frame[l3] >> 4 != 4 or header < 20 or not l3 + header <= end <= len(frame):
        return None
    return Headers(4, l3, frame[l3 + 9], l3 + header, end, fragment)


def _parse_ipv6(frame: bytes | bytearray, large: bool) -> Headers | None:
    l3 = ETHERNET
    at, protocol = l3 + 40, frame[l3 + 6]
    end = len(frame) if large else at + _U16.unpack_from(frame, l3 + 4)[0]
    if frame[l3] >> 4 != 6 or not at <= end <= len(frame):
        return None
    while protocol in _EXTENSIONS and at + 8 <= end:
        protocol, at = frame[at], at + 8 + frame[at + 1] * 8
    fragment = protocol == _FRAGMENT
    return Headers(6, l3, protocol, at, end, fragment) if at <= end else None


def ones_sum(data: bytes | bytearray | memoryview) -> int:
    """The folded one's complement sum of big-endian 16-bit words, an odd byte padded.

    65536 is 1 modulo 65535, so the sum of the words is the whole number modulo 65535: one division
    in C instead of a loop. What a division loses is only which zero it is: all zeros sum to 0,
    anything else that is divisible to 0xFFFF.
    """
    number = int.from_bytes(data, "big")
    if len(data) & 1:
        number <<= 8
    folded = number % 0xFFFF
    return 0xFFFF if number and not folded else folded


def l4_checksum(frame: bytes | bytearray, headers: Headers) -> int:
    """What the TCP or UDP checksum field should hold, whatever it holds now."""
    at = headers.l4 + _CHECKSUM_AT[headers.protocol]
    segment = memoryview(frame)[headers.l4 : headers.end]
    total = (
        ones_sum(frame[headers.addresses])
        + headers.protocol
        + len(segment)
        + ones_sum(segment)
        + (0xFFFF - _U16.unpack_from(frame, at)[0])  # the field counts as zero
    )
    checksum = 0xFFFF - ((total - 1) % 0xFFFF + 1)
    return 0xFFFF if not checksum and headers.protocol == UDP else checksum


def finish_l4(frame: bytearray, headers: Headers) -> bool:
    """Fill the TCP or UDP checksum in; False where there is none to fill."""
    at = _CHECKSUM_AT.get(headers.protocol)
    if at is None or headers.fragment or headers.l4 + at + 2 > headers.end:
        return False
    _U16.pack_into(frame, headers.l4 + at, l4_checksum(frame, headers))
    return True


def verdict(frame: bytes | bytearray, headers: Headers | None, *, finished: bool) -> int:
    """What a receive completion says of the checksums: good, bad, or nothing where there is none.

    `finished`: that of TCP or UDP was computed here. IPv6 has none of its own and counts as good,
    without which drivers believe no other.
    """
    if headers is None:
        return 0
    good = headers.version == 6 or ones_sum(frame[headers.l3 : headers.l4]) == 0xFFFF
    flags = queues.RX_IP_GOOD if good else queues.RX_IP_BAD
    at = _CHECKSUM_AT.get(headers.protocol)
    if at is None or headers.fragment or headers.l4 + at + 2 > headers.end:
        return flags
    if not finished:
        told = _U16.unpack_from(frame, headers.l4 + at)[0]
        if not told and headers.protocol == UDP and headers.version == 4:
            return flags  # its sender computed none
        # All ones and all zeros are one number; a zero over IPv6 is none, and wrong.
        right = (told - l4_checksum(frame, headers)) % 0xFFFF == 0
        if not right or (not told and headers.protocol == UDP):
            return flags | (queues.RX_TCP_BAD if headers.protocol == TCP else queues.RX_UDP_BAD)
    return flags | (queues.RX_TCP_GOOD if headers.protocol == TCP else queues.RX_UDP_GOOD)


def finish_ipv4(frame: bytearray, headers: Headers) -> None:
    """Fill the IPv4 header checksum in."""
    _U16.pack_into(frame, headers.l3 + 10, 0)
    checksum = 0xFFFF - ones_sum(frame[headers.l3 : headers.l4])
    _U16.pack_into(frame, headers.l3 + 10, checksum)


def cut(frame: bytes, header_length: int, size: int) -> Iterator[tuple[bytearray, Headers]]:
    """A large TCP send as segments with at most `size` bytes of payload, all checksums done.

    Raises ValueError if it is not TCP over IP with headers of that length.
    """
    headers = parse(frame, large=True)
    if headers is None or headers.protocol != TCP or headers.fragment or size < 1:
        raise ValueError("a large send that is not TCP over IP")
    if headers.l4 + 20 > len(frame) or headers.l4 + (frame[headers.l4 + 12] >> 4) * 4 != (
        header_length
    ):
        raise ValueError(f"a large send with {header_length} bytes of headers")
    sequence = _U32.unpack_from(frame, headers.l4 + 4)[0]
    identity = _U16.unpack_from(frame, headers.l3 + 4)[0]
    payload = len(frame) - header_length
    for index, at in enumerate(range(0, max(payload, 1), size)):
        start = header_length + at
        piece = bytearray(frame[:header_length])
        piece += frame[start : start + size]
        flags = piece[headers.l4 + 13]
        if at + size < payload:
            flags &= ~_TCP_FIN_PSH
        if at:
            flags &= ~_TCP_CWR
        piece[headers.l4 + 13] = flags
        _U32.pack_into(piece, headers.l4 + 4, (sequence + at) & 0xFFFFFFFF)
        if headers.version == 4:
            _U16.pack_into(piece, headers.l3 + 2, len(piece) - headers.l3)
            _U16.pack_into(piece, headers.l3 + 4, identity + index & 0xFFFF)
            finish_ipv4(piece, headers)
        else:
            _U16.pack_into(piece, headers.l3 + 4, len(piece) - headers.l3 - 40)
        whole = Headers(headers.version, headers.l3, TCP, headers.l4, len(piece))
        finish_l4(piece, whole)
        yield piece, whole


def strip_vlan(frame: bytes) -> tuple[bytes, int | None]:
    """The frame without an outer 802.1Q tag, and the tag."""
    if len(frame) >= 18 and _U16.unpack_from(frame, 12)[0] == VLAN:
        return frame[:12] + frame[16:], _U16.unpack_from(frame, 14)[0]
    return frame, None


def receive_hash(
    key: bytes, kinds: int, frame: bytes | bytearray, headers: Headers | None
) -> tuple[int, int]:
    """Hash and hash type of a received frame; (0, 0) where none of `kinds` applies."""
    if headers is None:
        return 0, 0
    four = headers.version == 4
    data = bytes(frame[headers.addresses])
    kind = 0
    if not headers.fragment and headers.l4 + 4 <= headers.end:
        if headers.protocol == TCP:
            kind = HashType.TCP_IPV4 if four else HashType.TCP_IPV6
        elif headers.protocol == UDP:
            kind = HashType.UDP_IPV4 if four else HashType.UDP_IPV6
    if kind & kinds:
        data += bytes(frame[headers.l4 : headers.l4 + 4])
    else:
        kind = HashType.IPV4 if four else HashType.IPV6
        if not kind & kinds:
            return 0, 0
    return toeplitz(key, data), int(kind)


@lru_cache(maxsize=4096)
def toeplitz(key: bytes, data: bytes) -> int:
    """The receive side scaling hash: for each set bit of the input a window of the key."""
    number, bits = int.from_bytes(key, "big"), len(key) * 8
    result = 0
    for index, byte in enumerate(data):
        for bit in range(8):
            if byte & 0x80 >> bit:
                result ^= number >> bits - 32 - index * 8 - bit & 0xFFFFFFFF
    return result
