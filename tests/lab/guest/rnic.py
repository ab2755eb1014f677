"""A user of the RNIC: an RC queue pair on the function's other RDMA device, made by pyverbs.

    python3 rnic.py DEVICE [PORT]

Says `ready` with what it could make ("pd", "cq", "mr", "qp"); `quit` closes it all. It never
touches a vport: an RC queue pair beside an Ethernet netdev is the ordinary case on Azure.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
from pyverbs import enums
from pyverbs.cq import CQ
from pyverbs.device import Context
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.pyverbs_error import PyverbsError
from pyverbs.qp import QP, QPCap, QPInitAttr

from tests.lab.guest.lines import obey, tell


def main(arguments: list[str]) -> None:
    made: list[str] = []
    failure: str | None = None
    with contextlib.ExitStack() as held:
        try:
            context = held.enter_context(contextlib.closing(Context(name=arguments[0])))
            pd = held.enter_context(contextlib.closing(PD(context)))
            made.append("pd")
            held.enter_context(contextlib.closing(MR(pd, 4096, enums.IBV_ACCESS_LOCAL_WRITE)))
            made.append("mr")
            cq = held.enter_context(contextlib.closing(CQ(context, 64)))
            made.append("cq")
            limits = QPCap(max_send_wr=16, max_recv_wr=16, max_send_sge=1, max_recv_sge=1)
            wanted = QPInitAttr(qp_type=enums.IBV_QPT_RC, scq=cq, rcq=cq, cap=limits)
            held.enter_context(contextlib.closing(QP(pd, wanted)))
            made.append("qp")
        except PyverbsError as error:
            failure = str(error)
        tell("ready", pid=os.getpid(), device=arguments[0], made=made, failure=failure)
        obey({"quit": lambda: sys.exit(0)})


if __name__ == "__main__":
    main(sys.argv[1:])
