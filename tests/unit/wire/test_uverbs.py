"""Each command as literal bytes, by the structures of include/uapi/rdma/ib_user_verbs.h.

Little-endian, as every machine is that has a MANA NIC.
"""

from __future__ import annotations

import errno
import re
import struct

import pytest

from manactl.wire import uverbs
from manactl.wire.uverbs import ANY, MEANING, ProofOutcome
from tests.unit.wire.headers import INCLUDE

VERBS_H = "rdma/ib_user_verbs.h"
ANSWER = 0x00007F01_02030405
RING = 0x00007F0A_0B0C0D0E
BYTES = {"__u8": 1, "__u16": 2, "__u32": 4, "__s32": 4, "__aligned_u64": 8, "__be64": 8}


def members(name: str) -> list[tuple[str, int, int]]:
    """Name, offset and size of each member of a structure of the header, in order."""
    path = INCLUDE / VERBS_H
    if not path.exists():
        pytest.skip(f"{VERBS_H} is not installed (linux-libc-dev)")
    body = re.search(rf"^struct {name} {{\n(.*?)^}};", path.read_text(), re.DOTALL | re.M)
    assert body
    found, at = [], 0
    for kind, member, length in re.findall(r"(\w+)\s+(\w+)(?:\[(\d*)\])?;", body[1]):
        if member == "driver_data":  # of the driver, behind the end
            continue
        assert at % BYTES[kind] == 0, "the compiler would put padding here"
        size = BYTES[kind] * int(length or 1)
        found.append((member, at, size))
        at += size
    return found


def size_of(name: str) -> int:
    return sum(size for _, _, size in members(name))


def offset(name: str, wanted: str) -> int:
    return next(at for member, at, _ in members(name) if member == wanted)


def test_numbers_of_the_commands_are_the_headers() -> None:
    path = INCLUDE / VERBS_H
    if not path.exists():
        pytest.skip(f"{VERBS_H} is not installed (linux-libc-dev)")
    body = re.search(r"^enum ib_uverbs_write_cmds {(.*?)^};", path.read_text(), re.DOTALL | re.M)
    assert body
    names = [name.strip().removeprefix("IB_USER_VERBS_CMD_") for name in body[1].split(",")]
    ours = "GET_CONTEXT QUERY_DEVICE ALLOC_PD DEALLOC_PD CREATE_CQ DESTROY_CQ CREATE_QP DESTROY_QP"
    assert {name: getattr(uverbs, name) for name in ours.split(" ")} == {
        name: names.index(name) for name in ours.split(" ")
    }


def test_a_command_without_a_body_is_its_header_and_the_address_of_the_answer() -> None:
    # struct ib_uverbs_cmd_hdr: command, in_words, out_words; then response
    assert uverbs.command(uverbs.GET_CONTEXT, b"", ANSWER, 8) == bytes.fromhex(
        "00000000 0400 0200 05040302017f0000"
    )
    assert uverbs.command(uverbs.ALLOC_PD, b"", ANSWER, 4) == bytes.fromhex(
        "03000000 0400 0100 05040302017f0000"
    )
    assert uverbs.command(uverbs.QUERY_DEVICE, b"", ANSWER, 176) == bytes.fromhex(
        "01000000 0400 2c00 05040302017f0000"
    )


def test_create_cq() -> None:
    assert uverbs.command(uverbs.CREATE_CQ, uverbs.create_cq(RING), ANSWER, 16) == bytes.fromhex(
        "12000000 0e00 0400 05040302017f0000"
        "0000000000000000 40000000 00000000 ffffffff 00000000"  # 64 CQEs, no channel
        "0e0d0c0b0a7f0000 0000 0000 00000000"  # mana_ib_create_cq
    )


def test_create_qp() -> None:
    body = uverbs.create_qp(pd=0x11, cq=0x22, ring=RING, port=2)
    assert uverbs.command(uverbs.CREATE_QP, body, ANSWER, 48) == bytes.fromhex(
        "18000000 1400 0c00 05040302017f0000"
        "0000000000000000 11000000 22000000 22000000 00000000"  # PD, one CQ for both, no SRQ
        "40000000 01000000 01000000 01000000 00000000"  # 64 sends, 1 receive, 1 SGE each
        "00 08 00 00"  # IBV_QPT_RAW_PACKET
        "0e0d0c0b0a7f0000 00100000 02000000"  # mana_ib_create_qp: 4096 bytes, port 2
    )


@pytest.mark.parametrize(
    ("number", "answer", "expected"),
    [
        (uverbs.DESTROY_CQ, 8, "14000000 0600 0200 05040302017f0000 33000000 00000000"),
        (uverbs.DESTROY_QP, 4, "1b000000 0600 0100 05040302017f0000 33000000 00000000"),
    ],
)
def test_destroy(number: int, answer: int, expected: str) -> None:
    body = uverbs.DESTROY_BODY.pack(0x33, 0)
    assert uverbs.command(number, body, ANSWER, answer) == bytes.fromhex(expected)


