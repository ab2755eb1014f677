"""Ethernet requests: vports, their work queue objects, steering.

Linux: mana_en.c, mana_ib's main.c, qp.c and wq.c. OpenVMM: bnic.rs.
"""

from __future__ import annotations

import struct
from typing import Any

from tests.lab.nic import config as limits
from tests.lab.nic.dispatch import REFUSALS, Call, Fields, Refused, on
from tests.lab.nic.function import Function
from tests.lab.nic.objects import Vport, WqObject
from tests.lab.nic.rings import CompletionQueue, WorkQueue, entries
from tests.lab.nic.wire.messages import UNCHANGED, Request
from tests.lab.nic.wire.queues import CLIENT_ETHERNET, CQE_SIZE, QueueKind, RxKind

_FENCE = bytes((RxKind.FENCE | CLIENT_ETHERNET,)).ljust(60, b"\0")


@on(Request.MANA_QUERY_DEV_CONFIG)
def query_dev_config(function: Function, call: Call, body: Any) -> Fields:
    """Also asked before REGISTER_DEVICE, and answered."""
    return {"vports": function.config.ports, "max_eqs": limits.MAX_EQS, "mtu": limits.FRAME_MTU}


@on(Request.MANA_QUERY_VPORT_CONFIG)
def query_vport_config(function: Function, call: Call, body: Any) -> Fields:
    if body.index >= len(function.vports):
        raise Refused(f"no vport with index {body.index}")
    vport = function.vports[body.index]
    call.facts["vport"] = vport.index
    return {
        "max_sq": limits.VPORT_QUEUES,
        "max_rq": limits.VPORT_QUEUES,
        "indirection": limits.INDIRECTION,
        "mac": vport.mac,
        "handle": vport.handle,
    }


@on(Request.MANA_CONFIG_VPORT_TX)
def config_vport_tx(function: Function, call: Call, body: Any) -> Fields:
    """Whoever sends this owns the vport from now on: the device never refuses, it only tells."""
    vport = function.vport(body.vport)
    if vport.objects and vport.pdid != body.pdid:
        function.record.violation(
            "second-owner",
            f"vport {vport.index} taken by pd {body.pdid} with {len(vport.objects)} WQ objects"
            f" of pd {vport.pdid} alive",
            vport=vport.index,
        )
    known = {limits.MANA_PDID} | {pd.pdid for pd in function.pds.values()}
    if body.pdid not in known:
        function.record.violation("bad-handle", f"vport {vport.index}: no pd {body.pdid}")
        raise Refused(f"no pd {body.pdid}")
    function.configure_vport(vport, body.pdid, body.doorbell)
    call.facts.update(vport=vport.index, pdid=body.pdid)
    return {"tx_offset": 0, "short_form": 1}


@on(Request.MANA_CREATE_WQ_OBJ)
def create_wq_obj(function: Function, call: Call, body: Any) -> Fields:
    vport = function.vport(body.vport)
    call.facts.update(vport=vport.index, kind=body.kind)
    made = _make_wq_object(function, vport, body)
    call.facts.update(wq=made.wq.number, cq=made.cq.number)
    return {"wq": made.wq.number, "cq": made.cq.number, "handle": made.handle}


def _open_failed(function: Function, message: bytes) -> None:
    """A refusal that ends whichever open it was part of, when that has nothing to take down.

    Drivers say nothing of it, and all that the message tells is its kind. So only a vport that is
    programmed and has neither queue nor EQ can be meant, and only if there is no other such.
    """
    bare = [v for v in function.vports if v.pdid is not None and not v.objects and not v.eqs]
    if len(bare) == 1:
        function.release_vport(bare[0])


for _part in (Request.CREATE_DMA_REGION, Request.CREATE_QUEUE, Request.MANA_CREATE_WQ_OBJ):
    REFUSALS[_part] = _open_failed


