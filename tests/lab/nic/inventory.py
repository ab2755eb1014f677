"""Every live object with what it hangs on, for people and for tests that count."""

from __future__ import annotations

from typing import Any

from tests.lab.nic.function import Function


def inventory(function: Function) -> dict[str, list[dict[str, Any]]]:
    return {
        "pd": [{"handle": pd.handle, "pdid": pd.pdid} for pd in function.pds.values()],
        "mr": [
            {
                "handle": mr.handle,
                "kind": mr.kind.name,
                "pdid": mr.pd.pdid,
                "lkey": mr.key,
                "length": mr.region.length if mr.region else None,
                "page_size": mr.region.page_size if mr.region else None,
            }
            for mr in function.mrs.values()
        ],
        "region": [
            {"handle": region.handle, "length": region.length, "owner": region.owner}
            for region in function.regions.values()
        ],
        "eq": [
            {"number": eq.number, "pdid": eq.pdid, "device": eq.device, "msix": eq.vector}
            for eq in function.eqs.values()
        ],
        "cq": [
            {"number": cq.number, "eq": cq.eq.number if cq.eq else None, "entries": cq.entries}
            for cq in function.cqs.values()
        ],
        "wq": [
            {
                "handle": made.handle,
                "kind": "sq" if made.is_sq else "rq",
                "vport": made.vport.index,
                "pdid": made.wq.pdid,
                "number": made.wq.number,
                "cq": made.cq.number,
            }
            for made in function.wqs.values()
        ],
        "qp": [
            {
                "handle": qp.handle,
                "kind": qp.kind,
                "pdid": qp.pd.pdid,
                "state": qp.state,
                "sqs": [queue.number for queue in qp.sqs],
                "rqs": [queue.number for queue in qp.rqs],
                "peer": qp.peer,
                "addresses": qp.addresses,
                "out": qp.octets_out,
                "in": qp.octets_in,
            }
            for qp in function.qps.values()
        ],
        "doorbell": [{"page": page} for page in sorted(function.doorbells)],
    }