def test_dealloc_pd_has_no_answer_and_no_address_of_one() -> None:
    assert uverbs.dealloc_pd(0x11) == bytes.fromhex("04000000 0300 0000 11000000")


def test_bodies_are_as_long_as_the_structures() -> None:
    """sizeof() counts the address of the answer; behind the core's part comes the driver's."""
    response, driver_cq, driver_qp = 8, 16, 16
    assert uverbs.CREATE_CQ_BODY.size + response == size_of("ib_uverbs_create_cq") + driver_cq
    assert uverbs.CREATE_QP_BODY.size + response == size_of("ib_uverbs_create_qp") + driver_qp
    assert uverbs.DESTROY_BODY.size + response == size_of("ib_uverbs_destroy_cq")
    assert uverbs.DESTROY_BODY.size + response == size_of("ib_uverbs_destroy_qp")
    assert uverbs.DEALLOC_PD_BODY.size == size_of("ib_uverbs_dealloc_pd")
    assert uverbs.HEADER.size == 8 + response
    assert uverbs.HEADER_MUTE.size == 8


def test_answers_have_the_room_that_the_kernel_writes() -> None:
    assert size_of("ib_uverbs_get_context_resp") == uverbs.GET_CONTEXT_ANSWER
    assert size_of("ib_uverbs_alloc_pd_resp") == uverbs.ALLOC_PD_ANSWER
    assert size_of("ib_uverbs_destroy_cq_resp") == uverbs.DESTROY_CQ_ANSWER
    assert size_of("ib_uverbs_destroy_qp_resp") == uverbs.DESTROY_QP_ANSWER
    assert size_of("ib_uverbs_query_device_resp") == uverbs.QUERY_DEVICE_ANSWER
    # mana_ib_create_cq_resp: cqid, reserved; mana_ib_create_qp_resp: 4 words
    assert size_of("ib_uverbs_create_cq_resp") + 8 == uverbs.CREATE_CQ_ANSWER
    assert size_of("ib_uverbs_create_qp_resp") + 16 == uverbs.CREATE_QP_ANSWER


def test_the_handle_is_the_first_word_of_an_answer() -> None:
    for name, handle in (
        ("ib_uverbs_alloc_pd_resp", "pd_handle"),
        ("ib_uverbs_create_cq_resp", "cq_handle"),
        ("ib_uverbs_create_qp_resp", "qp_handle"),
        ("ib_uverbs_get_context_resp", "async_fd"),
    ):
        assert members(name)[0] == (handle, 0, 4)


def test_the_identity_of_a_device_is_where_the_header_has_it() -> None:
    name = "ib_uverbs_query_device_resp"
    assert offset(name, "vendor_id") == uverbs.VENDOR_ID_AT
    assert offset(name, "vendor_part_id") == uverbs.VENDOR_PART_AT
    page = bytearray(size_of(name))
    page[offset(name, "phys_port_cnt")] = 2
    (word,) = struct.unpack_from("<I", page, uverbs.PORTS_AT)
    assert word >> 24 == 2


def test_limits_fit_into_one_page() -> None:
    assert uverbs.CQES * 64 == uverbs.PAGE == 4096
    assert uverbs.NONE == 0xFFFFFFFF


def test_numbers_of_microsoft() -> None:
    assert uverbs.VENDOR_MICROSOFT == 0x1414
    # enum gdma_device_type: GDMA_DEVICE_MANA, GDMA_DEVICE_MANA_IB
    assert (uverbs.PART_UNSET, uverbs.PART_ETHERNET, uverbs.PART_RNIC) == (0, 2, 3)


def test_what_an_errno_says_about_the_vport() -> None:
    """Only CREATE_QP says that the vport has an owner; nothing here says that it is free."""
    outcomes = {key: outcome for key, (outcome, _, _) in MEANING.items()}
    assert {key for key, what in outcomes.items() if what is ProofOutcome.TAKEN} == {
        ("CREATE_QP", errno.EBUSY),
        ("CREATE_QP", errno.ENODEV),
    }
    assert {key for key, what in outcomes.items() if what is ProofOutcome.DENIED} == {
        ("CREATE_QP", errno.EPERM)
    }
    assert ProofOutcome.FREE not in outcomes.values()
    assert {code for where, code in outcomes if where == ANY} == {
        errno.ENOMEM,
        errno.EAGAIN,
        errno.ETIMEDOUT,
        errno.EIO,
        errno.EACCES,
    }
    assert {code for where, code in outcomes if where == "open"} == {
        errno.EACCES,
        errno.EPERM,
        errno.ENOENT,
    }
