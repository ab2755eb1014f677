"""Requests of the RDMA function: the adapter, its CQs and QPs (mana_ib: main.c, cq.c, qp.c).

QPs are objects with numbers, rings and a state. RC has a data path (reliable.py); of the others the
work queues have `on_work` unset, which is where one would connect.
"""

from __future__ import annotations

from typing import Any

from tests.lab.nic import config as limits
from tests.lab.nic.dispatch import Call, Fields, Refused, on
from tests.lab.nic.function import Function
from tests.lab.nic.objects import Pd, Qp
from tests.lab.nic.regions import Region
from tests.lab.nic.rings import CompletionQueue, WorkQueue, entries
from tests.lab.nic.wire import rnic as wire
from tests.lab.nic.wire.messages import Request
from tests.lab.nic.wire.queues import CQE_SIZE

_QUEUE_BYTES = 1 << 20  # 2048 work requests by the driver's own arithmetic


@on(Request.MANA_IB_GET_ADAPTER_CAP)
def get_adapter_cap(function: Function, call: Call, body: Any) -> Fields:
    return {
        "max_sq_id": limits.FIRST_QP_ID * 2,
        "max_rq_id": limits.FIRST_QP_ID * 2,
        "max_cq_id": limits.MAX_NUM_CQS - 1,
        "max_qp": limits.MAX_QUEUES,
        "max_cq": limits.MAX_QUEUES,
        "max_mr": limits.MAX_MRS,
        "max_pd": limits.MAX_QUEUES,
        "max_inbound_reads": 32,
        "max_outbound_reads": 32,
        "max_requester_sq_size": _QUEUE_BYTES,
        "max_responder_sq_size": _QUEUE_BYTES,
        "max_requester_rq_size": _QUEUE_BYTES,
        "max_responder_rq_size": _QUEUE_BYTES,
        "max_send_sge": 16,
        "max_recv_sge": 8,
    }


@on(Request.MANA_IB_CREATE_ADAPTER)
def create_adapter(function: Function, call: Call, body: Any) -> Fields:
    function.need(function.eqs, body.eq, "eq")
    if function.adapter is not None:
        function.record.violation("second-adapter", f"adapter {function.adapter} lives")
    function.adapter = function.handle()
    return {"adapter": function.adapter}


@on(Request.MANA_IB_DESTROY_ADAPTER)
def destroy_adapter(function: Function, call: Call, body: Any) -> None:
    _adapter(function, body)
    if function.qps or function.rnic_cqs:
        function.record.violation(
            "leak",
            f"adapter destroyed before qps {list(function.qps)}, cqs {list(function.rnic_cqs)}",
        )
    function.adapter = None


@on(Request.MANA_IB_CONFIG_IP_ADDR)
def config_ip_addr(function: Function, call: Call, body: Any) -> None:
    _adapter(function, body)
    address = body.address[::-1].hex()
    if body.operation == wire.ADD:
        if len(function.gids) >= limits.MAX_GIDS:
            raise Refused("too many addresses")
        function.gids.add(address)
    else:
        function.gids.discard(address)
    call.facts.update(operation=body.operation, address=address)


@on(Request.MANA_IB_CONFIG_MAC_ADDR)
def config_mac_addr(function: Function, call: Call, body: Any) -> None:
    _adapter(function, body)
    call.facts.update(operation=body.operation, address=body.address[::-1].hex(":"))


@on(Request.MANA_IB_CREATE_CQ)
def create_cq(function: Function, call: Call, body: Any) -> Fields:
    """The message has no size: the region's length is the ring's."""
    _adapter(function, body)
    eq = function.need(function.eqs, body.eq, "eq")
    region = function.claim_region(body.region, CQE_SIZE, "cq")
    cq = CompletionQueue(
        function.cq_number(),
        region,
        entries(region.length, CQE_SIZE),
        eq,
        handle=function.handle(),
        doorbell=body.doorbell,
    )
    region.owner = f"cq {cq.number}"
    function.cqs[cq.number] = function.rnic_cqs[cq.handle] = cq
    call.facts["cq"] = cq.number
    return {"handle": cq.handle, "number": cq.number}


@on(Request.MANA_IB_DESTROY_CQ)
def destroy_cq(function: Function, call: Call, body: Any) -> None:
    _adapter(function, body)
    cq = function.need(function.rnic_cqs, body.handle, "cq")
    call.facts["cq"] = cq.number
    if cq.users:
        function.record.violation("cq-in-use", f"cq {cq.number} destroyed under {cq.users} QPs")
        raise Refused("in use")
    del function.rnic_cqs[cq.handle]
    function.drop_cq(cq)


@on(Request.MANA_IB_CREATE_UD_QP)
def create_ud_qp(function: Function, call: Call, body: Any) -> Fields:
    kind = {wire.QP_GSI: "gsi", wire.QP_UD: "ud"}.get(body.kind)
    if kind is None:
        raise Refused(f"QP kind {body.kind}")
    send = function.qp_base()
    taken = wire.GSI_QP_NUMBER in function.rqs
    receive = wire.GSI_QP_NUMBER if kind == "gsi" and not taken else send
    return _create_qp(
        function, call, body, kind, sends=(send,), receives=(receive,), handles=body.regions
    )


