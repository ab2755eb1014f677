"""Requests of the bus level: devices, event queues, DMA regions, PDs, MRs, doorbell pages.

Linux: gdma_main.c, mana_ib's main.c and mr.c. OpenVMM: hwc.rs.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from tests.lab.nic import config as limits
from tests.lab.nic.dispatch import Call, Fields, Refused, on
from tests.lab.nic.function import Function
from tests.lab.nic.objects import Mr, Pd
from tests.lab.nic.regions import PAGE, Region
from tests.lab.nic.rings import EventQueue, entries
from tests.lab.nic.wire.messages import (
    DMA_REGION_ADD_PAGES_AT,
    DMA_REGION_PAGES_AT,
    DOORBELL_PAGE_RESOURCE,
    DeviceType,
    MrKind,
    Request,
    Status,
)
from tests.lab.nic.wire.queues import EQE_SIZE, Event, QueueKind

_PAGE_TYPES = frozenset(range(10))  # 4 KiB to 2 MiB, as shifts of 4096
_MAX_PAGES = 1 << 22

# What REGISTER_DEVICE answers: protection domain, memory key, doorbell page.
_IDENTITIES = {
    DeviceType.MANA: (limits.MANA_PDID, limits.MANA_MKEY, limits.MANA_DOORBELL),
    DeviceType.MANA_IB: (limits.IB_PDID, limits.IB_MKEY, limits.IB_DOORBELL),
}


@on(Request.VERIFY_VF_DRIVER_VERSION)
def verify_version(function: Function, call: Call, body: Any) -> Fields:
    """No capability is announced unless asked for: each would change what drivers do."""
    call.facts["release"] = body.release.rstrip(b"\0").decode(errors="replace")
    call.facts["capabilities"] = f"{body.capabilities[0]:#x}"
    if function.config.hwc_timeout_ms is not None:
        return {"version": 1, "capabilities": [limits.HWC_TIMEOUT_RECONFIG, 0, 0, 0]}
    return {"version": 1}


@on(Request.QUERY_MAX_RESOURCES)
def query_max_resources(function: Function, call: Call, body: Any) -> Fields:
    return {
        "max_sq": limits.MAX_QUEUES,
        "max_rq": limits.MAX_QUEUES,
        "max_cq": limits.MAX_NUM_CQS // 2,
        "max_eq": limits.MAX_EQS,
        "max_db": limits.MAX_QUEUES,
        "max_mst": limits.MAX_MRS,
        "max_msix": limits.MSIX_VECTORS,
    }


@on(Request.QUERY_HWC_TIMEOUT)
def query_hwc_timeout(function: Function, call: Call, body: Any) -> Fields:
    return {"timeout": function.config.hwc_timeout_ms or limits.HWC_TIMEOUT_MS}


@on(Request.LIST_DEVICES)
def list_devices(function: Function, call: Call, body: Any) -> Fields:
    kinds = [(DeviceType.HWC, 0), (DeviceType.MANA, 1)]
    if function.config.rnic:
        kinds.append((DeviceType.MANA_IB, 1))
    return {"count": len(kinds), "devices": [kind | instance << 16 for kind, instance in kinds]}


@on(Request.REGISTER_DEVICE)
def register_device(function: Function, call: Call, body: Any) -> Fields:
    kind = _device(function, call)
    if kind in function.registered:
        function.record.violation("registered-twice", f"device {kind.name}")
    function.registered.add(kind)
    pdid, key, doorbell = _IDENTITIES[kind]
    return {"pdid": pdid, "gpa_mkey": key, "doorbell": doorbell}


@on(Request.DEREGISTER_DEVICE)
def deregister_device(function: Function, call: Call, body: Any) -> None:
    kind = _device(function, call)
    if kind not in function.registered:
        raise Refused("not registered")
    function.registered.remove(kind)
    left = [f"eq {eq.number}" for eq in function.eqs.values() if eq.device == kind]
    if kind is DeviceType.MANA:
        left += [f"wq object {handle}" for _, handle in function.wqs]
    else:
        left += [f"qp {handle}" for handle in function.qps]
        left += [f"cq {handle}" for handle in function.rnic_cqs]
    if left:
        function.record.violation("leak", f"{kind.name} deregistered before {', '.join(left)}")


def _device(function: Function, call: Call) -> DeviceType:
    listed = {DeviceType.MANA, *([DeviceType.MANA_IB] if function.config.rnic else [])}
    if call.device not in listed:
        raise Refused(f"device type {call.device} is not listed")
    return DeviceType(call.device)


@on(Request.GENERATE_TEST_EQE)
def generate_test_eqe(function: Function, call: Call, body: Any) -> None:
    call.facts["eq"] = body.eq
    function.need(function.eqs, body.eq, "eq").post(Event.TEST)


@on(Request.CREATE_QUEUE)
def create_queue(function: Function, call: Call, body: Any) -> Fields:
    """Only event queues come this way; they start armed."""
    if body.kind != QueueKind.EQ:
        raise Refused(f"queue kind {body.kind}")
    if body.msix >= limits.MSIX_VECTORS:
        raise Refused(f"MSI-X index {body.msix}")
    region = function.claim_region(body.region, body.size, "eq")
    eq = EventQueue(
        number=function.eq_number(),
        region=region,
        entries=entries(body.size, EQE_SIZE),
        vector=body.msix,
        fire=function.fire,
        pdid=body.pdid,
        device=call.device,
    )
    region.owner = f"eq {eq.number}"
    function.eqs[eq.number] = eq
    if call.device == DeviceType.MANA:
        for vport in function.vports:
            if vport.pdid is not None and not vport.objects:
                vport.eqs.add(eq.number)
    call.facts.update(eq=eq.number, msix=body.msix)
    return {"number": eq.number}


@on(Request.DISABLE_QUEUE)
def disable_queue(function: Function, call: Call, body: Any) -> None:
    call.facts["eq"] = body.number
    if body.kind != QueueKind.EQ:
        raise Refused(f"queue kind {body.kind}")
    eq = function.need(function.eqs, body.number, "eq")
    if eq is function.hwc_eq:
        raise Refused("the command channel's own queue")
    users = [cq.number for cq in function.cqs.values() if cq.eq is eq]
    if users:
        function.record.violation("eq-in-use", f"eq {eq.number} destroyed under cqs {users}")
        raise Refused("in use")
    function.drop_eq(eq)
    for vport in function.vports:
        if eq.number in vport.eqs:
            vport.eqs.discard(eq.number)
            if not vport.eqs and not vport.objects:
                function.release_vport(vport)


@on(Request.CREATE_DMA_REGION)
def create_dma_region(function: Function, call: Call, body: Any) -> Fields:
    if body.page_type not in _PAGE_TYPES:
        raise Refused(f"page type {body.page_type}")
    if len(function.regions) >= limits.MAX_REGIONS:
        raise Refused("too many regions")
    size = PAGE << body.page_type
    needed = (body.offset + body.length + size - 1) // size
    if not needed <= body.pages <= _MAX_PAGES or not body.pages or body.offset >= size:
        raise Refused(f"{body.pages} pages of {size} for {body.length} bytes at {body.offset}")
    region = Region(
        handle=function.handle(),
        memory=function.memory,
        length=body.length,
        offset=body.offset,
        page_size=size,
        expected=body.pages,
    )
    call.facts.update(region=region.handle, length=body.length, page_size=size)
    _add_pages(call, region, DMA_REGION_PAGES_AT, body.entries)
    function.regions[region.handle] = region
    return {"handle": region.handle}


@on(Request.DMA_REGION_ADD_PAGES)
def dma_region_add_pages(function: Function, call: Call, body: Any) -> None:
    region = function.need(function.regions, body.handle, "region")
    if region.complete:
        raise Refused(f"region {region.handle} is complete")
    _add_pages(call, region, DMA_REGION_ADD_PAGES_AT, body.entries)


def _add_pages(call: Call, region: Region, at: int, count: int) -> None:
    """Take the list in this message; the status says whether the driver must send more."""
    if at + 8 * count > len(call.message) or len(region.pages) + count > region.expected:
        raise Refused(f"{count} pages in a message of {len(call.message)} bytes")
    pages: Sequence[int] = struct.unpack_from(f"<{count}Q", call.message, at)
    if any(page % region.page_size for page in pages):
        raise Refused("a page that is not aligned to its size")
    region.add(pages)
    if not region.complete:
        call.status = Status.MORE_ENTRIES


@on(Request.DESTROY_DMA_REGION)
def destroy_dma_region(function: Function, call: Call, body: Any) -> None:
    call.facts["region"] = body.handle
    region = function.need(function.regions, body.handle, "region")
    if region.owner is not None:
        function.record.violation("region-owned", f"region {region.handle} of {region.owner}")
        raise Refused("in use")
    function.drop_region(region)


@on(Request.CREATE_PD)
def create_pd(function: Function, call: Call, body: Any) -> Fields:
    if len(function.pds) >= limits.MAX_PDS:
        raise Refused("too many PDs")
    pd = Pd(handle=function.handle(), pdid=function.pdid(), flags=body.flags)
    function.pds[pd.handle] = pd
    call.facts["pdid"] = pd.pdid
    return {"handle": pd.handle, "pdid": pd.pdid}


@on(Request.DESTROY_PD)
def destroy_pd(function: Function, call: Call, body: Any) -> None:
    pd = function.need(function.pds, body.handle, "pd")
    call.facts["pdid"] = pd.pdid
    vports = [vport for vport in function.vports if vport.pdid == pd.pdid]
    if pd.mrs or pd.qps or any(vport.objects for vport in vports):
        function.record.violation(
            "pd-in-use",
            f"pd {pd.pdid} destroyed with {pd.mrs} mrs, {pd.qps} qps and the WQ objects of"
            f" vports {[vport.index for vport in vports if vport.objects]}",
        )
        raise Refused("in use")
    for vport in vports:  # configured, then never used
        function.release_vport(vport)
    del function.pds[pd.handle]


@on(Request.CREATE_MR)
def create_mr(function: Function, call: Call, body: Any) -> Fields:
    pd = function.need(function.pds, body.pd, "pd")
    if body.kind not in set(MrKind) or body.kind == MrKind.DEVICE_MEMORY:
        raise Refused(f"MR kind {body.kind}")
    if len(function.mrs) >= limits.MAX_MRS:
        raise Refused("too many MRs")
    mr = Mr(function.handle(), pd, MrKind(body.kind), function.key())
    if mr.kind in {MrKind.GVA, MrKind.ZERO_BASED}:
        mr.region = function.claim_region(body.region, 1, "mr")
        mr.region.owner = f"mr {mr.handle}"
    if mr.kind is MrKind.GVA:
        mr.base, mr.access = body.address, body.access
    elif mr.kind is MrKind.ZERO_BASED:
        mr.access = body.address & 0xFFFFFFFF  # of this kind the same place holds the flags
    function.mrs[mr.handle] = function.keys[mr.key] = mr
    pd.mrs += 1
    call.facts.update(mr=mr.handle, kind=mr.kind.name, pdid=pd.pdid)
    return {"handle": mr.handle, "lkey": mr.key, "rkey": mr.key}


@on(Request.DESTROY_MR)
def destroy_mr(function: Function, call: Call, body: Any) -> None:
    call.facts["mr"] = body.handle
    mr = function.need(function.mrs, body.handle, "mr")
    del function.mrs[mr.handle], function.keys[mr.key]
    mr.pd.mrs -= 1
    function.drop_region(mr.region)


@on(Request.ALLOCATE_RESOURCE_RANGE)
def allocate_resource_range(function: Function, call: Call, body: Any) -> Fields:
    if body.kind != DOORBELL_PAGE_RESOURCE or body.count != 1:
        raise Refused(f"{body.count} of resource {body.kind}")
    page = function.doorbell()
    function.doorbells.add(page)
    call.facts["doorbell"] = page
    return {"first": page}


@on(Request.DESTROY_RESOURCE_RANGE)
def destroy_resource_range(function: Function, call: Call, body: Any) -> None:
    call.facts["doorbell"] = body.first
    function.need({page: page for page in function.doorbells}, body.first, "doorbell page")
    function.doorbells.discard(body.first)
