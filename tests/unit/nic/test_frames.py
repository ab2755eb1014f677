from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab.nic import frames
from tests.lab.nic.wire.queues import HashType

MACS = bytes.fromhex("02155d000002 02155d000001".replace(" ", ""))


def slow_sum(data: bytes) -> int:
    """RFC 1071, word by word."""
    total = 0
    for word in struct.unpack(f">{(len(data) + 1) // 2}H", data + bytes(len(data) & 1)):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    return total


def verifies(frame: bytes, headers: frames.Headers) -> bool:
    """As a receiver checks it: everything, checksum included, sums to all ones."""
    segment = bytes(frame[headers.l4 : headers.end])
    pseudo = bytes(frame[headers.addresses]) + struct.pack(">II", len(segment), headers.protocol)
    return slow_sum(pseudo + segment) == 0xFFFF


def packet(
    version: int, protocol: int, payload: bytes, *, flags: int = 0x18, checksum: int = 0
) -> bytes:
    if protocol == frames.TCP:
        l4 = struct.pack(">HHIIBBHHH", 4000, 80, 1000, 2000, 5 << 4, flags, 500, checksum, 0)
    else:
        l4 = struct.pack(">HHHH", 4000, 53, 8 + len(payload), checksum)
    body = l4 + payload
    if version == 4:
        l3 = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0xFFFE, 0x4000, 64, protocol, 0)
        l3 += bytes((10, 0, 0, 1, 10, 0, 0, 2))
        l3 = l3[:10] + struct.pack(">H", 0xFFFF - slow_sum(l3)) + l3[12:]
        return MACS + b"\x08\x00" + l3 + body
    l3 = struct.pack(">IHBB", 6 << 28, len(body), protocol, 64)
    return MACS + b"\x86\xdd" + l3 + bytes(range(32)) + body


VERSIONS = st.sampled_from([4, 6])
PROTOCOLS = st.sampled_from([frames.TCP, frames.UDP])


@given(st.binary(max_size=300))
def test_the_sum_by_division_is_the_sum_by_words(data: bytes) -> None:
    assert frames.ones_sum(data) == slow_sum(data)


@pytest.mark.parametrize("data", [b"", bytes(8), b"\xff\xff", b"\xff\xff\xff\xff", b"\x01"])
def test_the_sum_knows_its_two_zeros(data: bytes) -> None:
    assert frames.ones_sum(data) == slow_sum(data)


@given(VERSIONS, PROTOCOLS, st.binary(max_size=200), st.integers(0, 0xFFFF), st.integers(0, 9))
def test_finished_checksums_verify(
    version: int, protocol: int, payload: bytes, before: int, padding: int
) -> None:
    """Whatever the field held, and whatever padding follows the packet."""
    frame = bytearray(packet(version, protocol, payload, checksum=before) + bytes(padding))
    headers = frames.parse(frame)
    assert headers is not None
    assert frames.finish_l4(frame, headers)
    assert verifies(frame, headers)
    if protocol == frames.UDP:
        assert frame[headers.l4 + 6 : headers.l4 + 8] != bytes(2)


@given(
    VERSIONS,
    st.binary(min_size=1, max_size=5000),
    st.integers(1, 1500),
    st.integers(0, 255),
)
def test_large_sends_are_cut_into_valid_segments(
    version: int, payload: bytes, size: int, flags: int
) -> None:
    frame = packet(version, frames.TCP, payload, flags=flags)
    header_length = len(frame) - len(payload)
    pieces = list(frames.cut(frame, header_length, size))
    assert b"".join(bytes(piece[header_length:]) for piece, _ in pieces) == payload
    at = 0
    for index, (piece, known) in enumerate(pieces):
        headers = frames.parse(piece)
        assert headers == known
        assert headers is not None
        assert headers.end == len(piece)
        assert verifies(piece, headers)
        sequence, sent = struct.unpack_from(">I5xB", piece, headers.l4 + 4)
        assert sequence == 1000 + at
        last, first = index == len(pieces) - 1, index == 0
        assert sent == flags & ~(0 if last else 0x09) & ~(0 if first else 0x80)
        assert last or len(piece) == header_length + size
        if version == 4:
            assert slow_sum(piece[14:34]) == 0xFFFF
            assert struct.unpack_from(">H", piece, 18)[0] == (0xFFFE + index) & 0xFFFF
        at += len(piece) - header_length


def test_large_sends_that_are_none_are_refused() -> None:
    tcp, udp = packet(4, frames.TCP, b"x" * 99), packet(4, frames.UDP, b"x" * 99)
    for frame, header_length, size in (
        (udp, 42, 10),
        (tcp, 53, 10),
        (tcp, 54, 0),
        (b"x" * 60, 54, 9),
    ):
        with pytest.raises(ValueError, match="large send"):
            list(frames.cut(frame, header_length, size))


@given(st.binary(max_size=120))
def test_any_bytes_parse_or_do_not(frame: bytes) -> None:
    headers = frames.parse(frame)
    if headers is not None:
        assert 34 <= headers.l4 <= headers.end <= len(frame)


@given(VERSIONS, PROTOCOLS, st.binary(max_size=60), st.integers(0, 90))
def test_a_cut_short_packet_is_not_ip(
    version: int, protocol: int, payload: bytes, length: int
) -> None:
    frame = packet(version, protocol, payload)
    whole = frames.parse(frame[:length])
    assert (whole is not None) == (length >= len(frame))


def test_fragments_have_no_checksum_to_finish() -> None:
    frame = bytearray(packet(4, frames.UDP, b"x" * 20))
    frame[20] = 0x20  # more fragments
    headers = frames.parse(frame)
    assert headers is not None
    assert not frames.finish_l4(frame, headers)


def test_tags_are_taken_off_once() -> None:
    inner = MACS + b"\x81\x00\x00\x07" + b"\x08\x00rest"
    outer = MACS + b"\x81\x00\x60\x05" + inner[12:]
    assert frames.strip_vlan(outer) == (inner, 0x6005)
    assert frames.strip_vlan(inner) == (MACS + b"\x08\x00rest", 7)
    assert frames.strip_vlan(MACS + b"\x08\x00rest") == (MACS + b"\x08\x00rest", None)


# The verification suite that Microsoft publishes for receive side scaling: destination and
# source, the hash with ports, the hash without.
KEY = bytes.fromhex(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
)
VECTORS = [
    ((161, 142, 100, 80), (66, 9, 149, 187), (2794, 1766), 0x51CCC178, 0x323E8FC2),
    ((65, 69, 140, 83), (199, 92, 111, 2), (14230, 4739), 0xC626B0EA, 0xD718262A),
]


@pytest.mark.parametrize(("to", "source", "ports", "with_ports", "plain"), VECTORS)
def test_the_hash_is_the_published_one(
    to: tuple[int, ...],
    source: tuple[int, ...],
    ports: tuple[int, int],
    with_ports: int,
    plain: int,
) -> None:
    frame = bytearray(packet(4, frames.TCP, b""))
    frame[26:34] = bytes(source + to)
    struct.pack_into(">HH", frame, 34, *ports)
    headers = frames.parse(frame)
    assert frames.receive_hash(KEY, 0x3F, frame, headers) == (with_ports, HashType.TCP_IPV4)
    assert frames.receive_hash(KEY, HashType.IPV4, frame, headers) == (plain, HashType.IPV4)
    assert frames.receive_hash(KEY, HashType.IPV6, frame, headers) == (0, 0)
    assert frames.receive_hash(KEY, 0x3F, b"", None) == (0, 0)
