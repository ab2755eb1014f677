"""Requests of the command channel: every type named, every body laid out.

Offsets are those of the whole message. Linux: gdma.h, mana.h; OpenVMM: gdma_defs. A driver says how
many bytes of answer it has room for, so a layout holds the newest shape known and is cut to fit.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from tests.lab.nic.wire.layout import Layout

REQUEST_HEADER: Final = Layout(
    """
    4  code u32
    8  version u16
    10 message_id u16
    12 size u32
    20 response_code u32
    24 response_version u16
    28 response_size u32
    32 device_type u16
    34 device_instance u16
    36 activity u32
    """,
    size=40,
)
RESPONSE_HEADER: Final = Layout(
    """
    4  code u32
    8  version u16
    10 message_id u16
    12 size u32
    16 device_type u16
    18 device_instance u16
    20 activity u32
    24 status u32
    """,
    size=32,
)


class Status(enum.IntEnum):
    """What drivers tell apart; any other value is just "failed" to them."""

    OK = 0
    INVALID = 0x57  # our own choice among those
    MORE_ENTRIES = 0x105
    UNSUPPORTED = 0xFFFFFFFF


class DeviceType(enum.IntEnum):
    NONE = 0
    HWC = 1
    MANA = 2
    MANA_IB = 3


class Request(enum.IntEnum):
    """All types that a Linux driver or OpenVMM knows, answered here or not."""

    VERIFY_VF_DRIVER_VERSION = 1
    QUERY_MAX_RESOURCES = 2
    LIST_DEVICES = 3
    REGISTER_DEVICE = 4
    DEREGISTER_DEVICE = 5
    GENERATE_TEST_EQE = 10
    GENERATE_RESET_REQUEST_EQE = 11
    CREATE_QUEUE = 12
    DISABLE_QUEUE = 13
    ALLOCATE_RESOURCE_RANGE = 22
    DESTROY_RESOURCE_RANGE = 24
    CREATE_DMA_REGION = 25
    DMA_REGION_ADD_PAGES = 26
    DESTROY_DMA_REGION = 27
    CREATE_PD = 29
    DESTROY_PD = 30
    CREATE_MR = 31
    DESTROY_MR = 32
    CHANGE_MSIX_FOR_EQ = 81
    QUERY_HWC_TIMEOUT = 84
    ALLOC_DM = 96
    DESTROY_DM = 97
    MANA_QUERY_DEV_CONFIG = 0x20001
    MANA_QUERY_GF_STAT = 0x20002
    MANA_CONFIG_VPORT_TX = 0x20003
    MANA_CREATE_WQ_OBJ = 0x20004
    MANA_DESTROY_WQ_OBJ = 0x20005
    MANA_FENCE_RQ = 0x20006
    MANA_CONFIG_VPORT_RX = 0x20007
    MANA_QUERY_VPORT_CONFIG = 0x20008
    MANA_QUERY_LINK_CONFIG = 0x2000A
    MANA_SET_BW_CLAMP = 0x2000B
    MANA_QUERY_PHY_STAT = 0x2000C
    MANA_REGISTER_FILTER = 0x28000
    MANA_DEREGISTER_FILTER = 0x28001
    MANA_REGISTER_HW_PORT = 0x28003
    MANA_DEREGISTER_HW_PORT = 0x28004
    MANA_IB_GET_ADAPTER_CAP = 0x30001
    MANA_IB_CREATE_ADAPTER = 0x30002
    MANA_IB_DESTROY_ADAPTER = 0x30003
    MANA_IB_CONFIG_IP_ADDR = 0x30004
    MANA_IB_CONFIG_MAC_ADDR = 0x30005
    MANA_IB_CREATE_UD_QP = 0x30006
    MANA_IB_DESTROY_UD_QP = 0x30007
    MANA_IB_CREATE_CQ = 0x30008
    MANA_IB_DESTROY_CQ = 0x30009
    MANA_IB_CREATE_RC_QP = 0x3000A
    MANA_IB_DESTROY_RNIC_QP = 0x3000B
    MANA_IB_SET_QP_STATE = 0x3000D
    MANA_IB_CREATE_UC_QP = 0x30020
    MANA_IB_QUERY_VF_COUNTERS = 0x30022
    MANA_IB_QUERY_DEVICE_COUNTERS = 0x30023


def request_name(code: int) -> str:
    try:
        return Request(code).name
    except ValueError:
        return f"unknown-{code:#x}"


@dataclass(frozen=True, slots=True)
class Message:
    """One request type: the bodies behind the two headers."""

    request: Layout
    response: Layout

    @classmethod
    def of(cls, request: str = "", response: str = "", *, room: int | None = None) -> Message:
        return cls(
            Layout(request, base=REQUEST_HEADER.size),
            Layout(response, base=RESPONSE_HEADER.size, size=room),
        )


DMA_REGION_PAGES_AT: Final = 64  # where the address lists begin
DMA_REGION_ADD_PAGES_AT: Final = 56
DOORBELL_PAGE_RESOURCE: Final = 27
PD_ALLOWS_GPA: Final = 1
UNCHANGED: Final = 0xFFFFFFFF  # third value of CONFIG_VPORT_RX's enables


class MrKind(enum.IntEnum):
    GPA = 1
    GVA = 2
    ZERO_BASED = 4
    DEVICE_MEMORY = 5
    WINDOW_1 = 6
    WINDOW_2 = 7


MESSAGES: dict[Request, Message] = {
    Request.VERIFY_VF_DRIVER_VERSION: Message.of(
        """40 version_min u64
           48 version_max u64
           56 capabilities u64x4
           88 driver_version u64
           96 os_type u32
           128 sysname b128
           256 release b128""",
        """32 version u64
           40 capabilities u64x4""",
    ),
    Request.QUERY_MAX_RESOURCES: Message.of(
        "",
        """32 status u32
           36 max_sq u32
           40 max_rq u32
           44 max_cq u32
           48 max_eq u32
           52 max_db u32
           56 max_mst u32
           60 max_cq_mod_ctx u32
           64 max_mod_cq u32
           68 max_msix u32""",
    ),
    Request.LIST_DEVICES: Message.of(
        "",
        """32 count u32
           40 devices u32x64""",
    ),
    Request.REGISTER_DEVICE: Message.of(
        "",
        """32 pdid u32
           36 gpa_mkey u32
           40 doorbell u32""",
    ),
    Request.DEREGISTER_DEVICE: Message.of(),
    Request.GENERATE_TEST_EQE: Message.of("40 eq u32"),
    Request.CREATE_QUEUE: Message.of(
        """40 kind u32
           48 pdid u32
           52 doorbell u32
           56 region u64
           68 size u32
           72 log2_throttle u32
           76 msix u32
           80 moderation_context u32
           84 parent_eq u32""",
        "32 number u32",
    ),
    Request.DISABLE_QUEUE: Message.of(
        """40 kind u32
           44 number u32
           48 allocate_ack u32""",
    ),
    Request.ALLOCATE_RESOURCE_RANGE: Message.of(
        """40 kind u32
           44 count u32
           48 alignment u32
           52 hint u32""",
        "32 first u32",
    ),
    Request.DESTROY_RESOURCE_RANGE: Message.of(
        """40 kind u32
           44 count u32
           48 first u32""",
    ),
    Request.CREATE_DMA_REGION: Message.of(
        """40 length u64
           48 offset u32
           52 page_type u32
           56 pages u32
           60 entries u32""",
        "32 handle u64",
    ),
    Request.DMA_REGION_ADD_PAGES: Message.of(
        """40 handle u64
           48 entries u32""",
    ),
    Request.DESTROY_DMA_REGION: Message.of("40 handle u64"),
    Request.CREATE_PD: Message.of(
        "40 flags u32",
        """32 handle u64
           40 pdid u32""",
    ),
    Request.DESTROY_PD: Message.of("40 handle u64"),
    Request.CREATE_MR: Message.of(
        """40 pd u64
           48 kind u32
           56 region u64
           64 address u64
           72 access u32
           80 length u64""",
        """32 handle u64
           40 lkey u32
           44 rkey u32""",
    ),
    Request.DESTROY_MR: Message.of("40 handle u64"),
    Request.QUERY_HWC_TIMEOUT: Message.of("40 timeout u32", "32 timeout u32"),
    Request.MANA_QUERY_DEV_CONFIG: Message.of(
        """40 capabilities u64x4
           72 protocol u32x3""",
        """32 capabilities u64x4
           64 vports u16
           66 hostmode u8
           68 max_eqs u32
           72 mtu u16""",
        room=80,
    ),
    Request.MANA_QUERY_GF_STAT: Message.of(
        "40 mask u64",
        """32 mask u64
           40 rx_no_wqe u64
           48 rx_vport_disabled u64
           56 rx_bytes u64
           64 rx_unicast u64
           72 rx_unicast_bytes u64
           184 tx_invalid_oob u64
           192 tx_bytes u64
           200 tx_unicast u64
           208 tx_unicast_bytes u64
           248 tx_gdma_error u64""",
    ),
    Request.MANA_CONFIG_VPORT_TX: Message.of(
        """40 vport u64
           48 pdid u32
           52 doorbell u32""",
        """32 tx_offset u16
           34 short_form u8""",
        room=36,
    ),
    Request.MANA_CREATE_WQ_OBJ: Message.of(
        """40 vport u64
           48 kind u32
           56 wq_region u64
           64 cq_region u64
           72 wq_size u32
           76 cq_size u32
           80 moderation_context u32
           84 parent_eq u32
           88 chain u8
           89 moderation u8""",
        """32 wq u32
           36 cq u32
           40 handle u64
           48 moderation_comps u16
           50 moderation_usec u16
           52 moderation u8""",
        room=56,
    ),
    Request.MANA_DESTROY_WQ_OBJ: Message.of(
        """40 kind u32
           48 handle u64""",
    ),
    Request.MANA_FENCE_RQ: Message.of("40 handle u64"),
    Request.MANA_CONFIG_VPORT_RX: Message.of(
        """40 vport u64
           48 entries u16
           50 table_at u16
           52 rx_enable u32
           56 rss_enable u32
           60 update_default u8
           61 update_key u8
           62 update_table u8
           64 default u64
           72 key b40
           112 coalescing u8
           116 hash_types u16
           118 coalescing_8 u8""",
        "32 coalescing_timeout u32",
        room=40,
    ),
    Request.MANA_QUERY_VPORT_CONFIG: Message.of(
        "40 index u32",
        """32 max_sq u32
           36 max_rq u32
           40 indirection u32
           48 mac b6
           56 handle u64""",
    ),
    Request.MANA_QUERY_LINK_CONFIG: Message.of(
        "40 vport u64",
        """32 qos_mbps u32
           36 qos_unconfigured u8
           40 link_mbps u32""",
        room=48,
    ),
    Request.MANA_QUERY_PHY_STAT: Message.of("40 mask u64", "32 mask u64", room=440),
}
