"""Requests of the RDMA function, types 0x3xxxx (mana_ib.h)."""

from __future__ import annotations

import enum
import struct
from typing import Final

from tests.lab.nic.wire.messages import MESSAGES, Message, Request

# The low two bits of an RNIC queue id say which of a QP's queues it is.
QUEUE_SUBTYPES: Final = 4
SUBTYPE: Final = 3
SEND_REQUESTER: Final = 0
SEND_RESPONDER: Final = 1
SEND_FMR: Final = 2
RECV_RESPONDER: Final = 0
RECV_REQUESTER: Final = 1

ADD: Final = 1  # CONFIG_IP_ADDR; 2 removes
QP_GSI: Final = 1
QP_UD: Final = 4
GSI_QP_NUMBER: Final = 1  # the driver looks its GSI QP up under this number

# Inline data of a request, by rdma-core's gdma.h: opcode and PSN, SSN, then by opcode the
# immediate, or the remote address (high half first), its key and the length.
RC_OOB: Final = struct.Struct("<IIIIII")
OPCODE: Final = 0x1F
PADDING: Final = 0x1F  # of a WQE's first dword: how many SGEs at the end are none
LARGE_OOB: Final = 32  # with the immediate of a write behind the others


class Op(enum.IntEnum):
    SEND = 2
    SEND_IMM = 3
    WRITE = 5
    WRITE_IMM = 6
    READ = 7


CARRIED: Final = frozenset(Op)
CONSUMING: Final = frozenset((Op.SEND, Op.SEND_IMM, Op.WRITE_IMM))  # a receive WQE of the peer

# Completions: kind, then as below; the responder's has length, PSN, immediate and WQE offset.
RECEIVED: Final[dict[int, int]] = {Op.SEND: 3, Op.SEND_IMM: 4, Op.WRITE_IMM: 6}
RC_RECEIVED: Final = struct.Struct("<IIIII40x")
ARMED_COMPLETION: Final = 7
RC_ARMED: Final = struct.Struct("<III48x")  # kind, MSN (and a syndrome of 0: ACK), PSN
ERROR_COMPLETION: Final = 34
RC_ERROR: Final = struct.Struct("<I4xI48x")  # kind and code, PSN

# Codes of error completions, each with what ibverbs calls it.
MESSAGE_TOO_LONG: Final = 0x102  # LOC_LEN_ERR
RECEIVE_FAULT: Final = 0x143  # LOC_PROT_ERR or LOC_ACCESS_ERR
REMOTE_INVALID: Final = 0x161  # REM_OP_ERR
REMOTE_ACCESS: Final = 0x162  # REM_ACCESS_ERR
REMOTE_FAILED: Final = 0x163  # REM_OP_ERR
RETRIES_EXCEEDED: Final = 0x1C6  # RETRY_EXC_ERR
LOCAL_FAULT: Final = 0x206  # LOC_PROT_ERR
BAD_WQE: Final = 0x211  # LOC_QP_OP_ERR
UNSUPPORTED: Final = 0x215  # LOC_QP_OP_ERR

# States and attribute masks, as ibverbs numbers them.
RESET, INIT, RTR, RTS, ERROR = 0, 1, 2, 3, 6
SENDING: Final = frozenset((RTS,))
RECEIVING: Final = frozenset((RTR, RTS))
HAS_PATH_MTU: Final = 1 << 8
HAS_RQ_PSN: Final = 1 << 12
HAS_SQ_PSN: Final = 1 << 16
HAS_DEST_QPN: Final = 1 << 20
HAS_ADDRESS: Final = 1 << 7
LARGEST_MTU: Final = 5  # 4096, as ibverbs numbers them
LONGEST: Final = 16 << 20  # bytes of a message; more than anybody here sends


class Access(enum.IntFlag):
    """Rights of a memory region."""

    LOCAL_READ = 1
    LOCAL_WRITE = 2
    REMOTE_READ = 4
    REMOTE_WRITE = 8


