from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab.nic.wire import queues, rnic, smc
from tests.lab.nic.wire.layout import Layout
from tests.lab.nic.wire.messages import MESSAGES, Message, Request, request_name

# Sizes of whole messages as the newest drivers send them and have room for (gdma.h, mana.h,
# mana_ib.h). A request may be declared shorter where nothing behind it is read.
SIZES = {
    Request.QUERY_MAX_RESOURCES: (40, 72),
    Request.LIST_DEVICES: (40, 296),
    Request.REGISTER_DEVICE: (40, 44),
    Request.GENERATE_TEST_EQE: (44, 32),
    Request.DISABLE_QUEUE: (52, 32),
    Request.ALLOCATE_RESOURCE_RANGE: (56, 36),
    Request.CREATE_DMA_REGION: (64, 40),
    Request.CREATE_MR: (88, 48),
    Request.MANA_QUERY_DEV_CONFIG: (84, 80),
    Request.MANA_QUERY_GF_STAT: (48, 256),
    Request.MANA_CONFIG_VPORT_TX: (56, 36),
    Request.MANA_DESTROY_WQ_OBJ: (56, 32),
    Request.MANA_QUERY_VPORT_CONFIG: (44, 64),
    Request.MANA_IB_GET_ADAPTER_CAP: (40, 112),
    Request.MANA_IB_CREATE_ADAPTER: (56, 40),
    Request.MANA_IB_CONFIG_IP_ADDR: (72, 32),
    Request.MANA_IB_CREATE_UD_QP: (112, 48),
    Request.MANA_IB_CREATE_CQ: (64, 48),
    Request.MANA_IB_CREATE_RC_QP: (156, 64),
    Request.MANA_IB_QUERY_VF_COUNTERS: (48, 304),
}


@pytest.mark.parametrize("request_type", SIZES, ids=lambda each: each.name)
def test_messages_have_the_sizes_that_drivers_use(request_type: Request) -> None:
    message = MESSAGES[request_type]
    assert (message.request.end, message.response.end) == SIZES[request_type]


def test_rnic_queue_ids_differ_in_their_low_bits() -> None:
    send = {rnic.SEND_REQUESTER, rnic.SEND_RESPONDER, rnic.SEND_FMR}
    receive = {rnic.RECV_RESPONDER, rnic.RECV_REQUESTER}
    assert len(send) == 3
    assert len(receive) == 2
    assert max(send | receive) < rnic.QUEUE_SUBTYPES


def _fields(layout: Layout) -> st.SearchStrategy[dict[str, object]]:
    kinds = {"B": 8, "H": 16, "I": 32, "Q": 64}
    drawn: dict[str, st.SearchStrategy[object]] = {}
    for (name, count), code in zip(layout._fields, layout._codes(), strict=True):
        if code[-1] == "s":
            size = int(code[:-1])
            drawn[name] = st.binary(min_size=size, max_size=size)
        else:
            number = st.integers(0, (1 << kinds[code[-1]]) - 1)
            drawn[name] = st.tuples(*[number] * count) if count else number
    return st.fixed_dictionaries(drawn)


LAYOUTS = [
    pytest.param(layout, id=f"{name.name}-{side}")
    for name, message in MESSAGES.items()
    for side, layout in (("request", message.request), ("response", message.response))
    if layout.names
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_round_trip(layout: Layout) -> None:
    @settings(max_examples=20)
    @given(_fields(layout))
    def check(values: dict[str, object]) -> None:
        packed = layout.pack(**values)
        assert len(packed) == layout.size
        assert vars(layout.unpack(packed)) == values

    check()


def test_a_shorter_message_reads_as_zeros_behind_its_end() -> None:
    layout = Message.of("40 first u32\n44 second u64").request
    assert layout.unpack(b"\x07\0\0\0\x09").first == 7
    assert layout.unpack(b"\x07\0\0\0\x09").second == 9
    assert layout.unpack(b"").second == 0


def test_fields_lie_where_they_were_declared() -> None:
    layout = Layout("2 first u16\n8 second u32x2", size=20)
    assert layout.pack(first=0x0102, second=(3, 4)).hex() == (
        "0000020100000000030000000400000000000000"
    )


@pytest.mark.parametrize("text", ["0 a u64\n4 b u8", "0 a u24", "0 a b"])
def test_an_impossible_layout_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"overlaps|unknown type"):
        Layout(text)


def test_a_field_that_is_not_declared_is_refused() -> None:
    with pytest.raises(TypeError, match="no such field"):
        Layout("0 a u8").pack(b=1)


def test_unknown_requests_have_a_name_too() -> None:
    assert request_name(Request.CREATE_PD) == "CREATE_PD"
    assert request_name(0x7777) == "unknown-0x7777"


PFN = st.integers(0, (1 << 52) - 1)


@given(PFN, PFN, PFN, PFN, st.integers(0, 0xFFFF))
def test_establish_round_trips(eq: int, cq: int, rq: int, sq: int, msix: int) -> None:
    where = smc.Establish(eq << 12, cq << 12, rq << 12, sq << 12, msix)
    packed = where.pack()
    assert len(packed) == smc.HEADER_AT
    assert smc.Establish.unpack(packed + bytes(4)) == where


def test_establish_gathers_the_high_bits_in_one_word() -> None:
    where = smc.Establish(eq=1 << 60, cq=2 << 60, rq=3 << 60, sq=4 << 60)
    assert where.pack() == bytes(24) + b"\x21\x43" + bytes(2)


@given(st.integers(0, (1 << 32) - 1))
def test_smc_headers_keep_every_field(word: int) -> None:
    header = smc.Header.unpack(word)
    assert smc.Header.unpack(header.pack()) == header


def test_good_smc_answers_are_the_words_that_drivers_wait_for() -> None:
    assert smc.Header(smc.ESTABLISH, response=True).pack() == 0x81
    assert smc.Header(smc.DESTROY, response=True).pack() == 0x82


@pytest.mark.parametrize(
    ("oob", "sges", "length", "first"),
    [(8, 1, 32, 16), (8, 2, 64, 16), (8, 30, 512, 16), (24, 1, 64, 32), (32, 1, 64, 48)],
)
def test_wqe_geometry(oob: int, sges: int, length: int, first: int) -> None:
    assert queues.wqe_length(oob, sges) == length
    assert queues.sge_offset(oob) == first