def _make_wq_object(function: Function, vport: Vport, body: Any) -> WqObject:
    if body.kind not in {QueueKind.SQ, QueueKind.RQ}:
        raise Refused(f"WQ kind {body.kind}")
    is_sq = body.kind == QueueKind.SQ
    eq = function.need(function.eqs, body.parent_eq, "eq")
    cq_entries = entries(body.cq_size, CQE_SIZE)
    wq_region = function.claim_region(body.wq_region, body.wq_size, "wq")
    cq_region = function.claim_region(body.cq_region, body.cq_size, "cq")
    if wq_region is cq_region:
        raise Refused("one region for both queues")
    handle = function.handle()
    cq = CompletionQueue(function.cq_number(), cq_region, cq_entries, eq)
    wq = WorkQueue(
        number=function.wq_number(is_sq),
        region=wq_region,
        size=body.wq_size,
        cq=cq,
        pdid=vport.pdid or 0,
        on_work=function.transmit if is_sq else None,
        owner=f"vport {vport.index}",
    )
    wq_region.owner = cq_region.owner = f"wq object {handle}"
    made = WqObject(handle, is_sq, vport, wq, cq)
    (function.sqs if is_sq else function.rqs)[wq.number] = wq
    if is_sq:
        function.wq_vports[wq.number] = vport
    function.cqs[cq.number] = cq
    function.wqs[is_sq, handle] = vport.objects[is_sq, handle] = made
    return made


@on(Request.MANA_DESTROY_WQ_OBJ)
def destroy_wq_obj(function: Function, call: Call, body: Any) -> None:
    is_sq = body.kind == QueueKind.SQ
    gone = function.need(function.wqs, (is_sq, body.handle), "wq object")
    vport = gone.vport
    call.facts.update(vport=vport.index, wq=gone.wq.number, cq=gone.cq.number, kind=body.kind)
    del function.wqs[is_sq, gone.handle]
    if is_sq:
        del function.wq_vports[gone.wq.number]
    function.drop_wq(gone.wq, is_sq)
    function.drop_cq(gone.cq)
    vport.detach(gone)
    if not vport.objects:
        function.release_vport(vport)


@on(Request.MANA_FENCE_RQ)
def fence_rq(function: Function, call: Call, body: Any) -> None:
    """All that was received is in the CQ already, so the fence may follow at once."""
    rq = function.need(function.wqs, (False, body.handle), "wq object")
    rq.cq.post(_FENCE, rq.wq.number, is_sq=False)


@on(Request.MANA_CONFIG_VPORT_RX)
def config_vport_rx(function: Function, call: Call, body: Any) -> Fields:
    vport = function.vport(body.vport)
    if body.update_default:
        vport.default = _rx_object(function, vport, body.default)
    if body.update_key:
        vport.key = body.key
    if body.update_table:
        if body.entries != limits.INDIRECTION:
            raise Refused(f"{body.entries} indirection entries")
        if body.table_at + 8 * body.entries > len(call.message):
            raise Refused("the indirection table lies outside the message")
        handles = struct.unpack_from(f"<{body.entries}Q", call.message, body.table_at)
        vport.table = [_rx_object(function, vport, handle) for handle in handles]
    if body.hash_types:
        vport.hash_types = body.hash_types
    if body.rss_enable != UNCHANGED:
        vport.rss = bool(body.rss_enable)
    if body.rx_enable != UNCHANGED:
        vport.rx = bool(body.rx_enable)
    call.facts.update(vport=vport.index, rx=vport.rx, rss=vport.rss)
    return {}


def _rx_object(function: Function, vport: Vport, handle: int) -> WqObject:
    found = function.need(function.wqs, (False, handle), "wq object")
    if found.vport is not vport:
        function.record.violation(
            "foreign-object", f"vport {vport.index} steered to vport {found.vport.index}"
        )
        raise Refused("an RQ of another vport")
    return found


@on(Request.MANA_QUERY_GF_STAT)
def query_gf_stat(function: Function, call: Call, body: Any) -> Fields:
    counters = [vport.counters for vport in function.vports]
    received, sent = sum(c.rx_bytes for c in counters), sum(c.tx_bytes for c in counters)
    return {
        "mask": body.mask,
        "rx_no_wqe": sum(c.rx_no_wqe for c in counters),
        "rx_vport_disabled": sum(c.rx_disabled for c in counters),
        "rx_bytes": received,
        "tx_bytes": sent,
        "tx_gdma_error": sum(c.tx_errors for c in counters),
    }


@on(Request.MANA_QUERY_LINK_CONFIG)
def query_link_config(function: Function, call: Call, body: Any) -> Fields:
    function.vport(body.vport)
    return {"qos_mbps": limits.LINK_MBPS, "link_mbps": limits.LINK_MBPS}


@on(Request.MANA_QUERY_PHY_STAT)
def query_phy_stat(function: Function, call: Call, body: Any) -> Fields:
    return {"mask": body.mask}
