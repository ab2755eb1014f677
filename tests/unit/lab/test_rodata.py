"""What counts as a message among the constants of a program."""

from __future__ import annotations

import struct

import pytest

from tests.lab.rodata import messages


def elf(**sections: bytes) -> bytes:
    """A 64-bit ELF file that is nothing but sections; a dot goes before each name."""
    names = b"\0" + b"".join(b"." + name.encode() + b"\0" for name in (*sections, "shstrtab"))
    bodies = [*sections.values(), names]
    rows, data = [bytes(64)], b""
    at = 1
    for name, body in zip((*sections, "shstrtab"), bodies, strict=True):
        rows.append(struct.pack("<IIQQQQIIQQ", at, 1, 0, 0, 64 + len(data), len(body), 0, 0, 1, 0))
        at += len(name) + 2
        data += body
    head = bytearray(64)
    head[:4] = b"\x7fELF"
    struct.pack_into("<Q", head, 40, 64 + len(data))
    struct.pack_into("<HHH", head, 58, 64, len(rows), len(rows) - 1)
    return bytes(head) + data + b"".join(rows)


def found(*constants: bytes) -> list[str]:
    return messages(elf(rodata=b"\0".join((*constants, b""))))


@pytest.mark.parametrize(
    ("constant", "message"),
    [
        (b"Failed to create vPort %u : %d\n", "Failed to create vPort %u : %d"),
        (b"\x013hv_netvsc: Unable to register netdev.\n", "hv_netvsc: Unable to register netdev."),
        (b"\xff\x01\x02PD already bound\n", "PD already bound"),
        (b"MANA_DRIVER: %s(): start rx queues\n%.0s", "MANA_DRIVER: %s(): start rx queues"),
        (b"limit is\n    too low\n", "limit is too low"),
        (b"%stx:%d less than the min:%d%s", "tx:%d less than the min:%d"),
    ],
)
def test_a_template_is_one_line(constant: bytes, message: str) -> None:
    assert found(constant) == [message]


@pytest.mark.parametrize(
    "constant",
    [
        b"hc_tx_bytes",
        b"drivers/net/ethernet/microsoft/mana/mana_en.c",
        b"%s %d\n",
        b"x y",
        b"RTNL: assertion failed at %s (%d)\n",
        b"\xde\xad\xbe\xef",
        b"",
    ],
)
def test_names_and_what_headers_print_are_none(constant: bytes) -> None:
    assert found(constant) == []


def test_each_is_told_once_in_order_and_other_sections_are_not_read() -> None:
    constants = b"second message\0first message\0second message\0"
    file = elf(text=b"not a message\0", **{"rodata.str1.1": constants})
    assert messages(file) == ["first message", "second message"]
