"""Entries of the four queue kinds, and the doorbells (gdma.h, mana.h; rdma-core gdma.h)."""

from __future__ import annotations

import enum
import struct
from typing import Final

BU: Final = 32  # basic unit: a WQE starts on, and fills up to, a multiple of it
CQE_SIZE: Final = 64
EQE_SIZE: Final = 16
OWNER_PASSES: Final = 8  # the owner field has 3 bits; consumer indexes travel modulo 8 N

# A doorbell is one 64-bit write into a doorbell page.
DB_SQ: Final = 0x000
DB_RQ: Final = 0x400
DB_RQ_CLIENT: Final = 0x408  # rdma-core's RC QPs: tell me when this PSN is acknowledged
DB_CQ: Final = 0x800
DB_DIM: Final = 0x820
DB_EQ: Final = 0xFF8
DB_ARM: Final = 1 << 63
DB_INDEX_MASK: Final = (1 << 31) - 1
ID_MASK: Final = (1 << 24) - 1
EQ_ID_MASK: Final = (1 << 16) - 1


class QueueKind(enum.IntEnum):
    SQ = 1
    RQ = 2
    CQ = 3
    EQ = 4


class Event(enum.IntEnum):
    COMPLETION = 3
    TEST = 64
    HWC_INIT_EQ_ID_DB = 129
    HWC_INIT_DATA = 130
    HWC_INIT_DONE = 131
    FPGA_RECONFIG = 132
    SOC_RECONFIG_DATA = 133
    SOC_SERVICE = 134
    RESET_REQUEST = 135
    RNIC_QP_FATAL = 176


class InitData(enum.IntEnum):
    """Kinds of Event.HWC_INIT_DATA, in the top byte of the first dword."""

    CQ_ID = 1
    RQ_ID = 2
    SQ_ID = 3
    QUEUE_DEPTH = 4
    MAX_REQUEST = 5
    MAX_RESPONSE = 6
    MAX_NUM_CQS = 7
    PDID = 8
    GPA_MKEY = 9


class Reconfig(enum.IntEnum):
    """Kinds of Event.SOC_RECONFIG_DATA, in the top byte of the first dword."""

    HWC_TIMEOUT = 1
    LINK_UP = 2
    LINK_DOWN = 3


EQE_DETAILS: Final = struct.Struct("<III")
DWORD: Final = struct.Struct("<I")
OWNER_SHIFT: Final = 29
CQE_IS_SQ: Final = 1 << 24

WQE_HEADER: Final = struct.Struct("<II")
SGE: Final = struct.Struct("<QII")  # address, memory key, size
OOB_AT: Final = 8
OOB_SIZES: Final = {2: 8, 6: 24, 7: 32}  # the header's count of dwords: bytes
WQE_MAX: Final = 512

# Bits of the second header dword.
WQE_SGES: Final = 0xFF
WQE_OOB_SHIFT: Final = 8
WQE_OOB_IN_SGL: Final = 1 << 11  # Ethernet: large send, the first SGE is exactly the headers
WQE_DATA_UNIT_SHIFT: Final = 16  # large send: the segment size
WQE_DATA_UNIT: Final = 0x3FFF

# Command channel: what a request's WQE says of itself, and what a response's CQE must say.
HWC_TX_OOB: Final = struct.Struct("<8xIIII")  # destination RQ, its CQ, sending CQ, sending SQ
HWC_RX_DATA: Final = struct.Struct("<12xI8xI32x")  # offset of the RQ WQE, response length

# Ethernet send.
TX_SHORT_OOB: Final = struct.Struct("<II")
TX_LONG_OOB: Final = struct.Struct("<IIII8x")
TX_LONG_FORMAT: Final = 1
TX_CHECKSUM_IP: Final = 1 << 4
TX_CHECKSUM_TCP: Final = 1 << 5
TX_CHECKSUM_UDP: Final = 1 << 6
TX_SUPPRESS_CQE: Final = 1 << 7
TX_TRANSPORT_AT: Final = 0x3FF  # of the second short dword: where TCP's header is
TX_INSERT_VLAN: Final = 1 << 3  # of the first long dword
TX_VLAN_SHIFT: Final = 20  # in the same dword; its priority bits, below, are not carried on

TX_DATA: Final = struct.Struct("<III48x")  # type and client, data offset, WQE offset
CLIENT_ETHERNET: Final = 1 << 6


class TxResult(enum.IntEnum):
    OKAY = 32
    INVALID_OOB = 35
    VPORT_DISABLED = 40
    GDMA_ERROR = 42


class RxKind(enum.IntEnum):
    OKAY = 1
    FENCE = 3
    TRUNCATED = 4


RX_DATA: Final = struct.Struct("<IIHHII36xI")  # kind, flags, length, 0, 0, hash, WQE offset
RX_VLAN_PRESENT: Final = 1 << 12
RX_HASH_SHIFT: Final = 16
RX_IP_GOOD: Final = 1 << 25
RX_IP_BAD: Final = 1 << 26
RX_TCP_GOOD: Final = 1 << 27
RX_TCP_BAD: Final = 1 << 28
RX_UDP_GOOD: Final = 1 << 29
RX_UDP_BAD: Final = 1 << 30


class HashType(enum.IntFlag):
    """Of RX flags bits 16.., and of CONFIG_VPORT_RX's hash types."""

    IPV4 = 1
    TCP_IPV4 = 2
    UDP_IPV4 = 4
    IPV6 = 8
    TCP_IPV6 = 16
    UDP_IPV6 = 32


def wqe_length(oob: int, sges: int) -> int:
    """Bytes a WQE fills: header, inline data and the SGEs, in whole basic units."""
    return (OOB_AT + oob + SGE.size * sges + BU - 1) // BU * BU


def sge_offset(oob: int) -> int:
    """SGEs start at the first 16-byte boundary behind the inline data."""
    return (OOB_AT + oob + 15) // 16 * 16
