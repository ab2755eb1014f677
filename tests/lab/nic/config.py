"""What kind of NIC this is: everything that a command line may choose, and the fixed limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

MAX_PORTS: Final = 64

# Limits announced to the driver.
MAX_NUM_CQS: Final = 8192
MAX_QUEUES: Final = 1024
MAX_EQS: Final = 512
MAX_MRS: Final = 65536
MAX_REGIONS: Final = 1 << 17
MAX_PDS: Final = 4096
MAX_GIDS: Final = 1024
VPORT_QUEUES: Final = 16
INDIRECTION: Final = 64  # more does not fit into one CONFIG_VPORT_RX, and mana_ib sends just this
MSIX_VECTORS: Final = 64
FRAME_MTU: Final = 9014
LINK_MBPS: Final = 100_000
HWC_TIMEOUT_MS: Final = 30_000  # the drivers' own choice, when they are told none
HWC_TIMEOUT_RECONFIG: Final = 1 << 3  # capability: the driver is to ask for its time-out

# Protection domains, memory keys and doorbell pages of the kernel's three devices.
HWC_PDID, MANA_PDID, IB_PDID = 1, 2, 3
HWC_MKEY, MANA_MKEY, IB_MKEY = 1, 2, 3
HWC_DOORBELL, MANA_DOORBELL, IB_DOORBELL = 0, 1, 2
FIRST_USER_DOORBELL: Final = 3
FIRST_USER_PDID: Final = 16
FIRST_QUEUE_ID: Final = 32
FIRST_KEY: Final = 0x1000
FIRST_QP_ID: Final = 0x4000  # away from the ids of Ethernet queues, which share the two spaces


def default_mac(port: int) -> bytes:
    """Port numbers count from 1."""
    return bytes((0x02, 0x15, 0x5D, 0x00, 0x00, port))


def parse_mac(text: str) -> bytes:
    mac = bytes.fromhex(text.replace(":", "").replace("-", ""))
    if len(mac) != 6 or mac[0] & 1 or not any(mac):
        raise ValueError(f"not a unicast MAC address: {text}")
    return mac


@dataclass(frozen=True, slots=True)
class Config:
    ports: int = 2
    macs: tuple[bytes, ...] = ()  # of the first ports; the others get default ones
    rnic: bool = True
    hwc_timeout_ms: int | None = None  # how long the driver is to wait for an answer
    all_macs: tuple[bytes, ...] = field(init=False)

    def __post_init__(self) -> None:
        if not 1 <= self.ports <= MAX_PORTS:
            raise ValueError(f"ports: 1 to {MAX_PORTS}, not {self.ports}")
        if len(self.macs) > self.ports:
            raise ValueError("more MAC addresses than ports")
        rest = (default_mac(port) for port in range(len(self.macs) + 1, self.ports + 1))
        macs = (*self.macs, *rest)
        if len(set(macs)) != len(macs):
            raise ValueError("two ports with one MAC address")
        object.__setattr__(self, "all_macs", macs)
