"""The messages in a program: printf templates among the constants of an ELF file.

The strings of a driver or a library are what it can print, whatever version it is. Names (of
files, counters, functions) have no space in them and are left out, and so is what kernel headers
put into every module.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

_SHT_NOBITS = 8
# Of the end of a constant: a string may have numbers before it.
_TEXT = re.compile(rb"[\x01\t\n\r\x1b -~]{6,}$")
_LEVEL = re.compile(r"^\x01\d")  # KERN_SOH
_NOT_ITS_OWN = re.compile(
    r"assertion failed|rejecting DMA map|field-spanning|^field \"|^line %d|^PMD_INFO|rte_atomic|"
    r"ops_index|_cnt > 0|__data_loc|^dev=%s|^0x%x \(len|^\* |=<|^Network Adapter$|"
    r"^MANA (?:MR|B-tree table)$|^(?:add to|remove from|channel full|ring full)$"
)


def messages(elf: bytes) -> list[str]:
    """The templates, in the order of the alphabet, each once."""
    return sorted({found for text in _strings(elf) if (found := _message(text))})


def _strings(elf: bytes) -> Iterator[str]:
    for name, offset, size in _sections(elf):
        if name.startswith(".rodata"):
            for constant in elf[offset : offset + size].split(b"\0"):
                if text := _TEXT.search(constant):
                    yield text[0].decode()


def _sections(elf: bytes) -> Iterator[tuple[str, int, int]]:
    """(name, offset, size) of what is in the file, by its 64-bit section headers."""
    (table,) = struct.unpack_from("<Q", elf, 40)
    size, number, names = struct.unpack_from("<HHH", elf, 58)
    rows = [struct.unpack_from("<IIQQQQ", elf, table + size * row) for row in range(number)]
    for name, kind, _, _, offset, length in rows:
        if kind != _SHT_NOBITS:
            start = rows[names][4] + name
            yield elf[start : elf.index(b"\0", start)].decode(), offset, length


def _message(text: str) -> str | None:
    """As one line without what the program's own printf adds; None for a name."""
    line = " ".join(_LEVEL.sub("", text).removesuffix("%.0s").split())
    if "must be" in line or "less than the min" in line:
        line = line.replace("%s", "")  # NL_SET_ERR_MSG_FMT_MOD() puts the module's name there
    words = " " in line and re.search("[A-Za-z]{3}", line)
    return line if words and "%.3s" not in line and not _NOT_ITS_OWN.search(line) else None