MESSAGES.update(
    {
        Request.MANA_IB_GET_ADAPTER_CAP: Message.of(
            "",
            """32 max_sq_id u32
               36 max_rq_id u32
               40 max_cq_id u32
               44 max_qp u32
               48 max_cq u32
               52 max_mr u32
               56 max_pd u32
               60 max_inbound_reads u32
               64 max_outbound_reads u32
               68 max_mw u32
               72 max_srq u32
               76 max_requester_sq_size u32
               80 max_responder_sq_size u32
               84 max_requester_rq_size u32
               88 max_responder_rq_size u32
               92 max_send_sge u32
               96 max_recv_sge u32
               100 max_inline u32
               104 features u64""",
        ),
        Request.MANA_IB_CREATE_ADAPTER: Message.of(
            """40 eq u32
               48 features u64""",
            "32 adapter u64",
        ),
        Request.MANA_IB_DESTROY_ADAPTER: Message.of("40 adapter u64"),
        Request.MANA_IB_CONFIG_IP_ADDR: Message.of(
            """40 adapter u64
               48 operation u32
               52 kind u32
               56 address b16""",
        ),
        Request.MANA_IB_CONFIG_MAC_ADDR: Message.of(
            """40 adapter u64
               48 operation u32
               52 address b6""",
        ),
        Request.MANA_IB_CREATE_UD_QP: Message.of(
            """40 adapter u64
               48 pd u64
               56 send_cq u64
               64 recv_cq u64
               72 regions u64x2
               88 kind u32
               92 doorbell u32
               96 max_send_wr u32
               100 max_recv_wr u32
               104 max_send_sge u32
               108 max_recv_sge u32""",
            """32 handle u64
               40 queues u32x2""",
        ),
        Request.MANA_IB_DESTROY_UD_QP: Message.of(
            """40 adapter u64
               48 handle u64""",
        ),
        Request.MANA_IB_CREATE_CQ: Message.of(
            """40 adapter u64
               48 region u64
               56 eq u32
               60 doorbell u32""",
            """32 handle u64
               40 number u32""",
            room=48,
        ),
        Request.MANA_IB_DESTROY_CQ: Message.of(
            """40 adapter u64
               48 handle u64""",
        ),
        Request.MANA_IB_CREATE_RC_QP: Message.of(
            """40 adapter u64
               48 pd u64
               56 send_cq u64
               64 recv_cq u64
               72 regions u64x5
               128 flags u64
               136 doorbell u32
               140 max_send_wr u32
               144 max_recv_wr u32
               148 max_send_sge u32
               152 max_recv_sge u32""",
            """32 handle u64
               40 queues u32x5""",
            room=64,
        ),
        Request.MANA_IB_DESTROY_RNIC_QP: Message.of(
            """40 adapter u64
               48 handle u64""",
        ),
        Request.MANA_IB_SET_QP_STATE: Message.of(
            """40 adapter u64
               48 handle u64
               56 mask u64
               64 state u32
               68 path_mtu u32
               72 rq_psn u32
               76 sq_psn u32
               80 dest_qpn u32
               104 address_handle b56
               168 qkey u32
               172 access u32""",
        ),
        Request.MANA_IB_CREATE_UC_QP: Message.of(
            """40 adapter u64
               48 pd u64
               56 send_cq u64
               64 recv_cq u64
               72 regions u64x3
               96 flags u64
               104 doorbell u32
               108 max_send_wr u32
               112 max_recv_wr u32
               116 max_send_sge u32
               120 max_recv_sge u32""",
            """32 handle u64
               40 queues u32x3""",
            room=56,
        ),
        Request.MANA_IB_QUERY_VF_COUNTERS: Message.of(
            "40 adapter u64", "32 counters u64x34", room=304
        ),
        Request.MANA_IB_QUERY_DEVICE_COUNTERS: Message.of(
            "40 adapter u64", "32 counters u32x8", room=64
        ),
    }
)
