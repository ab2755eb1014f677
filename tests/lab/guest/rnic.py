"""A user of the RNIC: RC queue pairs on the function's other RDMA device, made by pyverbs.

    python3 rnic.py DEVICE

Says `ready` with what it could make ("pd", "mr", "cq", "qp"). Commands: `pair PORT` (two queue
pairs connected to each other and brought to RTS), `drop ID` (destroy such a pair), `quit` (close
it all). It never touches a vport: RC queue pairs beside an Ethernet netdev are the ordinary case
on Azure.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).parents[3]))
from pyverbs import enums
from pyverbs.addr import AHAttr, GlobalRoute
from pyverbs.cq import CQ
from pyverbs.device import Context
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.pyverbs_error import PyverbsError
from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr

from tests.lab.guest.lines import obey, tell


class Rnic:
    """One open device, and the pairs of queue pairs on it."""

    def __init__(self, device: str) -> None:
        self.made: list[str] = []
        self.failure: str | None = None
        self.held = contextlib.ExitStack()
        self.pairs: dict[int, contextlib.ExitStack] = {}
        self.next_id = 0
        try:
            self.context = self.hold("context", Context(name=device))
            self.pd = self.hold("pd", PD(self.context))
            self.hold("mr", MR(self.pd, 4096, enums.IBV_ACCESS_LOCAL_WRITE))
            self.cq = self.hold("cq", CQ(self.context, 64))
            self.hold("qp", self.queue_pair())
        except PyverbsError as error:
            self.failure = str(error)

    def hold(self, name: str, made: Any) -> Any:
        self.held.callback(made.close)
        if name != "context":
            self.made.append(name)
        return made

    def queue_pair(self) -> QP:
        limits = QPCap(max_send_wr=16, max_recv_wr=16, max_send_sge=1, max_recv_sge=1)
        return QP(
            self.pd,
            QPInitAttr(qp_type=enums.IBV_QPT_RC, scq=self.cq, rcq=self.cq, cap=limits),
        )

    def pair(self, port: str) -> None:
        with contextlib.ExitStack() as undo:
            try:
                gid = self.context.query_gid(int(port), 0)
                one, other = self.queue_pair(), self.queue_pair()
                undo.callback(one.close)
                undo.callback(other.close)
                for own, peer in ((one, other), (other, one)):
                    own.to_rts(self.route(int(port), gid, peer))
            except PyverbsError as error:
                tell("refused", failure=str(error))
                return
            self.next_id += 1
            self.pairs[self.next_id] = undo.pop_all()
        states = [int(one.qp_state), int(other.qp_state)]
        tell("paired", id=self.next_id, states=states, rts=enums.IBV_QPS_RTS)

    def route(self, port: int, gid: Any, peer: QP) -> QPAttr:
        """What leads from INIT to RTS; both ends have the same address."""
        attributes = QPAttr(port_num=port)
        attributes.qp_access_flags = enums.IBV_ACCESS_LOCAL_WRITE
        attributes.dest_qp_num = peer.qp_num
        attributes.path_mtu = enums.IBV_MTU_1024
        attributes.max_dest_rd_atomic = attributes.max_rd_atomic = 1
        attributes.min_rnr_timer = 12
        attributes.retry_cnt = attributes.rnr_retry = 7
        attributes.timeout = 14
        way = GlobalRoute(dgid=gid, sgid_index=0)
        way.hop_limit = 64
        attributes.ah_attr = AHAttr(gr=way, is_global=1, port_num=port)
        return attributes

    def drop(self, number: str) -> None:
        self.pairs.pop(int(number)).close()
        tell("dropped", id=int(number))

    def quit(self) -> NoReturn:
        for pair in self.pairs.values():
            pair.close()
        self.held.close()
        tell("leaving", pid=os.getpid())
        sys.exit(0)


def main(arguments: list[str]) -> None:
    rnic = Rnic(arguments[0])
    tell("ready", pid=os.getpid(), device=arguments[0], made=rnic.made, failure=rnic.failure)
    obey({name: getattr(rnic, name) for name in ("pair", "drop", "quit")})


if __name__ == "__main__":
    main(sys.argv[1:])
