"""The uverbs write commands that a raw QP takes: layouts, encoders, and what their errno mean.

From include/uapi/rdma/ib_user_verbs.h, with the driver's part from mana-abi.h. Native byte order,
no padding. Bytes in, bytes out: nothing here opens anything.
"""

from __future__ import annotations

import enum
import errno
import struct

PAGE = 4096
NONE = 0xFFFFFFFF  # what an answer page holds before the kernel has written a handle to it

# enum ib_uverbs_write_cmds
GET_CONTEXT = 0
QUERY_DEVICE = 1
ALLOC_PD = 3
DEALLOC_PD = 4
CREATE_CQ = 18
DESTROY_CQ = 20
CREATE_QP = 24
DESTROY_QP = 27

# Sent: ib_uverbs_cmd_hdr and the address of the answer, then the command's own fields.
HEADER = struct.Struct("=IHHQ")  # command, words sent, words of answer, address of the answer
HEADER_MUTE = struct.Struct("=IHH")  # DEALLOC_PD has no answer
CREATE_CQ_BODY = struct.Struct(
    "=QIIiI"  # user handle, CQEs, completion vector, completion channel, reserved
    "QHHI"  # mana_ib_create_cq: ring, flags, reserved, reserved
)
CREATE_QP_BODY = struct.Struct(
    "=QIIII"  # user handle, PD, send CQ, receive CQ, SRQ
    "IIIII"  # max send WRs, max receive WRs, max send SGEs, max receive SGEs, max inline
    "BBBB"  # signal all, QP type, is SRQ, reserved
    "QII"  # mana_ib_create_qp: send ring, its size in bytes, port
)
DESTROY_BODY = struct.Struct("=II")  # handle, reserved
DEALLOC_PD_BODY = struct.Struct("=I")  # handle

# Answered, in bytes. The first word is the handle, but for GET_CONTEXT (a descriptor).
GET_CONTEXT_ANSWER = 8
ALLOC_PD_ANSWER = 4
CREATE_CQ_ANSWER = 16
DESTROY_CQ_ANSWER = 8
# 32 of the core and 16 of the driver. Kernels up to 6.18 write the 16 whatever was announced:
# behind the end of a shorter answer.
CREATE_QP_ANSWER = 48
DESTROY_QP_ANSWER = 4
QUERY_DEVICE_ANSWER = 176
VENDOR_ID_AT, VENDOR_PART_AT, PORTS_AT = 40, 44, 168  # PORTS_AT: its top byte is phys_port_cnt

IBV_QPT_RAW_PACKET = 8
NO_CHANNEL = -1
CQES = 64  # of 64 bytes: one page
SEND_WRS = 64
# A completion queue with flag 1 belongs to the RNIC and serves no raw QP.
ETHERNET_CQ = 0

VENDOR_MICROSOFT = 0x1414
PART_UNSET, PART_ETHERNET, PART_RNIC = 0, 2, 3  # GDMA device types; 6.12 fills in no ids


class ProofOutcome(enum.StrEnum):
    """What one attempt at a raw QP says about the vport."""

    FREE = "free"
    TAKEN = "taken"
    DENIED = "denied"  # CAP_NET_RAW is missing: says nothing about the vport
    CANNOT = "cannot"  # something else was in the way: says nothing about the vport


def command(number: int, body: bytes, answer: int, size: int) -> bytes:
    """Encode one command whose answer of `size` bytes goes to the address `answer`."""
    words = (HEADER.size + len(body)) // 4
    return HEADER.pack(number, words, size // 4, answer) + body


def create_cq(ring: int) -> bytes:
    """Body of CREATE_CQ for a completion queue that a raw QP can have."""
    return CREATE_CQ_BODY.pack(0, CQES, 0, NO_CHANNEL, 0, ring, ETHERNET_CQ, 0, 0)


def create_qp(pd: int, cq: int, ring: int, port: int) -> bytes:
    """Body of CREATE_QP for a RAW_PACKET QP on `port` (from 1); its ring is one page."""
    limits = (SEND_WRS, 1, 1, 1, 0)
    return CREATE_QP_BODY.pack(
        0, pd, cq, cq, 0, *limits, 0, IBV_QPT_RAW_PACKET, 0, 0, ring, PAGE, port
    )


def dealloc_pd(pd: int) -> bytes:
    """The whole DEALLOC_PD command."""
    body = DEALLOC_PD_BODY.pack(pd)
    return HEADER_MUTE.pack(DEALLOC_PD, (HEADER_MUTE.size + len(body)) // 4, 0) + body


# What an errno means depends on the command that gave it. (where, errno) first, then (any, errno).
ANY = "any"
_MEMLOCK_HINT = "raise RLIMIT_MEMLOCK to 64 KiB or more (ulimit -l, LimitMEMLOCK=), or run as root"
MEANING: dict[tuple[str, int], tuple[ProofOutcome, str, str | None]] = {
    ("CREATE_QP", errno.EBUSY): (
        ProofOutcome.TAKEN,
        "the vport has an owner: its netdev is up (in whatever namespace) or a raw QP has it",
        None,
    ),
    # Kernels up to 6.18 answer this for every failure to configure the vport; that the device
    # answers at all has just been shown by the PD.
    ("CREATE_QP", errno.ENODEV): (
        ProofOutcome.TAKEN,
        "the vport has an owner: its netdev is up (in whatever namespace) or a raw QP has it",
        None,
    ),
    ("CREATE_QP", errno.EPERM): (
        ProofOutcome.DENIED,
        "creating a RAW_PACKET QP needs CAP_NET_RAW",
        "run with CAP_NET_RAW (root has it)",
    ),
    ("CREATE_QP", errno.EINVAL): (
        ProofOutcome.CANNOT,
        "the kernel knows no such port, or no RAW_PACKET QP of this shape",
        None,
    ),
    ("CREATE_CQ", errno.EPERM): (
        ProofOutcome.CANNOT,
        "no memory may be locked: RLIMIT_MEMLOCK is 0 and CAP_IPC_LOCK is missing",
        _MEMLOCK_HINT,
    ),
    (ANY, errno.ENOMEM): (
        ProofOutcome.CANNOT,
        "the queues need 8 KiB of locked memory and RLIMIT_MEMLOCK allows less",
        _MEMLOCK_HINT,
    ),
    (ANY, errno.EAGAIN): (
        ProofOutcome.CANNOT,
        "the rdma cgroup has no handles or objects left",
        "raise rdma.max of this process's cgroup",
    ),
    (ANY, errno.ETIMEDOUT): (
        ProofOutcome.CANNOT,
        "the NIC does not answer the driver",
        "look at the kernel log for mana messages",
    ),
    (ANY, errno.EIO): (ProofOutcome.CANNOT, "the RDMA device is being removed", None),
    (ANY, errno.EACCES): (
        ProofOutcome.CANNOT,
        "the kernel takes no command from a process that changed its credentials since the open",
        "start manactl as the user it is to run as",
    ),
    ("open", errno.EACCES): (
        ProofOutcome.CANNOT,
        "the uverbs character device may not be opened",
        "run as root, or give the device mode 0666 as rdma-core's udev rules do",
    ),
    ("open", errno.EPERM): (
        ProofOutcome.CANNOT,
        "the RDMA device may not be opened from here: another network namespace has it, "
        "or the devices cgroup forbids it",
        "run in the device's network namespace (rdma system show)",
    ),
    ("open", errno.ENOENT): (
        ProofOutcome.CANNOT,
        "the RDMA device has no uverbs character device here",
        "load ib_uverbs (modprobe ib_uverbs)",
    ),
}