@on(Request.MANA_IB_CREATE_RC_QP)
def create_rc_qp(function: Function, call: Call, body: Any) -> Fields:
    base = function.qp_base()
    sends = tuple(base | sub for sub in (wire.SEND_REQUESTER, wire.SEND_RESPONDER, wire.SEND_FMR))
    receives = (base | wire.RECV_REQUESTER, base | wire.RECV_RESPONDER)
    made = _create_qp(
        function, call, body, "rc", sends=sends, receives=receives, handles=body.regions
    )
    function.reliable.connect(function.qps[made["handle"]])
    return made


@on(Request.MANA_IB_CREATE_UC_QP)
def create_uc_qp(function: Function, call: Call, body: Any) -> Fields:
    """Queues: send requester, receive responder, and one of the send side that users never see."""
    base = function.qp_base()
    sends = (base | wire.SEND_REQUESTER, base | wire.SEND_FMR)
    regions = (body.regions[0], body.regions[2], body.regions[1])
    receives = (base | wire.RECV_RESPONDER,)
    made = _create_qp(function, call, body, "uc", sends=sends, receives=receives, handles=regions)
    requester, mmq, responder = made["queues"]
    return {**made, "queues": (requester, responder, mmq)}


def _create_qp(
    function: Function,
    call: Call,
    body: Any,
    kind: str,
    *,
    sends: tuple[int, ...],
    receives: tuple[int, ...],
    handles: tuple[int, ...],
) -> Fields:
    """`sends` and `receives` are queue ids; `handles` their regions in that order, 0: no ring."""
    _adapter(function, body)
    pd = function.need(function.pds, body.pd, "pd")
    cqs = (
        function.need(function.rnic_cqs, body.send_cq, "cq"),
        function.need(function.rnic_cqs, body.recv_cq, "cq"),
    )
    regions = [function.claim_region(each, 1, "qp") if each else None for each in handles]
    qp = Qp(function.handle(), kind, pd, [], [], cqs)
    numbers = (*sends, *receives)
    for position, (number, region) in enumerate(zip(numbers, regions, strict=True)):
        is_send = position < len(sends)
        if region is None:
            continue
        queue = _work_queue(number, region, cqs[not is_send], pd, f"qp {qp.handle}")
        region.owner = queue.owner
        (qp.sqs if is_send else qp.rqs).append(queue)
        (function.sqs if is_send else function.rqs)[number] = queue
    for cq in cqs:
        cq.users += 1
    pd.qps += 1
    function.qps[qp.handle] = qp
    call.facts.update(qp=qp.handle, kind=kind, number=receives[-1], pdid=pd.pdid)
    return {"handle": qp.handle, "queues": numbers}


def _work_queue(number: int, region: Region, cq: CompletionQueue, pd: Pd, owner: str) -> WorkQueue:
    """rdma-core's requester ring has a tail for rolling back behind its power of two."""
    size = 1 << region.length.bit_length() - 1
    return WorkQueue(number, region, size, cq, pdid=pd.pdid, owner=owner)


@on(Request.MANA_IB_DESTROY_UD_QP)
def destroy_ud_qp(function: Function, call: Call, body: Any) -> None:
    _destroy_qp(function, call, body)


@on(Request.MANA_IB_DESTROY_RNIC_QP)
def destroy_rnic_qp(function: Function, call: Call, body: Any) -> None:
    _destroy_qp(function, call, body)


def _destroy_qp(function: Function, call: Call, body: Any) -> None:
    _adapter(function, body)
    qp = function.need(function.qps, body.handle, "qp")
    call.facts.update(qp=qp.handle, kind=qp.kind)
    del function.qps[qp.handle]
    for queue in qp.sqs:
        function.drop_wq(queue, is_sq=True)
    for queue in qp.rqs:
        function.drop_wq(queue, is_sq=False)
    for cq in qp.cqs:
        cq.users -= 1
    qp.pd.qps -= 1


@on(Request.MANA_IB_SET_QP_STATE)
def set_qp_state(function: Function, call: Call, body: Any) -> None:
    _adapter(function, body)
    qp = function.need(function.qps, body.handle, "qp")
    if body.mask & wire.HAS_PATH_MTU and body.path_mtu > wire.LARGEST_MTU:
        raise Refused(f"path MTU {body.path_mtu}")
    if qp.kind == "rc":
        function.reliable.modify(qp, body)
    else:
        qp.state = body.state
    call.facts.update(qp=qp.handle, state=body.state)


@on(Request.MANA_IB_QUERY_VF_COUNTERS)
def query_vf_counters(function: Function, call: Call, body: Any) -> Fields:
    _adapter(function, body)
    return {}


@on(Request.MANA_IB_QUERY_DEVICE_COUNTERS)
def query_device_counters(function: Function, call: Call, body: Any) -> Fields:
    _adapter(function, body)
    return {}


def _adapter(function: Function, body: Any) -> None:
    if function.adapter is None or body.adapter != function.adapter:
        function.record.violation("bad-handle", f"no adapter {body.adapter}")
        raise Refused(f"no adapter {body.adapter}")
